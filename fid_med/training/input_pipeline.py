"""Pixels decoded once, then fed to training by tf.data in a full, seeded shuffle."""

import math
import os
import pathlib
import tempfile

import numpy as np
import tensorflow as tf

from fid_med.data.labelled import LabelledImages
from fid_med.data.preprocessing import Preprocessing
from fid_med.data.sources import ImageSource, prepared_images
from fid_med.errors import DataError
from fid_med.training.augmentation import NUM_DRAWS, Augmentation
from fid_med.utils.hashing import ImageHasher

MEMORY_LIMIT = 2 << 30
_FIRST_DRAWS = 4


def decode(
    images: LabelledImages,
    preprocessing: Preprocessing,
    hasher: ImageHasher,
    scratch: pathlib.Path,
) -> tuple[np.ndarray, list[str]]:
    """Decodes and resizes every image once.

    Args:
      images: N labelled images.
      preprocessing: gives the size; resize mode `antialias`.
      hasher: hashes each image's own pixels.
      scratch: folder for a file of pixels where they exceed `MEMORY_LIMIT` bytes (2 GiB); the file
        has no name and goes with the process.

    Returns:
      uint8 [N, height, width, c], c = 1 where every image is grey and 3 elsewhere, and N digests.

    Raises:
      UnreadableImageError: the first image that cannot be read.
      DataError: no space on disk for that file.
    """
    source = ImageSource(
        "labelled", images.name, zip(images.names, images.loaders, strict=True), len(images)
    )
    pixels, digests = None, []
    for i, image in enumerate(prepared_images(source, preprocessing, [hasher])):
        if image.error:
            raise image.error
        channels = 1 if image.pixels.ndim == 2 else 3
        if pixels is None or channels > pixels.shape[-1]:
            shape = (len(images), preprocessing.height, preprocessing.width, channels)
            wider = _allocate(shape, scratch)
            if pixels is not None:
                wider[:i] = pixels[:i]
            pixels = wider
        pixels[i] = image.pixels[..., None] if channels == 1 else image.pixels
        digests.append(image.digests[0])
    return pixels, digests


def _allocate(shape, scratch):
    size = math.prod(shape)
    if size <= MEMORY_LIMIT:
        return np.empty(shape, np.uint8)
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=scratch) as file:
        try:
            file.truncate(size)
            if hasattr(os, "posix_fallocate"):  # not on macOS
                # Writing to a mapped file on a full disk kills the process: better told now.
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise DataError(
                f"{scratch}: no place for {size / 1e9:.3g} GB of decoded images "
                f"({error.strerror}); free some, or choose an --output_dir on a larger disk"
            ) from None
        return np.memmap(file, np.uint8, "r+", shape=shape)


def training_batches(
    pixels: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    members: np.ndarray,
    *,
    batch_size: int,
    seed: int,
    augmentation: Augmentation | None,
    first_epoch: int = 0,
) -> tf.data.Dataset:
    """Endless batches for training, an epoch after the other, each a full shuffle of its own.

    Order and augmentation are functions of (seed, epoch, image), so a run can be taken up at any
    epoch. Each epoch ends with its remainder as a smaller batch.

    Args:
      pixels: uint8 [N, h, w, c] of `decode`.
      labels: int64 [N], or float32 [N, K]; handed through.
      weights: float [N], weight of each image in the loss.
      members: int [n], the images to train on.
      batch_size, seed: as named.
      augmentation: what to do to the images, or None.
      first_epoch: number of the epoch to begin with.

    Returns:
      Elements (float32 [B, h, w, 3] from 0 to 255, labels [B] or [B, K], float32 [B]).
    """
    members = tf.constant(members, tf.int64)

    def epoch_of(epoch):
        order, draws = epoch_draws(seed, epoch, len(members))
        slices = (tf.gather(members, order), tf.gather(draws, order))
        return tf.data.Dataset.from_tensor_slices(slices).batch(batch_size)

    def finish(index, draws):
        images, label, weight = _gather(pixels, labels, weights, index)
        images.set_shape([None, *pixels.shape[1:]])
        images = augmentation.apply(images, draws) if augmentation else tf.cast(images, tf.float32)
        label.set_shape([None, *labels.shape[1:]])
        weight.set_shape([None])
        return _rgb(images), label, weight

    epochs = tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max).flat_map(epoch_of)
    batches = epochs.map(finish, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return batches.prefetch(tf.data.AUTOTUNE)


def epoch_draws(seed: int, epoch, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The chance of an epoch: a function of seed and epoch, and of nothing that went before.

    Args:
      seed, epoch: the key.
      count: n, the number of images.

    Returns:
      int32 [n], the order of the images, and float32 [n, NUM_DRAWS], how each of them is augmented,
      in the order before that.
    """
    seed, epoch = tf.constant(seed, tf.int64), tf.cast(epoch, tf.int64)
    uniform = tf.random.stateless_uniform([count, 1 + _FIRST_DRAWS], tf.stack([seed, epoch]))
    # Draws of later years come from a key of their own, so that the first stay what they were.
    more = tf.random.stateless_uniform(
        [count, NUM_DRAWS - _FIRST_DRAWS], tf.stack([seed, -1 - epoch])
    )
    return tf.argsort(uniform[:, 0]), tf.concat([uniform[:, 1:], more], axis=1)


def augmented_examples(
    pixels: np.ndarray,
    members: np.ndarray,
    shown: np.ndarray,
    *,
    epochs: int,
    seed: int,
    augmentation: Augmentation,
) -> np.ndarray:
    """Images as training will see them in its first epochs.

    Args:
      pixels: uint8 [N, h, w, c] of `decode`.
      members: int [n], the images to train on.
      shown: int [s], places in `members` of the images to look at.
      epochs: how many.
      seed, augmentation: as for `training_batches`.

    Returns:
      uint8 [s, 1 + epochs, h, w, c]: each image untouched, then as in epoch 1, 2, ...
    """
    untouched = pixels[members[shown]]
    columns = [untouched]
    for epoch in range(epochs):
        _, draws = epoch_draws(seed, epoch, len(members))
        moved = augmentation.apply(untouched, tf.gather(draws, shown)).numpy()
        columns.append(np.rint(moved).astype(np.uint8))
    return np.stack(columns, axis=1)


def _gather(pixels, labels, weights, index):
    kind = tf.as_dtype(labels.dtype)

    def rows(index):
        return pixels[index], labels[index], weights[index].astype(np.float32)

    return tf.numpy_function(rows, [index], [tf.uint8, kind, tf.float32], stateful=False)


def _rgb(images):
    return tf.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


def plain_batches(pixels: np.ndarray, members: np.ndarray, batch_size: int):
    """Yields float32 [B, h, w, 3] of the named images in their order, untouched."""
    for start in range(0, len(members), batch_size):
        batch = np.asarray(pixels[members[start : start + batch_size]], np.float32)
        yield np.repeat(batch, 3, axis=-1) if batch.shape[-1] == 1 else batch
