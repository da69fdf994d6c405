"""A folder of images with one subfolder per label, or with labels in a csv file."""

import functools
import pathlib
import posixpath
import re

import numpy as np

from fid_med.data import dicom
from fid_med.data.datasets.csv_tables import read_rows, refuse
from fid_med.data.images import describe_ignored, index_folder, read_image
from fid_med.data.labelled import LabelledImages, number_labels, single_out
from fid_med.data.patients import patients_of
from fid_med.errors import DataError, SettingError
from fid_med.utils.progress import say, warn

# Irvin et al. 2019 (CheXpert): U-Ignore, U-Zeros and U-Ones.
UNCERTAIN = ("drop", "zero", "one")
_SEVERAL = "|"
# -1 is CheXpert's "uncertain", nan pandas's empty cell.
_NO_LABEL = re.compile(r"-1(\.0*)?|nan", re.IGNORECASE)
_CERTAIN = re.compile(r"[01](\.0*)?")


def load(
    data_dir,
    patient_regex: str | None = None,
    labels_csv=None,
    label: str | None = None,
    multi_frame: str = "refuse",
    uncertain: str | None = None,
) -> LabelledImages:
    """Indexes `<data_dir>/<label>/**/*`, or the images that a csv file names.

    The first line of the csv file names its columns: `path` (inside the folder, with forward or
    backward slashes), `label`, and optionally `patient` and `study`; other columns are ignored. A
    cell may contain several labels, for example `effusion|nodule`. Then every image may have any
    number of labels, and an empty cell means none. Images that the csv file does not name are
    left out with a warning.

    Args:
      data_dir: path of the folder. Without a csv file, images directly in it are an error.
      patient_regex: regular expression for the patient in a file name; see `patients_of`.
      labels_csv: path of the csv file.
      label: column to learn, by default `label`. If that column contains several labels per image:
        the name of one of them, which is then learned alone.
      multi_frame: `refuse` or `unroll` DICOM files of several frames; see `list_images`. All frames
        of a file belong to one study.
      uncertain: treatment of labels that are -1 (uncertain) in a column of 1 and 0, as in CheXpert:
        `drop` leaves these images out, `zero` and `one` replace -1. An empty cell (not mentioned)
        is then 0. By default -1 and nan are errors.

    Raises:
      DataError: no label folders, a single label, a file name that the expression does not match,
        or a csv file that lacks a column, names an unknown image, names an image twice, or has -1
        or nan as a label without `uncertain`.
      SettingError: an unknown `uncertain`, or no csv file to which it applies.
    """
    if uncertain is not None and uncertain not in UNCERTAIN:
        raise SettingError(f"uncertain {uncertain!r}: expected one of {', '.join(UNCERTAIN)}")
    if uncertain is not None and labels_csv is None:
        raise SettingError(
            f"uncertain {uncertain!r}: only for the labels of a csv file; give it as --labels_csv"
        )
    folder = pathlib.Path(data_dir)
    names, ignored = index_folder(folder, multi_frame, known=[labels_csv])
    for line in describe_ignored(ignored):
        warn(f"{folder}: {line}")
    if labels_csv is None:
        if label is not None:
            raise DataError(
                f"label {label!r}: {folder} is labelled by its folders; leave --label out, or give "
                "a csv file with this column as --labels_csv",
                wrong_flag=True,
            )
        cells, patients, studies, treatment = _folders(folder, names), None, None, None
        labels, classes = number_labels(cells)
    else:
        names, labels, classes, patients, studies, treatment = _columns(
            pathlib.Path(labels_csv), folder, names, label, uncertain
        )
    if patient_regex and patients:
        raise DataError(
            f"{labels_csv}: has a column 'patient'; leave --patient_regex out", wrong_flag=True
        )
    files = [_file(folder, name) for name in names]
    if studies is None and files != names:
        studies = files
    return LabelledImages(
        name=folder.absolute().name,
        names=names,
        loaders=[functools.partial(read_image, folder / name) for name in names],
        labels=labels,
        classes=classes,
        patients=patients_of(names, patient_regex) if patient_regex else patients,
        studies=studies,
        uncertain=treatment,
    )


def _file(folder, name):
    """Name of the file that contains an image, which may be one frame of several."""
    path, frame = dicom.split_frame(folder / name)
    return name if frame is None else pathlib.Path(path).relative_to(folder).as_posix()


def _folders(folder, names):
    stray = [name for name in names if "/" not in name]
    if stray:
        raise DataError(
            f"{folder}: {len(stray)} images (such as {stray[0]}) are outside of the label folders; "
            "expected <folder>/<label>/<image>, or a csv file given as --labels_csv"
        )
    return [name.split("/", 1)[0] for name in names]


def _labels(cells):
    if not any(_SEVERAL in cell for cell in cells):
        return number_labels(cells)
    several = [{name.strip() for name in cell.split(_SEVERAL)} - {""} for cell in cells]
    classes = tuple(sorted(set().union(*several)))
    return np.array([[name in found for name in classes] for found in several]), classes


