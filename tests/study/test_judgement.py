"""The statistics and rules of the verdict, on constructed numbers that point either way."""

import itertools
import json
import math

import numpy as np
import pytest
from scipy import stats

from fid_med.study import agreement, judgement
from fid_med.study.images import StudyImages
from fid_med.study.judgement import (
    BETTER,
    EQUAL,
    FALLS,
    IN_PART,
    NO,
    RISES,
    UNDECIDED,
    WORSE,
    YES,
    judge,
)
from fid_med.study.repeats import compute_fids, draw_halves, stack_image_levels


def fids(means, spread=0.05, repeats=200, seed=0):
    """[R, L] about the means."""
    noise = np.random.default_rng(seed).normal(size=(repeats, len(means)))
    return np.asarray(means, float) + spread * noise


@pytest.mark.parametrize(
    ("means", "spread", "verdict", "tau"),
    [
        ((1, 2, 3, 4), 0.05, RISES, 1.0),
        ((4, 3, 2, 1), 0.05, FALLS, -1.0),
        ((1, 5.6, 9.5, 8.7), 0.05, FALLS, 2 / 3),  # the blur of the natural-image weights
        ((1, 1, 1, 1), 0.05, UNDECIDED, None),
        ((1, 2, 2, 3), 0.05, UNDECIDED, None),
        ((1, 2, 3, 4), 2.0, UNDECIDED, None),
    ],
)
def test_verdict_comes_from_the_numbers(means, spread, verdict, tau):
    judged = judge(fids(means, spread))
    assert judged.verdict == verdict
    assert tau is None or judged.tau.value == pytest.approx(tau)
    assert judged.tau.low <= judged.tau.value <= judged.tau.high


def test_equal_fids_are_no_rise():
    judged = judge(np.tile([1.0, 2.0, 2.0, 3.0], (50, 1)))
    assert judged.verdict == FALLS
    assert judged.share_rising == 0
    assert judged.steps == (1.0, 0.0, 1.0)
    assert judge(np.ones((50, 4))).tau.value == 0


@pytest.mark.parametrize(("bad", "verdict"), [(10, RISES), (11, UNDECIDED)])
def test_rises_from_95_percent_of_the_repeats_on(bad, verdict):
    values = np.tile([1.0, 2.0, 3.0, 4.0], (200, 1))
    values[:bad, 3] = 2.5
    assert judge(values).verdict == verdict


@pytest.mark.parametrize(("good", "verdict"), [(10, FALLS), (11, UNDECIDED)])
def test_does_not_rise_from_95_percent_of_the_repeats_on(good, verdict):
    values = np.tile([1.0, 2.0, 3.0, 2.5], (200, 1))
    values[:good, 3] = 4.0
    assert judge(values).verdict == verdict


def test_relative_fid_and_sensitivity_by_hand():
    values = np.array([[1.0, 2.0], [3.0, 5.0], [2.0, 8.0]])
    judged = judge(values)
    assert judged.fid[1].value == pytest.approx(5)
    assert judged.relative[1].value == pytest.approx(5 / 2)
    assert judged.relative[0].to_dict() == {"value": 1, "low": 1, "high": 1}
    # The deviation of 1, 3, 2 is 1: rises of 1, 2 and 6.
    assert judged.sensitivity[1].value == pytest.approx(3)
    assert judged.sensitivity[1].low == pytest.approx(np.percentile([1, 2, 6], 2.5))
    json.dumps(judged.to_dict(), allow_nan=False)


def test_level_0_without_spread_or_value_gives_no_number():
    judged = judge(np.tile([0.0, 1.0], (30, 1)))
    assert not math.isfinite(judged.relative[1].value)
    assert judged.to_dict()["sensitivity"][1]["value"] is None
    json.dumps(judged.to_dict(), allow_nan=False)


def test_rank_correlations_are_scipys():
    rng = np.random.default_rng(1)
    for _ in range(20):
        x, y = rng.integers(0, 5, (2, 8)).astype(float)  # with ties
        assert judgement.kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic)
        assert agreement.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    y[2] = -np.inf
    ranks = stats.rankdata(y)
    assert judgement.kendall(x, y) == pytest.approx(judgement.kendall(x, ranks))
    assert agreement.spearman(x, y) == pytest.approx(agreement.spearman(x, ranks))


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([RISES] * 6, YES),
        ([RISES] * 5 + [FALLS], IN_PART),
        ([RISES] * 3 + [FALLS] * 3, NO),
        ([RISES] * 4 + [FALLS, UNDECIDED], IN_PART),
        ([RISES] * 5 + [UNDECIDED], UNDECIDED),
        ([UNDECIDED] * 6, UNDECIDED),
        ([FALLS], NO),
    ],
)
def test_overall_verdict_follows_its_rules(verdicts, expected):
    for order in (verdicts, verdicts[::-1]):
        assert judgement.combine_verdicts(order) == expected


