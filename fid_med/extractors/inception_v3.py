"""Keras's InceptionV3 cut at the global average pool, whatever file its weights come from."""

import os
import pathlib
import tempfile
from collections.abc import Callable

import keras
import numpy as np

from fid_med.data.preprocessing import Preprocessing
from fid_med.errors import ExtractorError, reason_of
from fid_med.utils.hashing import extractor_fingerprint

NETWORK = "inception_v3"
NUM_FEATURES = 2048
SMALLEST_INPUT = 75
# The stages of Szegedy et al. 2015, table 1, under Keras's names: where a stage ends.
BLOCKS = ("mixed0", "mixed1", "mixed2", "mixed3", "mixed4", "mixed5", "mixed6", "mixed7", "mixed8",
          "mixed9", "mixed10")  # fmt: skip


def build_network(preprocessing: Preprocessing) -> keras.Model:
    """InceptionV3 from resized pixels to features, with Keras's initial weights.

    Args:
      preprocessing: gives the input's size, and the scaling, which is the network's first layer.

    Returns:
      A model from float32 [B, height, width, 3], 0..255, to float32 [B, 2048], the output of the
      global average pool; blocks carry the names of `keras.applications.InceptionV3`.

    Raises:
      ExtractorError: an input smaller than 75 x 75, which the network cannot take.
    """
    height, width = preprocessing.height, preprocessing.width
    if min(height, width) < SMALLEST_INPUT:
        raise ExtractorError(
            f"image size {height} x {width}: InceptionV3 needs at least "
            f"{SMALLEST_INPUT} x {SMALLEST_INPUT} pixels"
        )
    pixels = keras.Input((height, width, 3), name="pixels")
    scaled = keras.layers.Rescaling(preprocessing.scale, preprocessing.offset, name="scaling")(
        pixels
    )
    core = keras.applications.InceptionV3(
        include_top=False, weights=None, input_tensor=scaled, pooling="avg"
    )
    return keras.Model(pixels, core.outputs[0], name="extractor")


def weighted_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """The convolutions and batch normalisations of a model in its own order, nested ones too."""
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += weighted_layers(layer)
        elif isinstance(layer, (keras.layers.Conv2D, keras.layers.BatchNormalization)):
            found.append(layer)
    return found


def network_arrays(network: keras.Model) -> list[np.ndarray]:
    """The weights that decide the features, in the order of `weighted_layers`."""
    return [array for layer in weighted_layers(network) for array in layer.get_weights()]


def fingerprint(network: keras.Model, preprocessing: Preprocessing) -> str:
    """sha256 of what decides the features of a network as `build_network` makes it."""
    return extractor_fingerprint(NETWORK, network_arrays(network), preprocessing.to_dict())


def copy_weights(source: keras.Model, network: keras.Model, name: str) -> None:
    """Copies convolutions and batch normalisations from a model into a network of ours.

    Raises:
      ExtractorError: the source lacks InceptionV3's layers; the first that differs is named.
    """
    theirs, ours = weighted_layers(source), weighted_layers(network)
    for number, (their, our) in enumerate(zip(theirs, ours, strict=False)):
        shapes = [w.shape for w in their.get_weights()]
        wanted = [w.shape for w in our.get_weights()]
        if shapes != wanted:
            raise ExtractorError(
                f"{name}: layer {number} ({their.name}) has weights {shapes}, InceptionV3 has "
                f"{wanted} there; only Keras's InceptionV3 can serve as an extractor"
            )
    if len(theirs) != len(ours):
        raise ExtractorError(
            f"{name}: {len(theirs)} convolution and normalisation layers, InceptionV3 has "
            f"{len(ours)}; only Keras's InceptionV3 can serve as an extractor"
        )
    for their, our in zip(theirs, ours, strict=True):
        our.set_weights(their.get_weights())


def load_imagenet_weights(network: keras.Model) -> None:
    """Sets Keras's own ImageNet weights, downloaded once and cached by Keras.

    Raises:
      ExtractorError: they are neither cached nor to be downloaded.
    """
    try:
        source = keras.applications.InceptionV3(include_top=False, weights="imagenet")
    except Exception as error:
        raise ExtractorError(
            f"ImageNet weights could not be downloaded ({reason_of(error)}); fetch that file on a "
            "machine with internet, put it into ~/.keras/models/ here, or give its path instead "
            "of 'imagenet'"
        ) from None
    copy_weights(source, network, "imagenet")


def load_keras_file(
    path: str, verify: bool = True
) -> tuple[keras.Model, Preprocessing | None, Callable[[np.ndarray], np.ndarray] | None]:
    """Reads InceptionV3 from a file in any form that Keras reads.

    Weights of `include_top=False` (`.weights.h5`, or the legacy `.h5` of Keras 2) or a whole model
    (`.keras`, legacy `.h5`), with or without layers behind the pool.

    Args:
      path: the file.
      verify: run a whole model and its copy on two images and compare their features; not needed
        where a fingerprint tells.

    Returns:
      A network as `build_network` makes it, and the preprocessing that a whole model implies by
      its input size and `Rescaling` layer; None where the file holds weights alone.

    Raises:
      ExtractorError: what is no InceptionV3, or computes other features than InceptionV3 with
        its weights.
    """
    if not path.endswith(".weights.h5"):
        model = _whole_model(path)
        if model is not None:
            return _from_whole_model(model, path, verify)
    network = build_network(Preprocessing())
    source = keras.applications.InceptionV3(include_top=False, weights=None)
    try:
        source.load_weights(path)
    except Exception as error:
        raise ExtractorError(
            f"{path}: not the weights of a Keras InceptionV3 with include_top=False "
            f"({reason_of(error)})"
        ) from None
    copy_weights(source, network, path)
    return network, None, None


