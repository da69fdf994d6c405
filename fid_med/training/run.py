"""A training run: the network with its heads, the data, and the phases of training."""

import contextlib
import math
import pathlib
import time
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from fid_med.data.labelled import SPLITS, LabelledImages
from fid_med.errors import DataError
from fid_med.extractors.extractor import FeatureExtractor
from fid_med.extractors.inception_v3 import build_network
from fid_med.training.checkpoints import Checkpoint, CheckpointError, CheckpointStore
from fid_med.training.classification_report import (
    auc_interval,
    classification_report,
    study_report,
)
from fid_med.training.config import ALL_LAYERS, AUXILIARY_WEIGHT, TrainingConfig
from fid_med.training.devices import device_scope
from fid_med.training.epochs import (
    EarlyStopping,
    EpochLog,
    LearningRate,
    TrainingProgress,
    describe_epoch,
)
from fid_med.training.heads import (
    AUXILIARY_PREFIX,
    add_auxiliary_head,
    build_classifier,
    build_head,
)
from fid_med.training.input_pipeline import (
    augmented_examples,
    distribute,
    plain_batches,
    training_batches,
)
from fid_med.training.loss import Objective
from fid_med.training.optimizer import (
    HEAD_LEARNING_RATE,
    batch_norm_momentum,
    learning_rate,
    make_head_optimizer,
    make_optimizer,
)
from fid_med.training.step import TrainingModel, WeightAverage
from fid_med.utils.plots import contact_sheet
from fid_med.utils.progress import Progress, say, warn

_HEAD_EPOCHS = 100
_SHEET_IMAGES, _SHEET_EPOCHS = 6, 7


