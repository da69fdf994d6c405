"""Extractors: a network cut for features, with its preprocessing and its fingerprint."""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import zipfile
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from fid_med.data.preprocessing import Preprocessing, as_rgb_batch
from fid_med.errors import ExtractorError, FidMedError, reason_of
from fid_med.extractors import folding, inception_v3
from fid_med.extractors.inception_2015 import download as graph_download
from fid_med.extractors.inception_2015 import network as inception_2015
from fid_med.extractors.keras_settings import plain_keras
from fid_med.training.devices import visible_gpus
from fid_med.utils.files import atomic_path
from fid_med.utils.hashing import ImageHasher, extractor_fingerprint

METADATA_MEMBER = "fid_med.json"
METADATA_FORMAT = 1
_CALIBRATION = {"phantoms": 16, "size": 299, "seed": 0}


@dataclasses.dataclass
class TrainingImages:
    """What an extractor remembers of the images it was trained on: keyed hashes, no pixels."""

    key: str
    train: frozenset[str] = frozenset()
    validation: frozenset[str] = frozenset()

    def hasher(self) -> ImageHasher:
        """Hashes images with this extractor's key."""
        return ImageHasher(self.key)

    def __contains__(self, digest: str) -> bool:
        return digest in self.train or digest in self.validation


class FeatureExtractor:
    """A network cut at its global average pool, ready to be fed.

    Attributes:
      name: what results call it: `imagenet`, `random`, or a file's name without its folders.
      network: Keras model from float32 [B, height, width, 3], 0..255, to float32 [B, d].
      preprocessing: how pixels are resized for it.
      fingerprint: sha256 of weights and preprocessing; equal fingerprints mean equal features.
      labels: the classes it was trained on, empty where unknown.
      training_images: hashes of its training images, or None where it carries none.
      lineage: JSON fields of the extractors that it was trained from, oldest first.
      architecture: `inception_v3` (Keras's) or `inception_2015_12_05` (of published FIDs).
      logits: function from features [N, d] to the classifier's logits, float64 [N, K], for the
        Inception Score; of the graph of 2015-12-05 without the bias, as TTUR takes them. None where
        the file holds no softmax classifier.
      warnings: what the reader of a number by this extractor must know.
      precision: in which the network computes, of `folding.PRECISIONS`; weights and features are
        float32 whatever it is.
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
        architecture: str = inception_v3.NETWORK,
        logits: Callable[[np.ndarray], np.ndarray] | None = None,
        warnings: tuple[str, ...] = (),
        precision: str = "float32",
    ):
        self.name = name
        self.network = network
        self.preprocessing = preprocessing
        self.fingerprint = fingerprint
        self.labels = tuple(labels)
        self.training_images = training_images
        self.lineage = tuple(lineage)
        self.architecture = architecture
        self.logits = logits
        self.warnings = tuple(warnings)
        self.precision = precision
        self._folded = None
        self._compiled = {}

    @property
    def num_features(self) -> int:
        """d, 2,048 for InceptionV3."""
        return self.network.output_shape[-1]

    def extract_batch(self, pixels: np.ndarray, pad_to: int = 0) -> np.ndarray:
        """Features of one batch of preprocessed images.

        Args:
          pixels: uint8 or float32 [B, height, width, 3], 0..255, as `Preprocessing.apply` and
            `as_rgb_batch` make them.
          pad_to: where `pads_batches`, a smaller batch is filled up to this many images and the
            features of the filling cut off, so that all batches of a run have one shape.

        Returns:
          float32 [B, d].
        """
        count = len(pixels)
        # A convolution of one image sums in another order than one of many.
        wanted = max(2, pad_to if self.pads_batches else 0)
        if count < wanted:
            pixels = np.concatenate([pixels, np.repeat(pixels[-1:], wanted - count, axis=0)])
        return self.compiled(pixels.dtype)(tf.constant(pixels)).numpy()[:count]

    @functools.cached_property
    def pads_batches(self) -> bool:
        """Whether batches keep one shape: on a GPU, which chooses its kernels anew for each.

        A CPU loses 20 to 40 ms to another shape, once, and the work of the filling otherwise.
        """
        return bool(visible_gpus())

    @plain_keras()
    def compiled(self, dtype) -> Callable[[tf.Tensor], tf.Tensor]:
        """The network compiled for pixels uint8 or float32 and batches of any size, made once.

        To call it before the first batch is there saves that time where images are being read.
        """
        dtype = tf.as_dtype(dtype)
        if dtype not in self._compiled:
            if self._folded is None:
                self._folded = folding.folded(self.network, self.precision)
            # Bytes go to the device as they are, a quarter of float32, and are cast there.
            self._compiled[dtype] = tf.function(
                lambda pixels: self._folded(tf.cast(pixels, tf.float32), training=False)
            ).get_concrete_function(tf.TensorSpec((None, *self.network.input_shape[1:]), dtype))
        return self._compiled[dtype]

    def extract(self, images, batch_size: int = 32) -> np.ndarray:
        """Features of images of any size.

        Args:
          images: iterable of uint8 [H, W] or [H, W, 3].
          batch_size: how many go through the network at once; the features do not depend on it
            beyond the rounding of float32.

        Returns:
          float32 [N, d].
        """
        prepared = [self.preprocessing.apply(np.asarray(image)) for image in images]
        batches = (prepared[i : i + batch_size] for i in range(0, len(prepared), batch_size))
        features = [self.extract_batch(as_rgb_batch(batch), batch_size) for batch in batches]
        return np.concatenate(features) if features else np.empty((0, self.num_features), "f4")


@plain_keras()
def load_extractor(
    spec,
    *,
    image_size: int | None = None,
    resize: str | None = None,
    aspect: str | None = None,
    seed: int = 0,
    precision: str | None = None,
) -> FeatureExtractor:
    """Loads a network as an extractor.

    Args:
      spec: `imagenet` for Keras's ImageNet weights, downloaded and cached by Keras (not the
        network behind published FIDs); `ttur` for that network, the frozen graph of 2015-12-05,
        downloaded once; `random` for seeded random weights, whose FID has no absolute scale; or a
        path: an `extractor.keras` of ours, InceptionV3 weights with `include_top=False`
        (`.weights.h5`, legacy `.h5`), a whole InceptionV3 model (`.keras`, legacy `.h5`), which
        gets Keras's scaling to -1..1 unless it holds a `Rescaling` layer, or the graph of
        2015-12-05 (`.pb`, or the `.tgz` that holds it).
      image_size: input height and width, in place of the extractor's own; the graph of 2015-12-05
        takes 299 alone.
      resize: `antialias` or `tf1`, in place of the extractor's own.
      aspect: `stretch` or `pad`, in place of the extractor's own.
      seed: of the weights of `random`.
      precision: `bfloat16` or `float16`, faster where the processor has it and further from the
        published number (bfloat16: features are 2 % off); by default `float32`.

    Returns:
      The extractor. A changed preprocessing or precision is another extractor, with another
      fingerprint; the precision stands in its name.

    Raises:
      ExtractorError: unknown name, missing or damaged file, weights that cannot be downloaded, an
        unknown precision.
      DataError: an unknown resize or aspect mode.
    """
    if precision not in (None, *folding.PRECISIONS):
        raise ExtractorError(f"precision {precision!r}: expected {', '.join(folding.PRECISIONS)}")
    extractor = _loaded(os.fspath(spec), image_size, resize, aspect, seed)
    if precision not in (None, "float32"):
        extractor.precision = precision
        extractor.name += f" in {precision}"
        if extractor.architecture == inception_2015.NETWORK:
            said = f"{extractor.name}: published FIDs are computed in float32"
            extractor.warnings += (said,)
        identity = f"{extractor.fingerprint} {precision}"
        extractor.fingerprint = hashlib.sha256(identity.encode()).hexdigest()
    return extractor


def _loaded(spec, image_size, resize, aspect, seed):
    overrides = {"resize": resize, "aspect": aspect, "height": image_size, "width": image_size}
    overrides = {key: value for key, value in overrides.items() if value is not None}
    if spec == "imagenet":
        network = inception_v3.build_network(Preprocessing())
        inception_v3.load_imagenet_weights(network)
        return _extractor("imagenet", network, Preprocessing(), overrides)
    if spec == "random":
        return _random_extractor(seed, overrides)
    if spec == "ttur":
        return _ttur_extractor(graph_download.ensure_graph(), "ttur", overrides)
    if not os.path.exists(spec):
        raise ExtractorError(
            f"{spec}: no such extractor; expected imagenet, ttur, random, or the path of a file"
        )
    if os.path.isdir(spec):
        mend = (
            f"; give {os.path.join(spec, 'extractor.keras')}"
            if os.path.exists(os.path.join(spec, "extractor.keras"))
            else ""
        )
        raise ExtractorError(f"{spec}: is a folder, not a file of weights{mend}")
    name = os.path.basename(spec)
    if spec.endswith((".pb", ".tgz", ".tar.gz")):
        return _ttur_extractor(spec, name, overrides)
    if not spec.endswith((".keras", ".h5", ".hdf5")):
        raise ExtractorError(f"{spec}: expected a .keras, .weights.h5, .h5, .pb or .tgz file")
    metadata = _read_metadata(spec)
    if metadata is None:
        network, preprocessing, logits = inception_v3.load_keras_file(spec)
        preprocessing = preprocessing or Preprocessing()
        return _extractor(name, network, preprocessing, overrides, logits=logits)
    return _our_extractor(spec, name, metadata, overrides)


def _extractor(name, network, preprocessing, overrides, **carried):
    """Wraps a network, rebuilt where another input size is wanted."""
    wanted = dataclasses.replace(preprocessing, **overrides)
    size = (wanted.height, wanted.width)
    if size != network.input_shape[1:3]:
        rebuilt = inception_v3.build_network(wanted)
        inception_v3.copy_weights(network, rebuilt, name)
        network = rebuilt
    fingerprint = inception_v3.fingerprint(network, wanted)
    return FeatureExtractor(name, network, wanted, fingerprint, **carried)


def _ttur_extractor(path, name, overrides):
    preprocessing = dataclasses.replace(inception_2015.PREPROCESSING, **overrides)
    if (preprocessing.height, preprocessing.width) != (299, 299):
        raise ExtractorError(f"{name}: the graph of 2015-12-05 takes images of 299 x 299 alone")
    network = inception_2015.load_network(path, name=name)
    return FeatureExtractor(
        name,
        network.model,
        preprocessing,
        network.fingerprint(preprocessing),
        architecture=inception_2015.NETWORK,
        logits=network.logits if network.logit_weights is not None else None,
        warnings=network.warnings(preprocessing),
    )


def _random_extractor(seed, overrides):
    preprocessing = dataclasses.replace(Preprocessing(), **overrides)
    network = random_network(preprocessing, seed)
    kernels = [x for x in inception_v3.network_arrays(network) if x.ndim == 4]
    # Hashed by how they were made: the moments' last bits differ between processors.
    recipe = {**preprocessing.to_dict(), "random_seed": seed, "calibration": _CALIBRATION}
    fingerprint = extractor_fingerprint(inception_v3.NETWORK, kernels, recipe)
    return FeatureExtractor("random", network, preprocessing, fingerprint)


def random_network(preprocessing: Preprocessing, seed: int) -> keras.Model:
    """InceptionV3 with seeded random weights that passes signals of ordinary size.

    Fresh batch normalisation would leave features near 1e-4, so its moving statistics are set
    once from fixed phantoms at 299 pixels.
    """
    network = inception_v3.build_network(preprocessing)
    for layer, weights in zip(
        inception_v3.weighted_layers(network), _calibrated_weights(seed), strict=True
    ):
        layer.set_weights(weights)
    return network


@functools.lru_cache(maxsize=1)
def _calibrated_weights(seed):
    from fid_med.phantoms.radiograph import phantom_set

    network = inception_v3.build_network(Preprocessing())
    inception_v3.initialise_randomly(network, seed)
    size, count = _CALIBRATION["size"], _CALIBRATION["phantoms"]
    phantoms, _ = phantom_set(count, size=size, seed=_CALIBRATION["seed"])
    inception_v3.calibrate_batch_norm(network, as_rgb_batch(list(phantoms)))
    return [layer.get_weights() for layer in inception_v3.weighted_layers(network)]


def save_extractor(
    path,
    network: keras.Model,
    preprocessing: Preprocessing,
    *,
    labels: tuple[str, ...] = (),
    training_images: TrainingImages | None = None,
    lineage: tuple[dict, ...] = (),
) -> str:
    """Writes a network as a `.keras` file that carries what an extractor is.

    The file loads by plain `keras.models.load_model` anywhere; what fid_med adds lies beside it in
    the archive, as `fid_med.json`. A classifier may be saved so too: it is cut when loaded.

    Returns:
      The extractor's fingerprint.
    """
    fingerprint = inception_v3.fingerprint(network, preprocessing)
    metadata = {
        "format": METADATA_FORMAT,
        "fingerprint": fingerprint,
        "preprocessing": preprocessing.to_dict(),
        "labels": list(labels),
        "lineage": list(lineage),
        "training_images": training_images
        and {
            "key": training_images.key,
            "train": sorted(training_images.train),
            "validation": sorted(training_images.validation),
        },
    }
    with atomic_path(path) as temporary:
        inception_v3.save_model(network, temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(METADATA_MEMBER, json.dumps(metadata, indent=1))
    return fingerprint


def _read_metadata(path):
    if not zipfile.is_zipfile(path):
        if pathlib.Path(path).suffix == ".keras":
            raise ExtractorError(f"{path}: damaged, or not a .keras file")
        return None
    with zipfile.ZipFile(path) as archive:
        if METADATA_MEMBER not in archive.namelist():
            return None
        try:
            metadata = json.loads(archive.read(METADATA_MEMBER))
            if metadata["format"] > METADATA_FORMAT:
                raise ExtractorError(f"{path}: written by a newer fid_med; upgrade to read it")
            return metadata
        except (KeyError, TypeError, ValueError, zipfile.BadZipFile):
            raise ExtractorError(f"{path}: its {METADATA_MEMBER} is damaged") from None


def _our_extractor(path, name, metadata, overrides):
    try:
        preprocessing = Preprocessing.from_dict(metadata["preprocessing"])
        fingerprint, carried = metadata["fingerprint"], _carried(metadata)
    except (AttributeError, KeyError, TypeError, FidMedError) as error:
        raise ExtractorError(
            f"{path}: its {METADATA_MEMBER} is damaged ({reason_of(error)})"
        ) from None
    network, _, logits = inception_v3.load_keras_file(path, verify=False)
    if inception_v3.fingerprint(network, preprocessing) != fingerprint:
        raise ExtractorError(f"{path}: its weights are not those it was saved with")
    return _extractor(name, network, preprocessing, overrides, logits=logits, **carried)


def _carried(metadata):
    """The labels, lineage and training images of a file's metadata, their form checked."""
    labels, lineage = tuple(metadata["labels"]), tuple(metadata["lineage"])
    images = metadata["training_images"]
    if images is not None:
        images = TrainingImages(
            images["key"], frozenset(images["train"]), frozenset(images["validation"])
        )
        images.hasher()  # refuses a key that protects nothing
    return {"labels": labels, "lineage": lineage, "training_images": images}
