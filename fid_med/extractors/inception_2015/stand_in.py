"""Stand-in for the published graph of 2015-12-05: the same nodes, with random weights.

Tests and `eval/validate_reference.py` use it on machines without the published file. Node names,
op types, pass-through nodes and the version of the GraphDef are those of the file. Attributes that
ops gained after 2015 are absent, as in the file. The random weights are calibrated: every feature
has an ordinary magnitude and differs between images.

    python -m fid_med.extractors.inception_2015.stand_in FOLDER

writes `classify_image_graph_def.pb`, and `constants.npz` for
`tests/helpers/inception_2015_torch_weights.py`.
"""

import pathlib
import sys

import numpy as np
import tensorflow as tf

from fid_med.utils.progress import quiet_tensorflow

GraphDef = tf.compat.v1.GraphDef
FLOAT, INT = tf.float32, tf.int32


def stand_in_graph(seed: int = 0) -> GraphDef:
    """Makes the graph, with `scale_after_normalization` true and gammas other than 1."""
    return _StandIn(seed).graph_def


def with_scale(graph_def: GraphDef, scale: bool) -> GraphDef:
    """Copies a graph and sets `scale_after_normalization` in every batch normalisation."""
    changed = copy_of(graph_def)
    for node in changed.node:
        if node.op == "BatchNormWithGlobalNormalization":
            node.attr["scale_after_normalization"].b = scale
    return changed


def copy_of(graph_def: GraphDef) -> GraphDef:
    """Copies a graph."""
    copied = GraphDef()
    copied.CopyFrom(graph_def)
    return copied


def node_of(graph_def: GraphDef, name: str):
    """Returns the node of a name."""
    return next(node for node in graph_def.node if node.name == name)


def set_constant(node, array: np.ndarray) -> None:
    """Sets the value of a Const node."""
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(array))
    node.attr["dtype"].type = node.attr["value"].tensor.dtype


def constants(graph_def: GraphDef) -> dict[str, np.ndarray]:
    """Returns every float32 constant by the name of its node."""
    return {
        node.name: tf.make_ndarray(node.attr["value"].tensor)
        for node in graph_def.node
        if node.op == "Const" and node.attr["dtype"].type == FLOAT.as_datatype_enum
    }


def run_graph(graph_def: GraphDef, images, outputs: list[str]) -> list[list[np.ndarray]]:
    """Runs the graph with TensorFlow, one image after another.

    Args:
      graph_def: the graph.
      images: each uint8 [H, W, 3]. They are fed as the output of `ExpandDims`, because its input
        has a static shape.
      outputs: node names.

    Returns:
      For each image the outputs, with a batch axis of 1.
    """
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        pixels = tf.compat.v1.placeholder(FLOAT, (None, None, None, 3))
        fetched = tf.graph_util.import_graph_def(
            copy_of(graph_def),  # importing adds later attributes to its argument
            input_map={"ExpandDims:0": pixels},
            return_elements=[f"{name}:0" for name in outputs],
            name="",
        )
        with quiet_tensorflow():
            return [session.run(fetched, {pixels: x[None].astype(np.float32)}) for x in images]


