"""Resizing: Pillow's own filter, TensorFlow's own kernel, and the aspect modes."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fid_med.data.preprocessing import Preprocessing, as_rgb_batch
from fid_med.errors import DataError, ExtractorError

RNG = np.random.default_rng(0)
SIZES = [(32, 32), (75, 75), (299, 299), (512, 384), (1, 40)]


def image(size, channels=3):
    return RNG.integers(0, 256, (*size, channels), dtype=np.uint8)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_antialias_is_pillows_bicubic_on_each_channel(size):
    pixels = image(size)
    obtained = Preprocessing(96, 120).apply(pixels)
    assert obtained.dtype == np.uint8
    for channel in range(3):
        grey = pixels[..., channel]
        expected = np.asarray(Image.fromarray(grey).resize((120, 96), Image.Resampling.BICUBIC))
        np.testing.assert_array_equal(obtained[..., channel], expected)
        np.testing.assert_array_equal(Preprocessing(96, 120).apply(grey), expected)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_tf1_is_tensorflows_bilinear_bit_for_bit(size):
    pixels = image(size)
    obtained = Preprocessing(resize="tf1").apply(pixels)
    assert obtained.dtype == np.float32
    expected = tf.compat.v1.image.resize_bilinear(pixels[None].astype(np.float32), (299, 299))
    np.testing.assert_array_equal(obtained, expected[0])


def test_tf1_of_any_size_is_that_of_the_graphs_op():
    rng = np.random.default_rng(11)
    for number in range(60):
        most = (6, 60, 299, 900)[number % 4]
        pixels = rng.integers(0, 256, (*rng.integers(1, most + 1, 2), 3), dtype=np.uint8)
        expected = tf.raw_ops.ResizeBilinear(
            images=pixels[None].astype(np.float32),
            size=[299, 299],
            align_corners=False,
            half_pixel_centers=False,
        )
        np.testing.assert_array_equal(Preprocessing(resize="tf1").apply(pixels), expected[0])


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_tf1_is_the_formula_of_the_graph(size):
    pixels = image(size).astype(np.float64)

    def along(axis, new):
        old = pixels.shape[axis]
        source = np.arange(new) * (old / new)
        low = np.floor(source).astype(int)
        return low, np.minimum(low + 1, old - 1), source - low

    top, bottom, down = along(0, 299)
    left, right, across = along(1, 299)
    down, across = down[:, None, None], across[None, :, None]
    upper = pixels[top][:, left] * (1 - across) + pixels[top][:, right] * across
    lower = pixels[bottom][:, left] * (1 - across) + pixels[bottom][:, right] * across
    expected = upper * (1 - down) + lower * down
    obtained = Preprocessing(resize="tf1").apply(pixels.astype(np.uint8))
    # The kernel computes the source index in float32: off by 2e-5 of a pixel at index 300.
    np.testing.assert_allclose(obtained, expected, atol=1e-2)


@pytest.mark.parametrize("resize", ["antialias", "tf1"])
@pytest.mark.parametrize(("size", "box"), [((40, 80), (48, 96)), ((80, 40), (96, 48))])
def test_pad_keeps_the_aspect_and_centres_on_black(resize, size, box):
    pixels = np.full((*size, 3), 200, np.uint8)
    padded = Preprocessing(96, 96, resize=resize, aspect="pad").apply(pixels)
    top, left = (96 - box[0]) // 2, (96 - box[1]) // 2
    expected = np.zeros((96, 96, 3))
    expected[top : top + box[0], left : left + box[1]] = 200
    np.testing.assert_array_equal(padded, expected)


def test_pad_of_a_very_thin_image_keeps_a_line():
    padded = Preprocessing(96, 96, aspect="pad").apply(np.full((1, 1000), 200, np.uint8))
    assert padded.shape == (96, 96)
    assert (padded == 200).all(axis=1).sum() == 1


def test_an_image_of_the_right_size_is_not_changed():
    pixels = image((96, 96))
    for aspect in ("stretch", "pad"):
        np.testing.assert_array_equal(Preprocessing(96, 96, aspect=aspect).apply(pixels), pixels)


def test_round_trip_through_json_fields():
    preprocessing = Preprocessing(96, 80, "tf1", "pad", 1 / 128, -1.0)
    assert Preprocessing.from_dict(preprocessing.to_dict()) == preprocessing
    with pytest.raises(ExtractorError, match="sharpen"):
        Preprocessing.from_dict({"sharpen": True})


def test_channel_statistics_are_stored_only_where_set():
    assert set(Preprocessing().to_dict()).isdisjoint({"mean", "std", "channels"})
    preprocessing = Preprocessing(96, 80, mean=[103.939, 116.779, 123], channels="bgr")
    fields = json.loads(json.dumps(preprocessing.to_dict()))
    assert fields["mean"] == [103.939, 116.779, 123.0]
    assert "std" not in fields
    assert Preprocessing.from_dict(fields) == preprocessing
    assert hash(Preprocessing.from_dict(fields)) == hash(preprocessing)


def test_scale_and_offset_combine_with_the_channels_mean_and_std():
    assert Preprocessing().affine() == (1 / 127.5, -1.0)
    mean, std = (10.0, 20.0, 30.0), (2.0, 4.0, 8.0)
    pixels = image((5, 4)).astype(float)
    for given in ({"mean": mean}, {"std": std}, {"mean": mean, "std": std}):
        scale, offset = Preprocessing(scale=1 / 255, offset=0.5, **given).affine()
        expected = (pixels - given.get("mean", 0)) / given.get("std", 1) / 255 + 0.5
        np.testing.assert_allclose(pixels * scale + offset, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mean": (1.0, 2.0)}, "mean .*expected three finite numbers"),
        ({"mean": 3.0}, "mean 3.0: expected three finite numbers"),
        ({"mean": (0.0, float("nan"), 0.0)}, "expected three finite numbers"),
        ({"std": (1.0, 0.0, 1.0)}, "std .*expected three positive finite numbers"),
        ({"std": (1.0, -1.0, 1.0)}, "expected three positive finite numbers"),
        ({"std": ("1", "1", "1")}, "expected three positive finite numbers"),
        ({"channels": "grey"}, "channels 'grey': expected one of rgb, bgr"),
    ],
    ids=str,
)
def test_invalid_channel_fields_are_refused(fields, message):
    with pytest.raises(DataError, match=message):
        Preprocessing(**fields)


def test_unknown_modes_are_refused():
    with pytest.raises(DataError, match="best"):
        Preprocessing(resize="best")
    with pytest.raises(DataError, match="crop"):
        Preprocessing(aspect="crop")


def test_batch_repeats_grey():
    grey, rgb = image((5, 4))[..., 0], image((5, 4))
    batch = as_rgb_batch([grey, rgb])
    np.testing.assert_array_equal(batch[0], np.repeat(grey[..., None], 3, axis=-1))
    np.testing.assert_array_equal(batch[1], rgb)


@pytest.mark.parametrize("aspect", ["stretch", "pad"])
def test_tf1_of_grey_equals_that_of_repeated_channels(aspect):
    grey = image((40, 60))[..., 0]
    preprocessing = Preprocessing(96, 96, "tf1", aspect)
    expected = preprocessing.apply(np.repeat(grey[..., None], 3, axis=-1))
    np.testing.assert_array_equal(preprocessing.apply(grey), expected)


@pytest.mark.parametrize("resize", ["antialias", "tf1"])
def test_pad_of_any_shape_fills_one_side_and_keeps_the_ratio(resize):
    for _ in range(40):
        size = RNG.integers(1, 400, 2)
        white = np.full(size, 255, np.uint8)
        padded = Preprocessing(32, 48, resize, "pad").apply(white)
        padded = padded if padded.ndim == 2 else padded[..., 0]
        rows, columns = np.flatnonzero(padded.any(axis=1)), np.flatnonzero(padded.any(axis=0))
        inner = padded[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert (inner == 255).all()
        assert inner.shape[0] == 32 or inner.shape[1] == 48
        shrink = min(32 / size[0], 48 / size[1])
        for side, length in zip(inner.shape, size, strict=True):
            assert abs(side - max(1, length * shrink)) <= 0.5 + 1e-9
        for found, side in ((rows, 32), (columns, 48)):
            assert abs(found[0] - (side - 1 - found[-1])) <= 1


def test_pad_is_the_stretched_box_on_black():
    pixels = image((30, 90))
    padded = Preprocessing(64, 60, aspect="pad").apply(pixels)
    np.testing.assert_array_equal(padded[22:42], Preprocessing(20, 60).apply(pixels))
    assert not padded[:22].any()
    assert not padded[42:].any()


def test_missing_fields_are_refused():
    fields = Preprocessing(96, 80, "tf1", "pad").to_dict()
    for name in fields:
        with pytest.raises(ExtractorError, match="preprocessing"):
            Preprocessing.from_dict({key: fields[key] for key in fields if key != name})


def test_input_is_not_changed():
    pixels = image((96, 96))
    before = pixels.copy()
    for resize in ("antialias", "tf1"):
        Preprocessing(96, 96, resize, "pad").apply(pixels)[...].sum()
        as_rgb_batch([pixels])[...] = 0
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize(
    "fields",
    [
        {"height": 0},
        {"width": -3},
        {"height": 75.0},
        {"width": "299"},
        {"height": True},
        {"scale": float("nan")},
        {"offset": float("inf")},
        {"scale": None},
    ],
    ids=str,
)
def test_invalid_sizes_and_scales_are_refused(fields):
    with pytest.raises(DataError, match=r"image size|scale"):
        Preprocessing(**fields)


@pytest.mark.parametrize("fields", [None, [], "antialias", 3], ids=str)
def test_json_that_is_not_an_object_is_refused(fields):
    with pytest.raises(ExtractorError, match="expected its fields"):
        Preprocessing.from_dict(fields)
