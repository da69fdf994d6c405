"""Plots of a study: FID curves below disturbed images, and a contact sheet of disturbances."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from PIL import Image

from fid_med.disturbances.registry import format_settings
from fid_med.study.judgement import FALLS, RISES, UNDECIDED
from fid_med.study.report.wording import SIGNS
from fid_med.utils.plots import BLUE, GREEN, ORANGE, save_figure

# Okabe & Ito, as in `utils.plots`; the two that differ most come first.
_COLORS = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#D55E00", "#000000")
_MARKERS = "os^DvPX"
_LINES = ("-", "--", "-.", ":")
_THUMBNAIL = 320
_COLUMNS = 3
# As on the page.
_VERDICT_COLORS = {RISES: BLUE, FALLS: "#B04A00", UNDECIDED: "#777777"}
_VERDICTS = {verdict: (color, SIGNS[verdict]) for verdict, color in _VERDICT_COLORS.items()}


def plot_verdicts(
    path, grids: Mapping[str, Mapping[str, Sequence[tuple[str, float]]]], note: str = ""
) -> None:
    """Draws the verdicts as one grid for each extractor: disturbances by depths.

    Args:
      path: PNG file to write.
      note: number of images and splits, shown below the grids.
      grids: by extractor, then by depth, (verdict, share of the splits in which the FID rises at
        every step) for each disturbance by its name.
    """
    some = next(iter(grids.values()))
    depths, names = list(some), list(next(iter(some.values())))
    columns = min(2, len(grids))
    rows = -(-len(grids) // columns)
    size = (2.3 + columns * (0.4 + 0.85 * len(depths)), 0.8 + rows * (0.8 + 0.36 * len(names)))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axis in axes[len(grids) :]:
        axis.set_axis_off()
    for axis, (extractor, by_depth) in zip(axes, grids.items(), strict=False):
        for x, cells in enumerate(by_depth.values()):
            for y, (verdict, share) in enumerate(cells.values()):
                color, sign = _VERDICTS[verdict]
                axis.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=color, edgecolor="w"))
                text = f"{sign} {100 * share:.0f}"
                axis.text(x, y, text, ha="center", va="center", color="w", fontsize=9)
        axis.set_xlim(-0.5, len(depths) - 0.5)
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.set_xticks(range(len(depths)), depths, fontsize=9)
        axis.xaxis.tick_top()
        axis.tick_params(length=0)
        axis.set_yticks(range(len(names)), names, fontsize=10)
        axis.set_title(_shorten(extractor), fontsize=11)
        for side in axis.spines.values():
            side.set_visible(False)
    lines = ["number: % of the splits in which the FID rises at every step", note]
    figure.supxlabel("\n".join(filter(None, lines)), fontsize=9)
    handles = [
        Rectangle((0, 0), 1, 1, facecolor=color, label=f"{sign} {verdict}")
        for verdict, (color, sign) in _VERDICTS.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=9, frameon=False)
    save_figure(figure, path)


def plot_disturbance(
    path,
    title: str,
    levels: Sequence[float],
    unit: str,
    pictures: Sequence[np.ndarray],
    curves: Mapping[str, Mapping[str, Sequence[tuple[float, float, float]]]],
    note: str = "",
) -> None:
    """Draws a picture of each level, and below them one panel of curves for each depth.

    After Heusel et al. 2017, figure 3. Each panel has a curve with its interval for each extractor.

    Args:
      path: PNG file to write.
      title: title of the figure.
      levels, unit: labels of the horizontal axes.
      pictures: uint8 [h, w] or [h, w, 3], one per level.
      curves: (value, low, high) of the relative FID at each level, by depth, then by extractor.
      note: what curves and bands are, shown below them.
    """
    columns = min(_COLUMNS, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(9.6, 3.3 + 2.9 * rows), layout="constrained")
    figure.suptitle(title, fontsize=13)
    top, bottom = figure.subfigures(2, 1, height_ratios=(2.7, 0.6 + 2.9 * rows))
    for axis, level, picture in zip(top.subplots(1, len(levels)), levels, pictures, strict=True):
        axis.imshow(_shrink(picture), cmap="gray", vmin=0, vmax=255)
        axis.set_axis_off()
        axis.set_title(f"level {level:g}" if level else "undisturbed", fontsize=10)
    axes = bottom.subplots(rows, columns, squeeze=False)
    for axis, (depth, of_depth) in zip(axes.ravel(), curves.items(), strict=False):
        _draw_curves(axis, levels, of_depth)
        axis.set_title(depth, fontsize=11)
    for axis in axes.ravel()[len(curves) :]:
        axis.set_axis_off()
    for axis in axes[:, 0]:
        axis.set_ylabel("relative FID\n(undisturbed = 1)", fontsize=11)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    unused = len(curves) < rows * columns
    place = axes[-1, -1] if unused else axes[0, 0]
    place.legend(handles, labels, fontsize=10, loc="center left" if unused else "best")
    bottom.supxlabel("\n".join([f"level: {unit}", *note.splitlines()]), fontsize=10)
    save_figure(figure, path)


def _draw_curves(axis, levels, curves):
    places = np.arange(len(levels))
    for k, (name, points) in enumerate(curves.items()):
        value, low, high = np.array(points, np.float64).T
        color = _COLORS[k % len(_COLORS)]
        axis.fill_between(places, low, high, color=color, alpha=0.22, linewidth=0)
        axis.plot(
            places, value, _LINES[k % len(_LINES)], color=color, linewidth=2,
            marker=_MARKERS[k % len(_MARKERS)], markersize=7, label=_shorten(name),
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
    axis.tick_params(labelsize=10)
    axis.grid(alpha=0.3)


def plot_contact_sheet(
    path, disturbances: Mapping[str, dict], pictures: Mapping[str, Sequence[np.ndarray]], scale: str
) -> None:
    """Draws a row for each disturbance: its definition, then an example at each level.

    Args:
      path: PNG file to write.
      disturbances: by name, as in a study's record: `unit`, `description`, `levels` and
        `absolute`, the absolute settings of each level.
      pictures: by name, uint8 [h, w] or [h, w, 3], one per level.
      scale: name of the length scale, for the title, as for `disturb`.
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
    unit = "the image's height / 64" if scale == "paper" else "a pixel of the extractor's input"
    figure.suptitle(f"unit of lengths: {unit} (scale {scale})", fontsize=11)
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
