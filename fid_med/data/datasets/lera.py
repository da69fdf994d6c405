"""LERA (Varma et al. 2019, Nature Machine Intelligence 1): radiographs of the lower extremity."""

import functools
import pathlib
import re

from fid_med.data.datasets.csv_tables import read_rows, refuse
from fid_med.data.datasets.label_kinds import check_kind, label_name
from fid_med.data.images import describe_ignored, index_folder, read_image
from fid_med.data.labelled import LabelledImages, number_labels
from fid_med.errors import DataError
from fid_med.utils.progress import warn

FOLDER = "LERA Dataset"
BODY_PARTS = ("ankle", "foot", "hip", "knee")
WHERE_FROM = (
    "register at https://aimi.stanford.edu/datasets/lera-lower-extremity-radiographs, unpack the "
    f"archive and give the folder '{FOLDER}', or its parent folder"
)
# Some copies add side and view: XR FOOT RIGHT, XR KNEE UNI, XR HIPS BILAT.
_BODY_PART = re.compile(r"\b(ANKLE|FOOT|HIP|KNEE)S?\b", re.IGNORECASE)


def load(data_dir, label: str = "body_part") -> LabelledImages:
    """Indexes LERA by its labels.csv.

    Args:
      data_dir: path of `LERA Dataset`, or of its parent folder.
      label: `body_part` (4 classes), `abnormality` (2), or `both` (8).

    Returns:
      The images with patients and studies, without splits; a name is the path inside
      `LERA Dataset`.

    Raises:
      DataError: not LERA, an unknown label, invalid or contradictory lines, or patients without
        images.
    """
    root = find_root(data_dir)
    check_kind(label)
    table = root / "labels.csv"
    of_patient = _patients(table, label)
    names, unknown = [], []
    images, ignored = index_folder(root, known=[table])
    for line in describe_ignored(ignored):
        warn(f"{root}: {line}")
    for name in images:
        (names if name.split("/")[0] in of_patient else unknown).append(name)
    patients = [name.split("/")[0] for name in names]
    without = sorted(set(of_patient) - set(patients))
    if without:
        raise DataError(
            f"{table}: {len(without)} of {len(of_patient)} patients have no image, such as "
            f"{without[0]} (expected {without[0]}/ST-1/*.png); unpack the archive again"
        )
    if unknown:
        warn(
            f"{table}: lacks the patients of {len(unknown)} images, such as {unknown[0]}; left out"
        )
    labels, classes = number_labels([of_patient[patient] for patient in patients])
    return LabelledImages(
        name=f"lera/{label}",
        names=names,
        loaders=[functools.partial(read_image, root / name) for name in names],
        labels=labels,
        classes=classes,
        patients=patients,
        studies=["/".join(name.split("/")[:2]) for name in names],
    )


def find_root(data_dir) -> pathlib.Path:
    """Finds the folder that contains labels.csv.

    Raises:
      DataError: neither `data_dir` nor `LERA Dataset` in it contains labels.csv.
    """
    for root in (pathlib.Path(data_dir), pathlib.Path(data_dir) / FOLDER):
        if (root / "labels.csv").is_file():
            return root
    raise DataError(
        f"{data_dir}: no LERA here (labels.csv is missing); {WHERE_FROM}", wrong_flag=True
    )


def _patients(table, label):
    """Maps each patient's id to the name of the label."""
    of_patient, wrong, contrary = {}, [], []
    for line, row in read_rows(table):
        parts = {part.lower() for part in _BODY_PART.findall(row[1])} if len(row) == 3 else ()
        if len(parts) != 1 or row[2] not in ("0", "1") or not row[0]:
            wrong.append((line, ",".join(row)))
            continue
        name = label_name(label, parts.pop(), "abnormal" if row[2] == "1" else "normal")
        if of_patient.setdefault(row[0], name) != name:
            contrary.append((line, ",".join(row)))
    refuse(table, f"do not read patient, examination ({', '.join(BODY_PARTS)}), 0 or 1", wrong)
    refuse(table, "give a patient another label than an earlier line", contrary)
    return of_patient
