"""Tests losses and accuracies against their formulas."""

import numpy as np
import pytest
import tensorflow as tf

from fid_med.training.loss import Objective

PROBABILITIES = np.random.default_rng(0).dirichlet(np.ones(3), 7).astype(np.float32)
LABELS = np.array([0, 0, 0, 0, 1, 1, 2])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_softmax_loss_against_its_formula(smoothing):
    objective = Objective(LABELS, 3, np.arange(7), smoothing)
    wanted = (1 - smoothing) * np.eye(3)[LABELS] + smoothing / 3
    expected = -(wanted * np.log(PROBABILITIES)).sum(axis=1)
    obtained = objective.loss(tf.constant(objective.targets), tf.constant(PROBABILITIES))
    np.testing.assert_allclose(obtained, expected, rtol=1e-5)
    np.testing.assert_allclose(objective.class_weights, [7 / 12, 7 / 6, 7 / 3])
    np.testing.assert_allclose(objective.image_weights, objective.class_weights[LABELS])
    accuracy = objective.accuracy(tf.constant(objective.targets), tf.constant(PROBABILITIES))
    np.testing.assert_array_equal(accuracy, PROBABILITIES.argmax(axis=1) == LABELS)
    plain = -np.log(PROBABILITIES[np.arange(7), LABELS])
    assert objective.validation_loss(PROBABILITIES, np.arange(7)) == pytest.approx(
        np.average(plain, weights=objective.image_weights), rel=1e-5
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_sigmoid_loss_against_its_formula(smoothing):
    labels = np.random.default_rng(1).random((7, 3)) < 0.4
    objective = Objective(labels, 3, np.arange(7), smoothing)
    wanted = (1 - smoothing) * labels + smoothing / 2
    p = PROBABILITIES
    expected = -(wanted * np.log(p) + (1 - wanted) * np.log(1 - p)).mean(axis=1)
    assert (objective.activation, objective.class_weights) == ("sigmoid", None)
    obtained = objective.loss(tf.constant(objective.targets), tf.constant(p))
    np.testing.assert_allclose(obtained, expected, rtol=1e-5)
    np.testing.assert_array_equal(objective.image_weights, np.ones(7))
    accuracy = objective.accuracy(tf.constant(objective.targets), tf.constant(p))
    np.testing.assert_allclose(accuracy, ((p > 0.5) == labels).mean(axis=1))
    plain = -(labels * np.log(p) + ~labels * np.log(1 - p)).mean()
    assert objective.validation_loss(p, np.arange(7)) == pytest.approx(plain, rel=1e-5)
