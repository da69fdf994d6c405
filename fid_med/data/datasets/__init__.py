"""The data sets to train on, by name: how each lies on disk, from its files to `LabelledImages`.

`load_dataset` reads them for the training, straight from the files. `fid_med.data.tfds_builders`
gives the same images through `tfds.load`.
"""

import importlib

from fid_med.data.labelled import LabelledImages
from fid_med.errors import DataError

NAMES = ("labelled_folder", "lera", "medmnist", "mura", "mura_lera", "phantom")


def check_name(name: str) -> None:
    """Raises a DataError for a name that `load_dataset` does not know."""
    if name.startswith("medmnist/"):
        from fid_med.data.datasets import medmnist

        medmnist.parse(name.removeprefix("medmnist/"))
    elif name not in NAMES:
        raise DataError(f"{name}: no such data set; known: {', '.join(NAMES)}, and medmnist/<flag>")


def load_dataset(
    name: str,
    data_dir: str | None,
    *,
    label: str | None = None,
    labels_csv: str | None = None,
    patient_regex: str | None = None,
    multi_frame: str = "refuse",
    phantoms: int = 600,
    image_size: int | None = None,
    seed: int = 0,
) -> LabelledImages:
    """Loads a data set by name, without TensorFlow Datasets and without copying images.

    Args:
      name: one of `NAMES`, or `medmnist/<flag>` such as `medmnist/chestmnist_64`.
      data_dir: its folder or file; none for phantoms.
      label: what to learn. MURA, LERA and phantoms: `body_part` (the default), `abnormality` or
        `both`. A csv file: its column. A set with several labels an image: one of them alone.
      labels_csv, patient_regex, multi_frame: for `labelled_folder`.
      phantoms, image_size, seed: for `phantom`; by default 299 pixels.

    Raises:
      DataError: unknown name, missing `data_dir`, an argument that is for another data set, or
        what the data set itself complains about.
    """
    check_name(name)
    if name != "labelled_folder":
        for flag, given in (
            ("labels_csv", labels_csv),
            ("patient_regex", patient_regex),
            ("multi_frame", multi_frame != "refuse"),
        ):
            if given:
                raise DataError(f"{name}: --{flag} is for --dataset=labelled_folder; leave it out")
    if name == "phantom":
        if data_dir:
            raise DataError("phantom: is drawn, not read from --data_dir; leave it out")
        from fid_med.data.datasets import phantom

        return phantom.load(phantoms, image_size or 299, seed, label or "body_part")
    if not data_dir:
        raise DataError(f"{name}: give its folder or file by --data_dir")
    if name == "labelled_folder":
        from fid_med.data.datasets import labelled_folder

        return labelled_folder.load(data_dir, patient_regex, labels_csv, label, multi_frame)
    if name.startswith("medmnist"):
        from fid_med.data.datasets import medmnist

        return medmnist.load(data_dir, name.removeprefix("medmnist").lstrip("/") or None, label)
    layout = importlib.import_module(f"fid_med.data.datasets.{name}")
    return layout.load(data_dir, label or "body_part")
