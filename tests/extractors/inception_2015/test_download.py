"""The published file: cache, download, archive and pin; files that cannot be trusted."""

import gzip
import io
import json
import os
import tarfile
import urllib.error

import pytest

from fid_med.errors import ExtractorError
from fid_med.extractors.inception_2015 import download
from fid_med.extractors.inception_2015.download import (
    ARCHIVE_NAME,
    GRAPH_NAME,
    ensure_graph,
    read_graph,
)

GRAPH = bytes(range(256)) * 400


def archive(*members):
    """Makes a .tgz of members (name, bytes), or (name, type, target) for links."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, *rest in members:
            info = tarfile.TarInfo(name)
            if len(rest) == 1:
                info.size = len(rest[0])
                tar.addfile(info, io.BytesIO(rest[0]))
            else:
                info.type, info.linkname = rest
                tar.addfile(info)
    return buffer.getvalue()


PUBLISHED = archive(("LICENSE", b"Apache"), (f"./{GRAPH_NAME}", GRAPH), ("cropped_panda.jpg", b"x"))


@pytest.fixture(autouse=True)
def published(monkeypatch):
    """Makes the small files of this module the published ones, and the network unreachable."""
    monkeypatch.setattr(download, "ARCHIVE_BYTES", len(PUBLISHED))
    monkeypatch.setattr(download, "GRAPH_BYTES", len(GRAPH))
    monkeypatch.setattr(download, "_MOST_BYTES", 4 * len(GRAPH))
    answer_with(monkeypatch, urllib.error.URLError("Name or service not known"))


def answer_with(monkeypatch, answer):
    def urlopen(url, timeout):
        assert url == download.URL
        assert timeout > 0
        if isinstance(answer, Exception):
            raise answer
        return io.BytesIO(answer)

    monkeypatch.setattr("urllib.request.urlopen", urlopen)


def test_it_is_downloaded_once_and_pinned(monkeypatch, tmp_path, capsys):
    answer_with(monkeypatch, PUBLISHED)
    path = ensure_graph(tmp_path / "cache")
    assert path.read_bytes() == GRAPH
    assert sorted(os.listdir(path.parent)) == [GRAPH_NAME, f"{GRAPH_NAME}.json"]
    said = capsys.readouterr().err
    assert "no sha256 was ever published; pinned" in said
    assert "warning" in said
    assert "e6bb154e85f5d4331c22abcddb5dcf31" in said
    answer_with(monkeypatch, AssertionError("asked again"))
    assert ensure_graph(tmp_path / "cache") == path
    assert capsys.readouterr().err == ""


def test_the_cache_is_where_the_variable_says(monkeypatch, tmp_path):
    monkeypatch.setenv("FID_MED_CACHE", str(tmp_path / "elsewhere"))
    answer_with(monkeypatch, PUBLISHED)
    assert ensure_graph() == tmp_path / "elsewhere" / GRAPH_NAME
    monkeypatch.delenv("FID_MED_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert download.cache_folder() == tmp_path / ".cache" / "fid_med"


@pytest.mark.parametrize(("name", "data"), [(ARCHIVE_NAME, PUBLISHED), (GRAPH_NAME, GRAPH)])
def test_a_file_put_there_by_hand_is_used(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    assert ensure_graph(tmp_path).read_bytes() == GRAPH


def test_a_graph_that_changed_since_is_refused(tmp_path):
    path = tmp_path / GRAPH_NAME
    path.write_bytes(GRAPH)
    ensure_graph(tmp_path)
    path.write_bytes(GRAPH[::-1])
    with pytest.raises(ExtractorError, match=r"sha256 .* is not .* pinned on first use; delete"):
        ensure_graph(tmp_path)
    for damaged in ("{", "[]", "{}", "[" * 100_000):
        (tmp_path / f"{GRAPH_NAME}.json").write_text(damaged)
        with pytest.raises(ExtractorError, match="damaged; delete it to pin"):
            ensure_graph(tmp_path)


def test_a_pin_states_size_and_url(tmp_path):
    (tmp_path / GRAPH_NAME).write_bytes(GRAPH)
    ensure_graph(tmp_path)
    pin = json.loads((tmp_path / f"{GRAPH_NAME}.json").read_text())
    assert pin["bytes"] == len(GRAPH)
    assert pin["url"] == download.URL
    assert len(pin["sha256"]) == 64


def test_without_internet_it_says_what_to_put_where(tmp_path):
    with pytest.raises(ExtractorError) as refusal:
        ensure_graph(tmp_path)
    said = str(refusal.value)
    assert "\n" not in said
    for part in (download.URL, "Name or service not known", ARCHIVE_NAME, GRAPH_NAME):
        assert part in said
    assert said.endswith(str(tmp_path))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("data", [PUBLISHED[:-9], PUBLISHED + b"more", b""], ids=len)
def test_a_download_of_another_size_leaves_nothing(monkeypatch, tmp_path, data):
    answer_with(monkeypatch, data)
    with pytest.raises(ExtractorError, match="bytes, expected"):
        ensure_graph(tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("name", "data"), [(ARCHIVE_NAME, PUBLISHED), (GRAPH_NAME, GRAPH)])
def test_a_file_of_another_size_in_the_cache_is_refused(tmp_path, name, data):
    (tmp_path / name).write_bytes(data[:-1])
    with pytest.raises(ExtractorError, match=rf"{name}: [\d,]+ bytes, expected .* delete it"):
        ensure_graph(tmp_path)
    assert os.listdir(tmp_path) == [name]


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExtractorError, match=r"cannot be written .* set FID_MED_CACHE"):
        ensure_graph(tmp_path / "file")


def test_graph_and_archive_give_the_same_bytes(tmp_path):
    for name, data in (("a.pb", GRAPH), ("a.tgz", PUBLISHED)):
        (tmp_path / name).write_bytes(data)
        assert read_graph(tmp_path / name) == GRAPH


MALICIOUS = {
    "climbing": ([(f"../{GRAPH_NAME}", GRAPH)], "points outside"),
    "second climbing": (
        [(GRAPH_NAME, GRAPH), ("../../evil", b"x")],
        "'../../evil' points outside",
    ),
    "absolute": ([(f"/tmp/{GRAPH_NAME}", GRAPH)], "points outside"),
    "drive": ([("C:\\evil", b"x"), (GRAPH_NAME, GRAPH)], "points outside"),
    "symlink": ([(GRAPH_NAME, tarfile.SYMTYPE, "/etc/passwd")], "is not a regular file"),
    "hard link": ([(GRAPH_NAME, tarfile.LNKTYPE, "LICENSE")], "is not a regular file"),
    "fifo": ([(GRAPH_NAME, tarfile.FIFOTYPE, "")], "is not a regular file"),
    "folder": ([(GRAPH_NAME, tarfile.DIRTYPE, "")], "is not a regular file"),
    "huge": ([(GRAPH_NAME, bytes(5 * len(GRAPH)))], "claims"),
    "second huge": ([(GRAPH_NAME, GRAPH), ("zeros", bytes(5 * len(GRAPH)))], "claims"),
    "twice": ([(GRAPH_NAME, GRAPH), (f"a/{GRAPH_NAME}", GRAPH)], "twice"),
    "without": ([("LICENSE", b"Apache")], f"contains no {GRAPH_NAME}"),
}


@pytest.mark.parametrize("case", MALICIOUS)
def test_a_malicious_archive_is_refused_and_writes_nothing(monkeypatch, tmp_path, case):
    members, said = MALICIOUS[case]
    cache = tmp_path / "inner" / "cache"
    cache.mkdir(parents=True)
    data = archive(*members)
    monkeypatch.setattr(download, "ARCHIVE_BYTES", len(data))
    answer_with(monkeypatch, data)
    with pytest.raises(ExtractorError, match=said) as refusal:
        ensure_graph(cache)
    assert "\n" not in str(refusal.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file() or path.is_symlink()] == []


def test_a_length_is_refused_before_it_is_unpacked(tmp_path):
    info = tarfile.TarInfo(GRAPH_NAME)
    info.size = 1 << 40
    path = tmp_path / "huge.tgz"
    path.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT)))
    with pytest.raises(ExtractorError, match=r"huge\.tgz: claims 1,099,511,6"):
        read_graph(path)
    path.write_bytes(gzip.compress(gzip.decompress(PUBLISHED) + bytes(64 * len(GRAPH))))
    with pytest.raises(ExtractorError, match=r"huge\.tgz: claims"):
        read_graph(path)


def test_a_truncated_archive_is_refused(tmp_path):
    path = tmp_path / "cut.tgz"
    for end in (5, 60, len(PUBLISHED) // 2, -20, -4):
        path.write_bytes(PUBLISHED[:end])
        with pytest.raises(ExtractorError, match=r"cut\.tgz: truncated, or not a tar archive"):
            read_graph(path)
    path.write_bytes(b"\x1f\x8b" + bytes(100))
    with pytest.raises(ExtractorError, match=r"cut\.tgz: truncated, or not a tar archive"):
        read_graph(path)
