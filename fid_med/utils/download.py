"""Download of a file, checked before it appears under its name."""

import http.client
import pathlib
import urllib.request

from fid_med.errors import DataError, reason_of
from fid_med.utils.files import atomic_path
from fid_med.utils.hashing import file_digest
from fid_med.utils.progress import Progress, say

_TIMEOUT = 60  # seconds without an answer
_CHUNK = 1 << 20


def fetch(
    url: str,
    path,
    *,
    size: int | None = None,
    md5: str | None = None,
    sha256: str | None = None,
    by_hand: str | None = None,
) -> None:
    """Downloads a file. It appears at `path` only when it is complete and every check passed.

    Args:
      url: address of the file.
      path: file to write. Its folder is created.
      size: expected bytes; by default those that the server announces, if it does. Of a longer
        answer no more than 1 MiB beyond the expected size is read.
      md5: expected MD5, hexadecimal; by default not checked.
      sha256: expected SHA-256, hexadecimal; by default not checked.
      by_hand: end of the message of a failed download, which says where to put the file;
        by default "put it at PATH".

    Raises:
      DataError: the file could not be downloaded or written, or it has another size or checksum.
    """
    path = pathlib.Path(path)
    say(f"downloading {url} to {path}")
    try:
        with atomic_path(path) as temporary:
            _download(url, temporary, path.name, size)
            for algorithm, expected in (("md5", md5), ("sha256", sha256)):
                if expected is not None:
                    _check_digest(temporary, algorithm, expected, url)
    except (OSError, http.client.HTTPException) as error:
        raise DataError(
            f"{url} could not be downloaded ({reason_of(error)}); fetch it on a machine with "
            f"internet and {by_hand or f'put it at {path}'}"
        ) from None


def _download(url, path, name, size):
    received = 0
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer, open(path, "wb") as file:
        if size is None and (announced := answer.headers.get("Content-Length")) is not None:
            size = int(announced)
        with Progress(f"{name}, MB", None if size is None else size >> 20) as progress:
            while (size is None or received <= size) and (chunk := answer.read(_CHUNK)):
                file.write(chunk)
                received += len(chunk)
                progress.update()
    if size is not None and received != size:
        raise DataError(f"{url}: received {received:,} bytes, expected {size:,}; try again")


def _check_digest(path, algorithm, expected, url):
    found = file_digest(path, algorithm)
    if found != expected:
        raise DataError(
            f"{url}: received a file with {algorithm.upper()} {found}, published is {expected}; "
            "try again"
        )
