"""The split of each image of a training, as its `splits.csv` lists them."""

from __future__ import annotations

import collections
import csv
import dataclasses
import os
import pathlib

from fid_med.data.labelled import SPLITS
from fid_med.data.sources import ImageSource, open_source
from fid_med.errors import DataError, is_wrong_path, reason_of
from fid_med.utils.files import open_text

FILE_NAME = "splits.csv"


def images_of_split(folder, splits_csv, split: str, multi_frame: str = "refuse") -> ImageSource:
    """Opens those images of a folder that a training put into one of its splits.

    Images are recognised by their path below the training's data folder. Images that the training
    did not have are left out.

    Example:

    ```python
    import fid_med
    from fid_med.data.split_files import images_of_split

    held_out = images_of_split("real_images", "chest/splits.csv", "test")
    print(fid_med.compute_fid(held_out, "generated_images", "chest/extractor.keras"))
    ```

    Args:
      folder: the data folder of the training, or a folder inside it.
      splits_csv: `splits.csv` of the training.
      split: train, validation or test.
      multi_frame: as it was in the training; see `list_images`.

    Returns:
      An opened set of images, which every function that takes a folder takes as well.

    Raises:
      DataError: unknown split, not a file of splits, or no image of that split in the folder.
    """
    if split not in SPLITS:
        raise DataError(f"split {split!r}: expected {', '.join(SPLITS)}")
    splits = read_splits(splits_csv)
    source = open_source(folder, os.path.basename(os.path.abspath(folder)), None, multi_frame)
    names = [name.encode("utf-8", "backslashreplace").decode() for name in source.names]
    prefix = _prefix(pathlib.Path(os.path.abspath(folder)), names, splits)
    if prefix is None:
        raise DataError(
            f"{folder}: none of its {len(names)} images is in {splits_csv}; give the data folder "
            "of that training, or a folder inside it"
        )
    found = [splits.get(prefix + name) for name in names]
    chosen = [i for i, of_image in enumerate(found) if of_image == split]
    if not chosen:
        counts = collections.Counter(filter(None, found))
        others = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        raise DataError(f"{folder}: no image of the split {split} in {splits_csv}, only {others}")
    return dataclasses.replace(
        source,
        loaders=[source.loaders[i] for i in chosen],
        names=[source.names[i] for i in chosen],
        count=len(chosen),
    )


def read_splits(path) -> dict[str, str]:
    """Reads `splits.csv`: the split of each image, by its path below the data folder.

    Raises:
      DataError: no such file, or not a file of splits.
    """
    try:
        with open_text(path) as file:
            return {row["image"]: row["split"] for row in csv.DictReader(file)}
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read ({reason_of(error)}); check the path", is_wrong_path(error)
        ) from None
    except (KeyError, csv.Error):
        raise DataError(
            f"{path}: has no columns image and split; give the {FILE_NAME} of a training"
        ) from None


def _prefix(folder: pathlib.Path, names, splits) -> str | None:
    """The folder's path below the data folder, by which most names are found; None if none are."""
    parts = folder.parts[1:]
    prefixes = ["/".join([*parts[i:], ""]) for i in range(len(parts), -1, -1)]
    counts = [sum(prefix + name in splits for name in names) for prefix in prefixes]
    return prefixes[counts.index(max(counts))] if any(counts) else None
