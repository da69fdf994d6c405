"""The cases by name, one after another."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence

from benchmarks import CASES
from benchmarks.inputs import Inputs, Settings
from benchmarks.peers import Peers
from benchmarks.table import Measurement
from fid_med import cli


def run(cases: Sequence[str], settings: Settings, folder, peers: Peers) -> Iterator[Measurement]:
    """Yields each comparison as soon as it is done.

    Args:
      cases: names, in the order wanted.
      settings: sizes of the work.
      folder: an empty one, for files of the run.
      peers: the interpreter of the other programs.

    Raises:
      FidMedError: files that the cases need and that are missing, before anything is timed.
    """
    inputs = Inputs(settings, folder, peers)
    inputs.check(cases)
    for case in cases:
        yield from _case(case)(inputs)


def _case(name):
    # Loaded when its turn comes: what needs no TensorFlow must not wait for it.
    if name in ("network", "pipeline", "growth"):
        cli.load_tensorflow()
    return getattr(importlib.import_module(f"benchmarks.{CASES[name]}"), name)
