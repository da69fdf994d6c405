"""Training an extractor from labels: transfer learning, or every layer from random weights."""

import dataclasses
import pathlib
import secrets
import time

import keras
import numpy as np
import tensorflow as tf

from fid_med.data import pipeline, splits
from fid_med.data.augmentation import Augmentation
from fid_med.data.labelled import LabelledImages
from fid_med.errors import DataError, ExtractorError
from fid_med.fingerprints import ImageHasher
from fid_med.metrics.classification import classification_report
from fid_med.models import inception
from fid_med.models.epochs import EpochLog, KeepBest
from fid_med.models.extractors import (
    FeatureExtractor,
    TrainingImages,
    load_extractor,
)
from fid_med.progress import Progress, say, warn

_HEAD_LEARNING_RATE = 1e-3
_HEAD_EPOCHS = 100
_TOP_LEARNING_RATE = 1e-4
_SCRATCH_LEARNING_RATE = 1e-3
# Keras's momentum of 0.99 needs several hundred steps to forget its start; small data has fewer.
_SCRATCH_NORM_MOMENTUM = 0.9


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """What a training run is asked to do.

    Attributes:
      weights: `imagenet`, `random`, or a path, as for `load_extractor`.
      image_size: height and width of the network's input.
      aspect: `stretch` or `pad`.
      batch_size: images a step.
      epochs: at most; of the top blocks, or of the whole network where weights are random.
      learning_rate: of Adam; by default 1e-4 for the top blocks, 1e-3 for the whole network.
      patience: epochs without a better validation AUC before training stops.
      train_from: transfer learning trains the layers behind this block (`mixed0` .. `mixed10`).
      dropout: before the softmax.
      rotation, crop: of `Augmentation`; 0 and 1 switch it off.
      validation_fraction, test_fraction: of the images, where the data set has no own division.
      seed: of splits, order, augmentation and random weights.
    """

    weights: str = "imagenet"
    image_size: int = 299
    aspect: str = "stretch"
    batch_size: int = 32
    epochs: int = 10
    learning_rate: float | None = None
    patience: int = 3
    train_from: str = "mixed8"
    dropout: float = 0.2
    rotation: float = 10.0
    crop: float = 0.85
    validation_fraction: float = 0.2
    test_fraction: float = 0.2
    seed: int = 0

    def __post_init__(self):
        if self.train_from not in inception.BLOCKS:
            raise DataError(
                f"train_from {self.train_from!r}: expected one of {', '.join(inception.BLOCKS)}"
            )
        for name in ("batch_size", "epochs", "patience"):
            if getattr(self, name) < 1:
                raise DataError(f"{name} {getattr(self, name)}: expected at least 1")
        if not 0 < self.crop <= 1:
            raise DataError(f"crop {self.crop}: expected a share above 0 and at most 1")


@dataclasses.dataclass
class TrainingResult:
    """What came out of a training run.

    Attributes:
      classifier: from pixels (0..255) to softmax probabilities.
      extractor: its network up to the global average pool, with fingerprint and hashes.
      history: a dict of numbers for each epoch.
      splits: [N] split of every image.
      reports: `classification_report` of validation and, where there is one, test.
      repeated: images that repeat an earlier one, pixel for pixel.
      class_weights: weight of each label in the loss.
      seconds: wall time.
    """

    classifier: keras.Model
    extractor: FeatureExtractor
    history: list[dict]
    splits: np.ndarray
    reports: dict
    repeated: int
    class_weights: dict
    seconds: float


