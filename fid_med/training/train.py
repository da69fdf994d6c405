"""Trains an extractor on labelled images: by transfer learning, or from random weights."""

import dataclasses
import os
import pathlib
import secrets
import time
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from fid_med.data.labelled import SPLITS, LabelledImages
from fid_med.errors import DataError, ExtractorError, reason_of
from fid_med.extractors import inception_v3
from fid_med.extractors.extractor import FeatureExtractor, TrainingImages
from fid_med.extractors.registry import load_extractor
from fid_med.training.checkpoints import (
    Checkpoint,
    CheckpointError,
    CheckpointStore,
    check_images,
    check_settings,
    hash_images,
    interruptible,
)
from fid_med.training.config import TrainingConfig
from fid_med.training.devices import make_strategy
from fid_med.training.epochs import EpochLog
from fid_med.training.input_pipeline import decode_images
from fid_med.training.run import TrainingRun
from fid_med.training.splits import check_fractions, contradictions, find_repeats, split
from fid_med.utils.hashing import ImageHasher
from fid_med.utils.progress import say, warn
from fid_med.utils.wording import name_some


@dataclasses.dataclass
class TrainingResult:
    """Result of a training run.

    Attributes:
      classifier: model from pixels (0 to 255) to probabilities: softmax, or sigmoids with several
        labels per image.
      extractor: the classifier's network up to the global average pool.
      history: a dict for each epoch, with the keys `epochs.COLUMNS`.
      splits: [N] split of every image.
      reports: `classification_report` of the validation split and of the test split, if any.
      study_reports: `study_report` of the same splits; empty if no studies are known.
      repeated: number of images that are identical to an earlier one, pixel for pixel.
      class_weights: weight of each label in the loss; None with several labels per image.
      seconds: wall time; time that an interrupted run spent after its last checkpoint is not
        included.
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
    output_dir: str | os.PathLike,
    overwrite: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> TrainingResult:
    """Trains a classifier on labelled images and cuts it into a feature extractor.

    Transfer learning first trains a head on the features of the frozen network. It then trains the
    blocks after `train_from` together with the head, at a lower learning rate and with batch
    normalisation frozen. From random weights every layer is trained. The weights with the best
    validation AUC of the last phase are kept.

    A checkpoint is saved after each epoch. If the function is called again with the same images,
    configuration and folder, it resumes an interrupted run and reaches the same weights as a run
    that was not interrupted. `write_training` removes the checkpoint once the results are saved.

    ```python
    import fid_med
    from fid_med.data.datasets import load_dataset
    from fid_med.training.output import write_training

    images = load_dataset("phantom", None, phantoms=24, image_size=75)
    config = fid_med.TrainingConfig(weights="chest/extractor.keras", epochs=1)
    result = fid_med.train(images, config, "phantom_run")
    print(result.reports["test"]["accuracy"])
    print(fid_med.compute_fid("real_images", "generated_images", result.extractor).fid)
    write_training("phantom_run", result, images, config)
    ```

    Args:
      images: N labelled images.
      config: settings of the run.
      output_dir: folder for `augmentation.png`, `history.csv`, TensorBoard logs and the checkpoint,
        which are written during training.
      overwrite: start over if the folder contains an interrupted run with other settings or images.
      callbacks: further Keras callbacks of the phase that trains the network (`top` or `all`), such
        as those of W&B and MLflow or `keras.callbacks.ReduceLROnPlateau`. They are called after the
        validation: `logs` have `loss`, `accuracy`, `val_loss`, `val_accuracy`, `val_auc`,
        `learning_rate` and `seconds`. A checkpoint does not contain their state, so a resumed run
        is the same only if they do not depend on earlier epochs and do not change the training.

    Returns:
      The trained networks, the history and the reports.

    Raises:
      SettingError: the configuration does not fit the data or the machine.
      DataError: images cannot be split, an interrupted run has other settings or images, training
        has diverged, or a file cannot be written.
      UnreadableImageError: an image cannot be read.
      ExtractorError: the start weights cannot be loaded or trained.
      CheckpointError: a checkpoint cannot be written or read; the previous one is kept.
      Interrupted: SIGINT or SIGTERM arrived in the main thread.
    """
    config = config.resolved()
    store = CheckpointStore(output_dir)
    with interruptible(store):
        try:
            return _train(images, config, pathlib.Path(output_dir), store, overwrite, callbacks)
        except OSError as error:  # from the log or the contact sheet
            raise DataError(f"{output_dir}: {reason_of(error)}; {store.resume_hint()}") from error


def _train(images, config, output_dir, store, overwrite, callbacks):
    start = time.perf_counter()
    # Otherwise TensorFlow sums gradients in the order in which its threads finish.
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(config.seed)
    strategy = make_strategy(config.num_gpus)
    settings = {
        "config": config.to_dict(),
        "data": {
            "dataset": images.name,
            "labels": ", ".join(images.classes),
            "uncertain": (images.uncertain or {}).get("treatment"),
        },
    }

    def same_settings(saved):
        check_settings(saved, settings, store)

    # Once before and once after the weights are loaded, which may take a download.
    _load_checkpoint(store, overwrite, same_settings)
    base = _load_start(config)
    settings["weights"] = {"fingerprint of --weights": base.fingerprint}
    saved = _load_checkpoint(store, overwrite, same_settings)
    fractions = (config.validation_fraction, config.test_fraction)
    check_fractions(images, fractions)
    hasher = ImageHasher(_hash_key(saved, base))
    say(f"reading {len(images)} images of {images.name}")
    pixels, digests = decode_images(images, base.preprocessing, hasher, output_dir)
    assigned = split(images, digests, fractions, config.seed)
    _warn_about_splits(images, digests, assigned, base)
    say("; ".join(f"{part}: {_describe_counts(images, assigned == part)}" for part in SPLITS))
    hashes = hash_images(images.names, digests, images.labels, assigned)
    if saved:
        saved = _load_checkpoint(
            store, overwrite, lambda saved: check_images(saved, hashes, images.names, store)
        )
    if saved:
        say(f"resuming an interrupted run after {saved.describe_position()}")

    run = TrainingRun(base, images, pixels, assigned, config, strategy, callbacks)
    run.draw_augmentation(output_dir / "augmentation.png")
    run.attach_checkpoints(
        store,
        saved,
        EpochLog(output_dir, saved.rows if saved else ()),
        start,
        {"settings": settings, "hash_key": hasher.key, "images": hashes},
    )
    run.train()
    return TrainingResult(
        classifier=run.classifier,
        extractor=_trained_extractor(base, images, hasher, digests, assigned),
        history=run.log.rows,
        splits=assigned,
        repeated=len(find_repeats(digests)),
        class_weights=run.class_weights(),
        **run.evaluate(),
        seconds=run.seconds(),
    )


def _load_start(config):
    base = load_extractor(
        config.weights, image_size=config.image_size, aspect=config.aspect, seed=config.seed
    )
    if base.architecture != inception_v3.NETWORK:
        raise ExtractorError(
            f"{base.name}: only Keras's InceptionV3 can be trained; use --weights=imagenet, "
            "--weights=random or a Keras file of it"
        )
    return base


def _load_checkpoint(
    store: CheckpointStore, overwrite: bool, check: Callable[[Checkpoint], None]
) -> Checkpoint | None:
    """Loads the interrupted run to resume; if `check` rejects it, `overwrite` discards it."""
    try:
        saved = store.load()
        if saved:
            check(saved)
        return saved
    except (CheckpointError, DataError):
        if not overwrite:
            raise
        say("starting over because of --overwrite: the interrupted run's checkpoint is removed")
        store.discard()
        return None


def _hash_key(saved, base):
    """The interrupted run's key; or that of `base`, so that its training images are recognised."""
    if saved:
        return saved.hash_key
    return base.training_images.key if base.training_images else secrets.token_hex(16)


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


