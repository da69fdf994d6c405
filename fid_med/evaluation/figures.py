"""Figures of a comparison: what differs most, and what may be copied."""

import os

from fid_med.errors import DataError
from fid_med.evaluation.extraction import NOT_REPEATABLE, FeatureSet
from fid_med.evaluation.image_plots import draw_closest_pairs, draw_directions


def draw_difference(result, folder) -> list[str]:
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


def draw_memorisation(result, folder) -> list[str]:
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
        raise DataError(f"{name}: {NOT_REPEATABLE}")
    return {i: side.image(i) for i in sorted(set(map(int, indices)))}
