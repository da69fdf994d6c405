"""Images and results on Apache Beam's file systems: gs://, s3://, hdfs://.

Paths without a scheme are local, and are read and written without Beam.
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

from fid_med.data.images import FolderListing, index_folder, read_image, select_images
from fid_med.errors import DataError, UnreadableImageError, reason_of
from fid_med.utils.files import check_writable


def is_remote(path: str) -> bool:
    """Whether a path has a scheme, for example `gs://bucket/images`."""
    return "://" in path


def join(folder: str, name: str) -> str:
    """Joins the path of a local or remote folder and the name of a file in it."""
    return f"{folder.rstrip('/')}/{name}" if is_remote(folder) else os.path.join(folder, name)


def list_folder(folder: str) -> FolderListing:
    """Lists the images of a local or remote folder.

    For a local folder see `index_folder`. In a remote folder the suffix decides, and DICOM files
    are ignored and counted.

    Raises:
      DataError: no image in the folder, or no access.
    """
    if not is_remote(folder):
        return index_folder(folder)
    root = join(folder, "")
    try:
        (match,) = FileSystems.match([f"{root}**"])
    except (BeamIOError, ValueError) as error:
        raise DataError(f"{folder}: cannot be listed ({reason_of(error)})") from None
    return select_images(folder, [x.path.removeprefix(root) for x in match.metadata_list])


@contextlib.contextmanager
def local_copy(path: str) -> Iterator[str]:
    """Yields a local path of a file: its own, or that of a temporary copy with the same name."""
    if not is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, path.rsplit("/", 1)[-1])
        # Uncompressed, since Beam would otherwise unpack some suffixes.
        with (
            FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as source,
            open(copy, "wb") as target,
        ):
            shutil.copyfileobj(source, target)
        yield copy


def read(folder: str, name: str) -> np.ndarray:
    """Like `read_image`, for a file in a local or remote folder; errors name the original path."""
    path = join(folder, name)
    with local_copy(path) as copy:
        try:
            return read_image(copy)
        except UnreadableImageError as error:
            raise UnreadableImageError(str(error).replace(copy, path)) from None


def write(path: str, save: Callable[[str], None]) -> None:
    """Writes a local or remote file, atomically.

    Args:
      path: path of the file.
      save: function that writes the file to a local path.
    """
    if not is_remote(path):
        save(path)
        return
    # Attempts of the same write may overlap, so each uses a different temporary name.
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
    """Checks that a file can be written.

    Raises:
      OSError: a local path that cannot be written.
      DataError: an unknown scheme.
    """
    if not is_remote(path):
        check_writable(path)
        return
    try:
        FileSystems.get_filesystem(path)
    except ValueError as error:
        raise DataError(f"{path}: {reason_of(error)}") from None
