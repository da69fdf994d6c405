"""Six disturbances of radiographs: motion, low dose, scatter, JPEG, grid lines, mirroring.

Low dose, scatter and grid lines act on the photons that the detector counts. To get from grey
levels to photons, the same model of the display is assumed for every image:

* Grey is linear in the logarithm of the signal, as computed and digital radiography store it.
  Black received the most photons and white (bone) the fewest.
* The signals of black and white differ by `BLACK_TO_WHITE` nepers.
* The image is `FIELD` millimetres high.
* Middle grey received `PHOTONS` photons per square millimetre.

The true display curve and edge enhancement cannot be recovered from 8-bit pixels. The settings
therefore have the right order of magnitude, but are not dosimetry.
"""

import io
import math

import numpy as np
from PIL import Image

from fid_med.disturbances.disturbance import Disturbance

# A factor of 16 between the signals of black and white, as in the phantom's chests.
BLACK_TO_WHITE = 2.8
FIELD = 400.0
# 2.5 microgray at the detector (exposure index 250, IEC 62494-1), 30174 photons per square
# millimetre and microgray (RQA5, IEC 62220-1), detected with a quantum efficiency of 0.6.
PHOTONS = 2.5 * 30174 * 0.6
GREY_PER_NEPER = 255 / BLACK_TO_WHITE
GRID_LINES = 60  # visible over the image's height; aliasing makes them coarser than the grid's own
GRID_PERIOD_MIN = 4.0  # pixels, so that small images show lines without further moire
GRID_TILT = 2.0  # degrees
_GREY = np.arange(256)


def _motion_settings(level, height, width, unit):
    length = level * unit
    return {"path_pixels": length, "sd_along_path_pixels": length / math.sqrt(12)}


def _motion(planes, settings, rng):
    # Imported here because scipy.signal takes a second, and --help loads this module.
    from scipy import signal

    kernel = _motion_kernel(settings["path_pixels"], rng.uniform(0, math.pi))
    reach = kernel.shape[0] // 2
    padded = np.pad(planes.astype(np.float32), ((reach, reach), (reach, reach), (0, 0)), "edge")
    return signal.fftconvolve(padded, kernel[..., None], mode="valid", axes=(0, 1))


def _motion_kernel(length, direction):
    """Returns the time a point spends in each pixel of a straight path at constant speed.

    The path is centred. The kernel is float32 [2r+1, 2r+1] and sums to 1.
    """
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


def _low_dose_settings(level, height, width, unit):
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
    # Thinning gives the counts at the lower dose without counting the image's own noise twice.
    kept = rng.binomial(counts[planes], share)
    seen = np.log(np.maximum(kept, 0.5, dtype=np.float32))
    expected = np.log(counts * share).astype(np.float32)
    return planes - np.float32(GREY_PER_NEPER) * (seen - expected[planes])


def _contrast_loss_settings(level, height, width, unit):
    return {"scatter_fraction": level, "contrast_factor_at_mean_signal": 1 - level}


def _contrast_loss(planes, settings, rng):
    fraction = settings["scatter_fraction"]
    received = _signal(_GREY)
    mean = received @ np.bincount(planes.reshape(-1), minlength=256) / planes.size
    veiled = (1 - fraction) * received + fraction * mean
    return _grey(veiled)[planes]


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
    # A table of one period: computing a cosine per pixel would take most of the time.
    wave = -GREY_PER_NEPER * np.log1p(
        settings["modulation"] * np.cos(2 * math.pi * np.arange(1024) / 1024)
    )
    place = np.floor(turns * 1024).astype(np.int32) & 1023
    return planes + wave.astype(np.float32)[place][..., None]


def _mirroring_settings(level, height, width, unit):
    return {"probability_mirrored": level}


def _mirror(planes, settings, rng):
    return planes[:, ::-1] if rng.random() < settings["probability_mirrored"] else planes


def _signal(grey):
    """Returns the signal of grey levels, 1 at middle grey."""
    return np.exp(BLACK_TO_WHITE * (0.5 - np.asarray(grey) / 255))


def _grey(received):
    """Returns the float32 grey levels of signals: the inverse of `_signal`."""
    return (127.5 - GREY_PER_NEPER * np.log(received)).astype(np.float32)


DISTURBANCES = (
    Disturbance(
        name="motion_blur",
        levels=(0.0, 1.0, 2.0, 4.0),
        unit="path, pixels of the scale",
        description=(
            "The patient moves on a straight path of length a, in a random direction, during the "
            "exposure."
        ),
        reference="uniform motion: a box along the path, of standard deviation length / sqrt(12)",
        settings=_motion_settings,
        apply=_motion,
    ),
    Disturbance(
        name="low_dose",
        levels=(0.0, 3.0, 6.0, 9.0),
        unit="halvings of the dose",
        description=(
            "Each photon that the detector counted is kept with probability 2^-a, and the image is "
            "brought back to its brightness."
        ),
        reference=(
            "after Veldkamp et al., J Digit Imaging 2009; the noise is drawn by thinning the counts"
        ),
        settings=_low_dose_settings,
        apply=_low_dose,
    ),
    Disturbance(
        name="contrast_loss",
        levels=(0.0, 0.1, 0.3, 0.6),
        unit="scatter fraction",
        description=(
            "A veil of scattered radiation makes up the share a of all that the detector receives; "
            "the exposure stays."
        ),
        reference="contrast factor 1 - a; a up to 0.9 measured by Niklason et al., Med Phys 1981",
        settings=_contrast_loss_settings,
        apply=_contrast_loss,
        limit=0.99,
    ),
    Disturbance(
        name="jpeg_compression",
        levels=(0.0, 60.0, 85.0, 95.0),
        unit="100 - JPEG quality",
        description=(
            "The image is stored as JPEG of quality 100 - a (Pillow's scale) and read back."
        ),
        reference=(
            "ISO/IEC 10918-1; radiographs bear about 10:1 unseen: Slone et al., Radiology 2000"
        ),
        settings=_jpeg_settings,
        apply=_jpeg,
        limit=99.0,
    ),
    Disturbance(
        name="grid_artefact",
        levels=(0.0, 0.03, 0.1, 0.3),
        unit="modulation of the signal",
        description=(
            "The lines of a stationary anti-scatter grid modulate the detector's signal by a, near "
            "upright or level."
        ),
        reference=(
            "grid lines and their moire in digital radiographs: Lin et al., J Digit Imaging 2006"
        ),
        settings=_grid_settings,
        apply=_grid,
        limit=0.99,
    ),
    Disturbance(
        name="wrong_laterality",
        levels=(0.0, 0.25, 0.5, 1.0),
        unit="probability of an image",
        description="Each image is mirrored left to right with probability a.",
        reference="side marker and anatomy swapped, as where a radiograph is stored mirrored",
        settings=_mirroring_settings,
        apply=_mirror,
        limit=1.0,
    ),
)
