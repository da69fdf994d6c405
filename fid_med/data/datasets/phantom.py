"""Phantoms as labelled images: the data set that needs no data."""

import functools

import numpy as np

from fid_med.data.labelled import LabelledImages
from fid_med.data.phantom import phantom_set


def load(count: int, size: int, seed: int = 0, label: str = "body_part") -> LabelledImages:
    """Draws phantoms, each its own patient.

    Args:
      count: how many.
      size: height and width in pixels.
      seed: of the phantoms.
      label: `body_part` or `abnormality`.
    """
    images, facts = phantom_set(count, size=size, seed=seed)
    of_image = [getattr(fact, label) for fact in facts]
    classes = tuple(sorted(set(of_image)))
    return LabelledImages(
        name="phantom",
        names=[f"phantom_{i:05d}" for i in range(count)],
        loaders=[functools.partial(np.asarray, image) for image in images],
        labels=np.array([classes.index(value) for value in of_image]),
        classes=classes,
        patients=[fact.patient for fact in facts],
    )
