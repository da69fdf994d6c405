"""Pixels decoded once, then fed to training by tf.data in a full, seeded shuffle."""

import pathlib
import tempfile

import numpy as np
import tensorflow as tf

from fid_med.data.augmentation import NUM_DRAWS, Augmentation
from fid_med.data.labelled import LabelledImages
from fid_med.data.preprocessing import Preprocessing
from fid_med.data.sources import ImageSource, prepared_images
from fid_med.fingerprints import ImageHasher

MEMORY_LIMIT = 2 << 30


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
    if np.prod(shape, dtype=np.int64) <= MEMORY_LIMIT:
        return np.empty(shape, np.uint8)
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=scratch) as file:
        return np.memmap(file, np.uint8, "w+", shape=shape)


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
      labels: int [N].
      weights: float [N], weight of each image in the loss.
      members: int [n], the images to train on.
      batch_size, seed: as named.
      augmentation: what to do to the images, or None.
      first_epoch: number of the epoch to begin with.

    Returns:
      Elements (float32 [B, h, w, 3] from 0 to 255, int64 [B], float32 [B]).
    """
    members = tf.constant(members, tf.int64)

    def epoch_of(epoch):
        # One stateless draw an epoch gives each image its place and how it is moved.
        key = tf.stack([tf.constant(seed, tf.int64), epoch])
        uniform = tf.random.stateless_uniform([len(members), 1 + NUM_DRAWS], key)
        order, draws = tf.argsort(uniform[:, 0]), uniform[:, 1:]
        slices = (tf.gather(members, order), tf.gather(draws, order))
        return tf.data.Dataset.from_tensor_slices(slices).batch(batch_size)

    def finish(index, draws):
        images, label, weight = _gather(pixels, labels, weights, index)
        images.set_shape([None, *pixels.shape[1:]])
        images = augmentation.apply(images, draws) if augmentation else tf.cast(images, tf.float32)
        label.set_shape([None])
        weight.set_shape([None])
        return _rgb(images), label, weight

    epochs = tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max).flat_map(epoch_of)
    # One batch at a time: within a batch the ops use every core, and prefetch works ahead.
    return epochs.map(finish).prefetch(tf.data.AUTOTUNE)


def _gather(pixels, labels, weights, index):
    def rows(index):
        return pixels[index], labels[index].astype(np.int64), weights[index].astype(np.float32)

    return tf.numpy_function(rows, [index], [tf.uint8, tf.int64, tf.float32], stateful=False)


def _rgb(images):
    return tf.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


def plain_batches(pixels: np.ndarray, members: np.ndarray, batch_size: int):
    """Yields float32 [B, h, w, 3] of the named images in their order, untouched."""
    for start in range(0, len(members), batch_size):
        batch = np.asarray(pixels[members[start : start + batch_size]], np.float32)
        yield np.repeat(batch, 3, axis=-1) if batch.shape[-1] == 1 else batch
