"""Statistics of the features of a folder of images, as a Beam pipeline.

The pipeline lists the files, groups the names into shards, extracts the features of each shard
(the extractor is loaded once per worker process), merges the statistics and writes one file.

Shards are consecutive parts of the sorted list and contain whole batches, so the network processes
the same batches as in a single process. The statistics of a shard depend only on its names. They
enter the result once, when the runner commits the shard, even if it is processed several times.
"""

import collections
import dataclasses
import functools
import os
from collections.abc import Callable

import apache_beam as beam
from apache_beam.utils import shared

from fid_med.beam import files
from fid_med.data.preprocessing import as_rgb_batch
from fid_med.data.sources import ImageSource, prepared_images
from fid_med.evaluation.account import ImageAccount, ImageSelection
from fid_med.evaluation.extraction import empty_statistics
from fid_med.metrics.statistics import FeatureStatistics
from fid_med.utils.files import write_json

# Largest number of batches per shard: enough to read images while the network runs, few enough
# to distribute the work evenly and to lose little if a worker dies.
_SHARD_BATCHES = 16
_LISTED = 100  # number of unreadable files that the account names


@dataclasses.dataclass
class Account:
    """Account of the images.

    Attributes:
      side: number of images that were used, skipped and excluded, as in a result of `compute_fid`.
      unreadable: names of the skipped images with the reason, sorted, at most 100.
    """

    side: ImageAccount = dataclasses.field(default_factory=lambda: ImageAccount("folder", 0))
    unreadable: list[str] = dataclasses.field(default_factory=list)

    def merge(self, other: "Account") -> None:
        """Adds the counts and names of another account."""
        for field in dataclasses.fields(ImageAccount):
            if field.name not in ("kind", "ignored", "distinct"):
                total = getattr(self.side, field.name) + getattr(other.side, field.name)
                setattr(self.side, field.name, total)
        ignored = collections.Counter(self.side.ignored) + collections.Counter(other.side.ignored)
        self.side.ignored = dict(sorted(ignored.items()))
        self.unreadable = sorted(self.unreadable + other.unreadable)[:_LISTED]


class MergeStatistics(beam.CombineFn):
    """Merges pairs (FeatureStatistics, Account), in any order."""

    def create_accumulator(self):
        return FeatureStatistics(), Account()

    def add_input(self, accumulator, element):
        for mine, other in zip(accumulator, element, strict=True):
            mine.merge(other)
        return accumulator

    def merge_accumulators(self, accumulators):
        total = self.create_accumulator()
        for accumulator in accumulators:
            total = self.add_input(total, accumulator)
        return total

    def extract_output(self, accumulator):
        return accumulator


class ImageStatistics(beam.PTransform):
    """Maps a PCollection of folders of images to one (FeatureStatistics, Account).

    Args:
      load: function without arguments that returns a `FeatureExtractor`; called once per worker
        process. It is pickled, so it must be a function of an installed module, or a
        `functools.partial` of one.
      batch_size: number of images per batch.
      skip_unreadable, exclude_training_images: as for `compute_fid`.
    """

    def __init__(
        self,
        load: Callable[[], object],
        *,
        batch_size: int = 32,
        skip_unreadable: bool = False,
        exclude_training_images: bool = False,
    ):
        super().__init__()
        self._listing = _ListImages(batch_size)
        self._extraction = _ExtractFeatures(
            load, batch_size, skip_unreadable, exclude_training_images
        )

    def expand(self, folders):
        return (
            folders
            | "List" >> beam.ParDo(self._listing)
            | "Spread" >> beam.Reshuffle()
            | "Extract" >> beam.ParDo(self._extraction)
            | "Merge" >> beam.CombineGlobally(MergeStatistics())
        )


class _ListImages(beam.DoFn):
    """Maps a folder to its shards, each (folder, names, ignored files); the first counts those."""

    def __init__(self, batch_size):
        self._batch_size = batch_size

    def process(self, folder):
        names, ignored = files.list_folder(folder)
        # A shard of a small set is a single batch, so that every worker gets some.
        batches = min(_SHARD_BATCHES, max(1, len(names) // (_SHARD_BATCHES * self._batch_size)))
        size = batches * self._batch_size
        for start in range(0, len(names), size):
            yield folder, names[start : start + size], {} if start else ignored


class _ExtractFeatures(beam.DoFn):
    """Maps a shard to the (FeatureStatistics, Account) of its images."""

    def __init__(self, load, batch_size, skip_unreadable, exclude_training_images):
        self._load, self._batch_size = load, batch_size
        self._skip_unreadable = skip_unreadable
        self._exclude = exclude_training_images
        self._shared = shared.Shared()  # one extractor for all threads of a process
        self._extractor = None

    def setup(self):
        self._extractor = self._shared.acquire(self._load)

    def process(self, shard):
        folder, names, ignored = shard
        loaders = [(name, functools.partial(files.read, folder, name)) for name in names]
        source = ImageSource(
            "folder",
            os.path.basename(folder),
            loaders,
            len(names),
            ignored=ignored,
            folder=folder,
        )
        selection = ImageSelection(
            source,
            self._extractor.training_images,
            skip_unreadable=self._skip_unreadable,
            exclude_training_images=self._exclude,
        )
        images = prepared_images(source, self._extractor.preprocessing, selection.hashers)
        statistics, batch = empty_statistics(self._extractor), []
        for image in selection.kept(images):
            batch.append(image.pixels)
            if len(batch) == self._batch_size:
                statistics.update(self._features(batch))
                batch = []
        if batch:
            statistics.update(self._features(batch))
        account = Account(selection.account, selection.unreadable)
        account.side.count = statistics.count
        yield statistics, account

    def _features(self, batch):
        return self._extractor.extract_batch(as_rgb_batch(batch), self._batch_size)


class WriteStatistics(beam.DoFn):
    """Writes (FeatureStatistics, Account): first the account, then the statistics."""

    def __init__(self, output):
        self._output = output

    def process(self, element):
        statistics, account = element
        side = account.side
        side.distinct = statistics.distinct
        side.check_enough("images")
        report = {
            "images": dataclasses.asdict(side),
            "unreadable": account.unreadable,
            "extractor": statistics.extractor,
            "fingerprint": statistics.fingerprint,
            "preprocessing": statistics.preprocessing,
            "versions": statistics.versions,
        }
        files.write(account_path(self._output), lambda path: write_json(path, report))
        files.write(self._output, statistics.save)
        yield report


def account_path(output: str) -> str:
    """Path of the account of the images: `stats.json` for `stats.npz`."""
    return f"{output.removesuffix('.npz')}.json"
