"""Listing the images of a folder in a fixed order, and reading a file as 8-bit pixels."""

import collections
import os
import pathlib
import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from fid_med.data import dicom, pillow_files
from fid_med.data.dicom_files import begins_like_dicom
from fid_med.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff", ".bmp", ".webp")
# What storage and operating systems add to folders, in lower case: previews, deleted and old files.
_SYSTEM_NAMES = frozenset({
    "@eadir", "@synoresource", "#recycle", "#snapshot", "@recycle", "@recently-snapshot",
    "@__thumb", "__macosx", "$recycle.bin", "system volume information", "lost+found",
    "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r",
    "dicomdir",
})  # fmt: skip

# Numbers of a batch that an error message is based on.
_LOOKED_AT = 1 << 24
# A network or a resize may exceed 0..1 and -1..1 a little.
_OVERSHOOT = 0.5


class FolderListing(NamedTuple):
    """The images of a folder, and what else is in it.

    Attributes:
      images: paths relative to the folder, with forward slashes, sorted by code point.
      ignored: number of other files by suffix (`.gif`), and of those left out by their name: a
        system's file or folder under that name (`@eaDir`, counted once), `hidden`.
    """

    images: list[str]
    ignored: dict[str, int]


def list_images(folder, multi_frame: str = "refuse") -> list[str]:
    """The images of `index_folder`, which has the arguments and errors."""
    return index_folder(folder, multi_frame).images


def index_folder(folder, multi_frame: str = "refuse", known=()) -> FolderListing:
    """Lists the images in a folder and its subfolders, following links.

    A file is an image if it has a suffix of `IMAGE_SUFFIXES` or `dicom.SUFFIXES`, in upper or lower
    case, or if it begins like a DICOM file, with or without the preamble. Everything else is
    ignored and counted: other formats, hidden files and folders, macOS resource forks (`._x.png`),
    what storage systems add (`@eaDir`, `__MACOSX`, `Thumbs.db`), `DICOMDIR`, pipes and devices.

    Args:
      folder: path of the folder.
      multi_frame: `refuse` lists a DICOM file of several frames once, and `read_image` refuses it;
        `unroll` lists each frame, as `name#0001` and so on.
      known: paths of files that the caller reads itself, which are not counted.

    Returns:
      A `FolderListing`, the same on every machine.

    Raises:
      DataError: no such folder, no image in it, or DICOM files in it but pydicom is missing.
    """
    if multi_frame not in dicom.MULTI_FRAME:
        raise DataError(f"multi_frame {multi_frame!r}: expected {' or '.join(dicom.MULTI_FRAME)}")
    folder = pathlib.Path(folder)
    check_folder(folder)
    known = {os.path.realpath(path) for path in known if path is not None}
    images, of_dicom, ignored = [], [], collections.Counter()
    for name, entry in _walk(folder, "", frozenset(), ignored):
        if not entry.is_file(follow_symlinks=False) and _is_special(entry.path):
            ignored["pipe or device"] += 1
        elif name.lower().endswith(IMAGE_SUFFIXES):
            images.append(name)
        elif _is_dicom(pathlib.Path(entry.path)):
            of_dicom.append(name)
        elif os.path.realpath(entry.path) not in known:
            ignored[_suffix(pathlib.Path(entry.path))] += 1
    if of_dicom:
        dicom.require(len(of_dicom), min(of_dicom), folder)
        if multi_frame == "unroll":
            of_dicom = [x for name in of_dicom for x in dicom.frame_names(folder, name)]
    images += of_dicom
    return _listing(folder, images, ignored, IMAGE_SUFFIXES + dicom.SUFFIXES)


def check_folder(folder: pathlib.Path) -> None:
    """Raises a DataError unless a path is that of a folder."""
    if not folder.exists():
        raise DataError(f"{folder}: no such folder; check the path", wrong_flag=True)
    if not folder.is_dir():
        raise DataError(f"{folder}: is a file, not a folder of images", wrong_flag=True)


