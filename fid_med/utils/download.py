"""Files that come from the internet, checked against their published checksum."""

import hashlib
import http.client
import pathlib
import urllib.request

from fid_med.errors import DataError, reason_of
from fid_med.utils.files import atomic_path
from fid_med.utils.progress import Progress, say

_TIMEOUT = 60  # seconds without an answer
_CHUNK = 1 << 20


def fetch(url: str, path, md5: str) -> None:
    """Downloads a file; it appears at `path` only when it is whole and its checksum is right.

    Args:
      url: where it is.
      path: where to.
      md5: its checksum, hexadecimal.

    Raises:
      DataError: no connection, a broken one, or another checksum.
    """
    path = pathlib.Path(path)
    say(f"downloading {url} to {path}")
    with atomic_path(path) as temporary:
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
                _copy(answer, temporary, path.name)
        except (OSError, http.client.HTTPException) as error:
            raise DataError(
                f"{url} could not be downloaded ({reason_of(error)}); fetch it on a machine with "
                f"internet and put it at {path}"
            ) from None
        _check_md5(temporary, md5, url)


def _copy(answer, path, name):
    length = answer.headers.get("Content-Length")
    with (
        open(path, "wb") as file,
        Progress(f"{name}, MB", int(length) >> 20 if length else None) as progress,
    ):
        while chunk := answer.read(_CHUNK):
            file.write(chunk)
            progress.update()


def _check_md5(path, md5, url):
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != md5:
        raise DataError(
            f"{url}: received a file with MD5 {digest.hexdigest()}, published is {md5}; try again"
        )
