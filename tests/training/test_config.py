"""Tests the settings of a training run and their defaults."""

import dataclasses

import keras
import pytest

from fid_med.errors import SettingError
from fid_med.training.config import AUXILIARY_WEIGHT, TrainingConfig
from fid_med.training.optimizer import learning_rate, make_optimizer

SCRATCH = TrainingConfig(recipe="scratch").resolved()


def test_scratch_uses_the_settings_of_the_paper():
    assert (SCRATCH.weights, SCRATCH.optimizer, SCRATCH.batch_size) == ("random", "sgd", 32)
    assert (SCRATCH.epochs, SCRATCH.patience) == (100, 100)
    assert (SCRATCH.learning_rate, AUXILIARY_WEIGHT) == (0.045, 0.3)
    optimizer = make_optimizer(SCRATCH)
    assert isinstance(optimizer, keras.optimizers.SGD)
    assert (optimizer.momentum, optimizer.nesterov) == (0.9, False)
    assert optimizer.global_clipnorm == SCRATCH.clip_norm == 2.0
    unclipped = dataclasses.replace(SCRATCH, clip_norm=0.0).resolved()
    assert make_optimizer(unclipped).global_clipnorm is None


def test_defaults_of_transfer():
    config = TrainingConfig().resolved()
    assert (config.weights, config.optimizer, config.learning_rate) == ("imagenet", "adam", 1e-4)
    assert (config.epochs, config.patience, config.clip_norm) == (10, 3, 0)
    assert TrainingConfig(weights="random").resolved().learning_rate == 1e-3
    assert {learning_rate(config, epoch) for epoch in range(10)} == {1e-4}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"recipe": "scrach"}, "transfer, scratch"),
        ({"recipe": "scratch", "weights": "imagenet"}, "--recipe=transfer"),
        ({"optimizer": "lion"}, "rmsprop"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"average_weights": -0.1}, "average_weights"),
        ({"clip_norm": -1.0}, "clip_norm"),
        ({"clip_norm": float("nan")}, "clip_norm"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"mixed_precision": "int8"}, "bfloat16"),
        ({"patience": 0}, "patience"),
        ({"translation": 2.0}, "translation"),
    ],
)
def test_invalid_settings_are_errors(fields, message):
    with pytest.raises(SettingError, match=message):
        TrainingConfig(**fields)


def test_transfer_by_sgd_needs_a_learning_rate():
    with pytest.raises(SettingError, match="--learning_rate"):
        TrainingConfig(optimizer="sgd").resolved()
    assert TrainingConfig(optimizer="sgd", learning_rate=0.01).resolved().learning_rate == 0.01
