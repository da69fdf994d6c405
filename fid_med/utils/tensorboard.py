"""Scalars for TensorBoard, written without the `tensorboard` package."""

import contextlib
import os
import secrets
import time
from collections.abc import Mapping

import tensorflow as tf


class ScalarWriter:
    """Writes numbers to a new event file in a folder.

    `tf.summary.create_file_writer` names its file after the computer, which may be private, and
    `tf.summary.scalar` needs the `tensorboard` package, which TensorFlow no longer installs from
    version 2.21 on. An event file is a TFRecord file of `Event` messages; its name must contain
    `tfevents`, and TensorBoard reads the files of a folder in the order of their names.

    Args:
      folder: local or remote path, made where it is missing.

    Raises:
      OSError: the file cannot be written.
    """

    def __init__(self, folder):
        self._folder = os.fspath(folder)
        name = f"events.out.tfevents.{int(time.time()):010d}.fid_med.{secrets.token_hex(4)}.v2"
        with _as_os_error(self._folder):
            tf.io.gfile.makedirs(self._folder)
            self._file = tf.io.TFRecordWriter(os.path.join(self._folder, name))
        self._write(file_version="brain.Event:2")

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Writes numbers, as float32, by their tags in TensorBoard.

        Raises:
          OSError: the file cannot be written, for example because the disk is full.
        """
        summary = tf.compat.v1.Summary()
        for name, value in values.items():
            metadata = tf.compat.v1.SummaryMetadata(display_name=name)
            metadata.plugin_data.plugin_name = "scalars"
            tensor = tf.make_tensor_proto(value, tf.float32)
            summary.value.add(tag=name, metadata=metadata, tensor=tensor)
        self._write(step=step, summary=summary)

    def _write(self, **fields):
        event = tf.compat.v1.Event(wall_time=time.time(), **fields)
        with _as_os_error(self._folder):
            self._file.write(event.SerializeToString())
            self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


@contextlib.contextmanager
def _as_os_error(folder):
    """Turns an error of TensorFlow into an OSError that names the folder."""
    try:
        yield
    except tf.errors.OpError as error:
        reason = error.message.splitlines()[0].rpartition("; ")[2]
        raise OSError(f"{folder}: TensorBoard logs cannot be written ({reason})") from error
