"""Whole Keras models around an InceptionV3: how they scale pixels, and what it computes in them."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import keras
import numpy as np

from fid_med.data.preprocessing import Preprocessing
from fid_med.errors import ExtractorError, reason_of
from fid_med.extractors.inception_v3 import NUM_FEATURES, weighted_layers
from fid_med.extractors.registry import LARGEST_INPUT

_SIZE = 299  # of the input where a model takes any
# Scale and offset to -1..1 and to 0..1, as `preprocess_input` and most tutorials have them.
_USUAL = ((1 / 127.5, -1.0), (1 / 255, 0.0))
# Shares of the largest number; float32 rounds to 6e-8.
_SCALING_TOLERANCE, _FEATURE_TOLERANCE = 1e-5, 1e-4


@dataclasses.dataclass(frozen=True)
class Observation:
    """What the layers of a model got and returned while it computed random images.

    Attributes:
      pixels: the images, float32 [2, height, width, 3], 0..255, as the extractor is to get them.
      preprocessing: input size, and the scaling that the model does itself, or else -1..1.
      features: average over positions of InceptionV3's last block, [2, 2048]; None if the model has
        no such block.
      classified: inputs of `Dense` layers, by the layer's name.
    """

    pixels: np.ndarray
    preprocessing: Preprocessing
    features: np.ndarray | None
    classified: dict[str, np.ndarray]


def observe(model: keras.Model, path: str) -> Observation:
    """Runs a model on random images and records what its layers get and return.

    Layers may be nested, and there may be any layers before and behind InceptionV3.

    Args:
      model: with one input of 1 or 3 channels.
      path: name of the model in messages.

    Raises:
      ExtractorError: another input, a model that cannot run, or pixels that are changed otherwise
        than by one scale and one offset per channel.
    """
    height, width, channels = input_size(model, path)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, height, width, channels)).astype(np.float32)
    colour = np.repeat(pixels, 3 // channels, axis=-1)
    calls = _run(model, pixels, path)
    preprocessing = _scaling(model, colour, calls.get("scaled"), path)
    if preprocessing is None:
        preprocessing = Preprocessing(height, width)
        affine = np.float32(preprocessing.scale), np.float32(preprocessing.offset)
        calls = _run(model, pixels * affine[0] + affine[1], path)
    return Observation(colour, preprocessing, calls.pop("features", None), calls)


def check_same_features(network: keras.Model, seen: Observation, path: str) -> None:
    """Checks that a network with a model's weights computes what the model did.

    Weights are copied by order and shape, so a differently wired model would pass unnoticed.

    Raises:
      ExtractorError: other features, or none.
    """
    if seen.features is None:
        raise ExtractorError(
            f"{path}: has no layer with the {NUM_FEATURES} channels of InceptionV3's last block"
        )
    if not _close(np.asarray(network(seen.pixels, training=False)), seen.features):
        raise ExtractorError(
            f"{path}: computes other features than Keras's InceptionV3 does with its weights"
        )


def softmax_logits(
    model: keras.Model, seen: Observation | None = None
) -> Callable[[np.ndarray], np.ndarray] | None:
    """Returns the classifier behind the average pool, if it is a single softmax layer.

    Args:
      model: the whole model.
      seen: what its layers got, to recognise a classifier of something else than the average; None
        for the models of `train_classifier.py`.

    Returns:
      A function from features [N, 2048] to logits [N, K] in float64, or None.
    """
    dense = [x for x in flat_layers(model) if isinstance(x, keras.layers.Dense)]
    if len(dense) != 1 or dense[0].kernel.shape[0] != NUM_FEATURES or not dense[0].use_bias:
        return None
    if dense[0].activation is not keras.activations.softmax:
        return None
    if seen is not None and not _close(seen.classified[dense[0].name], seen.features):
        return None
    kernel, bias = (np.asarray(x, np.float64) for x in dense[0].get_weights())
    return lambda features: np.asarray(features, np.float64) @ kernel + bias


def _close(obtained, expected):
    if obtained.shape != expected.shape:
        return False
    return bool(np.abs(expected - obtained).max() <= _FEATURE_TOLERANCE * np.abs(expected).max())


def first_input(model: keras.Model, pixels: np.ndarray, path: str) -> np.ndarray | None:
    """Returns what the first convolution of a model gets; None if it has no convolution.

    Raises:
      ExtractorError: the model cannot run.
    """
    return _run(model, pixels, path).get("scaled")


def flat_layers(model) -> Iterator[keras.layers.Layer]:
    """Yields a model's layers, those of nested models in their place."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from flat_layers(layer)
        else:
            yield layer


