"""Values that other programs computed, and the arrays they were computed from.

The arrays come from the raw integers of a bit generator, whose stream NumPy guarantees, times
powers of two. So neither rounding nor a version of NumPy can change a bit. `reference_values.json`
holds their sha256 and the values. `tests/helpers/freeze_reference_values.py` writes it where the
other programs are installed.
"""

import functools
import hashlib
import json
import pathlib

import numpy as np

from fid_med.errors import StatisticsError

PATH = pathlib.Path(__file__).parent / "reference_values.json"
SHUFFLE = 2020  # torch-fidelity's own seed
SPLITS = 10
# name: (seed, rows, columns). "few" has fewer rows than columns, so its covariance is singular.
SHAPES = {
    "real": (1, 200, 24),
    "generated": (2, 150, 24),
    "few_real": (3, 16, 24),
    "few_generated": (4, 20, 24),
    "logits": (5, 503, 40),
}


def numbers(name: str) -> np.ndarray:
    """Returns one of the fixed arrays, float64 [N, d]: features of two sets, of few, or logits.

    Columns are correlated, and the two sets differ in mean and covariance.
    """
    seed, rows, columns = SHAPES[name]
    raw = np.random.PCG64(seed).random_raw(rows * columns) >> np.uint64(44)  # 0 .. 2**20 - 1
    x = raw.astype(np.int64).reshape(rows, columns)
    if name == "logits":
        return (x - 2**19) * 2.0**-16  # -8 .. 8
    if name.endswith("generated"):
        return (x + 2 * np.roll(x, 3, axis=1) + 2**17) * 2.0**-20
    return (2 * x + np.roll(x, 1, axis=1)) * 2.0**-20


def sha256(name: str) -> str:
    """Returns the sha256 of the array's bytes, little endian, row by row."""
    return hashlib.sha256(numbers(name).astype("<f8").tobytes()).hexdigest()


@functools.cache
def table() -> dict:
    """Returns the file's `numbers`, sha256 by array, and `values`, by the name of their check."""
    return json.loads(PATH.read_text(encoding="utf-8"))


def checked(name: str) -> np.ndarray:
    """Returns `numbers(name)`; raises StatisticsError if they differ from those of the file."""
    if sha256(name) != table()["numbers"][name]:
        raise StatisticsError(
            f"the fixed numbers {name!r} are not those of {PATH.name}; write it again with "
            "tests/helpers/freeze_reference_values.py"
        )
    return numbers(name)
