"""Odd values of the flags of every script: status 2 and a line, before any slow import."""

import pathlib

import pytest
from absl import flags

from benchmarks import odd_flags
from benchmarks.odd_flags import SCRIPTS, Script, check, flags_of, make_inputs

VALUES = ("", "nan", "-1", str(10**30), "x")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_odd_values_of_every_flag(script, tmp_path):
    make_inputs(tmp_path)
    runs = list(check(script, tmp_path, sorted(flags_of(script)), VALUES))
    assert [run for run in runs if run[2] == "faults"] == []
    assert len(runs) > 40
    assert sum(run[2] == "refused" for run in runs) > len(runs) / 3


def test_what_is_wrong_is_counted(tmp_path, monkeypatch):
    (tmp_path / "script.py").write_text("""
from absl import flags
from fid_med import cli
_SEED = flags.DEFINE_integer("seed", 0, "Seed without bounds.")
_CROP = flags.DEFINE_float("crop", 1.0, "Crop that is checked late.")
_JSON = flags.DEFINE_string("json", None, "File.")
def main():
    if _JSON.value == "a":
        raise KeyError
    import tensorflow
if __name__ == "__main__":
    cli.run(main, "usage")
""")
    monkeypatch.setattr(odd_flags, "_ROOT", pathlib.Path(tmp_path))
    before = set(flags.FLAGS)
    runs = list(check(Script("script.py", (), {}), tmp_path, ("seed", "crop", "json"), ("a", "-1")))
    assert [run[2] for run in runs] == [
        "refused", "faults", "refused", "faults", "faults", "accepted",
    ]  # fmt: skip
    assert [runs[i][3].splitlines()[-1] for i in (1, 3, 4)] == ["accepted", "accepted", "KeyError"]
    assert set(flags.FLAGS) == before
