"""The published file of the 2015-12-05 network: where it lies, how it comes, what is in it."""

import hashlib
import http.client
import json
import os
import pathlib
import tarfile
import tempfile
import urllib.request
import zlib

from fid_med.errors import ExtractorError, reason_of
from fid_med.utils.files import atomic_path, check_writable, write_json
from fid_med.utils.progress import Progress, say, warn

ARCHIVE_NAME = "inception-2015-12-05.tgz"
GRAPH_NAME = "classify_image_graph_def.pb"
URL = f"https://download.tensorflow.org/models/image/imagenet/{ARCHIVE_NAME}"
ARCHIVE_BYTES = 88_931_400
GRAPH_BYTES = 95_673_916
# One public source says so and nobody confirmed it: worth a warning, not a refusal.
REPORTED_MD5 = "e6bb154e85f5d4331c22abcddb5dcf31"
CACHE_VARIABLE = "FID_MED_CACHE"
_MOST_BYTES = 4 * GRAPH_BYTES  # no archive of such a graph is larger; a crafted one may claim to be
_TIMEOUT = 60  # seconds without an answer
_CHUNK = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"


def cache_folder() -> pathlib.Path:
    """Where downloads are kept: the variable FID_MED_CACHE, or `~/.cache/fid_med`."""
    given = os.environ.get(CACHE_VARIABLE)
    return pathlib.Path(given) if given else pathlib.Path.home() / ".cache" / "fid_med"


def ensure_graph(cache_dir=None) -> pathlib.Path:
    """Finds the published GraphDef in the cache, or downloads it there once.

    A file laid there by hand serves as well, the archive or the graph out of it. Sizes are
    checked; the graph's sha256 is pinned on first use in a JSON file beside it, which is said,
    and checked ever after.

    Args:
      cache_dir: the cache, by default `cache_folder()`.

    Returns:
      The path of `classify_image_graph_def.pb`.

    Raises:
      ExtractorError: no download possible, a wrong size, an archive that cannot be trusted, a
        sha256 other than the pinned one.
    """
    folder = pathlib.Path(cache_dir) if cache_dir is not None else cache_folder()
    graph = folder / GRAPH_NAME
    if not graph.exists():
        _check_cache(graph)
        archive = folder / ARCHIVE_NAME
        if archive.exists():
            _unpack(archive, graph)
        else:
            with tempfile.TemporaryDirectory(prefix=".", dir=folder) as temporary:
                archive = pathlib.Path(temporary) / ARCHIVE_NAME
                _download(archive, folder)
                _unpack(archive, graph)
    _check_size(graph, GRAPH_BYTES)
    _check_pin(graph)
    return graph


def read_graph(path) -> bytes:
    """The serialised GraphDef in a `.pb` file, or in a tar archive that holds it.

    Raises:
      ExtractorError: an unreadable file, an archive that cannot be trusted.
    """
    try:
        with open(path, "rb") as file:
            if file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC:
                return read_archive(path)
            file.seek(0)
            return file.read()
    except OSError as error:
        raise ExtractorError(f"{path}: cannot be read ({error.strerror or error})") from None


def read_archive(path) -> bytes:
    """The GraphDef inside an archive, without extracting anything to disk.

    Raises:
      ExtractorError: truncated; without the graph, or with two of it; a graph that is a link; a
        member of any name that points outside of the archive; far more bytes than the graph has.
    """
    found = None
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                _check_member(path, member)
                _check_length(path, member.offset_data + member.size)
                if _base_name(member) != GRAPH_NAME:
                    continue
                if found is not None:
                    raise ExtractorError(f"{path}: holds {GRAPH_NAME} twice; which one is unclear")
                found = archive.extractfile(member).read()
            while archive.fileobj.read(_CHUNK):  # gzip's checksum lies behind tarfile's end
                _check_length(path, archive.fileobj.tell())
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise ExtractorError(
            f"{path}: truncated, or no tar archive ({error}); fetch {URL} again"
        ) from None
    if found is None:
        raise ExtractorError(f"{path}: holds no {GRAPH_NAME}; fetch {URL}")
    return found


