"""Checkpoints of a training run, and how a run stops on a signal."""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence

import numpy as np

from fid_med.errors import DataError, FidMedError, StatisticsError, reason_of
from fid_med.metrics.npz import read_npz, write_npz
from fid_med.utils.files import check_writable_folder, sweep_partials

_FOLDER = "checkpoint"
_FILE = "state.npz"
_FORMAT = 1
RESULT_FILES = ("extractor.keras", "classifier.keras", "training.json")  # the last is written last


class CheckpointError(FidMedError):
    """A checkpoint cannot be written or read."""


class Interrupted(KeyboardInterrupt):
    """A training run was stopped by SIGINT or SIGTERM.

    Attributes:
      status: exit status of the process, 128 plus the number of the signal.
    """

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


@dataclasses.dataclass
class Checkpoint:
    """Everything that is needed to continue a run as if it had not been interrupted.

    Attributes:
      settings: what must not change between runs: configuration, start weights, data set.
      hash_key: key of the digests of the training images.
      images: uint64 [N], `hash_images` of the data.
      phase: name of the training phase.
      epoch: number of finished epochs of the phase.
      best: epoch and score (validation AUC, negative loss) of the best weights so far.
      rows: rows of the history.
      seconds: wall time so far.
      state: network, random state, optimizer and average, in the order of the `state_variables` of
        `TrainingModel` and `WeightAverage`.
      best_weights: weights of the best epoch; empty before the first epoch.
    """

    settings: dict
    hash_key: str
    images: np.ndarray
    phase: str
    epoch: int
    best: tuple[int, tuple[float, float]]
    rows: list[dict]
    seconds: float
    state: Sequence[np.ndarray] = ()
    best_weights: Sequence[np.ndarray] = ()

    def describe_position(self) -> str:
        """Returns the last finished epoch in words."""
        if self.epoch:
            return f"epoch {self.epoch} of phase {self.phase}"
        return f"the start of phase {self.phase}"


_ARRAYS = ("state", "best_weights")
_FIELDS = [f.name for f in dataclasses.fields(Checkpoint) if f.name not in (*_ARRAYS, "images")]


