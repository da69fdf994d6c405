"""Many small matrices, one on each core: faster than one after another on all cores.

A BLAS that splits a matrix of a few hundred rows among threads spends most of them waiting for
each other: 0.04 s of one core for the distances of one replicate became 0.2 s of two.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

# OpenBLAS in NumPy's wheels, newest names first.
_NAMES = (
    "scipy_openblas_{}_num_threads64_",
    "scipy_openblas_{}_num_threads",
    "openblas_{}_num_threads64_",
    "openblas_{}_num_threads",
)


def map_side_by_side(function: Callable, items: Iterable) -> list:
    """`[function(item) for item in items]`, on as many threads as the BLAS would have taken.

    Meanwhile the BLAS takes one. Where NumPy's BLAS is none whose threads can be set, or has one
    anyway (OPENBLAS_NUM_THREADS=1), it is the plain loop.
    """
    controls = _openblas()
    threads = controls[0]() if controls else 1
    if threads <= 1:
        return [function(item) for item in items]
    controls[1](1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(function, items))
    finally:
        controls[1](threads)


@functools.cache
def _openblas() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """What reads and what sets the number of threads of NumPy's own OpenBLAS."""
    package = Path(np.__file__).parent
    for folder in (package.with_name("numpy.libs"), package / ".dylibs"):
        for path in sorted(folder.glob("*openblas*")):
            try:
                library = ctypes.CDLL(str(path))  # loaded already: this is the same one
            except OSError:
                continue
            for name in _NAMES:
                read, write = (getattr(library, name.format(x), None) for x in ("get", "set"))
                if read and write:
                    read.restype, write.argtypes = ctypes.c_int, [ctypes.c_int]
                    write.restype = None
                    return read, write
    return None
