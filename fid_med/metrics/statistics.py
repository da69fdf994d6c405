"""Count, mean and covariance of features: gathered in a stream, merged, saved and loaded."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fid_med.errors import StatisticsError
from fid_med.metrics.npz import read_npz, write_npz

FILE_FORMAT = 1
_TEXTS = ("fingerprint", "extractor")
_JSONS = ("preprocessing", "versions")
_KEYS = ("mu", "sigma", "count", "format", *_TEXTS, *_JSONS)

# Once the raw rows are given up, this many wait for each d x d update, so that batches of one
# image cost what batches of many do; and so many columns are updated at once.
_CHUNK = 512

# sigma is called asymmetric, or its diagonal negative, beyond this share of its largest entry:
# float32 files pass, mistakes do not.
_SIGMA_TOLERANCE = 1e-6

_EXPECTED = (
    "expected is an npz with 'mu' [d] and 'sigma' [d, d], as FeatureStatistics.save, TTUR and "
    "pytorch-fid write it"
)


class _Moments(NamedTuple):
    count: int
    mean: np.ndarray  # [d]
    scatter: np.ndarray  # [d, d], the sum of outer products of the centred rows


def _with_rows(a: _Moments | None, rows: np.ndarray, out: np.ndarray | None = None) -> _Moments:
    """Moments with rows [n, d] added, in two passes, which a mean far from zero does not hurt.

    The scatter of `a` becomes that of the union, and the centred rows go to `out`, which may be
    `rows`: one more [d, d] would be memory for nothing.
    """
    mean = rows.mean(axis=0)
    centred = np.subtract(rows, mean, out=out)
    scatter = np.zeros((len(mean), len(mean))) if a is None else a.scatter
    columns = [slice(i, i + _CHUNK) for i in range(0, len(mean), _CHUNK)]
    for i, first in enumerate(columns):
        scatter[first, first] += centred[:, first].T @ centred[:, first]
        for second in columns[i + 1 :]:
            block = centred[:, first].T @ centred[:, second]
            scatter[first, second] += block
            scatter[second, first] += block.T  # symmetric to the last bit
    return _union(a, len(rows), mean, scatter)


def _merged(a: _Moments | None, b: _Moments) -> _Moments:
    """Moments of the union of two, in new arrays."""
    scatter = b.scatter.copy()
    if a is not None:
        scatter += a.scatter
    return _union(a, b.count, b.mean, scatter)


def _union(a: _Moments | None, count: int, mean: np.ndarray, scatter: np.ndarray) -> _Moments:
    """Of `a` and `count` rows more, by the pairwise update of Chan, Golub & LeVeque, eq. 2.1.

    `mean` is that of the further rows, `scatter` the sum of both scatters; it becomes the union's.
    """
    if a is None:
        return _Moments(count, mean, scatter)
    total = a.count + count
    delta = mean - a.mean
    # Scaled on both sides alike: the outer product is then symmetric to the last bit.
    scaled = delta * math.sqrt(a.count * count / total)
    for i in range(0, len(scaled), _CHUNK):  # in strips: no further [d, d]
        scatter[i : i + _CHUNK] += np.outer(scaled[i : i + _CHUNK], scaled)
    return _Moments(total, a.mean + delta * (count / total), scatter)


class FeatureStatistics:
    """Count, mean and unbiased covariance of features, in float64 and bounded memory.

    While there are no more than d of them the features themselves are kept, because they give
    the exact Fréchet distance at small N (`rows`); beyond that they are folded into mean and
    scatter with the pairwise update of Chan, Golub & LeVeque, "Algorithms for Computing the
    Sample Variance", The American Statistician 37(3), 1983, eq. 2.1. Neither the split into
    batches nor the order of merging changes the result by more than rounding.

    Attributes:
        fingerprint: sha256 of the extractor's weights and preprocessing; None if unknown.
        extractor: the extractor's name, or None.
        preprocessing: JSON-able description of the path from pixels to network input, or None.
        versions: JSON-able dict of library versions, or None.
    """

    def __init__(self, dim: int | None = None):
        if dim is not None and dim < 1:
            raise StatisticsError(f"feature dimension {dim}: expected 1 or more")
        self._dim = dim
        self._folded: _Moments | None = None
        self._buffer: list[np.ndarray] = []
        self._buffered = 0
        # mu and sigma as a file gave them: returned to the bit while nothing is added to them.
        self._given: tuple[np.ndarray, np.ndarray, int | None] | None = None
        self.fingerprint: str | None = None
        self.extractor: str | None = None
        self.preprocessing: dict[str, Any] | None = None
        self.versions: dict[str, Any] | None = None

    def __repr__(self) -> str:
        short = self.fingerprint and self.fingerprint[:12]
        return (
            f"FeatureStatistics(dim={self.dim}, count={self.count}, "
            f"extractor={self.extractor!r}, fingerprint={short!r})"
        )

    @classmethod
    def from_features(cls, features: np.ndarray) -> FeatureStatistics:
        """Statistics of features [N, d] of any real dtype."""
        return cls().update(features)

    @classmethod
    def from_moments(
        cls, mu: np.ndarray, sigma: np.ndarray, count: int | None = None
    ) -> FeatureStatistics:
        """Statistics from a mean [d] and an unbiased covariance [d, d] (ddof=1).

        `count` is the number of images behind them, None where that is unknown: such statistics
        can be compared, but neither updated nor merged.

        Raises:
            StatisticsError: wrong shapes or dtype, NaN or infinity, sigma not symmetric (beyond
                1e-6 of its largest entry) or with a negative diagonal, or a count below 2.
        """
        mu, sigma = _checked_moments(mu, sigma)
        if count is not None:
            count = _checked_count(count)
        statistics = cls(len(mu))
        statistics._given = (mu, sigma, count)
        return statistics

    @classmethod
    def merged(cls, parts: Iterable[FeatureStatistics]) -> FeatureStatistics:
        """Statistics of the union of the parts, which stay as they are."""
        parts = list(parts)
        if not parts:
            raise StatisticsError("no statistics to merge: give at least one part")
        result = cls()
        for part in parts:
            result.merge(part)
        return result

    @property
    def dim(self) -> int | None:
        """Feature dimension d; None before the first features."""
        return self._dim

    @property
    def count(self) -> int | None:
        """Number of features seen; None when it is unknown, as in TTUR's bare files."""
        if self._given is not None:
            return self._given[2]
        return self._buffered + (self._folded.count if self._folded else 0)

    @property
    def mean(self) -> np.ndarray:
        """Mean, float64 [d]. Raises StatisticsError while there are no features."""
        if self._given is not None:
            return self._given[0].copy()
        if not self.count:
            raise StatisticsError("statistics of no features have no mean: update them first")
        if not self._buffer:
            return self._folded.mean.copy()
        mean = self._pending().mean(axis=0)
        if self._folded is not None:
            first = self._folded.mean
            mean = first + (mean - first) * (self._buffered / self.count)
        return mean

    @property
    def covariance(self) -> np.ndarray:
        """Unbiased covariance (ddof=1), float64 [d, d]. Raises StatisticsError below 2 features."""
        if self._given is not None:
            return self._given[1].copy()
        self._require_two()
        # Not folded for good: looking at statistics must not change them.
        folded = None if self._folded is None else _merged(None, self._folded)
        moments = _with_rows(folded, self._pending()) if self._buffer else folded
        return np.divide(moments.scatter, moments.count - 1, out=moments.scatter)

    @property
    def rows(self) -> np.ndarray | None:
        """A = (features - mean) / sqrt(N - 1), float64 [N, d], so that A.T @ A is the covariance.

        None once N exceeds d, or when the statistics come from a file.
        Raises StatisticsError below 2 features.
        """
        if self._given is not None or self._folded is not None:
            return None
        self._require_two()
        rows = self._pending()
        centred = rows - rows.mean(axis=0)
        centred /= math.sqrt(self._buffered - 1)
        return centred

    def update(self, features: np.ndarray) -> FeatureStatistics:
        """Adds a batch of features [B, d], any real dtype; returns self.

        Raises:
            StatisticsError: not two-dimensional, another d than before, a dtype that is no real
                number, or NaN or infinity. Statistics stay as they were then.
        """
        features = np.asarray(features)
        if features.ndim != 2 or features.shape[1] < 1:
            raise StatisticsError(f"features of shape {features.shape}: expected [B, d]")
        if features.dtype.kind in "cbOSUMm":
            raise StatisticsError(f"features of dtype {features.dtype}: expected real numbers")
        if self._dim is not None and features.shape[1] != self._dim:
            raise StatisticsError(
                f"features of dimension {features.shape[1]} in statistics of dimension "
                f"{self._dim}: use one extractor for all of them"
            )
        # Slices, so that one huge batch needs no more memory than many small ones.
        slices = [features[i : i + _CHUNK] for i in range(0, len(features), _CHUNK)]
        finite = [np.isfinite(rows.astype(np.float64)).all(axis=1) for rows in slices]
        bad = len(features) - sum(int(rows.sum()) for rows in finite)
        if bad:
            raise StatisticsError(
                f"{bad} of {len(features)} feature rows hold NaN or infinity: check the "
                "extractor's weights and the images of this batch"
            )
        self._open()
        self._dim = features.shape[1]
        for rows in slices:
            self._append(rows.astype(np.float64))  # always a copy: callers reuse their batches
        return self

    def merge(self, other: FeatureStatistics) -> FeatureStatistics:
        """Adds the features behind `other`, which stays as it is; returns self.

        Metadata: what both know must agree in fingerprint; statistics that are still empty take
        over what they lack; where only one side knows its origin, the union's is unknown.

        Raises:
            StatisticsError: different dimensions or fingerprints, or an unknown count.
        """
        if other.dim is None:
            return self
        if self.dim is not None:
            _check_same_dim(self, other)
        _check_same_extractor(self, other)
        for side in (self, other):
            if side.count is None:
                raise StatisticsError(
                    "statistics of an unknown count cannot be merged: compute them again from "
                    "the images"
                )
        self._merge_metadata(other)
        self._open()
        self._dim = other.dim
        # Listed first, so that statistics can be merged with themselves.
        folded, buffer = other._opened(), list(other._buffer)
        if folded is not None:
            self._fold()
            self._folded = _merged(self._folded, folded)
        for rows in buffer:
            self._append(rows)
        return self

    def save(self, path: str | os.PathLike, more: Mapping[str, np.ndarray] | None = None) -> None:
        """Writes an npz at exactly `path`, whole or not at all.

        Keys: TTUR's `mu` float64 [d] and `sigma` float64 [d, d], so that peers read it; `format`;
        and, where known, `count`, `fingerprint`, `extractor`, and `preprocessing` and `versions`
        as JSON. No pickled objects, and no features of single images, unless `more` brings them
        (`feature_files.save_features`).

        Raises:
            StatisticsError: fewer than 2 features, metadata that is no JSON, or a failed write.
        """
        path = Path(path)
        arrays = {"mu": self.mean, "sigma": self.covariance, "format": np.int64(FILE_FORMAT)}
        if self.count is not None:
            arrays["count"] = np.int64(self.count)
        for key in _TEXTS:
            if getattr(self, key) is not None:
                arrays[key] = np.array(str(getattr(self, key)))
        for key in _JSONS:
            if getattr(self, key) is not None:
                try:
                    text = json.dumps(getattr(self, key), sort_keys=True)
                except (TypeError, ValueError) as error:
                    raise StatisticsError(
                        f"{key} cannot be written as JSON ({error}): use strings, numbers, "
                        "lists and dicts"
                    ) from error
                arrays[key] = np.array(text)
        write_npz(path, arrays | dict(more or {}))

    @classmethod
    def load(cls, path: str | os.PathLike) -> FeatureStatistics:
        """Reads an npz of this class, or one of TTUR's and pytorch-fid's with mu and sigma alone.

        The latter come back with count and fingerprint None. Nothing is unpickled.

        Raises:
            StatisticsError: missing, not an npz, truncated, without `mu` or `sigma`, holding
                pickled objects, or statistics that `from_moments` refuses. The file is named.
        """
        path = Path(path)
        arrays = read_npz(path, _KEYS, _EXPECTED)
        missing = [key for key in ("mu", "sigma") if key not in arrays]
        if missing:
            found = ", ".join(sorted(arrays)[:8]) or "none"
            raise StatisticsError(
                f"{path}: no {' and no '.join(map(repr, missing))} in it (keys found: {found}): "
                f"{_EXPECTED}"
            )
        try:
            file_format = int(_scalar(arrays, "format", "iu") or FILE_FORMAT)
            if file_format > FILE_FORMAT:
                raise StatisticsError(f"format {file_format} is newer than this fid_med: update it")
            statistics = cls.from_moments(
                arrays["mu"], arrays["sigma"], _scalar(arrays, "count", "iuf")
            )
            for key in _TEXTS:
                setattr(statistics, key, _scalar(arrays, key, "U"))
            for key in _JSONS:
                text = _scalar(arrays, key, "U")
                setattr(statistics, key, None if text is None else _parsed_json(key, text))
        except StatisticsError as error:
            raise StatisticsError(f"{path}: {error}") from error
        return statistics

    def _require_two(self) -> None:
        if self.count < 2:
            raise StatisticsError(
                f"a covariance needs at least 2 features, there are {self.count}: add images"
            )

    def _pending(self) -> np.ndarray:
        """The rows that are not folded yet, float64 [n, d], joined once."""
        if len(self._buffer) > 1:
            self._buffer = [np.concatenate(self._buffer)]
        return self._buffer[0]

    def _opened(self) -> _Moments | None:
        """The folded part, from given moments too."""
        if self._given is None:
            return self._folded
        mu, sigma, count = self._given
        if count is None:
            raise StatisticsError(
                "statistics of an unknown count cannot be added to: compute them again from the "
                "images"
            )
        return _Moments(count, mu, sigma * (count - 1))

    def _open(self) -> None:
        self._folded, self._given = self._opened(), None

    def _append(self, rows: np.ndarray) -> None:
        if not len(rows):
            return
        limit = self._dim if self._folded is None else _CHUNK
        if self._buffered + len(rows) > limit:
            self._fold()
            # Folding the first rows shows that there are more than d of them: these follow.
        self._buffer.append(rows)
        self._buffered += len(rows)
        if self._folded is None and self._buffered > self._dim:
            self._fold()

    def _fold(self) -> None:
        if self._buffer:
            joined = len(self._buffer) > 1  # and then nobody else's
            rows = self._pending()
            self._folded = _with_rows(self._folded, rows, rows if joined else None)
            self._buffer, self._buffered = [], 0

    def _merge_metadata(self, other: FeatureStatistics) -> None:
        keys = _TEXTS + _JSONS
        if not self.count:
            for key in keys:
                if getattr(self, key) is None:
                    setattr(self, key, getattr(other, key))
        elif other.count:
            for key in keys:
                if getattr(self, key) != getattr(other, key):
                    setattr(self, key, None)


