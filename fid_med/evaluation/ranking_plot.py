"""Plots of several generated sets: debiased FIDs with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from fid_med.utils.plots import BLUE, GREEN, ORANGE, save_figure, shorten_name

if TYPE_CHECKING:
    from fid_med.evaluation.ranking_result import GeneratorRanking, RankedGenerator

# By `RankedGenerator.verdict`: colour and marker, so that the plot can be read in grey too.
_STYLES = {
    "best": (BLUE, "o"),
    "no difference from the best detectable": (GREEN, "s"),
    "worse than the best": (ORANGE, "^"),
}
_LOGARITHMIC = 20  # ratio of the largest end to the smallest from which the axis is logarithmic


def plot_ranking(result: GeneratorRanking, path) -> None:
    """Draws one row per set, the best one at the top, and the FIDs on the horizontal axis."""
    rows = result.ranked
    figure = Figure(figsize=(7.5, 0.42 * len(rows) + 1.9), layout="constrained")
    axis = figure.subplots()
    for place, row in enumerate(rows):
        color, marker = _STYLES[row.verdict]
        axis.errorbar(row.debiased["value"], place, xerr=_ends(row), color=color, **_bar(marker))
    axis.set_yticks(range(len(rows)), [shorten_name(row.name) for row in rows])
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_xlabel(_label(result))
    if _is_wide(rows):
        axis.set_xscale("log")
    _finish(figure, axis, rows, path)


def plot_curve(result: GeneratorRanking, path) -> None:
    """Draws the sets in the order given, and the FIDs on the vertical axis."""
    rows = result.generated
    figure = Figure(figsize=(max(6.0, 0.5 * len(rows) + 2), 4.6), layout="constrained")
    axis = figure.subplots()
    axis.plot([row.debiased["value"] for row in rows], color="#777777", linewidth=1, zorder=1)
    for place, row in enumerate(rows):
        color, marker = _STYLES[row.verdict]
        axis.errorbar(place, row.debiased["value"], yerr=_ends(row), color=color, **_bar(marker))
    names = [shorten_name(row.name) for row in rows]
    slant = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axis.set_xticks(range(len(rows)), names, **(slant if sum(map(len, names)) > 50 else {}))
    axis.set_xlim(-0.5, len(rows) - 0.5)
    axis.set_ylabel(_label(result))
    if _is_wide(rows):
        axis.set_yscale("log")
    _finish(figure, axis, rows, path)


def _finish(figure, axis, rows: Sequence[RankedGenerator], path):
    axis.grid(alpha=0.3)
    if not _is_wide(rows) and min(row.debiased["low"] for row in rows) < 0:
        line = axis.axvline if axis.get_xlabel() else axis.axhline
        line(0, color="black", linewidth=0.8)
    present = {row.verdict for row in rows}
    for verdict, (color, marker) in _STYLES.items():
        if verdict in present:
            axis.plot([], [], marker, color=color, label=verdict)
    figure.legend(loc="outside upper center", ncols=len(present), fontsize=9, frameon=False)
    save_figure(figure, path)


def _bar(marker):
    return {"fmt": marker, "markersize": 7, "capsize": 4, "zorder": 2}


def _ends(row: RankedGenerator):
    """Lengths of the interval below and above the value, [2, 1]."""
    value, low, high = (row.debiased[key] for key in ("value", "low", "high"))
    return [[max(0.0, value - low)], [max(0.0, high - value)]]


def _is_wide(rows: Sequence[RankedGenerator]) -> bool:
    lowest = min(row.debiased["low"] for row in rows)
    return lowest > 0 and max(row.debiased["high"] for row in rows) > _LOGARITHMIC * lowest


def _label(result: GeneratorRanking) -> str:
    return f"debiased FID with {result.confidence:.0%} interval, {result.extractor or 'unnamed'}"
