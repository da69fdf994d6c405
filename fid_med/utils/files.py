"""Files that the library writes: whole or not at all; and the versions that every result names."""

import contextlib
import importlib.metadata
import json
import os
import pathlib
import platform
import tempfile
from collections.abc import Iterator

from fid_med.version import __version__


@contextlib.contextmanager
def atomic_path(path) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path`, moved onto it when the block ends without an error.

    The temporary name keeps the suffix, which libraries read the format from. Parent folders are
    made. A killed process leaves at most a hidden temporary file, never half of `path`.
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
        # mkstemp makes files that only their owner reads; a result is shared like any other file.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path) -> None:
    """Makes the folder of a file to come and raises OSError where it cannot be written there."""
    path = pathlib.Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder, expected the name of a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def write_json(path, value) -> None:
    """Writes `value` as indented JSON, atomically; NaN and infinity are refused (ValueError)."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_path(path) as temporary:
        # File names that are no UTF-8 come as lone surrogates, written as JSON's own \uXXXX.
        temporary.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


_PACKAGES = (
    "tensorflow", "keras", "numpy", "scipy", "pillow",
    "pydicom", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg",
)  # fmt: skip


def versions() -> dict[str, str]:
    """The versions that a result depends on, found without importing the packages."""
    found = {"fid_med": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        for name in (package, f"{package}-cpu"):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[package] = importlib.metadata.version(name)
                break
    return found
