"""One training run: the network, its heads, the data, and the phases that it goes through."""

import pathlib
import time

import keras
import numpy as np
import tensorflow as tf

from fid_med.data.labelled import LabelledImages
from fid_med.errors import DataError
from fid_med.extractors import inception_v3
from fid_med.extractors.extractor import FeatureExtractor
from fid_med.training import classification_report, devices, heads, input_pipeline, splits
from fid_med.training import config as training_config
from fid_med.training.checkpoints import Checkpoint, CheckpointStore
from fid_med.training.config import TrainingConfig
from fid_med.training.epochs import EpochLog, KeepBest, Projection, describe
from fid_med.training.loss import Objective
from fid_med.training.step import Stepper
from fid_med.utils.plots import contact_sheet
from fid_med.utils.progress import Progress, say, warn

_HEAD_LEARNING_RATE = 1e-3
_HEAD_EPOCHS = 100
_SHEET_IMAGES, _SHEET_EPOCHS = 6, 7


class TrainingRun:
    """A run in progress.

    Args:
      base: the extractor that is trained; its network takes the result.
      images: the data.
      pixels: uint8 [N, h, w, c] of `pipeline.decode`.
      assigned: [N] split of every image.
      config: resolved.
      strategy: of `devices.make_strategy`.
    """

    def __init__(
        self,
        base: FeatureExtractor,
        images: LabelledImages,
        pixels: np.ndarray,
        assigned: np.ndarray,
        config: TrainingConfig,
        strategy: tf.distribute.Strategy,
    ):
        self.config, self.images, self.pixels, self.strategy = config, images, pixels, strategy
        self.base, self.network = base, base.network
        self.members = {part: np.flatnonzero(assigned == part) for part in splits.SPLITS}
        self.objective = Objective(
            images.labels, len(images.classes), self.members["train"], config.label_smoothing
        )
        self.head = self._build_head()
        self.classifier = heads.join(self.network, self.head)

    def survive_by(
        self,
        store: CheckpointStore,
        saved: Checkpoint | None,
        log: EpochLog,
        start: float,
        identity: dict,
    ) -> None:
        """Sets where the run's state goes, and where it comes from.

        Args:
          store: for the checkpoints.
          saved: the one to go on from, or None.
          log: of the epochs.
          start: `time.perf_counter()` when the run began.
          identity: fields of each checkpoint that tell whose it is.
        """
        self.log, self._store, self._saved, self._identity = log, store, saved, identity
        self._start = start - (saved.seconds if saved else 0)

    def train(self) -> None:
        """Goes through the phases, or through what is left of them."""
        if self.config.weights == "random":
            self.train_everything()
        else:
            if not self._saved:
                self.train_head()
            self.train_top()
        self.log.close()

    def seconds(self) -> float:
        return time.perf_counter() - self._start

    def class_weights(self) -> dict | None:
        weights = self.objective.class_weights
        if weights is None:
            return None
        return dict(zip(self.images.classes, weights.tolist(), strict=True))

    def draw_augmentation(self, path: pathlib.Path) -> None:
        """Draws training images as the first epochs will see them."""
        train = self.members["train"]
        shown = np.linspace(0, len(train) - 1, min(_SHEET_IMAGES, len(train))).astype(int)
        augmentation = self.config.augmentation()
        rows = input_pipeline.augmented_examples(
            self.pixels, train, shown, epochs=_SHEET_EPOCHS, seed=self.config.seed,
            augmentation=augmentation,
        )  # fmt: skip
        squeezed = rows[..., 0] if rows.shape[-1] == 1 else rows
        contact_sheet(
            [("", list(row)) for row in squeezed],
            path,
            f"Training images: untouched (left), then as in epochs 1 to {_SHEET_EPOCHS}\n"
            + augmentation.describe(),
        )

    def train_head(self) -> None:
        """Trains the head alone, on features that the frozen network computes once."""
        features = {
            part: self._features(self.members[part], f"features of {part}")
            for part in ("train", "validation")
        }
        objective, train = self.objective, self.members["train"]
        keep = self._keep_best(
            self.head,
            lambda: self._head_outputs(features["validation"]),
            "head",
            patience=max(10, self.config.patience),
        )
        optimizer = keras.optimizers.Adam(_HEAD_LEARNING_RATE)
        stepper = Stepper(self.head, objective, optimizer, tf.distribute.get_strategy())
        data = (
            features["train"],
            objective.targets[train],
            objective.image_weights[train].astype(np.float32),
        )
        size = self.config.batch_size
        for epoch in range(1, _HEAD_EPOCHS + 1):
            start = time.perf_counter()
            order, _ = input_pipeline.epoch_draws(self.config.seed, epoch, len(train))
            batches = [order[i : i + size].numpy() for i in range(0, len(train), size)]
            logs = stepper.epoch((tuple(x[rows] for x in data) for rows in batches), len(batches))
            logs["learning_rate"] = _HEAD_LEARNING_RATE
            self.log.add(keep.after_epoch(epoch, logs, time.perf_counter() - start))
            if keep.is_over(epoch):
                break
        keep.put_back()
        say(f"head: {keep.best()}")

    def train_top(self) -> None:
        """Trains the last blocks and the head, batch normalisation frozen."""
        self._fit("top")

    def train_everything(self) -> None:
        """Trains every layer; batch normalisation learns its statistics."""
        self._fit("all")

    def _build_head(self):
        config = self.config
        return heads.build_head(
            len(self.images.classes), self.objective.activation, config.dropout, config.seed
        )

    def _trainee(self, phase, steps):
        """What is trained: the classifier itself, or a copy of it where that must differ.

        Returns:
          A model to train, and the classifier in it, whose weights go into the kept one.
        """
        config = self.config
        network, classifier = self.network, self.classifier
        copied = (
            self.strategy.num_replicas_in_sync > 1
            or config.mixed_precision != "off"
            or config.average_weights
        )
        if copied:
            network = inception_v3.build_network(self.base.preprocessing)
            classifier = heads.join(network, self._build_head())
            classifier.set_weights(self.classifier.get_weights())
        momentum = training_config.batch_norm_momentum(config, steps)
        names = [layer.name for layer in network.layers]
        first = names.index(config.train_from) + 1 if phase == "top" else 0
        for i, layer in enumerate(network.layers):
            is_norm = isinstance(layer, keras.layers.BatchNormalization)
            layer.trainable = i >= first and not (is_norm and phase == "top")
            if is_norm and phase == "all":
                layer.momentum = momentum
        if config.recipe != "scratch":
            return classifier, classifier
        model = heads.with_auxiliary_head(
            network, classifier, len(self.images.classes), self.objective.activation, config.seed
        )
        for layer in model.layers:
            if layer.name.startswith(heads.PREFIX) and hasattr(layer, "momentum"):
                layer.momentum = momentum
        return model, classifier

    def _fit(self, phase):
        config, train = self.config, self.members["train"]
        steps = -(-len(train) // config.batch_size)
        with devices.building_on(self.strategy, config.mixed_precision):
            model, trained = self._trainee(phase, steps)
            optimizer = training_config.make_optimizer(config, self.strategy.num_replicas_in_sync)
        stepper = Stepper(
            model,
            self.objective,
            optimizer,
            self.strategy,
            training_config.AUXILIARY_WEIGHT,
            config.average_weights,
            trained,
        )
        changing = {id(w) for layer in trained.layers if layer.trainable for w in layer.weights}
        kept = [i for i, w in enumerate(trained.weights) if id(w) in changing]
        keep = self._keep_best(
            self.classifier, lambda: self.probabilities("validation"), phase, config.patience, kept
        )
        done = self._go_on(stepper, keep)
        if not done and phase == "top":
            # Else the head, which took a pass over all images, would have to be trained again.
            self._save(phase, 0, stepper, keep, self.log.rows)
        augmentation = config.augmentation()
        batches = iter(
            input_pipeline.training_batches(
                self.pixels,
                self.objective.targets,
                self.objective.image_weights,
                train,
                batch_size=config.batch_size,
                seed=config.seed,
                augmentation=None if augmentation.changes_nothing else augmentation,
                first_epoch=done,
            )
        )
        projection = Projection(phase, len(train), config.epochs - done)
        for epoch in range(done + 1, config.epochs + 1):
            if keep.is_over(epoch - 1):
                break
            start = time.perf_counter()
            rate = training_config.learning_rate(config, epoch - 1)
            optimizer.learning_rate = rate
            projection.begin_epoch()
            with Progress(f"{phase} epoch {epoch}", len(train)) as progress:
                logs = stepper.epoch(
                    batches, steps, lambda n: (progress.update(n), projection.after_step(n))
                )
            logs["learning_rate"] = rate
            self._hand_over(stepper, trained)
            row = keep.after_epoch(epoch, logs, time.perf_counter() - start)
            self._save(phase, epoch, stepper, keep, [*self.log.rows, row])
            self.log.add(row)
            say(describe(row))
        keep.put_back()
        say(f"{phase}: {keep.best()}")

    def _hand_over(self, stepper, trained):
        """Brings what was trained into the classifier that is validated and kept."""
        if stepper.averages:
            self.classifier.set_weights([average.numpy() for average in stepper.averages])
        elif trained is not self.classifier:
            self.classifier.set_weights(trained.get_weights())

    def _go_on(self, stepper, keep):
        """Sets the state of the interrupted run; returns how many epochs it had done."""
        saved, self._saved = self._saved, None
        if not saved:
            return 0
        stepper.restore(saved.state)
        keep.best_epoch, keep.best_score = saved.best
        keep.best_weights = list(saved.best_weights)
        return saved.epoch

    def _save(self, phase, epoch, stepper, keep, rows):
        self._store.save(
            Checkpoint(
                **self._identity,
                phase=phase,
                epoch=epoch,
                best=(keep.best_epoch, keep.best_score),
                rows=rows,
                seconds=self.seconds(),
                state=stepper.state(),
                best_weights=keep.best_weights,
            )
        )

    def _keep_best(self, owner, predict, phase, patience, kept=None):
        validation = self.members["validation"]
        return KeepBest(
            owner,
            predict,
            self.images.labels[validation],
            lambda probabilities: self.objective.validation_loss(probabilities, validation),
            lambda probabilities: self.objective.validation_accuracy(probabilities, validation),
            patience,
            phase,
            kept,
        )

    def _features(self, members, label):
        rows = []
        with Progress(label, len(members)) as progress:
            size = self.config.batch_size
            for batch in input_pipeline.plain_batches(self.pixels, members, size):
                rows.append(self.base.extract_batch(batch, size))
                progress.update(len(batch))
        return np.concatenate(rows)

    def probabilities(self, part: str) -> np.ndarray:
        """Outputs float32 [n, K] for the images of a split, in the order of `members`."""
        return self._head_outputs(self._features(self.members[part], part))

    def _head_outputs(self, features):
        return np.asarray(self.head(features, training=False))

    def reports(self) -> dict:
        """The reports of each held-out split that has images: by image, and by study if known."""
        images, by_image, by_study = self.images, {}, {}
        for part in ("validation", "test"):
            members = self.members[part]
            if not len(members):
                continue
            probabilities, labels = self.probabilities(part), images.labels[members]
            by_image[part] = classification_report.classification_report(
                probabilities, labels, images.classes
            )
            if images.studies is not None:
                studies = [images.studies[i] for i in members]
                try:
                    by_study[part] = classification_report.study_report(
                        probabilities, labels, studies, images.classes
                    )
                except DataError as error:  # no reason to lose what was trained
                    warn(f"no report by study of {part}: {error}")
        return {"reports": by_image, "study_reports": by_study}
