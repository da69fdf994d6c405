"""The published file of the 2015-12-05 network: its cache, its download, its content."""

import json
import os
import pathlib
import tarfile
import zlib

from fid_med.errors import DataError, ExtractorError
from fid_med.utils.download import fetch
from fid_med.utils.files import atomic_path, check_writable, write_json
from fid_med.utils.hashing import file_digest
from fid_med.utils.progress import say, warn

ARCHIVE_NAME = "inception-2015-12-05.tgz"
GRAPH_NAME = "classify_image_graph_def.pb"
URL = f"https://download.tensorflow.org/models/image/imagenet/{ARCHIVE_NAME}"
ARCHIVE_BYTES = 88_931_400
GRAPH_BYTES = 95_673_916
# Reported by one public source and confirmed by none, so a difference is a warning, not an error.
REPORTED_MD5 = "e6bb154e85f5d4331c22abcddb5dcf31"
CACHE_VARIABLE = "FID_MED_CACHE"
_MOST_BYTES = 4 * GRAPH_BYTES  # unpacked; only a crafted archive claims more
_CHUNK = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"


def cache_folder() -> pathlib.Path:
    """Returns the folder of downloads: the variable FID_MED_CACHE, or `~/.cache/fid_med`."""
    given = os.environ.get(CACHE_VARIABLE)
    return pathlib.Path(given) if given else pathlib.Path.home() / ".cache" / "fid_med"


def ensure_graph(cache_dir=None) -> pathlib.Path:
    """Finds the published GraphDef in the cache, or downloads it once.

    The user may also put the archive, or the graph taken out of it, into the cache by hand. Sizes
    are checked. No SHA-256 was published: the first use writes the graph's SHA-256 to a JSON file
    next to it and reports that, and every later use checks it.

    Args:
      cache_dir: the cache, by default `cache_folder()`.

    Returns:
      The path of `classify_image_graph_def.pb`.

    Raises:
      ExtractorError: the download failed, a file has a wrong size, the archive cannot be trusted,
        or the SHA-256 differs from that of the first use.
    """
    folder = pathlib.Path(cache_dir) if cache_dir is not None else cache_folder()
    graph, archive = folder / GRAPH_NAME, folder / ARCHIVE_NAME
    if not graph.exists():
        _check_cache(graph)
        downloaded = not archive.exists()
        if downloaded:
            _download(archive)
        try:
            _unpack(archive, graph)
        finally:
            if downloaded:
                archive.unlink()
    _check_size(graph, GRAPH_BYTES)
    _check_pin(graph)
    return graph


def read_graph(path) -> bytes:
    """Reads the serialised GraphDef from a `.pb` file, or from a tar archive that contains it.

    Raises:
      ExtractorError: the file cannot be read, or the archive cannot be trusted.
    """
    try:
        with open(path, "rb") as file:
            if file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC:
                return _read_archive(path)
            file.seek(0)
            return file.read()
    except OSError as error:
        raise ExtractorError(f"{path}: cannot be read ({error.strerror or error})") from None


def _read_archive(path):
    """Reads the GraphDef inside an archive. Nothing is extracted to disk."""
    found = None
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                _check_member(path, member)
                _check_length(path, member.offset_data + member.size)
                if _base_name(member) != GRAPH_NAME:
                    continue
                if found is not None:
                    raise ExtractorError(f"{path}: contains {GRAPH_NAME} twice; fetch {URL}")
                found = archive.extractfile(member).read()
            while archive.fileobj.read(_CHUNK):  # tarfile stops before gzip's checksum
                _check_length(path, archive.fileobj.tell())
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise ExtractorError(
            f"{path}: truncated, or not a tar archive ({error}); fetch {URL} again"
        ) from None
    if found is None:
        raise ExtractorError(f"{path}: contains no {GRAPH_NAME}; fetch {URL}")
    return found


def _check_member(path, member):
    parts = member.name.replace("\\", "/").split("/")
    if parts[0] == "" or parts[0].endswith(":") or ".." in parts:
        raise ExtractorError(
            f"{path}: member {member.name!r} points outside of the archive; do not trust this "
            f"file, fetch {URL}"
        )
    if _base_name(member) == GRAPH_NAME and not member.isreg():
        raise ExtractorError(f"{path}: {member.name} is not a regular file; fetch {URL}")


def _check_length(path, length):
    """Rejects a length before that many bytes are unpacked: gzip packs zeros a thousandfold."""
    if length > _MOST_BYTES:
        raise ExtractorError(
            f"{path}: claims {length:,} bytes or more unpacked, but {GRAPH_NAME} has "
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
            "to a folder that you can write to"
        ) from None


def _download(archive):
    by_hand = f"put {ARCHIVE_NAME}, or {GRAPH_NAME} taken out of it, into {archive.parent}"
    try:
        fetch(URL, archive, size=ARCHIVE_BYTES, by_hand=by_hand)
    except DataError as error:
        raise ExtractorError(str(error)) from None


def _unpack(archive, graph):
    _check_size(archive, ARCHIVE_BYTES)
    data = _read_archive(archive)
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
    found = file_digest(graph, "sha256")
    if not pin.exists():
        md5 = file_digest(graph, "md5")
        if md5 != REPORTED_MD5:
            warn(f"{graph}: MD5 {md5}, a public source reports {REPORTED_MD5} (unverified)")
        write_json(pin, {"sha256": found, "bytes": graph.stat().st_size, "url": URL})
        say(f"{graph}: no sha256 was ever published; pinned {found} on first use, in {pin}")
        return
    try:
        pinned = json.loads(pin.read_text(encoding="utf-8"))["sha256"]
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ExtractorError(f"{pin}: damaged; delete it to pin {GRAPH_NAME} again") from None
    if found != pinned:
        raise ExtractorError(
            f"{graph}: sha256 {found} is not {pinned}, which {pin.name} pinned on first use; "
            "delete both and fetch the file again"
        )
