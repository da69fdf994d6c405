"""A set of images to features and their statistics, in one stream and bounded memory."""

import contextlib
import dataclasses
from collections.abc import Iterator

import numpy as np

from fid_med.data.patients import patients_of
from fid_med.data.preprocessing import as_rgb_batch
from fid_med.data.sources import ImageSource, Prepared, open_source, prepared_images
from fid_med.errors import DataError, UnreadableImageError
from fid_med.evaluation.feature_cache import MEMORY_LIMIT, FeatureCache, FeatureStore
from fid_med.metrics.statistics import FeatureStatistics
from fid_med.utils.files import versions
from fid_med.utils.hashing import ImageHasher

# One key for all sets, so that an image is known again in another set; digests stay in memory, and
# in a cache that holds hashes of the files anyway.
PIXEL_HASHER = ImageHasher("00" * 16)
# Statistics take their rows by this many, whatever the batch: the last bit is then the same.
_BLOCK = 512


@dataclasses.dataclass
class SideResult:
    """One side of a comparison.

    Attributes:
      kind: statistics, folder, array, dataset or callable.
      count: images that entered the statistics; None for statistics of unknown origin.
      skipped: unreadable images left out, only ever on request.
      excluded: images left out because the extractor was trained on them, only on request.
      seen_in_training: images that entered although the extractor was trained on them.
      cached: images among `count` whose features came from the cache of an earlier run.
    """

    kind: str
    count: int | None
    skipped: int = 0
    excluded: int = 0
    seen_in_training: int = 0
    cached: int = 0


@dataclasses.dataclass
class Extraction:
    """What `extract` made of a set of N images.

    Attributes:
      statistics: count, mean and covariance of the features, with the extractor's name.
      side: the account of the images.
      warnings: what the reader of a number must know.
      features: float32 [N, d], in memory up to a stated size and mapped from a nameless file beyond
        it; None unless asked for. The fields below are None likewise.
      names: of the images, files relative to their folder, in the order of the features.
      digests: hashes of the images' own pixels (16 bytes in hex); equal for images that are equal
        pixel for pixel, in other sets too.
      groups: the patient of each image, str [N], where a `patient_regex` tells.
    """

    statistics: FeatureStatistics
    side: SideResult
    warnings: list[str]
    features: np.ndarray | None = dataclasses.field(default=None, repr=False)
    names: list[str] | None = dataclasses.field(default=None, repr=False)
    digests: list[str] | None = dataclasses.field(default=None, repr=False)
    groups: np.ndarray | None = dataclasses.field(default=None, repr=False)


def empty_statistics(extractor) -> FeatureStatistics:
    """Statistics without features that name the extractor their features will come from."""
    statistics = FeatureStatistics(extractor.num_features)
    statistics.fingerprint = extractor.fingerprint
    statistics.extractor = extractor.name
    statistics.preprocessing = extractor.preprocessing.to_dict()
    statistics.versions = versions()
    return statistics


def extract(
    source,
    extractor,
    *,
    keep_features: bool = False,
    name: str = "images",
    batch_size: int = 32,
    num_images: int | None = None,
    skip_unreadable: bool = False,
    exclude_training_images: bool = False,
    warn_of_training: bool = True,
    patient_regex: str | None = None,
    cache_dir=None,
    memory_limit: int = MEMORY_LIMIT,
) -> Extraction:
    """Computes the features of a set of images, and the statistics of the features.

    Images are decoded in threads while the network works, and while it is being compiled. Without
    `keep_features` the memory does not grow with the number of images.

    Args:
      source: a folder, array, dataset or callable, as for `compute_fid`, or an `ImageSource`.
      extractor: a loaded `FeatureExtractor`.
      keep_features: return the features of every image, with names, digests and groups.
      name: what messages call the set.
      batch_size: images that go through the network at once. No bit depends on it where this was
        measured (x86, oneDNN); elsewhere nothing beyond the rounding of float32.
      num_images: how many images to ask a callable for.
      skip_unreadable: leave unreadable images out and count them, in place of an error.
      exclude_training_images: leave out images that the extractor was trained or validated on.
      warn_of_training: have a warning about images that the extractor was trained on.
      patient_regex: names the patient in a file's name, as for `patients_of`.
      cache_dir: folder of a `FeatureCache`, for the files of a folder; other sources pass it by.
      memory_limit: bytes of features kept in memory before they go to a file.

    Raises:
      DataError: no source of images, fewer than two images in it, or a `patient_regex` that does
        not fit the names.
      UnreadableImageError: an unreadable image, unless `skip_unreadable`.
    """
    if batch_size < 1:
        raise DataError(f"batch size {batch_size}: expected at least 1")
    opened = source if isinstance(source, ImageSource) else open_source(source, name, num_images)
    if patient_regex:
        if opened.names is None:
            raise DataError(f"{opened.name}: patient_regex needs the names of a folder's files")
        patients_of(opened.names, patient_regex)  # a wrong one must not cost an hour
    run = _Run(opened, extractor, batch_size, skip_unreadable, exclude_training_images)
    statistics, pending = empty_statistics(extractor), []
    store = FeatureStore(extractor.num_features, memory_limit) if keep_features else None
    names, digests = [], []
    with run.cached(cache_dir, hash_pixels=keep_features):
        for batch in _batches(run.kept(), batch_size):
            rows = run.features(batch)
            pending = _update(statistics, [*pending, rows])
            if store is not None:
                store.append(rows)
                names += [image.name for image in batch]
                digests += [image.digests[-1] for image in batch]
    if pending:
        statistics.update(np.concatenate(pending))
    run.side.count = statistics.count
    run.check_enough()
    extraction = Extraction(
        statistics, run.side, [*run.warnings, *run.last_warnings(warn_of_training)]
    )
    if store is not None:
        extraction.features, extraction.names = store.array(), names
        extraction.digests = digests
        if patient_regex:
            extraction.groups = np.array(patients_of(names, patient_regex))
    return extraction


