"""Listing the images of a folder in a fixed order, and reading a file as 8-bit pixels."""

import os
import pathlib

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from fid_med.data import dicom
from fid_med.errors import DataError, UnreadableImageError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff", ".bmp", ".webp")
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
_ONE_FRAME_FORMATS = ("TIFF", "WEBP", "PNG")
_SAMPLE_FORMAT = 339  # TIFF tag: 1 unsigned, 2 signed, 3 floating point, 4 undefined


def list_images(folder, multi_frame: str = "refuse") -> list[str]:
    """Lists the images in a folder and its subfolders, following links.

    A file is an image if it has a suffix of `IMAGE_SUFFIXES` or `dicom.SUFFIXES`, in upper or lower
    case. Scanners write names without a suffix, or with a number after the last dot; such a file is
    an image if it begins like a DICOM file. Hidden files and folders, macOS resource forks
    (`._x.png`), `__MACOSX`, `DICOMDIR` and files with other suffixes are ignored.

    Args:
      folder: path of the folder.
      multi_frame: `refuse` lists a DICOM file of several frames once, and `read_image` refuses it;
        `unroll` lists each frame, as `name#0001` and so on.

    Returns:
      list of paths relative to `folder`, with forward slashes, sorted by code point, so that the
      order is the same on every machine.

    Raises:
      DataError: no such folder, no image in it, or DICOM files in it but pydicom is missing.
    """
    if multi_frame not in dicom.MULTI_FRAME:
        raise DataError(f"multi_frame {multi_frame!r}: expected {' or '.join(dicom.MULTI_FRAME)}")
    folder = pathlib.Path(folder)
    if not folder.exists():
        raise DataError(f"{folder}: no such folder; check the path")
    if not folder.is_dir():
        raise DataError(f"{folder}: is a file, not a folder of images")
    images, of_dicom = [], []
    for path in _walk(folder, frozenset()):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            images.append(path.relative_to(folder).as_posix())
        elif _is_dicom(path):
            of_dicom.append(path.relative_to(folder).as_posix())
    if of_dicom:
        dicom.require(len(of_dicom), min(of_dicom), folder)
        if multi_frame == "unroll":
            of_dicom = [x for name in of_dicom for x in dicom.frame_names(folder, name)]
    if not images and not of_dicom:
        suffixes = ", ".join(IMAGE_SUFFIXES + dicom.SUFFIXES)
        raise DataError(f"{folder}: contains no image files ({suffixes})")
    return sorted(images + of_dicom)


def _is_dicom(path):
    if path.suffix.lower() in dicom.SUFFIXES:
        return True
    bare = not path.suffix or path.suffix[1:].isdigit()
    return bare and path.name.upper() != "DICOMDIR" and dicom.has_preamble(path)


def _walk(folder, above):
    real = folder.resolve()
    if real in above:  # a link to a folder that contains it
        return
    for entry in os.scandir(folder):
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        if os.path.isdir(entry):  # unlike entry.is_dir(), False for a link to itself
            yield from _walk(pathlib.Path(entry.path), above | {real})
        else:
            yield pathlib.Path(entry.path)


