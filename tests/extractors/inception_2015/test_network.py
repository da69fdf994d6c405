"""The 2015 network: compared with TensorFlow's run of the graph, and the graphs it refuses."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from helpers import rounding

from benchmarks.weights import torch_arrays
from fid_med.data.datasets import phantom
from fid_med.errors import ExtractorError
from fid_med.extractors.inception_2015 import graph, stand_in
from fid_med.extractors.inception_2015.network import (
    PREPROCESSING,
    _NormalisationRelu,
    load_network,
)
from fid_med.extractors.registry import load_extractor
from fid_med.training.train import TrainingConfig, train

SIZES = [(32, 32), (75, 75), (299, 299), (512, 384)]


@pytest.fixture(scope="session")
def save(tmp_path_factory):
    """Writes a graph, always to the same file, because each has 96 MB."""
    path = tmp_path_factory.mktemp("graph") / "classify_image_graph_def.pb"

    def write(changed):
        path.write_bytes(changed.SerializeToString())
        return path

    return write


@pytest.fixture(scope="session", params=[True, False], ids=["gamma", "no gamma"])
def scaled(request, graph_def, save):
    """A graph with and without `scale_after_normalization`, and the network read from it."""
    changed = stand_in.with_scale(graph_def, request.param)
    return changed, load_network(save(changed))


@pytest.fixture(scope="session")
def network(graph_def, save):
    return load_network(save(graph_def))


def features(network, image):
    pixels = PREPROCESSING.apply(image)
    return network.model(pixels[None], training=False).numpy()


@pytest.fixture(scope="session")
def executed(scaled):
    """By size: an image, and the outputs of TensorFlow for it."""
    images = [stand_in.smooth_images(1, *size)[0] for size in SIZES]
    nodes = ["ResizeBilinear", "pool_3", "softmax/logits/MatMul", "softmax/logits"]
    outputs = stand_in.run_graph(scaled[0], images, nodes)
    return dict(zip(SIZES, zip(images, outputs, strict=True), strict=True))


def assert_close(obtained, expected):
    assert np.abs(obtained - expected).max() <= rounding.FEATURES * np.abs(expected).max()


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_features_and_logits_are_those_of_tensorflow(scaled, executed, size):
    _, network = scaled
    image, (resized, pool, product, logits) = executed[size]
    np.testing.assert_array_equal(PREPROCESSING.apply(image), resized[0])
    obtained = features(network, image)
    assert_close(obtained, pool[:, 0, 0])
    assert_close(network.logits(obtained), product)
    assert_close(network.logits(obtained, biases=True), logits)


def test_the_stand_in_can_reveal_errors(executed):
    """Every feature is positive somewhere, of ordinary magnitude, and differs between images."""
    pools = np.stack([outputs[1].ravel() for _, outputs in executed.values()])
    assert (pools > 0).any(axis=0).all()
    assert 0.1 < pools.mean() < 10
    assert pools.std(axis=0).mean() > 0.05


def test_the_stand_in_is_of_2015(graph_def):
    assert graph_def.versions.producer < 9
    young = {"data_format", "dilations", "explicit_paddings", "half_pixel_centers", "Tdim"}
    assert not {key for node in graph_def.node for key in node.attr} & young
    assert sum(node.op == "Conv2D" for node in graph_def.node) == 94


def test_a_batch_gives_what_single_images_give(network):
    images = stand_in.smooth_images(2, 75, 75, seed=3)
    pixels = np.stack([PREPROCESSING.apply(image) for image in images])
    together = network.model(pixels, training=False).numpy()
    alone = np.concatenate([features(network, image) for image in images])
    assert_close(together, alone)


def test_the_fingerprint_knows_whether_gamma_counts(scaled, graph_def, network):
    changed, other = scaled
    gamma_counts = stand_in.node_of(changed, "conv/batchnorm").attr["scale_after_normalization"].b
    assert (other.fingerprint() == network.fingerprint()) == gamma_counts
    assert [x.dtype for x in other.arrays] == [np.float32] * (94 * 5 + 2)


def test_attributes_that_came_later_may_be_there_with_their_defaults(graph_def, save, network):
    changed = stand_in.copy_of(graph_def)
    for node in changed.node:
        if node.op in ("Conv2D", "MaxPool", "AvgPool"):
            node.attr["data_format"].s = b"NHWC"
        if node.op == "Conv2D":
            node.attr["dilations"].list.i.extend([1, 1, 1, 1])
            node.attr["explicit_paddings"].list.SetInParent()
    assert load_network(save(changed)).fingerprint() == network.fingerprint()


def test_extra_nodes_and_pass_throughs_are_ignored(graph_def, save, network):
    changed = stand_in.copy_of(graph_def)
    changed.node.add(name="summary/nobody_asks", op="ScalarSummary")
    read = changed.node.add(name="mixed/conv/conv2d_params/read", op="Identity")
    read.input.extend(["mixed/conv/conv2d_params:0", "^conv"])
    stand_in.node_of(changed, "mixed/conv/Conv2D").input[1] = read.name
    assert load_network(save(changed)).fingerprint() == network.fingerprint()


def test_a_file_that_ends_at_the_pool_gives_features_but_no_logits(graph_def, save, network):
    cut = without(graph_def, "softmax", "pool_3/_reshape")
    loaded = load_network(save(cut), name="cut")
    assert loaded.logit_weights is None
    assert len(loaded.arrays) == len(network.arrays) - 2
    with pytest.raises(ExtractorError, match="cut: has no node softmax/weights"):
        loaded.logits(np.zeros((1, 2048)))


def without(graph_def, *prefixes):
    kept = stand_in.GraphDef(versions=graph_def.versions)
    kept.node.extend(node for node in graph_def.node if not node.name.startswith(prefixes))
    return kept


def attribute(name, key, **value):
    """Returns a change of one attribute; a list replaces the old one."""

    def change(graph_def):
        attr = stand_in.node_of(graph_def, name).attr[key]
        for kind, given in value.items():
            if kind == "ints":
                attr.list.ClearField("i")
                attr.list.i.extend(given)
            else:
                setattr(attr, kind, given)

    return change


def constant(name, array):
    return lambda graph_def: stand_in.set_constant(stand_in.node_of(graph_def, name), array)


def wire(name, index, source):
    def change(graph_def):
        stand_in.node_of(graph_def, name).input[index] = source

    return change


def lacking(name, key):
    def change(graph_def):
        del stand_in.node_of(graph_def, name).attr[key]

    return change


def claim(size):
    def change(graph_def):
        tensor = stand_in.node_of(graph_def, "conv_4/conv2d_params").attr["value"].tensor
        tensor.tensor_shape.dim[0].size = size

    return change


def op(name, kind):
    def change(graph_def):
        stand_in.node_of(graph_def, name).op = kind

    return change


def swap_branches(graph_def):
    join = stand_in.node_of(graph_def, "mixed_9/join")
    join.input[2], join.input[3] = join.input[3], join.input[2]


def swap_shape(graph_def):
    node = stand_in.node_of(graph_def, "mixed_4/tower/conv_1/conv2d_params")
    array = tf.make_ndarray(node.attr["value"].tensor)
    stand_in.set_constant(node, array.transpose(1, 0, 2, 3))


def cut_short(graph_def):
    tensor = stand_in.node_of(graph_def, "conv_4/conv2d_params").attr["value"].tensor
    tensor.tensor_content = tensor.tensor_content[:-4]


def twice(graph_def):
    graph_def.node.add().CopyFrom(stand_in.node_of(graph_def, "conv"))


def more_inputs(name, *sources):
    return lambda graph_def: stand_in.node_of(graph_def, name).input.extend(sources)


def no_input(graph_def):
    del stand_in.node_of(graph_def, "conv_1/control_dependency").input[:]


def loop(graph_def):
    for name, source in (("a", "b"), ("b", "a")):
        graph_def.node.add(name=name, op="Identity", input=[source])
    wire("mixed/conv/Conv2D", 0, "a")(graph_def)


REFUSED = {
    "stride": (attribute("conv/Conv2D", "strides", ints=[1, 1, 1, 1]), "conv/Conv2D strides"),
    "padding": (attribute("conv_1/Conv2D", "padding", s=b"SAME"), "conv_1/Conv2D padding"),
    "nchw": (attribute("conv_2/Conv2D", "data_format", s=b"NCHW"), "conv_2/Conv2D data_format"),
    "nchw pool": (attribute("pool", "data_format", s=b"NCHW"), "pool data_format"),
    "dilation": (attribute("conv_2/Conv2D", "dilations", ints=[1, 2, 2, 1]), "Conv2D dilations"),
    "dtype": (attribute("conv/Conv2D", "T", type=tf.float16.as_datatype_enum), "conv/Conv2D T"),
    "epsilon": (
        attribute("conv_3/batchnorm", "variance_epsilon", f=0.01),
        "conv_3/batchnorm variance_epsilon is 0.0[0-9]*, expected 0.001",
    ),
    "pool kind": (op("mixed_10/tower_2/pool", "AvgPool"), "mixed_10/tower_2/pool is a AvgPool"),
    "pool size": (
        attribute("mixed/tower_2/pool", "ksize", ints=[1, 5, 5, 1]),
        "mixed/tower_2/pool ksize",
    ),
    "pool stride": (attribute("pool_1", "strides", ints=[1, 1, 1, 1]), "pool_1 strides"),
    "pool padding": (attribute("pool", "padding", s=b"SAME"), "pool padding"),
    "last pool": (attribute("pool_3", "ksize", ints=[1, 4, 4, 1]), "pool_3 ksize"),
    "activation": (op("mixed/conv", "Relu6"), "mixed/conv is a Relu6"),
    "other convolution": (op("conv/Conv2D", "DepthwiseConv2dNative"), "conv/Conv2D is a Depthwise"),
    "join order": (swap_branches, "mixed_9/join input 2 is mixed_9/tower/mixed/conv_1"),
    "join axis": (constant("mixed/join/concat_dim", np.int32(2)), "mixed/join .*concat_dim is 2"),
    "subtrahend": (constant("Sub/y", np.float32(127.5)), "Sub Sub/y is 127.5"),
    "factor": (constant("Mul/y", np.float32(1 / 127.5)), "Mul Mul/y is 0.0078"),
    "resized to": (constant("ResizeBilinear/size", np.int32([299, 300])), "ResizeBilinear/size"),
    "corners": (attribute("ResizeBilinear", "align_corners", b=True), "align_corners is True"),
    "half pixels": (attribute("ResizeBilinear", "half_pixel_centers", b=True), "half_pixel"),
    "fed before": (wire("ResizeBilinear", 0, "Cast"), "ResizeBilinear input 0 is Cast"),
    "rewired": (
        wire("mixed/tower/conv_1/Conv2D", 0, "mixed/tower_1/conv"),
        "mixed/tower/conv_1/Conv2D input 0 is mixed/tower_1/conv, expected mixed/tower/conv",
    ),
    "rewired behind a check": (
        wire("conv_1/control_dependency", 0, "conv_1/Conv2D"),
        "conv_1 input 0 is conv_1/Conv2D, expected conv_1/batchnorm",
    ),
    "other weights": (
        wire("mixed_1/conv/Conv2D", 1, "mixed_2/conv/conv2d_params"),
        "mixed_1/conv/Conv2D input 1",
    ),
    "beta for mean": (wire("conv/batchnorm", 1, "conv/batchnorm/beta"), "conv/batchnorm input 1"),
    "second output": (wire("conv_1/Conv2D", 0, "conv:1"), "conv_1/Conv2D input 0 is conv:1"),
    "classifier": (wire("softmax/logits/MatMul", 0, "pool_3"), "pool_3 is a AvgPool"),
    "shape": (swap_shape, "mixed_4/tower/conv_1/conv2d_params has shape .7, 1, 128, 128."),
    "cut constant": (cut_short, "conv_4/conv2d_params is damaged"),
    "double": (
        constant("conv/batchnorm/beta", np.zeros(32)),
        "conv/batchnorm/beta is not of dtype",
    ),
    "nan": (constant("conv/batchnorm/beta", np.full(32, np.nan, "f4")), "beta contains numbers"),
    "variance": (
        constant("conv/batchnorm/moving_variance", np.full(32, -1, "f4")),
        "conv/batchnorm/moving_variance contains negative",
    ),
    "joins more": (more_inputs("mixed/join", "conv"), "mixed/join has 6 inputs, expected 5"),
    "more weights": (more_inputs("conv/Conv2D", "conv"), "conv/Conv2D has 3 inputs, expected 2"),
    "no input": (no_input, "conv_1/control_dependency has 0 inputs"),
    "one of all scales": (
        constant("Sub/y", np.full(3, 128, "f4")),
        "Sub/y has shape .3., expected ..",
    ),
    "half": (
        constant("conv/conv2d_params", np.zeros((3, 3, 3, 32), "f2")),
        "conv/conv2d_params is not of dtype float32",
    ),
    "no stride": (lacking("conv/Conv2D", "strides"), "conv/Conv2D strides is missing"),
    "no epsilon": (lacking("conv/batchnorm", "variance_epsilon"), "variance_epsilon is missing"),
    "no scale": (lacking("conv/batchnorm", "scale_after_normalization"), "zation is missing"),
    "fused": (op("conv/batchnorm", "FusedBatchNorm"), "conv/batchnorm is a FusedBatchNorm"),
    "huge": (claim(1 << 40), "conv_4/conv2d_params has shape .1099511627776, 3, 80, 192."),
    "twice": (twice, "conv occurs twice"),
    "loop": (loop, "(a|b) feeds itself"),
}


@pytest.fixture(scope="session")
def light(graph_def):
    """The graph with small files for its largest constants, for tests that compute nothing."""
    changed = stand_in.copy_of(graph_def)
    for node in changed.node:
        tensor = node.attr["value"].tensor if node.op == "Const" else None
        if tensor is not None and len(tensor.tensor_content) > 1 << 20:
            tensor.tensor_content = b""
            tensor.float_val.append(0.5)  # repeated for all elements
    return changed


@pytest.mark.parametrize("case", REFUSED)
def test_a_change_of_the_features_is_refused_and_its_node_named(light, save, case):
    change, said = REFUSED[case]
    changed = stand_in.copy_of(light)
    change(changed)
    with pytest.raises(ExtractorError, match=f"node {said}|node .*{said}") as refusal:
        load_network(save(changed))
    assert "\n" not in str(refusal.value)


def test_every_node_before_the_pool_must_be_there(light, save):
    for name in ("mixed_6/tower_1/conv_3/Conv2D", "mixed_10/join", "conv", "Sub/y", "pool_3"):
        changed = stand_in.copy_of(light)
        changed.node.remove(stand_in.node_of(changed, name))
        with pytest.raises(ExtractorError, match=rf"node {name} is missing"):
            load_network(save(changed))


def test_a_truncated_or_foreign_file_is_refused(graph_def, tmp_path):
    whole = graph_def.SerializeToString()
    path = tmp_path / "graph.pb"
    for data in (whole[: len(whole) // 2], b"", b"<html>not found</html>"):
        path.write_bytes(data)
        with pytest.raises(ExtractorError, match=r"graph\.pb: not a GraphDef, or a truncated one"):
            graph.Graph(path)
    with pytest.raises(ExtractorError, match=r"none\.pb: cannot be read"):
        graph.Graph(tmp_path / "none.pb")


def test_other_files_and_preprocessing_than_the_published_give_warnings(network, monkeypatch):
    (said,) = network.warnings()
    assert said.startswith(f"{network.name}: {network.size:,} bytes, but the published graph has")
    monkeypatch.setattr("fid_med.extractors.inception_2015.network.GRAPH_BYTES", network.size)
    assert network.warnings() == ()
    (said,) = network.warnings(dataclasses.replace(PREPROCESSING, aspect="pad"))
    assert "resized by tf1, pad, but published FIDs use tf1, stretch" in said


def test_load_extractor_takes_the_graph(graph_def, save, network, monkeypatch):
    path = save(graph_def)
    extractor = load_extractor(path)
    assert extractor.name == path.name
    assert extractor.preprocessing == PREPROCESSING
    image = stand_in.smooth_images(1, 40, 50)[0]
    ((pool, product),) = stand_in.run_graph(graph_def, [image], ["pool_3", "softmax/logits/MatMul"])
    obtained = extractor.extract([image])
    assert_close(obtained, pool[:, 0, 0])
    assert_close(extractor.logits(obtained), product)
    # What follows are options; the graph has been read.
    monkeypatch.setattr(
        "fid_med.extractors.inception_2015.network.load_network", lambda *_: network
    )
    antialiased = load_extractor(path, resize="antialias")
    assert antialiased.fingerprint != extractor.fingerprint
    assert len(antialiased.warnings) == len(extractor.warnings) + 1
    said = load_extractor(path, precision="bfloat16").warnings[-1]
    assert said == f"{path.name} in bfloat16: published FIDs are computed in float32"
    with pytest.raises(ExtractorError, match="takes only images of 299 x 299"):
        load_extractor(path, image_size=128)
    with pytest.raises(ExtractorError, match="only Keras's InceptionV3 can be trained"):
        train(
            phantom.load(20, 80),
            TrainingConfig(weights=str(path), image_size=299),
            path.parent,
        )


@pytest.mark.parametrize("scale", [True, False])
def test_every_weight_has_a_name_of_pytorchs(graph_def, save, scale):
    arrays = torch_arrays(save(stand_in.with_scale(graph_def, scale)))
    # All except the two of the input scaling: 94 convolutions of 5 arrays, and the classifier.
    constants = [x for x in stand_in.constants(graph_def).values() if x.ndim]
    assert len(arrays) == len(constants) == 94 * 5 + 2
    assert sum(x.size for x in arrays.values()) == sum(x.size for x in constants)
    assert arrays["Mixed_7c.branch3x3dbl_3b.conv.weight"].shape == (384, 384, 3, 1)
    assert arrays["fc.weight"].shape == (1008, 2048)
    gammas = np.concatenate([x for name, x in arrays.items() if name.endswith("bn.weight")])
    assert (gammas == 1).all() != scale


def test_normalisation_and_relu_are_one_op_in_the_graphs_order():
    rng = np.random.default_rng(0)
    pixels = rng.normal(3, 2, (2, 5, 5, 16)).astype(np.float32)
    mean, scale, beta = (rng.normal(size=16).astype(np.float32) for _ in range(3))
    layer = _NormalisationRelu(name="norm")
    layer.build(pixels.shape)
    layer.set_weights([mean, scale, beta])
    traced = tf.function(layer).get_concrete_function(tf.TensorSpec(pixels.shape))
    kinds = {op.type for op in traced.graph.get_operations()}
    assert "FusedBatchNormV3" in kinds, kinds
    expected = np.maximum((pixels - mean) * scale + beta, 0)
    # Three operations, each of which rounds: a subtraction, a product, an addition.
    tolerance = rounding.rounding(3) * expected.max()
    assert np.abs(traced(tf.constant(pixels)) - expected).max() <= tolerance
