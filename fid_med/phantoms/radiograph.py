"""Phantoms: procedural radiographs from a seed, for tests, examples and demonstrations.

A patient is built from simple solids (`limbs`, `trunk`). X-rays pass through them (`solids`), and
the transmitted photons are counted, blurred and displayed as in a radiograph: bone bright, air
black. There are six body parts, normal or with a fracture or an implant.
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from fid_med.errors import DataError
from fid_med.phantoms.limbs import elbow, hand, knee
from fid_med.phantoms.solids import LEAD, Fracture, Grid, chain, line_integral, metal
from fid_med.phantoms.trunk import chest, neck, pelvis

ANATOMIES = {
    "elbow": elbow,
    "neck": neck,
    "hand": hand,
    "knee": knee,
    "pelvis": pelvis,
    "chest": chest,
}
BODY_PARTS: tuple[str, ...] = tuple(ANATOMIES)
MIN_SIZE, MAX_SIZE = 16, 4096


class Technique(NamedTuple):
    """How one body part is exposed and displayed.

    Attributes:
      field: length in cm that the shorter side of the image shows.
      middle: centre (x, y) of the field, cm.
      photons: mean count in a pixel without attenuation.
      window: attenuations (line integrals) displayed as black and as white.
      latitude: fraction of the low-frequency contrast that is removed, as digital systems do to
        show thick and thin parts at once; 0 to 1.
      flips: whether some patients face the other way.
      tilt: standard deviation of the rotation, degrees.
      shift: largest displacement in x and in y, cm.
    """

    field: float
    middle: tuple
    photons: float
    window: tuple
    latitude: float
    flips: bool
    tilt: float
    shift: float


# More photons for thicker body parts, as in a clinic's technique charts.
TECHNIQUES = {
    "elbow": Technique(20.0, (0.0, 0.0), 6e3, (0.12, 2.05), 0.25, True, 10.0, 0.6),
    "neck": Technique(25.0, (-0.5, 0.0), 4e4, (1.1, 3.1), 0.45, True, 3.0, 0.5),
    "hand": Technique(24.5, (0.0, -1.6), 4e3, (0.05, 1.05), 0.15, True, 7.0, 0.5),
    "knee": Technique(20.0, (0.0, 0.0), 2e4, (1.0, 2.95), 0.3, True, 4.0, 0.5),
    "pelvis": Technique(38.0, (0.0, 0.0), 1.5e5, (2.5, 4.3), 0.45, False, 2.0, 0.5),
    "chest": Technique(37.0, (0.0, 0.0), 1.2e5, (1.0, 3.8), 0.38, False, 1.5, 0.5),
}
BLUR_CM = 0.025  # standard deviation of the blur by detector and focal spot


class PhantomLabel(NamedTuple):
    """Labels of a phantom.

    Attributes:
      body_part: one of `BODY_PARTS`.
      abnormality: "normal" or "abnormal".
      patient: identifier of the patient, different for every phantom.
    """

    body_part: str
    abnormality: str
    patient: str


def phantom_radiograph(body_part: str, *, abnormal: bool = False, size=256, seed=0) -> np.ndarray:
    """Draws a procedural radiograph.

    ```python
    from fid_med import phantom_radiograph

    image = phantom_radiograph("hand", abnormal=True, size=64, seed=1)
    assert image.shape == (64, 64)
    assert image.dtype == "uint8"
    ```

    Args:
      body_part: "elbow", "neck", "hand", "knee", "pelvis" or "chest".
      abnormal: whether the patient has a fracture or an implant; the seed decides which. The same
        seed gives the same patient with and without it.
      size: height and width in pixels, one int for both or a tuple (height, width); 16 to 4096.
        The shorter side always shows the whole body part.
      seed: a non-negative int, or a tuple of them.

    Returns:
      uint8 [height, width]: air black, bone bright, metal white. The same arguments give the same
      pixels.

    Raises:
      DataError: an unknown body part, or an invalid size or seed.
    """
    size = _checked_size(size)
    if not isinstance(body_part, str) or body_part not in ANATOMIES:
        raise DataError(f"unknown body part {body_part!r}; choose {', '.join(BODY_PARTS)}")
    streams = _streams(seed, body_part)
    technique = TECHNIQUES[body_part]
    tissues = _patient(body_part, abnormal, streams)
    fine = _supersampling(size)
    view = _View(technique, size, fine, streams["view"])
    tissues.append(_marker(view, streams["marker"]))
    attenuation = line_integral(tissues, view.grid, _grain(view.grid, streams["grain"]))
    passed = _binned(np.exp(-attenuation), fine)
    blur = math.hypot(0.45, BLUR_CM / (view.grid.pixel * fine))
    seen = expose(passed, technique.photons, blur, streams["noise"])
    return display(seen + view.exposure, technique.window, technique.latitude) * view.open


def expose(passed, photons, blur, rng):
    """Simulates a photon-counting detector behind the patient.

    Args:
      passed: transmitted fraction of the photons, float [H, W], 0 to 1 (Beer-Lambert law:
        exp(-line integral)).
      photons: mean count in a pixel without attenuation.
      blur: standard deviation of the detector's Gaussian blur, pixels.
      rng: np.random.Generator; each pixel's count is drawn from Poisson(photons * passed).

    Returns:
      float32 [H, W]: the attenuation -log(count / photons), with counts below 0.5 set to 0.5.
      The counts are blurred before the logarithm, so the variance of the noise in a flat region is
      approximately sum(kernel^2) / (photons * passed).
    """
    counts = rng.poisson(photons * passed.astype(np.float64)).astype(np.float32)
    counts = gaussian_filter(counts, blur, mode="nearest", truncate=3.0)
    return -np.log(np.maximum(counts, 0.5) / np.float32(photons))


def display(attenuation, window, latitude):
    """Displays an attenuation as 8-bit grey values.

    Args:
      attenuation: float32 [H, W].
      window: (low, high), the attenuations displayed as black and as white.
      latitude: fraction, 0 to 1, of the attenuation above `low` that is subtracted first, after a
        wide blur.

    Returns:
      uint8 [H, W].
    """
    low, high = window
    height, width = attenuation.shape
    coarse = [max(8, round(32 * side / min(height, width))) for side in (width, height)]
    broad = Image.fromarray(np.clip(attenuation, low, None)).resize(coarse, Image.Resampling.BOX)
    broad = Image.fromarray(gaussian_filter(np.asarray(broad), 2.5, mode="nearest"))
    broad = np.asarray(broad.resize((width, height), Image.Resampling.BICUBIC))
    grey = (attenuation - latitude * (broad - low) - low) / (high - low)
    return np.rint(255.0 * np.clip(grey, 0.0, 1.0)).astype(np.uint8)


def phantom_set(
    count: int, *, size=256, seed=0, body_parts=BODY_PARTS, abnormal_share: float = 0.5
) -> tuple[np.ndarray, list[PhantomLabel]]:
    """Draws a labelled set of phantoms.

    Image i depends on (seed, i) only: a longer set begins with the images of a shorter one. The
    body parts alternate, and the abnormal phantoms of each are evenly distributed.

    ```python
    from fid_med import phantom_set

    images, labels = phantom_set(6, size=64, body_parts=("hand", "knee"))
    assert images.shape == (6, 64, 64)
    assert labels[1].body_part == "knee"
    assert {label.abnormality for label in labels} == {"normal", "abnormal"}
    ```

    Args:
      count: number of phantoms, at least 1.
      size, seed: as for `phantom_radiograph`.
      body_parts: body parts to draw, in the order in which they alternate.
      abnormal_share: fraction of abnormal phantoms within each body part, 0 to 1.

    Returns:
      (images, labels): uint8 [count, height, width], and a list of `PhantomLabel`.

    Raises:
      DataError: as for `phantom_radiograph`, or an invalid count, fraction or body part.
    """
    height, width = _checked_size(size)
    labels = _labels(count, seed, body_parts, abnormal_share)
    images = np.empty((count, height, width), np.uint8)
    for i, label in enumerate(labels):
        images[i] = _item(i, label, size, seed)
    return images, labels


def _item(i, label, size, seed):
    seed = (*_entropy(seed), i)
    abnormal = label.abnormality == "abnormal"
    return phantom_radiograph(label.body_part, abnormal=abnormal, size=size, seed=seed)


def _labels(count, seed, body_parts, abnormal_share):
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise DataError(f"count must be a whole number of at least 1, got {count!r}")
    if not 0.0 <= abnormal_share <= 1.0:
        raise DataError(f"abnormal_share must be between 0 and 1, got {abnormal_share!r}")
    if isinstance(body_parts, str) or not body_parts or not set(body_parts) <= set(BODY_PARTS):
        raise DataError(f"body_parts {body_parts!r}: choose from {', '.join(BODY_PARTS)}")
    name = "-".join(str(number) for number in _entropy(seed))
    labels = []
    for i in range(count):
        turn, part = divmod(i, len(body_parts))
        # Every other body part begins with an abnormal phantom, so that short sets contain some.
        before = turn * abnormal_share + 0.5 * (part % 2) + 1e-9
        abnormal = math.floor(before + abnormal_share) > math.floor(before)
        labels.append(
            PhantomLabel(
                body_parts[part], "abnormal" if abnormal else "normal", f"phantom-{name}-{i:05d}"
            )
        )
    return labels


def _entropy(seed):
    numbers = seed if isinstance(seed, tuple | list) else (seed,)
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 0:
            raise DataError(f"seed must be a non-negative int or a tuple of them, got {seed!r}")
    if not numbers:
        raise DataError("seed must not be an empty tuple")
    return tuple(int(number) for number in numbers)


def _checked_size(size):
    pair = tuple(size) if isinstance(size, tuple | list) else (size, size)
    whole = all(isinstance(side, int | np.integer) and not isinstance(side, bool) for side in pair)
    if len(pair) != 2 or not whole or not all(MIN_SIZE <= side <= MAX_SIZE for side in pair):
        raise DataError(
            f"size must be an int or (height, width) from {MIN_SIZE} to {MAX_SIZE} pixels, "
            f"got {size!r}"
        )
    return int(pair[0]), int(pair[1])


def _streams(seed, body_part):
    """One random generator per step, so that a lesion changes nothing else about the patient."""
    names = ("patient", "lesion", "view", "marker", "grain", "noise")
    part = BODY_PARTS.index(body_part)
    return {
        name: np.random.default_rng(np.random.SeedSequence(_entropy(seed), spawn_key=(part, i)))
        for i, name in enumerate(names)
    }


def _patient(body_part, abnormal, streams):
    """Tissues of one patient, with a fracture or an implant if abnormal."""
    anatomy = ANATOMIES[body_part](streams["patient"])
    tissues = dict(anatomy.tissues)
    rng = streams["lesion"]
    if abnormal and rng.random() < 0.5:
        tissues["implant"] = anatomy.implants[rng.integers(len(anatomy.implants))]
    elif abnormal:
        for site in anatomy.breaks[rng.integers(len(anatomy.breaks))]:
            fracture = _fracture(site, TECHNIQUES[body_part].field, rng)
            tissues[site.bone] = tissues[site.bone]._replace(fracture=fracture)
    return list(tissues.values())


def _fracture(site, field, rng):
    """A fracture at the site, wide enough to be visible in the body part's field."""
    tooth = max(0.14 * site.width, 0.006 * field)
    return Fracture(
        site.x,
        site.y,
        site.angle,
        gap=field * rng.uniform(0.010, 0.015),
        slip=rng.choice([-1.0, 1.0]) * (0.009 * field + site.width * rng.uniform(0.08, 0.2)),
        slope=rng.uniform(-0.5, 0.5),
        reach=1.5 * site.width + 0.05 * field,
        teeth=rng.uniform(-1.0, 1.0, 41) * 0.8 * tooth,
        tooth=tooth,
    )


