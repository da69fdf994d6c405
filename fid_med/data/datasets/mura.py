"""MURA-v1.1 (Rajpurkar et al. 2018, arXiv:1712.06957): radiographs of the upper extremity."""

import functools
import pathlib
import re

import numpy as np

from fid_med.data.datasets.csv_tables import read_rows, refuse
from fid_med.data.datasets.label_kinds import check_kind, label_name
from fid_med.data.images import read_image
from fid_med.data.labelled import DEVELOPMENT, LabelledImages, number_labels
from fid_med.errors import DataError

FOLDER = "MURA-v1.1"
BODY_PARTS = ("elbow", "finger", "forearm", "hand", "humerus", "shoulder", "wrist")
WHERE_FROM = (
    "register at https://stanfordmlgroup.github.io/competitions/mura/, unpack MURA-v1.1.zip and "
    f"give the folder {FOLDER}, or its parent folder"
)
# MURA's test split is not published; its valid split takes its place, and selects nothing.
_SPLITS = (("train", DEVELOPMENT), ("valid", "test"))
_PATH = re.compile(
    r"(?:MURA-v1\.1/)?((?:train|valid)/XR_([A-Z]+)/(patient[0-9]+)/study[^/]+)/([^/]+)"
)


def load(data_dir, label: str = "body_part") -> LabelledImages:
    """Indexes MURA by its csv files.

    Args:
      data_dir: path of `MURA-v1.1`, or of its parent folder.
      label: `body_part` (7 classes), `abnormality` (2), or `both` (14).

    Returns:
      The images with patients, studies and splits; a name is the path inside `MURA-v1.1`. MURA's
      train split becomes `DEVELOPMENT`, to be divided by patient; its valid split becomes test.

    Raises:
      DataError: not MURA, an unknown label, contradictory csv files, or missing images.
    """
    root = find_root(data_dir)
    check_kind(label)
    names, labels, patients, studies, splits = [], [], [], [], []
    for theirs, ours in _SPLITS:
        findings = _study_findings(root / f"{theirs}_labeled_studies.csv")
        table = root / f"{theirs}_image_paths.csv"
        wrong = []
        for line, row in read_rows(table):
            match = _PATH.fullmatch(row[0])
            study, region, patient, file = match.groups() if match else ("", "", "", "")
            if file.startswith("._"):  # macOS's resource forks, in some copies
                continue
            if region.lower() not in BODY_PARTS or study not in findings:
                wrong.append((line, row[0]))
                continue
            names.append(f"{study}/{file}")
            labels.append(label_name(label, region.lower(), findings[study]))
            patients.append(patient)
            studies.append(study.split("/", 1)[1])
            splits.append(ours)
        refuse(table, f"name no image of a study in {theirs}_labeled_studies.csv", wrong)
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise DataError(
            f"{root}: {len(missing)} of {len(names)} images in the csv files are missing, "
            f"such as {missing[0]}; unpack MURA-v1.1.zip again"
        )
    labels, classes = number_labels(labels)
    return LabelledImages(
        name=f"mura/{label}",
        names=names,
        loaders=[functools.partial(read_image, root / name) for name in names],
        labels=labels,
        classes=classes,
        patients=patients,
        studies=studies,
        splits=np.array(splits),
    )


def find_root(data_dir) -> pathlib.Path:
    """Finds the folder that contains the csv files.

    Raises:
      DataError: neither `data_dir` nor `MURA-v1.1` in it contains them.
    """
    for root in (pathlib.Path(data_dir), pathlib.Path(data_dir) / FOLDER):
        if (root / "train_image_paths.csv").is_file():
            return root
    raise DataError(
        f"{data_dir}: no MURA here (train_image_paths.csv is missing); {WHERE_FROM}",
        wrong_flag=True,
    )


def _study_findings(table):
    """Maps each study's folder to `abnormal` or `normal`."""
    findings, wrong = {}, []
    for line, row in read_rows(table):
        match = _PATH.fullmatch(f"{row[0].rstrip('/')}/-")
        if not match or row[1:] not in (["0"], ["1"]):
            wrong.append((line, ",".join(row)))
            continue
        findings[match.group(1)] = "abnormal" if row[1] == "1" else "normal"
    refuse(table, "do not read study, 0 or 1", wrong)
    return findings
