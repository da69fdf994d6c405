"""Training an extractor from labels: transfer learning, or every layer from random weights."""

import dataclasses
import pathlib
import secrets
import time

import keras
import numpy as np
import tensorflow as tf

from fid_med.data.labelled import LabelledImages
from fid_med.errors import DataError, ExtractorError, reason_of
from fid_med.extractors import inception_v3
from fid_med.extractors.extractor import FeatureExtractor, TrainingImages
from fid_med.extractors.registry import load_extractor
from fid_med.training import checkpoints, devices, input_pipeline, splits
from fid_med.training import config as training_config
from fid_med.training.checkpoints import CheckpointStore
from fid_med.training.config import TrainingConfig
from fid_med.training.epochs import EpochLog
from fid_med.training.run import TrainingRun
from fid_med.utils.hashing import ImageHasher
from fid_med.utils.progress import say, warn


@dataclasses.dataclass
class TrainingResult:
    """What came out of a training run.

    Attributes:
      classifier: from pixels (0..255) to probabilities: softmax, or sigmoids for several labels.
      extractor: its network up to the global average pool, with fingerprint and hashes.
      history: a dict of numbers for each epoch.
      splits: [N] split of every image.
      reports: `classification_report` of validation and, where there is one, test.
      study_reports: `study_report` of the same, empty where no studies are known.
      repeated: images that repeat an earlier one, pixel for pixel.
      class_weights: weight of each label in the loss, or None for several labels an image.
      seconds: wall time, of an interrupted run up to its last checkpoint.
    """

    classifier: keras.Model
    extractor: FeatureExtractor
    history: list[dict]
    splits: np.ndarray
    reports: dict
    study_reports: dict
    repeated: int
    class_weights: dict | None
    seconds: float


def train(
    images: LabelledImages,
    config: TrainingConfig,
    output_dir: pathlib.Path,
    overwrite: bool = False,
) -> TrainingResult:
    """Trains a classifier on labelled images and cuts it into an extractor.

    Transfer learning from trained weights: a head on the features of the frozen network first,
    then the blocks behind `train_from` together with the head, at a lower rate and with batch
    normalisation frozen. From random weights, and by the recipe `scratch`, every layer trains.
    The last phase's weights with the best validation AUC are kept.

    After each epoch a checkpoint is written. Called again with the same images, configuration and
    folder, an interrupted run goes on from it, in the order and to the weights of an unbroken one.
    `write_training` removes it when the results are on disk.

    Args:
      images: N labelled images.
      config: what to do.
      output_dir: augmentation.png, history.csv, TensorBoard logs and the checkpoint grow here while
        training runs.
      overwrite: start over where the folder holds an interrupted run with other settings or images.

    Returns:
      The trained networks and the account of the run.

    Raises:
      FidMedError: images that cannot be read or split, weights that cannot be loaded, an
        interrupted run with other settings, a full disk (the last checkpoint stays).
      Interrupted: by SIGINT or SIGTERM, in the main thread.
    """
    config = config.resolved()
    store = CheckpointStore(output_dir)
    with checkpoints.interruptible(store):
        try:
            return _train(images, config, pathlib.Path(output_dir), store, overwrite)
        except OSError as error:  # of the log, the contact sheet; the checkpoint has its own
            raise DataError(f"{output_dir}: {reason_of(error)}; {store.how_to_go_on()}") from error


def _train(images, config, output_dir, store, overwrite):
    start = time.perf_counter()
    # Without it TensorFlow sums gradients in whatever order its threads finish.
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(config.seed)
    strategy = devices.make_strategy(config.num_gpus)
    settings = {
        "config": training_config.config_fields(config),
        "data": {"dataset": images.name, "labels": ", ".join(images.classes)},
    }

    def with_same_settings(saved):
        checkpoints.check_settings(saved, settings, store)

    _saved_run(store, overwrite, with_same_settings)
    base = load_extractor(
        config.weights, image_size=config.image_size, aspect=config.aspect, seed=config.seed
    )
    if base.architecture != inception_v3.NETWORK:
        raise ExtractorError(
            f"{base.name}: the graph of 2015-12-05 is for reference numbers and is not trained; "
            "start from imagenet, random or Keras weights"
        )
    settings["weights"] = {"fingerprint of --weights": base.fingerprint}
    saved = _saved_run(store, overwrite, with_same_settings)
    fractions = (config.validation_fraction, config.test_fraction)
    splits.check_fractions(images, fractions)
    hasher = ImageHasher(_hash_key(saved, base))
    say(f"reading {len(images)} images of {images.name}")
    pixels, digests = input_pipeline.decode(images, base.preprocessing, hasher, output_dir)
    assigned = splits.split(images, digests, fractions, config.seed)
    _warn_about(images, digests, assigned, base)
    say("; ".join(f"{part}: {_counts_line(images, assigned == part)}" for part in splits.SPLITS))
    identities = checkpoints.image_identities(images.names, digests, images.labels, assigned)
    if saved:
        saved = _saved_run(
            store, overwrite, lambda x: checkpoints.check_images(x, identities, images.names, store)
        )
    if saved:
        checkpoints.announce(saved)

    run = TrainingRun(base, images, pixels, assigned, config, strategy)
    run.draw_augmentation(output_dir / "augmentation.png")
    run.survive_by(
        store,
        saved,
        EpochLog(output_dir, saved.rows if saved else ()),
        start,
        {"settings": settings, "hash_key": hasher.key, "images": identities},
    )
    run.train()
    return TrainingResult(
        classifier=run.classifier,
        extractor=_trained_extractor(base, images, hasher, digests, assigned),
        history=run.log.rows,
        splits=assigned,
        repeated=splits.repeats(digests),
        class_weights=run.class_weights(),
        **run.reports(),
        seconds=run.seconds(),
    )


def _hash_key(saved, base):
    """Of an interrupted run, or of what `base` was trained on, which is then known by it too."""
    if saved:
        return saved.hash_key
    return base.training_images.key if base.training_images else secrets.token_hex(16)


def _saved_run(store, overwrite, check):
    """The interrupted run to go on with, if `check` lets it pass, else None."""
    try:
        saved = store.load()
        if saved:
            check(saved)
        return saved
    except (checkpoints.CheckpointError, DataError):
        if not overwrite:
            raise
        say("starting over, as --overwrite says: the interrupted run's checkpoint is removed")
        store.discard()
        return None


def _trained_extractor(base, images, hasher, digests, assigned):
    digests = np.array(digests)
    before = base.training_images or TrainingImages(hasher.key)
    parent = {"name": base.name, "fingerprint": base.fingerprint, "labels": list(base.labels)}
    return FeatureExtractor(
        "extractor.keras",
        base.network,
        base.preprocessing,
        inception_v3.fingerprint(base.network, base.preprocessing),
        labels=images.classes,
        training_images=TrainingImages(
            hasher.key,
            before.train | set(digests[assigned == "train"].tolist()),
            before.validation | set(digests[assigned == "validation"].tolist()),
        ),
        lineage=(*base.lineage, parent),
    )


def _warn_about(images, digests, assigned, base):
    if images.patients is None:
        warn(
            f"{images.name}: no patient is known, so one patient's images may stand in training "
            "and validation both and flatter the numbers (see --patient_regex)"
        )
    if base.training_images:
        held_out = np.array(digests)[np.isin(assigned, ("validation", "test"))]
        known = sum(digest in base.training_images for digest in held_out.tolist())
        if known:
            warn(
                f"{images.name}: {base.name} was trained on {known} of the {len(held_out)} images "
                "held out for validation and test, which flatters the numbers"
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
