"""Features of every image at every level, each computed once and kept in the study's cache.

A cell is one disturbance at one level. Images of a cell are read and disturbed once for all
extractors; what a cell lacks is computed and written batch by batch, so that a killed study goes
on where it stopped. The cache's key holds all that decides the values.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Sequence

import numpy as np

from fid_med.data.preprocessing import as_rgb_batch
from fid_med.disturbances.registry import DISTURBANCES, absolute_settings, disturb
from fid_med.errors import StatisticsError
from fid_med.metrics.npz import read_npz, write_npz
from fid_med.study.image_quality import MEASURES, image_quality
from fid_med.study.images import StudyImages
from fid_med.utils.files import versions
from fid_med.utils.progress import Progress
from fid_med.utils.threads import ordered_map

UNTOUCHED = ("none", 0.0)
# Whose versions may decide a row.
_MAKERS = ("fid_med", "tensorflow", "keras", "scipy", "pillow")


@dataclasses.dataclass(frozen=True)
class Disturber:
    """How cells are made: scale, the input size that `pixel` refers to, and the seed."""

    scale: str
    input_size: int
    seed: int

    def apply(self, image: np.ndarray, cell: tuple[str, float]) -> np.ndarray:
        """The image at the cell's disturbance and level."""
        name, level = cell
        if cell == UNTOUCHED:
            return image
        return disturb(
            image, name, level, scale=self.scale, input_size=self.input_size, seed=self.seed
        )

    def key(self, cell: tuple[str, float]) -> str:
        """What decides a cell's rows beside image and extractor, as a folder's name."""
        made_by = {name: versions().get(name) for name in _MAKERS}
        decides = [cell, self.seed]
        if _has_lengths(*cell):  # without them a cell is the same on every scale
            decides += [self.scale, self.input_size if self.scale == "pixel" else None]
        text = json.dumps([made_by, cell if cell == UNTOUCHED else decides])
        return f"{cell[0]}-{cell[1]:g}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _has_lengths(name, level):
    if name not in DISTURBANCES:
        return False
    one, other = (
        absolute_settings(name, level, (64, 64), scale="pixel", input_size=size)
        for size in (64, 128)
    )
    return one != other


class Cache:
    """Rows by image digest, in one folder for each (maker, cell), one file for each batch."""

    def __init__(self, folder):
        self._folder = pathlib.Path(folder)

    def load(self, maker: str, cell: str) -> dict[str, np.ndarray]:
        """Every row that is there, float [k]; files that cannot be read are computed again."""
        rows = {}
        for path in sorted((self._folder / maker / cell).glob("[!.]*.npz")):
            try:
                found = read_npz(path, ("digests", "rows"), "rows of a study's cache")
                rows.update(zip(found["digests"].tolist(), found["rows"], strict=True))
            except (StatisticsError, KeyError, ValueError):
                path.unlink()
        return rows

    def save(self, maker: str, cell: str, digests: Sequence[str], rows: np.ndarray) -> None:
        """Adds rows [N, k], whole or not at all."""
        name = hashlib.sha256("".join(digests).encode()).hexdigest()[:24]
        path = self._folder / maker / cell / f"{name}.npz"
        write_npz(path, {"digests": np.array(digests), "rows": rows})


@dataclasses.dataclass
class CellRows:
    """One cell: features [N, d] of each extractor, and quality [N, 3] beside the untouched image.

    The measures of quality are those of `MEASURES`; None where the cell has no such pairs.
    """

    features: list[np.ndarray]
    quality: np.ndarray | None


def cell_rows(
    images: StudyImages,
    cell: tuple[str, float],
    extractors: Sequence,
    disturber: Disturber,
    cache: Cache,
    *,
    batch_size: int = 32,
    with_quality: bool = True,
) -> CellRows:
    """Features, and quality, of all images in one cell, from the cache as far as it goes.

    Args:
      images: N images.
      cell: name and level; `UNTOUCHED` for the images as they are.
      extractors: `FeatureExtractor`s.
      disturber: makes the cell's images.
      cache: where rows are kept.
      batch_size: images that go through a network at once.
      with_quality: also compare each image with its untouched self.

    Returns:
      The rows, in the images' order.
    """
    with_quality = with_quality and cell != UNTOUCHED
    key = disturber.key(cell)
    makers = [extractor.fingerprint[:32] for extractor in extractors]
    makers += ["quality"] * with_quality
    known = [cache.load(maker, key) for maker in makers]
    missing = [
        i for i, digest in enumerate(images.digests) if any(digest not in rows for rows in known)
    ]
    shapes = list(dict.fromkeys(extractor.preprocessing for extractor in extractors))

    def prepare(i):
        image = images.loaders[i]()
        disturbed = disturber.apply(image, cell)
        pair = (image, disturbed) if with_quality else None
        return {shape: shape.apply(disturbed) for shape in shapes}, pair

    what = "untouched" if cell == UNTOUCHED else f"{cell[0]} {cell[1]:g}"
    with Progress(f"{images.name}, {what}", len(missing)) as progress:
        prepared = ordered_map(prepare, missing)
        for start in range(0, len(missing), batch_size):
            batch = missing[start : start + batch_size]
            ready = [next(prepared) for _ in batch]
            digests = [images.digests[i] for i in batch]
            for extractor, maker, rows in zip(extractors, makers, known, strict=False):
                if any(digest not in rows for digest in digests):
                    pixels = as_rgb_batch([views[extractor.preprocessing] for views, _ in ready])
                    features = extractor.extract_batch(pixels, batch_size)
                    _keep(cache, maker, key, digests, features, rows)
            if with_quality and any(digest not in known[-1] for digest in digests):
                measured = image_quality(*zip(*(pair for _, pair in ready), strict=True))
                values = np.stack([measured[name] for name in MEASURES], axis=1)
                _keep(cache, "quality", key, digests, values, known[-1])
            progress.update(len(batch))
        prepared.close()
    stacked = [np.stack([rows[digest] for digest in images.digests]) for rows in known]
    return CellRows(stacked[: len(extractors)], stacked[-1] if with_quality else None)


def _keep(cache, maker, key, digests, values, rows):
    cache.save(maker, key, digests, values)
    rows.update(zip(digests, values, strict=True))
