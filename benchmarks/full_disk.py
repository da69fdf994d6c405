#!/usr/bin/env python3
"""Fills the disk at the writes of every script, and compares what the script ends with after that.

python -m benchmarks.full_disk --sizes=8

Each script of `kill` runs once on a small file system in memory, while the used space is watched.
Then it runs on file systems on which one of the steps of that use does not fit. It must end with
status 1 and one line that names a path, or with status 0 if only a cache was not written; without a
temporary or incomplete file. Then the file system is made larger, and the same command must end
with the same result. Needs root, to mount file systems, and runs on Linux. A script that needs
Apache Beam is left out where Beam is not installed.
"""

import csv
import importlib.util
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile

from absl import app, flags
from PIL import Image

from benchmarks import kill

_LARGE, _PAGE = 2 << 30, 4096
COUNTS = ("full", "silent", "unclear", "incomplete", "left_over", "different", "lost_numbers")


class Disk:
    """A file system in memory.

    Args:
      folder: an empty folder to mount it at.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self._mount(f"size={_LARGE}")

    def _mount(self, options):
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.folder], check=True)

    @property
    def used(self) -> int:
        """Bytes in use."""
        state = os.statvfs(self.folder)
        return (state.f_blocks - state.f_bfree) * state.f_frsize

    def resize(self, size: int) -> None:
        """Sets the size in bytes; it may be 0."""
        (self.folder / "filler").write_bytes(bytes(_PAGE))
        self._mount(f"remount,size={size + _PAGE}")

    def clear(self) -> None:
        """Removes what is on it."""
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def remove(self) -> None:
        """Unmounts it."""
        subprocess.run(["umount", self.folder], check=True)


def run(job: kill.Job, data: pathlib.Path, output: pathlib.Path) -> subprocess.CompletedProcess:
    """Runs a script to its end."""
    output.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, kill.ROOT / job.script, *job.arguments(data, output)],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(kill.ROOT)},
        timeout=600, check=False,
    )  # fmt: skip


def steps(disk: Disk, work) -> list[int]:
    """Sizes of a disk, each of which is too small for another step of the work.

    Args:
      disk: a large one.
      work: a function to call.

    Returns:
      Bytes in ascending order.
    """
    levels, ended = [disk.used], threading.Event()

    def watch():
        before = 0
        while not ended.wait(0.01):
            used = disk.used
            if used == before > levels[-1]:  # not in the middle of a file
                levels.append(used)
            before = used

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        work()
    finally:
        ended.set()
        thread.join()
    levels.append(max(disk.used, levels[-1]))
    middles = ((a + b) // 2 for a, b in itertools.pairwise(levels) if a != b)
    return [middle // _PAGE * _PAGE for middle in middles]


def incomplete(folder: pathlib.Path) -> list[str]:
    """Files that cannot be read to their end."""
    found = []
    for path in sorted(x for x in folder.rglob("*") if x.is_file() and x.name[0] != "."):
        try:
            _read(path)
        except Exception as error:
            found.append(f"{path.name}: {error}")
    return found


def _read(path):
    if path.suffix in (".npz", ".keras"):
        with zipfile.ZipFile(path) as archive:
            if broken := archive.testzip():
                raise ValueError(f"{broken} is damaged")
    elif path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".png":
        with Image.open(path) as image:
            image.load()
    elif path.suffix == ".html":
        if not path.read_text().rstrip().endswith("</html>"):
            raise ValueError("the page has no end")
    elif path.suffix == ".csv":
        with open(path, newline="") as file:
            rows = list(csv.reader(file))
        if not rows or {len(row) for row in rows} != {len(rows[0])}:
            raise ValueError("the lines differ in length")


def fill_job(
    job: kill.Job, data: pathlib.Path, disk: Disk, sizes: int, verbose: bool = False
) -> dict[str, int]:
    """Runs one script on disks that are too small, and counts what went wrong.

    Args:
      job: the script.
      data: folder of the phantoms and the extractor, on another disk.
      disk: a large and empty one.
      sizes: number of disks that are too small.
      verbose: whether to print how each run ended, not only those with faults.

    Returns:
      `full`, the number of runs on a full disk, and of these `silent` (status 0, and another
      result), `unclear` (another status, no path, or several lines), `incomplete` and `left_over`
      (files), `lost_numbers` (no FID was printed, although it was computed), and `different` (after
      the disk was made larger).
    """
    output, whole = disk.folder / "output", []
    found = steps(disk, lambda: whole.append(run(job, data, output)))
    if whole[0].returncode:
        raise SystemExit(f"{job.name} fails on a large disk:\n{whole[0].stderr}")
    expected = job.result(output)
    if len(found) > sizes:
        found = [found[round(i * (len(found) - 1) / (sizes - 1))] for i in range(sizes)]
    counts = dict.fromkeys(COUNTS, 0)
    for size in found:
        disk.clear()
        disk.resize(size)
        done, wrong = run(job, data, output), []
        errors = [x for x in done.stderr.splitlines() if ": error: " in x or "Traceback" in x]
        counts["full"] += 1
        if done.returncode == 0:
            if job.result(output) != expected:
                wrong.append("silent")
        elif done.returncode != 1 or len(errors) != 1 or str(disk.folder) not in errors[0]:
            wrong.append("unclear")
        wrong += ["incomplete"] * bool(incomplete(output))
        wrong += ["left_over"] * bool(kill.left_over(output))
        last = [x for x in whole[0].stdout.splitlines() if x.startswith("FID")]
        if done.returncode and last and any(output.rglob("*.npz")) and last[-1] not in done.stdout:
            wrong.append("lost_numbers")
        disk.resize(_LARGE)
        again = run(job, data, output)
        if again.returncode or job.result(output) != expected or kill.left_over(output):
            wrong.append("different")
        for name in wrong:
            counts[name] += 1
        if wrong or verbose:
            print(
                f"{job.name} on {size:,} bytes: {', '.join(wrong) or 'right'}: {done.returncode} "
                f"{errors} {incomplete(output)} {again.stderr[-500:] if again.returncode else ''}",
                file=sys.stderr,
            )
    disk.clear()
    return counts


def main(_):
    """Prints one line of counts per script."""
    bad = False
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder) / "data"
        kill.make_data(data)
        place = pathlib.Path(folder) / "disk"
        place.mkdir()
        disk = Disk(place)
        try:
            for job in kill.JOBS:
                if job.name.endswith("beam") and importlib.util.find_spec("apache_beam") is None:
                    print(f"{job.name}: left out, Apache Beam is not installed", flush=True)
                    continue
                if flags.FLAGS.only and job.name not in flags.FLAGS.only:
                    continue
                counts = fill_job(job, data, disk, flags.FLAGS.sizes, flags.FLAGS.verbose)
                text = ", ".join(f"{key} {n}" for key, n in counts.items())
                print(f"{job.name}: {text}", flush=True)
                bad |= any(n for key, n in counts.items() if key != "full")
        finally:
            disk.remove()
    return int(bad)


if __name__ == "__main__":
    # Not at import: the tests import this module next to scripts that have flags of these names.
    flags.DEFINE_integer("sizes", 8, "Full disks of each script.", lower_bound=2)
    flags.DEFINE_list("only", [], "Scripts without .py; by default all.")
    known = {job.name for job in kill.JOBS}
    flags.register_validator("only", known.issuperset, f"expected of {', '.join(sorted(known))}")
    flags.DEFINE_bool("verbose", False, "Print how each run on a full disk ended.")
    app.run(main)
