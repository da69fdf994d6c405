#!/usr/bin/env python3
"""The study of false claims in rankings of generated sets."""

import math
import os

from absl import flags

from benchmarks.ranking import Settings, run, summarise
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
