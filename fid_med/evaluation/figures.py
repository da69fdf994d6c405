"""Pictures of a comparison: what differs most, and what may be copied."""

import os

from fid_med.errors import DataError, SettingError
from fid_med.evaluation.image_plots import draw_closest_pairs, draw_directions
from fid_med.evaluation.inputs import is_statistics
from fid_med.evaluation.metric_registry import FeatureSet
from fid_med.evaluation.result import FIDResult
from fid_med.metrics.difference import Direction
from fid_med.metrics.memorisation import ClosePair

_UNREAD = "figures need images that can be read again, a folder or an array"


def check_figures(metrics, real, generated) -> None:
    """Refuses figures that cannot be drawn, before any work.

    Args:
      metrics: that were asked for, or None.
      real, generated: what is compared.

    Raises:
      SettingError: nothing that was asked for has a figure.
      DataError: the images are not there.
    """
    drawn = {"difference", "memorisation"} & set(metrics or ())
    if not drawn:
        raise SettingError(
            "--figures draws the metrics difference and memorisation: name one of them in --metrics"
        )
    needed = {"generated": generated} | ({"real": real} if "difference" in drawn else {})
    for name, side in needed.items():
        if is_statistics(side):
            raise DataError(f"{name}: {_UNREAD}")


def draw_figures(result: FIDResult, folder) -> list[str]:
    """Draws `directions.png` and `closest_pairs.png`, for the metrics that were computed.

    Where FIDs by class were asked for, `directions_CLASS.png` too.

    Args:
      result: of `compute_fid` with the metrics `difference` or `memorisation`.
      folder: where to; made where it is missing.

    Returns:
      The files written.

    Raises:
      DataError: images that can't be read again, such as those of a generator.
    """
    real, generated, training = map(result.features.get, ("real", "generated", "training"))
    os.makedirs(folder, exist_ok=True)
    written = []
    for label, fid, rows in _differences(result):
        name = "directions" if label is None else f"directions_{label}"
        path = os.path.join(folder, f"{name}.png")
        of = "" if label is None else f" in {label}"
        draw_directions(
            rows,
            _images(real, "real", (i for r in rows for i in (*r.real_low, *r.real_high))),
            _images(
                generated,
                "generated",
                (i for r in rows for i in (*r.generated_low, *r.generated_high)),
            ),
            path,
            title=f"Where the sets differ most{of} (FID {fid:.4g}, {result.extractor})",
        )
        written.append(path)
    found = result.metrics.get("memorisation")
    if found and found["pairs"]:
        pairs = [ClosePair(*(pair[key] for key in ClosePair._fields)) for pair in found["pairs"]]
        path = os.path.join(folder, "closest_pairs.png")
        draw_closest_pairs(
            pairs,
            _images(generated, "generated", (pair.generated for pair in pairs)),
            _images(training, "training", (pair.training for pair in pairs)),
            path,
            title="Generated images and the training images nearest to them",
            names=(_names(generated), _names(training)),
        )
        written.append(path)
    return written


def _differences(result):
    """What `directions` found of all images (label None), and within each class."""
    found = result.metrics.get("difference")
    if not found:
        return
    rows = [(None, result.fid, found["directions"])]
    rows += [(row["label"], row["fid"], row["directions"]) for row in result.by_class or ()]
    for label, fid, directions in rows:
        if directions:
            yield label, fid, [Direction(vector=None, **row) for row in directions]


def _names(side: FeatureSet):
    return side.names or range(len(side.features))


def _images(side: FeatureSet, name: str, indices) -> dict:
    if side.loaders is None:
        raise DataError(f"{name}: {_UNREAD}")
    return {i: side.image(i) for i in sorted(set(indices))}
