"""The heads on top of InceptionV3 while it trains; none of them is part of the extractor."""

import keras
import numpy as np

from fid_med.extractors import inception_v3
from fid_med.utils.progress import say

PREFIX = "auxiliary"
_GRID, _POOL, _STRIDE, _KERNEL = 17, 5, 3, 5


def build_head(num_classes: int, activation: str, dropout: float, seed: int) -> keras.Sequential:
    """Dropout and one dense layer from features [B, 2048] to probabilities float32 [B, K].

    Args:
      num_classes: K.
      activation: `softmax` or `sigmoid`.
      dropout: share of the features set to 0 in training.
      seed: of the dropout.
    """
    return keras.Sequential(
        [
            keras.Input((inception_v3.NUM_FEATURES,), name="features"),
            keras.layers.Dropout(dropout, seed=seed, name="dropout"),
            # Probabilities in float32 whatever the network computes in: float16 ends at 65504.
            keras.layers.Dense(
                num_classes, activation=activation, name="predictions", dtype="float32"
            ),
        ]
    )


def join(network: keras.Model, head: keras.Sequential) -> keras.Model:
    """The classifier: a network with the layers of its head, from pixels to probabilities."""
    output = network.output
    for layer in head.layers:
        output = layer(output)
    return keras.Model(network.input, output, name="classifier")


def with_auxiliary_head(
    network: keras.Model, classifier: keras.Model, num_classes: int, activation: str, seed: int
) -> keras.Model:
    """A classifier with a second head on the last 17 x 17 grid, for training alone.

    Szegedy et al. 2015, section 4 and figure 8: average pool 5x5 with stride 3, 1x1 convolution to
    128 channels, 5x5 convolution to 768 without padding, both batch-normalised, and the classifier.
    That takes a 17 x 17 grid, which inputs of 299 pixels have; on another grid pool and kernel
    shrink to what there is, and what a larger one leaves over is averaged. A line says so.

    Args:
      network: as `inception.build_network` makes it.
      classifier: the network with its head; its layers are shared, and it stays as it is.
      num_classes: K.
      activation: `softmax` or `sigmoid`.
      seed: of the new layers' weights.

    Returns:
      A model from pixels to `{"predictions": [B, K], "auxiliary": [B, K]}`; the names of the new
      layers begin with `auxiliary`.
    """
    grid = network.get_layer("mixed7").output
    pool = [min(_POOL, size) for size in grid.shape[1:3]]
    pooled = keras.layers.AveragePooling2D(pool, _STRIDE, name=f"{PREFIX}_pool")(grid)
    kernel = [min(_KERNEL, size) for size in pooled.shape[1:3]]
    if tuple(grid.shape[1:3]) != (_GRID, _GRID):
        say(
            f"auxiliary head: the grid is {_by(grid.shape[1:3])}, not {_GRID} x {_GRID}: pools "
            f"over {_by(pool)} instead of {_POOL} x {_POOL}, and its second convolution is "
            f"{_by(kernel)} instead of {_KERNEL} x {_KERNEL}"
        )
    rng = np.random.default_rng([seed, 1])
    narrow = _convolution(pooled, 128, (1, 1), 1, rng)
    wide = _convolution(narrow, 768, tuple(kernel), 2, rng)
    averaged = keras.layers.GlobalAveragePooling2D(name=f"{PREFIX}_average")(wide)
    output = keras.layers.Dense(
        num_classes,
        activation=activation,
        name=f"{PREFIX}_predictions",
        dtype="float32",
        kernel_initializer=_seeded("glorot_uniform", rng),
    )(averaged)
    outputs = {"predictions": classifier.output, "auxiliary": output}
    return keras.Model(network.input, outputs, name="with_auxiliary_head")


def _convolution(inputs, channels, kernel, number, rng):
    """Convolution, batch normalisation and ReLU, as everywhere in InceptionV3."""
    output = keras.layers.Conv2D(
        channels,
        kernel,
        use_bias=False,
        name=f"{PREFIX}_conv{number}",
        kernel_initializer=_seeded("he_normal", rng),
    )(inputs)
    output = keras.layers.BatchNormalization(scale=False, name=f"{PREFIX}_norm{number}")(output)
    return keras.layers.Activation("relu", name=f"{PREFIX}_relu{number}")(output)


def _seeded(name, rng):
    config = {"class_name": name, "config": {"seed": int(rng.integers(1 << 31))}}
    return keras.initializers.get(config)


def _by(size):
    return " x ".join(str(n) for n in size)
