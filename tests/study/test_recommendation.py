"""The rule of the recommendation, on constructed FIDs that point either way."""

import json

import numpy as np
import pytest

from fid_med.study.judgement import judge
from fid_med.study.recommendation import NONE, UNDECIDED_YET, USE, images_to_rise, recommend

UP, FLAT, DOWN = (1, 2, 3, 4), (1, 1, 1, 1), (1, 5.6, 9.5, 8.7)


def fids(means, spread=0.05, repeats=200, seed=0):
    """[R, L] about the means."""
    noise = np.random.default_rng(seed).normal(size=(repeats, len(means)))
    return np.asarray(means, float) + spread * noise


def decide(count=20, **measures):
    """The recommendation, from the means or FIDs of each disturbance of each measure."""
    named = {
        name: {
            f"disturbance {k}": fids(x, seed=k) if np.ndim(x) == 1 else x for k, x in enumerate(of)
        }
        for name, of in measures.items()
    }
    found = recommend(named, count)
    json.dumps(found, allow_nan=False)
    return found


def test_the_one_that_rises_under_the_most_is_used():
    found = decide(a=[UP, UP, FLAT], b=[UP, UP, UP], c=[UP, UP, DOWN])
    assert (found["outcome"], found["best"]) == (USE, ["b"])
    assert found["candidates"]["a"]["undecided"] == ["disturbance 2"]
    assert found["not_worse"] == []


def test_a_shown_fall_excludes_whatever_else_rises():
    found = decide(a=[UP] * 5 + [DOWN], b=[UP] * 4 + [FLAT] * 2)
    assert (found["outcome"], found["best"]) == (USE, ["b"])
    assert found["candidates"]["a"]["falls"] == ["disturbance 5"]


def test_half_of_the_disturbances_are_too_few():
    assert decide(a=[UP, UP, FLAT, FLAT])["outcome"] == UNDECIDED_YET
    assert decide(a=[UP, UP, UP, FLAT])["outcome"] == USE


def test_among_equals_the_weakest_level_decides():
    """Both rise in 99 % of the splits or more; one has a small first step next to its spread."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(200, 1))
    strong = shared + [[0, 9, 18, 27]] + 0.1 * rng.normal(size=(200, 4))
    weak = shared + [[0, 1, 18, 27]] + 0.1 * rng.normal(size=(200, 4))
    found = decide(weak=[weak] * 3, strong=[strong] * 3)
    assert found["best"] == ["strong"]
    detection = {name: x["detection"] for name, x in found["candidates"].items()}
    assert detection["strong"] == 1
    # Normal: P(z + 1 > 1.645).
    assert detection["weak"] == pytest.approx(0.26, abs=0.07)
    # In every split, the other rises less over its own level 0.
    assert found["not_worse"] == []


def test_others_are_worse_only_where_that_is_shown():
    best = fids((0, 9, 18, 27), spread=1)
    noisy = fids((0, 8, 18, 27), spread=1, seed=1)  # nearly as good
    mixed = [fids((0, 5, 18, 27), spread=0.2, seed=2), fids((0, 7, 18, 27), spread=1, seed=3)]
    found = decide(best=[best] * 2, noisy=[noisy] * 2, mixed=mixed)
    detection = {name: x["detection"] for name, x in found["candidates"].items()}
    assert min(detection.values()) > 0.99
    # `mixed` detects the first better and the second not clearly worse.
    assert set(found["best"]) | set(found["not_worse"]) == {"best", "noisy", "mixed"}
    blind = fids((0, 0.1, 18, 27), spread=0.02, seed=4) + fids((0,), spread=1, seed=5)
    found = decide(best=[best] * 2, blind=[blind] * 2)
    assert (found["best"], found["not_worse"]) == (["best"], [])


def test_exact_ties_are_all_named():
    found = decide(a=[UP, UP], b=[UP, UP])
    assert found["best"] == ["a", "b"]
    assert found["not_worse"] == []


def test_nothing_rises():
    found = decide(a=[DOWN, UP, DOWN], b=[DOWN, DOWN, UP])
    assert found["outcome"] == NONE
    assert found["best"] == ["a", "b"]
    found = decide(a=[DOWN, UP, UP], b=[DOWN, DOWN, UP])
    assert (found["outcome"], found["best"]) == (NONE, ["a"])
    flat = decide(a=[FLAT, FLAT])
    assert flat["outcome"] == UNDECIDED_YET
    assert decide() == {
        "outcome": NONE, "best": [], "not_worse": [], "images_needed": None, "candidates": {}
    }  # fmt: skip


def test_undecided_names_the_fewest_images_that_would_decide():
    rising = fids((1, 1.2, 1.4, 1.6), spread=0.12)
    assert judge(rising).verdict == "undecided"
    slower = fids((1, 1.15, 1.3, 1.45), spread=0.12)
    found = decide(a=[rising, FLAT], b=[slower, slower], c=[rising, rising])
    assert (found["outcome"], found["best"]) == (UNDECIDED_YET, ["c"])
    # More than half of two is both.
    assert found["images_needed"] == images_to_rise(rising, 20)
    assert found["candidates"]["a"]["images_needed"]["disturbance 1"] is None
    only = decide(a=[rising, FLAT], b=[rising, DOWN])
    assert (only["best"], only["images_needed"]) == (["a"], None)


@pytest.mark.parametrize("ratio", [0.8, 1.2])
def test_images_to_rise_is_the_number_of_a_normal_test(ratio):
    """One step of mean z standard deviations: n (1.645 + 0.842)^2 / z^2."""
    steps = np.random.default_rng(0).normal(size=4000) + ratio
    values = np.stack([np.zeros(4000), steps], axis=1)
    expected = 50 * (2.487 / ratio) ** 2
    assert images_to_rise(values, 50) == pytest.approx(expected, rel=0.08)


def test_images_to_rise_says_nothing_without_a_rise_or_too_far_away():
    assert images_to_rise(fids(DOWN), 20) is None
    steps = np.random.default_rng(0).normal(size=(400, 1))
    assert images_to_rise(np.hstack([0 * steps, steps - steps.mean() + 0.3]), 20) is None
    assert images_to_rise(fids((1, 2, 3, 4), spread=0), 20) == 1
