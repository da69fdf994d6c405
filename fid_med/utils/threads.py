"""Work on images in threads, in order and not far ahead of whoever reads."""

import collections
import concurrent.futures
import os
from collections.abc import Callable, Iterable, Iterator


def default_workers() -> int:
    """Threads that read images: the machine's cores and one more."""
    return (os.cpu_count() or 1) + 1


def ordered_map(
    function: Callable, items: Iterable, workers: int | None = None, ahead: int | None = None
) -> Iterator:
    """`map` in threads, in order, a few items ahead of whoever reads.

    Args:
      function: called with one item, from the threads.
      items: what to call it with.
      workers: threads; `default_workers` if None.
      ahead: items that are begun before the first result is asked back; 16 and two a thread if
        None.
    """
    workers = workers or default_workers()
    ahead = ahead or 2 * workers + 16
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        waiting = collections.deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
