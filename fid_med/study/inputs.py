"""What a study is given on a command line: extractors and folders, with the names they get."""

import pathlib
from collections.abc import Sequence

from fid_med.errors import DataError
from fid_med.extractors.registry import load_extractor


def load_extractors(
    specs: Sequence[str], *, image_size: int | None = None, seed: int = 0
) -> dict[str, object]:
    """Loads extractors by the names that the report gives them.

    Args:
      specs: what `load_extractor` takes, or `NAME=` before it. Without a name, the extractor's
        own; of equal ones, the later get the start of their fingerprint too.
      image_size, seed: as for `load_extractor`.

    Raises:
      DataError: none, a name given twice, or the same extractor twice.
      ExtractorError: as `load_extractor`.
    """
    found: dict[str, object] = {}
    for spec in specs:
        name, _, path = spec.rpartition("=")
        if "/" in name:  # the path itself holds the sign
            name, path = "", spec
        extractor = load_extractor(path, image_size=image_size, seed=seed)
        if any(other.fingerprint == extractor.fingerprint for other in found.values()):
            raise DataError(f"--extractors: {spec} is the same extractor as one before it")
        if name in found:
            raise DataError(f"--extractors: the name {name} is given twice")
        if not name:
            name = extractor.name
            if name in found:
                name = f"{name} ({extractor.fingerprint[:6]})"
        found[name] = extractor
    if not found:
        raise DataError("--extractors: none given; name one, such as imagenet")
    return found


def named_folders(folders: Sequence[str]) -> dict[str, str]:
    """Folders by their own names, without what lies above; of equal ones an error."""
    named: dict[str, str] = {}
    for folder in folders:
        name = pathlib.Path(folder).absolute().name
        if name in named:
            raise DataError(f"--generated: two folders are named {name}; rename one")
        named[name] = folder
    return named
