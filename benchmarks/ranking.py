"""Counts how often a ranking of generated sets claims a difference that is not there."""

import math
import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple


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
