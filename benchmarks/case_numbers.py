"""Cases on features: forms of the Fréchet distance, intervals, and how their cost grows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.inputs import BenchmarkInputs
from benchmarks.table import Measurement
from benchmarks.timing import Contender, compare
from fid_med.metrics.debiased_fid import debiased_fid
from fid_med.metrics.frechet import calculate_frechet_distance, frechet_distance
from fid_med.metrics.statistics import FeatureStatistics

# Replicates of the baseline bootstraps that are computed; their seconds are scaled up.
_RECOMPUTED = 2


def frechet(inputs: BenchmarkInputs) -> Iterator[Measurement]:
    """Times the distance between two sets of statistics, with the default form."""
    settings = inputs.settings
    for count in settings.counts:
        sides = [FeatureStatistics.from_features(x) for x in inputs.features(count)]
        yield Measurement(
            "frechet",
            f"d = {settings.dimension}, N = {count} on each side",
            compare(
                _distances(inputs, count, sides),
                settings.rounds,
                scale=float(sum(np.trace(side.covariance) for side in sides)),
            ),
            note="differences are relative to Tr C1 + Tr C2",
        )


def _distances(inputs, count, sides):
    moments = [array for side in sides for array in (side.mean, side.covariance)]
    path = inputs.folder / f"moments{count}.npz"
    np.savez(path, **dict(zip(("mu1", "sigma1", "mu2", "sigma2"), moments, strict=True)))

    def peer(program):
        return lambda: inputs.peers.job(program, "frechet", moments=path)

    return [
        Contender("fid_med", lambda: lambda: frechet_distance(*sides)),
        Contender("scipy's sqrtm", lambda: lambda: calculate_frechet_distance(*moments), slow=True),
        *(Contender(name, peer(name), slow=True) for name in ("pytorch-fid", "torch-fidelity")),
    ]


def bootstrap(inputs: BenchmarkInputs) -> Iterator[Measurement]:
    """Times the debiased FID of features, with its interval."""
    settings = inputs.settings
    count, replicates = settings.counts[0], settings.replicates
    real, generated = inputs.features(count)
    share = min(1.0, _RECOMPUTED / replicates)
    scaled = f"from {min(_RECOMPUTED, replicates)} replicates" if share < 1 else ""

    def halves(distance):
        """Computes as many replicates as are timed, each from two random halves."""

        def run():
            rng = np.random.default_rng(0)
            for _ in range(round(replicates * share)):
                draws = [rng.permutation(count)[: count // 2] for _ in range(2)]
                distance(real[draws[0]], generated[draws[1]])

        return lambda: run

    def recomputed(first, second):
        moments = [
            moment(x)
            for x in (first, second)
            for moment in (lambda x: x.mean(axis=0), lambda x: np.cov(x, rowvar=False))
        ]
        return calculate_frechet_distance(*moments)

    def one_by_one(first, second):
        return frechet_distance(*(FeatureStatistics.from_features(x) for x in (first, second)))

    yield Measurement(
        "bootstrap",
        f"debiased FID of {count} + {count} images, d = {settings.dimension}, "
        f"{replicates} replicates",
        compare(
            [
                Contender(
                    "fid_med",
                    lambda: lambda: debiased_fid(real, generated, replicates=replicates).value,
                ),
                Contender(
                    "np.cov and scipy's sqrtm, one distance per replicate",
                    halves(recomputed),
                    share,
                    scaled,
                    same=False,
                    slow=True,
                ),
                Contender(
                    "fid_med's distance, one per replicate",
                    halves(one_by_one),
                    share,
                    scaled,
                    same=False,
                    slow=True,
                ),
            ],
            settings.rounds,
            replicates,
        ),
        "replicates",
    )


def growth(inputs: BenchmarkInputs) -> Iterator[Measurement]:
    """Times how the cost of each stage grows, relative to the first size."""
    settings = inputs.settings
    counts, dimension = settings.growth, settings.dimension
    middle = counts[len(counts) // 2]
    yield _grown(
        "images, extraction (28 x 28, InceptionV3 at 75 x 75)", counts, _extraction(), settings
    )
    yield _grown(
        f"images, features to FID, d = {dimension}",
        counts,
        lambda count: _with(inputs.features(count), _fid),
        settings,
    )
    few = max(2, settings.replicates // 8)
    yield _grown(
        f"images, features to debiased FID, d = {dimension}, {few} replicates",
        counts[: max(1, len(counts) - 1)],
        lambda count: _with(inputs.features(count), debiased_fid, replicates=few),
        settings,
    )
    dimensions = [max(1, dimension // part) for part in (8, 4, 2, 1)]
    yield _grown(
        f"dimension, features to FID, {middle} + {middle} images",
        dimensions,
        lambda d: _with(inputs.features(middle, d), _fid),
        settings,
    )
    yield _grown(
        f"replicates, {counts[0]} + {counts[0]} images, d = {dimension}",
        [max(2, settings.replicates // part) for part in (4, 2, 1)],
        lambda n: _with(inputs.features(counts[0]), debiased_fid, replicates=n),
        settings,
    )


def _grown(title, sizes, prepare, settings):
    contenders = [
        Contender(str(size), lambda s=size: prepare(s), same=False) for size in dict.fromkeys(sizes)
    ]
    return Measurement("growth", f"by {title}", compare(contenders, settings.rounds))


def _with(features, function, **options):
    return lambda: function(*features, **options)


def _fid(real, generated):
    return frechet_distance(*(FeatureStatistics.from_features(x) for x in (real, generated)))


def _extraction():
    from fid_med.evaluation.compute import compute_statistics
    from fid_med.extractors.registry import load_extractor

    extractor = load_extractor("random", image_size=75)

    def prepare(count):
        images = np.random.default_rng(0).integers(0, 256, (count, 28, 28), np.uint8)
        return lambda: compute_statistics(images, extractor)[0].count

    return prepare
