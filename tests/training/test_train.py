"""Tests training on a few phantoms at 75 pixels, and the files of a run."""

import contextlib
import csv
import dataclasses
import io
import json
import re
import shutil
import types
import unittest.mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fid_med.data.datasets import phantom
from fid_med.errors import DataError, SettingError, UnreadableImageError
from fid_med.evaluation.compute import compute_fid
from fid_med.extractors import inception_v3, keras_file
from fid_med.extractors.depths import cut_at_depth
from fid_med.extractors.registry import load_extractor
from fid_med.phantoms.radiograph import phantom_set
from fid_med.training import epochs, output
from fid_med.training import train as train_module
from fid_med.training.checkpoints import (
    Checkpoint,
    CheckpointError,
    CheckpointStore,
    check_output_dir,
)
from fid_med.training.config import TrainingConfig
from fid_med.training.output import summary, write_training
from fid_med.training.run import TrainingRun
from fid_med.training.train import train

CONFIG = TrainingConfig(image_size=75, batch_size=16, epochs=2, train_from="mixed9", seed=1)


@pytest.fixture(autouse=True, scope="module")
def short_trainings():
    """30 epochs of the head are enough here, and graphs run but few steps: optimising them, which
    is half of the time of a first step, does not pay."""
    optimizer = tf.config.optimizer
    optimizer.set_experimental_options({"disable_meta_optimizer": True})
    with unittest.mock.patch("fid_med.training.run._HEAD_EPOCHS", 30):
        yield
    optimizer.set_experimental_options({"disable_meta_optimizer": False})


def without_sheet():
    """Leaves out the picture of augmented images, which the fixture `run` draws."""
    return unittest.mock.patch.object(TrainingRun, "draw_augmentation")


@pytest.fixture(scope="module")
def images():
    """Phantoms sorted by label, like a folder of folders: without shuffling nothing is learned."""
    return subset(phantom.load(60, 80, seed=0), lambda x: np.argsort(x.labels, kind="stable"))


def subset(images, choose):
    """Selects the images whose indices `choose` returns, in that order."""
    rows = choose(images)

    def of(values):
        return values if values is None else [values[i] for i in rows]

    return dataclasses.replace(
        images,
        names=of(images.names),
        loaders=of(images.loaders),
        labels=images.labels[rows],
        patients=of(images.patients),
    )


class Recorder(keras.callbacks.Callback):
    """A user's callback: keeps the logs of each epoch, and the folder as it then is."""

    def __init__(self, folder):
        super().__init__()
        self.logs, self.folder = [], folder

    def on_epoch_end(self, epoch, logs=None):
        self.logs.append((epoch, dict(logs)))
        shutil.copytree(self.folder / "run", self.folder / f"after epoch {epoch}")


