"""Feature maps: the activations that an extractor averages over positions, and where they are."""

from __future__ import annotations

import keras
import numpy as np

from fid_med.data.preprocessing import as_rgb_batch
from fid_med.extractors.depths import cut_at_depth
from fid_med.extractors.extractor import FeatureExtractor
from fid_med.extractors.keras_settings import plain_keras


class FeatureMaps:
    """Computes feature maps of single images, and enlarges them to the images.

    Args:
      extractor: any extractor, at any depth, whose network ends in a global average pool.
      dims: number of features, as for `cut_at_depth`; by default all of the extractor.

    Example:

    ```python
    import fid_med
    from fid_med.extractors.feature_maps import FeatureMaps

    extractor = fid_med.load_extractor("random", image_size=75, dims=768)
    radiographs, _ = fid_med.phantom_set(1, size=80)
    maps = FeatureMaps(extractor)
    activations = maps.compute(radiographs[0])
    assert activations.shape == (3, 3, 768)
    strongest = maps.enlarge(activations.max(axis=-1), radiographs[0].shape)
    assert strongest.shape == (80, 80)
    ```
    """

    @plain_keras()
    def __init__(self, extractor: FeatureExtractor, dims: int | None = None):
        network = cut_at_depth(extractor, dims or extractor.num_features).network
        # The layers are the network's own: no weight is copied, nothing behind the pool runs.
        self._network = keras.Model(network.input, _pool(network).input)
        self._preprocessing = extractor.preprocessing
        self._first, self._spacing = _grid(self._network)

    def compute(self, image: np.ndarray) -> np.ndarray:
        """Computes the activations before the pool.

        They are computed in float32, whatever the precision of the extractor, and without folding.
        Their mean over positions therefore equals the features up to rounding.

        Args:
          image: uint8 [H, W] or [H, W, 3].

        Returns:
          float32 [h, w, d].
        """
        pixels = as_rgb_batch([self._preprocessing.apply(image)]).astype(np.float32)
        return np.asarray(self._network(pixels, training=False))[0]

    def enlarge(self, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Interpolates a map bilinearly at the pixels of an image.

        A position is placed at the centre of the pixels that it is computed from. Convolutions
        without padding leave a margin without any centre; there the outermost value is
        continued. Bars that `aspect="pad"` adds to an image are not part of the result.

        Args:
          values: one number per position, [h, w].
          shape: height and width of the image; further entries are ignored.

        Returns:
          float64 [H, W].
        """
        top, left, height, width = self._preprocessing.box(*shape[:2])
        rows = self._positions(top, height, shape[0])
        columns = self._positions(left, width, shape[1])
        h, w = values.shape
        across = np.stack([np.interp(columns, np.arange(w), row) for row in values])
        return np.stack([np.interp(rows, np.arange(h), column) for column in across.T], axis=1)

    def _positions(self, start, size, pixels):
        """Positions, as fractions, of the centres of an image's pixels along one axis."""
        in_network = start + (np.arange(pixels) + 0.5) * size / pixels
        return (in_network - self._first) / self._spacing


def has_feature_maps(extractor: FeatureExtractor) -> bool:
    """Whether a network is of plain layers that end in a global average pool.

    All networks of `load_extractor` are. Networks that contain other models are not.
    """
    network = extractor.whole.network
    nested = any(isinstance(layer, keras.Model) for layer in network.layers)
    return not nested and _pool(network) is not None


def _pool(network):
    last = getattr(network, "operations", [None])[-1]  # a Sequential model has none
    return last if isinstance(last, keras.layers.GlobalAveragePooling2D) else None


def _grid(network):
    """Centre of the first position, and distance between positions, in pixels of the input.

    Both follow from any one way through the network: the branches of a block are aligned. Layers
    with the padding `same` keep the centres.
    """
    # `layers` would lack operations, such as the flip of the channel order.
    made_by = {id(layer.output): layer for layer in network.operations}
    layer, way = made_by[id(network.output)], []
    while not isinstance(layer, keras.layers.InputLayer):
        way.append(layer)
        inputs = layer.input
        layer = made_by[id(inputs[0] if isinstance(inputs, (list, tuple)) else inputs)]
    first, spacing = 0.5, 1
    for layer in reversed(way):
        if isinstance(layer, keras.layers.ZeroPadding2D):
            first -= spacing * layer.padding[0][0]
        size = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", (1,))
        if getattr(layer, "padding", "same") == "valid":
            first += spacing * (size[0] - 1) / 2
        spacing *= getattr(layer, "strides", (1,))[0]
    return first, spacing
