"""Reading DICOM files as 8-bit pixels with pydicom (the extra `dicom`).

Only header elements that affect the pixels are read; no element that identifies a patient is
parsed. pydicom quotes values of the header in its warnings, log messages and errors. Its warnings
and log are therefore switched off for the whole process, and the text of its errors is not shown.
"""

import os
import pathlib
import re

import numpy as np

from fid_med.data import budget
from fid_med.data.dicom_files import (
    frame_size,
    frames_of,
    import_pydicom,
    is_compressed,
    read_header,
)
from fid_med.data.dicom_values import GREY, PALETTE, Refused, corrects_depth, to_eight_bits
from fid_med.errors import DataError, SettingError, UnreadableImageError, is_wrong_path

SUFFIXES = (".dcm", ".dicom")
MULTI_FRAME = ("refuse", "unroll")
INSTALL = "pip install 'fid_med[dicom]'"

# Without any of these, pixels cannot be decoded.
_NEEDED = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
)
_NO_PIXELS = "a DICOM file without pixels (a report, a plan, or truncated)"
# More names of frames than this would fill the memory; studies have hundreds.
_MOST_FRAMES = 1 << 20
# No compression makes a byte of more than this many, and a compressed frame has at least 8 bytes.
_DEFLATE, _SMALLEST_FRAME = 1032, 8


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
        import_pydicom()
    except ImportError:
        raise DataError(
            f"{folder}: {count} DICOM file{'' if count == 1 else 's'} (such as {example}), which "
            f"need pydicom 3.0 or later: {INSTALL}"
        ) from None


def frame_names(folder: pathlib.Path, name: str) -> list[str]:
    """Names the frames of a file: `name` for a single one, else `name#0001` and so on.

    Args:
      folder: path of the folder.
      name: path of the file inside the folder.
    """
    try:
        header = read_header(folder / name, pixels=False)
        frames = frames_of(header)
        _check_frames(header, frames, os.path.getsize(folder / name))
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
        header = read_header(path, pixels=False)
        frames = frames_of(header)
        _check(header)
        _check_frames(header, frames, os.path.getsize(path))
        if frame is None and frames > 1:
            raise Refused(
                f"contains {frames} frames; --multi_frame=unroll reads each as a separate image"
            )
        # The encoded pixels, the stored values and the result.
        with budget.reserved(3 * frame_size(header)):
            return _read_pixels(path, header, frame)
    except Refused as error:
        raise UnreadableImageError(f"{path}: {error}") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UnreadableImageError(
            f"{path}: cannot be read ({reason})", is_wrong_path(error)
        ) from None
    except ImportError:
        raise UnreadableImageError(
            f"{path}: a DICOM file, which needs pydicom 3.0 or later: {INSTALL}"
        ) from None
    except SettingError:
        raise
    # A damaged header fails where its value is first used; the error's text may quote it.
    except Exception as error:
        if isinstance(error, (AttributeError, KeyError)) and (tag := _missing_tag(error)):
            raise UnreadableImageError(f"{path}: lacks {tag}") from None
        kind = type(error).__name__
        raise UnreadableImageError(f"{path}: a damaged DICOM header ({kind})") from None


def is_hardly_used(path) -> bool:
    """Whether an image of more than 8 bits uses at most a sixteenth of the 256 output values.

    This happens if the header declares 12-bit data as 16 bits and gives no window.
    """
    path, frame = split_frame(path)
    if read_header(path, pixels=False).BitsStored <= 8:
        return False
    return int(np.ptp(read_dicom(path, frame))) <= 16


def has_wrong_depth(path) -> bool:
    """Whether a look-up table declares another number of bits than its entries use."""
    return corrects_depth(read_header(split_frame(path)[0], pixels=False))


def _read_pixels(path, header, frame):
    index, source = (frame or 1) - 1, path
    # A file is inflated as a whole.
    if frame is None or header.file_meta.TransferSyntaxUID.is_deflated:
        source = header = read_header(path, pixels=True)
        if "FloatPixelData" in header or "DoubleFloatPixelData" in header:
            raise Refused("floating-point pixels have no fixed range")
        if "PixelData" not in header:
            raise Refused(_NO_PIXELS)
    return to_eight_bits(_decode(source, header, index), header, index)


def _missing_tag(error):
    """The element whose absence an error reports, or None; its text is not used."""
    from pydicom.datadict import tag_for_keyword

    name = error.name if isinstance(error, AttributeError) else error.args and error.args[0]
    return _with_tag(name) if isinstance(name, str) and tag_for_keyword(name) else None


def _with_tag(keyword):
    """A keyword with its number, for example `Rows (0028,0010)`."""
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    return f"{keyword} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _check(header):
    if "Rows" not in header and "BitsAllocated" not in header:
        raise Refused(_NO_PIXELS)
    lacking = [_with_tag(name) for name in _NEEDED if header.get(name) in (None, "")]
    if lacking:
        raise Refused(f"lacks {', '.join(lacking)}")
    if excess := budget.describe_excess(header.Rows, header.Columns):
        raise Refused(excess)
    if not 1 <= header.BitsStored <= min(16, header.BitsAllocated):
        raise Refused(f"{header.BitsStored:d} bits stored; expected 1 to 16")
    if header.get("HighBit", header.BitsStored - 1) != header.BitsStored - 1:
        raise Refused("its stored bits do not begin at bit 0")
    grey = header.PhotometricInterpretation in (*GREY, PALETTE)
    colour = re.fullmatch(r"RGB|YBR_(FULL|FULL_422|ICT|RCT)", header.PhotometricInterpretation)
    if header.SamplesPerPixel != (1 if grey else 3) or not (grey or colour):
        raise Refused("its photometric interpretation is not grey, RGB, YBR or palette")


def _check_frames(header, frames, size):
    """Refuses more frames than a file of `size` bytes can contain."""
    smallest = frame_size(header) // _DEFLATE
    if is_compressed(header):
        smallest = _SMALLEST_FRAME
    if frames > _MOST_FRAMES or frames * smallest > size:
        raise Refused(f"declares {frames} frames, more than the file can contain")


def _decode(source, header, frame):
    """Decodes one frame to its stored values: integers [H, W], or [H, W, 3] in RGB.

    Args:
      source: the header with all pixels, or the path of the file to read only this frame from.
      header: header of the file.
      frame: number of the frame, from 0.
    """
    from pydicom.pixels import pixel_array

    from fid_med.data import dicom_decoders

    syntax, plugin = header.file_meta.TransferSyntaxUID, ""
    known = syntax.name if syntax.name != str(syntax) else "an unknown transfer syntax"
    if is_compressed(header):
        if not dicom_decoders.register(syntax):
            raise Refused(f"no decoder for {known}; convert it to an uncompressed DICOM")
        if not dicom_decoders.is_installed(syntax, header.BitsStored):
            raise Refused(f"no decoder for {known}: {INSTALL}")
        plugin = dicom_decoders.NAME
    try:
        values = pixel_array(
            source, index=frame, decoding_plugin=plugin, transfer_syntax_uid=syntax
        )
    except Exception as error:
        raise Refused(f"damaged pixels ({known}, {type(error).__name__})") from None
    shape = (header.Rows, header.Columns) + ((3,) if header.SamplesPerPixel == 3 else ())
    if values.shape != shape or not values.size:
        raise Refused("its pixels do not fill its rows and columns")
    return values
