"""Debiased FID with an interval, and the difference of two debiased FIDs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from fid_med.errors import StatisticsError
from fid_med.metrics.input_checks import check_matrix, checked_count, checked_fraction
from fid_med.metrics.resampling import ImageSet, distinct_rows, image_sets, shared_rows
from fid_med.metrics.variance_decomposition import LEAST, Decomposition, HalfSplits

REPLICATES = 400
LARGEST_HALF = 500

_PLACES = ("first", "second", "third")


@dataclass(frozen=True)
class DebiasedFID:
    """A debiased FID, its interval, and what it was computed from.

    Attributes:
      value: the debiased FID, in units of squared features. It can be negative by chance.
      low, high: ends of the interval. Read a negative end as 0, because no distance is negative.
      confidence: nominal coverage of the interval.
      standard_error: estimated standard deviation of `value` over data sets.
      noise: the same if both sets had one distribution. `low` > 0 is decided by it.
      at_half: the debiased FID of halves, before extrapolation to infinitely many images.
      half: mean number of images in a half.
      replicates, seed: number of random splits, and the seed they were drawn from.
      real_count, generated_count: number of images.
      real_patients, generated_patients: number of patients; None if none were given.
      real_distinct, generated_distinct: number of different feature vectors.
      shared: number of generated feature vectors that are equal to a real one, bit for bit. The
        method assumes that the sets are independent: if many are shared, the value is too low.
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
        """Returns the fields as JSON types."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class PairedDifference:
    """Difference of two debiased FIDs: the first generated set's minus the second's.

    Attributes:
      value: the difference; negative if the first set is closer to the real images.
      low, high: ends of the interval.
      confidence: nominal coverage of the interval.
      standard_error: estimated standard deviation of `value` over data sets.
      noise: the same if both generated sets had one distribution.
      p_value: two-sided, for a true difference of 0. It is below 1 - confidence exactly if the
        interval does not contain 0.
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
        """Returns the fields as JSON types, `first` and `second` as dictionaries."""
        return dataclasses.asdict(self)


def debiased_fid(
    real,
    generated,
    *,
    real_patients=None,
    generated_patients=None,
    confidence: float = 0.95,
    replicates: int = REPLICATES,
    seed: int = 0,
    largest_half: int = LARGEST_HALF,
) -> DebiasedFID:
    """Computes FID without the bias of small samples, and an interval for it.

    Definition. Both sets are split at random into disjoint halves X, X' and Y, Y' of n images, with
    all images of a patient in one half, and

        D_n = mean of FID over (X, Y), (X, Y'), (X', Y), (X', Y')  -  FID(X, X') / 2
              -  FID(Y, Y') / 2

    is averaged over random splits. It is the FID between the sets less the FID within the sets, as
    in the energy distance (Székely & Rizzo 2013, eq. 2.5). If both distributions are equal, all
    terms have the same expectation, so D_n has the expectation 0 at any n and any dimension. For
    any distributions, the part |mu1 - mu2|^2 is unbiased, and so are all biases of order 1/n that
    depend on one set only. The remaining bias is in the covariance part and grows with its
    distance. It is towards 0, because few images do not show the small eigenvalues' share. Its
    first order in 1/n is removed by extrapolation, as FID-infinity does for the whole bias (Chong &
    Forsyth, CVPR 2020), but here little is left to extrapolate:

        value = 2 D_n - D_(n/2),  n half of the smaller count, at most `largest_half`.

    Interval. `variance_decomposition` divides the variance into the parts of pairs of images, Q,
    and of single images, L. Q is present at any distance. L is 0 at distance 0 and grows with the
    distance. The interval therefore holds all distances t with
    |value - t| <= sqrt(u^2 Q + z^2 L(t)), as Wilson's interval does for proportions: each t is
    tested with the variance it would have. L(t) is L t / value up to the value. Above the value it
    is twice as steep, because a chance that lowers the value lowers L by about its square. u is z
    for t above the value. Below the value, u is the quantile of a gamma distribution with the
    skewness of FID(X, X') and FID(Y, Y') over the splits, because chance increases distances more
    than it decreases them. Percentiles of a bootstrap are not used: either resampled images are in
    both halves, or the spread contains Q several times.

    Assumptions. Images (patients, if given) are independent draws within a set, and the two sets
    are independent. For Gaussians with known distances and 50 to 300 images per set, the coverage
    at nominal 95 % is 93 to 98 %; with heavy tails (t of 5 degrees of freedom) it is 93 to 95 %
    (benchmarks/coverage_study.py). It is lower if few directions hold most of the distance, because
    the variance is then poorly known: 83 +- 5 % for real features of which half were mixed.

    A constant set, such as the images of a collapsed generator, is a set like any other. Its
    covariance is 0, so the value estimates |mu1 - mu2|^2 + Tr C1, and only the other set adds to
    the variance. The interval of two constant sets has length 0.

    Do not use it for these purposes:

    - To compare with published FIDs, which contain the bias.
    - If the same images or patients, or training images and copies of them, are in both sets: the
      value is too low.
    - If images are repeated, or a patient has several images, and patients are not given: the value
      is too high and the interval too short.
    - To choose the best of many sets: the value of the best one is too low.

    With tens of thousands of images the bias of plain FID is negligible.

    Args:
      real, generated: features [N, d] and [M, d], any real dtype, 8 or more images each.
      real_patients, generated_patients: a label per image, [N] and [M], of any hashable type, or
        None; 8 or more patients each. Labels are not compared between the two sets.
      confidence: nominal coverage of the interval, between 0 and 1.
      replicates: number of random splits, 2 or more. The error of the value from this number is
        about 1 / sqrt(replicates) of its standard error at equal counts. It is several times
        that if one set has ten times the other's images, or if `largest_half` takes effect.
      seed: of the splits. The order of the images has no influence.
      largest_half: largest number of images in a half, 8 or more. It limits time and memory (500:
        about 0.4 s of one core per replicate at d = 2048).

    Returns:
      DebiasedFID.

    Raises:
      StatisticsError: wrong shapes or dtypes, NaN or infinity, too few images or patients,
        arguments out of range.
    """
    return SharedSplits(
        real,
        [generated],
        real_patients=real_patients,
        generated_patients=[generated_patients],
        confidence=confidence,
        replicates=replicates,
        seed=seed,
        largest_half=largest_half,
    ).fid()


