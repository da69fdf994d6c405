"""Training end to end on a few phantoms at 75 pixels, and what a run leaves behind."""

import csv
import dataclasses
import json

import keras
import numpy as np
import pytest
from PIL import Image

from fid_med.data.datasets import phantom
from fid_med.errors import DataError, UnreadableImageError
from fid_med.evaluation import compute_fid
from fid_med.models import inception
from fid_med.models.extractors import load_extractor
from fid_med.models.recipes import TrainingConfig
from fid_med.models.training import train
from fid_med.training_output import check_output_dir, summary, write_training

CONFIG = TrainingConfig(image_size=75, batch_size=16, epochs=2, train_from="mixed9", seed=1)


@pytest.fixture(scope="module")
def images():
    return phantom.load(60, 80, seed=0)


@pytest.fixture(scope="module")
def start(small_extractor, tmp_path_factory):
    """Weights to start from, as a file."""
    path = tmp_path_factory.mktemp("start") / "start.weights.h5"
    source = keras.applications.InceptionV3(include_top=False, weights=None)
    inception.copy_weights(small_extractor.network, source, "start")
    source.save_weights(path)
    return path


@pytest.fixture(scope="module")
def run(images, start, tmp_path_factory):
    """A transfer run, written out."""
    folder = tmp_path_factory.mktemp("run")
    config = dataclasses.replace(CONFIG, weights=str(start))
    result = train(images, config, folder)
    write_training(folder, result, images, config, {"dataset": "phantom"})
    return folder, result


def changed_layers(network, other):
    return {
        layer.name
        for layer, before in zip(
            inception.weighted_layers(network), inception.weighted_layers(other), strict=True
        )
        if any(
            (a != b).any() for a, b in zip(layer.get_weights(), before.get_weights(), strict=True)
        )
    }


def test_transfer_trains_the_top_and_freezes_the_rest(run, small_extractor):
    network = run[1].extractor.network
    names = [layer.name for layer in network.layers]
    behind = set(names[names.index("mixed9") + 1 :])
    changed = changed_layers(network, small_extractor.network)
    assert changed
    assert changed <= behind
    assert not [
        n for n in changed if isinstance(network.get_layer(n), keras.layers.BatchNormalization)
    ]
    assert changed == {n for n in behind if isinstance(network.get_layer(n), keras.layers.Conv2D)}


def test_head_comes_first_and_learns(run):
    history = run[1].history
    phases = [row["phase"] for row in history]
    assert phases == sorted(phases)  # head before top
    assert set(phases) == {"head", "top"}
    head = [row for row in history if row["phase"] == "head"]
    assert head[-1]["loss"] < 0.7 * head[0]["loss"]


def test_labels_are_told_apart_better_than_by_chance(run):
    report = run[1].reports["test"]
    assert report["count"] == sum(run[1].splits == "test")
    assert report["accuracy"] > 2 / 6


def test_reports_are_those_of_the_saved_classifier(run, images):
    folder, result = run
    classifier = keras.models.load_model(folder / "classifier.keras")
    members = np.flatnonzero(result.splits == "test")
    prepared = [result.extractor.preprocessing.apply(images.loaders[i]()) for i in members]
    pixels = np.repeat(np.stack(prepared)[..., None], 3, axis=-1).astype(np.float32)
    predicted = np.asarray(classifier(pixels, training=False)).argmax(axis=1)
    assert (predicted == images.labels[members]).mean() == result.reports["test"]["accuracy"]


def test_files_say_what_happened(run, images):
    folder, result = run
    written = json.loads((folder / "training.json").read_text())
    assert written["fingerprint"] == result.extractor.fingerprint
    assert written["labels"] == list(images.classes)
    assert {n: s["count"] for n, s in written["splits"].items()} == {
        "train": 36, "validation": 12, "test": 12
    }  # fmt: skip
    assert written["config"]["weights"] == "start.weights.h5"
    assert written["config"]["seed"] == 1
    assert {"precision", "recall", "auc"} <= set(written["reports"]["test"]["by_class"]["elbow"])
    assert np.sum(written["reports"]["test"]["confusion_matrix"]) == 12
    rows = list(csv.DictReader((folder / "history.csv").open()))
    assert len(rows) == len(result.history)
    assert float(rows[-1]["val_loss"]) == pytest.approx(result.history[-1]["val_loss"])
    with Image.open(folder / "history.png") as picture:
        assert picture.size[0] > 400
    assert list((folder / "tensorboard").iterdir())
    parts = [row["split"] for row in csv.DictReader((folder / "splits.csv").open())]
    assert parts == list(result.splits)
    assert str(folder.parent) not in (folder / "training.json").read_text()


def test_extractor_knows_its_training_images(run, images):
    folder, result = run
    extractor = load_extractor(folder / "extractor.keras")
    assert extractor.fingerprint == result.extractor.fingerprint
    assert extractor.labels == images.classes
    pixels = np.stack([load() for load in images.loaders])
    held_out, _ = phantom.phantom_set(10, size=80, seed=9)
    fid = compute_fid(pixels, held_out, extractor)
    assert fid.real.seen_in_training == 48  # training and validation
    assert fid.generated.seen_in_training == 0


def test_a_second_run_starts_from_the_first_and_says_so(run, images, tmp_path):
    folder, first = run
    config = dataclasses.replace(CONFIG, weights=str(folder / "extractor.keras"), epochs=1)
    result = train(phantom.load(60, 80, seed=0, label="abnormality"), config, tmp_path)
    assert [step["fingerprint"] for step in result.extractor.lineage] == [
        first.extractor.lineage[0]["fingerprint"],
        first.extractor.fingerprint,
    ]
    assert result.extractor.lineage[1]["labels"] == list(images.classes)
    assert result.extractor.labels == ("abnormal", "normal")


def test_random_weights_train_every_layer(images, tmp_path):
    config = dataclasses.replace(CONFIG, weights="random", epochs=1)
    result = train(images, config, tmp_path)
    start = load_extractor("random", image_size=75, seed=1)
    assert len(changed_layers(result.extractor.network, start.network)) == 2 * 94
    assert {row["phase"] for row in result.history} == {"all"}
    assert len(summary(result)) == 2


def test_unreadable_training_image_is_named(images, tmp_path):
    def fail():
        raise UnreadableImageError("elbow/7.png: cannot be read")

    broken = dataclasses.replace(images, loaders=[*images.loaders[:-1], fail])
    config = dataclasses.replace(CONFIG, weights="random")
    with pytest.raises(UnreadableImageError, match=r"elbow/7\.png"):
        train(broken, config, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_from": "mixed11"}, "mixed11"),
        ({"epochs": 0}, "epochs"),
        ({"crop": 0}, "crop"),
    ],
)
def test_senseless_configurations_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        dataclasses.replace(CONFIG, **change)


def test_finished_run_is_protected(run, tmp_path):
    with pytest.raises(DataError, match="--overwrite"):
        check_output_dir(run[0], overwrite=False)
    check_output_dir(run[0], overwrite=True)
    check_output_dir(tmp_path / "new", overwrite=False)
