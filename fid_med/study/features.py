"""Features of every image at every level, each computed once and kept in the study's cache.

A cell is one disturbance at one level. The images of a cell are read and disturbed once for all
extractors. Missing rows are computed and written batch by batch, so that a killed study resumes
where it stopped. The cache's key contains everything that determines the values.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Sequence

import numpy as np

from fid_med.data.preprocessing import as_rgb_batch
from fid_med.disturbances.registry import DISTURBANCES, absolute_settings
from fid_med.errors import StatisticsError
from fid_med.metrics.npz import check_checksum, checksum, read_npz, write_npz
from fid_med.study.image_quality import MEASURES, image_quality
from fid_med.study.images import UNTOUCHED, Disturber, StudyImages
from fid_med.utils.files import sweep_partials, versions
from fid_med.utils.progress import Progress
from fid_med.utils.threads import ordered_map

_QUALITY = "quality"  # in place of an extractor's fingerprint
# Packages whose version can change a row.
_MAKERS = ("fid_med", "tensorflow", "keras", "scipy", "pillow")


class StudyCache:
    """Rows by image digest: one folder for each (maker, cell), one file for each batch.

    A maker is an extractor's fingerprint, or `quality`.

    Args:
      folder: path of the cache.
    """

    def __init__(self, folder):
        self._folder = pathlib.Path(folder)

    def load(self, maker: str, cell_key: str, width: int) -> dict[str, np.ndarray]:
        """Returns every stored row, float [width], by digest.

        Files that cannot be read, have a wrong checksum or hold NaN are deleted, and their rows are
        computed again. Files of earlier versions have no checksum and are used if they hold finite
        rows of this width.
        """
        rows, folder = {}, self._folder / maker / cell_key
        sweep_partials(folder)
        for path in sorted(folder.glob("[!.]*.npz")):
            try:
                found = read_npz(path, ("digests", "rows", "checksum"), "rows of a study's cache")
                self._verify(found, maker, cell_key, width)
                rows.update(zip(found["digests"].tolist(), found["rows"], strict=True))
            except (StatisticsError, KeyError, ValueError):
                if path.is_file():
                    path.unlink()
        return rows

    @staticmethod
    def _verify(found, maker, cell_key, width):
        rows = found["rows"]
        shape = (*found["digests"].shape, width)
        if rows.shape != shape or rows.ndim != 2 or rows.dtype.kind != "f":
            raise StatisticsError("not rows of this study")
        # Of the measures of quality, psnr is always finite; small images have no others.
        if not np.isfinite(rows[:, :1] if maker == _QUALITY else rows).all():
            raise StatisticsError("NaN or infinity")
        check_checksum(found, f"{maker}/{cell_key}")

    def save(self, maker: str, cell_key: str, digests: Sequence[str], rows: np.ndarray) -> None:
        """Adds rows [N, k], atomically."""
        name = hashlib.sha256("".join(digests).encode()).hexdigest()[:24]
        path = self._folder / maker / cell_key / f"{name}.npz"
        arrays = {"digests": np.array(digests), "rows": np.asarray(rows)}
        arrays["checksum"] = checksum(arrays, f"{maker}/{cell_key}")
        write_npz(path, arrays)


def cell_key(cell: tuple[str, float], disturber: Disturber) -> str:
    """Returns a folder name of all that determines a cell's rows, except image and extractor."""
    made_by = {name: versions().get(name) for name in _MAKERS}
    settings = [cell, disturber.seed]
    if _has_lengths(*cell):  # a cell without lengths is the same on every scale
        settings += [disturber.scale, disturber.input_size if disturber.scale == "pixel" else None]
    text = json.dumps([made_by, cell if cell == UNTOUCHED else settings])
    return f"{cell[0]}-{cell[1]:g}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _has_lengths(name, level):
    if name not in DISTURBANCES:
        return False
    one, other = (
        absolute_settings(name, level, (64, 64), scale="pixel", input_size=size)
        for size in (64, 128)
    )
    return one != other


@dataclasses.dataclass
class CellRows:
    """Rows of one cell, in the images' order.

    Attributes:
      features: float32 [N, d] of each extractor.
      quality: float64 [N, 3], the `MEASURES` of each image against its untouched original; None
        for the untouched cell.
    """

    features: list[np.ndarray]
    quality: np.ndarray | None


def compute_cell(
    images: StudyImages,
    cell: tuple[str, float],
    extractors: Sequence,
    disturber: Disturber,
    cache: StudyCache,
    *,
    batch_size: int = 32,
) -> CellRows:
    """Returns features and quality of all images in one cell; computes those not in the cache.

    Args:
      images: N images.
      cell: name and level; `UNTOUCHED` for the images as they are.
      extractors: `FeatureExtractor`s.
      disturber: makes the cell's images.
      cache: where rows are kept.
      batch_size: number of images per batch.
    """
    with_quality = cell != UNTOUCHED
    key = cell_key(cell, disturber)
    makers = [extractor.fingerprint[:32] for extractor in extractors] + [_QUALITY] * with_quality
    widths = [extractor.num_features for extractor in extractors] + [len(MEASURES)]
    known = [cache.load(maker, key, width) for maker, width in zip(makers, widths, strict=False)]
    missing = [
        i for i, digest in enumerate(images.digests) if any(digest not in rows for rows in known)
    ]
    inputs = list(dict.fromkeys(extractor.preprocessing for extractor in extractors))

    def prepare(i):
        image = images.loaders[i]()
        disturbed = disturber.apply(image, cell)
        pair = (image, disturbed) if with_quality else None
        return {preprocessing: preprocessing.apply(disturbed) for preprocessing in inputs}, pair

    def compute(maker_index, prepared):
        if maker_index == len(extractors):
            measured = image_quality(*zip(*(pair for _, pair in prepared), strict=True))
            return np.stack([measured[name] for name in MEASURES], axis=1)
        extractor = extractors[maker_index]
        pixels = as_rgb_batch([views[extractor.preprocessing] for views, _ in prepared])
        return extractor.extract_batch(pixels, batch_size)

    label = "untouched" if cell == UNTOUCHED else f"{cell[0]} {cell[1]:g}"
    with Progress(f"{images.name}, {label}", len(missing)) as progress:
        queue = ordered_map(prepare, missing)
        for start in range(0, len(missing), batch_size):
            batch = missing[start : start + batch_size]
            prepared = [next(queue) for _ in batch]
            digests = [images.digests[i] for i in batch]
            for k, (maker, rows) in enumerate(zip(makers, known, strict=True)):
                if any(digest not in rows for digest in digests):
                    values = compute(k, prepared)
                    cache.save(maker, key, digests, values)
                    rows.update(zip(digests, values, strict=True))
            progress.update(len(batch))
        queue.close()
    stacked = [np.stack([rows[digest] for digest in images.digests]) for rows in known]
    return CellRows(stacked[: len(extractors)], stacked[-1] if with_quality else None)
