"""Timing of contenders alternately in one run, so that noise of the machine affects all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fid_med.errors import FidMedError


class UnavailableError(FidMedError):
    """A contender that is not installed or failed. Its row gives the reason."""


@dataclass(frozen=True)
class Contender:
    """One way to do the work.

    Attributes:
      name: name of its row.
      prepare: called once, untimed; returns the function that is timed. That function returns its
        result (a number, an array, or None if there is nothing to compare), or a function that
        fetches the result after the timing. Both may raise `UnavailableError`.
      share: share of the work that it does, if the whole work would take hours. Its seconds are
        divided by it.
      note: remark for its row.
      same: whether its result should equal that of fid_med within rounding. The difference is
        shown, but not judged.
      slow: whether it is so slow that the untimed first run is left out.
    """

    name: str
    prepare: Callable[[], Callable[[], Any]]
    share: float = 1.0
    note: str = ""
    same: bool = True
    slow: bool = False


@dataclass
class Row:
    """The result of a contender.

    Attributes:
      name: name of the contender.
      seconds: seconds of each round, for the whole work.
      per_second: items per second in the median round; None if items are not counted.
      ratio: its seconds over those of fid_med, median of the rounds; None for fid_med.
      ratio_range: smallest and largest ratio of the rounds.
      difference: largest difference of its result from fid_med's, relative to the scale of
        `compare`.
      note: remark of the contender.
      unavailable: reason why there are no values; None if there are.
    """

    name: str
    seconds: list[float] = field(default_factory=list)
    per_second: float | None = None
    ratio: float | None = None
    ratio_range: tuple[float, float] | None = None
    difference: float | None = None
    note: str = ""
    unavailable: str | None = None


def compare(
    contenders: Sequence[Contender],
    rounds: int,
    items: int | None = None,
    scale: float | None = None,
    warm_up: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Row]:
    """Times contenders in several rounds, and compares each with the first.

    Args:
      contenders: fid_med first; its errors end the run.
      rounds: number of rounds; every second round has the reverse order.
      items: number of images or replicates of the work.
      scale: scale of the differences of results; by default the largest number of fid_med's result.
      warm_up: whether each contender is run once untimed before the first round.
      clock: function that returns seconds, for tests.

    Returns:
      A row for each contender, in their order.
    """
    runs, rows = {}, [Row(contender.name, note=contender.note) for contender in contenders]
    results: dict[int, Any] = {}

    def attempt(number, act):
        try:
            return act()
        except UnavailableError as error:
            if not number:
                raise
            rows[number].unavailable = str(error)
            rows[number].seconds = []
            runs.pop(number, None)
            return None

    for number, contender in enumerate(contenders):
        run = attempt(number, contender.prepare)
        if run is not None:
            runs[number] = run
            if warm_up and not contender.slow:
                results[number] = attempt(number, run)
    for turn in range(rounds):
        for number in sorted(runs, reverse=turn % 2 == 1):
            start = clock()
            result = attempt(number, runs[number])
            seconds = (clock() - start) / contenders[number].share
            if number in runs:
                results[number] = result
                rows[number].seconds.append(seconds)
    ours = rows[0].seconds
    expected = _fetched(results.get(0))
    for number, row in enumerate(rows):
        if not row.seconds:
            continue
        if items:
            row.per_second = items / statistics.median(row.seconds)
        if number:
            ratios = [theirs / own for theirs, own in zip(row.seconds, ours, strict=True)]
            row.ratio, row.ratio_range = statistics.median(ratios), (min(ratios), max(ratios))
            if contenders[number].same:
                row.difference = attempt(
                    number, lambda n=number: difference(results[n], expected, scale)
                )
    return rows


def _fetched(result):
    return result() if callable(result) else result


def difference(result, expected, scale: float | None = None) -> float | None:
    """Returns the largest difference of two results over `scale`, or over the largest number."""
    result = _fetched(result)
    if result is None or expected is None:
        return None
    result, expected = np.asarray(result, np.float64), np.asarray(expected, np.float64)
    scale = scale or float(np.abs(expected).max()) or 1.0
    return float(np.abs(result - expected).max()) / scale
