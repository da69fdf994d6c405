"""Permutation test: do two sets of images come from one distribution?"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from fid_med.metrics.frechet import frechet_distance
from fid_med.metrics.resampling import (
    GRAM_LIMIT,
    BlockDistances,
    ImageSet,
    check_dimensions,
    check_whole,
    image_set,
)
from fid_med.metrics.statistics import FeatureStatistics

# Images of the smaller side up to which the Gram matrix is used; the leading directions beyond.
_GRAM_IMAGES = 300
_DIRECTIONS = 256

_STEP = 64  # permutations that are computed at once

# Share of the statistic within which two are called equal: their rounding.
_TIE = 1e-9

LEAST = 4


@dataclass(frozen=True)
class PermutationTest:
    """What `permutation_test` found.

    Attributes:
        statistic: plain FID of the two sets (see `directions`), in units of squared features.
        p_value: (1 + permutations with at least this statistic) / (1 + permutations).
        permuted_mean, permuted_sd: of the statistic over the permutations; their mean is the bias
            that plain FID has at these counts.
        directions: how many leading principal directions of both sets together the features were
            taken to; None where they were used whole.
        permutations, seed: how many, and what they were drawn from.
        real_count, generated_count: images.
        real_patients, generated_patients: patients; None where none were given.
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
        """The fields as JSON types."""
        return dataclasses.asdict(self)


def permutation_test(
    real,
    generated,
    *,
    real_groups=None,
    generated_groups=None,
    permutations: int = 999,
    seed: int = 0,
) -> PermutationTest:
    """Tests whether both sets were drawn from one distribution, by plain FID.

    Patients (images where no patients are known) are dealt out anew to the two sides, as many to
    each as there were, and FID is computed again. Its bias is in all of them alike, so plain FID
    serves. With the +1 in the p-value (Phipson & Smyth 2010) the test holds its level at any
    count, exactly, if patients are exchangeable under the hypothesis: drawn alike, with the same
    chances for the number of images. It is not exact where one side has patients of many images
    and the other single images. Identifiers are not compared across the sides: leave a patient
    who is on both out of one.

    Where the smaller side has over 300 images, or both together over 4,000, FID is taken in the
    256 leading principal directions of all images together, who is on which side left out, which
    keeps the test exact.

    Args:
        real, generated: features [N, d], 4 or more images each.
        real_groups, generated_groups: the images' patients, [N], or None; 4 or more each.
        permutations: how many; the p-value is at least 1 / (1 + permutations).
        seed: of the permutations. The order of the images has no influence.

    Returns:
        PermutationTest.

    Raises:
        StatisticsError: wrong shapes or dtypes, NaN or infinity, too few images or patients.
    """
    sets = [
        image_set(real, real_groups, "real", LEAST),
        image_set(generated, generated_groups, "generated", LEAST),
    ]
    check_dimensions(sets)
    check_whole("permutations", permutations, 1)
    rng = np.random.default_rng(check_whole("seed", seed, 0))
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
        real_patients=sets[0].patients,
        generated_patients=sets[1].patients,
    )


def _by_gram(sets: list[ImageSet], sides) -> np.ndarray:
    distances = BlockDistances([s.features for s in sets])
    values = []
    for start in range(0, len(sides), _STEP):
        part = sides[start : start + _STEP]
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
    values = [
        frechet_distance(*(FeatureStatistics.from_features(rows[side]) for side in pair))
        for pair in sides
    ]
    return k, np.array(values)
