"""FID in the training loop: a Keras callback that measures a generator as it learns."""

import contextlib
import inspect
import math
import os
import random
import time
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from fid_med.data.images import check_pixels
from fid_med.errors import DataError
from fid_med.evaluation.account import SMALL_SAMPLE, small_sample_warnings
from fid_med.evaluation.compute import compute_statistics
from fid_med.evaluation.extraction import empty_statistics
from fid_med.evaluation.inputs import is_statistics
from fid_med.metrics.frechet import factored, frechet_distance
from fid_med.metrics.statistics import FeatureStatistics, check_comparable
from fid_med.utils.progress import warn
from fid_med.utils.tensorboard import write_scalar


class FIDCallback(keras.callbacks.Callback):
    """Measures the FID of a generator every few epochs of its training.

    The extractor and the reference are loaded once, when the callback is made. Each measurement
    generates the same images (from the same latent vectors or seeds), so that epochs differ only by
    the generator. The training's random numbers and its dtype policy are left unchanged, and the
    extractor computes in float32 whatever the policy.

    `logs["fid"]` is set for the history and for later callbacks: list this callback before
    `CSVLogger`, `TensorBoard` or `ModelCheckpoint(monitor="fid", mode="min")`. It is NaN in epochs
    without a measurement. If the generator returns NaN or infinity, it is NaN too, with a warning,
    and the training continues.

    Example:

    ```python
    import keras
    import fid_med

    generator = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(80 * 80, activation="tanh"),
            keras.layers.Reshape((80, 80, 1)),
        ]
    )
    fid = fid_med.FIDCallback(
        generator, "real_images", "chest/extractor.keras", output_range=(-1, 1), num_generated=16
    )
    print(fid.measure())
    ```

    In training, it is one of the callbacks: `gan.fit(dataset, epochs=100, callbacks=[fid])`.

    Attributes:
      results: a dict for each measurement: `epoch` from 0, `fid`, `seconds`.
      reference: `FeatureStatistics` of the real images.
      extractor: the loaded `FeatureExtractor`.
    """

    def __init__(
        self,
        generator: keras.Model | Callable[..., np.ndarray],
        reference,
        extractor="imagenet",
        *,
        output_range: tuple[float, float] | None = None,
        latent_dim: int | None = None,
        every: int = 1,
        num_generated: int = SMALL_SAMPLE,
        batch_size: int = 32,
        seed: int = 0,
        log_dir=None,
        name: str = "fid",
    ):
        """Loads the extractor and computes the reference.

        Args:
          generator: a Keras model from latent vectors, float32 [B, latent_dim], standard normal, to
            images [B, H, W, 1] or [B, H, W, 3] of any float dtype; or a callable that takes a count
            and returns up to that many images, uint8 [n, H, W] or [n, H, W, 3]. A callable with a
            parameter `seed` receives one, the same in every epoch. Otherwise the global generators
            of NumPy and Python are seeded for the call, and TensorFlow's is not.
          reference: real images: `FeatureStatistics`, the path of their `.npz`, a folder, an array
            or a dataset, as for `compute_fid`.
          extractor: a `FeatureExtractor`, or a name or path as for `load_extractor`.
          output_range: values of black and of white in the generator model's output, such as
            (-1, 1); required for a model.
          latent_dim: length of a latent vector; by default that of the model's input.
          every: number of epochs between measurements; the last epoch is always measured.
          num_generated: number of images per measurement. FIDs of different counts are not
            comparable.
          batch_size: number of images per pass through the extractor.
          seed: seed of the latent vectors.
          log_dir: folder for TensorBoard's scalar; by default none is written.
          name: name of the value in the logs and in TensorBoard.

        Raises:
          FidMedError: a reference or an extractor that cannot be used, or of different extractors.
          DataError: a model without `output_range`, or counts below their minimum.
        """
        super().__init__()
        if every < 1 or num_generated < 2:
            raise DataError(
                f"every {every}, num_generated {num_generated}: expected at least 1 epoch and 2 "
                "images"
            )
        self._every, self._count, self._batch_size = every, num_generated, batch_size
        self._seed, self._name, self._writer, self._log_dir = seed, name, None, log_dir
        is_model = isinstance(generator, keras.Model)
        self._source = (
            _model_source(generator, latent_dim, output_range, num_generated, seed)
            if is_model
            else _callable_source(generator, seed)
        )
        self._ready = not is_model or generator.built
        self.results: list[dict] = []
        with _undisturbed():
            self.extractor = _loaded(extractor)
            self.reference = _reference(reference, self.extractor, batch_size)
        # Factored once: it would cost as much as some hundred images in every measurement.
        few = num_generated <= self.reference.dim
        self._compared = factored(self.reference) if few else self.reference
        for line in small_sample_warnings([self.reference.count, num_generated]):
            warn(line)

    def on_train_begin(self, logs=None):
        """Asks for two images, so that an unsuitable generator fails before the first epoch."""
        if self._ready:
            with _undisturbed(self._seed), contextlib.suppress(_NotFinite):
                for image in self._source()(2):
                    check_pixels(image, "generated image")

    def on_epoch_end(self, epoch, logs=None):
        """Measures the FID if it is due, and adds it to the logs."""
        last = epoch + 1 == (self.params or {}).get("epochs")
        value = math.nan
        if (epoch + 1) % self._every == 0 or last:
            value = self._measure(epoch)
        if logs is not None:
            logs[self._name] = value

    def on_train_end(self, logs=None):
        """Closes TensorBoard's file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _measure(self, epoch):
        start = time.perf_counter()
        try:
            value = self.measure()
        except _NotFinite as error:
            warn(f"epoch {epoch + 1}: {error}")
            value = math.nan
        self.results.append({"epoch": epoch, "fid": value, "seconds": time.perf_counter() - start})
        if self._log_dir is not None:
            self._writer = self._writer or tf.summary.create_file_writer(os.fspath(self._log_dir))
            with self._writer.as_default(step=epoch):
                write_scalar(self._name, value)
            self._writer.flush()
        return value

    def measure(self) -> float:
        """Returns the FID of the generator in its present state."""
        with _undisturbed(self._seed):
            generated, _, _ = compute_statistics(
                self._source(),
                self.extractor,
                name="generated",
                batch_size=self._batch_size,
                num_images=self._count,
            )
            return frechet_distance(self._compared, generated)


class _NotFinite(Exception):
    """The generator returned NaN or infinity."""


@contextlib.contextmanager
def _undisturbed(seed: int | None = None) -> Iterator[None]:
    """Restores the dtype policy and the global random states at the end of the block.

    Inside, the policy is float32, and NumPy and Python are seeded if a seed is given. Keras draws
    the weights of a new network from Python's generator.
    """
    policy, python, numpy = keras.config.dtype_policy(), random.getstate(), np.random.get_state()
    try:
        keras.config.set_dtype_policy("float32")
        if seed is not None:
            random.seed(seed)
            np.random.seed(seed % 2**32)
        yield
    finally:
        keras.config.set_dtype_policy(policy)
        random.setstate(python)
        np.random.set_state(numpy)


def _loaded(extractor):
    if not isinstance(extractor, (str, os.PathLike)):
        return extractor
    from fid_med.extractors.registry import load_extractor

    return load_extractor(extractor)


def _reference(reference, extractor, batch_size):
    if is_statistics(reference):
        reference = FeatureStatistics.load(reference)
    if isinstance(reference, FeatureStatistics):
        lines = check_comparable(reference, empty_statistics(extractor))
    else:
        reference, _, lines = compute_statistics(
            reference, extractor, name="reference", batch_size=batch_size
        )
    for line in lines:
        warn(line)
    return reference


def _model_source(model, latent_dim, output_range, count, seed):
    """A function that opens the generator from its first image: from a count to its next images."""
    if output_range is None or not output_range[0] < output_range[1]:
        raise DataError(
            f"output_range {output_range}: give the model's values of black and white, such as "
            "(-1, 1)"
        )
    latent_dim = latent_dim or _latent_dim(model)
    latents = np.random.default_rng(seed).standard_normal((count, latent_dim), np.float32)
    black, white = output_range

    @tf.function(input_signature=[tf.TensorSpec((None, latent_dim), tf.float32)])
    def images_of(batch):
        return tf.cast(model(batch, training=False), tf.float32)

    def opened():
        seen = 0

        def following(number):
            nonlocal seen
            images = images_of(latents[seen : seen + number]).numpy()
            seen += number
            if not np.isfinite(images).all():
                raise _NotFinite("the generator returned NaN or infinity, no FID")
            pixels = (images - black) * (255 / (white - black))
            return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)

        return following

    return opened


def _latent_dim(model):
    shape = getattr(model, "input_shape", None)
    if isinstance(shape, tuple) and len(shape) == 2 and shape[-1]:
        return shape[-1]
    raise DataError(
        f"generator {model.name}: unknown length of a latent vector (input shape {shape}); give "
        "latent_dim, or a callable that takes a count and returns images"
    )


def _callable_source(generator, seed):
    if not callable(generator):
        raise DataError(
            f"generator {type(generator).__name__}: expected a Keras model, or a callable that "
            "takes a count and returns uint8 images"
        )
    seeded = False
    with contextlib.suppress(TypeError, ValueError):  # a callable may have no signature
        seeded = "seed" in inspect.signature(generator).parameters

    def opened():
        # Each call gets a seed of its own, or all batches would hold the same images.
        seeds = iter(range(seed, seed + 2**31))
        return lambda count: generator(count, **({"seed": next(seeds)} if seeded else {}))

    return opened
