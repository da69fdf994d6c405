"""Data sets to train on, by name.

A data set is one module in this folder and one entry of `DATASETS`. The module reads the files as
they are published: `load(data_dir, **options)` returns `LabelledImages`. To offer the data set
through TensorFlow Datasets as well, add a builder to `fid_med.data.tfds_builders`.
"""

import importlib
from typing import NamedTuple

from fid_med.data.labelled import LabelledImages
from fid_med.errors import DataError


class Dataset(NamedTuple):
    """What `load_dataset` has to know of a data set.

    Attributes:
      options: keywords of `load_dataset` that its `load` takes.
      on_disk: whether its images are read from a folder or file (`data_dir`).
      needs_data_dir: whether that folder has no default.
      has_sets: whether `<name>/<set>` names one of several sets. Its module then has a function
        `parse(set_name)`, which raises a DataError for an unknown set, and `load` takes `set_name`.
      needs_set: whether one must be named.
    """

    options: tuple[str, ...] = ("label",)
    on_disk: bool = True
    has_sets: bool = False
    needs_data_dir: bool = True
    needs_set: bool = False


DATASETS = {
    "labelled_folder": Dataset(
        ("label", "labels_csv", "patient_regex", "multi_frame", "uncertain")
    ),
    "lera": Dataset(),
    "medmnist": Dataset(has_sets=True),
    "mura": Dataset(),
    "mura_lera": Dataset(),
    "phantom": Dataset(("label", "phantoms", "image_size", "seed"), on_disk=False),
    "tfds": Dataset(
        ("label", "patient_feature"), has_sets=True, needs_data_dir=False, needs_set=True
    ),
}
# Options that are an error where a data set does not take them, and the set that does.
_REFUSED_ELSEWHERE = {
    "labels_csv": "labelled_folder",
    "patient_regex": "labelled_folder",
    "multi_frame": "labelled_folder",
    "uncertain": "labelled_folder",
    "patient_feature": "tfds/NAME",
}


def check_name(name: str) -> None:
    """Raises a DataError for a name that `load_dataset` does not know."""
    base, slash, set_name = name.partition("/")
    if base not in DATASETS or (slash and not DATASETS[base].has_sets):
        raise DataError(
            f"{name}: no such data set; known: {', '.join(DATASETS)}, with medmnist/<flag> and "
            "tfds/<name>",
            wrong_flag=True,
        )
    if DATASETS[base].needs_set and not slash:
        raise DataError(f"{base}: name the set, as in --dataset={base}/NAME", wrong_flag=True)
    if slash:
        _module(base).parse(set_name)


def load_dataset(name: str, data_dir: str | None, **options) -> LabelledImages:
    """Loads a data set by name; images are read when they are needed.

    Args:
      name: a key of `DATASETS`; or `medmnist/<flag>`, for example `medmnist/chestmnist_64`; or
        `tfds/<name>` for a set of TensorFlow Datasets.
      data_dir: folder or file of the data set; None for phantoms, and for TFDS's own folder.
      options: by keyword; one that is None takes the default of the data set's `load`.
        `label`, the label to learn. MURA, LERA and phantoms: `body_part` (the default),
        `abnormality` or `both`. A csv file: the name of a column. A data set with several labels
        per image: the name of one of them.
        `labels_csv`, `patient_regex`, `multi_frame` and `uncertain`, for `labelled_folder`.
        `patient_feature`, for `tfds/<name>`.
        `phantoms`, `image_size` and `seed`, for `phantom`; ignored by the others.

    Raises:
      DataError: an unknown name, a missing `data_dir`, an option that the data set does not have,
        or data that cannot be used.
      TypeError: an option that no data set has.
    """
    if unknown := set(options).difference(*(x.options for x in DATASETS.values())):
        raise TypeError(f"load_dataset got an unexpected option {min(unknown)!r}")
    check_name(name)
    given = {option: value for option, value in options.items() if value is not None}
    base, _, set_name = name.partition("/")
    dataset = DATASETS[base]
    for option, taker in _REFUSED_ELSEWHERE.items():
        if given.get(option, "refuse") != "refuse" and option not in dataset.options:
            raise DataError(
                f"{name}: --{option} is for --dataset={taker}; leave it out", wrong_flag=True
            )
    if dataset.on_disk and dataset.needs_data_dir and not data_dir:
        raise DataError(f"{name}: name its folder or file with --data_dir", wrong_flag=True)
    if data_dir and not dataset.on_disk:
        raise DataError(
            f"{name}: is drawn, not read from --data_dir; leave it out", wrong_flag=True
        )
    arguments = {option: given[option] for option in dataset.options if option in given}
    if dataset.on_disk:
        arguments["data_dir"] = data_dir
    if set_name:
        arguments["set_name"] = set_name
    return _module(base).load(**arguments)


def _module(name):
    return importlib.import_module(f"fid_med.data.datasets.{name}")
