"""The data sets to train on, a module each."""

from fid_med.data.labelled import LabelledImages
from fid_med.errors import DataError


def load_dataset(
    name: str,
    data_dir: str | None,
    *,
    patient_regex: str | None = None,
    multi_frame: str = "refuse",
    phantoms: int = 600,
    image_size: int = 299,
    label: str = "body_part",
    seed: int = 0,
) -> LabelledImages:
    """Loads a data set by name: `labelled_folder`, `medmnist` or `phantom`.

    Args:
      name: of the data set.
      data_dir: its folder or file; none for phantoms.
      patient_regex, multi_frame: for `labelled_folder`.
      phantoms, image_size, label, seed: for `phantom`.

    Raises:
      DataError: unknown name, missing `data_dir`, or what the data set itself complains about.
    """
    if name == "phantom":
        from fid_med.data.datasets import phantom

        return phantom.load(phantoms, image_size, seed, label)
    if not data_dir:
        raise DataError(f"{name}: give its folder or file by --data_dir")
    if name == "labelled_folder":
        from fid_med.data.datasets import labelled_folder

        return labelled_folder.load(data_dir, patient_regex, multi_frame)
    if name == "medmnist":
        from fid_med.data.datasets import medmnist

        return medmnist.load(data_dir)
    raise DataError(f"{name}: no such data set; known: labelled_folder, medmnist, phantom")
