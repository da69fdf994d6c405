"""Arrays of images in `.npy` and `.npz` files, as generators save their samples."""

import os
import pathlib
import zipfile

import numpy as np

from fid_med.errors import DataError, reason_of

_KEY = "arr_0"  # of `np.savez(file, array)`
_LARGEST_IN_MEMORY = 2 << 30


def is_array_file(source) -> bool:
    """Whether a source is the path of an array of images.

    That is an `.npy`, or an `.npz` with the key `arr_0` and without statistics (`mu`).
    """
    if not isinstance(source, (str, os.PathLike)):
        return False
    suffix = pathlib.Path(source).suffix.lower()
    if suffix != ".npz" or not os.path.isfile(source):
        return suffix == ".npy" and not os.path.isdir(source)
    try:
        with zipfile.ZipFile(source) as archive:
            names = archive.namelist()
    except Exception:  # a damaged directory raises nearly anything; the reader reports it
        return False
    return f"{_KEY}.npy" in names and "mu.npy" not in names


def read_array(path) -> np.ndarray:
    """Reads an array of images; memory holds only those in use, unless the file is compressed.

    Args:
      path: of an `.npy`, or an `.npz` of which `arr_0` is read. Nothing is unpickled.

    Raises:
      DataError: no such file, a damaged one, or a compressed one of more than 2 GiB.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        kind = "no such file" if not path.exists() else "is a pipe or a device, not a file"
        raise DataError(f"{path}: {kind}", wrong_flag=True)
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        return _read_member(path)
    except DataError:
        raise
    except Exception as error:  # a damaged file raises nearly anything
        raise DataError(
            f"{path}: cannot be read as an array of images ({reason_of(error)})"
        ) from None


def _read_member(path):
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{_KEY}.npy")
        stored = info.compress_type == zipfile.ZIP_STORED
        if not stored and info.file_size > _LARGEST_IN_MEMORY:
            raise DataError(
                f"{path}: {_KEY} unpacks to {info.file_size:,} bytes: save it uncompressed, with "
                "np.save or np.savez"
            )
        with archive.open(info) as file:
            if not stored:
                return np.lib.format.read_array(file, allow_pickle=False)
            shape, fortran, dtype = _READ_HEADER[np.lib.format.read_magic(file)](file)
            if dtype.hasobject:
                raise DataError(f"{path}: {_KEY} holds pickled objects, which are never loaded")
            inside = file.tell()
            while file.read(1 << 20):  # raises where the checksum is wrong
                pass
    with open(path, "rb") as raw:
        raw.seek(info.header_offset + 26)
        lengths = int.from_bytes(raw.read(2), "little") + int.from_bytes(raw.read(2), "little")
    start = info.header_offset + 30 + lengths + inside
    return np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")


_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
