"""The 2015-12-05 GraphDef, read node by node and checked to be what its features depend on."""

import dataclasses

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from fid_med.errors import ExtractorError
from fid_med.extractors.inception_2015.download import ARCHIVE_NAME, GRAPH_BYTES, read_graph

EPSILON = 0.001
_FLOAT = tf.float32.as_datatype_enum
# Ops that hand on their first input; the 2015 file wraps every convolution and pool in both.
_PASSED_THROUGH = ("Identity", "CheckNumerics")
# What an attribute means where a file of 2015 lacks it: it did not exist yet, or had this default.
_DEFAULTS = {
    "T": _FLOAT,
    "data_format": "NHWC",
    "dilations": [1, 1, 1, 1],
    "explicit_paddings": [],
    "align_corners": False,
    "half_pixel_centers": False,
    "transpose_a": False,
    "transpose_b": False,
}


@dataclasses.dataclass(frozen=True)
class Convolution:
    """The weights of one convolution with its batch normalisation, float32.

    Attributes:
      kernel: [height, width, in, out].
      beta, gamma, mean, variance: [out]; gamma is 1 where the graph does not apply it.
    """

    kernel: np.ndarray
    beta: np.ndarray
    gamma: np.ndarray
    mean: np.ndarray
    variance: np.ndarray

    def arrays(self) -> list[np.ndarray]:
        """All of them, in the order of the attributes."""
        return [getattr(self, field.name) for field in dataclasses.fields(self)]

    def scale(self) -> np.ndarray:
        """[out], float32: what the graph's op multiplies with, in its own rounding."""
        return (tf.math.rsqrt(self.variance + np.float32(EPSILON)) * self.gamma).numpy()


