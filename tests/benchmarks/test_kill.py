"""The script that kills: it counts what a script does wrong after a kill."""

import random

from benchmarks.kill import Job, kill_job

_RIGHT = """
import sys, time
time.sleep(0.6)
from fid_med.utils.files import write_json
write_json(sys.argv[1], [1])
"""
# It leaves a file, by which a later run computes something else.
_WRONG = """
import pathlib, sys, time
trace = pathlib.Path(sys.argv[1]).with_name(".trace")
number = 2 if trace.exists() else 1
trace.touch()
time.sleep(1.5)
pathlib.Path(sys.argv[1]).write_text(str(number))
if number == 1:
    trace.unlink()
"""


class _Halfway(random.Random):
    def uniform(self, low, high):
        return 0.5 * high


def counts(code, tmp_path):
    (tmp_path / "script.py").write_text(code)
    job = Job(
        tmp_path / "script.py",
        lambda data, output: [f"{output}/x.json"],
        lambda output: (output / "x.json").read_text(),
    )
    return kill_job(job, tmp_path, tmp_path, _Halfway(), kills=3, per_run=2)


def test_a_script_that_survives_kills(tmp_path):
    found = counts(_RIGHT, tmp_path)
    assert found.pop("kills") >= 1
    assert found.pop("ends") >= 2
    assert set(found.values()) == {0}


def test_a_script_that_a_kill_changes(tmp_path):
    found = counts(_WRONG, tmp_path)
    assert found["different"] == found["left_over"] >= 1
    assert found["failed"] == found["tracebacks"] == 0
