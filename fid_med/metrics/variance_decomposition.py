"""Fréchet distances between random halves and quarters of image sets, and what they tell.

A replicate cuts every set into four disjoint random quarters of whole patients; two quarters make
a half. Write F_ij for the distance of half i of X from half j of Y. As in `uncertainty`, a
statistic D adds up mean distances between sets (weights c) and within them (weights w). Its
variance over data sets is taken apart as by Hoeffding (1948), in what single images do (linear)
and what pairs of images do (quadratic); where the distributions are equal, only the second is
there. Both are read off the spread over replicates, at the known rates at which they shrink:

  pairs across sets   distances between quarters less the means of their row and column hold
                      nothing linear: their mean square is 9/16 s / (q p) where pairs of X and Y
                      have the variance s and q, p images are in a quarter. D's share is
                      c^2 s / (N M).
  pairs within a set  W_12 + W_34 - W_13 - W_24 of the quarters likewise: 4 s / q^2 for q images
                      in a quarter. D's share is 2 w^2 s / (N (N - 1)).
  single images       half the difference between D's first and second half of X: 1 / (2 h) of
                      the variance of one image, where D has 1 / N, and of the quadratic shares
                      N / h (within X) and M / (2 k) (across), which are known and taken off. It
                      still holds what single images do to the half's bias, which heavy tails
                      make large: w / 4 (W_12 - W_34) takes it off, and brings the quadratic
                      share within X once more, N / h of it.

The quadratic expansion of |mu1 - mu2|^2 ends there, and all this is exact for it; for the
covariances' part it is an approximation, checked by `benchmarks/coverage_study.py`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fid_med.metrics.resampling import BlockDistances, ImageSet, draw_blocks

# Images a set needs at least (patients, where they are known): two in every quarter.
LEAST = 8

_STEP = 32  # replicates that are computed at once
_RING = ((0, 1), (2, 3), (0, 2), (1, 3))


@dataclass(frozen=True)
class Decomposition:
    """A statistic and its variance over data sets.

    Attributes:
        at_half: the statistic with halves.
        at_quarter: the statistic with quarters.
        quadratic: variance by pairs of images of 2 at_half - at_quarter, >= 0: the whole variance
            where the distributions are equal.
        linear: variance by single images; chance can take the estimate below 0.
        within: of the quadratic part, the share of each set's own distances.
        skewness: >= 0, of the distances between a set's own halves over the splits. Those are the
            distances of equal distributions, so the statistic's own shape where it has no more.
    """

    at_half: float
    at_quarter: float
    quadratic: float
    linear: float
    within: Mapping[int, float]
    skewness: float

    @property
    def value(self) -> float:
        """The statistic, linear in 1 / n, taken on to n = infinity."""
        return 2 * self.at_half - self.at_quarter


class HalfSplits:
    """Distances between and within halves and quarters, for many random splits.

    Args:
        sets: of one feature dimension, `LEAST` units each.
        crosses: pairs (i, j) of sets whose distances are wanted.
        replicates: how many random splits.
        seed: of the splits.
        largest_half: images in a half at most; sets that are larger are drawn from.

    Attributes:
        half: mean number of images in a half, over sets and splits.
    """

    def __init__(
        self,
        sets: Sequence[ImageSet],
        crosses: Sequence[tuple[int, int]],
        replicates: int,
        seed: int,
        largest_half: int,
    ):
        self._sets = sets
        self._units = [s.units for s in sets]
        self._sizes = _quarter_sizes(sets, largest_half)
        self._crosses = tuple(crosses)
        self._distances = distances = BlockDistances([s.features for s in sets])
        self._seed, self._largest_half = seed, largest_half
        self._exchanges = -(-replicates // 2)  # of larger blocks, and each tells more
        rng = np.random.default_rng(seed)
        plans = (_pairs(self._crosses, len(sets), 2), _pairs(self._crosses, len(sets), 4))
        found: tuple[list, list] = ([], [])
        images = []
        for start in range(0, replicates, _STEP):
            halves, quarters = [], []
            now = min(_STEP, replicates - start)
            for _ in range(now):
                for k, s in enumerate(sets):
                    drawn = draw_blocks(s, [self._sizes[k]] * 4, rng, distances.offsets[k])
                    quarters.extend(drawn)
                    halves.extend(np.concatenate(drawn[i : i + 2]) for i in (0, 2))
            images.extend(map(len, halves))
            for blocks, plan, into in zip((halves, quarters), plans, found, strict=True):
                shift = np.arange(now)[:, None, None] * (len(blocks) // now)
                values = distances.distances(blocks, (plan + shift).reshape(-1, 2))
                into.append(values.reshape(now, -1))
        self.half = float(np.mean(images))
        self._halves, self._fourths = (np.concatenate(f) for f in found)

    def decompose(
        self, crosses: Mapping[tuple[int, int], float], owns: Mapping[int, float]
    ) -> Decomposition:
        """The statistic with these weights of the distances between and within sets."""
        across, growth = self._across(crosses)
        units, halved = self._units, [2 * q for q in self._sizes]
        at_half = at_quarter = 0.0
        odd: dict[int, np.ndarray | float] = {}
        for (i, j), c in crosses.items():
            f, g = self._cross((i, j))
            at_half += c * f.mean()
            at_quarter += c * g.mean()
            odd[i] = odd.get(i, 0.0) + c * (f[:, 0] - f[:, 1]).mean(axis=1) / 2
            odd[j] = odd.get(j, 0.0) + c * (f[:, :, 0] - f[:, :, 1]).mean(axis=1) / 2
        within, shapes = {}, []
        for i, w in owns.items():
            f, g = self._own(i)
            shapes.append(skewness(f))
            at_half += w * f.mean()
            at_quarter += w * g.mean()
            pair = growth * ring_variance(g, self._sizes[i])
            within[i] = 2 * w * w * pair / (units[i] * (units[i] - 1))
            # A half's bias is a quarter of its quarters' distance: two biases, at n / 2.
            odd[i] += w / 4 * (g[:, 0] - g[:, 1])

        linear = sum(2 * halved[i] / units[i] * float(np.mean(o**2)) for i, o in odd.items())
        linear -= sum(v * (1 + 1 / growth) * units[i] / halved[i] for i, v in within.items())
        linear -= sum(
            v * (units[i] / halved[i] + units[j] / halved[j]) / 2 for (i, j), v in across.items()
        )
        # The standard deviation goes the way of the value: twice the halves' less the quarters'.
        onward = 2 - 1 / math.sqrt(max(growth, 1.0))
        quadratic = onward**2 * (sum(within.values()) + sum(across.values()))
        return Decomposition(
            float(at_half),
            float(at_quarter),
            float(quadratic),
            float(linear),
            {i: onward**2 * v for i, v in within.items()},
            max(0.0, float(np.mean(shapes))),
        )

    def swapped(
        self, crosses: tuple[tuple[int, int], tuple[int, int]], within: Mapping[int, float]
    ) -> float:
        """Variance of the difference of two distances from one set, by swapping images.

        Half of the units of both sets, drawn at random, are exchanged. What the sets differ by
        goes, what the difference's noise is multiplied by stays: with the means x, y1 and y2,

            |x - y1|^2 - |x - y2|^2 = (y2 - y1).(2x - y1 - y2),

        and the second factor is the exchanged sets' own. So their mean square difference is the
        variance given that factor, which is independent of the first (for sets of unequal counts
        where y1 + y2 is their common mean, twice; what is left of the difference then,
        (M - M') / (M + M') |y2 - y1|^2, has its variance from `within`).

        Args:
            crosses: (i, j) and (i, k), of those asked for.
            within: of `decompose`, for the difference of these two.

        Returns:
            The variance, >= 0; nothing in it is of what single images do to the difference because
            y1 and y2 have other expectations.
        """
        (i, j), (_, k) = sorted(crosses)
        whole = [self._sets[n] for n in (i, j, k)]
        offsets = [self._distances.offsets[n] for n in (i, j, k)]
        rng = np.random.default_rng([self._seed, j, k])
        most = 2 * self._largest_half
        taken = [min(s.units, max(2, most * s.units // s.count)) for s in whole]
        halves = [n // 2 for n in taken]
        found = []
        for start in range(0, self._exchanges, _STEP):
            blocks = []
            for _ in range(min(_STEP, self._exchanges - start)):
                blocks += draw_blocks(whole[0], taken[:1], rng, offsets[0])
                first, second = (
                    draw_blocks(s, [n, n], rng, at)
                    for s, n, at in zip(whole[1:], halves[1:], offsets[1:], strict=True)
                )
                blocks += [np.concatenate(pair) for pair in zip(first, second, strict=True)]
            places = np.arange(0, len(blocks), 3)[:, None, None] + [[0, 1], [0, 2]]
            values = self._distances.distances(blocks, places.reshape(-1, 2)).reshape(-1, 2)
            found.append(values[:, 0] - values[:, 1])
        n, m1, m2 = (s.units for s in whole)
        exchanged = sum(halves[1:])
        variance = float(np.mean(np.concatenate(found) ** 2)) * exchanged * (1 / m1 + 1 / m2) / 2
        roots = math.sqrt(within[j]) + math.sqrt(within[k])
        if taken != [n, m1, m2]:
            # In blocks that are smaller than the sets the second factor is noisier: that goes.
            shares = 2 * roots**2 / (1 / m1 + 1 / m2)
            noise = 1 / n + 1 / (m1 + m2)
            excess = 1 / taken[0] + 1 / (2 * exchanged) - noise
            variance = max(variance - shares * excess, shares * noise)
        return variance + ((m1 - m2) / (m1 + m2)) ** 2 * roots**2

    def _across(self, crosses):
        """Variance by pairs across sets, with halves, and by how much it exceeds the quarters'."""
        shares, squares, squares_of_quarters = {}, 0.0, 0.0
        for (i, j), c in crosses.items():
            f, g = self._cross((i, j))
            g = (
                g
                - g.mean(axis=1, keepdims=True)
                - g.mean(axis=2, keepdims=True)
                + g.mean(axis=(1, 2), keepdims=True)
            )
            size = self._sizes[i] * self._sizes[j]
            pair = size * float((g**2).sum(axis=(1, 2)).mean()) / 9
            shares[i, j] = c * c * pair / (self._units[i] * self._units[j])
            joined = g.reshape(-1, 2, 2, 2, 2).mean(axis=(2, 4))
            squares += size * float(np.mean(_interaction(f) ** 2))
            squares_of_quarters += size * float(np.mean(_interaction(joined) ** 2))
        # In many directions at once a pair's share grows with the block: quarters show less. Both
        # are of the same images here, so that the ratio has little noise.
        growth = squares / squares_of_quarters if squares_of_quarters > 0 else 1.0
        return {pair: growth * share for pair, share in shares.items()}, growth

    def _cross(self, pair):
        """Distances between halves [R, 2, 2] and quarters [R, 4, 4] of two sets."""
        i = self._crosses.index(pair)
        halves, quarters = (
            self._halves[:, 4 * i : 4 * i + 4],
            self._fourths[:, 16 * i : 16 * i + 16],
        )
        return halves.reshape(-1, 2, 2), quarters.reshape(-1, 4, 4)

    def _own(self, i):
        """Distances within a set: of its halves [R], and of pairs of its quarters [R, 4]."""
        n = len(self._crosses)
        start = 16 * n + 4 * i
        return self._halves[:, 4 * n + i], self._fourths[:, start : start + 4]


