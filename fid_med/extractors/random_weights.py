"""InceptionV3 with seeded random weights."""

import dataclasses
import functools

import keras
import numpy as np
import tensorflow as tf

from fid_med.data.preprocessing import Preprocessing, as_rgb_batch
from fid_med.extractors import inception_v3
from fid_med.extractors.extractor import FeatureExtractor
from fid_med.utils.hashing import extractor_fingerprint

_CALIBRATION = {"phantoms": 16, "size": 299, "seed": 0}


def load_random_extractor(seed: int, changes: dict) -> FeatureExtractor:
    """Makes an InceptionV3 with random weights whose features have an ordinary magnitude.

    With a new network's batch normalisation, features would be near 1e-4. Its moving statistics
    are therefore set once, from fixed phantoms of 299 pixels, whatever the input size.

    Args:
      seed: seed of the weights.
      changes: fields of `Preprocessing` other than the default.
    """
    preprocessing = dataclasses.replace(Preprocessing(), **changes)
    network = inception_v3.build_network(preprocessing)
    layers = inception_v3.weighted_layers(network)
    for layer, weights in zip(layers, _calibrated_weights(seed), strict=True):
        layer.set_weights(weights)
    kernels = [x for x in inception_v3.network_arrays(network) if x.ndim == 4]
    # The moving statistics are hashed as a recipe: their last bits differ between processors.
    recipe = {**preprocessing.to_dict(), "random_seed": seed, "calibration": _CALIBRATION}
    fingerprint = extractor_fingerprint(inception_v3.NETWORK, kernels, recipe)
    return FeatureExtractor("random", network, preprocessing, fingerprint)


@functools.lru_cache(maxsize=1)
def _calibrated_weights(seed):
    from fid_med.phantoms.radiograph import phantom_set

    size, count = _CALIBRATION["size"], _CALIBRATION["phantoms"]
    network = inception_v3.build_network(Preprocessing(size, size))
    initialise_randomly(network, seed)
    phantoms, _ = phantom_set(count, size=size, seed=_CALIBRATION["seed"])
    calibrate_batch_norm(network, as_rgb_batch(list(phantoms)))
    return [layer.get_weights() for layer in inception_v3.weighted_layers(network)]


def initialise_randomly(network: keras.Model, seed: int) -> None:
    """Sets convolutions to He-normal numbers and batch normalisations to the identity.

    He et al. 2015, "Delving Deep into Rectifiers", equation 10. NumPy draws the numbers, so that a
    seed gives the same weights with every version of Keras.
    """
    rng = np.random.default_rng(seed)
    for layer in inception_v3.weighted_layers(network):
        if isinstance(layer, keras.layers.Conv2D):
            (kernel,) = layer.get_weights()
            deviation = np.sqrt(2 / np.prod(kernel.shape[:3]))
            layer.set_weights([rng.normal(0, deviation, kernel.shape).astype(np.float32)])
        else:
            beta, mean, variance = layer.get_weights()
            layer.set_weights([np.zeros_like(beta), np.zeros_like(mean), np.ones_like(variance)])


def calibrate_batch_norm(network: keras.Model, pixels: np.ndarray) -> None:
    """Sets the moving statistics of every batch normalisation to those of one batch.

    Args:
      network: as returned by `inception_v3.build_network`.
      pixels: [B, height, width, 3], 0..255.
    """
    layers = [x for x in inception_v3.weighted_layers(network) if hasattr(x, "moving_mean")]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    # Eager operations would keep every layer's output until the end: 3 GB.
    tf.function(lambda x: network(x, training=True))(tf.constant(pixels, tf.float32))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
