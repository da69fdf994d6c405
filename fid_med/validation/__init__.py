"""Checks of every part of the FID against values that were not computed by this code.

`eval/validate_reference.py` prints them. `table` defines, runs and prints a check. `inputs` finds
the files that some checks need. `offline` holds the checks that need no file, and `published` those
against published values.
"""

from fid_med.validation.inputs import ReferenceInputs
from fid_med.validation.table import Check, Row, check_success, count, run, to_dict, to_lines

__all__ = [
    "Check",
    "ReferenceInputs",
    "Row",
    "all_checks",
    "check_success",
    "count",
    "run",
    "to_dict",
    "to_lines",
]


def all_checks() -> tuple[Check, ...]:
    """Returns every check: first those that need no file, then those against published values."""
    from fid_med.validation import offline, published

    return (*offline.checks(), *published.checks())
