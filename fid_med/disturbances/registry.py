"""Disturbances: ways to worsen an image by known amounts, to see whether a metric follows.

The six of Heusel et al. 2017 (`disturbances_heusel`) and six that radiographs know
(`disturbances_radiograph`), each at level 0, the untouched image, and three more.

An image's random choices are keyed by the seed, the disturbance and the image's own pixels; not by
its name, its place in a set, the level or the scale. So nothing depends on the order of files, and
the levels of one image differ by their strength alone: the pixels that salt and pepper changes at
0.1 are among those it changes at 0.3, rectangles grow where they stand, noise grows louder and
stays the same noise. (Low dose is the exception: each level counts its photons anew.)
"""

import dataclasses
import hashlib
import math
from collections.abc import Sequence

import numpy as np

from fid_med.data.images import check_pixels
from fid_med.disturbances import heusel as heusel
from fid_med.disturbances import radiograph as radiograph
from fid_med.errors import DataError
from fid_med.utils.hashing import ImageHasher

SCALES = ("paper", "pixel")


@dataclasses.dataclass(frozen=True)
class Disturbance:
    """One way to worsen images.

    Attributes:
      name: key in `DISTURBANCES`.
      levels: four values of alpha from 0 (untouched) up, the last the worst.
      unit: what alpha counts.
      description: one sentence that says what happens to the image.
      heusel: whether it is one of the six of Heusel et al. 2017.
      reference: where definition or constants come from.
      limit: the largest alpha allowed.
      set_level: whether it is done to a set of images (`contaminate`) and not to each alone.
    """

    name: str
    levels: tuple[float, ...]
    unit: str
    description: str
    heusel: bool
    reference: str
    limit: float = math.inf
    set_level: bool = False


_HEUSEL_2017 = "Heusel et al., NeurIPS 2017, appendix A1"
_ALL = (
    Disturbance(
        "gaussian_noise",
        (0.0, 0.25, 0.5, 0.75),
        "share of noise",
        "The image fades into Gaussian noise: (1 - a) X + a N, with black and white at -6 and +6 "
        "standard deviations of N.",
        True,
        _HEUSEL_2017,
        limit=1.0,
    ),
    Disturbance(
        "gaussian_blur",
        (0.0, 1.0, 2.0, 4.0),
        "sigma, pixels of the scale",
        "The image is convolved with a Gaussian of standard deviation a.",
        True,
        _HEUSEL_2017,
    ),
    Disturbance(
        "black_rectangles",
        (0.0, 0.25, 0.5, 0.75),
        "share of height and width",
        "Five rectangles at random places, each a times the image's height and width, are filled "
        "with black.",
        True,
        _HEUSEL_2017,
        limit=1.0,
    ),
    Disturbance(
        "swirl",
        (0.0, 1.0, 2.0, 4.0),
        "strength, radians at the centre",
        "The image is twisted about its centre by a radians, left or right, fading out within the "
        "radius.",
        True,
        _HEUSEL_2017,
    ),
    Disturbance(
        "salt_and_pepper",
        (0.0, 0.1, 0.2, 0.3),
        "probability of a pixel",
        "Each pixel becomes black or white, evenly, with probability a.",
        True,
        _HEUSEL_2017,
        limit=1.0,
    ),
    Disturbance(
        "contamination",
        (0.0, 0.25, 0.5, 0.75),
        "share of the images",
        "That share of the images is replaced by images of another domain.",
        True,
        _HEUSEL_2017,
        limit=1.0,
        set_level=True,
    ),
    Disturbance(
        "motion_blur",
        (0.0, 1.0, 2.0, 4.0),
        "path, pixels of the scale",
        "The patient moves on a straight path of length a, in a random direction, during the "
        "exposure.",
        False,
        "uniform motion: a box along the path, of standard deviation length / sqrt(12)",
    ),
    Disturbance(
        "low_dose",
        (0.0, 3.0, 6.0, 9.0),
        "halvings of the dose",
        "Each photon that the detector counted is kept with probability 2^-a, and the image is "
        "brought back to its brightness.",
        False,
        "after Veldkamp et al., J Digit Imaging 2009; the noise is drawn by thinning the counts",
    ),
    Disturbance(
        "contrast_loss",
        (0.0, 0.1, 0.3, 0.6),
        "scatter fraction",
        "A veil of scattered radiation makes up the share a of all that the detector receives; the "
        "exposure stays.",
        False,
        "contrast factor 1 - a; a up to 0.9 measured by Niklason et al., Med Phys 1981",
        limit=0.99,
    ),
    Disturbance(
        "jpeg_compression",
        (0.0, 60.0, 85.0, 95.0),
        "100 - JPEG quality",
        "The image is stored as JPEG of quality 100 - a (Pillow's scale) and read back.",
        False,
        "ISO/IEC 10918-1; radiographs bear about 10:1 unseen: Slone et al., Radiology 2000",
        limit=99.0,
    ),
    Disturbance(
        "grid_artefact",
        (0.0, 0.03, 0.1, 0.3),
        "modulation of the signal",
        "The lines of a stationary anti-scatter grid modulate the detector's signal by a, near "
        "upright or level.",
        False,
        "grid lines and their moire in digital radiographs: Lin et al., J Digit Imaging 2006",
        limit=0.99,
    ),
    Disturbance(
        "wrong_laterality",
        (0.0, 0.25, 0.5, 1.0),
        "probability of an image",
        "Each image is mirrored left to right with probability a.",
        False,
        "side marker and anatomy swapped, as where a radiograph is stored mirrored",
        limit=1.0,
    ),
)
DISTURBANCES: dict[str, Disturbance] = {one.name: one for one in _ALL}
HEUSEL: tuple[str, ...] = tuple(one.name for one in _ALL if one.heusel)
RADIOGRAPH: tuple[str, ...] = tuple(one.name for one in _ALL if not one.heusel)

