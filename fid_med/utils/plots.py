"""Plots, drawn without a display, in colours that colour-blind readers can distinguish."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fid_med.utils.files import atomic_path

# Okabe & Ito, "Color Universal Design", 2008.
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
_LONGEST_NAME = 32


def shorten_name(name: str) -> str:
    """Shortens the name of a set so that it fits next to an axis."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def save_figure(figure: Figure, path) -> None:
    """Writes a figure as a PNG file, atomically."""
    FigureCanvasAgg(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def plot_history(rows: Sequence[dict], path, kept: Mapping[str, int]) -> None:
    """Draws loss, accuracy and validation AUC over the epochs, one column per phase.

    Args:
      rows: rows of `EpochLog`.
      path: PNG file to write.
      kept: the epoch whose weights were kept, by phase.
    """
    phases = list(dict.fromkeys(row["phase"] for row in rows))
    titles = {
        "head": "head only, network frozen",
        "top": "last blocks and head",
        "all": "every layer",
    }
    figure = Figure(figsize=(4.5 * len(phases) + 0.5, 6.5), layout="constrained")
    axes = figure.subplots(2, len(phases), squeeze=False, sharex="col")
    for phase, (loss_axis, share_axis) in zip(phases, axes.T, strict=True):
        of_phase = [row for row in rows if row["phase"] == phase]
        epochs = [row["epoch"] for row in of_phase]

        def draw(axis, key, label, color, style, of_phase=of_phase, epochs=epochs):
            values = [np.nan if row[key] is None else row[key] for row in of_phase]
            axis.plot(epochs, values, style, color=color, label=label, markersize=4)

        draw(loss_axis, "loss", "training", BLUE, "o-")
        draw(loss_axis, "val_loss", "validation", ORANGE, "s--")
        if any(row.get("auxiliary_loss") is not None for row in of_phase):
            draw(loss_axis, "auxiliary_loss", "training, auxiliary head", GREEN, "^:")
        draw(share_axis, "accuracy", "training accuracy", BLUE, "o-")
        draw(share_axis, "val_accuracy", "validation accuracy", ORANGE, "s--")
        draw(share_axis, "val_auc", "validation AUC", GREEN, "^:")
        loss_axis.set_title(titles.get(phase, phase))
        loss_axis.set_ylabel("loss (cross-entropy)")
        share_axis.set_ylim(0, 1.02)
        share_axis.set_ylabel("accuracy, AUC")
        share_axis.xaxis.get_major_locator().set_params(integer=True)
        for axis in (loss_axis, share_axis):
            label = f"kept: epoch {kept[phase]}"
            axis.axvline(kept[phase], color="k", linestyle="-.", linewidth=1, label=label)
            axis.set_xlabel("epoch")
            axis.tick_params(labelbottom=True)
            axis.grid(alpha=0.3)
            axis.legend()
    save_figure(figure, path)


def contact_sheet(rows: Sequence[tuple[str, Sequence[np.ndarray]]], path, title: str = "") -> None:
    """Draws rows of images, each with its label.

    Args:
      rows: (label, uint8 images [H, W] or [H, W, 3]) for each row.
      path: PNG file to write.
      title: title of the figure.
    """
    columns = max(len(images) for _, images in rows)
    figure = Figure(figsize=(1.6 * columns + 1, 1.65 * len(rows) + 0.4), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for (label, images), row in zip(rows, axes, strict=True):
        for axis in row:
            axis.set_xticks([])
            axis.set_yticks([])
        for axis, image in zip(row, images, strict=False):
            axis.imshow(image, cmap="gray", vmin=0, vmax=255)
        row[0].set_ylabel(label)
    figure.suptitle(title)
    save_figure(figure, path)


def log_dot_chart(dots: Sequence[tuple[str, float]], path, title: str, label: str) -> None:
    """Draws one dot per row on a logarithmic axis, with its value next to it.

    Args:
      dots: (name, value above 0) from top to bottom.
      path: PNG file to write.
      title: title of the figure.
      label: label of the value axis.
    """
    figure = Figure(figsize=(7.5, 0.5 * len(dots) + 1.4), layout="constrained")
    axis = figure.subplots()
    names, values = zip(*dots, strict=True)
    axis.plot(values, names, "o", color=BLUE, markersize=9)
    for row, value in enumerate(values):
        place = {"xytext": (9, 0), "textcoords": "offset points", "va": "center"}
        axis.annotate(f"{value:.4g}" if value < 1000 else f"{value:,.0f}", (value, row), **place)
    axis.grid(alpha=0.3)
    axis.set_ylim(-0.6, len(dots) - 0.4)
    axis.set_xscale("log")
    axis.set_xlim(min(values) / 3, max(values) * 5)
    axis.invert_yaxis()
    axis.set_title(title, fontsize=10)
    axis.set_xlabel(label)
    save_figure(figure, path)
