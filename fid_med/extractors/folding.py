"""A network for feature extraction alone: normalisation folded into convolutions, precision."""

import collections

import keras
import tensorflow as tf

PRECISIONS = ("float32", "bfloat16", "float16")
# What scales pixels and what averages features stays in float32: 8 bits of mantissa would show.
_ALWAYS_FLOAT32 = (
    keras.layers.InputLayer,
    keras.layers.Rescaling,
    keras.layers.GlobalAveragePooling2D,
)


def folded(network: keras.Model, precision: str = "float32") -> keras.Model:
    """The same features from fewer operations, in lower precision where that is wanted.

    A convolution, the normalisation by fixed moments behind it and the Relu behind that become
    one convolution with a bias and a Relu, which TensorFlow runs as one fused kernel.

    Args:
      network: functional model whose normalisations, `BatchNormalization`, follow a convolution
        each. The network of 2015-12-05 has none of these and stays as it is: its numbers are to be
        those of TensorFlow's run of the graph, and folding moves them by 7e-6 of the largest.
      precision: of `PRECISIONS`, in which convolutions and all between them compute; weights stay
        float32, and so do pixels and features.

    Returns:
      A model that shares the network's variables: what changes them there changes them here (one
      of lower precision that is not folded holds copies).
      Features are equal within the rounding of float32: 2e-6 of the largest feature with trained
      weights, 4e-5 with random ones, which blow rounding up; neither form is nearer to float64.
      The network itself, where it is built in another way.
    """
    consumers = collections.Counter(
        id(tensor) for layer in network.layers[1:] for tensor in _inputs(layer)
    )
    convolutions = {
        id(layer.output): layer
        for layer in network.layers
        if isinstance(layer, keras.layers.Conv2D) and consumers[id(layer.output)] == 1
    }
    pairs, folded_away = {}, set()
    for layer in network.layers[1:]:
        convolution = convolutions.get(id(_inputs(layer)[0]))
        if convolution is not None and _is_normalisation(layer) and _is_plain(convolution):
            pairs[layer.name] = convolution
            folded_away.add(convolution.name)
    weighted = {layer.name for layer in network.layers if layer.weights}
    foldable = weighted == folded_away | pairs.keys()
    if not foldable:
        if precision == "float32":
            return network
        pairs, folded_away = {}, set()
    # Never the policy that a user's own training has set for all layers.
    policy = "float32" if precision == "float32" else f"mixed_{precision}"

    def clone(layer):
        if layer.name in pairs:
            return _FoldedConvolution(pairs[layer.name], layer, precision)
        if layer.name in folded_away:
            return keras.layers.Identity(name=layer.name, dtype=policy)
        config = layer.get_config()
        if not isinstance(layer, _ALWAYS_FLOAT32):
            config["dtype"] = policy
        return layer.__class__.from_config(config)

    made = keras.models.clone_model(network, clone_function=clone)
    if not foldable:
        made.set_weights(network.get_weights())
    return made


def _inputs(layer):
    return layer.input if isinstance(layer.input, (list, tuple)) else [layer.input]


def _is_normalisation(layer):
    return isinstance(layer, keras.layers.BatchNormalization) and layer.axis in (-1, 3)


def _is_plain(convolution):
    return (
        not convolution.use_bias
        and convolution.activation is keras.activations.linear
        and convolution.data_format == "channels_last"
        and convolution.groups == 1
        and convolution.dilation_rate == (1, 1)
    )


class _FoldedConvolution(keras.layers.Layer):
    """Computes with the variables of two layers of another model."""

    def __init__(self, convolution, normalisation, precision):
        # Cast by hand: Keras would round the weights before they are folded.
        super().__init__(name=normalisation.name, dtype="float32", autocast=False)
        self._convolution, self._normalisation = convolution, normalisation
        self._precision = precision

    def call(self, x, mask=None):  # BatchNormalization is called with one
        scale, shift = _affine(self._normalisation)
        kernel = tf.convert_to_tensor(self._convolution.kernel) * scale
        x, kernel, shift = (tf.cast(tensor, self._precision) for tensor in (x, kernel, shift))
        strides, padding = self._convolution.strides, self._convolution.padding.upper()
        return tf.nn.bias_add(tf.nn.conv2d(x, kernel, strides, padding), shift)


def _affine(layer):
    scale = tf.math.rsqrt(layer.moving_variance + layer.epsilon)
    if layer.gamma is not None:
        scale *= tf.convert_to_tensor(layer.gamma)
    shift = -tf.convert_to_tensor(layer.moving_mean) * scale
    if layer.beta is not None:
        shift += tf.convert_to_tensor(layer.beta)
    return scale, shift
