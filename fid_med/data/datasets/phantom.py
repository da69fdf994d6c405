"""Procedural phantoms as a labelled data set, which needs no files."""

import functools

import numpy as np

from fid_med.data.datasets.label_kinds import check_kind, label_name
from fid_med.data.labelled import LabelledImages, number_labels
from fid_med.phantoms.radiograph import phantom_set


def load(
    phantoms: int = 600, image_size: int = 299, seed: int = 0, label: str = "body_part"
) -> LabelledImages:
    """Draws phantoms, each of a different patient.

    Args:
      phantoms: number of phantoms.
      image_size: height and width in pixels.
      seed: seed of the phantoms.
      label: `body_part`, `abnormality` or `both`.

    Raises:
      DataError: an unknown label, or an invalid number, size or seed.
    """
    check_kind(label)
    images, facts = phantom_set(phantoms, size=image_size, seed=seed)
    labels, classes = number_labels(
        [label_name(label, fact.body_part, fact.abnormality) for fact in facts]
    )
    return LabelledImages(
        name="phantom",
        names=[f"phantom_{i:05d}" for i in range(phantoms)],
        loaders=[functools.partial(np.asarray, image) for image in images],
        labels=labels,
        classes=classes,
        patients=[fact.patient for fact in facts],
    )
