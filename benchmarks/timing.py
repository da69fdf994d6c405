"""Contenders timed alternately in one run, so that a noisy machine is noisy for all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fid_med.errors import FidMedError


class UnavailableError(FidMedError):
    """A contender that cannot run here: not installed, or it gave up. Its row says why."""


@dataclass(frozen=True)
class Contender:
    """One way to do the work.

    Attributes:
      name: what its row is called.
      prepare: called once, untimed; returns the function that is timed. That one returns what it
        computed (a number, an array, None where there is nothing to compare), or a function that
        fetches it, called after the clock has stopped. Either may raise `UnavailableError`.
      share: how much of the work it does, where all of it would take hours: its seconds are divided
        by this, and its row says so.
      note: what a reader of its row must know.
      same: whether its result must be ours within rounding; the difference is shown, not judged.
      slow: so slow that it is not run unmeasured first, which would change little.
    """

    name: str
    prepare: Callable[[], Callable[[], Any]]
    share: float = 1.0
    note: str = ""
    same: bool = True
    slow: bool = False


@dataclass
class Row:
    """What came of a contender.

    Attributes:
      name: the contender's.
      seconds: of each round, for the whole work.
      per_second: items each second, of the median round; None where nothing is counted.
      ratio: its seconds as a multiple of ours, the median over the rounds; None for ours.
      ratio_range: the smallest and the largest of the rounds.
      difference: largest distance of its result from ours, relative to the scale of `compare`.
      note: of the contender.
      unavailable: why there are no numbers, where there are none.
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
    """Times contenders one after another, again and again, and sets each against the first.

    Args:
      contenders: ours first; its errors are errors of the run.
      rounds: how often each is timed; every second round goes backwards.
      items: how many images, or replicates, the work is.
      scale: what differences of results are relative to; by default our largest number.
      warm_up: run each once before the first round, unmeasured.
      clock: seconds, for tests.

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
    """Largest distance of two results, relative to `scale` or the expected one's largest number."""
    result = _fetched(result)
    if result is None or expected is None:
        return None
    result, expected = np.asarray(result, np.float64), np.asarray(expected, np.float64)
    scale = scale or float(np.abs(expected).max()) or 1.0
    return float(np.abs(result - expected).max()) / scale
