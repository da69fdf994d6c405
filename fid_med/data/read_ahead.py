"""Images read while the network that they are for is still being made."""

import collections
import concurrent.futures
import contextlib
import functools
import itertools
import threading
from collections.abc import Iterator

from fid_med.data.sources import ImageSource
from fid_med.utils.threads import default_workers

_IMAGES, _BYTES = 256, 64 << 20


@contextlib.contextmanager
def reading_ahead(source: ImageSource) -> Iterator[None]:
    """Decodes the first images of a folder in threads for as long as the block lasts.

    The loaders of the source then return what was decoded, at most 256 images and little more than
    64 MB, and decode what was not. Sources other than folders are left alone.
    """
    if source.kind != "folder":
        yield
        return
    loaders = iter(source.loaders)
    room = _Room(_BYTES)
    pool = concurrent.futures.ThreadPoolExecutor(default_workers())
    started = collections.deque(
        (name, load, pool.submit(room.decode, load))
        for name, load in itertools.islice(loaders, _IMAGES)
    )
    source.loaders = _loaders(started, loaders)
    try:
        yield
    finally:
        pool.shutdown(cancel_futures=True)


class _Room:
    """Decodes until so many bytes are taken."""

    def __init__(self, size):
        self._left, self._lock = size, threading.Lock()

    def decode(self, load):
        if self._left <= 0:
            return None
        image = load()
        with self._lock:
            self._left -= image.nbytes
        return image


def _loaders(started, rest):
    while started:  # an image taken is an image forgotten
        name, load, future = started.popleft()
        yield name, functools.partial(_take, load, future)
    yield from rest


def _take(load, future):
    image = None if future.cancelled() else future.result()
    return load() if image is None else image
