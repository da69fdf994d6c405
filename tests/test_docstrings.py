"""The examples in docstrings run as they are printed."""

import ast
import functools
import inspect
import pathlib
import re
import textwrap
from unittest import mock

import pytest
from helpers.script_runs import ROOT

import fid_med
from fid_med.extractors.depths import cut_at_depth
from fid_med.extractors.registry import ExtractorSpec, load_extractor

# Names that a reader meets first; each has an example.
WITH_EXAMPLE = [
    "FIDCallback",
    "FIDMetric",
    "FeatureStatistics",
    "LabelledImages",
    "TrainingConfig",
    "calculate_frechet_distance",
    "compare_generators",
    "compute_fid",
    "compute_statistics",
    "frechet_distance",
    "load_extractor",
    "phantom_radiograph",
    "phantom_set",
    "train",
]
BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def blocks(docstring):
    """The Python examples of a docstring, without their indentation."""
    return [textwrap.dedent(code) for _, code in BLOCK.findall(docstring or "")]


def examples():
    """Every example of a class or a function of the package, and where it is."""
    for path in sorted((ROOT / "fid_med").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                found = blocks(ast.get_docstring(node))
                for i, code in enumerate(found):
                    name = f"{path.stem}.{node.name}" + (f".{i}" if i else "")
                    marks = [pytest.mark.slow] if name == "train.train" else []
                    yield pytest.param(code, id=name, marks=marks)


@pytest.fixture(scope="module")
def folder(extractor_file, phantoms, tmp_path_factory):
    """What examples name: folders of images, an extractor, and statistics."""
    from PIL import Image

    root = tmp_path_factory.mktemp("examples")
    folders = {
        "real_images": phantoms[0][:12],
        "generated_images": phantoms[0][20:],
        "samples/epoch_10": phantoms[0][12:20],
        "samples/epoch_20": phantoms[0][20:28],
    }
    for name, images in folders.items():
        (root / name).mkdir(parents=True)
        for i, image in enumerate(images):
            Image.fromarray(image).save(root / name / f"{i:03d}.png")
    (root / "chest").mkdir()
    (root / "chest" / "extractor.keras").symlink_to(extractor_file)
    rows = [f"{i:03d}.png,chest,{'test' if i < 10 else 'train'}" for i in range(12)]
    (root / "chest" / "splits.csv").write_text("\n".join(["image,label,split", *rows]))
    extractor = cut_at_depth(load_extractor(extractor_file), 64)
    statistics = fid_med.FeatureStatistics.from_features(extractor.extract(phantoms[0][:12]))
    statistics.fingerprint = extractor.fingerprint
    statistics.extractor = extractor.name
    statistics.preprocessing = extractor.preprocessing.to_dict()
    statistics.save(root / "real.npz")
    return root


@pytest.fixture(scope="module")
def load_once():
    """Loads an extractor that several examples name once, and compiles it once.

    That of a file is cut at its first depth, which takes a fraction of the time.
    """
    load = ExtractorSpec.load

    def load_quickly(spec):
        loaded = load(spec)
        return cut_at_depth(loaded, 64) if str(spec.name_or_path).endswith(".keras") else loaded

    return functools.cache(load_quickly)


@pytest.mark.parametrize("code", list(examples()))
def test_an_example_runs_as_it_is_printed(code, folder, load_once, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(ExtractorSpec, "load", load_once)
    exec(compile(code, "example", "exec"), {"__name__": "__main__"})


def test_the_example_of_training_calls_functions_as_they_are(folder, monkeypatch):
    """Its imports, files and arguments, without the training, which test_train.py runs."""
    from fid_med.training import output, train

    (code,) = blocks(inspect.getdoc(train.train))
    called = {}
    homes = (fid_med, "train"), (fid_med, "compute_fid"), (output, "write_training")
    for module, name in homes:
        called[name] = mock.create_autospec(getattr(module, name), return_value=mock.MagicMock())
        monkeypatch.setattr(module, name, called[name])
    monkeypatch.chdir(folder)
    exec(compile(code, "example", "exec"), {"__name__": "__main__"})
    images, config, _ = called["train"].call_args.args
    assert len(images.loaders) == len(images.labels)
    assert pathlib.Path(config.resolved().weights).exists()
    assert called["write_training"].call_count == 1


@pytest.mark.parametrize("name", WITH_EXAMPLE)
def test_a_public_name_has_an_example(name):
    assert blocks(inspect.getdoc(getattr(fid_med, name)))