def select_images(folder: str, names: Iterable[str]) -> FolderListing:
    """Selects by their suffix the images among the files of a remote folder.

    Args:
      folder: the folder, for the error message.
      names: paths of files in it, with forward slashes.

    Raises:
      DataError: no image among them.
    """
    images, ignored, left_out = [], collections.Counter(), set()
    for name in names:
        parts = name.split("/")
        depth = next((i for i, part in enumerate(parts) if _left_out(part)), None)
        if depth is not None:  # a folder counts once
            left_out.add(tuple(parts[: depth + 1]))
        elif name.lower().endswith(IMAGE_SUFFIXES):
            images.append(name)
        else:
            ignored[_suffix(pathlib.PurePosixPath(name))] += 1
    ignored.update(_left_out(parts[-1]) for parts in left_out)
    return _listing(folder, images, ignored, IMAGE_SUFFIXES)


def _listing(folder, images, ignored, suffixes):
    ignored = dict(sorted(ignored.items()))
    if not images:
        others = f", but {_counts(ignored)}" if ignored else ""
        raise DataError(f"{folder}: contains no image files ({', '.join(suffixes)}){others}")
    images.sort()
    return FolderListing(images, ignored)


def describe_ignored(ignored: dict[str, int]) -> list[str]:
    """One line on the files that `index_folder` ignored; none if they are all hidden."""
    if not ignored.keys() - {"hidden"}:
        return []
    return [f"ignored, because not read as images: {_counts(ignored)}"]


def _counts(ignored):
    return ", ".join(f"{count} {kind}" for kind, count in ignored.items())


def _left_out(name):
    """Under what to count a file or folder that is left out by its name; None for others."""
    if name.startswith("."):
        return "hidden"
    return name.strip() if name.lower() in _SYSTEM_NAMES else None


def _suffix(path):
    """A file's suffix in lower case, unless it is rather a part of its name."""
    suffix = path.suffix.lower()
    return suffix if re.fullmatch(r"\.(?=.*[a-z])[a-z0-9]{1,8}", suffix) else "without suffix"


def _is_dicom(path):
    if path.suffix.lower() in dicom.SUFFIXES:
        return True
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return False
    try:
        return begins_like_dicom(path)
    except OSError:
        # Listed where its name is a scanner's, so that reading it reports the problem.
        return not path.suffix or path.suffix[1:].isdigit()


def _walk(folder, prefix, above, ignored):
    """Yields the name below the folder, and the `os.DirEntry`, of each file.

    It uses what the folder's listing says of a file. A call of the system for each would take most
    of the time of a folder of a million.
    """
    real = os.path.realpath(folder)
    if real in above:  # a link to a folder that contains it
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if reason := _left_out(entry.name):
                ignored[reason] += 1
            # Unlike entry.is_dir(), os.path.isdir is False for a link to itself.
            elif os.path.isdir(entry) if entry.is_symlink() else entry.is_dir():
                yield from _walk(entry.path, f"{prefix}{entry.name}/", above | {real}, ignored)
            else:
                yield prefix + entry.name, entry


def _is_special(path):
    """Whether a path is a pipe or a device, or a link to one; not for a link to nothing."""
    return os.path.exists(path) and not os.path.isfile(path)


