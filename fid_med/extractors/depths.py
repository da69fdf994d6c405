"""Depths of InceptionV3: pooled outputs of earlier layers as features.

The four depths are those of pytorch-fid and torch-fidelity, by their number of features.
"""

import copy
import hashlib

import keras

from fid_med.errors import ExtractorError
from fid_med.extractors.extractor import FeatureExtractor
from fid_med.extractors.inception_2015.network import NETWORK as GRAPH_NETWORK
from fid_med.extractors.inception_v3 import NETWORK
from fid_med.extractors.keras_settings import plain_keras
from fid_med.extractors.registry import DEPTHS

# The blocks that end at the last 17 x 17 grid, where Szegedy et al. 2015 attach the auxiliary head:
# of Keras's InceptionV3, and of the graph of 2015-12-05.
_BEFORE_AUXILIARY_HEAD = ("mixed7", "mixed_7_join")
_POOL_3 = max(DEPTHS)


def cut_at_depth(extractor: FeatureExtractor, dims: int) -> FeatureExtractor:
    """Cuts an extractor at a depth.

    Args:
      extractor: an extractor of either InceptionV3, at any depth, or any other at its only one.
      dims: key of `registry.DEPTHS`.

    Returns:
      An extractor of float32 [B, dims], the average over positions of the output of that depth.
      Its network shares the layers of the given one and contains none behind the depth. At 2048 it
      is the extractor as it was loaded.

    Raises:
      ExtractorError: the network has no such depth.
    """
    whole = extractor.whole
    if dims == whole.num_features:
        return whole
    if whole.architecture not in (NETWORK, GRAPH_NETWORK):
        raise ExtractorError(
            f"dims {dims}: {whole.name} has the depth of its global average pool only, "
            f"{whole.num_features} features; InceptionV3 has {', '.join(map(str, DEPTHS))}"
        )
    cut = _changed(whole, f"dims={dims}", _pooled(whole.network, dims))
    cut.name = f"{whole.name} at {dims}"
    if whole.architecture == GRAPH_NETWORK:
        cut.warnings += (f"{cut.name}: published FIDs are those of {_POOL_3} features",)
    return cut


def join_depths(extractor: FeatureExtractor) -> FeatureExtractor:
    """Joins all depths of an extractor, so that one pass computes the features of each.

    Args:
      extractor: an extractor of either InceptionV3, at any depth.

    Returns:
      An extractor of float32 [B, 3072]: the features of each of its `depths` next to each other.
      They equal those of `cut_at_depth`. Later calls return the same one, already compiled.

    Raises:
      ExtractorError: the network lacks a depth.
    """
    whole = extractor.whole
    if whole.joined is not None:
        return whole.joined
    depths = {dims: cut_at_depth(whole, dims) for dims in DEPTHS}
    outputs = [depth.network.output for depth in depths.values()]
    network = keras.Model(whole.network.input, outputs, name=f"{whole.network.name}_depths")
    joined = _changed(whole, f"depths={','.join(map(str, DEPTHS))}", network)
    joined.depths = depths
    whole.joined = joined
    return joined


def _changed(whole, change, network):
    """An extractor of another network, with a fingerprint that names the change."""
    changed = copy.copy(whole)
    changed.set_network(network)
    changed.logits = None
    identity = f"{whole.fingerprint} {change}"
    changed.fingerprint = hashlib.sha256(identity.encode()).hexdigest()
    changed.whole = whole
    return changed


@plain_keras()
def _pooled(network, dims):
    pools = [x for x in network.layers if isinstance(x, keras.layers.MaxPooling2D)]
    layers = [*pools[:2], *(x for x in network.layers if x.name in _BEFORE_AUXILIARY_HEAD)]
    for layer in layers:
        if layer.output.shape[-1] == dims:
            name = f"features_{dims}"
            pooled = keras.layers.GlobalAveragePooling2D(name=name)(layer.output)
            return keras.Model(network.input, pooled, name=f"{network.name}_{dims}")
    raise ExtractorError(f"dims {dims}: {network.name} has no layer of InceptionV3 with that depth")