def _quarter_sizes(sets: Sequence[ImageSet], largest_half: int) -> list[int]:
    """Units in a quarter of each set, so that all quarters hold about as many images."""
    images = min(min(s.count for s in sets) / 4, largest_half / 2)
    return [max(2, min(s.units // 4, int(s.units * images / s.count))) for s in sets]


def _pairs(crosses, count: int, parts: int) -> np.ndarray:
    """Pairs [1, P, 2] of one replicate's blocks, `parts` a set: across, then within sets."""
    cross = list(itertools.product(range(parts), repeat=2))
    pairs = [(parts * i + a, parts * j + b) for i, j in crosses for a, b in cross]
    ring = _RING if parts == 4 else ((0, 1),)
    pairs += [(parts * i + a, parts * i + b) for i in range(count) for a, b in ring]
    return np.array(pairs)[None]


def _interaction(values: np.ndarray) -> np.ndarray:
    return values[:, 0, 0] - values[:, 0, 1] - values[:, 1, 0] + values[:, 1, 1]


def skewness(values: np.ndarray) -> float:
    """Third central moment over the standard deviation's third power; 0 where all are equal."""
    away = values - values.mean()
    spread = float(np.mean(away**2))
    return float(np.mean(away**3)) / spread**1.5 if spread > 0 else 0.0


def ring_variance(values: np.ndarray, units: int) -> float:
    """Variance of one pair of units, from distances [R, 4] between four blocks.

    The columns are W_12, W_34, W_13, W_24 for blocks of `units` patients (or images).
    """
    return units**2 / 4 * float(np.mean((values @ (1, 1, -1, -1)) ** 2))
