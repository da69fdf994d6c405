"""FID from few images: without its bias, with an interval, and the difference of two FIDs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import special

from fid_med.metrics.resampling import (
    ImageSet,
    check_dimensions,
    check_share,
    check_whole,
    distinct_rows,
    image_set,
    shared_rows,
)
from fid_med.metrics.variance_decomposition import LEAST, Decomposition, HalfSplits

REPLICATES = 400
LARGEST_HALF = 500

_PLACES = ("first", "second", "third")


@dataclass(frozen=True)
class DebiasedFID:
    """A debiased FID, its interval, and what it was computed from.

    Attributes:
        value: the debiased FID, in units of squared features; below 0 where chance has it.
        low, high: the interval; below 0 is to be read as 0, for no distance lies there.
        confidence: nominal coverage of the interval.
        standard_error: estimated standard deviation of `value` over data sets.
        noise: the same if both sides had one distribution; what `low` > 0 is measured against.
        at_half: the debiased FID with halves, before the step to infinitely many images.
        half: mean number of images in a half.
        replicates, seed: random splits, and what they were drawn from.
        real_count, generated_count: images.
        real_patients, generated_patients: patients; None where none were given.
        real_distinct, generated_distinct: different feature vectors among them.
        shared: generated feature vectors that are equal to a real one, bit for bit. The method
            takes the sides for independent: with many shared, the value is too low.
    """

    value: float
    low: float
    high: float
    confidence: float
    standard_error: float
    noise: float
    at_half: float
    half: float
    replicates: int
    seed: int
    real_count: int
    generated_count: int
    real_patients: int | None
    generated_patients: int | None
    real_distinct: int
    generated_distinct: int
    shared: int

    def to_dict(self) -> dict:
        """The fields as JSON types."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class PairedDifference:
    """FID of the first generated set less FID of the second, against the same real images.

    Attributes:
        value: the difference of the debiased FIDs; below 0 where the first set is closer.
        low, high: its interval.
        confidence: nominal coverage of the interval.
        standard_error: estimated standard deviation of `value` over data sets.
        noise: the same if both generated sets had one distribution.
        p_value: two-sided, of a true difference of 0; below 1 - confidence just where the
            interval leaves 0 out.
        first, second: the two debiased FIDs, from the same splits.
    """

    value: float
    low: float
    high: float
    confidence: float
    standard_error: float
    noise: float
    p_value: float
    first: DebiasedFID
    second: DebiasedFID

    def to_dict(self) -> dict:
        """The fields as JSON types, `first` and `second` as dictionaries of their own."""
        return dataclasses.asdict(self)


def debiased_fid(
    real,
    generated,
    *,
    real_groups=None,
    generated_groups=None,
    confidence: float = 0.95,
    replicates: int = REPLICATES,
    seed: int = 0,
    largest_half: int = LARGEST_HALF,
) -> DebiasedFID:
    """FID without the bias of small counts, and an interval for it.

    Definition. Both sides are split at random into disjoint halves X, X' and Y, Y' of n images,
    whole patients in each, and

        D_n = mean of FID over (X, Y), (X, Y'), (X', Y), (X', Y')  -  FID(X, X') / 2
              -  FID(Y, Y') / 2

    averaged over random splits: what FID shows beyond the FID of each side from itself, as the
    energy distance does (Székely & Rizzo 2013, eq. 2.5). Its expectation is 0 where both
    distributions are equal, at any n and any dimension, for each term then has one expectation.
    The part |mu1 - mu2|^2 is free of bias for any distributions, as all biases of the order 1/n
    are that depend on one side alone. What is left is a bias of the covariances' part that grows
    with their distance (towards 0: few images do not show the small eigenvalues' share). Its
    first order in 1 / n goes by extrapolation, as FID-infinity does for all of the bias (Chong &
    Forsyth, CVPR 2020), but with little left to extrapolate:

        value = 2 D_n - D_(n/2),  n half of the smaller count, `largest_half` at most.

    Interval. `half_splits` takes the variance apart into what pairs of images do, Q, and what
    single images do, L. Q is there at any distance; L is 0 at distance 0 and grows with it, so
    the interval holds all distances t with |value - t| <= sqrt(u^2 Q + z^2 L(t)), by Wilson's
    argument: each t is judged by the variance that it would have itself. L(t) = L t / value up to
    the value; above it, twice as steep, because the chance that takes a value down takes L down
    by about its square. u is z for t above the value; below it, u is the quantile of a gamma
    distribution with the skewness that FID(X, X') and FID(Y, Y') have over the splits, because
    chance takes distances further up than down. Percentiles of a bootstrap are not used:
    resampled images stand in both halves, or their spread holds Q several times.

    Assumes that images (patients, where given) are independent draws within a side, and both
    sides of each other. Coverage of Gaussians' known distances at 50 to 300 images a side is 93 to
    98 % at nominal 95, with heavy tails (t of 5 degrees of freedom) 93 to 95 %
    (benchmarks/coverage_study.py). It is lower where few directions hold most of the distance,
    whose variance is then known badly: 83 +- 5 % for real features of which half were mixed.

    Do not use it: to compare with published FIDs, which contain the bias; where the same images
    (or patients, or training images and what a generator copied of them) are on both sides, which
    makes it too low; where repeats or several images of a patient come without groups, which
    makes it too high and the interval too short; for a choice of the best among many sets, whose
    winner's value is too low. At tens of thousands of images plain FID has no bias worth the
    trouble.

    Args:
        real, generated: features [N, d] and [M, d] of any real dtype, 8 or more images each.
        real_groups, generated_groups: the images' patients, [N] and [M], any hashable type; 8 or
            more patients each. Equal identifiers on the two sides mean nothing.
        confidence: nominal coverage of the interval, between 0 and 1.
        replicates: random splits, 2 or more. The value's own error from their number is about
            1 / sqrt(replicates) of its standard error at equal counts, and several times that
            where one side has ten times the other's images, or `largest_half` binds.
        seed: of the splits. The order of the images has no influence.
        largest_half: images in a half at most, 8 or more. It bounds time and memory (500: some
            0.4 s of one core a replicate at d = 2048).

    Returns:
        DebiasedFID.

    Raises:
        StatisticsError: wrong shapes or dtypes, NaN or infinity, too few images or patients,
            arguments out of range.
    """
    return SharedSplits(
        real,
        [generated],
        real_groups=real_groups,
        generated_groups=[generated_groups],
        confidence=confidence,
        replicates=replicates,
        seed=seed,
        largest_half=largest_half,
    ).fid()


