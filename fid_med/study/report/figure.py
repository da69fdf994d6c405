"""The study's figure, after Heusel et al. 2017, figure 3: disturbed images above FID's curve."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from PIL import Image

from fid_med.utils.plots import BLUE, GREEN, ORANGE, save_figure

# Okabe & Ito, as in `plots`; blue and orange first, which differ most.
COLORS = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#D55E00", "#000000")
_MARKERS = "os^DvPX"
_LINES = ("-", "--", "-.", ":")
_THUMB = 224


def plot_disturbance(
    path,
    levels: Sequence[float],
    unit: str,
    pictures: Sequence[np.ndarray],
    curves: dict[str, Sequence[tuple[float, float, float]]],
) -> None:
    """Draws one disturbance: a picture above each level, a curve with its band each extractor.

    Args:
      path: PNG to write.
      levels, unit: of the horizontal axis.
      pictures: uint8 [h, w] or [h, w, 3], one a level.
      curves: (value, low, high) of the relative FID at each level, by extractor.
    """
    figure = Figure(figsize=(5.9, 5.0))
    grid = figure.add_gridspec(
        2, len(levels), height_ratios=(1, 2.1), hspace=0.06, wspace=0.05,
        left=0.145, right=0.985, top=0.985, bottom=0.135,
    )  # fmt: skip
    for k, picture in enumerate(pictures):
        axis = figure.add_subplot(grid[0, k])
        axis.imshow(_thumbnail(picture), cmap="gray", vmin=0, vmax=255)
        axis.set_axis_off()
        axis.set_anchor("S")  # close to the curves, whatever the image's shape
    axis = figure.add_subplot(grid[1, :])
    places = np.arange(len(levels))
    for k, (name, points) in enumerate(curves.items()):
        value, low, high = np.array(points, np.float64).T
        color = COLORS[k % len(COLORS)]
        axis.fill_between(places, low, high, color=color, alpha=0.22, linewidth=0)
        axis.plot(
            places, value, _LINES[k % len(_LINES)], color=color, linewidth=2,
            marker=_MARKERS[k % len(_MARKERS)], markersize=8, label=_short(name),
        )  # fmt: skip
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_xlim(-0.5, len(levels) - 0.5)
    axis.set_xticks(places, [f"{level:g}" for level in levels])
    axis.tick_params(labelsize=12)
    axis.set_xlabel(unit, fontsize=12)
    axis.set_ylabel("FID, times that of\nundisturbed images", fontsize=12)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=11, loc="best")
    save_figure(figure, path)


def _short(name):
    return name if len(name) <= 32 else f"{name[:31]}…"


def _thumbnail(picture):
    """Reduced with antialiasing, or the figure would show other noise than the image has."""
    image = Image.fromarray(picture)
    shrink = _THUMB / max(image.size)
    if shrink < 1:
        size = [max(1, round(side * shrink)) for side in image.size]
        image = image.resize(size, Image.Resampling.LANCZOS)
    return np.asarray(image)
