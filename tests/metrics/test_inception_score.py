"""The Inception Score: closed forms, an independent formula, the order, and what it refuses."""

import math

import numpy as np
import pytest

from fid_med.errors import StatisticsError
from fid_med.metrics.inception_score import inception_score


def random_logits(n=57, k=12, seed=0):
    return np.random.default_rng(seed).normal(0, 2, (n, k))


def naive(logits, splits):
    """In plain Python, image by image and class by class; splits by hand."""
    probabilities = []
    for row in logits.tolist():
        total = math.fsum(math.exp(x) for x in row)
        probabilities.append([math.exp(x) / total for x in row])
    n, k, scores = len(probabilities), len(probabilities[0]), []
    for i in range(splits):
        part = probabilities[i * n // splits : (i + 1) * n // splits]
        marginal = [math.fsum(p[j] for p in part) / len(part) for j in range(k)]
        divergences = [
            math.fsum(p[j] * (math.log(p[j]) - math.log(marginal[j])) for j in range(k))
            for p in part
        ]
        scores.append(math.exp(math.fsum(divergences) / len(part)))
    mean = math.fsum(scores) / splits
    return mean, math.sqrt(math.fsum((s - mean) ** 2 for s in scores) / splits)


@pytest.mark.parametrize("splits", [1, 3, 10, 57])
def test_it_is_the_formula(splits):
    logits = random_logits()
    assert inception_score(logits, splits) == pytest.approx(naive(logits, splits), rel=1e-12)


@pytest.mark.parametrize("splits", [1, 4])
def test_equal_probabilities_give_1(splits):
    assert inception_score(np.zeros((20, 7)), splits) == (1.0, 0.0)
    same = np.tile(random_logits(1), (20, 1))
    assert inception_score(same, splits) == pytest.approx((1.0, 0.0), abs=1e-14)


@pytest.mark.parametrize("probabilities", [True, False])
def test_certain_and_evenly_spread_classes_give_their_number(probabilities):
    certain = np.tile(np.eye(8), (10, 1))
    logits = certain if probabilities else 1e4 * certain
    mean, std = inception_score(logits, 10, probabilities=probabilities)
    assert mean == pytest.approx(8, rel=1e-14)
    assert std == pytest.approx(0, abs=1e-13)


def test_certain_but_of_one_class_gives_1():
    score = inception_score(1e4 * np.eye(5)[[2] * 30])
    assert score == pytest.approx((1.0, 0.0), abs=1e-14)


def test_between_certain_and_even():
    """Half of two classes for certain: exp(H(1/4, 3/4)) by hand."""
    mean, _ = inception_score(np.eye(2)[[0, 1, 1, 1]], 1, probabilities=True)
    assert mean == pytest.approx(math.exp(-0.25 * math.log(0.25) - 0.75 * math.log(0.75)))


@pytest.mark.parametrize("shift", [-1e6, 1e6])
def test_logits_may_be_of_any_size(shift):
    logits = np.round(random_logits() * 64) / 64  # so that the shift is exact
    assert inception_score(logits + shift) == pytest.approx(inception_score(logits), rel=1e-12)


def test_logits_farther_apart_than_float64_reaches():
    logits = np.where(np.eye(4) > 0, 1.7e308, -1.7e308)
    assert inception_score(logits, 1).mean == pytest.approx(4)
    tiny = np.where(np.eye(4) > 0, 0.0, -744.0)  # probabilities near 5e-324
    assert inception_score(tiny, 1).mean == pytest.approx(4)


def test_probabilities_are_the_softmax_of_logits():
    logits = random_logits()
    p = np.exp(logits)
    p /= p.sum(axis=1, keepdims=True)
    obtained = inception_score(p, probabilities=True)
    assert obtained == pytest.approx(inception_score(logits), rel=1e-12)


def test_float32_is_computed_in_float64():
    logits = random_logits().astype(np.float32)
    assert inception_score(logits) == inception_score(logits.astype(np.float64))


def test_the_order_counts_and_can_be_given():
    logits = np.sort(random_logits(), axis=0)  # like images sorted by class
    shuffled = np.random.RandomState(2020).permutation(len(logits))
    by_seed = inception_score(logits, order=2020)
    assert by_seed == inception_score(logits[shuffled])
    assert by_seed == inception_score(logits, order=shuffled)
    assert by_seed == inception_score(logits, order=shuffled.tolist())
    assert abs(by_seed.mean - inception_score(logits).mean) > 1e-3
    one_split = inception_score(logits, 1, order=2020)
    assert one_split == pytest.approx(inception_score(logits, 1), rel=1e-12)


NAN = random_logits()
NAN[3, 2] = np.nan


@pytest.mark.parametrize(
    ("logits", "arguments", "said"),
    [
        (random_logits(9), {}, "9 images in 10 splits"),
        (np.empty((0, 4)), {"splits": 1}, "0 images in 1 splits"),
        (NAN, {}, "1 of 57 rows of logits hold NaN"),
        (NAN[0], {}, r"shape \(12,\): expected \[N, K\]"),
        (np.empty((20, 0)), {}, "expected .N, K."),
        (np.full((20, 3), "a"), {}, "dtype <U1: expected real numbers"),
        (np.ones((20, 3), complex), {}, "complex128: expected real"),
        (random_logits(), {"splits": 0}, "splits 0: expected a whole number"),
        (random_logits(), {"splits": 2.5}, r"splits 2\.5: expected"),
        (random_logits(), {"probabilities": True}, "57 of 57 rows are not probabilities"),
        (np.array([[1.5, -0.5]] * 20), {"probabilities": True}, "row 0 sums to 1"),
        (random_logits(), {"order": [0, 1]}, "expected each of 0 to 56 once"),
        (random_logits(), {"order": np.zeros(57, int)}, "expected each of 0 to 56 once"),
        (random_logits(), {"order": -1}, "order -1: expected a whole number from 0 to 4294967295"),
        (random_logits(), {"order": 0.5}, "expected a seed or a permutation"),
    ],
)
def test_mistakes_are_reported_in_one_line(logits, arguments, said):
    with pytest.raises(StatisticsError, match=said) as refusal:
        inception_score(logits, **arguments)
    assert "\n" not in str(refusal.value)
