"""Agreement of FIDs with each other, with measured image quality, and with people's ratings."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from fid_med.study import judgement
from fid_med.study.image_quality import MEASURES
from fid_med.study.images import Halves

_PERFECT = {"psnr": np.inf, "ssim": 1.0, "ms_ssim": 1.0}


def all_cells(fids: Mapping[str, np.ndarray]) -> np.ndarray:
    """[R, 1 + cells]: level 0 once, then the other levels of every disturbance's [R, L]."""
    first = next(iter(fids.values()))[:, :1]
    return np.concatenate([first, *(values[:, 1:] for values in fids.values())], axis=1)


def with_quality(
    fids: Mapping[str, np.ndarray],
    quality: Mapping[tuple[str, float], np.ndarray],
    halves: Sequence[Halves],
    count: int,
) -> dict[str, dict]:
    """Rank agreement of one extractor's FID with loss of quality, over all levels with pairs.

    Args:
      fids: [R, L] of each disturbance.
      quality: `MEASURES` [N, 3] of each cell, in the disturbances' and levels' order.
      halves, count: of the FIDs; quality is the mean over the same disturbed images.

    Returns:
      For each measure that all images are large enough for, a `RankAgreement`, positive where
      FID is higher as quality is lower. No p-value: levels of one disturbance are not exchangeable.
    """
    names = dict.fromkeys(name for name, _ in quality)
    if not names:
        return {}
    values = all_cells({name: fids[name] for name in names})
    found = {}
    for k, measure in enumerate(MEASURES):
        rows = np.stack([of_cell[:, k] for of_cell in quality.values()], axis=1)  # [N, cells]
        if np.isnan(rows).any():
            continue
        means = np.stack([rows[half.disturbed[:count]].mean(axis=0) for half in halves])
        worse = -np.insert(means, 0, _PERFECT[measure], axis=1)
        found[measure] = judgement.rank_agreement(values, worse, test=False).to_dict()
    return found


def quality_means(rows: np.ndarray) -> dict[str, float]:
    """Means of `MEASURES` [N, 3] by name, those that images are too small for left out."""
    means = dict(zip(MEASURES, rows.mean(axis=0).tolist(), strict=True))
    return {name: value for name, value in means.items() if np.isfinite(value)}


def between_extractors(fids: Mapping[str, np.ndarray], seed: int) -> list[dict]:
    """`RankAgreement` of each pair of extractors on the FIDs [R, K] of the same K sets."""
    return [
        {"extractors": [a, b], **judgement.rank_agreement(fids[a], fids[b], seed=seed).to_dict()}
        for a, b in itertools.combinations(fids, 2)
    ]


def with_people(
    fids: Mapping[str, np.ndarray],
    names: Sequence[str],
    ratings: Mapping[str, Sequence[float]],
    seed: int,
) -> dict | None:
    """Agreement of each extractor's FIDs with people's ratings, larger for better.

    Args:
      fids: [R, K] of each extractor.
      names: of the K things.
      ratings: by name, some of which may be of other things.
      seed: of the draws of ratings.

    Returns:
      Mean ratings, their numbers, and for each extractor a `RankAgreement`, positive where FID is
      higher as people rate lower. Its interval is over the repeats, each with the ratings of each
      set drawn anew; its p-value asks whether chance would order the sets so. None with fewer than
      three rated things.
    """
    rated = [k for k, name in enumerate(names) if name in ratings]
    if len(rated) < 3:
        return None
    of_set = [np.asarray(ratings[names[k]], np.float64) for k in rated]
    rng = np.random.default_rng([seed, 4])
    repeats = len(next(iter(fids.values())))
    drawn = np.stack(
        [rng.choice(x, (repeats, len(x))).mean(axis=1) for x in of_set], axis=1
    )  # [R, K]
    means = [float(x.mean()) for x in of_set]
    return {
        "ratings": {names[k]: mean for k, mean in zip(rated, means, strict=True)},
        "numbers": {names[k]: len(x) for k, x in zip(rated, of_set, strict=True)},
        "agreement": {
            name: judgement.rank_agreement(
                values[:, rated], -drawn, middle=-np.array(means), seed=seed
            ).to_dict()
            for name, values in fids.items()
        },
    }