def debiased_sum(
    real: Sequence,
    generated: Sequence,
    weights: Sequence[float],
    *,
    real_patients=None,
    generated_patients=None,
    confidence: float = 0.95,
    replicates: int = REPLICATES,
    seed: int = 0,
    largest_half: int = LARGEST_HALF,
) -> tuple[list[DebiasedFID], DebiasedFID]:
    """Computes debiased FIDs of two sets in several feature spaces, and of their weighted sum.

    All come from the same random splits. A weighted sum of FIDs has the properties that
    `debiased_fid` needs: it is a squared distance, and its bias and variance decompose likewise.

    Args:
      real, generated: features [N, d_k] and [M, d_k] of the same images in each space k, as for
        `debiased_fid`. The splits are those of `debiased_fid` in the first space.
      weights: of each space in the sum. They are treated as known.
      real_patients, generated_patients, confidence, replicates, seed, largest_half: as for
        `debiased_fid`.

    Returns:
      The `DebiasedFID` of each space, and that of the sum. Their counts of different and of shared
      feature vectors are those of all spaces together.

    Raises:
      StatisticsError: as `debiased_fid`.
    """
    joined = [_join_spaces(side, name) for side, name in ((real, "real"), (generated, "generated"))]
    options = _checked_options(confidence, replicates, seed, largest_half)
    sets = image_sets(
        {"real": (joined[0], real_patients), "generated": (joined[1], generated_patients)}, LEAST
    )
    ends = np.cumsum([np.shape(x)[1] for x in real])[:-1]
    splits = []
    for columns in zip(*(np.split(s.features, ends, axis=1) for s in sets), strict=True):
        pairs = zip(sets, columns, strict=True)
        spaces = [dataclasses.replace(s, features=x) for s, x in pairs]
        splits.append(HalfSplits(spaces, [(0, 1)], replicates, seed, largest_half))
    total = HalfSplits.weighted_sum(splits, weights)
    *each, of_sum = (_debiased(*sets, x, 1, options) for x in [*splits, total])
    return each, of_sum


