"""The notebooks, cell by cell, on phantoms and small networks."""

import json
import types

import keras
import numpy as np
import pytest
from helpers.script_runs import ROOT

import fid_med
from fid_med.training.train import train

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def run_cells(name, parameters):
    """Runs the code cells and returns their variables; `parameters` replace those of the notebook.

    Lines for the shell, such as %pip, are left out.
    """
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())["cells"]
    names = {"__name__": "__main__"}
    missing = set(parameters)
    for cell in cells:
        if cell["cell_type"] == "code":
            lines = [line for line in cell["source"] if not line.startswith(("%", "!"))]
            exec(compile("".join(lines), f"{name} {cell['id']}", "exec"), names)
            found = missing & set(names)
            names.update({key: parameters[key] for key in found})
            missing -= found
    assert not missing
    return names


@pytest.fixture
def medmnist(phantoms, tmp_path, monkeypatch):
    """Forty phantoms in MedMNIST's format: what is 64 pixels there has 80 here."""
    monkeypatch.chdir(tmp_path)
    labels = np.arange(40) % 2
    arrays = {}
    for name, rows in (("train", range(12)), ("val", range(12, 20)), ("test", range(20, 40))):
        arrays[f"{name}_images"] = phantoms[0][list(rows)]
        arrays[f"{name}_labels"] = labels[list(rows), None]
    np.savez(tmp_path / "phantoms.npz", **arrays)
    return {"DATASET": "medmnist", "DATA_DIR": tmp_path / "phantoms.npz", "IMAGES": 10}


def test_train_and_compare(medmnist, shallow_extractor, monkeypatch, capsys):
    trained = types.SimpleNamespace(extractor=shallow_extractor, reports={"test": {"auc": 0.5}})
    monkeypatch.setattr(fid_med, "train", lambda images, config, folder: trained)
    names = run_cells("train_and_compare", medmnist)
    printed = capsys.readouterr().out
    assert "{'auc': 0.5}" in printed
    assert "untouched: FID " in printed
    assert names["blurred"].shape == (10, 80, 80)
    assert "\nFID at 768, before the auxiliary head " in printed


@pytest.mark.slow
def test_train_and_compare_with_its_training(medmnist, extractor_file, monkeypatch, capsys):
    monkeypatch.setattr(fid_med, "train", train)
    more = {"WEIGHTS": str(extractor_file), "EPOCHS": 1}
    names = run_cells("train_and_compare", medmnist | more)
    assert names["result"].reports["test"]["count"] == 20
    assert names["compared"].fid > 0


def test_reference_fid(phantoms, shallow_extractor, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    halves = (phantoms[0][:12], None), (phantoms[0][20:32], None)
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", lambda: halves)
    names = run_cells("reference_fid", {"EXTRACTOR": shallow_extractor, "IMAGES": 8})
    assert names["result"].real.count == names["result"].generated.count == 8
    expected = fid_med.compute_fid(phantoms[0][:8], phantoms[0][20:28], shallow_extractor).fid
    assert names["result"].fid == pytest.approx(expected, rel=1e-9)
    assert abs(names["again"].fid - names["result"].fid) < 1e-6


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_notebooks_are_saved_without_outputs(path):
    cells = json.loads(path.read_text())["cells"]
    assert len(NOTEBOOKS) == 2
    for cell in cells:
        assert cell["cell_type"] in ("code", "markdown")
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
