"""The disturbances of Heusel et al. 2017 (appendix A1) that are done to one image.

For each a function that turns a level into absolute settings (level, height and width in pixels,
pixels to a unit of the scale) and one that applies them to uint8 [H, W, C] with a generator. The
generator is read alike at every level, so that levels of one image share their random choices.
"""

import math

import numpy as np
from scipy import ndimage

PAPER_HEIGHT = 64  # pixels of the paper's images (CelebA)
NOISE_RANGE = 6.0  # standard deviations from middle grey to black, and to white
NUM_RECTANGLES = 5
SWIRL_RADIUS = 25.0  # in units of the scale
SWIRL_BORDER = (3, 4)  # pixels that stay: top and left, bottom and right


def _noise_settings(level, height, width, unit):
    return {
        "noise_share": level,
        "noise_mean_grey_levels": 127.5,
        "noise_sd_grey_levels": level * 127.5 / NOISE_RANGE,
    }


def _noise(planes, settings, rng):
    # The paper scales by the extremes over the whole set; a fixed range keeps images independent.
    share = np.float32(settings["noise_share"])
    noise = rng.standard_normal((*planes.shape[:2], 1), dtype=np.float32)
    noise = np.clip(127.5 + noise * np.float32(127.5 / NOISE_RANGE), 0, 255)
    return (1 - share) * planes + share * noise


def _blur_settings(level, height, width, unit):
    return {"sigma_pixels": level * unit}


def _blur(planes, settings, rng):
    sigma = settings["sigma_pixels"]
    return ndimage.gaussian_filter(
        planes.astype(np.float32), (sigma, sigma, 0), mode="nearest", truncate=4.0
    )


def _rectangle_settings(level, height, width, unit):
    return {
        "rectangles": NUM_RECTANGLES,
        "height_pixels": int(height * level),
        "width_pixels": int(width * level),
    }


def _rectangles(planes, settings, rng):
    planes = planes.copy()
    high, wide = settings["height_pixels"], settings["width_pixels"]
    free = np.array([planes.shape[0] - high, planes.shape[1] - wide]) + 1
    # Every place within the image alike; a share of the free way keeps smaller ones inside larger.
    for top, left in np.floor(rng.random((NUM_RECTANGLES, 2)) * free).astype(int):
        planes[top : top + high, left : left + wide] = 0
    return planes


def _swirl_settings(level, height, width, unit):
    return {
        "strength_radians": level,
        "radius_pixels": SWIRL_RADIUS * unit,
        "border_top_left_pixels": SWIRL_BORDER[0],
        "border_bottom_right_pixels": SWIRL_BORDER[1],
    }


def _swirl(planes, settings, rng):
    strength = settings["strength_radians"] * (1 if rng.random() < 0.5 else -1)
    height, width = planes.shape[:2]
    middle_y, middle_x = height // 2, width // 2
    y, x = np.ogrid[:height, :width]
    y, x = (y - middle_y).astype(np.float32), (x - middle_x).astype(np.float32)
    # Fades to a thousandth of the strength within about the radius, as scikit-image has it.
    fade = np.float32(settings["radius_pixels"] / 5 * math.log(2))
    angle = np.float32(strength) * np.exp(-np.hypot(y, x) / fade)
    cos, sin = np.cos(angle), np.sin(angle)
    origin = np.stack([middle_y + x * sin + y * cos, middle_x + x * cos - y * sin])
    swirled = np.array(planes, np.float32)
    first, last = SWIRL_BORDER
    inside = np.s_[first : max(first, height - last), first : max(first, width - last)]
    for channel in range(planes.shape[-1]):
        plane = planes[..., channel].astype(np.float32)
        moved = ndimage.map_coordinates(plane, origin, order=1, mode="mirror", prefilter=False)
        swirled[..., channel][inside] = moved[inside]
    return swirled


def _salt_settings(level, height, width, unit):
    return {"probability_black": level / 2, "probability_white": level / 2}


def _salt_and_pepper(planes, settings, rng):
    draw = rng.random((*planes.shape[:2], 1), dtype=np.float32)
    white = rng.integers(0, 2, draw.shape, dtype=np.uint8) * np.uint8(255)
    changed = draw < settings["probability_black"] + settings["probability_white"]
    return np.where(changed, white, planes)


WORK = {
    "gaussian_noise": (_noise_settings, _noise),
    "gaussian_blur": (_blur_settings, _blur),
    "black_rectangles": (_rectangle_settings, _rectangles),
    "swirl": (_swirl_settings, _swirl),
    "salt_and_pepper": (_salt_settings, _salt_and_pepper),
}
