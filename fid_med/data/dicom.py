"""Reading DICOM files as 8-bit pixels with pydicom (the extra `dicom`).

Only header elements that affect the pixels are read; no element that identifies a patient is
parsed. pydicom quotes values of the header in its warnings, log messages and errors. Its warnings
and log are therefore switched off for the whole process, and the text of its errors is not shown.
"""

import logging
import os
import pathlib
import re
import warnings

import numpy as np

from fid_med.data.dicom_values import GREY, KEYWORDS, PALETTE, Refused, to_eight_bits
from fid_med.errors import DataError, UnreadableImageError

SUFFIXES = (".dcm", ".dicom")
MULTI_FRAME = ("refuse", "unroll")
INSTALL = "pip install 'fid_med[dicom]'"

_IMAGE = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelData",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
)
_TALKERS = ("pydicom", "pylibjpeg", "libjpeg", "openjpeg", "rle")
_TALKING_MODULES = rf"({'|'.join(_TALKERS)})(\.|$)"


def has_preamble(path) -> bool:
    """Whether a file begins like a DICOM file: any 128 bytes, then `DICM`."""
    try:
        if not os.path.isfile(path):  # opening a pipe would wait for its writer
            return False
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except PermissionError:
        return True  # listed, so that reading it reports the problem
    except OSError:
        return False


def require(count: int, example: str, folder) -> None:
    """Checks that pydicom can be imported.

    Args:
      count: number of DICOM files in the folder.
      example: name of one of them.
      folder: path of the folder.

    Raises:
      DataError: pydicom is missing or older than 3.0.
    """
    try:
        _pydicom()
    except ImportError:
        raise DataError(
            f"{folder}: {count} DICOM file{'' if count == 1 else 's'} (such as {example}), which "
            f"need pydicom 3.0 or later: {INSTALL}"
        ) from None


def _pydicom():
    import pydicom.pixels  # of 3.0

    for name in _TALKERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    # `warnings.catch_warnings` removes the filter, so each call checks for it.
    patterns = (getattr(entry[3], "pattern", None) for entry in warnings.filters)
    if _TALKING_MODULES not in patterns:
        warnings.filterwarnings("ignore", module=_TALKING_MODULES)
    return pydicom


def frame_names(folder: pathlib.Path, name: str) -> list[str]:
    """Names the frames of a file: `name` for a single one, else `name#0001` and so on.

    Args:
      folder: path of the folder.
      name: path of the file inside the folder.
    """
    try:
        with open(folder / name, "rb") as file:
            header = _pydicom().dcmread(
                file, specific_tags=["NumberOfFrames"], stop_before_pixels=True
            )
        frames = _frames(header)
    except Exception:  # reported when the file is read
        frames = 1
    return [f"{name}#{i:04d}" for i in range(1, frames + 1)] if frames > 1 else [name]


def split_frame(path) -> tuple[str, int | None]:
    """Splits a name from `frame_names` into the path of the file and the frame, from 1 or None."""
    path = os.fspath(path)
    match = re.fullmatch(r"(.+)#(\d{4,})", path, re.DOTALL)
    if match and not os.path.exists(path):  # unless a file has this very name
        return match[1], int(match[2])
    return path, None


