"""Other programs that compute the FID, run in the interpreter where they are installed."""

from __future__ import annotations

import contextlib
import json
import pathlib
import subprocess
import sys
from collections.abc import Callable

import numpy as np

from benchmarks.timing import UnavailableError
from fid_med.errors import DataError, reason_of

WORKER = pathlib.Path(__file__).with_name("peer_worker.py")
# Packages that each program needs. ONNX Runtime runs pytorch-fid's network, exported by PyTorch.
NEEDS = {
    "pytorch-fid": ("torch", "pytorch-fid"),
    "torch-fidelity": ("torch", "torch-fidelity"),
    "ONNX Runtime": ("torch", "pytorch-fid", "onnxruntime", "onnx"),
}


class Peers:
    """The interpreter of the other programs, and the processes started in it.

    Args:
      python: path of the interpreter; by default the running one.
      folder: folder in which arrays are exchanged.

    Raises:
      DataError: no Python interpreter at that path.
    """

    def __init__(self, python: str | None, folder):
        self.python = python or sys.executable
        self.folder = pathlib.Path(folder)
        self._workers: list[_Worker] = []
        try:
            found = subprocess.run(
                [self.python, WORKER, "versions"], capture_output=True, text=True, check=True
            )
            self.versions: dict[str, str] = json.loads(found.stdout)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            raise DataError(
                f"{self.python}: not a Python interpreter that runs ({reason_of(error)})",
                wrong_flag=True,
            ) from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for worker in self._workers:
            worker.close()

    def require(self, program: str) -> None:
        """Raises UnavailableError if the interpreter lacks a package that the program needs."""
        missing = [package for package in NEEDS[program] if package not in self.versions]
        if missing:
            raise UnavailableError(f"not installed: {', '.join(missing)}")

    def job(self, program: str, do: str, **arguments) -> Callable[[], Callable]:
        """Prepares a program in its own process; returns the function that is timed."""
        self.require(program)
        worker = self._worker()
        worker.ask(do, program=program, **{k: str(v) for k, v in arguments.items()})
        target = self.folder / f"result{len(self._workers)}.npy"

        def fetch():
            worker.ask("save", path=str(target))
            return np.load(target)

        def run():
            worker.ask("run")
            return fetch

        return run

    def write_weights(self, arrays: dict[str, np.ndarray], path) -> None:
        """Writes arrays, with PyTorch's names, as a state dict."""
        if "torch" not in self.versions:
            raise UnavailableError("not installed: torch")
        source = pathlib.Path(path).with_suffix(".npz")
        np.savez(source, **arrays)
        worker = self._worker()
        worker.ask("weights", arrays=str(source), path=str(path))
        worker.close()

    def command(self, program: str, weights, real, generated) -> list[str]:
        """Returns the command line of a program's whole job."""
        self.require(program)
        return [str(x) for x in (self.python, WORKER, "command", program, weights, real, generated)]

    def _worker(self):
        worker = _Worker(self.python)
        self._workers.append(worker)
        return worker


class _Worker:
    """A process that answers requests, one JSON object per line."""

    def __init__(self, python):
        self._process = subprocess.Popen(
            [python, WORKER, "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, do, **arguments):
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            raise UnavailableError("its process ended")
        error = json.loads(line).get("error")
        if error:
            raise UnavailableError(f"it failed: {reason_of(Exception(error))}")

    def close(self):
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
