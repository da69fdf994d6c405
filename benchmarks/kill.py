#!/usr/bin/env python3
"""Kills every script at random moments and compares what it ends with after that.

python -m benchmarks.kill --kills=20

Each script runs once without interruption, on a few phantoms. Then it is started again and again
with the same command, and ended by SIGKILL at a random moment of that time, `--kills_per_run` times
before it may finish. What it finishes with must be equal to the bit, without a traceback, and no
temporary file may be left. A script that needs Apache Beam is left out where Beam is not installed.
A run takes 10 to 60 seconds on 2 cores, and there are kills + kills / kills_per_run of each script.
"""

import contextlib
import dataclasses
import importlib.util
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
from absl import app, flags
from PIL import Image

from fid_med.phantoms.radiograph import phantom_set

_ROOT = pathlib.Path(__file__).parents[1]
_SIZE = 75  # the smallest input of the network
# A script that takes longer than this has hung.
_SECONDS = 600


@dataclasses.dataclass(frozen=True)
class Job:
    """A script to kill.

    Attributes:
      script: path below the repository.
      arguments: from the folder of the phantoms and the folder to write to, to its arguments.
      result: from the folder that was written to, to what must be equal.
    """

    script: str
    arguments: Callable[[pathlib.Path, pathlib.Path], list[str]]
    result: Callable[[pathlib.Path], object]

    @property
    def name(self) -> str:
        """The script's name without its suffix."""
        return pathlib.Path(self.script).stem


def _json(path, *keys):
    found = json.loads(path.read_text())
    return [found[key] for key in keys] if keys else found


def _arrays(path):
    with np.load(path) as file:
        return [file[key].tobytes() for key in ("mu", "sigma")]


# The training is the first: its network is the extractor of the others.
JOBS = (
    Job(
        "train/train_classifier.py",
        lambda data, output: [
            "--dataset=phantom", "--phantoms=48", f"--image_size={_SIZE}", "--batch_size=16",
            "--epochs=2", "--weights=random", f"--output_dir={output}",
        ],
        lambda output: _json(output / "training.json", "fingerprint", "reports", "splits"),
    ),
    Job(
        "eval/compute_fid.py",
        lambda data, output: [
            f"{data}/real", f"{data}/generated", f"--extractor={data}/extractor.keras",
            f"--cache_dir={output}/cache", f"--json={output}/fid.json", "--batch_size=2",
            f"--save_statistics={output}", f"--report={output}/report.html",
        ],
        lambda output: [
            _json(output / "fid.json", "fid", "metrics"), _arrays(output / "generated.npz")
        ],
    ),
    Job(
        "eval/disturbance_study.py",
        lambda data, output: [
            f"{data}/real", f"--extractors={data}/extractor.keras", f"--output_dir={output}",
            "--disturbances=gaussian_blur", "--repeats=20", "--batch_size=4",
        ],
        lambda output: _json(output / "study.json", "sets", "disturbances"),
    ),
    Job(
        "eval/compute_statistics_beam.py",
        lambda data, output: [
            f"{data}/real", f"--extractor={data}/extractor.keras", f"--output={output}/real.npz"
        ],
        lambda output: _arrays(output / "real.npz"),
    ),
    Job(
        "eval/validate_reference.py",
        lambda data, output: [
            "--only=frechet_forms,frechet_commuting,is_certain_classes",
            f"--json={output}/table.json",
        ],
        lambda output: _without_seconds(_json(output / "table.json")),
    ),
)  # fmt: skip


def _without_seconds(value):
    if isinstance(value, dict):
        return {k: _without_seconds(v) for k, v in value.items() if k != "seconds"}
    return [_without_seconds(x) for x in value] if isinstance(value, list) else value


def start(job: Job, data: pathlib.Path, output: pathlib.Path, kill_after: float | None = None):
    """Runs a script, and kills it after some seconds if that is asked for and it still runs.

    Returns:
      Its exit status, which is negative for a kill, and its standard error.
    """
    output.mkdir(exist_ok=True)
    command = [sys.executable, str(_ROOT / job.script), *job.arguments(data, output)]
    environment = os.environ | {"PYTHONPATH": str(_ROOT)}
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=errors, env=environment
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_SECONDS if kill_after is None else kill_after)
        process.kill()
        process.wait()
        errors.seek(0)
        return process.returncode, errors.read()


