"""Files whole or not at all, and the identity of images and extractors."""

import errno
import json
import os
import pathlib
import re
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest
from helpers.script_runs import ROOT

from fid_med.data.datasets.csv_tables import read_rows
from fid_med.data.split_files import read_splits
from fid_med.errors import DataError
from fid_med.study.ratings import read_ratings
from fid_med.utils import files
from fid_med.utils.files import (
    atomic_path,
    check_writable,
    check_writable_folder,
    sweep_partials,
    versions,
    write_json,
)
from fid_med.utils.hashing import ImageHasher, extractor_fingerprint


def test_atomic_write_replaces_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "new" / "x.png"
    for content in (b"one", b"two"):
        with atomic_path(path) as temporary:
            assert temporary.suffix == ".png"
            temporary.write_bytes(content)
        assert path.read_bytes() == content
    assert os.listdir(path.parent) == ["x.png"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"fid": 1.0})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"fid": float("nan")})

    def interrupted():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == '{\n  "fid": 1.0\n}\n'
    assert os.listdir(tmp_path) == ["x.json"]


def test_check_writable(tmp_path):
    check_writable(tmp_path / "a" / "b.json")
    assert os.listdir(tmp_path / "a") == []
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "file" / "x", tmp_path):
        with pytest.raises(OSError, match=str(wrong.name)):
            check_writable(wrong)


def test_check_writable_folder(tmp_path):
    check_writable_folder(tmp_path / "a" / "b")
    assert os.listdir(tmp_path / "a") == ["b"]
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file: is a file, expected a folder"):
        check_writable_folder(tmp_path / "file")


def _read_labels(path):
    return read_rows(pathlib.Path(path))


def _read_ratings(path):
    return read_ratings(path, {"gan"})


@pytest.mark.parametrize("read", [_read_labels, read_splits, _read_ratings])
def test_a_device_is_no_table(read):
    """It would fill the memory, as its first line has no end."""
    with pytest.raises(DataError, match=r"/dev/zero: .* device, not a file"):
        read("/dev/zero")


def test_versions_name_what_results_depend_on():
    import numpy
    import tensorflow

    assert versions()["numpy"] == numpy.__version__
    assert versions()["tensorflow"] == tensorflow.__version__


def test_image_digest_is_of_pixels_alone():
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (6, 9), dtype=np.uint8)
    hasher = ImageHasher("ab" * 16)
    digest = hasher.digest(grey)
    assert digest == hasher.digest(np.repeat(grey[..., None], 3, axis=-1))
    changed = grey.copy()
    changed[3, 3] ^= 1
    others = [changed, grey.reshape(9, 6), grey.T, np.stack([grey, grey, changed], axis=-1)]
    digests = {hasher.digest(other) for other in others}
    assert len(digests) == len(others)
    assert digest not in digests
    assert ImageHasher("cd" * 16).digest(grey) != digest


def test_fingerprint_depends_on_all_that_decides_features():
    one, two = np.arange(6.0).reshape(2, 3), np.ones(4)
    fingerprint = extractor_fingerprint("net", [one, two], {"height": 8})
    assert fingerprint == extractor_fingerprint("net", [one.astype("f4"), two], {"height": 8})
    others = {
        extractor_fingerprint("other", [one, two], {"height": 8}),
        extractor_fingerprint("net", [two, one], {"height": 8}),
        extractor_fingerprint("net", [one.T, two], {"height": 8}),
        extractor_fingerprint("net", [one.reshape(3, 2), two], {"height": 8}),
        extractor_fingerprint("net", [one + 1e-5, two], {"height": 8}),
        extractor_fingerprint("net", [one, two], {"height": 9}),
    }
    assert len(others) == 6
    assert fingerprint not in others


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(umask, mode, tmp_path):
    before = os.umask(umask)
    try:
        write_json(tmp_path / "x.json", {})
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.json").stat().st_mode) == mode


def test_a_file_name_that_is_no_utf8_does_not_spoil_the_result(tmp_path):
    # As os.fsdecode gives a name in Latin-1, which old archives from hospitals hold.
    value = {"warnings": ["skipped: R\udcf6ntgen.png: cannot be read", "Röntgen"]}
    write_json(tmp_path / "x.json", value)
    content = (tmp_path / "x.json").read_bytes().decode("utf-8")
    assert "Röntgen" in content
    assert json.loads(content) == value


def test_the_old_file_stays_whole_until_the_new_one_is(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, [1])
    with atomic_path(path) as temporary:
        temporary.write_text("[2]")
        assert json.loads(path.read_text()) == [1]
        assert temporary.parent == path.parent  # one file system, or the move would not be atomic
        assert temporary.name.startswith(".")
    assert json.loads(path.read_text()) == [2]


