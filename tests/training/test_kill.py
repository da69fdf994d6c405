"""Tests that a training killed at random moments ends with the weights of an uninterrupted one.

Each run is a process of train_classifier.py, ended by SIGKILL and started again. The test takes
minutes and runs only on request:

    FID_MED_KILLS=10 python -m pytest -s tests/training/test_kill.py
"""

import contextlib
import csv
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from fid_med.extractors import inception_v3
from fid_med.extractors.registry import load_extractor

KILLS = int(os.environ.get("FID_MED_KILLS", "0"))
ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "train" / "train_classifier.py"
FLAGS = ("--dataset=phantom", "--phantoms=60", "--image_size=75", "--batch_size=16", "--epochs=12")
EPOCH = re.compile(r"(?:top|all) epoch (\d+)")
RESUMED = re.compile(r"resuming an interrupted run after (?:epoch (\d+)|the start) of phase \w+")

pytestmark = pytest.mark.skipif(not KILLS, reason="slow: FID_MED_KILLS=10 runs it")


def start(folder, recipe, errors):
    command = [sys.executable, SCRIPT, *FLAGS, *recipe, f"--output_dir={folder}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stderr=errors, stdout=subprocess.DEVNULL, env=environment)


def run_and_kill(folder, recipe, log, epochs=None, seconds=0.0):
    """Starts the script and kills it `seconds` after it reported `epochs` epochs, or lets it end.

    Returns its standard error and its exit status.
    """
    with open(log, "w") as errors:
        process = start(folder, recipe, errors)
        if epochs is not None:
            while process.poll() is None and len(EPOCH.findall(log.read_text())) < epochs:
                time.sleep(0.01)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
            process.kill()
        process.wait()
    return log.read_text(), process.returncode


def transfer(small_extractor, folder):
    """Returns the flags of a transfer run; its weights file has random weights."""
    import keras

    weights = folder / "start.weights.h5"
    source = keras.applications.InceptionV3(include_top=False, weights=None)
    inception_v3.copy_weights(small_extractor.network, source, "start")
    source.save_weights(weights)
    return [f"--weights={weights}", "--patience=12", "--train_from=mixed9"]


@pytest.mark.parametrize("recipe", ["transfer", "scratch"])
def test_a_killed_run_loses_only_the_current_epoch(recipe, small_extractor, tmp_path):
    recipe = transfer(small_extractor, tmp_path) if recipe == "transfer" else ["--recipe=scratch"]
    began = time.monotonic()
    printed, status = run_and_kill(tmp_path / "whole", recipe, tmp_path / "whole.log")
    assert status == 0, printed
    whole = time.monotonic() - began
    uninterrupted = load_extractor(tmp_path / "whole" / "extractor.keras")
    with open(tmp_path / "whole" / "history.csv") as table:
        an_epoch = float(list(csv.DictReader(table))[-1]["seconds"])
    rng = np.random.default_rng(0)
    kills, runs, largest, log = 0, 0, 0.0, tmp_path / "killed.log"
    while kills < KILLS or runs == 0:
        folder, done, status = tmp_path / f"killed{runs}", 0, -1
        while status != 0:
            # At any moment: at the start, in the first epochs, or while a checkpoint is written.
            epochs = int(rng.integers(3))
            seconds = rng.uniform(0, 1.5 * an_epoch if epochs else whole / 2)
            if kills < KILLS:
                printed, status = run_and_kill(folder, recipe, log, epochs, seconds)
            else:
                printed, status = run_and_kill(folder, recipe, log)
            assert status in (0, -signal.SIGKILL), printed
            resumed = RESUMED.search(printed)
            assert resumed or not done or not EPOCH.search(printed), printed
            if resumed:
                assert int(resumed.group(1) or 0) >= done, printed
            done = max([done, *map(int, EPOCH.findall(printed))])
            kills += status != 0
            print(f"kill {kills}: {done} epochs done" if status else f"finished, {done} epochs")
        runs += 1
        found = load_extractor(folder / "extractor.keras")
        for a, b in zip(
            inception_v3.network_arrays(uninterrupted.network),
            inception_v3.network_arrays(found.network),
            strict=True,
        ):
            largest = max(largest, float(np.abs(a - b).max()))
        columns = [(x / "history.csv").read_text().split() for x in (folder, tmp_path / "whole")]
        assert [row.rsplit(",", 1)[0] for row in columns[0]] == [
            row.rsplit(",", 1)[0] for row in columns[1]
        ]
        assert not (folder / "checkpoint").exists()
    print(
        f"{kills} kills in {runs} runs, uninterrupted {whole:.0f} s: largest difference {largest:g}"
    )
    assert largest == 0.0
    assert found.fingerprint == uninterrupted.fingerprint
