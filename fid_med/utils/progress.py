"""What long work tells the user: a moving line on a terminal, nothing of it in a log."""

import contextlib
import glob
import os
import sys
import tempfile
import time

_CHATTER = ("WARNING: All log messages before absl::InitializeLog()", "I0000 ")


def say(message: str) -> None:
    """Prints one line to stderr."""
    print(message, file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """Prints one warning line to stderr."""
    say(f"warning: {message}")


@contextlib.contextmanager
def sifted_stderr():
    """Holds stderr back, and lets go of it what is more than TensorFlow's talk of itself.

    The library prints some lines while it loads, or opens a session, whatever the log level.
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


class Progress:
    """Counts `done` of `total` with a rate, redrawn in place; silent where stderr is no terminal.

    Args:
      label: what is counted, such as "real images".
      total: how many there will be, or None where nobody knows.
    """

    def __init__(self, label: str, total: int | None = None):
        self._label, self._total = label, total
        self._start = self._drawn = time.monotonic()
        self._done = 0
        self._alive = sys.stderr.isatty()

    def update(self, count: int = 1) -> None:
        self._done += count
        now = time.monotonic()
        if self._alive and now - self._drawn > 0.2:
            self._drawn = now
            of = f" of {self._total}" if self._total else ""
            rate = self._done / max(now - self._start, 1e-9)
            left = f", {(self._total - self._done) / rate:.0f} s left" if self._total else ""
            sys.stderr.write(f"\r\x1b[K{self._label}: {self._done}{of}, {rate:.1f}/s{left}")
            sys.stderr.flush()

    def close(self) -> None:
        if self._alive:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
