"""Rank agreement of FIDs with each other, with measured image quality, and with ratings."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from fid_med.study.image_quality import MEASURES
from fid_med.study.judgement import Estimate, estimate, kendall
from fid_med.study.repeats import Halves

_PERFECT = {"psnr": np.inf, "ssim": 1.0, "ms_ssim": 1.0}
_EXACT_PERMUTATIONS = 8  # up to 8! = 40,320 orders are all counted


def spearman(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
    """Computes Spearman's rank correlation along an axis; ties get their mean rank.

    Args:
      x, y: [..., K] along `axis`, broadcast against each other.

    Returns:
      [...]; 0 where all values of x, or of y, are tied.
    """
    x, y = (np.moveaxis(np.asarray(a, np.float64), axis, -1) for a in (x, y))
    x, y = (stats.rankdata(a, axis=-1) for a in (x, y))
    x, y = (a - a.mean(-1, keepdims=True) for a in (x, y))
    norm = np.sqrt((x**2).sum(-1) * (y**2).sum(-1))
    return (x * y).sum(-1) / np.where(norm > 0, norm, 1.0)


@dataclasses.dataclass(frozen=True)
class RankAgreement:
    """Agreement of two measures on the order of the same items.

    Attributes:
      count: number of ranked items.
      spearman, kendall: rank correlations with intervals over the repeats, for these items.
      p_value: two-sided, of Spearman's coefficient of the means by permutation. None with fewer
        than three items, where one measure does not vary, or where no test was requested.
    """

    count: int
    spearman: Estimate
    kendall: Estimate
    p_value: float | None

    def to_dict(self) -> dict:
        """Returns the fields as JSON types."""
        return {
            "count": self.count,
            "spearman": self.spearman.to_dict(),
            "kendall": self.kendall.to_dict(),
            "p_value": self.p_value,
        }


def measure_agreement(
    x: np.ndarray,
    y: np.ndarray,
    *,
    y_mean: np.ndarray | None = None,
    seed: int = 0,
    test: bool = True,
) -> RankAgreement:
    """Computes the agreement of two measures of K items over R repeats.

    Args:
      x, y: [R, K], or [1, K] if measured once. Infinity ranks above all.
      y_mean: [K], y itself if its repeats are random draws; by default the mean of y.
      seed: seed of the permutations, where there are too many to count all.
      test: whether to compute the p-value. It is valid only if the items are exchangeable; levels
        of one disturbance are not.
    """
    x, y = np.atleast_2d(x), np.atleast_2d(y)
    means = [x.mean(axis=0), y.mean(axis=0) if y_mean is None else y_mean]
    return RankAgreement(
        count=x.shape[-1],
        spearman=estimate(np.atleast_1d(spearman(x, y)), float(spearman(*means))),
        kendall=estimate(np.atleast_1d(kendall(x, y)), float(kendall(*means))),
        p_value=permutation_p_value(*means, seed=seed) if test else None,
    )


def permutation_p_value(x, y, *, seed: int = 0, permutations: int = 9999) -> float | None:
    """Computes the two-sided p-value of Spearman's correlation of x [K] and y [K] by permutation.

    For K <= 8 all K! pairings are counted. Otherwise `permutations` seeded pairings and the
    observed one are counted (Phipson & Smyth 2010), so the value is never 0.
    """
    x, y = (stats.rankdata(np.asarray(a, np.float64)) for a in (x, y))
    if len(x) < 3 or not np.ptp(x) or not np.ptp(y):
        return None
    observed = abs(float(spearman(x, y))) - 1e-12
    if len(x) <= _EXACT_PERMUTATIONS:
        orders = np.array(list(itertools.permutations(range(len(x)))))
        return float((np.abs(spearman(x[orders], y)) >= observed).mean())
    rng = np.random.default_rng(seed)
    shuffled = rng.permuted(np.tile(x, (permutations, 1)), axis=1)
    extreme = int((np.abs(spearman(shuffled, y)) >= observed).sum())
    return (extreme + 1) / (permutations + 1)


def join_levels(fids: Mapping[str, np.ndarray]) -> np.ndarray:
    """Joins the FIDs [R, L] of every disturbance: level 0 once, then all other levels."""
    first = next(iter(fids.values()))[:, :1]
    return np.concatenate([first, *(values[:, 1:] for values in fids.values())], axis=1)


def compare_with_quality(
    fids: Mapping[str, np.ndarray],
    quality: Mapping[tuple[str, float], np.ndarray],
    halves: Sequence[Halves],
    count: int,
) -> dict[str, dict]:
    """Computes the agreement of one extractor's FID with the loss of measured image quality.

    Args:
      fids: [R, L] by disturbance.
      quality: `MEASURES` [N, 3] by cell, in the order of disturbances and levels.
      halves, count: those of the FIDs. Quality is the mean over the same disturbed images.

    Returns:
      A `RankAgreement` by measure, for the measures that all images are large enough for. It is
      positive if FID is higher where quality is lower. It has no p-value, because the levels of
      one disturbance are not exchangeable.
    """
    names = dict.fromkeys(name for name, _ in quality)
    if not names:
        return {}
    values = join_levels({name: fids[name] for name in names})
    found = {}
    for k, measure in enumerate(MEASURES):
        rows = np.stack([of_cell[:, k] for of_cell in quality.values()], axis=1)  # [N, cells]
        if np.isnan(rows).any():
            continue
        means = np.stack([rows[half.disturbed[:count]].mean(axis=0) for half in halves])
        worse = -np.insert(means, 0, _PERFECT[measure], axis=1)
        found[measure] = measure_agreement(values, worse, test=False).to_dict()
    return found


def average_quality(rows: np.ndarray) -> dict[str, float]:
    """Averages `MEASURES` [N, 3], by name; leaves out those that some image is too small for."""
    means = dict(zip(MEASURES, rows.mean(axis=0).tolist(), strict=True))
    return {name: value for name, value in means.items() if np.isfinite(value)}


def compare_rankings(fids: Mapping[str, np.ndarray], seed: int) -> list[dict]:
    """Computes the agreement of each pair of extractors on the FIDs [R, K] of the same K sets."""
    return [
        {"extractors": [a, b], **measure_agreement(fids[a], fids[b], seed=seed).to_dict()}
        for a, b in itertools.combinations(fids, 2)
    ]


def compare_with_ratings(
    fids: Mapping[str, np.ndarray],
    names: Sequence[str],
    ratings: Mapping[str, Sequence[float]],
    seed: int,
) -> dict | None:
    """Computes the agreement of each extractor's FIDs with ratings by people.

    Args:
      fids: [R, K] by extractor.
      names: names of the K items.
      ratings: ratings by name, larger for better; other names are ignored.
      seed: seed of the draws of ratings.

    Returns:
      Mean ratings, their numbers, and a `RankAgreement` by extractor, positive if FID is higher
      where people rate lower. Its interval is over the repeats, each with a new draw of the ratings
      of each item. None with fewer than three rated items.
    """
    rated = [k for k, name in enumerate(names) if name in ratings]
    if len(rated) < 3:
        return None
    of_item = [np.asarray(ratings[names[k]], np.float64) for k in rated]
    rng = np.random.default_rng([seed, 4])
    repeats = len(next(iter(fids.values())))
    drawn = np.stack(
        [rng.choice(x, (repeats, len(x))).mean(axis=1) for x in of_item], axis=1
    )  # [R, K]
    means = [float(x.mean()) for x in of_item]
    return {
        "ratings": {names[k]: mean for k, mean in zip(rated, means, strict=True)},
        "numbers": {names[k]: len(x) for k, x in zip(rated, of_item, strict=True)},
        "agreement": {
            name: measure_agreement(
                values[:, rated], -drawn, y_mean=-np.array(means), seed=seed
            ).to_dict()
            for name, values in fids.items()
        },
    }
