"""Networks for inference: batch normalisation folded into convolutions, and lower precision."""

import collections

import keras
import tensorflow as tf

from fid_med.extractors.registry import UNFOLDED

# Scaling of pixels and averaging of features stay in float32: bfloat16 has 8 bits of mantissa.
_ALWAYS_FLOAT32 = (
    keras.layers.InputLayer,
    keras.layers.Rescaling,
    keras.layers.GlobalAveragePooling2D,
)


def folded(network: keras.Model, precision: str = "float32") -> keras.Model:
    """Folds batch normalisations into convolutions, and lowers the precision if asked.

    A convolution, its batch normalisation and the ReLU after it become one convolution with a bias
    and a ReLU. TensorFlow runs these as one fused kernel.

    Args:
      network: functional model in which each `BatchNormalization`, or normalisation of the network
        of 2015-12-05, follows a convolution.
      precision: compute precision of the convolutions and of the layers between them: `float32`,
        `bfloat16` or `float16`. Weights, pixels and features stay float32. `float32_unfolded`
        returns the network itself.

    Returns:
      A model that shares the network's variables, so that training the network changes both. A
      model of lower precision that cannot be folded has copies of them instead. A float32 network
      that cannot be folded is returned itself.
      Features are equal within the rounding of float32: 2e-6 of the largest feature with trained
      weights, 8e-6 in the stand-in graph of 2015-12-05, 4e-5 with random weights, which amplify
      rounding. Neither form is closer to float64.
    """
    if precision == UNFOLDED:
        return network
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
    # Set explicitly: the global policy may be that of the user's own training.
    policy = "float32" if precision == "float32" else f"mixed_{precision}"

    def clone(layer):
        if layer.name in pairs:
            return _FoldedConvolution(pairs[layer.name], layer, precision)
        if layer.name in folded_away:
            return keras.layers.Identity(name=layer.name, dtype=policy)
        config = layer.get_config()
        # Operations (keras.ops.flip) are not layers and have no dtype.
        if isinstance(layer, keras.layers.Layer) and not isinstance(layer, _ALWAYS_FLOAT32):
            config["dtype"] = policy
        return layer.__class__.from_config(config)

    made = keras.models.clone_model(network, clone_function=clone)
    if not foldable:
        made.set_weights(network.get_weights())
    return made


def _inputs(layer):
    return layer.input if isinstance(layer.input, (list, tuple)) else [layer.input]


def _is_normalisation(layer):
    if isinstance(layer, FixedNormalisation):
        return True
    return isinstance(layer, keras.layers.BatchNormalization) and layer.axis in (-1, 3)


class FixedNormalisation(keras.layers.Layer):
    """Base of layers that are x * scale + shift with fixed statistics, and an activation."""

    activation = staticmethod(tf.identity)

    def affine(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns scale and shift, float32 [channels] each."""
        raise NotImplementedError


def _is_plain(convolution):
    return (
        not convolution.use_bias
        and convolution.activation is keras.activations.linear
        and convolution.data_format == "channels_last"
        and convolution.groups == 1
        and convolution.dilation_rate == (1, 1)
    )


class _FoldedConvolution(keras.layers.Layer):
    """A convolution computed with the variables of two layers of another model."""

    def __init__(self, convolution, normalisation, precision):
        # No autocast: Keras would round the weights before they are folded.
        super().__init__(name=normalisation.name, dtype="float32", autocast=False)
        self._convolution, self._normalisation = convolution, normalisation
        self._precision = precision

    def call(self, x, mask=None):  # the call of a BatchNormalization passes a mask
        scale, shift = _affine(self._normalisation)
        kernel = tf.convert_to_tensor(self._convolution.kernel) * scale
        x, kernel, shift = (tf.cast(tensor, self._precision) for tensor in (x, kernel, shift))
        strides, padding = self._convolution.strides, self._convolution.padding.upper()
        x = tf.nn.bias_add(tf.nn.conv2d(x, kernel, strides, padding), shift)
        if isinstance(self._normalisation, FixedNormalisation):
            return self._normalisation.activation(x)
        return x


def _affine(layer):
    if isinstance(layer, FixedNormalisation):
        return layer.affine()
    scale = tf.math.rsqrt(layer.moving_variance + layer.epsilon)
    if layer.gamma is not None:
        scale *= tf.convert_to_tensor(layer.gamma)
    shift = -tf.convert_to_tensor(layer.moving_mean) * scale
    if layer.beta is not None:
        shift += tf.convert_to_tensor(layer.beta)
    return scale, shift