def train(
    images: LabelledImages, config: TrainingConfig, output_dir: pathlib.Path
) -> TrainingResult:
    """Trains a classifier on labelled images and cuts it into an extractor.

    Transfer learning (any weights but `random`): a softmax head on the features of the frozen
    network first, then the blocks behind `train_from` together with the head, at a lower rate and
    with batch normalisation frozen. From random weights every layer trains. The loss weighs labels
    inversely to their frequency; the weights with the best validation AUC are kept.

    Args:
      images: N labelled images.
      config: what to do.
      output_dir: history.csv and TensorBoard logs grow here while training runs.

    Returns:
      The trained networks and the account of the run.

    Raises:
      FidMedError: images that cannot be read or split, weights that cannot be loaded.
    """
    start = time.perf_counter()
    # Without it TensorFlow sums gradients in whatever order its threads finish.
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(config.seed)
    base = load_extractor(
        config.weights, image_size=config.image_size, aspect=config.aspect, seed=config.seed
    )
    if base.architecture != inception.NETWORK:
        raise ExtractorError(
            f"{base.name}: the graph of 2015-12-05 is for reference numbers and is not trained; "
            "start from imagenet, random or Keras weights"
        )
    preprocessing = base.preprocessing
    hasher = ImageHasher(secrets.token_hex(16))
    say(f"reading {len(images)} images of {images.name}")
    pixels, digests = pipeline.decode(images, preprocessing, hasher, output_dir)
    assigned = splits.split(
        images, digests, (config.validation_fraction, config.test_fraction), config.seed
    )
    _warn_about(images, digests, assigned)
    say("; ".join(f"{part}: {_counts_line(images, assigned == part)}" for part in splits.SPLITS))

    run = _Run(base, images, pixels, assigned, config, EpochLog(output_dir))
    if config.weights == "random":
        run.train_everything()
    else:
        run.train_head()
        run.train_top()
    run.log.close()
    return TrainingResult(
        classifier=run.classifier,
        extractor=_trained_extractor(base, images, hasher, digests, assigned),
        history=run.log.rows,
        splits=assigned,
        reports=run.reports(),
        repeated=splits.repeats(digests),
        class_weights=run.class_weights(),
        seconds=time.perf_counter() - start,
    )


def _trained_extractor(base, images, hasher, digests, assigned):
    digests = np.array(digests)
    parent = {"name": base.name, "fingerprint": base.fingerprint, "labels": list(base.labels)}
    return FeatureExtractor(
        "extractor.keras",
        base.network,
        base.preprocessing,
        inception.fingerprint(base.network, base.preprocessing),
        labels=images.classes,
        training_images=TrainingImages(
            hasher.key,
            frozenset(digests[assigned == "train"].tolist()),
            frozenset(digests[assigned == "validation"].tolist()),
        ),
        lineage=(*base.lineage, parent),
    )


def _warn_about(images, digests, assigned):
    if images.patients is None:
        warn(
            f"{images.name}: no patient is known, so one patient's images may stand in training "
            "and validation both and flatter the numbers (see --patient_regex)"
        )
    repeated = splits.repeats(digests)
    if repeated:
        left_out = int((assigned == "repeated").sum())
        tail = f"; {left_out} left out of a split that an identical image is held out from"
        warn(
            f"{images.name}: {repeated} images repeat another one pixel for pixel"
            + (tail if left_out else "; kept on one side of the split")
        )


def _counts_line(images, members):
    counts = ", ".join(f"{n} {name}" for name, n in images.counts(members).items())
    return f"{int(members.sum())} images ({counts})"


