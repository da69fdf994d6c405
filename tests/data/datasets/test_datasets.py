"""The registry of data sets, and phantoms as one of them."""

import importlib
import inspect
import subprocess
import sys

import numpy as np
import pytest

from fid_med.data.datasets import DATASETS, load_dataset
from fid_med.data.labelled import LabelledImages
from fid_med.errors import DataError


def test_phantoms_by_either_label():
    by_part = load_dataset("phantom", None, phantoms=12, image_size=32)
    assert len(by_part.classes) == 6
    assert set(by_part.counts().values()) == {2}
    assert len(set(by_part.patients)) == 12
    by_lesion = load_dataset("phantom", None, phantoms=12, image_size=32, label="abnormality")
    assert by_lesion.classes == ("abnormal", "normal")


@pytest.mark.parametrize("name", DATASETS)
def test_every_entry_fits_the_loader_of_its_module(name):
    load = importlib.import_module(f"fid_med.data.datasets.{name}").load
    keywords = set(inspect.signature(load).parameters)
    assert set(DATASETS[name].options) <= keywords
    assert ("data_dir" in keywords) == DATASETS[name].on_disk
    assert ("set_name" in keywords) == DATASETS[name].has_sets


def test_load_dataset_refuses():
    with pytest.raises(DataError, match="no such data set"):
        load_dataset("mnist", "x")
    with pytest.raises(DataError, match="no such data set"):
        load_dataset("mura/elbow", "x")
    with pytest.raises(DataError, match="drawn, not read"):
        load_dataset("phantom", "x")
    with pytest.raises(DataError, match="--data_dir"):
        load_dataset("medmnist", None)


def test_phantoms_are_a_function_of_their_seed():
    first, again, other = (
        load_dataset("phantom", None, phantoms=6, image_size=32, seed=seed) for seed in (0, 0, 1)
    )
    for one, two in zip(first.loaders, again.loaders, strict=True):
        np.testing.assert_array_equal(one(), two())
    assert any(
        (one() != two()).any() for one, two in zip(first.loaders, other.loaders, strict=True)
    )
    assert first.loaders[0]().dtype == np.uint8


def test_phantoms_by_both_labels():
    images = load_dataset("phantom", None, phantoms=24, image_size=32, label="both")
    parts = load_dataset("phantom", None, phantoms=24, image_size=32)
    findings = load_dataset("phantom", None, phantoms=24, image_size=32, label="abnormality")
    assert len(images.classes) == 12
    for i, label in enumerate(images.labels):
        expected = f"{parts.classes[parts.labels[i]]}_{findings.classes[findings.labels[i]]}"
        assert images.classes[label] == expected


@pytest.mark.parametrize("argument", ["labels_csv", "patient_regex"])
@pytest.mark.parametrize("name", ["mura", "medmnist", "phantom"])
def test_arguments_for_another_data_set_are_refused(name, argument):
    with pytest.raises(DataError, match=f"--{argument} is for --dataset=labelled_folder"):
        load_dataset(name, "x", **{argument: "x"})


def test_neither_tensorflow_nor_its_data_sets_are_needed():
    code = (
        "import sys; from fid_med.data.datasets import load_dataset, check_name\n"
        "check_name('medmnist/chestmnist')\n"
        "load_dataset('phantom', None, phantoms=2, image_size=16)\n"
        "sys.exit(any(m in sys.modules for m in ('tensorflow', 'tensorflow_datasets', 'keras')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_split_that_nobody_knows_is_refused():
    with pytest.raises(DataError, match="no such split: valid"):
        LabelledImages("x", ["a"], [None], np.zeros(1, int), ("a", "b"), splits=np.array(["valid"]))