def _check_member(path, member):
    parts = member.name.replace("\\", "/").split("/")
    if parts[0] == "" or parts[0].endswith(":") or ".." in parts:
        raise ExtractorError(
            f"{path}: member {member.name!r} points outside of the archive; do not trust this "
            f"file, fetch {URL}"
        )
    if _base_name(member) == GRAPH_NAME and not member.isreg():
        raise ExtractorError(f"{path}: {member.name} is no plain file there; fetch {URL}")


def _check_length(path, length):
    """Before so much is unpacked: a few bytes of gzip can stand for days of it."""
    if length > _MOST_BYTES:
        raise ExtractorError(
            f"{path}: claims {length:,} bytes or more unpacked, where {GRAPH_NAME} has "
            f"{GRAPH_BYTES:,}; do not trust this file, fetch {URL}"
        )


def _base_name(member):
    return member.name.rsplit("/", 1)[-1]


def _check_cache(graph):
    try:
        check_writable(graph)
    except OSError as error:
        raise ExtractorError(
            f"{graph.parent}: cannot be written ({error.strerror or error}); set {CACHE_VARIABLE} "
            "to a folder of yours"
        ) from None


def _download(archive, folder):
    say(f"downloading {URL} to {folder}")
    try:
        with urllib.request.urlopen(URL, timeout=_TIMEOUT) as answer, open(archive, "wb") as file:
            received = _copy(answer, file)
    except (OSError, http.client.HTTPException) as error:
        raise ExtractorError(
            f"{URL} could not be downloaded ({reason_of(error)}); fetch it on a machine with "
            f"internet and put {ARCHIVE_NAME}, or {GRAPH_NAME} out of it, into {folder}"
        ) from None
    if received != ARCHIVE_BYTES:
        raise ExtractorError(
            f"{URL}: received {received:,} bytes, expected {ARCHIVE_BYTES:,}; try again"
        )


def _copy(answer, file):
    """Copies a download, but never much more than was expected."""
    received = 0
    with Progress(f"{ARCHIVE_NAME}, MB", round(ARCHIVE_BYTES / _CHUNK)) as progress:
        while received <= ARCHIVE_BYTES and (chunk := answer.read(_CHUNK)):
            file.write(chunk)
            received += len(chunk)
            progress.update()
    return received


def _unpack(archive, graph):
    _check_size(archive, ARCHIVE_BYTES)
    data = read_archive(archive)
    with atomic_path(graph) as temporary:
        temporary.write_bytes(data)


def _check_size(path, expected):
    size = path.stat().st_size
    if size != expected:
        raise ExtractorError(
            f"{path}: {size:,} bytes, expected {expected:,}; delete it and fetch {URL} again"
        )


def _check_pin(graph):
    pin = graph.with_name(f"{GRAPH_NAME}.json")
    found = _digest(graph, "sha256")
    if not pin.exists():
        md5 = _digest(graph, "md5")
        if md5 != REPORTED_MD5:
            warn(f"{graph}: MD5 {md5}, a public source reports {REPORTED_MD5} (unverified)")
        write_json(pin, {"sha256": found, "bytes": graph.stat().st_size, "url": URL})
        say(f"{graph}: no sha256 was ever published; pinned {found} on first use, in {pin}")
        return
    try:
        pinned = json.loads(pin.read_text(encoding="utf-8"))["sha256"]
    except (KeyError, TypeError, ValueError):
        raise ExtractorError(f"{pin}: damaged; delete it to pin {GRAPH_NAME} anew") from None
    if found != pinned:
        raise ExtractorError(
            f"{graph}: sha256 {found} is not {pinned}, which {pin.name} pinned on first use; "
            "delete both and fetch the file again"
        )


def _digest(path, algorithm):
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