def _join_spaces(spaces: Sequence, name: str) -> np.ndarray:
    """Features of the same images in several spaces next to each other, [N, sum of d_k]."""
    arrays = [np.asarray(x) for x in spaces]
    for array in arrays:
        check_matrix(array, f"{name} features")
    counts = sorted({len(array) for array in arrays})
    if len(counts) > 1:
        raise StatisticsError(
            f"{name} features of {' and '.join(map(str, counts))} images: expected those of the "
            "same images in every space"
        )
    return np.concatenate(arrays, axis=1)


def paired_difference(
    real,
    first,
    second,
    *,
    real_patients=None,
    first_patients=None,
    second_patients=None,
    confidence: float = 0.95,
    replicates: int = REPLICATES,
    seed: int = 0,
    largest_half: int = LARGEST_HALF,
) -> PairedDifference:
    """Compares the FIDs of two generated sets, to show whether their difference is chance.

    The value is the difference of two `debiased_fid` values from the same splits. The same halves
    of the real images are compared with both sets, so the effect of the choice of real images
    cancels, and FID(X, X') drops out. The variance is the larger of two estimates. One is Q + L,
    divided as in `debiased_fid`. The other is the variance after random halves of the two generated
    sets are exchanged (`HalfSplits.exchange_variance`): it is correct for any real images if the
    two sets have one distribution. With s = L / (sum of both FIDs) the interval holds all t with

        |value - t| <= q sqrt(variance + s max(0, |t| - |value|)),

    because a larger difference has a larger variance. The p-value is that of t = 0. As the variance
    is estimated from the same images, q and the p-value are those of Student's t distribution. Its
    degrees of freedom are the number of images (patients, if given) in the smallest of the three
    sets, less 1. This is the lower limit of Welch's degrees of freedom for means; that it suits
    FIDs too is a result of simulation (benchmarks/ranking_study.py).

    Assumptions. The three sets are independent of each other. If image i of both generated sets was
    made from the same input, the true spread is smaller than estimated. Otherwise the assumptions
    and warnings of `debiased_fid` apply.

    Args:
      real, first, second: features [N, d], [M, d] and [K, d], any real dtype, 8 or more images
        each.
      real_patients, first_patients, second_patients: a label per image, [N], [M] and [K], or
        None.
      confidence, replicates, seed, largest_half: as for `debiased_fid`.

    Returns:
      PairedDifference.

    Raises:
      StatisticsError: as `debiased_fid`.
    """
    return SharedSplits(
        real,
        [first, second],
        real_patients=real_patients,
        generated_patients=[first_patients, second_patients],
        confidence=confidence,
        replicates=replicates,
        seed=seed,
        largest_half=largest_half,
    ).difference(0, 1)


class SharedSplits:
    """Debiased FIDs of several generated sets against the same real images, and their differences.

    All come from the same random splits, which are made once. See `debiased_fid` and
    `paired_difference` for their definitions.

    Args:
      real: features [N, d], any real dtype.
      generated: features [M, d] of each generated set.
      real_patients: a label per real image, [N], or None.
      generated_patients: the labels of each generated set, [M] or None; or None for all.
      confidence, replicates, seed, largest_half: as for `debiased_fid`.

    Raises:
      StatisticsError: as `debiased_fid`.
    """

    def __init__(
        self,
        real,
        generated: Sequence,
        *,
        real_patients=None,
        generated_patients: Sequence | None = None,
        confidence: float = 0.95,
        replicates: int = REPLICATES,
        seed: int = 0,
        largest_half: int = LARGEST_HALF,
    ):
        names = ["generated"]
        if len(generated) > 1:
            places = [*_PLACES, *range(len(_PLACES) + 1, len(generated) + 1)]
            names = [f"{place} generated" for place in places[: len(generated)]]
        patients = generated_patients or [None] * len(generated)
        sets = zip(names, zip(generated, patients, strict=True), strict=True)
        self._sets = image_sets({"real": (real, real_patients), **dict(sets)}, LEAST)
        self._options = _checked_options(confidence, replicates, seed, largest_half)
        crosses = [(0, i) for i in range(1, len(self._sets))]
        self._splits = HalfSplits(self._sets, crosses, replicates, seed, largest_half)
        self._found: dict[int, DebiasedFID] = {}  # every difference needs two

    def fid(self, index: int = 0) -> DebiasedFID:
        """Returns the debiased FID of one generated set."""
        if index not in self._found:
            sets = self._sets[0], self._sets[index + 1]
            self._found[index] = _debiased(*sets, self._splits, index + 1, self._options)
        return self._found[index]

    def difference(
        self, first: int, second: int, confidence: float | None = None
    ) -> PairedDifference:
        """Returns the debiased FID of one generated set less that of another.

        Args:
          first, second: indices of the generated sets.
          confidence: nominal coverage of the difference's interval; by default that of the FIDs.
        """
        confidence = confidence or self._options["confidence"]
        i, j = first + 1, second + 1
        parts = self._splits.decompose({(0, i): 1.0, (0, j): -1.0}, {i: -0.5, j: 0.5})
        both = self.fid(first), self.fid(second)
        noise = math.sqrt(self._splits.exchange_variance(((0, i), (0, j)), parts.within))
        error = max(noise, math.sqrt(max(0.0, parts.quadratic + parts.linear)))
        scale = max(sum(max(0.0, found.value) for found in both), abs(parts.value), noise)
        slope = max(0.0, parts.linear) / scale if scale > 0 else 0.0
        degrees = min(self._sets[k].units for k in (0, i, j)) - 1
        quantile = float(special.stdtrit(degrees, (1 + confidence) / 2))
        low, high = difference_interval(parts.value, error, slope, quantile)
        return PairedDifference(
            value=parts.value,
            low=low,
            high=high,
            confidence=confidence,
            standard_error=error,
            noise=noise,
            p_value=_two_sided(parts.value, error, degrees),
            first=both[0],
            second=both[1],
        )


