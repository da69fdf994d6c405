"""Permutation test of whether two sets of images come from one distribution."""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from fid_med.metrics.blas_threads import map_on_cores
from fid_med.metrics.input_checks import checked_count
from fid_med.metrics.resampling import (
    GRAM_LIMIT,
    BlockDistances,
    ImageSet,
    image_sets,
    replicate_steps,
)

# Up to this many images in the smaller set the Gram matrix is used; beyond, the leading directions.
_GRAM_IMAGES = 300
_DIRECTIONS = 256

# Two statistics are equal if they differ by at most this share, which is their rounding.
_TIE = 1e-9

LEAST = 4  # images, or patients where they are known


@dataclass(frozen=True)
class PermutationTest:
    """The result of `permutation_test`.

    Attributes:
      statistic: plain FID of the two sets (see `directions`), in units of squared features.
      p_value: (1 + number of permutations with at least this statistic) / (1 + permutations).
      permuted_mean, permuted_sd: mean and standard deviation of the statistic over the
        permutations. The mean is the bias of plain FID at these counts.
      directions: number of leading principal directions to which features were reduced; None if
        they were used whole.
      permutations, seed: number of permutations, and the seed they were drawn from.
      real_count, generated_count: number of images.
      real_patients, generated_patients: number of patients; None if none were given.
    """

    statistic: float
    p_value: float
    permuted_mean: float
    permuted_sd: float
    directions: int | None
    permutations: int
    seed: int
    real_count: int
    generated_count: int
    real_patients: int | None
    generated_patients: int | None

    def to_dict(self) -> dict:
        """Returns the fields as JSON types."""
        return dataclasses.asdict(self)


def permutation_test(
    real,
    generated,
    *,
    real_patients=None,
    generated_patients=None,
    permutations: int = 999,
    seed: int = 0,
) -> PermutationTest:
    """Tests by plain FID whether both sets were drawn from one distribution.

    All patients (images, if no patients are known) are assigned at random to the two sets, as many
    to each as before, and FID is computed again. The bias is the same in all permutations, so plain
    FID can be used. Because 1 is added to both counts of the p-value (Phipson & Smyth, "Permutation
    P-values Should Never Be Zero", 2010), the test keeps its level exactly at any sample size, if
    patients are exchangeable under the hypothesis: both sets must have the same distribution of
    images per patient. It is not exact if one set has patients with many images and the other has
    single images. Labels are not compared between the sets: if a patient is in both, leave the
    patient out of one.

    If the smaller set has over 300 images, or both together have over 4,000, FID is computed in the
    256 leading principal directions of all images. These do not depend on which set an image is in,
    so the test stays exact.

    Args:
      real, generated: features [N, d] and [M, d], any real dtype, 4 or more images each.
      real_patients, generated_patients: a label per image, [N] and [M], or None; 4 or more
        patients each.
      permutations: number of permutations; the p-value is at least 1 / (1 + permutations).
      seed: of the permutations. The order of the images has no influence.

    Returns:
      PermutationTest.

    Raises:
      StatisticsError: wrong shapes or dtypes, NaN or infinity, too few images or patients.
    """
    sets = image_sets(
        {"real": (real, real_patients), "generated": (generated, generated_patients)}, LEAST
    )
    checked_count(permutations, "permutations")
    rng = np.random.default_rng(checked_count(seed, "seed", 0))
    units = [*sets[0].members, *(m + sets[0].count for m in sets[1].members)]
    sides = [(np.concatenate(units[: sets[0].units]), np.concatenate(units[sets[0].units :]))]
    for _ in range(permutations):
        order = rng.permutation(len(units))
        dealt = [units[u] for u in order]
        sides.append(
            (np.concatenate(dealt[: sets[0].units]), np.concatenate(dealt[sets[0].units :]))
        )
    counts = [s.count for s in sets]
    if min(counts) <= _GRAM_IMAGES and sum(counts) <= GRAM_LIMIT:
        directions, values = None, _by_gram(sets, sides)
    else:
        directions, values = _by_directions(sets, sides)
    statistic, permuted = values[0], values[1:]
    reached = int((permuted >= statistic - _TIE * abs(statistic)).sum())
    return PermutationTest(
        statistic=float(statistic),
        p_value=(1 + reached) / (1 + permutations),
        permuted_mean=float(permuted.mean()),
        permuted_sd=float(permuted.std()),
        directions=directions,
        permutations=permutations,
        seed=seed,
        real_count=sets[0].count,
        generated_count=sets[1].count,
        real_patients=sets[0].patient_count,
        generated_patients=sets[1].patient_count,
    )


def _by_gram(sets: list[ImageSet], sides) -> np.ndarray:
    distances = BlockDistances([s.features for s in sets])
    values = []
    for part in _in_steps(sides):
        blocks = [block for pair in part for block in pair]
        pairs = np.arange(len(blocks)).reshape(-1, 2)
        values.append(distances.distances(blocks, pairs))
    return np.concatenate(values)


def _by_directions(sets: list[ImageSet], sides) -> tuple[int, np.ndarray]:
    rows = np.concatenate([s.features for s in sets])
    rows -= rows.mean(axis=0)
    d = rows.shape[1]
    k = min(_DIRECTIONS, d)
    _, directions = linalg.eigh(rows.T @ rows, subset_by_index=(d - k, d - 1))
    rows = rows @ directions
    values = []
    for part in _in_steps(sides):
        values += map_on_cores(lambda pair: _distance(*(rows[side] for side in pair)), part)
    return k, np.array(values)


def _in_steps(sides):
    """Yields the divisions in parts, with a progress bar."""
    left = iter(sides)
    for now in replicate_steps(len(sides), "permutations"):
        yield list(itertools.islice(left, now))


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    """Plain FID of two sets of few features, [N, k] and [M, k].

    It agrees with `frechet_distance` to 1e-7 where covariances are singular, in much less time.
    """
    means = first.mean(axis=0), second.mean(axis=0)
    # With S = A^T A, the eigenvalues of A S' A^T are those of S S'.
    factor = (first - means[0]) / math.sqrt(len(first) - 1)
    other = (second - means[1]) / math.sqrt(len(second) - 1)
    traces = np.einsum("ij,ij->", factor, factor) + np.einsum("ij,ij->", other, other)
    if len(factor) > factor.shape[1]:
        factor = np.linalg.qr(factor, mode="r")
    product = factor @ other.T  # [at most k, M]
    roots = np.sqrt(np.maximum(linalg.eigvalsh(product @ product.T), 0))
    return float(((means[0] - means[1]) ** 2).sum() + traces - 2 * roots.sum())
