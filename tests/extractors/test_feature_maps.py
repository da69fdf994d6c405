"""Feature maps: their mean is the features, and a position is where the image made it."""

import keras
import numpy as np
import pytest
from helpers import rounding

from fid_med.data.preprocessing import Preprocessing
from fid_med.extractors.depths import join_depths
from fid_med.extractors.extractor import FeatureExtractor
from fid_med.extractors.feature_maps import FeatureMaps, has_feature_maps
from fid_med.extractors.inception_2015 import stand_in
from fid_med.extractors.random_weights import load_random_extractor
from fid_med.extractors.registry import DEPTHS, load_extractor
from fid_med.metrics.difference import contributions, gradients, heat_map
from fid_med.phantoms.radiograph import phantom_set

# Height and width of the maps of 75 pixels.
SIZES = {64: 17, 192: 7, 768: 3, 2048: 1}


@pytest.fixture(scope="module")
def shallow():
    """An extractor with many positions at little cost: 16 x 16 of 8 pixels each."""
    return load_extractor("random", image_size=150, dims=192)


def assert_mean_is_features(maps, features):
    assert maps.dtype == np.float32
    difference = np.abs(maps.astype(np.float64).mean(axis=(0, 1)) - features)
    assert difference.max() <= rounding.FEATURES * np.abs(features).max()


@pytest.mark.parametrize("dims", list(DEPTHS))
def test_maps_average_to_the_features(small_extractor, phantoms, dims):
    images = phantoms[0][:2]
    extractor = load_extractor("random", image_size=75, dims=dims)
    features = extractor.extract(images)
    # The depth's own extractor, and the joined one, which features of a depth may come from.
    for given in (extractor, join_depths(small_extractor)):
        assert has_feature_maps(given)
        maps = FeatureMaps(given, dims).compute(images[1])
        assert maps.shape == (SIZES[dims], SIZES[dims], dims)
        assert_mean_is_features(maps, features[1])


def test_maps_of_the_2015_graph_average_to_its_features(tmp_path_factory, graph_def):
    path = tmp_path_factory.mktemp("maps") / "graph.pb"
    path.write_bytes(graph_def.SerializeToString())
    extractor, image = load_extractor(path), stand_in.smooth_images(1, 120, 90)[0]
    maps = FeatureMaps(extractor)
    found = maps.compute(image)
    assert found.shape == (8, 8, 2048)
    assert_mean_is_features(found, extractor.extract([image])[0])
    # Counted by hand: 32 pixels apart, 37 pixels before the first centre and behind the last.
    assert (maps._first, maps._spacing) == (37.5, 32)


def test_maps_of_any_precision_and_channel_order(small_extractor, phantoms):
    lower = load_extractor("random", image_size=75, dims=64, precision="bfloat16")
    assert FeatureMaps(lower).compute(np.zeros((9, 9, 3), np.uint8)).shape == (17, 17, 64)
    changes = {"height": 75, "width": 75, "channels": "bgr"}
    blue_first = FeatureMaps(load_random_extractor(0, changes))
    expected = FeatureMaps(small_extractor)
    assert (blue_first._first, blue_first._spacing) == (expected._first, expected._spacing)
    colour = np.stack([phantoms[0][i] for i in range(3)], axis=-1)
    np.testing.assert_allclose(
        blue_first.compute(colour), expected.compute(colour[..., ::-1]), rtol=1e-4, atol=1e-4
    )


def test_a_network_of_the_users_own():
    pixels = keras.Input((32, 32, 3))
    maps = keras.layers.Conv2D(4, 3, strides=2)(pixels)
    pooled = keras.layers.GlobalAveragePooling2D()(maps)
    preprocessing = Preprocessing(32, 32)
    own = FeatureExtractor("own", keras.Model(pixels, pooled), preprocessing, "f")
    assert has_feature_maps(own)
    assert FeatureMaps(own).compute(np.zeros((9, 9), np.uint8)).shape == (15, 15, 4)
    nested = keras.layers.GlobalAveragePooling2D()(keras.Model(pixels, maps)(pixels))
    for output in (keras.layers.Dense(2)(pooled), keras.ops.relu(pooled), nested):
        other = FeatureExtractor("own", keras.Model(pixels, output), preprocessing, "f")
        assert not has_feature_maps(other)
    in_a_row = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.GlobalAveragePooling2D()])
    assert not has_feature_maps(FeatureExtractor("own", in_a_row, preprocessing, "f"))


