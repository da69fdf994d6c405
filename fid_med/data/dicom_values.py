"""Conversion of stored DICOM values to 8 bits: the greyscale pipeline of PS3.3 C.11, and colour.

A header is a `pydicom.Dataset`, which is only read, so this module needs no pydicom (except for
segmented palettes). pydicom's own functions are not used, because they take the range from the
image's minimum and maximum, invert the window if the rescale slope is negative, fail for tables of
12 bits, and wrap around in tables of 8-bit values with more than 256 entries.
"""

import numpy as np

GREY = ("MONOCHROME1", "MONOCHROME2")
PALETTE = "PALETTE COLOR"
_COLOURS = ("Red", "Green", "Blue")
_BLOCK = 1 << 20
# Depths of detectors and displays. A table that says 16, the size of an entry, has one of these.
_DEPTHS = (8, 10, 12, 14, 16)
_FRAME_GROUPS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")

# Elements that are read in addition to those needed for decoding.
KEYWORDS = (
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "ModalityLUTSequence",
    "RescaleSlope",
    "RescaleIntercept",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "PresentationLUTShape",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "PixelPresentation",
    *(f"{colour}PaletteColorLookupTableDescriptor" for colour in _COLOURS),
    *(f"{colour}PaletteColorLookupTableData" for colour in _COLOURS),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in _COLOURS),
)


class Refused(Exception):
    """The reason why a file cannot be read, without any value from its header."""


