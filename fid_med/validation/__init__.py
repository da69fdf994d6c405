"""Is the number right? Checks of every part against what does not stem from this code.

`eval/validate_reference.py` prints them; `table` says what a check is, `inputs` finds the files
that some of them need, and `offline` and `published` hold the checks themselves.
"""

from fid_med.validation.inputs import Inputs
from fid_med.validation.table import Check, Row, check_success, count, run, to_dict, to_lines

__all__ = [
    "Check",
    "Inputs",
    "Row",
    "all_checks",
    "check_success",
    "count",
    "run",
    "to_dict",
    "to_lines",
]


def all_checks() -> tuple[Check, ...]:
    """Every check: first those that need no file, then those against published values."""
    from fid_med.validation import offline, published

    return (*offline.checks(), *published.checks())
