"""Feature extractor: a network cut at its pooled features, with preprocessing and fingerprint."""

import dataclasses
import functools
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from fid_med.data.preprocessing import Preprocessing, as_rgb_batch
from fid_med.extractors import folding
from fid_med.extractors.keras_settings import plain_keras
from fid_med.extractors.registry import UNFOLDED
from fid_med.utils.gpus import visible_gpus
from fid_med.utils.hashing import ImageHasher


@dataclasses.dataclass
class TrainingImages:
    """Keyed hashes of the images that an extractor was trained on. No pixels are stored.

    Attributes:
      key: key of the hashes, hexadecimal.
      train: digests of the images that the weights were fitted to.
      validation: digests of the images that chose the epoch.
    """

    key: str
    train: frozenset[str] = frozenset()
    validation: frozenset[str] = frozenset()

    def hasher(self) -> ImageHasher:
        """Returns the hasher of this key."""
        return ImageHasher(self.key)

    def __contains__(self, digest: str) -> bool:
        return digest in self.train or digest in self.validation


class FeatureExtractor:
    """Computes features of images with a network cut at its global average pool.

    `load_extractor` makes extractors from names and files. The arguments are kept as attributes.

    Args:
      name: name in results: `imagenet`, `random`, or a file's name without its folders.
      network: Keras model from float32 [B, height, width, 3], 0..255, to float32 [B, d].
      preprocessing: how images are resized for the network.
      fingerprint: SHA-256 of weights and preprocessing. Equal fingerprints mean equal features.
      labels: classes that the network was trained on; empty if unknown.
      training_images: hashes of the training images, or None if unknown.
      lineage: JSON fields of the extractors that this one was trained from, oldest first.
      architecture: `inception_v3` (Keras's) or `inception_2015_12_05` (of published FIDs), or
        another key of `keras_networks.NETWORKS`.
      logits: function from features [N, d] to the logits of the classifier, float64 [N, K], for the
        Inception Score. For the graph of 2015-12-05 it leaves out the bias, as TTUR does. None if
        the file contains no softmax classifier.
      warnings: what a reader of this extractor's numbers must know.

    Attributes:
      precision: compute precision of the network, of `registry.PRECISIONS`. Weights and features
        are always float32.
      whole: the extractor that this one is a depth of; itself at the global average pool.
      depths: extractors of each depth, by number of features, whose features are joined in this
        one's; empty for other extractors.
      joined: the extractor that `depths.join_depths` made of this one, or None.

    Example:

    ```python
    import fid_med

    extractor = fid_med.load_extractor("random", image_size=75)
    radiographs, _ = fid_med.phantom_set(4, size=80)
    features = extractor.extract(radiographs)
    assert features.shape == (4, extractor.num_features) == (4, 2048)
    ```
    """

    def __init__(
        self,
        name: str,
        network: keras.Model,
        preprocessing: Preprocessing,
        fingerprint: str,
        labels: tuple[str, ...] = (),
        training_images: TrainingImages | None = None,
        lineage: tuple[dict, ...] = (),
        architecture: str = "inception_v3",
        logits: Callable[[np.ndarray], np.ndarray] | None = None,
        warnings: tuple[str, ...] = (),
    ):
        self.name = name
        self.preprocessing = preprocessing
        self.fingerprint = fingerprint
        self.labels = tuple(labels)
        self.training_images = training_images
        self.lineage = tuple(lineage)
        self.architecture = architecture
        self.logits = logits
        self.warnings = tuple(warnings)
        self.precision = "float32"
        self.whole = self
        self.depths: dict[int, FeatureExtractor] = {}
        self.set_network(network)

    def set_network(self, network: keras.Model) -> None:
        """Replaces the network; several outputs are joined in their order."""
        self.network = network
        self.joined: FeatureExtractor | None = None
        self._folded = None
        self._compiled = {}

    @property
    def num_features(self) -> int:
        """Number of features d: 2,048 at InceptionV3's global average pool."""
        return sum(output.shape[-1] for output in self.network.outputs)

    def extract_batch(self, pixels: np.ndarray, pad_to: int = 0) -> np.ndarray:
        """Computes the features of one batch of preprocessed images.

        Args:
          pixels: uint8 or float32 [B, height, width, 3], 0..255, as returned by
            `Preprocessing.apply` and `as_rgb_batch`.
          pad_to: number of images that a smaller batch is filled up to if `pads_batches`, so that
            all batches of a run have one shape. The features of the filling are dropped.

        Returns:
          float32 [B, d].
        """
        count = len(pixels)
        # For one image a convolution sums in another order than for several.
        wanted = max(2, pad_to if self.pads_batches else 0)
        if count < wanted:
            pixels = np.concatenate([pixels, np.repeat(pixels[-1:], wanted - count, axis=0)])
        return self.compiled(pixels.dtype)(tf.constant(pixels)).numpy()[:count]

    @property
    def cache_key(self) -> str:
        """The fingerprint, and the precision where it changes the rounding alone."""
        rounding = f" {self.precision}" if self.precision == UNFOLDED else ""
        return self.fingerprint + rounding

    @functools.cached_property
    def pads_batches(self) -> bool:
        """Whether small batches are padded: on a GPU, which chooses kernels for each batch shape.

        On a CPU a new shape costs 20 to 40 ms, once, which is less than computing the filling.
        """
        return bool(visible_gpus())

    @plain_keras()
    def compiled(self, dtype) -> Callable[[tf.Tensor], tf.Tensor]:
        """Compiles the network for batches of any size. Later calls return the same function.

        A call before the first batch arrives overlaps compiling with the reading of images.

        Args:
          dtype: of the pixels, uint8 or float32.

        Returns:
          Function from pixels [B, height, width, 3] to float32 features [B, d].
        """
        dtype = tf.as_dtype(dtype)
        if dtype not in self._compiled:
            if self._folded is None:
                self._folded = folding.folded(self.network, self.precision)
            # uint8 pixels are cast on the device: the transfer is a quarter of float32's.
            self._compiled[dtype] = tf.function(self._run).get_concrete_function(
                tf.TensorSpec((None, *self.network.input_shape[1:]), dtype)
            )
        return self._compiled[dtype]

    def _run(self, pixels):
        features = self._folded(tf.cast(pixels, tf.float32), training=False)
        return tf.concat(features, axis=-1) if isinstance(features, (list, tuple)) else features

    def extract(self, images, batch_size: int = 32) -> np.ndarray:
        """Computes the features of images of any size.

        Args:
          images: iterable of uint8 [H, W] or [H, W, 3].
          batch_size: images per forward pass. The features depend on it only by the rounding of
            float32.

        Returns:
          float32 [N, d].
        """
        prepared = [self.preprocessing.apply(np.asarray(image)) for image in images]
        batches = (prepared[i : i + batch_size] for i in range(0, len(prepared), batch_size))
        features = [self.extract_batch(as_rgb_batch(batch), batch_size) for batch in batches]
        return np.concatenate(features) if features else np.empty((0, self.num_features), "f4")
