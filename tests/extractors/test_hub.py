"""Extractors of the Hugging Face hub, with a stand-in for its package."""

import json
import sys
import types
import zipfile

import pytest

from fid_med.errors import ExtractorError
from fid_med.extractors.hub import fetch, parse
from fid_med.extractors.registry import extractors_help, load_extractor


@pytest.fixture
def downloads(monkeypatch):
    """Records what is asked for; a test sets the answer."""
    asked = []

    def hf_hub_download(repo, file, revision=None):
        asked.append((repo, file, revision))
        if isinstance(module.answer, Exception):
            raise module.answer
        return module.answer

    module = types.SimpleNamespace(hf_hub_download=hf_hub_download, answer=None, asked=asked)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return module


def test_an_address_gives_the_extractor_of_the_repository(downloads, extractor_file):
    downloads.answer = str(extractor_file)
    extractor = load_extractor("hf://radiology/chest@v1.0", dims=64)
    assert downloads.asked == [("radiology/chest", "extractor.keras", "v1.0")]
    assert extractor.name == "radiology/chest@v1.0 at 64"
    metadata = json.loads(zipfile.ZipFile(extractor_file).read("fid_med.json"))
    assert extractor.whole.fingerprint == metadata["fingerprint"]
    assert "hf://USER/NAME[@REVISION] (the extractor.keras" in extractors_help()


def test_a_failed_download_is_one_line_with_the_fix(downloads):
    downloads.answer = OSError("We couldn't connect\nto the hub")
    with pytest.raises(ExtractorError) as error:
        fetch("hf://radiology/chest")
    assert "couldn't connect to the hub" in str(error.value)
    assert "give its path" in str(error.value)
    assert "\n" not in str(error.value)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ExtractorError, match=r"pip install 'fid_med\[hub\]'"):
        fetch("hf://radiology/chest")


@pytest.mark.parametrize(
    "address", ["hf://", "hf://chest", "hf://a/b/c", "hf://a/b@", "hf://a b/c"]
)
def test_other_addresses_are_refused(address):
    with pytest.raises(ExtractorError, match="expected hf://USER/NAME"):
        load_extractor(address)


def test_a_revision_may_be_a_branch_with_a_slash():
    assert parse("hf://radiology/chest@refs/pr/3") == ("radiology/chest", "refs/pr/3")
