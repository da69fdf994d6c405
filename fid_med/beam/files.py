"""Images and results on the file systems that Apache Beam knows: gs://, s3://, hdfs://.

Paths without a scheme are this machine's, and never come near Beam.
"""

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator

import numpy as np
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from fid_med.data.images import IMAGE_SUFFIXES, list_images, read_image
from fid_med.errors import DataError, UnreadableImageError, reason_of
from fid_med.utils.files import check_writable


def is_remote(path: str) -> bool:
    """Whether a path names its file system: `gs://bucket/images`."""
    return "://" in path


def join(folder: str, name: str) -> str:
    """The path of a file below a folder of either kind."""
    return f"{folder.rstrip('/')}/{name}" if is_remote(folder) else os.path.join(folder, name)


def list_folder(folder: str) -> list[str]:
    """`list_images` for folders of either kind: names relative to the folder, sorted.

    On a remote one a file counts by its suffix alone, so DICOM files are passed over.

    Raises:
      DataError: no image there, or no access.
    """
    if not is_remote(folder):
        return list_images(folder)
    root = join(folder, "")
    try:
        (match,) = FileSystems.match([f"{root}**"])
    except (BeamIOError, ValueError) as error:
        raise DataError(f"{folder}: cannot be listed ({reason_of(error)})") from None
    names = [found.path.removeprefix(root) for found in match.metadata_list]
    names = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES) and _shown(name)]
    if not names:
        raise DataError(f"{folder}: holds no image ({', '.join(IMAGE_SUFFIXES)})")
    return sorted(names)


def _shown(name):
    return not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


@contextlib.contextmanager
def local_copy(path: str) -> Iterator[str]:
    """Yields the path of a file on this machine: the file itself, or a copy under its own name."""
    if not is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, path.rsplit("/", 1)[-1])
        # As it is: Beam would unpack by suffix.
        with (
            FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as source,
            open(copy, "wb") as target,
        ):
            shutil.copyfileobj(source, target)
        yield copy


def read(folder: str, name: str) -> np.ndarray:
    """`read_image` for a file below a folder of either kind; messages call it by its own path."""
    path = join(folder, name)
    with local_copy(path) as copy:
        try:
            return read_image(copy)
        except UnreadableImageError as error:
            raise UnreadableImageError(str(error).replace(copy, path)) from None


def write(path: str, save: Callable[[str], None]) -> None:
    """Writes a file anywhere, whole or not at all: what `save` writes to a local path."""
    if not is_remote(path):
        save(path)
        return
    # Attempts of one write may overlap: each has a name of its own until it is whole.
    partial = f"{path}.partial-{uuid.uuid4().hex}"
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, path.rsplit("/", 1)[-1])
        save(copy)
        with (
            open(copy, "rb") as source,
            FileSystems.create(partial, compression_type=CompressionTypes.UNCOMPRESSED) as target,
        ):
            shutil.copyfileobj(source, target)
    FileSystems.rename([partial], [path])


def check_target(path: str) -> None:
    """Raises where a file to come cannot be written: OSError here, DataError for a wrong scheme."""
    if not is_remote(path):
        check_writable(path)
        return
    try:
        FileSystems.get_filesystem(path)
    except ValueError as error:
        raise DataError(f"{path}: {reason_of(error)}") from None
