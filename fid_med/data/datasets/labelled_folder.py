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
from fid_med.errors import DataError
from fid_med.utils.progress import warn

_SEVERAL = "|"
# CheXpert's "uncertain", and pandas's empty cell.
_NO_LABEL = re.compile(r"-1(\.0*)?|nan", re.IGNORECASE)


def load(
    data_dir,
    patient_regex: str | None = None,
    labels_csv=None,
    label: str | None = None,
    multi_frame: str = "refuse",
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

    Raises:
      DataError: no label folders, a single label, a file name that the expression does not match,
        or a csv file that lacks a column, names an unknown image, names an image twice, or has -1
        or nan as a label.
    """
    folder = pathlib.Path(data_dir)
    names, ignored = index_folder(folder, multi_frame, known=[labels_csv])
    for line in describe_ignored(ignored):
        warn(f"{folder}: {line}")
    if labels_csv is None:
        if label is not None:
            raise DataError(
                f"label {label!r}: {folder} is labelled by its folders; leave --label out, or give "
                "a csv file with this column as --labels_csv"
            )
        cells, patients, studies = _folders(folder, names), None, None
        labels, classes = number_labels(cells)
    else:
        names, labels, classes, patients, studies = _columns(
            pathlib.Path(labels_csv), folder, names, label
        )
    if patient_regex and patients:
        raise DataError(f"{labels_csv}: has a column 'patient'; leave --patient_regex out")
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


def _columns(table, folder, images, label):
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
    of_path = _by_path(table, folder, files.values(), rows, column)
    unnamed = [name for name in images if files[name] not in of_path]
    if unnamed:
        warn(
            f"{folder}: {len(unnamed)} of {len(images)} images are not in {table.name}, such as "
            f"{unnamed[0]}; left out"
        )
    names = [name for name in images if files[name] in of_path]
    rows = [of_path[files[name]] for name in names]
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
    return names, labels, classes, patients, studies


def _lacks_column(table, column, header):
    return DataError(
        f"{table}: the first line must name the columns, including path and {column}; it is "
        f"{','.join(header)!r}"
    )


def _by_path(table, folder, files, rows, label):
    """Maps each file's name to its row, in which every required cell is filled."""
    known, of_path = set(files), {}
    unknown, twice, empty = [], [], []
    several = any(_SEVERAL in row[label] for _, row in rows)
    for line, row in rows:
        path = posixpath.normpath(row["path"].replace("\\", "/"))
        if path not in known:
            unknown.append((line, row["path"]))
        elif path in of_path and of_path[path] != row:
            twice.append((line, row["path"]))
        if any(row.get(column) == "" for column in ("patient", "study")) or not (
            row[label] or several
        ):
            empty.append((line, row["path"]))
        of_path.setdefault(path, row)
    refuse(table, f"name no image in {folder}", unknown)
    refuse(table, f"name an image a second time (write several labels as a{_SEVERAL}b)", twice)
    refuse(table, f"lack the {label}, the patient or the study", empty)
    refuse(
        table,
        f"have an uncertain or no {label} (-1 or nan): make it 0 or 1, as CheXpert's authors do, "
        "or remove the lines",
        [(line, row["path"]) for line, row in rows if _NO_LABEL.fullmatch(row[label])],
    )
    return of_path
