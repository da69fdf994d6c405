"""FIDs over many random splits of the patients, which `judgement` judges."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from fid_med.disturbances.registry import contaminate
from fid_med.errors import DataError
from fid_med.metrics.frechet import frechet_distance
from fid_med.metrics.resampling import BlockDistances
from fid_med.metrics.statistics import FeatureStatistics
from fid_med.study.images import StudyImages

# Images per side that the search for the smallest sufficient number tries.
_COUNTS = (5, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 750, 1000)
# Differences below this share of the largest FID are rounding errors.
_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class Halves:
    """One random split of the patients.

    The first m images of each half are a smaller study with the same mix of patients.

    Attributes:
      reference, disturbed: indices of the images of each half, patient by patient.
    """

    reference: np.ndarray
    disturbed: np.ndarray


def draw_halves(images: StudyImages, repeats: int, seed: int) -> tuple[list[Halves], int]:
    """Divides the patients at random into two halves, `repeats` times.

    Returns:
      The splits, and n, the number of images that every half of every split has at least.
      A FID depends on the number of images, so all FIDs are computed with n per side.

    Raises:
      DataError: fewer than two patients, or fewer than 4 images per side.
    """
    patients = images.patients
    sizes = np.array([len(patient) for patient in patients])
    splits = []
    for repeat in range(repeats if len(sizes) > 1 else 0):
        order = np.random.default_rng([seed, 1, repeat]).permutation(len(sizes))
        filled = np.cumsum(sizes[order])
        # Cut where the numbers of images differ least.
        cut = 1 + int(np.argmin(np.abs(2 * filled[:-1] - filled[-1])))
        sides = (order[:cut], order[cut:])
        splits.append(Halves(*(np.concatenate([patients[k] for k in side]) for side in sides)))
    count = min((min(len(h.reference), len(h.disturbed)) for h in splits), default=0)
    if count < 4:
        account = images.account
        left_out = account["training"] + account["patients"]
        excluded = ""
        if left_out:
            excluded = f", {left_out} left out (training images and other images of their patients)"
        unit = "patients" if images.by_patient else "images"
        raise DataError(
            f"{images.name}: {len(images)} of {account['found']} images remain, of {len(sizes)} "
            f"{unit}{excluded}; at least 4 images per half are needed, 50 are recommended: add "
            "images that no extractor was trained on"
        )
    return splits, count


@dataclasses.dataclass
class Levels:
    """Features of N images at the levels of one disturbance.

    Attributes:
      points: [P, d], the N untouched ones first.
      places: for each level above 0, a function from indices [n] of the disturbed half to the
        indices [n] of their features among the points.
    """

    points: np.ndarray
    places: Sequence[Callable[[np.ndarray], np.ndarray]]

    @functools.cached_property
    def distances(self) -> BlockDistances:
        """Distances between blocks of the points, with their products cached."""
        return BlockDistances([self.points])


def stack_image_levels(untouched: np.ndarray, disturbed: Sequence[np.ndarray]) -> Levels:
    """Makes the levels of a disturbance of images from features [N, d] in the images' order."""
    number = len(untouched)
    points = np.concatenate(reduce_dimensions([untouched, *disturbed]))
    places = [functools.partial(np.add, number * (k + 1)) for k in range(len(disturbed))]
    return Levels(points, places)


def stack_contamination_levels(
    untouched: np.ndarray,
    foreign: np.ndarray,
    levels: Sequence[float],
    digests: Sequence[str],
    seed: int,
) -> Levels:
    """Makes the levels of contamination: the share of each half that is of another domain.

    Args:
      untouched: features [N, d] of the real images.
      foreign: features [M, d] of the other domain's images, M >= N. Image i is replaced by the
        foreign image i of a seeded order, the same one in every half and at every level.
      levels: shares above 0.
      digests, seed: determine the replaced images, as for `contaminate`.
    """
    number = len(untouched)
    order = _pair_foreign(number, len(foreign), seed)

    def place(level, members):
        chosen = contaminate(len(members), [digests[i] for i in members], level, seed)
        return np.where(chosen, number + members, members)

    points = np.concatenate(reduce_dimensions([untouched, foreign[order]]))
    return Levels(points, [functools.partial(place, level) for level in levels])


