"""Tests augmentation against the same transformation computed with SciPy."""

import numpy as np
import pytest
from scipy import ndimage

from fid_med.errors import SettingError
from fid_med.training.augmentation import NUM_DRAWS, Augmentation


def smooth(count, height, width, channels=1):
    noise = np.random.default_rng(0).uniform(0, 255, (count, height, width, channels))
    return ndimage.gaussian_filter(noise, (0, 2, 2, 0)).astype(np.float32)


def transform_with_scipy(image, augmentation, draws):
    """Returns one augmented channel [h, w] and the source coordinates of its pixels."""
    height, width = image.shape
    angle = np.radians((2 * draws[0] - 1) * augmentation.rotation)
    share = 1 - draws[1] * (1 - augmentation.crop)
    y, x = np.mgrid[0:height, 0:width].astype(float)
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    down, right = (draws[2:4] - 0.5) * (1 - share) * (height - 1, width - 1)
    down += (2 * draws[4] - 1) * augmentation.translation * height
    right += (2 * draws[5] - 1) * augmentation.translation * width
    if augmentation.flip and draws[6] < 0.5:
        x = x[:, ::-1]
    from_y = share * (np.cos(angle) * y + np.sin(angle) * x) + (height - 1) / 2 + down
    from_x = share * (np.cos(angle) * x - np.sin(angle) * y) + (width - 1) / 2 + right
    moved = ndimage.map_coordinates(image, [from_y, from_x], order=1, cval=0.0)
    return moved, from_y, from_x


def uniform(count, seed=0):
    return np.random.default_rng(seed).random((count, NUM_DRAWS)).astype(np.float32)


def draws_of(*first):
    """Draws of one image: the first as given, the others 0.5, which changes nothing."""
    return np.float32([[*first, *[0.5] * (NUM_DRAWS - len(first))]])


@pytest.mark.parametrize("size", [(40, 40), (30, 52)], ids=str)
@pytest.mark.parametrize(
    ("rotation", "crop", "translation", "flip"),
    [
        (25.0, 1.0, 0.0, False),
        (0.0, 0.6, 0.0, False),
        (40.0, 0.7, 0.0, False),
        (0.0, 1.0, 0.2, False),
        (15.0, 0.8, 0.1, True),
    ],
)
def test_images_are_transformed_as_drawn(size, rotation, crop, translation, flip):
    images = smooth(16, *size) + 20
    draws = uniform(16, seed=1)
    augmentation = Augmentation(rotation, crop, translation, flip)
    obtained = augmentation.apply(images, draws).numpy()
    height, width = size
    num_outside = 0
    for i in range(16):
        expected, y, x = transform_with_scipy(
            images[i, ..., 0], augmentation, draws[i].astype(float)
        )
        inside = (y >= 0) & (y <= height - 1) & (x >= 0) & (x <= width - 1)
        outside = (y <= -1) | (y >= height) | (x <= -1) | (x >= width)
        assert inside.mean() > 0.5
        # Within one pixel of the edge, the two implementations fade to black differently.
        np.testing.assert_allclose(obtained[i, ..., 0][inside], expected[inside], atol=0.05)
        assert not obtained[i, ..., 0][outside].any()
        num_outside += outside.sum()
    assert (num_outside > 0) == (rotation > 0 or translation > 0)


def test_flip_mirrors_half_of_the_images_left_to_right():
    images = smooth(200, 8, 12)
    obtained = Augmentation(0.0, 1.0, flip=True).apply(images, uniform(200)).numpy()
    mirrored = np.abs(obtained - images[:, :, ::-1]).max(axis=(1, 2, 3)) < 1e-3
    untouched = np.abs(obtained - images).max(axis=(1, 2, 3)) < 1e-3
    assert (mirrored ^ untouched).all()
    assert 70 < mirrored.sum() < 130


def test_flip_and_grey_level_changes_are_off_by_default():
    assert not Augmentation().flip
    images = smooth(8, 16, 16)
    draws = uniform(8)
    again = draws.copy()
    again[:, 6:] = 1 - again[:, 6:]
    plain = Augmentation(10.0, 0.85, 0.1)
    np.testing.assert_array_equal(plain.apply(images, draws), plain.apply(images, again))


