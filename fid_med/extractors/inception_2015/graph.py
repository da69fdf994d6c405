"""The 2015-12-05 GraphDef: every node that its features depend on is read and checked."""

import dataclasses

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from fid_med.errors import ExtractorError
from fid_med.extractors.inception_2015.download import ARCHIVE_NAME, GRAPH_BYTES, read_graph

EPSILON = 0.001
_FLOAT = tf.float32.as_datatype_enum
# Ops that return their first input; the 2015 file puts both before every ReLU and pool.
_PASSED_THROUGH = ("Identity", "CheckNumerics")
# Defaults of attributes that a file of 2015 may lack, some of them added to the ops later.
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
    """Weights of one convolution with its batch normalisation, float32.

    Attributes:
      kernel: [height, width, in, out].
      beta: [out].
      gamma: [out], 1 where the graph does not apply it.
      mean: [out].
      variance: [out].
    """

    kernel: np.ndarray
    beta: np.ndarray
    gamma: np.ndarray
    mean: np.ndarray
    variance: np.ndarray

    def arrays(self) -> list[np.ndarray]:
        """Returns all arrays in the order of the attributes."""
        return [getattr(self, field.name) for field in dataclasses.fields(self)]

    def scale(self) -> np.ndarray:
        """Returns the factor of the graph's op, float32 [out], with the op's own rounding."""
        return (tf.math.rsqrt(self.variance + np.float32(EPSILON)) * self.gamma).numpy()


class Graph:
    """Nodes of a frozen GraphDef. Each node is checked when it is requested.

    A failed check raises an ExtractorError that names the file and the node. Nodes that are never
    requested are ignored.

    Args:
      path: a `.pb` file, or a tar archive that contains `classify_image_graph_def.pb`.

    Attributes:
      path: the argument.
      size: bytes of the unpacked GraphDef.

    Raises:
      ExtractorError: the file cannot be read or is truncated, or two nodes have the same name.
    """

    def __init__(self, path):
        self.path = path
        self._nodes = {}
        data = read_graph(path)
        self.size = len(data)
        for node in _parse(path, data).node:
            if node.name in self._nodes:
                self._refuse(node.name, "occurs twice")
            self._nodes[node.name] = node

    def __contains__(self, name: str) -> bool:
        return name in self._nodes

    def input_scaling(self, source: str, size: int) -> str:
        """Checks the resizing and scaling of the input.

        Args:
          source: the node whose output is fed, float32 [1, H, W, 3], 0..255.
          size: height and width after resizing.

        Returns:
          The name of the last node.
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
        """Checks convolution, batch normalisation and ReLU of one scope, and reads the weights.

        Args:
          scope: name of the scope, which is also the name of the ReLU.
          source: name of the node that must be the input.
          shape: shape of the kernel, [height, width, in, out].
          strides: stride in both directions.
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
            self._refuse(weights[1], "contains negative variances")
        return Convolution(self.weights(kernel, shape), beta, gamma, mean, variance)

    def check_pool(self, name, source, op, size, padding, strides=None):
        """Checks a pool: `op` is `MaxPool` or `AvgPool`; `strides=None` allows any strides."""
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
        """Checks that a node concatenates others in this order along the channels."""
        join = self._node(name, "Concat", [None, *sources], T=_FLOAT, N=len(sources))
        self._check_constant(join, 0, 3)

    def check_product(self, name, source, weights):
        """Checks that a node is the matrix product of the reshaped `source` and `weights`."""
        product = self._node(
            name, "MatMul", [None, weights], T=_FLOAT, transpose_a=False, transpose_b=False
        )
        self._node(self._source(product, 0), "Reshape", [source, None], T=_FLOAT)

    def weights(self, name, shape) -> np.ndarray:
        """Reads a float32 constant of a given shape and checks that it is finite."""
        array = self._constant(name, tuple(shape), tf.float32)
        if not np.isfinite(array).all():
            self._refuse(name, "contains numbers that are not finite")
        return array

    def _node(self, name, op, sources, **attributes):
        """Returns a node after checking its op, its inputs (None allows any) and attributes."""
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
        """Returns the node that feeds a data input, skipping ops that only return their input."""
        seen = set()
        while True:
            inputs = _data_inputs(node)
            if index >= len(inputs):
                self._refuse(node.name, f"has {len(inputs)} inputs, expected more than {index}")
            name, _, output = inputs[index].partition(":")
            if output not in ("", "0"):
                self._refuse(node.name, f"input {index} is {inputs[index]}, not a first output")
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
        """Returns an attribute as a Python value: the file's, or its default, or None."""
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
        # Checked before the array is made, so that a crafted shape cannot exhaust the memory.
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
            f"{self.path}: node {name} {why}; this changes features or logits, use the graph in "
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
            f"{path}: not a GraphDef, or a truncated one ({len(data):,} bytes; the published file "
            f"has {GRAPH_BYTES:,}); fetch it again"
        )
    return graph_def
