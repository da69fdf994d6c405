"""Files of statistics that also hold the features of single images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fid_med.errors import StatisticsError
from fid_med.metrics.input_checks import check_one_per_image
from fid_med.metrics.npz import read_npz
from fid_med.metrics.statistics import FeatureStatistics

_KEYS = ("features", "groups")
# Share of the mean's largest entry: features are float32, the mean next to them is float64.
_TOLERANCE = 1e-6


def save_features(path, statistics: FeatureStatistics, features, patients=None) -> None:
    """Writes statistics and the features of single images to one npz file.

    Args:
      path: the file to write. It is written completely or not at all.
      statistics: the statistics of these features, written as by `FeatureStatistics.save`.
      features: [N, d], written as float32 under the key `features`.
      patients: a label per image, [N], or None. Written under the key `groups` as numbers from
        0 in order of appearance, so that the file holds no patient's name.

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
    statistics.save(path, more)


def load_features(path) -> tuple[FeatureStatistics, np.ndarray | None, np.ndarray | None]:
    """Reads statistics, and the features and patients of single images where the file has them.

    Returns:
      The statistics; the features, float32 [N, d] or None; the patients, int64 [N] or None.
      Where the file holds features, the statistics are computed from them, so that the exact
      form of the Fréchet distance for few images can be used.

    Raises:
      StatisticsError: as `FeatureStatistics.load`, or features that do not match the mean and
        the count in the same file.
    """
    path = Path(path)
    statistics = FeatureStatistics.load(path)
    arrays = read_npz(path, _KEYS, "expected an npz of statistics")
    features, patients = (arrays.get(key) for key in _KEYS)
    if features is None:
        return statistics, None, None
    try:
        computed = FeatureStatistics.from_features(features)
    except StatisticsError as error:
        raise StatisticsError(f"{path}: {error}") from error
    mean = statistics.mean
    same = computed.dim == statistics.dim and statistics.count in (None, computed.count)
    if not same or np.abs(computed.mean - mean).max() > _TOLERANCE * np.abs(mean).max():
        raise StatisticsError(
            f"{path}: its features do not match its mu and count: compute the file again"
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
    return computed, features, patients