@pytest.mark.parametrize(
    ("settings", "draw", "expected"),
    [
        ({"brightness": 0.2}, (7, 1.0), lambda x: x + 0.2),
        ({"brightness": 0.2}, (7, 0.25), lambda x: x - 0.1),
        ({"contrast": 0.4}, (8, 1.0), lambda x: (x - 0.5) * 1.4 + 0.5),
        ({"contrast": 0.4}, (8, 0.0), lambda x: (x - 0.5) * 0.6 + 0.5),
        ({"gamma": 1.0}, (9, 1.0), lambda x: x**2),
        ({"gamma": 1.0}, (9, 0.0), np.sqrt),
    ],
)
def test_grey_levels_change_as_drawn(settings, draw, expected):
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    draws = draws_of()
    draws[0, draw[0]] = draw[1]
    obtained = Augmentation(0.0, 1.0, **settings).apply(pixels, draws).numpy()
    np.testing.assert_allclose(obtained, 255 * np.clip(expected(pixels / 255), 0, 1), atol=0.01)


def test_areas_outside_the_image_stay_black_when_brightness_changes():
    images = np.full((1, 20, 20, 1), 100, np.uint8)
    draws = draws_of(1.0)
    draws[0, 7] = 1.0
    obtained = Augmentation(45.0, 1.0, brightness=0.2).apply(images, draws).numpy()
    assert obtained[0, 0, 0, 0] == 0
    assert obtained[0, 10, 10, 0] == pytest.approx(151, abs=0.01)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"crop": 0}, "crop"),
        ({"crop": 1.1}, "crop"),
        ({"rotation": -1}, "rotation"),
        ({"translation": 1}, "translation"),
        ({"brightness": -0.1}, "brightness"),
        ({"contrast": 1}, "contrast"),
        ({"gamma": float("nan")}, "gamma"),
    ],
)
def test_settings_out_of_range_are_errors(settings, name):
    with pytest.raises(SettingError, match=name):
        Augmentation(**settings)


def test_no_rotation_and_no_crop_is_the_identity_for_any_draws():
    images = smooth(8, 21, 34)
    draws = uniform(8)
    np.testing.assert_allclose(Augmentation(0.0, 1.0).apply(images, draws), images, atol=1e-3)


def test_angles_range_from_minus_to_plus_rotation():
    images = smooth(1, 41, 41)
    turn = Augmentation(90.0, 1.0)
    half = draws_of(0.5, 0.0, 0.0, 0.0)
    low, high = half.copy(), half.copy()
    low[0, 0], high[0, 0] = 0.0, 1.0
    np.testing.assert_allclose(turn.apply(images, half), images, atol=1e-3)
    quarter = {k: np.rot90(images[0, ..., 0], k) for k in (1, -1)}
    found = [turn.apply(images, draw).numpy()[0, 1:-1, 1:-1, 0] for draw in (low, high)]
    k = 1 if np.abs(found[0] - quarter[1][1:-1, 1:-1]).max() < 0.1 else -1
    np.testing.assert_allclose(found[0], quarter[k][1:-1, 1:-1], atol=0.05)
    np.testing.assert_allclose(found[1], quarter[-k][1:-1, 1:-1], atol=0.05)


def test_a_crop_contains_nothing_outside_the_image():
    images = np.full((64, 32, 32, 1), 100, np.uint8)
    draws = uniform(64)
    # The extreme draws as well: crops at the edges.
    draws[:4, 1:4] = [[1, 0, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1]]
    obtained = Augmentation(0.0, 0.4).apply(images, draws).numpy()
    np.testing.assert_allclose(obtained, 100, atol=1e-3)


def test_channels_of_an_image_share_their_transformation_and_images_do_not():
    images = smooth(2, 24, 24, 3)
    images[1] = images[0]
    draws = np.concatenate([draws_of(0.9, 0.5, 0.2, 0.7), draws_of(0.1, 0.5, 0.2, 0.7)])
    augmentation = Augmentation(20.0, 0.8)
    obtained = augmentation.apply(images, draws).numpy()
    for channel in range(3):
        alone = augmentation.apply(images[..., channel : channel + 1], draws).numpy()
        np.testing.assert_allclose(obtained[..., channel], alone[..., 0], atol=1e-3)
    assert np.abs(obtained[0] - obtained[1]).max() > 5


def test_eight_bit_pixels_are_interpolated_in_float():
    images = smooth(4, 24, 24).astype(np.uint8)
    draws = uniform(4)
    obtained = Augmentation().apply(images, draws).numpy()
    assert obtained.dtype == np.float32
    assert obtained.min() >= 0
    assert obtained.max() <= images.max()
    expected = Augmentation().apply(images.astype(np.float32), draws).numpy()
    np.testing.assert_array_equal(obtained, expected)
    assert (obtained % 1 != 0).any()