def read_image(path) -> np.ndarray:
    """Reads one image file as 8-bit pixels.

    For DICOM see `dicom.read_dicom`. PNG, JPEG, TIFF, BMP and WebP (1, 8 and 16 bits; grey, RGB,
    RGBA, palette, CMYK) are converted as follows:

    - EXIF orientation is applied.
    - Transparent pixels are composited on black.
    - A TIFF in which 0 is white is inverted.
    - 16-bit grey is scaled from the full range, round(v * 255 / 65535), not from the image's own
      minimum and maximum, so that intensities remain comparable between images.
    - Of 16-bit colour Pillow keeps the high byte.

    Args:
      path: path of the file, or `file#0001` for one frame of a DICOM file, as listed by
        `list_images`.

    Returns:
      uint8 [H, W] for a grey image, [H, W, 3] (RGB) for a colour image.

    Raises:
      UnreadableImageError: a missing or truncated file, another format, several frames, or pixels
        without a fixed range (signed, 32 bits, floating point).
    """
    file_path, frame = dicom.split_frame(path)
    if frame is not None or _is_dicom(pathlib.Path(path)):
        return dicom.read_dicom(file_path, frame)
    try:
        # Given a path, Pillow 13.0 maps an uncompressed TIFF into memory with the wrong number of
        # columns if its orientation swaps height and width. Given an open file, it reads it.
        with open(path, "rb") as file, Image.open(file, formats=_FORMATS) as image:
            if image.format in _ONE_FRAME_FORMATS and getattr(image, "n_frames", 1) > 1:
                raise UnreadableImageError(
                    f"{path}: contains {image.n_frames} frames; save each as a separate image"
                )
            if image.format == "TIFF":
                _check_range(image, path)
            image.load()
            inverted = image.format == "TIFF" and _zero_is_white(image)
            pixels = _to_pixels(ImageOps.exif_transpose(image))
            return 255 - pixels if inverted else pixels
    except UnreadableImageError:
        raise
    except UnidentifiedImageError:
        raise UnreadableImageError(
            f"{path}: not a readable image; supported formats are PNG, JPEG, TIFF, BMP, WebP and "
            "DICOM"
        ) from None
    # Pillow's decoders raise many kinds of error for a damaged file.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise UnreadableImageError(f"{path}: cannot be read ({reason})") from None


def _check_range(tiff, path):
    bits = tiff.tag_v2.get(ExifTags.Base.BitsPerSample, (1,))
    kinds = tiff.tag_v2.get(_SAMPLE_FORMAT, (1,))
    if max(bits) > 16 or not {1, 4}.issuperset(kinds):
        raise UnreadableImageError(
            f"{path}: signed, 32-bit or floating-point pixels have no fixed range; "
            "save as unsigned 8- or 16-bit integers"
        )


def _zero_is_white(tiff):
    # Pillow inverts up to 8 bits, but not 16.
    photometric = tiff.tag_v2.get(ExifTags.Base.PhotometricInterpretation)
    return photometric == 0 and tiff.mode.startswith("I")


def _to_pixels(image):
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if "transparency" in image.info:  # the value that means transparent
            values[values == image.info["transparency"]] = 0
        return _rescale(values, 65535)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return _on_black(image)
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    return np.asarray(image.convert("RGB"))


def _on_black(image):
    grey = image.mode in ("LA", "La", "L", "1")
    rgba = np.asarray(image.convert("RGBA")).astype(np.int64)
    pixels = _rescale(rgba[..., :3] * rgba[..., 3:], 255 * 255)
    return pixels[..., 0] if grey else pixels


def _rescale(values, maximum):
    return ((values * 255 + maximum // 2) // maximum).astype(np.uint8)


def check_pixels(image, name: str) -> np.ndarray:
    """Checks that an array is an image in the form that `read_image` returns.

    Args:
      image: uint8 [H, W], [H, W, 1] or [H, W, 3].
      name: name of the image, for the error message.

    Returns:
      uint8 [H, W] or [H, W, 3].

    Raises:
      DataError: another dtype or shape, or an empty image.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8:
        raise DataError(
            f"{name}: pixels are {image.dtype}, expected uint8 from 0 to 255; "
            "convert them, for example with np.clip(np.rint(x), 0, 255).astype(np.uint8)"
        )
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[-1] != 3) or not image.size:
        raise DataError(f"{name}: shape {image.shape}, expected [H, W] or [H, W, 3] per image")
    return image


def is_dark_sixteen_bit(path) -> bool:
    """Whether a 16-bit grey image uses at most a sixteenth of its range.

    This happens if 12-bit radiographs are saved as 16 bits without scaling. Reduced to 8 bits they
    are nearly black (or, in DICOM, where they may be signed or inverted, nearly uniform).
    """
    try:
        if dicom.split_frame(path)[1] or _is_dicom(pathlib.Path(path)):
            return dicom.is_hardly_used(path)
        with Image.open(path) as image:
            return image.mode.startswith("I") and int(np.asarray(image).max()) < 4096
    except Exception:
        return False
