"""Files of statistics that also hold the features of single images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fid_med.errors import StatisticsError
from fid_med.metrics.input_checks import check_one_per_image
from fid_med.metrics.npz import read_npz
from fid_med.metrics.statistics import FeatureStatistics

_KEYS = ("features", "groups")
# Of the features at another depth, by their number: float32 [N, number], and its extractor.
_DEPTH_KEYS = ("features", "fingerprint", "extractor")
# Share of the mean's largest entry: features are float32, the mean next to them is float64.
_TOLERANCE = 1e-6


class SavedFeatures(NamedTuple):
    """What a file of statistics holds.

    Attributes:
      statistics: the statistics.
      features: of single images, float32 [N, d], or None.
      patients: number of each image's patient, int64 [N], or None.
      depths: statistics and features of every depth that the file holds, by number of features.
    """

    statistics: FeatureStatistics
    features: np.ndarray | None
    patients: np.ndarray | None
    depths: dict[int, tuple[FeatureStatistics, np.ndarray]]


def save_features(
    path,
    statistics: FeatureStatistics,
    features,
    patients=None,
    depths: Mapping[int, tuple[FeatureStatistics, np.ndarray]] | None = None,
) -> None:
    """Writes statistics and the features of single images to one npz file.

    Args:
      path: the file to write. It is written completely or not at all.
      statistics: the statistics of these features, written as by `FeatureStatistics.save`.
      features: [N, d], written as float32 under the key `features`.
      patients: a label per image, [N], or None. Written under the key `groups` as numbers from
        0 in order of appearance, so that the file holds no patient's name.
      depths: statistics and features [N, k] of every depth, by k. Each but d is written under the
        keys `features_k`, `fingerprint_k` and `extractor_k`.

    Raises:
      StatisticsError: another number of patients than images, or a failed write.
    """
    more = {"features": np.asarray(features, np.float32)}
    if patients is not None:
        check_one_per_image(patients, len(features), "patients")
        _, first, inverse = np.unique(np.asarray(patients), return_index=True, return_inverse=True)
        numbers = np.empty(len(first), np.int64)
        numbers[np.argsort(first)] = np.arange(len(first))
        more["groups"] = numbers[inverse.reshape(-1)]
    for dims, (of_depth, rows) in (depths or {}).items():
        if dims != statistics.dim:
            values = (np.asarray(rows, np.float32), of_depth.fingerprint, of_depth.extractor)
            named = zip(_DEPTH_KEYS, values, strict=True)
            more |= {f"{key}_{dims}": np.asarray(x) for key, x in named if x is not None}
    statistics.save(path, more)


def load_features(path, depths: Sequence[int] = ()) -> SavedFeatures:
    """Reads statistics, and the features and patients of single images where the file has them.

    Args:
      path: the file.
      depths: numbers of features of the depths to look for.

    Returns:
      Where the file holds features, the statistics are computed from them, so that the exact
      form of the Fréchet distance for few images can be used.

    Raises:
      StatisticsError: as `FeatureStatistics.load`, or features that do not match the mean, the
        covariance and the count in the same file.
    """
    path = Path(path)
    statistics = FeatureStatistics.load(path)
    keys = [f"{key}_{dims}" for dims in depths for key in _DEPTH_KEYS]
    arrays = read_npz(path, (*_KEYS, *keys), "expected an npz of statistics")
    features, patients = (arrays.get(key) for key in _KEYS)
    if features is None:
        return SavedFeatures(statistics, None, None, {})
    computed = _computed(path, features)
    mean = statistics.mean
    same = computed.dim == statistics.dim and statistics.count in (None, computed.count)
    same = same and np.abs(computed.mean - mean).max() <= _TOLERANCE * np.abs(mean).max()
    if not same or not _same_covariance(computed, statistics, features):
        raise StatisticsError(
            f"{path}: its features do not match its mu, sigma and count: compute the file again"
        )
    if patients is not None and (
        patients.shape != (len(features),) or patients.dtype.kind not in "iu"
    ):
        raise StatisticsError(
            f"{path}: groups of dtype {patients.dtype} and shape {patients.shape}: expected an "
            f"integer for each of {len(features)} images"
        )
    for key in ("fingerprint", "extractor", "preprocessing", "versions"):
        setattr(computed, key, getattr(statistics, key))
    found = {}
    for dims in depths:
        rows = features if dims == computed.dim else arrays.get(f"features_{dims}")
        if rows is None:
            continue
        if rows.shape != (len(features), dims):
            raise StatisticsError(
                f"{path}: features_{dims} of shape {rows.shape}: expected "
                f"{(len(features), dims)}: compute the file again"
            )
        found[dims] = (computed, rows)
        if dims != computed.dim:
            of_depth = _computed(path, rows)
            of_depth.preprocessing, of_depth.versions = computed.preprocessing, computed.versions
            for key in ("fingerprint", "extractor"):
                value = arrays.get(f"{key}_{dims}")
                setattr(of_depth, key, None if value is None else str(value))
            found[dims] = (of_depth, rows)
    return SavedFeatures(computed, features, patients, found)


def _same_covariance(computed, statistics, features):
    sigma = statistics.covariance
    largest = np.abs(sigma).max()
    # Rounding a feature x to float32 changes it by up to 2^-24 x, and a covariance by that times
    # twice the other feature's deviation.
    rounding = 2.0**-22 * float(np.abs(features).max()) * np.sqrt(largest)
    return np.abs(computed.covariance - sigma).max() <= _TOLERANCE * largest + rounding


def _computed(path, features):
    try:
        return FeatureStatistics.from_features(features)
    except StatisticsError as error:
        raise StatisticsError(f"{path}: {error}") from error
