"""Tests configuration, optimizers, heads, losses and steps against their formulas."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from fid_med.errors import SettingError
from fid_med.extractors.inception_v3 import NUM_FEATURES
from fid_med.training.config import AUXILIARY_WEIGHT, TrainingConfig
from fid_med.training.heads import add_auxiliary_head, build_classifier, build_head
from fid_med.training.loss import Objective
from fid_med.training.optimizer import batch_norm_momentum, learning_rate, make_optimizer
from fid_med.training.step import Trainer

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


@pytest.mark.parametrize(("steps", "momentum"), [(1, 0.9), (50, 0.98), (1000, 0.99)])
def test_batch_norm_of_scratch_averages_about_one_epoch(steps, momentum):
    assert batch_norm_momentum(SCRATCH, steps) == pytest.approx(momentum)
    assert batch_norm_momentum(TrainingConfig(), steps) == 0.9


def stub_network(size):
    """Builds a network with a layer named mixed7, for testing heads."""
    pixels = keras.Input((size, size, 3))
    grid = keras.layers.Conv2D(768, 1, name="mixed7")(pixels)
    pooled = keras.layers.GlobalAveragePooling2D()(grid)
    return keras.Model(pixels, keras.layers.Dense(NUM_FEATURES)(pooled))


def build_models(size, **options):
    network = stub_network(size)
    classifier = build_classifier(network, build_head(4, "softmax", 0.0, 0))
    return classifier, add_auxiliary_head(
        network, classifier, 4, "softmax", **({"seed": 0} | options)
    )


@pytest.mark.parametrize(
    ("size", "pool", "kernel", "grid"),
    [
        (17, (5, 5), (5, 5), (1, 1)),
        (3, (3, 3), (1, 1), (1, 1)),
        (8, (5, 5), (2, 2), (1, 1)),
        (20, (5, 5), (5, 5), (2, 2)),
    ],
)
def test_auxiliary_head_has_the_layers_of_the_paper(size, pool, kernel, grid, capsys):
    classifier, model = build_models(size)
    assert model.get_layer("auxiliary_pool").pool_size == pool
    assert model.get_layer("auxiliary_pool").strides == (3, 3)
    narrow, wide = (model.get_layer(f"auxiliary_conv{i}") for i in (1, 2))
    assert narrow.kernel.shape == (1, 1, 768, 128)
    assert wide.kernel.shape == (*kernel, 128, 768)
    assert wide.output.shape[1:3] == grid
    assert not wide.use_bias
    assert model.get_layer("auxiliary_norm1").output.shape[-1] == 128
    assert model.get_layer("auxiliary_predictions").kernel.shape == (768, 4)
    printed = capsys.readouterr().err
    assert ("auxiliary head: the grid is" in printed) == (size != 17)
    assert printed.count("\n") <= 1
    assert not [layer.name for layer in classifier.layers if layer.name.startswith("auxiliary")]


def test_weights_of_the_auxiliary_head_depend_on_the_seed():
    def weights(seed):
        return build_models(3, seed=seed)[1].get_layer("auxiliary_conv1").get_weights()[0]

    np.testing.assert_array_equal(weights(0), weights(0))
    assert (weights(0) != weights(1)).any()


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
