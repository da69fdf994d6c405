"""The first import of TensorFlow, without its start-up messages."""

import os
import sys

from fid_med.utils.progress import quiet_tensorflow


def import_tensorflow() -> None:
    """Imports TensorFlow and finds the devices, without the messages that both print.

    A log level that the user has set (TF_CPP_MIN_LOG_LEVEL) stays. Where TensorFlow is imported
    already, nothing happens.
    """
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with quiet_tensorflow():
        import tensorflow

        # TensorFlow looks for devices on first use; do it while its messages are hidden.
        tensorflow.config.list_physical_devices()
