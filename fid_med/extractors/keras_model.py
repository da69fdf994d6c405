"""Any Keras image model as an extractor, if it scales pixels itself and returns features."""

import dataclasses
import os

import keras
import numpy as np

from fid_med.data.preprocessing import Preprocessing
from fid_med.errors import ExtractorError
from fid_med.extractors.extractor import FeatureExtractor
from fid_med.extractors.inception_v3 import weighted_layers
from fid_med.extractors.registry import KERAS_MODEL
from fid_med.extractors.whole_model import first_input, flat_layers, input_size
from fid_med.utils.hashing import extractor_fingerprint, file_digest

# Number of output channels of InceptionV3's first convolutions.
_INCEPTION_STEM = [32, 32, 64, 80, 192]


def has_inception_stem(model: keras.Model) -> bool:
    """Whether a model begins with the convolutions of InceptionV3."""
    convolutions = [x for x in weighted_layers(model) if isinstance(x, keras.layers.Conv2D)]
    return [x.filters for x in convolutions[: len(_INCEPTION_STEM)]] == _INCEPTION_STEM


def load_model_extractor(path: str, model: keras.Model, changes: dict) -> FeatureExtractor:
    """Makes an extractor of a model's output, averaged over positions where it has any.

    The model must contain its preprocessing as its first layers, such as `Rescaling` or
    `Normalization`: no file of weights shows which scaling they were trained with.

    Args:
      path: the file of the model, whose content is the fingerprint.
      model: takes float32 [B, height, width, 3], 0..255.
      changes: fields of `Preprocessing` other than the model's input size.

    Raises:
      ExtractorError: another input or output, a classifier, a model that does not scale pixels, or
        an image size that the model cannot take.
    """
    height, width, channels = input_size(model, path)
    wanted = dataclasses.replace(Preprocessing(height, width, scale=1.0, offset=0.0), **changes)
    fixed = model.inputs[0].shape
    if fixed[1] not in (None, wanted.height) or fixed[2] not in (None, wanted.width):
        raise ExtractorError(f"{path}: takes images of {height} x {width} pixels only")
    rank = len(model.outputs[0].shape) if len(model.outputs) == 1 else 0
    if channels != 3 or rank not in (2, 4):
        raise ExtractorError(
            f"{path}: expected a model from [height, width, 3] to features, [d] or [h, w, d]"
        )
    if _is_classifier(model):
        raise ExtractorError(
            f"{path}: ends in a classifier; save the model without its last layer, "
            "keras.Model(model.input, model.layers[-2].output)"
        )
    pixels = np.random.default_rng(0).integers(0, 256, (2, height, width, 3)).astype(np.float32)
    scaled = first_input(model, pixels, path)
    if scaled is None or np.isin(np.unique(pixels), scaled).all():
        raise ExtractorError(
            f"{path}: only Keras's InceptionV3 can be read without its scaling of pixels; save "
            "this model with it, as first layer, for example keras.Sequential([keras.layers."
            "Rescaling(1 / 127.5, offset=-1), model])"
        )
    image = keras.Input((wanted.height, wanted.width, 3), name="pixels")
    features = model(image)
    if rank == 4:
        features = keras.layers.GlobalAveragePooling2D(name="average")(features)
    identity = {**wanted.to_dict(), "file": file_digest(path, "sha256")}
    return FeatureExtractor(
        os.path.basename(path),
        keras.Model(image, features, name="extractor"),
        wanted,
        extractor_fingerprint(KERAS_MODEL, [], identity),
        architecture=KERAS_MODEL,
    )


def _is_classifier(model):
    last = list(flat_layers(model))[-1]
    activation = getattr(last, "activation", None)
    return isinstance(last, keras.layers.Softmax) or activation in (
        keras.activations.softmax,
        keras.activations.sigmoid,
    )
