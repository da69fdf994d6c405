"""Files of networks that Keras reads, and the metadata that makes one an extractor."""

import dataclasses
import json
import os
import zipfile

import keras

from fid_med.data.preprocessing import Preprocessing
from fid_med.errors import ExtractorError, FidMedError, reason_of
from fid_med.extractors.extractor import FeatureExtractor, TrainingImages
from fid_med.extractors.inception_v3 import (
    build_network,
    copy_weights,
    fingerprint,
    resize_network,
    size_warnings,
)
from fid_med.extractors.keras_model import has_inception_stem, load_model_extractor
from fid_med.extractors.model_files import check_hdf5, read_json_member, read_model
from fid_med.extractors.whole_model import check_same_features, observe, softmax_logits
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
    keras.Model(model.input, model.output, name=model.name).save(path)


def load_keras_file(path: str, changes: dict) -> FeatureExtractor:
    """Loads an extractor from any file that Keras reads, mostly of an InceptionV3.

    The file contains weights with `include_top=False` (`.weights.h5`, or the legacy `.h5` of
    Keras 2), or a whole model (`.keras`, legacy `.h5`) of Keras 2 or 3, also one that contains
    InceptionV3 as a layer. Features are the average over positions of its last block, whatever
    layers are behind it. A whole model gives the input size, and the scaling of pixels if it has
    any. For models of other networks see `keras_model`.

    Args:
      path: the file.
      changes: fields of `Preprocessing` other than the file's.

    Raises:
      ExtractorError: the file is damaged, is an InceptionV3 that computes other features than
        Keras's does with its weights, another network without features or scaling, or has layers
        that may run code.
    """
    metadata = _read_metadata(path)
    if metadata is not None:
        return _load_with_metadata(path, metadata, changes)
    model = read_model(path)
    if model is not None:
        return _load_whole_model(path, model, changes)
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
    if zipfile.is_zipfile(path):
        if not path.endswith(".keras"):
            raise ExtractorError(f"{path}: is a .keras file; rename it to end in .keras")
    elif path.endswith(".keras"):
        raise ExtractorError(f"{path}: damaged, or not a .keras file")
    metadata = read_json_member(path, METADATA_MEMBER)
    try:
        if metadata is not None and metadata["format"] > METADATA_FORMAT:
            raise ExtractorError(f"{path}: written by a newer fid_med; upgrade to read it")
    except (KeyError, TypeError):
        raise ExtractorError(f"{path}: its {METADATA_MEMBER} is damaged") from None
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
    network = build_network(preprocessing)
    model = read_model(path, network)
    if model is not network:
        copy_weights(model, network, path)
    if fingerprint(network, preprocessing) != identity:
        raise ExtractorError(
            f"{path}: its weights or its preprocessing are not those it was saved with"
        )
    logits = softmax_logits(model)
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


def _read_weights(path):
    check_hdf5(path, path)
    source = keras.applications.InceptionV3(include_top=False, weights=None)
    try:
        source.load_weights(path)
    except Exception as error:
        raise ExtractorError(
            f"{path}: not the weights of a Keras InceptionV3 with include_top=False "
            f"({reason_of(error)}); other networks of RadImageNet keep their published file names, "
            "such as RadImageNet-ResNet50_notop.h5"
        ) from None
    return source


def _load_whole_model(path, model, changes):
    if not has_inception_stem(model):
        return load_model_extractor(path, model, changes)
    seen = observe(model, path)
    network = _rebuilt(path, model, seen.preprocessing)
    check_same_features(network, seen, path)
    logits = softmax_logits(model, seen)
    size_known = all(model.inputs[0].shape[1:3])
    return _make_extractor(path, network, seen.preprocessing, changes, size_known, logits=logits)
