"""Fréchet distances between random halves and quarters of image sets, and their variance.

In each replicate every set is cut into four disjoint random quarters of whole patients; two
quarters make a half. F_ij is the distance of half i of X from half j of Y. A statistic D, as in
`debiased_fid`, is a sum of mean distances between sets (weights c) and within them (weights w). Its
variance over data sets is decomposed as by Hoeffding (1948) into the effects of single images
(linear) and of pairs of images (quadratic). If the distributions are equal, only the quadratic part
is present. Both are estimated from the spread over replicates, and scaled by the known rates at
which they shrink with the number of images:

  pairs across sets   Distances between quarters, less the means of their row and column, have no
                      linear part. Their mean square is 9/16 s / (q p), where s is the variance of a
                      pair of X and Y, and q and p are the images in a quarter. The share of D is
                      c^2 s / (N M).
  pairs within a set  The same for W_12 + W_34 - W_13 - W_24 of the quarters: 4 s / q^2 for q images
                      in a quarter. The share of D is 2 w^2 s / (N (N - 1)).
  single images       Half the difference between D's first and second half of X has 1 / (2 h) of
                      the variance of one image, where D has 1 / N. It also has the quadratic shares
                      N / h (within X) and M / (2 k) (across), which are known and subtracted. It
                      still contains the effect of single images on the half's bias, which is large
                      for heavy tails. w / 4 (W_12 - W_34) removes that effect, and adds the
                      quadratic share within X once more, N / h of it.

For |mu1 - mu2|^2 the quadratic expansion is complete, and all this is exact. For the covariance
part it is an approximation, which `benchmarks/coverage_study.py` checks.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fid_med.metrics.resampling import BlockDistances, ImageSet, draw_blocks, replicate_steps

# Smallest number of images (patients, if known) in a set: two in every quarter.
LEAST = 8

# Share of a mean distance; smaller effects of pairs of images on distances are rounding.
_ROUNDING = 1e-12

_RING = ((0, 1), (2, 3), (0, 2), (1, 3))


@dataclass(frozen=True)
class Decomposition:
    """A statistic and its variance over data sets.

    Attributes:
      at_half: the statistic of halves.
      at_quarter: the statistic of quarters.
      quadratic: variance of 2 at_half - at_quarter by pairs of images, >= 0. It is the whole
        variance if the distributions are equal.
      linear: variance by single images; the estimate can be negative by chance.
      within: the part of `quadratic` from distances within each set, by index of the set.
      skewness: skewness over the splits, >= 0, of the distances between the halves of one set.
        These are distances of equal distributions, so this is the shape of the statistic at a
        true distance of 0.
    """

    at_half: float
    at_quarter: float
    quadratic: float
    linear: float
    within: Mapping[int, float]
    skewness: float

    @property
    def value(self) -> float:
        """The statistic extrapolated linearly in 1/n to n = infinity."""
        return 2 * self.at_half - self.at_quarter


class HalfSplits:
    """Distances between and within halves and quarters of sets, for many random splits.

    Args:
      sets: sets of one feature dimension, `LEAST` units or more each.
      crosses: pairs (i, j) of sets whose distances are computed.
      replicates: number of random splits.
      seed: of the splits.
      largest_half: largest number of images in a half; parts of larger sets are drawn.

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
        # Exchanged blocks are larger than halves, and each replicate is more informative.
        self._exchanges = -(-replicates // 2)
        rng = np.random.default_rng(seed)
        plans = (_pairs(self._crosses, len(sets), 2), _pairs(self._crosses, len(sets), 4))
        found: tuple[list, list] = ([], [])
        images = []
        for now in replicate_steps(replicates, "random halves"):
            halves, quarters = [], []
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

    @classmethod
    def weighted_sum(cls, splits: Sequence[HalfSplits], weights: Sequence[float]) -> HalfSplits:
        """Sums the distances of one set of splits in several feature spaces.

        Args:
          splits: of the same sets, images in the same order, with the same other arguments.
          weights: of each.

        Returns:
          The weighted sums. They have no `exchange_variance`.
        """
        total = copy.copy(splits[0])
        total._distances = None
        for name in ("_halves", "_fourths"):
            arrays = (w * getattr(s, name) for w, s in zip(weights, splits, strict=True))
            setattr(total, name, sum(arrays))
        return total

    def decompose(
        self, crosses: Mapping[tuple[int, int], float], owns: Mapping[int, float]
    ) -> Decomposition:
        """Computes a statistic and its variance.

        Args:
          crosses: weights of the distances between sets, by pair of indices.
          owns: weights of the distances within sets, by index.
        """
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
        # The standard deviation is extrapolated like the value: twice halves less quarters.
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

    def exchange_variance(
        self, crosses: tuple[tuple[int, int], tuple[int, int]], within: Mapping[int, float]
    ) -> float:
        """Estimates the variance of the difference of two distances from one set.

        Half of the units of two sets, drawn at random, are exchanged. This removes the difference
        between the sets, and keeps the factor that multiplies the noise: with the means x, y1, y2,

            |x - y1|^2 - |x - y2|^2 = (y2 - y1).(2x - y1 - y2),

        and the second factor is unchanged by the exchange. The mean square difference of the
        exchanged sets is therefore the variance given this factor, which is independent of the
        first factor. For sets of unequal counts this holds with twice their common mean in place of
        y1 + y2; the variance of the rest, (M - M') / (M + M') |y2 - y1|^2, is known from `within`.

        Args:
          crosses: (i, j) and (i, k), of the pairs given to the class.
          within: `Decomposition.within` of the difference of these two.

        Returns:
          The variance, >= 0. It does not contain the linear part, which is present if y1 and y2
          have different expectations.
        """
        (i, j), (_, k) = sorted(crosses)
        whole = [self._sets[n] for n in (i, j, k)]
        offsets = [self._distances.offsets[n] for n in (i, j, k)]
        rng = np.random.default_rng([self._seed, j, k])
        most = 2 * self._largest_half
        taken = [min(s.units, max(2, most * s.units // s.count)) for s in whole]
        halves = [n // 2 for n in taken]
        found = []
        for now in replicate_steps(self._exchanges, "exchanged halves"):
            blocks = []
            for _ in range(now):
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
            # In smaller blocks the second factor has more noise, which is subtracted.
            shares = 2 * roots**2 / (1 / m1 + 1 / m2)
            noise = 1 / n + 1 / (m1 + m2)
            excess = 1 / taken[0] + 1 / (2 * exchanged) - noise
            variance = max(variance - shares * excess, shares * noise)
        return variance + ((m1 - m2) / (m1 + m2)) ** 2 * roots**2

    def _across(self, crosses):
        """Computes the variance by pairs across sets, with halves, and its ratio to quarters."""
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
            if np.mean(joined**2) <= (_ROUNDING * f.mean()) ** 2:
                # One set is constant: its choice of images has no effect, and this is rounding.
                shares[i, j] = 0.0
                continue
            squares += size * float(np.mean(_interaction(f) ** 2))
            squares_of_quarters += size * float(np.mean(_interaction(joined) ** 2))
        # With many directions a pair's share grows with the block, so quarters show less of it.
        # Both are computed from the same images here, so that the ratio has little noise.
        growth = squares / squares_of_quarters if squares_of_quarters > 0 else 1.0
        return {pair: growth * share for pair, share in shares.items()}, growth

    def _cross(self, pair):
        """Returns the distances between halves [R, 2, 2] and quarters [R, 4, 4] of two sets."""
        i = self._crosses.index(pair)
        halves, quarters = (
            self._halves[:, 4 * i : 4 * i + 4],
            self._fourths[:, 16 * i : 16 * i + 16],
        )
        return halves.reshape(-1, 2, 2), quarters.reshape(-1, 4, 4)

    def _own(self, i):
        """Returns the distances within a set: of halves, [R], and of pairs of quarters, [R, 4]."""
        n = len(self._crosses)
        start = 16 * n + 4 * i
        return self._halves[:, 4 * n + i], self._fourths[:, start : start + 4]


def _quarter_sizes(sets: Sequence[ImageSet], largest_half: int) -> list[int]:
    """Returns the units in a quarter of each set, for about as many images in all quarters."""
    images = min(min(s.count for s in sets) / 4, largest_half / 2)
    return [max(2, min(s.units // 4, int(s.units * images / s.count))) for s in sets]


def _pairs(crosses, count: int, parts: int) -> np.ndarray:
    """Returns one replicate's pairs of blocks [1, P, 2], `parts` per set: across, then within."""
    cross = list(itertools.product(range(parts), repeat=2))
    pairs = [(parts * i + a, parts * j + b) for i, j in crosses for a, b in cross]
    ring = _RING if parts == 4 else ((0, 1),)
    pairs += [(parts * i + a, parts * i + b) for i in range(count) for a, b in ring]
    return np.array(pairs)[None]


def _interaction(values: np.ndarray) -> np.ndarray:
    return values[:, 0, 0] - values[:, 0, 1] - values[:, 1, 0] + values[:, 1, 1]


def skewness(values: np.ndarray) -> float:
    """Returns the third central moment over the cubed standard deviation; 0 if all are equal."""
    away = values - values.mean()
    spread = float(np.mean(away**2))
    return float(np.mean(away**3)) / spread**1.5 if spread > 0 else 0.0


def ring_variance(values: np.ndarray, units: int) -> float:
    """Estimates the variance of one pair of units from distances [R, 4] between four blocks.

    The columns are W_12, W_34, W_13, W_24 for blocks of `units` patients (or images).
    """
    return units**2 / 4 * float(np.mean((values @ (1, 1, -1, -1)) ** 2))
