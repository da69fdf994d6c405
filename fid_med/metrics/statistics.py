"""Count, mean and covariance of features: updated in batches, merged, saved and loaded."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fid_med.errors import StatisticsError
from fid_med.metrics.input_checks import check_finite_rows, check_matrix, check_range, real_array
from fid_med.metrics.npz import read_npz, read_shapes, write_npz

FILE_FORMAT = 1
# Below this many images per side a FID of 2,048 features is known to be biased (Heusel et al. 2017
# recommend at least 10,000; with fewer than d images the covariance has no full rank).
SMALL_SAMPLE = 2048
_TEXTS = ("fingerprint", "extractor")
_JSONS = ("preprocessing", "versions")
_KEYS = ("mu", "sigma", "count", "distinct", "format", *_TEXTS, *_JSONS)

# Rows that are collected for one update of the [d, d] scatter, so that batches of one image cost
# what large batches do; also the number of columns that are updated at once.
_CHUNK = 512

# Share of sigma's largest entry. Larger asymmetry, or a more negative variance, is an error; the
# rounding of float32 files is below it.
_SIGMA_TOLERANCE = 1e-6

_LARGEST_COUNT = 2**53  # whole numbers up to here are exact in float64

_EXPECTED = (
    "expected an npz with 'mu' [d] and 'sigma' [d, d], as FeatureStatistics.save, TTUR and "
    "pytorch-fid write it"
)
_OR_IMAGES = "; or, for an array of images, the key arr_0, as np.savez(path, images) writes it"


class _Moments(NamedTuple):
    count: int
    mean: np.ndarray  # [d]
    scatter: np.ndarray  # [d, d], the sum of outer products of the centred rows


def _with_rows(a: _Moments | None, rows: np.ndarray, out: np.ndarray | None = None) -> _Moments:
    """Adds rows [n, d] to moments, in two passes, which are accurate for means far from zero.

    The scatter of `a` is overwritten with that of the union. The centred rows are written to
    `out`, which may be `rows`, so that no further [d, d] array is allocated.
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
    """Merges two moments into new arrays."""
    scatter = b.scatter.copy()
    if a is not None:
        scatter += a.scatter
    return _union(a, b.count, b.mean, scatter)


def _union(a: _Moments | None, count: int, mean: np.ndarray, scatter: np.ndarray) -> _Moments:
    """Merges `a` with `count` further rows: Chan, Golub & LeVeque 1983, eq. 2.1.

    Args:
      a: the first moments, or None.
      count: the number of further rows.
      mean: the mean of the further rows, [d].
      scatter: the sum of both scatters, [d, d]. It is overwritten with that of the union.
    """
    if a is None:
        return _Moments(count, mean, scatter)
    total = a.count + count
    delta = mean - a.mean
    # Both factors of the outer product are scaled, so that it is symmetric to the last bit.
    scaled = delta * math.sqrt(a.count * count / total)
    for i in range(0, len(scaled), _CHUNK):  # in strips: no further [d, d]
        scatter[i : i + _CHUNK] += np.outer(scaled[i : i + _CHUNK], scaled)
    return _Moments(total, a.mean + delta * (count / total), scatter)


def _digests(rows: Iterable[np.ndarray], seen: Iterable[bytes] = ()) -> set[bytes] | None:
    """Adds the hashes of rows to those of others; None once there are `SMALL_SAMPLE`."""
    digests = set(seen)
    for row in rows:
        if len(digests) == SMALL_SAMPLE:
            break
        digests.add(hashlib.blake2b((row + 0.0).tobytes(), digest_size=16).digest())
    return digests if len(digests) < SMALL_SAMPLE else None


