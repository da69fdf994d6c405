"""The network of published FIDs, `inception-2015-12-05`, as a Keras model.

Heusel et al. 2017 ("GANs Trained by a Two Time-Scale Update Rule", the TTUR code) took their
features from `pool_3` of this frozen graph. Keras's InceptionV3 is another network. Each layer is
checked against the graph's nodes while it is built.
"""

import dataclasses
import os
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from fid_med.data.preprocessing import Preprocessing
from fid_med.errors import ExtractorError
from fid_med.extractors.extractor import FeatureExtractor
from fid_med.extractors.folding import FixedNormalisation
from fid_med.extractors.inception_2015.download import GRAPH_BYTES
from fid_med.extractors.inception_2015.graph import Graph
from fid_med.utils.hashing import extractor_fingerprint

NETWORK = "inception_2015_12_05"
PREPROCESSING = Preprocessing(299, 299, resize="tf1", aspect="stretch", scale=1 / 128, offset=-1.0)
NUM_FEATURES = 2048
NUM_CLASSES = 1008


@dataclasses.dataclass
class Inception2015:
    """The network of 2015-12-05, read from one file.

    Attributes:
      name: name in results.
      model: Keras model from float32 [B, 299, 299, 3], 0..255, resized according to
        `PREPROCESSING`, to float32 [B, 2048], the graph's `pool_3`.
      size: bytes of the GraphDef; the published one has `GRAPH_BYTES`.
      arrays: the graph's weights in the order of the network, those of the classifier last.
      logit_weights: float32 [2048, 1008], or None if the file ends at `pool_3`.
      logit_biases: float32 [1008], or None if the file ends at `pool_3`.
    """

    name: str
    model: keras.Model
    size: int
    arrays: list[np.ndarray] = dataclasses.field(repr=False)
    logit_weights: np.ndarray | None = dataclasses.field(default=None, repr=False)
    logit_biases: np.ndarray | None = dataclasses.field(default=None, repr=False)

    def fingerprint(self, preprocessing: Preprocessing = PREPROCESSING) -> str:
        """Returns the SHA-256 of weights and preprocessing."""
        return extractor_fingerprint(NETWORK, self.arrays, preprocessing.to_dict())

    def warnings(self, preprocessing: Preprocessing = PREPROCESSING) -> tuple[str, ...]:
        """Returns the reasons why FIDs of this file are not comparable with published ones."""
        found = []
        if self.size != GRAPH_BYTES:
            found.append(
                f"{self.name}: {self.size:,} bytes, but the published graph has {GRAPH_BYTES:,}: "
                "FIDs of this file are not comparable with published ones"
            )
        if preprocessing != PREPROCESSING:
            found.append(
                f"{self.name}: images resized by {preprocessing.resize}, {preprocessing.aspect}, "
                f"but published FIDs use {PREPROCESSING.resize}, {PREPROCESSING.aspect}"
            )
        return tuple(found)

    def logits(self, features: np.ndarray, biases: bool = False) -> np.ndarray:
        """Computes the logits of the classifier.

        Args:
          features: [N, 2048], the output of `model`.
          biases: whether to add `softmax/biases`. TTUR's Inception Score leaves them out, and
            takes the softmax of the rest as class probabilities.

        Returns:
          float64 [N, 1008].

        Raises:
          ExtractorError: the file ends at `pool_3`.
        """
        if self.logit_weights is None:
            raise ExtractorError(f"{self.name}: has no node softmax/weights, so no logits")
        logits = np.asarray(features, np.float64) @ self.logit_weights
        return logits + self.logit_biases if biases else logits


def load_graph_extractor(path, changes: dict, name: str | None = None) -> FeatureExtractor:
    """Makes an extractor of the published GraphDef.

    Args:
      path: `classify_image_graph_def.pb`, or the `.tgz` that contains it.
      changes: fields of `Preprocessing` other than `PREPROCESSING`'s. The size must stay.
      name: name in results, by default the file's name.

    Raises:
      ExtractorError: another image size than 299, or as for `load_network`.
    """
    preprocessing = dataclasses.replace(PREPROCESSING, **changes)
    name = name or os.path.basename(path)
    if (preprocessing.height, preprocessing.width) != (299, 299):
        raise ExtractorError(
            f"{name}: image size {preprocessing.height}: the graph of 2015-12-05 takes only images "
            "of 299 x 299"
        )
    network = load_network(path, name)
    return FeatureExtractor(
        name,
        network.model,
        preprocessing,
        network.fingerprint(preprocessing),
        architecture=NETWORK,
        logits=network.logits if network.logit_weights is not None else None,
        warnings=network.warnings(preprocessing),
    )