def normal_quantile(confidence: float) -> float:
    """Returns z such that a normal variable is within z standard deviations with this chance."""
    return float(special.ndtri((1 + confidence) / 2))


def skewed_quantile(confidence: float, skewness: float) -> float:
    """Returns the upper end of the central interval with this share of a standardised gamma.

    At skewness 0 it is `normal_quantile`; it grows with the skewness up to 2.
    """
    if skewness < 1e-3:
        return normal_quantile(confidence)
    shape = 4 / min(skewness, 2.0) ** 2
    return float((special.gammaincinv(shape, (1 + confidence) / 2) - shape) / math.sqrt(shape))


def score_interval(
    value: float, quadratic: float, linear: float, z: float, upper: float | None = None
) -> tuple[float, float]:
    """Returns all t with |value - t| <= sqrt(u^2 quadratic + z^2 L(t)).

    u is `upper` (by default z) for t below the value, z for t above it. L(t) is 0 up to t = 0 and
    `linear` at t = s = max(value, sqrt(quadratic)). Between them it is a straight line, and from s
    on it is twice as steep.
    """
    noise = math.sqrt(quadratic)
    scale = max(value, noise)
    slope = linear / scale if scale > 0 else 0.0

    def end(quantile, sign):
        """Solves (value - t)^2 = quantile^2 quadratic + z^2 L(t) for t on one side of the value."""
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
    """Returns all t with |value - t| <= z sqrt(error^2 + slope max(0, |t| - |value|))."""
    size, noise, bend = abs(value), z * error, z * z * slope / 2
    away = bend + math.sqrt(bend**2 + noise**2)
    inward = noise
    if inward > 2 * size:  # past 0, where the variance grows again
        inward = bend + math.sqrt(max(0.0, bend**2 + noise**2 - 4 * bend * size))
    return (value - inward, value + away) if value > 0 else (value - away, value + inward)


def _checked_options(confidence, replicates, seed, largest_half):
    checked_count(largest_half, "largest_half", LEAST)
    return {
        "confidence": checked_fraction(confidence, "confidence"),
        "replicates": checked_count(replicates, "replicates", 2),
        "seed": checked_count(seed, "seed", 0),
    }


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
        real_patients=real.patient_count,
        generated_patients=generated.patient_count,
        real_distinct=distinct_rows(real.features),
        generated_distinct=distinct_rows(generated.features),
        shared=shared_rows(real.features, generated.features),
        **options,
    )


def _two_sided(value: float, error: float, degrees: int) -> float:
    if error > 0:
        return float(2 * special.stdtr(degrees, -abs(value) / error))
    return 1.0 if value == 0 else 0.0
