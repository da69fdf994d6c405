"""The images of a study: patients, exclusion of training images, disturbed copies, examples."""

import collections
import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from fid_med.data.patients import linked_groups, patients_of
from fid_med.data.sources import ImageSource
from fid_med.disturbances.registry import DISTURBANCES, check_scale, content_digest, disturb
from fid_med.utils.progress import Progress
from fid_med.utils.threads import ordered_map

# A cell is a disturbance and a level.
UNTOUCHED = ("none", 0.0)
_TILE = 256


@dataclasses.dataclass
class StudyImages:
    """Images in the order of their digests, independent of the order of their files.

    Attributes:
      name: name of the set, for messages and the report.
      loaders: functions that return uint8 [H, W] or [H, W, 3].
      digests: keyed hash of each image's pixels.
      patients: for each patient the indices of the images; one image each where patients are
        unknown.
      by_patient: whether patients are known.
      account: counts by reason. `found` counts all images of the source, and `ignored` its files
        that are no images, by suffix; the other entries count images left out: `repeated` (same
        pixels as another), `training`, `patients` (other images of patients in training),
        `not_drawn` (beyond the requested number).
      shapes: ((height, width), number of images), the most frequent first.
    """

    name: str
    loaders: Sequence[Callable[[], np.ndarray]]
    digests: Sequence[str]
    patients: Sequence[Sequence[int]]
    by_patient: bool
    account: dict
    shapes: Sequence[tuple[tuple[int, int], int]] = ()

    def __len__(self):
        return len(self.loaders)


def open_images(
    source: ImageSource,
    *,
    patient_regex: str | None = None,
    trained: Sequence = (),
    num_images: int | None = None,
    seed: int = 0,
) -> StudyImages:
    """Reads the images of a study and leaves out repeated images and training images.

    Args:
      source: opened images, but no callable.
      patient_regex: regular expression that finds the patient in a file's name.
      trained: `TrainingImages` of the study's extractors. An image that any of them contains is
        left out of the whole study, together with the other images of its patient. All extractors
        are thus judged on the same images.
      num_images: maximum number of images; whole patients are drawn at random.
      seed: seed of that draw.

    Raises:
      DataError: no images, or names that `patient_regex` does not match.
      UnreadableImageError: an image that cannot be read.
    """
    images = _read(source, [images.hasher() for images in trained])
    names = patients_of(images.names, patient_regex) if patient_regex else None
    digests, found = images.digests, len(images.digests)
    seen = [any(d in t for d, t in zip(row, trained, strict=True)) for row in images.keyed]
    first = {digest: i for i, digest in reversed(list(enumerate(digests)))}
    account = {"found": found, "repeated": found - len(first), "training": sum(seen)}
    keys = [[("image", digest)] for digest in digests]
    for key, name in zip(keys, names or (), strict=False):
        key.append(("patient", name))
    groups = linked_groups(keys, range(found))
    clean = [group for group in groups if not any(seen[i] for i in group)]
    account["patients"] = found - sum(map(len, clean)) - account["training"]
    # Sorted by content, so that the order of files has no effect.
    clean = [
        sorted((i for i in group if first[digests[i]] == i), key=digests.__getitem__)
        for group in clean
    ]
    clean.sort(key=lambda group: digests[group[0]])
    patients = _draw_patients(clean, num_images, seed)
    account["not_drawn"] = sum(map(len, clean)) - sum(map(len, patients))
    account["ignored"] = source.ignored
    return _select(images, source.name, patients, names is not None, account)


def open_generated(source: ImageSource) -> StudyImages:
    """Reads a set of generated images: all of them, repeated ones too, one image per patient."""
    images = _read(source, ())
    patients = [[i] for i in range(len(images.digests))]
    return _select(images, source.name, patients, False, {"found": len(patients)})


@dataclasses.dataclass
class _Images:
    """Images in the order of their files; `keyed` has a digest per image and per hasher."""

    names: Sequence[str]
    loaders: Sequence[Callable[[], np.ndarray]]
    digests: list[str]
    keyed: list[list[str]]
    shapes: list[tuple[int, int]]


