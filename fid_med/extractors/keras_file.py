"""Files of InceptionV3 that Keras reads, and the metadata that makes one an extractor."""

import dataclasses
import json
import os
import pathlib
import tempfile
import zipfile

import keras
import numpy as np

from fid_med.data.preprocessing import Preprocessing
from fid_med.errors import ExtractorError, FidMedError, reason_of
from fid_med.extractors.extractor import FeatureExtractor, TrainingImages
from fid_med.extractors.inception_v3 import (
    BLOCKS,
    NUM_FEATURES,
    build_network,
    copy_weights,
    fingerprint,
    resize_network,
    size_warnings,
)
from fid_med.utils.files import atomic_path

METADATA_MEMBER = "fid_med.json"
METADATA_FORMAT = 1


def save_extractor(
    path,
    network: keras.Model,
    preprocessing: Preprocessing,
    *,
    labels: tuple[str, ...] = (),
    training_images: TrainingImages | None = None,
    lineage: tuple[dict, ...] = (),
) -> str:
    """Writes a `.keras` file that `load_extractor` reads.

    `keras.models.load_model` reads the file too, without fid_med. The archive contains one
    additional member, `fid_med.json`.

    Args:
      path: file to write.
      network: model as returned by `build_network`, or a classifier on top of it, which is cut when
        the file is loaded.
      preprocessing: that the network was built for.
      labels: classes of the classifier.
      training_images: hashes of the training images.
      lineage: JSON fields of the extractors that the network was trained from, oldest first.

    Returns:
      The extractor's fingerprint.
    """
    identity = fingerprint(network, preprocessing)
    metadata = {
        "format": METADATA_FORMAT,
        "fingerprint": identity,
        "preprocessing": preprocessing.to_dict(),
        "labels": list(labels),
        "lineage": list(lineage),
        "training_images": training_images
        and {
            "key": training_images.key,
            "train": sorted(training_images.train),
            "validation": sorted(training_images.validation),
        },
    }
    with atomic_path(path) as temporary:
        _save_model(network, temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(METADATA_MEMBER, json.dumps(metadata, indent=1))
    return identity


def _save_model(model, path):
    """Writes a model without its optimizer over an existing file."""
    model = keras.Model(model.input, model.output, name=model.name)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
        file = os.path.join(folder, "model.keras")
        model.save(file)
        os.replace(file, path)


def load_keras_file(path: str, changes: dict) -> FeatureExtractor:
    """Loads an InceptionV3 extractor from any file that Keras reads.

    The file contains weights with `include_top=False` (`.weights.h5`, or the legacy `.h5` of
    Keras 2), or a whole model (`.keras`, legacy `.h5`), with or without layers after the pool. The
    input size and the `Rescaling` layer of a whole model give its preprocessing.

    Args:
      path: the file.
      changes: fields of `Preprocessing` other than the file's.

    Raises:
      ExtractorError: the file is damaged, is not an InceptionV3, or computes other features than
        InceptionV3 does with its weights.
    """
    metadata = _read_metadata(path)
    if metadata is not None:
        return _load_with_metadata(path, metadata, changes)
    model = None if path.endswith(".weights.h5") else _read_model(path)
    if model is not None:
        return _load_foreign_model(path, model, changes)
    network = _rebuilt(path, _read_weights(path), Preprocessing())
    return _make_extractor(path, network, Preprocessing(), changes, size_known=False)


def _make_extractor(path, network, preprocessing, changes, size_known=True, **attributes):
    wanted, name = dataclasses.replace(preprocessing, **changes), os.path.basename(path)
    return FeatureExtractor(
        name,
        resize_network(network, wanted, path),
        wanted,
        fingerprint(network, wanted),
        warnings=size_warnings(name, preprocessing, wanted) if size_known else (),
        **attributes,
    )


def _rebuilt(path, source, preprocessing):
    """Builds the network for a preprocessing, with the weights of a source model."""
    network = build_network(preprocessing)
    copy_weights(source, network, path)
    return network


def _read_metadata(path):
    """Reads the member that `save_extractor` adds; None if the file has none."""
    if not zipfile.is_zipfile(path):
        if pathlib.Path(path).suffix == ".keras":
            raise ExtractorError(f"{path}: damaged, or not a .keras file")
        return None
    with zipfile.ZipFile(path) as archive:
        if METADATA_MEMBER not in archive.namelist():
            return None
        try:
            metadata = json.loads(archive.read(METADATA_MEMBER))
            if metadata["format"] > METADATA_FORMAT:
                raise ExtractorError(f"{path}: written by a newer fid_med; upgrade to read it")
        except (KeyError, TypeError, ValueError, zipfile.BadZipFile):
            raise ExtractorError(f"{path}: its {METADATA_MEMBER} is damaged") from None
    if not path.endswith(".keras"):
        raise ExtractorError(f"{path}: is a .keras file; rename it to end in .keras")
    return metadata


def _load_with_metadata(path, metadata, changes):
    try:
        preprocessing = Preprocessing.from_dict(metadata["preprocessing"])
        identity, attributes = metadata["fingerprint"], _attributes(metadata)
        if not isinstance(identity, str):
            raise TypeError(f"fingerprint {identity!r}")
    except (AttributeError, KeyError, TypeError, FidMedError) as error:
        raise ExtractorError(
            f"{path}: its {METADATA_MEMBER} is damaged ({reason_of(error)})"
        ) from None
    model = _read_model(path)
    logits = _softmax_logits(model, _cut_at_pool(model, path))
    network = _rebuilt(path, model, preprocessing)
    if fingerprint(network, preprocessing) != identity:
        raise ExtractorError(
            f"{path}: its weights or its preprocessing are not those it was saved with"
        )
    return _make_extractor(path, network, preprocessing, changes, logits=logits, **attributes)


def _attributes(metadata):
    """Returns labels, lineage and training images of valid metadata."""
    labels, lineage = tuple(metadata["labels"]), tuple(metadata["lineage"])
    images = metadata["training_images"]
    if images is not None:
        images = TrainingImages(
            images["key"], frozenset(images["train"]), frozenset(images["validation"])
        )
        images.hasher()  # raises for an invalid key
    return {"labels": labels, "lineage": lineage, "training_images": images}


def _read_model(path):
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:
        if path.endswith(".keras"):
            raise ExtractorError(
                f"{path}: cannot be loaded by Keras ({reason_of(error)})"
            ) from None
        return None  # a legacy .h5 may contain only weights


def _read_weights(path):
    source = keras.applications.InceptionV3(include_top=False, weights=None)
    try:
        source.load_weights(path)
    except Exception as error:
        raise ExtractorError(
            f"{path}: not the weights of a Keras InceptionV3 with include_top=False "
            f"({reason_of(error)})"
        ) from None
    return source


def _load_foreign_model(path, model, changes):
    cut = _cut_at_pool(model, path)
    sizes = model.inputs[0].shape[1:3]
    height, width = (size or 299 for size in sizes)
    scalings = [x for x in _flat_layers(model) if isinstance(x, keras.layers.Rescaling)]
    if len(scalings) > 1 or any(np.ndim(x.scale) or np.ndim(x.offset) for x in scalings):
        raise ExtractorError(
            f"{path}: expected at most one Rescaling layer, with one scale and one offset for all "
            "channels"
        )
    preprocessing = Preprocessing(height, width)
    for layer in scalings:
        preprocessing = dataclasses.replace(
            preprocessing, scale=float(layer.scale), offset=float(layer.offset)
        )
    network = _rebuilt(path, model, preprocessing)
    _check_same_features(network, cut, bool(scalings), preprocessing, path)
    logits = _softmax_logits(model, cut)
    return _make_extractor(path, network, preprocessing, changes, all(sizes), logits=logits)


def _softmax_logits(model, cut):
    """Returns the classifier after the pool, if it is a single softmax layer (and dropout)."""
    dense = [x for x in _flat_layers(model) if isinstance(x, keras.layers.Dense)]
    if len(dense) != 1 or dense[0].kernel.shape[0] != cut.output_shape[-1] or not dense[0].use_bias:
        return None
    if dense[0].activation is not keras.activations.softmax:
        return None
    kernel, bias = (np.asarray(x, np.float64) for x in dense[0].get_weights())
    return lambda features: np.asarray(features, np.float64) @ kernel + bias


def _check_same_features(network, cut, cut_scales, preprocessing, path):
    # Weights are copied by order and shape, so a differently wired model would pass unnoticed.
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
    """Returns a model that ends at the 2,048 averaged features, wherever the given one has them."""
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
