"""FID as a Keras metric: images are added in batches, in a training loop or in `evaluate`."""

import threading
from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

from fid_med.data.images import check_pixels
from fid_med.data.preprocessing import as_rgb_batch
from fid_med.data.sources import is_batch
from fid_med.errors import DataError, FidMedError, StatisticsError
from fid_med.evaluation.account import ImageAccount, small_sample_warnings
from fid_med.evaluation.extraction import empty_statistics
from fid_med.evaluation.generators import NotFiniteError, OutputRange
from fid_med.extractors.keras_settings import undisturbed
from fid_med.extractors.registry import loaded_extractor
from fid_med.metrics.frechet import frechet_distance
from fid_med.metrics.statistics import check_comparable
from fid_med.utils.progress import warn


class FIDMetric(keras.metrics.Metric):
    """Computes the FID of the real and generated images that it has been given since its reset.

    The value equals that of `compute_fid` for the same images. The state is count, mean and
    covariance of the features in float64 (`FeatureStatistics`), so memory does not grow with the
    number of images, and no batch size changes the value by more than rounding.

    `update_state` also works inside `tf.function`, and therefore in `fit` and `evaluate`. Images
    are resized as `compute_fid` resizes them, which TensorFlow has no operation for, so the graph
    calls Python there, and XLA cannot compile it. Keras uses XLA where there is a GPU: call
    `compile(jit_compile=False)`.

    `result` costs seconds, so it is computed only when it is called outside a graph. Inside a graph
    it is NaN. `evaluate` calls it once more after the last batch and reports that value, provided
    that `test_step` returns `self.get_metrics_result()`. The progress bar shows NaN until then.

    Among the `metrics` of `compile`, targets are the real images and outputs the generated ones, as
    in denoising or super-resolution.

    Example:

    ```python
    import keras
    import fid_med

    class GAN(keras.Model):
        def __init__(self, generator, extractor):
            super().__init__()
            self.generator = generator
            self.fid = fid_med.FIDMetric(extractor, output_range=(-1, 1))

        def test_step(self, real):
            latents = keras.random.normal((keras.ops.shape(real)[0], 4))
            self.fid.update_state(real=real, generated=self.generator(latents))
            return self.get_metrics_result()

    generator = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(80 * 80, activation="tanh"),
            keras.layers.Reshape((80, 80, 1)),
        ]
    )
    gan = GAN(generator, "chest/extractor.keras")
    gan.compile(jit_compile=False)
    radiographs, _ = fid_med.phantom_set(8, size=80)  # uint8 [8, 80, 80]
    print(gan.evaluate(radiographs, batch_size=4, return_dict=True)["fid"])

    # Without a model:
    fid = gan.fid
    fid.reset_state()
    fid.update_state(real=radiographs)
    fid.update_state(generated=radiographs[:5])
    fid.update_state(generated=radiographs[5:])
    assert abs(fid.result()) < 1e-6
    ```

    Attributes:
      extractor: the loaded `FeatureExtractor`.
      real: `FeatureStatistics` of the real images since the last reset.
      generated: the same of the generated images.
    """

    def __init__(
        self,
        extractor="imagenet",
        *,
        output_range: tuple[float, float] | None = None,
        name: str = "fid",
    ):
        """Loads the extractor.

        Args:
          extractor: a `FeatureExtractor`, or a name or path as for `load_extractor`.
          output_range: values of black and of white in images of a float dtype, such as (-1, 1).
            Images of uint8 are used as they are.
          name: name of the value in the logs.

        Raises:
          FidMedError: an extractor that cannot be loaded, or an impossible `output_range`.
        """
        super().__init__(dtype="float64", name=name)
        self._range = None if output_range is None else OutputRange(output_range)
        self._warned, self._lock = False, threading.Lock()
        with undisturbed():
            self.extractor = loaded_extractor(extractor)
        for line in self.extractor.warnings:
            warn(line)
        self.reset_state()

    def reset_state(self):
        """Forgets all images."""
        self.real = empty_statistics(self.extractor)
        self.generated = empty_statistics(self.extractor)
        self._error = None

    @tf.autograph.experimental.do_not_convert  # which would rewrite the line of an error
    def update_state(self, real=None, generated=None, sample_weight=None):
        """Adds real images, generated images, or both, in any numbers.

        Args:
          real: uint8 [B, H, W], [B, H, W, 1] or [B, H, W, 3]; or the same of a float dtype, with
            the metric's `output_range`.
          generated: the same.
          sample_weight: None; part of the signature because Keras passes it.

        Raises:
          DataError: another dtype or shape, floats without an `output_range`, or weights. Inside a
            graph, shapes are not known: `result` raises that error.
        """
        if sample_weight is not None:
            raise DataError(f"{self.name}: images cannot be weighted; leave out sample_weight")
        for side, images in (("real", real), ("generated", generated)):
            if images is None:
                continue
            if tf.is_symbolic_tensor(images):
                self._add_in_graph(images, side)
            else:
                images = self._checked(np.asarray(images), side)
                self._add(self.extractor.extract(images), side)

    def _add_in_graph(self, images, side):
        """Adds the images of a symbolic tensor whenever the graph runs.

        The network is part of the graph. Called within a Python function of the graph it could
        wait forever for the threads that such functions keep.
        """
        self._check_dtype(images.dtype, side)
        preprocessing = self.extractor.preprocessing
        dtype = tf.float32 if preprocessing.resize == "tf1" else tf.uint8
        shape = (preprocessing.height, preprocessing.width, 3)
        with tf.init_scope():
            network = self.extractor.compiled(dtype)

        def prepared(values):
            try:
                found = [] if self._error else self._checked(values, side)
            except FidMedError as error:  # within a graph, its line would be lost
                self._error, found = error, []
            pixels = [preprocessing.apply(image) for image in found]
            # One image alone is computed as one of two, as in `extract_batch`.
            filling = [np.zeros(shape, dtype.as_numpy_dtype)] * max(0, 2 - len(pixels))
            return as_rgb_batch(pixels + filling), len(pixels)

        pixels, count = tf.numpy_function(prepared, [images], [dtype, tf.int64])
        pixels.set_shape((None, *shape))
        tf.numpy_function(
            lambda features, count: self._add(features[:count], side), [network(pixels), count], []
        )

    def _add(self, features, side):
        with self._lock:  # replicas add their images at the same time
            getattr(self, side).update(features)

    def _checked(self, images, side):
        """Returns a batch as a list of uint8 [H, W] or [H, W, 3]."""
        self._check_dtype(images.dtype, side)
        if not is_batch(images):
            raise DataError(
                f"{side}: shape {images.shape}, expected [B, H, W], [B, H, W, 1] or [B, H, W, 3]"
            )
        if images.dtype != np.uint8 and len(images):
            try:
                images = self._range.pixels(images)
            except NotFiniteError as error:
                warn(f"{self.name}: {side}: {error}")
                self._error, images = error, []
        return [check_pixels(image, side, images) for image in images]

    def _check_dtype(self, dtype, side):
        dtype = tf.as_dtype(dtype)
        if dtype.is_floating and self._range is None:
            raise DataError(
                f"{side}: pixels are {dtype.name}: give FIDMetric the output_range, the values of "
                "black and white, such as (-1, 1)"
            )
        if not dtype.is_floating and dtype != tf.uint8:
            raise DataError(
                f"{side}: pixels are {dtype.name}, expected uint8 from 0 to 255, or floats"
            )

    def merge_state(self, metrics: Iterable["FIDMetric"]):
        """Adds the images of other metrics, which are not changed.

        Metrics of other processes are merged through their statistics, which can be pickled, or
        saved and loaded: `fid.real.merge(other_real)`, `fid.generated.merge(other_generated)`.

        Args:
          metrics: metrics with the same extractor.

        Raises:
          StatisticsError: another extractor. The metric is not changed then.
        """
        metrics = list(metrics)
        for metric in metrics:
            check_comparable(self.real, metric.real)
        for metric in metrics:
            self.real.merge(metric.real)
            self.generated.merge(metric.generated)
            self._error = self._error or metric._error

    def result(self):
        """Returns the FID, a float64 tensor.

        NaN before the first image of either side, inside a graph, and if there was NaN or infinity
        in an image, which is warned of.

        Raises:
          StatisticsError: fewer than two images per side.
          DataError: images of a wrong shape, inside a graph.
        """
        counts = self.real.count, self.generated.count
        unused = self._error is None and not any(counts)
        if unused or isinstance(self._error, NotFiniteError) or not tf.executing_eagerly():
            return tf.constant(np.nan, tf.float64)
        if self._error is not None:
            raise self._error
        if min(counts) < 2:
            raise StatisticsError(
                f"{self.name}: {counts[0]} real and {counts[1]} generated images, expected at "
                "least 2 of each"
            )
        self._warn_of_few(counts)
        return tf.constant(frechet_distance(self.real, self.generated), tf.float64)

    def _warn_of_few(self, counts):
        """Warns once of an upward bias, not in every epoch."""
        if not self._warned:
            for line in small_sample_warnings([ImageAccount("array", count) for count in counts]):
                self._warned = True
                warn(line)
