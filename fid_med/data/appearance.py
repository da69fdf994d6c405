"""Recognises images without content: nearly black, nearly white, or of one grey value."""

import numpy as np

# What `appearance` returns, by its number.
ORDINARY, BLACK, WHITE, UNIFORM = range(4)
# A radiograph with much black background has a mean above 15; images of 0 to 1 in place of 0 to 255
# have one below 1.
DARK_MEAN = 8
# 12-bit data that is stored in 16 bits without scaling has no grey value above a sixteenth of 256.
DARK_RANGE = 16
# Standard deviation, in grey values, of an image of one grey value with compression noise.
UNIFORM_SPREAD = 2
_SAMPLED = 64


def appearance(image: np.ndarray) -> int:
    """Looks at a grid of about 64 x 64 pixels of an image, which takes microseconds.

    Args:
      image: uint8 [H, W] or [H, W, 3].

    Returns:
      `BLACK` or `WHITE` if the mean is less than `DARK_MEAN` from 0 or 255, or every value less
      than `DARK_RANGE`; else `UNIFORM` if the standard deviation is below `UNIFORM_SPREAD`; else
      `ORDINARY`.
    """
    rows, columns = (max(1, size // _SAMPLED) for size in image.shape[:2])
    sample = image[rows // 2 :: rows, columns // 2 :: columns]
    mean = sample.mean()
    if mean < DARK_MEAN or sample.max() < DARK_RANGE:
        return BLACK
    if mean > 255 - DARK_MEAN or sample.min() > 255 - DARK_RANGE:
        return WHITE
    return UNIFORM if sample.std() < UNIFORM_SPREAD else ORDINARY
