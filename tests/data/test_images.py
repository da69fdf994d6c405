"""Reading images of every kind, and listing them."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from fid_med.data.images import (
    check_pixels,
    describe_ignored,
    index_folder,
    is_dark_sixteen_bit,
    list_images,
    read_image,
    select_images,
)
from fid_med.data.sources import open_source
from fid_med.errors import DataError, SettingError, UnreadableImageError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (11, 17), dtype=np.uint8)
RGB = RNG.integers(0, 256, (11, 17, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (11, 17, 1), dtype=np.uint8)


TURNS = {
    1: lambda x: x, 2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud,
    5: lambda x: np.swapaxes(x, 0, 1), 6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(np.swapaxes(x, 0, 1), 2), 8: np.rot90,
}  # fmt: skip


def on_black(colour, alpha):
    return np.floor(colour.astype(int) * alpha / 255 + 0.5).astype(np.uint8)


# Adam7's passes: first row and column, steps down and right.
ADAM7 = (
    (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)
)  # fmt: skip


def png(values, bits, colour_type, *, transparency=None, interlaced=False, rows=None, depth=None):
    """A PNG that Pillow does not write; values [H, W] or [H, W, c], `bits` 8 or 16.

    `rows` replaces the packed rows, which then have `depth` bits.
    """

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    rows = rows or b"".join(
        b"\0" + row.astype(f">u{bits // 8}").tobytes()
        for top, left, down, right in (ADAM7 if interlaced else [(0, 0, 1, 1)])
        for row in values[top::down, left::right]
    )
    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth or bits, colour_type, 0, 0, interlaced)
    content = chunk(b"IHDR", header)
    if transparency is not None:
        transparency = np.atleast_1d(transparency)
        content += chunk(b"tRNS", struct.pack(f">{transparency.size}H", *transparency))
    content += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def packed(values, bits):
    """Values [H, W] of fewer bits than a byte or two, row by row, highest bit first."""
    each = (values[..., None].astype(int) >> np.arange(bits)[::-1]) & 1
    return b"".join(np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in each)


def planar_tiff(planes, *, deflate=False, fill_order=1):
    """A TIFF of one strip per plane; planes [C, H, W] of 8 or 16 bits."""
    strips = [plane.astype(plane.dtype.newbyteorder("<")).tobytes() for plane in planes]
    if fill_order == 2:
        turned = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))
        strips = [strip.translate(turned) for strip in strips]
    strips = [zlib.compress(strip) if deflate else strip for strip in strips]
    count, height, width = planes.shape
    body = b"".join(strips)
    starts = np.cumsum([8, *map(len, strips[:-1])])
    at = 8 + len(body)
    lists = [[8 * planes.itemsize] * count, starts, list(map(len, strips))]
    places = at + np.cumsum([0, 4 * count, 4 * count])
    tags = [
        (256, 1, width), (257, 1, height), (258, count, places[0]), (259, 1, 8 if deflate else 1),
        (262, 1, 2 if count > 2 else 1), (266, 1, fill_order), (273, count, places[1]),
        (277, 1, count), (278, 1, height), (279, count, places[2]), (284, 1, 2),
        *([(338, 1, 2)] if count == 2 else []),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, number, value) for tag, number, value in tags)
    lists = b"".join(struct.pack(f"<{count}I", *values) for values in lists)
    start = b"II" + struct.pack("<HI", 42, at + len(lists))
    return start + body + lists + struct.pack("<H", len(tags)) + entries + bytes(4)


def tiff(
    values, *, order="<", sample_format=1, photometric=1, orientation=1, deflate=False, bits=None
):
    """A grey TIFF of one strip, as other software writes it; values [H, W], 12 bits packed."""
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    if bits == 12:
        data = packed(values, 12)
    data = zlib.compress(data) if deflate else data
    height, width = values.shape
    tags = [
        (256, width), (257, height), (258, bits or 8 * values.itemsize),
        (259, 8 if deflate else 1), (262, photometric), (273, 8), (274, orientation), (277, 1),
        (278, height), (279, len(data)), (339, sample_format),
    ]  # fmt: skip
    entries = b"".join(
        struct.pack(f"{order}HHII", tag, 4, 1, value)
        if tag in (273, 279)
        else struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
        for tag, value in tags
    )
    start = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(data))
    return start + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "webp"])
@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
def test_lossless_formats_give_exact_pixels(suffix, pixels, tmp_path):
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(pixels).save(tmp_path / f"x.{suffix}", **options)
    expected = pixels
    if suffix == "webp" and pixels.ndim == 2:
        expected = np.repeat(pixels[..., None], 3, axis=-1)  # WebP knows no grey
    np.testing.assert_array_equal(read_image(tmp_path / f"x.{suffix}"), expected)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_is_what_pillow_decodes(mode, tmp_path):
    Image.fromarray(RGB).convert(mode).save(tmp_path / "x.jpg")
    with Image.open(tmp_path / "x.jpg") as image:
        expected = np.asarray(image if mode == "L" else image.convert("RGB"))
    np.testing.assert_array_equal(read_image(tmp_path / "x.jpg"), expected)


def test_alpha_is_composited_on_black(tmp_path):
    Image.fromarray(np.concatenate([RGB, ALPHA], axis=-1)).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), on_black(RGB, ALPHA))
    grey_alpha = np.concatenate([GREY[..., None], ALPHA], axis=-1)
    Image.fromarray(grey_alpha, "LA").save(tmp_path / "la.png")
    expected = on_black(GREY, ALPHA[..., 0])
    np.testing.assert_array_equal(read_image(tmp_path / "la.png"), expected)


def test_palette_with_and_without_transparency(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "p.png")
    expected = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [0, 255, 0]]])
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), expected)
    image.save(tmp_path / "t.png", transparency=1)
    expected[expected[..., 1] == 255] = 0
    np.testing.assert_array_equal(read_image(tmp_path / "t.png"), expected)


def test_one_bit(tmp_path):
    for name in ("x.png", "x.tif"):
        Image.fromarray(GREY > 100).save(tmp_path / name)
        expected = np.where(GREY > 100, 255, 0)
        np.testing.assert_array_equal(read_image(tmp_path / name), expected)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_from_their_whole_range(suffix, tmp_path):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(values).save(tmp_path / f"x.{suffix}")
    obtained = read_image(tmp_path / f"x.{suffix}")
    assert obtained.dtype == np.uint8
    expected = np.floor(values.astype(np.float64) * 255 / 65535 + 0.5)
    np.testing.assert_array_equal(obtained, expected)


def test_big_endian_sixteen_bit_tiff(tmp_path):
    values = (GREY.astype(np.uint16) * 257).astype(">u2")
    image = Image.frombytes("I;16B", (17, 11), values.tobytes())
    image.save(tmp_path / "x.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), GREY)


def test_sixteen_bit_colour_png(tmp_path):
    (tmp_path / "x.png").write_bytes(png(RGB.astype(np.uint16) * 257, 16, 2))
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), RGB)


def test_sixteen_bit_colour_with_alpha(tmp_path):
    values = np.concatenate([RGB, ALPHA], axis=-1).astype(np.uint16) * 257
    (tmp_path / "rgba.png").write_bytes(png(values, 16, 6))
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), on_black(RGB, ALPHA))


@pytest.mark.parametrize("bits", [8, 16])
def test_the_one_transparent_value_of_a_grey_png_is_black(bits, tmp_path):
    values = GREY.astype(np.uint16) * (1 if bits == 8 else 257)
    (tmp_path / "x.png").write_bytes(png(values, bits, 0, transparency=values[5, 5]))
    expected = np.where(values == values[5, 5], 0, GREY)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), expected)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_the_one_transparent_value_of_few_bits(bits, tmp_path):
    values = GREY % 2**bits
    rows = [b"\0" + packed(row[None], bits) for row in values]
    (tmp_path / "x.png").write_bytes(
        png(values, 8, 0, transparency=1, rows=b"".join(rows), depth=bits)
    )
    expected = np.where(values == 1, 0, values.astype(int) * 255 // (2**bits - 1))
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), expected)


def test_a_transparent_colour_of_sixteen_bits_is_refused(tmp_path):
    (tmp_path / "x.png").write_bytes(
        png(RGB.astype(np.uint16) * 257, 16, 2, transparency=(1, 2, 3))
    )
    with pytest.raises(UnreadableImageError, match="one transparent colour; save it with an alpha"):
        read_image(tmp_path / "x.png")


def test_text_and_colour_profile_are_no_reason_to_refuse_a_png(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * 2_000_000, zip=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(GREY).save(tmp_path / "x.png", pnginfo=info, exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), TURNS[6](GREY))
    profile = b"\0" * 2_000_000
    Image.fromarray(RGB).save(tmp_path / "x.png", icc_profile=profile)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), RGB)


def test_interlaced_png(tmp_path):
    for pixels, colour_type in ((GREY, 0), (RGB, 2)):
        (tmp_path / "x.png").write_bytes(png(pixels, 8, colour_type, interlaced=True))
        np.testing.assert_array_equal(read_image(tmp_path / "x.png"), pixels)


@pytest.mark.parametrize(
    ("dtype", "sample_format"),
    [("i1", 2), ("i2", 2), ("i4", 2), ("u4", 1), ("f4", 3)],
    ids=["signed 8", "signed 16", "signed 32", "32", "float"],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_pixels_without_a_fixed_range_are_refused(dtype, sample_format, order, tmp_path):
    # All of them values that would fit: the file's type decides, not what one image happens to use.
    values = np.arange(12).reshape(3, 4).astype(dtype)
    (tmp_path / "x.tif").write_bytes(tiff(values, order=order, sample_format=sample_format))
    with pytest.raises(UnreadableImageError, match=r"x\.tif") as error:
        read_image(tmp_path / "x.tif")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_whose_zero_is_white_is_inverted(dtype, deflate, tmp_path):
    values = GREY.astype(dtype) * (257 if dtype == np.uint16 else 1)
    (tmp_path / "x.tif").write_bytes(tiff(values, photometric=0, deflate=deflate))
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), 255 - GREY)


@pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
def test_twelve_bit_tiff_is_scaled_from_its_own_range(deflate, tmp_path):
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    (tmp_path / "x.tif").write_bytes(tiff(values, bits=12, deflate=deflate))
    expected = np.floor(values.astype(np.float64) * 255 / 4095 + 0.5)
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), expected)
    assert not is_dark_sixteen_bit(tmp_path / "x.tif")


@pytest.mark.parametrize(
    ("planes", "dtype", "options", "read"),
    [
        (3, "u1", {}, True),
        (3, "u1", {"deflate": True}, True),
        (3, "u2", {"deflate": True}, True),
        (3, "u2", {}, False),  # Pillow stretches each row twofold
        (3, "u1", {"fill_order": 2}, False),
        (2, "u1", {}, False),  # Pillow loses the alpha
    ],
)
def test_planes_of_a_tiff_are_read_or_refused(planes, dtype, options, read, tmp_path):
    values = np.moveaxis(RGB, -1, 0)[:planes].astype(dtype) * (257 if dtype == "u2" else 1)
    (tmp_path / "x.tif").write_bytes(planar_tiff(values, **options))
    if read:
        np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), RGB)
        return
    with pytest.raises(UnreadableImageError, match=rf"x\.tif: a TIFF of {planes} separate planes"):
        read_image(tmp_path / "x.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
def test_exif_orientation(orientation, pixels, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"png": {}, "webp": {"lossless": True}, "tif": {"compression": "tiff_lzw"}}
    for suffix, more in options.items():
        Image.fromarray(pixels).save(tmp_path / f"x.{suffix}", exif=exif, **more)
        obtained = read_image(tmp_path / f"x.{suffix}")
        if suffix == "webp" and pixels.ndim == 2:
            obtained = obtained[..., 0]
        np.testing.assert_array_equal(obtained, TURNS[orientation](pixels), err_msg=suffix)
    Image.fromarray(pixels).save(tmp_path / "x.jpg", exif=exif)
    with Image.open(tmp_path / "x.jpg") as image:
        unturned = np.asarray(image)
    np.testing.assert_array_equal(read_image(tmp_path / "x.jpg"), TURNS[orientation](unturned))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_orientation_of_an_uncompressed_tiff(dtype, order, orientation, tmp_path):
    # Pillow 13.0 maps these into memory and garbles 5 to 8, given the path.
    values = GREY.astype(dtype) * (257 if dtype == np.uint16 else 1)
    (tmp_path / "x.tif").write_bytes(tiff(values, order=order, orientation=orientation))
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), TURNS[orientation](GREY))


def test_damaged_exif_is_no_reason_to_refuse(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "x.jpg", exif=b"Exif\0\0no such thing")
    assert read_image(tmp_path / "x.jpg").shape == GREY.shape


def test_dark_sixteen_bit_is_distinguished_from_full_range_and_eight_bit(tmp_path):
    cases = {
        "dark.png": (GREY.astype(np.uint16) * 16, True),
        "full.png": (GREY.astype(np.uint16) * 257, False),
        "eight.png": (GREY // 16, False),
    }
    for name, (values, expected) in cases.items():
        Image.fromarray(values).save(tmp_path / name)
        assert is_dark_sixteen_bit(tmp_path / name) == expected, name
    (tmp_path / "text.png").write_text("no image")
    assert not is_dark_sixteen_bit(tmp_path / "text.png")


def _truncated(path):
    Image.fromarray(RNG.integers(0, 256, (64, 64), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1500])


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("cut.png", _truncated),
        ("cut.jpg", _truncated),
        ("text.png", lambda path: path.write_text("patient: none")),
        ("empty.png", lambda path: path.write_bytes(b"")),
        ("missing.png", lambda path: None),
        ("gif.png", lambda path: Image.fromarray(GREY).save(path, "GIF")),
        ("script.png", lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n")),
        ("dicom.png", lambda path: path.write_bytes(bytes(128) + b"DICM" + bytes(200))),
        ("dangling.png", lambda path: path.symlink_to(path.parent / "gone.png")),
    ],
)
def test_unreadable_files_are_named_in_one_line(name, write, tmp_path):
    write(tmp_path / name)
    with pytest.raises(UnreadableImageError, match=name) as error:
        read_image(tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("damage", ["bit", "rows"])
def test_a_png_with_other_pixels_than_were_saved_is_refused(damage, interlaced, tmp_path):
    """Pillow reads both; rows that are missing become black."""
    values = RNG.integers(0, 256, (64, 64), dtype=np.uint8)
    content = png(values, 8, 0, interlaced=interlaced)
    path = tmp_path / "x.png"
    path.write_bytes(content)
    np.testing.assert_array_equal(read_image(path), values)
    if damage == "bit":
        changed = bytearray(content)
        changed[-30] ^= 1  # near the end of the pixels
        content, word = bytes(changed), "(checksum|incorrect data check)"
    else:
        packed = content[content.index(b"IDAT") + 4 :]
        rows = zlib.decompressobj().decompress(packed)[: -65 * 3]  # whole rows
        content = png(values, 8, 0, interlaced=interlaced, rows=rows)
        word = "fewer pixels than its header declares"
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=rf"x\.png: (damaged|cannot be read).*{word}"):
        read_image(path)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("x.png", {}), ("x.bmp", {}), ("x.jpg", {}), ("progressive.jpg", {"progressive": True}),
        ("x.tif", {}), ("x.webp", {"lossless": True}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
def test_a_file_cut_anywhere_is_refused_or_whole(name, options, pixels, tmp_path):
    path = tmp_path / name
    Image.fromarray(np.tile(pixels, (4, 4) + (1,) * (pixels.ndim - 2))).save(path, **options)
    whole, content = read_image(path), path.read_bytes()
    refused = 0
    for end in np.linspace(1, len(content) - 1, 25).astype(int):
        path.write_bytes(content[:end])
        try:
            np.testing.assert_array_equal(read_image(path), whole)
        except UnreadableImageError:
            refused += 1
    assert refused >= 20


def test_an_image_too_large_to_be_one_is_refused_in_one_line(tmp_path):
    header = bytearray(png(GREY, 8, 0))
    header[16:24] = struct.pack(">II", 60_000, 60_000)
    header[29:33] = struct.pack(">I", zlib.crc32(header[12:29]))
    (tmp_path / "x.png").write_bytes(header)
    with pytest.raises(UnreadableImageError, match=r"x\.png: 60000 x 60000 pixels") as error:
        read_image(tmp_path / "x.png")
    assert "\n" not in str(error.value)


def test_the_limit_of_pixels_is_ours_and_can_be_raised(tmp_path, monkeypatch):
    Image.fromarray(GREY).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's would refuse it
    assert read_image(tmp_path / "x.png").shape == GREY.shape
    assert Image.MAX_IMAGE_PIXELS == 10
    monkeypatch.setenv("FID_MED_MAX_PIXELS", str(GREY.size - 1))
    with pytest.raises(UnreadableImageError, match=f"set .* FID_MED_MAX_PIXELS={GREY.size}$"):
        read_image(tmp_path / "x.png")
    monkeypatch.setenv("FID_MED_MAX_PIXELS", str(GREY.size))
    assert read_image(tmp_path / "x.png").shape == GREY.shape
    monkeypatch.setenv("FID_MED_MAX_PIXELS", "many")
    with pytest.raises(SettingError, match="FID_MED_MAX_PIXELS=many"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "L", "I;16"])
def test_a_large_image_is_converted_piece_by_piece(mode, tmp_path):
    values = RNG.integers(0, 256, (1200, 1000, 4), dtype=np.uint8)
    image = {
        "RGBA": Image.fromarray(values),
        "LA": Image.fromarray(np.ascontiguousarray(values[..., :2]), "LA"),
        "L": Image.fromarray(values[..., 0]),
        "I;16": Image.fromarray(values[..., 0].astype(np.uint16) * 257),
    }[mode]
    image.save(tmp_path / "x.png", compress_level=1)
    expected = {
        "RGBA": on_black(values[..., :3], values[..., 3:]),
        "LA": on_black(values[..., 0], values[..., 1]),
    }.get(mode, values[..., 0])
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), expected)


@pytest.mark.parametrize("name", ["x.png", "x.dcm", "x"])
def test_a_pipe_is_no_image(name, tmp_path):
    os.mkfifo(tmp_path / name)
    with pytest.raises(UnreadableImageError, match=rf"{name}: .*a named pipe"):
        read_image(tmp_path / name)
    Image.fromarray(GREY).save(tmp_path / "a.png")
    listing = index_folder(tmp_path)
    assert listing == (["a.png"], {"pipe or device": 1})


def test_ignored_files_are_counted_by_suffix_or_name(tmp_path):
    for name in ("a.gif", "b.GIF", "c.jp2", "d.heic", "notes", "Smith.19200512", "Thumbs.db",
                 "@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", "@eaDir/b.png", "__MACOSX/._a.png",
                 ".thumbnails/a.png", "._a.png", "sub/@eaDir/x.png"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"some content")
    with pytest.raises(DataError, match=r"no image files \(.*\), but 2 .gif"):
        list_images(tmp_path)
    Image.fromarray(GREY).save(tmp_path / "a.png")
    images, ignored = index_folder(tmp_path, known=[tmp_path / "c.jp2"])
    assert images == ["a.png"]
    assert ignored == {
        ".gif": 2, ".heic": 1, "@eaDir": 2, "Thumbs.db": 1, "__MACOSX": 1, "hidden": 2,
        "without suffix": 2,
    }  # fmt: skip
    assert describe_ignored({"hidden": 3}) == []
    assert describe_ignored({".gif": 2, "hidden": 1}) == [
        "ignored, because not read as images: 2 .gif, 1 hidden"
    ]
    remote = ["a.png", "b.dcm", "@eaDir/a.png", "@eaDir/b.png", "x/.c/d.png"]
    assert select_images("gs://x", remote) == (["a.png"], {".dcm": 1, "@eaDir": 1, "hidden": 1})


def test_the_preview_in_a_cameras_jpeg_is_no_second_image(tmp_path):
    preview = Image.fromarray(GREY[:4, :4])
    Image.fromarray(GREY).save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=[preview])
    with Image.open(tmp_path / "x.jpg") as image:
        assert image.n_frames == 2
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_image(tmp_path / "x.jpg"), expected)


@pytest.mark.parametrize("name", ["x.tif", "x.webp", "x.png"])
def test_several_frames_are_refused(name, tmp_path):
    frames = [Image.fromarray(np.roll(RGB, i)) for i in range(3)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    with pytest.raises(UnreadableImageError, match="3 frames"):
        read_image(tmp_path / name)


def test_listing_is_nested_sorted_and_passes_over_what_is_no_image(tmp_path):
    for name in (
        "b.png", "a.PNG", "c/d/e.tiff", "Ü.jpg", "notes.txt", "._b.png", ".hidden/x.png",
        "__MACOSX/x.png", "c/Thumbs.db",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert list_images(tmp_path) == ["a.PNG", "b.png", "c/d/e.tiff", "Ü.jpg"]


def test_listing_follows_links_but_not_in_circles(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "x.png").write_bytes(b"")
    (tmp_path / "images" / "again").symlink_to(tmp_path / "images")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "link").symlink_to(tmp_path / "images")
    assert list_images(tmp_path / "images") == ["x.png"]
    assert list_images(tmp_path / "set") == ["link/x.png"]
    (tmp_path / "images" / "up").symlink_to(tmp_path)
    assert list_images(tmp_path / "images") == ["x.png"]


def test_a_link_to_itself_is_an_image_that_cannot_be_read(tmp_path):
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert list_images(tmp_path) == ["loop.png"]
    with pytest.raises(UnreadableImageError, match=r"loop\.png"):
        read_image(tmp_path / "loop.png")


def test_a_folder_named_like_an_image_is_a_folder(tmp_path):
    (tmp_path / "study.png").mkdir()
    (tmp_path / "study.png" / "a.png").write_bytes(b"")
    assert list_images(tmp_path) == ["study.png/a.png"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "contains no image files"),
        (["a.txt"], "contains no image files"),
    ],
)
def test_folders_that_cannot_serve(files, message, tmp_path):
    for name in files:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=message):
        list_images(tmp_path)


def test_no_folder_at_all(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="no such folder"):
        list_images(tmp_path / "missing")
    with pytest.raises(DataError, match="is a file"):
        list_images(tmp_path / "file")


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(0, 1, "f4"), (-1, 1, "f2"), (-1.02, 1.03, "f8"), (0, 255, "f4"), (3, 250, "i8"),
     (-32768, 32767, "i2"), (0, 65535, "u2"), (0, 1, "?")],
)  # fmt: skip
def test_the_advice_gives_images_with_contrast(low, high, dtype):
    x = np.linspace(low, high, 300).reshape(15, 20).astype(dtype)
    with pytest.raises(DataError, match="expected uint8 from 0 to 255; ") as error:
        check_pixels(x, "x")
    assert f"x: pixels are {x.dtype} from {float(x.min()):.4g} to " in str(error.value)
    found = eval(
        str(error.value).rpartition("convert: ")[2], {"np": np, "x": x, "low": low, "high": high}
    )
    assert found.dtype == np.uint8
    assert np.ptp(found) > 200
    assert (np.diff(found.reshape(-1).astype(int)) >= 0).all()


def test_the_advice_goes_by_all_images_of_a_batch():
    batch = np.stack([np.zeros((4, 4)), np.full((4, 4), 200.0)])
    with pytest.raises(DataError, match=r"from 0 to 200, .*; round and convert"):
        open_source(batch, "x")
    with pytest.raises(DataError, match="NaN or infinity"):
        open_source(batch * np.nan, "x")
    with pytest.raises(DataError, match=r"expected uint8 from 0 to 255$"):
        open_source(batch.astype(str), "x")


def test_check_pixels():
    assert check_pixels(GREY[..., None], "x").shape == (11, 17)
    assert check_pixels(RGB, "x") is not None
    for wrong in (GREY.astype(float), GREY[0], RGB[..., :2], GREY[:0]):
        with pytest.raises(DataError, match="x: "):
            check_pixels(wrong, "x")
