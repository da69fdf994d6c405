"""Tests the input pipeline: decoding, shuffling, batching and augmentation."""

import os

import numpy as np
import pytest
from scipy import ndimage

from fid_med.data.labelled import LabelledImages
from fid_med.data.preprocessing import Preprocessing
from fid_med.errors import DataError, UnreadableImageError
from fid_med.training import input_pipeline
from fid_med.training.augmentation import NUM_DRAWS, Augmentation
from fid_med.utils.hashing import ImageHasher

NUM = 23
PIXELS = np.arange(NUM, dtype=np.uint8)[:, None, None, None] * np.ones((1, 6, 6, 1), np.uint8)
LABELS = (np.arange(NUM) > 11).astype(int)
WEIGHTS = np.arange(NUM) / 10


def epochs(count, members=None, **options):
    """Returns the image indices of each epoch; checks labels and weights."""
    members = np.arange(NUM) if members is None else members
    options = {"batch_size": 5, "seed": 3, "augmentation": None} | options
    batches = iter(input_pipeline.training_batches(PIXELS, LABELS, WEIGHTS, members, **options))
    found = []
    for _ in range(count):
        order = []
        while len(order) < len(members):
            images, labels, weights = (x.numpy() for x in next(batches))
            assert images.shape[1:] == (6, 6, 3)
            index = images[:, 0, 0, 0].astype(int)
            np.testing.assert_array_equal(labels, LABELS[index])
            np.testing.assert_allclose(weights, WEIGHTS[index])
            order += index.tolist()
        found.append(order)
    return found


def test_each_epoch_is_another_permutation():
    members = np.arange(2, 22)
    found = epochs(3, members)
    for order in found:
        assert sorted(order) == members.tolist()
    assert found[0] != found[1] != found[2]


def test_order_depends_on_seed_and_epoch():
    assert epochs(4) == epochs(4)
    assert epochs(4)[2:] == epochs(2, first_epoch=2)
    assert epochs(1) != epochs(1, seed=4)


def test_images_sorted_by_label_are_shuffled():
    order = epochs(1)[0]
    # Correlation of label and position; 0.87 without shuffling.
    assert abs(np.corrcoef(np.arange(NUM), LABELS[order])[0, 1]) < 0.6
    assert len(set(LABELS[order[:8]])) == 2


def test_augmentation_depends_on_seed_and_epoch():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)

    def images(seed, first_epoch):
        batches = input_pipeline.training_batches(
            pixels, np.zeros(4, int), np.ones(4), np.arange(4), batch_size=4, seed=seed,
            augmentation=Augmentation(), first_epoch=first_epoch,
        )  # fmt: skip
        return next(iter(batches))[0].numpy()

    np.testing.assert_array_equal(images(0, 0), images(0, 0))
    assert (images(0, 0) != images(0, 1)).any()
    assert (images(0, 0) != images(1, 0)).any()


def labelled(arrays):
    loaders = [lambda array=array: array for array in arrays]
    return LabelledImages("x", list("abcdef")[: len(arrays)], loaders, np.zeros(1, int), ("u", "v"))


@pytest.mark.parametrize("limit", [1 << 30, 0], ids=["memory", "file"])
@pytest.mark.parametrize("colour_at", [None, 0, 2])
def test_images_are_decoded_once(limit, colour_at, tmp_path, monkeypatch):
    monkeypatch.setattr(input_pipeline, "MEMORY_LIMIT", limit)
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (8, 8), dtype=np.uint8) for _ in range(4)]
    if colour_at is not None:
        arrays[colour_at] = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    hasher = ImageHasher("00" * 16)
    pixels, digests = input_pipeline.decode_images(
        labelled(arrays), Preprocessing(8, 8), hasher, tmp_path
    )
    assert isinstance(pixels, np.memmap) == (limit == 0)
    assert pixels.shape == (4, 8, 8, 1 if colour_at is None else 3)
    for array, decoded in zip(arrays, pixels, strict=True):
        np.testing.assert_array_equal(
            decoded, np.broadcast_to(array if array.ndim == 3 else array[..., None], decoded.shape)
        )
    assert digests == [hasher.digest(array) for array in arrays]
    assert not list(tmp_path.iterdir())


