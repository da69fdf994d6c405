"""Python users see as little of TensorFlow's start as users of the scripts."""

import os

import pytest
from helpers.script_runs import ROOT, run_script

# Prints what TensorFlow prints when it is imported and when it looks for devices.
TENSORFLOW = """
import os, sys, types
print("WARNING: All log messages before absl::InitializeLog() is called", file=sys.stderr)
print("I0000 00:00 port.cc:153] oneDNN custom operations are on.", file=sys.stderr)
print("E0000 something is broken", file=sys.stderr)
level = os.environ["TF_CPP_MIN_LOG_LEVEL"]
config = types.SimpleNamespace(
    list_physical_devices=lambda: print("I0000 00:00 no GPU", file=sys.stderr, flush=True)
)
"""
CODE = """
import fid_med
{}
try:
    fid_med.load_extractor("random")
except ImportError:  # Keras needs more than this TensorFlow
    pass
import tensorflow
print(tensorflow.level)
"""


@pytest.fixture
def python(tmp_path):
    (tmp_path / "tensorflow.py").write_text(TENSORFLOW)
    (tmp_path / "keras.py").write_text("raise ImportError")

    def run(before="", **variables):
        path = os.pathsep.join([str(tmp_path), str(ROOT)])
        process = run_script("-c", CODE.format(before), PYTHONPATH=path, **variables)
        assert process.returncode == 0, process.stderr
        return process.stdout.strip(), process.stderr

    return run


def test_only_what_matters_is_shown(python, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    assert python() == ("2", "E0000 something is broken\n")


def test_the_users_own_level_stays(python):
    assert python(TF_CPP_MIN_LOG_LEVEL="0")[0] == "0"


def test_what_the_user_has_imported_is_left_alone(python):
    _, errors = python("import tensorflow", TF_CPP_MIN_LOG_LEVEL="0")
    assert errors.count("oneDNN") == 1
    assert "no GPU" not in errors
