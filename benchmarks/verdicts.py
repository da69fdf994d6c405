"""Counts how often the verdict of a comparison is right, on features of known distributions."""

import numpy as np

from fid_med.evaluation.verdict import judge
from fid_med.metrics.baseline import baseline
from fid_med.metrics.debiased_fid import debiased_fid
from fid_med.metrics.permutation import permutation_test


def verdict_of(real, generated, permutations: int, replicates: int):
    """The `Verdict` on two sets of features, [n, d] each."""
    permuted = permutation_test(real, generated, permutations=permutations)
    counts = len(real), len(generated)
    metrics = {
        "fid": {"value": permuted.statistic},
        "debiased": debiased_fid(real, generated, replicates=replicates).to_dict(),
        "permutation": permuted.to_dict(),
        "baseline": baseline(real, *counts, replicates=50).to_dict() | {"detectable": None},
    }
    return judge(metrics, {}, True, "", counts), metrics


def drawer(features: np.ndarray, rng: np.random.Generator):
    """A function from a count to new draws of a Gaussian with the moments of these features."""
    mean = features.mean(axis=0)
    away = (features - mean) / np.sqrt(len(features) - 1)
    return lambda count: mean + rng.normal(size=(count, len(features))) @ away


def study(real, generated, count: int, draws: int, *, gaussian=False, seed: int = 0, **options):
    """Counts the claims over draws of `count` images per side.

    Args:
      real: features [N, d].
      generated: features [M, d] of other images; or None for equal distributions, where every draw
        divides the real images again.
      count: images per side.
      draws: number of draws.
      gaussian: draw both sides from Gaussians with the moments of these features. `generated` are
        then features of the same images, so that the moments differ by what was done to them alone.
      seed: of the draws.
      options: of `verdict_of`.

    Returns:
      The share of draws with a claimed difference, the mean FID, and the mean baseline.

    Raises:
      ValueError: fewer images than `count` per side.
    """
    rng = np.random.default_rng(seed)
    most = len(real) // 2 if generated is None else min(len(real), len(generated))
    if count > most and not gaussian:
        raise ValueError(
            f"{count} images per side of {most}: draw them from Gaussians (--gaussian)"
        )
    sources = [real] if generated is None else [real, generated]
    if gaussian:
        sources = [drawer(x, rng) for x in sources]
    claims, fids, baselines = [], [], []
    for _ in range(draws):
        if gaussian:
            sides = [source(count) for source in (sources * 2)[:2]]
        elif generated is None:
            order = rng.permutation(len(real))
            sides = [real[order[:count]], real[order[count : 2 * count]]]
        else:
            sides = [x[rng.permutation(len(x))[:count]] for x in sources]
        verdict, metrics = verdict_of(*sides, **options)
        claims.append(verdict.differ)
        fids.append(metrics["fid"]["value"])
        baselines.append(metrics["baseline"]["mean"])
    return float(np.mean(claims)), float(np.mean(fids)), float(np.mean(baselines))
