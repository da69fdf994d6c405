"""DICOM files to 8-bit pixels, decoded by pydicom; the extra `dicom`.

Of a header only what decides the pixels is read: no element that names a patient is even parsed.
pydicom quotes values of the header in its warnings, log and errors, so the first two are switched
off for the whole process and the last are never passed on.
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
MEND = "pip install 'fid_med[dicom]'"

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
    """Whether a file begins as a DICOM file does: 128 bytes of anything, then `DICM`."""
    try:
        if not os.path.isfile(path):  # a pipe would wait for its writer
            return False
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except PermissionError:
        return True  # to be named on reading, not passed over
    except OSError:
        return False


def require(count: int, example: str, folder) -> None:
    """Checks that pydicom is there to read the DICOM files of a folder.

    Raises:
      DataError: it is not, or is older than 3.0.
    """
    try:
        _pydicom()
    except ImportError:
        raise DataError(
            f"{folder}: {count} DICOM file{'' if count == 1 else 's'} (such as {example}), which "
            f"need pydicom 3.0 or later: {MEND}"
        ) from None


def _pydicom():
    import pydicom.pixels  # of 3.0

    for name in _TALKERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    # Whoever catches warnings undoes the filter, so it is looked for each time.
    patterns = (getattr(entry[3], "pattern", None) for entry in warnings.filters)
    if _TALKING_MODULES not in patterns:
        warnings.filterwarnings("ignore", module=_TALKING_MODULES)
    return pydicom


def frame_names(folder: pathlib.Path, name: str) -> list[str]:
    """Names of a file's frames: `name` alone for one, `name#0001` and so on for several.

    Args:
      folder: of the images.
      name: path of the file inside it.
    """
    try:
        with open(folder / name, "rb") as file:
            header = _pydicom().dcmread(
                file, specific_tags=["NumberOfFrames"], stop_before_pixels=True
            )
        frames = _frames(header)
    except Exception:  # told where the file is read
        frames = 1
    return [f"{name}#{i:04d}" for i in range(1, frames + 1)] if frames > 1 else [name]


def split_frame(path) -> tuple[str, int | None]:
    """Path of the file and number of the frame (from 1) that a name of `frame_names` means."""
    path = os.fspath(path)
    match = re.fullmatch(r"(.+)#(\d{4,})", path, re.DOTALL)
    if match and not os.path.exists(path):  # a file of that very name is just that
        return match[1], int(match[2])
    return path, None


def read_dicom(path, frame: int | None = None) -> np.ndarray:
    """Reads one image of a DICOM file as 8-bit pixels.

    Grey (1 to 16 bits stored, signed or not), in this order:

    1. Modality: the Modality LUT, or stored value * Rescale Slope + Rescale Intercept.
    2. Values of interest: the first VOI LUT; else the first window by its function (LINEAR where
       none is named; PS3.3 C.11.2.1.2 and C.11.2.1.3) onto the whole output range; else, and for a
       window without width, the whole range that Bits Stored allows (after step 1), never the
       image's own minimum and maximum, so that intensities stay comparable between images.
    3. To 0..255, rounded half up; inverted once where the header says MONOCHROME1 or the
       Presentation LUT Shape INVERSE (in a standard file they come together, C.8.11.3).
    4. Padding (Pixel Padding Value, up to its range limit) is black.

    Colour (RGB, YBR, palette): to RGB, scaled from the whole range of its bits. Overlays are
    ignored. In multi-frame files, a frame's functional groups come before the shared ones and
    these before the header.

    Args:
      path: path of the file.
      frame: number of the frame, from 1, in a file of several.

    Returns:
      uint8 [H, W] for grey, [H, W, 3] (RGB) for colour.

    Raises:
      UnreadableImageError: no DICOM file, damaged, without pixels, several frames and none asked
        for, pixels without a fixed range, or no decoder for its compression.
    """
    try:
        header = _read_header(path, pixels=frame is None)
        frames = _frames(header)
        if frame is None and frames > 1:
            raise Refused(
                f"holds {frames} frames; --multi_frame=unroll takes each as an image of its own"
            )
        _check(header, pixels=frame is None)
        index = (frame or 1) - 1
        source = header if frame is None else path
        if frame is not None and header.file_meta.TransferSyntaxUID.is_deflated:
            source = _read_header(path, pixels=True)  # pydicom inflates none but whole files
        return to_eight_bits(_decode(source, header, index), header, index)
    except Refused as error:
        raise UnreadableImageError(f"{path}: {error}") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UnreadableImageError(f"{path}: cannot be read ({reason})") from None
    except ImportError:
        raise UnreadableImageError(
            f"{path}: a DICOM file, which needs pydicom 3.0 or later: {MEND}"
        ) from None
    # A damaged header fails wherever its value is first used; the error's text may quote it.
    except Exception as error:
        kind = type(error).__name__
        raise UnreadableImageError(f"{path}: a damaged DICOM header ({kind})") from None


def is_hardly_used(path) -> bool:
    """Whether pixels of more than 8 bits come out within a sixteenth of the 256 values.

    That is how 12-bit data looks that its header calls 16-bit and gives no window.
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
        raise Refused("a DICOM file without pixels (a report, a plan, or cut off before them)")
    if not 1 <= header.BitsStored <= min(16, header.BitsAllocated):
        raise Refused(f"{header.BitsStored:d} bits stored; expected 1 to 16")
    if header.get("HighBit", header.BitsStored - 1) != header.BitsStored - 1:
        raise Refused("its stored bits do not begin at bit 0")
    grey = header.PhotometricInterpretation in (*GREY, PALETTE)
    colour = re.fullmatch(r"RGB|YBR_(FULL|FULL_422|ICT|RCT)", header.PhotometricInterpretation)
    if header.SamplesPerPixel != (1 if grey else 3) or not (grey or colour):
        raise Refused("its photometric interpretation is none of grey, RGB, YBR and palette")


def _decode(source, header, frame):
    """Stored values of one frame: integers [H, W], or [H, W, 3] in RGB.

    Args:
      source: the header with all its pixels, or a path to read this frame's alone from.
      header: of the file.
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
        raise Refused(f"no decoder for {known}: {MEND}")
    # On damaged RLE the decoder of pylibjpeg-rle panics, past every `except Exception`.
    plugin = "pydicom" if syntax == pydicom.uid.RLELossless else ""
    try:
        values = pixel_array(source, index=frame, decoding_plugin=plugin)
    except Exception as error:
        raise Refused(f"damaged pixels ({known}, {type(error).__name__})") from None
    shape = (header.Rows, header.Columns) + ((3,) if header.SamplesPerPixel == 3 else ())
    if values.shape != shape or not values.size:
        raise Refused("its pixels do not fill its rows and columns")
    return values
