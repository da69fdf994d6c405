"""Keras's global settings, which a notebook or `keras.json` may have made for other work."""

import contextlib
from collections.abc import Iterator

import keras

from fid_med.errors import ExtractorError


@contextlib.contextmanager
def plain_keras() -> Iterator[None]:
    """Layers made inside are float32 and channels last; the settings are then put back.

    Under `mixed_float16`, or `floatx` of 16 bits, features would be others without a word.

    Raises:
      ExtractorError: Keras runs on another backend than TensorFlow.
    """
    if keras.config.backend() != "tensorflow":
        raise ExtractorError(
            f"Keras runs on {keras.config.backend()}: fid_med needs TensorFlow, set "
            "KERAS_BACKEND=tensorflow before anything imports Keras"
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
    """float32 and channels last from now on."""
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")
