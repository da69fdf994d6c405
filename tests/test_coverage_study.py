import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from fid_med.errors import StatisticsError
from fid_med.metrics.frechet import frechet_distance
from fid_med.metrics.statistics import FeatureStatistics
from fid_med.validation import coverage

ROOT = pathlib.Path(__file__).parents[1]
SCRIPT = ROOT / "eval" / "coverage_study.py"


def _run(*arguments):
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def test_the_script_prints_and_writes_what_it_counted(tmp_path):
    target = tmp_path / "coverage.json"
    done = _run(
        "--distances=zero,large",
        "--trials=6",
        "--count=24",
        "--generated_count=32",
        "--dimension=20",
        "--replicates=8",
        "--compare",
        f"--json={target}",
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    cases = json.loads(target.read_text())["cases"]
    assert [(c["kind"], c["distance"]) for c in cases] == [
        ("fid", "zero"),
        ("fid", "large"),
        ("difference", "zero"),
        ("difference", "large"),
    ]
    assert [c["truth"] > 0 for c in cases] == [False, True, False, False]
    for case in cases:
        missed = case["interval_below_truth"] + case["interval_above_truth"]
        assert case["coverage"] == pytest.approx(1 - missed)
        assert case["trials"] == 6
    assert list(cases[0]["estimates"]) == ["plain", "infinity", "at_half", "value"]
    assert "fid large (true" in done.stdout
    # The same rows in one process.
    trials = coverage.Trials("fid", "zero", 24, 32, 20, 8, compare=True)
    again = coverage.summarise(trials, list(coverage.run(trials, 6, seed=0)))
    assert again["estimates"]["value"]["bias"] == pytest.approx(
        cases[0]["estimates"]["value"]["bias"], rel=1e-9
    )


@pytest.mark.parametrize("wrong", ["--kinds=kid", "--distances=far", "--trials=0", "extra"])
def test_wrong_flags_end_with_status_2_and_one_line(wrong):
    done = _run(wrong)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("distance", ["small", "large"])
def test_the_true_distance_is_that_of_its_moments(distance):
    real, other = (coverage.moments(d, 30) for d in ("zero", distance))
    sides = [FeatureStatistics.from_moments(m, np.diag(v)) for m, v in (real, other)]
    assert coverage.true_distance(distance, 30) == pytest.approx(frechet_distance(*sides), rel=1e-9)


@pytest.mark.parametrize("degrees", [None, 6.0])
def test_samples_have_the_moments(degrees):
    rows = coverage.sample("large", 20000, 5, degrees, np.random.default_rng(0))
    mean, variances = coverage.moments("large", 5)
    error = np.sqrt(variances / 20000)
    assert (np.abs(rows.mean(axis=0) - mean) < 4 * error).all()
    assert rows.var(axis=0) == pytest.approx(variances, rel=0.1)


def test_misses_are_counted_on_their_side():
    trials = coverage.Trials("fid", "zero", 8, 8, 2, 2)
    ends = [(-1, 1), (0.5, 1), (0.5, 1), (-1, -0.5)]
    rows = [{"value": 0.0, "low": a, "high": b, "standard_error": 1.0} for a, b in ends]
    found = coverage.summarise(trials, rows)
    assert found["coverage"] == 0.25
    assert (found["interval_below_truth"], found["interval_above_truth"]) == (0.25, 0.5)
    assert found["coverage_error"] == pytest.approx(np.sqrt(0.25 * 0.75 / 4))


def test_unknown_trials_are_refused():
    with pytest.raises(StatisticsError, match="no trials of fid at the distance 'far'"):
        coverage.Trials("fid", "far", 8, 8, 2, 2)
