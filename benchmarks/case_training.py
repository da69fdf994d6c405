"""Case of training: seconds of one epoch, in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from benchmarks.inputs import BenchmarkInputs
from benchmarks.table import Measurement
from benchmarks.timing import Contender, compare
from fid_med.data.preprocessing import Preprocessing, as_rgb_batch
from fid_med.extractors.inception_v3 import build_network
from fid_med.phantoms.radiograph import phantom_set
from fid_med.training.config import ALL_LAYERS, AUXILIARY_WEIGHT, TrainingConfig
from fid_med.training.heads import add_auxiliary_head, build_classifier, build_head
from fid_med.training.input_pipeline import training_batches
from fid_med.training.loss import Objective
from fid_med.training.optimizer import make_optimizer
from fid_med.training.run import train_layers_after
from fid_med.training.step import TrainingModel

_SIZE = 150
_BATCHES = 3
_CLASSES = 2


def training(inputs: BenchmarkInputs) -> Iterator[Measurement]:
    """Times an epoch of training every layer, then of the layers after two blocks."""
    batch = inputs.settings.batch_size
    count = _BATCHES * batch
    images, _ = phantom_set(count, size=_SIZE)
    pixels, labels = np.stack(images)[..., None], np.arange(count) % _CLASSES
    for first in (None, "mixed4", "mixed8"):
        what = f"layers after {first}" if first else "every layer, with the auxiliary head"
        work = (pixels, labels, batch, first)
        yield Measurement(
            "training",
            f"an epoch of {what}: {count} images of {_SIZE} x {_SIZE}, batches of {batch}",
            compare(
                [
                    Contender("fid_med", lambda work=work: _ours(*work), same=False),
                    Contender("Keras fit", lambda work=work: _keras_fit(*work), same=False),
                    Contender("forward pass alone", lambda work=work: _forward(*work), same=False),
                ],
                inputs.settings.rounds,
                count,
            ),
            "images",
            "fid_med augments images, Keras fit does not. Training every layer costs about three "
            "forward passes",
        )


def _network(first):
    """A network of which the layers after `first` are trained."""
    network = build_network(Preprocessing(_SIZE, _SIZE))
    train_layers_after(network, first or ALL_LAYERS, with_norms=not first)
    return network


def _ours(pixels, labels, batch, first):
    config = TrainingConfig(
        weights="imagenet" if first else "random", image_size=_SIZE, batch_size=batch
    ).resolved()
    network, members = _network(first), np.arange(len(labels))
    objective = Objective(labels, _CLASSES, members, config.label_smoothing)
    head = build_head(_CLASSES, objective.activation, config.dropout, config.seed)
    classifier = build_classifier(network, head)
    model = classifier
    if not first:
        model = add_auxiliary_head(network, classifier, _CLASSES, objective.activation, config.seed)
    model = TrainingModel(model, objective, make_optimizer(config, 1), AUXILIARY_WEIGHT)
    batches = training_batches(
        pixels, objective.targets, objective.image_weights, members,
        batch_size=batch, seed=0, augmentation=config.augmentation(),
    )  # fmt: skip
    steps = math.ceil(len(labels) / batch)

    def run():
        model.fit(batches, epochs=1, steps_per_epoch=steps, verbose=0, shuffle=False)

    return run


def _keras_fit(pixels, labels, batch, first):
    network = _network(first)
    head = keras.layers.Dense(_CLASSES, activation="softmax")
    model = keras.Model(network.input, head(network.output))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    images = as_rgb_batch(list(pixels[..., 0])).astype(np.float32)

    def run():
        model.fit(images, labels, batch_size=batch, epochs=1, verbose=0)

    return run


def _forward(pixels, labels, batch, first):
    del labels
    network = _network(first)
    images = as_rgb_batch(list(pixels[..., 0])).astype(np.float32)
    compiled = tf.function(lambda x: network(x, training=not first))

    def run():
        for i in range(0, len(images), batch):
            compiled(tf.constant(images[i : i + batch])).numpy()

    return run
