import json

import numpy as np
import pytest

from fid_med.errors import StatisticsError
from fid_med.metrics import permutation
from fid_med.metrics.frechet import frechet_distance
from fid_med.metrics.permutation import permutation_test
from fid_med.metrics.statistics import FeatureStatistics


def _gaussian(seed, count, dim=10, mean=0.0):
    return np.random.default_rng(seed).standard_normal((count, dim)) + mean


def test_the_statistic_is_plain_fid_and_the_p_value_counts_by_hand(monkeypatch):
    x, y = _gaussian(0, 12), _gaussian(1, 9, mean=0.3)
    found = permutation_test(x, y, permutations=50, seed=4)
    sides = [FeatureStatistics.from_features(f) for f in (x, y)]
    assert found.statistic == pytest.approx(frechet_distance(*sides), abs=1e-9)
    assert found.directions is None
    # The other way to compute it, over all ten directions, gives the same test.
    monkeypatch.setattr(permutation, "_GRAM_IMAGES", 0)
    other = permutation_test(x, y, permutations=50, seed=4)
    assert other.directions == 10
    # Roots of eigenvalues that are 0 but for rounding, 1e-17.
    assert other.statistic == pytest.approx(found.statistic, abs=1e-7)
    assert other.p_value == found.p_value
    assert other.permuted_sd == pytest.approx(found.permuted_sd, rel=1e-6)


def test_p_values_are_uniform_where_the_distributions_are_equal():
    p = [
        permutation_test(_gaussian(s, 10, 5), _gaussian(1000 + s, 14, 5), permutations=19).p_value
        for s in range(200)
    ]
    assert set(np.round(np.array(p) * 20, 9)) <= set(range(1, 21))
    for level in (0.1, 0.5):
        share = np.mean(np.array(p) <= level + 1e-9)
        assert abs(share - level) < 3.5 * np.sqrt(level * (1 - level) / 200)


def test_a_difference_is_found_at_the_smallest_p_value():
    found = permutation_test(_gaussian(0, 20), _gaussian(1, 20, mean=1.5), permutations=99)
    assert found.p_value == 0.01
    assert found.statistic > found.permuted_mean + 4 * found.permuted_sd


def test_patients_are_permuted_whole():
    """Five copies of each patient: without patients, chance looks like a difference."""
    rng = np.random.default_rng(0)
    p_alone, p_whole = [], []
    for _ in range(20):
        x, y = (np.repeat(rng.standard_normal((6, 4)), 5, axis=0) for _ in range(2))
        x, y = (f + 0.01 * rng.standard_normal(f.shape) for f in (x, y))
        patients = np.repeat(np.arange(6), 5)
        options = {"permutations": 39}
        p_alone.append(permutation_test(x, y, **options).p_value)
        found = permutation_test(
            x, y, real_patients=patients, generated_patients=patients, **options
        )
        p_whole.append(found.p_value)
    assert found.real_patients == 6
    assert np.mean(np.array(p_alone) <= 0.05) > 0.8
    assert np.mean(np.array(p_whole) <= 0.05) < 0.3


def test_order_seed_and_ties():
    x, y = _gaussian(0, 12), _gaussian(1, 12)
    first = permutation_test(x, y, permutations=30)
    assert permutation_test(x[::-1], y[::-1], permutations=30) == first
    assert permutation_test(x, y, permutations=30, seed=1).permuted_mean != first.permuted_mean
    assert permutation_test(np.ones((5, 2)), np.ones((4, 2)), permutations=9).p_value == 1
    json.dumps(first.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"real": np.ones((3, 2))}, "3 real images: at least 4"),
        ({"real_patients": [1] * 5}, "1 real patients: at least 4"),
        ({"permutations": 0}, "permutations 0"),
        (
            {"real": np.ones((5, 3))},
            "real features of dimension 3 and generated features of dimension 2",
        ),
    ],
)
def test_mistakes_end_in_one_line(arguments, message):
    given = {"real": np.ones((5, 2)), "generated": np.ones((5, 2))} | arguments
    with pytest.raises(StatisticsError, match=message):
        permutation_test(given.pop("real"), given.pop("generated"), **given)
