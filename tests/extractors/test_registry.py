"""Registry of extractors: its help, its choices, its quick import."""

import subprocess
import sys

import pytest

from fid_med.errors import ExtractorError
from fid_med.extractors import registry
from fid_med.extractors.registry import ExtractorSpec, extractors_help


def test_help_names_every_entry():
    text = extractors_help()
    for entry in registry.EXTRACTORS:
        assert entry.help in text
        assert all(word in text for word in (entry.name or "", *entry.suffixes))


def test_help_needs_no_tensorflow():
    code = (
        "import sys; from fid_med.extractors.registry import extractors_help; extractors_help(); "
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_table_decides_who_loads(monkeypatch, tmp_path):
    entries = tuple(
        registry.ExtractorEntry(lambda spec, found=found: found, "help", **names)
        for found, names in ((1, {"name": "one"}), (2, {"suffixes": (".a", ".b")}))
    )
    monkeypatch.setattr(registry, "EXTRACTORS", entries)
    (tmp_path / "x.b").write_text("")
    (tmp_path / "x.c").write_text("")
    assert ExtractorSpec("one").load() == 1
    assert ExtractorSpec(tmp_path / "x.b").load() == 2
    with pytest.raises(ExtractorError, match=r"x\.c: expected a \.a or \.b file"):
        ExtractorSpec(tmp_path / "x.c").load()
    with pytest.raises(ExtractorError, match="two: no such extractor; expected one, or the path"):
        ExtractorSpec("two").load()


def test_a_folder_with_an_extractor_in_it_is_hinted_at(tmp_path):
    (tmp_path / "extractor.keras").write_text("")
    with pytest.raises(ExtractorError, match=r"is a folder.*; give .*extractor\.keras"):
        ExtractorSpec(tmp_path).load()


def test_specs_compare_by_value_and_check_the_precision():
    assert ExtractorSpec("random", 75) == ExtractorSpec("random", image_size=75)
    assert ExtractorSpec("random", 75, aspect="pad").preprocessing_changes == {
        "height": 75, "width": 75, "aspect": "pad",
    }  # fmt: skip
    with pytest.raises(ExtractorError, match="precision 'half'"):
        ExtractorSpec("random", precision="half")
