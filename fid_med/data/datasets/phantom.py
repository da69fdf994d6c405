"""Phantoms as labelled images: the data set that needs no data."""

import functools

import numpy as np

from fid_med.data.datasets.label_kinds import check_kind, label_name
from fid_med.data.labelled import LabelledImages, number_labels
from fid_med.phantoms.radiograph import phantom_set


def load(count: int, size: int, seed: int = 0, label: str = "body_part") -> LabelledImages:
    """Draws phantoms, each its own patient.

    Args:
      count: how many.
      size: height and width in pixels.
      seed: of the phantoms.
      label: `body_part`, `abnormality` or `both`.

    Raises:
      DataError: an unknown label, or what cannot be drawn.
    """
    check_kind(label)
    images, facts = phantom_set(count, size=size, seed=seed)
    labels, classes = number_labels(
        [label_name(label, fact.body_part, fact.abnormality) for fact in facts]
    )
    return LabelledImages(
        name="phantom",
        names=[f"phantom_{i:05d}" for i in range(count)],
        loaders=[functools.partial(np.asarray, image) for image in images],
        labels=labels,
        classes=classes,
        patients=[fact.patient for fact in facts],
    )
