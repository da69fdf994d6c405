"""A contact sheet of disturbances beside their definitions and absolute values."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from fid_med.data.disturbances import (
    DISTURBANCES,
    absolute_settings,
    contaminate,
    content_digest,
    disturb,
    settings_lines,
)
from fid_med.plots import save_figure

_TILES = 4  # a side of the square of images that stands for a set


def disturbance_sheet(
    images: Sequence[np.ndarray],
    path,
    *,
    names: Sequence[str] = tuple(DISTURBANCES),
    foreign: Sequence[np.ndarray] | None = None,
    scale: str = "paper",
    input_size: int = 299,
    seed: int = 0,
    title: str = "",
) -> None:
    """Draws a row for each disturbance: its definition, then one image at each level.

    Contamination and mirroring show a square of up to 16 images, since they differ by their share.

    Args:
      images: uint8 [H, W] or [H, W, 3]; the first is shown, the first 16 stand for a set.
      path: PNG to write.
      names: keys of `DISTURBANCES`, top to bottom.
      foreign: as many images of another domain; without them contamination is left out.
      scale, input_size, seed: as for `disturb`.
      title: above the sheet.
    """
    names = [n for n in names if foreign is not None or not DISTURBANCES[n].set_level]
    columns = max(len(DISTURBANCES[name].levels) for name in names)
    figure = Figure(figsize=(2.1 * columns + 3.0, 2.75 * len(names) + 0.5), layout="constrained")
    axes = figure.subplots(
        len(names), columns + 1, squeeze=False, width_ratios=[1.35] + [1] * columns
    )
    options = {"scale": scale, "input_size": input_size}
    for name, (text, *row) in zip(names, axes, strict=True):
        one = DISTURBANCES[name]
        text.axis("off")
        words = [name, f"a: {one.unit}", *textwrap.wrap(one.description, 34)]
        text.text(0, 1, "\n".join(words), va="top", fontsize=9)
        for axis in row:
            axis.axis("off")
        for axis, level in zip(row, one.levels, strict=False):
            picture = _picture(name, level, images, foreign, options, seed)
            axis.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
            settings = absolute_settings(name, level, images[0].shape, **options)
            lines = [f"a = {level:g}"]
            lines += ["untouched"] if level == 0 else settings_lines(settings)
            axis.text(0, -0.03, "\n".join(lines), transform=axis.transAxes, va="top", fontsize=6.5)
    height, width = images[0].shape[:2]
    where = "height / 64" if scale == "paper" else f"pixels of an input {input_size} high"
    figure.suptitle(f"{title}\n{width} x {height} pixels, scale {scale}: {where}", fontsize=11)
    save_figure(figure, path)


def _picture(name, level, images, foreign, options, seed):
    if name not in ("contamination", "wrong_laterality"):
        return disturb(images[0], name, level, seed=seed, **options)
    members = list(images[: _TILES**2])
    if DISTURBANCES[name].set_level:
        digests = [content_digest(image) for image in members]
        chosen = contaminate(len(members), digests, level, seed)
        members = [
            foreign[i % len(foreign)] if chosen[i] else image for i, image in enumerate(members)
        ]
    else:
        members = [disturb(image, name, level, seed=seed, **options) for image in members]
    return _mosaic(members)


def _mosaic(images):
    """A square of images, each by its nearest pixels; places without an image are black."""
    side = 128
    sheet = np.zeros((_TILES * side, _TILES * side), np.uint8)
    for i, image in enumerate(images):
        grey = image if image.ndim == 2 else image.mean(axis=-1)
        rows, columns = (np.arange(side) * n // side for n in grey.shape)
        top, left = (side * n for n in divmod(i, _TILES))
        sheet[top : top + side, left : left + side] = grey[np.ix_(rows, columns)]
    return sheet
