import functools
import json

import numpy as np
import pytest
from helpers.script_runs import run_script

from benchmarks import coverage
from benchmarks.known_distances import SHARES, Gaussians, Mixtures
from fid_med.errors import DataError, StatisticsError
from fid_med.metrics.debiased_fid import debiased_fid, paired_difference
from fid_med.metrics.feature_files import save_features
from fid_med.metrics.frechet import frechet_distance
from fid_med.metrics.statistics import FeatureStatistics

SCRIPT = "benchmarks.coverage_study"
_run = functools.partial(run_script, "-m", SCRIPT)


@pytest.fixture(scope="module")
def pools():
    """Two pools of skewed features, [60, 9] and [50, 9]."""
    rng = np.random.default_rng(3)
    return rng.gamma(1.5, size=(60, 9)).astype("f4"), rng.gamma(2.5, size=(50, 9)).astype("f4")


def test_the_script_prints_and_writes_what_it_counted(tmp_path):
    target, kept = tmp_path / "coverage.json", tmp_path / "rows.jsonl"
    arguments = (
        "--distances=zero,large",
        "--trials=6",
        "--count=24",
        "--generated_count=32",
        "--dimension=20",
        "--replicates=8",
        "--compare",
        f"--json={target}",
        f"--rows={kept}",
    )
    done = _run(*arguments)
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
    trials = coverage.Trials(Gaussians(20), 24, 32, 8, distances=("zero", "large"), compare=True)
    again = coverage.summarise(trials, list(coverage.run(trials, 6, seed=0)))
    assert again[1]["estimates"]["value"]["bias"] == pytest.approx(
        cases[1]["estimates"]["value"]["bias"], rel=1e-9
    )
    # Killed within the fourth trial: it goes on, and comes to the same.
    lines = kept.read_text().splitlines(keepends=True)
    kept.write_text("".join(lines[:4]) + lines[4][:50])
    assert _run(*arguments).stdout == done.stdout
    assert sorted(kept.read_text().splitlines()) == sorted("".join(lines).splitlines())
    other = _run(*arguments, "--seed=1")
    assert other.returncode == 1
    assert "rows of other settings" in other.stderr
    assert other.stderr.count("\n") == 1
    kept.write_bytes(b"PK\x03\x04\xff\xfe\n")
    other = _run(*arguments)
    assert other.returncode == 1
    assert "no rows of trials" in other.stderr
    assert other.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "wrong", ["--kinds=kid", "--distances=far", "--trials=0", "--features=one.npz", "extra"]
)
def test_wrong_flags_end_with_status_2_and_one_line(wrong):
    done = _run(wrong)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("distance", ["small", "large"])
def test_the_true_distance_is_that_of_its_moments(distance):
    population = Gaussians(30)
    real, other = (population.moments(d) for d in ("zero", distance))
    sides = [FeatureStatistics.from_moments(m, np.diag(v)) for m, v in (real, other)]
    truth = population.true_distance(distance)
    assert truth == pytest.approx(frechet_distance(*sides), rel=1e-9)


@pytest.mark.parametrize("degrees", [None, 6.0])
def test_samples_have_the_moments(degrees):
    population = Gaussians(5, degrees)
    rows = population.sample("large", 20000, np.random.default_rng(0))
    mean, variances = population.moments("large")
    error = np.sqrt(variances / 20000)
    assert (np.abs(rows.mean(axis=0) - mean) < 4 * error).all()
    assert rows.var(axis=0) == pytest.approx(variances, rel=0.1)


@pytest.mark.parametrize("distance", coverage.DISTANCES)
def test_a_mixture_of_real_features_is_as_far_as_it_says(pools, distance):
    mixed = Mixtures(*pools)
    rng = np.random.default_rng(1)
    sides = [mixed.sample(d, 40000, rng) for d in ("zero", distance)]
    known = {row.tobytes() for row in pools[1]}
    share = np.mean([row.tobytes() in known for row in sides[1]])
    assert share == pytest.approx(SHARES[distance], abs=0.01)
    plain = frechet_distance(*map(FeatureStatistics.from_features, sides))
    assert mixed.true_distance(distance) == pytest.approx(plain, abs=0.12)  # 3 errors


def test_pools_come_from_files_with_features(pools, tmp_path):
    paths = tmp_path / "real.npz", tmp_path / "other.npz"
    for path, rows in zip(paths, pools, strict=True):
        save_features(path, FeatureStatistics.from_features(rows), rows)
    loaded = Mixtures.load(*paths)
    assert loaded.true_distance("large") == Mixtures(*pools).true_distance("large")
    FeatureStatistics.from_features(pools[0]).save(tmp_path / "bare.npz")
    with pytest.raises(StatisticsError, match=r"bare\.npz: holds no features of individual images"):
        Mixtures.load(paths[0], tmp_path / "bare.npz")
    with pytest.raises(StatisticsError, match="real features of dimension 9 and other"):
        Mixtures(pools[0], pools[1][:, :4])


def test_a_row_is_what_the_functions_give(pools):
    trials = coverage.Trials(Mixtures(*pools), 20, 24, 6)
    row = coverage.one_trial(trials, 5, 2)
    rng = np.random.default_rng([5, 2])
    real = trials.population.sample("zero", 20, rng)
    sets = [trials.population.sample(d, 24, rng) for d in coverage.SETS]
    # Other sets are drawn from the same random numbers, so their splits are others.
    alone = debiased_fid(real, sets[2], replicates=400)
    assert row["fid large"]["value"] == pytest.approx(alone.value, abs=alone.standard_error)
    both = paired_difference(real, sets[1], sets[2], replicates=400)
    assert row["difference large"]["value"] == pytest.approx(both.value, abs=both.standard_error)
    assert row["difference large"]["value"] == pytest.approx(
        row["fid small"]["value"] - row["fid large"]["value"]
    )


def test_misses_are_counted_on_their_side():
    trials = coverage.Trials(Gaussians(2), 8, 8, 2, ("fid",), ("zero",))
    ends = [(-1, 1), (0.5, 1), (0.5, 1), (-1, -0.5)]
    rows = [
        {"fid zero": {"value": 0, "low": a, "high": b, "standard_error": 1, "noise": 1}}
        for a, b in ends
    ]
    (found,) = coverage.summarise(trials, rows)
    assert found["coverage"] == 0.25
    assert (found["interval_below_truth"], found["interval_above_truth"]) == (0.25, 0.5)
    assert found["coverage_error"] == pytest.approx(np.sqrt(0.25 * 0.75 / 4))


def test_unknown_trials_are_refused(tmp_path):
    with pytest.raises(StatisticsError, match="no trials of fid at the distance 'far'"):
        coverage.Trials(Gaussians(2), 8, 8, 2, ("fid",), ("far",))
    (tmp_path / "rows").write_text("no rows\n")
    trials = coverage.Trials(Gaussians(2), 8, 8, 2)
    with pytest.raises(DataError, match="no rows of trials"):
        list(coverage.run(trials, 1, 0, rows_file=tmp_path / "rows"))
