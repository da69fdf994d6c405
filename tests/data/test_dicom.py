"""DICOM files to 8 bits: against PS3.3's formulas worked out by hand, and pydicom's own files."""

import concurrent.futures
import importlib.util
import io
import logging
import math
import pathlib
import struct
import sys
import warnings
import zlib
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from fid_med.data import dicom_files
from fid_med.data.dicom import read_dicom
from fid_med.data.images import list_images, read_image
from fid_med.data.sources import open_source, prepared_images
from fid_med.errors import DataError, UnreadableImageError
from fid_med.utils.hashing import ImageHasher

pydicom = pytest.importorskip("pydicom", "3.0", reason="needs the extra dicom")
from helpers.dicom_files import SECRETS, dataset, write  # noqa: E402
from pydicom import uid  # noqa: E402
from pydicom.data import get_testdata_file  # noqa: E402

RNG = np.random.default_rng(3)
GREY = RNG.integers(0, 256, (24, 18), dtype=np.uint8)
RGB = RNG.integers(0, 256, (24, 18, 3), dtype=np.uint8)


def bundled(name):
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"pydicom {pydicom.__version__} does not bring {name}")
    return pathlib.Path(path)


def look_up_table(values, bits, first=0, as_bytes=False):
    item = pydicom.Dataset()
    item.LUTDescriptor = [len(values) % 65536, first, bits]
    item["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    item.LUTData = np.asarray(values, "<u2").tobytes() if as_bytes else list(map(int, values))
    item["LUTData"].VR = "OW" if as_bytes else "US"
    return [item]


def ramp(bits, signed=False):
    """Every value that the bits allow, once."""
    low = -(2 ** (bits - 1)) if signed else 0
    values = np.arange(low, low + 2**bits)
    dtype = np.dtype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")
    return values.reshape(2 ** (bits // 2), -1).astype(dtype)


def rounded(y):
    return math.floor(y + Fraction(1, 2)) if isinstance(y, Fraction) else math.floor(y + 0.5)


def expected_range(x, low, high):
    return rounded(Fraction(255) * (Fraction(x) - low) / (Fraction(high) - low))


def expected_window(x, function, center, width):
    """PS3.3 C.11.2.1.2.1, C.11.2.1.3.1 and C.11.2.1.3.2 with y from 0 to 255, read off the page."""
    x, c, w = Fraction(x), Fraction(center), Fraction(width)
    half = Fraction(1, 2)
    if function == "SIGMOID":
        # 1 / (1 + exp(-4z)) = (1 + tanh(2z)) / 2, which does not overflow.
        return rounded(255 * (1 + math.tanh(2 * float((x - c) / w))) / 2)
    if function == "LINEAR_EXACT":
        if x <= c - w / 2:
            return 0
        if x > c + w / 2:
            return 255
        return rounded(((x - c) / w + half) * 255)
    if x <= c - half - (w - 1) / 2:
        return 0
    if x > c - half + (w - 1) / 2:
        return 255
    return rounded(((x - (c - half)) / (w - 1) + half) * 255)


def assert_pixels(path, expected):
    obtained = read_image(path)
    assert obtained.dtype == np.uint8
    np.testing.assert_array_equal(obtained, expected)


def mapped(function, values):
    each, where = np.unique(values, return_inverse=True)
    return np.array([function(x) for x in each.tolist()])[where].reshape(values.shape)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_without_window_the_range_of_the_bits_stored_decides(bits, signed, tmp_path):
    values = ramp(bits, signed)
    low, high = int(values.min()), int(values.max())
    path = write(tmp_path / "x.dcm", values, bits)
    assert_pixels(path, mapped(lambda x: expected_range(x, low, high), values))
    # A part of the range comes out as it does in the whole: not stretched to its own ends.
    write(path, values[3:4, 5:9], bits)
    part = mapped(lambda x: expected_range(x, low, high), values[3:4, 5:9])
    assert_pixels(path, part)
    assert (part.min(), part.max()) != (0, 255)


def test_eight_bits_come_out_as_they_are(tmp_path):
    assert_pixels(write(tmp_path / "x.dcm", GREY), GREY)
    assert_pixels(write(tmp_path / "x.dcm", GREY, WindowCenter=128, WindowWidth=256), GREY)


@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (0.25, 3), (-2, 100), (None, 5)])
def test_rescale_without_window(slope, intercept, tmp_path):
    values, elements = ramp(12), {"RescaleIntercept": intercept}
    if slope is not None:
        elements["RescaleSlope"] = slope
    ends = sorted(Fraction(slope or 1) * x + intercept for x in (0, 4095))
    path = write(tmp_path / "x.dcm", values, 12, **elements)
    expected = mapped(lambda x: expected_range(Fraction(slope or 1) * x + intercept, *ends), values)
    assert_pixels(path, expected)


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(
    ("center", "width", "bits", "signed", "slope", "intercept"),
    [
        # The four examples of C.11.2.1.2.1.
        (2048, 4096, 12, False, 1, 0),
        (2048, 1, 12, False, 1, 0),
        (0, 100, 12, True, 1, 0),
        (0, 1, 12, True, 1, 0),
        (40, 400, 12, False, 1, -1024),
        (600.5, 1600.25, 10, False, 2.5, 7),
        (-300, 777, 12, False, -1, 0),
        (9000, 18000, 12, False, 1, 0),
    ],
)
def test_windows(function, center, width, bits, signed, slope, intercept, tmp_path):
    values = ramp(bits, signed)
    elements = {"VOILUTFunction": function} if function else {}
    path = write(
        tmp_path / "x.dcm", values, bits, WindowCenter=center, WindowWidth=width,
        RescaleSlope=slope, RescaleIntercept=intercept, **elements,
    )  # fmt: skip
    expected = mapped(
        lambda x: expected_window(
            Fraction(slope) * x + intercept, function or "LINEAR", center, width
        ),
        values,
    )
    assert len(np.unique(expected)) > 1
    assert_pixels(path, expected)


def test_the_first_of_several_windows(tmp_path):
    elements = {"WindowCenter": [2000, 100], "WindowWidth": [1000, 50]}
    expected = mapped(lambda x: expected_window(x, "LINEAR", 2000, 1000), ramp(12))
    assert_pixels(write(tmp_path / "x.dcm", ramp(12), 12, **elements), expected)


@pytest.mark.parametrize(
    "elements",
    [
        {"WindowCenter": 0, "WindowWidth": 0},
        {"WindowCenter": 7},
        {"WindowCenter": None, "WindowWidth": None},
        {"WindowCenter": 7, "WindowWidth": 0.5},
        {"WindowCenter": 7, "WindowWidth": -3, "VOILUTFunction": "SIGMOID"},
    ],
)
def test_a_window_without_width_is_none(elements, tmp_path):
    expected = mapped(lambda x: expected_range(x, 0, 4095), ramp(12))
    assert_pixels(write(tmp_path / "x.dcm", ramp(12), 12, **elements), expected)


@pytest.mark.parametrize("as_bytes", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_the_first_voi_lut_comes_before_the_window(bits, as_bytes, tmp_path):
    table = (np.arange(3000) * 7919) % 2**bits
    path = write(
        tmp_path / "x.dcm", ramp(12), 12, WindowCenter=5, WindowWidth=9,
        VOILUTSequence=look_up_table(table, bits, 500, as_bytes) + look_up_table([0, 1], 8),
    )  # fmt: skip
    # Below the first mapped value the first entry, beyond the last the last (C.11.2.1.1).
    expected = table[np.clip(ramp(12).astype(int) - 500, 0, 2999)]
    assert_pixels(path, mapped(lambda y: expected_range(y, 0, 2**bits - 1), expected))


def test_a_voi_lut_that_begins_below_zero(tmp_path):
    table = np.arange(4096) * 16
    for syntax in (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian):
        path = write(
            tmp_path / "x.dcm", ramp(12), 12, syntax, RescaleSlope=1, RescaleIntercept=-2048,
            VOILUTSequence=look_up_table(table, 16, -2048),
        )  # fmt: skip
        assert_pixels(path, mapped(lambda x: expected_range(x * 16, 0, 65535), ramp(12)))


def test_modality_lut_and_then_the_window(tmp_path):
    table = np.arange(4096)[::-1]  # 12 bits
    path = write(
        tmp_path / "x.dcm", ramp(12), 12, WindowCenter=1000, WindowWidth=501,
        ModalityLUTSequence=look_up_table(table, 12),
    )  # fmt: skip
    expected = mapped(lambda x: expected_window(4095 - x, "LINEAR", 1000, 501), ramp(12))
    assert_pixels(path, expected)
    write(path, ramp(12), 12, ModalityLUTSequence=look_up_table(table, 12))
    assert_pixels(path, mapped(lambda x: expected_range(4095 - x, 0, 4095), ramp(12)))


@pytest.mark.parametrize(
    ("elements", "inverted"),
    [
        ({"PhotometricInterpretation": "MONOCHROME2", "PresentationLUTShape": "IDENTITY"}, False),
        ({"PhotometricInterpretation": "MONOCHROME2", "PresentationLUTShape": "INVERSE"}, True),
        ({"PhotometricInterpretation": "MONOCHROME1"}, True),
        ({"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}, True),
    ],
)
def test_inverted_once_after_the_window(elements, inverted, tmp_path):
    path = write(tmp_path / "x.dcm", ramp(12), 12, WindowCenter=1000, WindowWidth=900, **elements)
    shown = mapped(lambda x: expected_window(x, "LINEAR", 1000, 900), ramp(12))
    assert_pixels(path, 255 - shown if inverted else shown)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_padding_is_black(syntax, tmp_path):
    def as_inverted(x, low, high):
        return 255 - expected_range(x, low, high)

    path = tmp_path / "x.dcm"
    write(path, ramp(12), 12, syntax, PhotometricInterpretation="MONOCHROME1",
          PixelPaddingValue=0)  # fmt: skip
    expected = mapped(lambda x: as_inverted(x, 0, 4095) if x else 0, ramp(12))
    assert_pixels(path, expected)
    write(path, ramp(12, True), 12, syntax, PhotometricInterpretation="MONOCHROME1",
          PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1990)  # fmt: skip
    expected = mapped(
        lambda x: 0 if -2000 <= x <= -1990 else as_inverted(x, -2048, 2047), ramp(12, True)
    )
    assert_pixels(path, expected)


def test_padding_written_without_its_sign(tmp_path):
    header = dataset(ramp(12, True), 12)
    header.PixelPaddingValue = 2000
    header.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    content = (tmp_path / "x.dcm").read_bytes()
    as_signed = b"\x28\x00\x20\x01SS\x02\x00" + (2000).to_bytes(2, "little")
    as_unsigned = b"\x28\x00\x20\x01US\x02\x00" + (65536 - 2000).to_bytes(2, "little")
    assert content.count(as_signed) == 1
    (tmp_path / "x.dcm").write_bytes(content.replace(as_signed, as_unsigned))
    expected = mapped(lambda x: 0 if x == -2000 else expected_range(x, -2048, 2047), ramp(12, True))
    assert_pixels(tmp_path / "x.dcm", expected)


def test_unused_high_bits_are_ignored(tmp_path):
    # Old scanners keep overlays there.
    values = ramp(12) | np.uint16(0xA000)
    assert_pixels(
        write(tmp_path / "x.dcm", values, 12),
        mapped(lambda x: expected_range(x, 0, 4095), ramp(12)),
    )
    assert read_image(bundled("examples_overlay.dcm")).shape == (300, 484)


def test_colour(tmp_path):
    path = tmp_path / "x.dcm"
    assert_pixels(write(path, RGB), RGB)
    header = dataset(RGB, PlanarConfiguration=1)
    header.PixelData = np.ascontiguousarray(np.moveaxis(RGB, -1, 0)).tobytes()
    header.save_as(path, enforce_file_format=True)
    assert_pixels(path, RGB)
    assert_pixels(write(path, RGB.astype(np.uint16) * 257), RGB)
    assert_pixels(write(path, RGB.astype(np.uint16) * 16 + 8, 12), RGB)
    # ITU T.871: red is Y = 76, Cb = 85, Cr = 255 and comes back within rounding.
    red = np.tile(np.uint8([76, 85, 255]), (4, 4, 1))
    obtained = read_image(write(path, red, PhotometricInterpretation="YBR_FULL"))
    assert np.abs(obtained.astype(int) - [254, 0, 0]).max() <= 1


def test_the_same_colours_in_every_coding():
    expected = read_image(bundled("SC_rgb_rle.dcm"))
    for name in ("SC_rgb_rle_16bit", "SC_rgb_jpeg_gdcm", "SC_rgb_gdcm_KY"):
        assert_pixels(bundled(f"{name}.dcm"), expected)
    for name in ("SC_ybr_full_422_uncompressed", "SC_rgb_jpeg_dcmtk", "SC_rgb_jpeg_lossy_gdcm"):
        obtained = read_image(bundled(f"{name}.dcm")).astype(int)
        assert np.median(np.abs(obtained - expected)) <= 1, name


def test_palette(tmp_path):
    header = pydicom.dcmread(bundled("examples_palette.dcm"))
    sixteen = pydicom.pixels.apply_color_lut(header.pixel_array, header).astype(int)
    expected = np.floor(sixteen * 255 / 65535 + 0.5)
    assert_pixels(bundled("examples_palette.dcm"), expected)

    colours = {
        name: RNG.integers(0, 256, 4096, dtype=np.uint8) for name in ("Red", "Green", "Blue")
    }
    elements = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, table in colours.items():
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [4096, 0, 8]
        elements[f"{name}PaletteColorLookupTableData"] = table.tobytes()
    path = write(tmp_path / "x.dcm", ramp(12), 12, **elements)
    assert_pixels(path, np.stack([table[ramp(12)] for table in colours.values()], axis=-1))


def test_segmented_palette(tmp_path):
    # C.7.9.2: a discrete segment of two entries, then a linear one of 254 up to 255.
    segments = np.uint8([0, 2, 9, 1, 1, 254, 255]).tobytes() + b"\0"
    elements = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name in ("Red", "Green", "Blue"):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 8]
        elements[f"Segmented{name}PaletteColorLookupTableData"] = segments
    obtained = read_image(write(tmp_path / "x.dcm", ramp(8), **elements))
    assert obtained.reshape(-1, 3)[[0, 1, 255]].tolist() == [[9] * 3, [1] * 3, [255] * 3]


def test_one_bit():
    obtained = read_image(bundled("liver_1frame.dcm"))
    expected = pydicom.dcmread(bundled("liver_1frame.dcm")).pixel_array * 255
    np.testing.assert_array_equal(obtained, expected)


def test_the_same_values_in_every_lossless_coding(tmp_path):
    header = pydicom.dcmread(bundled("MR_small.dcm"))
    expected = mapped(lambda x: expected_window(x, "LINEAR", 600, 1600), header.pixel_array)
    for coding in ("", "_RLE", "_bigendian", "_expb", "_implicit", "_jp2klossless",
                   "_jpeg_ls_lossless", "_padded"):  # fmt: skip
        assert_pixels(bundled(f"MR_small{coding}.dcm"), expected)
    for syntax in (uid.RLELossless, uid.JPEG2000Lossless, uid.DeflatedExplicitVRLittleEndian):
        header = dataset(ramp(12), 12, PhotometricInterpretation="MONOCHROME1")
        if syntax.is_encapsulated:
            header.compress(syntax)
        header.file_meta.TransferSyntaxUID = syntax
        header.save_as(tmp_path / "x.dcm", enforce_file_format=True)
        shown = mapped(lambda x: expected_range(x, 0, 4095), ramp(12))
        assert_pixels(tmp_path / "x.dcm", 255 - shown)


@pytest.mark.parametrize("name", ["JPGExtended.dcm", "JPEG-lossy.dcm"])
def test_lossy_twelve_bit_jpeg(name):
    obtained = read_image(bundled(name))
    # Of pylibjpeg-libjpeg's values, from 0 to 4095.
    assert obtained.shape == (1024, 256)
    assert obtained.max() == expected_range(264, 0, 4095)
    assert obtained[500, 100:105].tolist() == [
        expected_range(x, 0, 4095) for x in (31, 28, 24, 21, 24)
    ]


def test_several_frames_are_refused_or_unrolled(tmp_path):
    frames = np.stack([np.roll(GREY, i) for i in range(12)])
    write(tmp_path / "cine.dcm", frames, NumberOfFrames=12)
    write(tmp_path / "one.dcm", GREY, NumberOfFrames=1)
    Image.fromarray(GREY).save(tmp_path / "a.png")
    assert list_images(tmp_path) == ["a.png", "cine.dcm", "one.dcm"]
    with pytest.raises(UnreadableImageError, match="12 frames; --multi_frame=unroll"):
        read_image(tmp_path / "cine.dcm")
    names = list_images(tmp_path, "unroll")
    assert names == ["a.png", *(f"cine.dcm#{i:04d}" for i in range(1, 13)), "one.dcm"]
    for name, frame in zip(names[1:13], frames, strict=True):
        assert_pixels(tmp_path / name, frame)
    assert open_source(tmp_path, "real", multi_frame="unroll").count == 14
    with pytest.raises(UnreadableImageError, match="cine"):
        read_image(tmp_path / "cine.dcm#0013")
    with pytest.raises(DataError, match="'each': expected refuse or unroll"):
        list_images(tmp_path, "each")


def test_a_frame_is_read_without_the_others(tmp_path):
    frames = np.stack([np.roll(np.tile(GREY, (3, 4)), i) for i in range(12)])
    for syntax in (uid.ExplicitVRLittleEndian, uid.RLELossless, uid.JPEG2000Lossless,
                   uid.DeflatedExplicitVRLittleEndian, uid.ImplicitVRLittleEndian):  # fmt: skip
        header = dataset(frames, NumberOfFrames=12)
        if syntax.is_encapsulated:
            header.compress(syntax)
        header.file_meta.TransferSyntaxUID = syntax
        header.save_as(tmp_path / "x.dcm", enforce_file_format=True)
        for i in (0, 5, 11):
            np.testing.assert_array_equal(read_dicom(tmp_path / "x.dcm", i + 1), frames[i])


@pytest.mark.parametrize("name", ["SC_rgb_rle_2frame.dcm", "examples_ybr_color.dcm"])
def test_frames_of_compressed_files_are_pydicoms(name):
    plugin = "pydicom" if "rle" in name else "pillow"
    frames = pydicom.pixels.pixel_array(bundled(name), decoding_plugin=plugin)
    for i in (0, len(frames) - 1):
        np.testing.assert_array_equal(read_dicom(bundled(name), i + 1), frames[i])


def test_a_frames_own_window_comes_before_the_shared_one(tmp_path):
    def group(center, width):
        window, holder = pydicom.Dataset(), pydicom.Dataset()
        window.WindowCenter, window.WindowWidth = center, width
        holder.FrameVOILUTSequence = [window]
        return holder

    rescale = pydicom.Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept = 2, -10
    shared = group(50, 60)
    shared.PixelValueTransformationSequence = [rescale]
    path = write(
        tmp_path / "x.dcm", np.stack([ramp(8)] * 2), NumberOfFrames=2, WindowCenter=1,
        WindowWidth=2, SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=[pydicom.Dataset(), group(200, 99)],
    )  # fmt: skip
    for frame, (center, width) in ((1, (50, 60)), (2, (200, 99))):
        expected = mapped(
            lambda x, c=center, w=width: expected_window(2 * x - 10, "LINEAR", c, w), ramp(8)
        )
        np.testing.assert_array_equal(read_dicom(path, frame), expected)


def _without(*keywords):
    def edit(header):
        for keyword in keywords:
            delattr(header, keyword)

    return edit


def _with(**elements):
    def edit(header):
        for keyword, value in elements.items():
            setattr(header, keyword, value)

    return edit


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom.valuerep")  # on writing
@pytest.mark.parametrize(
    ("edit", "word"),
    [
        (_without("PixelData"), "without pixels"),
        (_without("BitsStored"), r"lacks BitsStored \(0028,0101\)"),
        (_without("Rows"), r"lacks Rows \(0028,0010\)"),
        (_without("Columns", "SamplesPerPixel"), r"lacks Columns .*, SamplesPerPixel \(0028,0002"),
        (_without("PixelRepresentation"), r"lacks PixelRepresentation \(0028,0103\)"),
        (_with(VOILUTSequence=[pydicom.Dataset()]), r"lacks LUTDescriptor \(0028,3002\)"),
        (
            _with(PhotometricInterpretation="PALETTE COLOR"),
            r"lacks RedPaletteColorLookupTableDescriptor \(0028,1101\)",
        ),
        (_with(Rows=65535, Columns=65535), "65535 x 65535 pixels.*FID_MED_MAX_PIXELS=4294836225"),
        (_with(NumberOfFrames=10**9), "declares 1000000000 frames"),
        (_with(PixelData=b"\0" * 40), "damaged pixels"),
        (_with(Rows=5000), "damaged pixels"),
        (_with(Rows=0, PixelData=b""), "damaged pixels"),
        (_with(BitsStored=0), "0 bits stored"),
        (_with(BitsAllocated=32, BitsStored=32, HighBit=31), "32 bits stored"),
        (_with(BitsStored=5), "begin at bit 0"),
        (_with(PhotometricInterpretation="HSV", SamplesPerPixel=3), "photometric"),
        (_with(PhotometricInterpretation="RGB"), "photometric"),
        (_with(PhotometricInterpretation=SECRETS[0]), "photometric"),
        (_with(RescaleSlope=0, RescaleIntercept=1), "RescaleSlope"),
        (_with(WindowCenter=1, WindowWidth=5, VOILUTFunction=SECRETS[0]), "VOILUTFunction"),
        (_with(VOILUTSequence=look_up_table([1, 2], 0)), "look-up table"),
        (_with(VOILUTSequence=look_up_table([1, 2], 17)), "look-up table"),
    ],
)
def test_what_cannot_be_taken_is_reported_in_one_line(edit, word, tmp_path, capfd):
    header = dataset(GREY)
    edit(header)
    header.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    _assert_refused(tmp_path / "x.dcm", word, capfd)


def _assert_refused(path, word, capfd):
    # Not even where the user shows every warning and logs everything.
    handler = logging.StreamHandler()
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            with pytest.raises(UnreadableImageError, match=word) as error:
                read_image(path)
    finally:
        logging.getLogger().removeHandler(handler)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert not any(secret in message.removeprefix(str(path)) for secret in SECRETS)
    assert not warned
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("test-SR.dcm", "without pixels"),
        ("rtplan.dcm", "without pixels"),
        ("rtplan_truncated.dcm", "without pixels"),
        ("rtdose_1frame.dcm", "32 bits"),
        ("MR_truncated.dcm", "damaged pixels"),
        ("badVR.dcm", "damaged DICOM header"),
        ("meta_missing_tsyntax.dcm", "without pixels"),
        ("no_meta.dcm", "not a DICOM file"),
        ("SC_rgb_rle_32bit.dcm", "32 bits"),
    ],
)
def test_pydicoms_unreadable_files(name, word, capfd):
    _assert_refused(bundled(name), word, capfd)


def test_no_file_and_no_dicom(tmp_path, capfd):
    (tmp_path / "text.dcm").write_text("patient: none")
    (tmp_path / "empty.dcm").write_bytes(b"")
    _assert_refused(tmp_path / "text.dcm", "not a DICOM file", capfd)
    _assert_refused(tmp_path / "empty.dcm", "not a DICOM file", capfd)
    _assert_refused(tmp_path / "missing.dcm", "No such file", capfd)
    (tmp_path / "loop.dcm").symlink_to(tmp_path / "loop.dcm")
    _assert_refused(tmp_path / "loop.dcm", "cannot be read", capfd)


def test_values_that_break_the_rules_are_never_quoted(tmp_path, capfd):
    header = dataset(GREY, WindowCenter="123456", WindowWidth="234567")
    header.PatientName = "Nightingale"
    header.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    content = (tmp_path / "x.dcm").read_bytes()
    # The same length, but no decimal string.
    (tmp_path / "x.dcm").write_bytes(content.replace(b"123456", b"PID-47"))
    with pytest.raises(UnreadableImageError) as error:
        read_image(tmp_path / "x.dcm")
    assert "PID" not in str(error.value)
    # An identifier of the file meta group that pydicom warns about, value and all.
    (tmp_path / "x.dcm").write_bytes(content.replace(b"1.2.3\0", b"PID-47"))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert read_image(tmp_path / "x.dcm").shape == GREY.shape
    assert not warned
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "name",
    ["MR_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "SC_rgb_jpeg_dcmtk.dcm",
     "MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_gdcm.dcm"],
)  # fmt: skip
def test_a_file_cut_anywhere_is_refused_or_whole(name, tmp_path):
    whole, content = read_image(bundled(name)), bundled(name).read_bytes()
    refused = 0
    for end in np.linspace(1, len(content) - 1, 25).astype(int):
        (tmp_path / "x.dcm").write_bytes(content[:end])
        try:
            np.testing.assert_array_equal(read_image(tmp_path / "x.dcm"), whole)
        except UnreadableImageError:
            refused += 1
    assert refused >= 20


