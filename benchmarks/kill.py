#!/usr/bin/env python3
"""Kills every script at random moments and compares what it ends with after that.

python -m benchmarks.kill --kills=20

Each script runs once without interruption, on a few phantoms. Then it is started again and again
with the same command, and ended by SIGKILL at a random moment of that time, `--kills_per_run` times
before it may finish. What it finishes with must be equal to the bit, without a traceback, and no
temporary file may be left. After that, two runs of it write to the same folder at the same time;
both must end right, or one of them with one line. A script that needs Apache Beam is left out where
Beam is not installed.
A run takes 10 to 60 seconds on 2 cores, and there are kills + kills / kills_per_run of each script.
"""

import concurrent.futures
import contextlib
import dataclasses
import importlib.util
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
from absl import app, flags
from PIL import Image

from fid_med.phantoms.radiograph import phantom_set

ROOT = pathlib.Path(__file__).parents[1]
_SIZE = 75  # the smallest input of the network
# A training refuses to start in the folder of one that is complete.
_FINISHED = "contains a finished run"
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
    command = [sys.executable, str(ROOT / job.script), *job.arguments(data, output)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
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

    def attempt(output, *moment):
        status, errors = start(job, data, output, *moment)
        counts["tracebacks"] += "Traceback" in errors
        if status > 0 and _FINISHED in errors:
            status = 0  # the last kill came between its last write and its end
        return status, errors

    while counts["kills"] < kills and counts["ends"] < 2 * kills:
        output = folder / f"killed_{counts['ends']}"
        for _ in range(min(per_run, kills - counts["kills"])):
            status, errors = attempt(output, rng.uniform(0, seconds))
            if status >= 0:  # it was faster this time
                counts["failed"] += status > 0
                break
            counts["kills"] += 1
        if status < 0:
            status, errors = attempt(output)
            counts["failed"] += status != 0
        counts["ends"] += 1
        if not status:
            counts["different"] += job.result(output) != expected
            counts["left_over"] += bool(left_over(output))
        if status or counts["different"]:
            print(f"{job.name}: status {status}\n{errors}", file=sys.stderr)
    return counts


def pair_job(
    job: Job, data: pathlib.Path, folder: pathlib.Path, rng: random.Random, pairs: int
) -> dict[str, int]:
    """Runs one script twice at the same time on the same output, and counts what went wrong.

    Args:
      job: the script.
      data: folder of the phantoms and the extractor.
      folder: the folder in which `kill_job` ran; each pair writes to a folder in it.
      rng: draws by how much the second starts later, up to half the time of a run.
      pairs: number of pairs.

    Returns:
      `pairs`; `refused`, in which one ended with status 1 and one line; and of all `failed` (it
      ended otherwise), `different`, `left_over` and `tracebacks`.
    """
    begin = time.monotonic()
    start(job, data, folder / "alone")
    seconds = time.monotonic() - begin
    expected = job.result(folder / "alone")
    counts = dict.fromkeys(
        ("pairs", "refused", "failed", "different", "left_over", "tracebacks"), 0
    )
    for i in range(pairs):
        output = folder / f"pair_{i}"
        output.mkdir()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            running = [pool.submit(start, job, data, output)]
            time.sleep(rng.uniform(0, seconds / 2))
            running.append(pool.submit(start, job, data, output))
        ends = sorted(x.result() for x in running)
        lines = [line for line in ends[1][1].splitlines() if ": error: " in line]
        refused = ends[0][0] == 0 and ends[1][0] == 1 and len(lines) == 1
        failed = not refused and any(status for status, _ in ends)
        counts["pairs"] += 1
        counts["refused"] += refused
        counts["failed"] += failed
        counts["tracebacks"] += any("Traceback" in errors for _, errors in ends)
        counts["different"] += ends[0][0] == 0 and job.result(output) != expected
        counts["left_over"] += bool(left_over(output))
        if refused or failed:
            print(f"{job.name}: {lines or ends}", file=sys.stderr)
    return counts


def make_data(data: pathlib.Path, extractor: bool = True) -> None:
    """Writes the phantoms and, if it is wanted, trains the extractor."""
    for seed, name in ((1, "real"), (2, "generated")):  # 0 is of the training
        (data / name).mkdir(parents=True)
        for i, image in enumerate(phantom_set(12, size=_SIZE, seed=seed)[0]):
            Image.fromarray(image).save(data / name / f"{i:03d}.png")
    if extractor:
        with tempfile.TemporaryDirectory() as folder:
            training = pathlib.Path(folder) / "training"
            status, errors = start(JOBS[0], data, training)
            if status:
                raise SystemExit(errors)
            shutil.move(training / "extractor.keras", data / "extractor.keras")


def main(_):
    """Prints one line of counts per script."""
    rng = random.Random(flags.FLAGS.seed)
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder) / "data"
        wanted = [job for job in JOBS if not flags.FLAGS.only or job.name in flags.FLAGS.only]
        make_data(data, extractor=wanted[0] is not JOBS[0])
        bad = False
        for job in wanted:
            if job.name.endswith("beam") and importlib.util.find_spec("apache_beam") is None:
                print(f"{job.name}: left out, Apache Beam is not installed", flush=True)
                continue
            of_job = pathlib.Path(folder) / job.name
            of_job.mkdir()
            for counts in (
                kill_job(job, data, of_job, rng, flags.FLAGS.kills, flags.FLAGS.kills_per_run),
                pair_job(job, data, of_job, rng, flags.FLAGS.pairs),
            ):
                text = ", ".join(f"{key} {count}" for key, count in counts.items())
                print(f"{job.name}: {text}", flush=True)
                wrong = ("failed", "different", "left_over", "tracebacks")
                bad |= any(counts[key] for key in wrong)
            if job is JOBS[0]:
                (of_job / "whole" / "extractor.keras").rename(data / "extractor.keras")
    return int(bad)


if __name__ == "__main__":
    # Not at import: the tests import this module next to scripts that have flags of these names.
    flags.DEFINE_integer("kills", 20, "Kills of each script.", lower_bound=0)
    flags.DEFINE_integer("pairs", 3, "Pairs of runs at the same time.", lower_bound=0)
    flags.DEFINE_integer("kills_per_run", 4, "Kills before an end.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Seed of the moments.", lower_bound=0)
    flags.DEFINE_list("only", [], "Scripts without .py; by default all.")
    known = {job.name for job in JOBS}
    flags.register_validator("only", known.issuperset, f"expected of {', '.join(sorted(known))}")
    app.run(main)
