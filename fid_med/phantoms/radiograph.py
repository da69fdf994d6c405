"""Phantom: radiographs from a seed, for tests, examples and every machine without a data set.

A patient is built of simple solids (`phantom_limbs`, `phantom_trunk`), X-rays are sent through
them (`phantom_solids`), and what arrives is counted, blurred and displayed as a radiograph is:
bone bright, air black. Six body parts, sound or with a fracture or an implant.
"""

import math
import os
from functools import cache
from pathlib import Path
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

    field: side of the square that the shorter side of the image shows, cm, and middle (x, y) of
    it; photons: mean count in a pixel that nothing shades; window: the attenuations (line
    integrals) shown black and white; latitude: share of the broad differences in brightness that
    is taken out, as a digital system does to show thick and thin parts at once; flips: whether
    patients face either way; tilt: deviation of the pose, degrees; shift: of the position, cm.
    """

    field: float
    middle: tuple
    photons: float
    window: tuple
    latitude: float
    flips: bool
    tilt: float
    shift: float


# Photons grow with the body's thickness, as the technique charts of a clinic have it.
TECHNIQUES = {
    "elbow": Technique(20.0, (0.0, 0.0), 6e3, (0.12, 2.05), 0.25, True, 10.0, 0.6),
    "neck": Technique(25.0, (-0.5, 0.0), 4e4, (1.1, 3.1), 0.45, True, 3.0, 0.5),
    "hand": Technique(24.5, (0.0, -1.6), 4e3, (0.05, 1.05), 0.15, True, 7.0, 0.5),
    "knee": Technique(20.0, (0.0, 0.0), 2e4, (1.0, 2.95), 0.3, True, 4.0, 0.5),
    "pelvis": Technique(38.0, (0.0, 0.0), 1.5e5, (2.5, 4.3), 0.45, False, 2.0, 0.5),
    "chest": Technique(37.0, (0.0, 0.0), 1.2e5, (1.0, 3.8), 0.38, False, 1.5, 0.5),
}
BLUR_CM = 0.025  # the detector's and the focal spot's spread, one deviation


class PhantomLabel(NamedTuple):
    """What is known of a phantom: body part, "normal" or "abnormal", and whose it is."""

    body_part: str
    abnormality: str
    patient: str


def phantom_radiograph(body_part: str, *, abnormal: bool = False, size=256, seed=0) -> np.ndarray:
    """One radiograph of a patient who does not exist.

    Args:
      body_part: one of `BODY_PARTS`.
      abnormal: whether the patient has a fracture or an implant (which, the seed decides). The
        same seed gives the same patient with and without it.
      size: pixels of a side, or (height, width); each from 16 to 4096. The shorter side spans the
        body part, whatever the number of pixels.
      seed: a non-negative int, or a tuple of them.

    Returns:
      uint8 [height, width]: air black, bone bright, metal white. The same arguments give the same
      pixels.

    Raises:
      DataError: an unknown body part, a size or a seed that cannot be used.
    """
    size = _checked_size(size)
    if not isinstance(body_part, str) or body_part not in ANATOMIES:
        raise DataError(f"unknown body part {body_part!r}: the phantom has {', '.join(BODY_PARTS)}")
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
    """What a photon-counting detector makes of the beam behind the patient.

    Args:
      passed: share of the photons that passes, float [H, W], in 0..1 (Beer-Lambert: exp(-line)).
      photons: mean count in a pixel where all pass.
      blur: deviation of the detector's Gaussian spread, pixels.
      rng: np.random.Generator; each pixel's count is drawn from Poisson(photons * passed).

    Returns:
      float32 [H, W]: the attenuation -log(count / photons), counts below a half taken as a half.
      The counts are spread before the logarithm, so the noise of a flat region has, nearly, the
      variance sum(kernel^2) / (photons * passed).
    """
    counts = rng.poisson(photons * passed.astype(np.float64)).astype(np.float32)
    counts = gaussian_filter(counts, blur, mode="nearest", truncate=3.0)
    return -np.log(np.maximum(counts, 0.5) / np.float32(photons))


def display(attenuation, window, latitude):
    """Pixels uint8 [H, W] of an attenuation: the window's lower end black, its upper end white.

    `latitude` (0..1) of what a broad blur sees above the lower end is subtracted first.
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
    """A labelled set of phantoms.

    Item i depends on (seed, i) alone, so that a longer set begins with the shorter one. The body
    parts take turns, and within each the abnormal ones are spread evenly.

    Args:
      count: how many, >= 1.
      size, seed: as for `phantom_radiograph`.
      body_parts: which, in the order of their turns.
      abnormal_share: share of abnormal phantoms within each body part, 0..1.

    Returns:
      (images, labels): uint8 [count, height, width], and a list of `PhantomLabel`.

    Raises:
      DataError: as `phantom_radiograph`, and for a count, a share or body parts out of range.
    """
    height, width = _checked_size(size)
    labels = _labels(count, seed, body_parts, abnormal_share)
    images = np.empty((count, height, width), np.uint8)
    for i, label in enumerate(labels):
        images[i] = _item(i, label, size, seed)
    return images, labels


