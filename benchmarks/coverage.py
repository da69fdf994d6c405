"""Coverage of the intervals of the debiased FID: trials on sets with known Fréchet distances.

`python -m benchmarks.coverage_study` runs them. All cases of one trial share the real set and the
splits, which saves two thirds of the time of each case. Trials are independent of each other.
"""

from __future__ import annotations

import itertools
import json
import math
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from benchmarks.known_distances import Gaussians, Mixtures
from fid_med.errors import DataError, StatisticsError
from fid_med.metrics.debiased_fid import SharedSplits
from fid_med.metrics.fid_infinity import fid_infinity
from fid_med.metrics.frechet import frechet_distance
from fid_med.metrics.statistics import FeatureStatistics

KINDS = ("fid", "difference")
DISTANCES = ("zero", "small", "large")

# Distances of the generated sets of a trial. `PAIRS` names the sets whose FIDs are subtracted.
SETS = ("zero", "small", "large", "small")
PAIRS = {"zero": (1, 3), "small": (0, 1), "large": (1, 2)}


@dataclass(frozen=True)
class Trials:
    """Settings of the trials.

    Attributes:
      population: distributions that sets are drawn from.
      count: number of real images.
      generated_count: number of generated images in each set.
      replicates: number of random splits of each interval.
      kinds, distances: from `KINDS` and `DISTANCES`; each pair of them is a case.
      compare: whether plain FID and FID-infinity are computed too (only for the kind "fid").
      confidence: nominal coverage.
    """

    population: Gaussians | Mixtures
    count: int
    generated_count: int
    replicates: int
    kinds: tuple[str, ...] = KINDS
    distances: tuple[str, ...] = DISTANCES
    compare: bool = False
    confidence: float = 0.95

    def __post_init__(self):
        for kind, distance in self.cases:
            if kind not in KINDS or distance not in DISTANCES:
                raise StatisticsError(f"no trials of {kind} at the distance {distance!r}")

    @property
    def cases(self) -> list[tuple[str, str]]:
        """Kind and distance of each case."""
        return list(itertools.product(self.kinds, self.distances))

    def truth(self, kind: str, distance: str) -> float:
        """Returns the true value that the intervals of a case should contain."""
        if kind == "fid":
            return self.population.true_distance(distance)
        first, second = (self.population.true_distance(SETS[i]) for i in PAIRS[distance])
        return first - second

    def settings(self) -> dict:
        """Returns all settings that determine the rows, as JSON types."""
        return {
            **self.population.describe(),
            "count": self.count,
            "generated_count": self.generated_count,
            "replicates": self.replicates,
            "confidence": self.confidence,
        }


def one_trial(trials: Trials, seed: int, number: int) -> dict[str, dict[str, float]]:
    """Draws the sets of one trial; returns the estimates by case, such as "fid zero"."""
    rng = np.random.default_rng([seed, number])
    population = trials.population
    real = population.sample("zero", trials.count, rng)
    # All sets are drawn for any cases, so that the images of a case do not depend on the others.
    drawn = [population.sample(distance, trials.generated_count, rng) for distance in SETS]
    wanted = {
        (kind, distance): PAIRS[distance] if kind == "difference" else (SETS.index(distance),)
        for kind, distance in trials.cases
    }
    used = sorted({i for places in wanted.values() for i in places})
    splits = SharedSplits(
        real,
        [drawn[i] for i in used],
        confidence=trials.confidence,
        replicates=trials.replicates,
        seed=number,
    )
    rows = {}
    for (kind, distance), places in wanted.items():
        indices = [used.index(i) for i in places]
        found = splits.fid(*indices) if kind == "fid" else splits.difference(*indices)
        keys = ("value", "low", "high", "standard_error", "noise")
        row = {key: getattr(found, key) for key in keys}
        if kind == "fid":
            row["at_half"] = found.at_half
        if trials.compare and kind == "fid":
            generated = drawn[places[0]]
            sides = (FeatureStatistics.from_features(side) for side in (real, generated))
            row["plain"] = frechet_distance(*sides)
            row["infinity"] = fid_infinity(real, generated, seed=number).value
        rows[f"{kind} {distance}"] = row
    return rows


