"""Generators as sources of images: a Keras model or a callable, asked for the same images again."""

import contextlib
import inspect
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from fid_med.errors import DataError, FidMedError
from fid_med.utils.progress import warn

# Begins again at the first image; what it returns gives the next ones.
Source = Callable[[], Callable[[int], np.ndarray]]


# When a generator's values do not fit `output_range`. A trained generator without a last activation
# exceeds it a little; an untrained one may use a twentieth of it.
_SLACK = 0.01
_MANY_CLIPPED = 0.05
_LITTLE_USED = 0.02


class NotFiniteError(FidMedError):
    """The generator returned NaN or infinity."""


class OutputRange:
    """Converts the floats of a generator to pixels, and warns once of a range that does not fit.

    Args:
      output_range: values of black and of white.

    Raises:
      DataError: not two increasing numbers.
    """

    def __init__(self, output_range: tuple[float, float] | None):
        if output_range is None or not output_range[0] < output_range[1]:
            raise DataError(
                f"output_range {output_range}: give the model's values of black and white, such as "
                "(-1, 1)"
            )
        self._black, self._white = output_range
        self._warned: set[str] = set()

    def pixels(self, images: np.ndarray) -> np.ndarray:
        """Returns images of any float dtype as uint8; raises NotFiniteError for NaN or infinity."""
        images = np.asarray(images, np.float32)
        if not np.isfinite(images).all():
            raise NotFiniteError("the generator returned NaN or infinity, no FID")
        for kind, line in _range_warnings(images, self._black, self._white).items():
            if kind not in self._warned:
                self._warned.add(kind)
                warn(f"{kind}: {line}")
        pixels = (images - self._black) * (255 / (self._white - self._black))
        return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def model_source(
    model,
    latent_dim: int | None,
    output_range: tuple[float, float] | None,
    count: int,
    seed: int,
) -> Source:
    """Makes images from a Keras model; the arguments are those of `FIDCallback`.

    Returns:
      A function that begins again at the first image. What it returns takes a count, and returns
      the next images as uint8 [n, H, W, 1] or [n, H, W, 3].

    Raises:
      DataError: no `output_range`, or an unknown length of a latent vector.
    """
    pixel_range = OutputRange(output_range)
    latent_dim = latent_dim or _latent_dim(model)
    latents = np.random.default_rng(seed).standard_normal((count, latent_dim), np.float32)

    @tf.function(input_signature=[tf.TensorSpec((None, latent_dim), tf.float32)])
    def images_of(batch):
        return tf.cast(model(batch, training=False), tf.float32)

    def opened():
        seen = 0

        def following(number):
            nonlocal seen
            images = images_of(latents[seen : seen + number]).numpy()
            seen += number
            return pixel_range.pixels(images)

        return following

    return opened


def _range_warnings(images: np.ndarray, black: float, white: float) -> dict[str, str]:
    """Warns, by kind, if `output_range` clips many values or the values fill little of it."""
    span, lines = white - black, {}
    slack = _SLACK * span
    clipped = float(np.mean((images < black - slack) | (images > white + slack)))
    low, high = float(images.min()), float(images.max())
    given = f"output_range ({black:g}, {white:g})"
    if clipped > _MANY_CLIPPED:
        lines["clipped"] = (
            f"{clipped:.0%} of the generated values are outside {given} by more than "
            f"{_SLACK:.0%} of it, and become black or white (warned of above {_MANY_CLIPPED:.0%}); "
            f"they go from {low:.4g} to {high:.4g}"
        )
    if high - low < _LITTLE_USED * span:
        lines["nearly uniform"] = (
            f"the generated values, {low:.4g} to {high:.4g}, use less than "
            f"{_LITTLE_USED:.0%} of {given}; if this is no untrained generator, give the range of "
            "its last layer, such as (-1, 1) for tanh"
        )
    return lines


def _latent_dim(model):
    shape = getattr(model, "input_shape", None)
    if isinstance(shape, tuple) and len(shape) == 2 and shape[-1]:
        return shape[-1]
    raise DataError(
        f"generator {model.name}: unknown length of a latent vector (input shape {shape}); give "
        "latent_dim, or a callable that takes a count and returns images"
    )


def callable_source(generator: Callable[..., np.ndarray], seed: int) -> Source:
    """As `model_source`, from a callable that takes a count and, if it has one, a seed.

    Raises:
      DataError: not a callable.
    """
    if not callable(generator):
        raise DataError(
            f"generator {type(generator).__name__}: expected a Keras model, or a callable that "
            "takes a count and returns uint8 images"
        )
    seeded = False
    with contextlib.suppress(TypeError, ValueError):  # a callable may have no signature
        seeded = "seed" in inspect.signature(generator).parameters

    def opened():
        # Each call gets a seed of its own, or all batches would hold the same images.
        seeds = iter(range(seed, seed + 2**31))
        return lambda count: generator(count, **({"seed": next(seeds)} if seeded else {}))

    return opened
