"""MedMNIST's npz layout (Yang et al. 2023), by path: the official files or a re-split of one."""

import functools
import pathlib

import numpy as np

from fid_med.data.images import check_pixels
from fid_med.data.labelled import LabelledImages
from fid_med.errors import DataError

_SPLITS = (("train", "train"), ("val", "validation"), ("test", "test"))


def load(path) -> LabelledImages:
    """Reads `{train,val,test}_{images,labels}` from a file; labels are named by their number.

    Args:
      path: npz; images uint8 [N, H, W] or [N, H, W, 3], labels integer [N] or [N, 1].

    Raises:
      DataError: missing or damaged file, missing keys, several labels an image.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected MedMNIST's npz, such as breastmnist.npz")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except Exception as error:  # a damaged zip or array header raises nearly anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: cannot be read as npz ({reason})") from None
    missing = [
        f"{theirs}_{what}"
        for theirs, _ in _SPLITS
        for what in ("images", "labels")
        if f"{theirs}_{what}" not in arrays
    ]
    if missing:
        raise DataError(f"{path}: lacks {', '.join(missing)}; expected MedMNIST's keys")
    names, loaders, labels, splits = [], [], [], []
    for theirs, ours in _SPLITS:
        images = arrays[f"{theirs}_images"]
        numbers = _label_numbers(arrays[f"{theirs}_labels"], path, theirs)
        if images.ndim not in (3, 4):
            raise DataError(
                f"{path}: {theirs} images of shape {images.shape}, expected [N, H, W] or "
                "[N, H, W, 3]"
            )
        if len(images) != len(numbers):
            raise DataError(f"{path}: {len(images)} {theirs} images, {len(numbers)} labels")
        for i, image in enumerate(images):
            names.append(f"{theirs}/{i:06d}")
            loaders.append(functools.partial(check_pixels, image, f"{path.name} {theirs}/{i}"))
        labels.append(numbers)
        splits += [ours] * len(images)
    numbers, labels = np.unique(np.concatenate(labels), return_inverse=True)
    return LabelledImages(
        name=path.stem,
        names=names,
        loaders=loaders,
        labels=labels.reshape(-1).astype(np.int64),
        classes=tuple(str(number) for number in numbers),
        splits=np.array(splits),
    )


def _label_numbers(labels, path, split):
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise DataError(
            f"{path}: {labels.shape[1]} labels for each {split} image; only one is supported"
        )
    if labels.ndim not in (1, 2):
        raise DataError(f"{path}: {split} labels of shape {labels.shape}, expected [N] or [N, 1]")
    return labels.reshape(-1)
