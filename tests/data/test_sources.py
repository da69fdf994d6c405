"""Images of a source: in order, overlapped, and no further ahead than needed."""

import threading
import time

import numpy as np
import pytest

from fid_med.data.preprocessing import Preprocessing
from fid_med.data.sources import ImageSource, open_source, prepared_images
from fid_med.errors import DataError, UnreadableImageError

TINY = Preprocessing(8, 8)
NUMBERED = np.arange(100, dtype=np.uint8)[:, None, None] * np.ones((1, 8, 8), np.uint8)


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_order_does_not_depend_on_timing(workers):
    def slow(i):
        def load():
            time.sleep(0.002 * (i % 5))
            return NUMBERED[i]

        return load

    source = ImageSource("array", "x", [(str(i), slow(i)) for i in range(100)], 100)
    found = [image.pixels[0, 0] for image in prepared_images(source, TINY, workers=workers)]
    assert found == list(range(100))


def test_unreadable_image_surfaces_in_its_place():
    def fail():
        raise UnreadableImageError("bad.png: cannot be read")

    loaders = [("a", lambda: NUMBERED[1]), ("bad", fail), ("c", lambda: NUMBERED[3])]
    images = list(prepared_images(ImageSource("array", "x", loaders), TINY))
    assert [image.error is None for image in images] == [True, False, True]
    assert images[2].pixels[0, 0] == 3


def test_look_ahead_is_bounded_and_closing_early_ends_the_threads():
    taken = []

    def loaders():
        for i in range(10_000):
            taken.append(i)
            yield str(i), lambda: NUMBERED[0]

    images = prepared_images(ImageSource("array", "x", loaders()), TINY, workers=2)
    for _ in range(5):
        next(images)
    assert len(taken) < 100
    before = threading.active_count()
    images.close()
    assert threading.active_count() < before


@pytest.mark.parametrize(
    "batch",
    [
        NUMBERED[:0],
        np.zeros((8,), np.uint8),
        np.zeros((4, 8, 8), np.float32),
        np.zeros((4, 8, 8, 5), np.uint8),
    ],
    ids=["none", "no images", "float", "five channels"],
)
def test_callable_that_returns_nonsense_is_refused(batch):
    source = open_source(lambda count: batch, "generated", 10)
    with pytest.raises(DataError, match="generated"):
        list(prepared_images(source, TINY))


def test_callable_that_returns_too_many_is_cut():
    source = open_source(lambda count: NUMBERED, "generated", 10)
    assert len(list(prepared_images(source, TINY))) == 10
    with pytest.raises(DataError, match="number of images"):
        open_source(lambda count: NUMBERED, "generated")


def test_endless_dataset_is_refused():
    import tensorflow as tf

    with pytest.raises(DataError, match=r"\.take"):
        open_source(tf.data.Dataset.from_tensor_slices(NUMBERED).repeat(), "x")
    with pytest.raises(DataError, match="no key 'image'"):
        list(prepared_images(open_source(tf.data.Dataset.from_tensors({"y": 1}), "x"), TINY))