class CheckpointStore:
    """The single checkpoint of an output folder, replaced atomically after each epoch.

    Args:
      output_dir: the checkpoint is saved in its subfolder `checkpoint`.
    """

    def __init__(self, output_dir: pathlib.Path):
        self.folder = pathlib.Path(output_dir) / _FOLDER
        self.path = self.folder / _FILE
        # The last one written or read; messages about a later failure name it.
        self._last: Checkpoint | None = None

    def save(self, checkpoint: Checkpoint) -> None:
        """Replaces the checkpoint; the previous one stays until the new one is complete.

        Raises:
          CheckpointError: the file cannot be written, for example because the disk is full.
        """
        meta = {name: getattr(checkpoint, name) for name in _FIELDS}
        text = json.dumps({"format": _FORMAT, **meta}).encode()
        arrays = {"meta": np.frombuffer(text, np.uint8), "images": checkpoint.images}
        for name in _ARRAYS:
            for i, array in enumerate(getattr(checkpoint, name)):
                arrays[f"{name}/{i:04d}"] = array
        try:
            write_npz(self.path, arrays)
        except StatisticsError as error:
            raise CheckpointError(
                f"{self.path}: the checkpoint after {checkpoint.describe_position()} cannot be "
                f"written ({reason_of(error.__cause__ or error)}); {self.resume_hint()}"
            ) from error
        self._last = dataclasses.replace(checkpoint, state=(), best_weights=())

    def load(self) -> Checkpoint | None:
        """Returns the checkpoint of an interrupted run, or None if there is none.

        Partial files of a killed run are removed.

        Raises:
          CheckpointError: the file is damaged.
        """
        sweep_partials(self.folder)
        if not self.path.exists():
            return None
        try:
            npz = read_npz(self.path, None, "a checkpoint")
            meta = json.loads(npz["meta"].tobytes())
            if meta["format"] != _FORMAT:
                raise ValueError("it was written by another version of fid_med")
            fields = {name: meta[name] for name in _FIELDS}
            fields["best"] = (fields["best"][0], tuple(fields["best"][1]))
            arrays = {
                kind: [npz[name] for name in sorted(npz) if name.startswith(f"{kind}/")]
                for kind in _ARRAYS
            }
            found = Checkpoint(images=npz["images"], **fields, **arrays)
            if found.images.ndim != 1 or found.images.dtype != np.uint64:
                raise ValueError("its hashes of images have another shape or dtype")
        except Exception as error:  # a damaged zip or array header raises nearly anything
            raise CheckpointError(
                f"{self.path}: cannot be read ({reason_of(error.__cause__ or error)}); give "
                "--overwrite to start over"
            ) from error
        self._last = dataclasses.replace(found, state=(), best_weights=())
        return found

    def discard(self) -> None:
        """Removes the checkpoint."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._last = None

    def resume_hint(self) -> str:
        """Returns what running the same command again will do."""
        if self._last is None:
            return "run the same command again to start over"
        return f"run the same command again to resume after {self._last.describe_position()}"


def check_output_dir(output_dir: pathlib.Path, overwrite: bool) -> None:
    """Makes the output folder and checks it before a long training.

    A run that was interrupted while it wrote its results does not count as finished:
    `training.json` is written last, and `train` resumes from the checkpoint.

    Args:
      output_dir: folder of the results.
      overwrite: whether results of a finished run may be replaced.

    Raises:
      DataError: the folder contains a finished run and `overwrite` is not set.
      OSError: the path is a file, or the folder cannot be written to.
    """
    finished = [name for name in RESULT_FILES if (output_dir / name).exists()]
    interrupted = CheckpointStore(output_dir).path.exists()
    if interrupted and RESULT_FILES[-1] not in finished:
        finished = []
    if finished and not overwrite:
        raise DataError(
            f"{output_dir}: contains a finished run ({', '.join(finished)}); choose another "
            "--output_dir, or give --overwrite to replace it"
        )
    check_writable_folder(output_dir)


def hash_images(
    names: Sequence[str], digests: Sequence[str], labels: np.ndarray, splits: np.ndarray
) -> np.ndarray:
    """Hashes the name, pixels, label and split of each image to one number.

    Args:
      names: N image names.
      digests: N digests of the pixels.
      labels: int [N] or bool [N, K].
      splits: N split names.

    Returns:
      uint64 [N].
    """
    found = []
    for name, digest, label, split in zip(names, digests, labels.tolist(), splits, strict=True):
        text = json.dumps([name, digest, label, str(split)]).encode()
        found.append(int.from_bytes(hashlib.sha256(text).digest()[:8], "little"))
    return np.array(found, np.uint64)


def check_settings(saved: Checkpoint, settings: dict, store: CheckpointStore) -> None:
    """Checks that a run is resumed with the settings that it started with.

    Args:
      saved: checkpoint of the interrupted run.
      settings: dicts by group; only these groups are compared.
      store: where the checkpoint was loaded from.

    Raises:
      DataError: settings differ; the message names them.
    """
    before = _flatten({key: saved.settings.get(key, {}) for key in settings})
    now = _flatten(json.loads(json.dumps(settings)))
    differing = [
        f"{key} was {before.get(key)}, now {now.get(key)}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    if differing:
        raise DataError(_mismatch(store, "settings", "; ".join(differing)))


def check_images(
    saved: Checkpoint, images: np.ndarray, names: Sequence[str], store: CheckpointStore
) -> None:
    """Checks that a run is resumed with the images that it started with.

    Args:
      saved: checkpoint of the interrupted run.
      images: uint64 [N], `hash_images` of the current data.
      names: N image names.
      store: where the checkpoint was loaded from.

    Raises:
      DataError: images differ; the message names the first one.
    """
    if len(saved.images) != len(images):
        differing = f"it had {len(saved.images)}, now there are {len(images)}"
    else:
        changed = np.flatnonzero(saved.images != images)
        if not len(changed):
            return
        differing = (
            f"{len(changed)} of {len(images)} (the first is {names[changed[0]]}) differ in name, "
            "pixels, label or patient"
        )
    raise DataError(_mismatch(store, "images", differing))


def _mismatch(store, what, differing):
    return (
        f"{store.folder.parent}: contains an interrupted run with other {what}: {differing}; "
        "restore them, choose another --output_dir, or give --overwrite to start over"
    )


def _flatten(settings):
    """Nested dicts as one dict; the inner keys are unique, since they name the flags."""
    found = {}
    for key, value in settings.items():
        found.update(_flatten(value) if isinstance(value, dict) else {key: value})
    return found


@contextlib.contextmanager
def interruptible(store: CheckpointStore) -> Iterator[None]:
    """Turns SIGINT and SIGTERM into `Interrupted`, whose message names the last checkpoint.

    Python runs signal handlers between its own instructions, that is, after the current training
    step. Only the main thread receives signals; in other threads this context does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}

    def stop(number, _):
        # A second signal then ends the process at once, even during the cleanup after the first.
        restore_handlers()
        name = signal.Signals(number).name
        raise Interrupted(f"interrupted ({name}); {store.resume_hint()}", 128 + number)

    def restore_handlers():
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        restore_handlers()
