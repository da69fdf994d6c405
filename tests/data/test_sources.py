"""Images of a source: in order, overlapped, and no further ahead than needed."""

import functools
import io
import itertools
import threading
import time

import numpy as np
import pytest

from fid_med.data.preprocessing import Preprocessing
from fid_med.data.sources import ImageSource, content_key, open_source, prepared_images
from fid_med.errors import DataError, UnreadableImageError
from fid_med.utils.hashing import ImageHasher

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


def test_a_folder_of_mixed_sizes_is_resized_as_the_graph_of_2015_does(write_images):
    import tensorflow as tf

    rng = np.random.default_rng(5)
    shapes = [(*rng.integers(1, 400, 2), *((3,) * (i % 2))) for i in range(12)]
    written = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    source = open_source(write_images("mixed", written), "mixed")
    for pixels, found in zip(
        written, prepared_images(source, Preprocessing(resize="tf1")), strict=True
    ):
        rgb = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
        expected = tf.raw_ops.ResizeBilinear(images=rgb[None].astype(np.float32), size=[299, 299])
        np.testing.assert_array_equal(found.pixels, expected[0])


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


def test_a_callable_that_raises_is_one_line_with_its_reason():
    def generate(count):
        raise RuntimeError("no\n weights")

    with pytest.raises(DataError) as caught:
        list(prepared_images(open_source(generate, "generated", 10), TINY))
    assert str(caught.value) == (
        "generated: the callable, asked for 10 images, raised RuntimeError: no weights"
    )
    assert isinstance(caught.value.__cause__, RuntimeError)
    of_no_argument = open_source(lambda: NUMBERED, "generated", 10)
    with pytest.raises(DataError, match=r"TypeError: .*0 positional arguments"):
        list(prepared_images(of_no_argument, TINY))


def test_images_of_several_sizes_get_the_way_out():
    images = [np.zeros((8, 8), np.uint8), np.zeros((8, 9), np.uint8)]
    as_objects = np.empty(2, object)
    as_objects[:] = images
    for source in (images, tuple(images), as_objects, lambda count: images):
        with pytest.raises(DataError, match=r"images of several sizes, \(8, 8\), \(8, 9\): resize"):
            list(prepared_images(open_source(source, "x", 2), TINY))


def test_endless_dataset_is_refused():
    import tensorflow as tf

    with pytest.raises(DataError, match=r"\.take"):
        open_source(tf.data.Dataset.from_tensor_slices(NUMBERED).repeat(), "x")
    with pytest.raises(DataError, match="no key 'image'"):
        list(prepared_images(open_source(tf.data.Dataset.from_tensors({"y": 1}), "x"), TINY))


def first_pixels(source):
    return [int(image.pixels[0, 0].max()) for image in prepared_images(source, TINY)]


def test_every_kind_of_dataset_gives_its_images_in_order():
    import tensorflow as tf

    colour = np.repeat(NUMBERED[..., None], 3, axis=-1)
    labels = np.zeros(100)
    for images in (NUMBERED, NUMBERED[..., None], colour):
        plain = tf.data.Dataset.from_tensor_slices(images)
        labelled = tf.data.Dataset.from_tensor_slices((images, labels))
        named = tf.data.Dataset.from_tensor_slices({"label": labels, "image": images})
        for dataset in (plain, labelled, named):
            for fed in (dataset, dataset.batch(7), dataset.batch(100)):
                assert first_pixels(open_source(fed, "x")) == list(range(100))


def test_arrays_of_every_shape():
    colour = np.repeat(NUMBERED[..., None], 3, axis=-1)
    for array in (NUMBERED, NUMBERED[..., None], colour):
        source = open_source(array, "x")
        assert (source.kind, source.count) == ("array", 100)
        assert first_pixels(source) == list(range(100))


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 8, 1), (8, 8), (8,), (2, 2, 8, 8, 3)], ids=str)
def test_one_image_is_not_taken_for_many(shape):
    # [H, W, 3] read as [N, H, W] would be H images three pixels wide, and a FID of nonsense.
    one = np.zeros(shape, np.uint8)
    with pytest.raises(DataError, match=r"x: array of shape \("):
        open_source(one, "x")
    with pytest.raises(DataError, match=r"x: the callable returned shape \("):
        list(prepared_images(open_source(lambda count: one, "x", 3), TINY))


def test_datasets_of_no_images_are_refused():
    import tensorflow as tf

    for dataset in (tf.data.Dataset.range(3), tf.data.Dataset.range(8).batch(4)):
        with pytest.raises(DataError, match="x: the dataset's elements have shape"):
            list(prepared_images(open_source(dataset, "x"), TINY))
    floats = tf.data.Dataset.from_tensor_slices(NUMBERED / 255)
    with pytest.raises(DataError, match=r"x\[0\]: pixels are float64 .*, expected uint8"):
        list(prepared_images(open_source(floats, "x"), TINY))


def test_a_callable_is_asked_until_there_are_enough():
    asked = []

    def three_at_most(count):
        start = 3 * len(asked)
        asked.append(count)
        return NUMBERED[start : start + min(count, 3)]

    assert first_pixels(open_source(three_at_most, "x", 10)) == list(range(10))
    assert asked == [10, 7, 4, 1]


