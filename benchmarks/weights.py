"""The weights of the 2015-12-05 graph with the names of PyTorch's programs.

So all programs run the same network. A wrong name would show in the benchmark, which prints the
difference of the features.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from fid_med.extractors.inception_2015.download import read_graph
from fid_med.extractors.inception_2015.stand_in import constants

_STEM = {
    "conv": "Conv2d_1a_3x3",
    "conv_1": "Conv2d_2a_3x3",
    "conv_2": "Conv2d_2b_3x3",
    "conv_3": "Conv2d_3b_1x1",
    "conv_4": "Conv2d_4a_3x3",
}


def _tower(scope, branch, numbers):
    """Maps `tower/conv`, `tower/conv_1`, ... of the graph to PyTorch's `branch1`, `branch2`, ..."""
    return {
        f"{scope}/conv_{i}" if i else f"{scope}/conv": f"{branch}{number}"
        for i, number in enumerate(numbers)
    }


_EDGES = {"conv": "branch1x1", "tower_2/conv": "branch_pool"}
_BLOCK_35 = _EDGES | _tower("tower", "branch5x5_", "12") | _tower("tower_1", "branch3x3dbl_", "123")
_REDUCTION_17 = {"conv": "branch3x3"} | _tower("tower", "branch3x3dbl_", "123")
_BLOCK_17 = (
    _EDGES | _tower("tower", "branch7x7_", "123") | _tower("tower_1", "branch7x7dbl_", "12345")
)
_REDUCTION_8 = _tower("tower", "branch3x3_", "12") | _tower("tower_1", "branch7x7x3_", "1234")
_BLOCK_8 = (
    _EDGES
    | _tower("tower", "branch3x3_", "1")
    | _tower("tower/mixed", "branch3x3_", ("2a", "2b"))
    | _tower("tower_1", "branch3x3dbl_", "12")
    | _tower("tower_1/mixed", "branch3x3dbl_", ("3a", "3b"))
)
_BLOCKS = {
    "mixed": ("Mixed_5b", _BLOCK_35),
    "mixed_1": ("Mixed_5c", _BLOCK_35),
    "mixed_2": ("Mixed_5d", _BLOCK_35),
    "mixed_3": ("Mixed_6a", _REDUCTION_17),
    "mixed_4": ("Mixed_6b", _BLOCK_17),
    "mixed_5": ("Mixed_6c", _BLOCK_17),
    "mixed_6": ("Mixed_6d", _BLOCK_17),
    "mixed_7": ("Mixed_6e", _BLOCK_17),
    "mixed_8": ("Mixed_7a", _REDUCTION_8),
    "mixed_9": ("Mixed_7b", _BLOCK_8),
    "mixed_10": ("Mixed_7c", _BLOCK_8),
}
_NORMALISATION = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def module_names() -> dict[str, str]:
    """Returns PyTorch's name of the module by the convolution's scope in the graph."""
    names = dict(_STEM)
    for block, (module, convolutions) in _BLOCKS.items():
        names |= {f"{block}/{scope}": f"{module}.{name}" for scope, name in convolutions.items()}
    return names


def torch_arrays(path) -> dict[str, np.ndarray]:
    """Returns the state dict that pytorch-fid and torch-fidelity read, as float32 arrays.

    Args:
      path: the graph, `.pb`, or the `.tgz` that contains it.
    """
    graph_def = tf.compat.v1.GraphDef.FromString(read_graph(path))
    found = constants(graph_def)
    scaled = {
        node.name: node.attr["scale_after_normalization"].b
        for node in graph_def.node
        if node.op == "BatchNormWithGlobalNormalization"
    }
    arrays = {}
    for scope, module in module_names().items():
        norm = f"{scope}/batchnorm"
        arrays[f"{module}.conv.weight"] = found[f"{scope}/conv2d_params"].transpose(3, 2, 0, 1)
        for ours, theirs in _NORMALISATION.items():
            array = found[f"{norm}/{ours}"]
            if ours == "gamma" and not scaled[norm]:
                array = np.ones_like(array)
            arrays[f"{module}.bn.{theirs}"] = array
    arrays["fc.weight"] = found["softmax/weights"].T
    arrays["fc.bias"] = found["softmax/biases"]
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}