@pytest.fixture(scope="module")
def recorder(tmp_path_factory):
    return Recorder(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def run(images, extractor_file, recorder):
    """A transfer run with its output files."""
    folder = recorder.folder / "run"
    config = dataclasses.replace(CONFIG, weights=str(extractor_file))
    result = train(images, config, folder, callbacks=[recorder])
    write_training(folder, result, images, config, {"dataset": "phantom"})
    return folder, result


def changed_layers(network, other):
    return {
        layer.name
        for layer, before in zip(
            inception_v3.weighted_layers(network), inception_v3.weighted_layers(other), strict=True
        )
        if any(
            (a != b).any() for a, b in zip(layer.get_weights(), before.get_weights(), strict=True)
        )
    }


def test_transfer_trains_the_last_blocks_only(run, small_extractor):
    network = run[1].extractor.network
    names = [layer.name for layer in network.layers]
    after = set(names[names.index("mixed9") + 1 :])
    changed = changed_layers(network, small_extractor.network)
    assert changed
    assert changed <= after
    assert not [
        n for n in changed if isinstance(network.get_layer(n), keras.layers.BatchNormalization)
    ]
    assert changed == {n for n in after if isinstance(network.get_layer(n), keras.layers.Conv2D)}


def test_transfer_trains_the_head_first(run):
    history = run[1].history
    phases = [row["phase"] for row in history]
    assert phases == sorted(phases)  # head before top
    assert set(phases) == {"head", "top"}
    head = [row for row in history if row["phase"] == "head"]
    assert head[-1]["loss"] < 0.7 * head[0]["loss"]


def test_a_callback_gets_the_numbers_of_each_epoch_after_its_checkpoint(run, recorder):
    rows = [row for row in run[1].history if row["phase"] == "top"]
    assert [epoch for epoch, _ in recorder.logs] == [0, 1]
    for (epoch, logs), row in zip(recorder.logs, rows, strict=True):
        saved = CheckpointStore(recorder.folder / f"after epoch {epoch}").load()
        assert (saved.phase, saved.epoch) == ("top", epoch + 1)
        assert logs == {name: row[name] for name in epochs.COLUMNS[2:] if row[name] is not None}


def test_accuracy_is_above_chance(run):
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


def test_repeated_images_are_named(images, capsys):
    digests = [str(i) for i in range(60)]
    digests[7] = digests[59] = digests[3]
    splits, base = np.full(60, "train"), types.SimpleNamespace(training_images=None)
    train_module._warn_about_splits(images, digests, splits, base)
    one, two, three = (images.names[i] for i in (3, 7, 59))
    assert (
        f"duplicate images: 2 ({two} repeats {one}, {three} repeats {one}); duplicates are in the "
        "same split"
    ) in capsys.readouterr().err


def test_the_next_command_can_be_copied(run):
    folder, result = run
    options = {"data_dir": "my films", "patient_regex": "^.{8}", "multi_frame": "unroll"}
    assert output.next_command(folder, result, **options) == (
        f"compute_fid.py 'my films' GENERATED --extractor={folder}/extractor.keras --split=test "
        "'--patient_regex=^.{8}' --multi_frame=unroll"
    )
    without = dataclasses.replace(result, splits=np.full(60, "train"))
    assert output.next_command(folder, without, data_dir="films") == (
        f"compute_fid.py films GENERATED --extractor={folder}/extractor.keras "
        "--exclude_training_images"
    )


def test_output_files_describe_the_run(run, images):
    folder, result = run
    written = json.loads((folder / "training.json").read_text())
    assert written["fingerprint"] == result.extractor.fingerprint
    assert written["labels"] == list(images.classes)
    assert {n: s["count"] for n, s in written["splits"].items()} == {
        "train": 36, "validation": 12, "test": 12
    }  # fmt: skip
    assert written["config"]["weights"] == "extractor.keras"
    assert written["config"]["seed"] == 1
    assert {"precision", "recall", "auc"} <= set(written["reports"]["test"]["by_class"]["elbow"])
    assert np.sum(written["reports"]["test"]["confusion_matrix"]) == 12
    rows = list(csv.DictReader((folder / "history.csv").open()))
    assert len(rows) == len(result.history)
    assert float(rows[-1]["val_loss"]) == pytest.approx(result.history[-1]["val_loss"])
    with Image.open(folder / "history.png") as picture:
        assert picture.size[0] > 400
    assert list((folder / "tensorboard").iterdir())
    # One column for the untouched image and one per epoch, of 1.6 inches each.
    columns = 1 + CONFIG.epochs
    with Image.open(folder / "augmentation.png") as picture:
        assert picture.width == pytest.approx(120 * (1.6 * columns + 1), abs=2)
        assert np.asarray(picture.convert("L")).std() > 20
    rows = list(csv.DictReader((folder / "splits.csv").open()))
    assert [row["split"] for row in rows] == list(result.splits)
    assert [row["patient"] for row in rows] == images.patients
    assert [row["label"] for row in rows] == [images.classes[label] for label in images.labels]
    card = (folder / "model_card.md").read_text()
    assert f"Fingerprint: `{written['fingerprint']}`" in card
    assert "60 images of 60 patients, labelled chest, elbow, hand, knee, neck, pelvis." in card
    assert "| validation | 12 | 2 | 2 | 2 | 2 | 2 | 2 |" in card
    report = written["reports"]["test"]
    low, high = report["auc_interval"]
    assert low < report["auc"] < high
    auc = f"{report['auc']:.3f} ({low:.3f} to {high:.3f})"
    assert f"| {report['balanced_accuracy']:.3f} | {auc} |" in card
    assert "not a medical device" in card
    for name in (*images.names, *images.patients, str(folder)):
        assert name not in card
    assert written["auxiliary_weight"] is None
    assert str(folder.parent) not in (folder / "training.json").read_text()


def test_the_extractor_recognises_its_training_images(run, images):
    folder, result = run
    extractor = load_extractor(folder / "extractor.keras")
    assert extractor.fingerprint == result.extractor.fingerprint
    assert extractor.labels == images.classes
    extractor = cut_at_depth(extractor, 64)  # any depth
    pixels = np.stack([load() for load in images.loaders])
    held_out, _ = phantom_set(10, size=80, seed=9)
    fid = compute_fid(pixels, held_out, extractor)
    assert fid.real.seen_in_training == 48  # training and validation
    assert fid.generated.seen_in_training == 0


@pytest.fixture(scope="module")
def several(images):
    """The same phantoms with two labels per image, and studies of up to three images."""
    facts = phantom_set(60, size=80, seed=0)[1]
    part = np.argsort(phantom.load(60, 80, seed=0).labels, kind="stable")
    labels = np.array(
        [[facts[i].abnormality == "abnormal", images.labels[k] < 3] for k, i in enumerate(part)]
    )
    kinds = [2 * a + b for a, b in labels.tolist()]
    # Three images with equal labels per study.
    studies = [f"{kind}-{kinds[:k].count(kind) // 3}" for k, kind in enumerate(kinds)]
    classes = ("abnormal", "first_three")
    return dataclasses.replace(images, labels=labels, classes=classes, studies=studies)


@pytest.fixture(scope="module")
def second_run(run, several, tmp_path_factory):
    """A run that starts from the extractor of `run`: its folder, its result, and its stderr."""
    folder, error = tmp_path_factory.mktemp("second"), io.StringIO()
    weights = str(run[0] / "extractor.keras")
    config = dataclasses.replace(
        CONFIG, weights=weights, epochs=1, image_size=None, train_from="mixed10"
    )
    with contextlib.redirect_stderr(error), without_sheet():
        result = train(several, config, folder)
    write_training(folder, result, several, config, {})
    return folder, result, error.getvalue()


def test_a_second_run_starts_from_the_extractor_of_the_first(run, second_run, images):
    (_, first), (_, result, error) = run, second_run
    assert result.extractor.preprocessing == first.extractor.preprocessing  # 75 pixels, not 299
    assert [step["fingerprint"] for step in result.extractor.lineage] == [
        first.extractor.lineage[0]["fingerprint"],
        first.extractor.fingerprint,
    ]
    assert result.extractor.lineage[1]["labels"] == list(images.classes)
    assert result.extractor.labels == ("abnormal", "first_three")
    # The same images, split differently: training images of the first run are held out here.
    held_out = int(np.isin(result.splits, ("validation", "test")).sum())
    assert re.search(rf"extractor\.keras was trained on \d+ of the {held_out} images held", error)
    before, after = first.extractor.training_images, result.extractor.training_images
    assert after.key == before.key
    assert before.train < after.train
    assert before.validation < after.validation


def test_several_labels_per_image_and_studies(second_run):
    folder, result, _ = second_run
    classifier = keras.models.load_model(folder / "classifier.keras")
    assert classifier.layers[-1].activation is keras.activations.sigmoid
    assert result.class_weights is None
    report = result.reports["validation"]
    assert report["auc"] > 0.6
    written = json.loads((folder / "training.json").read_text())
    assert written["study_reports"]["validation"]["count"] < report["count"]
    assert len(summary(result)) == 4
    assert "(95 % interval 0." in summary(result)[0]
    assert "studies" in summary(result)[1]
    rows = {row["label"] for row in csv.DictReader((folder / "splits.csv").open())}
    assert "abnormal|first_three" in rows


def test_a_file_name_that_is_not_utf8_is_written_escaped(run, images, tmp_path):
    _, result = run
    names = [*images.names]
    names[0] = "R\udcf6ntgen.png"
    output._write_splits(tmp_path / "splits.csv", result, dataclasses.replace(images, names=names))
    first, second = (tmp_path / "splits.csv").read_text(encoding="utf-8").splitlines()[1:3]
    assert first.startswith("R\\udcf6ntgen.png,")
    assert second.startswith(names[1])


def test_scratch_trains_every_layer_and_keeps_no_auxiliary_head(images, small_extractor):
    """As the next test, without the training."""
    config = dataclasses.replace(CONFIG, recipe="scratch").resolved()
    network = inception_v3.build_network(small_extractor.preprocessing)
    base = types.SimpleNamespace(network=network, preprocessing=small_extractor.preprocessing)
    splits = np.array(["train"] * 40 + ["validation"] * 20)
    strategy = tf.distribute.get_strategy()
    run = TrainingRun(base, images, np.zeros((60, 75, 75, 1), np.uint8), splits, config, strategy)
    model, trained = run._build_training_model("all", steps=3)
    assert trained is run.classifier  # its weights are validated and saved
    changed = {id(w) for w in model.trainable_weights}
    for layer in inception_v3.weighted_layers(network):
        assert {id(w) for w in layer.weights} - changed <= {
            id(w) for w in layer.weights if "moving" in w.path
        }
        assert getattr(layer, "momentum", 0.9) == 0.9  # of three steps
    auxiliary = {layer.name for layer in model.layers} - {x.name for x in trained.layers}
    assert auxiliary
    assert all(name.startswith("auxiliary") for name in auxiliary)
    assert len(model.outputs) == 2


@pytest.mark.slow
def test_scratch_trains_every_layer_and_saves_no_auxiliary_head(
    images, small_extractor, tmp_path, monkeypatch
):
    config = dataclasses.replace(CONFIG, recipe="scratch", epochs=1, seed=0)
    with without_sheet():
        result = train(images, config, tmp_path)
    write_training(tmp_path, result, images, config, {})
    start = small_extractor  # "random" of seed 0
    assert len(changed_layers(result.extractor.network, start.network)) == 2 * 94
    assert {row["phase"] for row in result.history} == {"all"}
    assert len(summary(result)) == 2
    (row,) = csv.DictReader((tmp_path / "history.csv").open())
    assert float(row["auxiliary_loss"]) == pytest.approx(result.history[0]["auxiliary_loss"])
    assert 0.5 < float(row["auxiliary_loss"]) < 10
    assert float(row["learning_rate"]) == 0.045
    assert json.loads((tmp_path / "training.json").read_text())["auxiliary_weight"] == 0.3
    # Each file is loaded once: load_extractor's own model is looked at too.
    read, models = keras_file.read_model, []
    monkeypatch.setattr(keras_file, "read_model", lambda *x: models.append(read(*x)) or models[-1])
    for name in ("extractor.keras", "classifier.keras"):
        # The fingerprint covers only InceptionV3's layers, not the auxiliary head.
        assert load_extractor(tmp_path / name).fingerprint == result.extractor.fingerprint
        model = models.pop()
        assert not models
        assert not [layer.name for layer in model.layers if layer.name.startswith("auxiliary")]
        assert len(inception_v3.network_arrays(model)) == len(start.network.weights)


class Stop(Exception):
    pass


def test_an_interrupted_run_resumes_to_the_same_result(
    run, recorder, images, extractor_file, monkeypatch
):
    folder, uninterrupted = run
    config = dataclasses.replace(CONFIG, weights=str(extractor_file))
    # As a run that is killed in its second epoch leaves it; test_kill.py does that.
    interrupted = recorder.folder / "after epoch 0"
    check_output_dir(interrupted, overwrite=False)
    store = CheckpointStore(interrupted)
    content, saved = store.path.read_bytes(), store.load()
    with without_sheet():
        for name in ("state", "best_weights"):
            first, *others = getattr(saved, name) or [np.zeros(3)]
            store.save(dataclasses.replace(saved, **{name: [first[..., None], *others]}))
            with pytest.raises(CheckpointError, match=r"other shapes .* remove the file"):
                train(images, config, interrupted)
    store.path.write_bytes(content)
    with pytest.raises(DataError, match=r"crop was 0\.85, now 0\.9"):
        train(images, dataclasses.replace(config, crop=0.9), interrupted)
    treated = dataclasses.replace(images, uncertain={"treatment": "zero"})
    with pytest.raises(DataError, match="uncertain was None, now zero"):
        train(treated, config, interrupted)
    with pytest.raises(DataError, match=r"other images: it had 60, now there are 54"):
        train(subset(images, lambda x: np.flatnonzero(np.arange(60) % 10)), config, interrupted)
    add, saved = epochs.EpochLog.add, []

    def note_checkpoint(self, row):
        saved.append((CheckpointStore(interrupted).load().epoch, row["phase"], row["epoch"]))
        add(self, row)

    monkeypatch.setattr(epochs.EpochLog, "add", note_checkpoint)
    with without_sheet():
        result = train(images, config, interrupted)
    # An epoch is logged after it is saved, so that an error of the log costs no epoch.
    assert saved[-2:] == [(1, "top", 1), (2, "top", 2)]
    write_training(interrupted, result, images, config, {})
    # Separate processes agree to the bit (test_kill.py). Within one process, TensorFlow's graphs
    # have other names the second time, and sums are computed in another order.
    # Adam divides a gradient by its own size: where it is only rounding, a step may differ by the
    # learning rate, 1e-4.
    for a, b in zip(
        inception_v3.network_arrays(uninterrupted.extractor.network),
        inception_v3.network_arrays(result.extractor.network),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-4)
    rows = [list(csv.DictReader((x / "history.csv").open())) for x in (folder, interrupted)]
    assert [(r["phase"], r["epoch"]) for r in rows[0]] == [
        (r["phase"], r["epoch"]) for r in rows[1]
    ]
    assert len(list((interrupted / "tensorboard").iterdir())) == 1
    assert not (interrupted / "checkpoint").exists()
    with pytest.raises(DataError, match="--overwrite"):
        check_output_dir(interrupted, overwrite=False)


def test_an_error_of_the_log_says_how_to_resume(images, tmp_path, monkeypatch):
    def full(images, config, output_dir, store, *_):
        store.save(Checkpoint({}, "00" * 16, np.zeros(60, np.uint64), "top", 1, (0, (0, 0)), [], 1))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fid_med.training.train._train", full)
    with pytest.raises(
        DataError, match=r"No space left.*to resume after epoch 1 of phase top"
    ) as error:
        train(images, CONFIG, tmp_path)
    assert "\n" not in str(error.value)


def test_a_full_disk_under_tensorboard_is_a_one_line_error(tmp_path, monkeypatch):
    def full(*_):
        message = "x.v2; No space left on device\n\tFailed to write"
        raise tf.errors.ResourceExhaustedError(None, None, message)

    log = epochs.EpochLog(tmp_path)
    monkeypatch.setattr(tf.io.TFRecordWriter, "write", full)
    with pytest.raises(OSError, match=r"cannot be written \(No space left on device\)$"):
        log.add(dict.fromkeys(epochs.COLUMNS, 1.0))
    assert (tmp_path / "history.csv").exists()


def test_results_that_cannot_be_written_keep_the_checkpoint(run, images, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    store = CheckpointStore(tmp_path)
    store.save(Checkpoint({}, "00" * 16, np.zeros(60, np.uint64), "top", 2, (0, (0, 0)), [], 1))
    monkeypatch.setattr(output, "save_extractor", full)
    with pytest.raises(DataError, match=r"No space left .*run the same command again$"):
        write_training(tmp_path, run[1], images, CONFIG, {})
    assert store.path.exists()
    check_output_dir(tmp_path, overwrite=False)
    monkeypatch.undo()
    write_training(tmp_path, run[1], images, CONFIG, {})
    assert not store.path.exists()
    assert (tmp_path / "training.json").exists()


def test_overwrite_starts_over_if_settings_differ(images, tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path)
    store.save(
        Checkpoint({"config": {}}, "00" * 16, np.zeros(60, np.uint64), "top", 7, (0, (0, 0)), [], 1)
    )

    def stop(*_, **__):
        raise Stop

    monkeypatch.setattr("fid_med.training.train.load_extractor", stop)
    with pytest.raises(DataError, match="interrupted run with other settings"):
        train(images, CONFIG, tmp_path)
    assert store.path.exists()
    with pytest.raises(Stop):
        train(images, CONFIG, tmp_path, overwrite=True)
    assert not store.path.exists()


def test_divergence_is_an_error_with_a_remedy():
    stopping = epochs.EarlyStopping(keras.Sequential(), None, None, None, None, 1, "all")
    with pytest.raises(DataError, match=r"phase all, epoch 3: .* the loss is nan.*--learning_rate"):
        stopping.on_epoch_end(2, {"loss": float("nan")})


def test_time_estimate(capsys, monkeypatch):
    now = 100.0
    monkeypatch.setattr(epochs.time, "perf_counter", lambda: now)
    progress = epochs.TrainingProgress("all", images=72, batch_size=32, epochs=100)
    for seconds in (60, 2, 0.5), (2, 1.5, 0.5), [9] * 3:
        now += 1000  # validation between epochs
        progress.on_epoch_begin(0)
        for batch, taken in enumerate(seconds):
            now += taken
            progress.on_train_batch_end(batch)
        progress.on_epoch_end(0)
    # Without the first step, which builds the graph: 104 images in 6 seconds.
    assert capsys.readouterr().err == (
        "all: 17.3 images/s; 100 epochs of 72 images take at most 6.9 minutes, plus validation\n"
    )


def test_an_unreadable_training_image_is_named(images, tmp_path):
    def fail():
        raise UnreadableImageError("elbow/7.png: cannot be read")

    broken = dataclasses.replace(images, loaders=[*images.loaders[:-1], fail])
    config = dataclasses.replace(CONFIG, weights="random", seed=0)
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
def test_invalid_settings_are_errors(change, message):
    with pytest.raises(SettingError, match=message):
        dataclasses.replace(CONFIG, **change)


def test_a_run_killed_while_it_wrote_its_results_can_be_resumed(tmp_path):
    (tmp_path / "classifier.keras").touch()
    with pytest.raises(DataError, match="--overwrite"):
        check_output_dir(tmp_path, overwrite=False)
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "state.npz").touch()
    check_output_dir(tmp_path, overwrite=False)
    # training.json is written last: this checkpoint belongs to a run that replaces a finished one.
    (tmp_path / "training.json").touch()
    with pytest.raises(DataError, match="--overwrite"):
        check_output_dir(tmp_path, overwrite=False)
    check_output_dir(tmp_path, overwrite=True)


def test_a_finished_run_is_not_replaced_without_overwrite(run, tmp_path):
    with pytest.raises(DataError, match="--overwrite"):
        check_output_dir(run[0], overwrite=False)
    check_output_dir(run[0], overwrite=True)
    check_output_dir(tmp_path / "new", overwrite=False)
