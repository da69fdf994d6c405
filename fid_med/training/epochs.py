"""What happens in each epoch: learning rate, progress, validation, early stopping, logging."""

import csv
import pathlib
import time
from collections.abc import Callable, Sequence

import keras
import numpy as np

from fid_med.errors import DataError
from fid_med.training.classification_report import classification_report
from fid_med.utils.files import atomic_path
from fid_med.utils.progress import Progress, say
from fid_med.utils.tensorboard import ScalarWriter

COLUMNS = (
    "phase", "epoch", "loss", "auxiliary_loss", "accuracy", "val_loss", "val_accuracy", "val_auc",
    "learning_rate", "seconds",
)  # fmt: skip
_TIMED_STEPS = 4


class EpochLog:
    """Writes the numbers of every epoch to `history.csv` and to TensorBoard logs.

    TensorBoard logs of an earlier run in the same folder are replaced. A resumed run writes its
    earlier epochs again, so that each epoch is logged exactly once.

    Args:
      output_dir: folder of `history.csv` and of the subfolder `tensorboard`.
      rows: epochs that an interrupted run had finished.

    Attributes:
      rows: a dict with the keys `COLUMNS` for each epoch.
    """

    def __init__(self, output_dir: pathlib.Path, rows: Sequence[dict] = ()):
        self.rows: list[dict] = []
        self._path = output_dir / "history.csv"
        folder = output_dir / "tensorboard"
        for file in folder.glob("events.out.tfevents.*"):
            file.unlink()
        self._writer = ScalarWriter(folder)
        for row in rows:
            self.add(row)

    def add(self, row: dict) -> None:
        """Adds an epoch; the table is replaced atomically.

        Raises:
          OSError: a file cannot be written.
        """
        self.rows.append(row)
        with atomic_path(self._path) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)
        known = [name for name in COLUMNS[2:] if row[name] is not None]
        self._writer.add({f"{row['phase']}/{name}": row[name] for name in known}, len(self.rows))

    def close(self) -> None:
        """Closes the TensorBoard log."""
        self._writer.close()


class LearningRate(keras.callbacks.Callback):
    """Sets the learning rate of each epoch, and records it in `logs`.

    If another callback has changed the rate, such as `keras.callbacks.ReduceLROnPlateau`, its
    factor applies to all later epochs.

    Args:
      schedule: computes the rate of an epoch, counted from 0.
    """

    def __init__(self, schedule: Callable[[int], float]):
        super().__init__()
        self._schedule, self._factor, self._set_to = schedule, 1.0, None

    def on_epoch_begin(self, epoch, logs=None):
        """Sets the rate."""
        optimizer = self.model.optimizer
        if self._set_to is not None:
            self._factor *= float(optimizer.learning_rate) / self._set_to
        self._rate = self._factor * self._schedule(epoch)
        optimizer.learning_rate = self._rate
        self._set_to = float(optimizer.learning_rate)

    def on_epoch_end(self, epoch, logs):
        """Records the rate."""
        logs["learning_rate"] = self._rate