def test_a_callable_is_not_asked_for_more_than_fits_in_memory():
    asked = []

    def as_asked(count):
        asked.append(count)
        return NUMBERED[:count]

    assert len(first_pixels(open_source(as_asked, "x", 150))) == 150
    assert asked == [64, 64, 22]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("array", "real images: 100%"), ("callable", "real images: 100%"), ("dataset", "70it")],
)
def test_progress_shows_for_every_kind_of_source(kind, expected, monkeypatch):
    import tensorflow as tf

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    images, clock = np.zeros((70, 8, 8), np.uint8), itertools.count()
    made = {
        "array": images,
        "callable": lambda count: images[:count],
        "dataset": tf.data.Dataset.from_tensor_slices(images).batch(20),
    }
    source = open_source(made[kind], "real", 70)
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("tqdm.std.time", lambda: float(next(clock)))
    assert len(list(prepared_images(source, Preprocessing(8, 8)))) == 70
    assert expected in terminal.getvalue()


def test_what_is_no_source_is_reported():
    for wrong in (None, 3, [NUMBERED]):
        with pytest.raises(DataError, match="is no source of images"):
            open_source(wrong, "x")


def test_folder_with_a_damaged_image_names_it_and_gives_the_others(write_images):
    folder = write_images("set", NUMBERED[:5])
    (folder / "002.png").write_text("no image")
    source = open_source(str(folder), "real")
    assert (source.kind, source.count, source.dark_sixteen_bit) == ("folder", 5, 0)
    images = list(prepared_images(source, TINY))
    assert [image.name for image in images] == [f"{i:03d}.png" for i in range(5)]
    assert str(folder / "002.png") in str(images[2].error)
    assert images[2].pixels is None
    assert [image.pixels[0, 0] for image in images if not image.error] == [0, 1, 3, 4]


def test_dark_sixteen_bit_files_are_counted(write_images):
    folder = write_images("set", [np.full((8, 8), 4000, np.uint16)] * 3)
    assert open_source(folder, "real").dark_sixteen_bit == 3


def test_digests_are_of_the_images_own_pixels():
    hashers = [ImageHasher("ab" * 16), ImageHasher("cd" * 16)]
    image = np.random.default_rng(0).integers(0, 256, (30, 20), dtype=np.uint8)
    (prepared,) = prepared_images(open_source(image[None], "x"), TINY, hashers)
    assert prepared.digests == tuple(hasher.digest(image) for hasher in hashers)


def test_an_error_of_the_source_ends_the_work_and_the_threads():
    def loaders():
        for i in range(50):
            if i == 40:
                raise DataError("x: broke off")
            yield str(i), lambda: NUMBERED[0]

    before = threading.active_count()
    with pytest.raises(DataError, match="broke off"):
        list(prepared_images(ImageSource("array", "x", loaders()), TINY, workers=2))
    assert threading.active_count() == before


def test_images_not_yet_begun_are_dropped_on_closing():
    loaded = []
    go_on = threading.Event()

    def load(i):
        loaded.append(i)
        if i:
            go_on.wait(5)
        return NUMBERED[i]

    loaders = [(str(i), functools.partial(load, i)) for i in range(100)]
    images = prepared_images(ImageSource("array", "x", loaders), TINY, workers=1)
    next(images)
    threading.Timer(0.2, go_on.set).start()
    images.close()
    assert loaded in ([0], [0, 1])


def test_a_file_is_known_by_its_content(write_images):
    folder = write_images("set", NUMBERED[:3])
    keys = [content_key(load) for _, load in open_source(folder, "x").loaders]
    assert len(set(keys)) == 3
    (folder / "000.png").rename(folder / "9.png")
    assert [content_key(load) for _, load in open_source(folder, "x").loaders] == [
        keys[1], keys[2], keys[0]
    ]  # fmt: skip
    # A frame is part of a file, and no two frames are one image.
    frames = [functools.partial(str, folder / f"9.png#{i:04d}") for i in (1, 2)]
    assert len({*map(content_key, frames), keys[0]}) == 3
    assert content_key(functools.partial(str, folder / "missing.png")) is None
    assert all(content_key(load) is None for _, load in open_source(NUMBERED[:2], "x").loaders)


def test_what_is_known_is_not_decoded(write_images):
    folder = write_images("set", NUMBERED[:4])
    source = open_source(folder, "x")
    source.loaders = list(source.loaders)
    known = content_key(source.loaders[2][1])
    images = list(prepared_images(source, TINY, look_up={known: "found"}.get))
    assert [image.found for image in images] == [None, None, "found", None]
    assert images[2].pixels is None
    assert all(
        image.key == content_key(load)
        for image, (_, load) in zip(images, source.loaders, strict=True)
    )


def test_a_file_written_to_while_it_is_read_has_no_key(write_images):
    folder = write_images("set", NUMBERED[:1])
    path = folder / "000.png"

    def load(path):
        path.write_bytes(b"another content")
        return NUMBERED[0]

    source = ImageSource("folder", "x", [("000.png", functools.partial(load, path))])
    (image,) = prepared_images(source, TINY, look_up=lambda key: None)
    assert image.pixels is not None
    assert image.key is None