class Graph:
    """The nodes of a frozen GraphDef; each is checked when it is asked for.

    Every check refuses by an ExtractorError that names the file and the node. Nodes nobody asks
    for are ignored.

    Args:
      path: a `.pb` file, or a tar archive with `classify_image_graph_def.pb` inside.

    Attributes:
      path: as given.
      size: bytes of the GraphDef, unpacked.

    Raises:
      ExtractorError: an unreadable or truncated file, two nodes of one name.
    """

    def __init__(self, path):
        self.path = path
        self._nodes = {}
        data = read_graph(path)
        self.size = len(data)
        for node in _parse(path, data).node:
            if node.name in self._nodes:
                self._refuse(node.name, "is there twice")
            self._nodes[node.name] = node

    def __contains__(self, name: str) -> bool:
        return name in self._nodes

    def input_scaling(self, source: str, size: int) -> str:
        """Checks the resizing and scaling of the input, and returns the node they end in.

        Args:
          source: the node whose output is fed, float32 [1, H, W, 3], 0..255.
          size: height and width that it is resized to.
        """
        resize = self._node("ResizeBilinear", "ResizeBilinear", [source, None])
        self._check_attributes(resize, T=_FLOAT, align_corners=False, half_pixel_centers=False)
        self._check_constant(resize, 1, [size, size])
        self._node("Sub", "Sub", ["ResizeBilinear", None], T=_FLOAT)
        self._check_constant(self._nodes["Sub"], 1, 128.0)
        self._node("Mul", "Mul", ["Sub", None], T=_FLOAT)
        self._check_constant(self._nodes["Mul"], 1, 1 / 128)
        return "Mul"

    def convolution(self, scope, source, shape, strides, padding) -> Convolution:
        """Checks convolution, batch normalisation and Relu of one scope, and reads its weights.

        Args:
          scope: its name, which is also the Relu's.
          source: the node that must feed it.
          shape: of the kernel, [height, width, in, out].
          strides: in both directions.
          padding: `SAME` or `VALID`.
        """
        kernel, norm = f"{scope}/conv2d_params", f"{scope}/batchnorm"
        self._node(scope, "Relu", [norm], T=_FLOAT)
        weights = [f"{norm}/{x}" for x in ("moving_mean", "moving_variance", "beta", "gamma")]
        batchnorm = self._node(
            norm, "BatchNormWithGlobalNormalization", [f"{scope}/Conv2D", *weights], T=_FLOAT
        )
        scaled = self._attribute(batchnorm, "scale_after_normalization")
        epsilon = self._attribute(batchnorm, "variance_epsilon")
        if not isinstance(epsilon, float) or np.float32(epsilon) != np.float32(EPSILON):
            self._refuse(norm, f"variance_epsilon is {_shown(epsilon)}, expected {EPSILON}")
        if not isinstance(scaled, bool):
            self._refuse(
                norm, f"scale_after_normalization is {_shown(scaled)}, expected True or False"
            )
        self._node(
            f"{scope}/Conv2D",
            "Conv2D",
            [source, kernel],
            T=_FLOAT,
            strides=[1, strides, strides, 1],
            padding=padding,
            data_format="NHWC",
            dilations=[1, 1, 1, 1],
            explicit_paddings=[],
        )
        mean, variance, beta, gamma = (self.weights(name, shape[-1:]) for name in weights)
        if not scaled:
            gamma = np.ones_like(gamma)
        if (variance < 0).any():
            self._refuse(weights[1], "holds negative variances")
        return Convolution(self.weights(kernel, shape), beta, gamma, mean, variance)

    def check_pool(self, name, source, op, size, padding, strides=None):
        """Checks a pool; `op` is `MaxPool` or `AvgPool`, no `strides` means that any will do."""
        pool = self._node(
            name,
            op,
            [source],
            T=_FLOAT,
            ksize=[1, size, size, 1],
            padding=padding,
            data_format="NHWC",
            explicit_paddings=[],
        )
        if strides is not None:
            self._check_attributes(pool, strides=[1, strides, strides, 1])

    def check_join(self, name, sources):
        """Checks that a node joins others in this order along the channels."""
        join = self._node(name, "Concat", [None, *sources], T=_FLOAT, N=len(sources))
        self._check_constant(join, 0, 3)

    def check_product(self, name, source, weights):
        """Checks a plain matrix product, of `source` reshaped by some node, with `weights`."""
        product = self._node(
            name, "MatMul", [None, weights], T=_FLOAT, transpose_a=False, transpose_b=False
        )
        self._node(self._source(product, 0), "Reshape", [source, None], T=_FLOAT)

    def weights(self, name, shape) -> np.ndarray:
        """A float32 constant of a shape, every number finite."""
        array = self._constant(name, tuple(shape), tf.float32)
        if not np.isfinite(array).all():
            self._refuse(name, "holds numbers that are not finite")
        return array

    def _node(self, name, op, sources, **attributes):
        """A node of this op, fed by these nodes alone (None: by any), with these attributes."""
        node = self._nodes.get(name)
        if node is None:
            self._refuse(name, "is missing")
        if node.op != op:
            self._refuse(name, f"is a {node.op}, expected {op}")
        inputs = len(_data_inputs(node))
        if inputs != len(sources):
            self._refuse(name, f"has {inputs} inputs, expected {len(sources)}")
        for index, wanted in enumerate(sources):
            found = self._source(node, index)
            if wanted is not None and found != wanted:
                self._refuse(name, f"input {index} is {found}, expected {wanted}")
        self._check_attributes(node, **attributes)
        return node

    def _source(self, node, index):
        """Name of the node that feeds a data input, past what hands its input on."""
        seen = set()
        while True:
            inputs = _data_inputs(node)
            if index >= len(inputs):
                self._refuse(node.name, f"has {len(inputs)} inputs, expected more than {index}")
            name, _, output = inputs[index].partition(":")
            if output not in ("", "0"):
                self._refuse(node.name, f"input {index} is {inputs[index]}, no first output")
            source = self._nodes.get(name)
            if source is None or source.op not in _PASSED_THROUGH:
                return name
            if name in seen:
                self._refuse(name, "feeds itself")
            seen.add(name)
            node, index = source, 0

    def _check_attributes(self, node, **wanted):
        for key, expected in wanted.items():
            found = self._attribute(node, key)
            if found != expected:
                self._refuse(node.name, f"{key} is {_shown(found)}, expected {expected}")

    def _attribute(self, node, key):
        """An attribute as a Python value, its default where the file lacks it, else None."""
        if key not in node.attr:
            return _DEFAULTS.get(key)
        value = node.attr[key]
        kind = value.WhichOneof("value")
        if kind == "list":
            return list(value.list.i)
        found = getattr(value, kind) if kind else None
        return found.decode(errors="replace") if isinstance(found, bytes) else found

    def _check_constant(self, node, index, expected):
        expected = np.asarray(expected)
        dtype = tf.float32 if expected.dtype.kind == "f" else tf.int32
        name = self._source(node, index)
        found = self._constant(name, expected.shape, dtype)
        if not (found == expected).all():
            self._refuse(node.name, f"{name} is {found.tolist()}, expected {expected.tolist()}")

    def _constant(self, name, shape, dtype):
        tensor = self._node(name, "Const", []).attr["value"].tensor
        found = tuple(dim.size for dim in tensor.tensor_shape.dim)
        # Before any array is made: a crafted shape must not ask for all memory.
        if found != shape:
            self._refuse(name, f"has shape {list(found)}, expected {list(shape)}")
        if tensor.dtype != dtype.as_datatype_enum:
            self._refuse(name, f"is not of dtype {dtype.name}")
        try:
            return tf.make_ndarray(tensor)
        except (TypeError, ValueError, IndexError):
            self._refuse(name, "is damaged")

    def _refuse(self, name, why):
        raise ExtractorError(
            f"{self.path}: node {name} {why}; features or logits would be others, use the graph in "
            f"{ARCHIVE_NAME}"
        )


def _shown(attribute):
    return "missing" if attribute is None else attribute


def _data_inputs(node):
    return [name for name in node.input if not name.startswith("^")]


def _parse(path, data):
    graph_def = tf.compat.v1.GraphDef()
    try:
        graph_def.ParseFromString(data)
    except DecodeError:
        graph_def.Clear()
    if not graph_def.node:
        raise ExtractorError(
            f"{path}: no GraphDef, or a truncated one ({len(data):,} bytes; the published file "
            f"has {GRAPH_BYTES:,}); fetch it again"
        )
    return graph_def
