"""Messages and progress bars on stderr."""

import contextlib
import glob
import os
import sys
import tempfile
import warnings

from tqdm import TqdmWarning

with warnings.catch_warnings():
    # In a notebook without ipywidgets tqdm draws the bar as text, and warns on import.
    warnings.simplefilter("ignore", TqdmWarning)
    from tqdm.auto import tqdm

_CHATTER = ("WARNING: All log messages before absl::InitializeLog()", "I0000 ")


def say(message: str) -> None:
    """Prints one line to stderr, above a progress bar if there is one."""
    tqdm.write(message, file=sys.stderr)
    sys.stderr.flush()


def warn(message: str) -> None:
    """Prints one line to stderr that begins with "warning:"."""
    say(f"warning: {message}")


@contextlib.contextmanager
def quiet_tensorflow():
    """Removes TensorFlow's start-up messages from stderr while the block runs.

    TensorFlow prints them when it is imported or opens a session, at every log level. Other lines
    are shown when the block ends.
    """
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile("w+", errors="replace") as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(shown, 2)
            os.close(shown)
            held.seek(0)
            for line in held:
                # A failed cuInit matters only where there is a GPU to initialise.
                no_gpu = "cuInit" in line and not glob.glob("/dev/nvidia[0-9]*")
                if not line.startswith(_CHATTER) and not no_gpu:
                    sys.stderr.write(line)


class Progress(tqdm):
    """Shows how much of long work is done and how long the rest will take.

    The bar is drawn on stderr if that is a terminal, and in a notebook; otherwise, as in a log,
    nothing is drawn. It disappears when the work ends. Use it as a context manager:

    ```python
    from fid_med.utils.progress import Progress

    with Progress("images", total=100) as progress:
        for _ in range(100):
            progress.update()
    ```

    Args:
      label: text in front of the bar; what is counted, such as "real images".
      total: number of steps, or None if it is not known in advance.
    """

    monitor_interval = 0  # tqdm's thread, which redraws rare updates; here each one may draw

    def __init__(self, label: str, total: int | None = None):
        # tqdm's own test of stderr finds no terminal in a notebook that lacks ipywidgets.
        shown = sys.stderr.isatty() or "ipykernel.zmqshell" in sys.modules
        super().__init__(
            desc=label,
            total=total,
            file=sys.stderr,
            leave=False,
            disable=not shown,
            dynamic_ncols=True,
            mininterval=0.2,
            miniters=1,
            delay=0.2,
        )

    def close(self) -> None:
        self.total = self.n  # a notebook would keep a bar that has not reached its total
        super().close()
