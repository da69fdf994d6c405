"""Devices of a training run: one device or several GPUs, in float32 or mixed precision."""

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from fid_med.errors import SettingError
from fid_med.training.config import MIXED_PRECISION_POLICIES
from fid_med.utils.gpus import visible_gpus


def make_strategy(num_gpus: int | None) -> tf.distribute.Strategy:
    """Makes the strategy that distributes training over the GPUs of this machine.

    Args:
      num_gpus: number of GPUs, or None for all visible ones. With 0 or 1 TensorFlow places the
        single network.

    Returns:
      `MirroredStrategy` on that many GPUs, each with a copy of the network and its share of every
      batch; or TensorFlow's default strategy.

    Raises:
      SettingError: the number is negative, or fewer GPUs are visible.
    """
    gpus = visible_gpus()
    wanted = len(gpus) if num_gpus is None else num_gpus
    if wanted < 0 or wanted > max(len(gpus), 1):
        raise SettingError(
            f"num_gpus {wanted}: {len(gpus)} GPUs are visible to TensorFlow; give 0 to "
            f"{max(len(gpus), 1)}, or omit it to use all"
        )
    if wanted < 2:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy(gpus[:wanted])


@contextlib.contextmanager
def device_scope(strategy: tf.distribute.Strategy, mixed_precision: str) -> Iterator[None]:
    """Builds networks and optimizers inside the block for a strategy and a precision.

    Args:
      strategy: from `make_strategy`.
      mixed_precision: a key of `MIXED_PRECISION_POLICIES`; variables are always float32.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(MIXED_PRECISION_POLICIES[mixed_precision])
    try:
        with strategy.scope():
            yield
    finally:
        keras.config.set_dtype_policy(before)
