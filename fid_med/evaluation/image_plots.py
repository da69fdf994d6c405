"""Plots of single images: closest pairs, both ends of directions, and heat maps."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fid_med.errors import DataError
from fid_med.metrics.difference import describe_shift, heat_map
from fid_med.utils.plots import BLUE, ORANGE, save_figure

# From black, which darkens the image, through red to yellow.
_HEAT = "inferno"
_HEAT_PIXELS = 256  # longer side of a heat map: large radiographs need no more in a figure


class HeatedImage(NamedTuple):
    """An image and its heat map.

    Attributes:
      name: name of the image, or its index.
      image: uint8 [H, W] or [H, W, 3].
      heat: share of the FID at each position, [h, w], of the same field of view; the mean over the
        positions of the network is `share`.
      share: share of the FID, 0..1.
    """

    name: str | int
    image: np.ndarray
    heat: np.ndarray
    share: float


def heat_image(name, image, maps, activations, gradient, contribution, fid) -> HeatedImage:
    """Makes the heat map of an image, in shares of the FID.

    Args:
      name, image: as in `HeatedImage`.
      maps: `FeatureMaps`.
      activations: of the image, from `maps.compute`.
      gradient, contribution: of the image, as for `heat_map`.
      fid: the FID, above 0.
    """
    heat = heat_map(activations, gradient / fid, contribution / fid)
    shrink = min(1, _HEAT_PIXELS / max(image.shape[:2]))
    heat = maps.enlarge(heat, [max(1, round(size * shrink)) for size in image.shape[:2]])
    return HeatedImage(name, image, heat, float(contribution / fid))


def draw_closest_pairs(
    pairs: Sequence, generated_images, training_images, path, title: str = "", names=None
) -> None:
    """Draws each generated image next to the training image that it may be a copy of.

    Args:
      pairs: of `fid_med.metrics.memorisation.ClosePair`; copies are framed.
      generated_images, training_images: images by index, uint8 [H, W] or [H, W, 3]: an array, a
        list, or a dict with the images of the pairs.
      path: PNG to write.
      title: title of the figure.
      names: names of the generated and of the training images, by index; by default the indices
        themselves.

    Raises:
      DataError: no pairs.
    """
    if not pairs:
        raise DataError("no pairs to draw: ask for at least one")
    columns = min(len(pairs), 3)
    rows = -(-len(pairs) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.45 * rows + 0.5), layout="constrained")
    cells = np.reshape(figure.subfigures(rows, columns, squeeze=False), -1)
    for pair, cell in zip(pairs, cells, strict=False):
        left, right = cell.subplots(1, 2)
        shown = (pair.generated, pair.training)
        if names is not None:
            shown = [side[i] for side, i in zip(names, shown, strict=True)]
        _show(left, generated_images[pair.generated], f"generated {_short(shown[0])}")
        _show(right, training_images[pair.training], f"training {_short(shown[1])}")
        cell.suptitle(_pair_title(pair), fontsize=9)
        for spine in (*left.spines.values(), *right.spines.values()):
            spine.set(edgecolor=ORANGE, linewidth=3) if pair.copy else spine.set(linewidth=0.5)
    if title:
        figure.suptitle(title)
    save_figure(figure, path)


def draw_directions(
    directions: Sequence, real_images, generated_images, path, *, ends: int = 3, title: str = ""
) -> None:
    """Draws a row for each direction: the real and generated images at its lower and upper end.

    Args:
      directions: of `fid_med.metrics.difference.Direction`.
      real_images, generated_images: images by index, as for `draw_closest_pairs`.
      path: PNG to write.
      ends: number of images at each end, the farthest one outermost; at most as many as the
        directions name.
      title: title of the figure.

    Raises:
      DataError: no directions, or none that name images.
    """
    ends = min([ends, *(len(x) for d in directions for x in (d.real_low, d.generated_low))])
    if not directions or ends < 1:
        raise DataError("no directions to draw, or no images at their ends")
    figure = Figure(
        figsize=(1.25 * 4 * ends + 1.9, 1.42 * len(directions) + 0.8), layout="constrained"
    )
    columns = 4 * ends + 1  # a gap in the middle separates the two ends
    widths = [1.0] * (2 * ends) + [0.25] + [1.0] * (2 * ends)
    grid = figure.subplots(len(directions), columns, squeeze=False, width_ratios=widths)
    for number, (direction, axes) in enumerate(zip(directions, grid, strict=True)):
        blocks = (
            ("real", "low", BLUE, real_images, direction.real_low[:ends]),
            ("generated", "low", ORANGE, generated_images, direction.generated_low[:ends]),
            ("real", "high", BLUE, real_images, direction.real_high[:ends][::-1]),
            ("generated", "high", ORANGE, generated_images, direction.generated_high[:ends][::-1]),
        )
        shown = [*axes[: 2 * ends], *axes[2 * ends + 1 :]]
        axes[2 * ends].set_visible(False)
        for block, (name, end, color, images, indices) in enumerate(blocks):
            for axis, index in zip(shown[block * ends :], indices, strict=False):
                _show(axis, images[int(index)], "")
                for spine in axis.spines.values():
                    spine.set(edgecolor=color, linewidth=2)
            if number == 0:
                middle = shown[block * ends + (ends - 1) // 2]
                middle.set_title(f"{name}, {end} end", fontsize=9)
        shown[0].set_ylabel(_direction_label(number, direction), fontsize=8)
    if title:
        figure.suptitle(title)
    save_figure(figure, path)


def draw_heat_maps(sides: Mapping[str, Sequence[HeatedImage]], path, *, title: str = "") -> None:
    """Draws a row for each set: every image next to itself with its heat map on top.

    All heat maps have one colour scale. It starts at 0, lower values have the same colour. It ends
    at the 99th percentile of all values, so that one spot does not make everything else dark.

    Args:
      sides: images by the name of their set, one or more in all.
      path: PNG to write.
      title: title of the figure.

    Raises:
      DataError: no images.
    """
    shown = [row for rows in sides.values() for row in rows]
    if not shown:
        raise DataError("no heat maps to draw: give at least one image")
    pairs = max(map(len, sides.values()))
    values = np.concatenate([row.heat.ravel() for row in shown])
    scale = Normalize(0, max(np.percentile(values, 99), np.finfo(np.float32).tiny))
    figure = Figure(figsize=(3.5 * pairs + 1.2, 2.05 * len(sides) + 0.6), layout="constrained")
    grid = figure.subplots(len(sides), 2 * pairs, squeeze=False)
    for (name, rows), axes in zip(sides.items(), grid, strict=True):
        for axis in axes[2 * len(rows) :]:
            axis.set_visible(False)
        for row, plain, heated in zip(rows, axes[::2], axes[1::2], strict=False):
            _show(plain, row.image, f"{name} {_short(row.name)}")
            _show(heated, row.image, f"{row.share:.2%} of the FID")
            height, width = row.image.shape[:2]
            whole = (-0.5, width - 0.5, height - 0.5, -0.5)
            heated.imshow(row.heat, cmap=_HEAT, norm=scale, alpha=0.55, extent=whole)
    bar = figure.colorbar(
        ScalarMappable(scale, _HEAT),
        ax=grid,
        extend="both",
        format=PercentFormatter(1, decimals=0 if scale.vmax > 0.05 else 2),
        fraction=0.02,
        pad=0.01,
    )
    bar.set_label(
        "share of the FID at a place\n(mean over an image: share of the image)", fontsize=8
    )
    bar.ax.tick_params(labelsize=8)
    if title:
        figure.suptitle(title)
    save_figure(figure, path)


def _show(axis, image, label):
    axis.imshow(image, cmap="gray", vmin=0, vmax=255)
    axis.set_xticks([])
    axis.set_yticks([])
    if label:
        axis.set_xlabel(label, fontsize=8)


def _short(name, longest: int = 22) -> str:
    text = str(name)
    return text if len(text) <= longest else f"...{text[3 - longest :]}"


def _pair_title(pair):
    parts = ["copy"] if pair.copy else []
    parts.append(f"distance {pair.distance:.3g}")
    if np.isfinite(pair.ratio):
        parts.append(f"ratio {pair.ratio:.2f}")
    if pair.similarity is not None:
        parts.append(f"pixels {pair.similarity:.3f}{' mirrored' if pair.flipped else ''}")
    return ", ".join(parts)


def _direction_label(number, direction):
    shift = describe_shift(direction.generated_mean, direction.real_std, direction.generated_std)
    return "\n".join([f"{number + 1}: {direction.share:.0%} of the FID", *shift.split(", ")])
