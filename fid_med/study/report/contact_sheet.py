"""A contact sheet of a study's disturbances beside their definitions and absolute values."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from fid_med.disturbances.registry import settings_lines
from fid_med.utils.plots import save_figure


def disturbance_sheet(
    path, disturbances: Mapping[str, dict], pictures: Mapping[str, Sequence[np.ndarray]], scale: str
) -> None:
    """Draws a row for each disturbance: its definition, then an example at each level.

    Args:
      path: PNG to write.
      disturbances: by name, as in a study's record: `unit`, `description`, `levels`, and
        `absolute`, the settings that each level stands for.
      pictures: by name, uint8 [h, w] or [h, w, 3], one a level.
      scale: of the levels, above the sheet.
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
            lines += ["untouched"] if level == 0 else settings_lines(settings)
            axis.text(0, -0.03, "\n".join(lines), transform=axis.transAxes, va="top", fontsize=6.5)
    figure.suptitle(f"scale {scale}", fontsize=11)
    save_figure(figure, path)
