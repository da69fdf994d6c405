import json

import numpy as np
import pytest
from scipy import stats

from fid_med.errors import StatisticsError
from fid_med.metrics.fid_infinity import fid_infinity
from fid_med.metrics.frechet import frechet_distance
from fid_med.metrics.statistics import FeatureStatistics


def _gaussian(seed, count, dim=4, mean=0.0):
    return np.random.default_rng(seed).standard_normal((count, dim)) + mean


def test_the_line_and_its_standard_error_are_scipys():
    x, y = _gaussian(0, 60), _gaussian(1, 90, mean=0.5)
    found = fid_infinity(x, y)
    line = stats.linregress(1 / np.array(found.counts), found.fids)
    assert found.value == pytest.approx(line.intercept, rel=1e-9)
    assert found.slope == pytest.approx(line.slope, rel=1e-9)
    assert found.standard_error == pytest.approx(line.intercept_stderr, rel=1e-9)
    assert len(found.counts) == 15
    assert found.counts[0] == pytest.approx(2 / (1 / 6 + 1 / 9))
    assert found.counts[-1] == pytest.approx(72)
    sides = [FeatureStatistics.from_features(f) for f in (x, y)]
    assert found.fid == found.fids[-1] == pytest.approx(frechet_distance(*sides), rel=1e-9)


def test_with_many_images_of_few_features_it_takes_off_the_bias():
    values = [fid_infinity(_gaussian(s, 400), _gaussian(99 + s, 400, mean=0.5)) for s in range(12)]
    error = np.array([v.value for v in values]) - 1.0
    plain = np.array([v.fid for v in values]) - 1.0
    assert abs(error.mean()) < 3.5 * error.std() / np.sqrt(12)
    assert plain.mean() > 0.01


def test_patients_are_drawn_whole_and_order_does_not_matter():
    x, y = _gaussian(0, 60), _gaussian(1, 60)
    patients = np.arange(60) // 3
    found = fid_infinity(x, y, real_patients=patients, generated_patients=patients)
    assert found.real_patients == 20
    assert {round(c) % 3 for c in found.counts} == {0}
    order = np.random.default_rng(2).permutation(60)
    again = fid_infinity(x[order], y, real_patients=patients[order], generated_patients=patients)
    assert again == found
    assert fid_infinity(x, y, seed=1).value != fid_infinity(x, y).value
    assert len(json.loads(json.dumps(found.to_dict(), allow_nan=False))["fids"]) == 15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"real": np.ones((19, 2))}, "19 real images: at least 20"),
        ({"real_patients": [1] * 30}, "1 real patients: at least 20"),
        ({"points": 2}, "points 2"),
        (
            {"real": np.ones((30, 3))},
            "real features of dimension 3 and generated features of dimension 2",
        ),
    ],
)
def test_mistakes_end_in_one_line(arguments, message):
    given = {"real": np.ones((30, 2)), "generated": np.ones((30, 2))} | arguments
    with pytest.raises(StatisticsError, match=message):
        fid_infinity(given.pop("real"), given.pop("generated"), **given)


def test_constant_features_are_at_no_distance():
    found = fid_infinity(np.ones((30, 2)), np.ones((30, 2)))
    assert (found.value, found.standard_error, found.slope) == (0, 0, 0)