def test_plain_batches_keep_the_order_and_repeat_grey_channels():
    batches = list(input_pipeline.plain_batches(PIXELS, np.array([5, 3, 9]), 2))
    assert [len(batch) for batch in batches] == [2, 1]
    np.testing.assert_array_equal(np.concatenate(batches)[:, 0, 0], [[5] * 3, [3] * 3, [9] * 3])


def smooth(count=2, size=48):
    noise = np.random.default_rng(0).uniform(0, 255, (count, size, size))
    return ndimage.gaussian_filter(noise, (0, 3, 3)).astype(np.float32)


def augmented(images, augmentation, draws):
    draws = np.tile(np.float32([*draws, *[0.5] * (NUM_DRAWS - 4)]), (len(images), 1))
    return augmentation.apply(images[..., None], draws).numpy()[..., 0]


def test_no_augmentation_is_the_identity():
    images = smooth()
    obtained = augmented(images, Augmentation(0.0, 1.0), [0.3, 0.7, 0.2, 0.9])
    np.testing.assert_allclose(obtained, images, atol=1e-3)


def test_rotation_is_by_the_drawn_angle_and_fills_with_black():
    images = smooth() + 50
    obtained = augmented(images, Augmentation(30.0, 1.0), [1.0, 0.5, 0.5, 0.5])  # 30 degrees
    expected = ndimage.rotate(images, -30, axes=(1, 2), reshape=False, order=1, mode="constant")
    opposite = ndimage.rotate(images, 30, axes=(1, 2), reshape=False, order=1, mode="constant")
    inner = np.s_[:, 10:-10, 10:-10]
    errors = [np.abs(obtained - x)[inner].max() for x in (expected, opposite)]
    assert min(errors) < 0.05
    assert max(errors) > 10
    assert obtained[0, 0, 0] == 0


def test_crop_has_the_drawn_size_and_position():
    images = smooth()
    obtained = augmented(
        images, Augmentation(0.0, 0.5), [0.5, 1.0, 0.0, 1.0]
    )  # upper right quarter
    rows, columns = np.mgrid[0:48, 0:48].astype(float)
    source = [rows / 2, columns / 2 + 47 / 2]  # from corner to corner of the quarter
    for image, crop in zip(images, obtained, strict=True):
        expected = ndimage.map_coordinates(image, source, order=1)
        np.testing.assert_allclose(crop, expected, atol=0.05)


@pytest.mark.parametrize("batch_size", [1, 5, 23, 100])
def test_every_epoch_ends_with_the_remaining_images(batch_size):
    batches = iter(
        input_pipeline.training_batches(
            PIXELS,
            LABELS,
            WEIGHTS,
            np.arange(NUM),
            batch_size=batch_size,
            seed=0,
            augmentation=None,
        )
    )
    full, rest = divmod(NUM, batch_size)
    expected = ([batch_size] * full + [rest] * bool(rest)) * 2
    assert [len(next(batches)[0]) for _ in expected] == expected


def test_order_does_not_depend_on_the_batch_size():
    assert epochs(2, batch_size=4) == epochs(2, batch_size=7)


def test_every_image_takes_every_position():
    positions = np.array([np.argsort(order) for order in epochs(200, batch_size=23)])
    # The mean position over 200 epochs has a standard deviation of 0.47 around 11.
    np.testing.assert_allclose(positions.mean(axis=0), 11, atol=2.4)


def test_augmented_images_keep_their_labels_and_weights():
    batches = iter(
        input_pipeline.training_batches(
            PIXELS,
            LABELS,
            WEIGHTS,
            np.arange(NUM),
            batch_size=5,
            seed=0,
            augmentation=Augmentation(20.0, 0.7),
        )
    )
    seen = []
    for _ in range(5):
        images, labels, weights = (x.numpy() for x in next(batches))
        index = np.rint(images[:, 2, 2, 0]).astype(int)  # the middle of a flat image stays
        np.testing.assert_array_equal(labels, LABELS[index])
        np.testing.assert_allclose(weights, WEIGHTS[index])
        seen += index.tolist()
    assert sorted(seen) == list(range(NUM))


