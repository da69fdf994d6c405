"""MURA and LERA as one data set: upper and lower extremities, eleven body parts."""

import pathlib

import numpy as np

from fid_med.data.datasets import lera, mura
from fid_med.data.labelled import UNDIVIDED, LabelledImages, number_labels
from fid_med.errors import DataError

BODY_PARTS = (*mura.BODY_PARTS, *lera.BODY_PARTS)
WHERE_FROM = (
    f"expected a folder that contains '{mura.FOLDER}' and '{lera.FOLDER}' (or links). MURA: "
    f"{mura.WHERE_FROM}. LERA: {lera.WHERE_FROM}"
)


def load(data_dir, label: str = "body_part") -> LabelledImages:
    """Indexes both data sets.

    Args:
      data_dir: path of the folder that contains `MURA-v1.1` and `LERA Dataset`.
      label: `body_part` (11 classes), `abnormality` (2), or `both` (22).

    Returns:
      The images; names, patients and studies begin with `mura/` or `lera/`. MURA's images keep
      its splits, LERA's are `UNDIVIDED`.

    Raises:
      DataError: one of the two folders is missing, or as for `mura.load` and `lera.load`.
    """
    root = pathlib.Path(data_dir)
    lacking = [folder for folder in (mura.FOLDER, lera.FOLDER) if not (root / folder).is_dir()]
    if lacking:
        raise DataError(f"{root}: lacks {' and '.join(lacking)}; {WHERE_FROM}", wrong_flag=True)
    upper, lower = mura.load(root / mura.FOLDER, label), lera.load(root / lera.FOLDER, label)
    both = (("mura", upper), ("lera", lower))

    def joined(attribute):
        return [f"{name}/{value}" for name, images in both for value in getattr(images, attribute)]

    labels, classes = number_labels(
        [images.classes[i] for _, images in both for i in images.labels]
    )
    return LabelledImages(
        name=f"mura_lera/{label}",
        names=joined("names"),
        loaders=[*upper.loaders, *lower.loaders],
        labels=labels,
        classes=classes,
        patients=joined("patients"),
        studies=joined("studies"),
        splits=np.concatenate([upper.splits, np.full(len(lower), UNDIVIDED)]),
    )
