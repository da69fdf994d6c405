"""Sets of TensorFlow Datasets: one that another program has prepared, and those of this project."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from helpers.script_runs import ROOT, fork_script
from PIL import Image

from fid_med.data.datasets import load_dataset
from fid_med.data.datasets import tfds as tfds_sets
from fid_med.data.tfds_builders import Phantom, PhantomConfig
from fid_med.errors import DataError

CLASSES = ("ankle", "shoulder", "wrist")
COUNTS = {"train": 6, "val": 3, "test": 3, "unlabelled": 1}


def pixels(split, i):
    rng = np.random.default_rng([len(split), i])
    return rng.integers(0, 256, (20 + i, 24, 1), dtype=np.uint8)


class Films(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A set as any other program defines it."""

    VERSION = tfds.core.Version("2.1.0")

    def _info(self):
        label = tfds.features.ClassLabel(names=CLASSES)
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "film": tfds.features.Image(shape=(None, None, 1)),
                    "region": label,
                    "signs": tfds.features.Sequence(label),
                    "case": tfds.features.Text(),
                }
            ),
            supervised_keys=("film", "region"),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split, n) for split, n in COUNTS.items()}

    def _generate_examples(self, split, count):
        for i in range(count):
            signs = [CLASSES[k] for k in range(3) if (i >> k) & 1]
            film, region = pixels(split, i), CLASSES[i % 3]
            case = f"case {i // 2}"
            yield i, {"film": film, "region": region, "signs": signs, "case": case}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    Films(data_dir=folder).download_and_prepare()
    return folder


def test_a_prepared_set_is_read_without_its_builder_class(folder, capsys):
    images = load_dataset("tfds/films:2.1.0", folder, patient_feature="case")
    assert images.name == "films/2.1.0"
    assert images.classes == CLASSES
    assert images.splits.tolist() == ["train"] * 6 + ["validation"] * 3 + ["test"] * 3
    said = capsys.readouterr().err
    assert "images of other splits are left out: unlabelled" in said
    assert "12 images, read in the order of its files" in said
    # TFDS writes examples in the order of their hashed keys.
    names = {"test": "test", "train": "train", "validation": "val"}
    expected = {
        (split, pixels(theirs, i)[..., 0].tobytes()): (i % 3, f"case {i // 2}")
        for split, theirs in names.items()
        for i in range(COUNTS[theirs])
    }
    for again in range(2):
        found = {
            (split, load().tobytes()): (label, patient)
            for split, load, label, patient in zip(
                images.splits, images.loaders, images.labels, images.patients, strict=True
            )
        }
        assert found == expected, again
    last = images.loaders[11]()
    np.testing.assert_array_equal(last, list(images.loaders)[11]())


def test_several_labels_and_those_left_out(folder):
    images = load_dataset("tfds/films", folder, label="signs")
    assert images.patients is None
    single = load_dataset("tfds/films", folder)
    assert images.labels.shape == (12, 3)
    assert images.labels.dtype == bool
    # The number of an image, in bits, has region i % 3.
    for row, region, split in zip(images.labels, single.labels, images.splits, strict=True):
        assert (row @ [1, 2, 4]) % 3 == region, split
    without = single.without(["ankle"])
    assert without.classes == CLASSES[1:]
    kept = np.flatnonzero(single.labels > 0)
    assert len(without.loaders) == len(without) == len(kept)
    whole = list(single.loaders)
    for i, load in zip(kept, without.loaders, strict=True):
        np.testing.assert_array_equal(load(), whole[i]())


def test_a_builder_of_this_project_gives_what_training_reads_directly(tmp_path, monkeypatch):
    config = PhantomConfig(name="body_part", count=8, size=32)
    monkeypatch.setattr(Phantom, "BUILDER_CONFIGS", (config,))
    monkeypatch.setattr(Phantom, "builder_configs", {"body_part": config})
    images = load_dataset("tfds/phantom/body_part", tmp_path)
    direct = load_dataset("phantom", None, phantoms=8, image_size=32)
    assert images.splits.tolist() == ["undivided"] * 8

    def described(images):
        rows = zip(images.loaders, images.labels, images.patients, strict=True)
        return {load().tobytes(): (images.classes[k], patient) for load, k, patient in rows}

    assert described(images) == described(direct)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("tfds", {}, "name the set, as in --dataset=tfds/NAME"),
        ("tfds/../etc", {}, "no name of TensorFlow Datasets"),
        ("tfds/films", {"label": "bone"}, "label 'bone': give --label=region or signs"),
        ("tfds/films", {"patient_feature": "who"}, "no feature 'who'; it has case, film"),
        ("tfds/films", {"patient_regex": "x"}, "--patient_regex is for --dataset=labelled_folder"),
        ("tfds/none_such", {}, "TensorFlow Datasets does not find it"),
        ("phantom", {"patient_feature": "x"}, "--patient_feature is for --dataset=tfds/NAME"),
    ],
)
def test_mistakes_are_one_line(name, options, words, folder):
    with pytest.raises(DataError) as error:
        load_dataset(name, None if name == "phantom" else folder, **options)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_set_that_cannot_be_downloaded_says_what_to_do(tmp_path, monkeypatch):
    class Unprepared(Films, skip_registration=True):
        def _split_generators(self, dl_manager):
            raise OSError("no route to host")

    monkeypatch.setattr(tfds, "builder", lambda name, data_dir: Unprepared(data_dir=data_dir))
    with pytest.raises(DataError, match=r"no route to host.*on a machine with internet"):
        tfds_sets.load("films", tmp_path)


# Quick tests load the same images, and train on others.
@pytest.mark.slow
def test_training_by_one_command_takes_it(folder, extractor_file, tmp_path):
    process = fork_script(
        ROOT / "train" / "train_classifier.py", "--dataset=tfds/films", f"--data_dir={folder}",
        f"--output_dir={tmp_path}/out", f"--weights={extractor_file}", "--train_from=mixed10",
        "--epochs=1",
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    with Image.open(tmp_path / "out" / "history.png") as picture:
        assert picture.width > 100