def test_twelve_bits_that_the_header_calls_sixteen_are_noticed(tmp_path):
    values = ramp(12)
    write(tmp_path / "dark.dcm", values)
    write(tmp_path / "flat.dcm", values.astype(np.int16), PhotometricInterpretation="MONOCHROME1")
    write(tmp_path / "cine.dcm", np.stack([values] * 2), NumberOfFrames=2)
    write(tmp_path / "windowed", values, WindowCenter=2048, WindowWidth=4096)
    write(tmp_path / "twelve.dcm", values, 12)
    write(tmp_path / "eight.dcm", GREY // 20)
    write(tmp_path / "cut.dcm", values)
    (tmp_path / "cut.dcm").write_bytes((tmp_path / "cut.dcm").read_bytes()[:900])
    assert open_source(tmp_path, "real").dark_sixteen_bit == 2
    assert open_source(tmp_path, "real", multi_frame="unroll").dark_sixteen_bit == 4


def test_damaged_run_lengths_are_refused(tmp_path, capfd):
    content = bytearray(bundled("MR_small_RLE.dcm").read_bytes())
    start = content.index(b"\xfe\xff\x00\xe0", content.index(b"\xe0\x7f\x10\x00") + 20) + 8 + 64
    content[start : start + 200] = b"\x80" * 200  # no run at all
    (tmp_path / "x.dcm").write_bytes(content)
    _assert_refused(tmp_path / "x.dcm", r"damaged pixels \(RLE Lossless", capfd)


def test_many_threads_read_what_one_reads():
    names = ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "SC_rgb_jpeg_dcmtk.dcm",
             "MR_small_jpeg_ls_lossless.dcm", "examples_palette.dcm", "JPGExtended.dcm",
             "SC_rgb_jpeg_gdcm.dcm", "image_dfl.dcm"]  # fmt: skip
    paths = [bundled(name) for name in names]
    expected = [read_image(path) for path in paths]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for i, obtained in enumerate(pool.map(read_image, paths * 12)):
            np.testing.assert_array_equal(obtained, expected[i % len(paths)])


