"""After each epoch: validation, the log, the best weights, the decision to stop."""

import csv
import pathlib
import time

import keras
import numpy as np
import tensorflow as tf

from fid_med.artifacts import atomic_path
from fid_med.metrics.classification import classification_report
from fid_med.progress import say

COLUMNS = (
    "phase", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "val_auc", "seconds",
)  # fmt: skip


class EpochLog:
    """Numbers of every epoch, in history.csv and in TensorBoard logs below `tensorboard/`."""

    def __init__(self, output_dir: pathlib.Path):
        self.rows: list[dict] = []
        self._path = output_dir / "history.csv"
        self._writer = tf.summary.create_file_writer(str(output_dir / "tensorboard"))

    def add(self, row: dict) -> None:
        """Adds an epoch and writes the table anew, whole."""
        self.rows.append(row)
        with atomic_path(self._path) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)
        with self._writer.as_default(step=len(self.rows)):
            for name in COLUMNS[2:]:
                if row[name] is not None:
                    tf.summary.write(
                        f"{row['phase']}/{name}",
                        tf.constant(row[name], tf.float32),
                        metadata=_scalar(f"{row['phase']}/{name}"),
                    )
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _scalar(name):
    # tf.summary.scalar needs the tensorboard package since TensorFlow 2.21; the file does not.
    metadata = tf.compat.v1.SummaryMetadata(display_name=name)
    metadata.plugin_data.plugin_name = "scalars"
    return metadata


class KeepBest(keras.callbacks.Callback):
    """Validates after each epoch, stops when nothing improves, and ends on the best weights.

    The best are those with the highest validation AUC, and among equals the lowest loss: on small
    data the loss mostly tells how overconfident the softmax has become, the AUC what the features
    tell apart.

    Args:
      owner: the model whose weights are kept and put back.
      predict: returns float [n, K] probabilities of the validation images.
      labels: int [n] of them.
      balance: float [K], weight of each label in the loss.
      patience: epochs without a better one before training stops.
      log: where the epochs go.
      phase: what the log calls this part of the training.
      aloud: whether each epoch is told on stderr.
    """

    def __init__(self, owner, predict, labels, balance, patience, log, phase, aloud=False):
        super().__init__()
        self._owner, self._predict, self._labels, self._balance = owner, predict, labels, balance
        self._patience, self._log, self._phase = patience, log, phase
        self._aloud = aloud
        self._best_score, self.best_epoch, self._best_weights = (-1.0, 0.0), 0, None

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        probabilities = self._predict()
        report = classification_report(
            probabilities, self._labels, [str(i) for i in range(probabilities.shape[1])]
        )
        row = {
            "phase": self._phase,
            "epoch": epoch + 1,
            "loss": logs["loss"],
            "accuracy": logs["accuracy"],
            "val_loss": self._loss(probabilities),
            "val_accuracy": report["accuracy"],
            "val_auc": report["auc"],
            "seconds": round(time.perf_counter() - self._start, 2),
        }
        self._log.add(row)
        if self._aloud:
            auc = "-" if row["val_auc"] is None else f"{row['val_auc']:.3f}"
            say(
                f"{self._phase} epoch {row['epoch']}: loss {row['loss']:.4f}, validation loss "
                f"{row['val_loss']:.4f}, accuracy {row['val_accuracy']:.3f}, AUC {auc}, "
                f"{row['seconds']:.0f} s"
            )
        score = (row["val_auc"] or 0.0, -row["val_loss"])
        if score > self._best_score:
            self._best_score, self.best_epoch = score, epoch + 1
            self._best_weights = self._owner.get_weights()
        if epoch + 1 - self.best_epoch >= self._patience:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        if self._best_weights is not None:
            self._owner.set_weights(self._best_weights)

    def best(self) -> str:
        """The best epoch in words."""
        auc, loss = self._best_score
        return f"best after epoch {self.best_epoch}: validation AUC {auc:.3f}, loss {-loss:.4f}"

    def _loss(self, probabilities):
        """Weighted cross-entropy, as the training minimises it."""
        chosen = probabilities[np.arange(len(self._labels)), self._labels].astype(np.float64)
        weights = self._balance[self._labels]
        return float(np.sum(weights * -np.log(np.maximum(chosen, 1e-7))) / np.sum(weights))
