"""The FID in the shortest code with Keras, NumPy and SciPy: the baseline of the case `command`.

Usage, from the checkout: python -m benchmarks.baseline GRAPH REAL GENERATED
"""

import os
import sys

import numpy as np

from fid_med.data.images import list_images, read_image
from fid_med.metrics.frechet import calculate_frechet_distance


def main(graph, *folders):
    from fid_med.extractors.inception_2015.network import PREPROCESSING, load_network

    network, moments = load_network(graph).model, []
    for folder in folders:
        images = [read_image(os.path.join(folder, name)) for name in list_images(folder)]
        pixels = np.stack([PREPROCESSING.apply(image) for image in images])
        features = network.predict(pixels, verbose=0)
        moments += [features.mean(axis=0), np.cov(features, rowvar=False)]
    print(calculate_frechet_distance(*moments))


if __name__ == "__main__":
    main(*sys.argv[1:])
