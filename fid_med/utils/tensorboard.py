"""Scalars for TensorBoard, written without the `tensorboard` package."""

import tensorflow as tf


def write_scalar(name: str, value: float) -> None:
    """Writes a number to the default summary writer at its default step.

    Args:
      name: tag of the scalar in TensorBoard.
      value: the number; stored as float32.
    """
    # tf.summary.scalar needs the tensorboard package, which TensorFlow no longer installs from
    # version 2.21 on. Writing the event file does not need it.
    metadata = tf.compat.v1.SummaryMetadata(display_name=name)
    metadata.plugin_data.plugin_name = "scalars"
    tf.summary.write(name, tf.constant(value, tf.float32), metadata=metadata)
