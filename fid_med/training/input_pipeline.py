"""Input of the training: images decoded once, then shuffled, batched and augmented by tf.data."""

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


def decode_images(
    images: LabelledImages,
    preprocessing: Preprocessing,
    hasher: ImageHasher,
    scratch_dir: pathlib.Path,
) -> tuple[np.ndarray, list[str]]:
    """Decodes and resizes every image once.

    Args:
      images: N labelled images.
      preprocessing: gives the size; the resize mode must be `antialias`.
      hasher: hashes the pixels of each image before resizing.
      scratch_dir: folder for a temporary file that holds the pixels if they exceed `MEMORY_LIMIT`
        bytes (2 GiB). The file is anonymous and disappears with the process.

    Returns:
      uint8 [N, height, width, c] with c = 1 if every image is grey, else 3; and N digests.

    Raises:
      UnreadableImageError: an image cannot be read; the first one is named.
      DataError: there is not enough disk space for the temporary file.
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
            wider = _allocate(shape, scratch_dir)
            if pixels is not None:
                wider[:i] = pixels[:i]
            pixels = wider
        pixels[i] = image.pixels[..., None] if channels == 1 else image.pixels
        digests.append(image.digests[0])
    return pixels, digests


def _allocate(shape, scratch_dir):
    size = math.prod(shape)
    if size <= MEMORY_LIMIT:
        return np.empty(shape, np.uint8)
    scratch_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=scratch_dir) as file:
        try:
            file.truncate(size)
            if hasattr(os, "posix_fallocate"):  # not on macOS
                # Writing to a mapped file on a full disk would kill the process later.
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise DataError(
                f"{scratch_dir}: no space for {size / 1e9:.3g} GB of decoded images "
                f"({error.strerror}); free disk space, or choose an --output_dir on a larger disk"
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
    """Makes an infinite data set of training batches, epoch after epoch.

    Each epoch is a full shuffle and ends with a smaller batch if needed. Order and augmentation
    depend only on seed, epoch and image, so training can be resumed at any epoch.

    Args:
      pixels: uint8 [N, h, w, c], from `decode_images`; or features, float32 [N, d], with
        `augmentation` None.
      labels: int64 [N] or float32 [N, K].
      weights: float [N], weight of each image in the loss.
      members: int [n], indices of the training images.
      batch_size: B, images per batch.
      seed: seed of order and augmentation.
      augmentation: applied to the images; None for no augmentation.
      first_epoch: number of the first epoch, from 0.

    Returns:
      A data set of (images float32 [B, h, w, 3] in 0 to 255 or features [B, d], labels [B] or
      [B, K], weights float32 [B]).
    """
    members = tf.constant(members, tf.int64)

    def make_epoch(epoch):
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

    epochs = tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max).flat_map(make_epoch)
    batches = epochs.map(finish, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return batches.prefetch(tf.data.AUTOTUNE)


def distribute(batches: tf.data.Dataset, strategy: tf.distribute.Strategy):
    """Gives each device of a strategy every batch, of which `TrainingModel` takes its share.

    TensorFlow's own division of a batch leaves a device without images where there are fewer
    images than devices.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return batches

    def repeat(*batch):
        return tf.data.Dataset.from_tensors(batch).repeat(replicas)

    return strategy.distribute_datasets_from_function(lambda _: batches.flat_map(repeat))


def epoch_draws(seed: int, epoch, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws the random numbers of an epoch, which depend only on seed and epoch.

    Args:
      seed: seed of the run.
      epoch: number of the epoch, from 0; an int or an integer tensor.
      count: n, number of images.

    Returns:
      int32 [n], the shuffled order of the images, and float32 [n, NUM_DRAWS], the draws of
      `Augmentation.apply` for the images in their original order.
    """
    seed, epoch = tf.constant(seed, tf.int64), tf.cast(epoch, tf.int64)
    uniform = tf.random.stateless_uniform([count, 1 + _FIRST_DRAWS], tf.stack([seed, epoch]))
    # The first draws came with an earlier version: the others use another key, so that a seed
    # still gives the same order and the same first draws.
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
    """Augments some training images as in the first epochs of training.

    Args:
      pixels: uint8 [N, h, w, c], from `decode_images`.
      members: int [n], indices of the training images.
      shown: int [s], positions in `members` of the images to return.
      epochs: number of epochs.
      seed: as for `training_batches`.
      augmentation: as for `training_batches`.

    Returns:
      uint8 [s, 1 + epochs, h, w, c]: each image unchanged, then as in epoch 1, 2, ...
    """
    originals = pixels[members[shown]]
    columns = [originals]
    for epoch in range(epochs):
        _, draws = epoch_draws(seed, epoch, len(members))
        moved = augmentation.apply(originals, tf.gather(draws, shown)).numpy()
        columns.append(np.rint(moved).astype(np.uint8))
    return np.stack(columns, axis=1)


def _gather(pixels, labels, weights, index):
    def rows(index):
        return pixels[index], labels[index], weights[index].astype(np.float32)

    dtypes = [tf.as_dtype(pixels.dtype), tf.as_dtype(labels.dtype), tf.float32]
    return tf.numpy_function(rows, [index], dtypes, stateful=False)


def _rgb(images):
    return tf.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


def plain_batches(pixels: np.ndarray, members: np.ndarray, batch_size: int):
    """Yields the images `members` in their order as float32 [B, h, w, 3], without augmentation."""
    for start in range(0, len(members), batch_size):
        batch = np.asarray(pixels[members[start : start + batch_size]], np.float32)
        yield np.repeat(batch, 3, axis=-1) if batch.shape[-1] == 1 else batch
