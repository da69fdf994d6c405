"""Euclidean distances between features, computed in blocks and in float64.

|x - y|^2 = |x|^2 + |y|^2 - 2 x.y by matrix products is many times as fast as the differences
themselves. Its last bits are wrong, and depend on the block size and the BLAS library. Therefore
two squared distances that agree within `TIE` are treated as equal, and the first of equal
neighbours is chosen. Distances that are returned to the user are computed from the differences.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

# Entries of one block of distances or kernel values: 64 MiB of float64.
BLOCK_ENTRIES = 2**23

# Two squared distances are different if they differ by more than this share of
# |x|^2 + |x - y|^2, x centred. At d = 2048 rounding stays below 1e-14 of it; the last bit of one
# float32 feature makes about 1e-10.
TIE = 1e-12


class Neighbours(NamedTuple):
    """The nearest neighbour of each row.

    Attributes:
      indices: of the neighbours, int64 [N].
      distances: Euclidean, float64 [N].
    """

    indices: np.ndarray
    distances: np.ndarray


def block_rows(columns: int) -> int:
    """Returns the number of rows in a block with this many columns."""
    return max(1, BLOCK_ENTRIES // max(columns, 1))


def centred(*sets: np.ndarray) -> list[np.ndarray]:
    """Subtracts the first set's mean from all sets, which reduces the rounding of distances."""
    mean = sets[0].mean(axis=0)
    return [rows - mean for rows in sets]


def squared_norms(rows: np.ndarray) -> np.ndarray:
    """Returns |x|^2 of each row of [N, d], [N]."""
    return np.einsum("ij,ij->i", rows, rows)


def squared_distances(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields blocks of |x_i - y_j|^2 over the rows of x.

    Args:
      x, y: float64 [N, d] and [M, d], centred. If they are the same object, distances of a row
        to itself are infinite.

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
    """Finds the nearest row of y for each row of x; the first of equally near rows.

    Args:
      x, y: float64 [N, d] and [M, d] with M >= 1. If they are the same object, M >= 2, and a row
        is not its own neighbour.
    """
    sets = centred(y) if x is y else centred(y, x)
    norms = squared_norms(sets[-1])
    indices = np.empty(len(x), np.int64)
    for part, block in squared_distances(sets[-1], sets[0]):
        lowest = block.min(axis=1)
        equal = block <= (lowest + TIE * (norms[part] + lowest))[:, None]
        indices[part] = equal.argmax(axis=1)
    return Neighbours(indices, np.linalg.norm(x - y[indices], axis=1))
