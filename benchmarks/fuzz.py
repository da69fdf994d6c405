#!/usr/bin/env python3
"""Gives damaged files to every reader, and counts what should not happen.

python -m benchmarks.fuzz --files=30

Makes a small valid file of each kind that fid_med reads, changes it at random, and reads it by the
function that the scripts use. A reader may return a result, or raise an error of `fid_med.errors`
whose message is one line. Faults are any other exception, a message of several lines, the end of
the process, more than 30 seconds, more memory than for the valid file and 2 GB, and another result
where a checksum or fingerprint should have noticed the change. The same seed makes the same files.
1,500 files take some minutes on 2 cores. Runs on Linux.
"""

import collections
import contextlib
import hashlib
import multiprocessing
import os
import pathlib
import random
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait

import numpy as np
from absl import app, flags

from benchmarks.fuzz_files import KINDS, Kind, missing_package
from benchmarks.mutations import mutate
from fid_med.errors import FidMedError

_SECONDS = 30
_SECONDS_TO_START = 300  # to import TensorFlow, and to make and read a network
_MEMORY = 2 << 30
_ADDRESSES = 8 << 30  # an allocation beyond this fails, and does not take the machine's memory
COUNTS = ("read", "changed", "refused", "faults")


def _outcome(kind: Kind, path: pathlib.Path, expected: bytes | None) -> tuple[str, str]:
    """Reads a file.

    Args:
      kind: the kind of file.
      path: the file.
      expected: digest of the result that the reader must return, or None for any.

    Returns:
      One of `COUNTS`, or "valid" and the digest of the result if none is expected; and details.
    """
    try:
        found = _digest(kind.read(path))
    except FidMedError as error:
        lines = str(error).splitlines()
        if len(lines) == 1:
            return "refused", ascii(lines[0])
        return "faults", f"a message of {len(lines)} lines: {error!a}"
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{pathlib.Path(last.filename).name}:{last.lineno}"
        return "faults", f"{type(error).__name__} at {where}: {str(error)[:200]!a}"
    if expected is None:
        return "valid", found.hex()
    return ("read" if found == expected else "changed"), ""


def _digest(value) -> bytes:
    """SHA-256 of arrays, numbers and texts, nested in lists, tuples and dictionaries."""
    digest = hashlib.sha256()

    def add(item):
        if isinstance(item, np.ndarray):
            digest.update(f"{item.dtype} {item.shape}".encode() + np.ascontiguousarray(item).data)
        elif isinstance(item, (list, tuple)):
            digest.update(f"{len(item)} items".encode())
            for x in item:
                add(x)
        elif isinstance(item, dict):
            add(list(item.items()))
        else:
            digest.update(repr(item).encode("utf-8", "backslashreplace"))

    add(value)
    return digest.digest()


def _memory(key):
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"no {key} in /proc/self/status")


class _Growth:
    """The most memory that a block needed beyond what was in use before it."""

    def __enter__(self):
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak is that of now
        self._before = _memory("VmRSS")
        return self

    def __exit__(self, *_):
        self.bytes = _memory("VmHWM") - self._before


def _work(kind: Kind, folder: pathlib.Path, seed: int, numbers: range, pipe: Connection) -> None:
    """Mutates and reads one file after the other, in a process of its own.

    Sends (None, ...) when the valid file is read; then for each file (number, "begun", mutation)
    and (number, one of `COUNTS`, details).
    """
    log = open(folder / "log", "a", errors="replace")  # noqa: SIM115
    for stream in (1, 2):  # what libraries say
        os.dup2(log.fileno(), stream)
    sys.stdout = sys.stderr = log
    original, data_folder = folder / "original", folder / "data"
    if not original.exists():
        data_folder.mkdir()
        made = kind.make(data_folder)
        (folder / "path").write_text(str(made))
        original.write_bytes(made.read_bytes())
    path, data = pathlib.Path((folder / "path").read_text()), original.read_bytes()
    for _ in range(2):  # the first also imports what the reader needs
        path.write_bytes(data)
        with _Growth() as need:
            status, details = _outcome(kind, path, None)
    if status != ("valid" if kind.accepted else "refused"):
        raise AssertionError(f"{kind.name}: the valid file is {status}: {details}")
    expected = bytes.fromhex(details) if kind.accepted else b""
    limit = _memory("VmSize") + _ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    pipe.send((None, status, details))
    for number in numbers:
        mutation = mutate(data, random.Random(f"{seed} {kind.name} {number}"))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(mutation.data)
        pipe.send((number, "begun", mutation.name))
        with _Growth() as growth:
            status, details = _outcome(kind, path, expected)
        exact = kind.own_checksum or (kind.checksum and not mutation.checksums)
        if status == "changed" and exact:
            status, details = "faults", "another result than the valid file's"
        if growth.bytes > need.bytes + _MEMORY:
            status, details = "faults", f"{growth.bytes:,} bytes of memory"
        pipe.send((number, status, details))


