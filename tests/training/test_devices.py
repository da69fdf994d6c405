"""Tests that several devices compute the steps of one, on logical CPUs in another process."""

import json

import keras
import pytest
from helpers import kernels
from helpers.script_runs import fork_script

from fid_med.errors import SettingError
from fid_med.training import devices

# Trains on argv[1] logical CPUs, in each precision given by the other arguments: a network without
# and one with batch normalisation, on seven images in batches of 3, 3 and 1.
CODE = """
import json, sys
import keras, numpy as np, tensorflow as tf
from fid_med.training import devices
from fid_med.training.config import TrainingConfig
from fid_med.training.heads import add_auxiliary_head
from fid_med.training.loss import Objective
from fid_med.training.optimizer import make_optimizer
from fid_med.training.input_pipeline import distribute
from fid_med.training.step import TrainingModel, WeightAverage

number, precisions = int(sys.argv[1]), sys.argv[2:]
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * number)
devices.visible_gpus = lambda: [x.name for x in tf.config.list_logical_devices("CPU")]
tf.config.experimental.enable_op_determinism()
strategy = devices.make_strategy(None if number > 1 else 1)
rng = np.random.default_rng(0)
images = rng.uniform(0, 255, (7, 16, 16, 3)).astype(np.float32)
objective = Objective(np.array([0, 1, 1, 2, 0, 0, 2]), 3, np.arange(7))
weights = objective.image_weights.astype(np.float32)
found = {"replicas": strategy.num_replicas_in_sync}
for precision, norm in [(p, False) for p in precisions] + [("off", True)]:
    keras.utils.set_random_seed(0)
    config = TrainingConfig(
        recipe="scratch", clip_norm=0.5, mixed_precision=precision
    ).resolved()
    with devices.device_scope(strategy, precision):
        pixels = keras.Input((16, 16, 3))
        x = keras.layers.Rescaling(1 / 127.5, -1)(pixels)
        x = keras.layers.Conv2D(8, 3, strides=2, name="mixed7")(x)
        x = keras.layers.BatchNormalization()(x) if norm else x
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.Activation("relu")(x))
        network = keras.Model(pixels, x)
        output = keras.layers.Dense(3, activation="softmax", dtype="float32")(x)
        classifier = keras.Model(pixels, output)
        model = classifier
        if not norm:
            model = add_auxiliary_head(network, classifier, 3, "softmax", 0)
            for layer in model.layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.trainable = False
        optimizer = make_optimizer(config, strategy.num_replicas_in_sync)
        model = TrainingModel(model, objective, optimizer, 0.3)
    average = WeightAverage(classifier.weights, 0.9)
    losses = []
    for epoch in range(3):
        for rows in (slice(0, 3), slice(3, 6), slice(6, 7)):
            batch = images[rows], objective.targets[rows], weights[rows]
            batches = tf.data.Dataset.from_tensors(batch).repeat()
            logs = model.fit(
                distribute(batches, strategy), steps_per_epoch=1, verbose=0, shuffle=False,
                callbacks=[average],
            ).history
            losses.append([logs[name][0] for name in sorted(logs)])
    found["norm" if norm else precision] = {
        "losses": losses,
        "weights": [w.numpy().ravel().astype(float).tolist() for w in classifier.weights],
        "averages": [w.numpy().ravel().astype(float).tolist() for w in average.averages],
        "types": sorted({str(w.dtype) for w in classifier.weights}),
    }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    script = tmp_path_factory.mktemp("devices") / "steps.py"
    script.write_text(CODE)

    def run(number, *precisions):
        process = fork_script(script, number, *precisions)
        assert process.returncode == 0, process.stderr[-3000:]
        return json.loads(process.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="module")
def one(run):
    return run(1, "off", *([] if kernels.IMITATED else ["bfloat16"]))


def test_two_devices_compute_the_steps_of_one(one, run):
    two = run(2, "off")
    assert (one["replicas"], two["replicas"]) == (1, 2)
    # Clipped gradients, the remainder of one image, and the averages included.
    for key in ("losses", "weights", "averages"):
        for a, b in zip(one["off"][key], two["off"][key], strict=True):
            assert a == pytest.approx(b, rel=1e-4, abs=1e-5)
    assert len(one["off"]["losses"][0]) == 3  # accuracy, loss of the auxiliary head, loss
    assert one["off"]["losses"][0][1] > 0
    # Each device normalises its own share of a batch, so losses differ.
    two_losses = [row[-1] for row in two["norm"]["losses"]]
    assert all(0 < loss < 10 for loss in two_losses)
    assert two_losses != [row[-1] for row in one["norm"]["losses"]]


@kernels.needs_low_precision
def test_mixed_precision_gives_similar_losses_and_float32_weights(one):
    for a, b in zip(one["off"]["losses"], one["bfloat16"]["losses"], strict=True):
        assert a[1:] == pytest.approx(b[1:], rel=0.05)
    assert one["off"]["losses"] != one["bfloat16"]["losses"]
    assert one["bfloat16"]["types"] == ["float32"]


def test_more_gpus_than_visible_is_an_error(monkeypatch):
    monkeypatch.setattr(devices, "visible_gpus", lambda: [])
    with pytest.raises(SettingError, match="num_gpus 2: 0 GPUs are visible"):
        devices.make_strategy(2)
    for number in (None, 0, 1):
        assert devices.make_strategy(number).num_replicas_in_sync == 1


def test_device_scope_restores_the_dtype_policy():
    with devices.device_scope(devices.make_strategy(1), "float16"):
        assert keras.layers.Dense(1).compute_dtype == "float16"
    assert keras.layers.Dense(1).compute_dtype == "float32"
