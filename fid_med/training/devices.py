"""What a training runs on: one device or several GPUs, in float32 or in mixed precision."""

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from fid_med.errors import SettingError
from fid_med.utils.gpus import visible_gpus

PRECISIONS = {"off": "float32", "float16": "mixed_float16", "bfloat16": "mixed_bfloat16"}


def make_strategy(num_gpus: int | None) -> tf.distribute.Strategy:
    """How the steps are spread over this machine.

    Args:
      num_gpus: GPUs to use, or None for all visible; 0 and 1 leave it to TensorFlow where the one
        network lies.

    Returns:
      `MirroredStrategy` on that many GPUs (each holds the whole network and takes its share of
      every batch), or TensorFlow's default.

    Raises:
      SettingError: fewer GPUs are visible, or the number is negative.
    """
    gpus = visible_gpus()
    wanted = len(gpus) if num_gpus is None else num_gpus
    if wanted < 0 or wanted > max(len(gpus), 1):
        raise SettingError(
            f"num_gpus {wanted}: {len(gpus)} GPUs are visible to TensorFlow; give 0 to "
            f"{max(len(gpus), 1)}, or leave it out for all"
        )
    if wanted < 2:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy(gpus[:wanted])


@contextlib.contextmanager
def building_on(strategy: tf.distribute.Strategy, mixed_precision: str) -> Iterator[None]:
    """Networks and optimizers made in this block belong to the strategy and compute as asked.

    Args:
      strategy: of `make_strategy`.
      mixed_precision: a key of `PRECISIONS`; variables are float32 in any case.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(PRECISIONS[mixed_precision])
    try:
        with strategy.scope():
            yield
    finally:
        keras.config.set_dtype_policy(before)
