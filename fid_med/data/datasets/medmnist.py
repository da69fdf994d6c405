"""MedMNIST (Yang et al. 2023): the official npz files, or any file with the same keys."""

import functools
import pathlib
import re
import shutil
import tempfile

import numpy as np

from fid_med.data.datasets.medmnist_facts import SETS, SIZES, md5, url
from fid_med.data.images import check_pixels
from fid_med.data.labelled import LabelledImages, single_out
from fid_med.errors import DataError, reason_of
from fid_med.utils.download import fetch
from fid_med.utils.files import npz_array

_SPLITS = (("train", "train"), ("val", "validation"), ("test", "test"))
MEMORY_LIMIT = 1 << 30
_KEYS = tuple(f"{theirs}_{what}" for theirs, _ in _SPLITS for what in ("images", "labels"))


def load(data_dir, set_name: str | None = None, label: str | None = None) -> LabelledImages:
    """Reads `{train,val,test}_{images,labels}`, with the splits of the file.

    Args:
      data_dir: path of an npz file with images uint8 [N, H, W] or [N, H, W, 3], and labels integer
        [N] or [N, 1], or 0 and 1 [N, L] for several labels per image. With `set_name` also the
        folder of the set's file, which is downloaded if it is missing.
      set_name: set to read from a folder, for example `chestmnist` or `chestmnist_64`. By default
        the set is found by the file's name. Labels of the twelve official sets are named, labels
        of other files are numbers.
      label: for several labels per image, the name of the one to learn alone.

    Raises:
      DataError: a missing or damaged file, missing keys, an unknown set or label, or a failed
        download.
    """
    path = pathlib.Path(data_dir)
    if set_name is not None:
        flag, size = parse(set_name)
        if path.suffix != ".npz":
            path = path / f"{set_name}.npz"
            if not path.is_file():
                fetch(url(flag, size), path, md5=md5(flag, size))
    elif path.is_dir():
        raise DataError(
            f"{path}: is a folder; name the set as --dataset=medmnist/<flag>, or give an npz file",
            wrong_flag=True,
        )
    else:
        flag = re.sub(r"_(64|128|224)$", "", path.stem)
    return _read(path, SETS[flag].labels if flag in SETS else (), label)


def parse(set_name: str) -> tuple[str, int]:
    """Splits a set's name, `pathmnist` (28 pixels) or `pathmnist_64`, into flag and size.

    Raises:
      DataError: an unknown name.
    """
    flag, _, size = set_name.partition("_")
    if flag not in SETS or size not in ("", *map(str, SIZES[1:])):
        raise DataError(
            f"medmnist/{set_name}: no such set; known: {', '.join(SETS)}, each also with "
            f"{', '.join(f'_{size}' for size in SIZES[1:])}",
            wrong_flag=True,
        )
    return flag, int(size or SIZES[0])


def _read(path, names, label):
    arrays = _arrays(path)
    image_names, loaders, labels, splits = [], [], [], []
    for theirs, ours in _SPLITS:
        images = arrays[f"{theirs}_images"]
        values = _label_values(arrays[f"{theirs}_labels"], path, theirs)
        if images.ndim not in (3, 4):
            raise DataError(
                f"{path}: {theirs} images of shape {images.shape}, expected [N, H, W] or "
                "[N, H, W, 3]"
            )
        if len(images) != len(values):
            raise DataError(f"{path}: {len(images)} {theirs} images, {len(values)} labels")
        for i, image in enumerate(images):
            image_names.append(f"{theirs}/{i:06d}")
            loaders.append(functools.partial(check_pixels, image, f"{path.name} {theirs}/{i}"))
        labels.append(values)
        splits += [ours] * len(images)
    if len({values.shape[1:] for values in labels}) > 1:
        raise DataError(f"{path}: the splits differ in the number of labels per image")
    labels, classes = _classes(np.concatenate(labels), names, path, label)
    return LabelledImages(
        name=path.stem,
        names=image_names,
        loaders=loaders,
        labels=labels,
        classes=classes,
        splits=np.array(splits),
    )


def _arrays(path):
    if not path.is_file():
        raise DataError(
            f"{path}: no such file; expected MedMNIST's npz, such as breastmnist.npz",
            wrong_flag=True,
        )
    try:
        with path.open("rb") as file:
            if file.read(2) != b"PK":  # np.load would recommend to unpickle it
                raise ValueError("not a zip file")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                arrays = {key: _array(archive, key) for key in _KEYS if key in archive.files}
    except Exception as error:  # a damaged zip or array header raises almost any error
        raise DataError(f"{path}: cannot be read as npz ({reason_of(error)})") from None
    missing = [key for key in _KEYS if key not in arrays]
    if missing:
        raise DataError(f"{path}: lacks {', '.join(missing)}; expected MedMNIST's keys")
    return arrays


def _array(archive, key):
    """Reads one array; above `MEMORY_LIMIT` bytes it is mapped from a deleted temporary file."""
    member = f"{key}.npy"
    if archive.zip.getinfo(member).file_size <= MEMORY_LIMIT:
        return npz_array(archive, key)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / member
        with archive.zip.open(member) as packed, path.open("wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
        return np.lib.format.open_memmap(path, mode="r")


def _label_values(labels, path, split):
    """Labels as int64 [N] or, for several labels per image, bool [N, L]."""
    if labels.ndim not in (1, 2):
        raise DataError(f"{path}: {split} labels of shape {labels.shape}, expected [N] or [N, L]")
    if labels.dtype.kind not in "iub":
        raise DataError(f"{path}: {split} labels are {labels.dtype}, expected whole numbers")
    if labels.ndim == 1 or labels.shape[1] == 1:
        return labels.reshape(-1).astype(np.int64)
    if not np.isin(labels, (0, 1)).all():
        raise DataError(f"{path}: {split} labels of {labels.shape[1]} columns must be 0 or 1")
    return labels.astype(bool)


def _classes(labels, names, path, label):
    if labels.ndim == 1:
        if label is not None:
            raise DataError(
                f"label {label!r}: {path.name} has one label per image; leave --label out",
                wrong_flag=True,
            )
        numbers, indices = np.unique(labels, return_inverse=True)
        fit = all(0 <= number < len(names) for number in numbers)
        classes = tuple(names[number] if fit else str(number) for number in numbers)
        return indices.reshape(-1).astype(np.int64), classes
    columns = labels.shape[1]
    classes = tuple(names) if len(names) == columns else tuple(str(i) for i in range(columns))
    if label is None:
        return labels, classes
    return single_out(labels, classes, label, path.name)