def paired_difference(
    real,
    first,
    second,
    *,
    real_groups=None,
    first_groups=None,
    second_groups=None,
    confidence: float = 0.95,
    replicates: int = REPLICATES,
    seed: int = 0,
    largest_half: int = LARGEST_HALF,
) -> PairedDifference:
    """Which of two generated sets is closer to the real images, and whether that is chance.

    The difference of two `debiased_fid` values from the same splits: the same halves of the real
    images serve both sets, so what the real images' choice does to both cancels, and FID(X, X')
    drops out. Its variance is the larger of two: Q + L, taken apart as there, and what remains
    when random halves of the two generated sets are exchanged (`HalfSplits.swapped`), which is
    right whatever chance has made of the real images where the two sets are of one distribution.
    With s = L / (the sum of both FIDs) the interval holds all t with

        |value - t| <= z sqrt(variance + s max(0, |t| - |value|)),

    for a larger difference would have a larger variance; the p-value is that of t = 0, by the
    normal distribution.

    Assumes that the three sets are independent of each other; where image i of both sets was made
    from the same input, the true spread is smaller than the one given here. Else what
    `debiased_fid` says holds here too.

    Args:
        real, first, second: features [N, d], 8 or more images each.
        real_groups, first_groups, second_groups: the images' patients, or None.
        confidence, replicates, seed, largest_half: as for `debiased_fid`.

    Returns:
        PairedDifference.

    Raises:
        StatisticsError: as `debiased_fid`.
    """
    return SharedSplits(
        real,
        [first, second],
        real_groups=real_groups,
        generated_groups=[first_groups, second_groups],
        confidence=confidence,
        replicates=replicates,
        seed=seed,
        largest_half=largest_half,
    ).difference(0, 1)


class SharedSplits:
    """Debiased FIDs of several generated sets from the same real images, and their differences.

    All come from the same random splits, which are made once; `debiased_fid` and
    `paired_difference` say what they are.

    Args:
        real: features [N, d].
        generated: features [M, d] of each set.
        real_groups: the images' patients, or None.
        generated_groups: the same of each generated set, or None for all.
        confidence, replicates, seed, largest_half: as for `debiased_fid`.

    Raises:
        StatisticsError: as `debiased_fid`.
    """

    def __init__(
        self,
        real,
        generated: Sequence,
        *,
        real_groups=None,
        generated_groups: Sequence | None = None,
        confidence: float = 0.95,
        replicates: int = REPLICATES,
        seed: int = 0,
        largest_half: int = LARGEST_HALF,
    ):
        names = ["generated"]
        if len(generated) > 1:
            places = [*_PLACES, *range(len(_PLACES) + 1, len(generated) + 1)]
            names = [f"{place} generated" for place in places[: len(generated)]]
        groups = generated_groups or [None] * len(generated)
        self._sets = [image_set(real, real_groups, "real", LEAST)]
        for rows, patients, name in zip(generated, groups, names, strict=True):
            self._sets.append(image_set(rows, patients, name, LEAST))
        check_dimensions(self._sets)
        check_whole("largest_half", largest_half, LEAST)
        self._options = {
            "confidence": check_share("confidence", confidence),
            "replicates": check_whole("replicates", replicates, 2),
            "seed": check_whole("seed", seed, 0),
        }
        crosses = [(0, i) for i in range(1, len(self._sets))]
        self._splits = HalfSplits(self._sets, crosses, replicates, seed, largest_half)

    def fid(self, index: int = 0) -> DebiasedFID:
        """The debiased FID of one generated set."""
        place = index + 1
        return _debiased(self._sets[0], self._sets[place], self._splits, place, self._options)

    def difference(self, first: int, second: int) -> PairedDifference:
        """The debiased FID of one generated set less that of another."""
        i, j = first + 1, second + 1
        parts = self._splits.decompose({(0, i): 1.0, (0, j): -1.0}, {i: -0.5, j: 0.5})
        both = self.fid(first), self.fid(second)
        noise = math.sqrt(self._splits.swapped(((0, i), (0, j)), parts.within))
        error = max(noise, math.sqrt(max(0.0, parts.quadratic + parts.linear)))
        scale = max(sum(max(0.0, found.value) for found in both), abs(parts.value), noise)
        slope = max(0.0, parts.linear) / scale if scale > 0 else 0.0
        z = normal_quantile(self._options["confidence"])
        low, high = difference_interval(parts.value, error, slope, z)
        return PairedDifference(
            value=parts.value,
            low=low,
            high=high,
            confidence=self._options["confidence"],
            standard_error=error,
            noise=noise,
            p_value=_two_sided(parts.value, error),
            first=both[0],
            second=both[1],
        )


