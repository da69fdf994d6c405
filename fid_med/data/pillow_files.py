"""Reading PNG, JPEG, TIFF, BMP and WebP files with Pillow, and what Pillow gets wrong in them."""

import io
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from fid_med.data.budget import describe_excess, reserved
from fid_med.errors import SettingError, UnreadableImageError, is_wrong_path
from fid_med.utils.files import open_regular

_STRIP = 1 << 20  # pixels that are converted at a time
_BLOCK = 1 << 20  # bytes that are hashed at a time
_ONE_FRAME_FORMATS = ("TIFF", "WEBP", "PNG")
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
_PLANAR, _SAMPLE_FORMAT = 284, 339  # TIFF tags that Pillow has no name for
_PNG_START = b"\x89PNG\r\n\x1a\n"
# Chunks that hold no pixels. Pillow refuses a file in which one of them unpacks to over a megabyte.
_PNG_NO_PIXELS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_PNG_CHANNELS = {2: 3, 4: 2, 6: 4}
_DEFLATE = 1032  # no byte of a PNG's pixels unpacks to more
_MISSING_ROWS = "damaged: fewer pixels than its header declares"
# Text in which some programs store the orientation.
_PNG_ORIENTATION = (b"Raw profile type ", b"XML:com.adobe.xmp\0")

# What Pillow multiplies grey values of fewer than 8 bits by.
_PNG_STEPS = {"L;2": 85, "L;4": 17}


class _Refused(Exception):
    """The reason why a file cannot be read, in part of a line."""


def read_pixels(path) -> np.ndarray:
    """Reads one file as uint8 [H, W] or [H, W, 3]; conversion and errors as for `read_image`."""
    return _decoded(path, _to_pixels)


def is_dark(path) -> bool:
    """Whether a file is of 16-bit grey, and uses at most a sixteenth of the range."""
    return _decoded(path, _is_dark)


def _is_dark(image):
    if not image.mode.startswith("I") or _largest_value(image) < 65535:
        return False
    return all(int(np.asarray(strip).max()) < 4096 for _, strip in _strips(image))


def _decoded(path, function):
    """Returns `function` of the decoded Pillow image in a file."""
    try:
        with open_regular(path) as file:
            try:
                return _decode(file, function)
            except ValueError:
                plain = _without_text(file)
                if plain is None:
                    raise
            return _decode(plain, function)
    except _Refused as error:
        raise UnreadableImageError(f"{path}: {error}") from None
    except UnidentifiedImageError:
        raise UnreadableImageError(
            f"{path}: not a readable image; supported formats are PNG, JPEG, TIFF, BMP, WebP and "
            "DICOM"
        ) from None
    except SettingError:
        raise
    # Pillow's decoders raise many kinds of error for a damaged file.
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableImageError(
            f"{path}: cannot be read ({reason})", is_wrong_path(error)
        ) from None


def _decode(file, function):
    # Given a path, Pillow 13.0 maps an uncompressed TIFF into memory with the wrong number of
    # columns if its orientation swaps height and width. Given an open file, it reads it.
    with own_limit, Image.open(file, formats=_FORMATS) as image:
        width, height = image.size
        if excess := describe_excess(height, width):
            raise _Refused(excess)
        if image.format in _ONE_FRAME_FORMATS and getattr(image, "n_frames", 1) > 1:
            raise _Refused(f"contains {image.n_frames} frames; save each as a separate image")
        if image.format == "TIFF":
            _check_tiff(image)
        elif image.format == "PNG":
            _check_png(file)
            _correct_transparency(image)
        # Pillow's image, a copy where it is turned, and the result; Pillow stores RGB in 4 bytes.
        per_pixel = {"1": 1, "L": 1, "P": 1}.get(image.mode, 2 if ";" in image.mode else 4)
        with reserved(width * height * (2 * per_pixel + 3)):
            image.load()
            if image.format == "PNG":
                _check_last_row(image, file)
            return function(image)