@pytest.mark.parametrize("value", [float("inf"), {1, 2}, np.arange(2)])
def test_what_json_cannot_hold_leaves_no_file(value, tmp_path):
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "new" / "x.json", {"fid": value})
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("missing", [False, True])
def test_a_link_stays_and_its_target_is_replaced(missing, tmp_path):
    target, link = tmp_path / "far" / "x.json", tmp_path / "link.json"
    link.symlink_to("far/x.json")
    if not missing:
        write_json(target, [1])
    check_writable(link)
    write_json(link, [2])
    assert link.is_symlink()
    assert json.loads(target.read_text()) == [2]
    assert os.listdir(target.parent) == ["x.json"]
    assert sorted(os.listdir(tmp_path)) == ["far", "link.json"]


def test_a_pipe_is_written_to_and_stays(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_writable(pipe)
    with pytest.raises(OSError, match=r"nothing reads from this named pipe.*pipe"):
        write_json(pipe, [1])
    value = list(range(20_000))  # more than a pipe holds
    handle = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # the thread below may be late
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_json(pipe, value)
    reader.join(30)
    os.close(handle)
    assert json.loads(read[0]) == value
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


def test_devices_are_written_to_and_stay():
    before = os.stat(os.devnull)
    check_writable(os.devnull)
    write_json(os.devnull, [1])
    assert (os.stat(os.devnull).st_ino, os.stat(os.devnull).st_mode) == (
        before.st_ino,
        before.st_mode,
    )
    with pytest.raises(OSError, match="'/dev/full'") as error:
        write_json("/dev/full", [1])
    assert error.value.errno == errno.ENOSPC


@pytest.mark.parametrize("piped", [False, True])
def test_standard_output_keeps_what_was_printed_before_and_after(piped, tmp_path):
    code = """
from fid_med.utils.files import write_json
print("before")
write_json("/dev/stdout", [1])
print("after")
"""
    command, environment = [sys.executable, "-c", code], os.environ | {"PYTHONPATH": str(ROOT)}
    if piped:
        said = subprocess.run(command, env=environment, capture_output=True, check=True).stdout
    else:
        with open(tmp_path / "out", "wb") as output:
            subprocess.run(command, env=environment, stdout=output, check=True)
        said = (tmp_path / "out").read_bytes()
    assert said == b"before\n[\n  1\n]\nafter\n"


def test_a_failed_write_names_its_path_and_not_the_temporary_file(tmp_path, monkeypatch):
    path = tmp_path / "x.json"

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=re.escape(f"No space left on device: '{path}'")):
            write_json(path, [1])

    def refused(**options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), f"{options['dir']}/.abc")

    monkeypatch.setattr(files.tempfile, "mkstemp", refused)
    with pytest.raises(PermissionError, match=re.escape(f"Permission denied: '{path}'")):
        write_json(path, [1])
    assert not os.listdir(tmp_path)


def test_a_folder_removed_meanwhile_is_made_again(tmp_path):
    path = tmp_path / "folder" / "x.json"
    check_writable(path)
    path.parent.rmdir()
    write_json(path, [1])
    assert json.loads(path.read_text()) == [1]


def test_only_abandoned_files_of_ours_are_swept(tmp_path):
    with subprocess.Popen(["true"]) as ended:
        pass
    running, system = os.getppid(), files._system()
    swept = [
        f".0abc_123.{ended.pid}-{system}.partial.json",  # its process is gone
        ".0abc_123.1-00000000.partial.npz*",  # an old one of another system
        ".0abc_123.partial.npz*",  # an old one of an earlier version
        ".0abc_123.partial*",
    ]
    kept = [
        f".0abc_123.{running}-{system}.partial.json*",  # its process runs
        f".0abc_123.{os.getpid()}-{system}.partial.json*",
        f".0abc_123.{ended.pid}-00000000.partial.json",  # perhaps it runs on another computer
        ".0abc_123.partial.npz",
        "x.partial.npz*",
        ".hidden.npz*",
        ".partial.npz*",
    ]
    for name in (*swept, *kept):
        path = tmp_path / name.removesuffix("*")
        path.write_bytes(b"half")
        if name.endswith("*"):
            os.utime(path, (0, 0))
        # The first and the last name that differ only by age would be one file.
        if name == ".0abc_123.partial.npz*":
            sweep_partials(tmp_path)
            assert not path.exists()
    sweep_partials(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(name.removesuffix("*") for name in kept)


def test_a_killed_write_is_swept_by_the_next_run(tmp_path):
    code = f"""
import os, signal
from fid_med.utils.files import atomic_path
with atomic_path({str(tmp_path / "x.json")!r}) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    (left,) = os.listdir(tmp_path)
    assert left.endswith(".partial.json")
    write_json(tmp_path / "y.json", [1])
    assert os.listdir(tmp_path) == ["y.json"]
