"""Configurations of Keras models, checked and rewritten before Keras reads them.

Keras makes the objects that a configuration names. Some of them run code from the file, and older
versions import any module that it names. Only layers that convolutional networks and their
classifiers consist of are therefore accepted, and Keras gets the names of modules from the tables
here. What the features do not depend on is removed: losses, regularizers, constraints and compute
precision.
"""

import keras

from fid_med.errors import ExtractorError

WAY_OUT = (
    "in the program that made it, save the weights of the InceptionV3 inside it, with "
    "save_weights('NAME.weights.h5'); they are read with pixels scaled to -1..1"
)

_MODELS = ("Functional", "Model", "Sequential")
_LAYERS = frozenset({
    "Activation", "Add", "AveragePooling2D", "BatchNormalization", "Concatenate", "Conv2D", "Dense",
    "DepthwiseConv2D", "Dropout", "ELU", "Flatten", "GaussianDropout", "GaussianNoise",
    "GlobalAveragePooling2D", "GlobalMaxPooling2D", "Identity", "InputLayer", "LayerNormalization",
    "LeakyReLU", "MaxPooling2D", "Multiply", "Normalization", "PReLU", "RandomBrightness",
    "RandomContrast", "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom", "ReLU",
    "Rescaling", "Reshape", "SeparableConv2D", "Softmax", "SpatialDropout2D", "ZeroPadding2D",
})  # fmt: skip
# Arithmetic on tensors, as in `preprocess_input`; `Flip` reverses the channels.
_OPERATIONS = ("Add", "Concatenate", "Divide", "Flip", "Multiply", "Subtract", "TrueDivide")
_OPERATIONS_MODULE = "keras.src.ops.numpy"
_INITIALIZERS = frozenset({
    "Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "LecunNormal",
    "LecunUniform", "Ones", "Orthogonal", "RandomNormal", "RandomUniform", "TruncatedNormal",
    "VarianceScaling", "Zeros",
})  # fmt: skip
_ACTIVATIONS = frozenset({
    "elu", "exponential", "gelu", "hard_sigmoid", "leaky_relu", "linear", "log_softmax", "mish",
    "relu", "relu6", "selu", "sigmoid", "silu", "softmax", "softplus", "softsign", "swish", "tanh",
})  # fmt: skip
_DTYPES = ("Policy", "DTypePolicy")
# Keras 2's operations on tensors, by function: scale and offset for the number y.
_KERAS_2_OPERATIONS = {
    "math.truediv": lambda y: (1 / y, 0.0),
    "math.divide": lambda y: (1 / y, 0.0),
    "math.multiply": lambda y: (y, 0.0),
    "math.subtract": lambda y: (1.0, -y),
    "math.add": lambda y: (1.0, y),
    "__operators__.add": lambda y: (1.0, y),
}
_SIZES = ("batch_input_shape", "batch_shape", "depth_multiplier", "filters", "shape", "units")
_LARGEST_SIZE = 65_536  # of an image or a layer; a larger one only fills the memory


def build_model(config) -> keras.Model:
    """Builds the model that a configuration describes, without weights, in float32.

    Args:
      config: JSON of a model, as Keras 2 or 3 writes it to `.keras` and `.h5` files.

    Raises:
      ExtractorError: the configuration names something else than the layers of this module.
      Exception: any that Keras raises.
    """
    if not isinstance(config, dict) or config.get("class_name") not in _MODELS:
        raise ExtractorError("its configuration is not that of a Keras model")
    model = keras.saving.deserialize_keras_object(_cleaned(config))
    if not isinstance(model, keras.Model):
        raise ExtractorError("its configuration is not that of a Keras model")
    return model


def _cleaned(value):
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "class_name" in value:
        return _cleaned_object(value)
    cleaned = {}
    for key, item in value.items():
        if key == "compile_config" or key.endswith(("_regularizer", "_constraint")):
            continue
        if key == "dtype":
            item = _float32(item)
        elif key == "activation":
            item = _activation(item)
        elif key in _SIZES:
            _check_size(key, item)
            item = _cleaned(item)
        elif key.endswith("_initializer"):
            if _name_of(item) not in _INITIALIZERS:
                continue  # the weights are read from the file
            item = _cleaned(item)
        else:
            item = _cleaned(item)
        cleaned[key] = item
    return cleaned


