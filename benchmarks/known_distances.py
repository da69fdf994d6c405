"""Populations with known Fréchet distances, on which intervals are tested."""

from __future__ import annotations

import numpy as np

from fid_med.errors import StatisticsError
from fid_med.metrics.feature_files import load_features
from fid_med.metrics.frechet import frechet_distance
from fid_med.metrics.input_checks import check_same_dimension
from fid_med.metrics.statistics import FeatureStatistics, check_comparable

# Difference of a generated set from the real one: eigenvalues are multiplied by exp(+-strength),
# and the mean is shifted by strength * 0.42 standard deviations in the first 40 directions.
STRENGTHS = {"zero": 0.0, "small": 0.12, "large": 0.8}

# Share of images from the other pool in a generated set.
SHARES = {"zero": 0.0, "small": 0.5, "large": 1.0}


class Gaussians:
    """Gaussians, or multivariate t distributions (heavy tails) with the same means and covariances.

    The covariances are diagonal with the eigenvalues (1 + k/3)^-2, k = 0, 1, ..., which decrease as
    those of radiographs' features do: the effective rank, (sum)^2 / (sum of squares), is about 8.

    Args:
      dimension: dimension of the features.
      degrees: degrees of freedom of the t distribution, over 4; None for Gaussians.
    """

    def __init__(self, dimension: int, degrees: float | None = None):
        self.dimension, self.degrees = dimension, degrees

    def describe(self) -> dict:
        """Returns the settings of this population as JSON types."""
        return {"dimension": self.dimension, "degrees": self.degrees}

    def moments(self, distance: str | float) -> tuple[np.ndarray, np.ndarray]:
        """Returns mean and variances, [d] each, of a set at this distance from the real one.

        Args:
          distance: key of `STRENGTHS`, or such a strength, 0 or more.
        """
        k = np.arange(self.dimension)
        variances = (1 + k / 3) ** -2.0
        strength = STRENGTHS.get(distance, distance)
        mean = 0.42 * strength * np.sqrt(variances) * np.where(k < 40, 1.0, 0.0)
        mean[1::3] *= -1
        return mean, variances * np.exp(strength * np.where(k % 2, 1.0, -1.0))

    def true_distance(self, distance: str | float) -> float:
        """Returns the Fréchet distance from the real set, in closed form (diagonal covariances)."""
        _, real = self.moments("zero")
        mean, variances = self.moments(distance)
        return float(mean @ mean + ((np.sqrt(real) - np.sqrt(variances)) ** 2).sum())

    def sample(self, distance: str | float, count: int, rng) -> np.ndarray:
        """Draws features [count, dimension] of a set at this distance."""
        mean, variances = self.moments(distance)
        rows = rng.standard_normal((count, self.dimension)) * np.sqrt(variances)
        if self.degrees is not None:
            rows *= np.sqrt((self.degrees - 2) / rng.chisquare(self.degrees, (count, 1)))
        return rows + mean


class Mixtures:
    """Features of real images, drawn with replacement from one pool, or from a mixture of two.

    The pools are the populations. Their means, covariances (ddof=0) and distances are therefore
    known, and draws are independent. Draw sets that are small compared with the pools: from a small
    pool many images repeat, and the covariance has a low rank.

    Args:
      real, other: pools, [N, d] and [M, d].

    Raises:
      StatisticsError: different d.
    """

    def __init__(self, real: np.ndarray, other: np.ndarray):
        check_same_dimension({"real": real, "other": other})
        self._pools = real, other
        self._known: dict[str, float] = {}

    @classmethod
    def load(cls, real, other) -> Mixtures:
        """Reads the pools from two files of statistics with the features of single images.

        Raises:
          StatisticsError: a file without features, not a file of statistics, or different
            extractors.
        """
        found = [load_features(path) for path in (real, other)]
        for path, saved in zip((real, other), found, strict=True):
            if saved.features is None:
                raise StatisticsError(
                    f"{path}: holds no features of individual images; save them with "
                    "--save_features"
                )
        check_comparable(found[0].statistics, found[1].statistics)
        return cls(found[0].features, found[1].features)

    def describe(self) -> dict:
        """Returns the settings of this population as JSON types."""
        real, other = self._pools
        return {
            "dimension": real.shape[1],
            "pools": [len(real), len(other)],
            "pool_sums": [float(pool.sum(dtype=np.float64)) for pool in self._pools],
        }

    def true_distance(self, distance: str) -> float:
        """Returns the Fréchet distance from the real pool."""
        if not SHARES[distance]:
            return 0.0
        if distance not in self._known:
            self._known[distance] = frechet_distance(
                self._statistics("zero"), self._statistics(distance)
            )
        return self._known[distance]

    def sample(self, distance: str, count: int, rng) -> np.ndarray:
        """Draws features [count, d]."""
        real, other = self._pools
        mixed = rng.random(count) < SHARES[distance]
        rows = real[rng.integers(len(real), size=count)]
        return np.where(mixed[:, None], other[rng.integers(len(other), size=count)], rows)

    def _statistics(self, distance: str) -> FeatureStatistics:
        share = SHARES[distance]
        rows = np.concatenate(self._pools).astype(np.float64)
        weights = np.repeat(
            [(1 - share) / len(self._pools[0]), share / len(self._pools[1])],
            [len(pool) for pool in self._pools],
        )
        mean = weights @ rows
        rows = (rows - mean) * np.sqrt(weights)[:, None]
        return FeatureStatistics.from_moments(mean, rows.T @ rows)