@pytest.mark.parametrize("module", ["Modality", "VOI"])
@pytest.mark.parametrize(
    ("declared", "used"), [(16, 14), (16, 12), (16, 10), (16, 16), (12, 16), (8, 12), (14, 14)]
)
def test_the_entries_of_a_table_decide_its_bits(module, declared, used, tmp_path):
    table = np.arange(4096) * (2**used - 1) // 4095
    sequence = {f"{module}LUTSequence": look_up_table(table, declared, as_bytes=True)}
    path = write(tmp_path / "x.dcm", ramp(12), 12, **sequence)
    highest = 2**used - 1
    expected = mapped(lambda x: expected_range(int(table[x]), 0, highest), ramp(12))
    assert_pixels(path, expected)
    lines = open_source(tmp_path, "real").warnings()
    reported = [line for line in lines if "declare another number of bits" in line]
    assert len(reported) == (declared != used)


def test_a_dark_table_keeps_its_declared_bits(tmp_path):
    # 3,000 of 4,095 is dark, not of 11 bits; and 1,200 of 16 bits is of 12, not 11.
    for declared, highest, scale in ((12, 3000, 4095), (16, 1200, 4095)):
        table = np.arange(4096) * highest // 4095
        path = write(
            tmp_path / "x.dcm", ramp(12), 12, VOILUTSequence=look_up_table(table, declared)
        )
        assert read_image(path).max() == expected_range(highest, 0, scale)


