"""Reading images of every kind, and listing them."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fid_med.data.images import check_pixels, list_images, read_image
from fid_med.errors import DataError, UnreadableImageError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (11, 17), dtype=np.uint8)
RGB = RNG.integers(0, 256, (11, 17, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (11, 17, 1), dtype=np.uint8)


def on_black(colour, alpha):
    return np.floor(colour.astype(int) * alpha / 255 + 0.5).astype(np.uint8)


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
    values = RGB.astype(np.uint16) * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 17, 11, 16, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), RGB)


@pytest.mark.parametrize(
    "values",
    [np.full((4, 4), 0.5, np.float32), np.full((4, 4), 70000, np.int32), -np.ones((4, 4), "i4")],
    ids=["float", "over 16 bits", "negative"],
)
def test_pixels_without_a_fixed_range_are_refused(values, tmp_path):
    Image.fromarray(values).save(tmp_path / "x.tif")
    with pytest.raises(UnreadableImageError, match=r"x\.tif"):
        read_image(tmp_path / "x.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation, tmp_path):
    turn = {
        1: lambda x: x, 2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud,
        5: lambda x: np.swapaxes(x, 0, 1), 6: lambda x: np.rot90(x, -1),
        7: lambda x: np.rot90(np.swapaxes(x, 0, 1), 2), 8: np.rot90,
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), turn(RGB))


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
    ],
)
def test_unreadable_files_are_named_in_one_line(name, write, tmp_path):
    write(tmp_path / name)
    with pytest.raises(UnreadableImageError, match=name) as error:
        read_image(tmp_path / name)
    assert "\n" not in str(error.value)


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


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "holds no image"),
        (["a.txt"], "holds no image"),
        (["a.dcm", "b.DCM", "c.png"], "2 DICOM files"),
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


def test_check_pixels():
    assert check_pixels(GREY[..., None], "x").shape == (11, 17)
    assert check_pixels(RGB, "x") is not None
    for wrong in (GREY.astype(float), GREY[0], RGB[..., :2], GREY[:0]):
        with pytest.raises(DataError, match="x: "):
            check_pixels(wrong, "x")
