"""How small a FID difference can so many images detect? Told from real images alone."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from fid_med.errors import StatisticsError
from fid_med.metrics.debiased_fid import skewed_quantile
from fid_med.metrics.resampling import (
    BlockDistances,
    check_share,
    check_whole,
    draw_blocks,
    image_set,
)
from fid_med.metrics.variance_decomposition import ring_variance, skewness

LEAST = 16  # two in every eighth
FEWEST_PLANNED = 8

# Without counting directions, no shift's variance by single images grows faster with the distance
# than this times sqrt(Q): 4 lambda_1 (1/N + 1/M) against Q = 2 Tr Gamma^2 (1/N + 1/M)^2.
_STEEPEST = 2 * math.sqrt(2)

_LARGEST_QUARTER = 250
_STEP = 32


@dataclass(frozen=True)
class DetectableDifference:
    """What `detectable_difference` found.

    Attributes:
        difference: true FID from which on the interval leaves out 0 with at least this power,
            whatever the direction of the difference.
        at_best: the same for a difference spread over very many directions.
        noise: standard deviation of the debiased FID at a true FID of 0.
        threshold: debiased FID from which on the interval leaves out 0.
        count: images on each side that this holds for.
        power, confidence: chance to detect, and nominal coverage of the interval.
        replicates, seed: random splits, and what they were drawn from.
        real_count: images that it was told from.
        real_patients: their patients; None where none were given.
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
        """The fields as JSON types."""
        return dataclasses.asdict(self)


def detectable_difference(
    features,
    count: int,
    groups=None,
    *,
    power: float = 0.8,
    confidence: float = 0.95,
    replicates: int = 200,
    seed: int = 0,
) -> DetectableDifference:
    """The smallest true FID that `count` images a side tell from 0, from real images alone.

    Told apart means: the interval of `debiased_fid` lies above 0. It does where the debiased FID
    exceeds u sqrt(Q), u as there; Q, its variance at a true FID of 0, is read off the distances
    between random quarters of the real images (see `half_splits`), as their skewness is for u,
    and shrinks as 1 / count^2. A true FID t has the variance Q + s t with a slope s that depends
    on where the difference lies: 0 for one spread over very many directions (`at_best`), at most
    2 sqrt(2 Q) for one that is all in the direction that varies most. `difference` solves
    t - u sqrt(Q) = z_power sqrt(Q + s t) for that largest slope.

    Assumes that the generated images vary about as the real ones do, and that patients have as
    many images each. The bias that is left at small counts (see `debiased_fid`) is not in it:
    differences in directions that vary little need more.

    Args:
        features: of the real images, [N, d], 16 or more images.
        count: images on each side in the comparison that is planned, 8 or more.
        groups: the images' patients, [N], or None; 16 or more patients.
        power: chance to detect, from 0.5 to below 1.
        confidence: nominal coverage of the interval.
        replicates: random splits.
        seed: of the splits. The order of the images has no influence.

    Returns:
        DetectableDifference.

    Raises:
        StatisticsError: wrong shape or dtype, NaN or infinity, too few images or patients,
            arguments out of range.
    """
    images = image_set(features, groups, "real", LEAST)
    check_whole("count", count, FEWEST_PLANNED)
    check_whole("replicates", replicates, 2)
    check_whole("seed", seed, 0)
    check_share("confidence", confidence)
    if check_share("power", power) < 0.5:
        raise StatisticsError(f"power {power!r}: expected 0.5 or more")
    eighth, pairs, shape = _pair_variances(images, replicates, seed)
    z = skewed_quantile(confidence, shape)
    growth = max(1.0, pairs[1] / pairs[0]) if pairs[0] > 0 else 1.0
    # From quarters of these images to halves of `count`, never further than the next doubling.
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
        real_patients=images.patients,
    )


def _solve(noise: float, slope: float, z: float, needed: float) -> float:
    """t with t - z noise = needed sqrt(noise^2 + slope t)."""
    start = z * noise
    middle = start + needed**2 * slope / 2
    return middle + math.sqrt(max(0.0, middle**2 - start**2 + (needed * noise) ** 2))


def _pair_variances(images, replicates, seed) -> tuple[int, list[float], float]:
    """Units in an eighth, variance of a pair of units by eighths and by quarters, skewness."""
    eighth = min(images.units // 8, max(2, _LARGEST_QUARTER * images.units // images.count // 2))
    distances = BlockDistances([images.features])
    rng = np.random.default_rng(seed)
    found: tuple[list, list] = ([], [])
    for start in range(0, replicates, _STEP):
        eighths, quarters = [], []
        for _ in range(min(_STEP, replicates - start)):
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
