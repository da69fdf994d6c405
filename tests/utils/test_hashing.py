"""Hashing: what must and what must not change a digest."""

import hashlib
import hmac
import inspect

import numpy as np
import pytest

from fid_med.data.preprocessing import Preprocessing
from fid_med.errors import DataError
from fid_med.utils.hashing import ImageHasher, extractor_fingerprint, file_digest

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 9), dtype=np.uint8)
RGB = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
HASHER = ImageHasher("ab" * 16)


@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
def test_image_digest_does_not_depend_on_memory_layout(pixels):
    expected = HASHER.digest(pixels)
    assert HASHER.digest(np.asfortranarray(pixels)) == expected
    assert HASHER.digest(np.repeat(pixels, 2, axis=0)[::2]) == expected
    assert HASHER.digest(pixels[::-1][::-1]) == expected


@pytest.mark.parametrize("key", ["", "ab" * 15, "zz" * 16, None, 3], ids=str)
def test_a_short_or_invalid_key_is_refused(key):
    with pytest.raises(DataError, match="32 hex digits"):
        ImageHasher(key)


def test_single_channel_counts_as_grey():
    assert HASHER.digest(GREY[..., None]) == HASHER.digest(GREY)


def test_image_digest_depends_on_the_order_of_channels():
    assert HASHER.digest(RGB) != HASHER.digest(RGB[..., ::-1])


def test_every_single_pixel_counts():
    digests = {HASHER.digest(GREY)}
    for i in range(GREY.size):
        changed = GREY.copy()
        changed.flat[i] ^= 1
        digests.add(HASHER.digest(changed))
    assert len(digests) == GREY.size + 1


def test_image_digest_is_half_an_hmac_sha256():
    # Extractors store digests: another formula would match none of them, without an error.
    message = b"(6, 9)" + GREY.tobytes()
    expected = hmac.new(b"\xab" * 16, message, hashlib.sha256).hexdigest()[:32]
    assert HASHER.digest(GREY) == expected


def test_the_digest_of_blank_images_depends_on_their_shape():
    shapes = [(4, 4), (2, 8), (8, 2), (1, 16), (16, 1)]
    assert len({HASHER.digest(np.zeros(shape, np.uint8)) for shape in shapes}) == len(shapes)


def test_equal_weights_of_any_float_type_and_layout_have_one_fingerprint():
    weights = RNG.integers(-8, 8, (3, 4)) / 8  # exact in every float type
    expected = extractor_fingerprint("net", [weights], {})
    assert len(expected) == 64
    for dtype in ("f2", "<f4", ">f4", ">f8"):
        assert extractor_fingerprint("net", [weights.astype(dtype)], {}) == expected
    assert extractor_fingerprint("net", [np.asfortranarray(weights)], {}) == expected
    assert extractor_fingerprint("net", iter([weights]), {}) == expected


def test_float64_weights_count_as_the_float32_that_the_network_uses():
    weights = RNG.normal(size=(3, 4))
    rounded = weights.astype(np.float32)
    expected = extractor_fingerprint("net", [rounded], {})
    assert extractor_fingerprint("net", [weights], {}) == expected
    next_above = rounded.copy()
    next_above[2, 3] = np.nextafter(next_above[2, 3], np.float32(9))
    assert extractor_fingerprint("net", [next_above], {}) != expected


def test_preprocessing_counts_field_by_field_but_not_in_its_order():
    fields = Preprocessing().to_dict()
    expected = extractor_fingerprint("net", [], fields)
    assert extractor_fingerprint("net", [], dict(reversed(fields.items()))) == expected
    changes = {
        "height": 298, "width": 298, "resize": "tf1", "aspect": "pad", "scale": 1.0, "offset": 0.0,
        "mean": [1.0, 2.0, 3.0], "std": [1.0, 2.0, 3.0], "channels": "bgr",
    }  # fmt: skip
    assert list(changes) == list(inspect.signature(Preprocessing).parameters)
    others = {extractor_fingerprint("net", [], fields | {key: changes[key]}) for key in changes}
    assert len(others | {expected}) == len(changes) + 1


@pytest.mark.parametrize(
    ("preprocessing", "expected"),
    [
        (
            Preprocessing(),
            "181195ed4e22a848372b1ce34e62cd1e8e3656954f57913e450f6d0f09f8ae29",
        ),
        (
            Preprocessing(96, 80, "tf1", "pad", 1 / 128, 0.5),
            "fd725756f7fda7b172a12a00dd73d2c69346a104e5f808ab6114ecb8afd7bf6c",
        ),
    ],
    ids=["default", "all fields"],
)
def test_fingerprints_written_before_mean_and_std_existed_stay(preprocessing, expected):
    weights = [np.arange(24).reshape(2, 3, 4) / 8, np.array([-1.5, 0.25])]
    fields = preprocessing.to_dict()
    assert extractor_fingerprint("inception_v3", weights, fields) == expected


def test_file_digest_is_that_of_hashlib(tmp_path):
    (tmp_path / "x").write_bytes(b"abc" * 1_000_000)
    for algorithm in ("md5", "sha256"):
        expected = hashlib.new(algorithm, b"abc" * 1_000_000).hexdigest()
        assert file_digest(tmp_path / "x", algorithm) == expected


def test_how_weights_are_cut_into_arrays_counts():
    weights = np.ones(4)
    whole = extractor_fingerprint("net", [weights], {})
    assert extractor_fingerprint("net", [weights[:2], weights[2:]], {}) != whole
    assert extractor_fingerprint("net", [weights, np.ones(0)], {}) != whole