def _read(source, hashers):
    names, loaders = zip(*source.loaders, strict=True)

    def describe(load):
        image = load()
        keyed = [hasher.digest(image) for hasher in hashers]
        return content_digest(image), keyed, tuple(image.shape[:2])

    rows = []
    with Progress(f"{source.name}, reading", len(loaders)) as progress:
        for row in ordered_map(describe, loaders):
            rows.append(row)
            progress.update()
    return _Images(names, loaders, *map(list, zip(*rows, strict=True)))


def _select(images, name, patients, by_patient, account):
    order = sorted((i for patient in patients for i in patient), key=images.digests.__getitem__)
    place = {i: k for k, i in enumerate(order)}
    shapes = collections.Counter(images.shapes[i] for i in order)
    return StudyImages(
        name=name,
        loaders=[images.loaders[i] for i in order],
        digests=[images.digests[i] for i in order],
        patients=[[place[i] for i in patient] for patient in patients],
        by_patient=by_patient,
        account=account,
        shapes=sorted(shapes.items(), key=lambda item: (-item[1], item[0])),
    )


def _draw_patients(patients, num_images, seed):
    if num_images is None or sum(map(len, patients)) <= num_images:
        return patients
    kept, room = [], num_images
    for k in np.random.default_rng([seed, 0]).permutation(len(patients)):
        # The last patient may lose images, so that the number is exactly the requested one.
        if room:
            kept.append(patients[k][:room])
            room -= len(kept[-1])
    return kept


@dataclasses.dataclass(frozen=True)
class Disturber:
    """Makes the images of a cell.

    Attributes:
      scale, input_size, seed: as for `disturb`.
    """

    scale: str
    input_size: int
    seed: int

    def __post_init__(self):
        check_scale(self.scale, self.input_size)

    def apply(self, image: np.ndarray, cell: tuple[str, float]) -> np.ndarray:
        """Returns the image at the cell's disturbance and level."""
        if cell == UNTOUCHED:
            return image
        return disturb(image, *cell, scale=self.scale, input_size=self.input_size, seed=self.seed)


@dataclasses.dataclass(frozen=True)
class Example:
    """The image that a report shows.

    Attributes:
      pixels: uint8 [H, W] or [H, W, 3].
      index: its index among the study's images; None for one from elsewhere.
    """

    pixels: np.ndarray
    index: int | None = None


def choose_example(images: StudyImages) -> Example:
    """Returns the first image, in the order of the digests, of the most frequent size."""
    size = images.shapes[0][0]
    return next(
        Example(pixels, i)
        for i, pixels in enumerate(load() for load in images.loaders)
        if pixels.shape[:2] == size
    )


def make_examples(
    images: StudyImages,
    foreign: StudyImages | None,
    names: Sequence[str],
    disturber: Disturber,
    example: Example,
) -> dict[str, list[np.ndarray]]:
    """Makes an example picture of each disturbance at each level.

    Args:
      images: real images; a disturbance of sets is shown by a mosaic of the first four.
      foreign: images of another domain, for contamination.
      names: disturbances.
      disturber: makes disturbed images.
      example: the image to show; one from elsewhere is shown in place of all real images.

    Returns:
      For each disturbance a picture per level, uint8 [h, w] or [h, w, 3], level 0 first.
    """
    elsewhere = example.index is None
    tiles = [example.pixels] if elsewhere else [load() for load in images.loaders[:4]]
    others = [load() for load in foreign.loaders[:4]] if foreign else []
    pictures = {}
    for name in names:
        levels = DISTURBANCES[name].levels
        if DISTURBANCES[name].set_level:
            pictures[name] = [_make_mosaic(tiles, others, level) for level in levels]
        else:
            cells = [UNTOUCHED, *((name, level) for level in levels[1:])]
            pictures[name] = [disturber.apply(example.pixels, cell) for cell in cells]
    return pictures


def _make_mosaic(images, others, level):
    """Returns four images in a square; `level` is the share of images from the other domain."""
    kept = 4 - round(4 * level)
    sources = [images] * kept + [others] * (4 - kept)
    tiles = [
        np.asarray(Image.fromarray(source[k % len(source)]).convert("RGB").resize((_TILE, _TILE)))
        for k, source in enumerate(sources)
    ]
    return np.concatenate([np.concatenate(tiles[:2], 1), np.concatenate(tiles[2:], 1)])
