"""The kernel inception distance (KID): a distance between distributions without FID's bias.

KID is MMD^2 with the kernel (x.y/d + 1)^3, by its unbiased estimator: Binkowski et al.,
"Demystifying MMD GANs", ICLR 2018, section 4; Gretton et al., "A Kernel Two-Sample Test", JMLR 13,
2012, lemma 6. The estimate can be negative: its mean is 0 where the distributions are equal.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from fid_med.errors import StatisticsError
from fid_med.metrics.distances import block_rows, squared_norms
from fid_med.metrics.input_checks import (
    LARGEST_SEED,
    checked_count,
    checked_pair,
    patient_indices,
)


class KID(NamedTuple):
    """KID over random subsets.

    Attributes:
      mean: of the subsets' values.
      std: their standard deviation (ddof=0).
      subset_size: images of each set in a subset.
      subsets: number of subsets.
    """

    mean: float
    std: float
    subset_size: int
    subsets: int


class KIDEstimate(NamedTuple):
    """KID from all pairs of images.

    Attributes:
      value: the estimate.
      standard_error: of the value; None if a set has fewer than 4 images (or patients).
    """

    value: float
    standard_error: float | None


def kid(
    real, generated, *, subset_size: int | None = None, subsets: int = 100, seed: int = 2020
) -> KID:
    """Computes the published form of KID: mean and standard deviation over random subsets.

    Values and subsets are those of torch-fidelity's `kid_features_to_metric(real, generated,
    kid_subsets=subsets, kid_subset_size=subset_size, rng_seed=seed)`, in float64. Each subset is
    `subset_size` real and as many generated images, drawn by `np.random.RandomState(seed)` without
    replacement.

    The mean is unbiased at any size. The standard deviation is that of one subset's value and
    depends on the size; it is not the error of the mean. For an error, use `kid_full`. Use it also
    if patients have several images each, because these subsets ignore patients.

    Args:
      real, generated: features [N, d] and [M, d], any real dtype.
      subset_size: images of each set in a subset, 2 or more; 1,000 in the literature. By default
        1,000, but at most half of the smaller set, because subsets that are nearly the whole
        set hardly differ.
      subsets: number of subsets.
      seed: of the subsets, 0 to 2**32 - 1; 2020 is torch-fidelity's own.

    Raises:
      StatisticsError: fewer images than `subset_size`, or than 4 by default; different d; NaN;
        features so large that the kernel overflows.
    """
    real, generated = _checked(real, generated)
    smaller = min(len(real), len(generated))
    if subset_size is None:
        if smaller < 4:
            raise StatisticsError(
                f"{smaller} images: KID over subsets needs at least 4 per set, add images"
            )
        subset_size = min(1000, smaller // 2)
    subset_size = checked_count(subset_size, "subset_size", 2)
    subsets, seed = checked_count(subsets, "subsets"), checked_count(seed, "seed", 0, LARGEST_SEED)
    if subset_size > smaller:
        raise StatisticsError(
            f"subset_size {subset_size}: the smaller set has {smaller} images, give a smaller one "
            "or none"
        )
    rng = np.random.RandomState(seed)
    drawn = [
        [rng.choice(len(side), subset_size, replace=False) for side in (real, generated)]
        for _ in range(subsets)
    ]
    chosen = [np.array(indices) for indices in zip(*drawn, strict=True)]
    within = [
        _subset_sums(side, side, indices, indices)
        for side, indices in zip((real, generated), chosen, strict=True)
    ]
    across = _subset_sums(real, generated, *chosen)
    pairs = subset_size * (subset_size - 1)
    values = (within[0] + within[1]) / pairs - 2 * across / subset_size**2
    return KID(float(values.mean()), float(values.std()), subset_size, subsets)


def kid_full(real, generated, *, real_patients=None, generated_patients=None) -> KIDEstimate:
    """Computes KID from all pairs of images, with its standard error.

    Without patients this is the two-sample U-statistic of Gretton et al. 2012, lemma 6. With
    patients, pairs of images of one patient are left out of the sum within a set: images of one
    patient are similar, which would be taken for a difference between the sets. All other pairs
    have equal weight.

    The variance is estimated by Hoeffding's decomposition (Hoeffding 1948; for equal counts
    Sutherland & Deka, "Unbiased estimators for the variance of MMD estimators", 2019):
    4/n Var(a - b) + 4/m Var(e - c) for the kernel's projections on one image, and
    2 A/n(n-1) + 2 F/m(m-1) + 4 E/nm for the rest, each term without bias. The first two terms are
    clipped at 0, because otherwise equal distributions could give a negative variance. With
    patients, the same is computed from sums by patient, and the ratio is linearised, which needs
    tens of patients.

    Args:
      real, generated: features [N, d] and [M, d], any real dtype.
      real_patients, generated_patients: a label per image, [N] and [M], or None.

    Raises:
      StatisticsError: fewer than 2 images or patients in a set, different d, NaN, another number
        of labels than images, features so large that the kernel overflows.
    """
    real, generated = _checked(real, generated)
    sides = [
        _SortedSet(real, real_patients, "real"),
        _SortedSet(generated, generated_patients, "generated"),
    ]
    (xx, x_rest), (yy, y_rest) = (_within(side) for side in sides)
    cross = _across(*sides)
    value = xx + yy - 2 * cross.value
    counts = [len(side.sizes) for side in sides]
    if min(counts) < 4:
        return KIDEstimate(value, None)
    variance = 0.0
    others = ((cross.rows, counts[1]), (cross.columns, counts[0]))
    for n, own, (other, m) in zip(counts, (x_rest, y_rest), others, strict=True):
        projection = own.rows / (n - 2) - other / m
        second = own.interaction / (n - 2) + cross.interaction / m
        first = float(projection @ projection) / (n - 1) - second
        variance += 4 * max(first, 0.0) / n + 2 * own.interaction / (n * (n - 1))
    variance += 4 * cross.interaction / (counts[0] * counts[1])
    return KIDEstimate(value, math.sqrt(max(variance, 0.0)))


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    inner = x @ y.T
    inner /= x.shape[1]
    inner += 1
    return inner * inner * inner


def _checked(real, generated) -> tuple[np.ndarray, np.ndarray]:
    sides = checked_pair(real, generated, at_least=2)
    # |x.y| <= |x| |y|; the squares of kernel values must not overflow either.
    if max(float(squared_norms(side).max()) for side in sides) > 1e50 * sides[0].shape[1]:
        raise StatisticsError("the kernel overflows float64: scale the features down")
    return sides


def _subset_sums(x, y, rows, columns) -> np.ndarray:
    """Sums the kernel over each subset, [S]; without the diagonal if x is y.

    Args:
      x, y: features [N, d], [M, d].
      rows, columns: indices [S, n] and [S, m] of each subset's images.
    """
    if len(rows) * rows.shape[1] * columns.shape[1] <= len(x) * len(y):
        return np.array(
            [_one_subset(x[r], y[c], x is y) for r, c in zip(rows, columns, strict=True)]
        )
    # Cheaper than by subset: every kernel value is computed once, and a product sums all subsets.
    left, right = _membership(rows, len(x)), _membership(columns, len(y))
    sums = np.zeros(len(rows))
    step = block_rows(len(y))
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        block = _kernel(x[part], y)
        if x is y:
            np.fill_diagonal(block[:, part], 0)
        sums += np.einsum("sm,sm->s", left[:, part] @ block, right)
    return sums


def _one_subset(x, y, same):
    block = _kernel(x, y)
    if same:
        np.fill_diagonal(block, 0)
    return block.sum()


def _membership(indices, count):
    matrix = np.zeros((len(indices), count))
    np.put_along_axis(matrix, indices, 1.0, axis=1)
    return matrix


class _SortedSet:
    """Features of one set sorted by patient, with the start and the size of each patient."""

    def __init__(self, features, patients, name):
        labels, count = patient_indices(patients, len(features), name)
        if count < 2:
            raise StatisticsError(
                f"{count} {name} patient: KID by patient needs at least 2 patients per set"
            )
        self.features = (
            features if patients is None else features[np.argsort(labels, kind="stable")]
        )
        self.sizes = np.bincount(labels, minlength=count).astype(np.float64)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.int64)
        self.has_patients = patients is not None

    def blocks(self, other):
        """Yields kernel sums of some of this set's patients with all of the other's, [P, Q]."""
        ends = [*self.starts[1:], len(self.features)]
        step = block_rows(len(other.features))
        first = 0
        while first < len(self.sizes):
            last = first + 1
            while last < len(ends) and ends[last] - self.starts[first] <= step:
                last += 1
            rows = slice(self.starts[first], ends[last - 1])
            block = _kernel(self.features[rows], other.features)
            if other.has_patients:
                block = np.add.reduceat(block, other.starts, axis=1)
            if self.has_patients:
                block = np.add.reduceat(block, self.starts[first:last] - rows.start, axis=0)
            yield slice(first, last), block
            first = last


class _Variation(NamedTuple):
    """Terms of the variance of a mean kernel value: sums by patient, and the interaction."""

    rows: np.ndarray
    interaction: float


class _Cross(NamedTuple):
    """Mean kernel value between two sets, with its variance terms."""

    value: float
    rows: np.ndarray
    columns: np.ndarray
    interaction: float


def _within(side: _SortedSet) -> tuple[float, _Variation]:
    """Computes the mean of the kernel over pairs of different patients, and its decomposition."""
    n, total = len(side.sizes), float(side.sizes.sum())
    rows, squares, weighted = np.empty(n), 0.0, 0.0
    for part, block in side.blocks(side):
        np.fill_diagonal(block[:, part], 0)
        rows[part] = block.sum(axis=1)
        squares += float(np.vdot(block, block))
        weighted += float(side.sizes[part] @ block @ side.sizes)
    pair_sizes = side.sizes * (total - side.sizes)
    value = float(rows.sum() / pair_sizes.sum())
    # A_gh = (K_gh - value n_g n_h) n(n-1) / sum of n_g n_h: sums to 0, and its mean is linear.
    scale = n * (n - 1) / pair_sizes.sum()
    square_sizes = float((side.sizes**2).sum() ** 2 - (side.sizes**4).sum())
    rest = scale * (rows - value * pair_sizes)
    squares = scale**2 * (squares - 2 * value * weighted + value**2 * square_sizes)
    if n < 4:
        return value, _Variation(rest, math.nan)
    # Without both means of a symmetric matrix with no diagonal: Székely & Rizzo 2014, def. 2.
    interaction = (squares - 2 * float(rest @ rest) / (n - 2)) / (n * (n - 3))
    return value, _Variation(rest, max(interaction, 0.0))


def _across(x: _SortedSet, y: _SortedSet) -> _Cross:
    """Computes the mean of the kernel between the two sets, and its decomposition."""
    n, m = len(x.sizes), len(y.sizes)
    rows, columns, squares, weighted = np.empty(n), np.zeros(m), 0.0, 0.0
    for part, block in x.blocks(y):
        rows[part] = block.sum(axis=1)
        columns += block.sum(axis=0)
        squares += float(np.vdot(block, block))
        weighted += float(x.sizes[part] @ block @ y.sizes)
    pairs = float(x.sizes.sum() * y.sizes.sum())
    value = float(rows.sum()) / pairs
    scale = n * m / pairs
    rows = scale * (rows - value * x.sizes * y.sizes.sum())
    columns = scale * (columns - value * y.sizes * x.sizes.sum())
    square_sizes = float((x.sizes**2).sum() * (y.sizes**2).sum())
    squares = scale**2 * (squares - 2 * value * weighted + value**2 * square_sizes)
    left = squares - float(rows @ rows) / m - float(columns @ columns) / n
    return _Cross(value, rows, columns, max(left / ((n - 1) * (m - 1)), 0.0))