class TrainingRun:
    """A training run in progress.

    Call `attach_checkpoints`, then `train`, then `evaluate`.

    Args:
      base: the extractor to start from; its network is trained in place.
      images: N labelled images.
      pixels: uint8 [N, h, w, c], from `decode_images`.
      assigned: [N] split of every image.
      config: resolved.
      strategy: from `devices.make_strategy`.
      callbacks: a user's callbacks for the phase that trains the network.

    Attributes:
      classifier: the network with its head, from pixels to probabilities.
      log: the `EpochLog` given to `attach_checkpoints`.
    """

    def __init__(
        self,
        base: FeatureExtractor,
        images: LabelledImages,
        pixels: np.ndarray,
        assigned: np.ndarray,
        config: TrainingConfig,
        strategy: tf.distribute.Strategy,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ):
        self._config, self._images, self._pixels = config, images, pixels
        self._base, self._strategy, self._callbacks = base, strategy, callbacks
        self._members = {part: np.flatnonzero(assigned == part) for part in SPLITS}
        self._objective = Objective(
            images.labels, len(images.classes), self._members["train"], config.label_smoothing
        )
        self._head = self._build_head()
        self.classifier = build_classifier(base.network, self._head)

    def attach_checkpoints(
        self,
        store: CheckpointStore,
        saved: Checkpoint | None,
        log: EpochLog,
        start: float,
        identity: dict,
    ) -> None:
        """Sets where checkpoints are saved, and which one the run resumes from.

        Args:
          store: where checkpoints are saved.
          saved: the checkpoint to resume from, or None.
          log: receives every epoch.
          start: `time.perf_counter()` when the run began.
          identity: the fields `settings`, `hash_key` and `images` of each checkpoint.
        """
        self.log, self._store, self._saved, self._identity = log, store, saved, identity
        self._start = start - (saved.seconds if saved else 0)

    def train(self) -> None:
        """Runs the phases of training, or those that remain.

        From random weights, the single phase `all` trains every layer, and batch normalisation
        learns its statistics. Otherwise the phase `head` trains the head, and the phase `top`
        trains the last blocks and the head with batch normalisation frozen.
        """
        if self._config.weights == "random":
            self._train_layers("all")
        else:
            if not self._saved:
                self._train_head()
            self._train_layers("top")
        self.log.close()

    def seconds(self) -> float:
        """Returns the wall time so far, including that of the interrupted run."""
        return time.perf_counter() - self._start

    def class_weights(self) -> dict[str, float] | None:
        """Returns the weight of each label in the loss; None with several labels per image."""
        weights = self._objective.class_weights
        if weights is None:
            return None
        return dict(zip(self._images.classes, weights.tolist(), strict=True))

    def evaluate(self) -> dict[str, dict]:
        """Evaluates the classifier on the validation split and, if it has images, the test split.

        Returns:
          `reports`: `classification_report` by split, with `auc_interval`, and `study_reports`:
          `study_report` by split, empty if no studies are known.
        """
        images, by_image, by_study = self._images, {}, {}
        for part in ("validation", "test"):
            members = self._members[part]
            if not len(members):
                continue
            probabilities, labels = self._probabilities(part), images.labels[members]
            patients = images.patients and [images.patients[i] for i in members]
            by_image[part] = classification_report(probabilities, labels, images.classes)
            by_image[part]["auc_interval"] = auc_interval(probabilities, labels, patients)
            if images.studies is not None:
                studies = [images.studies[i] for i in members]
                try:
                    by_study[part] = study_report(probabilities, labels, studies, images.classes)
                except DataError as error:  # not worth losing the trained network
                    warn(f"no report per study for {part}: {error}")
        return {"reports": by_image, "study_reports": by_study}

    def draw_augmentation(self, path: pathlib.Path) -> None:
        """Draws some training images as the first epochs will see them, to a PNG file."""
        train = self._members["train"]
        shown = np.linspace(0, len(train) - 1, min(_SHEET_IMAGES, len(train))).astype(int)
        augmentation = self._config.augmentation()
        epochs = min(_SHEET_EPOCHS, self._config.epochs)
        rows = augmented_examples(
            self._pixels, train, shown, epochs=epochs, seed=self._config.seed,
            augmentation=augmentation,
        )  # fmt: skip
        name = f"epochs 1 to {epochs}" if epochs > 1 else "epoch 1"
        squeezed = rows[..., 0] if rows.shape[-1] == 1 else rows
        contact_sheet(
            [("", list(row)) for row in squeezed],
            path,
            f"Training images: untouched (left), then as in {name}\n{augmentation.describe()}",
        )

    def _train_head(self):
        """Trains the head on features that the frozen network computes once."""
        say(
            f"head: at most {_HEAD_EPOCHS} quick epochs, on features that are computed once; then "
            f"top: at most --epochs={self._config.epochs}"
        )
        features = {
            part: self._features(part, f"features of {part}") for part in ("train", "validation")
        }
        objective, train = self._objective, self._members["train"]
        stopping = self._early_stopping(
            self._head,
            lambda: self._head_outputs(features["validation"]),
            "head",
            patience=max(10, self._config.patience),
        )
        head = keras.Model(self._head.inputs[0], self._head.outputs[0])
        model = TrainingModel(head, objective, make_head_optimizer())
        batches = training_batches(
            features["train"],
            objective.targets[train],
            objective.image_weights[train],
            np.arange(len(train)),
            batch_size=self._config.batch_size,
            seed=self._config.seed,
            augmentation=None,
            first_epoch=1,
        )
        model.fit(
            batches,
            epochs=_HEAD_EPOCHS,
            steps_per_epoch=math.ceil(len(train) / self._config.batch_size),
            verbose=0,
            shuffle=False,  # the data set is shuffled
            callbacks=[
                LearningRate(lambda epoch: HEAD_LEARNING_RATE),
                stopping,
                _after_epoch(lambda: self.log.add(stopping.row)),
            ],
        )
        stopping.restore_best_weights()
        say(stopping.describe_best())

    def _train_layers(self, phase):
        """Trains the last blocks and the head (phase `top`), or every layer (phase `all`)."""
        config, num_train = self._config, len(self._members["train"])
        steps = math.ceil(num_train / config.batch_size)
        model, trained = self._build_training_model(phase, steps)
        average = WeightAverage(
            trained.weights if config.average_weights else [], config.average_weights
        )
        changing = {id(w) for layer in trained.layers if layer.trainable for w in layer.weights}
        stopping = self._early_stopping(
            self.classifier,
            lambda: self._probabilities("validation"),
            phase,
            config.patience,
            [i for i, w in enumerate(trained.weights) if id(w) in changing],
        )
        state = [*model.state_variables(), *average.state_variables()]
        done = self._restore(state, stopping)
        if not done and phase == "top":
            # Keeps the trained head, which took a pass over all images.
            self._save(phase, 0, state, stopping, self.log.rows)

        def finish_epoch():
            row = stopping.row
            self._save(phase, row["epoch"], state, stopping, [*self.log.rows, row])
            self.log.add(row)
            say(describe_epoch(row))

        progress = TrainingProgress(phase, num_train, config.batch_size, config.epochs - done)
        callbacks = [
            average,
            LearningRate(lambda epoch: learning_rate(config, epoch)),
            progress,
            _after_epoch(lambda: self._copy_to_classifier(average, trained)),
            stopping,
            _after_epoch(finish_epoch),
            *self._callbacks,
        ]
        if not stopping.should_stop(done):
            with contextlib.closing(progress):
                model.fit(
                    self._training_batches(first_epoch=done),
                    initial_epoch=done,
                    epochs=config.epochs,
                    steps_per_epoch=steps,
                    verbose=0,
                    shuffle=False,
                    callbacks=callbacks,
                )
        stopping.restore_best_weights()
        say(stopping.describe_best())

    def _build_head(self):
        config = self._config
        return build_head(
            len(self._images.classes), self._objective.activation, config.dropout, config.seed
        )

    def _build_training_model(self, phase, steps):
        """The model that a phase fits, and its classifier: the run's own or a copy."""
        config, replicas = self._config, self._strategy.num_replicas_in_sync
        with device_scope(self._strategy, config.mixed_precision):
            network, trained = self._base.network, self.classifier
            if replicas > 1 or config.mixed_precision != "off" or config.average_weights:
                network = build_network(self._base.preprocessing)
                trained = build_classifier(network, self._build_head())
                trained.set_weights(self.classifier.get_weights())
            momentum = batch_norm_momentum(config, steps)
            self._set_trainable(network, phase, momentum)
            model = trained
            if config.recipe == "scratch":
                model = self._add_auxiliary_head(network, trained, momentum)
            optimizer = make_optimizer(config, replicas)
            return TrainingModel(model, self._objective, optimizer, AUXILIARY_WEIGHT), trained

    def _set_trainable(self, network, phase, momentum):
        if phase == "top":
            train_layers_after(network, self._config.train_from, with_norms=False)
            return
        train_layers_after(network, ALL_LAYERS, with_norms=True)
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = momentum

    def _add_auxiliary_head(self, network, trained, momentum):
        model = add_auxiliary_head(
            network,
            trained,
            len(self._images.classes),
            self._objective.activation,
            self._config.seed,
        )
        for layer in model.layers:
            if layer.name.startswith(AUXILIARY_PREFIX) and hasattr(layer, "momentum"):
                layer.momentum = momentum
        return model

    def _training_batches(self, first_epoch):
        config, augmentation = self._config, self._config.augmentation()
        batches = training_batches(
            self._pixels,
            self._objective.targets,
            self._objective.image_weights,
            self._members["train"],
            batch_size=config.batch_size,
            seed=config.seed,
            augmentation=None if augmentation.is_identity else augmentation,
            first_epoch=first_epoch,
        )
        return distribute(batches, self._strategy)

    def _early_stopping(self, model, predict, phase, patience, kept=None):
        validation = self._members["validation"]
        return EarlyStopping(
            model,
            predict,
            self._images.labels[validation],
            lambda probabilities: self._objective.validation_loss(probabilities, validation),
            lambda probabilities: self._objective.validation_accuracy(probabilities, validation),
            patience,
            phase,
            kept,
        )

    def _copy_to_classifier(self, average, trained):
        """Copies the averaged or trained weights to the classifier that is validated and kept."""
        if average.averages:
            self.classifier.set_weights([weight.numpy() for weight in average.averages])
        elif trained is not self.classifier:
            self.classifier.set_weights(trained.get_weights())

    def _restore(self, state, stopping):
        """Sets the state of the interrupted run; returns its number of finished epochs."""
        saved, self._saved = self._saved, None
        if not saved:
            return 0
        if _forms(saved.state) != _forms(state) or (
            saved.best_weights and _forms(saved.best_weights) != _forms(stopping.kept_weights())
        ):
            raise CheckpointError(
                f"{self._store.path}: its weights have other shapes or dtypes than this network's; "
                "remove the file to start over"
            )
        for variable, value in zip(state, saved.state, strict=True):
            variable.assign(value)
        stopping.best_epoch, stopping.best_score = saved.best
        stopping.best_weights = list(saved.best_weights)
        return saved.epoch

    def _save(self, phase, epoch, state, stopping, rows):
        self._store.save(
            Checkpoint(
                **self._identity,
                phase=phase,
                epoch=epoch,
                best=(stopping.best_epoch, stopping.best_score),
                rows=rows,
                seconds=self.seconds(),
                state=[np.asarray(variable.numpy()) for variable in state],
                best_weights=stopping.best_weights,
            )
        )

    def _features(self, part, label):
        members, size, rows = self._members[part], self._config.batch_size, []
        with Progress(label, len(members)) as progress:
            for batch in plain_batches(self._pixels, members, size):
                rows.append(self._base.extract_batch(batch, size))
                progress.update(len(batch))
        return np.concatenate(rows)

    def _probabilities(self, part):
        """Probabilities float32 [n, K] of the images of a split, in the order of `_members`."""
        return self._head_outputs(self._features(part, part))

    def _head_outputs(self, features):
        return np.asarray(self._head(features, training=False))


def train_layers_after(network: keras.Model, block: str, with_norms: bool) -> None:
    """Makes the layers after a block trainable, and all others not.

    Args:
      network: from `inception_v3.build_network`.
      block: name of the block's last layer, or `config.ALL_LAYERS`.
      with_norms: whether batch normalisations are trained too.
    """
    names = [layer.name for layer in network.layers]
    first = 0 if block == ALL_LAYERS else names.index(block) + 1
    for i, layer in enumerate(network.layers):
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = i >= first and (with_norms or not is_norm)


def _forms(arrays):
    return [(tuple(array.shape), tf.as_dtype(array.dtype)) for array in arrays]


def _after_epoch(call):
    return keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: call())
