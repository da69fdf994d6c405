"""How large an image may be, and how much of images is decoded at the same time.

A file of a few kilobytes can declare any size. So every reader checks the declared size here before
anything is unpacked, and readers in several threads share one amount of memory.
"""

import contextlib
import os
import threading
from collections.abc import Iterator

from fid_med.errors import SettingError

VARIABLE = "FID_MED_MAX_PIXELS"
MAX_PIXELS = 1 << 29  # 23,170 x 23,170
_MEMORY = 2 << 30


def max_pixels() -> int:
    """Largest number of pixels of one image: `MAX_PIXELS`, or what FID_MED_MAX_PIXELS says.

    Raises:
      SettingError: the variable is not a positive whole number.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return MAX_PIXELS
    if not (text.isdecimal() and int(text)):
        raise SettingError(f"{VARIABLE}={text}: expected a number of pixels, such as {MAX_PIXELS}")
    return int(text)


def describe_excess(height: int, width: int) -> str | None:
    """Why an image of this height and width is too large; None if it is not."""
    if height * width <= max_pixels():
        return None
    return (
        f"{width} x {height} pixels, more than the limit of {max_pixels()}; if the file is "
        f"genuine, set the environment variable {VARIABLE}={height * width}"
    )


class _Memory:
    """Bytes that readers in all threads share."""

    def __init__(self, total: int):
        self._total = self._free = total
        self._change = threading.Condition()

    @contextlib.contextmanager
    def reserved(self, size: int) -> Iterator[None]:
        size = min(size, self._total)  # an image larger than all of it is decoded alone
        with self._change:
            self._change.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._change:
                self._free += size
                self._change.notify_all()


_shared = _Memory(_MEMORY)


def reserved(size: int) -> contextlib.AbstractContextManager:
    """Waits until `size` bytes of the shared memory are free, and holds them for the block.

    A thread must not reserve a second time within the block.
    """
    return _shared.reserved(size)
