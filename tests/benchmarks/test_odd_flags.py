"""Odd values of the flags of every script: status 2 and a line, before any slow import."""

import pathlib
import re

import pytest
from absl import flags
from helpers.dummy_datasets import write_medmnist

from benchmarks import odd_flags
from benchmarks.odd_flags import SCRIPTS, Script, check, flags_of, make_inputs

VALUES = ("", "nan", "-1", str(10**30), "x")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_odd_values_of_every_flag_and_argument(script, tmp_path):
    make_inputs(tmp_path)
    positional = sum(not word.startswith("--") for word in script.arguments)
    runs = list(check(script, tmp_path, [*range(positional), *sorted(flags_of(script))], VALUES))
    assert [run for run in runs if run[2] == "faults"] == []
    assert len(runs) > 40
    assert sum(run[2] == "refused" for run in runs) > len(runs) / 3


@pytest.mark.parametrize(
    ("script", "words", "flag"),
    [
        ("train_classifier", ["--weights=random", "--train_from=mixed9"], "train_from"),
        ("train_classifier", ["--recipe=scratch", "--train_from=all"], "train_from"),
        ("train_classifier", ["--dataset=medmnist", "--data_dir={}/x.npz", "--test_fraction=0.1",
                              "--validation_fraction=0.1"], "test_fraction, --validation_fraction"),
        ("disturbance_study", ["--disturbances=swirl", "--contamination={}/images"],
         "contamination"),
        ("validate_reference", ["--tfds_data_dir=x"], "tfds_data_dir"),
        ("compute_statistics_beam", ["--seed=3"], "seed"),
    ],
)  # fmt: skip
def test_flags_without_effect_are_reported(script, words, flag, tmp_path):
    make_inputs(tmp_path)
    write_medmnist(tmp_path / "x.npz")
    script = next(x for x in SCRIPTS if x.name == script)
    words = [word.replace("{}", str(tmp_path)) for word in (*script.arguments, *words)]
    found = odd_flags.run(odd_flags._ROOT / script.path, words)
    assert found.status == 2
    (line,) = found.errors
    assert re.search(rf": error: --{flag}: (has|have) no effect ", line)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--extractors=a=random,a=imagenet"], "the name a is given twice"),
        (["--extractors=random,b=random"], "b=random is the same extractor"),
        (["--generated={}/images,{}/labelled/../images"], "two sets are named images"),
    ],
)
def test_equal_names_of_a_study_are_reported_before_tensorflow_loads(words, message, tmp_path):
    make_inputs(tmp_path)
    script = next(x for x in SCRIPTS if x.name == "disturbance_study")
    words = [word.replace("{}", str(tmp_path)) for word in (*script.arguments, *words)]
    found = odd_flags.run(odd_flags._ROOT / script.path, words)
    assert found.status == 2
    assert message in found.errors[0]


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["{}/missing", "{}/images"], 2),
        (["{}/images", "{}/missing.npz"], 2),
        (["{}/images", "{}/file"], 2),
        (["{}/images", ""], 2),
        (["{}/images", "{}/images", "--json={}/file/x"], 2),
        (["{}/images", "{}/images", "--patient_regex=Q"], 2),
        (["{}/images", "{}/damaged.npz"], 1),
        (["{}/images", "{}/cifar10"], 1),
    ],
)
def test_paths_that_lead_nowhere_are_wrong_flags_and_wrong_content_is_wrong_data(
    words, status, tmp_path
):
    make_inputs(tmp_path)
    (tmp_path / "damaged.npz").write_bytes(b"PK")
    words = [word.replace("{}", str(tmp_path)) for word in ("--extractor=random", *words)]
    found = odd_flags.run(odd_flags._ROOT / "eval" / "compute_fid.py", words)
    assert (found.status, len(found.errors)) == (status, 1)


def test_what_is_wrong_is_counted(tmp_path, monkeypatch):
    (tmp_path / "script.py").write_text("""
from absl import flags
from helpers.dummy_datasets import write_medmnist
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
