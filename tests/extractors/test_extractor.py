"""Extractors: fingerprints, files and their metadata, independence of batches."""

import copy
import dataclasses
import json
import zipfile

import keras
import numpy as np
import pytest
from helpers import kernels, rounding

from fid_med.data.preprocessing import Preprocessing
from fid_med.errors import ExtractorError
from fid_med.extractors import inception_v3, random_weights
from fid_med.extractors.extractor import TrainingImages
from fid_med.extractors.keras_file import save_extractor
from fid_med.extractors.registry import load_extractor


@pytest.fixture(scope="module")
def saved(small_extractor, tmp_path_factory):
    path = tmp_path_factory.mktemp("extractor") / "extractor.keras"
    images = TrainingImages("00" * 16, frozenset(["aa"]), frozenset(["bb"]))
    fingerprint = save_extractor(
        path,
        small_extractor.network,
        small_extractor.preprocessing,
        labels=("elbow", "neck"),
        training_images=images,
        lineage=({"name": "random"},),
    )
    return path, fingerprint


def test_random_features_are_of_ordinary_size_and_differ(small_extractor, phantoms):
    features = small_extractor.extract(phantoms[0][:12])
    assert 0.05 < np.abs(features).mean() < 20
    assert np.all(features.std(axis=0).mean() > 0.01)


def test_the_seed_determines_the_random_extractor(small_extractor, monkeypatch):
    network = inception_v3.build_network(Preprocessing(75, 75))

    def uncalibrated(seed):
        random_weights.initialise_randomly(network, seed)
        return [layer.get_weights() for layer in inception_v3.weighted_layers(network)]

    # Calibration takes seconds, and the fingerprint is that of the random numbers.
    monkeypatch.setattr(random_weights, "_calibrated_weights", uncalibrated)
    again, other = (load_extractor("random", image_size=75, seed=seed) for seed in (0, 5))
    assert small_extractor.fingerprint == again.fingerprint != other.fingerprint
    for ours, theirs in zip(
        inception_v3.network_arrays(small_extractor.network),
        inception_v3.network_arrays(again.network),
        strict=True,
    ):
        if ours.ndim == 4:
            np.testing.assert_array_equal(ours, theirs)


@pytest.fixture
def unlike_keras():
    """Changes every global setting of Keras that a new layer could take over."""
    settings = keras.config
    before = settings.dtype_policy(), settings.floatx(), settings.image_data_format()
    settings.set_floatx("float16")
    settings.set_image_data_format("channels_first")
    settings.set_dtype_policy("mixed_float16")
    yield lambda: (
        settings.dtype_policy().name,
        settings.floatx(),
        settings.image_data_format(),
    )
    settings.set_floatx(before[1])
    settings.set_image_data_format(before[2])
    settings.set_dtype_policy(before[0])


def test_global_settings_of_keras_change_no_feature(saved, phantoms, small_extractor, unlike_keras):
    loaded = load_extractor(saved[0])
    features = loaded.extract(phantoms[0][:3])
    assert unlike_keras() == ("mixed_float16", "float16", "channels_first")
    np.testing.assert_array_equal(features, small_extractor.extract(phantoms[0][:3]))


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(ExtractorError, match="Keras runs on jax: fid_med needs TensorFlow"):
        load_extractor("random")


def test_preprocessing_is_part_of_the_fingerprint(small_extractor):
    for change in ({"resize": "tf1"}, {"aspect": "pad"}, {"image_size": 80}):
        options = {"image_size": 75} | change
        assert load_extractor("random", **options).fingerprint != small_extractor.fingerprint


@kernels.needs_low_precision
def test_precision_is_part_of_name_and_fingerprint(small_extractor, phantoms):
    lower = load_extractor("random", image_size=75, precision="bfloat16")
    assert lower.name == "random in bfloat16"
    assert lower.fingerprint != small_extractor.fingerprint
    images = phantoms[0][:3]
    expected, obtained = small_extractor.extract(images), lower.extract(images)
    assert obtained.dtype == np.float32
    # More than float32 rounds. bfloat16 rounds each number by up to 2^-9 = 0.2 %, and sums in
    # float32; 0.2 leaves room for 100 such errors and none for another network.
    assert 2 * rounding.FEATURES < np.abs(obtained - expected).max() / expected.max() < 0.2
    with pytest.raises(ExtractorError, match="precision 'half': expected float32, float32_un"):
        load_extractor("random", precision="half")


def test_float32_is_the_default_precision(small_extractor):
    asked = load_extractor("random", image_size=75, precision="float32")
    assert (asked.name, asked.fingerprint) == ("random", small_extractor.fingerprint)


