"""Prints the values of independent programs for the same arrays, to be copied into the tests.

pip install torch torch-fidelity prdc
PYTHONPATH=. python tests/helpers/peer_values.py
"""

import contextlib
import importlib.metadata
import io

import numpy as np

KID_SETTINGS = ((20, 10, 2020), (50, 30, 7))  # subset size, subsets, seed


def numbers(name):
    """Real and generated features, float64: `random`; `ties`, of few values; `wide`, d > N."""
    rng = np.random.default_rng(20261123)
    random = rng.standard_normal((120, 16)), 1.1 * rng.standard_normal((100, 16)) + 0.2
    ties = rng.integers(0, 3, (80, 3)) * 1.0, rng.integers(0, 3, (60, 3)) * 1.0
    wide = rng.standard_normal((60, 90)), rng.standard_normal((70, 90)) + 0.3
    return {"random": random, "ties": ties, "wide": wide}[name]


def prdc(real, generated, k):
    from prdc import compute_prdc

    with contextlib.redirect_stdout(io.StringIO()):
        values = compute_prdc(real, generated, k)
    return [float(values[name]) for name in ("precision", "recall", "density", "coverage")]


def torch_fidelity_kid(real, generated, subset_size, subsets, seed):
    import torch
    from torch_fidelity.metric_kid import kid_features_to_metric

    values = kid_features_to_metric(
        torch.from_numpy(real),
        torch.from_numpy(generated),
        kid_subset_size=subset_size,
        kid_subsets=subsets,
        rng_seed=seed,
        verbose=False,
    )
    names = ("kernel_inception_distance_mean", "kernel_inception_distance_std")
    return [values[name] for name in names]


def main():
    for package in ("prdc", "torch-fidelity", "numpy"):
        print(f"# {package} {importlib.metadata.version(package)}")
    for name in ("random", "ties", "wide"):
        for k in (3, 5):
            print(f"prdc {name} {k}: {prdc(*numbers(name), k)}")
        for setting in KID_SETTINGS:
            print(f"kid {name} {setting}: {torch_fidelity_kid(*numbers(name), *setting)}")


if __name__ == "__main__":
    main()
