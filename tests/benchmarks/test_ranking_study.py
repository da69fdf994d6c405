"""The study of rankings: what counts as a false claim, and the rate of them for equal sets."""

import math

import pytest
from helpers.script_runs import run_script

from benchmarks.ranking import Settings, Trial, one_trial, run, summarise


def test_false_claims_are_counted():
    strengths = (0.1, 0.1, 0.5)
    trials = [
        Trial([0.1, 0.2, 0.9], 0, [False, False, True], [False, True, True]),  # right
        Trial([0.1, 0.9, 0.5], 0, [False, True, True], [False, True, True]),  # 1 is not worse
        Trial([0.3, 0.2, 0.1], 2, [True, False, False], [True, False, False]),  # nor 0 than 2
        Trial([0.2, 0.1, 0.5], 1, [False, False, False], [False, False, False]),  # nothing
    ]
    found = summarise(strengths, trials)
    assert found["family_wise_error"] == 0.5
    assert found["standard_error"] == 0.25
    assert found["uncorrected"] == 0.75
    assert found["right_order"] == 0.5
    assert found["called_worse"] == [0.25, 0.25, 0.5]


def test_equal_sets_are_rarely_called_different():
    """At most 5 % and three errors of the count; more often without the whole correction."""
    settings = Settings((0.12,) * 5, count=16, dimension=8, replicates=40)
    found = summarise(settings.strengths, run(settings, 40))
    assert found["family_wise_error"] <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 40)
    assert found["uncorrected"] > found["family_wise_error"]


def test_a_known_order_is_found_and_equal_sets_are_not_called_different():
    settings = Settings((0.1, 0.1, 0.8, 1.2, 1.6), count=80, dimension=16, replicates=24)
    found = summarise(settings.strengths, [one_trial(settings, i) for i in range(10)])
    assert found["family_wise_error"] <= 0.1
    assert found["right_order"] >= 0.9
    assert found["called_worse"][3:] == [1, 1]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_script_prints_what_it_counted(workers):
    done = run_script(
        "-m", "benchmarks.ranking_study", "--strengths=0,0.8", "--count=16", "--dimension=8",
        "--replicates=8", "--trials=6", f"--workers={workers}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("true FIDs: 0.0000, ")
    assert "of 6 (1 tests only: " in lines[1]
    trials = list(run(Settings((0.0, 0.8), count=16, dimension=8, replicates=8), 6))
    shares = summarise((0.0, 0.8), trials)["called_worse"]
    assert lines[3] == "called worse: " + ", ".join(f"{x:.3f}" for x in shares)


@pytest.mark.parametrize("wrong", ["--strengths=1", "--strengths=1,-1", "--strengths=a,b", "extra"])
def test_wrong_flags_end_with_status_2(wrong):
    done = run_script("-m", "benchmarks.ranking_study", wrong)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