def test_saved_extractor_loads_with_all_its_attributes(saved, small_extractor, phantoms):
    path, fingerprint = saved
    loaded = load_extractor(path)
    assert loaded.fingerprint == fingerprint
    assert loaded.preprocessing == small_extractor.preprocessing
    assert loaded.labels == ("elbow", "neck")
    assert loaded.lineage == ({"name": "random"},)
    assert "aa" in loaded.training_images
    assert "bb" in loaded.training_images
    assert "cc" not in loaded.training_images
    # Not compiled, which takes as long as loading.
    pixels = np.repeat(phantoms[0][:2, :75, :75, None], 3, axis=-1).astype(np.float32)
    np.testing.assert_array_equal(
        loaded.network(pixels, training=False), small_extractor.network(pixels, training=False)
    )


def test_saved_extractor_loads_with_plain_keras(saved, small_extractor, phantoms):
    model = keras.models.load_model(saved[0])
    pixels = np.repeat(phantoms[0][:2, :75, :75, None], 3, axis=-1).astype(np.float32)
    expected = np.asarray(model(pixels, training=False))
    obtained = small_extractor.extract_batch(pixels)
    assert np.abs(obtained - expected).max() <= rounding.FEATURES * np.abs(expected).max()


# "bgr" runs all that None does, and the reversal.
@pytest.mark.parametrize("channels", [pytest.param(None, marks=pytest.mark.slow), "bgr"])
def test_mean_and_std_of_each_channel_are_applied_and_saved(small_extractor, tmp_path, channels):
    preprocessing = Preprocessing(
        75,
        75,
        scale=1.5,
        offset=0.1,
        mean=(103.939, 116.779, 123.68),
        std=(58.4, 57.1, 57.4),
        channels=channels,
    )
    network = inception_v3.build_network(preprocessing)
    inception_v3.copy_weights(small_extractor.network, network, "small")
    fingerprint = save_extractor(tmp_path / "x.keras", network, preprocessing)
    loaded = load_extractor(tmp_path / "x.keras")
    assert loaded.preprocessing == preprocessing
    assert loaded.fingerprint == fingerprint != small_extractor.fingerprint
    pixels = np.random.default_rng(0).integers(0, 256, (3, 75, 75, 3), dtype=np.uint8)
    ordered = pixels[..., ::-1] if channels else pixels
    normalised = (ordered - np.array(preprocessing.mean)) / preprocessing.std * 1.5 + 0.1
    # The weights of the plain network, fed with what NumPy computes for its -1..1.
    expected = small_extractor.extract_batch(((normalised + 1) * 127.5).astype(np.float32))
    obtained = loaded.extract_batch(pixels)
    # As for folding: random weights amplify the rounding of the input.
    assert np.abs(obtained - expected).max() <= rounding.FEATURES * np.abs(expected).max()
    assert loaded._folded is not loaded.network
    plain = keras.models.load_model(tmp_path / "x.keras")
    unfolded = np.asarray(plain(pixels.astype(np.float32), training=False))
    assert np.abs(unfolded - expected).max() <= rounding.FEATURES * np.abs(expected).max()
    assert loaded.warnings == ()
    larger = load_extractor(tmp_path / "x.keras", image_size=80)
    (warning,) = larger.warnings
    assert "trained on images of 75 x 75 pixels and is used at 80" in warning
    assert larger.preprocessing == dataclasses.replace(preprocessing, height=80, width=80)


def test_keras_archive_of_another_suffix_is_refused(saved, tmp_path):
    path = tmp_path / "x.h5"
    path.write_bytes(saved[0].read_bytes())
    with pytest.raises(ExtractorError, match=r"x\.h5: is a \.keras file; rename it"):
        load_extractor(path)


def test_classifier_is_cut_to_the_same_extractor(small_extractor, saved, tmp_path):
    network = small_extractor.network
    classifier = keras.Model(network.input, keras.layers.Dense(2)(network.output))
    path = tmp_path / "classifier.keras"
    assert save_extractor(path, classifier, small_extractor.preprocessing) == saved[1]
    assert load_extractor(path).fingerprint == saved[1]


def _rewrite(source, target, change, weights=True):
    """Copies a .keras file and replaces each member by `change(name, content)`.

    Without the weights where the metadata is refused before they are read: they have 88 MB.
    """
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            if not weights and name == "model.weights.h5":
                continue
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)


def test_changed_preprocessing_is_detected(saved, tmp_path):
    def alter(name, content):
        if name != "fid_med.json":
            return content
        metadata = json.loads(content)
        metadata["preprocessing"]["aspect"] = "pad"
        return json.dumps(metadata)

    _rewrite(saved[0], tmp_path / "x.keras", alter)
    with pytest.raises(ExtractorError, match="not those it was saved with"):
        load_extractor(tmp_path / "x.keras")


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "damaged"), ("{}", "damaged"), ('{"format": 99}', "newer fid_med")],
)
def test_unreadable_metadata_is_refused(saved, tmp_path, content, message):
    def alter(name, old):
        return content if name == "fid_med.json" else old

    _rewrite(saved[0], tmp_path / "x.keras", alter, weights=False)
    with pytest.raises(ExtractorError, match=message):
        load_extractor(tmp_path / "x.keras")