def normal_quantile(confidence: float) -> float:
    """How many standard deviations to both sides hold this share of a normal distribution."""
    return float(special.ndtri((1 + confidence) / 2))


def skewed_quantile(confidence: float, skewness: float) -> float:
    """The upper of the two quantiles with this share between them, of a standardised gamma.

    At skewness 0 it is `normal_quantile`; it grows with the skewness up to 2.
    """
    if skewness < 1e-3:
        return normal_quantile(confidence)
    shape = 4 / min(skewness, 2.0) ** 2
    return float((special.gammaincinv(shape, (1 + confidence) / 2) - shape) / math.sqrt(shape))


def score_interval(
    value: float, quadratic: float, linear: float, z: float, upper: float | None = None
) -> tuple[float, float]:
    """All t with |value - t| <= sqrt(u^2 quadratic + z^2 L(t)).

    u is `upper` (by default z) for t below the value, z for t above it. L(t) is 0 up to t = 0,
    `linear` at t = s = max(value, sqrt(quadratic)), straight between, and from s on twice as steep.
    """
    noise = math.sqrt(quadratic)
    scale = max(value, noise)
    slope = linear / scale if scale > 0 else 0.0

    def end(quantile, sign):
        """t with (value - t)^2 = quantile^2 quadratic + z^2 L(t), on one side of the value."""
        straight = value + sign * quantile * noise
        if straight <= 0:
            return straight
        bend = z * z * slope / 2
        found = (
            value
            + bend
            + sign * math.sqrt(max(0.0, bend**2 + quantile**2 * quadratic + 2 * bend * value))
        )
        if found <= scale:
            return found
        steep = 2 * bend
        square = steep**2 + quantile**2 * quadratic + steep * (2 * value - scale)
        return value + steep + math.sqrt(max(0.0, square))

    return end(z if upper is None else upper, -1), end(z, 1)


def difference_interval(value: float, error: float, slope: float, z: float) -> tuple[float, float]:
    """All t with |value - t| <= z sqrt(error^2 + slope max(0, |t| - |value|))."""
    size, noise, bend = abs(value), z * error, z * z * slope / 2
    away = bend + math.sqrt(bend**2 + noise**2)
    inward = noise
    if inward > 2 * size:  # through 0, and out on the other side
        inward = bend + math.sqrt(max(0.0, bend**2 + noise**2 - 4 * bend * size))
    return (value - inward, value + away) if value > 0 else (value - away, value + inward)


def _debiased(
    real: ImageSet, generated: ImageSet, splits: HalfSplits, position: int, options: dict
) -> DebiasedFID:
    parts: Decomposition = splits.decompose({(0, position): 1.0}, {0: -0.5, position: -0.5})
    z = normal_quantile(options["confidence"])
    linear = max(0.0, parts.linear)
    upper = max(z, skewed_quantile(options["confidence"], parts.skewness))
    low, high = score_interval(parts.value, parts.quadratic, linear, z, upper)
    return DebiasedFID(
        value=parts.value,
        low=low,
        high=high,
        standard_error=math.sqrt(parts.quadratic + linear),
        noise=math.sqrt(parts.quadratic),
        at_half=parts.at_half,
        half=splits.half,
        real_count=real.count,
        generated_count=generated.count,
        real_patients=real.patients,
        generated_patients=generated.patients,
        real_distinct=distinct_rows(real.features),
        generated_distinct=distinct_rows(generated.features),
        shared=shared_rows(real.features, generated.features),
        **options,
    )


def _two_sided(value: float, error: float) -> float:
    if error > 0:
        return float(2 * special.ndtr(-abs(value) / error))
    return 1.0 if value == 0 else 0.0
