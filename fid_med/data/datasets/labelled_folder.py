"""A folder with one folder a label, such as a hospital's radiographs by pathology."""

import functools
import pathlib
import re

import numpy as np

from fid_med.data.images import list_images, read_image
from fid_med.data.labelled import LabelledImages
from fid_med.errors import DataError


def load(folder, patient_regex: str | None = None, multi_frame: str = "refuse") -> LabelledImages:
    """Lists `<folder>/<label>/**/*`.

    Args:
      folder: path; images directly in it, outside any label's folder, are an error.
      multi_frame: as for `list_images`.
      patient_regex: searched in each file's name without folders; its first group, or the whole
        match where it has none, is the patient. Example: `^.{8}` for the first eight characters.

    Raises:
      DataError: no label folders, one label only, or a name that the expression does not match.
    """
    folder = pathlib.Path(folder)
    names = list_images(folder, multi_frame)
    stray = [name for name in names if "/" not in name]
    if stray:
        raise DataError(
            f"{folder}: {len(stray)} images (such as {stray[0]}) lie outside the label folders; "
            "expected <folder>/<label>/<image>"
        )
    of_image = [name.split("/", 1)[0] for name in names]
    classes = tuple(sorted(set(of_image)))
    return LabelledImages(
        name=folder.absolute().name,
        names=names,
        loaders=[functools.partial(read_image, folder / name) for name in names],
        labels=np.array([classes.index(label) for label in of_image]),
        classes=classes,
        patients=_patients(names, patient_regex) if patient_regex else None,
    )


def _patients(names, expression):
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise DataError(f"patient_regex {expression!r}: {error}") from None
    matches = [pattern.search(name.rsplit("/", 1)[-1]) for name in names]
    patients = [match and match.group(1 if pattern.groups else 0) for match in matches]
    # An empty match, or a group that took no part in it, names nobody.
    unmatched = [name for name, patient in zip(names, patients, strict=True) if not patient]
    if unmatched:
        raise DataError(
            f"patient_regex {expression!r} matches nothing in {len(unmatched)} names, "
            f"such as {unmatched[0]}"
        )
    return patients