def test_truncated_extractor_is_refused(saved, tmp_path):
    path = tmp_path / "x.keras"
    path.write_bytes(saved[0].read_bytes()[:5_000_000])
    with pytest.raises(ExtractorError, match=r"x\.keras"):
        load_extractor(path)


def test_features_hardly_depend_on_the_batch(small_extractor, phantoms):
    images = phantoms[0][:13]
    whole = small_extractor.extract(images, batch_size=13)
    for size in (1, 5):
        parts = small_extractor.extract(images, batch_size=size)
        assert np.abs(parts - whole).max() <= rounding.FEATURES * np.abs(whole).max()


def test_features_of_one_image_are_those_in_a_batch(small_extractor, phantoms):
    whole = small_extractor.extract(phantoms[0][:3], batch_size=3)
    alone = small_extractor.extract(phantoms[0][:1])
    assert alone.shape == (1, 2048)
    assert np.abs(alone - whole[:1]).max() <= rounding.FEATURES * np.abs(whole).max()


def test_padded_batches_have_one_shape_and_the_same_features(small_extractor, phantoms):
    extractor = copy.copy(small_extractor)
    images = phantoms[0][:13]
    extractor.pads_batches = False
    plain = extractor.extract(images, batch_size=5)
    extractor.pads_batches, shapes = True, []
    compiled = extractor.compiled("uint8")

    def recording(dtype):
        return lambda pixels: shapes.append(tuple(pixels.shape)) or compiled(pixels)

    extractor.compiled = recording
    padded = extractor.extract(images, batch_size=5)
    assert shapes == [(5, 75, 75, 3)] * 3
    assert padded.shape == plain.shape
    assert np.abs(padded - plain).max() <= rounding.FEATURES * np.abs(plain).max()


def test_bytes_and_floats_give_the_same_features(small_extractor):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 75, 75, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        small_extractor.extract_batch(pixels),
        small_extractor.extract_batch(pixels.astype(np.float32)),
    )


@pytest.mark.parametrize(
    "change",
    [
        {"preprocessing": None},
        {"preprocessing": [1]},
        {"preprocessing": {"height": 75}},
        {"labels": 3},
        {"lineage": None},
        {"fingerprint": None},
        {"training_images": []},
        {"training_images": {"key": "00", "train": [], "validation": []}},
        {"training_images": {"key": "xy" * 16, "train": [], "validation": []}},
        {"training_images": {"key": "00" * 16, "train": 3, "validation": []}},
    ],
    ids=str,
)
def test_damaged_metadata_is_reported_in_one_line(saved, tmp_path, change):
    def alter(name, content):
        return json.dumps(json.loads(content) | change) if name == "fid_med.json" else content

    _rewrite(saved[0], tmp_path / "x.keras", alter, weights="fingerprint" in change)
    with pytest.raises(ExtractorError, match=r"x\.keras: its") as refusal:
        load_extractor(tmp_path / "x.keras")
    assert "\n" not in str(refusal.value)


def test_grey_and_grey_repeated_to_rgb_have_the_same_features(small_extractor, phantoms):
    grey = phantoms[0][:2]
    rgb = np.repeat(grey[..., None], 3, axis=-1)
    np.testing.assert_array_equal(small_extractor.extract(grey), small_extractor.extract(rgb))


def test_calibration_sets_the_moments_and_leaves_the_momentum(small_extractor):
    network = inception_v3.build_network(small_extractor.preprocessing)
    random_weights.initialise_randomly(network, 0)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 75, 75, 3))
    random_weights.calibrate_batch_norm(network, pixels)
    first = next(x for x in inception_v3.weighted_layers(network) if hasattr(x, "moving_mean"))
    assert first.momentum == keras.layers.BatchNormalization().momentum
    conv = inception_v3.weighted_layers(network)[0]
    part = keras.Model(network.input, conv.output)
    expected = np.asarray(part(pixels.astype(np.float32))).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(np.asarray(first.moving_mean), expected, atol=1e-4)


def test_unknown_preprocessing_field_is_refused(saved, tmp_path):
    def alter(name, content):
        if name != "fid_med.json":
            return content
        metadata = json.loads(content)
        metadata["preprocessing"]["colour"] = "sepia"
        return json.dumps(metadata)

    _rewrite(saved[0], tmp_path / "x.keras", alter, weights=False)
    with pytest.raises(ExtractorError, match="colour"):
        load_extractor(tmp_path / "x.keras")
