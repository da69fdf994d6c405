"""Where an interrupted training goes on: its state after each epoch; and ways to interrupt it."""

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
from fid_med.metrics.npz import write_npz
from fid_med.utils.progress import say

FOLDER = "checkpoint"
_FILE = "state.npz"
_FORMAT = 1


class CheckpointError(FidMedError):
    """A checkpoint that cannot be written or read."""


class Interrupted(KeyboardInterrupt):
    """A training ended by SIGINT or SIGTERM; says how to go on, and `status` to exit with."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


@dataclasses.dataclass
class Checkpoint:
    """All that a run needs to go on as if nothing had happened.

    Attributes:
      settings: what must be the same when it goes on: configuration, weights, data set.
      hash_key: of the training images' digests.
      images: uint64 [N], `image_identities` of the data.
      phase: of the training.
      epoch: how many epochs of the phase are done.
      best: epoch and score (validation AUC, minus the loss) of the best weights so far.
      rows: of the history.
      seconds: wall time so far.
      state: network, optimizer and random state, in the order of `Stepper.state_variables`.
      best_weights: those of the best epoch, empty before the first.
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

    def where(self) -> str:
        """After which epoch, in words."""
        return f"epoch {self.epoch} of {self.phase}" if self.epoch else f"the start of {self.phase}"


_ARRAYS = ("state", "best_weights")
_FIELDS = [f.name for f in dataclasses.fields(Checkpoint) if f.name not in (*_ARRAYS, "images")]


class CheckpointStore:
    """The one checkpoint of an output folder, replaced whole after each epoch.

    Args:
      output_dir: the checkpoint lies in its folder `checkpoint`.
    """

    def __init__(self, output_dir: pathlib.Path):
        self.folder = pathlib.Path(output_dir) / FOLDER
        self.path = self.folder / _FILE
        # The last one written or read, which messages about a later failure name.
        self.last: Checkpoint | None = None

    def save(self, checkpoint: Checkpoint) -> None:
        """Replaces the checkpoint; the one before stays until the new one is whole.

        Raises:
          CheckpointError: it cannot be written, as on a full disk.
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
                f"{self.path}: the checkpoint after {checkpoint.where()} cannot be written "
                f"({reason_of(error.__cause__ or error)}); {self.how_to_go_on()}"
            ) from error
        self.last = dataclasses.replace(checkpoint, state=(), best_weights=())

    def load(self) -> Checkpoint | None:
        """The checkpoint of an interrupted run, or None where there is none.

        What a killed run left half written is removed.

        Raises:
          CheckpointError: the file is damaged.
        """
        for partial in self.folder.glob(".*.partial.npz"):
            partial.unlink(missing_ok=True)
        if not self.path.exists():
            return None
        try:
            with np.load(self.path, allow_pickle=False) as npz:
                meta = json.loads(npz["meta"].tobytes())
                if meta["format"] != _FORMAT:
                    raise ValueError("it is of another version of fid_med")
                fields = {name: meta[name] for name in _FIELDS}
                fields["best"] = (fields["best"][0], tuple(fields["best"][1]))
                names = sorted(npz.files)
                arrays = {
                    kind: [npz[name] for name in names if name.startswith(f"{kind}/")]
                    for kind in _ARRAYS
                }
                found = Checkpoint(images=npz["images"], **fields, **arrays)
        except Exception as error:  # a damaged zip or array header raises nearly anything
            raise CheckpointError(
                f"{self.path}: cannot be read ({reason_of(error)}); give --overwrite to start over"
            ) from error
        self.last = dataclasses.replace(found, state=(), best_weights=())
        return found

    def discard(self) -> None:
        """Removes the checkpoint."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.last = None

    def how_to_go_on(self) -> str:
        """What giving the same command again will do."""
        if self.last is None:
            return "give the same command again to start over"
        return f"give the same command again to go on after {self.last.where()}"


def image_identities(
    names: Sequence[str], digests: Sequence[str], labels: np.ndarray, splits: np.ndarray
) -> np.ndarray:
    """A number for each image that changes with its name, pixels, labels or split: uint64 [N]."""
    found = []
    for name, digest, label, split in zip(names, digests, labels.tolist(), splits, strict=True):
        text = json.dumps([name, digest, label, str(split)]).encode()
        found.append(int.from_bytes(hashlib.sha256(text).digest()[:8], "little"))
    return np.array(found, np.uint64)


def check_settings(saved: Checkpoint, settings: dict, store: CheckpointStore) -> None:
    """Refuses to go on with other settings than the run began with.

    Args:
      saved: the run.
      settings: dicts by group; groups that are not in it are not compared.
      store: where the run lies.

    Raises:
      DataError: naming what differs.
    """
    before = _flat({key: saved.settings.get(key, {}) for key in settings})
    now = _flat(json.loads(json.dumps(settings)))
    differing = [
        f"{key} was {before.get(key)}, now {now.get(key)}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    if differing:
        raise DataError(f"{_interrupted_run(store)} other settings: {'; '.join(differing)}{_MEND}")


def check_images(
    saved: Checkpoint, images: np.ndarray, names: Sequence[str], store: CheckpointStore
) -> None:
    """Refuses to go on with other images than the run began with.

    Raises:
      DataError: naming what differs.
    """
    if len(saved.images) != len(images):
        differing = f"it had {len(saved.images)}, now there are {len(images)}"
    else:
        changed = np.flatnonzero(saved.images != images)
        if not len(changed):
            return
        differing = (
            f"{len(changed)} of {len(images)}, such as {names[changed[0]]}, differ in name, "
            "pixels, label or patient"
        )
    raise DataError(f"{_interrupted_run(store)} other images: {differing}{_MEND}")


_MEND = "; put them back, choose another --output_dir, or give --overwrite to start over"


def _interrupted_run(store):
    return f"{store.folder.parent}: holds an interrupted run with"


def _flat(settings):
    """Nested dicts as one, the inner keys alone: they name the flags."""
    found = {}
    for key, value in settings.items():
        found.update(_flat(value) if isinstance(value, dict) else {key: value})
    return found


@contextlib.contextmanager
def interruptible(store: CheckpointStore) -> Iterator[None]:
    """Turns SIGINT and SIGTERM into `Interrupted`, which names the checkpoint to go on from.

    Python hears a signal between two of its own instructions, so after the step under way. Signals
    belong to the main thread; elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}

    def stop(number, _):
        # A second signal ends the process at once, whatever the clearing up of the first does.
        restore()
        name = signal.Signals(number).name
        raise Interrupted(f"interrupted ({name}); {store.how_to_go_on()}", 128 + number)

    def restore():
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        restore()


def announce(saved: Checkpoint) -> None:
    """Says where a run goes on."""
    say(f"going on after {saved.where()}, where an earlier run was interrupted")
