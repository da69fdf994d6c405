"""FIDCallback: what it measures, what it leaves alone, and what it refuses."""

import csv
import importlib.util
import json
import math
import pathlib
import random
import re

import keras
import numpy as np
import pytest
from absl import flags
from helpers import rounding

import fid_med
from fid_med import callbacks
from fid_med.errors import DataError, StatisticsError
from fid_med.evaluation.compute import compute_fid, compute_statistics
from fid_med.evaluation.generators import model_source
from fid_med.metrics.debiased_fid import debiased_fid
from fid_med.metrics.feature_files import save_features
from fid_med.metrics.statistics import FeatureStatistics
from fid_med.utils import plots

COUNT = 12


@pytest.fixture(scope="module")
def reference(phantoms, shallow_extractor):
    return compute_statistics(phantoms[0][:16], shallow_extractor)[0]


@pytest.fixture
def generator():
    """Latent vectors [B, 4] to images [B, 20, 20, 1] in -1..1."""
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(400, kernel_initializer=keras.initializers.RandomNormal(seed=1)),
            keras.layers.Activation("tanh", dtype="float32"),
            keras.layers.Reshape((20, 20, 1)),
        ]
    )


@pytest.fixture
def callback(generator, reference, shallow_extractor):
    def make(**options):
        options = {"output_range": (-1, 1), "num_generated": COUNT} | options
        return fid_med.FIDCallback(
            options.pop("generator", generator), reference, shallow_extractor, **options
        )

    return make


def fit(*callbacks, epochs=3):
    """Trains on random numbers of every kind; returns history, and weights and numbers drawn."""
    keras.utils.set_random_seed(7)
    network = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dropout(0.5)]
    )
    network.add(keras.layers.Dense(1))  # built, and initialised, after what callbacks may draw
    network.compile("sgd", "mse")
    x = np.random.normal(size=(16, 4))
    drawn = []
    drawing = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: drawn.append((random.random(), np.random.random()))
    )
    history = network.fit(
        x, x.sum(axis=1), batch_size=4, epochs=epochs, verbose=0, callbacks=[*callbacks, drawing]
    )
    return history.history, [*network.get_weights(), np.array(drawn)]


def test_the_value_is_the_fid_of_the_generators_images(
    callback, generator, reference, shallow_extractor, phantoms
):
    fid = callback(seed=5)
    latents = np.random.default_rng(5).standard_normal((COUNT, 4), np.float32)
    images = generator.predict(latents, verbose=0)[..., 0]
    pixels = np.rint((images + 1) * 127.5).astype(np.uint8)
    expected = compute_fid(phantoms[0][:16], pixels, shallow_extractor).fid
    assert fid.measure() == pytest.approx(expected, rel=rounding.FID)
    assert fid.measure() == fid.measure()
    assert callback(seed=6).measure() != pytest.approx(expected, rel=1e-3)


def test_every_few_epochs_it_is_in_the_history_and_for_later_callbacks(callback, tmp_path):
    fid = callback(every=2, seed=1)
    table = keras.callbacks.CSVLogger(str(tmp_path / "history.csv"))
    history, _ = fit(fid, table, epochs=5)
    measured = [not math.isnan(x) for x in history["fid"]]
    assert measured == [False, True, False, True, True]  # every second, and the last
    assert [x["epoch"] for x in fid.results] == [1, 3, 4]
    assert [x["epochs_trained"] for x in fid.results] == [2, 4, 5]  # as Keras prints them
    # The generator learns nothing here: equal images, equal values.
    assert len({x["fid"] for x in fid.results}) == 1
    with open(tmp_path / "history.csv", newline="") as file:
        column = [float(row["fid"]) for row in csv.DictReader(file)]
    np.testing.assert_array_equal(column, history["fid"])


