"""What a check is, how it is run, and how its row reads."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator

from fid_med.errors import FidMedError
from fid_med.utils.files import versions
from fid_med.validation.inputs import Inputs

STATUSES = ("PASS", "FAIL", "UNAVAILABLE", "INFO")


@dataclasses.dataclass(frozen=True)
class Check:
    """One comparison with a value that this code did not make.

    Attributes:
      name: what `--require` and `--only` call it.
      compares: what with what.
      source: where the expected value comes from, and why the tolerance is what it is.
      measure: computes the obtained value from the inputs, alone or with a note on it.
      expected: None where no value was ever published; the row is INFO then.
      tolerance: largest difference from `expected` that passes, absolute.
      needs: what `Inputs.get` must deliver before anything is computed.
      tensorflow: whether it takes TensorFlow.
    """

    name: str
    compares: str
    source: str
    measure: Callable[[Inputs], float | tuple[float, str]]
    expected: float | None = None
    tolerance: float | None = None
    needs: tuple[str, ...] = ()
    tensorflow: bool = False


@dataclasses.dataclass(frozen=True)
class Row:
    """What came of a check.

    Attributes:
      check: the check.
      status: PASS, FAIL, UNAVAILABLE or INFO.
      obtained: the value; None where there is none, or no finite one.
      note: what the reader must know: why there is no value and how to mend it.
      seconds: what it took; work that several checks share counts for the first.
    """

    check: Check
    status: str
    obtained: float | None = None
    note: str = ""
    seconds: float = 0.0


def run(checks: Iterable[Check], inputs: Inputs) -> Iterator[Row]:
    """Runs checks one after another, and yields each row as soon as it is known.

    A missing or unusable file makes a row UNAVAILABLE; an error of the computation itself, or a
    value that is not finite, makes it FAIL.
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
        measured = check.measure(inputs)
    except FidMedError as error:
        return Row(check, "FAIL", note=str(error))
    obtained, note = measured if isinstance(measured, tuple) else (measured, "")
    obtained = float(obtained)
    if not math.isfinite(obtained):
        return Row(check, "FAIL", note=f"obtained {obtained}; {note}".rstrip("; "))
    if check.expected is None:
        return Row(check, "INFO", obtained, note)
    passed = abs(obtained - check.expected) <= check.tolerance
    return Row(check, "PASS" if passed else "FAIL", obtained, note)


def count(rows: Iterable[Row]) -> dict[str, int]:
    """How many rows there are of each status, in the order of `STATUSES`."""
    found = [row.status for row in rows]
    return {status: found.count(status) for status in STATUSES}


def check_success(rows: Iterable[Row], required: Iterable[str] = ()) -> None:
    """Raises FidMedError where a row is FAIL, or UNAVAILABLE and among the required names."""
    rows, required = list(rows), set(required)
    failed = [row.check.name for row in rows if row.status == "FAIL"]
    lacking = [
        row.check.name for row in rows if row.status == "UNAVAILABLE" and row.check.name in required
    ]
    told = [
        f"{what}: {', '.join(names)}"
        for what, names in (("FAIL", failed), ("required but UNAVAILABLE", lacking))
        if names
    ]
    if told:
        raise FidMedError("; ".join(told))


def to_lines(row: Row) -> list[str]:
    """A row of the table: the values, and indented below what they are and stem from."""
    check = row.check
    values = [
        f"{what} {'-' if value is None else format(value, '.8g')}"
        for what, value in (
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
    """The whole table as JSON types, with the counts and the versions that it holds for."""
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
