"""FID-infinity: plain FID at several counts, taken on to infinitely many images."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from fid_med.errors import StatisticsError
from fid_med.metrics.frechet import frechet_distance
from fid_med.metrics.resampling import (
    ImageSet,
    check_dimensions,
    check_whole,
    draw_blocks,
    image_set,
)
from fid_med.metrics.statistics import FeatureStatistics

LEAST = 20  # a tenth of it still is a covariance


@dataclass(frozen=True)
class FIDInfinity:
    """What `fid_infinity` found.

    Attributes:
        value: the line's intercept, FID at 1/N = 0.
        standard_error: the intercept's, from the residuals of the fit alone. It is no error over
            data sets: the counts share their images, and the line's own error is not in it.
        slope: of the line, per 1/N.
        fid: plain FID of all images.
        counts: harmonic mean of the two sides' counts at each point.
        fids: plain FID there.
        seed: what the images were drawn from.
        real_count, generated_count: images.
        real_patients, generated_patients: patients; None where none were given.
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
        """The fields as JSON types."""
        fields = dataclasses.asdict(self)
        return fields | {"counts": list(self.counts), "fids": list(self.fids)}


def fid_infinity(
    real, generated, *, real_groups=None, generated_groups=None, points: int = 15, seed: int = 0
) -> FIDInfinity:
    """FID fitted linearly over 1/N, at 1/N = 0.

    Chong & Forsyth, "Effectively Unbiased FID and Inception Score and Where to Find Them", CVPR
    2020, section 3: `points` counts, evenly spaced from a tenth of the images to all of them, a
    random draw of images at each, and the intercept of the least squares line. They vary the
    generated images alone, against statistics of very many real ones; here both sides are few,
    and both are drawn from at the same share.

    FID is linear in 1/N only where N is far over the number of directions in which images vary.
    With a few hundred images the curve is bent, and the intercept is too high: `debiased_fid` has
    less bias there, and an interval. Use this beside other FID-infinity values.

    Args:
        real, generated: features [N, d], 20 or more images each.
        real_groups, generated_groups: the images' patients, [N], or None; drawn whole, 20 or more
            each.
        points: how many counts, 3 or more.
        seed: of the draws. The order of the images has no influence.

    Returns:
        FIDInfinity.

    Raises:
        StatisticsError: wrong shapes or dtypes, NaN or infinity, too few images or patients.
    """
    sets = [
        image_set(real, real_groups, "real", LEAST),
        image_set(generated, generated_groups, "generated", LEAST),
    ]
    check_dimensions(sets)
    check_whole("points", points, 3)
    rng = np.random.default_rng(check_whole("seed", seed, 0))
    counts, fids = [], []
    for share in np.linspace(0.1, 1.0, points):
        statistics = [_drawn(s, share, rng) for s in sets]
        counts.append(2 / sum(1 / s.count for s in statistics))
        fids.append(frechet_distance(*statistics))
    x, y = 1 / np.array(counts), np.array(fids)
    away = x - x.mean()
    spread = float(away @ away)
    if spread == 0:
        raise StatisticsError("all counts are equal: give more images, or images of more patients")
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
        real_patients=sets[0].patients,
        generated_patients=sets[1].patients,
    )


def _drawn(images: ImageSet, share: float, rng) -> FeatureStatistics:
    (block,) = draw_blocks(images, [max(2, round(share * images.units))], rng)
    return FeatureStatistics.from_features(images.features[block])