def _supersampling(size):
    """Rays per pixel along each axis; a small image would miss a thin cortex with one ray."""
    return 1 if min(size) >= 192 else 2 if min(size) >= 96 else 4


def _binned(image, fine):
    """Means of fine x fine blocks."""
    if fine == 1:
        return image
    height, width = (side // fine for side in image.shape)
    return image.reshape(height, fine, width, fine).mean(axis=(1, 3), dtype=np.float32)


class _View:
    """Position of the patient on the detector, collimation and exposure."""

    def __init__(self, technique, size, fine, rng):
        field = technique.field * rng.uniform(0.95, 1.08)
        pixel = field / (min(size) * fine)
        angle = math.radians(technique.tilt) * float(np.clip(rng.normal(), -2, 2))
        centre = tuple(technique.middle + rng.uniform(-1.0, 1.0, 2) * technique.shift)
        flip = bool(rng.random() < 0.5) and technique.flips
        fine_size = tuple(side * fine for side in size)
        self.grid = Grid(fine_size, pixel, centre, angle, flip)
        low, high = technique.window
        self.exposure = (high - low) * float(np.clip(rng.normal(), -2, 2)) * 0.03
        self.open = self._shutters(size, rng)

    def _shutters(self, size, rng):
        """Mask of the collimated field, uint8 [H, W]: 1 inside, 0 outside."""
        skew = rng.normal() * 0.008
        # A shutter at -1 is outside the image.
        left, right, top, bottom = np.where(rng.random(4) < 0.4, rng.uniform(0.01, 0.05, 4), -1.0)
        short = min(size)
        v, u = (((np.arange(side) + 0.5 - side / 2) / short) for side in size)
        v = v[:, None]
        across, down = u + skew * v, v - skew * u
        wide, high = 0.5 * size[1] / short, 0.5 * size[0] / short
        seen = (across > left - wide) & (across < wide - right)
        return (seen & (down > top - high) & (down < high - bottom)).astype(np.uint8)


# Strokes of the letters, as points in the unit square, y down.
_LETTERS = {
    "R": [[(0, 1), (0, 0), (0.6, 0.05), (0.6, 0.45), (0, 0.5)], [(0.25, 0.5), (0.65, 1)]],
    "L": [[(0, 0), (0, 1), (0.6, 1)]],
}


def _marker(view, rng):
    """The lead letter that a radiographer places next to the patient."""
    letter = _LETTERS["R" if rng.random() < 0.5 else "L"]
    height, width = (side * view.grid.pixel for side in view.grid.size)
    side = min(height, width)
    tall = 0.045 * side
    left = side * (rng.uniform(0.08, 0.14) if rng.random() < 0.5 else rng.uniform(0.84, 0.88)) - (
        side / 2
    )
    top = side * rng.uniform(0.08, 0.12) - side / 2
    solids = []
    for stroke in letter:
        points = [view.grid.at(left + tall * u, top + tall * v) for u, v in stroke]
        solids += chain([(x, y, 0.11 * tall) for x, y in points])
    return metal(solids, LEAD)


@cache
def _grain_tile():
    """Band-limited periodic noise, float32 [512, 512], with mean 0 and standard deviation 1."""
    rng = np.random.default_rng(20150512)
    noise = rng.standard_normal((512, 512))
    tile = gaussian_filter(noise, 1.6, mode="wrap") - gaussian_filter(noise, 4.5, mode="wrap")
    return (tile / tile.std()).astype(np.float32)


def _grain(grid, rng):
    """Texture of spongy bone on the grid, float32 [H, W]: the tile at a random offset."""
    tile = _grain_tile()
    row, column = rng.integers(512, size=2)
    rows = (grid.y * (1 / 0.025)).astype(np.int32) + row
    columns = (grid.x * (1 / 0.025)).astype(np.int32) + column
    return tile[rows & 511, columns & 511]
