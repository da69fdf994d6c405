"""GPUs that TensorFlow can use."""

import tensorflow as tf


def visible_gpus() -> list[str]:
    """Returns the names of the GPUs that TensorFlow may use, such as `/device:GPU:0`."""
    return [device.name for device in tf.config.list_logical_devices("GPU")]
