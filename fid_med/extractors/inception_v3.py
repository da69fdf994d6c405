"""Keras's InceptionV3 and its other networks, cut at the global average pool."""

import dataclasses

import keras
import numpy as np

from fid_med.data.preprocessing import Preprocessing
from fid_med.errors import ExtractorError, reason_of
from fid_med.extractors.extractor import FeatureExtractor
from fid_med.extractors.registry import LARGEST_INPUT, SMALLEST_INPUT
from fid_med.utils.hashing import extractor_fingerprint

NETWORK = "inception_v3"
NUM_FEATURES = 2048


def build_network(preprocessing: Preprocessing, application: str = "InceptionV3") -> keras.Model:
    """Builds a network from resized pixels to features, with Keras's initial weights.

    Args:
      preprocessing: gives the size of the input, the channel order and the scaling. Order and
        scaling are the network's first layers.
      application: name of a function in `keras.applications`.

    Returns:
      A model from float32 [B, height, width, 3], 0..255, to float32 [B, d], the output of the
      global average pool; d is 2,048 for InceptionV3. Blocks have the names that Keras gives them.

    Raises:
      ExtractorError: the input is smaller than 75 x 75, or larger than 4096 x 4096.
    """
    height, width = preprocessing.height, preprocessing.width
    if min(height, width) < SMALLEST_INPUT:
        raise ExtractorError(
            f"image size {height} x {width}: {application} needs at least "
            f"{SMALLEST_INPUT} x {SMALLEST_INPUT} pixels"
        )
    if max(height, width) > LARGEST_INPUT:
        raise ExtractorError(
            f"image size {height} x {width}: expected at most {LARGEST_INPUT} x {LARGEST_INPUT} "
            "pixels"
        )
    pixels = keras.Input((height, width, 3), name="pixels")
    ordered = keras.ops.flip(pixels, axis=-1) if preprocessing.channels == "bgr" else pixels
    scaled = keras.layers.Rescaling(*preprocessing.affine(), name="scaling")(ordered)
    core = getattr(keras.applications, application)(
        include_top=False, weights=None, input_tensor=scaled, pooling="avg"
    )
    return keras.Model(pixels, core.outputs[0], name="extractor")


def weighted_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns convolutions and batch normalisations in the model's order, also of nested models."""
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += weighted_layers(layer)
        elif isinstance(layer, (keras.layers.Conv2D, keras.layers.BatchNormalization)):
            found.append(layer)
    return found


def network_arrays(network: keras.Model) -> list[np.ndarray]:
    """Returns the weights that determine the features, in the order of `weighted_layers`."""
    return [array for layer in weighted_layers(network) for array in layer.get_weights()]


def fingerprint(
    network: keras.Model, preprocessing: Preprocessing, architecture: str = NETWORK
) -> str:
    """Returns the SHA-256 of the weights and the preprocessing of a `build_network` model."""
    return extractor_fingerprint(architecture, network_arrays(network), preprocessing.to_dict())


def copy_weights(source: keras.Model, network: keras.Model, name: str) -> None:
    """Copies convolutions and batch normalisations between models, in their order.

    Args:
      source: any model that begins with InceptionV3's layers; later ones belong to its classifier.
      network: model as returned by `build_network`.
      name: name of the source in error messages.

    Raises:
      ExtractorError: the source has other layers than InceptionV3. The first one is named.
    """
    theirs, ours = weighted_layers(source), weighted_layers(network)
    for number, (their, our) in enumerate(zip(theirs, ours, strict=False)):
        shapes = [w.shape for w in their.get_weights()]
        wanted = [w.shape for w in our.get_weights()]
        if shapes != wanted:
            raise ExtractorError(
                f"{name}: layer {number} ({their.name}) has weights {shapes}, InceptionV3 has "
                f"{wanted}; only Keras's InceptionV3 can be an extractor"
            )
    if len(theirs) < len(ours):
        raise ExtractorError(
            f"{name}: {len(theirs)} convolution and normalisation layers, InceptionV3 has "
            f"{len(ours)}; only Keras's InceptionV3 can be an extractor"
        )
    for their, our in zip(theirs, ours, strict=False):
        our.set_weights(their.get_weights())


def resize_network(network: keras.Model, preprocessing: Preprocessing, name: str) -> keras.Model:
    """Builds a network again for another input size; returns the same one if the size is equal.

    A network is built at its own size first and then resized: each one draws seeds from Keras's
    global random state, and the next draws are those of a training's head.
    """
    if network.input_shape[1:3] == (preprocessing.height, preprocessing.width):
        return network
    rebuilt = build_network(preprocessing)
    copy_weights(network, rebuilt, name)
    return rebuilt


def load_imagenet_extractor(changes: dict) -> FeatureExtractor:
    """Makes an extractor of Keras's ImageNet weights, downloaded once and cached by Keras.

    Args:
      changes: fields of `Preprocessing` other than the default.

    Raises:
      ExtractorError: the weights are not cached and cannot be downloaded.
    """
    wanted = dataclasses.replace(Preprocessing(), **changes)
    network = build_network(Preprocessing())
    load_imagenet_weights(network)
    network = resize_network(network, wanted, "imagenet")
    return FeatureExtractor(
        "imagenet",
        network,
        wanted,
        fingerprint(network, wanted),
        warnings=size_warnings("imagenet", Preprocessing(), wanted),
    )


def size_warnings(name: str, trained: Preprocessing, used: Preprocessing) -> tuple[str, ...]:
    """Warns if an extractor is used at another image size than it was trained at."""
    sizes = [f"{x.height} x {x.width}" for x in (trained, used)]
    if sizes[0] == sizes[1]:
        return ()
    return (
        f"{name}: was trained on images of {sizes[0]} pixels and is used at {sizes[1]}; its FIDs "
        f"cannot be compared with those at {sizes[0]}, and its features may describe images less "
        "well; use its own image size, or train at this one",
    )


def load_imagenet_weights(network: keras.Model, application: str = "InceptionV3") -> None:
    """Sets Keras's ImageNet weights in a `build_network` model; errors as above."""
    try:
        source = getattr(keras.applications, application)(include_top=False, weights="imagenet")
    except Exception as error:
        or_path = ""
        if application == "InceptionV3":
            or_path = "; or give its path: --weights=FILE in training, --extractor=FILE elsewhere"
        raise ExtractorError(
            f"ImageNet weights could not be downloaded ({reason_of(error)}); fetch that file on a "
            f"machine with internet and put it into ~/.keras/models/ here{or_path}"
        ) from None
    copy_weights(source, network, "imagenet")
