"""The one place where images, extractor and metric meet: `compute_fid` and its result."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator

import numpy as np

from fid_med.artifacts import versions
from fid_med.data.preprocessing import as_rgb_batch
from fid_med.data.sources import ImageSource, open_source, prepared_images
from fid_med.errors import DataError
from fid_med.metrics.frechet import frechet_distance
from fid_med.metrics.statistics import FeatureStatistics, check_comparable
from fid_med.progress import warn

SMALL_SAMPLE = 2048


@dataclasses.dataclass
class SideResult:
    """One side of a comparison.

    Attributes:
      kind: statistics, folder, array, dataset or callable.
      count: images that entered the statistics; None for statistics of unknown origin.
      skipped: unreadable images left out, only ever on request.
      excluded: images left out because the extractor was trained on them, only on request.
      seen_in_training: images that entered although the extractor was trained on them.
    """

    kind: str
    count: int | None
    skipped: int = 0
    excluded: int = 0
    seen_in_training: int = 0


@dataclasses.dataclass
class FIDResult:
    """What `compute_fid` found; `to_dict` gives the fields of the JSON file.

    Attributes:
      fid: Fréchet distance, Heusel et al. 2017, equation 6.
      real, generated: what was compared.
      extractor: name of the extractor, None where both sides are statistics of unknown origin.
      fingerprint: sha256 of its weights and preprocessing, None likewise.
      preprocessing: its fields, None likewise.
      versions: of fid_med and of what it stands on.
      seconds: wall time by stage.
      warnings: what the reader of the number must know.
      statistics: the `FeatureStatistics` of both sides, real first; not in the JSON.
    """

    fid: float
    real: SideResult
    generated: SideResult
    extractor: str | None
    fingerprint: str | None
    preprocessing: dict | None
    versions: dict
    seconds: dict
    warnings: list[str]
    statistics: tuple = dataclasses.field(default=(), repr=False)

    def to_dict(self) -> dict:
        """The fields but `statistics`, as JSON types."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del fields["statistics"]
        return fields | {
            "real": dataclasses.asdict(self.real),
            "generated": dataclasses.asdict(self.generated),
        }

    def summary(self) -> list[str]:
        """What a person reads above the number, a line each."""
        lines = []
        for name, side in (("real", self.real), ("generated", self.generated)):
            count = "unknown count" if side.count is None else f"{side.count} images"
            left_out = [
                f"{number} {what}"
                for number, what in (
                    (side.skipped, "skipped as unreadable"),
                    (side.excluded, "excluded as training images"),
                )
                if number
            ]
            lines.append(f"{name}: {count} ({side.kind})" + "".join(f", {x}" for x in left_out))
        if self.fingerprint:
            size = f"{self.preprocessing['height']} x {self.preprocessing['width']}"
            lines.append(
                f"extractor: {self.extractor} ({self.fingerprint[:12]}), {size}, "
                f"{self.preprocessing['resize']}, {self.preprocessing['aspect']}"
            )
        return lines

    def save_statistics(self, folder) -> None:
        """Writes `real.npz` and `generated.npz` into a folder, made where it is missing."""
        for name, statistics in zip(("real", "generated"), self.statistics, strict=True):
            statistics.save(os.path.join(folder, f"{name}.npz"))


def compute_fid(
    real,
    generated,
    extractor="imagenet",
    *,
    batch_size: int = 32,
    image_size: int | None = None,
    resize: str | None = None,
    aspect: str | None = None,
    seed: int = 0,
    num_generated: int | None = None,
    skip_unreadable: bool = False,
    exclude_training_images: bool = False,
    multi_frame: str = "refuse",
) -> FIDResult:
    """Computes the Fréchet inception distance between two sets of images.

    Args:
      real, generated: each a folder of images; a `.npz` of statistics; a uint8 array [N, H, W] or
        [N, H, W, 3]; a `tf.data.Dataset` of uint8 images or batches of them; or a callable that
        takes a count and returns up to that many images as such an array (a generator network).
      extractor: a `FeatureExtractor`, or what `load_extractor` takes. Not loaded where both sides
        are statistics.
      batch_size: images that go through the network at once.
      image_size, resize, aspect, seed: as for `load_extractor`.
      num_generated: images to ask a callable for; by default as many as the other side has.
      skip_unreadable: leave unreadable images out and count them, in place of an error.
      exclude_training_images: leave out images that the extractor was trained or validated on.
      multi_frame: `refuse` DICOM files of several frames, or `unroll` them, each frame an image.

    Returns:
      The result; warnings are printed to stderr as well.

    Raises:
      FidMedError: anything wrong with what was given, in one line.
    """
    seconds: dict[str, float] = {}
    sides = {"real": real, "generated": generated}
    # Everything is opened before anything is computed: a wrong path must not cost an hour.
    given = {n: FeatureStatistics.load(x) for n, x in sides.items() if is_statistics(x)}
    opened = _open_sources(
        {name: side for name, side in sides.items() if name not in given},
        given,
        num_generated,
        multi_frame,
    )
    loaded = None
    if opened:
        with _clock(seconds, "extractor"):
            loaded = _loaded(
                extractor, image_size=image_size, resize=resize, aspect=aspect, seed=seed
            )
        for statistics in given.values():
            check_comparable(statistics, empty_statistics(loaded))
    accounts, warnings = {}, []
    for name in sides:
        if name in given:
            accounts[name] = SideResult("statistics", given[name].count)
            continue
        with _clock(seconds, name):
            given[name], accounts[name], lines = compute_statistics(
                opened[name],
                loaded,
                batch_size=batch_size,
                skip_unreadable=skip_unreadable,
                exclude_training_images=exclude_training_images,
            )
        warnings += lines
    sides, statistics = list(accounts.values()), (given["real"], given["generated"])
    warnings += check_comparable(*statistics)
    warnings += _small_sample_warnings(sides)
    with _clock(seconds, "frechet"):
        fid = frechet_distance(*statistics)
    for line in warnings:
        warn(line)
    origin = next((s for s in statistics if s.fingerprint), statistics[0])
    return FIDResult(
        fid=fid,
        real=sides[0],
        generated=sides[1],
        extractor=origin.extractor,
        fingerprint=origin.fingerprint,
        preprocessing=origin.preprocessing,
        versions=versions(),
        seconds={stage: round(value, 3) for stage, value in seconds.items()},
        warnings=warnings,
        statistics=statistics,
    )


