"""Classification heads for training InceptionV3; they are not part of the extractor."""

import keras
import numpy as np

from fid_med.extractors.inception_v3 import NUM_FEATURES
from fid_med.utils.progress import say

AUXILIARY_PREFIX = "auxiliary"
# Of Szegedy et al. 2015, section 4 and figure 8.
_GRID, _POOL, _STRIDE, _KERNEL = 17, 5, 3, 5


def build_head(num_classes: int, activation: str, dropout: float, seed: int) -> keras.Sequential:
    """Builds dropout and one dense layer.

    Args:
      num_classes: K.
      activation: `softmax` or `sigmoid`.
      dropout: dropout rate.
      seed: seed of the dropout.

    Returns:
      A model from features [B, 2048] to probabilities float32 [B, K].
    """
    return keras.Sequential(
        [
            keras.Input((NUM_FEATURES,), name="features"),
            keras.layers.Dropout(dropout, seed=seed, name="dropout"),
            # Float32 also in mixed precision: float16 overflows at 65504.
            keras.layers.Dense(
                num_classes, activation=activation, name="predictions", dtype="float32"
            ),
        ]
    )


def build_classifier(network: keras.Model, head: keras.Sequential) -> keras.Model:
    """Builds the model from pixels to probabilities; it shares the layers of both arguments."""
    output = network.output
    for layer in head.layers:
        output = layer(output)
    return keras.Model(network.input, output, name="classifier")


def add_auxiliary_head(
    network: keras.Model, classifier: keras.Model, num_classes: int, activation: str, seed: int
) -> keras.Model:
    """Adds the auxiliary head of Inception-v3 to a classifier, for training only.

    The head of Szegedy et al. 2015, section 4 and figure 8, is attached to the last 17 x 17 grid:
    5 x 5 average pooling with stride 3, a 1 x 1 convolution to 128 channels, a 5 x 5 convolution to
    768 channels without padding, both with batch normalisation, and a dense layer. Inputs of 299
    pixels have that grid. On a smaller grid, pooling and kernel shrink to fit; on a larger one, the
    remaining positions are averaged. One printed line reports another grid.

    Args:
      network: from `inception_v3.build_network`.
      classifier: the network with its head; its layers are shared, and it stays unchanged.
      num_classes: K.
      activation: `softmax` or `sigmoid`.
      seed: seed of the weights of the new layers.

    Returns:
      A model from pixels to `{"predictions": [B, K], "auxiliary": [B, K]}`; the names of the new
      layers begin with `AUXILIARY_PREFIX`.
    """
    grid = network.get_layer("mixed7").output
    pool = [min(_POOL, size) for size in grid.shape[1:3]]
    pooled = keras.layers.AveragePooling2D(pool, _STRIDE, name=f"{AUXILIARY_PREFIX}_pool")(grid)
    kernel = [min(_KERNEL, size) for size in pooled.shape[1:3]]
    if tuple(grid.shape[1:3]) != (_GRID, _GRID):
        say(
            f"auxiliary head: the grid is {_format_size(grid.shape[1:3])} instead of "
            f"{_GRID} x {_GRID}; its pooling is {_format_size(pool)} instead of {_POOL} x {_POOL}, "
            f"its second convolution {_format_size(kernel)} instead of {_KERNEL} x {_KERNEL}"
        )
    rng = np.random.default_rng([seed, 1])
    narrow = _convolution(pooled, 128, (1, 1), 1, rng)
    wide = _convolution(narrow, 768, tuple(kernel), 2, rng)
    averaged = keras.layers.GlobalAveragePooling2D(name=f"{AUXILIARY_PREFIX}_average")(wide)
    output = keras.layers.Dense(
        num_classes,
        activation=activation,
        name=f"{AUXILIARY_PREFIX}_predictions",
        dtype="float32",
        kernel_initializer=_seeded_initializer("glorot_uniform", rng),
    )(averaged)
    outputs = {"predictions": classifier.output, "auxiliary": output}
    return keras.Model(network.input, outputs, name="with_auxiliary_head")


def _convolution(inputs, channels, kernel, number, rng):
    """Convolution, batch normalisation and ReLU, as in the rest of InceptionV3."""
    output = keras.layers.Conv2D(
        channels,
        kernel,
        use_bias=False,
        name=f"{AUXILIARY_PREFIX}_conv{number}",
        kernel_initializer=_seeded_initializer("he_normal", rng),
    )(inputs)
    output = keras.layers.BatchNormalization(scale=False, name=f"{AUXILIARY_PREFIX}_norm{number}")(
        output
    )
    return keras.layers.Activation("relu", name=f"{AUXILIARY_PREFIX}_relu{number}")(output)


def _seeded_initializer(name, rng):
    config = {"class_name": name, "config": {"seed": int(rng.integers(1 << 31))}}
    return keras.initializers.get(config)


def _format_size(size):
    return " x ".join(str(n) for n in size)
