"""InceptionV3, and the forms of files that contain its weights."""

import keras
import numpy as np
import pytest
from helpers import rounding

from fid_med.data.preprocessing import Preprocessing
from fid_med.errors import ExtractorError
from fid_med.extractors import inception_v3
from fid_med.extractors.registry import load_extractor

SMALL = Preprocessing(75, 75)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(1).integers(0, 256, (2, 75, 75, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def keras_model(small_extractor):
    """A plain Keras InceptionV3, with the small extractor's weights."""
    model = keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(75, 75, 3))
    for theirs, ours in zip(
        inception_v3.weighted_layers(model),
        inception_v3.weighted_layers(small_extractor.network),
        strict=True,
    ):
        theirs.set_weights(ours.get_weights())
    return model


@pytest.fixture(scope="module")
def expected(small_extractor, pixels):
    """Features without compilation, to the bit."""
    return np.asarray(small_extractor.network(pixels, training=False))


def test_network_is_keras_applications_with_scaling_and_pool(keras_model, small_extractor, pixels):
    expected = np.asarray(keras_model(pixels / 127.5 - 1, training=False)).mean(axis=(1, 2))
    obtained = small_extractor.extract_batch(pixels)
    assert obtained.shape == (2, inception_v3.NUM_FEATURES)
    np.testing.assert_allclose(obtained, expected, rtol=0, atol=rounding.FEATURES * expected.max())


def _whole(keras_model, path):
    keras_model.save(path)


def _with_head(keras_model, path):
    pooled = keras.layers.GlobalAveragePooling2D()(keras_model.output)
    keras.Model(keras_model.inputs, keras.layers.Dense(3)(pooled)).save(path)


def _nested(keras_model, path):
    layers = [keras_model, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)]
    keras.Sequential(layers).save(path)


def _weights(keras_model, path):
    keras_model.save_weights(path)


def _legacy_weights(keras_model, path):
    """Writes only weights, as Keras 2 did: layers in order, names in attributes."""
    import h5py

    with h5py.File(path, "w") as file:
        _write_legacy_layers(file, keras_model)


def _write_legacy_layers(group, model):
    group.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
    group.attrs["backend"], group.attrs["keras_version"] = b"tensorflow", b"2.4.0"
    for layer in model.layers:
        of_layer = group.create_group(layer.name)
        names = [f"{layer.name}/w{i}:0" for i in range(len(layer.weights))]
        of_layer.attrs["weight_names"] = [name.encode() for name in names]
        for name, value in zip(names, layer.get_weights(), strict=True):
            of_layer.create_dataset(name, data=value)


@pytest.mark.parametrize(
    ("write", "file"),
    [
        (_weights, "x.weights.h5"),
        (_legacy_weights, "x.h5"),
        # A whole model and a head are both read from either format, one of each quickly.
        pytest.param(_whole, "x.keras", marks=pytest.mark.slow),
        (_whole, "x.h5"),
        (_with_head, "x.keras"),
        pytest.param(_with_head, "x.h5", marks=pytest.mark.slow),
        (_nested, "x.keras"),
    ],
)
def test_every_form_of_file_gives_the_same_extractor(
    write, file, keras_model, small_extractor, pixels, expected, tmp_path
):
    write(keras_model, str(tmp_path / file))
    loaded = load_extractor(str(tmp_path / file), image_size=75)
    # Not compiled, which takes as long as loading.
    np.testing.assert_array_equal(loaded.network(pixels, training=False), expected)
    assert loaded.fingerprint == inception_v3.fingerprint(small_extractor.network, SMALL)


def test_a_whole_model_is_never_read_as_weights(keras_model, tmp_path):
    """Its configuration, which Keras cannot read, may scale pixels."""
    import h5py

    for name in ("x.h5", "x.weights.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file.attrs["model_config"] = b'{"class_name": "Functional", "config": {"gone": 1}}'
            group = file if "weights" in name else file.create_group("model_weights")
            _write_legacy_layers(group, keras_model)
    with pytest.raises(ExtractorError, match=r"x\.h5: the configuration .* has no layers"):
        load_extractor(str(tmp_path / "x.h5"))
    with pytest.raises(ExtractorError, match=r"is a whole model: rename it to end in \.h5"):
        load_extractor(str(tmp_path / "x.weights.h5"))


def test_whole_model_gives_input_size_and_scaling(keras_model, tmp_path):
    image = keras.Input((96, 96, 3))
    scaled = keras.layers.Rescaling(1 / 255)(image)
    features = keras.applications.InceptionV3(
        include_top=False, weights=None, input_tensor=scaled, pooling="avg"
    )
    features.save(tmp_path / "x.keras")
    loaded = load_extractor(str(tmp_path / "x.keras"))
    assert loaded.preprocessing == Preprocessing(96, 96, scale=1 / 255, offset=0.0)
    resized = load_extractor(str(tmp_path / "x.keras"), image_size=75)
    assert resized.preprocessing == Preprocessing(75, 75, scale=1 / 255, offset=0.0)
    assert loaded.warnings == ()
    (warning,) = resized.warnings
    assert warning.startswith("x.keras: was trained on images of 96 x 96 pixels and is used at 75")


def test_another_network_is_refused(tmp_path):
    image = keras.Input((75, 75, 3))
    output = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2048, 3)(image))
    keras.Model(image, output).save(tmp_path / "x.keras")
    with pytest.raises(ExtractorError, match="only Keras's InceptionV3"):
        load_extractor(str(tmp_path / "x.keras"))


def test_inception_that_computes_something_else_is_refused(keras_model, tmp_path):
    rewired = keras.models.clone_model(
        keras_model,
        clone_function=lambda layer: (
            keras.layers.Activation("tanh", name=layer.name)
            if isinstance(layer, keras.layers.Activation)
            else layer.__class__.from_config(layer.get_config())
        ),
    )
    rewired.save(tmp_path / "x.keras")
    with pytest.raises(ExtractorError, match="computes other features"):
        load_extractor(str(tmp_path / "x.keras"))


@pytest.mark.parametrize("file", ["x.keras", "x.h5", "x.weights.h5"])
@pytest.mark.parametrize("content", [b"", b"not a network", b"PK\x03\x04 cut short"])
def test_damaged_files_are_refused_by_name(file, content, tmp_path):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ExtractorError, match=file) as error:
        load_extractor(str(tmp_path / file))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("imagenett", "no such extractor"),
        (".", "is a folder"),
        (__file__, "expected a .keras"),
    ],
)
def test_names_and_files_that_are_not_extractors_are_refused(spec, message):
    with pytest.raises(ExtractorError, match=message):
        load_extractor(spec)


def test_too_small_an_input_is_refused():
    with pytest.raises(ExtractorError, match="at least 75"):
        load_extractor("random", image_size=74)


def test_imagenet_weights_offline_end_in_one_line(monkeypatch):
    def offline(*_, **__):
        raise OSError("URL fetch failure\non https://somewhere")

    monkeypatch.setattr(keras.applications, "InceptionV3", offline)
    network = keras.Sequential([keras.Input((75, 75, 3))])
    with pytest.raises(ExtractorError, match=r"could not be downloaded.*~/\.keras/models") as error:
        inception_v3.load_imagenet_weights(network)
    assert "\n" not in str(error.value)