def smooth_images(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Draws uint8 images [count, height, width, 3]: smooth blobs of any brightness, and noise."""
    rng = np.random.default_rng(seed)
    blobs = rng.uniform(-60, 316, (count, 6, 6, 3)).astype(np.float32)
    images = tf.image.resize(blobs, (height, width), "bicubic").numpy()
    return np.clip(images + rng.normal(0, 12, images.shape), 0, 255).astype(np.uint8)


class _StandIn:
    """Writes the nodes, and computes each on a few images to calibrate the next."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.graph_def = GraphDef()
        # The graph's batch normalisation, deprecated in version 9, runs only in older graphs.
        self.graph_def.versions.producer = 8
        self.values = {}
        self._input()
        self._trunk()
        self._classifier()
        del self.values

    def _input(self):
        self._const("DecodeJpeg/contents", b"", tf.string)
        self._node("DecodeJpeg", "DecodeJpeg", ["DecodeJpeg/contents"], channels=3)
        self._node("Cast", "Cast", ["DecodeJpeg"], SrcT=tf.uint8, DstT=FLOAT)
        self._const("ExpandDims/dim", 0, INT)
        self._node("ExpandDims", "ExpandDims", ["Cast", "ExpandDims/dim"], T=FLOAT)
        self._const("ResizeBilinear/size", [299, 299], INT)
        sources = ["ExpandDims", "ResizeBilinear/size"]
        self._node("ResizeBilinear", "ResizeBilinear", sources, T=FLOAT)
        self._const("Sub/y", 128.0, FLOAT)
        self._node("Sub", "Sub", ["ResizeBilinear", "Sub/y"], T=FLOAT)
        self._const("Mul/y", 0.0078125, FLOAT)
        self._node("Mul", "Mul", ["Sub", "Mul/y"], T=FLOAT)
        pixels = smooth_images(4, 299, 299, seed=int(self.rng.integers(1 << 30)))
        self.values["Mul"] = (tf.cast(pixels, FLOAT) - 128) / 128

    def _trunk(self):
        x = self._conv("Mul", "conv", 3, 3, 32, 2, "VALID")
        x = self._conv(x, "conv_1", 3, 3, 32, 1, "VALID")
        x = self._conv(x, "conv_2", 3, 3, 64)
        x = self._pool(x, "pool")
        x = self._conv(x, "conv_3", 1, 1, 80, 1, "VALID")
        x = self._conv(x, "conv_4", 3, 3, 192, 1, "VALID")
        x = self._pool(x, "pool_1")
        for scope, channels in (("mixed", 32), ("mixed_1", 64), ("mixed_2", 64)):
            x = self._mixed_35(x, scope, channels)
        x = self._mixed_3(x)
        for number, channels in ((4, 128), (5, 160), (6, 160), (7, 192)):
            x = self._mixed_17(x, f"mixed_{number}", channels)
        x = self._mixed_8(x)
        x = self._mixed_final(x, "mixed_9", "AvgPool")
        x = self._mixed_final(x, "mixed_10", "MaxPool")
        self._pool(x, "pool_3", "AvgPool", 8, 1, "VALID")

    def _mixed_35(self, x, scope, channels):
        a = self._conv(x, f"{scope}/conv", 1, 1, 64)
        b = self._conv(x, f"{scope}/tower/conv", 1, 1, 48)
        b = self._conv(b, f"{scope}/tower/conv_1", 5, 5, 64)
        c = self._conv(x, f"{scope}/tower_1/conv", 1, 1, 64)
        c = self._conv(c, f"{scope}/tower_1/conv_1", 3, 3, 96)
        c = self._conv(c, f"{scope}/tower_1/conv_2", 3, 3, 96)
        d = self._pool(x, f"{scope}/tower_2/pool", "AvgPool", 3, 1, "SAME")
        d = self._conv(d, f"{scope}/tower_2/conv", 1, 1, channels)
        return self._join(f"{scope}/join", [a, b, c, d])

    def _mixed_3(self, x):
        a = self._conv(x, "mixed_3/conv", 3, 3, 384, 2, "VALID")
        b = self._conv(x, "mixed_3/tower/conv", 1, 1, 64)
        b = self._conv(b, "mixed_3/tower/conv_1", 3, 3, 96)
        b = self._conv(b, "mixed_3/tower/conv_2", 3, 3, 96, 2, "VALID")
        c = self._pool(x, "mixed_3/pool")
        return self._join("mixed_3/join", [a, b, c])

    def _mixed_17(self, x, scope, channels):
        a = self._conv(x, f"{scope}/conv", 1, 1, 192)
        b = self._conv(x, f"{scope}/tower/conv", 1, 1, channels)
        b = self._conv(b, f"{scope}/tower/conv_1", 1, 7, channels)
        b = self._conv(b, f"{scope}/tower/conv_2", 7, 1, 192)
        c = self._conv(x, f"{scope}/tower_1/conv", 1, 1, channels)
        c = self._conv(c, f"{scope}/tower_1/conv_1", 7, 1, channels)
        c = self._conv(c, f"{scope}/tower_1/conv_2", 1, 7, channels)
        c = self._conv(c, f"{scope}/tower_1/conv_3", 7, 1, channels)
        c = self._conv(c, f"{scope}/tower_1/conv_4", 1, 7, 192)
        d = self._pool(x, f"{scope}/tower_2/pool", "AvgPool", 3, 1, "SAME")
        d = self._conv(d, f"{scope}/tower_2/conv", 1, 1, 192)
        return self._join(f"{scope}/join", [a, b, c, d])

    def _mixed_8(self, x):
        a = self._conv(x, "mixed_8/tower/conv", 1, 1, 192)
        a = self._conv(a, "mixed_8/tower/conv_1", 3, 3, 320, 2, "VALID")
        b = self._conv(x, "mixed_8/tower_1/conv", 1, 1, 192)
        b = self._conv(b, "mixed_8/tower_1/conv_1", 1, 7, 192)
        b = self._conv(b, "mixed_8/tower_1/conv_2", 7, 1, 192)
        b = self._conv(b, "mixed_8/tower_1/conv_3", 3, 3, 192, 2, "VALID")
        c = self._pool(x, "mixed_8/pool")
        return self._join("mixed_8/join", [a, b, c])

    def _mixed_final(self, x, scope, pool):
        a = self._conv(x, f"{scope}/conv", 1, 1, 320)
        b = self._conv(x, f"{scope}/tower/conv", 1, 1, 384)
        b1 = self._conv(b, f"{scope}/tower/mixed/conv", 1, 3, 384)
        b2 = self._conv(b, f"{scope}/tower/mixed/conv_1", 3, 1, 384)
        c = self._conv(x, f"{scope}/tower_1/conv", 1, 1, 448)
        c = self._conv(c, f"{scope}/tower_1/conv_1", 3, 3, 384)
        c1 = self._conv(c, f"{scope}/tower_1/mixed/conv", 1, 3, 384)
        c2 = self._conv(c, f"{scope}/tower_1/mixed/conv_1", 3, 1, 384)
        d = self._pool(x, f"{scope}/tower_2/pool", pool, 3, 1, "SAME")
        d = self._conv(d, f"{scope}/tower_2/conv", 1, 1, 192)
        return self._join(f"{scope}/join", [a, b1, b2, c1, c2, d])

    def _classifier(self):
        self._const("pool_3/_reshape/shape", [1, 2048], INT)
        self._node("pool_3/_reshape", "Reshape", ["pool_3", "pool_3/_reshape/shape"], T=FLOAT)
        self._const("softmax/weights", self.rng.normal(0, 0.05, (2048, 1008)), FLOAT)
        self._const("softmax/biases", self.rng.normal(0, 0.5, 1008), FLOAT)
        product = "softmax/logits/MatMul"
        sources = ["pool_3/_reshape", "softmax/weights"]
        self._node(product, "MatMul", sources, T=FLOAT, transpose_a=False, transpose_b=False)
        self._node("softmax/logits", "BiasAdd", [product, "softmax/biases"], T=FLOAT)
        self._node("softmax", "Softmax", ["softmax/logits"], T=FLOAT)

    def _conv(self, source, scope, height, width, channels, stride=1, padding="SAME"):
        x, norm = self.values[source], f"{scope}/batchnorm"
        shape = (height, width, x.shape[-1], channels)
        kernel = self.rng.normal(0, np.sqrt(2 / np.prod(shape[:3])), shape).astype(np.float32)
        x = tf.nn.conv2d(x, kernel, stride, padding)
        self._const(f"{scope}/conv2d_params", kernel, FLOAT)
        self._node(
            f"{scope}/Conv2D",
            "Conv2D",
            [source, f"{scope}/conv2d_params"],
            T=FLOAT,
            strides=[1, stride, stride, 1],
            padding=padding,
            use_cudnn_on_gpu=True,
        )
        weights = self._batchnorm(norm, x)
        self._node(
            norm,
            "BatchNormWithGlobalNormalization",
            [f"{scope}/Conv2D"]
            + [f"{norm}/{x}" for x in ("moving_mean", "moving_variance", "beta", "gamma")],
            T=FLOAT,
            variance_epsilon=0.001,
            scale_after_normalization=True,
        )
        self._node(scope, "Relu", [self._checked(scope, norm)], T=FLOAT)
        self.values[scope] = tf.nn.relu(tf.nn.batch_normalization(x, *weights, 0.001))
        return scope

    def _batchnorm(self, name, x):
        """Writes statistics close to the true ones, but not equal, as in a trained network."""
        channels = x.shape[-1]
        mean, variance = (v.numpy() for v in tf.nn.moments(x, (0, 1, 2)))
        weights = {
            # Above 0 on average: with a mean of 0, a hundred layers amplify rounding to 5e-5 of a
            # feature; in a trained network it stays near 5e-6.
            "beta": self.rng.normal(0.7, 0.3, channels),
            "gamma": self.rng.uniform(0.6, 1.4, channels),
            "moving_mean": mean + self.rng.normal(0, 0.1, channels) * np.sqrt(variance),
            "moving_variance": variance * self.rng.uniform(0.7, 1.4, channels),
        }
        weights = {key: value.astype(np.float32) for key, value in weights.items()}
        for key, value in weights.items():
            self._const(f"{name}/{key}", value, FLOAT)
        return [weights[k] for k in ("moving_mean", "moving_variance", "beta", "gamma")]

    def _pool(self, source, name, op="MaxPool", size=3, stride=2, padding="VALID"):
        attributes = {
            "ksize": [1, size, size, 1],
            "strides": [1, stride, stride, 1],
            "padding": padding,
        }
        if op == "AvgPool":
            attributes["T"] = FLOAT  # in 2015 MaxPool had no attribute T
        self._node(name, op, [self._checked(name, source)], **attributes)
        kind = {"MaxPool": "MAX", "AvgPool": "AVG"}[op]
        x = self.values[source]
        self.values[name] = tf.nn.pool(x, (size, size), kind, (stride, stride), padding)
        return name

    def _checked(self, scope, source):
        """Writes the two nodes that precede every ReLU and pool in the 2015 graph."""
        check, passed = f"{scope}/CheckNumerics", f"{scope}/control_dependency"
        self._node(check, "CheckNumerics", [source], T=FLOAT, message=f"{scope} not finite")
        self._node(passed, "Identity", [source, f"^{check}"], T=FLOAT)
        return passed

    def _join(self, name, sources):
        self._const(f"{name}/concat_dim", 3, INT)
        self._node(name, "Concat", [f"{name}/concat_dim", *sources], T=FLOAT, N=len(sources))
        self.values[name] = tf.concat([self.values[x] for x in sources], 3)
        return name

    def _const(self, name, value, dtype):
        array = value if dtype == tf.string else np.asarray(value, dtype.as_numpy_dtype)
        node = self._node(name, "Const", [], dtype=dtype)
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(array, dtype))

    def _node(self, name, op, sources, **attributes):
        node = self.graph_def.node.add(name=name, op=op, input=sources)
        for key, value in attributes.items():
            attribute = node.attr[key]
            if isinstance(value, tf.DType):
                attribute.type = value.as_datatype_enum
            elif isinstance(value, list):
                attribute.list.i.extend(value)
            elif isinstance(value, str):
                attribute.s = value.encode()
            else:
                setattr(attribute, {bool: "b", int: "i", float: "f"}[type(value)], value)
        return node


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    graph_def = stand_in_graph()
    (folder / "classify_image_graph_def.pb").write_bytes(graph_def.SerializeToString())
    np.savez(folder / "constants.npz", **constants(graph_def))


if __name__ == "__main__":
    main(*sys.argv[1:])