def check_comparable(a: FeatureStatistics, b: FeatureStatistics) -> list[str]:
    """Whether a distance between two statistics means anything; returns warnings.

    Raises:
        StatisticsError: different dimensions, or fingerprints of different extractors.
    """
    _check_same_dim(a, b)
    _check_same_extractor(a, b)
    unknown = [side for side in (a, b) if side.fingerprint is None]
    if not unknown:
        return []
    which = "both sides are" if len(unknown) == 2 else "one side is"
    return [
        f"statistics of unknown origin: {which} without a fingerprint, so nobody can tell whether "
        "they come from the same extractor and preprocessing"
    ]


def _check_same_dim(a: FeatureStatistics, b: FeatureStatistics) -> None:
    if a.dim != b.dim:
        raise StatisticsError(
            f"statistics of dimension {a.dim} and of dimension {b.dim} cannot go together: "
            "compute both with the same extractor"
        )


def _check_same_extractor(a: FeatureStatistics, b: FeatureStatistics) -> None:
    if None not in (a.fingerprint, b.fingerprint) and a.fingerprint != b.fingerprint:
        names = [f"{s.extractor or 'unnamed'} ({s.fingerprint[:12]})" for s in (a, b)]
        raise StatisticsError(
            f"statistics of different extractors, {names[0]} and {names[1]}: compute both with "
            "the same extractor and preprocessing"
        )


