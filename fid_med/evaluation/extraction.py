"""Extracts features and statistics from a set of images, in bounded memory."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from fid_med.data.patients import patients_of
from fid_med.data.preprocessing import as_rgb_batch
from fid_med.data.sources import ImageSource, Prepared, prepared_images
from fid_med.errors import DataError
from fid_med.evaluation.account import ImageAccount, ImageSelection
from fid_med.evaluation.feature_cache import MEMORY_LIMIT, FeatureCache, FeatureStore
from fid_med.metrics.feature_files import save_features
from fid_med.metrics.pixel_copies import pixel_signatures
from fid_med.metrics.statistics import FeatureStatistics
from fid_med.utils.files import versions
from fid_med.utils.hashing import ImageHasher

# One key for all sets, so that an image is recognised in another set. These digests stay in memory,
# and in a cache that holds hashes of the files anyway.
PIXEL_HASHER = ImageHasher("00" * 16)
# Statistics take their rows in blocks of this size whatever the batch size: the last bit is then
# the same.
_BLOCK = 512
# For `keep_features`: keep the features of a set only if it turns out small, by the number of
# different images, or if memory holds them anyway.
IF_SMALL = "if small"
# The error for figures of images that are gone once they are read.
NOT_REPEATABLE = "--figures reads the images a second time; give a folder or an array"


@dataclasses.dataclass(frozen=True)
class ExtractionOptions:
    """How the features of a set of images are computed.

    Attributes:
      batch_size: number of images per pass through the network. No bit of a feature depends on it
        where this was measured (x86, oneDNN); elsewhere the rounding of float32 may.
      skip_unreadable: leave unreadable images out and count them; by default one is an error.
      exclude_training_images: leave out images that the extractor was trained or validated on.
      multi_frame: `refuse` DICOM files of several frames, or `unroll` them, each frame an image.
      cache_dir: folder of a `FeatureCache` for the files of a folder; None for no cache.

    Raises:
      DataError: a batch size below 1.
    """

    batch_size: int = 32
    skip_unreadable: bool = False
    exclude_training_images: bool = False
    multi_frame: str = "refuse"
    cache_dir: object = None

    def __post_init__(self):
        if self.batch_size < 1:
            raise DataError(f"batch size {self.batch_size}: expected at least 1")


@dataclasses.dataclass
class FeatureSet:
    """The features of one set of N images, their statistics, and the account of the images.

    Attributes:
      statistics: count, mean and covariance of the features, with the extractor's name.
      account: counts of the images, also of those left out.
      warnings: what the reader of a number must know.
      features: float32 [N, d], in memory up to a stated size and mapped from an unnamed file beyond
        it; None unless they are kept.
      names: of the images, files relative to their folder, in the order of the features; None
        where features are not kept, or come from a file.
      digests: hash of each image's own pixels (16 bytes in hex), equal for images that are equal
        pixel for pixel, in other sets too; None where `names` is.
      patients: the patient of each image, [N], or None where patients are unknown.
      source: the images, where they can be read again, else None.
      extractor: the `FeatureExtractor` of the features, where `source` is, for `heatmaps.png`.
      label: last part of the path of the folder or file, for pages that show its images; in no
        other result, because a folder may be named after a patient.
      depths: this set at every depth of the extractor, by number of features; empty unless all
        depths were computed.
    """

    statistics: FeatureStatistics
    account: ImageAccount
    warnings: list[str] = dataclasses.field(default_factory=list)
    features: np.ndarray | None = dataclasses.field(default=None, repr=False)
    names: list[str] | None = dataclasses.field(default=None, repr=False)
    digests: list[str] | None = dataclasses.field(default=None, repr=False)
    patients: np.ndarray | None = dataclasses.field(default=None, repr=False)
    source: ImageSource | None = dataclasses.field(default=None, repr=False)
    extractor: object = dataclasses.field(default=None, repr=False)
    label: str = ""
    depths: dict[int, "FeatureSet"] = dataclasses.field(default_factory=dict, repr=False)

    def at_depths(self, found: Mapping[int, tuple]) -> dict[int, "FeatureSet"]:
        """Makes `depths` from the statistics and features (or None) of each depth."""
        return {
            dims: dataclasses.replace(self, statistics=statistics, features=features, depths={})
            for dims, (statistics, features) in found.items()
        }

    @functools.cached_property
    def _loaders(self):
        return dict(self.source.loaders)

    def image(self, index: int) -> np.ndarray:
        """One image, read again from `source`: uint8 [H, W] or [H, W, 3]."""
        return self._loaders[self.names[index]]()

    def name(self, index: int) -> str | int:
        """An image's name, or its index where there are no names."""
        return self.names[index] if self.names else index

    def forget_features(self) -> None:
        """Drops what is only known of single images."""
        self.features = self.names = self.digests = self.patients = None
        self.source = self.extractor = None

    def save(self, path) -> None:
        """Writes the statistics to an npz file, and features and patients where they are kept.

        Features are written as float32, of every depth that was computed; patients as numbers.
        """
        if self.features is None:
            self.statistics.save(path)
            return
        depths = {dims: (x.statistics, x.features) for dims, x in self.depths.items()}
        save_features(path, self.statistics, self.features, self.patients, depths)

    def signatures(self) -> np.ndarray:
        """`pixel_signatures` of all images, read again from `source`."""
        return pixel_signatures(self.image(i) for i in range(len(self.features)))