def run(
    trials: Trials, number: int, seed: int, workers: int = 1, rows_file=None
) -> Iterator[dict[str, dict[str, float]]]:
    """Yields the rows of `number` trials; they do not depend on the number of processes.

    Args:
      trials: the settings.
      number: number of trials.
      seed: of the data sets.
      workers: number of processes.
      rows_file: file that keeps the rows of each trial, one line each, and from which trials that
        it holds are read; or None.

    Raises:
      DataError: `rows_file` has other settings, or is not such a file.
    """
    kept, file = {}, None
    if rows_file is not None:
        head = {"seed": seed, "cases": [" ".join(c) for c in trials.cases]}
        head |= {"compare": trials.compare, **trials.settings()}
        kept = _read_rows(rows_file, head)
        file = open(rows_file, "a", encoding="utf-8")  # noqa: SIM115 - open while rows come
        if file.tell() == 0:
            print(json.dumps(head), file=file, flush=True)
    try:
        todo = [i for i in range(number) if i not in kept]
        yield from (kept[i] for i in range(number) if i in kept)
        for i, rows in zip(todo, _computed(trials, seed, todo, workers), strict=True):
            if file:
                print(json.dumps({"trial": i, **rows}), file=file, flush=True)
            yield rows
    finally:
        if file:
            file.close()


def _computed(trials, seed, numbers, workers):
    if workers == 1:
        for number in numbers:
            yield one_trial(trials, seed, number)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, (trials, seed)) as pool:
        yield from pool.map(_one_of_a_worker, numbers, chunksize=2)


_WORK: list = []  # trials and seed in a worker process, sent only once


def _start_worker(*work):
    _WORK[:] = work


def _one_of_a_worker(number):
    return one_trial(*_WORK, number)


def _read_rows(path, head) -> dict[int, dict]:
    if not os.path.exists(path) or not os.path.getsize(path):
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().split("\n")
        found, *rows = [json.loads(line) for line in lines[:-1]]
        kept = {row.pop("trial"): row for row in rows}
    except (ValueError, KeyError, AttributeError, UnicodeDecodeError):
        raise DataError(f"{path}: no rows of trials, give another file") from None
    if found != head:
        raise DataError(f"{path}: rows of other settings, give another file")
    if lines[-1]:  # an incomplete line of a killed run is removed
        with open(path, "r+b") as file:
            file.truncate(os.path.getsize(path) - len(lines[-1].encode()))
    return kept


def summarise(trials: Trials, rows: list[dict[str, dict[str, float]]]) -> list[dict]:
    """Returns for each case coverage with its binomial error, misses on each side, bias, spread."""
    return [
        {"kind": kind, "distance": distance}
        | _summary([row[f"{kind} {distance}"] for row in rows], trials.truth(kind, distance))
        | trials.settings()
        for kind, distance in trials.cases
    ]


def _summary(rows, truth) -> dict:
    n = len(rows)
    columns = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    below = float((columns["high"] < truth).mean())
    above = float((columns["low"] > truth).mean())
    coverage = 1 - below - above
    estimates = {}
    for key in ("plain", "infinity", "at_half", "value"):
        if key in columns:
            error = columns[key] - truth
            estimates[key] = {
                "bias": float(error.mean()),
                "spread": float(error.std(ddof=1)) if n > 1 else None,
                "rmse": math.sqrt(float((error**2).mean())),
            }
    return {
        "truth": truth,
        "trials": n,
        "coverage": coverage,
        "coverage_error": math.sqrt(coverage * (1 - coverage) / n),
        "interval_below_truth": below,
        "interval_above_truth": above,
        "mean_standard_error": float(columns["standard_error"].mean()),
        "mean_noise": float(columns["noise"].mean()),
        "estimates": estimates,
    }


def to_lines(result: dict) -> list[str]:
    """Formats one case of `summarise`: a line with the coverage, and a line for each estimate."""
    lines = [
        f"{result['kind']} {result['distance']} (true {result['truth']:.4f}), "
        f"{result['count']} and {result['generated_count']} images: coverage "
        f"{result['coverage']:.3f} +- {result['coverage_error']:.3f} of {result['trials']}, "
        f"intervals below {result['interval_below_truth']:.3f}, "
        f"above {result['interval_above_truth']:.3f}, "
        f"mean standard error {result['mean_standard_error']:.4f}, "
        f"mean noise {result['mean_noise']:.4f}"
    ]
    for name, found in result["estimates"].items():
        spread = "-" if found["spread"] is None else f"{found['spread']:.4f}"
        lines.append(
            f"  {name:<9} bias {found['bias']:+.4f}  spread {spread}  rmse {found['rmse']:.4f}"
        )
    return lines