def test_comparison_can_come_out_either_way():
    good, bad = fids((1, 2, 3, 4)), fids((1, 1.5, 3, 2), seed=1)
    ahead, behind = judgement.compare(good, bad), judgement.compare(bad, good)
    assert (ahead.order, ahead.detects_weakest) == (BETTER, BETTER)
    assert (behind.order, behind.detects_weakest) == (WORSE, WORSE)
    assert ahead.tau_difference.value == pytest.approx(-behind.tau_difference.value)
    same = judgement.compare(good, fids((1, 2, 3, 4), seed=2) * 7)
    assert (same.order, same.detects_weakest) == (EQUAL, EQUAL)
    assert judgement.combine_comparisons([BETTER, EQUAL]) == BETTER
    assert judgement.combine_comparisons([WORSE, EQUAL]) == WORSE
    assert judgement.combine_comparisons([WORSE, BETTER]) == "mixed"
    assert judgement.combine_comparisons([EQUAL]) == EQUAL


def test_separated_asks_for_95_percent_above_95_percent():
    values = np.zeros((100, 4))
    values[:, 0] = np.arange(100)
    values[:, 1] = 200
    values[:, 2] = np.where(np.arange(100) < 5, 0, 200)
    values[:, 3] = np.where(np.arange(100) < 6, 0, 200)
    assert judgement.separate_levels(values).tolist() == [False, True, True, False]


def test_fewest_images_holds_from_there_on():
    assert judgement.find_smallest_count([5, 10, 20, 40], [False, True, True, True]) == 10
    assert judgement.find_smallest_count([5, 10, 20, 40], [True, False, True, True]) == 20
    assert judgement.find_smallest_count([5, 10, 20, 40], [True, True, True, False]) is None


def test_permutation_p_value_by_counting_and_by_drawing():
    x = np.array([1.0, 2, 3, 4, 5])
    assert agreement.permutation_p_value(x, x**3) == pytest.approx(2 / 120)
    y = np.array([2.0, 1, 4, 3, 5])
    extreme = [
        abs(stats.spearmanr(x, order).statistic) >= abs(stats.spearmanr(x, y).statistic) - 1e-9
        for order in itertools.permutations(y)
    ]
    assert agreement.permutation_p_value(x, y) == pytest.approx(np.mean(extreme))
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 12))
    drawn = agreement.permutation_p_value(a, b)
    assert drawn == pytest.approx(stats.spearmanr(a, b).pvalue, abs=0.03)
    assert drawn == agreement.permutation_p_value(a, b)
    assert agreement.permutation_p_value(a, a) == pytest.approx(1e-4)
    assert agreement.permutation_p_value(x[:2], x[:2]) is None
    assert agreement.permutation_p_value(x, np.ones(5)) is None


def test_rank_agreement_of_people_and_fids():
    rng = np.random.default_rng(3)
    values = np.arange(6) + 0.01 * rng.normal(size=(50, 6))
    agreed = agreement.measure_agreement(values, np.arange(6.0))
    assert agreed.spearman.value == agreed.kendall.value == agreed.spearman.low == 1
    assert agreed.p_value == pytest.approx(2 / 720)
    against = agreement.measure_agreement(values, -np.arange(6.0))
    assert against.spearman.value == -1
    noisy = agreement.measure_agreement(np.arange(6) + 3 * rng.normal(size=(50, 6)), np.arange(6.0))
    assert noisy.kendall.low < noisy.kendall.value < 1.01
    assert agreement.measure_agreement(values, np.arange(6.0), test=False).p_value is None


def test_feature_correlation_detects_features_that_are_reversed():
    x = np.random.default_rng(0).normal(size=(200, 8))
    assert judgement.feature_correlation(x, x + 1) == pytest.approx(1)
    assert judgement.feature_correlation(x, 1 - x) == pytest.approx(-1)
    fresh = np.random.default_rng(1).normal(size=(200, 8))
    assert abs(judgement.feature_correlation(x, fresh + 1)) < 0.2
    assert judgement.feature_correlation(x, x) is None


@pytest.mark.parametrize(("kind", "least"), [("kept", 0.97), ("fresh", 0.85)])
def test_intervals_cover_the_mean_fid_of_such_sets(kind, least):
    """Simulated studies: 20 images a side, two of each patient, d = 12."""
    scale, shift = np.arange(1, 13) ** -0.5, np.full(12, 0.4)

    def patients(rng, number):
        shared, own = rng.normal(size=(number, 1, 12)), rng.normal(size=(number, 2, 12))
        return ((shared + own) * scale).reshape(-1, 12)

    def disturbed(rng, x):
        return (x if kind == "kept" else rng.normal(size=x.shape) * scale * 2**0.5) + shift

    groups = [[2 * k, 2 * k + 1] for k in range(20)]
    names = [str(i) for i in range(40)]
    images = StudyImages("real", names, names, groups, True, {})
    halves, count = draw_halves(images, 40, seed=0)
    everyone = np.arange(20)
    rng = np.random.default_rng(5)
    truth = []
    for _ in range(400):
        a, b = patients(rng, 10), patients(rng, 10)
        levels = stack_image_levels(
            np.concatenate([a, b]), [np.concatenate([a, disturbed(rng, b)])]
        )
        division = [type(halves[0])(everyone, everyone + 20)]
        truth.append(compute_fids(levels, division, count)[0, 1])
    hits = []
    for _ in range(60):
        x = patients(rng, 20)
        found = judge(compute_fids(stack_image_levels(x, [disturbed(rng, x)]), halves, count)).fid[
            1
        ]
        hits.append(found.low <= np.mean(truth) <= found.high)
    assert np.mean(hits) >= least
