"""What long work tells the user: a moving line on a terminal, nothing of it in a log."""

import sys
import time


def say(message: str) -> None:
    """Prints one line to stderr."""
    print(message, file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """Prints one warning line to stderr."""
    say(f"warning: {message}")


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
