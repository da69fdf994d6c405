"""The TFDS builders, on TFDS's own test case, over dummy trees that are written here."""

import pathlib
import urllib.error
import urllib.request

import numpy as np
import pytest
import tensorflow_datasets as tfds
from helpers.dummy_datasets import REGIONS, write_image, write_lera, write_medmnist, write_mura

from fid_med.data.datasets import DATASETS, load_dataset
from fid_med.data.tfds_builders import (
    LabelledFolder,
    LabelledFolderConfig,
    Lera,
    MedMNIST,
    MedMNISTConfig,
    Mura,
    MuraLera,
    Phantom,
    PhantomConfig,
)
from fid_med.errors import DataError


@pytest.fixture(autouse=True, scope="class")
def _dummy_data(request, tmp_path_factory):
    """Writes a class's data once, by its own `write(folder)`."""
    if request.cls is not None:
        folder = tmp_path_factory.mktemp("dummy")
        request.cls.write(folder)
        request.cls.EXAMPLE_DIR = str(folder)


class TestMura(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Mura
    SPLITS = {"train": 84, "test": 14}  # noqa: RUF012
    write = staticmethod(write_mura)


class TestLera(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Lera
    SPLITS = {"train": 24}  # noqa: RUF012
    write = staticmethod(write_lera)


class TestMuraLera(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = MuraLera
    SPLITS = {"train": 108, "test": 14}  # noqa: RUF012

    @staticmethod
    def write(folder):
        write_mura(folder)
        write_lera(folder)


class TestMedMNIST(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = MedMNIST
    SPLITS = {"train": 6, "validation": 4, "test": 3}  # noqa: RUF012
    BUILDER_CONFIG_NAMES_TO_TEST = ["pneumoniamnist", "pneumoniamnist_64"]  # noqa: RUF012

    @staticmethod
    def write(folder):
        for name in ("pneumoniamnist", "pneumoniamnist_64"):
            write_medmnist(folder / f"{name}.npz")


class TestLabelledFolder(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = LabelledFolder
    SPLITS = {"train": 6}  # noqa: RUF012

    @staticmethod
    def write(folder):
        for i in range(6):
            write_image(folder / ("neck", "elbow")[i % 2] / f"P{i // 2}_{i}.png", i)


class TestPhantom(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Phantom
    SPLITS = {"train": 12}  # noqa: RUF012
    BUILDER_CONFIG_NAMES_TO_TEST = [  # noqa: RUF012
        PhantomConfig(name="tiny", count=12, size=32, label="both")
    ]

    @staticmethod
    def write(folder):
        pass


def prepared(builder, manual_dir):
    config = tfds.download.DownloadConfig(manual_dir=str(manual_dir))
    builder.download_and_prepare(download_config=config)
    return builder


def examples(builder, split):
    return list(tfds.as_numpy(builder.as_dataset(split=split)))


def test_all_are_registered():
    of_tfds = {"tfds"}  # all other sets of TFDS
    assert set(DATASETS) - of_tfds <= set(tfds.list_builders(with_community_datasets=False))
    assert {"pathmnist", "chestmnist_224"} <= set(MedMNIST.builder_configs)
    assert len(MedMNIST.builder_configs) == 48


def test_mura_examples_are_those_that_the_training_sees(tmp_path):
    write_mura(tmp_path / "data")
    builder = tfds.builder("mura/both", data_dir=tmp_path / "tfds")
    prepared(builder, tmp_path / "data")
    images = load_dataset("mura", tmp_path / "data", label="both")
    names = builder.info.features["label"].names
    assert len(names) == 14
    seen = {}
    for split in ("train", "test"):
        for example in examples(builder, split):
            seen[example["name"].decode()] = (split, example)
    assert set(seen) == set(images.names)
    for i, name in enumerate(images.names):
        split, example = seen[name]
        assert (split == "test") == (images.splits[i] == "test")
        assert names[example["label"]] == images.classes[images.labels[i]]
        assert example["patient"].decode() == images.patients[i]
        assert example["study"].decode() == images.studies[i]
        pixels = images.loaders[i]()
        pixels = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=-1)
        np.testing.assert_array_equal(example["image"], pixels)
    patients = {
        split: {e["patient"] for s, e in seen.values() if s == split} for split in ("train", "test")
    }
    assert len(patients["train"]) == 4 * len(REGIONS)
    assert not patients["train"] & patients["test"]


def test_several_labels_of_chestmnist(tmp_path):
    path = write_medmnist(tmp_path / "own.npz", several=14, side=64)
    config = MedMNISTConfig(name="own", flag="chestmnist", size=64, npz=str(path))
    builder = prepared(tfds.builder("medmnist", config=config, data_dir=tmp_path), tmp_path)
    expected = np.load(path)["train_labels"]
    rows = {e["name"]: e for e in examples(builder, "train")}
    for i, row in enumerate(expected):
        example = rows[f"train/{i:06d}".encode()]
        assert example["label"].tolist() == np.flatnonzero(row).tolist()
        assert example["image"].shape == (64, 64, 1)
    assert builder.info.features["label"].feature.names[13] == "hernia"


def test_medmnist_is_downloaded_to_where_tfds_keeps_downloads(tmp_path, monkeypatch):
    def urlopen(url, timeout):
        asked.append(url)
        raise urllib.error.URLError("no route\nto host")

    asked = []
    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    builder = tfds.builder("medmnist/octmnist_64", data_dir=tmp_path)
    with pytest.raises(DataError, match=r"octmnist_64\.npz.*no route to host.*put it at") as error:
        builder.download_and_prepare()
    assert "\n" not in str(error.value)
    assert asked == ["https://zenodo.org/records/10519652/files/octmnist_64.npz?download=1"]
    write_medmnist(pathlib.Path(str(error.value).split("put it at ")[1]), labels=4)
    builder.download_and_prepare()
    assert len(examples(builder, "train")) == 6


def test_labelled_folder_by_csv(tmp_path):
    folder = tmp_path / "data"
    for i in range(4):
        write_image(folder / f"{i}.png", i)
    table = tmp_path / "labels.csv"
    table.write_text("path,label,patient\n0.png,a|b,P0\n1.png,,P1\n2.png,b,P2\n3.png,a,P2\n")
    config = LabelledFolderConfig(name="own", labels_csv=str(table), several_labels=True)
    builder = prepared(tfds.builder("labelled_folder", config=config, data_dir=tmp_path), folder)
    rows = {e["name"].decode(): e for e in examples(builder, "train")}
    assert [rows[f"{i}.png"]["label"].tolist() for i in range(4)] == [[0, 1], [], [1], [0]]
    assert rows["3.png"]["patient"] == b"P2"
    again = tfds.builder("labelled_folder", config=config, data_dir=tmp_path)
    assert again.info.features["label"].feature.names == ["a", "b"]
    single = LabelledFolderConfig(name="other", labels_csv=str(table))
    with pytest.raises(DataError, match="several_labels=True"):
        prepared(tfds.builder("labelled_folder", config=single, data_dir=tmp_path), folder)


def test_labelled_folder_with_dicom_files_of_several_frames(tmp_path):
    pytest.importorskip("pydicom")
    from helpers.dicom_files import write

    frames = np.random.default_rng(0).integers(0, 256, (3, 6, 5), np.uint8)
    for label in ("neck", "elbow"):
        (tmp_path / "data" / label).mkdir(parents=True)
        write_image(tmp_path / "data" / label / "still.png", len(label))
    write(tmp_path / "data" / "neck" / "cine.dcm", frames, NumberOfFrames=3)
    config = LabelledFolderConfig(name="frames", multi_frame="unroll")
    builder = tfds.builder("labelled_folder", config=config, data_dir=tmp_path)
    rows = {e["name"]: e for e in examples(prepared(builder, tmp_path / "data"), "train")}
    assert len(rows) == 5
    np.testing.assert_array_equal(rows[b"neck/cine.dcm#0002"]["image"][..., 0], frames[1])
    assert rows[b"neck/cine.dcm#0001"]["study"] == rows[b"neck/cine.dcm#0003"]["study"]


def test_manual_data_says_where_to_get_it(tmp_path):
    for name in ("mura", "lera", "mura_lera"):
        with pytest.raises(AssertionError, match="register at https://"):
            prepared(tfds.builder(name, data_dir=tmp_path), tmp_path / "nothing")
