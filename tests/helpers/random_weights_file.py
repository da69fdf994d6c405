"""Writes the weights of `random`, which take gigabytes to make, to a file: SEED FILE.

In a process of its own, because TensorFlow does not return that memory to the machine.
"""

import sys

import numpy as np

from fid_med.extractors import random_weights

if __name__ == "__main__":
    seed, file = sys.argv[1:]
    layers = random_weights._calibrated_weights(int(seed))
    arrays = {f"{i}_{j}": x for i, layer in enumerate(layers) for j, x in enumerate(layer)}
    np.savez(file, **arrays)