def empty_statistics(extractor) -> FeatureStatistics:
    """Statistics of no features yet, with the name and fingerprint of their extractor."""
    statistics = FeatureStatistics(extractor.num_features)
    statistics.fingerprint = extractor.fingerprint
    statistics.extractor = extractor.name
    statistics.preprocessing = extractor.preprocessing.to_dict()
    statistics.versions = versions()
    return statistics


def extract(
    source: ImageSource,
    extractor,
    options: ExtractionOptions = ExtractionOptions(),
    *,
    keep_features: bool | str = False,
    all_depths: bool = False,
    patient_regex: str | None = None,
    is_training_set: bool = False,
    memory_limit: int = MEMORY_LIMIT,
) -> FeatureSet:
    """Computes the features of a set of images, and the statistics of the features.

    Images are decoded in threads while the network runs, and while it is compiled. Without
    `keep_features` the memory does not grow with the number of images.

    Args:
      source: images, as `open_source` returns them.
      extractor: a loaded `FeatureExtractor`.
      options: see `ExtractionOptions`.
      keep_features: keep the features of every image, with names, digests and patients. With
        `IF_SMALL`, they are not kept of a set that exceeds `memory_limit` and has many different
        images.
      all_depths: compute every depth of the extractor in the same pass; see `FeatureSet.depths`.
      patient_regex: finds the patient in a file's name, as for `patients_of`.
      is_training_set: these are the training images of a generator: images that the extractor was
        trained on are expected among them, and neither excluded nor warned about.
      memory_limit: bytes of features kept in memory before they are written to a file.

    Raises:
      DataError: fewer than two images, or a `patient_regex` that does not fit the file names.
      UnreadableImageError: an unreadable image, unless `options.skip_unreadable`.
      ExtractorError: `all_depths`, and the extractor lacks one.
    """
    check_patient_regex(source, patient_regex)
    selection = ImageSelection(
        source,
        extractor.training_images,
        skip_unreadable=options.skip_unreadable,
        exclude_training_images=options.exclude_training_images and not is_training_set,
    )
    cache_dir = options.cache_dir if source.kind == "folder" else None
    keyed = keep_features or cache_dir is not None
    hashers = [*selection.hashers, *([PIXEL_HASHER] if keyed else [])]
    network, parts = extractor, [extractor]
    if all_depths:
        from fid_med.extractors.depths import join_depths  # loads TensorFlow

        network = join_depths(extractor)
        parts = network.depths.values()
    statistics = {x.num_features: empty_statistics(x) for x in parts}
    blocks = {dims: _Blocks() for dims in statistics}
    store = FeatureStore(network.num_features, memory_limit) if keep_features else None
    names, digests = [], []
    main = statistics[extractor.num_features]

    def is_large():
        large = keep_features == IF_SMALL and store is not None and store.size > memory_limit
        return large and main.distinct is None

    with _opened_cache(cache_dir, network, hashers) as cache:
        images = prepared_images(
            source,
            network.preprocessing,
            hashers,
            look_up=None if cache is None else cache.get,
        )
        with contextlib.closing(images):
            kept = _compiling(selection.kept(images), network)
            for batch in _batches(kept, options.batch_size):
                rows = _features(batch, network, options.batch_size, cache)
                for dims, columns in _columns(rows, statistics):
                    blocks[dims].add(columns, statistics[dims])
                if store is not None:
                    store.append(rows)
                    names += [image.name for image in batch]
                    digests += [image.digests[-1] for image in batch]
                if is_large():
                    store, names, digests = None, [], []
    for dims, of_depth in blocks.items():
        of_depth.finish(statistics[dims])
    if is_large():
        store = None
    account = selection.account
    account.count, account.distinct = main.count, main.distinct
    account.check_enough(source.name)
    found = FeatureSet(main, account, selection.skipped_warnings())
    if cache is not None:
        found.warnings += [f"{source.name}: {line}" for line in cache.warnings]
    if not is_training_set:
        found.warnings += account.training_warnings(source.name)
    found.warnings += source.warnings() + account.blank_warnings(source.name)
    features = {}
    if store is not None:
        features = dict(_columns(store.array(), statistics))
        found.features, found.names, found.digests = features[main.dim], names, digests
        if source.repeatable:
            found.source, found.extractor = source, extractor
        if patient_regex:
            found.patients = np.array(patients_of(names, patient_regex))
    if all_depths:
        found.depths = found.at_depths({k: (x, features.get(k)) for k, x in statistics.items()})
    return found


