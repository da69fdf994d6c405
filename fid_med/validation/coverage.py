"""Do the intervals cover? Trials on Gaussians whose Fréchet distance is known.

`eval/coverage_study.py` runs them. The covariances are diagonal with the eigenvalues
(1 + k/3)^-2, k = 0, 1, ..., which fall off as those of radiographs' features do (effective rank
(sum)^2 / sum of squares about 8). Heavy tails come as multivariate t distributions with the same
means and covariances, so with the same Fréchet distance.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from fid_med.errors import StatisticsError
from fid_med.metrics.extrapolation import fid_infinity
from fid_med.metrics.frechet import frechet_distance
from fid_med.metrics.statistics import FeatureStatistics
from fid_med.metrics.uncertainty import debiased_fid, paired_difference

# How far a generated set is from the real one: eigenvalues times exp(+-strength), and the mean
# moved by strength * 0.42 standard deviations in the first 40 directions.
STRENGTHS = {"zero": 0.0, "small": 0.12, "large": 0.8}

# Pairs of generated sets whose distances from the real one are compared.
PAIRS = {"zero": ("small", "small"), "small": ("zero", "small"), "large": ("small", "large")}


@dataclass(frozen=True)
class Trials:
    """What is done over and over.

    Attributes:
        kind: "fid" or "difference".
        distance: a key of `STRENGTHS`, or of `PAIRS` for differences.
        count: real images.
        generated_count: generated images, of each set.
        dimension: of the features.
        replicates: of each interval.
        degrees: of freedom of the t distribution, over 4; None for Gaussians.
        compare: also take plain FID and FID-infinity (kind "fid" alone).
        confidence: nominal.
    """

    kind: str
    distance: str
    count: int
    generated_count: int
    dimension: int
    replicates: int
    degrees: float | None = None
    compare: bool = False
    confidence: float = 0.95

    def __post_init__(self):
        known = {"fid": STRENGTHS, "difference": PAIRS}
        if self.kind not in known or self.distance not in known[self.kind]:
            raise StatisticsError(f"no trials of {self.kind} at the distance {self.distance!r}")

    @property
    def truth(self) -> float:
        """The true value of what the intervals are for."""
        if self.kind == "fid":
            return true_distance(self.distance, self.dimension)
        first, second = PAIRS[self.distance]
        return true_distance(first, self.dimension) - true_distance(second, self.dimension)


def moments(distance: str, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variances, [d] each, of a set at this distance from the real one."""
    k = np.arange(dimension)
    variances = (1 + k / 3) ** -2.0
    strength = STRENGTHS[distance]
    mean = 0.42 * strength * np.sqrt(variances) * np.where(k < 40, 1.0, 0.0)
    mean[1::3] *= -1
    return mean, variances * np.exp(strength * np.where(k % 2, 1.0, -1.0))


def true_distance(distance: str, dimension: int) -> float:
    """Fréchet distance from the real set, in closed form for covariances that commute."""
    _, real = moments("zero", dimension)
    mean, variances = moments(distance, dimension)
    return float(mean @ mean + ((np.sqrt(real) - np.sqrt(variances)) ** 2).sum())


def sample(distance: str, count: int, dimension: int, degrees: float | None, rng) -> np.ndarray:
    """Features [count, dimension] of a set at this distance."""
    mean, variances = moments(distance, dimension)
    rows = rng.standard_normal((count, dimension)) * np.sqrt(variances)
    if degrees is not None:
        rows *= np.sqrt((degrees - 2) / rng.chisquare(degrees, (count, 1)))
    return rows + mean


def one_trial(trials: Trials, seed: int, number: int) -> dict[str, float]:
    """Draws sets, and returns what was estimated from them."""
    rng = np.random.default_rng([seed, number])
    draw = partial(sample, dimension=trials.dimension, degrees=trials.degrees, rng=rng)
    real = draw("zero", trials.count)
    options = {
        "confidence": trials.confidence,
        "replicates": trials.replicates,
        "seed": number,
    }
    if trials.kind == "difference":
        first, second = (draw(d, trials.generated_count) for d in PAIRS[trials.distance])
        found = paired_difference(real, first, second, **options)
        return {key: getattr(found, key) for key in ("value", "low", "high", "standard_error")}
    generated = draw(trials.distance, trials.generated_count)
    result = debiased_fid(real, generated, **options)
    keys = ("value", "low", "high", "standard_error", "noise", "at_half")
    row = {key: getattr(result, key) for key in keys}
    if trials.compare:
        sides = (FeatureStatistics.from_features(side) for side in (real, generated))
        row["plain"] = frechet_distance(*sides)
        row["infinity"] = fid_infinity(real, generated, seed=number).value
    return row


def run(trials: Trials, number: int, seed: int, workers: int = 1) -> Iterator[dict[str, float]]:
    """`number` trials one after another, or in several processes; the same rows either way."""
    task: Callable = partial(one_trial, trials, seed)
    if workers == 1:
        yield from map(task, range(number))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context) as pool:
        yield from pool.map(task, range(number), chunksize=4)


def summarise(trials: Trials, rows: list[dict[str, float]]) -> dict:
    """Coverage with its binomial error, misses on each side, and bias and spread of estimates."""
    truth, n = trials.truth, len(rows)
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
        "kind": trials.kind,
        "distance": trials.distance,
        "truth": truth,
        "count": trials.count,
        "generated_count": trials.generated_count,
        "dimension": trials.dimension,
        "replicates": trials.replicates,
        "degrees": trials.degrees,
        "confidence": trials.confidence,
        "trials": n,
        "coverage": coverage,
        "coverage_error": math.sqrt(coverage * (1 - coverage) / n),
        "interval_below_truth": below,
        "interval_above_truth": above,
        "mean_standard_error": float(columns["standard_error"].mean()),
        "mean_noise": float(columns["noise"].mean()) if "noise" in columns else None,
        "estimates": estimates,
    }


def to_lines(result: dict) -> list[str]:
    """What `summarise` found, for a person: coverage, then a line for each estimate."""
    lines = [
        f"{result['kind']} {result['distance']} (true {result['truth']:.4f}), "
        f"{result['count']} and {result['generated_count']} images: coverage "
        f"{result['coverage']:.3f} +- {result['coverage_error']:.3f} of {result['trials']}, "
        f"intervals below {result['interval_below_truth']:.3f}, "
        f"above {result['interval_above_truth']:.3f}, "
        f"mean standard error {result['mean_standard_error']:.4f}"
    ]
    if result["mean_noise"] is not None:
        lines[0] += f", mean noise {result['mean_noise']:.4f}"
    for name, found in result["estimates"].items():
        spread = "-" if found["spread"] is None else f"{found['spread']:.4f}"
        lines.append(
            f"  {name:<9} bias {found['bias']:+.4f}  spread {spread}  rmse {found['rmse']:.4f}"
        )
    return lines
