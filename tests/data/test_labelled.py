import numpy as np
import pytest
import tensorflow as tf

from fid_med.data.labelled import LabelledImages
from fid_med.errors import DataError


def images(labels, **fields):
    count = len(labels)
    return LabelledImages(
        "set", [f"{i}.png" for i in range(count)], [lambda i=i: i for i in range(count)],
        np.array(labels), ("elbow", "neck", "wrist"), **fields,
    )  # fmt: skip


def test_images_of_a_label_left_out_go_with_it():
    rest = images([0, 1, 2, 1, 2], patients=list("abcde"), splits=np.array(["train"] * 5))
    rest = rest.without(["neck"])
    assert rest.classes == ("elbow", "wrist")
    assert rest.names == ["0.png", "2.png", "4.png"]
    np.testing.assert_array_equal(rest.labels, [0, 1, 1])
    assert rest.patients == ["a", "c", "e"]
    assert [load() for load in rest.loaders] == [0, 2, 4]
    assert len(rest.splits) == 3
    assert rest.studies is None


def test_an_image_that_also_carries_it_goes_too():
    rest = images([[True, True, False], [True, False, False], [False, False, True]])
    rest = rest.without(["neck"])
    assert rest.names == ["1.png", "2.png"]
    np.testing.assert_array_equal(rest.labels, [[True, False], [False, True]])


def test_unknown_and_too_many_are_refused():
    with pytest.raises(DataError, match="no label hip to leave out; known are elbow, neck, wrist"):
        images([0, 1, 2]).without(["hip"])
    with pytest.raises(DataError, match="at least two labels"):
        images([0, 1, 2]).without(["neck", "wrist"])


CLASSES = ("elbow", "neck", "wrist")
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 8, 1), dtype=np.uint8)


@pytest.mark.parametrize("several", [False, True])
def test_a_tf_data_set_keeps_its_order(several):
    labels = np.array([0, 1, 2, 2, 1, 0])
    labels = np.eye(3, dtype=int)[labels] if several else labels
    dataset = tf.data.Dataset.from_tensor_slices((PIXELS, labels))
    found = LabelledImages.from_dataset(dataset, CLASSES, patients=list("aabbcc"))
    assert found.multi_label == several
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal([load() for load in found.loaders], PIXELS[..., 0])
    np.testing.assert_array_equal(found.loaders[4](), PIXELS[4, ..., 0])
    rest = found.without(["neck"])
    assert rest.names == [f"dataset[{i}]" for i in (0, 2, 3, 5)]
    np.testing.assert_array_equal([load() for load in rest.loaders], PIXELS[[0, 2, 3, 5], ..., 0])


def pairs(images, labels):
    return tf.data.Dataset.from_tensor_slices((images, labels))


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (pairs(PIXELS, [0, 1, 2, 0, 1, 3]), "labels from 0 to 3, but 3 classes"),
        (pairs(PIXELS, [0.5] * 6), "labels float32"),
        (pairs(PIXELS, np.eye(6, dtype=int)), r"0 and 1 \[N, 3\]"),
        (pairs(PIXELS, [0, 1, 2, 0, 1, 2]).batch(2), r"give dataset\.unbatch"),
        (pairs(PIXELS, [0, 1, 2, 0, 1, 2]).repeat(), "never ends"),
        (pairs(PIXELS, [0, 1, 2, 0, 1, 2]).take(0), "no images"),
        (tf.data.Dataset.from_tensor_slices(PIXELS), r"pairs \(image, label\)"),
        ([], r"pairs \(image, label\)"),
    ],
)
def test_other_data_sets_are_refused(dataset, words):
    with pytest.raises(DataError, match=words):
        LabelledImages.from_dataset(dataset, CLASSES)


def test_a_data_set_that_is_shuffled_each_time_is_refused():
    dataset = pairs(PIXELS, [0, 1, 2, 0, 1, 2]).shuffle(6, seed=3)
    found = LabelledImages.from_dataset(dataset, CLASSES)
    with pytest.raises(DataError, match="another order when it is read again; remove its shuffle"):
        list(found.loaders)


def test_float_pixels_are_refused_with_the_conversion():
    dataset = pairs(PIXELS / 255, [0, 1, 2, 0, 1, 2])
    found = LabelledImages.from_dataset(dataset, CLASSES)
    with pytest.raises(DataError, match=r"dataset\[0\]: pixels are float64"):
        found.loaders[0]()
