"""Reading images in threads, in order."""

import collections
import concurrent.futures
import os
from collections.abc import Callable, Iterable, Iterator


def default_workers() -> int:
    """Number of threads that read images: one more than the machine's cores."""
    return (os.cpu_count() or 1) + 1


def ordered_map(
    function: Callable, items: Iterable, workers: int | None = None, ahead: int | None = None
) -> Iterator:
    """Like `map`, but in threads and a limited number of items in advance.

    Args:
      function: function of one item, called in the threads.
      items: iterable of items.
      workers: number of threads; by default `default_workers()`.
      ahead: number of items started before the first result is returned; by default 16 plus 2 per
        thread.

    Yields:
      The results in the order of `items`. An error of `function` is raised in its place.
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
