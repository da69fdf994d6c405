"""compute_fid.py with several generated sets, as its users run it."""

import json

import numpy as np
import pytest
from helpers.script_runs import ROOT, run_script

from fid_med.metrics.feature_files import save_features
from fid_med.metrics.statistics import FeatureStatistics

SCRIPT = ROOT / "eval" / "compute_fid.py"


@pytest.fixture
def files(tmp_path):
    """Statistics with features: real.npz, and three generated sets."""
    paths = []
    for i, (name, shift) in enumerate([("real", 0), ("far", 2), ("near", 0.1), ("middle", 1)]):
        rows = np.random.default_rng(i).normal(shift, size=(20, 6)).astype(np.float32)
        statistics = FeatureStatistics.from_features(rows)
        paths.append(tmp_path / f"{name}.npz")
        save_features(paths[-1], statistics, rows)
    return paths


def test_one_line_per_set_in_the_order_given(files, tmp_path):
    figures, target = tmp_path / "figures", tmp_path / "ranking.json"
    page = tmp_path / "page.html"
    process = run_script(
        SCRIPT, *files, f"--figures={figures}", f"--json={target}", f"--report={page}"
    )
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert [line.split(":")[0] for line in lines[-3:]] == ["FID far", "FID near", "FID middle"]
    assert process.stderr.splitlines()[-2:] == [
        f"look at {figures}/ranking.png", f"report: {page}"
    ]  # fmt: skip
    assert "smallest debiased FID: near" in page.read_text(encoding="utf-8")
    saved = json.loads(target.read_text())
    assert saved["best"] == "near"
    assert [row["rank"] for row in saved["generated"]] == [3, 1, 2]
    for line, path in zip(lines[-3:], files[1:], strict=True):
        alone = run_script(SCRIPT, files[0], path).stdout.splitlines()[-1]
        assert alone == f"FID: {line.split(': ')[1]}"
    assert str(tmp_path) not in target.read_text()


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--train_images=x"], "--train_images: has no effect for several generated sets"),
        (["--per_class"], "--per_class: has no effect for several generated sets"),
        (["--metrics=kid"], "--metrics: has no effect"),
        (["--other_generated=x"], "--other_generated: has no effect"),
        (
            ["--save_statistics=x", "--save_features"],
            "--save_statistics, --save_features: have no effect",
        ),
        (["--plan=100"], "expected REAL, got 4"),
        (["near.npz"], "two sets are named near"),
    ],
)
def test_what_is_only_for_one_set_ends_with_2(flags, word, files, tmp_path):
    given = [tmp_path / "other" / x if x.endswith(".npz") else x for x in flags]
    process = run_script(SCRIPT, *files, *given)
    assert process.returncode == 2
    assert process.stderr.count("\n") == 1
    assert word in process.stderr
    assert process.stdout == ""


def test_one_argument_is_too_few(files):
    process = run_script(SCRIPT, files[0])
    assert process.returncode == 2
    assert "expected REAL GENERATED [GENERATED ...], got 1" in process.stderr


def test_a_set_without_features_ends_with_1(files):
    FeatureStatistics.load(files[2]).save(files[2])
    process = run_script(SCRIPT, *files)
    assert process.returncode == 1
    assert "the near statistics hold no features" in process.stderr
    assert process.stderr.count("\n") == 1