def to_eight_bits(values: np.ndarray, header, frame: int = 0) -> np.ndarray:
    """Converts the stored values of one frame as described at `dicom.read_dicom`.

    Args:
      values: integers [H, W], or [H, W, 3] in RGB.
      header: header of the file.
      frame: number of the frame, from 0.

    Returns:
      uint8 [H, W] for grey, [H, W, 3] (RGB) for colour.

    Raises:
      Refused: a header that these rules do not cover.
    """
    bits, signed = header.BitsStored, header.PixelRepresentation == 1
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    # The result depends on the stored value only: compute it once per value, then look it up.
    stored = np.arange(low, high + 1)
    if header.PhotometricInterpretation == PALETTE:
        table = _palette(stored, header)
    elif header.PhotometricInterpretation in GREY:
        table = _grey(stored, _Places(header, frame))
    else:
        table = _scaled(stored, low, high)
    pixels = np.empty(values.shape + table.shape[1:], np.uint8)
    step = max(1, _BLOCK // values[0].size)
    for top in range(0, len(values), step):  # in blocks: int32 takes four times the memory
        rows = slice(top, top + step)
        block = values[rows].astype(np.int32)
        if signed:  # JPEG-LS keeps the stored bits only, without extending the sign
            block[block > high] -= 2**bits
        pixels[rows] = table[np.clip(block, low, high) - low]
    return pixels


class _Places:
    """Places in the header where a frame's element may be stored, in order of precedence."""

    def __init__(self, header, frame):
        groups = [
            *list(header.get("PerFrameFunctionalGroupsSequence") or ())[frame : frame + 1],
            *list(header.get("SharedFunctionalGroupsSequence") or ())[:1],
        ]
        sequences = [group.get(name) for group in groups for name in _FRAME_GROUPS]
        self._places = [sequence[0] for sequence in sequences if sequence]
        self._places.append(header)
        self.header = header

    def get(self, keyword):
        """The element's value (the first of several), or None."""
        for place in self._places:
            value = place.get(keyword)
            if not isinstance(value, (str, bytes)) and hasattr(value, "__len__"):
                value = value[0] if len(value) else None
            if value is not None and value != "":
                return value
        return None

    def number(self, keyword):
        value = self.get(keyword)
        if value is not None and not np.isfinite(float(value)):
            raise Refused(f"its {keyword} is not a finite number")
        return None if value is None else float(value)

    def word(self, keyword):
        return str(self.get(keyword) or "").strip().upper()


def _grey(stored, places):
    grey = _values_of_interest(*_modality(stored, places), places)
    inverse = places.word("PresentationLUTShape") == "INVERSE"
    if places.header.PhotometricInterpretation == "MONOCHROME1" or inverse:
        grey = 255 - grey
    grey[_is_padding(stored, places)] = 0
    return grey


def _modality(stored, places):
    """Values after the Modality LUT or rescale, and their range (PS3.3 C.11.1)."""
    low, high = int(stored[0]), int(stored[-1])
    item = places.get("ModalityLUTSequence")
    if item is not None:
        table = _LookUpTable(item.LUTDescriptor, item.LUTData, places.header, low < 0)
        return table(stored), 0, table.highest
    slope, intercept = places.number("RescaleSlope"), places.number("RescaleIntercept")
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    ends = sorted((low * slope + intercept, high * slope + intercept))
    if slope == 0 or not np.isfinite(255 * (ends[1] - ends[0])):
        raise Refused("its RescaleSlope leaves no range")
    return stored * slope + intercept, *ends


def _values_of_interest(values, low, high, places):
    """8-bit values after the VOI LUT, the window, or the full range (PS3.3 C.11.2)."""
    item = places.get("VOILUTSequence")
    if item is not None:
        table = _LookUpTable(item.LUTDescriptor, item.LUTData, places.header, low < 0)
        return _scaled(table(np.floor(values + 0.5).astype(np.int64)), 0, table.highest)
    center, width = places.number("WindowCenter"), places.number("WindowWidth")
    function = places.word("VOILUTFunction") or "LINEAR"
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise Refused("its VOILUTFunction is not LINEAR, LINEAR_EXACT or SIGMOID")
    least = 1 if function == "LINEAR" else np.finfo(float).tiny
    if center is None or width is None or width < least:
        return _scaled(values, low, high)
    if function == "SIGMOID":
        # Beyond 500 the curve is exactly 0 or 1.
        exponent = np.clip(-4 * (values - center) / width, -500, 500)
        return _scaled(1 / (1 + np.exp(exponent)), 0, 1)
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    if width == 0:
        return np.where(values <= center, 0, 255).astype(np.uint8)
    return _scaled(values, center - width / 2, center + width / 2)


def _scaled(values, low, high):
    """Scales `low`..`high` to 0..255, clipped and rounded half up, as uint8."""
    fractions = (np.clip(values, low, high) - low) * 255 / (high - low)
    return np.floor(fractions + 0.5).astype(np.uint8)


def _is_padding(stored, places):
    ends = [places.get(name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None:
        return np.zeros(stored.shape, bool)
    low, high = int(stored[0]), int(stored[-1])
    ends = [int(end) for end in ends if end is not None]
    # Many files write it as unsigned although the pixels are signed, or the reverse.
    ends = [end - 65536 if end > high else end + 65536 if end < low else end for end in ends]
    return (stored >= min(ends)) & (stored <= max(ends))


class _LookUpTable:
    """A table of PS3.3 C.11.1.1 (modality), C.11.2.1.1 (VOI) or C.7.6.3.1.5 (palette).

    Some devices declare the size of an entry, 16 bits, where the entries use 12 or 14 of them, and
    a few declare fewer bits than the entries have. The entries decide where they contradict the
    declaration.

    Attributes:
      highest: largest value that the table's bits allow.
      corrected: whether these are other bits than the declared ones.
    """

    def __init__(self, descriptor, data, header, signed):
        entries, first, bits = (int(x) for x in descriptor)
        if not 1 <= bits <= 16:
            raise Refused("a look-up table that has not 1 to 16 bits")
        entries = entries or 65536
        little = header.original_encoding[1]
        if not isinstance(data, bytes):
            words = np.atleast_1d(np.asarray(data, np.int64))
            data, little = (words & 0xFFFF).astype("<u2").tobytes(), True
        # 8-bit values are stored one or two per word.
        dtype = np.uint8 if len(data) < 2 * entries else "<u2" if little else ">u2"
        self._values = np.frombuffer(data, dtype, entries)
        self._first = first - 65536 if signed and first > 32767 else first
        used = int(self._values.max()).bit_length()
        self.corrected = used > bits or (bits == 16 and used <= _DEPTHS[-2])
        if self.corrected:
            bits = next(depth for depth in _DEPTHS if depth >= used)
        self.highest = 2**bits - 1

    def __call__(self, values):
        found = self._values[np.clip(values - self._first, 0, len(self._values) - 1)]
        return found.astype(np.int64)


def corrects_depth(header) -> bool:
    """Whether a header's first Modality or VOI LUT has other bits than it declares."""
    places = _Places(header, 0)
    items = [places.get(f"{name}LUTSequence") for name in ("Modality", "VOI")]
    tables = [_LookUpTable(x.LUTDescriptor, x.LUTData, header, False) for x in items if x]
    return any(table.corrected for table in tables)


def _palette(stored, header):
    if "SegmentedRedPaletteColorLookupTableData" in header:
        from pydicom.pixels import apply_color_lut

        if len(stored) > 256 and header.RedPaletteColorLookupTableDescriptor[2] == 8:
            raise Refused("a segmented palette of 8 bits for more than 8 bits stored")
        colours = apply_color_lut(stored, header)
        return _scaled(colours.astype(np.int64), 0, np.iinfo(colours.dtype).max)
    tables = []
    for colour in _COLOURS:
        name = f"{colour}PaletteColorLookupTable"
        descriptor, data = getattr(header, f"{name}Descriptor"), getattr(header, f"{name}Data")
        tables.append(_LookUpTable(descriptor, data, header, stored[0] < 0))
    # A channel may be dark: the brightest shows the bits of all.
    highest = max(table.highest for table in tables)
    return np.stack([_scaled(table(stored), 0, highest) for table in tables], axis=-1)