def _warn_about_splits(images, digests, assigned, base):
    if images.patients is None:
        warn(
            f"{images.name}: patients are unknown, so images of one patient may be in both "
            "training and validation, which makes the reported metrics too optimistic"
            # Data sets with splits of their own (MedMNIST) refuse this flag.
            + ("; give --patient_regex" if images.splits is None else "")
        )
    if base.training_images:
        held_out = np.array(digests)[np.isin(assigned, ("validation", "test"))]
        known = sum(digest in base.training_images for digest in held_out.tolist())
        if known:
            warn(
                f"{images.name}: {base.name} was trained on {known} of the {len(held_out)} images "
                "held out for validation and test, which makes the reported metrics too optimistic"
            )
    contrary = contradictions(digests, images.labels)
    if contrary:
        other, first = (images.names[i] for i in contrary[0])
        warn(
            f"{images.name}: {len(contrary)} images have the same pixels as another one with other "
            f"labels, such as {other} and {first}; correct the labels or remove these images"
        )
    repeats = find_repeats(digests)
    if repeats:
        named = [f"{images.names[i]} repeats {images.names[first]}" for i, first in repeats]
        excluded = int((assigned == "repeated").sum())
        warn(
            f"{images.name}: duplicate images: {len(repeats)} ({name_some(named)}); "
            + (
                f"images excluded from their split: {excluded}, because a duplicate, or an image "
                "of the same patient or study, is in validation or test"
                if excluded
                else "duplicates are in the same split"
            )
        )


def _describe_counts(images, members):
    counts = ", ".join(f"{n} {name}" for name, n in images.counts(members).items())
    return f"{int(members.sum())} images ({counts})"
