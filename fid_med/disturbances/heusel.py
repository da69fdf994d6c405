"""The six disturbances of Heusel et al., NeurIPS 2017, appendix A1."""

import math

import numpy as np
from scipy import ndimage

from fid_med.disturbances.disturbance import Disturbance

PAPER_HEIGHT = 64  # height in pixels of the paper's images (CelebA)
NOISE_RANGE = 6.0  # standard deviations from middle grey to black, and to white
NUM_RECTANGLES = 5
SWIRL_RADIUS = 25.0  # in units of the length scale
SWIRL_BORDER = (3, 4)  # unchanged pixels: top and left, bottom and right
_REFERENCE = "Heusel et al., NeurIPS 2017, appendix A1"


def _noise_settings(level, height, width, unit):
    return {
        "noise_share": level,
        "noise_mean_grey_levels": 127.5,
        "noise_sd_grey_levels": level * 127.5 / NOISE_RANGE,
    }


def _noise(planes, settings, rng):
    # The paper scales by the extremes of the whole set. A fixed range keeps images independent.
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


def _rectangles_settings(level, height, width, unit):
    return {
        "rectangles": NUM_RECTANGLES,
        "height_pixels": int(height * level),
        "width_pixels": int(width * level),
    }


def _rectangles(planes, settings, rng):
    planes = planes.copy()
    high, wide = settings["height_pixels"], settings["width_pixels"]
    free = np.array([planes.shape[0] - high, planes.shape[1] - wide]) + 1
    # Uniform over the positions inside the image. Scaling one draw by the number of positions
    # keeps the rectangles of a lower level inside those of a higher one.
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
    # As in scikit-image: the angle decays to a thousandth of the strength at about the radius.
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


def _salt_and_pepper_settings(level, height, width, unit):
    return {"probability_black": level / 2, "probability_white": level / 2}


def _salt_and_pepper(planes, settings, rng):
    draw = rng.random((*planes.shape[:2], 1), dtype=np.float32)
    white = rng.integers(0, 2, draw.shape, dtype=np.uint8) * np.uint8(255)
    changed = draw < settings["probability_black"] + settings["probability_white"]
    return np.where(changed, white, planes)


def _contamination_settings(level, height, width, unit):
    return {"share_of_images": level}


DISTURBANCES = (
    Disturbance(
        name="gaussian_noise",
        levels=(0.0, 0.25, 0.5, 0.75),
        unit="share of noise",
        description=(
            "The image fades into Gaussian noise: (1 - a) X + a N, with black and white at -6 and "
            "+6 standard deviations of N."
        ),
        reference=_REFERENCE,
        settings=_noise_settings,
        apply=_noise,
        limit=1.0,
    ),
    Disturbance(
        name="gaussian_blur",
        levels=(0.0, 1.0, 2.0, 4.0),
        unit="sigma, pixels of the scale",
        description="The image is convolved with a Gaussian of standard deviation a.",
        reference=_REFERENCE,
        settings=_blur_settings,
        apply=_blur,
    ),
    Disturbance(
        name="black_rectangles",
        levels=(0.0, 0.25, 0.5, 0.75),
        unit="share of height and width",
        description=(
            "Five rectangles at random places, each a times the image's height and width, are "
            "filled with black."
        ),
        reference=_REFERENCE,
        settings=_rectangles_settings,
        apply=_rectangles,
        limit=1.0,
    ),
    Disturbance(
        name="swirl",
        levels=(0.0, 1.0, 2.0, 4.0),
        unit="strength, radians at the centre",
        description=(
            "The image is twisted about its centre by a radians, left or right, fading out within "
            "the radius."
        ),
        reference=_REFERENCE,
        settings=_swirl_settings,
        apply=_swirl,
    ),
    Disturbance(
        name="salt_and_pepper",
        levels=(0.0, 0.1, 0.2, 0.3),
        unit="probability of a pixel",
        description="Each pixel becomes black or white, evenly, with probability a.",
        reference=_REFERENCE,
        settings=_salt_and_pepper_settings,
        apply=_salt_and_pepper,
        limit=1.0,
    ),
    Disturbance(
        name="contamination",
        levels=(0.0, 0.25, 0.5, 0.75),
        unit="share of the images",
        description="That share of the images is replaced by images of another domain.",
        reference=_REFERENCE,
        settings=_contamination_settings,
        apply=None,
        limit=1.0,
    ),
)
