"""Populations whose Fréchet distances from each other are known: what intervals are tried on."""

from __future__ import annotations

import numpy as np

from fid_med.errors import StatisticsError
from fid_med.metrics.feature_files import load_features
from fid_med.metrics.frechet import frechet_distance
from fid_med.metrics.statistics import FeatureStatistics, check_comparable

# How far a generated set is from the real one: eigenvalues times exp(+-strength), and the mean
# moved by strength * 0.42 standard deviations in the first 40 directions.
STRENGTHS = {"zero": 0.0, "small": 0.12, "large": 0.8}

# The share of the other images among the generated ones.
SHARES = {"zero": 0.0, "small": 0.5, "large": 1.0}


class Gaussians:
    """Gaussians, or with heavy tails multivariate t distributions of the same means, covariances.

    The covariances are diagonal with the eigenvalues (1 + k/3)^-2, k = 0, 1, ..., which fall off
    as those of radiographs' features do (effective rank (sum)^2 / sum of squares about 8).

    Args:
        dimension: of the features.
        degrees: of freedom of the t distribution, over 4; None for Gaussians.
    """

    def __init__(self, dimension: int, degrees: float | None = None):
        self.dimension, self.degrees = dimension, degrees

    def describe(self) -> dict:
        """What tells this population from others, as JSON types."""
        return {"dimension": self.dimension, "degrees": self.degrees}

    def moments(self, distance: str) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variances, [d] each, of a set at this distance from the real one."""
        k = np.arange(self.dimension)
        variances = (1 + k / 3) ** -2.0
        strength = STRENGTHS[distance]
        mean = 0.42 * strength * np.sqrt(variances) * np.where(k < 40, 1.0, 0.0)
        mean[1::3] *= -1
        return mean, variances * np.exp(strength * np.where(k % 2, 1.0, -1.0))

    def true_distance(self, distance: str) -> float:
        """Fréchet distance from the real set, in closed form for covariances that commute."""
        _, real = self.moments("zero")
        mean, variances = self.moments(distance)
        return float(mean @ mean + ((np.sqrt(real) - np.sqrt(variances)) ** 2).sum())

    def sample(self, distance: str, count: int, rng) -> np.ndarray:
        """Features [count, dimension] of a set at this distance."""
        mean, variances = self.moments(distance)
        rows = rng.standard_normal((count, self.dimension)) * np.sqrt(variances)
        if self.degrees is not None:
            rows *= np.sqrt((self.degrees - 2) / rng.chisquare(self.degrees, (count, 1)))
        return rows + mean


class Mixtures:
    """Real features: draws with replacement from one pool of images, or from two mixed.

    The pools themselves are the populations, so that means, covariances (ddof=0) and distances
    are known, and draws are independent. Small sets should be small beside the pools: with few
    images in a pool, repeats are many and the covariance is of low rank.

    Args:
        real, other: pools, [N, d] and [M, d].

    Raises:
        StatisticsError: different d.
    """

    def __init__(self, real: np.ndarray, other: np.ndarray):
        if real.shape[1] != other.shape[1]:
            raise StatisticsError(
                f"features of {real.shape[1]} and {other.shape[1]} dimensions: give features of "
                "one extractor"
            )
        self._pools = real, other
        self._known: dict[str, float] = {}

    @classmethod
    def load(cls, real, other) -> Mixtures:
        """From two files of statistics that hold the features of single images.

        Raises:
            StatisticsError: a file without features, or none of statistics, or of other extractors.
        """
        found = [load_features(path) for path in (real, other)]
        for path, (_, features, _) in zip((real, other), found, strict=True):
            if features is None:
                raise StatisticsError(
                    f"{path}: statistics without the features of single images; save them with "
                    "--save_features"
                )
        check_comparable(found[0][0], found[1][0])
        return cls(found[0][1], found[1][1])

    def describe(self) -> dict:
        """What tells this population from others, as JSON types."""
        real, other = self._pools
        return {
            "dimension": real.shape[1],
            "pools": [len(real), len(other)],
            "pool_sums": [float(pool.sum(dtype=np.float64)) for pool in self._pools],
        }

    def true_distance(self, distance: str) -> float:
        """Fréchet distance from the real pool."""
        if not SHARES[distance]:
            return 0.0
        if distance not in self._known:
            self._known[distance] = frechet_distance(
                self._statistics("zero"), self._statistics(distance)
            )
        return self._known[distance]

    def sample(self, distance: str, count: int, rng) -> np.ndarray:
        """Features [count, d]."""
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
