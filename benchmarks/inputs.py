"""Inputs that all contenders share: one network, one set of images, one set of features."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib

import numpy as np
from PIL import Image

from benchmarks.known_distances import Gaussians
from benchmarks.peers import Peers
from fid_med import cli
from fid_med.errors import DataError, ExtractorError

SIDES = ("real", "generated")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes of the work.

    Attributes:
      script: path of compute_fid.py, which the cases startup and command run.
      graph: the 2015-12-05 graph that all programs run; None for a stand-in with the same nodes and
        random weights.
      images: folder of images that are resized to `sizes`; None for phantoms.
      num_images: number of images per side, for pipeline and command.
      sizes: height and width of the images in pixels.
      batch_size: number of images per batch of a network.
      rounds: how often each contender is timed.
      counts: number of images per side, for frechet and bootstrap.
      dimension: dimension of the features.
      replicates: replicates of the bootstrap.
      growth: number of images per side, for growth.
    """

    script: str
    graph: str | None = None
    images: str | None = None
    num_images: int = 120
    sizes: tuple[int, ...] = (512, 1024)
    batch_size: int = 32
    rounds: int = 3
    counts: tuple[int, ...] = (500, 2048, 3000)
    dimension: int = 2048
    replicates: int = 400
    growth: tuple[int, ...] = (250, 500, 1000, 2000, 4000)

    def to_dict(self) -> dict:
        """Returns the fields as JSON types, with file names instead of paths."""
        fields = dataclasses.asdict(self)
        for name in ("script", "graph", "images"):
            fields[name] = fields[name] and os.path.basename(os.path.normpath(fields[name]))
        return fields


class BenchmarkInputs:
    """BenchmarkInputs of the cases. Each is made when it is first used, in the given folder.

    Args:
      settings: sizes of the work.
      folder: folder for the files of the run.
      peers: the other programs; they convert weights to PyTorch's format.
    """

    def __init__(self, settings: Settings, folder, peers: Peers):
        self.settings, self.folder, self.peers = settings, pathlib.Path(folder), peers

    def check(self, cases) -> None:
        """Raises FidMedError if a file that these cases read does not exist."""
        settings = self.settings
        if settings.graph and not os.path.isfile(settings.graph):
            raise ExtractorError(
                f"{settings.graph}: no such file; give the 2015-12-05 graph", wrong_flag=True
            )
        if settings.images and {"pipeline", "command"} & set(cases):
            self._image_names(2 * settings.num_images)

    @functools.cached_property
    def graph(self) -> str:
        """Path of the graph that every program runs."""
        if self.settings.graph:
            return self.settings.graph
        cli.load_tensorflow()
        from fid_med.extractors.inception_2015.stand_in import stand_in_graph

        path = self.folder / "classify_image_graph_def.pb"
        path.write_bytes(stand_in_graph().SerializeToString())
        return str(path)

    @functools.cached_property
    def extractor(self):
        """The graph as an extractor of fid_med."""
        from fid_med.extractors.registry import load_extractor

        return load_extractor(self.graph)

    @functools.cached_property
    def torch_weights(self) -> pathlib.Path:
        """The same weights for PyTorch's programs; UnavailableError if PyTorch is not installed."""
        cli.load_tensorflow()
        from benchmarks.weights import torch_arrays

        path = self.folder / "weights.pth"
        self.peers.write_weights(torch_arrays(self.graph), path)
        return path

    @functools.cached_property
    def pixels(self) -> np.ndarray:
        """One batch of smooth images at the network's size, float32 [B, 299, 299, 3], 0..255."""
        from fid_med.extractors.inception_2015.stand_in import smooth_images

        size = self.extractor.preprocessing
        images = smooth_images(self.settings.batch_size, size.height, size.width, seed=1)
        return images.astype(np.float32)

    def image_folders(self, size: int) -> dict[str, str]:
        """Returns folders `real` and `generated` of `num_images` PNG files of size x size each."""
        folders = {side: self.folder / f"{side}_{size}" for side in SIDES}
        count = self.settings.num_images
        if not folders["real"].exists():
            for side in SIDES:
                folders[side].mkdir()
            for number, image in enumerate(self._images(2 * count, size)):
                side = SIDES[number % 2]
                Image.fromarray(image).save(folders[side] / f"{number:05d}.png")
        return {side: str(folder) for side, folder in folders.items()}

    def _images(self, count, size):
        if self.settings.images is None:
            from fid_med.phantoms.radiograph import phantom_set

            for start in range(0, count, 16):
                step = min(16, count - start)
                yield from phantom_set(step, size=size, seed=start)[0]
            return
        from fid_med.data.images import read_image

        for name in self._image_names(count):
            image = Image.fromarray(read_image(os.path.join(self.settings.images, name)))
            yield np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))

    def _image_names(self, count):
        from fid_med.data.images import list_images

        names = list_images(self.settings.images)
        if len(names) < count:
            raise DataError(
                f"{self.settings.images}: {len(names)} images, {count} are needed; give a smaller "
                "--num_images"
            )
        return names[:count]

    def features(self, count: int, dimension: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Draws features of two sets, float32 [count, d] each.

        Their eigenvalues decrease as those of radiographs' features do.
        """
        dimension = dimension or self.settings.dimension
        rng = np.random.default_rng([count, dimension])
        population = Gaussians(dimension)
        sides = [population.sample("zero", count, rng) for _ in SIDES]
        turned = np.linalg.qr(rng.standard_normal((dimension, min(dimension, 64))))[0]
        return tuple(
            # Some directions are reflected, so that no covariance is diagonal.
            (side - 2 * (side @ turned) @ turned.T + shift).astype(np.float32)
            for side, shift in zip(sides, (0.0, 0.02), strict=True)
        )
