"""The script that damages files: it counts what a reader does wrong, and goes on after it."""

import dataclasses
import os
import random
import signal
import sys
import time

import numpy as np
import pytest

from benchmarks import fuzz
from benchmarks.fuzz_files import KINDS, Kind
from benchmarks.mutations import mutate
from fid_med.errors import DataError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured in /proc")
FILES = 12


def kind(name):
    return next(kind for kind in KINDS if kind.name == name)


def counts(of, folder, files=FILES, seed=0):
    ((found, counts, _),) = fuzz.fuzz([of], folder, seed, files, 1)
    assert found is of
    assert sum(counts.values()) == files
    return counts


@pytest.mark.parametrize("name", ["png_grey", "splits_csv"])
def test_readers_without_fault(name, tmp_path):
    found = counts(kind(name), tmp_path)
    assert found["faults"] == 0
    assert found["refused"] > 2


def test_each_kind_has_its_own_name():
    assert len({kind.name for kind in KINDS}) == len(KINDS) > 40


def test_the_same_seed_gives_the_same_files():
    data = b'{"a": [1, 2], "b": "c"}' * 9
    one, two, other = ([mutate(data, random.Random(s + i)) for i in range(40)] for s in (0, 0, 99))
    assert one == two != other
    assert sum(x.data != data for x in one) > 30


def _make(folder):
    (folder / "x").write_bytes(bytes(64))
    return folder / "x"


def _raise(path):
    raise KeyError("no such key")


def _say_much(path):
    error = DataError("a\nb")
    error.args = ("a\nb",)
    raise error


def _wait(path):
    time.sleep(60)


def _end(path):
    os.kill(os.getpid(), signal.SIGKILL)


def _fill(path):
    return np.ones(40 << 17).sum()  # 40 MB


@pytest.mark.parametrize(
    "wrong", [_raise, _say_much, _wait, _end, _fill], ids=lambda f: f.__name__[1:]
)
def test_faults_are_counted_and_the_rest_is_read(wrong, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(fuzz, "_MEMORY", 20 << 20)
    monkeypatch.setattr(fuzz, "_SECONDS", 2 if wrong is _wait else 60)
    calls = tmp_path / "calls"

    def read(path):
        with open(calls, "ab") as file:
            file.write(b".")
        # Two calls read the valid file. After a hang or crash, a new process reads it again.
        if calls.stat().st_size == 4:
            wrong(path)

    found = counts(Kind("planted", _make, read), tmp_path, files=4)
    assert found["faults"] == 1
    assert found["read"] == 3
    assert "planted 1, " in capfd.readouterr().err


def test_another_result_is_a_fault_where_a_checksum_should_notice(tmp_path):
    def read(path):
        return path.read_bytes()

    plain = Kind("plain", _make, read)
    for changed, of in (("changed", plain), ("faults", dataclasses.replace(plain, checksum=True))):
        folder = tmp_path / changed
        folder.mkdir()
        found = counts(of, folder)
        assert found[changed] > 5
        assert found[changed] + found["read"] == FILES


def test_a_valid_file_that_is_refused_ends_the_run(tmp_path):
    with pytest.raises(SystemExit, match=r"planted: [\s\S]*KeyError"):
        counts(Kind("planted", _make, _raise), tmp_path)
