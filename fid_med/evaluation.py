"""The one place where images, extractor and metric meet: `compute_fid` and its result."""

import contextlib
import dataclasses
import os
import time

from fid_med.artifacts import versions
from fid_med.data.sources import is_generator, open_source
from fid_med.errors import DataError
from fid_med.extraction import SideResult, empty_statistics, extract
from fid_med.metrics.frechet import frechet_distance
from fid_med.metrics.statistics import FeatureStatistics, check_comparable
from fid_med.progress import warn

SMALL_SAMPLE = 2048


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
            account = [
                f"{number} {what}"
                for number, what in (
                    (side.skipped, "skipped as unreadable"),
                    (side.excluded, "excluded as training images"),
                    (side.cached, "taken from the cache"),
                )
                if number
            ]
            lines.append(f"{name}: {count} ({side.kind})" + "".join(f", {x}" for x in account))
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
    cache_dir=None,
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
      cache_dir: folder that keeps features by the content of image files, so that a killed run
        goes on and a repeated one computes only what changed. It holds features of single images
        and hashes, no names. Only for folders; by default nothing is kept.

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
        {name: side for name, side in sides.items() if name not in given}, given, num_generated
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
                cache_dir=cache_dir,
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


def _open_sources(sides, given, num_generated):
    """Opens what holds images; a callable is asked for as many as the other side has."""
    opened = {n: open_source(x, n) for n, x in sides.items() if not is_generator(x)}
    counts = [x.count for x in (*given.values(), *opened.values()) if x.count]
    for name, side in sides.items():
        if is_generator(side):
            opened[name] = open_source(side, name, num_generated or next(iter(counts), None))
    return opened


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


def compute_statistics(
    source,
    extractor,
    *,
    name: str = "images",
    batch_size: int = 32,
    num_images: int | None = None,
    skip_unreadable: bool = False,
    exclude_training_images: bool = False,
    cache_dir=None,
) -> tuple[FeatureStatistics, SideResult, list[str]]:
    """Computes the statistics of the features of a set of images, in bounded memory.

    Args:
      source: a folder, array, dataset or callable, as for `compute_fid`, or an `ImageSource`.
      extractor: a loaded `FeatureExtractor`.
      name: what messages call the set.
      batch_size, skip_unreadable, exclude_training_images, cache_dir: as for `compute_fid`.
      num_images: how many images to ask a callable for.

    Returns:
      The statistics, the account of the images, and warnings.

    Raises:
      DataError: no source of images, or fewer than two images in it.
      UnreadableImageError: an unreadable image, unless `skip_unreadable`.
    """
    extraction = extract(
        source,
        extractor,
        name=name,
        batch_size=batch_size,
        num_images=num_images,
        skip_unreadable=skip_unreadable,
        exclude_training_images=exclude_training_images,
        cache_dir=cache_dir,
    )
    return extraction.statistics, extraction.side, extraction.warnings


def _small_sample_warnings(sides):
    small = [side.count for side in sides if side.count is not None and side.count < SMALL_SAMPLE]
    if not small:
        return []
    return [
        f"fewer than {SMALL_SAMPLE} images on a side ({min(small)}): the covariance is "
        "rank-deficient and the FID is biased upward; compare it only with FIDs of the same "
        "extractor at the same two counts"
    ]
