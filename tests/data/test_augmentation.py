"""Augmentation against the same movement computed point by point with SciPy."""

import numpy as np
import pytest
from scipy import ndimage

from fid_med.data.augmentation import NUM_DRAWS, Augmentation


def smooth(count, height, width, channels=1):
    noise = np.random.default_rng(0).uniform(0, 255, (count, height, width, channels))
    return ndimage.gaussian_filter(noise, (0, 2, 2, 0)).astype(np.float32)


def by_hand(image, augmentation, draws):
    """One channel [h, w] moved as the draws say, and where its points come from."""
    height, width = image.shape
    angle = np.radians((2 * draws[0] - 1) * augmentation.rotation)
    share = 1 - draws[1] * (1 - augmentation.crop)
    y, x = np.mgrid[0:height, 0:width].astype(float)
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    down, right = (draws[2:] - 0.5) * (1 - share) * (height, width)
    from_y = share * (np.cos(angle) * y + np.sin(angle) * x) + (height - 1) / 2 + down
    from_x = share * (np.cos(angle) * x - np.sin(angle) * y) + (width - 1) / 2 + right
    moved = ndimage.map_coordinates(image, [from_y, from_x], order=1, cval=0.0)
    return moved, from_y, from_x


@pytest.mark.parametrize("size", [(40, 40), (30, 52)], ids=str)
@pytest.mark.parametrize(("rotation", "crop"), [(25.0, 1.0), (0.0, 0.6), (40.0, 0.7)])
def test_any_draw_moves_each_image_as_told(size, rotation, crop):
    images = smooth(16, *size) + 20
    draws = np.random.default_rng(1).random((16, NUM_DRAWS)).astype(np.float32)
    augmentation = Augmentation(rotation, crop)
    obtained = augmentation.apply(images, draws).numpy()
    height, width = size
    num_outside = 0
    for i in range(16):
        expected, y, x = by_hand(images[i, ..., 0], augmentation, draws[i].astype(float))
        inside = (y >= 0) & (y <= height - 1) & (x >= 0) & (x <= width - 1)
        outside = (y <= -1) | (y >= height) | (x <= -1) | (x >= width)
        assert inside.mean() > 0.5
        # Within the last pixel both fade to black, each its own way.
        np.testing.assert_allclose(obtained[i, ..., 0][inside], expected[inside], atol=0.05)
        assert not obtained[i, ..., 0][outside].any()
        num_outside += outside.sum()
    assert (num_outside > 0) == (rotation > 0)


def test_identity_without_rotation_and_crop_for_any_draw():
    images = smooth(8, 21, 34)
    draws = np.random.default_rng(0).random((8, NUM_DRAWS)).astype(np.float32)
    np.testing.assert_allclose(Augmentation(0.0, 1.0).apply(images, draws), images, atol=1e-3)


def test_draws_span_the_angles_from_minus_to_plus():
    images = smooth(1, 41, 41)
    turn = Augmentation(90.0, 1.0)
    half = np.array([[0.5, 0.0, 0.0, 0.0]], np.float32)
    low, high = half.copy(), half.copy()
    low[0, 0], high[0, 0] = 0.0, 1.0
    np.testing.assert_allclose(turn.apply(images, half), images, atol=1e-3)
    quarter = {k: np.rot90(images[0, ..., 0], k) for k in (1, -1)}
    found = [turn.apply(images, draw).numpy()[0, 1:-1, 1:-1, 0] for draw in (low, high)]
    k = 1 if np.abs(found[0] - quarter[1][1:-1, 1:-1]).max() < 0.1 else -1
    np.testing.assert_allclose(found[0], quarter[k][1:-1, 1:-1], atol=0.05)
    np.testing.assert_allclose(found[1], quarter[-k][1:-1, 1:-1], atol=0.05)


def test_a_crop_brings_in_nothing_from_outside():
    images = np.full((64, 32, 32, 1), 100, np.uint8)
    draws = np.random.default_rng(0).random((64, NUM_DRAWS)).astype(np.float32)
    # All corners of the draws too: places at the very edges.
    draws[:4, 1:] = [[1, 0, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1]]
    obtained = Augmentation(0.0, 0.4).apply(images, draws).numpy()
    # The window's own edge lies half a pixel outside the centres of its first and last pixels.
    np.testing.assert_allclose(obtained[:, 1:-1, 1:-1], 100, atol=1e-3)
    assert obtained.min() > 40


def test_channels_move_together_and_images_apart():
    images = smooth(2, 24, 24, 3)
    images[1] = images[0]
    draws = np.array([[0.9, 0.5, 0.2, 0.7], [0.1, 0.5, 0.2, 0.7]], np.float32)
    augmentation = Augmentation(20.0, 0.8)
    obtained = augmentation.apply(images, draws).numpy()
    for channel in range(3):
        alone = augmentation.apply(images[..., channel : channel + 1], draws).numpy()
        np.testing.assert_allclose(obtained[..., channel], alone[..., 0], atol=1e-3)
    assert np.abs(obtained[0] - obtained[1]).max() > 5


def test_eight_bit_pixels_come_out_as_floats_between_their_neighbours():
    images = smooth(4, 24, 24).astype(np.uint8)
    draws = np.random.default_rng(0).random((4, NUM_DRAWS)).astype(np.float32)
    obtained = Augmentation().apply(images, draws).numpy()
    assert obtained.dtype == np.float32
    assert obtained.min() >= 0
    assert obtained.max() <= images.max()
    expected = Augmentation().apply(images.astype(np.float32), draws).numpy()
    np.testing.assert_array_equal(obtained, expected)
    assert (obtained % 1 != 0).any()
