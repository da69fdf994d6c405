"""Whole Keras models around an InceptionV3, as tutorials write them."""

import keras
import numpy as np
import pytest
from helpers import rounding

from fid_med.data.preprocessing import Preprocessing
from fid_med.errors import ExtractorError
from fid_med.extractors import inception_v3
from fid_med.extractors.registry import load_extractor
from fid_med.extractors.whole_model import check_same_features, observe, softmax_logits


def _network(before=(), channels=3, pool=keras.layers.GlobalAveragePooling2D, size=4):
    """A network with InceptionV3's first layer and its 2,048 last channels, and little between."""
    images = keras.Input((size, size, channels))
    scaled = images
    for change in before:
        scaled = change(scaled)
    halves = [keras.layers.Conv2D(1024, 1)(scaled) for _ in range(2)]
    last = keras.layers.Concatenate()(halves)
    classes = keras.layers.Dense(3, activation="softmax")(pool()(last))
    return keras.Model(images, classes)


def _normalise(x):
    layer = keras.layers.Normalization(mean=[10.0, 20.0, 30.0], variance=[4.0, 16.0, 64.0])
    return layer(x)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ([], {}),
        ([keras.layers.Rescaling(1 / 255)], {"scale": 1 / 255, "offset": 0.0}),
        ([keras.layers.Rescaling(0.3, 7)], {"scale": 0.3, "offset": 7.0}),
        ([keras.applications.inception_v3.preprocess_input], {}),
        ([lambda x: x / 255], {"scale": 1 / 255, "offset": 0.0}),
        (
            [lambda x: x * 2, keras.layers.Rescaling(0.25, 1)],
            {"scale": 0.5, "offset": 1.0},
        ),
        (
            [_normalise],
            {"scale": 1.0, "offset": 0.0, "mean": (10.0, 20.0, 30.0), "std": (2.0, 4.0, 8.0)},
        ),
        (
            [lambda x: keras.ops.flip(x, -1), keras.layers.Rescaling(1 / 255)],
            {"scale": 1 / 255, "offset": 0.0, "channels": "bgr"},
        ),
        ([keras.layers.RandomFlip(), keras.layers.GaussianNoise(1.0)], {}),
    ],
    ids=range(9),
)
def test_scaling_is_observed(before, expected):
    seen = observe(_network(before), "x")
    assert seen.preprocessing == Preprocessing(4, 4, **expected)


def test_one_channel_repeated_takes_grey_images():
    model = _network([lambda x: keras.layers.Concatenate()([x] * 3)], channels=1)
    seen = observe(model, "x")
    assert seen.preprocessing == Preprocessing(4, 4)
    assert seen.pixels.shape == (2, 4, 4, 3)
    assert (seen.pixels == seen.pixels[..., :1]).all()


@pytest.mark.parametrize(
    ("pool", "same"),
    [
        (keras.layers.GlobalAveragePooling2D, True),
        (keras.layers.GlobalMaxPooling2D, False),
        (keras.layers.Flatten, False),
    ],
)
def test_the_features_are_the_average_whatever_is_behind(pool, same):
    model = _network(pool=pool)
    last = keras.Model(model.input, model.layers[-3].output)
    seen = observe(model, "x")
    expected = np.asarray(last(seen.pixels / 127.5 - 1)).mean(axis=(1, 2))
    np.testing.assert_allclose(seen.features, expected, rtol=1e-5, atol=1e-6)
    # A classifier of something else than the average is none for the Inception Score.
    logits = softmax_logits(model, seen)
    assert (logits is not None) == same
    if same:
        classes = np.exp(logits(seen.features))
        classes /= classes.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(classes, model(seen.pixels / 127.5 - 1), rtol=1e-5)


@pytest.mark.parametrize(
    ("before", "channels", "message"),
    [
        ([lambda x: x * x], 3, "otherwise than by one scale"),
        ([keras.layers.AveragePooling2D(2)], 3, "otherwise than by one scale"),
        ([keras.layers.Rescaling([-1, 1, 1], [255, 0, 0])], 3, "inverts some channels"),
        ([], 4, "one input of"),
    ],
)
def test_other_changes_of_pixels_are_refused(before, channels, message):
    with pytest.raises(ExtractorError, match=f"^x: .*{message}"):
        observe(_network(before, channels), "x")


def test_other_models_are_refused():
    images = keras.Input((4, 4, 3))
    flat = keras.Model(images, keras.layers.Flatten()(keras.layers.Conv2D(2, 1)(images)))
    with pytest.raises(ExtractorError, match=r"^x: has no layer with the 2048 channels"):
        check_same_features(flat, observe(flat, "x"), "x")
    with pytest.raises(ExtractorError, match=r"^x: takes images of 5000 x 5000 pixels"):
        observe(_network(size=5000), "x")
    with pytest.raises(ExtractorError, match=r"^x: changes pixels"):
        observe(keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten()]), "x")


def _filled(small_extractor, **options):
    model = keras.applications.InceptionV3(
        include_top=False, weights=None, input_shape=(75, 75, 3), **options
    )
    inception_v3.copy_weights(small_extractor.network, model, "small")
    return model


def _grey_in_mixed_precision(inception):
    keras.config.set_dtype_policy("mixed_float16")
    grey = keras.Input((75, 75, 1))
    scaled = keras.applications.inception_v3.preprocess_input(grey)
    maps = inception(keras.layers.Concatenate()([scaled] * 3), training=False)
    hidden = keras.layers.BatchNormalization()(keras.layers.Flatten()(maps))
    return keras.Model(grey, keras.layers.Dense(2, kernel_regularizer="l2")(hidden))


def _own_pool(inception):
    return keras.Sequential([keras.Input((75, 75, 3)), inception, keras.layers.Dense(2)])


@pytest.mark.parametrize(
    ("build", "options", "file"),
    [(_grey_in_mixed_precision, {}, "x.keras"), (_own_pool, {"pooling": "avg"}, "x.h5")],
)
def test_nested_models_are_read_in_float32(build, options, file, small_extractor, tmp_path):
    try:
        model = build(_filled(small_extractor, **options))
        model.compile("adam", "mse")
        model.save(tmp_path / file)
    finally:
        keras.config.set_dtype_policy("float32")
    loaded = load_extractor(tmp_path / file)
    assert loaded.preprocessing == Preprocessing(75, 75)
    assert loaded.fingerprint == inception_v3.fingerprint(
        small_extractor.network, Preprocessing(75, 75)
    )
    pixels = np.random.default_rng(0).integers(0, 256, (2, 75, 75, 3)).astype(np.float32)
    expected = np.asarray(small_extractor.network(pixels, training=False))
    obtained = np.asarray(loaded.network(pixels, training=False))
    assert np.abs(obtained - expected).max() <= rounding.FEATURES * np.abs(expected).max()
