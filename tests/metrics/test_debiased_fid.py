import itertools
import json
import math

import numpy as np
import pytest
from scipy import special, stats

from benchmarks import coverage
from benchmarks.known_distances import Gaussians
from fid_med.errors import StatisticsError
from fid_med.metrics.debiased_fid import (
    SharedSplits,
    debiased_fid,
    difference_interval,
    normal_quantile,
    paired_difference,
    score_interval,
    skewed_quantile,
)
from fid_med.metrics.frechet import frechet_distance
from fid_med.metrics.resampling import image_set
from fid_med.metrics.statistics import FeatureStatistics
from fid_med.metrics.variance_decomposition import HalfSplits


def _gaussian(seed, count, dim=30, mean=0.0, scale=1.0):
    rng = np.random.default_rng(seed)
    return scale * rng.standard_normal((count, dim)) / (1 + np.arange(dim) / 3) + mean


def _sets(*features):
    return [image_set(f, None, "real", 8) for f in features]


def test_the_value_is_the_definition_by_brute_force():
    """Four images a block: eight blocks, explicit rows, FID by `frechet`."""
    real, generated = _gaussian(0, 16), _gaussian(1, 16, mean=0.2)
    splits = HalfSplits(_sets(real, generated), [(0, 1)], 1, 5, 500)
    # The same draw, by hand.
    rng = np.random.default_rng(5)
    rows = [s.features for s in _sets(real, generated)]
    quarters = [[r[part] for part in np.split(rng.permutation(16), 4)] for r in rows]
    halves = [[np.concatenate(q[:2]), np.concatenate(q[2:])] for q in quarters]

    def fid(a, b):
        return frechet_distance(*map(FeatureStatistics.from_features, (a, b)))

    ring = ((0, 1), (2, 3), (0, 2), (1, 3))
    half = np.mean([fid(a, b) for a, b in itertools.product(*halves)])
    half -= sum(fid(*h) for h in halves) / 2
    quarter = np.mean([fid(a, b) for a, b in itertools.product(*quarters)])
    quarter -= sum(np.mean([fid(q[i], q[j]) for i, j in ring]) for q in quarters) / 2

    found = splits.decompose({(0, 1): 1.0}, {0: -0.5, 1: -0.5})
    assert found.at_half == pytest.approx(half, abs=1e-9)
    assert found.at_quarter == pytest.approx(quarter, abs=1e-9)
    assert found.value == pytest.approx(2 * half - quarter, abs=1e-9)
    assert splits.half == 8


