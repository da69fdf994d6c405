"""Configurations that Keras must not read: no code of a file runs, under any version of Keras."""

import json
import zipfile

import keras
import pytest

from fid_med.errors import ExtractorError
from fid_med.extractors import keras_config
from fid_med.extractors.registry import load_extractor


@pytest.fixture
def marker(tmp_path):
    """A file that the code of an attack creates."""
    return tmp_path / "the code has run"


@pytest.fixture(autouse=True)
def trusting_keras():
    """Switches off Keras's own protection, which differs between its versions."""
    keras.config.enable_unsafe_deserialization()
    yield
    from keras.src.backend.common import global_state

    global_state.set_global_attribute("safe_mode_saving", None)


def _refused(path, marker, match):
    marker.unlink(missing_ok=True)  # made while the attack was prepared
    with pytest.raises(ExtractorError, match=match) as refusal:
        load_extractor(str(path))
    assert not marker.exists()
    assert str(refusal.value).startswith(str(path))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_lambda_does_not_run(tmp_path, marker, suffix, nested):
    place = str(marker)
    layers = [
        keras.Input((4, 4, 3)),
        # Keras runs it to find the shape of its output.
        keras.layers.Lambda(lambda x: (open(place, "w").close(), x)[1]),
    ]
    model = keras.Sequential(layers)
    if nested:
        model = keras.Sequential([keras.Input((4, 4, 3)), model, keras.layers.Flatten()])
    model.save(tmp_path / f"x{suffix}")
    assert marker.exists()
    _refused(tmp_path / f"x{suffix}", marker, r"has the layer Lambda, which.*save_weights\(")


def _dense(**changes):
    return {
        "module": "keras.layers",
        "class_name": "Dense",
        "config": {"units": 2, "name": "dense"},
        "registered_name": None,
    } | changes


def _config(layer):
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "x", "layers": [layer], "build_input_shape": [None, 3]},
        "registered_name": None,
    }


def _function(name, module):
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


ATTACKS = {
    "module": (_dense(module="attack"), "attack.Dense"),
    "module_like_keras": (_dense(module="keras_attack.layers"), "keras_attack.layers.Dense"),
    "class": (_dense(class_name="TFSMLayer", config={"filepath": "x"}), "TFSMLayer"),
    "registered": (_dense(registered_name="mine>Dense"), "mine>Dense"),
    "function": (
        _dense(config={"units": 2, "activation": _function("get_file", "keras.utils")}),
        "activation get_file",
    ),
    "foreign_function": (
        _dense(config={"units": 2, "activation": _function("run", "attack")}),
        "activation run",
    ),
    "lambda_in_a_call": (
        _dense(inbound_nodes=[{"args": [], "kwargs": {"x": {"class_name": "__lambda__"}}}]),
        "__lambda__",
    ),
    "typespec": (
        _dense(config={"units": {"class_name": "__typespec__", "spec_name": "x"}}),
        "__typespec__",
    ),
    "dtype": (_dense(config={"units": 2, "dtype": {"class_name": "Attack"}}), "dtype Attack"),
    "build": (_dense(build_config={"x": {"class_name": "Attack"}}), "layer Attack"),
    "list": (_dense(class_name=["Dense"]), "Dense"),
    "size": (_dense(config={"units": 10**9}), "units 1000000000"),
    "depth": (
        _dense(class_name="DepthwiseConv2D", config={"kernel_size": 1, "depth_multiplier": 10**9}),
        "depth_multiplier 1000000000",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_foreign_objects_are_not_made(name, tmp_path, marker, monkeypatch):
    layer, match = ATTACKS[name]
    (tmp_path / "attack.py").write_text(f"open({str(marker)!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(_config(layer)))
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.10.0"}))
    with pytest.raises(ExtractorError, match=match):
        keras_config.build_model(_config(layer))
    _refused(tmp_path / "x.keras", marker, r"x\.keras: ")


def test_what_the_features_do_not_depend_on_is_removed():
    layer = keras.layers.Dense(2, dtype="mixed_float16", name="dense", kernel_regularizer="l2")
    model = keras.Sequential([keras.Input((3,)), layer])
    model.compile("adam", "mse")
    config = keras.saving.serialize_keras_object(model)
    config["config"]["layers"][1]["config"]["kernel_constraint"] = {"class_name": "Anything"}
    built = keras_config.build_model(json.loads(json.dumps(config)))
    assert built.layers[0].dtype_policy.name == "float32"
    assert built.layers[0].kernel_regularizer is None
    assert not built.compiled
    assert built.output_shape == (None, 2)


@pytest.mark.parametrize("config", [None, [], {}, {"class_name": "Dense", "config": {}}])
def test_other_json_is_no_model(config):
    with pytest.raises(ExtractorError, match="not that of a Keras model"):
        keras_config.build_model(config)


def test_a_nested_model_of_keras_2_is_renumbered():
    """Keras 2 counts calls of a nested model from 1, and wraps single outputs in lists."""

    def layer(name, config, *nodes):
        return {"class_name": name, "config": config, "name": config["name"],
                "inbound_nodes": [[node] for node in nodes]}  # fmt: skip

    def model(name, size, *layers):
        first, last = layers[0]["name"], layers[-1]["name"]
        shape = {"batch_input_shape": [None, *size], "dtype": "float32", "name": first}
        layers = [layer("InputLayer", shape), *layers[1:]]
        return {"name": name, "layers": layers, "input_layers": [[first, 0, 0]],
                "output_layers": [[last, 0, 0]]}  # fmt: skip

    pool = layer("GlobalAveragePooling2D", {"name": "pool"}, ["a", 0, 0, {}])
    inner = model("inner", (4, 4, 3), {"name": "a"}, pool)
    scaled = {"class_name": "TFOpLambda", "name": "divided", "config": {"name": "divided",
              "function": "math.truediv"}, "inbound_nodes": [["b", 0, 0, {"y": 4.0}]]}  # fmt: skip
    called = layer("Functional", inner, ["divided", 0, 0, {"training": False}])
    axis = layer("BatchNormalization", {"name": "norm", "axis": [1]}, ["inner", 1, 0, {}])
    outer = model("outer", (4, 4, 3), {"name": "b"}, scaled, called, axis)
    built = keras_config.build_model({"class_name": "Functional", "config": outer})
    ones = keras.ops.ones((1, 4, 4, 3))
    assert built(8 * ones).numpy() == pytest.approx(2.0, abs=2e-3)  # epsilon of the normalisation
    assert built.get_layer("norm").axis == 1


def test_operations_of_keras_2_that_are_unknown_are_refused_by_name():
    operation = {"class_name": "TFOpLambda", "config": {"name": "x", "function": "io.read_file"}}
    with pytest.raises(ExtractorError, match=r"layer io\.read_file"):
        keras_config.build_model(_config(operation))
