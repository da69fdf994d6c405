"""Files whole or not at all, and the identity of images and extractors."""

import json
import os
import stat

import numpy as np
import pytest

from fid_med.utils.files import atomic_path, check_writable, versions, write_json
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
