"""Files that the checks against published values need: found, downloaded on request, read once."""

import os
import pathlib
from typing import NamedTuple

import numpy as np

from fid_med.errors import DataError, FidMedError, reason_of
from fid_med.extractors.inception_2015.download import (
    ARCHIVE_NAME,
    GRAPH_NAME,
    URL,
    cache_folder,
    ensure_graph,
)
from fid_med.metrics.statistics import FeatureStatistics
from fid_med.utils.download import fetch
from fid_med.utils.progress import Progress, say
from fid_med.validation import cifar10

GRAPH = "graph"
CIFAR10 = "cifar10"
CIFAR10_ORDER = "cifar10 in the order of its files"
TTUR_CIFAR10_TRAIN = "fid_stats_cifar10_train.npz"
TTUR_IMAGENET_TRAIN = "fid_stats_imagenet_train.npz"
TTUR_IMAGENET_VALID = "fid_stats_imagenet_valid.npz"
TTUR_URL = "http://bioinf.jku.at/research/ttur/ttur_stats"


class Features(NamedTuple):
    """Outputs of the network: statistics of its features, and logits, float64 [N, K], or None."""

    statistics: FeatureStatistics
    logits: np.ndarray | None


class ReferenceInputs:
    """Finds and reads what the checks need. Each file is read once, and each error is kept.

    Args:
      graph: path of the 2015-12-05 graph (.pb, .tgz); by default the one in fid_med's cache.
      ttur_stats_dir: folder of TTUR's statistics; by default `ttur_stats` in the cache.
      cifar10: folder of CIFAR-10's batches, or `tfds` to read it with tensorflow_datasets.
      tfds_data_dir: data folder of tensorflow_datasets; by default its own.
      download: whether missing files may be downloaded. CIFAR-10 is only downloaded with `tfds`.
      batch_size: number of images per batch of the network.

    Raises:
      DataError: a given path does not exist. It is checked at once, because checks can take hours.
    """

    def __init__(
        self,
        graph=None,
        ttur_stats_dir=None,
        cifar10=None,
        tfds_data_dir=None,
        download: bool = False,
        batch_size: int = 32,
    ):
        if graph is not None and not os.path.isfile(graph):
            raise DataError(
                f"{graph}: no such file; expected the 2015-12-05 graph (.pb, .tgz)", wrong_flag=True
            )
        for folder in (ttur_stats_dir, None if cifar10 == "tfds" else cifar10):
            if folder is not None and not os.path.isdir(folder):
                raise DataError(f"{folder}: no such folder", wrong_flag=True)
        self.graph = graph
        self.ttur_stats_dir = ttur_stats_dir
        self.cifar10 = cifar10
        self.tfds_data_dir = tfds_data_dir
        self.download = download
        self.batch_size = batch_size
        self._known = {}

    def get(self, need: str):
        """Returns what a check needs: an extractor, images by split, or `FeatureStatistics`.

        Args:
          need: `GRAPH`, `CIFAR10`, `CIFAR10_ORDER` or the name of one of TTUR's files.

        Raises:
          FidMedError: missing or unusable; the message says how to fix it.
        """
        readers = {GRAPH: self._extractor, CIFAR10: self._images, CIFAR10_ORDER: self._ordered}
        return self.once(need, readers.get(need) or (lambda: self._statistics(need)))

    def once(self, key: str, compute):
        """Returns the result of `compute()` or raises its FidMedError; `compute` is called once."""
        if key not in self._known:
            try:
                self._known[key] = compute()
            except FidMedError as error:
                self._known[key] = error
        if isinstance(self._known[key], FidMedError):
            raise self._known[key]
        return self._known[key]

    def graph_path(self) -> pathlib.Path:
        """Returns the path of the graph. It is downloaded only if that is allowed."""
        if self.graph is not None:
            return pathlib.Path(self.graph)
        cache = cache_folder()
        if self.download or any((cache / name).exists() for name in (GRAPH_NAME, ARCHIVE_NAME)):
            return ensure_graph()
        raise DataError(f"no {ARCHIVE_NAME} in {cache}; give --graph=PATH or --download ({URL})")

    def features(self, split: str) -> Features:
        """Returns the graph's outputs for CIFAR-10's `train` or `test` images, computed once."""
        return self.once(f"features of {split}", lambda: self._features(split))

    def _features(self, split):
        extractor, images = self.get(GRAPH), self.get(CIFAR10)[split]
        statistics, logits = FeatureStatistics(extractor.num_features), None
        with Progress(f"CIFAR-10 {split} images", len(images)) as progress:
            for start in range(0, len(images), self.batch_size):
                batch = images[start : start + self.batch_size]
                features = extractor.extract(batch, self.batch_size)
                statistics.update(features)
                if extractor.logits is not None and split == "train":
                    rows = extractor.logits(features)
                    if logits is None:
                        # 400 MB for all of CIFAR-10, so it is allocated only once.
                        logits = np.empty((len(images), rows.shape[1]))
                    logits[start : start + len(rows)] = rows
                progress.update(len(batch))
        return Features(statistics, logits)

    def _extractor(self):
        from fid_med.extractors.registry import load_extractor

        return load_extractor(self.graph_path())

    def _images(self):
        if self.cifar10 is None:
            raise DataError(
                "no CIFAR-10; give --cifar10=FOLDER of its binary or Python version "
                f"({cifar10.URL}) or --cifar10=tfds"
            )
        if self.cifar10 == "tfds":
            return _read_tfds(self.tfds_data_dir, self.download)
        return cifar10.read_folder(self.cifar10)

    def _ordered(self):
        if self.cifar10 == "tfds":
            raise DataError(
                "tensorflow_datasets keeps CIFAR-10 in another order than its files; give "
                "--cifar10=FOLDER"
            )
        return self.get(CIFAR10)

    def _statistics(self, name):
        folder = pathlib.Path(self.ttur_stats_dir or cache_folder() / "ttur_stats")
        path = folder / name
        if not path.exists():
            if not self.download:
                raise DataError(
                    f"no {name} in {folder}; give --ttur_stats_dir=FOLDER or --download "
                    f"({TTUR_URL}/{name})"
                )
            fetch(f"{TTUR_URL}/{name}", path)
        return FeatureStatistics.load(path)


def _read_tfds(data_dir, download):
    # Loaded here: it takes seconds, and few validations ask for it.
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder("cifar10", data_dir=data_dir)
        if not os.path.isdir(builder.data_dir):
            if not download:
                raise DataError(
                    f"no cifar10 of tensorflow_datasets in {builder.data_dir}; give "
                    "--tfds_data_dir or --download"
                )
            say(f"tensorflow_datasets prepares cifar10 in {builder.data_dir}")
            builder.download_and_prepare()
        return {split: _stacked(builder.as_dataset(split=split)) for split in cifar10.COUNTS}
    except DataError:
        raise
    except Exception as error:  # whatever tensorflow_datasets and its downloader raise
        raise DataError(
            f"tensorflow_datasets has no cifar10 to give ({reason_of(error)}); give "
            f"--cifar10=FOLDER of its files ({cifar10.URL})"
        ) from None


def _stacked(dataset):
    images = (element["image"] for element in dataset.as_numpy_iterator())
    return np.stack(list(images))
