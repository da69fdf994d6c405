"""Precision, recall, density and coverage (PRDC) from neighbourhoods in feature space.

The real manifold is the union of balls around the real features. Each ball reaches to its centre's
k-th nearest other real feature. The generated manifold is defined in the same way.

Ties: a feature is in a ball if it is strictly nearer to the centre than the radius, as in the
package `prdc` (Kynkäänniemi et al. write <=). So if a feature has k exact repeats in its own set,
its ball has the radius 0 and contains nothing, not even a repeat.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fid_med.errors import StatisticsError
from fid_med.metrics.distances import TIE, centred, squared_distances, squared_norms
from fid_med.metrics.input_checks import checked_count, checked_pair


class Manifold(NamedTuple):
    """The four metrics.

    Attributes:
      precision, recall, coverage: 0..1.
      density: >= 0, near 1 for equal distributions.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def manifold_metrics(real, generated, *, k: int = 3, density_k: int = 5) -> Manifold:
    """Computes precision, recall, density and coverage, in float64.

    Precision is the share of generated features in the real manifold, and recall the share of real
    features in the generated manifold: Kynkäänniemi et al., "Improved Precision and Recall Metric
    for Assessing Generative Models", NeurIPS 2019, section 2, eq. 1 and 2, who use k = 3. Density
    is the mean number of real balls that a generated feature is in, over k. Coverage is the share
    of real balls that contain a generated feature: Naeem et al., "Reliable Fidelity and Diversity
    Metrics for Generative Models", ICML 2020, section 3, who use k = 5.

    The values are those of the package `prdc` (which has one k for all four) for the same features
    as float64. For float32 features, prdc rounds each distance to float32, and may decide near ties
    differently. Where distances are equal except for rounding, as between repeats, the result of
    prdc is arbitrary; here they count as equal. Images of one patient are close together and shrink
    the balls: compare the four values with those of another set of real patients.

    Args:
      real, generated: features [N, d] and [M, d], any real dtype.
      k: number of neighbours for precision and recall, below N and M.
      density_k: number of neighbours for density and coverage, below N.

    Returns:
      Manifold.

    Raises:
      StatisticsError: too few images for k, different d, NaN, a shape other than [N, d].
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
    """Computes the expected coverage of equal distributions without ties, the best possible value.

    1 - prod_{i=1..k} (N - i) / (N + M - i): Naeem et al. 2020, section 3.3. (The expected density
    is 1.)

    Args:
      real_count, generated_count: N and M, 1 or more.
      k: number of neighbours, below N.

    Raises:
      StatisticsError: counts out of range.
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
            f"{count} {name} images for k = {k}: each needs {k} other images as neighbours, "
            "add images or lower k"
        )


def _ball_limits(rows: np.ndarray, ks: tuple[int, ...]) -> list[np.ndarray]:
    """Returns for each k the squared distance below which a feature is in each row's ball, [N]."""
    radii = np.empty((len(ks), len(rows)))
    places = [k - 1 for k in ks]
    for part, block in squared_distances(rows, rows):
        block.partition(sorted(set(places)), axis=1)
        radii[:, part] = block[:, places].T
    return list(radii - TIE * (squared_norms(rows) + radii))
