"""Storage of features within a run, and a cache between runs."""

import collections
import contextlib
import hashlib
import json
import pathlib
import re
import secrets
import tempfile
import threading
import time
from typing import NamedTuple

import numpy as np

from fid_med.data.appearance import ORDINARY
from fid_med.errors import StatisticsError
from fid_med.metrics.npz import check_checksum, checksum, read_npz, write_npz
from fid_med.utils.files import check_writable, versions

MEMORY_LIMIT = 256 << 20
_FORMAT = 1
_SHARD_ROWS = 256
_SHARD_SECONDS = 5.0
_SHARDS_IN_MEMORY = 4
_SHARD_NAME = re.compile(r"[0-9a-f]{32}\.npz")
_ARRAYS = ("keys", "features", "digests", "appearance", "checksum")
# Packages that do not affect features: a new version of these must not cost a new run.
_INDIFFERENT = ("python", "numpy", "scipy")


class FeatureStore:
    """Rows of float32, gathered batch by batch and kept on disk beyond a stated size.

    The file has no name and disappears with the process.

    Args:
      dim: d, the length of a row.
      memory_limit: bytes kept in memory before all rows move to a file; 256 MB are 32,768 rows of
        2,048.
      folder: folder of that file; by default the system's folder for temporary files.
    """

    def __init__(self, dim: int, memory_limit: int = MEMORY_LIMIT, folder=None):
        self._dim, self._limit, self._folder = dim, memory_limit, folder
        self._blocks: list[np.ndarray] = []
        self._bytes = 0
        self._file = None
        self.count = 0

    @property
    def size(self) -> int:
        """Bytes of all rows."""
        return self.count * self._dim * 4

    def append(self, rows: np.ndarray) -> None:
        """Adds float32 [n, d]; the array may be reused afterwards."""
        self.count += len(rows)
        if self._file is not None:
            self._file.write(np.ascontiguousarray(rows, np.float32))
            return
        self._blocks.append(np.array(rows, np.float32))
        self._bytes += self._blocks[-1].nbytes
        if self._bytes > self._limit:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
            for block in self._blocks:
                self._file.write(block)
            self._blocks = []

    def array(self) -> np.ndarray:
        """All rows, float32 [N, d]; a read-only map of the file where there is one."""
        if self._file is None:
            self._blocks = [np.concatenate([np.empty((0, self._dim), np.float32), *self._blocks])]
            return self._blocks[0]
        self._file.flush()
        return np.memmap(self._file, np.float32, "r", shape=(self.count, self._dim))


class CachedImage(NamedTuple):
    """What the cache holds of a file.

    Attributes:
      features: float32 [d].
      digests: of its pixels, in hex.
      appearance: as `data.appearance.appearance` returns it; `ORDINARY` in files of an earlier
        version, which do not hold it.
    """

    features: np.ndarray
    digests: tuple[str, ...]
    appearance: int = ORDINARY


