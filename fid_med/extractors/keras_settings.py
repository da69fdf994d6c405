"""Keras's global settings, which a notebook or `keras.json` may have changed."""

import contextlib
import random
from collections.abc import Iterator

import keras
import numpy as np

from fid_med.errors import ExtractorError


@contextlib.contextmanager
def plain_keras() -> Iterator[None]:
    """Makes layers float32 and channels last inside the block, then restores the settings.

    With `mixed_float16`, or a `floatx` of 16 bits, features would differ without a warning.

    Raises:
      ExtractorError: Keras runs on another backend than TensorFlow.
    """
    if keras.config.backend() != "tensorflow":
        raise ExtractorError(
            f"Keras runs on {keras.config.backend()}: fid_med needs TensorFlow; set "
            "KERAS_BACKEND=tensorflow before the first import of Keras"
        )
    policy, floatx = keras.config.dtype_policy(), keras.config.floatx()
    data_format = keras.config.image_data_format()
    try:
        set_plain()
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_image_data_format(data_format)
        keras.config.set_dtype_policy(policy)


def set_plain() -> None:
    """Makes later layers float32 and channels last."""
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")


@contextlib.contextmanager
def undisturbed(seed: int | None = None) -> Iterator[None]:
    """Restores the dtype policy and the global random states at the end of the block.

    Inside, the policy is float32, and NumPy and Python are seeded if a seed is given. Keras draws
    the weights of a new network from Python's generator.
    """
    policy, python, numpy = keras.config.dtype_policy(), random.getstate(), np.random.get_state()
    try:
        keras.config.set_dtype_policy("float32")
        if seed is not None:
            random.seed(seed)
            np.random.seed(seed % 2**32)
        yield
    finally:
        keras.config.set_dtype_policy(policy)
        random.setstate(python)
        np.random.set_state(numpy)
