"""Turns a graph's constants into the PyTorch weights that torch-fidelity and pytorch-fid read.

    python tests/helpers/inception_2015_torch_weights.py CONSTANTS.npz TABLE.py WEIGHTS.pth

CONSTANTS.npz is written by `python -m fid_med.extractors.inception_2015.stand_in`; TABLE.py is
torch-fidelity's own converter, `utils/util_convert_inception_weights.py` of its repository (the
wheel lacks it): the names are its, so that a mistake in ours cannot hide. Needs torch and no
TensorFlow.
"""

import runpy
import sys
import types

import numpy as np


def main(constants, table, weights):
    # The converter imports TensorFlow for nothing but reading the graph, which has been done.
    for name in ("tensorflow", "tensorflow.python", "tensorflow.python.framework"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["tensorflow.python.framework"].tensor_util = None
    converter = runpy.run_path(table)
    convert = converter["convert_tensorflow_graphdef_to_pytorch_checkpoint"]
    arrays = dict(np.load(constants))
    convert.__globals__["load_weights_from_graphdef"] = lambda: arrays
    convert(weights)


if __name__ == "__main__":
    main(*sys.argv[1:])