def test_augmentation_of_an_image_does_not_depend_on_the_batch_size():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (6, 16, 16, 1), dtype=np.uint8)

    def images(batch_size):
        batches = input_pipeline.training_batches(
            pixels, np.zeros(6, int), np.ones(6), np.arange(6), batch_size=batch_size, seed=0,
            augmentation=Augmentation(), first_epoch=3,
        )  # fmt: skip
        return np.concatenate([batch[0] for batch in batches.take(6 // batch_size)])

    np.testing.assert_allclose(images(6), images(2), atol=1e-3)


def test_a_full_disk_is_an_error_before_decoding(tmp_path, monkeypatch):
    def full(file, offset, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(input_pipeline, "MEMORY_LIMIT", 0)
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    images = labelled([np.zeros((8, 8), np.uint8)] * 4)
    with pytest.raises(DataError, match=r"no space for .* GB .*No space left.*--output_dir"):
        input_pipeline.decode_images(images, Preprocessing(8, 8), ImageHasher("00" * 16), tmp_path)
    assert not list(tmp_path.iterdir())


def test_decoding_names_an_unreadable_image(tmp_path):
    def fail():
        raise UnreadableImageError("c.png: cannot be read")

    images = labelled([np.zeros((8, 8), np.uint8)] * 4)
    images.loaders[2] = fail
    with pytest.raises(UnreadableImageError, match=r"c\.png"):
        input_pipeline.decode_images(images, Preprocessing(8, 8), ImageHasher("00" * 16), tmp_path)


def test_decoding_hashes_the_pixels_before_resizing_them(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (30, 20), dtype=np.uint8)
    hasher = ImageHasher("00" * 16)
    preprocessing = Preprocessing(8, 12, aspect="pad")
    pixels, digests = input_pipeline.decode_images(
        labelled([image, image]), preprocessing, hasher, tmp_path
    )
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels[1, ..., 0], preprocessing.apply(image))
    assert digests == [hasher.digest(image)] * 2


def test_draws_are_uniform_and_independent_between_epochs_and_columns():
    drawn = [input_pipeline.epoch_draws(5, epoch, 400)[1].numpy() for epoch in range(3)]
    columns = np.concatenate(drawn, axis=1).T
    assert columns.shape == (3 * NUM_DRAWS, 400)
    np.testing.assert_allclose(columns.mean(axis=1), 0.5, atol=0.07)
    np.testing.assert_allclose(columns.std(axis=1), 12**-0.5, atol=0.04)
    # Of independent columns, 400 numbers correlate by 0.05 at one standard deviation.
    assert np.abs(np.corrcoef(columns) - np.eye(len(columns))).max() < 0.25
    assert (input_pipeline.epoch_draws(6, 0, 400)[1].numpy() != drawn[0]).all()


def test_augmented_examples_equal_the_training_batches():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (9, 16, 16, 1), dtype=np.uint8)
    members, augmentation = np.array([8, 1, 2, 6, 4]), Augmentation(translation=0.1, gamma=0.5)
    options = {"seed": 2, "augmentation": augmentation}
    shown = input_pipeline.augmented_examples(
        pixels, members, np.array([1, 3]), epochs=2, **options
    )
    assert (shown.shape, shown.dtype) == ((2, 3, 16, 16, 1), np.uint8)
    np.testing.assert_array_equal(shown[:, 0], pixels[[1, 6]])
    # Labels identify the images.
    batches = input_pipeline.training_batches(
        pixels, np.arange(9), np.ones(9), members, batch_size=5, **options
    )
    for epoch, (images, labels, _) in enumerate(batches.take(2)):
        for row, member in enumerate((1, 6)):
            fed = images[np.flatnonzero(labels.numpy() == member)[0], ..., :1].numpy()
            np.testing.assert_allclose(shown[row, 1 + epoch], fed, atol=0.5001)


def test_several_labels_per_image_are_returned():
    labels = np.random.default_rng(0).random((NUM, 3)).astype(np.float32)
    batches = input_pipeline.training_batches(
        PIXELS, labels, WEIGHTS, np.arange(NUM), batch_size=5, seed=0, augmentation=None
    )
    images, given, _ = next(iter(batches))
    np.testing.assert_array_equal(given, labels[images.numpy()[:, 0, 0, 0].astype(int)])
