"""The study's script as its users run it: how it ends, and what it prints."""

import functools

import pytest
from helpers.script_runs import ROOT, fork_script, run_script

from fid_med.disturbances.registry import DISTURBANCES, GROUPS

SCRIPT = ROOT / "eval" / "disturbance_study.py"
run = functools.partial(run_script, SCRIPT)


def test_help_shows_the_flags():
    process = run("--help")
    assert process.returncode == 0
    assert process.stdout.startswith("usage: disturbance_study.py REAL")
    for flag in ("extractors", "contamination", "disturbances", "scale", "patient_regex",
                 "transfer", "generated", "ratings", "repeats", "seed", "output_dir"):  # fmt: skip
        assert f"--{flag}" in process.stdout or f"--[no]{flag}" in process.stdout
    for name in (*DISTURBANCES, *GROUPS):
        assert name in process.stdout


def test_the_names_of_disturbances_are_known_without_tensorflow():
    code = "import sys, fid_med.disturbances.registry; sys.exit('tensorflow' in sys.modules)"
    assert run_script("-c", code).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["real"], 2, "output_dir"),
        (["--output_dir=x"], 2, "REAL"),
        (["real", "--output_dir=x", "--scale=inch"], 2, "scale"),
        (["real", "--output_dir=x", "--repeats=3"], 2, "repeats"),
        (["missing/folder", "--output_dir=x"], 2, "missing/folder: no such folder"),
        ([ROOT / "eval", "--output_dir=x"], 1, "contains no image files"),
        (["missing", "--output_dir=x", "--disturbances=blurr"], 2, "gaussian_blur"),
        (["missing", "--output_dir=x", "--disturbances=contamination"], 2, "--contamination=DIR"),
    ],
)
def test_mistakes_end_in_one_line(arguments, status, words):
    process = run(*arguments)
    assert process.returncode == status
    errors = [line for line in process.stderr.splitlines() if ": error: " in line]
    assert len(errors) == 1
    assert words in errors[0]
    assert "Traceback" not in process.stderr


def test_study_through_the_script(phantoms, extractor_file, write_images, tmp_path):
    network = tmp_path / "Doe_.keras"
    network.symlink_to(extractor_file)
    names = [f"Doe_{i // 2}_{i % 2}.png" for i in range(10)]
    real = write_images("Jane_Doe", phantoms[0][:10], names)
    process = fork_script(
        SCRIPT, real, f"--output_dir={tmp_path}/out", f"--extractors=chance={network}",
        "--disturbances=swirl", "--repeats=20", "--patient_regex=^Doe_[0-9]",
        "--note=phantoms only",
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    # Phantoms 80 pixels high: a unit of the scale is 80 / 64 pixels.
    reported = next(
        line for line in process.stderr.splitlines() if line.startswith("swirl in images")
    )
    assert "of 80 x 80 pixels: level 1, strength radians 1, radius pixels 31.25" in reported
    lines = process.stdout.splitlines()
    assert process.stderr.splitlines()[-1] == f"report: {tmp_path}/out/report.html"
    assert lines[0].startswith("chance at 64: ")
    assert lines[-2].startswith("chance, multi-depth: ")
    assert lines[-1].startswith("recommendation: ")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "phantoms only" in page
    # Neither an image's name nor a folder's reaches what the study writes.
    for path in (tmp_path / "out").rglob("*"):
        assert "Doe" not in path.name
        if path.suffix in (".html", ".json", ".csv"):
            text = path.read_text(encoding="utf-8")
            assert "Doe_" not in text.replace("^Doe_[0-9]", "").replace("Doe_.keras", "")
            assert str(tmp_path) not in text
