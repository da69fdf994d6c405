#!/usr/bin/env python3
"""Counts how often a ranking of generated sets claims a difference that is not there."""

import math
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from absl import flags

from fid_med import cli

USAGE = """usage: python -m benchmarks.ranking_study [flags]

Run it from the checkout. In each trial it draws real features and several generated sets from
Gaussians at known distances, ranks the sets, and counts: how often two sets of equal distance are
called different (the family-wise error), how often the order is right, and how often each set that
is worse than the best one is called worse. "4 tests only" is the family-wise error if the p-values
were corrected for the number of other sets alone, and not for the choice of the best set."""

_STRENGTHS = flags.DEFINE_list(
    "strengths",
    ["0.12"] * 5,
    "Difference of each generated set from the real one, as in benchmarks/known_distances.py; 0 is "
    "the real distribution.",
)
_COUNT = flags.DEFINE_integer("count", 50, "Number of images in each set.", lower_bound=8)
_REAL_COUNT = flags.DEFINE_integer(
    "real_count", None, "Number of real images; by default as --count.", lower_bound=8
)
_DIMENSION = flags.DEFINE_integer(
    "dimension", 400, "Dimension of the Gaussian features.", lower_bound=1
)
_DEGREES = flags.DEFINE_float(
    "degrees",
    None,
    "Degrees of freedom of a t distribution, for heavy tails; by default Gaussians.",
    lower_bound=4.01,
)
_REPLICATES = flags.DEFINE_integer("replicates", 400, "Random splits per trial.", lower_bound=2)
_TRIALS = flags.DEFINE_integer("trials", 400, "Number of trials, each on new sets.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the sets.", lower_bound=0)
_WORKERS = flags.DEFINE_integer("workers", 2, "Number of processes.", lower_bound=1)


class Settings(NamedTuple):
    """Settings of the trials, as in the flags."""

    strengths: tuple[float, ...]
    count: int = 50
    real_count: int | None = None
    dimension: int = 400
    degrees: float | None = None
    replicates: int = 400
    seed: int = 0


class Trial(NamedTuple):
    """What one trial claimed.

    Attributes:
      values: debiased FID of each set.
      best: index of the best set.
      worse: for each set, whether it is called worse than the best one.
      worse_uncorrected: the same if the choice of the best set is not corrected for.
    """

    values: list[float]
    best: int
    worse: list[bool]
    worse_uncorrected: list[bool]


def one_trial(settings: Settings, number: int) -> Trial:
    """Draws and ranks the sets of one trial."""
    import numpy as np

    from benchmarks.known_distances import Gaussians
    from fid_med.metrics.ranking import holm, rank_sets

    rng = np.random.default_rng([settings.seed, number])
    population = Gaussians(settings.dimension, settings.degrees)
    real = population.sample(0.0, settings.real_count or settings.count, rng)
    sets = [population.sample(x, settings.count, rng) for x in settings.strengths]
    found = rank_sets(real, sets, replicates=settings.replicates, seed=number)
    others = [i for i, row in enumerate(found) if row.difference]
    p_values = holm([found[i].difference.p_value for i in others])
    uncorrected = {i for i, p in zip(others, p_values, strict=True) if p <= 0.05}
    return Trial(
        [row.debiased.value for row in found],
        next(i for i, row in enumerate(found) if row.rank == 1),
        [row.worse for row in found],
        [i in uncorrected for i in range(len(found))],
    )


def summarise(strengths: Sequence[float], trials: Iterable[Trial]) -> dict:
    """Returns the shares of trials with a false claim, the right order, and each right claim."""
    trials = list(trials)

    def false_claim(best, worse):
        # The claim is false for a set that is as near to the real one as the one called best.
        return any(w and strengths[i] <= strengths[best] for i, w in enumerate(worse))

    def ordered(values):
        by_value = sorted(range(len(values)), key=values.__getitem__)
        return [strengths[i] for i in by_value] == sorted(strengths)

    n = len(trials)
    error = sum(false_claim(x.best, x.worse) for x in trials) / n
    return {
        "trials": n,
        "family_wise_error": error,
        "standard_error": math.sqrt(error * (1 - error) / n),
        "uncorrected": sum(false_claim(x.best, x.worse_uncorrected) for x in trials) / n,
        "right_order": sum(ordered(x.values) for x in trials) / n,
        "called_worse": [sum(x.worse[i] for x in trials) / n for i in range(len(strengths))],
    }


def run(settings: Settings, trials: int, workers: int = 1) -> Iterator[Trial]:
    """Yields the trials; they do not depend on the number of processes."""
    if workers == 1:
        yield from (one_trial(settings, i) for i in range(trials))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context) as pool:
        yield from pool.map(one_trial, [settings] * trials, range(trials), chunksize=4)


@flags.validator("strengths", "expected two or more numbers from 0, separated by commas")
def _are_strengths(given):
    try:
        return len(given) >= 2 and all(0 <= float(x) < math.inf for x in given)
    except ValueError:
        return False


def main():
    # Matrices are small and many: several threads inside a product slow each other down.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from benchmarks.known_distances import Gaussians
    from fid_med.utils.progress import Progress

    strengths = tuple(map(float, _STRENGTHS.value))
    settings = Settings(
        strengths, _COUNT.value, _REAL_COUNT.value, _DIMENSION.value, _DEGREES.value,
        _REPLICATES.value, _SEED.value,
    )  # fmt: skip
    rows = []
    with Progress("trials", _TRIALS.value) as progress:
        for row in run(settings, _TRIALS.value, _WORKERS.value):
            rows.append(row)
            progress.update()
    found = summarise(strengths, rows)
    population = Gaussians(settings.dimension)
    distances = [population.true_distance(x) for x in strengths]
    print("true FIDs: " + ", ".join(f"{x:.4f}" for x in distances))
    print(
        f"family-wise error {found['family_wise_error']:.3f} +- {found['standard_error']:.3f} of "
        f"{found['trials']} ({len(strengths) - 1} tests only: {found['uncorrected']:.3f})"
    )
    print(f"right order {found['right_order']:.3f}")
    print("called worse: " + ", ".join(f"{x:.3f}" for x in found["called_worse"]))


if __name__ == "__main__":
    cli.run(main, USAGE)
