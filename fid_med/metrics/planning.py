"""The smallest FID that a number of images can detect, estimated from real images alone."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from fid_med.errors import StatisticsError
from fid_med.metrics.debiased_fid import skewed_quantile
from fid_med.metrics.input_checks import checked_count, checked_fraction
from fid_med.metrics.resampling import (
    BlockDistances,
    ImageSet,
    draw_blocks,
    image_set,
    replicate_steps,
)
from fid_med.metrics.variance_decomposition import ring_variance, skewness

LEAST = 16  # images, or patients where they are known: two in every eighth
FEWEST_PLANNED = 8

# The largest slope of the variance against the distance, as a multiple of sqrt(Q). For a shift of
# the mean the variance by single images is 4 lambda_1 (1/N + 1/M) times the distance, and
# Q = 2 Tr Gamma^2 (1/N + 1/M)^2.
_STEEPEST = 2 * math.sqrt(2)

_LARGEST_QUARTER = 250


@dataclass(frozen=True)
class DetectableDifference:
    """The result of `detectable_difference`.

    Attributes:
      difference: smallest true FID that is detected with at least this power, for any direction
        of the difference.
      at_best: the same for a difference that is spread over very many directions.
      noise: standard deviation of the debiased FID at a true FID of 0.
      threshold: smallest debiased FID whose interval does not contain 0.
      count: number of images per set.
      power: probability of detection.
      confidence: nominal coverage of the interval.
      replicates, seed: number of random splits, and the seed they were drawn from.
      real_count: number of real images it was estimated from.
      real_patients: number of their patients; None if none were given.
    """

    difference: float
    at_best: float
    noise: float
    threshold: float
    count: int
    power: float
    confidence: float
    replicates: int
    seed: int
    real_count: int
    real_patients: int | None

    def to_dict(self) -> dict:
        """Returns the fields as JSON types."""
        return dataclasses.asdict(self)


def detectable_difference(
    features,
    count: int,
    patients=None,
    *,
    power: float = 0.8,
    confidence: float = 0.95,
    replicates: int = 200,
    seed: int = 0,
) -> DetectableDifference:
    """Estimates the smallest true FID that `count` images per set detect, from real images alone.

    A difference is detected if the interval of `debiased_fid` is above 0. This is the case if the
    debiased FID exceeds u sqrt(Q), with u as in `debiased_fid` and Q its variance at a true FID of
    0. Q and the skewness for u are estimated from the distances between random quarters of the real
    images (see `variance_decomposition`); Q shrinks as 1 / count^2. At a true FID t the variance is
    Q + s t. The slope s depends on the direction of the difference. It is 0 for a difference spread
    over very many directions (`at_best`), and at most 2 sqrt(2 Q) for a difference in only the
    direction that varies most. `difference` solves t - u sqrt(Q) = z_power sqrt(Q + s t) for this
    largest slope.

    It is assumed that generated images vary about as much as real ones, and that patients have
    equally many images. The remaining bias at small counts (see `debiased_fid`) is not included:
    differences in directions of little variance need more images.

    Args:
      features: of the real images, [N, d], any real dtype, 16 or more images.
      count: images per set in the planned comparison, 8 or more.
      patients: a label per image, [N], or None; 16 or more patients.
      power: probability of detection, 0.5 or more and below 1.
      confidence: nominal coverage of the interval, between 0 and 1.
      replicates: number of random splits, 2 or more.
      seed: of the splits. The order of the images has no influence.

    Returns:
      DetectableDifference.

    Raises:
      StatisticsError: wrong shape or dtype, NaN or infinity, too few images or patients,
        arguments out of range.
    """
    images = image_set(features, patients, "real", LEAST)
    checked_count(count, "count", FEWEST_PLANNED)
    checked_count(replicates, "replicates", 2)
    checked_count(seed, "seed", 0)
    checked_fraction(confidence, "confidence")
    if checked_fraction(power, "power") < 0.5:
        raise StatisticsError(f"power {power!r}: expected 0.5 or more")
    eighth, pairs, shape = _pair_variances(images, replicates, seed)
    z = skewed_quantile(confidence, shape)
    growth = max(1.0, pairs[1] / pairs[0]) if pairs[0] > 0 else 1.0
    # From quarters of these images to halves of `count`, but at most to twice the size.
    steps = math.log2(count / 2 / (2 * eighth * images.count / images.units))
    pair = pairs[1] * growth ** min(1.0, steps)
    units = count * images.units / images.count
    noise = math.sqrt(2 * pair) / units * (2 - 1 / math.sqrt(growth))
    needed = float(special.ndtri(power))
    return DetectableDifference(
        difference=_solve(noise, _STEEPEST * noise, z, needed),
        at_best=_solve(noise, 0.0, z, needed),
        noise=noise,
        threshold=z * noise,
        count=count,
        power=power,
        confidence=confidence,
        replicates=replicates,
        seed=seed,
        real_count=images.count,
        real_patients=images.patient_count,
    )


def _solve(noise: float, slope: float, z: float, needed: float) -> float:
    """Solves t - z noise = needed sqrt(noise^2 + slope t) for t."""
    start = z * noise
    middle = start + needed**2 * slope / 2
    return middle + math.sqrt(max(0.0, middle**2 - start**2 + (needed * noise) ** 2))


def _pair_variances(images: ImageSet, replicates: int, seed: int) -> tuple[int, list[float], float]:
    """Estimates the variance of a pair of units from eighths and from quarters, and the skewness.

    Returns:
      Units in an eighth; the variances by eighths and by quarters; the skewness.
    """
    eighth = min(images.units // 8, max(2, _LARGEST_QUARTER * images.units // images.count // 2))
    distances = BlockDistances([images.features])
    rng = np.random.default_rng(seed)
    found: tuple[list, list] = ([], [])
    for now in replicate_steps(replicates, "parts of the real images"):
        eighths, quarters = [], []
        for _ in range(now):
            drawn = draw_blocks(images, [eighth] * 8, rng)
            eighths.extend(drawn)
            quarters.extend(np.concatenate(drawn[i : i + 2]) for i in range(0, 8, 2))
        for blocks, into in ((eighths, found[0]), (quarters, found[1])):
            first = np.arange(0, len(blocks), 4)[:, None, None]
            ring = np.array([(0, 1), (2, 3), (0, 2), (1, 3)])
            into.append(distances.distances(blocks, (first + ring).reshape(-1, 2)))
    eighths, quarters = (np.concatenate(values).reshape(-1, 4) for values in found)
    variances = [ring_variance(eighths, eighth), ring_variance(quarters, 2 * eighth)]
    return eighth, variances, max(0.0, skewness(quarters))