def test_with_one_feature_it_is_the_unbiased_estimate_of_the_means_distance():
    """The mean's part is free of bias; its U-statistic is known in closed form."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((40, 1)), rng.standard_normal((40, 1)) + 3
    found = debiased_fid(x, y, replicates=300)
    u = [(s.sum() ** 2 - (s**2).sum()) / (40 * 39) for s in (x, y)]
    mean = u[0] + u[1] - 2 * x.mean() * y.mean()
    deviation = (x.std(ddof=1) - y.std(ddof=1)) ** 2
    # In one dimension FID is (m1 - m2)^2 + (s1 - s2)^2; the second is all but nothing here.
    assert found.value == pytest.approx(mean, abs=0.05 + deviation)
    assert found.low < 9 < found.high


@pytest.mark.parametrize("distance", ["zero", "small", "large"])
def test_bias_and_spread_on_gaussians_of_known_distance(distance):
    """Sixty data sets: the mean within 3.5 errors of the truth, the error as it is estimated."""
    trials = coverage.Trials(Gaussians(60), 60, 60, 16, ("fid",), (distance,), compare=True)
    (found,) = coverage.summarise(trials, list(coverage.run(trials, 60, seed=1)))
    value, plain = found["estimates"]["value"], found["estimates"]["plain"]
    # At 60 images the bias of large distances is not all gone: 4 % of the distance is granted.
    assert abs(value["bias"]) < 3.5 * value["spread"] / math.sqrt(60) + 0.04 * found["truth"]
    assert plain["bias"] > 5 * abs(value["bias"])
    assert 0.7 < found["mean_standard_error"] / value["spread"] < 1.8
    assert found["coverage"] >= 0.8  # 0.91 with so few images and splits, less 3 errors of 60


def test_the_difference_covers_and_its_p_value_belongs_to_the_interval():
    trials = coverage.Trials(Gaussians(60), 40, 40, 20, ("difference",), ("large",))
    (found,) = coverage.summarise(trials, list(coverage.run(trials, 40, seed=2)))
    assert found["coverage"] >= 0.83
    for seed in range(4):
        result = paired_difference(
            _gaussian(seed, 40),
            _gaussian(10 + seed, 40, mean=0.1),
            _gaussian(20 + seed, 40),
            replicates=20,
        )
        assert (result.p_value < 0.05) == (not result.low <= 0 <= result.high)
        both = result.first.value - result.second.value
        assert result.value == pytest.approx(both, abs=1e-12)


def test_the_difference_has_less_spread_than_its_parts():
    """Both sets far from the real one, alike: what the real images do cancels."""
    sets = [_gaussian(0, 60), _gaussian(1, 60, mean=1.0), _gaussian(2, 60, mean=1.0)]
    found = paired_difference(*sets, replicates=50)
    parts = math.hypot(found.first.standard_error, found.second.standard_error)
    assert found.standard_error < 0.85 * parts


def test_repeats_without_patients_bias_it_upward_and_patients_fix_that():
    x, y = _gaussian(0, 40), _gaussian(1, 40)
    twice = np.repeat(x, 2, axis=0), np.repeat(y, 2, axis=0)
    patients = np.repeat(np.arange(40), 2)
    plain = debiased_fid(*twice, replicates=100)
    grouped = debiased_fid(
        *twice, real_patients=patients, generated_patients=patients, replicates=100
    )
    once = debiased_fid(x, y, replicates=100)
    assert plain.value > once.value + 2 * once.standard_error
    assert grouped.value == pytest.approx(once.value, abs=0.5 * once.standard_error)
    assert grouped.standard_error == pytest.approx(once.standard_error, rel=0.25)
    assert plain.noise < 0.8 * once.noise
    assert (grouped.real_patients, grouped.real_distinct, plain.real_patients) == (40, 40, None)


def test_neither_file_order_nor_batches_matter_and_seeds_do():
    x, y = _gaussian(0, 30), _gaussian(1, 34)
    patients = np.arange(30) // 2
    order = np.random.default_rng(2).permutation(30)
    first = debiased_fid(x, y, real_patients=patients, replicates=20)
    second = debiased_fid(x[order], y[::-1], real_patients=patients[order], replicates=20)
    other = debiased_fid(x, y, real_patients=patients, replicates=20, seed=1)
    assert first == second
    assert first.value != other.value
    assert first.value == pytest.approx(other.value, abs=2 * first.standard_error)


def test_float32_and_far_off_means_keep_the_digits():
    x, y = _gaussian(0, 30).astype("f4"), _gaussian(1, 30).astype("f4")
    near = debiased_fid(x, y, replicates=10)
    far = debiased_fid(x.astype(float) + 1000, y.astype(float) + 1000, replicates=10)
    assert far.value == pytest.approx(near.value, abs=1e-8)
    assert far.standard_error == pytest.approx(near.standard_error, rel=1e-6)


@pytest.mark.parametrize("generated", [24, 96])
def test_equal_distributions_are_centred_on_zero_with_the_reported_noise(generated):
    found = [
        debiased_fid(_gaussian(s, 24), _gaussian(500 + s, generated), replicates=16)
        for s in range(80)
    ]
    values = np.array([f.value for f in found])
    assert abs(values.mean()) < 3.5 * values.std() / math.sqrt(80)
    noise = math.sqrt(np.mean([f.noise**2 for f in found]))
    assert noise == pytest.approx(values.std(), rel=0.28)  # 3.5 errors of a spread from 80
    assert np.mean([f.low <= 0 <= f.high for f in found]) >= 0.86
    assert found[0].half == pytest.approx(12)


def test_a_cap_on_halves_is_kept_and_changes_little():
    x, y = _gaussian(0, 100), _gaussian(1, 100, mean=0.3)
    whole = debiased_fid(x, y, replicates=60)
    capped = debiased_fid(x, y, replicates=60, largest_half=16)
    assert (whole.half, capped.half) == (50, 16)
    assert capped.value == pytest.approx(whole.value, abs=2 * whole.standard_error)
    assert capped.standard_error == pytest.approx(whole.standard_error, rel=0.35)


@pytest.mark.parametrize("z", [1.0, 1.96])
@pytest.mark.parametrize("value", [-3.0, -0.5, 0.0, 0.4, 3.0, 50.0])
def test_the_interval_solves_its_equation(value, z):
    quadratic, linear = 0.3, 2.0
    scale = max(value, math.sqrt(quadratic))
    slope = linear / scale
    for upper in (None, 1.3 * z):
        low, high = score_interval(value, quadratic, linear, z, upper)
        for end, quantile in ((low, upper or z), (high, z)):
            grown = slope * (max(end, 0) + max(end - scale, 0))
            square = quantile**2 * quadratic + z * z * grown
            assert (value - end) ** 2 == pytest.approx(square)
        assert low < value < high


@pytest.mark.parametrize("degrees", [2, 5, 20])
def test_the_skewed_quantile_is_that_of_chi_squares(degrees):
    """A chi square is a gamma of skewness sqrt(8 / degrees)."""
    found = skewed_quantile(0.9, math.sqrt(8 / degrees))
    expected = (special.chdtri(degrees, 0.05) - degrees) / math.sqrt(2 * degrees)
    assert found == pytest.approx(expected, rel=1e-9)


def test_without_skewness_it_is_the_normal_quantile():
    assert skewed_quantile(0.95, 0.0) == normal_quantile(0.95)
    assert skewed_quantile(0.95, 1.1e-3) == pytest.approx(normal_quantile(0.95), abs=1e-3)
    assert skewed_quantile(0.95, 7.0) == skewed_quantile(0.95, 2.0)


def test_the_lower_end_allows_for_the_skewness_of_chance():
    """One leading direction: distances of equal sets are nearly a chi square of one degree."""
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((60, 3)) * [1, 0.05, 0.05] for _ in range(2))
    found = debiased_fid(x, y, replicates=100)
    below, above = found.value - found.low, found.high - found.value
    assert below > 1.15 * above
    assert found.value - found.low == pytest.approx(
        skewed_quantile(0.95, 2.0) * found.noise, rel=0.25
    )


@pytest.mark.parametrize("slope", [0.0, 0.3, 40.0])
@pytest.mark.parametrize("value", [-2.0, -0.4, 0.0, 0.1, 5.0])
def test_the_interval_of_a_difference_solves_its_equation(value, slope):
    z, error = 1.96, 0.5
    low, high = difference_interval(value, error, slope, z)
    for end in (low, high):
        variance = error**2 + slope * max(0.0, abs(end) - abs(value))
        assert (value - end) ** 2 == pytest.approx(z * z * variance)
    assert low < value < high
    # 0 is left out just where the p-value of this quantile is below 0.05: no slope is in it.
    assert (low <= 0 <= high) == (abs(value) <= z * error)


def _mean_model(count, others, seed):
    """Sets of tiny spread about far-off means: the distance is that of the means."""
    rng = np.random.default_rng(seed)
    spread = np.array([1.0, 0.5, 0.2, 0.1])
    x = rng.standard_normal((count, 4)) * spread
    return x, [rng.standard_normal((n, 4)) * spread + shift for n, shift in others]


@pytest.mark.parametrize("counts", [(60, 60), (40, 90)])
@pytest.mark.parametrize("largest_half", [500, 12], ids=["whole", "capped"])
def test_exchanged_halves_show_the_noise_of_sets_of_one_distribution(counts, largest_half):
    """Against the spread over data sets, at a true distance whose own part is most of it."""
    values, noises = [], []
    for seed in range(40):
        real, others = _mean_model(50, [(n, 0.8) for n in counts], seed)
        splits = SharedSplits(real, others, replicates=24, seed=seed, largest_half=largest_half)
        found = splits.difference(0, 1)
        values.append(found.value)
        noises.append(found.noise)
        assert found.standard_error >= found.noise
    expected = math.sqrt(np.mean(np.square(noises)))
    assert expected == pytest.approx(np.std(values), rel=0.4)  # 3.5 errors of a spread from 40


def test_swapping_leaves_out_what_the_sets_differ_by():
    """Means far apart in a direction without spread: the difference is sure, swapping adds none."""
    real, (near, far) = _mean_model(40, [(40, 0.0), (40, 0.0)], 3)
    real, near = (np.hstack([x, np.zeros((40, 1))]) for x in (real, near))
    far = np.hstack([far, np.full((40, 1), 3.0)])
    splits = SharedSplits(real, [near, far], replicates=30)
    found = splits.difference(0, 1)
    assert found.value == pytest.approx(-9, abs=1)
    assert found.noise < 0.6
    assert found.p_value < 1e-6


@pytest.mark.parametrize("counts", [(9, 12, 14), (14, 9, 12), (12, 14, 9)])
def test_a_difference_has_the_degrees_of_freedom_of_its_smallest_set(counts):
    sets = [_gaussian(seed, n, mean=0.6 * seed) for seed, n in enumerate(counts)]
    found = paired_difference(*sets, replicates=10)
    size = abs(found.value) / found.standard_error
    assert found.p_value == pytest.approx(2 * stats.t.sf(size, 8))
    inner = found.low if found.value > 0 else found.high
    assert found.low > 0 or found.high < 0
    reach = stats.t.ppf(0.975, 8) * found.standard_error
    assert abs(found.value - inner) == pytest.approx(reach)
    # Patients count, not their images.
    first = np.repeat(sets[1], 2, axis=0)
    patients = np.repeat(np.arange(counts[1]), 2)
    found = paired_difference(sets[0], first, sets[2], first_patients=patients, replicates=10)
    size = abs(found.value) / found.standard_error
    assert found.p_value == pytest.approx(2 * stats.t.sf(size, 8))


def test_shared_splits_are_the_functions_of_two_sets():
    real, first, second = (_gaussian(s, 20, mean=0.2 * s) for s in range(3))
    shared = SharedSplits(real, [first, second], replicates=10, seed=4)
    assert shared.difference(0, 1) == paired_difference(real, first, second, replicates=10, seed=4)
    alone = SharedSplits(real, [first], replicates=10, seed=4)
    assert alone.fid() == debiased_fid(real, first, replicates=10, seed=4)
    there, back = shared.difference(0, 1), shared.difference(1, 0)
    assert (back.value, back.low, back.high) == pytest.approx(
        (-there.value, -there.high, -there.low), rel=1e-9
    )
    with pytest.raises(StatisticsError, match="3 third generated images"):
        SharedSplits(real, [first, second, first[:3]])


def test_constant_features_have_a_defined_answer():
    same = debiased_fid(np.ones((9, 4)), np.ones((8, 4)), replicates=5)
    assert (same.value, same.low, same.high, same.standard_error) == (0, 0, 0, 0)
    assert (same.real_distinct, same.shared) == (1, 8)
    apart = debiased_fid(np.ones((9, 4)), np.zeros((8, 4)), replicates=5)
    assert (apart.value, apart.low, apart.high) == pytest.approx((4, 4, 4))
    one = debiased_fid(np.ones((20, 4)), _gaussian(0, 20, dim=4), replicates=5)
    assert math.isfinite(one.low)
    assert one.low <= one.value <= one.high
    level = paired_difference(*[np.ones((8, 4))] * 3, replicates=5)
    assert (level.value, level.p_value) == (0, 1)


@pytest.mark.parametrize("count", [12, 20, 32, 64, 100])
def test_a_collapsed_generator_has_a_distance_and_an_interval(count):
    """Its covariance is 0: the FID is |mu1 - mu2|^2 + Tr C1 = 8 * 9 + 8."""
    real = [np.random.default_rng(seed).normal(size=(20, 8)) for seed in range(16)]
    found = [debiased_fid(rows, np.full((count, 8), 3.0), replicates=20) for rows in real]
    values = np.array([x.value for x in found])
    assert abs(values.mean() - 80) < 4 * values.std() / math.sqrt(len(values))
    assert all(0 < x.low < x.value < x.high for x in found)
    # The spread comes from the other set alone.
    assert 0.5 < np.mean([x.standard_error for x in found]) / values.std() < 2
    pair = [np.full((count, 8), 3.0), np.full((count, 8), 2.0)]
    nearer = paired_difference(real[0], *pair, replicates=20)
    assert nearer.low < 8 * (9 - 4) < nearer.high


@pytest.mark.parametrize(("scale", "message"), [(1e80, "beyond"), (1e-80, "below")])
def test_features_whose_variance_leaves_float64_are_refused(scale, message):
    with pytest.raises(StatisticsError, match=f"^real features {message} 1e"):
        debiased_fid(_gaussian(0, 20) * scale, _gaussian(1, 20))


def test_results_are_json_types_and_frozen():
    found = paired_difference(*(_gaussian(s, 12) for s in range(3)), replicates=3, confidence=0.9)
    read = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert read["confidence"] == read["first"]["confidence"] == 0.9
    assert read["second"]["generated_count"] == 12
    assert normal_quantile(0.9) == pytest.approx(1.6449, abs=1e-4)
    with pytest.raises(AttributeError):
        found.value = 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"confidence": 1.0}, "confidence 1.0"),
        ({"confidence": True}, "confidence True"),
        ({"replicates": 1}, "replicates 1: expected a whole number of at least 2"),
        ({"seed": -1}, "seed -1"),
        ({"largest_half": 4}, "largest_half 4"),
        ({"real_patients": [1] * 9}, "1 real patients"),
        ({"generated_patients": [1] * 3}, "3 generated patients for 9 images"),
        (
            {"generated": np.ones((9, 3))},
            "real features of dimension 2 and generated features of dimension 3",
        ),
        ({"real": np.ones((3, 2))}, "3 real images: at least 8"),
        ({"real": np.full((9, 2), np.inf)}, "NaN or infinity"),
    ],
)
def test_mistakes_end_in_one_line(change, message):
    arguments = {"real": np.ones((9, 2)), "generated": np.ones((9, 2))} | change
    with pytest.raises(StatisticsError, match=message):
        debiased_fid(arguments.pop("real"), arguments.pop("generated"), **arguments)