class FeatureCache:
    """Features by the content of image files, so that a killed run continues where it was.

    Everything that affects a feature (the extractor's fingerprint, the hashers, the versions of
    fid_med, TensorFlow, Keras and Pillow) determines one folder below `folder`. It holds shards:
    npz files of up to 256 images, with random names. A shard is written five seconds after its
    first image was computed, or earlier, so that a killed run loses no more. Two processes never
    write the same file; what both computed is merely stored twice. Keys are hashes; no path or file
    name is written. A shard that is damaged, has a wrong checksum or holds NaN is removed with a
    warning, and its images are computed again. Shards of earlier versions have no checksum and are
    used if every number is finite.

    The keys of all shards are held in memory (200 bytes per image), and the features of four
    shards.

    Args:
      folder: path of the cache, made where it is missing.
      fingerprint: `cache_key` of the extractor.
      dim: d, the number of features.
      hasher_keys: keys of the hashers whose digests are kept with the features.

    Raises:
      OSError: the folder cannot be written to.
    """

    def __init__(self, folder, fingerprint: str, dim: int, hasher_keys: tuple[str, ...] = ()):
        decisive = {k: v for k, v in versions().items() if k not in _INDIFFERENT}
        identity = json.dumps([_FORMAT, fingerprint, dim, hasher_keys, decisive], sort_keys=True)
        self._folder = pathlib.Path(folder) / hashlib.sha256(identity.encode()).hexdigest()[:32]
        self._dim, self._digests = dim, len(hasher_keys)
        self._unsaved: str | None = None
        self._damaged: list[str] = []
        self._lock = threading.Lock()
        self._index: dict[bytes, tuple[str, int]] = {}
        self._loaded: collections.OrderedDict[str, dict] = collections.OrderedDict()
        self._new: dict[bytes, CachedImage] = {}
        self._oldest = 0.0  # when the first of them was computed
        check_writable(self._folder / "shard.npz")
        for path in sorted(self._folder.glob("*.npz")):
            if not path.name.startswith("."):
                self._add_keys(path.name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.flush()

    def __len__(self):
        return len(self._index)

    @property
    def warnings(self) -> list[str]:
        """What the reader of the numbers should know, one line for each kind of trouble."""
        found = [self._unsaved] if self._unsaved else []
        if self._damaged:
            others = f" and {len(self._damaged) - 1} more" if len(self._damaged) > 1 else ""
            found.append(
                f"cache: {self._damaged[0]}{others} damaged; these images are computed again"
            )
        return found

    def get(self, key: bytes) -> CachedImage | None:
        """Returns the cached features of a file by its SHA-256, or None; thread-safe."""
        with self._lock:
            place = self._index.get(key)
            shard = place and self._shard(place[0])
            if not shard:
                return None
            row = place[1]
            digests = tuple(bytes(x).hex() for x in shard["digests"][row])
            appearance = int(shard["appearance"][row]) if "appearance" in shard else ORDINARY
            return CachedImage(shard["features"][row], digests, appearance)

    def put(
        self,
        key: bytes,
        features: np.ndarray,
        digests: tuple[str, ...],
        appearance: int = ORDINARY,
    ) -> None:
        """Keeps the features [d] of a file. They are written in shards, or when flushed."""
        if np.isfinite(features).all():
            if not self._new:
                self._oldest = time.monotonic()
            self._new[key] = CachedImage(np.array(features, np.float32), digests, appearance)
            waited = time.monotonic() - self._oldest
            if len(self._new) >= _SHARD_ROWS or waited >= _SHARD_SECONDS:
                self.flush()

    def flush(self) -> None:
        """Writes what is not yet on disk. A full disk is only a warning: the run can continue."""
        if not self._new:
            return
        entries = self._new.values()
        digests = [bytes.fromhex("".join(x.digests)) for x in entries]
        arrays = {
            "keys": np.frombuffer(b"".join(self._new), np.uint8).reshape(-1, 32),
            "features": np.stack([x.features for x in entries]),
            "digests": np.frombuffer(b"".join(digests), np.uint8).reshape(
                len(entries), self._digests, 16
            ),
            "appearance": np.array([x.appearance for x in entries], np.uint8),
        }
        arrays["checksum"] = checksum(arrays, self._folder.name)
        try:
            write_npz(self._folder / f"{secrets.token_hex(16)}.npz", arrays)
        except StatisticsError as error:
            self._unsaved = self._unsaved or f"cache: features could not be saved ({error})"
        self._new = {}

    def _add_keys(self, name):
        arrays = self._read(name, ("keys",))
        if arrays:
            for row, key in enumerate(arrays["keys"]):
                self._index[key.tobytes()] = (name, row)

    def _shard(self, name):
        if name not in self._loaded:
            shard = self._read(name, _ARRAYS)
            if shard is None:
                self._index = {k: v for k, v in self._index.items() if v[0] != name}
                return None
            self._loaded[name] = shard
            while len(self._loaded) > _SHARDS_IN_MEMORY:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(name)
        return self._loaded[name]

    def _read(self, name, wanted):
        """The wanted arrays of a shard, or None where it is damaged; the checksum is of all."""
        try:
            arrays = read_npz(self._folder / name, wanted, "a shard of features")
            rows = len(arrays["keys"])
            form = {
                "keys": (np.uint8, (rows, 32)),
                "features": (np.float32, (rows, self._dim)),
                "digests": (np.uint8, (rows, self._digests, 16)),
                "appearance": (np.uint8, (rows,)),
                "checksum": (np.uint8, (32,)),
            }
            optional = {"appearance", "checksum"} - set(arrays)  # of earlier versions
            for key in set(wanted) - optional:
                if (arrays[key].dtype, arrays[key].shape) != form[key]:
                    raise StatisticsError(f"{name}: not a shard of this cache")
            if wanted == _ARRAYS:
                self._verify(name, arrays)
        except (StatisticsError, KeyError, TypeError):
            self._damaged.append(name)
            # Else it would hide the rows that replace its own, and be reported again by every run.
            path = self._folder / name
            if _SHARD_NAME.fullmatch(name) and path.is_file():
                with contextlib.suppress(OSError):
                    path.unlink()
            return None
        return arrays

    def _verify(self, name, arrays):
        if not np.isfinite(arrays["features"]).all():
            raise StatisticsError(f"{name}: holds NaN or infinity")
        check_checksum(arrays, self._folder.name)
