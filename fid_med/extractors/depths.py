"""Depths of InceptionV3: pooled outputs of earlier layers as features.

The four depths are those of pytorch-fid and torch-fidelity, by their number of features.
"""

import keras

from fid_med.errors import ExtractorError

# The blocks that end at the last 17 x 17 grid, where Szegedy et al. 2015 attach the auxiliary head:
# of Keras's InceptionV3, and of the graph of 2015-12-05.
_BEFORE_AUXILIARY_HEAD = ("mixed7", "mixed_7_join")


def cut_at_depth(network: keras.Model, dims: int) -> keras.Model:
    """Cuts a network at a depth.

    Args:
      network: model from pixels to the 2,048 features of the global average pool, of either
        InceptionV3.
      dims: key of `registry.DEPTHS`.

    Returns:
      A model from the same pixels to float32 [B, dims], the average over positions of the output
      of that depth. It shares the network's layers and contains none behind the depth.

    Raises:
      ExtractorError: the network has no such depth.
    """
    if dims == network.output_shape[-1]:
        return network
    pools = [x for x in network.layers if isinstance(x, keras.layers.MaxPooling2D)]
    layers = [*pools[:2], *(x for x in network.layers if x.name in _BEFORE_AUXILIARY_HEAD)]
    for layer in layers:
        if layer.output.shape[-1] == dims:
            pooled = keras.layers.GlobalAveragePooling2D(name="features")(layer.output)
            return keras.Model(network.input, pooled, name=f"{network.name}_{dims}")
    raise ExtractorError(f"dims {dims}: {network.name} has no layer of InceptionV3 with that depth")
