"""Ranking of several sets: against the functions that it joins, and Holm's correction by hand."""

import json

import numpy as np
import pytest

from fid_med.errors import StatisticsError
from fid_med.metrics.debiased_fid import SharedSplits
from fid_med.metrics.ranking import draw_images, holm, rank_sets


def _sets(shifts, count=24, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((count, 5)) + shift for shift in shifts]


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.2, 0.001], tests=6) == pytest.approx([1, 0.006])
    assert holm([0.01, 0.01, 0.01]) == pytest.approx([0.03, 0.03, 0.03])
    assert holm([]) == []


def test_sets_are_ranked_and_compared_with_the_best_one():
    real, *sets = _sets([0, 1.5, 0.1, 0.6, 3])
    found = rank_sets(real, sets, replicates=20, seed=3)
    splits = SharedSplits(real, sets, replicates=20, seed=3)
    assert [row.rank for row in found] == [3, 1, 2, 4]
    assert [row.debiased for row in found] == [splits.fid(i) for i in range(4)]
    assert found[1].difference is None
    assert found[1].p_value is None
    assert not found[1].worse
    others = [0, 2, 3]
    differences = [splits.difference(i, 1) for i in others]
    assert [found[i].difference.value for i in others] == [x.value for x in differences]
    # Six pairs of four sets: any of them could have held the best set.
    expected = holm([x.p_value for x in differences], 6)
    assert [found[i].p_value for i in others] == expected
    assert [found[i].worse for i in others] == [p <= 0.05 for p in expected]
    assert found[3].worse
    json.dumps([row.debiased.to_dict() for row in found], allow_nan=False)


def test_intervals_of_differences_hold_for_all_pairs_together():
    real, *sets = _sets([0, 0, 0.3, 0.6, 0.9, 1.2], count=20)
    found = [x for x in rank_sets(real, sets, replicates=20, confidence=0.9) if x.difference]
    assert [x.difference.confidence for x in found] == pytest.approx([0.99] * 4)
    holds_zero = [x.difference.low <= 0 <= x.difference.high for x in found]
    assert holds_zero == [x.difference.p_value > 0.01 for x in found]
    assert {True, False} <= {*holds_zero}
    assert {x.debiased.confidence for x in found} == {0.9}


def test_one_set_is_no_ranking():
    real, only = _sets([0, 1])
    with pytest.raises(StatisticsError, match="1 generated set"):
        rank_sets(real, [only])


def test_equal_sets_are_all_best():
    real, one = _sets([0, 1])
    found = rank_sets(real, [one, one, one], replicates=5)
    assert sorted(row.rank for row in found) == [1, 2, 3]
    assert not any(row.worse for row in found)


@pytest.mark.parametrize("patients", [None, np.repeat(np.arange(20), 5)])
def test_a_draw_does_not_depend_on_the_order(patients):
    rows = np.random.default_rng(0).standard_normal((100, 3)).astype(np.float32)
    drawn = draw_images(rows, patients, 33)
    assert len(drawn) == (33 if patients is None else 30)
    assert len(set(drawn.tolist())) == len(drawn)
    order = np.random.default_rng(1).permutation(100)
    again = draw_images(rows[order], None if patients is None else patients[order], 33)
    assert sorted(order[again].tolist()) == drawn.tolist()
    if patients is not None:
        assert set(np.bincount(patients[drawn])) == {0, 5}  # whole patients
    assert draw_images(rows, patients, 100).tolist() == list(range(100))
