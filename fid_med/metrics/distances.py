"""Euclidean distances between features: in blocks, in float64, with ties told from rounding.

|x - y|^2 = |x|^2 + |y|^2 - 2 x.y by matrix products is many times as fast as the differences
themselves, and wrong in the last bits, in ways that depend on the block. Two distances that agree
within `TIE` are therefore equal here, and of equal neighbours the first counts, so that no result
depends on block size or BLAS; distances that are handed out come from the differences.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fid_med.errors import StatisticsError

# Entries of one block of distances or kernel values: 64 MiB of float64.
BLOCK_ENTRIES = 2**23

# Share of |x|^2 + |x - y|^2 by which squared distances must differ to be told apart; x is centred.
# Rounding at d = 2048 stays below 1e-14, one bit of one float32 feature makes about 1e-10.
TIE = 1e-12

# So that no squared distance overflows.
_LARGEST = 1e150


class Neighbours(NamedTuple):
    """The nearest neighbour of each row: its index, int64 [N], and distance, float64 [N]."""

    indices: np.ndarray
    distances: np.ndarray


def checked_features(features, name: str, at_least: int = 1) -> np.ndarray:
    """Features as float64 [N, d].

    Args:
        features: [N, d] of any real dtype.
        name: what messages call them, such as "real".
        at_least: the N that is needed.

    Raises:
        StatisticsError: another shape or dtype, fewer rows, NaN or infinity.
    """
    array = np.asarray(features)
    if array.ndim != 2 or not array.shape[1]:
        raise StatisticsError(f"{name} features of shape {array.shape}: expected [N, d]")
    if array.dtype.kind not in "fiu":
        raise StatisticsError(f"{name} features of dtype {array.dtype}: expected real numbers")
    if len(array) < at_least:
        raise StatisticsError(
            f"{len(array)} {name} images: at least {at_least} are needed here, add images"
        )
    array = array.astype(np.float64)
    bad = len(array) - int(np.isfinite(array).all(axis=1).sum())
    if bad:
        raise StatisticsError(
            f"{bad} of {len(array)} rows of {name} features hold NaN or infinity: check the "
            "extractor's weights and the images"
        )
    if np.abs(array).max(initial=0) > _LARGEST:
        raise StatisticsError(f"{name} features beyond {_LARGEST:g}: scale the features down")
    return array


def checked_pair(real, generated, at_least: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Real and generated features as float64, of one dimension; raises as `checked_features`."""
    pair = (
        checked_features(real, "real", at_least),
        checked_features(generated, "generated", at_least),
    )
    check_same_dimension(real=pair[0], generated=pair[1])
    return pair


def check_same_dimension(**features: np.ndarray) -> None:
    """StatisticsError unless all features [N, d], given by name, share one d."""
    (first, one), *others = features.items()
    for name, other in others:
        if one.shape[1] != other.shape[1]:
            raise StatisticsError(
                f"{first} features of dimension {one.shape[1]} and {name} features of dimension "
                f"{other.shape[1]}: compute both with the same extractor"
            )


def checked_count(value, name: str, least: int = 1) -> int:
    """A whole number of at least `least`; StatisticsError otherwise."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < least:
        raise StatisticsError(f"{name} {value!r}: expected a whole number of at least {least}")
    return int(value)


def group_indices(groups, count: int, name: str) -> tuple[np.ndarray, int]:
    """Which of 0..G-1 each image belongs to, int64 [count], and G; an image a group for None."""
    if groups is None:
        return np.arange(count), count
    labels = np.asarray(groups)
    if labels.shape != (count,):
        raise StatisticsError(
            f"{name} groups of shape {labels.shape}: expected one label for each of {count} images"
        )
    unique, indices = np.unique(labels, return_inverse=True)
    return indices.reshape(-1), len(unique)


def block_rows(columns: int) -> int:
    """How many rows of so many columns make one block."""
    return max(1, BLOCK_ENTRIES // max(columns, 1))


def centred(*sets: np.ndarray) -> list[np.ndarray]:
    """The sets less the first one's mean, which takes most of the rounding out of distances."""
    mean = sets[0].mean(axis=0)
    return [rows - mean for rows in sets]


def squared_norms(rows: np.ndarray) -> np.ndarray:
    """|x|^2 of each row, [N]."""
    return np.einsum("ij,ij->i", rows, rows)


def squared_distances(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of |x_i - y_j|^2 over the rows of x; inf where i = j if x is y.

    Args:
        x, y: float64 [N, d] and [M, d], centred.

    Yields:
        The slice of x's rows, and float64 [rows, M], which the caller may overwrite.
    """
    norms_x, norms_y = squared_norms(x), squared_norms(y)
    rows = block_rows(len(y))
    for start in range(0, len(x), rows):
        part = slice(start, min(start + rows, len(x)))
        block = x[part] @ y.T
        block *= -2
        block += norms_x[part, None]
        block += norms_y
        np.maximum(block, 0, out=block)
        if x is y:
            own = np.arange(part.start, part.stop)
            block[own - part.start, own] = np.inf
        yield part, block


def nearest_neighbours(x: np.ndarray, y: np.ndarray) -> Neighbours:
    """For each row of x the nearest row of y, the first of equals; another row if x is y.

    Args:
        x, y: float64 [N, d] and [M, d]; M >= 1, or 2 if x is y.
    """
    sets = centred(y) if x is y else centred(y, x)
    norms = squared_norms(sets[-1])
    indices = np.empty(len(x), np.int64)
    for part, block in squared_distances(sets[-1], sets[0]):
        lowest = block.min(axis=1)
        equal = block <= (lowest + TIE * (norms[part] + lowest))[:, None]
        indices[part] = equal.argmax(axis=1)
    return Neighbours(indices, np.linalg.norm(x - y[indices], axis=1))