@pytest.mark.parametrize("aspect", ["pad", "stretch"])
@pytest.mark.parametrize("shape", [(150, 150), (60, 240), (300, 100)])
def test_a_spot_is_found_where_it_is(aspect, shape):
    """The centre of what a bright spot changes is the spot, within half a position."""
    extractor = load_extractor("random", image_size=150, dims=192, aspect=aspect)
    maps, image = FeatureMaps(extractor), np.zeros(shape, np.uint8)
    _, _, height, width = extractor.preprocessing.box(*shape)
    pixels = np.array(shape) / (height, width)  # of the image, for one of the network
    for place in ((0.3, 0.3), (0.5, 0.75), (0.7, 0.4)):
        row, column = (int(part * size) for part, size in zip(place, shape, strict=True))
        spot = image.copy()
        spot[row - 5 : row + 6, column - 5 : column + 6] = 255
        change = np.linalg.norm(maps.compute(spot) - maps.compute(image), axis=-1)
        enlarged = maps.enlarge(change**2, shape)
        assert enlarged.shape == shape
        centre = np.array(
            [(enlarged * along).sum() / enlarged.sum() for along in np.indices(shape)]
        )
        assert np.all(np.abs(centre - (row, column)) < maps._spacing / 2 * pixels)


def test_enlarging_is_bilinear_and_continues_the_margin(shallow):
    maps = FeatureMaps(shallow)
    ramp = np.add.outer(10.0 * np.arange(16), np.arange(16))
    found = maps.enlarge(ramp, (150, 150, 3))
    # Pixel 13 is the centre of position 0, pixel 133 of position 15.
    assert found[13, 13] == pytest.approx(0)
    assert found[133, 13] == pytest.approx(150)
    assert found[17, 13] == pytest.approx(5)
    assert found[13, 25] == pytest.approx(1.5)
    assert np.all(found[:13, :13] == 0)
    assert np.all(found[134:, 134:] == 165)


def test_heat_maps_find_a_planted_rectangle(shallow):
    """It is in the upper right corner of generated phantoms only.

    Measured, relative to the mean of the image: 4.5 and more in that quadrant and 0.4 and less in
    the others; at most 1.6 in a quadrant of the real ones, which have none.
    """
    images, _ = phantom_set(40, size=150, seed=3)
    real, generated = images[:20], images[20:].copy()
    generated[:, 10:40, 105:140] = 255
    sets = shallow.extract(real), shallow.extract(generated)
    parts, slopes, maps = contributions(*sets), gradients(*sets), FeatureMaps(shallow)

    def quadrants(images, parts, slopes):
        for i in np.argsort(-parts)[:4]:
            heat = maps.enlarge(
                heat_map(maps.compute(images[i]), slopes[i], parts[i]), images[i].shape
            )
            yield heat.reshape(2, 75, 2, 75).mean(axis=(1, 3)) / parts[i]

    for (upper_left, upper_right), lower in quadrants(generated, parts.generated, slopes.generated):
        assert upper_right > 3
        assert upper_right > 3 * max(upper_left, *lower)
    for found in quadrants(real, parts.real, slopes.real):
        assert found.max() < 2


def test_a_planted_rectangle_is_found_in_wide_padded_images():
    extractor = load_extractor("random", image_size=150, dims=192, aspect="pad")
    images, _ = phantom_set(40, size=150, seed=3)
    images = images[:, 40:100]  # 60 x 150
    real, generated = images[:20], images[20:].copy()
    generated[:, 4:24, 110:140] = 255
    sets = extractor.extract(real), extractor.extract(generated)
    parts, slopes, maps = contributions(*sets), gradients(*sets), FeatureMaps(extractor)
    for i in np.argsort(-parts.generated)[:4]:
        heat = maps.enlarge(
            heat_map(maps.compute(generated[i]), slopes.generated[i], parts.generated[i]), (60, 150)
        )
        assert heat.shape == (60, 150)
        quadrants = heat.reshape(2, 30, 2, 75).mean(axis=(1, 3))
        row, column = np.unravel_index(heat.argmax(), heat.shape)
        assert 0 <= row < 28
        assert 106 <= column < 144
        assert quadrants[0, 1] > 2 * np.delete(quadrants.ravel(), 1).max()
