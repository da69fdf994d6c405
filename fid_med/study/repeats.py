"""FIDs over many random halves: the numbers that `judgement` judges."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from fid_med.data.disturbances import contaminate
from fid_med.metrics.frechet import frechet_distance
from fid_med.metrics.statistics import FeatureStatistics
from fid_med.study.images import Halves

# Images a side that the search for the fewest tries, up to what the halves hold.
COUNTS = (5, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 750, 1000)


@dataclasses.dataclass
class Levels:
    """Features of N images at the levels of one disturbance.

    Attributes:
      untouched: [N, d].
      rows: for each level above 0, a function from indices [n] of the disturbed half to features
        [n, d].
    """

    untouched: np.ndarray
    rows: Sequence[Callable[[np.ndarray], np.ndarray]]


def image_levels(untouched: np.ndarray, disturbed: Sequence[np.ndarray]) -> Levels:
    """Levels of a disturbance of images, each with features [N, d] in the images' order."""
    untouched, *disturbed = shortened([untouched, *disturbed])
    return Levels(untouched, [features.__getitem__ for features in disturbed])


def contamination_levels(
    untouched: np.ndarray,
    foreign: np.ndarray,
    levels: Sequence[float],
    digests: Sequence[str],
    seed: int,
) -> Levels:
    """Levels of contamination: that share of each half, to the image, is of the other domain.

    Args:
      untouched: features [N, d] of the real images.
      foreign: features [M, d] of the other domain's images, M >= N: image i is replaced by the
        foreign image i of a seeded order, the same one in every half and at every level.
      levels: shares above 0.
      digests, seed: choose the replaced images, as `contaminate` has it.
    """
    order = np.random.default_rng([seed, 2]).permutation(len(foreign))[: len(untouched)]
    untouched, foreign = shortened([untouched, foreign[order]])

    def rows(level):
        def of(members):
            chosen = contaminate(len(members), [digests[i] for i in members], level, seed)
            return np.where(chosen[:, None], foreign[members], untouched[members])

        return of

    return Levels(untouched, [rows(level) for level in levels])


def shortened(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The same points [N_i, d] in fewer coordinates, where there are fewer points than d.

    An orthonormal basis of what the points span, about their mean, turns and shifts them alike:
    no Fréchet distance between any of them changes, and all become quicker.
    """
    points = np.concatenate(arrays).astype(np.float64)
    points -= points.mean(axis=0)
    if len(points) < points.shape[1]:
        basis, _ = np.linalg.qr(points.T)
        points = points @ basis
    return np.split(points, np.cumsum([len(array) for array in arrays])[:-1])


def repeated_fids(levels: Levels, halves: Sequence[Halves], count: int) -> np.ndarray:
    """FID of every level in every division, float64 [R, L], level 0 first.

    Args:
      levels: features.
      halves: R divisions; the first `count` images of each half enter.
      count: images a side, at least 2.
    """
    fids = np.empty((len(halves), 1 + len(levels.rows)))
    for half, row in zip(halves, fids, strict=True):
        reference = FeatureStatistics.from_features(levels.untouched[half.reference[:count]])
        members = half.disturbed[:count]
        sides = [levels.untouched[members], *(rows(members) for rows in levels.rows)]
        for k, side in enumerate(sides):
            row[k] = frechet_distance(reference, FeatureStatistics.from_features(side))
    return fids


def tested_counts(count: int) -> list[int]:
    """The counts a side that a study with `count` a side can try, itself the last."""
    return [*(smaller for smaller in COUNTS if smaller < count), count]


def fids_of_sets(
    untouched: np.ndarray,
    generated: np.ndarray,
    references: Sequence[np.ndarray],
    draws: Sequence[np.ndarray],
    count: int,
) -> np.ndarray:
    """FID [R] of a generated set's features [M, d] against real ones [N, d].

    Repeat r takes the first `count` of the real indices references[r] and of the generated
    indices draws[r].
    """
    untouched, generated = shortened([untouched, generated])
    statistics = FeatureStatistics.from_features
    return np.array(
        [
            frechet_distance(statistics(untouched[a[:count]]), statistics(generated[b[:count]]))
            for a, b in zip(references, draws, strict=True)
        ]
    )
