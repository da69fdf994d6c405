"""Files of statistics that hold the features of single images too."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fid_med.errors import StatisticsError
from fid_med.metrics.npz import read_npz
from fid_med.metrics.statistics import FeatureStatistics

_KEYS = ("features", "groups")
# Of the mean's largest entry: float32 features against the float64 moments beside them.
_TOLERANCE = 1e-6


def save_features(path, statistics: FeatureStatistics, features, groups=None) -> None:
    """Writes statistics with the features behind them, beside TTUR's keys.

    Args:
        path: npz to write, whole or not at all.
        statistics: of these features.
        features: [N, d], written as float32 under `features`.
        groups: the patient of each image, [N], or None. Written under `groups` as numbers from 0
            in order of appearance: which images belong together, and nobody's name.

    Raises:
        StatisticsError: groups of another count, or a failed write.
    """
    more = {"features": np.asarray(features, np.float32)}
    if groups is not None:
        if len(groups) != len(features):
            raise StatisticsError(f"{len(groups)} groups for {len(features)} features")
        _, first, inverse = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
        places = np.empty(len(first), np.int64)
        places[np.argsort(first)] = np.arange(len(first))
        more["groups"] = places[inverse.reshape(-1)]
    statistics.save(path, more)


def load_features(path) -> tuple[FeatureStatistics, np.ndarray | None, np.ndarray | None]:
    """Reads statistics, and the features and groups behind them where the file has them.

    Returns:
        The statistics (gathered from the features where there are any, so that the exact form for
        few images serves); features float32 [N, d] or None; groups int64 [N] or None.

    Raises:
        StatisticsError: as `FeatureStatistics.load`, or features that do not belong to the mean
            and count beside them.
    """
    path = Path(path)
    statistics = FeatureStatistics.load(path)
    arrays = read_npz(path, _KEYS, "expected an npz of statistics")
    features, groups = (arrays.get(key) for key in _KEYS)
    if features is None:
        return statistics, None, None
    try:
        gathered = FeatureStatistics.from_features(features)
    except StatisticsError as error:
        raise StatisticsError(f"{path}: {error}") from error
    mean = statistics.mean
    same = gathered.dim == statistics.dim and statistics.count in (None, gathered.count)
    if not same or np.abs(gathered.mean - mean).max() > _TOLERANCE * np.abs(mean).max():
        raise StatisticsError(
            f"{path}: its features are not those of its mu and count: compute it again"
        )
    if groups is not None and (groups.shape != (len(features),) or groups.dtype.kind not in "iu"):
        raise StatisticsError(
            f"{path}: groups of dtype {groups.dtype} and shape {groups.shape}: expected an "
            f"integer for each of {len(features)} images"
        )
    for key in ("fingerprint", "extractor", "preprocessing", "versions"):
        setattr(gathered, key, getattr(statistics, key))
    return gathered, features, groups