def is_statistics(side) -> bool:
    """Whether one side of a comparison is a file of statistics."""
    return isinstance(side, (str, os.PathLike)) and os.fspath(side).endswith(".npz")


def _open_sources(sides, given, num_generated, multi_frame):
    """Opens what holds images; a callable is asked for as many as the other side has."""
    opened = {
        n: open_source(x, n, multi_frame=multi_frame)
        for n, x in sides.items()
        if not _is_callable(x)
    }
    counts = [x.count for x in (*given.values(), *opened.values()) if x.count]
    for name, side in sides.items():
        if _is_callable(side):
            opened[name] = open_source(side, name, num_generated or next(iter(counts), None))
    return opened


def _is_callable(side):
    return callable(side) and not hasattr(side, "element_spec") and not hasattr(side, "__array__")


def _loaded(extractor, **options):
    if not isinstance(extractor, (str, os.PathLike)):
        if any(value is not None for key, value in options.items() if key != "seed"):
            raise DataError("a loaded extractor carries its own preprocessing; load it with that")
        return extractor
    from fid_med.models.extractors import load_extractor

    return load_extractor(extractor, **options)


@contextlib.contextmanager
def _clock(seconds, stage):
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start


def empty_statistics(extractor) -> FeatureStatistics:
    """Statistics without features that name the extractor their features will come from."""
    statistics = FeatureStatistics(extractor.num_features)
    statistics.fingerprint = extractor.fingerprint
    statistics.extractor = extractor.name
    statistics.preprocessing = extractor.preprocessing.to_dict()
    statistics.versions = versions()
    return statistics


def compute_statistics(
    source,
    extractor,
    *,
    name: str = "images",
    batch_size: int = 32,
    num_images: int | None = None,
    skip_unreadable: bool = False,
    exclude_training_images: bool = False,
) -> tuple[FeatureStatistics, SideResult, list[str]]:
    """Computes the statistics of the features of a set of images, in bounded memory.

    Args:
      source: a folder, array, dataset or callable, as for `compute_fid`, or an `ImageSource`.
      extractor: a loaded `FeatureExtractor`.
      name: what messages call the set.
      batch_size, skip_unreadable, exclude_training_images: as for `compute_fid`.
      num_images: how many images to ask a callable for.

    Returns:
      The statistics, the account of the images, and warnings.

    Raises:
      DataError: no source of images, or fewer than two images in it.
      UnreadableImageError: an unreadable image, unless `skip_unreadable`.
    """
    if batch_size < 1:
        raise DataError(f"batch size {batch_size}: expected at least 1")
    opened = source if isinstance(source, ImageSource) else open_source(source, name, num_images)
    name, side = opened.name, SideResult(opened.kind, 0)
    statistics = empty_statistics(extractor)
    warnings: list[str] = []
    kept = _kept_images(opened, extractor, side, skip_unreadable, exclude_training_images, warnings)
    for batch in _batches(kept, batch_size):
        statistics.update(extractor.extract_batch(batch))
    side.count = statistics.count
    if side.count < 2:
        left_out = side.skipped + side.excluded
        aside = f" ({left_out} left out)" if left_out else ""
        raise DataError(
            f"{name}: {side.count} image{'' if side.count == 1 else 's'}{aside}; "
            "a covariance needs at least 2, a FID worth reading hundreds"
        )
    if side.seen_in_training:
        warnings.append(
            f"{name}: the extractor was trained on {side.seen_in_training} of these {side.count} "
            "images; their features flatter it, so compare held-out images "
            "(--exclude_training_images)"
        )
    if opened.dark_sixteen_bit:
        warnings.append(
            f"{name}: 16-bit images that use at most a sixteenth of their range (12-bit data?) "
            "come out nearly black; scale them to the whole range first, or give DICOM a window"
        )
    return statistics, side, warnings


def _kept_images(opened, extractor, side, skip_unreadable, exclude_training_images, warnings):
    trained = extractor.training_images
    hashers = [trained.hasher()] if trained else []
    for image in prepared_images(opened, extractor.preprocessing, hashers):
        if image.error:
            if not skip_unreadable:
                raise image.error
            side.skipped += 1
            warnings.append(f"skipped: {image.error}")
            continue
        if trained and image.digests[0] in trained:
            if exclude_training_images:
                side.excluded += 1
                continue
            side.seen_in_training += 1
        yield image.pixels


def _batches(images, batch_size) -> Iterator[np.ndarray]:
    batch: list[np.ndarray] = []
    for image in images:
        batch.append(image)
        if len(batch) == batch_size:
            yield as_rgb_batch(batch)
            batch = []
    if batch:
        yield as_rgb_batch(batch)


def _small_sample_warnings(sides):
    small = [side.count for side in sides if side.count is not None and side.count < SMALL_SAMPLE]
    if not small:
        return []
    return [
        f"fewer than {SMALL_SAMPLE} images on a side ({min(small)}): the covariance is "
        "rank-deficient and the FID is biased upward; compare it only with FIDs of the same "
        "extractor at the same two counts"
    ]