def load_network(path, name: str | None = None) -> Inception2015:
    """Reads the network from the published GraphDef.

    Args:
      path: `classify_image_graph_def.pb`, or the `.tgz` that contains it.
      name: name in results, by default the file's name.

    Raises:
      ExtractorError: the file cannot be read, or a node differs in a way that changes `pool_3`. The
        node is named.
    """
    graph = Graph(path)
    builder = _Builder(graph)
    pixels = keras.Input((PREPROCESSING.height, PREPROCESSING.width, 3), name="pixels")
    features = _features(builder, pixels)
    weights, biases = _classifier(graph)
    classifier = [] if weights is None else [weights, biases]
    return Inception2015(
        name=name or os.path.basename(path),
        model=keras.Model(pixels, features, name=NETWORK),
        size=graph.size,
        arrays=[*builder.arrays, *classifier],
        logit_weights=weights,
        logit_biases=biases,
    )


class _Tap(NamedTuple):
    """A tensor of both networks: the graph's node and Keras's symbolic tensor."""

    node: str
    tensor: Any


def _features(net, pixels):
    """Builds the network; convolutions are (kernel, channels) of stride 1 and SAME padding."""
    x = net.input(pixels)
    x = net.conv(x, "conv", 3, 32, strides=2, padding="VALID")
    x = net.conv(x, "conv_1", 3, 32, padding="VALID")
    x = net.conv(x, "conv_2", 3, 64)
    x = net.pool(x, "pool")
    x = net.conv(x, "conv_3", 1, 80, padding="VALID")
    x = net.conv(x, "conv_4", 3, 192, padding="VALID")
    x = net.pool(x, "pool_1")
    for scope, channels in (("mixed", 32), ("mixed_1", 64), ("mixed_2", 64)):
        x = _block_35(net, x, scope, channels)
    x = _reduction_17(net, x, "mixed_3")
    for scope, channels in (("mixed_4", 128), ("mixed_5", 160), ("mixed_6", 160), ("mixed_7", 192)):
        x = _block_17(net, x, scope, channels)
    x = _reduction_8(net, x, "mixed_8")
    x = _block_8(net, x, "mixed_9", "AvgPool")
    # Only in this graph does the last block take the maximum where all others average.
    x = _block_8(net, x, "mixed_10", "MaxPool")
    return net.global_pool(x, "pool_3")


def _block_35(net, x, scope, pool_channels):
    pooled = net.pool(x, f"{scope}/tower_2/pool", "AvgPool", strides=1, padding="SAME")
    return net.join(
        f"{scope}/join",
        net.conv(x, f"{scope}/conv", 1, 64),
        net.tower(x, f"{scope}/tower", (1, 48), (5, 64)),
        net.tower(x, f"{scope}/tower_1", (1, 64), (3, 96), (3, 96)),
        net.conv(pooled, f"{scope}/tower_2/conv", 1, pool_channels),
    )


def _reduction_17(net, x, scope):
    tower = net.tower(x, f"{scope}/tower", (1, 64), (3, 96))
    return net.join(
        f"{scope}/join",
        net.conv(x, f"{scope}/conv", 3, 384, strides=2, padding="VALID"),
        net.conv(tower, f"{scope}/tower/conv_2", 3, 96, strides=2, padding="VALID"),
        net.pool(x, f"{scope}/pool"),
    )


def _block_17(net, x, scope, c):
    row, column = (1, 7), (7, 1)
    pooled = net.pool(x, f"{scope}/tower_2/pool", "AvgPool", strides=1, padding="SAME")
    return net.join(
        f"{scope}/join",
        net.conv(x, f"{scope}/conv", 1, 192),
        net.tower(x, f"{scope}/tower", (1, c), (row, c), (column, 192)),
        net.tower(x, f"{scope}/tower_1", (1, c), (column, c), (row, c), (column, c), (row, 192)),
        net.conv(pooled, f"{scope}/tower_2/conv", 1, 192),
    )


def _reduction_8(net, x, scope):
    first = net.tower(x, f"{scope}/tower", (1, 192))
    second = net.tower(x, f"{scope}/tower_1", (1, 192), ((1, 7), 192), ((7, 1), 192))
    return net.join(
        f"{scope}/join",
        net.conv(first, f"{scope}/tower/conv_1", 3, 320, strides=2, padding="VALID"),
        net.conv(second, f"{scope}/tower_1/conv_3", 3, 192, strides=2, padding="VALID"),
        net.pool(x, f"{scope}/pool"),
    )


def _block_8(net, x, scope, pool):
    row, column = (1, 3), (3, 1)
    first = net.tower(x, f"{scope}/tower", (1, 384))
    second = net.tower(x, f"{scope}/tower_1", (1, 448), (3, 384))
    pooled = net.pool(x, f"{scope}/tower_2/pool", pool, strides=1, padding="SAME")
    return net.join(
        f"{scope}/join",
        net.conv(x, f"{scope}/conv", 1, 320),
        net.conv(first, f"{scope}/tower/mixed/conv", row, 384),
        net.conv(first, f"{scope}/tower/mixed/conv_1", column, 384),
        net.conv(second, f"{scope}/tower_1/mixed/conv", row, 384),
        net.conv(second, f"{scope}/tower_1/mixed/conv_1", column, 384),
        net.conv(pooled, f"{scope}/tower_2/conv", 1, 192),
    )


