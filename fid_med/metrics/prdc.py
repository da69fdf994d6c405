"""Precision, recall, density, coverage: do generated images lie among the real, and everywhere?

The real manifold is the union of balls about the real features, each reaching to its centre's k-th
nearest other real feature; the generated one likewise.

Ties: a feature lies in a ball when it is nearer to the centre than the radius, strictly, as in the
package `prdc` (Kynkäänniemi et al. write <=). So a centre with k exact repeats among its own side
has the radius 0, and nothing lies in its ball, not even another repeat.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fid_med.errors import StatisticsError
from fid_med.metrics.distances import (
    TIE,
    centred,
    checked_count,
    checked_pair,
    squared_distances,
    squared_norms,
)


class Manifold(NamedTuple):
    """Precision, recall and coverage in 0..1; density >= 0, near 1 for equal distributions."""

    precision: float
    recall: float
    density: float
    coverage: float


def manifold_metrics(real, generated, *, k: int = 3, density_k: int = 5) -> Manifold:
    """Precision, recall, density and coverage, in float64.

    Precision is the share of generated features within the real manifold, recall the share of real
    ones within the generated manifold: Kynkäänniemi et al., "Improved Precision and Recall Metric
    for Assessing Generative Models", NeurIPS 2019, section 2, eq. 1 and 2, who use k = 3. Density
    is how many real balls a generated feature lies in, over k, on average; coverage the share of
    real balls that hold a generated feature: Naeem et al., "Reliable Fidelity and Diversity Metrics
    for Generative Models", ICML 2020, section 3, who use k = 5.

    Equal to the package `prdc` (which has one k for all four) on the same features as float64.
    Given float32, prdc rounds each distance to float32 and may decide near ties another way; and
    where distances are equal but for rounding, as between repeats, prdc's answer is chance, while
    here they count as equal. Images of one patient lie close together and shrink the balls: read
    the four beside those of another set of real patients.

    Args:
        real, generated: [N, d] and [M, d], any real dtype.
        k: neighbours for precision and recall, below N and M.
        density_k: neighbours for density and coverage, below N.

    Raises:
        StatisticsError: too few images for k, different d, NaN, a shape that is not [N, d].
    """
    real, generated = checked_pair(real, generated)
    k, density_k = checked_count(k, "k"), checked_count(density_k, "density_k")
    _check_neighbours(len(real), "real", max(k, density_k))
    _check_neighbours(len(generated), "generated", k)
    real, generated = centred(real, generated)
    limits, density_limits = _ball_limits(real, (k, density_k))
    (generated_limits,) = _ball_limits(generated, (k,))
    precise = np.zeros(len(generated), bool)
    recalled, covered = np.empty(len(real), bool), np.empty(len(real), bool)
    inside = 0
    for part, block in squared_distances(real, generated):
        precise |= (block < limits[part, None]).any(axis=0)
        recalled[part] = (block < generated_limits).any(axis=1)
        dense = block < density_limits[part, None]
        inside += int(np.count_nonzero(dense))
        covered[part] = dense.any(axis=1)
    return Manifold(
        precision=float(precise.mean()),
        recall=float(recalled.mean()),
        density=inside / (density_k * len(generated)),
        coverage=float(covered.mean()),
    )


def expected_coverage(real_count: int, generated_count: int, k: int = 5) -> float:
    """Mean coverage of equal distributions without ties: what a perfect generator can reach.

    1 - prod_{i=1..k} (N - i) / (N + M - i): Naeem et al. 2020, section 3.3. (Mean density is 1.)

    Raises:
        StatisticsError: k not below `real_count`, or counts below 1.
    """
    real_count = checked_count(real_count, "real_count")
    generated_count = checked_count(generated_count, "generated_count")
    k = checked_count(k, "k")
    _check_neighbours(real_count, "real", k)
    i = np.arange(1, k + 1)
    return 1 - float(np.prod((real_count - i) / (real_count + generated_count - i)))


def _check_neighbours(count, name, k):
    if count <= k:
        raise StatisticsError(
            f"{count} {name} images for k = {k}: each needs {k} neighbours besides itself, add "
            "images or lower k"
        )


def _ball_limits(rows: np.ndarray, ks: tuple[int, ...]) -> list[np.ndarray]:
    """For each k: below which squared distance a feature is inside each row's ball, [N]."""
    radii = np.empty((len(ks), len(rows)))
    places = [k - 1 for k in ks]
    for part, block in squared_distances(rows, rows):
        block.partition(sorted(set(places)), axis=1)
        radii[:, part] = block[:, places].T
    return list(radii - TIE * (squared_norms(rows) + radii))
