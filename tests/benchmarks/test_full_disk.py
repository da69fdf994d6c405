"""The script that fills the disk: it counts what a script does wrong on a full one."""

import json
import subprocess

import numpy as np
import pytest
from PIL import Image

from benchmarks.full_disk import Disk, fill_job, incomplete
from benchmarks.kill import Job


@pytest.fixture
def disk(tmp_path):
    (tmp_path / "disk").mkdir()
    try:
        disk = Disk(tmp_path / "disk")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("file systems can be mounted by root only")
    yield disk
    disk.remove()


_BEGIN = """
import json, os, sys, time
folder = sys.argv[1]
time.sleep(0.1)  # the first step of the disk's use
"""
_RIGHT = (
    _BEGIN
    + """
try:
    for name in "ab":
        with open(f"{folder}/.{name}", "w") as file:
            json.dump("x" * 20_000, file)
        os.replace(f"{folder}/.{name}", f"{folder}/{name}.json")
        time.sleep(0.1)
except OSError as error:
    os.unlink(f"{folder}/.{name}")
    sys.exit(f"x.py: error: {folder}/{name}.json: {error.strerror}")
"""
)
_WRONG = (
    _BEGIN
    + """
try:
    with open(f"{folder}/a.json", "w") as file:
        json.dump("x" * 20_000, file)
except OSError:
    pass
time.sleep(0.1)
"""
)


@pytest.mark.parametrize(("code", "wrong"), [(_RIGHT, set()), (_WRONG, {"incomplete", "silent"})])
def test_full_disks(code, wrong, disk, tmp_path):
    (tmp_path / "script.py").write_text(code)

    def result(output):
        return [path.read_text() for path in sorted(output.glob("*.json"))]

    job = Job(tmp_path / "script.py", lambda data, output: [str(output)], result)
    counts = fill_job(job, tmp_path, disk, sizes=4)
    full = counts.pop("full")
    assert full == (2 if code == _RIGHT else 1)
    assert counts == {name: full * (name in wrong) for name in counts}


def test_half_files_are_recognised(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(900))
    Image.new("L", (40, 40)).save(tmp_path / "b.png")
    (tmp_path / "c.json").write_text(json.dumps([1, 2, 3]))
    (tmp_path / "d.html").write_text("<html></html>\n")
    (tmp_path / "e.csv").write_text("a,b\n1,2\n3,4\n")
    assert incomplete(tmp_path) == []
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[: -30 if path.suffix == ".png" else -3])
    assert [line.split(":")[0] for line in incomplete(tmp_path)] == [
        "a.npz", "b.png", "c.json", "d.html", "e.csv",
    ]  # fmt: skip
