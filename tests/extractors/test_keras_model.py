"""Models of other networks: their own features, with the scaling that they contain."""

import keras
import numpy as np
import pytest
from helpers import rounding

from fid_med.errors import ExtractorError
from fid_med.evaluation.compute import compute_fid
from fid_med.extractors.registry import load_extractor

SIZE = 75


def convolutional(outputs, size=SIZE, scale=True):
    """A small network with the layers of residual and separable ones."""
    pixels = keras.Input((size, size, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(pixels) if scale else pixels
    x = keras.layers.ZeroPadding2D(1)(x)
    x = keras.layers.Conv2D(8, 3, strides=4, activation="relu")(x)
    y = keras.layers.DepthwiseConv2D(3, padding="same")(x)
    y = keras.layers.SeparableConv2D(8, 3, padding="same")(y)
    x = keras.layers.Add()([x, keras.layers.BatchNormalization()(y)])
    x = keras.layers.Multiply()([x, keras.layers.Conv2D(8, 1, activation="sigmoid")(x)])
    return keras.Model(pixels, outputs(x))


def average(x):
    return keras.layers.GlobalAveragePooling2D()(x)


@pytest.mark.parametrize("file", ["x.keras", "x.h5"])
@pytest.mark.parametrize("outputs", [lambda x: x, average], ids=["maps", "vector"])
def test_features_are_the_models_own(outputs, file, phantoms, tmp_path):
    model = convolutional(outputs)
    model.save(tmp_path / file)
    extractor = load_extractor(tmp_path / file)
    assert (extractor.name, extractor.architecture, extractor.num_features) == (
        file, "keras_model", 8,
    )  # fmt: skip
    pixels = np.repeat(phantoms[0][:3, :SIZE, :SIZE, None], 3, axis=-1)
    expected = np.asarray(model(pixels.astype(np.float32)))
    expected = expected.mean(axis=(1, 2)) if expected.ndim == 4 else expected
    obtained = extractor.extract(pixels)
    assert np.abs(obtained - expected).max() <= rounding.FEATURES * np.abs(expected).max()
    assert compute_fid(phantoms[0][:9], phantoms[0][9:20], extractor).dims == 8


def test_the_fingerprint_is_that_of_file_and_preprocessing(tmp_path):
    convolutional(average, size=None).save(tmp_path / "x.keras")
    convolutional(average, size=None).save(tmp_path / "y.keras")
    found = [
        load_extractor(tmp_path / "x.keras", image_size=SIZE),
        load_extractor(tmp_path / "x.keras", image_size=SIZE + 1),
        load_extractor(tmp_path / "x.keras", image_size=SIZE, resize="nearest"),
        load_extractor(tmp_path / "y.keras", image_size=SIZE),
    ]
    assert len({x.fingerprint for x in found}) == 4
    again = load_extractor(tmp_path / "x.keras", image_size=SIZE)
    assert again.fingerprint == found[0].fingerprint


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (lambda: convolutional(average, scale=False), {}, "only Keras's InceptionV3 can be"),
        (lambda: convolutional(average), {"precision": "bfloat16"}, "x.keras: is computed in flo"),
        (lambda: convolutional(average), {"image_size": 80}, "takes images of 75 x 75 pixels only"),
        (lambda: convolutional(lambda x: keras.layers.Dense(2, "softmax")(average(x))), {},
         "ends in a classifier; save the model without its last layer"),
        (lambda: convolutional(lambda x: keras.layers.Reshape((1, -1))(average(x))), {},
         r"expected a model from \[height, width, 3\] to features"),
        (lambda: convolutional(average), {"dims": 64}, "dims 64: x.keras has the depth"),
    ],
)  # fmt: skip
def test_other_models_are_refused(model, options, words, tmp_path):
    model().save(tmp_path / "x.keras")
    with pytest.raises(ExtractorError, match=words) as error:
        load_extractor(tmp_path / "x.keras", **options)
    assert "\n" not in str(error.value)


@pytest.mark.slow  # the small network above has their layers
@pytest.mark.parametrize(
    ("application", "count"),
    [("MobileNetV2", 1280), ("EfficientNetB0", 1280), ("ResNet50V2", 2048), ("Xception", 2048)],
)
def test_networks_of_keras_are_read(application, count, phantoms, tmp_path):
    network = getattr(keras.applications, application)(
        include_top=False, weights=None, input_shape=(SIZE, SIZE, 3)
    )
    model = keras.Sequential([keras.layers.Rescaling(1 / 127.5, offset=-1.0), network])
    if application == "EfficientNetB0":  # it scales pixels itself
        model = network
    else:
        model.build((None, SIZE, SIZE, 3))
    model.save(tmp_path / "x.keras")
    extractor = load_extractor(tmp_path / "x.keras")
    assert extractor.num_features == count
    pixels = np.repeat(phantoms[0][:2, :SIZE, :SIZE, None], 3, axis=-1)
    expected = np.asarray(model(pixels.astype(np.float32), training=False)).mean(axis=(1, 2))
    assert np.abs(extractor.extract(pixels) - expected).max() <= rounding.FEATURES * expected.max()