class _Run:
    """One training run: the network, its head, the data, and the phases."""

    def __init__(
        self,
        base: FeatureExtractor,
        images: LabelledImages,
        pixels: np.ndarray,
        assigned: np.ndarray,
        config: TrainingConfig,
        log: EpochLog,
    ):
        self.config, self.images, self.pixels, self.log = config, images, pixels, log
        self.base, self.network = base, base.network
        self.members = {part: np.flatnonzero(assigned == part) for part in splits.SPLITS}
        counts = np.bincount(images.labels[self.members["train"]], minlength=len(images.classes))
        self._balance = counts.sum() / (len(counts) * counts)
        self.head = keras.Sequential(
            [
                keras.Input((inception.NUM_FEATURES,), name="features"),
                keras.layers.Dropout(config.dropout, seed=config.seed, name="dropout"),
                keras.layers.Dense(len(images.classes), activation="softmax", name="predictions"),
            ]
        )
        output = self.network.output
        for layer in self.head.layers:
            output = layer(output)
        self.classifier = keras.Model(self.network.input, output, name="classifier")

    def class_weights(self) -> dict:
        return dict(zip(self.images.classes, (float(w) for w in self._balance), strict=True))

    def train_head(self) -> None:
        """Trains the head alone, on features that the frozen network computes once."""
        features = {
            part: self._features(self.members[part], f"features of {part}")
            for part in ("train", "validation")
        }
        labels = self.images.labels
        validation = self.members["validation"]
        self.head.compile(keras.optimizers.Adam(_HEAD_LEARNING_RATE), _loss(), metrics=["accuracy"])
        keep = KeepBest(
            self.head,
            lambda: self._softmax(features["validation"]),
            labels[validation],
            self._balance,
            patience=max(10, self.config.patience),
            log=self.log,
            phase="head",
        )
        train = self.members["train"]
        batches = tf.data.Dataset.from_tensor_slices(
            (features["train"], labels[train], self._balance[labels[train]].astype(np.float32))
        )
        batches = batches.shuffle(len(train), seed=self.config.seed).batch(self.config.batch_size)
        self.head.fit(batches, epochs=_HEAD_EPOCHS, callbacks=[keep], shuffle=False, verbose=0)
        say(f"head: {keep.best()}")

    def train_top(self) -> None:
        """Trains the last blocks and the head, batch normalisation frozen."""
        names = [layer.name for layer in self.network.layers]
        first = names.index(self.config.train_from) + 1
        for i, layer in enumerate(self.network.layers):
            layer.trainable = i >= first and not isinstance(layer, keras.layers.BatchNormalization)
        self._fit("top", self.config.learning_rate or _TOP_LEARNING_RATE)

    def train_everything(self) -> None:
        """Trains every layer; batch normalisation learns its statistics."""
        for layer in inception.weighted_layers(self.network):
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = _SCRATCH_NORM_MOMENTUM
        self._fit("all", self.config.learning_rate or _SCRATCH_LEARNING_RATE)

    def _fit(self, phase, learning_rate):
        config, labels = self.config, self.images.labels
        train = self.members["train"]
        augmentation = Augmentation(config.rotation, config.crop)
        moves = config.rotation > 0 or config.crop < 1
        batches = pipeline.training_batches(
            self.pixels,
            labels,
            self._balance[labels],
            train,
            batch_size=config.batch_size,
            seed=config.seed,
            augmentation=augmentation if moves else None,
        )
        self.classifier.compile(keras.optimizers.Adam(learning_rate), _loss(), metrics=["accuracy"])
        keep = KeepBest(
            self.classifier,
            lambda: self.probabilities("validation"),
            labels[self.members["validation"]],
            self._balance,
            patience=config.patience,
            log=self.log,
            phase=phase,
            aloud=True,
        )
        self.classifier.fit(
            batches,
            steps_per_epoch=-(-len(train) // config.batch_size),
            epochs=config.epochs,
            callbacks=[keep],
            shuffle=False,
            verbose=0,
        )
        say(f"{phase}: {keep.best()}")

    def _features(self, members, label):
        rows = []
        with Progress(label, len(members)) as progress:
            for batch in pipeline.plain_batches(self.pixels, members, self.config.batch_size):
                rows.append(self.base.extract_batch(batch))
                progress.update(len(batch))
        return np.concatenate(rows)

    def probabilities(self, part: str) -> np.ndarray:
        """Softmax outputs float32 [n, K] for the images of a split, in the order of `members`."""
        features = self._features(self.members[part], part)
        return self._softmax(features)

    def _softmax(self, features):
        return np.asarray(self.head(features, training=False))

    def reports(self) -> dict:
        """`classification_report` of each held-out split that has images."""
        return {
            part: classification_report(
                self.probabilities(part), self.images.labels[self.members[part]],
                self.images.classes,
            )
            for part in ("validation", "test")
            if len(self.members[part])
        }  # fmt: skip


def _loss():
    return keras.losses.SparseCategoricalCrossentropy()


def config_fields(config: TrainingConfig) -> dict:
    """The configuration as JSON types, paths cut to their last part."""
    fields = dataclasses.asdict(config)
    fields["weights"] = pathlib.PurePath(config.weights).name
    return fields
