"""Example pictures of a study: one image at each level of each disturbance."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from fid_med.disturbances.registry import DISTURBANCES
from fid_med.study.features import UNTOUCHED, Disturber
from fid_med.study.images import StudyImages

_TILE = 256


def example_pictures(
    images: StudyImages,
    foreign: StudyImages | None,
    names: Sequence[str],
    disturber: Disturber,
    example: np.ndarray | None = None,
) -> dict[str, list[np.ndarray]]:
    """Pictures uint8 [h, w] or [h, w, 3] by disturbance and level, level 0 first.

    The image is the first, by content, of the most frequent size; where a disturbance is of sets,
    a picture shows four images. `example`, where given, is shown in place of
    all of them.
    """
    mosaic = [example] if example is not None else [load() for load in images.loaders[:4]]
    others = [load() for load in foreign.loaders[:4]] if foreign else []
    if example is None:
        size = images.shapes[0][0]
        example = next(x for x in (load() for load in images.loaders) if x.shape[:2] == size)
    pictures = {}
    for name in names:
        levels = DISTURBANCES[name].levels
        if DISTURBANCES[name].set_level:
            pictures[name] = [_mosaic(mosaic, others, level) for level in levels]
        else:
            cells = [UNTOUCHED, *((name, level) for level in levels[1:])]
            pictures[name] = [disturber.apply(example, cell) for cell in cells]
    return pictures


def _mosaic(images, others, level):
    """Four images in a square, that share of them of the other domain."""
    kept = 4 - round(4 * level)
    sides = [images] * kept + [others] * (4 - kept)
    tiles = [
        np.asarray(Image.fromarray(side[k % len(side)]).convert("RGB").resize((_TILE, _TILE)))
        for k, side in enumerate(sides)
    ]
    return np.concatenate([np.concatenate(tiles[:2], 1), np.concatenate(tiles[2:], 1)])
