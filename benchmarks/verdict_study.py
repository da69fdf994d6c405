#!/usr/bin/env python3
"""How often the verdict of a comparison is right, on sets that are known to be equal or to differ.

python -m benchmarks.verdict_study REAL.npz DEGRADED.npz ... --counts=40,100 --draws=100

Each file holds features (compute_fid.py --save_features). Of REAL, the second half of the images
must be those that were degraded, so that no image is on both sides. Every draw takes other images.
Where a half has fewer images than asked for, both sides are drawn from Gaussians with the mean and
the covariance of the files, and marked so.
"""

import pathlib

import numpy as np
from absl import app, flags

from fid_med.evaluation.verdict import judge
from fid_med.metrics.baseline import baseline
from fid_med.metrics.debiased_fid import debiased_fid
from fid_med.metrics.feature_files import load_features
from fid_med.metrics.permutation import permutation_test

_COUNTS = flags.DEFINE_list("counts", ["40", "100"], "Images per side.")
_DRAWS = flags.DEFINE_integer("draws", 100, "Draws of each kind.", lower_bound=1)
_PERMUTATIONS = flags.DEFINE_integer("permutations", 199, "Permutations of a test.", lower_bound=19)
_REPLICATES = flags.DEFINE_integer("replicates", 100, "Splits of a debiased FID.", lower_bound=2)


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


def study(real, generated, count: int, draws: int, seed: int = 0, **options):
    """Counts the claims over draws of `count` images per side.

    Args:
      real: features [N, d].
      generated: features [M, d] of other images; or None for equal distributions, where every draw
        divides the real images anew.
      count: images per side.
      draws: number of draws.
      options: of `verdict_of`.

    Returns:
      How the images were drawn, the share of draws with a claimed difference, the mean FID, and the
      mean baseline.
    """
    rng = np.random.default_rng(seed)
    most = len(real) // 2 if generated is None else min(len(real), len(generated))
    sources = [real] if generated is None else [real, generated]
    if gaussian := count > most:
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
    how = "Gaussian" if gaussian else "images"
    return how, float(np.mean(claims)), float(np.mean(fids)), float(np.mean(baselines))


def main(argv):
    real, *degraded = [load_features(path, ()).features.astype(np.float64) for path in argv[1:]]
    names = [pathlib.Path(path).stem for path in argv[2:]]
    options = {"permutations": _PERMUTATIONS.value, "replicates": _REPLICATES.value}
    print("images per side, set, drawn from, share of draws with a claim, FID, real against real")
    for count in map(int, _COUNTS.value):
        sets = {"equal": (real, None)}
        sets |= {n: (real[: len(real) // 2], x) for n, x in zip(names, degraded, strict=True)}
        for name, pair in sets.items():
            how, share, fid, base = study(*pair, count, _DRAWS.value, **options)
            print(f"{count}, {name}, {how}, {share:.2f}, {fid:.3g}, {base:.3g}", flush=True)


if __name__ == "__main__":
    app.run(main)