class EarlyStopping(keras.callbacks.Callback):
    """Validates after each epoch, keeps the best weights, and decides when to stop.

    `logs` of later callbacks have `val_loss`, `val_accuracy`, `val_auc` and `seconds` as well.

    The best weights have the highest validation AUC and, among equal AUCs, the lowest validation
    loss. The AUC comes first because on small data sets the loss mostly reflects how overconfident
    the softmax has become, and not how well the features separate the labels.

    Args:
      model: the model whose weights are kept and restored.
      predict: returns the probabilities of the validation images, float [n, K].
      labels: int [n] or bool [n, K], labels of the validation images.
      loss: computes the validation loss of such probabilities.
      accuracy: computes the share of correct labels of such probabilities.
      patience: epochs without improvement before training stops.
      phase: name of the training phase in the log.
      kept: indices of the weights of `model` that training changes; by default all.

    Attributes:
      best_epoch: number of the best epoch, from 1; 0 before the first.
      best_score: validation AUC and negative validation loss of the best epoch.
      best_weights: the `kept` weights of the best epoch.
      row: the last epoch's row of the history, with the keys `COLUMNS`.
    """

    def __init__(
        self,
        model: keras.Model,
        predict: Callable[[], np.ndarray],
        labels: np.ndarray,
        loss: Callable[[np.ndarray], float],
        accuracy: Callable[[np.ndarray], float],
        patience: int,
        phase: str,
        kept: Sequence[int] | None = None,
    ):
        super().__init__()
        self._kept_model, self._predict, self._labels = model, predict, labels
        self._loss, self._accuracy = loss, accuracy
        self._patience, self._phase = patience, phase
        self._kept = range(len(model.weights)) if kept is None else kept
        self.best_epoch, self.best_score, self.best_weights = 0, (-1.0, 0.0), []
        self.row: dict = {}

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock."""
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs):
        """Validates, and keeps the weights if they are the best so far.

        Args:
          epoch: number of the finished epoch, from 0.
          logs: `loss`, `accuracy`, `learning_rate` and perhaps `auxiliary_loss` of the epoch.

        Raises:
          DataError: the training loss is NaN or infinite.
        """
        if not np.isfinite(logs["loss"]):
            raise DataError(
                f"phase {self._phase}, epoch {epoch + 1}: training has diverged, the loss is "
                f"{logs['loss']}; give a lower --learning_rate, or --clip_norm=2"
            )
        probabilities = self._predict()
        report = classification_report(
            probabilities, self._labels, [str(i) for i in range(probabilities.shape[1])]
        )
        found = {
            "val_loss": self._loss(probabilities),
            "val_accuracy": self._accuracy(probabilities),
            "val_auc": report["auc"],
            "seconds": round(time.perf_counter() - self._start, 2),
        }
        trained = {name: logs.get(name) for name in COLUMNS[2:] if name not in found}
        self.row = {"phase": self._phase, "epoch": epoch + 1, **trained, **found}
        logs.update({name: value for name, value in found.items() if value is not None})
        score = _score(self.row)
        if score > self.best_score:
            self.best_score, self.best_epoch = score, epoch + 1
            self.best_weights = [weight.numpy() for weight in self.kept_weights()]
        if self.should_stop(epoch + 1):
            self.model.stop_training = True

    def should_stop(self, epoch: int) -> bool:
        """Whether `patience` epochs without improvement have passed after `epoch` epochs."""
        return epoch > 0 and epoch - self.best_epoch >= self._patience

    def restore_best_weights(self) -> None:
        """Sets the best weights, if there are any."""
        for weight, value in zip(self.kept_weights(), self.best_weights, strict=False):
            weight.assign(value)

    def kept_weights(self) -> list:
        """Returns the weights that are kept, as variables."""
        weights = self._kept_model.weights
        return [weights[i] for i in self._kept]

    def describe_best(self) -> str:
        """Returns the best epoch in one line."""
        auc, loss = self.best_score
        return (
            f"{self._phase}: best epoch {self.best_epoch}, validation AUC {auc:.3f}, loss "
            f"{-loss:.4f}"
        )


def best_epochs(rows: Sequence[dict]) -> dict[str, int]:
    """Returns the epoch whose weights were kept, by phase, from the rows of an `EpochLog`."""
    best: dict[str, dict] = {}
    for row in rows:
        kept = best.setdefault(row["phase"], row)
        if _score(row) > _score(kept):
            best[row["phase"]] = row
    return {phase: row["epoch"] for phase, row in best.items()}


def _score(row):
    return row["val_auc"] or 0.0, -row["val_loss"]


def describe_epoch(row: dict) -> str:
    """Returns an epoch in one line."""
    auc = "-" if row["val_auc"] is None else f"{row['val_auc']:.3f}"
    auxiliary = row["auxiliary_loss"]
    return (
        f"{row['phase']} epoch {row['epoch']}: loss {row['loss']:.4f}, "
        + (f"auxiliary loss {auxiliary:.4f}, " if auxiliary is not None else "")
        + f"validation loss {row['val_loss']:.4f}, accuracy {row['val_accuracy']:.3f}, AUC {auc}, "
        f"{row['seconds']:.0f} s"
    )


class TrainingProgress(keras.callbacks.Callback):
    """Shows the progress of each epoch, and prints once how long the phase will take.

    Args:
      phase: name of the training phase.
      images: training images per epoch.
      batch_size: images per step.
      epochs: maximum number of epochs that remain.
    """

    def __init__(self, phase: str, images: int, batch_size: int, epochs: int):
        super().__init__()
        self._phase, self._images, self._batch_size = phase, images, batch_size
        self._epochs, self._bar = epochs, None
        self._steps, self._seen, self._timed, self._seconds = 0, 0, 0, 0.0

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the bar and the clock, so that the preceding validation is not counted."""
        self._bar = Progress(f"{self._phase} epoch {epoch + 1}", self._images)
        self._since = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Counts the images of a step; the first step, which builds the graph, is not timed."""
        count = min(self._batch_size, self._images - batch * self._batch_size)
        self._bar.update(count)
        now = time.perf_counter()
        if 1 <= self._steps <= _TIMED_STEPS:
            self._timed += count
            self._seconds += now - self._since
        self._since, self._steps, self._seen = now, self._steps + 1, self._seen + count
        if self._steps == 1 + _TIMED_STEPS and self._seen < self._images * self._epochs:
            rate = self._timed / self._seconds
            say(
                f"{self._phase}: {rate:.1f} images/s; {self._epochs} epochs of {self._images} "
                f"images take at most {_format_duration(self._images * self._epochs / rate)}, "
                "plus validation"
            )

    def on_epoch_end(self, epoch, logs=None):
        """Removes the bar."""
        self.close()

    def close(self) -> None:
        """Removes the bar, also where training was interrupted."""
        if self._bar:
            self._bar.close()


def _format_duration(seconds):
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