def left_over(folder: pathlib.Path) -> list[str]:
    """The temporary files and folders in a folder."""
    return [path.name for path in folder.rglob(".*")]


def kill_job(
    job: Job, data: pathlib.Path, folder: pathlib.Path, rng: random.Random, kills: int, per_run: int
) -> dict[str, int]:
    """Kills one script and counts what went wrong.

    Args:
      job: the script.
      data: folder of the phantoms and the extractor.
      folder: an empty folder; each run to the end writes to a folder in it.
      rng: draws the moments.
      kills: number of kills.
      per_run: number of kills before the script may end.

    Returns:
      `kills`, `ends` (runs to the end), and of these `failed`, `different` and `left_over`;
      `tracebacks` of any run.
    """
    begin = time.monotonic()
    status, errors = start(job, data, folder / "whole")
    seconds = time.monotonic() - begin
    if status:
        raise SystemExit(f"{job.name} fails without a kill:\n{errors}")
    expected = job.result(folder / "whole")
    counts = dict.fromkeys(("kills", "ends", "failed", "different", "left_over", "tracebacks"), 0)
    while counts["kills"] < kills and counts["ends"] < 2 * kills:
        output = folder / f"killed_{counts['ends']}"
        for _ in range(min(per_run, kills - counts["kills"])):
            status, errors = start(job, data, output, rng.uniform(0, seconds))
            counts["tracebacks"] += "Traceback" in errors
            if status >= 0:  # it was faster this time
                counts["failed"] += status > 0
                break
            counts["kills"] += 1
        if status < 0:
            status, errors = start(job, data, output)
            counts["tracebacks"] += "Traceback" in errors
            counts["failed"] += status != 0
        counts["ends"] += 1
        if not status:
            counts["different"] += job.result(output) != expected
            counts["left_over"] += bool(left_over(output))
        if status or counts["different"]:
            print(f"{job.name}: status {status}\n{errors}", file=sys.stderr)
    return counts


def main(_):
    """Prints one line of counts per script."""
    rng = random.Random(flags.FLAGS.seed)
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder) / "data"
        for seed, name in ((1, "real"), (2, "generated")):  # 0 is of the training
            (data / name).mkdir(parents=True)
            for i, image in enumerate(phantom_set(12, size=_SIZE, seed=seed)[0]):
                Image.fromarray(image).save(data / name / f"{i:03d}.png")
        wanted = [job for job in JOBS if not flags.FLAGS.only or job.name in flags.FLAGS.only]
        if wanted[0] is not JOBS[0]:
            status, errors = start(JOBS[0], data, pathlib.Path(folder) / "training")
            if status:
                raise SystemExit(errors)
            (pathlib.Path(folder) / "training" / "extractor.keras").rename(data / "extractor.keras")
        bad = False
        for job in wanted:
            if job.name.endswith("beam") and importlib.util.find_spec("apache_beam") is None:
                print(f"{job.name}: left out, Apache Beam is not installed", flush=True)
                continue
            of_job = pathlib.Path(folder) / job.name
            of_job.mkdir()
            counts = kill_job(job, data, of_job, rng, flags.FLAGS.kills, flags.FLAGS.kills_per_run)
            print(f"{job.name}: " + ", ".join(f"{k} {n}" for k, n in counts.items()), flush=True)
            bad |= any(counts[key] for key in ("failed", "different", "left_over", "tracebacks"))
            if job is JOBS[0]:
                (of_job / "whole" / "extractor.keras").rename(data / "extractor.keras")
    return int(bad)


if __name__ == "__main__":
    # Not at import: the tests import this module next to scripts that have flags of these names.
    flags.DEFINE_integer("kills", 20, "Kills of each script.", lower_bound=1)
    flags.DEFINE_integer("kills_per_run", 4, "Kills before an end.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Seed of the moments.", lower_bound=0)
    flags.DEFINE_list("only", [], "Scripts without .py; by default all.")
    known = {job.name for job in JOBS}
    flags.register_validator("only", known.issuperset, f"expected of {', '.join(sorted(known))}")
    app.run(main)
