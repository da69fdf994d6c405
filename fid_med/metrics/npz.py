"""Reading npz files without unpickling, and writing them atomically."""

import contextlib
import hashlib
import io
import math
import os
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from fid_med.errors import StatisticsError
from fid_med.utils.files import atomic_path, npz_array

# Arrays may unpack to this many bytes, or to four times what they take in the file: statistics of
# 2,048 features have 33 MB and do not compress well.
_LARGEST_UNPACKED = 1 << 28
_END_OF_ZIP = 22  # bytes at the end of a zip file, before its comment

_SHAPES = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Reads the shapes of the arrays of an npz file from their headers, without the arrays.

    Returns:
      The shape by key; empty if the file is not an npz or is damaged, which `read_npz` reports.

    Raises:
      StatisticsError: an array unpacks to far more than it takes in the file.
    """
    shapes = {}
    # A damaged zip or header raises nearly anything.
    with contextlib.suppress(Exception), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            with archive.open(info) as file:
                shape, _, dtype = _SHAPES[np.lib.format.read_magic(file)](file)
            if dtype.hasobject:
                continue  # `read_npz` refuses it
            most = max(_LARGEST_UNPACKED, 4 * info.compress_size)
            key = info.filename.removesuffix(".npy")
            shapes[key] = (shape, max(info.file_size, math.prod(shape) * dtype.itemsize), most)
    for key, (shape, unpacked, most) in shapes.items():
        if unpacked > most:
            raise StatisticsError(
                f"{path}: {key} of shape {shape} unpacks to {unpacked:,} bytes: expected at most "
                f"{most:,}"
            )
    return {key: shape for key, (shape, _, _) in shapes.items()}


def read_npz(
    path: Path, known: Collection[str] | None, expected: str
) -> dict[str, np.ndarray | None]:
    """Reads an npz file of any origin. Pickled objects are never loaded.

    Args:
      path: the file.
      known: keys whose arrays are read; None for all.
      expected: what such a file should be, for messages.

    Returns:
      A dictionary with every key of the file. Its value is the array for a known key, and None
      for any other.

    Raises:
      StatisticsError: no such file, a folder, a pipe or a device, not an npz, a truncated file,
        arrays that unpack to far more than they take in the file, or pickled objects.
    """
    if not path.exists():
        raise StatisticsError(f"{path}: no such file: check the path", wrong_flag=True)
    if path.is_dir():
        raise StatisticsError(f"{path}: is a folder: {expected}", wrong_flag=True)
    if not path.is_file():
        raise StatisticsError(
            f"{path}: is a pipe or a device, not a file: {expected}", wrong_flag=True
        )
    read_shapes(path)
    try:
        with open(path, "rb") as file:
            is_zip = file.read(2) == b"PK"
            file.seek(0)
            if is_zip:
                with np.load(file, allow_pickle=False) as npz:
                    _check_directory(npz.zip, file)
                    keys = npz.files
                    wanted = keys if known is None else known
                    return {key: npz_array(npz, key) if key in wanted else None for key in keys}
    except Exception as error:  # a damaged zip or array header raises nearly anything
        if "allow_pickle" in str(error):
            raise StatisticsError(
                f"{path}: holds pickled objects, which are never loaded: {expected}"
            ) from error
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise StatisticsError(
            f"{path}: cannot be read ({reason}): it may be truncated, make it again"
        ) from error
    raise StatisticsError(f"{path}: not an npz file: {expected}")


def _check_directory(archive, file):
    """Raises BadZipFile where a damaged directory hides members: they would count as absent."""
    for info in archive.infolist():
        archive.open(info).close()  # raises where the name in the directory is another
    file.seek(-_END_OF_ZIP - len(archive.comment), os.SEEK_END)
    declared = int.from_bytes(file.read(_END_OF_ZIP)[10:12], "little")
    if declared not in (len(archive.infolist()), 0xFFFF):  # the latter: more than it can say
        raise zipfile.BadZipFile(f"{len(archive.infolist())} of {declared} members")


def checksum(arrays: Mapping[str, np.ndarray | None], place: str) -> np.ndarray:
    """Hashes arrays together with the place that they belong to.

    The checksums of a zip file find a damaged disk. This one also finds rows that another program
    wrote, and files that were moved from another place.

    Args:
      arrays: by key, in any order; None as `read_npz` returns it is hashed too. The key `checksum`
        is left out.
      place: whatever else determines the values, such as the name of a cache's folder.

    Returns:
      SHA-256, uint8 [32].
    """
    digest = hashlib.sha256(place.encode())
    for key in sorted(set(arrays) - {"checksum"}):
        array = arrays[key]
        if array is None:
            digest.update(f"{key} unread".encode())
            continue
        digest.update(f"{key} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    return np.frombuffer(digest.digest(), np.uint8)


def check_checksum(arrays: Mapping[str, np.ndarray | None], place: str) -> None:
    """Raises StatisticsError if `checksum` of the arrays is wrong; earlier versions wrote none."""
    stored = arrays.get("checksum")
    if stored is not None and not np.array_equal(stored, checksum(arrays, place)):
        raise StatisticsError(f"{place}: wrong checksum")


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes arrays to exactly `path`, atomically.

    Raises:
      StatisticsError: the folder cannot be made or written to, or the disk is full.
    """
    # In memory first: np.savez appends ".npz" to names, and its zip file prints a traceback if
    # it is closed after a write to a full disk has failed.
    content = io.BytesIO()
    np.savez(content, **arrays)
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(content.getbuffer())
    except (OSError, ValueError) as error:
        raise StatisticsError(
            f"{os.fspath(path)}: cannot be written ({error}): check that the folder is writable "
            "and has space"
        ) from error
