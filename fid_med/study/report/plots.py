"""Plots of a study: FID curves below disturbed images, and a contact sheet of disturbances."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from PIL import Image

from fid_med.disturbances.registry import format_settings
from fid_med.utils.plots import BLUE, GREEN, ORANGE, save_figure

# Okabe & Ito, as in `utils.plots`; the two that differ most come first.
_COLORS = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#D55E00", "#000000")
_MARKERS = "os^DvPX"
_LINES = ("-", "--", "-.", ":")
_THUMBNAIL = 224


def plot_disturbance(
    path,
    levels: Sequence[float],
    unit: str,
    pictures: Sequence[np.ndarray],
    curves: Mapping[str, Sequence[tuple[float, float, float]]],
) -> None:
    """Draws a picture above each level and a curve with its interval for each extractor.

    After Heusel et al. 2017, figure 3.

    Args:
      path: PNG file to write.
      levels, unit: labels of the horizontal axis.
      pictures: uint8 [h, w] or [h, w, 3], one per level.
      curves: (value, low, high) of the relative FID at each level, by extractor.
    """
    figure = Figure(figsize=(5.9, 5.0))
    grid = figure.add_gridspec(
        2, len(levels), height_ratios=(1, 2.1), hspace=0.06, wspace=0.05,
        left=0.18, right=0.985, top=0.985, bottom=0.135,
    )  # fmt: skip
    for k, picture in enumerate(pictures):
        axis = figure.add_subplot(grid[0, k])
        axis.imshow(_shrink(picture), cmap="gray", vmin=0, vmax=255)
        axis.set_axis_off()
        axis.set_anchor("S")  # next to the curves, whatever the image's shape
    axis = figure.add_subplot(grid[1, :])
    places = np.arange(len(levels))
    for k, (name, points) in enumerate(curves.items()):
        value, low, high = np.array(points, np.float64).T
        color = _COLORS[k % len(_COLORS)]
        axis.fill_between(places, low, high, color=color, alpha=0.22, linewidth=0)
        axis.plot(
            places, value, _LINES[k % len(_LINES)], color=color, linewidth=2,
            marker=_MARKERS[k % len(_MARKERS)], markersize=8, label=_shorten(name),
        )  # fmt: skip
    axis.set_yscale("log")
    bottom, top = axis.get_ylim()
    # Below a factor of 5, ticks at 1, 2 and 5 would be too few.
    narrow = top < 5 * bottom
    axis.yaxis.set_major_locator(
        MaxNLocator(5, steps=[1, 2, 5, 10]) if narrow else LogLocator(subs=(1, 2, 5), numticks=12)
    )
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_xlim(-0.5, len(levels) - 0.5)
    axis.set_xticks(places, [f"{level:g}" for level in levels])
    axis.tick_params(labelsize=12)
    axis.set_xlabel(f"level: {unit}", fontsize=12)
    axis.set_ylabel("relative FID\n(undisturbed = 1)", fontsize=12)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=11, loc="best")
    save_figure(figure, path)


def plot_contact_sheet(
    path, disturbances: Mapping[str, dict], pictures: Mapping[str, Sequence[np.ndarray]], scale: str
) -> None:
    """Draws a row for each disturbance: its definition, then an example at each level.

    Args:
      path: PNG file to write.
      disturbances: by name, as in a study's record: `unit`, `description`, `levels` and
        `absolute`, the absolute settings of each level.
      pictures: by name, uint8 [h, w] or [h, w, 3], one per level.
      scale: name of the length scale, for the title.
    """
    columns = max(len(about["levels"]) for about in disturbances.values())
    size = (2.1 * columns + 3.0, 2.75 * len(disturbances) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(
        len(disturbances), columns + 1, squeeze=False, width_ratios=[1.35] + [1] * columns
    )
    for (name, about), (text, *row) in zip(disturbances.items(), axes, strict=True):
        text.axis("off")
        words = [name, f"a: {about['unit']}", *textwrap.wrap(about["description"], 34)]
        text.text(0, 1, "\n".join(words), va="top", fontsize=9)
        for axis in row:
            axis.axis("off")
        examples = zip(row, about["levels"], about["absolute"], pictures[name], strict=False)
        for axis, level, settings, picture in examples:
            axis.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
            lines = [f"a = {level:g}"]
            lines += ["untouched"] if level == 0 else format_settings(settings)
            axis.text(0, -0.03, "\n".join(lines), transform=axis.transAxes, va="top", fontsize=6.5)
    figure.suptitle(f"length scale: {scale}", fontsize=11)
    save_figure(figure, path)


def _shorten(name):
    return name if len(name) <= 32 else f"{name[:31]}…"


def _shrink(picture):
    """Shrinks with antialiasing; otherwise the figure shows noise that the image does not have."""
    image = Image.fromarray(picture)
    factor = _THUMBNAIL / max(image.size)
    if factor < 1:
        size = [max(1, round(side * factor)) for side in image.size]
        image = image.resize(size, Image.Resampling.LANCZOS)
    return np.asarray(image)
