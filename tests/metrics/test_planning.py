import json

import numpy as np
import pytest
from scipy import special

from fid_med.errors import StatisticsError
from fid_med.metrics.debiased_fid import debiased_fid
from fid_med.metrics.planning import detectable_difference


def _gaussian(seed, count, dim=30, mean=0.0):
    scale = 1 / (1 + np.arange(dim) / 3)
    return np.random.default_rng(seed).standard_normal((count, dim)) * scale + mean


def test_the_answer_solves_its_equation():
    found = detectable_difference(_gaussian(0, 80), 60, replicates=50, power=0.9, confidence=0.9)
    needed = special.ndtri(0.9)
    assert found.threshold > special.ndtri(0.95) * found.noise
    for t, slope in ((found.difference, 2 * np.sqrt(2) * found.noise), (found.at_best, 0.0)):
        sd = np.sqrt(found.noise**2 + slope * t)
        assert t - found.threshold == pytest.approx(needed * sd)
    assert json.loads(json.dumps(found.to_dict()))["count"] == 60


def test_more_images_detect_less_in_proportion():
    features = _gaussian(0, 80)
    small, large = (detectable_difference(features, n, replicates=50) for n in (50, 200))
    assert small.difference > small.at_best > 0
    assert small.difference / large.difference == pytest.approx(4, rel=0.3)


@pytest.mark.parametrize("leading", [True, False], ids=["leading", "spread"])
def test_power_by_simulation(leading):
    """A mean moved in the first direction has the power asked for; spread out, more than it."""
    count, trials = 40, 60
    plan = detectable_difference(_gaussian(0, 160), count, replicates=100)
    direction = np.eye(30)[0] if leading else 1 / (1 + np.arange(30) / 3)
    shift = direction / np.linalg.norm(direction) * np.sqrt(plan.difference)
    detected = [
        debiased_fid(
            _gaussian(1000 + s, count), _gaussian(5000 + s, count, mean=shift), replicates=20
        ).low
        > 0
        for s in range(trials)
    ]
    assert np.mean(detected) > 0.8 - 2.5 * np.sqrt(0.8 * 0.2 / trials)
    if leading:
        assert np.mean(detected) < 1


def test_noise_is_what_two_real_sets_show():
    plan = detectable_difference(_gaussian(0, 160), 40, replicates=100)
    values = [
        debiased_fid(_gaussian(s, 40), _gaussian(500 + s, 40), replicates=20).value
        for s in range(60)
    ]
    assert plan.noise == pytest.approx(np.std(values), rel=0.35)


def test_patients_of_equal_images_count_once():
    features = _gaussian(0, 64)
    once = detectable_difference(features, 50, replicates=60)
    twice = detectable_difference(
        np.repeat(features, 2, axis=0), 100, np.repeat(np.arange(64), 2), replicates=60
    )
    assert twice.noise == pytest.approx(once.noise, rel=0.25)
    assert (twice.real_count, twice.real_patients) == (128, 64)


def test_order_and_seed():
    features = _gaussian(0, 40)
    first = detectable_difference(features, 50, replicates=10)
    assert detectable_difference(features[::-1], 50, replicates=10) == first
    assert detectable_difference(features, 50, replicates=10, seed=1).noise != first.noise
    constant = detectable_difference(np.ones((20, 3)), 50, replicates=5)
    assert (constant.difference, constant.noise) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": np.ones((15, 2))}, "15 real images: at least 16"),
        ({"patients": [1] * 20}, "1 real patients: at least 16"),
        ({"count": 7}, "count 7"),
        ({"power": 0.4}, "power 0.4: expected 0.5 or more"),
        ({"power": 1.0}, "power 1.0"),
        ({"confidence": 0}, "confidence 0"),
    ],
)
def test_mistakes_end_in_one_line(arguments, message):
    given = {"features": np.ones((20, 2)), "count": 50} | arguments
    with pytest.raises(StatisticsError, match=message):
        detectable_difference(given.pop("features"), given.pop("count"), **given)
