"""Tests training steps against their formulas, on a network of one layer."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fid_med.training.loss import Objective
from fid_med.training.step import Trainer

LABELS = np.array([0, 0, 0, 0, 1, 1, 2])


def small_trainer(**options):
    keras.utils.set_random_seed(0)
    pixels = keras.Input((4,))
    model = keras.Model(pixels, keras.layers.Dense(3, activation="softmax")(pixels))
    objective = Objective(LABELS, 3, np.arange(7))
    optimizer = keras.optimizers.SGD(0.5)
    return Trainer(model, objective, optimizer, tf.distribute.get_strategy(), **options), objective


def small_batch(objective):
    images = np.random.default_rng(2).normal(size=(7, 4)).astype(np.float32)
    return images, objective.targets, objective.image_weights.astype(np.float32)


def test_a_step_follows_the_gradient_of_the_weighted_mean_loss():
    trainer, objective = small_trainer()
    images, targets, weights = small_batch(objective)
    kernel, bias = (v.numpy().astype(np.float64) for v in trainer.model.weights)
    logits = images @ kernel + bias
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    slope = (p - np.eye(3)[LABELS]) * weights[:, None] / 7
    loss, auxiliary_loss, accuracy = trainer.train_step(images, targets, weights)
    assert loss == pytest.approx((weights * -np.log(p[np.arange(7), LABELS])).mean(), rel=1e-5)
    assert auxiliary_loss == 0
    assert accuracy == pytest.approx((p.argmax(axis=1) == LABELS).mean())
    np.testing.assert_allclose(
        trainer.model.weights[0].numpy(), kernel - 0.5 * images.T @ slope, rtol=1e-4, atol=1e-6
    )


def test_moving_average_against_its_formula():
    trainer, objective = small_trainer(average_decay=0.8)
    expected = trainer.model.weights[0].numpy().astype(np.float64)
    for step in range(1, 30):
        trainer.train_step(*small_batch(objective))
        decay = min(0.8, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * trainer.model.weights[0].numpy()
    np.testing.assert_allclose(trainer.averages[0].numpy(), expected, rtol=1e-5)


def test_a_restored_trainer_reaches_the_same_weights():
    trainer, objective = small_trainer(average_decay=0.8)
    batch = small_batch(objective)
    trainer.train_step(*batch)
    state = trainer.state()
    trainer.train_step(*batch)
    expected = trainer.state()
    other, _ = small_trainer(average_decay=0.8)
    other.restore(state)
    other.train_step(*batch)
    for a, b in zip(expected, other.state(), strict=True):
        np.testing.assert_array_equal(a, b)
