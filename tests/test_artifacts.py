"""Files whole or not at all, and the identity of images and extractors."""

import os
import stat

import numpy as np
import pytest

from fid_med.artifacts import atomic_path, check_writable, versions, write_json
from fid_med.fingerprints import ImageHasher, extractor_fingerprint


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
