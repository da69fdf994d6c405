"""FIDMetric: equal to compute_fid, in a loop, in a graph, in fit and evaluate, and merged."""

import math
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf

import fid_med
from fid_med.data.preprocessing import Preprocessing
from fid_med.errors import DataError, StatisticsError
from fid_med.evaluation.compute import compute_fid
from fid_med.extractors.extractor import FeatureExtractor

EQUAL = 1e-9


@pytest.fixture(scope="module")
def sides(phantoms):
    return phantoms[0][:16], phantoms[0][16:28]


@pytest.fixture(scope="module")
def expected(sides, shallow_extractor):
    return compute_fid(*sides, shallow_extractor).fid


@pytest.fixture
def metric(shallow_extractor):
    return fid_med.FIDMetric(shallow_extractor, output_range=(-1, 1))


class GAN(keras.Model):
    """Its generator returns the images that it is given, as floats in -1..1."""

    def __init__(self, fid):
        super().__init__()
        self.fid = fid

    def train_step(self, data):
        return self.get_metrics_result()

    def test_step(self, data):
        real, generated = data
        generated = tf.cast(generated, tf.float32)[..., None] / 127.5 - 1
        self.fid.update_state(real=real, generated=generated)
        return self.get_metrics_result()


def test_the_value_is_that_of_compute_fid_whatever_the_batches(metric, sides, expected):
    real, generated = sides
    metric.update_state(real=real, generated=generated)
    assert float(metric.result()) == pytest.approx(expected, rel=EQUAL)
    assert metric.result().numpy().dtype == np.float64
    metric.reset_state()
    for i in range(0, 16, 5):
        metric.update_state(real=tf.constant(real[i : i + 5]))
    for i in range(0, 12, 4):
        colour = np.repeat(generated[i : i + 4, ..., None], 3, axis=-1)
        metric.update_state(generated=colour.astype(np.float64) / 127.5 - 1)
    assert float(metric.result()) == pytest.approx(expected, rel=EQUAL)


def test_with_more_images_than_features_it_is_the_same(phantoms):
    pixels = keras.Input((32, 32, 3))
    maps = keras.layers.Conv2D(4, 3, strides=2)(pixels)
    network = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(maps))
    own = FeatureExtractor("own", network, Preprocessing(32, 32), "ab" * 32)
    sides = phantoms[0][:21], phantoms[0][21:]
    metric = fid_med.FIDMetric(own)
    for i in range(0, 21, 3):
        metric.update_state(*(side[i : i + 3] for side in sides))
    expected = compute_fid(*sides, own, metrics=["fid"]).fid
    assert float(metric.result()) == pytest.approx(expected, rel=EQUAL)


def test_evaluate_of_a_model_reports_it(metric, phantoms, shallow_extractor):
    sides = phantoms[0][:13], phantoms[0][13:26]
    gan = GAN(metric)
    gan.compile()
    found = gan.evaluate(*sides, batch_size=4, verbose=0, return_dict=True)  # the last batch has 1
    assert (metric.real.count, metric.generated.count) == (13, 13)
    expected = compute_fid(*sides, shallow_extractor).fid
    assert found["fid"] == pytest.approx(expected, rel=EQUAL)
    history = gan.fit(*sides, batch_size=8, validation_data=sides, verbose=0).history
    assert history["val_fid"] == pytest.approx([expected], rel=EQUAL)
    assert math.isnan(history["fid"][0])  # train_step gave it no images


def test_replicas_add_to_one_metric(metric, phantoms, shallow_extractor):
    sides = phantoms[0][:5], phantoms[0][5:10]
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    dataset = tf.data.Dataset.from_tensor_slices(sides).batch(5)
    (batch,) = strategy.experimental_distribute_dataset(dataset)  # 3 and 2 images
    step = tf.function(lambda batch: strategy.run(metric.update_state, args=batch))
    step(batch)
    assert (metric.real.count, metric.generated.count) == (5, 5)
    expected = compute_fid(*sides, shallow_extractor).fid
    assert float(metric.result()) == pytest.approx(expected, rel=EQUAL)


def test_a_batch_may_be_empty(metric, sides):
    metric.update_state(sides[0][:0], sides[1][:0])
    tf.function(metric.update_state)(sides[0][:0])
    assert (metric.real.count, metric.generated.count) == (0, 0)


