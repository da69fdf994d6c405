"""RadImageNet's files and Keras's other networks: the features of their authors' own steps."""

import functools

import h5py
import keras
import numpy as np
import pytest
from helpers import kernels, rounding
from PIL import Image

from fid_med.data.preprocessing import Preprocessing
from fid_med.errors import ExtractorError
from fid_med.evaluation.compute import compute_fid
from fid_med.extractors import keras_networks
from fid_med.extractors.depths import cut_at_depth
from fid_med.extractors.feature_maps import FeatureMaps, has_feature_maps
from fid_med.extractors.inception_v3 import fingerprint
from fid_med.extractors.keras_networks import NETWORKS, RADFID
from fid_med.extractors.registry import load_extractor

SIZE = 75
FEATURES = {"inception_v3": 2048, "resnet50": 2048, "densenet121": 1024,
            "inception_resnet_v2": 1536}  # fmt: skip


def seeded_network(name):
    """A network of Keras with weights whose features have an ordinary magnitude."""
    application = getattr(keras.applications, NETWORKS[name].application)
    network = application(include_top=False, weights=None, pooling="avg")
    rng = np.random.default_rng(3)
    for layer in network.layers:
        weights = layer.get_weights()
        if isinstance(layer, keras.layers.Conv2D):
            deviation = np.sqrt(2 / np.prod(weights[0].shape[:3]))
            weights[0] = rng.standard_normal(weights[0].shape, np.float32) * np.float32(deviation)
        elif isinstance(layer, keras.layers.BatchNormalization):
            weights = [rng.uniform(0.5, 1, x.shape) for x in weights]
        layer.set_weights(weights)
    return network


