"""The script that kills: it counts what a script does wrong after a kill."""

import random

import pytest

from benchmarks.kill import Job, kill_job, pair_job

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


def job(code, tmp_path):
    (tmp_path / "script.py").write_text(code)
    return Job(
        tmp_path / "script.py",
        lambda data, output: [f"{output}/x.json"],
        lambda output: (output / "x.json").read_text(),
    )


def counts(code, tmp_path):
    return kill_job(job(code, tmp_path), tmp_path, tmp_path, _Halfway(), kills=3, per_run=2)


def test_a_script_that_survives_kills(tmp_path):
    found = counts(_RIGHT, tmp_path)
    assert found.pop("kills") >= 1
    assert found.pop("ends") >= 2
    assert set(found.values()) == {0}


def test_a_script_that_a_kill_changes(tmp_path):
    found = counts(_WRONG, tmp_path)
    assert found["different"] == found["left_over"] >= 1
    assert found["failed"] == found["tracebacks"] == 0


@pytest.mark.parametrize(
    ("code", "refused", "failed"),
    [
        (_RIGHT, 0, 0),
        ("if found: sys.exit('x.py: error: another process writes to this folder')", 1, 0),
        ("if found: sys.exit('one\\nx.py: error: two\\nx.py: error: three')", 0, 1),
    ],
)
def test_two_runs_at_the_same_time(code, refused, failed, tmp_path):
    if code != _RIGHT:
        code = f"""
import pathlib, sys, time
found = pathlib.Path(sys.argv[1]).exists()
pathlib.Path(sys.argv[1]).write_text("1")
time.sleep(0.3)
{code}
"""
    found = pair_job(job(code, tmp_path), tmp_path, tmp_path, _Halfway(), pairs=1)
    assert (found.pop("pairs"), found.pop("refused"), found.pop("failed")) == (1, refused, failed)
    assert set(found.values()) == {0}
