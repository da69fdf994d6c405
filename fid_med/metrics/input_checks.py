"""Checks of what the metrics are given: features, patients, counts and seeds.

Every check raises `StatisticsError` with one line that names the argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fid_med.errors import StatisticsError

# Largest seed of `np.random.RandomState`.
LARGEST_SEED = 2**32 - 1

# Largest feature whose squared distances do not overflow float64; below its inverse, they are 0.
_LARGEST_FEATURE = 1e150


def real_array(value: Any, name: str) -> np.ndarray:
    """Converts an array of finite real numbers to float64.

    Args:
      value: array or nested sequence of any shape and any real dtype.
      name: name of the array in messages, such as "mu".

    Returns:
      A new float64 array of the same shape.

    Raises:
      StatisticsError: another dtype, NaN or infinity.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise StatisticsError(f"{name} is of dtype {array.dtype}: expected real numbers")
    array = array.astype(np.float64)
    bad = np.count_nonzero(~np.isfinite(array))
    if bad:
        raise StatisticsError(
            f"{bad} of {array.size} entries of {name} are NaN or infinite: compute it again"
        )
    return array


def check_matrix(array: np.ndarray, name: str, shape: str = "[N, d]") -> None:
    """Checks that an array is two-dimensional, has at least one column, and holds real numbers.

    Args:
      array: the array to check.
      name: name of the array in messages, such as "real features".
      shape: the expected shape in messages.

    Raises:
      StatisticsError: another shape or dtype.
    """
    if array.ndim != 2 or not array.shape[1]:
        raise StatisticsError(f"{name} of shape {array.shape}: expected {shape}")
    # bfloat16 is of kind V.
    real = array.dtype.kind in "fiu" or (
        array.dtype.kind == "V" and np.can_cast(array.dtype, np.float64)
    )
    if not real:
        raise StatisticsError(f"{name} of dtype {array.dtype}: expected real numbers")


def check_finite_rows(array: np.ndarray, name: str) -> None:
    """Raises StatisticsError if a row of a matrix holds NaN or infinity.

    Args:
      array: [N, d] of a real dtype.
      name: name of the array in messages, such as "real features".
    """
    bad = len(array) - int(np.isfinite(array).all(axis=1).sum())
    if bad:
        raise StatisticsError(
            f"{bad} of {len(array)} rows of {name} hold NaN or infinity: check the extractor's "
            "weights and the images"
        )


def checked_features(features: Any, name: str, at_least: int = 1) -> np.ndarray:
    """Checks features and converts them to float64.

    Args:
      features: [N, d], any real dtype.
      name: name of the set in messages, such as "real".
      at_least: smallest N that is accepted.

    Returns:
      A new float64 array [N, d].

    Raises:
      StatisticsError: another shape or dtype, fewer rows, NaN or infinity, or a feature whose
        square overflows.
    """
    array = np.asarray(features)
    check_matrix(array, f"{name} features")
    if len(array) < at_least:
        raise StatisticsError(
            f"{len(array)} {name} images: at least {at_least} are needed here, add images"
        )
    array = array.astype(np.float64)
    check_finite_rows(array, f"{name} features")
    check_range(array, f"{name} features")
    return array


def check_range(array: np.ndarray, name: str, largest: float = _LARGEST_FEATURE) -> None:
    """Raises StatisticsError if later products of these numbers would overflow or become 0.

    Args:
      array: finite numbers of any shape.
      name: of the numbers in messages, such as "real features".
      largest: largest magnitude that is accepted. The largest number of the array must also be 0,
        or at least the inverse of this.
    """
    found = float(np.abs(array).max(initial=0))
    if found > largest:
        raise StatisticsError(f"{name} beyond {largest:g}: scale them down")
    if 0 < found < 1 / largest:
        raise StatisticsError(f"{name} below {1 / largest:g}: scale them up")


def checked_pair(real: Any, generated: Any, at_least: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Checks real and generated features as `checked_features`, and that they share one d."""
    pair = {
        name: checked_features(features, name, at_least)
        for name, features in (("real", real), ("generated", generated))
    }
    check_same_dimension(pair)
    return pair["real"], pair["generated"]


def check_same_dimension(features: Mapping[str, np.ndarray]) -> None:
    """Raises StatisticsError unless all features [N, d], given by name, share one d."""
    (first, one), *others = features.items()
    for name, other in others:
        if one.shape[1] != other.shape[1]:
            raise StatisticsError(
                f"{first} features of dimension {one.shape[1]} and {name} features of dimension "
                f"{other.shape[1]}: compute both with the same extractor"
            )


def checked_count(value: Any, name: str, least: int = 1, most: int | None = None) -> int:
    """Checks a whole number, such as a count or a seed, and converts it to int.

    Args:
      value: the number.
      name: name of the argument in messages.
      least, most: smallest and largest accepted value; `most` None means no upper limit.

    Raises:
      StatisticsError: not a whole number, or out of range.
    """
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise StatisticsError(f"{name} {value!r}: expected a whole number {allowed}")
    return int(value)


def checked_fraction(value: Any, name: str) -> float:
    """Checks a number between 0 and 1, both excluded, and converts it to float.

    Raises:
      StatisticsError: not a number, or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise StatisticsError(f"{name} {value!r}: expected a number between 0 and 1")
    return float(value)


def check_one_per_image(labels: Any, count: int, name: str) -> None:
    """Raises StatisticsError unless there is one label, such as a patient, for each image.

    Args:
      labels: a sequence.
      count: the number of images.
      name: name of the labels in messages, such as "real patients".
    """
    if len(labels) != count:
        raise StatisticsError(
            f"{len(labels)} {name} for {count} images: expected one label per image"
        )


def patient_indices(patients: Any, count: int, name: str) -> tuple[np.ndarray, int]:
    """Numbers the patients of a set from 0 to P - 1, in the order of their sorted labels.

    Args:
      patients: a label per image, [N], all of one type; None makes each image its own patient.
      count: the number of images.
      name: name of the set in messages, such as "real".

    Returns:
      The number of each image's patient, int64 [N], and P.

    Raises:
      StatisticsError: another number of labels.
    """
    if patients is None:
        return np.arange(count), count
    labels = np.asarray(patients)
    if labels.ndim != 1:
        raise StatisticsError(
            f"{name} patients of shape {labels.shape}: expected one label per image"
        )
    check_one_per_image(labels, count, f"{name} patients")
    unique, indices = np.unique(labels, return_inverse=True)
    return indices.reshape(-1), len(unique)
