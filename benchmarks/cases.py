"""The cases of the benchmark by name."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.inputs import BenchmarkInputs
    from benchmarks.table import Measurement

# The cases, in the order of a whole run, and the module of each.
CASES = {
    "startup": "case_commands",
    "network": "case_network",
    "pipeline": "case_network",
    "command": "case_commands",
    "depths": "case_commands",
    "training": "case_training",
    "frechet": "case_numbers",
    "bootstrap": "case_numbers",
    "growth": "case_numbers",
}
_NEED_TENSORFLOW = ("network", "pipeline", "training", "growth")


def run_case(name: str, inputs: BenchmarkInputs) -> Iterator[Measurement]:
    """Runs one case, and yields each comparison as soon as it is done."""
    # Imported only now: a case without TensorFlow must not wait for it.
    if name in _NEED_TENSORFLOW:
        from fid_med import cli

        cli.load_tensorflow()
    return getattr(importlib.import_module(f"benchmarks.{CASES[name]}"), name)(inputs)
