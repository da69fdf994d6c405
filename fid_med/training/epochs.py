"""After each epoch: validation, the log, the best weights, the decision to stop."""

import csv
import pathlib
import time
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from fid_med.errors import DataError
from fid_med.training.classification_report import classification_report
from fid_med.utils.files import atomic_path
from fid_med.utils.progress import say

COLUMNS = (
    "phase", "epoch", "loss", "auxiliary_loss", "accuracy", "val_loss", "val_accuracy", "val_auc",
    "learning_rate", "seconds",
)  # fmt: skip
_TIMED_STEPS = 4


class EpochLog:
    """Numbers of every epoch, in history.csv and in TensorBoard logs below `tensorboard/`.

    Logs of an earlier run in the same folder are replaced; a run that goes on writes its earlier
    epochs anew, so that none stands there twice.

    Args:
      output_dir: where both go.
      rows: of the epochs that an interrupted run had done.
    """

    def __init__(self, output_dir: pathlib.Path, rows: Sequence[dict] = ()):
        self.rows: list[dict] = []
        self._path = output_dir / "history.csv"
        folder = output_dir / "tensorboard"
        for file in folder.glob("events.out.tfevents.*"):
            file.unlink()
        self._writer = tf.summary.create_file_writer(str(folder))
        for row in rows:
            self.add(row)

    def add(self, row: dict) -> None:
        """Adds an epoch and writes the table anew, whole.

        Raises:
          OSError: it cannot be written.
        """
        self.rows.append(row)
        with atomic_path(self._path) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)
        try:
            with self._writer.as_default(step=len(self.rows)):
                for name in COLUMNS[2:]:
                    if row[name] is not None:
                        write_scalar(f"{row['phase']}/{name}", row[name])
            self._writer.flush()
        except tf.errors.OpError as error:  # as on a full disk
            reason = error.message.splitlines()[0].rpartition("}} ")[2]
            raise OSError(f"TensorBoard's log cannot be written ({reason})") from error

    def close(self) -> None:
        self._writer.close()


def write_scalar(name: str, value: float) -> None:
    """Writes a number for TensorBoard to the default summary writer, at its default step."""
    # tf.summary.scalar needs the tensorboard package since TensorFlow 2.21; the file does not.
    metadata = tf.compat.v1.SummaryMetadata(display_name=name)
    metadata.plugin_data.plugin_name = "scalars"
    tf.summary.write(name, tf.constant(value, tf.float32), metadata=metadata)


class KeepBest:
    """Validates after each epoch, says when nothing improves any more, and knows the best weights.

    The best are those with the highest validation AUC, and among equals the lowest loss: on small
    data the loss mostly tells how overconfident the softmax has become, the AUC what the features
    tell apart.

    Args:
      owner: the model whose weights are kept and put back.
      predict: returns float [n, K] probabilities of the validation images.
      labels: int [n] or bool [n, K] of them.
      loss: validation loss of such probabilities.
      accuracy: the same for the share of right labels.
      patience: epochs without a better one before training stops.
      phase: what the log calls this part of the training.
      kept: indices into the owner's weights; those that training changes.

    Attributes:
      best_epoch: number of the best epoch, from 1; 0 before any.
      best_score: its validation AUC and minus its loss.
      best_weights: its weights, those of `kept`.
    """

    def __init__(
        self,
        owner: keras.Model,
        predict: Callable[[], np.ndarray],
        labels: np.ndarray,
        loss: Callable[[np.ndarray], float],
        accuracy: Callable[[np.ndarray], float],
        patience: int,
        phase: str,
        kept: Sequence[int] | None = None,
    ):
        self._owner, self._predict, self._labels = owner, predict, labels
        self._loss, self._accuracy = loss, accuracy
        self._patience, self._phase = patience, phase
        self._kept = range(len(owner.weights)) if kept is None else kept
        self.best_epoch, self.best_score, self.best_weights = 0, (-1.0, 0.0), []

    def after_epoch(self, epoch: int, logs: dict, seconds: float) -> dict:
        """Validates and keeps the weights if they are the best.

        Args:
          epoch: number of the epoch done, from 1.
          logs: `loss`, `auxiliary_loss`, `accuracy` and `learning_rate` of the epoch.
          seconds: that its steps took.

        Returns:
          The epoch's row of the history.

        Raises:
          DataError: the loss is no longer a number.
        """
        if not np.isfinite(logs["loss"]):
            raise DataError(
                f"{self._phase} epoch {epoch}: the loss is {logs['loss']}, the training has "
                "diverged; give a lower --learning_rate, or --clip_norm=2"
            )
        start = time.perf_counter()
        probabilities = self._predict()
        report = classification_report(
            probabilities, self._labels, [str(i) for i in range(probabilities.shape[1])]
        )
        row = {
            "phase": self._phase,
            "epoch": epoch,
            **logs,
            "val_loss": self._loss(probabilities),
            "val_accuracy": self._accuracy(probabilities),
            "val_auc": report["auc"],
            "seconds": round(seconds + time.perf_counter() - start, 2),
        }
        score = (row["val_auc"] or 0.0, -row["val_loss"])
        if score > self.best_score:
            self.best_score, self.best_epoch = score, epoch
            weights = self._owner.weights
            self.best_weights = [weights[i].numpy() for i in self._kept]
        return row

    def is_over(self, epoch: int) -> bool:
        """Whether `patience` epochs have passed since the best one."""
        return epoch > 0 and epoch - self.best_epoch >= self._patience

    def put_back(self) -> None:
        """Sets the best weights, if there are any."""
        weights = self._owner.weights
        for i, value in zip(self._kept, self.best_weights, strict=False):
            weights[i].assign(value)

    def best(self) -> str:
        """The best epoch in words."""
        auc, loss = self.best_score
        return f"best after epoch {self.best_epoch}: validation AUC {auc:.3f}, loss {-loss:.4f}"


def describe(row: dict) -> str:
    """An epoch in one line."""
    auc = "-" if row["val_auc"] is None else f"{row['val_auc']:.3f}"
    auxiliary = row["auxiliary_loss"]
    return (
        f"{row['phase']} epoch {row['epoch']}: loss {row['loss']:.4f}, "
        + (f"auxiliary {auxiliary:.4f}, " if auxiliary is not None else "")
        + f"validation loss {row['val_loss']:.4f}, accuracy {row['val_accuracy']:.3f}, AUC {auc}, "
        f"{row['seconds']:.0f} s"
    )


class Projection:
    """Says once, after the first steps, how long a phase will take.

    Args:
      phase: of the training.
      images: in an epoch's training.
      epochs: still to come, at most.
    """

    def __init__(self, phase: str, images: int, epochs: int):
        self._phase, self._images, self._epochs = phase, images, epochs
        self._steps, self._seen, self._timed, self._seconds = 0, 0, 0, 0.0

    def begin_epoch(self) -> None:
        """Starts the clock, so that the validation before is not counted."""
        self._since = time.perf_counter()

    def after_step(self, count: int) -> None:
        """Counts a step of so many images; the first is left out, for it builds the graph."""
        now = time.perf_counter()
        if 1 <= self._steps <= _TIMED_STEPS:
            self._timed += count
            self._seconds += now - self._since
        self._since, self._steps, self._seen = now, self._steps + 1, self._seen + count
        if self._steps == 1 + _TIMED_STEPS and self._seen < self._images * self._epochs:
            rate = self._timed / self._seconds
            say(
                f"{self._phase}: {rate:.1f} images/s; {self._epochs} epochs of {self._images} "
                f"images take {duration(self._images * self._epochs / rate)} at most, validation "
                "not counted"
            )


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would use."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