class _Reading:
    """One kind of file that is being read, by one process after the other."""

    def __init__(self, kind: Kind, folder: pathlib.Path, seed: int, count: int):
        self.kind, self.counts = kind, dict.fromkeys(COUNTS, 0)
        self._folder, self._seed, self._count = folder / kind.name, seed, count
        self._folder.mkdir()
        self._begin, self.seconds = time.monotonic(), 0.0
        self._start(0)

    def _start(self, first):
        self.pipe, theirs = multiprocessing.Pipe(duplex=False)
        numbers = range(first, self._count)
        self._process = multiprocessing.get_context("fork").Process(
            target=_work, args=(self.kind, self._folder, self._seed, numbers, theirs), daemon=True
        )
        self._process.start()
        theirs.close()
        self._last, self._doing = (None, "started", ""), ""
        self.deadline = time.monotonic() + _SECONDS_TO_START

    def receive(self) -> bool:
        """Takes what the process has sent, or notices that it ended or hangs.

        Returns:
          Whether there is more to do.
        """
        try:
            if not self.pipe.poll():
                if time.monotonic() < self.deadline:
                    return True
                raise EOFError
            self._last = number, status, details = self.pipe.recv()
        except EOFError:
            return self._ended()
        self.deadline = time.monotonic() + _SECONDS
        if status == "begun":
            self._doing = details
        elif number is not None:
            self._count_one(number, status, details)
        return True

    def _ended(self):
        number, status, _ = self._last
        hung = self._process.is_alive() and time.monotonic() >= self.deadline
        if hung:
            self._process.kill()
        self._process.join()
        self.pipe.close()
        if status == "begun":
            what = f"over {_SECONDS} s" if hung else f"ended with {self._process.exitcode}"
            self._count_one(number, "faults", what)
        elif hung or self._process.exitcode:
            said = (self._folder / "log").read_text(errors="replace")
            raise SystemExit(f"{self.kind.name}: {said}")
        if status == "begun" and number + 1 < self._count:
            self._start(number + 1)
            return True
        self.seconds = time.monotonic() - self._begin
        return False

    def _count_one(self, number, status, details):
        self.counts[status] += 1
        if status == "faults":
            print(f"{self.kind.name} {number}, {self._doing}: {details}", file=sys.stderr)


def fuzz(kinds: Sequence[Kind], folder: pathlib.Path, seed: int, files: int, processes: int):
    """Reads mutated files of each kind.

    Args:
      kinds: the kinds of file.
      folder: an empty folder.
      seed: seed of the mutations.
      files: number of files of each kind; of those that take seconds, a part of it.
      processes: number of processes side by side.

    Yields:
      (kind, counts, seconds) in the order in which they are ready. The counts are `COUNTS`: files
      read like the valid one, files that gave another result, refused files, and faults.
    """
    waiting, running = collections.deque(kinds), []
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                kind = waiting.popleft()
                count = max(1, round(files * kind.share))
                running.append(_Reading(kind, folder, seed, count))
            wait([reading.pipe for reading in running], timeout=1)
            for reading in list(running):
                if not reading.receive():
                    running.remove(reading)
                    yield reading.kind, reading.counts, reading.seconds
    finally:
        for reading in running:
            reading._process.kill()


def main(_):
    """Prints one line of counts per kind of file, and their sums."""
    settings = flags.FLAGS
    begin, sums = time.monotonic(), collections.Counter()
    wanted = [kind for kind in KINDS if not settings.only or kind.name in settings.only]
    for kind in list(wanted):
        if package := missing_package(kind):
            print(f"{kind.name}: left out, {package} is not installed", flush=True)
            wanted.remove(kind)
    with contextlib.ExitStack() as stack:
        folder = settings.folder or stack.enter_context(tempfile.TemporaryDirectory())
        folder = pathlib.Path(folder)
        folder.mkdir(exist_ok=True)
        # The slowest first, so that they do not run alone at the end.
        wanted.sort(key=lambda kind: kind.share)
        for kind, counts, seconds in fuzz(
            wanted, folder, settings.seed, settings.files, settings.processes
        ):
            sums.update(counts)
            _print_counts(kind.name, counts, seconds)
    _print_counts("all", {name: sums[name] for name in COUNTS}, time.monotonic() - begin)
    return int(sums["faults"] > 0)


def _print_counts(name, counts, seconds):
    text = ", ".join(f"{key} {count}" for key, count in counts.items())
    print(f"{name}: files {sum(counts.values())}, {text}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    # Not at import: the tests import this module next to scripts that have flags of these names.
    flags.DEFINE_integer("files", 30, "Mutated files of each kind.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Seed of the mutations.", lower_bound=0)
    flags.DEFINE_integer("processes", os.cpu_count(), "Processes side by side.", lower_bound=1)
    flags.DEFINE_string("folder", None, "An empty folder that keeps the files; by default none.")
    flags.DEFINE_list("only", [], "Kinds of file; by default all.")
    known = {kind.name for kind in KINDS}
    flags.register_validator("only", known.issuperset, f"expected of {', '.join(sorted(known))}")
    app.run(main)