def read_image(path) -> np.ndarray:
    """Reads one image file as 8-bit pixels.

    For DICOM see `dicom.read_dicom`. PNG, JPEG, TIFF, BMP and WebP (1 to 16 bits; grey, RGB, RGBA,
    palette, CMYK) are converted as follows:

    - EXIF orientation is applied.
    - Transparent pixels are composited on black.
    - A TIFF in which 0 is white is inverted.
    - 16-bit grey is scaled from the full range, round(v * 255 / 65535), not from the image's own
      minimum and maximum, so that intensities remain comparable between images. A TIFF of 12 bits
      is scaled from 4095.
    - Of 16-bit colour Pillow keeps the high byte.

    Args:
      path: path of the file, or `file#0001` for one frame of a DICOM file, as listed by
        `list_images`.

    Returns:
      uint8 [H, W] for a grey image, [H, W, 3] (RGB) for a colour image.

    Raises:
      UnreadableImageError: a missing or truncated file, another format, several frames, pixels
        without a fixed range (signed, 32 bits, floating point), a TIFF that Pillow garbles, or more
        pixels than `budget.max_pixels`.
      SettingError: FID_MED_MAX_PIXELS is not a number.
    """
    file_path, frame = dicom.split_frame(path)
    if frame is not None or _is_dicom(pathlib.Path(path)):
        return dicom.read_dicom(file_path, frame)
    return pillow_files.read_pixels(path)


def check_pixels(image, name: str, batch: np.ndarray | None = None) -> np.ndarray:
    """Checks that an array is an image in the form that `read_image` returns.

    Args:
      image: uint8 [H, W], [H, W, 1] or [H, W, 3].
      name: name of the image, for the error message.
      batch: images of the same kind, whose range decides what the message advises; by default the
        image alone.

    Returns:
      uint8 [H, W] or [H, W, 3].

    Raises:
      DataError: another dtype or shape, or an empty image.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8:
        raise DataError(
            f"{name}: pixels are {image.dtype}{_how_to_convert(image if batch is None else batch)}"
        )
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[-1] != 3) or not image.size:
        raise DataError(f"{name}: shape {image.shape}, expected [H, W] or [H, W, 3] per image")
    return image


def _how_to_convert(values: np.ndarray) -> str:
    """Says which range the values have, and how they become pixels."""
    expected = "expected uint8 from 0 to 255"
    if values.dtype.kind not in "fiub" and not np.can_cast(values.dtype, np.float64):
        return f", {expected}"  # text or objects
    if values.size > _LOOKED_AT:
        values = values[:: -(-values.size // _LOOKED_AT)]
    values = values.astype(np.float64)
    low, high = float(values.min(initial=np.inf)), float(values.max(initial=-np.inf))
    if not np.isfinite([low, high]).all():
        return f" with NaN or infinity, {expected}; find out where those come from"
    if low >= 0 and high <= 1 + _OVERSHOOT:
        advice = "multiply by 255, round and convert: np.rint(np.clip(x, 0, 1) * 255)"
    elif low >= -1 - _OVERSHOOT and high <= 1 + _OVERSHOOT:
        advice = "scale from -1..1, round and convert: np.rint((np.clip(x, -1, 1) + 1) * 127.5)"
    elif low >= 0 and high <= 255:
        advice = "round and convert: np.rint(x)"
    else:
        advice = (
            "choose one window for all images, such as low, high = -1000, 400 for CT of the lung, "
            "and convert: "
            "np.rint((np.clip(x.astype(float), low, high) - low) * (255 / (high - low)))"
        )
    return f" from {low:.4g} to {high:.4g}, {expected}; {advice}.astype(np.uint8)"


def is_dark_sixteen_bit(path) -> bool:
    """Whether a 16-bit grey image uses at most a sixteenth of its range.

    This happens if 12-bit radiographs are saved as 16 bits without scaling. Reduced to 8 bits they
    are nearly black (or, in DICOM, where they may be signed or inverted, nearly uniform).
    """
    try:
        if dicom.split_frame(path)[1] or _is_dicom(pathlib.Path(path)):
            return dicom.is_hardly_used(path)
        return pillow_files.is_dark(path)
    except Exception:
        return False


def has_wrong_depth(path) -> bool:
    """Whether an image is a DICOM file with a look-up table that declares wrong bits."""
    try:
        return _is_dicom(pathlib.Path(dicom.split_frame(path)[0])) and dicom.has_wrong_depth(path)
    except Exception:
        return False
