"""Figures of a comparison: what differs most, and what may be copied."""

import os

import numpy as np

from fid_med.errors import DataError
from fid_med.evaluation.extraction import NOT_REPEATABLE, FeatureSet
from fid_med.evaluation.image_plots import (
    draw_closest_pairs,
    draw_directions,
    draw_heat_maps,
    heat_image,
)
from fid_med.metrics.difference import gradients

_HEATED = 4  # images of each set with a heat map


def draw_difference(result, folder) -> list[str]:
    """Draws in which directions and where in the images the sets differ most.

    Directions are drawn over all images and by class.
    """
    return [*_draw_directions(result, folder), *_draw_heat_maps(result, folder)]


def _draw_directions(result, folder):
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


def _draw_heat_maps(result, folder):
    # Loaded here, because it loads TensorFlow, which the other figures do without.
    from fid_med.extractors.feature_maps import FeatureMaps, has_feature_maps

    sides = {name: result.features[name] for name in ("generated", "real")}
    extractor = sides["real"].extractor
    # Sets that do not differ have no direction, and no place where they do.
    if not result.drawn["difference"] or not has_feature_maps(extractor):
        return []
    found = gradients(sides["real"].features, sides["generated"].features)
    maps = FeatureMaps(extractor, found.real.shape[1])
    rows = {}
    for name, side in sides.items():
        contributions = np.array(result.metrics["difference"][f"{name}_contributions"])
        rows[name] = []
        for i in np.argsort(-contributions, kind="stable")[:_HEATED].tolist():
            image = side.image(i)
            gradient, activations = getattr(found, name)[i], maps.compute(image)
            rows[name].append(
                heat_image(
                    side.name(i), image, maps, activations, gradient, contributions[i], result.fid
                )
            )
    path = os.path.join(folder, "heatmaps.png")
    draw_heat_maps(
        rows,
        path,
        title=f"Where in the images the FID comes from (FID {result.fid:.4g}, {result.extractor})",
    )
    return [path]


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
