"""CIFAR-10's two layouts: the same images from both, in order, and what is refused."""

import os
import pickle

import numpy as np
import pytest

from fid_med.errors import DataError
from fid_med.validation.cifar10 import read_folder

TRAIN = [f"data_batch_{i}" for i in range(1, 6)]


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    sizes = {"train": 15, "test": 4}
    return {x: rng.integers(0, 256, (n, 32, 32, 3), np.uint8) for x, n in sizes.items()}


def batches(images):
    """Rows as the files hold them, by file name: three planes an image."""
    rows = {name: x.transpose(0, 3, 1, 2).reshape(len(x), -1) for name, x in images.items()}
    return dict(zip(TRAIN, np.split(rows["train"], 5), strict=True)) | {"test_batch": rows["test"]}


def write_binary(folder, images):
    folder.mkdir(parents=True)
    for name, rows in batches(images).items():
        labels = np.full((len(rows), 1), 7, np.uint8)
        (folder / f"{name}.bin").write_bytes(np.hstack([labels, rows]).tobytes())
    return folder


def write_python(folder, images, protocol=2):
    folder.mkdir(parents=True)
    for name, rows in batches(images).items():
        content = {b"batch_label": b"one of", b"labels": [7] * len(rows), b"data": rows}
        (folder / name).write_bytes(pickle.dumps(content, protocol))
    return folder


@pytest.mark.parametrize("write", [write_binary, write_python])
@pytest.mark.parametrize("inner", ["", "cifar-10-batches-bin", "cifar-10-batches-py"])
def test_both_layouts_give_the_images_in_order(tmp_path, images, write, inner):
    write(tmp_path / "x" / inner, images)
    found = read_folder(tmp_path / "x")
    assert list(found) == ["train", "test"]
    for split, expected in images.items():
        assert found[split].dtype == np.uint8
        np.testing.assert_array_equal(found[split], expected)


def test_a_missing_file_is_named(tmp_path, images):
    folder = write_binary(tmp_path / "x", images)
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"x: lacks data_batch_3\.bin; unpack"):
        read_folder(folder)
    with pytest.raises(DataError, match="holds no CIFAR-10; expected data_batch_1"):
        read_folder(tmp_path)
    with pytest.raises(DataError, match="none: no such folder"):
        read_folder(tmp_path / "none")


@pytest.mark.parametrize("keep", [0, 3072, 3074])
def test_a_cut_binary_file_is_refused(tmp_path, images, keep):
    path = write_binary(tmp_path / "x", images) / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"test_batch\.bin: .* not a whole number of images"):
        read_folder(path.parent)


class Evil:
    def __reduce__(self):
        return os.mkdir, (os.environ["EVIL_FOLDER"],)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pickle.dumps({b"data": Evil}), "asks for"),
        (pickle.dumps({b"labels": []}), "data"),
        (b"not a pickle", "not a batch of CIFAR-10"),
        (pickle.dumps({b"data": np.zeros((2, 9), np.uint8)}), r"uint8 \(2, 9\), expected"),
        (pickle.dumps({b"data": np.zeros((2, 3072))}), "float64"),
    ],
)
def test_a_bad_pickle_is_refused(tmp_path, images, content, said):
    folder = write_python(tmp_path / "x", images)
    (folder / "test_batch").write_bytes(content)
    with pytest.raises(DataError, match=said) as refusal:
        read_folder(folder)
    assert "\n" not in str(refusal.value)


def test_a_pickle_runs_no_code(tmp_path, images, monkeypatch):
    monkeypatch.setenv("EVIL_FOLDER", str(tmp_path / "evil"))
    folder = write_python(tmp_path / "x", images)
    (folder / "data_batch_1").write_bytes(pickle.dumps({b"data": Evil()}))
    with pytest.raises(DataError, match=r"asks for .*mkdir, which no batch needs"):
        read_folder(folder)
    assert not (tmp_path / "evil").exists()