def _cleaned_object(value):
    """Returns the configuration of one object, with a module from the tables of this module."""
    name, module = value["class_name"], value.get("module")
    if not isinstance(name, str):
        _refuse(name)
    if name == "__keras_tensor__":
        return {"class_name": name, "config": _plain(value.get("config"))}
    if not isinstance(module, (str, type(None))) or (module and module.split(".")[0] != "keras"):
        _refuse(f"{module}.{name}")
    if value.get("registered_name") not in (None, name):
        _refuse(value["registered_name"])
    if name == "TFOpLambda":
        return _rescaling(value)
    if name in _MODELS:
        module, made = "keras", "Sequential" if name == "Sequential" else "Model"
    elif name in _OPERATIONS and (name not in _LAYERS or module == _OPERATIONS_MODULE):
        module, made = _OPERATIONS_MODULE, name
    elif name in _LAYERS:
        module, made = "keras.layers", name
    elif name in _INITIALIZERS:
        module, made = "keras.initializers", name
    else:
        _refuse(name)
    config = _cleaned(value.get("config"))
    if not isinstance(config, dict):
        raise ExtractorError(f"its configuration of {name} is damaged")
    if name == "InputLayer" and "batch_input_shape" in config:
        config["batch_shape"] = config.pop("batch_input_shape")
    if name in _MODELS:
        _make_keras_3(config)
    axis = config.get("axis")
    if name == "BatchNormalization" and isinstance(axis, list) and len(axis) == 1:
        config["axis"] = axis[0]
    kept = {key: value[key] for key in ("name", "inbound_nodes", "build_config") if key in value}
    return {
        **_cleaned(kept),
        "module": module,
        "class_name": made,
        "config": config,
        "registered_name": None,
    }


def _make_keras_3(config):
    """Changes the graph of a Keras 2 model to what Keras 3 reads; others stay as they are."""
    for key in ("input_layers", "output_layers"):
        tensors = config.get(key)
        if isinstance(tensors, list) and len(tensors) == 1:
            config[key] = tensors[0]  # a nested model would return a list
    layers = config.get("layers")
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise ExtractorError("the configuration of its model has no layers: damaged")
    references = list(_references(config.get("output_layers")))
    references += _references([layer.get("inbound_nodes") for layer in layers])
    for layer in layers:
        # Keras 2 counts the making of a nested model as its first call.
        found = [x for x in references if x[0] == layer.get("name")]
        calls = len(layer.get("inbound_nodes") or ())
        if layer.get("class_name") in _MODELS and found and max(x[1] for x in found) == calls:
            for reference in found:
                reference[1] -= 1


def _references(value):
    """Finds the references [layer, call, output, ...] to tensors in a graph of Keras 2."""
    if not isinstance(value, list):
        return
    if len(value) >= 3 and isinstance(value[0], str) and type(value[1]) is int:
        yield value
    else:
        for item in value:
            yield from _references(item)


def _rescaling(value):
    """Returns Keras 2's operation of a tensor and a number as a `Rescaling` layer."""
    config, nodes = value.get("config"), value.get("inbound_nodes")
    try:
        (node,) = nodes
        if isinstance(node[0], list):
            (node,) = node
        scale, offset = _KERAS_2_OPERATIONS[config["function"]](node[3]["y"])
        source = [*map(_plain, node[:3]), {}]
        name = _plain(config["name"])
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError):
        _refuse(config.get("function") if isinstance(config, dict) else "TFOpLambda")
    return {
        "module": "keras.layers",
        "class_name": "Rescaling",
        "config": {"name": name, "scale": float(scale), "offset": float(offset)},
        "registered_name": None,
        "name": _plain(value.get("name", name)),
        "inbound_nodes": [[source]],
    }


def _plain(value):
    """Returns JSON without objects in it."""
    if isinstance(value, dict):
        if "class_name" in value:
            _refuse(value["class_name"])
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _name_of(value):
    return value.get("class_name") if isinstance(value, dict) else value


def _activation(value):
    if isinstance(value, dict) and value.get("class_name") == "function":
        value = value.get("config")
    if value is not None and (not isinstance(value, str) or value not in _ACTIVATIONS):
        _refuse(_name_of(value), "activation")
    return value


def _float32(value):
    if isinstance(value, dict):
        if value.get("class_name") not in _DTYPES:
            _refuse(value.get("class_name"), "dtype")
        value = value.get("config")
        value = value.get("name") if isinstance(value, dict) else value
    plain = ("float16", "bfloat16", "float32", "float64", "uint8")
    if value not in (None, *plain, "mixed_float16", "mixed_bfloat16"):
        _refuse(value, "dtype")
    return "float32"


def _check_size(key, value):
    sizes = value if isinstance(value, list) else [value]
    if any(isinstance(size, (int, float)) and not 0 < size <= _LARGEST_SIZE for size in sizes):
        raise ExtractorError(f"its configuration has {key} {value!r}"[:200])


def _refuse(name, kind="layer"):
    name = " ".join(str(name).split())[:80]
    raise ExtractorError(
        f"its model has the {kind} {name}, which fid_med does not let Keras read, as it may run "
        f"code or change the features; {WAY_OUT}"
    )
