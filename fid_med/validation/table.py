"""Checks against other programs and published values: definition, execution, table of results."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator

from fid_med.errors import FidMedError
from fid_med.utils.files import versions
from fid_med.validation.inputs import ReferenceInputs

STATUSES = ("PASS", "FAIL", "UNAVAILABLE", "INFO")


@dataclasses.dataclass(frozen=True)
class Check:
    """One comparison with a value that was not computed by this code.

    Attributes:
      name: name of the check, for `--require` and `--only`.
      compares: which values are compared.
      source: source of the expected value, and the reason for the tolerance.
      compute: computes the obtained value from the inputs; returns it alone or with a note.
      expected: the expected value; None if no value is published, which makes the row INFO.
      tolerance: largest absolute difference from `expected` that passes.
      needs: arguments of `ReferenceInputs.get` that the check needs.
      tensorflow: whether it needs TensorFlow.
    """

    name: str
    compares: str
    source: str
    compute: Callable[[ReferenceInputs], float | tuple[float, str]]
    expected: float | None = None
    tolerance: float | None = None
    needs: tuple[str, ...] = ()
    tensorflow: bool = False


@dataclasses.dataclass(frozen=True)
class Row:
    """The result of a check.

    Attributes:
      check: the check.
      status: PASS, FAIL, UNAVAILABLE or INFO.
      obtained: the value; None if there is none, or if it is not finite.
      note: a remark on the value; or why there is none, and how to fix it.
      seconds: wall time. Work that several checks share is counted for the first.
    """

    check: Check
    status: str
    obtained: float | None = None
    note: str = ""
    seconds: float = 0.0


def run(checks: Iterable[Check], inputs: ReferenceInputs) -> Iterator[Row]:
    """Runs checks one after another, and yields each row as soon as it is known.

    If a file is missing or unusable, the row is UNAVAILABLE. If the computation ends in an error
    or gives a value that is not finite, the row is FAIL.
    """
    for check in checks:
        start = time.perf_counter()
        row = _run(check, inputs)
        yield dataclasses.replace(row, seconds=round(time.perf_counter() - start, 3))


def _run(check, inputs):
    missing = []
    for need in check.needs:
        try:
            inputs.get(need)
        except FidMedError as error:
            missing.append(str(error))
    if missing:
        return Row(check, "UNAVAILABLE", note=" | ".join(missing))
    try:
        computed = check.compute(inputs)
    except FidMedError as error:
        return Row(check, "FAIL", note=str(error))
    obtained, note = computed if isinstance(computed, tuple) else (computed, "")
    obtained = float(obtained)
    if not math.isfinite(obtained):
        return Row(check, "FAIL", note=f"obtained {obtained}; {note}".rstrip("; "))
    if check.expected is None:
        return Row(check, "INFO", obtained, note)
    passed = abs(obtained - check.expected) <= check.tolerance
    return Row(check, "PASS" if passed else "FAIL", obtained, note)


def count(rows: Iterable[Row]) -> dict[str, int]:
    """Counts the rows of each status, in the order of `STATUSES`."""
    found = [row.status for row in rows]
    return {status: found.count(status) for status in STATUSES}


def check_success(rows: Iterable[Row], required: Iterable[str] = ()) -> None:
    """Raises FidMedError if a row is FAIL, or UNAVAILABLE and one of the required names."""
    rows, required = list(rows), set(required)
    failed = [row.check.name for row in rows if row.status == "FAIL"]
    lacking = [
        row.check.name for row in rows if row.status == "UNAVAILABLE" and row.check.name in required
    ]
    reasons = [
        f"{status}: {', '.join(names)}"
        for status, names in (("FAIL", failed), ("required but UNAVAILABLE", lacking))
        if names
    ]
    if reasons:
        raise FidMedError("; ".join(reasons))


def to_lines(row: Row) -> list[str]:
    """Formats a row of the table: the values, and below them what is compared and the source."""
    check = row.check
    values = [
        f"{name} {'-' if value is None else format(value, '.8g')}"
        for name, value in (
            ("expected", check.expected),
            ("obtained", row.obtained),
            ("tolerance", check.tolerance),
        )
    ]
    lines = [
        f"{row.status:<11}  {check.name:<31}  " + "  ".join(f"{x:<20}" for x in values).rstrip()
    ]
    below = (check.compares, f"source: {check.source}", row.note)
    return lines + [f"{'':13}{' '.join(text.split())}" for text in below if text]


def to_dict(rows: Iterable[Row]) -> dict:
    """Returns the whole table as JSON types, with the counts and the versions of the libraries."""
    rows = list(rows)
    fields = ("name", "compares", "expected", "tolerance", "source")
    return {
        "checks": [
            {key: getattr(row.check, key) for key in fields}
            | {
                "status": row.status,
                "obtained": row.obtained,
                "note": row.note,
                "seconds": row.seconds,
            }
            for row in rows
        ],
        "counts": count(rows),
        "versions": versions(),
    }
