"""What radiographs suffer: motion, low dose, scatter, compression, grid lines, mirroring.

Low dose, scatter and grid lines act on what the detector counts, and grey levels tell that only
with a model of the display. This one is assumed for every image: grey is linear in the logarithm of
the signal, as computed and digital radiography store it, black the most photons and white (bone)
the fewest; black and white lie `BLACK_TO_WHITE` nepers apart; the image is `FIELD` millimetres
high; middle grey received `PHOTONS` per square millimetre. A real display's curve and edge
enhancement are unknown from 8-bit pixels, so the settings are of the right order, not a dosimetry.
Form of the functions: see `disturbances_heusel`.
"""

import io
import math

import numpy as np
from PIL import Image
from scipy import signal

# A factor of 16 between the signals shown black and white; the phantom's chests show the same.
BLACK_TO_WHITE = 2.8
FIELD = 400.0
# 2.5 microgray at the detector (exposure index 250, IEC 62494-1), 30174 photons per square
# millimetre and microgray (RQA5, IEC 62220-1), detected with a quantum efficiency of 0.6.
PHOTONS = 2.5 * 30174 * 0.6
GREY_PER_NEPER = 255 / BLACK_TO_WHITE
GRID_LINES = 60  # that are seen over the image's height, coarser than the grid's own by aliasing
GRID_PERIOD_MIN = 4.0  # pixels, so that small images show lines and no new moire
GRID_TILT = 2.0  # degrees
_GREY = np.arange(256)


def _motion_settings(level, height, width, unit):
    length = level * unit
    return {"path_pixels": length, "sd_along_path_pixels": length / math.sqrt(12)}


def _motion(planes, settings, rng):
    kernel = _path(settings["path_pixels"], rng.uniform(0, math.pi))
    reach = kernel.shape[0] // 2
    padded = np.pad(planes.astype(np.float32), ((reach, reach), (reach, reach), (0, 0)), "edge")
    return signal.fftconvolve(padded, kernel[..., None], mode="valid", axes=(0, 1))


def _path(length, direction):
    """Float32 [2r+1, 2r+1] of sum 1: time spent by a point that moves evenly through the middle."""
    reach = math.ceil(length / 2) + 1
    steps = 16 * math.ceil(length) + 1
    along = ((np.arange(steps) + 0.5) / steps - 0.5) * length
    y, x = reach + along * math.sin(direction), reach + along * math.cos(direction)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    row, column = np.floor(y).astype(int), np.floor(x).astype(int)
    for i in (0, 1):
        for j in (0, 1):
            share = np.abs(1 - i - (y - row)) * np.abs(1 - j - (x - column))
            np.add.at(kernel, (row + i, column + j), share)
    return (kernel / kernel.sum()).astype(np.float32)


def _dose_settings(level, height, width, unit):
    share = 2.0**-level
    photons = PHOTONS * (FIELD / height) ** 2
    return {
        "dose_share": share,
        "photons_per_pixel_middle_grey": photons * share,
        "noise_sd_grey_levels_middle_grey": GREY_PER_NEPER
        * math.sqrt((1 - share) / (share * photons)),
    }


def _low_dose(planes, settings, rng):
    share = settings["dose_share"]
    full = settings["photons_per_pixel_middle_grey"] / share
    counts = np.maximum(np.rint(full * _signal(_GREY)), 1).astype(np.int64)
    # Thinning gives the counts of the lower dose without the noise in the image counting twice.
    kept = rng.binomial(counts[planes], share)
    seen = np.log(np.maximum(kept, 0.5, dtype=np.float32))
    expected = np.log(counts * share).astype(np.float32)
    return planes - np.float32(GREY_PER_NEPER) * (seen - expected[planes])


def _contrast_settings(level, height, width, unit):
    return {"scatter_fraction": level, "contrast_factor_at_mean_signal": 1 - level}


def _contrast_loss(planes, settings, rng):
    fraction = settings["scatter_fraction"]
    received = _signal(_GREY)
    mean = received @ np.bincount(planes.reshape(-1), minlength=256) / planes.size
    veiled = (1 - fraction) * received + fraction * mean
    return _shown(veiled)[planes]


def _jpeg_settings(level, height, width, unit):
    return {"pillow_quality": max(1, round(100 - level))}


def _jpeg(planes, settings, rng):
    grey = planes.shape[-1] == 1
    file = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(planes[..., 0] if grey else planes))
    image.save(file, format="JPEG", quality=settings["pillow_quality"])
    with Image.open(file) as stored:
        return np.atleast_3d(np.asarray(stored))


def _grid_settings(level, height, width, unit):
    return {
        "modulation": level,
        "period_pixels": max(height / GRID_LINES, GRID_PERIOD_MIN),
        "amplitude_grey_levels": GREY_PER_NEPER * level,
    }


def _grid(planes, settings, rng):
    quarter, tilt, phase = rng.integers(0, 2), rng.uniform(-1, 1), rng.random()
    angle = math.radians(90 * quarter + GRID_TILT * tilt)
    y, x = np.ogrid[: planes.shape[0], : planes.shape[1]]
    turns = (y * math.sin(angle) + x * math.cos(angle)) / settings["period_pixels"] + phase
    # One period, looked up: the cosine of every pixel costs more than all the rest.
    wave = -GREY_PER_NEPER * np.log1p(
        settings["modulation"] * np.cos(2 * math.pi * np.arange(1024) / 1024)
    )
    place = np.floor(turns * 1024).astype(np.int32) & 1023
    return planes + wave.astype(np.float32)[place][..., None]


def _flip_settings(level, height, width, unit):
    return {"probability_mirrored": level}


def _flip(planes, settings, rng):
    return planes[:, ::-1] if rng.random() < settings["probability_mirrored"] else planes


def _signal(grey):
    """Signal of grey levels, 1 at middle grey."""
    return np.exp(BLACK_TO_WHITE * (0.5 - np.asarray(grey) / 255))


def _shown(received):
    """Grey levels, float32, of signals: the inverse of `_signal`."""
    return (127.5 - GREY_PER_NEPER * np.log(received)).astype(np.float32)


WORK = {
    "motion_blur": (_motion_settings, _motion),
    "low_dose": (_dose_settings, _low_dose),
    "contrast_loss": (_contrast_settings, _contrast_loss),
    "jpeg_compression": (_jpeg_settings, _jpeg),
    "grid_artefact": (_grid_settings, _grid),
    "wrong_laterality": (_flip_settings, _flip),
}