def _real_array(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise StatisticsError(f"{name} is of dtype {array.dtype}: expected real numbers")
    array = array.astype(np.float64)
    bad = np.count_nonzero(~np.isfinite(array))
    if bad:
        raise StatisticsError(
            f"{bad} of {array.size} entries of {name} are NaN or infinite: compute it again"
        )
    return array


def _checked_moments(mu: Any, sigma: Any) -> tuple[np.ndarray, np.ndarray]:
    mu, sigma = np.atleast_1d(_real_array("mu", mu)), np.atleast_2d(_real_array("sigma", sigma))
    if mu.ndim != 1 or not mu.size or sigma.shape != (mu.size, mu.size):
        raise StatisticsError(
            f"mu of shape {mu.shape} and sigma of shape {sigma.shape}: expected [d] and [d, d]"
        )
    largest = np.abs(sigma).max()
    asymmetry = np.abs(sigma - sigma.T).max()
    if asymmetry > _SIGMA_TOLERANCE * largest:
        raise StatisticsError(
            f"sigma is not symmetric: entries differ from the transpose's by up to {asymmetry:.3g} "
            f"where {_SIGMA_TOLERANCE:g} of the largest, {largest:.3g}, is allowed: expected is a "
            "covariance"
        )
    lowest = sigma.diagonal().min()
    if lowest < -_SIGMA_TOLERANCE * largest:
        raise StatisticsError(
            f"sigma has a negative variance, {lowest:.3g}, on its diagonal: expected is a "
            "covariance"
        )
    return mu, (sigma + sigma.T) / 2


def _checked_count(count: Any) -> int:
    if count != int(count) or count < 2:
        raise StatisticsError(f"count {count}: expected a whole number of at least 2 images")
    return int(count)


def _scalar(arrays: dict[str, np.ndarray], key: str, kinds: str) -> Any:
    """The one value under `key`; None if the key is absent."""
    if key not in arrays:
        return None
    array = np.asarray(arrays[key])
    if array.size != 1 or array.dtype.kind not in kinds:
        raise StatisticsError(
            f"{key} of dtype {array.dtype} and shape {array.shape}: expected one "
            f"{'text' if kinds == 'U' else 'number'}"
        )
    value = array.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise StatisticsError(f"{key} is {value}: expected a finite number")
    return value


def _parsed_json(key: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StatisticsError(f"{key} is no JSON ({error}): compute the file again") from error
    if not isinstance(value, dict):
        raise StatisticsError(f"{key} is {type(value).__name__}: expected a JSON object")
    return value
