"""Extractors of the Hugging Face hub, by their address."""

import re

from fid_med.errors import ExtractorError, reason_of

SCHEME = "hf://"
_ADDRESS = re.compile(r"hf://(?P<repo>[\w.\-]+/[\w.\-]+)(@(?P<revision>[\w./\-]+))?")
_FILE = "extractor.keras"


def parse(address: str) -> tuple[str, str | None]:
    """Splits `hf://USER/NAME` or `hf://USER/NAME@REVISION` into repository and revision.

    Raises:
      ExtractorError: any other text.
    """
    found = _ADDRESS.fullmatch(address)
    if not found:
        raise ExtractorError(
            f"{address}: expected hf://USER/NAME or hf://USER/NAME@REVISION", wrong_flag=True
        )
    return found["repo"], found["revision"]


def fetch(address: str) -> str:
    """Downloads the file `extractor.keras` of a repository, once, and returns its path.

    A training writes that file, and a `model_card.md` for the repository's README.

    Args:
      address: as for `parse`. A revision is a branch, a tag or a commit; name one to get the same
        file later.

    Raises:
      ExtractorError: huggingface_hub is not installed, or the file cannot be downloaded.
    """
    repo, revision = parse(address)
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise ExtractorError(
            f"{address}: needs huggingface_hub; run pip install 'fid_med[hub]'"
        ) from None
    try:
        return hf_hub_download(repo, _FILE, revision=revision)
    except Exception as error:  # of the network, the hub, or the disk
        raise ExtractorError(
            f"{address}: its {_FILE} cannot be downloaded ({reason_of(error)}); check the name, or "
            "download the file on a machine with internet and give its path"
        ) from None
