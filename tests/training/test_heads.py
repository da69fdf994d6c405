"""Tests the auxiliary head against the layers of its paper."""

import keras
import numpy as np
import pytest

from fid_med.extractors.inception_v3 import NUM_FEATURES
from fid_med.training.heads import add_auxiliary_head, build_classifier, build_head


def stub_network(size):
    """Builds a network with a layer named mixed7, for testing heads."""
    pixels = keras.Input((size, size, 3))
    grid = keras.layers.Conv2D(768, 1, name="mixed7")(pixels)
    pooled = keras.layers.GlobalAveragePooling2D()(grid)
    return keras.Model(pixels, keras.layers.Dense(NUM_FEATURES)(pooled))


def build_models(size, **options):
    network = stub_network(size)
    classifier = build_classifier(network, build_head(4, "softmax", 0.0, 0))
    return classifier, add_auxiliary_head(
        network, classifier, 4, "softmax", **({"seed": 0} | options)
    )


@pytest.mark.parametrize(
    ("size", "pool", "kernel", "grid"),
    [
        (17, (5, 5), (5, 5), (1, 1)),
        (3, (3, 3), (1, 1), (1, 1)),
        (8, (5, 5), (2, 2), (1, 1)),
        (20, (5, 5), (5, 5), (2, 2)),
    ],
)
def test_auxiliary_head_has_the_layers_of_the_paper(size, pool, kernel, grid, capsys):
    classifier, model = build_models(size)
    assert model.get_layer("auxiliary_pool").pool_size == pool
    assert model.get_layer("auxiliary_pool").strides == (3, 3)
    narrow, wide = (model.get_layer(f"auxiliary_conv{i}") for i in (1, 2))
    assert narrow.kernel.shape == (1, 1, 768, 128)
    assert wide.kernel.shape == (*kernel, 128, 768)
    assert wide.output.shape[1:3] == grid
    assert not wide.use_bias
    assert model.get_layer("auxiliary_norm1").output.shape[-1] == 128
    assert model.get_layer("auxiliary_predictions").kernel.shape == (768, 4)
    printed = capsys.readouterr().err
    assert ("auxiliary head: the grid is" in printed) == (size != 17)
    assert printed.count("\n") <= 1
    assert not [layer.name for layer in classifier.layers if layer.name.startswith("auxiliary")]


def test_weights_of_the_auxiliary_head_depend_on_the_seed():
    def weights(seed):
        return build_models(3, seed=seed)[1].get_layer("auxiliary_conv1").get_weights()[0]

    np.testing.assert_array_equal(weights(0), weights(0))
    assert (weights(0) != weights(1)).any()
