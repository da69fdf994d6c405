"""Figures of a comparison: what differs most, and what may be copied."""

import os

from fid_med.errors import DataError, SettingError
from fid_med.evaluation.extraction import FeatureSet
from fid_med.evaluation.image_plots import draw_closest_pairs, draw_directions
from fid_med.evaluation.inputs import is_statistics
from fid_med.evaluation.metric_registry import METRICS
from fid_med.evaluation.result import FIDResult

_UNREAD = "--figures reads the images a second time; give a folder or an array"


def check_figures(metrics, real, generated) -> None:
    """Checks before any work that figures can be drawn.

    Args:
      metrics: names of the metrics that were asked for, or None.
      real, generated: the sets that are compared.

    Raises:
      SettingError: no metric that was asked for has a figure.
      DataError: a side holds no images.
    """
    with_figure = [name for name, entry in METRICS.items() if entry.draw]
    wanted = [name for name in with_figure if name in (metrics or ())]
    if not wanted:
        raise SettingError(
            f"--figures draws the metrics {' and '.join(with_figure)}: name one of them in "
            "--metrics"
        )
    for name, side in (("real", real), ("generated", generated)):
        if is_statistics(side) and any(name in METRICS[x].drawn_sides for x in wanted):
            raise DataError(f"{name}: {_UNREAD}")


def draw_figures(result: FIDResult, folder) -> list[str]:
    """Draws the figures of the metrics that were computed.

    Args:
      result: of `compute_fid` with the metrics `difference` or `memorisation`.
      folder: where the PNG files go; made where it is missing.

    Returns:
      The files written: `directions.png`, `directions_CLASS.png` where FIDs by class were asked
      for, `closest_pairs.png`.

    Raises:
      DataError: images that can't be read again, such as those of a generator.
    """
    os.makedirs(folder, exist_ok=True)
    drawn = sorted(name for name in result.drawn if name in METRICS)
    return [path for name in drawn for path in METRICS[name].draw(result, folder)]


def draw_difference(result: FIDResult, folder) -> list[str]:
    """Draws the directions in which the sets differ most, over all images and by class."""
    real, generated = result.features["real"], result.features["generated"]
    parts = [("directions.png", "", result.fid, result.drawn["difference"])]
    for row, rows in zip(result.by_class or (), result.drawn.get("by_class", ()), strict=False):
        label = row["label"]
        parts.append((f"directions_{label}.png", f" in {label}", row["fid"], rows))
    written = []
    for file, of_class, fid, rows in parts:
        if not rows:
            continue
        path = os.path.join(folder, file)
        draw_directions(
            rows,
            _images(real, "real", (i for r in rows for i in (*r.real_low, *r.real_high))),
            _images(
                generated,
                "generated",
                (i for r in rows for i in (*r.generated_low, *r.generated_high)),
            ),
            path,
            title=f"Where the sets differ most{of_class} (FID {fid:.4g}, {result.extractor})",
        )
        written.append(path)
    return written


def draw_memorisation(result: FIDResult, folder) -> list[str]:
    """Draws the generated images that are closest to training images, next to these."""
    pairs = result.drawn["memorisation"]
    if not pairs:
        return []
    generated, training = result.features["generated"], result.features["training"]
    path = os.path.join(folder, "closest_pairs.png")
    draw_closest_pairs(
        pairs,
        _images(generated, "generated", (pair.generated for pair in pairs)),
        _images(training, "training", (pair.training for pair in pairs)),
        path,
        title="Generated images and the training images nearest to them",
        names=[[x.name(i) for i in range(len(x.features))] for x in (generated, training)],
    )
    return [path]


def _images(side: FeatureSet, name: str, indices) -> dict:
    if side.source is None:
        raise DataError(f"{name}: {_UNREAD}")
    return {i: side.image(i) for i in sorted(set(map(int, indices)))}