def replace_members(
    members: np.ndarray, level: float, digests: Sequence[str], foreign: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Chooses which images of a half contamination replaces, and by which others.

    Args:
      members: int [n], indices of the half's images.
      level, digests, seed: as for `stack_contamination_levels`, digests of all N real images.
      foreign: number of images of the other domain.

    Returns:
      bool [n], whether each is replaced, and the indices of the images that replace them.
    """
    chosen = contaminate(len(members), [digests[i] for i in members], level, seed)
    return chosen, _pair_foreign(len(digests), foreign, seed)[members[chosen]]


def _pair_foreign(number, foreign, seed):
    """Returns the index of the image of the other domain for each of N real images."""
    return np.random.default_rng([seed, 2]).permutation(foreign)[:number]


def reduce_dimensions(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Expresses points [N_i, d] in fewer coordinates if there are fewer points than d.

    The points are centred and projected on an orthonormal basis of their span. This changes no
    Fréchet distance between any of them and makes all of them faster.
    """
    points = np.concatenate(arrays).astype(np.float64)
    points -= points.mean(axis=0)
    if len(points) < points.shape[1]:
        basis, _ = np.linalg.qr(points.T)
        points = points @ basis
    return np.split(points, np.cumsum([len(array) for array in arrays])[:-1])


def compute_fids(levels: Levels, halves: Sequence[Halves], count: int) -> np.ndarray:
    """Computes the FID of every level in every split.

    Args:
      levels: features.
      halves: R splits, of which the first `count` images of each half are used.
      count: number of images per side, at least 2.

    Returns:
      float64 [R, L], level 0 first. Levels that differ only by rounding have equal FIDs.
    """
    fids = np.empty((len(halves), 1 + len(levels.places)))
    for half, row in zip(halves, fids, strict=True):
        members = half.disturbed[:count]
        sides = [members, *(place(members) for place in levels.places)]
        row[:] = _compute_distances(levels, half.reference[:count], sides)
    for before, after in itertools.pairwise(fids.T):
        same = np.abs(after - before) <= _ROUNDING * fids.max()
        after[same] = before[same]
    return fids


def _compute_distances(levels, reference, sides):
    """Returns the FIDs of the points at several sets of indices against those at `reference`."""
    if len(reference) <= levels.points.shape[1]:
        pairs = [(0, k + 1) for k in range(len(sides))]
        return levels.distances.distances([reference, *sides], pairs)
    # With more images than dimensions the covariances are the smaller matrices.
    statistics = [FeatureStatistics.from_features(levels.points[x]) for x in (reference, *sides)]
    return [frechet_distance(statistics[0], side) for side in statistics[1:]]


def list_counts(count: int) -> list[int]:
    """Returns the numbers of images per side that a study tries, `count` itself the last."""
    return [*(smaller for smaller in _COUNTS if smaller < count), count]


def compute_generated_fids(
    untouched: np.ndarray,
    generated: np.ndarray,
    halves: Sequence[Halves],
    count: int,
    seed: Sequence[int],
) -> np.ndarray:
    """Computes the FIDs of a generated set against the reference half of each split.

    Args:
      untouched: features [N, d] of the real images.
      generated: features [M, d] of the generated images.
      halves: R splits of the real images.
      count: number of images per side; drawn from the generated set at random in each repeat.
      seed: seed of these draws.

    Returns:
      float64 [R].
    """
    number = len(untouched)
    levels = Levels(np.concatenate(reduce_dimensions([untouched, generated])), ())
    rng = np.random.default_rng(seed)
    draws = [rng.permutation(len(generated))[:count] for _ in halves]
    return np.array(
        [
            _compute_distances(levels, half.reference[:count], [number + draw])[0]
            for half, draw in zip(halves, draws, strict=True)
        ]
    )