class FeatureStatistics:
    """Count, mean and unbiased covariance of features, in float64 and bounded memory.

    Features are added in batches by `update`, and statistics are combined by `merge`. While there
    are at most d features they are kept (see `rows`), because they give the exact Fréchet distance
    at small N. Beyond that, only count, mean and scatter are kept, updated pairwise (Chan, Golub &
    LeVeque, "Algorithms for Computing the Sample Variance", The American Statistician 37(3), 1983,
    eq. 2.1). Neither the size of the batches nor the order of merging changes the result by more
    than rounding.

    Args:
      dim: feature dimension d, 1 or more; None takes it from the first features.

    Attributes:
      fingerprint: sha256 of the extractor's weights and preprocessing; None if unknown.
      extractor: name of the extractor, or None.
      preprocessing: steps from pixels to network input as a dict of JSON types, or None.
      versions: versions of the libraries as a dict of JSON types, or None.

    Example:

    ```python
    import numpy as np
    from fid_med import FeatureStatistics

    rng = np.random.default_rng(0)
    statistics = FeatureStatistics()
    for _ in range(3):
        statistics.update(rng.normal(size=(100, 8)))  # a batch of features, [100, 8]
    assert statistics.count == 300
    assert statistics.mean.shape == (8,)
    assert statistics.covariance.shape == (8, 8)
    ```
    """

    def __init__(self, dim: int | None = None):
        if dim is not None and dim < 1:
            raise StatisticsError(f"feature dimension {dim}: expected 1 or more")
        self._dim = dim
        self._folded: _Moments | None = None
        self._buffer: list[np.ndarray] = []
        self._buffered = 0
        # Hashes of the different folded rows, or None where those are many or unknown.
        self._seen: set[bytes] | None = set()
        # mu, sigma, count and distinct from a file: returned unchanged until features are added.
        self._given: tuple[np.ndarray, np.ndarray, int | None, int | None] | None = None
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
        """Returns statistics of features [N, d] of any real dtype."""
        return cls().update(features)

    @classmethod
    def from_moments(
        cls,
        mu: np.ndarray,
        sigma: np.ndarray,
        count: int | None = None,
        distinct: int | None = None,
    ) -> FeatureStatistics:
        """Returns statistics with a given mean and covariance.

        Args:
          mu: mean, [d].
          sigma: unbiased covariance (ddof=1), [d, d].
          count: number of images, 2 or more. None if it is unknown: such statistics can be
            compared, but neither updated nor merged.
          distinct: number of different images among them, where it is known.

        Raises:
          StatisticsError: wrong shapes or dtype, NaN or infinity, sigma not symmetric (beyond
            1e-6 of its largest entry) or with a negative diagonal, a count below 2, or more
            different images than images.
        """
        mu, sigma = _checked_moments(mu, sigma)
        if count is not None:
            count = _checked_count(count)
        if distinct is not None and not 1 <= distinct <= (count or 0):
            raise StatisticsError(f"distinct {distinct}: expected 1 to {count or 'a known count'}")
        statistics = cls(len(mu))
        statistics._given, statistics._seen = (mu, sigma, count, distinct), None
        return statistics

    @classmethod
    def merged(cls, parts: Iterable[FeatureStatistics]) -> FeatureStatistics:
        """Returns statistics of the union of the parts. The parts are not changed."""
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
        """Number of features; None if it is unknown, as in TTUR's files."""
        if self._given is not None:
            return self._given[2]
        return self._buffered + (self._folded.count if self._folded else 0)

    @property
    def distinct(self) -> int | None:
        """Number of different features, if below `SMALL_SAMPLE`; None if more, or unknown.

        Copies of an image have the same features, in whatever format they are saved.
        """
        if self._given is not None:
            return self._given[3]
        found = None if self._seen is None else _digests(itertools.chain(*self._buffer), self._seen)
        return None if found is None else len(found)

    @property
    def mean(self) -> np.ndarray:
        """Mean, float64 [d]. Raises StatisticsError if there are no features."""
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
        # A copy is folded: reading the covariance must not change the statistics.
        folded = None if self._folded is None else _merged(None, self._folded)
        moments = _with_rows(folded, self._pending()) if self._buffer else folded
        return np.divide(moments.scatter, moments.count - 1, out=moments.scatter)

    @property
    def trace(self) -> float:
        """Total variance: the covariance's trace. Raises StatisticsError below 2 features."""
        rows = self.rows
        if rows is None:
            return float(np.trace(self.covariance))
        return float(np.einsum("ij,ij", rows, rows))

    @property
    def rows(self) -> np.ndarray | None:
        """A = (features - mean) / sqrt(N - 1), float64 [N, d]; A.T @ A is the covariance.

        None if N exceeds d, or if the statistics were loaded from a file.
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
        """Adds a batch of features.

        Args:
          features: [B, d], any real dtype.

        Returns:
          The statistics themselves.

        Raises:
          StatisticsError: not two-dimensional, another d than before, a dtype that is not a real
            number, NaN or infinity, or numbers whose squares overflow or all become 0. The
            statistics are not changed then.
        """
        features = np.asarray(features)
        check_matrix(features, "features", "[B, d]")
        if self._dim is not None and features.shape[1] != self._dim:
            raise StatisticsError(
                f"features of dimension {features.shape[1]} in statistics of dimension "
                f"{self._dim}: use one extractor for all of them"
            )
        # Slices, so that one huge batch needs no more memory than many small ones.
        slices = [features[i : i + _CHUNK] for i in range(0, len(features), _CHUNK)]
        if not all(np.isfinite(rows.astype(np.float64)).all() for rows in slices):
            check_finite_rows(features.astype(np.float64), "features")
        for rows in slices:
            check_range(rows.astype(np.float64), "features")
        self._open()
        self._dim = features.shape[1]
        for rows in slices:
            self._append(rows.astype(np.float64))  # a copy: the caller may reuse its batch
        return self

    def merge(self, other: FeatureStatistics) -> FeatureStatistics:
        """Adds the features of other statistics, which are not changed.

        Fingerprints that both know must agree. Empty statistics take over the metadata that they
        lack. Otherwise, metadata that differ become None.

        Returns:
          The statistics themselves.

        Raises:
          StatisticsError: different dimensions or fingerprints, or an unknown count.
        """
        if other.dim is None:
            return self
        if self.dim is not None:
            _check_same_dim(self, other)
        _check_same_extractor(self, other)
        for statistics in (self, other):
            if statistics.count is None:
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
            known = None not in (self._seen, other._seen)
            self._seen = _digests((), self._seen | other._seen) if known else None
        for rows in buffer:
            self._append(rows)
        return self

    def save(self, path: str | os.PathLike, more: Mapping[str, np.ndarray] | None = None) -> None:
        """Writes an npz file at exactly `path`, completely or not at all.

        Its keys are TTUR's `mu`, float64 [d], and `sigma`, float64 [d, d], which other programs
        read; `format`; and, where known, `count`, `distinct`, `fingerprint`, `extractor`, and
        `preprocessing` and `versions` as JSON. It holds no pickled objects.

        Args:
          path: the file.
          more: further arrays by key, as `feature_files.save_features` adds.

        Raises:
          StatisticsError: fewer than 2 features, metadata that are not JSON types, or a failed
            write.
        """
        path = Path(path)
        arrays = {"mu": self.mean, "sigma": self.covariance, "format": np.int64(FILE_FORMAT)}
        for key in ("count", "distinct"):
            if getattr(self, key) is not None:
                arrays[key] = np.int64(getattr(self, key))
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
        """Reads an npz file of this class, or one of TTUR or pytorch-fid with mu and sigma only.

        Count and fingerprint of the latter are None. Nothing is unpickled.

        Raises:
          StatisticsError: no such file, not an npz, a truncated file, no `mu` or `sigma`,
            pickled objects, or moments that `from_moments` rejects. The message names the
            file.
        """
        path = Path(path)
        shapes = read_shapes(path) if path.is_file() else {}
        if {"mu", "sigma"} <= shapes.keys():
            _check_shapes(path, shapes["mu"], shapes["sigma"])  # before sigma is in memory
        arrays = read_npz(path, _KEYS, _EXPECTED)
        missing = [key for key in ("mu", "sigma") if key not in arrays]
        if missing:
            found = ", ".join(sorted(arrays)[:8]) or "none"
            raise StatisticsError(
                f"{path}: no {' and no '.join(map(repr, missing))} in it (keys found: {found}): "
                f"{_EXPECTED}" + ("" if len(missing) == 1 else _OR_IMAGES)
            )
        try:
            file_format = int(_scalar(arrays, "format", "iu") or FILE_FORMAT)
            if file_format > FILE_FORMAT:
                raise StatisticsError(f"format {file_format} is newer than this fid_med: update it")
            statistics = cls.from_moments(
                arrays["mu"],
                arrays["sigma"],
                _scalar(arrays, "count", "iuf"),
                _scalar(arrays, "distinct", "iu"),
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
        """Returns the rows that are not folded yet, float64 [n, d], concatenated once."""
        if len(self._buffer) > 1:
            self._buffer = [np.concatenate(self._buffer)]
        return self._buffer[0]

    def _opened(self) -> _Moments | None:
        """Returns the folded part; given moments are converted to it."""
        if self._given is None:
            return self._folded
        mu, sigma, count, _ = self._given
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
            # Folding the first rows also decides that later rows are not kept.
        self._buffer.append(rows)
        self._buffered += len(rows)
        if self._folded is None and self._buffered > self._dim:
            self._fold()

    def _fold(self) -> None:
        if self._buffer:
            if self._seen is not None:
                self._seen = _digests(itertools.chain(*self._buffer), self._seen)
            joined = len(self._buffer) > 1  # then `_pending` makes a new array
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
    """Checks that the Fréchet distance between two statistics is meaningful.

    Returns:
      A list of warnings: one if a fingerprint is unknown, otherwise none.

    Raises:
      StatisticsError: different dimensions, or fingerprints of different extractors.
    """
    _check_same_dim(a, b)
    _check_same_extractor(a, b)
    unknown = sum(statistics.fingerprint is None for statistics in (a, b))
    if not unknown:
        return []
    which = "both sides have" if unknown == 2 else "one side has"
    return [
        f"statistics of unknown origin: {which} no fingerprint, so it cannot be checked that both "
        "come from the same extractor and preprocessing"
    ]


def _check_same_dim(a: FeatureStatistics, b: FeatureStatistics) -> None:
    if a.dim != b.dim:
        raise StatisticsError(
            f"statistics of dimension {a.dim} and of dimension {b.dim} cannot be combined: "
            "compute both with the same extractor"
        )


def _check_same_extractor(a: FeatureStatistics, b: FeatureStatistics) -> None:
    if None not in (a.fingerprint, b.fingerprint) and a.fingerprint != b.fingerprint:
        names = [f"{s.extractor or 'unnamed'} ({s.fingerprint[:12]})" for s in (a, b)]
        raise StatisticsError(
            f"statistics of different extractors, {names[0]} and {names[1]}: compute both with "
            "the same extractor and preprocessing"
        )


def _check_shapes(path: Path, mu: tuple[int, ...], sigma: tuple[int, ...]) -> None:
    if math.prod(sigma) != math.prod(mu) ** 2:
        raise StatisticsError(
            f"{path}: mu of shape {mu} and sigma of shape {sigma}: expected [d] and [d, d]"
        )


def _checked_moments(mu: Any, sigma: Any) -> tuple[np.ndarray, np.ndarray]:
    mu, sigma = np.atleast_1d(real_array(mu, "mu")), np.atleast_2d(real_array(sigma, "sigma"))
    if mu.ndim != 1 or not mu.size or sigma.shape != (mu.size, mu.size):
        raise StatisticsError(
            f"mu of shape {mu.shape} and sigma of shape {sigma.shape}: expected [d] and [d, d]"
        )
    check_range(mu, "numbers of mu")
    check_range(sigma, "numbers of sigma", 1e300)
    largest = np.abs(sigma).max()
    asymmetry = np.abs(sigma - sigma.T).max()
    if asymmetry > _SIGMA_TOLERANCE * largest:
        raise StatisticsError(
            f"sigma is not symmetric: it differs from its transpose by up to {asymmetry:.3g}, more "
            f"than {_SIGMA_TOLERANCE:g} of the largest, {largest:.3g}: expected a covariance"
        )
    lowest = sigma.diagonal().min()
    if lowest < -_SIGMA_TOLERANCE * largest:
        raise StatisticsError(
            f"sigma has a negative variance, {lowest:.3g}, on its diagonal: expected a covariance"
        )
    return mu, (sigma + sigma.T) / 2


def _checked_count(count: Any) -> int:
    if count != int(count) or not 2 <= count <= _LARGEST_COUNT:
        raise StatisticsError(f"count {count}: expected a whole number of at least 2 images")
    return int(count)


def _scalar(arrays: dict[str, np.ndarray], key: str, kinds: str) -> Any:
    """Returns the one value under `key`; None if the key is absent."""
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
        raise StatisticsError(f"{key} is not JSON ({error}): compute the file again") from error
    if not isinstance(value, dict):
        raise StatisticsError(f"{key} is {type(value).__name__}: expected a JSON object")
    return value
