"""Mapping over many small matrices, one per core, with a BLAS of one thread.

A BLAS that splits a matrix of a few hundred rows among threads spends most of the time on waiting:
the distances of one replicate took 0.04 s on one core, and 0.2 s of processor time on two.
"""

from __future__ import annotations

import ctypes
import functools
import os
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


def map_on_cores(function: Callable, items: Iterable) -> list:
    """Returns `[function(item) for item in items]`, computed on several threads.

    There are as many threads as NumPy's BLAS uses. During the call the BLAS uses one thread. If
    the number of threads of NumPy's BLAS cannot be set, or is one (OPENBLAS_NUM_THREADS=1), this
    is a plain loop.
    """
    controls = _openblas()
    threads = controls[0]() if controls else 1
    if threads <= 1:
        return [function(item) for item in items]
    controls[1](1)
    try:
        return list(_pool(threads).map(function, items))
    finally:
        controls[1](threads)


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Keeps the threads: starting them takes as long as the distance of two small sets."""
    return ThreadPoolExecutor(threads, thread_name_prefix="fid_med")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a fork does not copy the threads


@functools.cache
def _openblas() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """Finds the functions that get and set the number of threads of NumPy's own OpenBLAS."""
    package = Path(np.__file__).parent
    for folder in (package.with_name("numpy.libs"), package / ".dylibs"):
        for path in sorted(folder.glob("*openblas*")):
            try:
                library = ctypes.CDLL(str(path))  # NumPy has loaded it: this is the same library
            except OSError:
                continue
            for name in _NAMES:
                read, write = (getattr(library, name.format(x), None) for x in ("get", "set"))
                if read and write:
                    read.restype, write.argtypes = ctypes.c_int, [ctypes.c_int]
                    write.restype = None
                    return read, write
    return None