def _certain(table, column, rows, uncertain):
    """Applies `uncertain` to a column of 1, 0, -1 and empty cells.

    Returns:
      (indices of the rows to keep, their labels and the classes as in `LabelledImages`, and its
      attribute `uncertain`).
    """
    # What a cell says: 1, 0, - (uncertain), or n or nothing (not mentioned).
    cells = np.array([row[column][:1].lower() for row in rows], str)
    doubtful, empty = cells == "-", np.isin(cells, ("n", ""))
    say(
        f"{table.name}: {doubtful.sum()} of {len(cells)} images have an uncertain {column} (-1), "
        + ("left out" if uncertain == "drop" else f"read as {int(uncertain == 'one')}")
        + f"; {empty.sum()} have an empty cell, read as 0"
    )
    kept = np.flatnonzero(~doubtful | (uncertain != "drop"))
    positive = (cells == "1") | (doubtful & (uncertain == "one"))
    counts = {
        "treatment": uncertain, "uncertain": int(doubtful.sum()), "empty": int(empty.sum())
    }  # fmt: skip
    return kept, positive[kept].astype(np.int64), (f"no {column}", column), counts


def _columns(table, folder, images, label, uncertain):
    rows = read_rows(table)
    header = rows[0][1] if rows else []
    column = label if label in header else "label"
    if "path" not in header or column not in header:
        raise _lacks_column(table, label or column, header)
    refuse(
        table,
        f"do not have the {len(header)} cells of the first line",
        [(line, ",".join(row)) for line, row in rows[1:] if len(row) != len(header)],
    )
    rows = [(line, dict(zip(header, row, strict=True))) for line, row in rows[1:]]
    files = {name: _file(folder, name) for name in images}
    of_path = _by_path(table, folder, files.values(), rows, column, uncertain)
    unnamed = [name for name in images if files[name] not in of_path]
    if unnamed:
        warn(
            f"{folder}: {len(unnamed)} of {len(images)} images are not in {table.name}, such as "
            f"{unnamed[0]}; left out"
        )
    names = [name for name in images if files[name] in of_path]
    rows = [of_path[files[name]] for name in names]
    treatment = None
    if uncertain:
        kept, labels, classes, treatment = _certain(table, column, rows, uncertain)
        names, rows = [names[i] for i in kept], [rows[i] for i in kept]
    else:
        labels, classes = _labels([row[column] for row in rows])
    if label not in (None, column):
        if labels.ndim == 1:
            raise _lacks_column(table, label, header)
        labels, classes = single_out(labels, classes, label, table)
    patients, studies = (
        [row[column] for row in rows] if column in header else None
        for column in ("patient", "study")
    )
    if studies and patients:  # a study's name may be unique within one patient only
        studies = [f"{patient}/{study}" for patient, study in zip(patients, studies, strict=True)]
    return names, labels, classes, patients, studies, treatment


def _lacks_column(table, column, header):
    return DataError(
        f"{table}: the first line must name the columns, including path and {column}; it is "
        f"{','.join(header)!r}",
        wrong_flag=column != "label" and "path" in header,
    )


def _by_path(table, folder, files, rows, label, uncertain):
    """Maps each file's name to its row, in which every required cell is filled."""
    known, of_path = set(files), {}
    unknown, twice, empty = [], [], []
    may_be_empty = uncertain or any(_SEVERAL in row[label] for _, row in rows)
    for line, row in rows:
        path = posixpath.normpath(row["path"].replace("\\", "/"))
        if path not in known:
            unknown.append((line, row["path"]))
        elif path in of_path and of_path[path] != row:
            twice.append((line, row["path"]))
        if any(row.get(column) == "" for column in ("patient", "study")) or not (
            row[label] or may_be_empty
        ):
            empty.append((line, row["path"]))
        of_path.setdefault(path, row)
    refuse(table, f"name no image in {folder}", unknown)
    refuse(table, f"name an image a second time (write several labels as a{_SEVERAL}b)", twice)
    _check_uncertain(table, rows, label, uncertain)
    refuse(table, f"lack the {label}, the patient or the study", empty)
    return of_path


def _check_uncertain(table, rows, label, uncertain):
    """Refuses -1 and nan as labels, or, with `uncertain`, anything that is not like CheXpert's."""
    certain = [bool(_CERTAIN.fullmatch(row[label])) for _, row in rows]
    without = [bool(_NO_LABEL.fullmatch(row[label])) for _, row in rows]
    # CheXpert leaves cells of a finding empty that the report does not mention.
    empty = [row[label] == "" for _, row in rows]
    like_chexpert = np.any([certain, without, empty], axis=0)
    if uncertain:
        problem = f"have another {label} than 1, 0, -1 or an empty cell: leave --uncertain out"
        wrong = ~like_chexpert
    elif like_chexpert.all():
        problem = (
            f"have an uncertain or no {label} (-1, nan or an empty cell): give --uncertain=drop, "
            "zero or one"
        )
        wrong = np.any([without, empty], axis=0)
    else:
        problem, wrong = f"have -1 or nan as {label}: correct or remove them", without
    refuse(table, problem, [(rows[i][0], rows[i][1]["path"]) for i in np.flatnonzero(wrong)])