def _to_pixels(image):
    table = _sixteen_bit_table(image) if image.mode.startswith("I") else None
    ImageOps.exif_transpose(image, in_place=True)
    see_through = table is None and (
        image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    )
    grey = image.mode in ("1", "L", "LA", "La") or table is not None
    width, height = image.size
    pixels = np.empty((height, width) if grey else (height, width, 3), np.uint8)
    for rows, strip in _strips(image):
        if table is not None:
            pixels[rows] = table[np.asarray(strip)]
        elif see_through:
            on_black = _on_black(np.asarray(strip.convert("RGBA")))
            pixels[rows] = on_black[..., 0] if grey else on_black
        else:
            pixels[rows] = np.asarray(strip.convert("L" if grey else "RGB"))
    return pixels


def _strips(image):
    """Yields (slice of rows, image of these rows), so that copies of a large image stay small."""
    width, height = image.size
    step = max(1, _STRIP // width)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        yield slice(top, bottom), image.crop((0, top, width, bottom))


def _sixteen_bit_table(image):
    """The 8-bit pixel of each 16-bit value, uint8 [65536]."""
    highest = _largest_value(image)
    table = _rescale(np.minimum(np.arange(65536), highest), highest)
    if _zero_is_white(image):
        table = 255 - table
    if "transparency" in image.info:  # the value that means transparent
        table[image.info["transparency"]] = 0
    return table


def _on_black(rgba):
    return _rescale(rgba[..., :3].astype(np.uint32) * rgba[..., 3:], 255 * 255)


def _rescale(values, maximum):
    return ((values * 255 + maximum // 2) // maximum).astype(np.uint8)


class _OwnLimit:
    """Lifts Pillow's limit on pixels for a block; readers check `budget` instead.

    Pillow's limit is one number for the whole process, and prints a warning from half of it on. It
    returns when the last of the threads has left the block.
    """

    def __init__(self):
        self._lock, self._users, self._saved = threading.Lock(), 0, None

    def __enter__(self):
        with self._lock:
            if not self._users:
                self._saved, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._users += 1

    def __exit__(self, *_):
        with self._lock:
            self._users -= 1
            if not self._users:
                Image.MAX_IMAGE_PIXELS = self._saved


own_limit = _OwnLimit()


def _without_text(file: BinaryIO) -> BinaryIO | None:
    """A copy of a PNG without text and colour profile; None where it is no PNG or has neither."""
    file.seek(0)
    if file.read(8) != _PNG_START:
        return None
    kept, left_out = [_PNG_START], 0
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        rest = file.read(length + 4)
        if kind in _PNG_NO_PIXELS and not rest.startswith(_PNG_ORIENTATION):
            left_out += 1
        else:
            kept += [head, rest]
    return io.BytesIO(b"".join(kept)) if left_out else None


def _correct_transparency(png: Image.Image) -> None:
    """Brings the one transparent value of a PNG to the scale of Pillow's pixels, before loading.

    Raises:
      _Refused: a transparent colour of 16 bits, of which Pillow compares 8.
    """
    value, raw_mode = png.info.get("transparency"), png.tile and png.tile[0][3]
    if value is None:
        return
    if raw_mode == "RGB;16B":
        raise _Refused("16-bit colour with one transparent colour; save it with an alpha channel")
    if png.mode == "1":  # older versions of Pillow give 0 or 1
        png.info["transparency"] = 255 if value else 0
    elif raw_mode in _PNG_STEPS:
        png.info["transparency"] = value * _PNG_STEPS[raw_mode]


def _check_png(file: BinaryIO) -> None:
    """Refuses, before it is unpacked, a PNG with wrong or far too few bytes of pixels.

    Raises:
      _Refused: Pillow would make other pixels from it, as it does not check their checksum.
    """
    position, declared, packed = file.tell(), 0, 0
    for kind, content in _png_parts(file):
        if kind == b"IHDR":
            declared = _png_bytes(content)
        else:
            packed += len(content)
    if declared > _DEFLATE * packed:
        raise _Refused(_MISSING_ROWS)
    file.seek(position)


def _check_last_row(png: Image.Image, file: BinaryIO) -> None:
    """Refuses a PNG without all its rows, which Pillow leaves black; only a black row is checked.

    The last row of an interlaced file may be there while others are missing.
    """
    width, height = png.size
    last = png.crop((0, height - 1, width, height))
    if np.asarray(last).any() and not png.info.get("interlace"):
        return
    inflater, missing = zlib.decompressobj(), 0
    for kind, content in _png_parts(file):
        if kind == b"IHDR":
            missing = _png_bytes(content)
        while kind == b"IDAT" and content and missing > 0:
            missing -= len(inflater.decompress(content, _BLOCK))
            content = inflater.unconsumed_tail
    if missing > 0:
        raise _Refused(_MISSING_ROWS)


def _png_parts(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Yields IHDR, and the pixels of a PNG in blocks under the name IDAT.

    Raises:
      _Refused: a wrong checksum of pixels. Pillow checks all other checksums.
    """
    file.seek(len(_PNG_START))
    while len(head := file.read(8)) == 8:
        left, kind = struct.unpack(">I4s", head)
        if kind == b"IHDR":
            yield kind, file.read(left)
            file.seek(4, os.SEEK_CUR)
        elif kind != b"IDAT":
            file.seek(left + 4, os.SEEK_CUR)
        else:
            checksum = zlib.crc32(kind)
            while left and (block := file.read(min(left, _BLOCK))):
                checksum, left = zlib.crc32(block, checksum), left - len(block)
                yield kind, block
            if file.read(4) != checksum.to_bytes(4, "big"):
                raise _Refused("damaged: wrong checksum of its pixels")


def _png_bytes(header):
    """Bytes of the rows that IHDR declares; of an interlaced file, at least these."""
    width, height, bits, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", header)
    row = width * bits * _PNG_CHANNELS.get(colour, 1)
    return height * row // 8 if interlaced else height * (1 + -(-row // 8))


def _check_tiff(tiff: Image.Image) -> None:
    """Refuses the TIFF files whose pixels have no fixed range, or that Pillow garbles.

    Raises:
      _Refused: signed, 32-bit or floating-point pixels, or planes that Pillow reads as one.
    """
    kinds = tiff.tag_v2.get(_SAMPLE_FORMAT, (1,))
    bits = _bits(tiff)
    if bits > 16 or not {1, 4}.issuperset(kinds):
        raise _Refused(
            "signed, 32-bit or floating-point pixels have no fixed range; save as unsigned 8- or "
            "16-bit integers"
        )
    samples = tiff.tag_v2.get(ExifTags.Base.SamplesPerPixel, 1)
    if tiff.tag_v2.get(_PLANAR, 1) == 2 and samples > 1:
        uncompressed = any(tile[0] == "raw" for tile in tiff.tile)
        reversed_bits = tiff.tag_v2.get(ExifTags.Base.FillOrder, 1) == 2
        if samples == 2 or (uncompressed and (bits > 8 or reversed_bits)):
            raise _Refused(
                f"a TIFF of {samples} separate planes of {bits} bits, which Pillow garbles; save "
                "it with interleaved channels (PlanarConfiguration 1)"
            )


def _bits(tiff):
    return max(tiff.tag_v2.get(ExifTags.Base.BitsPerSample, (1,)))


def _largest_value(image: Image.Image) -> int:
    """Largest value that a 16-bit grey image (a mode `I...`) can have: 4095 in a 12-bit TIFF."""
    return 2 ** _bits(image) - 1 if image.format == "TIFF" else 65535


def _zero_is_white(image: Image.Image) -> bool:
    """Whether the image is stored inverted and Pillow leaves that to us (TIFF above 8 bits)."""
    if image.format != "TIFF" or not image.mode.startswith("I"):
        return False
    return image.tag_v2.get(ExifTags.Base.PhotometricInterpretation) == 0