def test_extractor_and_reference_are_loaded_once(
    phantoms, generator, shallow_extractor, monkeypatch, write_images
):
    loaded, opened = [], []
    monkeypatch.setattr(
        "fid_med.extractors.registry.load_extractor",
        lambda x: loaded.append(x) or shallow_extractor,
    )
    extract = callbacks.extract
    monkeypatch.setattr(
        callbacks,
        "extract",
        lambda source, *a, **k: opened.append(source.name) or extract(source, *a, **k),
    )
    folder = write_images("real", phantoms[0][:16])
    fid = fid_med.FIDCallback(
        generator, str(folder), "random", output_range=(-1, 1), num_generated=COUNT
    )
    fit(fid, epochs=2)
    assert loaded == ["random"]
    assert opened == ["reference", "generated", "generated"]


def test_the_training_is_the_same_with_and_without_it(callback, shallow_extractor):
    history, weights = fit()
    for with_fid in (callback(), callback(generator=noise), callback(generator=seeded_noise)):
        history_beside, weights_beside = fit(with_fid)
        assert history_beside.pop("fid")[0] > 0
        assert history_beside == history
        for mine, theirs in zip(weights_beside, weights, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def noise(count):
    return np.random.randint(0, 256, (count, 20, 20), np.uint8)


def seeded_noise(count, seed):
    return np.random.default_rng(seed).integers(0, 256, (count, 20, 20), np.uint8)


@pytest.mark.parametrize("function", [noise, seeded_noise])
def test_a_callable_gives_the_same_images_in_every_epoch(function, callback):
    fid = callback(generator=function, num_generated=66, output_range=None)  # two calls
    history, _ = fit(fid, epochs=2)
    assert history["fid"][0] == history["fid"][1]
    calls = fid._source()
    assert (calls(4) != calls(4)).any()


def test_under_mixed_precision_the_features_stay_float32(
    callback, generator, reference, monkeypatch
):
    from fid_med.extractors import registry

    expected = callback().measure()
    load = registry.load_extractor
    monkeypatch.setattr(registry, "load_extractor", lambda x: load(x, image_size=75, dims=64))
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        fid = fid_med.FIDCallback(
            generator, reference, "random", output_range=(-1, 1), num_generated=COUNT
        )
        assert fid.measure() == pytest.approx(expected, rel=rounding.FID)
        assert keras.config.dtype_policy().name == "mixed_float16"
    finally:
        keras.config.set_dtype_policy(policy)


def test_a_generator_that_diverges_gets_nan_and_the_training_goes_on(callback, generator, capsys):
    generator.layers[0].kernel.assign(np.full((4, 400), np.nan))
    history, _ = fit(callback(), epochs=2)
    assert all(math.isnan(x) for x in history["fid"])
    assert capsys.readouterr().err.count("NaN or infinity") == 2


@pytest.mark.parametrize(
    ("output_range", "words"),
    [
        ((0, 1), r"clipped: [3-6]\d% of the generated values are outside output_range \(0, 1\) "),
        ((0, 255), r"nearly uniform: the generated values, -.* use less than 2% of output_range "),
        ((-1, 1), None),
    ],
)
def test_a_wrong_output_range_is_warned_of_once(output_range, words, generator, capsys):
    source = model_source(generator, None, output_range, 8, 0)
    for _ in range(2):
        source()(8)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (words is not None)
    assert words is None or re.match(f"warning: {words}", lines[0])


def test_few_images_are_warned_of_once(callback, capsys):
    fit(callback(), epochs=2)
    assert capsys.readouterr().err.count("fewer than 2048 images per side (12)") == 1


def test_it_says_how_many_images_it_will_generate(callback, capsys):
    callback(every=5)
    (line,) = [x for x in capsys.readouterr().err.splitlines() if not x.startswith("warning")]
    assert line == (
        "fid: 12 generated images and 16 real images, after every 5 epochs, and after the last; "
        "for debiased_fid give a folder, or statistics saved with --save_features"
    )


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_of_few_images_the_debiased_fid_is_logged_too(
    kind, generator, shallow_extractor, phantoms, write_images, tmp_path, capsys
):
    source = write_images("real", phantoms[0][:16])
    features = shallow_extractor.extract(phantoms[0][:16])
    if kind == "file":
        source = tmp_path / "real.npz"
        statistics = FeatureStatistics.from_features(features)
        statistics.fingerprint = shallow_extractor.fingerprint
        save_features(source, statistics, features)
    fid = fid_med.FIDCallback(
        generator, source, shallow_extractor, output_range=(-1, 1), num_generated=COUNT, every=2,
        name="distance",
    )  # fmt: skip
    assert "debiased_distance too" in capsys.readouterr().err
    history, _ = fit(fid, epochs=3)
    assert [math.isnan(x) for x in history["debiased_distance"]] == [True, False, False]
    latents = np.random.default_rng(0).standard_normal((COUNT, 4), np.float32)
    images = generator.predict(latents, verbose=0)[..., 0]
    pixels = np.rint((images + 1) * 127.5).astype(np.uint8)
    expected = debiased_fid(features, shallow_extractor.extract(pixels), replicates=100)
    found = fid.results[-1]
    assert history["debiased_distance"][-1] == found["debiased_fid"]
    assert found["debiased_fid"] == pytest.approx(expected.value, rel=rounding.FID)
    assert found["debiased_low"] == pytest.approx(expected.low, rel=rounding.FID)
    assert found["debiased_low"] < found["debiased_fid"] < found["debiased_high"]
    assert history["distance"][-1] == found["fid"] != found["debiased_fid"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"output_range": None}, "output_range"),
        ({"output_range": (1, -1)}, "output_range"),
        ({"every": 0}, "every 0"),
        ({"num_generated": 1}, "num_generated 1"),
        ({"generator": "gan"}, "expected a Keras model"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(options, words, callback):
    with pytest.raises(DataError, match=words):
        callback(**options)


def test_a_model_must_say_what_it_takes(callback):
    class Unbuilt(keras.Model):
        def call(self, latents):
            return latents

    with pytest.raises(DataError, match="latent_dim"):
        callback(generator=Unbuilt())


def test_wrong_images_end_the_training_before_it_begins(callback):
    fid = callback(generator=lambda count: np.zeros((count, 20, 20)))
    with pytest.raises(DataError, match="uint8"):
        fit(fid)
    assert fid.results == []


def test_a_reference_of_another_extractor_is_refused(generator, shallow_extractor, reference):
    other = FeatureStatistics.from_moments(reference.mean, reference.covariance, 16)
    other.fingerprint = "cd" * 32
    with pytest.raises(StatisticsError, match="different extractors"):
        fid_med.FIDCallback(generator, other, shallow_extractor, output_range=(-1, 1))


def test_the_example_trains_and_measures(shallow_extractor, tmp_path, monkeypatch):
    path = pathlib.Path(__file__).parent.parent / "examples" / "gan_phantoms.py"
    spec = importlib.util.spec_from_file_location("gan_phantoms", path)
    example = importlib.util.module_from_spec(spec)
    before = set(flags.FLAGS)
    spec.loader.exec_module(example)
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)  # or scripts that later tests run would define them twice
    draw, sheets = plots.contact_sheet, []

    def contact_sheet(rows, *arguments):
        sheets.append([label for label, _ in rows])
        draw(rows, *arguments)

    monkeypatch.setattr(plots, "contact_sheet", contact_sheet)
    results = example.train(
        tmp_path, shallow_extractor, phantoms=24, compared=12, epochs=2, every=1, seed=0
    )
    assert [x["epoch"] for x in results] == [-1, 0, 1]
    assert all(x["fid"] > 0 for x in results)
    assert json.loads((tmp_path / "fid.json").read_text())["fid"] == results[1:]
    named = [f"epoch {x['epoch'] + 1}\nFID {x['fid']:.4g}" for x in results[1:]]
    assert sheets == [["phantoms", *named]]
    assert (tmp_path / "samples.png").stat().st_size > 10_000
    assert (tmp_path / "history.csv").read_text().count("\n") == 3


def test_a_reference_from_a_file_is_factored_once_and_gives_the_same(
    callback, generator, shallow_extractor, reference, tmp_path, monkeypatch
):
    reference.save(tmp_path / "real.npz")
    fid = fid_med.FIDCallback(
        generator,
        tmp_path / "real.npz",
        shallow_extractor,
        output_range=(-1, 1),
        num_generated=COUNT,
    )
    monkeypatch.setattr("fid_med.metrics.frechet._factor", None)
    assert fid.measure() == pytest.approx(callback().measure(), rel=1e-9)