# name -> (settings(level, height, width, unit) -> dict, apply(planes, settings, rng) -> planes)
_WORK = {**heusel.WORK, **radiograph.WORK}
# Not a secret: it only keeps these digests apart from those that an extractor remembers.
_HASHER = ImageHasher(hashlib.sha256(b"fid_med disturbances").hexdigest())


def disturb(
    image: np.ndarray,
    name: str,
    level: float,
    *,
    scale: str = "paper",
    input_size: int = 299,
    seed: int = 0,
) -> np.ndarray:
    """Worsens one image.

    Computed in float32 and rounded to the nearest grey level. All channels of a colour image are
    disturbed alike, and a grey image repeated to RGB gives the grey result repeated.

    Args:
      image: uint8 [H, W] or [H, W, 3], any size, at its own resolution.
      name: key of `DISTURBANCES`.
      level: alpha itself, not its place among the levels; 0 leaves the pixels untouched.
      scale: what lengths (blur's sigma, swirl's radius, motion's path) are measured in: `paper`,
        the image's height / 64, since the paper's images were 64 pixels high; or `pixel`, pixels
        of the extractor's input, the image's height / `input_size`.
      input_size: height of the extractor's input in pixels; read on the scale `pixel` alone.
      seed: any integer.

    Returns:
      uint8 of the same shape, a new array.

    Raises:
      DataError: an unknown name or scale, a level out of range, a disturbance of sets, or what
        `check_pixels` refuses.
    """
    pixels = check_pixels(image, "image to disturb")
    settings = absolute_settings(name, level, pixels.shape, scale=scale, input_size=input_size)
    if DISTURBANCES[name].set_level:
        raise DataError(f"{name} is done to a set, not to one image; choose by contaminate()")
    if level == 0:
        return np.array(image)
    rng = _generator(seed, name, content_digest(pixels))
    grey = pixels.ndim == 2 or bool((pixels[..., :1] == pixels[..., 1:]).all())
    planes = np.atleast_3d(pixels)[..., : 1 if grey else 3]
    _, apply = _WORK[name]
    disturbed = np.clip(np.rint(apply(planes, settings, rng)), 0, 255).astype(np.uint8)
    disturbed = np.broadcast_to(disturbed, np.atleast_3d(pixels).shape)
    return np.array(disturbed).reshape(np.shape(image))


def absolute_settings(
    name: str,
    level: float,
    shape: Sequence[int],
    *,
    scale: str = "paper",
    input_size: int = 299,
) -> dict[str, float]:
    """What a level means for images of one size, in pixels and grey levels.

    `disturb` computes from these very values.

    Args:
      name, level, scale, input_size: as for `disturb`.
      shape: [H, W] or [H, W, C] of the image.

    Returns:
      Settings by name, each name ending in its unit where it has one. JSON takes them.

    Raises:
      DataError: as for `disturb`.
    """
    if name not in DISTURBANCES:
        raise DataError(f"unknown disturbance {name!r}; choose from {', '.join(DISTURBANCES)}")
    limit = DISTURBANCES[name].limit
    if not 0 <= level <= limit or math.isinf(level):
        upper = "" if math.isinf(limit) else f" to {limit:g}"
        raise DataError(f"{name}: level {level}, expected a number from 0{upper}")
    if scale not in SCALES:
        raise DataError(f"unknown scale {scale!r}; choose from {', '.join(SCALES)}")
    if scale == "pixel" and not input_size >= 1:
        raise DataError(f"input_size {input_size}: expected the extractor's height in pixels")
    if DISTURBANCES[name].set_level:
        return {"share_of_images": float(level)}
    height, width = (int(side) for side in shape[:2])
    unit = height / (heusel.PAPER_HEIGHT if scale == "paper" else input_size)
    settings, _ = _WORK[name]
    return settings(float(level), height, width, unit)


def settings_lines(settings: dict[str, float]) -> list[str]:
    """Absolute settings for reading, one each: `sigma pixels 4.67`."""
    return [f"{name.replace('_', ' ')} {value:.4g}" for name, value in settings.items()]


def contaminate(count: int, names_or_digests: Sequence[str], level: float, seed: int) -> np.ndarray:
    """Chooses the images of a set that another domain's images replace.

    Args:
      count: N, images in the set.
      names_or_digests: N strings that stand for the images; `content_digest` makes the choice
        independent of file names.
      level: share of the images, 0..1.
      seed: any integer.

    Returns:
      bool [N] with round(level * N) True: the same images whatever their order, and at a higher
      level those of the lower one and more.

    Raises:
      DataError: N strings expected, or a level out of range.
    """
    if count != len(names_or_digests):
        raise DataError(f"{count} images and {len(names_or_digests)} names; expected one each")
    share = absolute_settings("contamination", level, ())["share_of_images"]
    seen: dict[str, int] = {}
    keys = []
    for name in names_or_digests:
        seen[name] = seen.get(name, -1) + 1  # of equal ones each has a rank of its own
        keys.append(_key(seed, "contamination", name, seen[name]))
    chosen = np.zeros(count, bool)
    chosen[sorted(range(count), key=keys.__getitem__)[: round(share * count)]] = True
    return chosen


def content_digest(image: np.ndarray) -> str:
    """32 hex digits (SHA-256, keyed) of an image's pixels; grey and grey as RGB give the same."""
    return _HASHER.digest(image)


def _key(seed, *words):
    return hashlib.sha256("\0".join(str(word) for word in (int(seed), *words)).encode()).digest()


def _generator(seed, name, digest):
    return np.random.default_rng(int.from_bytes(_key(seed, name, digest), "big"))