def test_a_palette_of_eight_bits_that_declares_sixteen(tmp_path):
    table, elements = np.arange(256, dtype="<u2"), {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, share in (("Red", 1), ("Green", 2), ("Blue", 16)):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        elements[f"{name}PaletteColorLookupTableData"] = (table // share).tobytes()
    obtained = read_image(write(tmp_path / "x.dcm", ramp(8), **elements))
    expected = np.stack([ramp(8) // share for share in (1, 2, 16)], axis=-1)
    np.testing.assert_array_equal(obtained, expected)


@pytest.mark.parametrize(
    "syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian]
)
def test_a_file_without_preamble_or_transfer_syntax(syntax, tmp_path):
    header = dataset(ramp(12), 12)
    header.SpecificCharacterSet = "ISO_IR 100"
    del header.PatientName, header.PatientID, header.PatientBirthDate
    if syntax == uid.ExplicitVRBigEndian:
        header.PixelData = ramp(12).astype(">u2").tobytes()
    expected = mapped(lambda x: expected_range(x, 0, 4095), ramp(12))
    implicit, little = syntax.is_implicit_VR, syntax.is_little_endian
    bare = pydicom.Dataset(header)
    pydicom.dcmwrite(
        tmp_path / "bare", bare, implicit_vr=implicit, little_endian=little,
        enforce_file_format=False,
    )  # fmt: skip
    content = (tmp_path / "bare").read_bytes()
    assert content[128:132] != b"DICM"
    assert list_images(tmp_path) == ["bare"]
    assert_pixels(tmp_path / "bare", expected)


def test_what_compresses_a_file_without_transfer_syntax_is_unknown(tmp_path, capfd):
    content = bundled("MR_small_RLE.dcm").read_bytes()
    meta = pydicom.filereader.read_file_meta_info(bundled("MR_small_RLE.dcm"))
    (tmp_path / "x.dcm").write_bytes(content[144 + meta.FileMetaInformationGroupLength :])
    _assert_refused(tmp_path / "x.dcm", r"it lacks TransferSyntaxUID \(0002,0010\)", capfd)


def test_more_frames_than_a_file_can_hold_are_not_listed(tmp_path):
    write(tmp_path / "x.dcm", GREY, NumberOfFrames=10**9)
    header = dataset(GREY, NumberOfFrames=10**9)
    header.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    header.PixelData = pydicom.encaps.encapsulate([bytes(64)])
    header["PixelData"].VR = "OB"
    header.save_as(tmp_path / "y.dcm", enforce_file_format=True)
    assert list_images(tmp_path, "unroll") == ["x.dcm", "y.dcm"]
    with pytest.raises(UnreadableImageError, match="more than the file can contain"):
        read_image(tmp_path / "y.dcm")


def test_no_more_is_inflated_than_the_header_declares(tmp_path, monkeypatch):
    header = dataset(GREY)
    header.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    header.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    content = (tmp_path / "x.dcm").read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    body = zlib.decompress(content[start:], -zlib.MAX_WBITS) + bytes(5 << 20)
    (tmp_path / "x.dcm").write_bytes(content[:start] + packer.compress(body) + packer.flush())
    monkeypatch.setattr(dicom_files, "_LARGEST_HEADER", 1 << 10)
    read, sizes = dicom_files._read, []

    def watched(file, pixels):
        sizes.append(len(file.getvalue()))
        return read(file, pixels)

    monkeypatch.setattr(dicom_files, "_read", watched)
    assert_pixels(tmp_path / "x.dcm", GREY)
    assert max(sizes) == (1 << 10) + GREY.size


def _encapsulated(path, syntax, frame, values, bits=None, **elements):
    header = dataset(values, bits, **elements)
    header.file_meta.TransferSyntaxUID = syntax
    header.PixelData = pydicom.encaps.encapsulate([frame])
    header["PixelData"].VR = "OB"
    header["PixelData"].is_undefined_length = True
    header.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("height", [24, 65_535])
def test_a_frame_of_another_size_is_refused_before_it_is_unpacked(height, tmp_path, monkeypatch):
    start = b"\xff\xd8\xff\xfe\0\4ab\xff\xc3" + struct.pack(">HBHHB", 11, 8, height, 65_535, 1)
    path = _encapsulated(tmp_path / "x.dcm", uid.JPEGLosslessSV1, start + bytes(40), GREY)
    imagecodecs = pytest.importorskip("imagecodecs")
    monkeypatch.setattr(imagecodecs, "jpeg8_decode", lambda *_, **__: pytest.fail("unpacked"))
    with pytest.raises(UnreadableImageError, match="damaged pixels"):
        read_image(path)


def test_pixels_do_not_depend_on_which_decoders_are_installed(tmp_path, monkeypatch):
    content = io.BytesIO()
    Image.fromarray(RGB).save(content, "JPEG", quality=60)
    paths = [
        _encapsulated(
            tmp_path / "x.dcm", uid.JPEGBaseline8Bit, content.getvalue(), RGB,
            PhotometricInterpretation="YBR_FULL_422",
        ),
        bundled("MR_small_jpeg_ls_lossless.dcm"),
    ]  # fmt: skip
    (tmp_path / "x.jpg").write_bytes(content.getvalue())
    before = [read_image(path) for path in paths]
    assert np.abs(before[0].astype(int) - read_image(tmp_path / "x.jpg")).max() <= 1
    for syntax in (uid.JPEGBaseline8Bit, uid.JPEGLSLossless):
        decoder = pydicom.pixels.get_decoder(syntax)
        others = {name: lambda *_: bytes(GREY.size * 3) for name in ("gdcm", "pylibjpeg")}
        monkeypatch.setattr(decoder, "_available", others | decoder._available)
    for path, expected in zip(paths, before, strict=True):
        np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize("bits", [7, 12, 16])
def test_signed_jpeg_ls(bits, tmp_path):
    imagecodecs = pytest.importorskip("imagecodecs")
    values = ramp(bits, signed=True) if bits != 7 else np.arange(-64, 64).reshape(8, 16)
    stored = (values.astype(int) & (2**bits - 1)).astype(np.uint8 if bits <= 8 else np.uint16)
    frame = imagecodecs.jpegls_encode(stored)
    path = _encapsulated(
        tmp_path / "x.dcm", uid.JPEGLSLossless, frame, stored, bits, PixelRepresentation=1
    )
    low, high = int(values.min()), int(values.max())
    assert_pixels(path, mapped(lambda x: expected_range(x, low, high), values))


def test_listing_finds_dicom_files_by_suffix_or_beginning(tmp_path):
    for name in ("a.dcm", "b.DICOM", "IM000001", "1.2.840.113619.2.5", "sub/IM2", "DICOMDIR",
                 "sub/dicomdir", ".hidden", "d.IMA"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, GREY)
    (tmp_path / "README").write_text("no image " * 40)
    (tmp_path / "short").write_bytes(b"DICM")
    (tmp_path / "c.001").write_bytes(bytes(132))
    Image.fromarray(GREY).save(tmp_path / "c.png")
    content = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "bare").write_bytes(content[132:])
    (tmp_path / "text.IMA").write_text("no image " * 40)
    expected = [
        "1.2.840.113619.2.5", "IM000001", "a.dcm", "b.DICOM", "bare", "c.png", "d.IMA", "sub/IM2",
    ]  # fmt: skip
    assert list_images(tmp_path) == expected
    for name in expected:
        assert_pixels(tmp_path / name, GREY)


def test_a_png_and_its_dicom_are_one_image_to_the_network_and_the_hash(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    write(tmp_path / "b.dcm", GREY)
    (tmp_path / "c.dcm").write_bytes((tmp_path / "b.dcm").read_bytes()[:600])
    from fid_med.data.preprocessing import Preprocessing

    one, two, damaged = prepared_images(
        open_source(tmp_path, "real"), Preprocessing(8, 8), [ImageHasher("ab" * 16)]
    )
    assert (one.name, two.name, damaged.name) == ("a.png", "b.dcm", "c.dcm")
    np.testing.assert_array_equal(one.pixels, two.pixels)
    assert one.digests == two.digests
    assert isinstance(damaged.error, UnreadableImageError)


def test_without_pydicom_the_error_says_what_to_install(tmp_path, monkeypatch):
    write(tmp_path / "a.dcm", GREY)
    write(tmp_path / "IM1", GREY)
    Image.fromarray(GREY).save(tmp_path / "c.png")
    for module in ("pydicom", "pydicom.pixels"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=r"2 DICOM files \(such as IM1\).*'fid_med\[dicom\]'"):
        list_images(tmp_path)
    with pytest.raises(UnreadableImageError, match=r"a\.dcm: .*'fid_med\[dicom\]'"):
        read_image(tmp_path / "a.dcm")


def test_without_a_decoder_the_error_names_the_coding_and_what_to_install(
    tmp_path, monkeypatch, capfd
):
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        word = r"no decoder for JPEG-LS Lossless.*'fid_med\[dicom\]'"
        _assert_refused(bundled("MR_small_jpeg_ls_lossless.dcm"), word, capfd)
    header = dataset(GREY)
    header.file_meta.TransferSyntaxUID = uid.MPEG2MPML
    header.PixelData = pydicom.encaps.encapsulate([bytes(10)])
    header["PixelData"].VR = "OB"
    header.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    _assert_refused(tmp_path / "x.dcm", "no decoder for MPEG2.*convert it", capfd)


def test_compute_fid_and_labelled_folder_take_dicom(phantoms, write_images, shallow_extractor):
    from fid_med.data.datasets import load_dataset
    from fid_med.evaluation.compute import compute_fid

    images = phantoms[0][:8]
    png = write_images("png", images)
    mixed = write_images("mixed/a", images[:3])
    for i in range(3, 8):
        # Stored inverted and in the middle of 12 bits, where the window finds it again.
        stored = 2000 - images[i].astype(np.uint16)
        write(mixed / f"{i:03d}.dcm", stored, 12, PhotometricInterpretation="MONOCHROME1",
              WindowCenter=2000 - 255 + 128, WindowWidth=256)  # fmt: skip
    result = compute_fid(png, mixed, shallow_extractor)
    assert result.generated.count == 8
    assert abs(result.fid) < 1e-6
    (mixed.parent / "b").mkdir()
    write(mixed.parent / "b" / "cine.dcm", images[:2], NumberOfFrames=2)
    loaded = load_dataset("labelled_folder", mixed.parent, multi_frame="unroll")
    assert loaded.counts() == {"a": 8, "b": 2}
    np.testing.assert_array_equal(loaded.loaders[-1](), images[1])
    # The frames of one file stay on one side of a split.
    assert loaded.studies[-2:] == ["b/cine.dcm"] * 2
    assert len(set(loaded.studies)) == 9
    table = mixed.parent / "labels.csv"
    table.write_text("path,label\na/000.png,x\na/001.png,y\nb/cine.dcm,x\n")
    by_table = load_dataset("labelled_folder", mixed.parent, labels_csv=table, multi_frame="unroll")
    assert by_table.names[-2:] == ["b/cine.dcm#0001", "b/cine.dcm#0002"]
    assert by_table.counts() == {"x": 3, "y": 1}
