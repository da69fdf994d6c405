"""Arrays of images in files: `.npy`, and `arr_0` of an `.npz`."""

import io
import os
import zipfile

import numpy as np
import pytest

from fid_med.data.arrays import is_array_file, read_array
from fid_med.data.sources import open_source
from fid_med.errors import DataError

IMAGES = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)


def _npy(path):
    with open(path, "wb") as file:
        np.save(file, IMAGES)


def _npz(path):
    with open(path, "wb") as file:
        np.savez(file, IMAGES)


def _labelled(path):
    with open(path, "wb") as file:
        np.savez_compressed(file, IMAGES, np.arange(2))


def _fortran(path):
    with open(path, "wb") as file:
        np.savez(file, arr_0=np.asfortranarray(IMAGES))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("x.npy", _npy), ("X.NPY", _npy), ("x.npz", _npz), ("X.NPZ", _npz), ("x.npz", _labelled),
        ("x.npz", _fortran),
    ],
)  # fmt: skip
def test_images_are_those_of_the_array(tmp_path, name, write):
    write(tmp_path / name)
    assert is_array_file(tmp_path / name)
    source = open_source(str(tmp_path / name), "real")
    assert (source.kind, source.count, source.repeatable) == ("array", 2, True)
    for (_, load), image in zip(source.loaders, IMAGES, strict=True):
        np.testing.assert_array_equal(load(), image)


@pytest.mark.parametrize(("name", "write"), [("x.npy", _npy), ("x.npz", _npz)])
def test_large_arrays_stay_on_disk(tmp_path, name, write):
    write(tmp_path / name)
    assert isinstance(read_array(tmp_path / name), np.memmap)


def test_statistics_and_other_files_are_no_arrays(tmp_path):
    np.savez(tmp_path / "statistics.npz", mu=np.zeros(2), sigma=np.eye(2), arr_0=IMAGES)
    np.savez(tmp_path / "other.npz", images=IMAGES)
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04 cut short")
    for name in ("statistics.npz", "other.npz", "damaged.npz", "missing.npz", "x.png"):
        assert not is_array_file(tmp_path / name)
    assert not is_array_file(IMAGES)


def _damaged(path):
    _npz(path)
    data = bytearray(path.read_bytes())
    data[data.index(b"\x93NUMPY") + 140] ^= 1  # a pixel
    path.write_bytes(data)


def _pickled(path):
    np.savez(path, np.array([{}], object))


def _truncated(path):
    path.write_bytes(b"\x93NUMPY\1\0")


def _bomb(path):
    header = io.BytesIO()
    entry = {"descr": "|u1", "fortran_order": False, "shape": (1 << 32,)}
    np.lib.format.write_array_header_1_0(header, entry)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("arr_0.npy", header.getvalue() + bytes(1 << 20))
    # The sizes in the directory are those that the file claims.
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\1\2") + 24
    data[place : place + 4] = (0xFFFFFFF0).to_bytes(4, "little")
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("x.npz", _damaged, "cannot be read as an array"),
        ("x.npz", _pickled, "pickled objects, which are never loaded"),
        ("x.npy", _truncated, "cannot be read as an array"),
        ("x.npz", _bomb, "unpacks to 4,294,967,280 bytes: save it uncompressed"),
        ("x.npy", lambda path: None, "no such file"),
        ("x.npy", os.mkfifo, "is a pipe or a device"),
    ],
)
def test_files_that_cannot_be_read_end_in_one_line(tmp_path, name, write, message):
    write(tmp_path / name)
    with pytest.raises(DataError, match=message) as error:
        open_source(tmp_path / name, "real")
    assert str(error.value).startswith(str(tmp_path / name))
    assert "\n" not in str(error.value)


def test_keras_models_are_refused_with_the_way_out(tmp_path):
    class Model:
        """Looks like a Keras model, which is callable as well."""

        def __call__(self, x): ...

        def predict(self, x): ...

        def get_config(self): ...

    with pytest.raises(DataError, match=r"^generated: a Keras model is no source.*function that"):
        open_source(Model(), "generated", 4)
    (tmp_path / "generator.keras").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"generator\.keras: is a Keras model, not images"):
        open_source(tmp_path / "generator.keras", "generated")