def _classifier(graph):
    """Returns weights and biases of the classifier; None twice if the file ends at `pool_3`."""
    if "softmax/weights" not in graph:
        return None, None
    graph.check_product("softmax/logits/MatMul", "pool_3", "softmax/weights")
    return (
        graph.weights("softmax/weights", (NUM_FEATURES, NUM_CLASSES)),
        graph.weights("softmax/biases", (NUM_CLASSES,)),
    )


# The scale contains the variance already, so variance + epsilon must be 1: exact in float32.
_EPSILON = 2.0**-10


class _NormalisationRelu(FixedNormalisation):
    """Batch normalisation with fixed statistics, then ReLU.

    It computes in the order of the graph's own op, which `--precision=float32_unfolded` keeps.
    Keras's layer rounds differently, which a hundred layers can amplify to 5e-5. In a compiled
    graph it is one op, which TensorFlow fuses with the convolution: the same bits.
    """

    activation = staticmethod(tf.nn.relu)

    def build(self, shape):
        for name in ("mean", "scale", "beta"):
            weight = self.add_weight(
                name=name, shape=shape[-1:], initializer="zeros", autocast=False
            )
            setattr(self, name, weight)

    def affine(self):
        """As for `FixedNormalisation`."""
        scale, mean, beta = (tf.convert_to_tensor(w) for w in (self.scale, self.mean, self.beta))
        return scale, beta - mean * scale

    def call(self, x):
        if tf.executing_eagerly():
            # Without the convolution the fused op rounds differently: 5e-6 in the features.
            return keras.ops.relu((x - self.mean) * self.scale + self.beta)
        mean, scale, beta = (tf.convert_to_tensor(w) for w in (self.mean, self.scale, self.beta))
        normalised, _, _ = tf.compat.v1.nn.fused_batch_norm(
            x,
            scale,
            beta,
            mean,
            tf.fill(tf.shape(mean), 1 - _EPSILON),
            epsilon=_EPSILON,
            is_training=False,
        )
        return tf.nn.relu(normalised)


class _Builder:
    """Makes Keras layers from checked nodes, and collects their weights in order."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.arrays: list[np.ndarray] = []

    def input(self, pixels):
        node = self.graph.input_scaling("ExpandDims", PREPROCESSING.height)
        # Bit for bit the graph's (x - 128) * 2**-7: scaling by a power of two is exact.
        scaling = keras.layers.Rescaling(PREPROCESSING.scale, PREPROCESSING.offset, name="scaling")
        return _Tap(node, scaling(pixels))

    def conv(self, x, scope, kernel, channels, strides=1, padding="SAME"):
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        shape = (*kernel, x.tensor.shape[-1], channels)
        weights = self.graph.convolution(scope, x.node, shape, strides, padding)
        self.arrays += weights.arrays()
        convolution = keras.layers.Conv2D(
            channels,
            kernel,
            strides,
            padding.lower(),
            use_bias=False,
            kernel_initializer="zeros",
            name=f"{_layer_name(scope)}_conv2d",
        )
        normalisation = _NormalisationRelu(name=_layer_name(scope))
        tensor = normalisation(convolution(x.tensor))
        convolution.set_weights([weights.kernel])
        normalisation.set_weights([weights.mean, weights.scale(), weights.beta])
        return _Tap(scope, tensor)

    def tower(self, x, scope, *convolutions):
        """Adds convolutions one after another: `conv`, `conv_1`, `conv_2` and so on."""
        for number, (kernel, channels) in enumerate(convolutions):
            name = f"{scope}/conv_{number}" if number else f"{scope}/conv"
            x = self.conv(x, name, kernel, channels)
        return x

    def pool(self, x, name, op="MaxPool", strides=2, padding="VALID"):
        self.graph.check_pool(name, x.node, op, 3, padding, strides)
        # TensorFlow's average ignores SAME padding, in Keras as in the graph.
        kind = {"MaxPool": keras.layers.MaxPooling2D, "AvgPool": keras.layers.AveragePooling2D}[op]
        return _Tap(name, kind(3, strides, padding.lower(), name=_layer_name(name))(x.tensor))

    def join(self, name, *branches):
        self.graph.check_join(name, [branch.node for branch in branches])
        joined = keras.layers.Concatenate(name=_layer_name(name))([x.tensor for x in branches])
        return _Tap(name, joined)

    def global_pool(self, x, name):
        self.graph.check_pool(name, x.node, "AvgPool", x.tensor.shape[1], "VALID")
        return keras.layers.GlobalAveragePooling2D(name=name)(x.tensor)


def _layer_name(node):
    return node.replace("/", "_")  # Keras refuses slashes
