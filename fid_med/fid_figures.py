"""Pictures of a comparison: what differs most, and what may be copied."""

import os

from fid_med.errors import DataError, SettingError
from fid_med.fid_result import FIDResult
from fid_med.measures import FeatureSet
from fid_med.metrics.differences import Direction
from fid_med.metrics.memorisation import ClosePair
from fid_med.plots_pairs import draw_closest_pairs, draw_directions


def check_figures(metrics) -> None:
    """Raises SettingError where no metric that was asked for has a figure."""
    if not {"difference", "memorisation"} & set(metrics or ()):
        raise SettingError(
            "--figures draws the metrics difference and memorisation: name one of them in --metrics"
        )


def draw_figures(result: FIDResult, folder) -> list[str]:
    """Draws `directions.png` and `closest_pairs.png`, for the metrics that were computed.

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
    found = result.metrics.get("difference")
    if found and found["directions"]:
        rows = [Direction(vector=None, **row) for row in found["directions"]]
        path = os.path.join(folder, "directions.png")
        draw_directions(
            rows,
            _images(real, "real", (i for r in rows for i in (*r.real_low, *r.real_high))),
            _images(
                generated,
                "generated",
                (i for r in rows for i in (*r.generated_low, *r.generated_high)),
            ),
            path,
            title=f"Where the sets differ most (FID {result.fid:.4g}, {result.extractor})",
        )
        written.append(path)
    found = result.metrics.get("memorisation")
    if found and found["pairs"]:
        pairs = [ClosePair(**pair) for pair in found["pairs"]]
        path = os.path.join(folder, "closest_pairs.png")
        draw_closest_pairs(
            pairs,
            _images(generated, "generated", (pair.generated for pair in pairs)),
            _images(training, "training", (pair.training for pair in pairs)),
            path,
            title="Generated images and the training images nearest to them",
        )
        written.append(path)
    return written


def _images(side: FeatureSet, name: str, indices) -> dict:
    if side.loaders is None:
        raise DataError(f"{name}: figures need images that can be read again, a folder or an array")
    return {i: side.image(i) for i in sorted(set(indices))}
