"""How well each depth of an extractor separates two classes, and how few images it needs.

    python -m benchmarks.depth_study CLASS_A.npz CLASS_B.npz

The files are those of `compute_fid.py CLASS_A CLASS_B --metrics=depths --patient_regex=...
--save_statistics=DIR --save_features`. For each depth, and for the multi-depth FID, it prints

  separation  the FID between the classes over the FID between two halves of one class, all of the
              same number of images and without shared patients; 1: the depth shows no difference
  N           for N images per side, two halves of both classes together, by patient: mean of the
              FID, whose true value is 0, and the standard deviation of the debiased FID, both
              divided by the FID between the classes

The separation is the median over random splits, with the 2.5 and 97.5 % quantiles. The files do
not say which patients are in both classes, so such patients may be in both halves. Without
--patient_regex, each image counts as another patient.
"""

import sys

import numpy as np

from fid_med.extractors.registry import DEPTHS
from fid_med.metrics.debiased_fid import debiased_sum
from fid_med.metrics.depth_profile import multi_depth_fid
from fid_med.metrics.feature_files import load_features
from fid_med.metrics.frechet import frechet_distance
from fid_med.metrics.statistics import FeatureStatistics

_SPLITS, _DRAWS, _REPLICATES = 100, 40, 40


def separations(first, second, splits: int = _SPLITS, seed: int = 0) -> np.ndarray:
    """Computes the FID between two classes over that within them.

    Args:
      first, second: of each class, features [N, d] by depth, and the patients [N].
      splits: number of random splits of the patients.
      seed: of the splits.

    Returns:
      float64 [splits, K + 1, 2]: between and within, at each depth and over the depths.
    """
    rng = np.random.default_rng(seed)
    traces = _traces(first[0], second[0])
    found = []
    for _ in range(splits):
        halves = [_halves(patients, rng) for _, patients in (first, second)]
        count = min(len(half) for pair in halves for half in pair)
        parts = [
            [{d: x[half[:count]] for d, x in features.items()} for half in pair]
            for (features, _), pair in zip((first, second), halves, strict=True)
        ]
        between = np.mean([_fids(a, b) for a in parts[0] for b in parts[1]], axis=0)
        within = np.mean([_fids(*pair) for pair in parts], axis=0)
        found.append([[*fids, multi_depth_fid(list(fids), traces)] for fids in (between, within)])
    return np.array(found).transpose(0, 2, 1)


def small_samples(first, second, count: int, draws: int = _DRAWS, seed: int = 0):
    """Compares halves of one distribution: both classes together, by patient.

    Args:
      first, second: as for `separations`.
      count: number of images per side.
      draws: number of random halves.
      seed: of the halves and of the splits of the debiased FID.

    Returns:
      The plain and the debiased FIDs, float64 [draws, K + 1] each; None with too few images.
    """
    features = {d: np.concatenate([first[0][d], second[0][d]]) for d in first[0]}
    patients = np.concatenate([first[1], second[1]])
    traces = _traces(features)
    rng = np.random.default_rng(seed)
    plain, debiased = [], []
    for draw in range(draws):
        halves = _halves(patients, rng)
        if min(map(len, halves)) < count:
            return None
        sides = [[x[half[:count]] for x in features.values()] for half in halves]
        fids = _fids(*(dict(enumerate(side)) for side in sides))
        plain.append([*fids, multi_depth_fid(list(fids), traces)])
        weights = [1 / (len(traces) * trace) for trace in traces]
        each, total = debiased_sum(*sides, weights, replicates=_REPLICATES, seed=draw)
        debiased.append([*(x.value for x in each), total.value])
    return np.array(plain), np.array(debiased)


def _halves(patients, rng):
    """Indices of two halves without a shared patient, shuffled."""
    _, owner = np.unique(patients, return_inverse=True)
    order = rng.permutation(owner.max() + 1)
    filled = np.cumsum(np.bincount(owner)[order])
    cut = 1 + int(np.argmin(np.abs(2 * filled[:-1] - filled[-1])))
    return [rng.permutation(np.flatnonzero(np.isin(owner, x))) for x in np.split(order, [cut])]


def _fids(first, second):
    of = FeatureStatistics.from_features
    return np.array([frechet_distance(of(first[d]), of(second[d])) for d in first])


def _traces(*sets):
    of = FeatureStatistics.from_features
    return [of(np.concatenate([x[d] for x in sets])).trace for d in sets[0]]


def _loaded(path, offset):
    saved = load_features(path, DEPTHS)
    if len(saved.depths) < len(DEPTHS):
        raise SystemExit(
            f"{path}: does not hold every depth; save it with --metrics=depths "
            "--save_statistics=DIR --save_features"
        )
    images = np.arange(len(saved.features))
    patients = images if saved.patients is None else saved.patients
    return {d: rows for d, (_, rows) in saved.depths.items()}, patients + offset


def main(first, second):
    classes = _loaded(first, 0), _loaded(second, 1_000_000)
    names = [*map(str, DEPTHS), "multi-depth"]
    between, within = separations(*classes).transpose(2, 0, 1)
    ratios = between / within
    print("depth        separation")
    for k, name in enumerate(names):
        low, median, high = np.percentile(ratios[:, k], [2.5, 50, 97.5])
        print(f"{name:12} {median:.3g} ({low:.3g} to {high:.3g})")
    for count in (50, 100, 200):
        found = small_samples(*classes, count)
        if found is None:
            print(f"N = {count}: too few images")
            continue
        scale = between.mean(axis=0)
        plain, debiased = (x / scale for x in found)
        mean, spread = debiased.mean(axis=0), debiased.std(axis=0, ddof=1)
        for k, name in enumerate(names):
            print(
                f"N = {count}, {name}: FID {plain[:, k].mean():.3g}, debiased {mean[k]:.2g} +- "
                f"{spread[k]:.2g}"
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
