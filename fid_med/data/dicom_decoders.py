"""One decoder per DICOM compression, whatever else is installed.

pydicom takes the first of the installed decoders, and lossy JPEG comes out differently by up to
three grey levels from one to the next. So this module is registered with pydicom as a decoder of
every compression, and hands each to one package:

- lossy JPEG of 8 bits to Pillow, as a `.jpg` file;
- lossy JPEG of 12 bits, lossless JPEG and JPEG-LS to imagecodecs (libjpeg-turbo and CharLS);
- JPEG 2000 to pylibjpeg-openjpeg;
- RLE to pydicom.

python-gdcm is no choice: damaged frames, and lossless JPEG of 2 to 7 bits, end the whole process.
pylibjpeg-libjpeg is not either: its licence is GPL-3.

The module imports pydicom, so import it late.
"""

import importlib.util
import struct
import threading

import numpy as np
from pydicom import uid
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders import pillow, pylibjpeg, rle

from fid_med.data.pillow_files import own_limit

NAME = "fid_med"
_LOSSY_JPEG = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit)
_JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
_LOSSLESS_JPEG = (uid.JPEGLossless, uid.JPEGLosslessSV1)
_JPEG_2000 = (
    uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K,
)  # fmt: skip
_KNOWN = (*_LOSSY_JPEG, *_JPEG_LS, *_LOSSLESS_JPEG, *_JPEG_2000, uid.RLELossless)
DECODER_DEPENDENCIES = dict.fromkeys(_KNOWN, ())  # pydicom asks for it
# Markers of a JPEG file that begin with its height and width.
_START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_registering, _registered = threading.Lock(), set()


def is_available(syntax: str) -> bool:
    """Whether this module decodes a transfer syntax; pydicom asks for it."""
    return syntax in _KNOWN


def register(syntax: uid.UID) -> bool:
    """Makes this module a decoder of `syntax`; returns whether it decodes it."""
    if syntax not in _KNOWN:
        return False
    with _registering:
        if syntax not in _registered:
            get_decoder(syntax).add_plugin(NAME, (__name__, "decode"))
            _registered.add(syntax)
    return True


def is_installed(syntax: uid.UID, bits: int) -> bool:
    """Whether the package that decodes a compression is installed.

    Args:
      syntax: one for which `register` returned True.
      bits: Bits Stored.
    """
    module = _module(syntax, bits)
    if module is None:
        return importlib.util.find_spec("imagecodecs") is not None
    return module.is_available(syntax)


def _module(syntax, bits):
    """pydicom's module for a compression; None for imagecodecs."""
    if syntax in _JPEG_2000:
        return pylibjpeg
    if syntax == uid.RLELossless:
        return rle
    return pillow if syntax in _LOSSY_JPEG and bits == 8 else None


def decode(src: bytes, runner) -> bytes | bytearray:
    """Decodes one frame; pydicom calls it.

    Args:
      src: the encoded frame.
      runner: `pydicom.pixels.decoders.base.DecodeRunner`.

    Raises:
      ValueError: the frame is not of the declared size, which is found before it is unpacked.
      Exception: whatever a decoder raises for a damaged frame.
    """
    syntax = runner.transfer_syntax
    if syntax == uid.RLELossless:
        # One byte of each 128 says how the others are coded.
        if len(src) > 2 * runner.frame_length(unit="bytes") + 1024:
            raise ValueError("more run lengths than pixels")
    elif _declared_shape(src) != (runner.rows, runner.columns, runner.samples_per_pixel):
        raise ValueError("another size than in the header")
    module = _module(syntax, runner.bits_stored)
    if module is None:
        return _decode_with_imagecodecs(src, runner)
    with own_limit:
        return module._decode_frame(src, runner)


def _decode_with_imagecodecs(src, runner):
    import imagecodecs

    if runner.transfer_syntax in _JPEG_LS:
        values = imagecodecs.jpegls_decode(src)
    else:
        # The same colour space in and out: the header says what the samples mean.
        space = "RGB" if runner.samples_per_pixel > 1 else None
        values = imagecodecs.jpeg8_decode(src, colorspace=space, outcolorspace=space)
    runner.set_option("planar_configuration", 0)
    runner.set_option("bits_allocated", 8 * values.itemsize)
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()


def _declared_shape(src):
    """Height, width and number of samples in the header of a JPEG, JPEG-LS or JPEG 2000 frame."""
    if src[:2] == b"\xff\xd8":
        position = 2
        while position + 10 <= len(src):
            marker = src[position + 1]
            if marker == 0xFF:  # a byte of padding
                position += 1
            elif marker in _START_OF_FRAME:
                return struct.unpack_from(">HHB", src, position + 5)
            else:
                position += 2 + struct.unpack_from(">H", src, position + 2)[0]
        return None
    start = src.find(b"\xff\x4f\xff\x51", 0, 4096)  # inside a JP2 file it comes later
    if start < 0 or len(src) < start + 42:
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", src, start + 8)
    return bottom - top, right - left, struct.unpack_from(">H", src, start + 40)[0]
