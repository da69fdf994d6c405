"""Folding: the same features, computed from the variables of the network."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import kernels, rounding

from fid_med.extractors import folding
from fid_med.extractors.inception_2015 import stand_in
from fid_med.extractors.inception_2015.network import _NormalisationRelu
from fid_med.extractors.registry import load_extractor

# Of the largest feature. 27 + 24 products of two convolutions, 3 operations of each normalisation,
# 25 values of the pool: 2.2e-6. A wrong epsilon moves a feature by more than 1e-4.
SMALL_NETWORK = rounding.rounding(27 + 24 + 2 * 3 + 25)


def furthest(obtained, expected):
    return np.abs(np.asarray(obtained) - expected).max() / np.abs(expected).max()


def small_network(normalisation, **options):
    pixels = keras.Input((12, 12, 3))
    options = {"use_bias": False} | options
    x = keras.layers.Conv2D(8, 3, strides=2, name="first", **options)(pixels)
    x = normalisation(name="first_norm")(x)
    x = keras.layers.Activation("relu")(x)
    y = keras.layers.Conv2D(4, (1, 3), padding="same", name="second", **options)(x)
    y = normalisation(name="second_norm")(y)
    x = keras.layers.Concatenate()([x, y])
    network = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(x))
    rng = np.random.default_rng(0)
    for layer in network.layers:
        weights = [rng.uniform(0.5, 1.5, w.shape).astype("f4") for w in layer.get_weights()]
        layer.set_weights(weights)
    return network


PIXELS = np.random.default_rng(1).normal(size=(5, 12, 12, 3)).astype(np.float32)


@pytest.mark.parametrize(
    "normalisation",
    [
        keras.layers.BatchNormalization,
        functools.partial(keras.layers.BatchNormalization, scale=False),
        _NormalisationRelu,
    ],
    ids=["gamma", "no gamma", "2015"],
)
def test_folded_network_gives_the_same_features_with_half_the_layers(normalisation):
    network = small_network(normalisation)
    folded = folding.folded(network)
    kinds = (keras.layers.BatchNormalization, _NormalisationRelu, keras.layers.Conv2D)
    assert not any(type(layer) in kinds for layer in folded.layers)
    assert furthest(folded(PIXELS), np.asarray(network(PIXELS, training=False))) < SMALL_NETWORK


def test_changes_of_the_network_change_the_folded_network():
    # Training evaluates validation images with an extractor of the network being trained.
    network = small_network(keras.layers.BatchNormalization)
    folded = folding.folded(network)
    before = np.asarray(folded(PIXELS))
    for name in ("second", "first_norm"):
        layer = network.get_layer(name)
        layer.set_weights([w * 1.3 for w in layer.get_weights()])
    expected = np.asarray(network(PIXELS, training=False))
    assert furthest(before, expected) > 0.01
    assert furthest(folded(PIXELS), expected) < SMALL_NETWORK


@pytest.mark.parametrize(
    "options", [{"use_bias": True}, {"activation": "relu"}, {"dilation_rate": 2, "strides": 1}]
)
def test_other_networks_are_not_folded(options):
    pixels = keras.Input((12, 12, 3))
    options = {"use_bias": False} | options
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, **options)(pixels))
    network = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(x))
    assert folding.folded(network) is network


def test_a_convolution_with_two_consumers_is_not_folded():
    pixels = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=False)(pixels)
    joined = keras.layers.Add()([keras.layers.BatchNormalization()(x), x])
    network = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(joined))
    assert folding.folded(network) is network


def test_inception_is_folded_and_left_unchanged(small_extractor, phantoms):
    network = small_extractor.network
    layers = [layer.output for layer in network.layers]  # raises where a layer has two outputs
    pixels = np.repeat(phantoms[0][:4, :75, :75, None], 3, axis=-1)
    obtained = small_extractor.extract_batch(pixels)
    assert small_extractor._folded is not network
    expected = np.asarray(network(pixels.astype("f4"), training=False))
    assert furthest(obtained, expected) < rounding.FEATURES
    assert [layer.output for layer in network.layers] == layers


def test_the_2015_network_is_folded_within_rounding_and_can_run_as_it_is(graph_def, tmp_path):
    path = tmp_path / "classify_image_graph_def.pb"
    path.write_bytes(graph_def.SerializeToString())
    folded = load_extractor(path)
    unfolded = load_extractor(path, precision="float32_unfolded")
    pixels = stand_in.smooth_images(2, 299, 299)
    obtained = [extractor.extract_batch(pixels) for extractor in (folded, unfolded)]
    assert not any(isinstance(x, _NormalisationRelu) for x in folded._folded.layers)
    assert unfolded._folded is unfolded.network
    expected = np.asarray(unfolded.network(pixels.astype(np.float32), training=False))
    # Compiled and eager run the same operations, in kernels that oneDNN may choose differently: on
    # a processor with AVX-512 they were 7.4e-6 apart.
    for features in obtained:
        assert furthest(features, expected) < rounding.FEATURES
    assert furthest(*obtained) > 0
    # They are one extractor, but features of one must not be read from the other's cache.
    assert folded.fingerprint == unfolded.fingerprint
    assert folded.name == unfolded.name
    assert folded.cache_key != unfolded.cache_key


@pytest.mark.parametrize(
    "normalisation",
    [keras.layers.BatchNormalization, _NormalisationRelu],
    ids=["bn", "2015"],
)
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@kernels.needs_low_precision
def test_only_convolutions_have_lower_precision(normalisation, precision):
    network = small_network(normalisation)
    lowered = folding.folded(network, precision)
    traced = tf.function(lambda x: lowered(x, training=False)).get_concrete_function(PIXELS)
    convolutions = [op for op in traced.graph.get_operations() if op.type == "Conv2D"]
    assert [op.outputs[0].dtype.name for op in convolutions] == [precision] * 2
    expected, obtained = np.asarray(network(PIXELS)), np.asarray(traced(PIXELS))
    assert obtained.dtype == np.float32
    # Further than float32 rounds, at most 4 roundings of bfloat16's 8 bits (eps / 2 = 0.4 %).
    assert SMALL_NETWORK < furthest(obtained, expected) < 2e-2
    # The network itself is unchanged.
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}
    assert furthest(network(PIXELS), expected) == 0


def test_reversed_channels_are_folded_in_any_precision():
    pixels = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=False)(keras.ops.flip(pixels, axis=-1))
    x = keras.layers.BatchNormalization()(x)
    network = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(x))
    folded = folding.folded(network)
    assert folded is not network
    assert furthest(folded(PIXELS), np.asarray(network(PIXELS))) < SMALL_NETWORK
    lowered = folding.folded(network, "bfloat16")
    assert lowered.layers[-1].compute_dtype == "float32"
    assert len(lowered.layers) == len(folded.layers)


def test_a_users_own_policy_changes_no_feature():
    network = small_network(keras.layers.BatchNormalization)
    expected = np.asarray(network(PIXELS))
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        obtained = folding.folded(network)(PIXELS)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert furthest(obtained, expected) < SMALL_NETWORK