def _update(statistics, pending):
    """Gives statistics whole blocks of rows; returns what is left."""
    while sum(map(len, pending)) >= _BLOCK:
        rows = np.concatenate(pending)
        statistics.update(rows[:_BLOCK])
        pending = [rows[_BLOCK:]]
    return pending


def _batches(images, size) -> Iterator[list]:
    batch = []
    for image in images:
        batch.append(image)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


class _Run:
    """One pass over the images of a source."""

    def __init__(self, opened, extractor, batch_size, skip_unreadable, exclude_training_images):
        self.opened, self.extractor, self.batch_size = opened, extractor, batch_size
        self.skip_unreadable = skip_unreadable
        self.exclude_training_images = exclude_training_images
        self.side = SideResult(opened.kind, 0)
        self.warnings: list[str] = []
        self.trained = extractor.training_images
        self.hashers: list[ImageHasher] = []
        self.cache = None

    @contextlib.contextmanager
    def cached(self, cache_dir, hash_pixels):
        """Opens the cache, and writes what is new in it however the run ends."""
        trained = [self.trained.hasher()] if self.trained else []
        use = cache_dir is not None and self.opened.kind == "folder"
        # What the cache keeps serves a later run with `keep_features` too.
        self.hashers = [*trained, *([PIXEL_HASHER] if use or hash_pixels else [])]
        if not use:
            yield
            return
        keys = tuple(hasher.key for hasher in self.hashers)
        with FeatureCache(
            cache_dir, self.extractor.fingerprint, self.extractor.num_features, keys
        ) as self.cache:
            yield
        self.warnings += [f"{self.opened.name}: {line}" for line in self.cache.warnings]

    def kept(self) -> Iterator[Prepared]:
        """The images that count, those of the training told apart by their digest."""
        images = prepared_images(
            self.opened,
            self.extractor.preprocessing,
            self.hashers,
            look_up=None if self.cache is None else self.cache.get,
        )
        with contextlib.closing(images):
            for image in images:
                if image.error:
                    if not self.skip_unreadable:
                        raise UnreadableImageError(
                            f"{image.error}; mend or remove it, or leave unreadable images out by "
                            "--skip_unreadable"
                        ) from image.error
                    self.side.skipped += 1
                    self.warnings.append(f"{self.opened.name}: skipped {self.opened.told(image)}")
                    continue
                if image.found is None:
                    # Compiled on the first image, while the threads decode those behind it.
                    self.extractor.compiled(image.pixels.dtype)
                else:
                    image.digests = image.found.digests
                    self.side.cached += 1
                if self.trained and image.digests[0] in self.trained:
                    if self.exclude_training_images:
                        self.side.excluded += 1
                        self.side.cached -= image.found is not None
                        continue
                    self.side.seen_in_training += 1
                yield image

    def features(self, batch: list[Prepared]) -> np.ndarray:
        """float32 [B, d]: from the cache where it has them, from the network elsewhere."""
        new = [image for image in batch if image.found is None]
        rows = None
        if new:
            pixels = as_rgb_batch([image.pixels for image in new])
            rows = self.extractor.extract_batch(pixels, self.batch_size)
            for image, row in zip(new, rows, strict=True):
                if self.cache is not None and image.key:
                    self.cache.put(image.key, row, image.digests)
        if len(new) == len(batch):
            return rows
        computed = iter(() if rows is None else rows)
        return np.stack([
            next(computed) if image.found is None else image.found.features for image in batch
        ])  # fmt: skip

    def check_enough(self) -> None:
        side = self.side
        if side.count < 2:
            left_out = side.skipped + side.excluded
            aside = f" ({left_out} left out)" if left_out else ""
            raise DataError(
                f"{self.opened.name}: {side.count} image{'' if side.count == 1 else 's'}{aside}; "
                "a covariance needs at least 2, a FID worth reading hundreds"
            )

    def last_warnings(self, warn_of_training: bool) -> list[str]:
        """What is known once all images are through."""
        name, side, lines = self.opened.name, self.side, []
        if side.seen_in_training and warn_of_training:
            lines.append(
                f"{name}: the extractor was trained on {side.seen_in_training} of these "
                f"{side.count} images; their features flatter it, so compare held-out images "
                "(--exclude_training_images)"
            )
        if self.opened.dark_sixteen_bit:
            lines.append(
                f"{name}: 16-bit images that use at most a sixteenth of their range (12-bit data?) "
                "come out nearly black; scale them to the whole range first, or give DICOM "
                "a window"
            )
        return lines
