"""Atomic writing of files, and the versions of packages that results record."""

import contextlib
import errno
import functools
import hashlib
import importlib.metadata
import io
import json
import os
import pathlib
import platform
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import BinaryIO, TextIO

from fid_med.version import __version__

# Names of temporary files: `.RANDOM.PID-SYSTEM.partial.SUFFIX`; earlier versions wrote no process.
_PARTIAL = re.compile(r"\.[a-z0-9_]{8}\.(?:(\d+)-([0-9a-f]{8})\.)?partial(?:\..*)?", re.DOTALL)
_ABANDONED = 3600  # seconds without a change, for a file of an unknown process
_swept: set[pathlib.Path] = set()


@contextlib.contextmanager
def atomic_path(path) -> Iterator[pathlib.Path]:
    """Yields a temporary path in the folder of `path`, and renames it to `path` at the end.

    The file at `path` is complete or unchanged: if the block raises, the temporary file is deleted;
    if the process is killed, at most a hidden temporary file remains, which a later run removes.
    Parent folders are created. The temporary name has the suffix of `path`, from which libraries
    infer the format.

    A symbolic link stays, and its target is replaced. A device or a named pipe, such as
    `/dev/stdout`, is not replaced: the finished content is written to it.

    Raises:
      OSError: the file cannot be written; the error names `path`.
    """
    path = pathlib.Path(path)
    if _is_stream(path):
        with tempfile.TemporaryDirectory() as folder:
            temporary = pathlib.Path(folder, f"partial{path.suffix}")
            temporary.touch()
            yield temporary
            with _named(path, path.parent):
                _copy_to_stream(temporary, path)
        return
    target = _target(path)
    with _named(path, target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.parent not in _swept:
            sweep_partials(target.parent)
            _swept.add(target.parent)
        suffix = f".{os.getpid()}-{_system()}.partial{path.suffix}"
        handle, name = tempfile.mkstemp(prefix=".", suffix=suffix, dir=target.parent)
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
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


def check_writable(path) -> None:
    """Creates the folder of a file, and raises an OSError if the file cannot be written there.

    Temporary files of killed runs are removed from the folder.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder, expected the path of a file")
    if _is_stream(path):
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return
    _check_folder(_target(path).parent, path)


def check_writable_folder(path) -> None:
    """Creates a folder, and raises an OSError if it is a file or files cannot be written in it."""
    _check_folder(pathlib.Path(path), path)


def _check_folder(folder, path):
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder}: is a file, expected a folder; choose another path")
    with _named(path, folder):
        folder.mkdir(parents=True, exist_ok=True)
        sweep_partials(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass


def sweep_partials(folder) -> None:
    """Removes the temporary files that killed runs left in a folder, as `atomic_path` names them.

    A file is removed if its process ran on this system and is gone. The process of any other file
    may run on another computer that shares the folder, so only the age decides: a file that is
    being written changes more often than once an hour. A process number that is in use again only
    delays the removal.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _PARTIAL.fullmatch(entry.name)
            if match and _is_abandoned(entry, *match.groups()):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def _is_abandoned(entry, process, system):
    if not entry.is_file(follow_symlinks=False):
        return False
    if system == _system():
        if int(process) == os.getpid():
            return False
        try:
            os.kill(int(process), 0)  # sends nothing, but fails if there is no such process
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):  # a process of another user
            pass
        return False
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED


@functools.cache
def _system() -> str:
    """8 hex digits for the system whose process numbers are ours, from its start to its end.

    A container numbers its own processes. Outside Linux nothing identifies the system reliably, so
    each process gets digits of its own.
    """
    try:
        start = pathlib.Path("/proc/sys/kernel/random/boot_id").read_bytes()
        numbers = os.fsencode(os.readlink("/proc/self/ns/pid"))
    except OSError:
        return secrets.token_hex(4)
    return hashlib.sha256(start + numbers).hexdigest()[:8]


@contextlib.contextmanager
def _named(path, folder):
    """Makes errors of a write name its path in place of a temporary file in `folder`, or of none.

    Errors of a connection, from which the content may come, stay as they are.
    """
    try:
        yield
    except ConnectionError:
        raise
    except OSError as error:
        found = error.filename
        if error.errno is None or (found and pathlib.Path(os.fsdecode(found)).parent != folder):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def _target(path):
    """The file that a symbolic link leads to, which may be missing; else the path itself."""
    return pathlib.Path(os.path.realpath(path)) if path.is_symlink() else path


def _is_stream(path):
    """Whether a path must not be replaced: a device, a pipe, a socket, or our own output."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or _own_output(path) is not None


def _own_output(path):
    """1 or 2 if a path is our standard output or error, also where that is a regular file."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
    return None


def _copy_to_stream(source, path):
    descriptor = _own_output(path)
    if descriptor is None:
        try:  # would otherwise wait forever for a reader of a pipe
            handle = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            reason = "nothing reads from this named pipe or device"
            raise OSError(errno.ENXIO, reason, os.fspath(path)) from error
        os.set_blocking(handle, True)
    else:
        # Opening it again would overwrite what a redirected output holds already.
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        handle = os.dup(descriptor)
    with open(source, "rb") as file, os.fdopen(handle, "wb") as output:
        shutil.copyfileobj(file, output)


def open_regular(path) -> BinaryIO:
    """Opens a file to read its bytes, but no named pipe, which may hang, and no endless device.

    Raises:
      OSError: a missing file, a folder, a pipe or a device.
    """
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "a named pipe, socket or device, not a file", os.fspath(path))
    return open(path, "rb")


def open_text(path, encoding: str = "utf-8") -> TextIO:
    """Opens a regular file as text, with its line ends as they are; errors as `open_regular`."""
    return io.TextIOWrapper(open_regular(path), encoding, newline="")


def npz_array(npz, key: str):
    """Reads one array of an opened npz file; raises ValueError if the member is no array."""
    array = npz[key]
    if isinstance(array, bytes):  # NumPy returns what is no .npy as it is
        raise ValueError(f"{key} is not an array")
    return array


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
