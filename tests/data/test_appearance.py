"""Images without content are recognised, and radiographs are not taken for such."""

import numpy as np
import pytest

from fid_med.data.appearance import BLACK, ORDINARY, UNIFORM, WHITE, appearance

SHAPE = (150, 190)


def noise(mean, spread, shape=SHAPE):
    values = np.random.default_rng(0).normal(mean, spread, shape)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def framed():
    """A bright object on a tenth of a black image, as a finger in a wide field."""
    image = np.zeros(SHAPE, np.uint8)
    image[40:95, 60:112] = noise(170, 30, (55, 52))
    return image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.zeros(SHAPE, np.uint8), BLACK),
        (np.ones((*SHAPE, 3), np.uint8), BLACK),  # 0 to 1 in place of 0 to 255
        (noise(2000, 900) // 16, BLACK),  # 12-bit data in 16 bits
        (np.full(SHAPE, 255, np.uint8), WHITE),
        (noise(252, 2), WHITE),
        (np.full((8, 8), 120, np.uint8), UNIFORM),
        (noise(120, 1), UNIFORM),
        (noise(120, 6), ORDINARY),
        (noise(30, 12), ORDINARY),
        (framed(), ORDINARY),
        (np.arange(256, dtype=np.uint8).reshape(1, 256), ORDINARY),
    ],
)
def test_what_an_image_looks_like(image, expected):
    assert appearance(image) == expected


def test_phantoms_are_ordinary(phantoms):
    assert {appearance(image) for image in phantoms[0]} == {ORDINARY}
