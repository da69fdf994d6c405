"""Damaged and hostile Keras files end in one line, before they fill the memory."""

import json
import struct
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest

from fid_med.errors import ExtractorError
from fid_med.extractors.model_files import check_hdf5, read_json_member
from fid_med.extractors.registry import load_extractor


def _archive(path, method=zipfile.ZIP_STORED, **members):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)


def _change(path, place, value):
    """Writes 16 bits at a place relative to the start of the first entry of the directory."""
    data = bytearray(path.read_bytes())
    struct.pack_into("<H", data, data.index(b"PK\1\2") + place, value)
    path.write_bytes(data)


def _flipped(path):
    _archive(path, config__json="{}")
    _change(path, 0, 0x4B51)


def _encrypted(path):
    _archive(path, config__json="{}")
    _change(path, 8, 1)


def _unknown_method(path):
    _archive(path, config__json="{}")
    _change(path, 10, 77)


def _lzma(path):
    _archive(path, zipfile.ZIP_LZMA, config__json="{}")


def _deep(path):
    _archive(path, config__json="[" * 100_000)


def _deep_metadata(path):
    _archive(path, fid_med__json='{"a":' * 100_000)


def _wrong_checksum(path):
    _archive(path, config__json='{"abc": 1}')
    data = path.read_bytes()
    path.write_bytes(data.replace(b'{"abc"', b'{"abd"', 1))


def _without_its_begin(path):
    _archive(path, config__json="{}", metadata__json="{}")
    path.write_bytes(path.read_bytes()[20:])


def _no_config(path):
    _archive(path, metadata__json="{}")


def _no_weights(path):
    _archive(path, config__json="{}")


def _huge_metadata(path):
    _archive(path)
    _add_zeros(path, "fid_med.json", 129)


def _huge_weights(path):
    _archive(path, config__json="{}")
    _add_zeros(path, "model.weights.h5", 258)


def _add_zeros(path, name, mebibytes):
    archive = zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED)
    with archive, archive.open(name, "w", force_zip64=True) as member:
        for _ in range(mebibytes):
            member.write(bytes(1 << 20))


CASES = {
    _flipped: "damaged",
    _encrypted: "config.json is encrypted",
    _unknown_method: "config.json is not stored as Keras does",
    _lzma: "config.json is not stored as Keras does",
    _deep: "config.json is damaged",
    _deep_metadata: "fid_med.json is damaged",
    _wrong_checksum: "config.json is damaged",
    _without_its_begin: "damaged",
    _no_config: "it has no config.json",
    _no_weights: "model.weights.h5 is damaged",
    _huge_metadata: "fid_med.json unpacks to 135,266,304 bytes",
    _huge_weights: "model.weights.h5 unpacks to 270,532,608 bytes",
}


@pytest.mark.parametrize("write", CASES, ids=lambda x: x.__name__)
def test_damaged_archives_end_in_one_line(write, tmp_path):
    path = tmp_path / "extractor.keras"
    write(path)
    tracemalloc.start()
    with pytest.raises(ExtractorError) as refusal:
        load_extractor(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    message = str(refusal.value)
    assert message.startswith(f"{path}: ")
    assert CASES[write] in message
    assert "\n" not in message
    assert most < 64 << 20


def test_json_of_a_member_is_read(tmp_path):
    _archive(tmp_path / "x.keras", zipfile.ZIP_DEFLATED, fid_med__json=json.dumps([1]))
    assert read_json_member(str(tmp_path / "x.keras"), "fid_med.json") == [1]
    assert read_json_member(str(tmp_path / "x.keras"), "other.json") is None


def _soft_link(file, path):
    file["link"] = h5py.SoftLink("/elsewhere")


def _external_link(file, path):
    file["link"] = h5py.ExternalLink("other.h5", "/")


def _external_array(file, path):
    (path.parent / "secret").write_bytes(bytes(8))
    file.create_dataset("x", (8,), "u1", external=[(str(path.parent / "secret"), 0, 8)])


def _virtual_array(file, path):
    layout = h5py.VirtualLayout((8,), "u1")
    layout[:] = h5py.VirtualSource("other.h5", "x", (8,))
    file.create_virtual_dataset("x", layout)


def _empty_chunks(file, path):
    file.create_dataset("x", (1 << 20, 1 << 20), "f4", chunks=(1024, 1024))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_soft_link, "links"),
        (_external_link, "links"),
        (_external_array, "arrays that are in other files"),
        (_virtual_array, "arrays that are in other files"),
        (_empty_chunks, "unpack to 4,398,046,511,104 bytes"),
    ],
)
@pytest.mark.parametrize("name", ["x.h5", "x.weights.h5"])
def test_hostile_weights_are_refused(write, message, name, tmp_path):
    path = tmp_path / name
    with h5py.File(path, "w") as file:
        write(file, path)
    with pytest.raises(ExtractorError, match=message) as refusal:
        load_extractor(path)
    assert str(refusal.value).startswith(f"{path}: ")


def test_plain_weights_pass(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_group("a/b").create_dataset("0", data=np.ones((3, 3)))
        file["a/b/loop"] = file["a"]  # a hard link, which cannot lead to another file
    check_hdf5(str(tmp_path / "x.h5"), "x.h5")


def test_deep_configuration_of_an_h5_is_refused(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs["model_config"] = "[" * 50_000
    with pytest.raises(ExtractorError, match=r"x\.h5: its model_config is damaged"):
        load_extractor(tmp_path / "x.h5")
