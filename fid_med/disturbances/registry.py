"""The registry of disturbances, which degrade images by known amounts to test a metric.

`DISTURBANCES` holds the six of Heusel et al. 2017 (`heusel`) and six of radiographs (`radiograph`).
Entries are defined in `heusel.py` and `radiograph.py`. Each has four levels; level 0 is the
untouched image.

The random choices for an image depend on the seed, the disturbance and the image's pixels. They do
not depend on its file name, its position in a set, the level or the scale. The order of files
therefore has no effect, and the levels of one image differ in strength alone: the pixels that salt
and pepper changes at 0.1 are among those it changes at 0.3, rectangles grow in place, and noise
keeps its pattern. Low dose is the exception: it draws new photon counts at each level.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence

import numpy as np

from fid_med.data.images import check_pixels
from fid_med.disturbances import heusel, radiograph
from fid_med.disturbances.disturbance import Disturbance
from fid_med.errors import DataError, SettingError
from fid_med.utils.hashing import ImageHasher

SCALES = ("paper", "pixel")
DISTURBANCES: dict[str, Disturbance] = {
    entry.name: entry for entry in heusel.DISTURBANCES + radiograph.DISTURBANCES
}
# What --disturbances takes besides names.
GROUPS: dict[str, tuple[str, ...]] = {
    "six": tuple(entry.name for entry in heusel.DISTURBANCES),
    "radiograph": tuple(entry.name for entry in radiograph.DISTURBANCES),
    "all": tuple(DISTURBANCES),
}

# Not a secret: this key only keeps these digests different from those an extractor remembers.
_HASHER = ImageHasher(hashlib.sha256(b"fid_med disturbances").hexdigest())


def select_disturbances(names: Iterable[str], *, with_foreign: bool = True) -> tuple[str, ...]:
    """Replaces each key of `GROUPS` by its disturbances and removes repeated names.

    Args:
      names: names of disturbances, or keys of `GROUPS`.
      with_foreign: whether there are images of another domain. Otherwise contamination is left out
        of the groups.

    Returns:
      Names of disturbances, in the given order.

    Raises:
      SettingError: an unknown name, no name at all, or contamination by name without images of
        another domain.
    """
    names = tuple(names)
    selected = tuple(dict.fromkeys(x for name in names for x in GROUPS.get(name, (name,))))
    unknown = [name for name in selected if name not in DISTURBANCES]
    if unknown or not selected:
        raise SettingError(
            f"disturbance {', '.join(unknown) or 'missing'}: expected {', '.join(GROUPS)}, or "
            f"some of {', '.join(DISTURBANCES)}"
        )
    if with_foreign:
        return selected
    impossible = [name for name in names if name in DISTURBANCES and DISTURBANCES[name].set_level]
    if impossible:
        raise SettingError(
            f"disturbance {impossible[0]} needs images of another domain: give "
            "--contamination=DIR, or remove it from --disturbances"
        )
    return tuple(name for name in selected if not DISTURBANCES[name].set_level)


def disturb(
    image: np.ndarray,
    name: str,
    level: float,
    *,
    scale: str = "paper",
    input_size: int = 299,
    seed: int = 0,
) -> np.ndarray:
    """Degrades one image.

    The result is computed in float32 and rounded to the nearest grey level. All channels of a
    colour image are disturbed alike, and a grey image repeated to RGB gives the grey result
    repeated.

    ```python
    import numpy as np
    from fid_med.disturbances.registry import disturb

    image = np.full((64, 64), 128, np.uint8)
    noisy = disturb(image, "gaussian_noise", 0.25)
    ```

    Args:
      image: uint8 [H, W] or [H, W, 3], any size, at its own resolution.
      name: key of `DISTURBANCES`.
      level: alpha itself, not its index among the levels. 0 leaves the pixels untouched.
      scale: unit of lengths (blur's sigma, swirl's radius, motion's path). `paper` is the image's
        height / 64, because the paper's images were 64 pixels high. `pixel` is a pixel of the
        extractor's input, the image's height / `input_size`.
      input_size: height of the extractor's input in pixels, for the scale `pixel`.
      seed: any integer.

    Returns:
      A new uint8 array of the same shape.

    Raises:
      DataError: an unknown name or scale, a level out of range, a disturbance of sets, or pixels
        that `check_pixels` rejects.
    """
    pixels = check_pixels(image, "image to disturb")
    settings = absolute_settings(name, level, pixels.shape, scale=scale, input_size=input_size)
    disturbance = DISTURBANCES[name]
    if disturbance.set_level:
        raise DataError(f"{name} applies to a set, not to one image; use contaminate()")
    if level == 0:
        return np.array(image)
    digest = _key(seed, name, content_digest(pixels))
    rng = np.random.default_rng(int.from_bytes(digest, "big"))
    grey = pixels.ndim == 2 or bool((pixels[..., :1] == pixels[..., 1:]).all())
    planes = np.atleast_3d(pixels)[..., : 1 if grey else 3]
    disturbed = disturbance.apply(planes, settings, rng)
    disturbed = np.clip(np.rint(disturbed), 0, 255).astype(np.uint8)
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
    """Converts a level to pixels and grey levels, for images of one size.

    `disturb` computes from these values.

    Args:
      name, level, scale, input_size: as for `disturb`.
      shape: [H, W] or [H, W, C] of the image.

    Returns:
      JSON numbers by name; a name ends in the unit if there is one.

    Raises:
      DataError: an unknown name or scale, or a level out of range.
    """
    if name not in DISTURBANCES:
        raise DataError(f"unknown disturbance {name!r}; choose from {', '.join(DISTURBANCES)}")
    limit = DISTURBANCES[name].limit
    if not 0 <= level <= limit or math.isinf(level):
        upper = "" if math.isinf(limit) else f" to {limit:g}"
        raise DataError(f"{name}: level {level}, expected a number from 0{upper}")
    check_scale(scale, input_size)
    height, width = (int(side) for side in shape[:2])
    unit = height / (heusel.PAPER_HEIGHT if scale == "paper" else input_size)
    return DISTURBANCES[name].settings(float(level), height, width, unit)


def check_scale(scale: str, input_size: int) -> None:
    """Raises DataError for an unknown scale, or for `pixel` with an input size below 1."""
    if scale not in SCALES:
        raise DataError(f"unknown scale {scale!r}; choose from {', '.join(SCALES)}")
    if scale == "pixel" and not input_size >= 1:
        raise DataError(f"input_size {input_size}: expected the extractor's height in pixels")


def format_settings(settings: dict[str, float]) -> list[str]:
    """Formats absolute settings for a reader, one string each: `sigma pixels 4.67`."""
    return [f"{name.replace('_', ' ')} {value:.4g}" for name, value in settings.items()]


def contaminate(count: int, names_or_digests: Sequence[str], level: float, seed: int) -> np.ndarray:
    """Chooses which images of a set are replaced by images of another domain.

    Args:
      count: N, images in the set.
      names_or_digests: N strings that identify the images. With `content_digest` the choice does
        not depend on file names.
      level: share of the images, 0..1.
      seed: any integer.

    Returns:
      bool [N] with round(level * N) True. The choice does not depend on the images' order, and a
      higher level includes the choice of a lower one.

    Raises:
      DataError: other than N strings, or a level out of range.
    """
    if count != len(names_or_digests):
        raise DataError(f"{count} images and {len(names_or_digests)} names; expected one per image")
    share = absolute_settings("contamination", level, (1, 1))["share_of_images"]
    seen: dict[str, int] = {}
    keys = []
    for name in names_or_digests:
        seen[name] = seen.get(name, -1) + 1  # equal names get different ranks
        keys.append(_key(seed, "contamination", name, seen[name]))
    chosen = np.zeros(count, bool)
    chosen[sorted(range(count), key=keys.__getitem__)[: round(share * count)]] = True
    return chosen


def content_digest(image: np.ndarray) -> str:
    """Returns a keyed SHA-256 of an image's pixels, 32 hex digits.

    A grey image and the same image repeated to RGB have the same digest.
    """
    return _HASHER.digest(image)


def _key(seed, *words):
    return hashlib.sha256("\0".join(str(word) for word in (int(seed), *words)).encode()).digest()