def write_keras_2_weights(network, path):
    """Writes a legacy `.h5` of weights, as Keras 2 does."""
    with h5py.File(path, "w") as file:
        layers = network.layers[1:]  # without the input
        file.attrs["layer_names"] = [layer.name.encode() for layer in layers]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.4.0"
        for layer in layers:
            group, names = file.create_group(layer.name), []
            for variable, weight in zip(layer.weights, layer.get_weights(), strict=True):
                names.append(f"{layer.name}/{variable.name}:0")
                group[names[-1]] = weight
            group.attrs["weight_names"] = [name.encode() for name in names]


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Makes a network of Keras, its file, and the extractor of that file at a small size."""

    @functools.cache
    def made(name):
        network = seeded_network(name)
        file_name = f"RadImageNet-{NETWORKS[name].radimagenet}_notop.h5"
        path = tmp_path_factory.mktemp(name) / file_name
        write_keras_2_weights(network, path)
        return network, path, load_extractor(path, image_size=SIZE)

    return made


@pytest.fixture(
    params=[
        "inception_v3",
        "resnet50",
        pytest.param("densenet121", marks=pytest.mark.slow),
        # Seconds to build; the same steps as the others.
        pytest.param("inception_resnet_v2", marks=pytest.mark.slow),
    ]
)
def made(request, make):
    return request.param, *make(request.param)


@pytest.fixture
def resnet50(make):
    return make("resnet50")


@pytest.fixture(scope="module")
def images(phantoms):
    """Colour images of 80 x 60 pixels."""
    return np.stack([phantoms[0][i : i + 3] for i in range(4)]).transpose(0, 2, 3, 1)[:, :, :60]


def test_features_are_those_of_radfids_own_steps(made, images):
    _, network, _, extractor = made
    batch = []
    for image in images:
        resized = Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.NEAREST)
        pixels = np.asarray(resized, np.float32)
        batch.append(keras.applications.imagenet_utils.preprocess_input(pixels.copy()) * (1 / 255))
    expected = np.asarray(network(np.stack(batch), training=False))
    obtained = extractor.extract(images)
    assert np.abs(obtained - expected).max() <= rounding.FEATURES * np.abs(expected).max()
    # They depend on the images, or anything would be close.
    assert np.abs(expected - expected[0]).max() > 0.01 * np.abs(expected).max()


def test_what_the_extractor_says_of_itself(made):
    name, _, path, extractor = made
    assert (extractor.name, extractor.architecture) == (path.name, name)
    assert extractor.num_features == FEATURES[name]
    assert extractor.preprocessing == Preprocessing(
        SIZE, SIZE, "nearest", scale=1 / 255, offset=0.0, mean=(103.939, 116.779, 123.68),
        channels="bgr",
    )  # fmt: skip
    (warning,) = extractor.warnings
    assert "RadFID is computed at 512 x 512 pixels" in warning
    assert (RADFID.height, RADFID.width) == (512, 512)


def test_the_fingerprint_covers_network_weights_and_preprocessing(resnet50):
    _, _, extractor = resnet50
    network, used = extractor.network, extractor.preprocessing
    assert extractor.fingerprint == fingerprint(network, used, "resnet50")
    layer = network.get_layer("conv5_block3_3_bn")
    weights = layer.get_weights()
    others = {fingerprint(network, used), fingerprint(network, RADFID, "resnet50")}
    layer.set_weights([weights[0], weights[1] + 1, *weights[2:]])
    others.add(fingerprint(network, used, "resnet50"))
    layer.set_weights(weights)
    assert len(others - {extractor.fingerprint}) == 3


def test_the_fid_of_any_number_of_features(made, phantoms):
    _, _, _, extractor = made
    result = compute_fid(phantoms[0][:10], phantoms[0][10:20], extractor)
    assert result.dims == extractor.num_features
    assert result.fid > 0
    assert set(result.metrics) >= {"fid", "debiased"}
    assert result.preprocessing["resize"] == "nearest"


def test_only_inception_v3_has_depths(made, phantoms):
    name, _, path, extractor = made
    if name == "inception_v3":
        assert cut_at_depth(extractor, 768).num_features == 768
        return
    words = rf"dims 64: {path.name} has the depth of its global .* InceptionV3 has 64, 192, 768"
    with pytest.raises(ExtractorError, match=words):
        cut_at_depth(extractor, 64)
    with pytest.raises(ExtractorError, match=words):
        compute_fid(phantoms[0][:4], phantoms[0][4:8], extractor, metrics=["depths"])


@pytest.mark.slow  # test_folding.py lowers the precision of small networks that cannot be folded
@kernels.needs_low_precision
def test_lower_precision_is_close(made, images):
    _, _, path, extractor = made
    lower = load_extractor(path, image_size=SIZE, precision="bfloat16")
    expected, obtained = extractor.extract(images), lower.extract(images)
    assert 1e-4 < np.abs(obtained - expected).max() / np.abs(expected).max() < 0.1
    assert lower.fingerprint != extractor.fingerprint


# First position and distance between positions, in pixels, counted by hand.
GRIDS = {"resnet50": (0.5, 32), "densenet121": (14.5, 32)}


def test_feature_maps_average_to_the_features(made, images):
    name, _, _, extractor = made
    assert has_feature_maps(extractor)
    maps = FeatureMaps(extractor)
    found = maps.compute(images[0]).mean(axis=(0, 1))
    expected = extractor.extract(images[:1])[0]
    assert np.abs(found - expected).max() <= rounding.FEATURES * np.abs(expected).max()
    if name in GRIDS:
        assert (maps._first, maps._spacing) == GRIDS[name]


def test_a_whole_model_in_the_file_gives_the_same(resnet50, tmp_path):
    network, path, extractor = resnet50
    network.save(tmp_path / path.name)
    whole = load_extractor(tmp_path / path.name, image_size=SIZE)
    assert whole.fingerprint == extractor.fingerprint


def test_a_file_of_another_network_is_refused(resnet50, tmp_path):
    _, path, _ = resnet50
    for wrong, words in (
        ("RadImageNet-DenseNet121_notop.h5", "not the weights of a Keras DenseNet121"),
        ("RadImageNet-Swin.h5", "expected one of RadImageNet's networks, InceptionV3, ResNet50"),
        ("mine.h5", "not the weights of a Keras InceptionV3.*keep their published file names"),
    ):
        (tmp_path / wrong).symlink_to(path)
        with pytest.raises(ExtractorError, match=words) as error:
            load_extractor(tmp_path / wrong)
        assert "\n" not in str(error.value)


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "RadImageNet-ResNet50_notop.h5"
    path.write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(ExtractorError, match=r"RadImageNet-ResNet50_notop\.h5: damaged"):
        load_extractor(path)


@pytest.mark.parametrize("name", ["radimagenet", "RadImageNet-ResNet50_notop.h5"])
def test_without_a_file_it_says_where_to_get_one(name):
    with pytest.raises(ExtractorError, match=r"no such file; fetch RadImageNet-.*BMEII"):
        load_extractor(name)


@pytest.mark.parametrize(
    ("name", "module", "size"),
    [("resnet50", "resnet50", 224), ("densenet121", "densenet", 224),
     ("inception_resnet_v2", "inception_resnet_v2", 299)],
)  # fmt: skip
def test_imagenet_has_each_networks_own_preprocessing(name, module, size):
    preprocessing = NETWORKS[name].preprocessing
    assert (preprocessing.height, preprocessing.width) == (size, size)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3)).astype(np.float32)
    expected = getattr(keras.applications, module).preprocess_input(pixels.copy())
    ordered = pixels[..., ::-1] if preprocessing.channels == "bgr" else pixels
    scale, offset = preprocessing.affine()
    np.testing.assert_allclose(ordered * scale + offset, expected, rtol=0, atol=3e-5)


def test_imagenet_weights_come_from_keras(resnet50, monkeypatch):
    network, build = resnet50[0], keras.applications.ResNet50

    def download(include_top, weights, **options):
        return (
            network
            if weights == "imagenet"
            else build(include_top=include_top, weights=weights, **options)
        )

    monkeypatch.setattr(keras.applications, "ResNet50", download)
    extractor = load_extractor("resnet50", image_size=SIZE)
    assert (extractor.name, extractor.num_features) == ("resnet50", 2048)
    assert "was trained on images of 224 x 224 pixels" in extractor.warnings[0]
    mine, theirs = extractor.network.get_weights(), network.get_weights()
    assert all(map(np.array_equal, mine, theirs))
    assert len(mine) == len(theirs)


def test_imagenet_weights_offline_end_in_one_line(monkeypatch):
    def offline(*_, weights, **__):
        raise OSError("URL fetch failure\non https://somewhere")

    network = keras.Sequential([keras.Input((75, 75, 3))])
    monkeypatch.setattr(keras_networks, "build_network", lambda *_: network)
    monkeypatch.setattr(keras.applications, "ResNet50", offline)
    with pytest.raises(ExtractorError, match=r"downloaded.*~/\.keras/models/ here$") as error:
        load_extractor("resnet50")
    assert "\n" not in str(error.value)
