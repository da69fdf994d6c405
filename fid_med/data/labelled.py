"""Labelled images: the form in which every data set reaches the training."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from fid_med.data.images import check_pixels
from fid_med.errors import DataError

SPLITS = ("train", "validation", "test")
DEVELOPMENT = "development"
UNDIVIDED = "undivided"


class DatasetLoaders(Sequence):
    """Loaders of the images of a `tf.data.Dataset`, which is read in its order.

    Iterating over them reads the data set once. To load a single one, the data set is read up to
    that image.

    Args:
      dataset: of pairs (image, label).
      name: name of the data set in messages.
      labels: [n] or [n, K], the labels of all its images, in its order.
      chosen: numbers of the images to load, ascending; by default all.

    Raises:
      DataError: while iterating, if the data set now has another order.
    """

    def __init__(self, dataset, name: str, labels: np.ndarray, chosen: Sequence[int] | None = None):
        self._dataset, self._name, self._labels = dataset, name, labels
        self._chosen = range(len(labels)) if chosen is None else list(chosen)

    def __len__(self) -> int:
        return len(self._chosen)

    def __iter__(self) -> Iterator[Callable[[], np.ndarray]]:
        wanted = iter(self._chosen)
        next_one = next(wanted, None)
        for number, (image, label) in enumerate(self._dataset.as_numpy_iterator()):
            if number >= len(self._labels) or not np.array_equal(label, self._labels[number]):
                raise DataError(
                    f"{self._name}: the data set has another order when it is read again; remove "
                    "its shuffle, or give shuffle(..., reshuffle_each_iteration=False)"
                )
            if number == next_one:
                yield functools.partial(check_pixels, image, self._image_name(number))
                next_one = next(wanted, None)
        if next_one is not None:
            raise DataError(f"{self._name}: the data set has fewer images when it is read again")

    def __getitem__(self, i: int) -> Callable[[], np.ndarray]:
        return functools.partial(self._load, self._chosen[i])

    def choose(self, rows: Sequence[int]) -> "DatasetLoaders":
        """Returns the loaders of some of these images."""
        chosen = [self._chosen[i] for i in rows]
        return DatasetLoaders(self._dataset, self._name, self._labels, chosen)

    def _load(self, number):
        image, _ = next(self._dataset.skip(number).take(1).as_numpy_iterator())
        return check_pixels(image, self._image_name(number))

    def _image_name(self, number):
        return f"{self._name}[{number}]"


@dataclasses.dataclass
class LabelledImages:
    """Images with labels, patients and splits. All sequences have one entry per image.

    Example:

    ```python
    import numpy as np
    import tensorflow as tf
    import fid_med

    images = np.zeros((8, 80, 80, 1), np.uint8)
    dataset = tf.data.Dataset.from_tensor_slices((images, [0, 1] * 4))
    labelled = fid_med.LabelledImages.from_dataset(dataset, ["elbow", "neck"])
    print(labelled.counts())  # {'elbow': 4, 'neck': 4}
    ```

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
      uncertain: how uncertain labels were read (`treatment`, see `labelled_folder.load`), and how
        many were `uncertain` and `empty`; None if there was nothing to decide.

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
    uncertain: dict | None = None

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

    @classmethod
    def from_dataset(
        cls,
        dataset,
        classes: Sequence[str],
        *,
        name: str = "dataset",
        labels: np.ndarray | None = None,
        patients: Sequence[str] | None = None,
        studies: Sequence[str] | None = None,
        splits: Sequence[str] | None = None,
    ) -> "LabelledImages":
        """Takes the images of a `tf.data.Dataset`, which is read once for labels, once for images.

        Args:
          dataset: finite, of pairs (image, label), not batched and in the same order each time:
            image uint8 [H, W], [H, W, 1] or [H, W, 3]; label a number below K, or bool or 0 and 1
            [K] if an image may have several labels.
          classes: names of the K labels.
          name: name of the data set.
          labels: the labels of all images, if they are known; they are then not read.
          patients, studies, splits: as the attributes, one per image.

        Raises:
          DataError: another kind of data set, or labels that do not fit `classes`.
        """
        classes = tuple(classes)
        if labels is None:
            labels = _read_labels(dataset, name)
        labels = _checked_labels(labels, len(classes), name)
        for what, values in (("patients", patients), ("studies", studies), ("splits", splits)):
            if values is not None and len(values) != len(labels):
                raise DataError(f"{name}: {len(values)} {what} for {len(labels)} images")
        return cls(
            name=name,
            names=[f"{name}[{i}]" for i in range(len(labels))],
            loaders=DatasetLoaders(dataset, name, labels),
            labels=labels,
            classes=classes,
            patients=patients,
            studies=studies,
            splits=None if splits is None else np.asarray(splits),
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
                f"{', '.join(self.classes)}",
                wrong_flag=True,
            )
        left = [name for name in self.classes if name not in labels]
        if len(left) < 2:
            raise DataError(
                f"{self.name}: needs at least two labels, has {', '.join(left) or 'none'} without "
                f"{', '.join(labels)}",
                wrong_flag=True,
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
            loaders=(
                self.loaders.choose(kept)
                if isinstance(self.loaders, DatasetLoaders)
                else [self.loaders[i] for i in kept]
            ),
            labels=labels_kept[:, ~left_out] if self.multi_label else numbers[labels_kept],
            classes=tuple(left),
            patients=self.patients and [self.patients[i] for i in kept],
            studies=self.studies and [self.studies[i] for i in kept],
            splits=None if self.splits is None else self.splits[kept],
            uncertain=self.uncertain,
        )


def _read_labels(dataset, name):
    spec = getattr(dataset, "element_spec", None)
    if not isinstance(spec, tuple) or len(spec) != 2:
        raise DataError(
            f"{name}: expected a tf.data.Dataset of pairs (image, label); make them with map()"
        )
    if spec[0].shape.rank == 4 or spec[1].shape.rank == 2:
        raise DataError(f"{name}: the data set is batched; give dataset.unbatch()")
    if dataset.cardinality() == -1:  # tf.data.INFINITE_CARDINALITY
        raise DataError(f"{name}: the data set never ends; give it a .take(n)")
    return np.array(list(dataset.map(lambda image, label: label).as_numpy_iterator()))


def _checked_labels(labels, count, name):
    if not len(labels):
        raise DataError(f"{name}: the data set has no images")
    if labels.ndim == 1 and labels.dtype.kind in "iu":
        if labels.min() < 0 or labels.max() >= count:
            raise DataError(
                f"{name}: labels from {labels.min()} to {labels.max()}, but {count} classes"
            )
        return labels.astype(np.int64)
    if labels.ndim == 2 and labels.shape[1] == count and np.isin(labels, (0, 1)).all():
        return labels.astype(bool)
    raise DataError(
        f"{name}: labels {labels.dtype} {list(labels.shape)}; expected whole numbers [N] below "
        f"{count}, or 0 and 1 [N, {count}]"
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
        raise DataError(
            f"label {label!r}: not in {name}; choose {', '.join(classes)}", wrong_flag=True
        )
    return labels[:, list(classes).index(label)].astype(np.int64), (f"no {label}", label)
