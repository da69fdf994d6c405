"""The cases by name, one after another."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence

from fid_med import cli
from fid_med.benchmark import CASES
from fid_med.benchmark.inputs import Inputs, Settings
from fid_med.benchmark.peers import Peers
from fid_med.benchmark.table import Measurement


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
    return getattr(importlib.import_module(f"fid_med.benchmark.{CASES[name]}"), name)