def test_metrics_of_workers_are_merged(metric, sides, expected, shallow_extractor):
    real, generated = sides
    worker, empty = fid_med.FIDMetric(shallow_extractor), fid_med.FIDMetric(shallow_extractor)
    metric.update_state(real=real[:10], generated=generated[:1])
    worker.update_state(real=real[10:], generated=generated[1:7])
    metric.merge_state([worker, empty])
    assert (worker.real.count, empty.real.count) == (6, 0)
    worker.reset_state()
    worker.update_state(generated=generated[7:])
    metric.generated.merge(pickle.loads(pickle.dumps(worker.generated)))
    assert float(metric.result()) == pytest.approx(expected, rel=EQUAL)


def test_metrics_of_different_extractors_are_not_merged(metric, shallow_extractor):
    other = fid_med.FIDMetric(shallow_extractor)
    other.real.fingerprint = "cd" * 32
    with pytest.raises(StatisticsError, match="different extractors"):
        metric.merge_state([other])


def test_without_images_it_is_nan_and_with_one_an_error(metric, sides):
    assert math.isnan(metric.result())
    metric.update_state(real=sides[0][:3], generated=sides[1][:1])
    with pytest.raises(StatisticsError, match="fid: 3 real and 1 generated images, expected at"):
        metric.result()
    metric.reset_state()
    assert math.isnan(metric.result())


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((2, 20, 20), np.int32), "generated: pixels are int32"),
        (np.zeros((20, 20), np.uint8), r"generated: shape \(20, 20\)"),
        (np.zeros((2, 20, 20, 4), np.uint8), r"generated: shape \(20, 20, 4\)"),
    ],
)
def test_unsuitable_images_are_one_line(images, words, metric):
    with pytest.raises(DataError, match=words):
        metric.update_state(generated=images)
    assert metric.generated.count == 0


@pytest.mark.parametrize("images", [np.zeros((2, 20, 20), np.int32), np.zeros((20, 20), np.uint8)])
def test_in_a_graph_they_are_the_same_line(images, metric):
    with pytest.raises(fid_med.FidMedError) as line:
        metric.update_state(generated=images)
    update = tf.function(metric.update_state)

    def evaluate():
        update(None, images)
        update(None, images)
        metric.result()

    with pytest.raises(type(line.value)) as later:
        evaluate()
    assert str(later.value) == str(line.value)
    assert metric.generated.count == 0


def test_a_generator_that_diverges_gets_nan(metric, sides, shallow_extractor, capsys):
    metric.update_state(*sides)
    assert metric.result() > 0
    metric.update_state(generated=np.full((2, 9, 9), np.nan))
    assert math.isnan(metric.result())
    assert "fid: generated: the generator returned NaN or infinity" in capsys.readouterr().err
    other = fid_med.FIDMetric(shallow_extractor)
    other.update_state(*sides)
    other.merge_state([metric])
    assert math.isnan(other.result())
    metric.reset_state()
    metric.update_state(*sides)
    assert metric.result() > 0


def test_it_is_a_metric_of_compile(metric, phantoms, shallow_extractor):
    """Of a model from image to image, which returns its input here."""
    images = phantoms[0][:6, ..., None].astype(np.float32) / 127.5 - 1
    model = keras.Sequential([keras.Input((80, 80, 1)), keras.layers.Identity()])
    model.compile(loss="mse", metrics=[metric])
    found = model.evaluate(images, images[::-1], verbose=0, return_dict=True)
    assert metric.real.count == metric.generated.count == 6
    assert found["fid"] == pytest.approx(0, abs=1e-6)
    with pytest.raises(DataError, match="cannot be weighted"):
        metric.update_state(images, images, sample_weight=np.ones(6))


def test_floats_need_an_output_range(shallow_extractor, sides):
    with pytest.raises(DataError, match="output_range"):
        fid_med.FIDMetric(shallow_extractor).update_state(sides[0] / 255)
    with pytest.raises(DataError, match="output_range"):
        fid_med.FIDMetric(shallow_extractor, output_range=(1, -1))
    with pytest.raises(fid_med.FidMedError, match="expected a name"):
        fid_med.FIDMetric(5)


def test_few_images_are_warned_of_once(metric, sides, capsys):
    metric.update_state(*sides)
    metric.result()
    metric.result()
    assert capsys.readouterr().err.count("fewer than 2048 images per side (12)") == 1