def read_dicom(path, frame: int | None = None) -> np.ndarray:
    """Reads one image of a DICOM file as 8-bit pixels.

    Grey values (1 to 16 bits stored, signed or unsigned) are converted in this order:

    1. Modality: the Modality LUT, or stored value * Rescale Slope + Rescale Intercept.
    2. Values of interest: the first VOI LUT. Without one, the first window with its function
       (LINEAR by default; PS3.3 C.11.2.1.2 and C.11.2.1.3), onto the full output range. Without a
       window, or with one of no width, the full range that Bits Stored allows (after step 1), not
       the image's own minimum and maximum, so that intensities remain comparable between images.
    3. Scaling to 0..255, rounded half up. Inversion if the header has MONOCHROME1 or the
       Presentation LUT Shape INVERSE; once if it has both, as C.8.11.3 requires.
    4. Padding (Pixel Padding Value, up to Pixel Padding Range Limit) becomes black.

    Colour (RGB, YBR, palette) becomes RGB, scaled from the full range of its bits. Overlays are
    ignored. In a file of several frames, the frame's own functional groups take precedence over
    the shared ones, and these over the header.

    Args:
      path: path of the file.
      frame: number of the frame, from 1, in a file of several.

    Returns:
      uint8 [H, W] for grey, [H, W, 3] (RGB) for colour.

    Raises:
      UnreadableImageError: not a DICOM file, damaged, without pixels, several frames but `frame` is
        None, pixels without a fixed range, or no decoder for its compression.
    """
    try:
        header = _read_header(path, pixels=frame is None)
        frames = _frames(header)
        if frame is None and frames > 1:
            raise Refused(
                f"contains {frames} frames; --multi_frame=unroll reads each as a separate image"
            )
        _check(header, pixels=frame is None)
        index = (frame or 1) - 1
        source = header if frame is None else path
        if frame is not None and header.file_meta.TransferSyntaxUID.is_deflated:
            source = _read_header(path, pixels=True)  # pydicom inflates whole files only
        return to_eight_bits(_decode(source, header, index), header, index)
    except Refused as error:
        raise UnreadableImageError(f"{path}: {error}") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UnreadableImageError(f"{path}: cannot be read ({reason})") from None
    except ImportError:
        raise UnreadableImageError(
            f"{path}: a DICOM file, which needs pydicom 3.0 or later: {INSTALL}"
        ) from None
    # A damaged header fails where its value is first used; the error's text may quote it.
    except Exception as error:
        kind = type(error).__name__
        raise UnreadableImageError(f"{path}: a damaged DICOM header ({kind})") from None


def is_hardly_used(path) -> bool:
    """Whether an image of more than 8 bits uses at most a sixteenth of the 256 output values.

    This happens if the header declares 12-bit data as 16 bits and gives no window.
    """
    path, frame = split_frame(path)
    if _read_header(path, pixels=False).BitsStored <= 8:
        return False
    return int(np.ptp(read_dicom(path, frame))) <= 16


def _read_header(path, pixels):
    pydicom = _pydicom()
    with open(path, "rb") as file:
        try:
            return pydicom.dcmread(
                file, specific_tags=[*_IMAGE, *KEYWORDS], stop_before_pixels=not pixels
            )
        except pydicom.errors.InvalidDicomError:
            raise Refused("not a DICOM file") from None


def _frames(header):
    return int(header.get("NumberOfFrames") or 1)


def _check(header, pixels):
    if "FloatPixelData" in header or "DoubleFloatPixelData" in header:
        raise Refused("floating-point pixels have no fixed range")
    if pixels and "PixelData" not in header:
        raise Refused("a DICOM file without pixels (a report, a plan, or truncated)")
    if not 1 <= header.BitsStored <= min(16, header.BitsAllocated):
        raise Refused(f"{header.BitsStored:d} bits stored; expected 1 to 16")
    if header.get("HighBit", header.BitsStored - 1) != header.BitsStored - 1:
        raise Refused("its stored bits do not begin at bit 0")
    grey = header.PhotometricInterpretation in (*GREY, PALETTE)
    colour = re.fullmatch(r"RGB|YBR_(FULL|FULL_422|ICT|RCT)", header.PhotometricInterpretation)
    if header.SamplesPerPixel != (1 if grey else 3) or not (grey or colour):
        raise Refused("its photometric interpretation is not grey, RGB, YBR or palette")


def _decode(source, header, frame):
    """Decodes one frame to its stored values: integers [H, W], or [H, W, 3] in RGB.

    Args:
      source: the header with all pixels, or the path of the file to read only this frame from.
      header: header of the file.
      frame: number of the frame, from 0.
    """
    import pydicom.uid
    from pydicom.pixels import get_decoder, pixel_array

    syntax = header.file_meta.TransferSyntaxUID
    known = syntax.name if syntax.name != str(syntax) else "an unknown transfer syntax"
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise Refused(f"no decoder for {known}; convert it to an uncompressed DICOM") from None
    if not decoder.is_available:
        raise Refused(f"no decoder for {known}: {INSTALL}")
    # For damaged RLE pylibjpeg-rle panics, which `except Exception` does not catch.
    plugin = "pydicom" if syntax == pydicom.uid.RLELossless else ""
    try:
        values = pixel_array(source, index=frame, decoding_plugin=plugin)
    except Exception as error:
        raise Refused(f"damaged pixels ({known}, {type(error).__name__})") from None
    shape = (header.Rows, header.Columns) + ((3,) if header.SamplesPerPixel == 3 else ())
    if values.shape != shape or not values.size:
        raise Refused("its pixels do not fill its rows and columns")
    return values
