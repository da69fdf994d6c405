"""Tests optimizers, learning rates and batch normalisation momentum against their formulas."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from fid_med.training.config import TrainingConfig
from fid_med.training.optimizer import batch_norm_momentum, learning_rate, make_optimizer

SCRATCH = TrainingConfig(recipe="scratch").resolved()


def test_learning_rate_of_each_of_100_epochs():
    rates = [learning_rate(SCRATCH, epoch) for epoch in range(100)]
    by_hand, rate = [], 0.045
    for _ in range(50):
        by_hand += [rate, rate]
        rate *= 0.94
    np.testing.assert_allclose(rates, by_hand, rtol=1e-12)
    assert rates[99] == pytest.approx(0.045 * 0.94**49)
    slower = dataclasses.replace(SCRATCH, learning_rate=0.01)
    np.testing.assert_allclose(
        [learning_rate(slower, epoch) for epoch in range(100)],
        np.array(rates) / 4.5,
    )


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_optimizers_step_as_the_paper_defines_them(optimizer):
    config = dataclasses.replace(SCRATCH, optimizer=optimizer, clip_norm=0.0)
    variable = keras.Variable(np.float32([1.0, -2.0]))
    made = make_optimizer(config)
    expected, memory = np.float64([1.0, -2.0]), np.zeros(2)
    for gradient in np.random.default_rng(0).normal(size=(5, 2)):
        made.apply([tf.constant(gradient, tf.float32)], [variable])
        if optimizer == "sgd":
            memory = 0.9 * memory - 0.045 * gradient
            expected += memory
        else:
            memory = 0.9 * memory + 0.1 * gradient**2
            expected -= 0.045 * gradient / np.sqrt(memory + 1.0)
    np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-5)


def test_clipping_limits_the_norm_over_all_variables():
    config = dataclasses.replace(SCRATCH, clip_norm=2.0)
    variables = [keras.Variable(np.zeros(n, np.float32)) for n in (1, 2)]
    gradients = [np.float32([3.0]), np.float32([0.0, 4.0])]  # together of norm 5
    make_optimizer(config).apply([tf.constant(g) for g in gradients], variables)
    for variable, gradient in zip(variables, gradients, strict=True):
        np.testing.assert_allclose(variable.numpy(), -0.045 * gradient * 2 / 5, rtol=1e-5)


@pytest.mark.parametrize(("steps", "momentum"), [(1, 0.9), (50, 0.98), (1000, 0.99)])
def test_batch_norm_of_scratch_averages_about_one_epoch(steps, momentum):
    assert batch_norm_momentum(SCRATCH, steps) == pytest.approx(momentum)
    assert batch_norm_momentum(TrainingConfig(), steps) == 0.9
