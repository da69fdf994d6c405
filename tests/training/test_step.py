"""Tests the steps of `fit` against their formulas, on a network of one layer."""

import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from fid_med.training.checkpoints import CheckpointStore, Interrupted, interruptible
from fid_med.training.loss import Objective
from fid_med.training.step import TrainingModel, WeightAverage

LABELS = np.array([0, 0, 0, 0, 1, 1, 2])


def small_model(decay=0.0):
    keras.utils.set_random_seed(0)
    pixels = keras.Input((4,))
    model = keras.Model(pixels, keras.layers.Dense(3, activation="softmax")(pixels))
    objective = Objective(LABELS, 3, np.arange(7))
    model = TrainingModel(model, objective, keras.optimizers.SGD(0.5))
    return model, WeightAverage(model.weights if decay else [], decay)


def small_batches(model):
    images = np.random.default_rng(2).normal(size=(7, 4)).astype(np.float32)
    objective = model._objective
    weights = objective.image_weights.astype(np.float32)
    return tf.data.Dataset.from_tensors((images, objective.targets, weights)).repeat()


def fit(model, average, steps):
    batches = small_batches(model).take(steps)
    return model.fit(batches, verbose=0, shuffle=False, callbacks=[average]).history


def values(*parts):
    return [v.numpy() for part in parts for v in part.state_variables()]


def test_a_step_follows_the_gradient_of_the_weighted_mean_loss():
    model, average = small_model()
    images, _, weights = (x.numpy() for x in next(iter(small_batches(model))))
    kernel, bias = (v.numpy().astype(np.float64) for v in model.weights)
    logits = images @ kernel + bias
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    slope = (p - np.eye(3)[LABELS]) * weights[:, None] / 7
    logs = fit(model, average, 1)
    assert set(logs) == {"loss", "accuracy"}
    assert logs["loss"] == pytest.approx(
        [(weights * -np.log(p[np.arange(7), LABELS])).mean()], rel=1e-5
    )
    assert logs["accuracy"] == pytest.approx([(p.argmax(axis=1) == LABELS).mean()])
    np.testing.assert_allclose(
        model.weights[0].numpy(), kernel - 0.5 * images.T @ slope, rtol=1e-4, atol=1e-6
    )


def test_logs_are_means_over_images_also_of_uneven_batches():
    model, _ = small_model()
    model.optimizer.learning_rate = 0.0
    whole = small_batches(model).take(1).unbatch()
    logs = [model.fit(whole.batch(n), verbose=0, shuffle=False).history for n in (7, 3)]
    assert logs[0]["loss"] == pytest.approx(logs[1]["loss"], rel=1e-6)
    assert logs[0]["accuracy"] == pytest.approx(logs[1]["accuracy"], rel=1e-6)


def test_moving_average_against_its_formula():
    model, average = small_model(decay=0.8)
    expected = model.weights[0].numpy().astype(np.float64)
    for step in range(1, 30):
        fit(model, average, 1)
        decay = min(0.8, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weights[0].numpy()
    np.testing.assert_allclose(average.averages[0].numpy(), expected, rtol=1e-5)


def test_a_restored_model_reaches_the_same_weights():
    model, average = small_model(decay=0.8)
    fit(model, average, 1)
    state = values(model, average)
    fit(model, average, 1)
    expected = values(model, average)
    assert any((a != b).any() for a, b in zip(state, expected, strict=True))
    other = small_model(decay=0.8)
    for variable, value in zip(
        [v for part in other for v in part.state_variables()], state, strict=True
    ):
        variable.assign(value)
    fit(*other, 1)
    for a, b in zip(expected, values(*other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_signal_ends_fit_after_the_current_step(tmp_path):
    model, _ = small_model()
    ended = []

    def end_step(batch, logs):
        ended.append(batch)
        if batch == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    callback = keras.callbacks.LambdaCallback(on_train_batch_end=end_step)
    with (
        pytest.raises(Interrupted, match=r"SIGTERM.*run the same command again to start over"),
        interruptible(CheckpointStore(tmp_path)),
    ):
        fit(model, callback, 5)
    assert ended == [0, 1]