def input_size(model, path) -> tuple[int, int, int]:
    """Returns height, width and channels of a model's input.

    Raises:
      ExtractorError: several inputs, another shape than that of an image, or too large a one.
    """
    shape = tuple(model.inputs[0].shape) if len(model.inputs) == 1 else ()
    if len(shape) != 4 or shape[-1] not in (1, 3):
        raise ExtractorError(
            f"{path}: expected a model with one input of [height, width, 3], or 1 channel"
        )
    height, width = (size or _SIZE for size in shape[1:3])
    if max(height, width) > LARGEST_INPUT:
        raise ExtractorError(f"{path}: takes images of {height} x {width} pixels: damaged")
    return height, width, shape[-1]


def _run(model, pixels, path) -> dict[str, np.ndarray]:
    """Returns the first convolution's input, the last block's average, and `Dense` inputs."""
    seen = {}

    def watched(layer, call, x, *args, **kwargs):
        output = call(x, *args, **kwargs)
        if layer is first:
            seen["scaled"] = np.asarray(x)
        elif isinstance(layer, keras.layers.Dense):
            seen[layer.name] = np.asarray(x)
        elif len(output.shape) == 4 and output.shape[-1] == NUM_FEATURES:
            seen["features"] = np.asarray(output).mean(axis=(1, 2))
        return output

    first = next(iter(weighted_layers(model)), None)
    kinds = (keras.layers.Concatenate, keras.layers.Dense)
    layers = [x for x in flat_layers(model) if x is first or isinstance(x, kinds)]
    for layer in layers:
        layer.call = functools.partial(watched, layer, layer.call)
    try:
        model(pixels, training=False)
    except Exception as error:  # TensorFlow raises nearly anything
        raise ExtractorError(f"{path}: Keras cannot run it ({reason_of(error)})") from None
    finally:
        for layer in layers:
            del layer.call
    return seen


def _scaling(model, pixels, scaled, path) -> Preprocessing | None:
    """Finds the scale and offset of each channel; None if pixels are not scaled.

    Args:
      model: the model.
      pixels: [2, height, width, 3], 0..255.
      scaled: what became of them before the first convolution.
      path: name of the model in messages.
    """
    height, width = pixels.shape[1:3]
    for channels in (None, "bgr"):
        ordered = pixels[..., ::-1] if channels else pixels
        fitted = None
        if scaled is not None and scaled.shape == pixels.shape:
            fitted = _fitted(ordered.astype(np.float64), scaled.astype(np.float64))
        if fitted is not None:
            break
    else:
        raise ExtractorError(
            f"{path}: changes pixels before its first convolution otherwise than by one scale and "
            "one offset per channel: save the model without that step, and prepare the images "
            "in advance"
        )
    scales, offsets = fitted
    named = [
        (float(x.scale), float(x.offset))
        for x in flat_layers(model)
        if isinstance(x, keras.layers.Rescaling) and not np.ndim(x.scale) and not np.ndim(x.offset)
    ]
    # Exact numbers where they are known: the fingerprint depends on every bit.
    usual = [*named[:1], (1.0, 0.0), *_USUAL]
    for scale, offset in usual:
        error = np.abs(scales - scale).max() * 255 + np.abs(offsets - offset).max()
        if error <= _SCALING_TOLERANCE * (abs(scale) * 255 + abs(offset)):
            if (scale, offset) == (1.0, 0.0) and not named and not channels:
                return None
            return Preprocessing(height, width, scale=scale, offset=offset, channels=channels)
    alike = [np.ptp(x) <= _SCALING_TOLERANCE * np.abs(x).max() for x in fitted]
    if all(alike):
        scale, offset = _rounded(scales)[0], _rounded(offsets)[0]
        return Preprocessing(height, width, scale=scale, offset=offset, channels=channels)
    if scales.min() <= 0:
        raise ExtractorError(f"{path}: inverts some channels: invert them in advance")
    return Preprocessing(
        height,
        width,
        scale=1.0,
        offset=0.0,
        mean=_rounded(-offsets / scales),
        std=_rounded(1 / scales),
        channels=channels,
    )


def _rounded(values):
    """Rounds off digits that differ between processors, as the fingerprint depends on all."""
    return tuple(float(f"{x:.6g}") for x in values)


def _fitted(pixels, scaled):
    """Fits scaled = pixels * a + b in each channel; None if that is not how they differ."""
    pixels, scaled = (x.reshape(-1, 3) for x in (pixels, scaled))
    centre, middle = pixels.mean(axis=0), scaled.mean(axis=0)
    away = pixels - centre
    scales = (away * (scaled - middle)).sum(axis=0) / (away**2).sum(axis=0)
    offsets = middle - scales * centre
    error = np.abs(pixels * scales + offsets - scaled).max()
    same = error <= _SCALING_TOLERANCE * np.abs(scaled).max()
    return (scales, offsets) if same else None
