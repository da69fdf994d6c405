"""Atomic writing of files, and the versions of packages that results record."""

import contextlib
import errno
import importlib.metadata
import json
import os
import pathlib
import platform
import stat
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

from fid_med.version import __version__


@contextlib.contextmanager
def atomic_path(path) -> Iterator[pathlib.Path]:
    """Yields a temporary path in the folder of `path`, and renames it to `path` at the end.

    The file at `path` is complete or unchanged: if the block raises, the temporary file is deleted;
    if the process is killed, at most a hidden temporary file remains. Parent folders are created.
    The temporary name has the suffix of `path`, from which libraries infer the format.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".", suffix=f".partial{path.suffix}", dir=path.parent)
    os.close(handle)
    temporary = pathlib.Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        # mkstemp creates files that only their owner can read; give results the usual mode.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path) -> None:
    """Creates the folder of a file, and raises an OSError if the file cannot be written there."""
    path = pathlib.Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder, expected the path of a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def open_regular(path) -> BinaryIO:
    """Opens a file to read its bytes, but no named pipe, which may hang, and no endless device.

    Raises:
      OSError: a missing file, a folder, a pipe or a device.
    """
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "a named pipe, socket or device, not a file", os.fspath(path))
    return open(path, "rb")


def write_json(path, value) -> None:
    """Writes `value` as indented JSON, atomically.

    Raises:
      ValueError: `value` contains NaN or infinity.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_path(path) as temporary:
        # File names that are not UTF-8 contain lone surrogates; write them as JSON's \uXXXX.
        temporary.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


_PACKAGES = (
    "tensorflow", "keras", "numpy", "scipy", "pillow",
    "pydicom", "imagecodecs", "pylibjpeg-openjpeg",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of fid_med, Python and the packages that affect results, without importing them."""
    found = {"fid_med": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        for name in (package, f"{package}-cpu"):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[package] = importlib.metadata.version(name)
                break
    return found
