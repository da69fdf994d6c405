"""Labelled images: the form in which every data set reaches the training."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from fid_med.errors import DataError

SPLITS = ("train", "validation", "test")
DEVELOPMENT = "development"
UNDIVIDED = "undivided"


@dataclasses.dataclass
class LabelledImages:
    """Images with labels, patients and splits. All sequences have one entry per image.

    Attributes:
      name: name of the data set.
      names: name of each image, for example its path inside the data folder.
      loaders: functions without arguments that return the pixels, uint8 [H, W] or [H, W, 3].
      labels: int64 [N], indices into `classes`; or bool [N, K] if an image may have several labels.
      classes: names of the K labels.
      patients: patient of each image, or None if not known.
      studies: study (one examination of one patient) of each image, or None if not known.
      splits: split of each image, as published with the data set: one of `SPLITS`; `DEVELOPMENT`
        for training or validation, if the data set does not separate the two; `UNDIVIDED` if it
        has no test set either. None means `UNDIVIDED` for all images.

    Raises:
      DataError: fewer than two labels, or an unknown split.
    """

    name: str
    names: Sequence[str]
    loaders: Sequence[Callable[[], np.ndarray]]
    labels: np.ndarray
    classes: tuple[str, ...]
    patients: Sequence[str] | None = None
    studies: Sequence[str] | None = None
    splits: np.ndarray | None = None

    def __post_init__(self):
        if len(self.classes) < 2:
            only = ", ".join(self.classes) or "none"
            raise DataError(f"{self.name}: needs at least two labels, has {only}")
        if self.splits is not None:
            unknown = set(self.splits) - {*SPLITS, DEVELOPMENT, UNDIVIDED}
            if unknown:
                raise DataError(
                    f"{self.name}: no such split: {', '.join(sorted(unknown))}; known are "
                    f"{', '.join((*SPLITS, DEVELOPMENT, UNDIVIDED))}"
                )

    def __len__(self):
        return len(self.names)

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels."""
        return self.labels.ndim == 2

    def counts(self, members: np.ndarray | None = None) -> dict[str, int]:
        """Number of images per label.

        Args:
          members: images to count, as indices or bool [N]; None counts all.
        """
        labels = self.labels if members is None else self.labels[members]
        if self.multi_label:
            return dict(zip(self.classes, labels.sum(axis=0).tolist(), strict=True))
        return {name: int((labels == i).sum()) for i, name in enumerate(self.classes)}

    def without(self, labels: Sequence[str]) -> "LabelledImages":
        """Removes labels, and the images that have any of them.

        Args:
          labels: names of the labels to remove.

        Raises:
          DataError: an unknown label, or fewer than two labels are left.
        """
        unknown = [name for name in labels if name not in self.classes]
        if unknown:
            raise DataError(
                f"{self.name}: no label {', '.join(unknown)} to leave out; known are "
                f"{', '.join(self.classes)}"
            )
        left_out = np.isin(self.classes, labels)
        touched = (
            self.labels[:, left_out].any(axis=1) if self.multi_label else left_out[self.labels]
        )
        kept = np.flatnonzero(~touched)
        numbers = np.cumsum(~left_out) - 1
        labels_kept = self.labels[kept]
        return LabelledImages(
            name=self.name,
            names=[self.names[i] for i in kept],
            loaders=[self.loaders[i] for i in kept],
            labels=labels_kept[:, ~left_out] if self.multi_label else numbers[labels_kept],
            classes=tuple(np.array(self.classes)[~left_out].tolist()),
            patients=self.patients and [self.patients[i] for i in kept],
            studies=self.studies and [self.studies[i] for i in kept],
            splits=None if self.splits is None else self.splits[kept],
        )


def number_labels(of_image: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Numbers labels that are given by name.

    Args:
      of_image: name of the label of each image.

    Returns:
      (labels, classes) of `LabelledImages`: int64 [N], and the sorted names.
    """
    classes = tuple(sorted(set(of_image)))
    numbers = {name: i for i, name in enumerate(classes)}
    return np.array([numbers[name] for name in of_image], np.int64), classes


def single_out(
    labels: np.ndarray, classes: Sequence[str], label: str, name: str
) -> tuple[np.ndarray, tuple[str, str]]:
    """Reduces several labels per image to the presence of one of them.

    Args:
      labels: bool [N, K].
      classes: names of the K labels.
      label: name of the label to keep.
      name: name of the data set, for the error message.

    Returns:
      (labels, classes) of `LabelledImages`: int64 [N], and (`no <label>`, `<label>`).

    Raises:
      DataError: an unknown label.
    """
    if label not in classes:
        raise DataError(f"label {label!r}: not in {name}; choose {', '.join(classes)}")
    return labels[:, list(classes).index(label)].astype(np.int64), (f"no {label}", label)
