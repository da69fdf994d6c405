"""The profile over depths, and the multi-depth FID, against its definition and a joint Gaussian."""

import numpy as np
import pytest
from scipy import linalg

from fid_med.errors import StatisticsError
from fid_med.metrics.baseline import baseline
from fid_med.metrics.debiased_fid import debiased_fid, debiased_sum
from fid_med.metrics.depth_profile import (
    add_baseline,
    add_debiased,
    depth_profile,
    multi_depth_fid,
)
from fid_med.metrics.statistics import FeatureStatistics

WIDTHS = (5, 9, 20)


@pytest.fixture(scope="module")
def sides():
    """Features of 40 and 33 images at three depths, by number of features."""
    rng = np.random.default_rng(0)
    return [
        {d: (scale * rng.normal(size=(n, d)) + shift).astype(np.float32) for d in WIDTHS}
        for n, scale, shift in ((40, 1.0, 0.0), (33, 1.3, 0.4))
    ]


@pytest.fixture(scope="module")
def profile(sides):
    of = FeatureStatistics.from_features
    return depth_profile(*({d: of(x) for d, x in side.items()} for side in sides))


def test_it_is_one_distance_of_scaled_depths_with_no_correlation_between_them(sides, profile):
    """The definition's other form, by SciPy: one Gaussian of all depths, block by block."""
    moments = []
    traces = [np.trace(np.cov(sides[0][d].astype(float), rowvar=False)) for d in WIDTHS]
    for side in sides:
        scaled = [side[d].astype(float) / np.sqrt(len(WIDTHS) * t)
                  for d, t in zip(WIDTHS, traces, strict=True)]  # fmt: skip
        blocks = [np.cov(x, rowvar=False) for x in scaled]
        moments.append((np.concatenate([x.mean(axis=0) for x in scaled]),
                        linalg.block_diag(*blocks)))  # fmt: skip
    (m1, c1), (m2, c2) = moments
    root = linalg.sqrtm(c1 @ c2).real
    expected = np.sum((m1 - m2) ** 2) + np.trace(c1 + c2 - 2 * root)
    assert np.trace(c1) == pytest.approx(1)
    assert profile.value == pytest.approx(expected, rel=1e-9)


def test_each_depth_is_its_own_fid(sides, profile):
    for depth in profile.depths:
        real = FeatureStatistics.from_features(sides[0][depth.dims])
        assert depth.trace == pytest.approx(np.trace(real.covariance), rel=1e-12)
        assert depth.fid == depth.mean_part + depth.covariance_part
        assert depth.normalised == depth.fid / depth.trace
    assert profile.value == pytest.approx(np.mean([x.normalised for x in profile.depths]))


def test_the_unit_of_a_depth_changes_nothing(sides, profile):
    scaled = [{d: (7 if d == 9 else 1) * x for d, x in side.items()} for side in sides]
    of = FeatureStatistics.from_features
    found = depth_profile(*({d: of(x) for d, x in side.items()} for side in scaled))
    assert found.value == pytest.approx(profile.value, rel=1e-6)
    assert found.depths[1].fid == pytest.approx(49 * profile.depths[1].fid, rel=1e-6)


def test_real_features_without_variation_are_refused():
    with pytest.raises(StatisticsError, match="do not vary"):
        multi_depth_fid([1.0, 2.0], [3.0, 0.0])


def test_the_debiased_sum_is_linear_and_the_first_space_is_debiased_fid(sides):
    weights = [0.5, 2.0, 0.1]
    options = {"replicates": 20, "seed": 3, "real_patients": [i // 2 for i in range(40)]}
    order = (20, 9, 5)
    spaces = [[side[d] for d in order] for side in sides]
    each, total = debiased_sum(*spaces, weights, **options)
    assert each[0] == debiased_fid(sides[0][20], sides[1][20], **options)
    expected = sum(w * x.value for w, x in zip(weights, each, strict=True))
    assert total.value == pytest.approx(expected, rel=1e-12)
    halves = [w * x.at_half for w, x in zip(weights, each, strict=True)]
    assert total.at_half == pytest.approx(sum(halves))
    assert total.low < total.value < total.high
    # One space alone, weighted, is that space in another unit.
    _, alone = debiased_sum(spaces[0][:1], spaces[1][:1], [4.0], **options)
    assert alone.high == pytest.approx(4 * each[0].high)
    assert alone.noise == pytest.approx(4 * each[0].noise)


def test_equal_distributions_have_a_debiased_multi_depth_fid_near_0():
    values = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        sides = [{d: rng.normal(size=(24, d)) for d in WIDTHS} for _ in range(2)]
        of = FeatureStatistics.from_features
        plain = depth_profile(*({d: of(x) for d, x in side.items()} for side in sides))
        values.append(add_debiased(plain, *sides, replicates=40).debiased.value)
        assert plain.value > 0.1
    # Seven standard errors of the mean; the plain value is 0.5.
    assert abs(np.mean(values)) < 7 * np.std(values) / np.sqrt(12) < 0.1


def test_the_baseline_is_the_mean_of_equal_distributions():
    """Of fewer generated than real images, at each depth and over the depths."""
    plain, expected = [], []
    of = FeatureStatistics.from_features
    for seed in range(40):
        rng = np.random.default_rng(seed)
        sides = [{d: rng.normal(size=(n, d)) for d in WIDTHS} for n in (60, 40)]
        found = depth_profile(*({d: of(x) for d, x in side.items()} for side in sides))
        found = add_baseline(found, sides[0], (60, 40), None, seed)
        assert found.depths[1].baseline == baseline(sides[0][9], 60, 40, seed=seed)
        plain.append([*(x.fid for x in found.depths), found.value])
        expected.append([*(x.baseline.mean for x in found.depths), found.baseline])
    plain, expected = np.array(plain), np.array(expected)
    error = (plain - expected).std(axis=0, ddof=1) / np.sqrt(len(plain))
    assert (np.abs((plain - expected).mean(axis=0)) < 4 * error).all()
    assert (4 * error < 0.25 * plain.mean(axis=0)).all()


def test_spaces_of_other_images_are_an_error():
    rng = np.random.default_rng(0)
    a, b, short = rng.normal(size=(20, 3)), rng.normal(size=(20, 4)), rng.normal(size=(19, 4))
    with pytest.raises(StatisticsError, match="real features of 19 and 20 images"):
        debiased_sum([a, short], [a, b], [1, 1])
    with pytest.raises(StatisticsError, match="generated features"):
        debiased_sum([a, b], [a, b[0]], [1, 1])
