"""Labelled images: what every data set is to the training, whatever its files look like."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from fid_med.errors import DataError

SPLITS = ("train", "validation", "test")
DEVELOPMENT = "development"
UNDIVIDED = "undivided"


@dataclasses.dataclass
class LabelledImages:
    """Images with one label each, or with any number of labels at once.

    Attributes:
      name: of the data set.
      names: an image's name, such as its path inside the data folder.
      loaders: functions that return uint8 [H, W] or [H, W, 3], one an image.
      labels: int64 [N], indices into `classes`; or, where an image may carry several labels at
        once, bool [N, K].
      classes: names of the K labels.
      patients: an image's patient, or None where no patient is known.
      studies: an image's study (one examination of one patient), or None where none is known.
      splits: an image's split by the data set's own division: one of `SPLITS`; `DEVELOPMENT`
        where the data set leaves open which images are for training and which for validation;
        `UNDIVIDED` where it leaves open the test images too. None is `UNDIVIDED` for all.
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
            raise DataError(f"{self.name}: needs at least two labels to tell apart, has {only}")
        if self.splits is not None:
            unknown = set(self.splits) - {*SPLITS, DEVELOPMENT, UNDIVIDED}
            if unknown:
                raise DataError(f"{self.name}: no such split: {', '.join(sorted(unknown))}")

    def __len__(self):
        return len(self.names)

    @property
    def multi_label(self) -> bool:
        """Whether an image may carry several labels at once."""
        return self.labels.ndim == 2

    def counts(self, members: np.ndarray | None = None) -> dict[str, int]:
        """Images by label, of all or of those that `members` (indices or bool [N]) selects."""
        labels = self.labels if members is None else self.labels[members]
        if self.multi_label:
            return dict(zip(self.classes, labels.sum(axis=0).tolist(), strict=True))
        return {name: int((labels == i).sum()) for i, name in enumerate(self.classes)}

    def without(self, labels: Sequence[str]) -> "LabelledImages":
        """The images that carry none of these labels, and the labels that are left.

        Raises:
          DataError: a label that there is not, or fewer than two left.
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
    """Numbers labels given by name.

    Args:
      of_image: an image's label.

    Returns:
      (labels, classes) of `LabelledImages`: int64 [N], and the names that occur, sorted.
    """
    classes = tuple(sorted(set(of_image)))
    numbers = {name: i for i, name in enumerate(classes)}
    return np.array([numbers[name] for name in of_image], np.int64), classes


def single_out(
    labels: np.ndarray, classes: Sequence[str], label: str, whose: str
) -> tuple[np.ndarray, tuple[str, str]]:
    """One of several labels an image, as a data set of its own with and without it.

    Args:
      labels: bool [N, K].
      classes: K names.
      label: one of them.
      whose: what an error message calls the data set.

    Returns:
      (labels, classes) of `LabelledImages`: int64 [N], and (`no <label>`, `<label>`).

    Raises:
      DataError: no such label.
    """
    if label not in classes:
        raise DataError(f"label {label!r}: {whose} knows {', '.join(classes)}")
    return labels[:, list(classes).index(label)].astype(np.int64), (f"no {label}", label)