def check_patient_regex(source: ImageSource, expression: str | None) -> None:
    """Checks before any work that a regular expression finds a patient in every file name.

    Raises:
      DataError: a set without file names, or as for `patients_of`.
    """
    if not expression:
        return
    if source.names is None:
        raise DataError(
            f"{source.name}: patient_regex works only for a folder, because it reads file names"
        )
    patients_of(source.names, expression)


def _columns(rows: np.ndarray, widths: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yields each width and its columns of rows [N, sum of the widths]."""
    start = 0
    for width in widths:
        yield width, rows[:, start : start + width]
        start += width


class _Blocks:
    """Hands rows to statistics in whole blocks of `_BLOCK` rows."""

    def __init__(self):
        self._pending: list[np.ndarray] = []

    def add(self, rows: np.ndarray, statistics: FeatureStatistics) -> None:
        self._pending.append(rows)
        while sum(map(len, self._pending)) >= _BLOCK:
            rows = np.concatenate(self._pending)
            statistics.update(rows[:_BLOCK])
            self._pending = [rows[_BLOCK:]]

    def finish(self, statistics: FeatureStatistics) -> None:
        if self._pending:
            statistics.update(np.concatenate(self._pending))


@contextlib.contextmanager
def _opened_cache(cache_dir, extractor, hashers) -> Iterator[FeatureCache | None]:
    """The cache, or None; what is new in it is written however the run ends."""
    if cache_dir is None:
        yield None
        return
    keys = tuple(hasher.key for hasher in hashers)
    with FeatureCache(cache_dir, extractor.cache_key, extractor.num_features, keys) as cache:
        yield cache


def _compiling(images: Iterable[Prepared], extractor) -> Iterator[Prepared]:
    """Compiles the network when the first image arrives, while others are decoded."""
    for image in images:
        if image.found is None:
            extractor.compiled(image.pixels.dtype)
        yield image


def _batches(images: Iterable[Prepared], size: int) -> Iterator[list[Prepared]]:
    batch = []
    for image in images:
        batch.append(image)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _features(batch: Sequence[Prepared], extractor, batch_size: int, cache) -> np.ndarray:
    """float32 [B, d]: from the cache where it has them, else from the network."""
    new = [image for image in batch if image.found is None]
    rows = None
    if new:
        pixels = as_rgb_batch([image.pixels for image in new])
        rows = extractor.extract_batch(pixels, batch_size)
        for image, row in zip(new, rows, strict=True):
            if cache is not None and image.key:
                cache.put(image.key, row, image.digests, image.appearance)
    if len(new) == len(batch):
        return rows
    computed = iter(() if rows is None else rows)
    return np.stack([
        next(computed) if image.found is None else image.found.features for image in batch
    ])  # fmt: skip
