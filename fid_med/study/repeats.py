"""FIDs over many random halves: the numbers that `judgement` judges."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from fid_med.disturbances.registry import contaminate
from fid_med.metrics.frechet import frechet_distance
from fid_med.metrics.resampling import BlockDistances
from fid_med.metrics.statistics import FeatureStatistics
from fid_med.study.images import Halves

# Images a side that the search for the fewest tries, up to what the halves hold.
COUNTS = (5, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 750, 1000)


# Below this share of the largest FID a difference between two is rounding.
_ROUNDING = 1e-9


@dataclasses.dataclass
class Levels:
    """Features of N images at the levels of one disturbance.

    Attributes:
      points: [P, d], the N untouched ones first.
      untouched: N.
      places: for each level above 0, a function from indices [n] of the disturbed half to the
        places of their features among the points, [n].
    """

    points: np.ndarray
    untouched: int
    places: Sequence[Callable[[np.ndarray], np.ndarray]]

    @functools.cached_property
    def distances(self) -> BlockDistances:
        """Distances between blocks of the points; their products are kept."""
        return BlockDistances([self.points])


def image_levels(untouched: np.ndarray, disturbed: Sequence[np.ndarray]) -> Levels:
    """Levels of a disturbance of images, each with features [N, d] in the images' order."""
    number = len(untouched)
    points = np.concatenate(shortened([untouched, *disturbed]))
    places = [functools.partial(np.add, number * (k + 1)) for k in range(len(disturbed))]
    return Levels(points, number, places)


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
    number = len(untouched)
    order = np.random.default_rng([seed, 2]).permutation(len(foreign))[:number]

    def places(level):
        def of(members):
            chosen = contaminate(len(members), [digests[i] for i in members], level, seed)
            return np.where(chosen, number + members, members)

        return of

    points = np.concatenate(shortened([untouched, foreign[order]]))
    return Levels(points, number, [places(level) for level in levels])


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

    Levels that differ by rounding alone have equal FIDs.
    """
    fids = np.empty((len(halves), 1 + len(levels.places)))
    for half, row in zip(halves, fids, strict=True):
        members = half.disturbed[:count]
        sides = [members, *(places(members) for places in levels.places)]
        row[:] = _distances(levels, half.reference[:count], sides)
    for before, after in itertools.pairwise(fids.T):
        same = np.abs(after - before) <= _ROUNDING * fids.max()
        after[same] = before[same]
    return fids


def _distances(levels, reference, sides):
    """FIDs of the points at several places against those at `reference`."""
    if len(reference) <= levels.points.shape[1]:
        pairs = [(0, k + 1) for k in range(len(sides))]
        return levels.distances.distances([reference, *sides], pairs)
    # With more images than dimensions the covariances are the smaller matrices.
    statistics = [FeatureStatistics.from_features(levels.points[x]) for x in (reference, *sides)]
    return [frechet_distance(statistics[0], side) for side in statistics[1:]]


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
    number = len(untouched)
    levels = Levels(np.concatenate(shortened([untouched, generated])), number, ())
    return np.array(
        [
            _distances(levels, a[:count], [number + b[:count]])[0]
            for a, b in zip(references, draws, strict=True)
        ]
    )
