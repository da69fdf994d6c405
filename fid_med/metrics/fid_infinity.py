"""FID-infinity: plain FID at several counts, extrapolated to infinitely many images."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from fid_med.errors import StatisticsError
from fid_med.metrics.frechet import frechet_distance
from fid_med.metrics.input_checks import checked_count
from fid_med.metrics.resampling import ImageSet, draw_blocks, image_sets
from fid_med.metrics.statistics import FeatureStatistics

# Smallest number of images (patients, if known): a tenth of it still has a covariance.
LEAST = 20


@dataclass(frozen=True)
class FIDInfinity:
    """The result of `fid_infinity`.

    Attributes:
      value: intercept of the line, FID at 1/N = 0.
      standard_error: of the intercept, from the residuals of the fit alone. It is not an error
        over data sets: the counts share their images, and the curvature is not in it.
      slope: of the line, per 1/N.
      fid: plain FID of all images.
      counts: harmonic mean of the two sets' counts at each point.
      fids: plain FID at each point.
      seed: of the random draws.
      real_count, generated_count: number of images.
      real_patients, generated_patients: number of patients; None if none were given.
    """

    value: float
    standard_error: float
    slope: float
    fid: float
    counts: tuple[float, ...]
    fids: tuple[float, ...]
    seed: int
    real_count: int
    generated_count: int
    real_patients: int | None
    generated_patients: int | None

    def to_dict(self) -> dict:
        """Returns the fields as JSON types."""
        fields = dataclasses.asdict(self)
        return fields | {"counts": list(self.counts), "fids": list(self.fids)}


def fid_infinity(
    real,
    generated,
    *,
    real_patients=None,
    generated_patients=None,
    points: int = 15,
    seed: int = 0,
) -> FIDInfinity:
    """Fits FID linearly over 1/N and extrapolates it to 1/N = 0.

    Chong & Forsyth, "Effectively Unbiased FID and Inception Score and Where to Find Them", CVPR
    2020, section 3: FID is computed at `points` counts, evenly spaced from a tenth of the images to
    all of them, from a random draw of images at each count. The value is the intercept of the least
    squares line. They vary only the number of generated images, and compare with statistics of very
    many real ones. Here both sets are small, and the same share is drawn from both.

    FID is linear in 1/N only if N is much larger than the number of directions in which images
    vary. With a few hundred images the curve is bent, and the intercept is too high. `debiased_fid`
    has less bias there, and gives an interval. Compare this value with other FID-infinity values.

    Args:
      real, generated: features [N, d] and [M, d], any real dtype, 20 or more images each.
      real_patients, generated_patients: a label per image, [N] and [M], or None. Patients are
        drawn as a whole; 20 or more each.
      points: number of counts, 3 or more.
      seed: of the draws. The order of the images has no influence.

    Returns:
      FIDInfinity.

    Raises:
      StatisticsError: wrong shapes or dtypes, NaN or infinity, too few images or patients.
    """
    sets = image_sets(
        {"real": (real, real_patients), "generated": (generated, generated_patients)}, LEAST
    )
    checked_count(points, "points", 3)
    rng = np.random.default_rng(checked_count(seed, "seed", 0))
    counts, fids = [], []
    for share in np.linspace(0.1, 1.0, points):
        statistics = [_drawn(s, share, rng) for s in sets]
        counts.append(2 / sum(1 / s.count for s in statistics))
        fids.append(frechet_distance(*statistics))
    x, y = 1 / np.array(counts), np.array(fids)
    away = x - x.mean()
    spread = float(away @ away)
    if spread == 0:
        raise StatisticsError("all counts are equal: add images, or images of more patients")
    slope = float(away @ y) / spread
    value = float(y.mean() - slope * x.mean())
    residual = y - value - slope * x
    variance = float(residual @ residual) / (points - 2)
    error = float(np.sqrt(variance * (1 / points + x.mean() ** 2 / spread)))
    return FIDInfinity(
        value=value,
        standard_error=error,
        slope=slope,
        fid=fids[-1],
        counts=tuple(map(float, counts)),
        fids=tuple(map(float, fids)),
        seed=seed,
        real_count=sets[0].count,
        generated_count=sets[1].count,
        real_patients=sets[0].patient_count,
        generated_patients=sets[1].patient_count,
    )


def _drawn(images: ImageSet, share: float, rng) -> FeatureStatistics:
    (block,) = draw_blocks(images, [max(2, round(share * images.units))], rng)
    return FeatureStatistics.from_features(images.features[block])