def _whole_model(path):
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:
        if path.endswith(".keras"):
            raise ExtractorError(
                f"{path}: cannot be loaded by Keras ({reason_of(error)})"
            ) from None
        return None  # a legacy .h5 may hold weights alone


def _from_whole_model(model, path, verify):
    cut = _cut_at_pool(model, path)
    height, width = (size or 299 for size in model.inputs[0].shape[1:3])
    scalings = [x for x in _flat_layers(model) if isinstance(x, keras.layers.Rescaling)]
    if any(np.ndim(x.scale) or np.ndim(x.offset) for x in scalings) or len(scalings) > 1:
        raise ExtractorError(f"{path}: scales its channels apart, which fid_med does not carry")
    preprocessing = Preprocessing(height, width)
    if scalings:
        preprocessing = Preprocessing(
            height, width, scale=float(scalings[0].scale), offset=float(scalings[0].offset)
        )
    network = build_network(preprocessing)
    copy_weights(model, network, path)
    if verify:
        _check_same_features(network, cut, bool(scalings), preprocessing, path)
    return network, preprocessing, _softmax_logits(model, cut)


def _softmax_logits(model, cut):
    """The classifier behind the pool, where it is one softmax layer (and dropout)."""
    dense = [x for x in _flat_layers(model) if isinstance(x, keras.layers.Dense)]
    if len(dense) != 1 or dense[0].kernel.shape[0] != cut.output_shape[-1] or not dense[0].use_bias:
        return None
    if dense[0].activation is not keras.activations.softmax:
        return None
    kernel, bias = (np.asarray(x, np.float64) for x in dense[0].get_weights())
    return lambda features: np.asarray(features, np.float64) @ kernel + bias


def _check_same_features(network, cut, cut_scales, preprocessing, path):
    # The copy goes by order and shape; that it computes the same is checked, not believed.
    height, width = preprocessing.height, preprocessing.width
    pixels = np.random.default_rng(0).integers(0, 256, (2, height, width, 3)).astype(np.float32)
    seen = pixels if cut_scales else pixels * preprocessing.scale + preprocessing.offset
    expected = np.asarray(cut(seen, training=False))
    obtained = np.asarray(network(pixels, training=False))
    if not np.abs(expected - obtained).max() <= 1e-4 * np.abs(expected).max():
        raise ExtractorError(
            f"{path}: computes other features than Keras's InceptionV3 does with its weights"
        )


def _flat_layers(model):
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _flat_layers(layer)


def _cut_at_pool(model, path):
    """A model that ends at the 2,048 averaged features, wherever the given one has them."""
    for layer in reversed(model.layers):
        pools = isinstance(layer, (keras.layers.GlobalAveragePooling2D, keras.Model))
        shape = getattr(layer.output, "shape", ()) if pools else ()
        if len(shape) == 2 and shape[-1] == NUM_FEATURES:
            return keras.Model(model.inputs[0], layer.output)
        if len(shape) == 4 and shape[-1] == NUM_FEATURES:
            return keras.Model(model.inputs[0], keras.layers.GlobalAveragePooling2D()(layer.output))
    shape = model.outputs[0].shape
    if len(shape) == 4 and shape[-1] == NUM_FEATURES:
        return keras.Model(model.inputs[0], keras.layers.GlobalAveragePooling2D()(model.outputs[0]))
    for layer in model.layers:
        if layer.name == BLOCKS[-1] and layer.output.shape[-1] == NUM_FEATURES:
            return keras.Model(model.inputs[0], keras.layers.GlobalAveragePooling2D()(layer.output))
    raise ExtractorError(f"{path}: has no layer with InceptionV3's {NUM_FEATURES} pooled features")


def initialise_randomly(network: keras.Model, seed: int) -> None:
    """Sets every convolution to He-normal numbers and batch normalisation to the identity.

    He et al. 2015, "Delving Deep into Rectifiers", equation 10. Drawn by NumPy, so that a seed
    means the same weights under every version of Keras.
    """
    rng = np.random.default_rng(seed)
    for layer in weighted_layers(network):
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
      network: as `build_network` makes it.
      pixels: [B, height, width, 3], 0..255.
    """
    layers = [x for x in weighted_layers(network) if hasattr(x, "moving_mean")]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    network(pixels.astype(np.float32), training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def save_model(model: keras.Model, path: pathlib.Path) -> None:
    """Writes the network of a model, without its optimizer, as `.keras` onto an existing file."""
    model = keras.Model(model.input, model.output, name=model.name)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
        file = os.path.join(folder, "model.keras")
        model.save(file)
        os.replace(file, path)