def write_phantoms(
    directory: str | os.PathLike,
    count: int,
    *,
    size=256,
    seed=0,
    label: str = "body_part",
    body_parts=BODY_PARTS,
    abnormal_share: float = 0.5,
) -> list[Path]:
    """Write the phantoms of `phantom_set` as PNG files, a folder for each class.

    Args:
      directory: where to; made if missing. Files are named
        <directory>/<class>/phantom_<i, five digits>.png.
      count, size, seed, body_parts, abnormal_share: as for `phantom_set`.
      label: what makes the classes: "body_part" or "abnormality".

    Returns:
      list of `pathlib.Path`, in the set's order. A file appears only when it is whole.

    Raises:
      DataError: as `phantom_set`, and for an unknown label.
    """
    if label not in ("body_part", "abnormality"):
        raise DataError(f"unknown label {label!r}: choose body_part or abnormality")
    _checked_size(size)
    paths = []
    for i, item in enumerate(_labels(count, seed, body_parts, abnormal_share)):
        path = Path(directory) / getattr(item, label) / f"phantom_{i:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            Image.fromarray(_item(i, item, size, seed)).save(unfinished, format="PNG")
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
        paths.append(path)
    return paths


def _item(i, label, size, seed):
    seed = (*_entropy(seed), i)
    abnormal = label.abnormality == "abnormal"
    return phantom_radiograph(label.body_part, abnormal=abnormal, size=size, seed=seed)


def _labels(count, seed, body_parts, abnormal_share):
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise DataError(f"count must be a whole number of at least 1, got {count!r}")
    if not 0.0 <= abnormal_share <= 1.0:
        raise DataError(f"abnormal_share must lie between 0 and 1, got {abnormal_share!r}")
    if isinstance(body_parts, str) or not body_parts or not set(body_parts) <= set(BODY_PARTS):
        raise DataError(
            f"body_parts must be taken from {', '.join(BODY_PARTS)}; got {body_parts!r}"
        )
    name = "-".join(str(number) for number in _entropy(seed))
    labels = []
    for i in range(count):
        turn, part = divmod(i, len(body_parts))
        # Every other body part begins with the abnormal, or short sets would hold none.
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
            f"size must be a side or (height, width) from {MIN_SIZE} to {MAX_SIZE} pixels, "
            f"got {size!r}"
        )
    return int(pair[0]), int(pair[1])


def _streams(seed, body_part):
    """A random stream for each step, so that a lesion leaves the patient as he was."""
    names = ("patient", "lesion", "view", "marker", "grain", "noise")
    part = BODY_PARTS.index(body_part)
    return {
        name: np.random.default_rng(np.random.SeedSequence(_entropy(seed), spawn_key=(part, i)))
        for i, name in enumerate(names)
    }


def _patient(body_part, abnormal, streams):
    """The tissues of one patient, with a fracture or an implant if abnormal."""
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
    """A fracture at the site, wide enough to be seen on the body part's field."""
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
    """Rays a pixel along each axis: few pixels would step over a thin cortex."""
    return 1 if min(size) >= 192 else 2 if min(size) >= 96 else 4


def _binned(image, fine):
    """Means of fine x fine blocks."""
    if fine == 1:
        return image
    height, width = (side // fine for side in image.shape)
    return image.reshape(height, fine, width, fine).mean(axis=(1, 3), dtype=np.float32)


class _View:
    """Where the patient lies on the detector, the shutters and the exposure."""

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
        """Uint8 [H, W]: 1 inside the collimated field, 0 outside."""
        skew = rng.normal() * 0.008
        # A shutter that does not show stands outside the image.
        left, right, top, bottom = np.where(rng.random(4) < 0.4, rng.uniform(0.01, 0.05, 4), -1.0)
        short = min(size)
        v, u = (((np.arange(side) + 0.5 - side / 2) / short) for side in size)
        v = v[:, None]
        across, down = u + skew * v, v - skew * u
        wide, high = 0.5 * size[1] / short, 0.5 * size[0] / short
        seen = (across > left - wide) & (across < wide - right)
        return (seen & (down > top - high) & (down < high - bottom)).astype(np.uint8)


# Strokes of the letters, as corners on a square of 0..1, y down.
_LETTERS = {
    "R": [[(0, 1), (0, 0), (0.6, 0.05), (0.6, 0.45), (0, 0.5)], [(0.25, 0.5), (0.65, 1)]],
    "L": [[(0, 0), (0, 1), (0.6, 1)]],
}


def _marker(view, rng):
    """The lead letter that a radiographer lays beside the patient."""
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
    """Band-limited noise [512, 512] of mean 0, deviation 1, that repeats without a seam."""
    rng = np.random.default_rng(20150512)
    noise = rng.standard_normal((512, 512))
    tile = gaussian_filter(noise, 1.6, mode="wrap") - gaussian_filter(noise, 4.5, mode="wrap")
    return (tile / tile.std()).astype(np.float32)


def _grain(grid, rng):
    """The texture of spongy bone on the grid, float32 [H, W]: a random cut of the tile."""
    tile = _grain_tile()
    row, column = rng.integers(512, size=2)
    rows = (grid.y * (1 / 0.025)).astype(np.int32) + row
    columns = (grid.x * (1 / 0.025)).astype(np.int32) + column
    return tile[rows & 511, columns & 511]
