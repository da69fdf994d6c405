"""Recognising DICOM files, and reading their headers with pydicom.

pydicom quotes values of the header in its warnings and log messages; both are switched off for the
whole process.
"""

import io
import logging
import os
import struct
import threading
import warnings
import zlib

from fid_med.data import budget
from fid_med.data.dicom_values import KEYWORDS, Refused
from fid_med.utils.files import open_regular

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
# Types of the elements that a data set without preamble may begin with.
_FIRST_TYPES = (b"AE", b"CS", b"DA", b"DT", b"LO", b"OB", b"SH", b"TM", b"UI", b"UL", b"UN")
_DEFLATED = "1.2.840.10008.1.2.1.99"
_UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", _DEFLATED)
_LARGEST_HEADER = 64 << 20
_loading = threading.Lock()


def import_pydicom():
    """Imports pydicom 3.0 or later and silences it.

    Raises:
      ImportError: pydicom is missing or older.
    """
    import pydicom.pixels  # of 3.0

    for name in _TALKERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    # `warnings.catch_warnings` removes the filter, so each call checks for it.
    with _loading:
        patterns = (getattr(entry[3], "pattern", None) for entry in warnings.filters)
        if _TALKING_MODULES not in patterns:
            warnings.filterwarnings("ignore", module=_TALKING_MODULES)
    return pydicom


def begins_like_dicom(path) -> bool:
    """Whether a file begins like DICOM: 128 bytes and `DICM`, or an element of group 2 or 8."""
    if not os.path.isfile(path):  # opening a pipe would wait for its writer
        return False
    with open(path, "rb") as file:
        start = file.read(132)
    return start[128:] == b"DICM" or _begins_with_element(start)


def _begins_with_element(start):
    """Whether bytes begin with a DICOM element, as in a file without its preamble."""
    if len(start) < 8:
        return False
    for order in "<>":
        group, element = struct.unpack_from(f"{order}HH", start)
        if group not in (2, 8) or element > 0x18:
            continue
        if start[4:6] in _FIRST_TYPES:
            return True
        length = struct.unpack_from("<I", start, 4)[0]  # without types it is little-endian
        if order == "<" and length % 2 == 0 and length <= 64 and len(start) >= 12 + length:
            following = struct.unpack_from("<HH", start, 8 + length)
            return following[0] in (2, 8) and following > (group, element)
    return False


def read_header(path, pixels: bool):
    """Reads the elements of a DICOM file that affect its pixels; none identifies a patient.

    A file without its preamble, or that names no transfer syntax, is read as far as its encoding
    shows: uncompressed.

    Args:
      path: path of the file.
      pixels: whether to read the pixels too.

    Returns:
      `pydicom.Dataset` with `file_meta.TransferSyntaxUID`.

    Raises:
      Refused: not a DICOM file, or one whose compression is unknown.
      OSError: the file cannot be opened.
      Exception: whatever pydicom raises for a damaged file.
    """
    pydicom = import_pydicom()
    with open_regular(path) as file:
        start = file.read(4096)
        if start[128:132] == b"DICM":
            meta = pydicom.filereader.read_file_meta_info(path)
            if meta.get("TransferSyntaxUID") == _DEFLATED:
                return _read_deflated(file, meta, pixels)
        elif not _begins_with_element(start):
            raise Refused("not a DICOM file")
        elif _DEFLATED.encode() in start:
            raise Refused("deflated, but without the preamble of a DICOM file")
        file.seek(0)
        header = _read(file, pixels)
    if "TransferSyntaxUID" not in header.file_meta:
        header.file_meta.TransferSyntaxUID = _guessed_syntax(header)
    return header


def _read(file, pixels):
    return import_pydicom().dcmread(
        file, force=True, specific_tags=[*_IMAGE, *KEYWORDS], stop_before_pixels=not pixels
    )


def _guessed_syntax(header):
    from pydicom import uid

    if "PixelData" in header and header["PixelData"].is_undefined_length:
        raise Refused("compressed, but it lacks TransferSyntaxUID (0002,0010)")
    implicit, little = header.original_encoding
    if implicit:
        return uid.ImplicitVRLittleEndian
    return uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian


def _read_deflated(file, meta, pixels):
    """Inflates the header first, and then no more than the pixels that it declares."""
    # The length is that of the rest of the group, after preamble and this element.
    file.seek(132 + 12 + meta.FileMetaInformationGroupLength)
    packed = file.read()

    def read(limit, pixels):
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, limit)
        return _read(io.BytesIO(inflated), pixels)

    header = read(_LARGEST_HEADER, False)
    if pixels:
        if excess := budget.describe_excess(header.Rows, header.Columns):
            raise Refused(excess)
        size, limit = frames_of(header) * frame_size(header), 4 * budget.max_pixels()
        if size > limit:
            raise Refused(f"{size} bytes of deflated pixels, more than the limit of {limit}")
        header = read(_LARGEST_HEADER + size, True)
    header.file_meta = meta
    return header


def frames_of(header) -> int:
    """Number of frames that a header declares."""
    return int(header.get("NumberOfFrames") or 1)


def is_compressed(header) -> bool:
    """Whether a header names a compression of pixels, or an unknown transfer syntax."""
    return header.file_meta.TransferSyntaxUID not in _UNCOMPRESSED


def frame_size(header) -> int:
    """Bytes of one frame without compression, rounded down."""
    bits = header.Rows * header.Columns * header.SamplesPerPixel * header.BitsAllocated
    return bits // 8
