"""The real images of a study: who is whose, what an extractor was trained on, random halves."""

import collections
import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from fid_med.data.patients import linked_groups, patients_of
from fid_med.data.sources import open_source
from fid_med.disturbances.registry import content_digest
from fid_med.errors import DataError
from fid_med.utils.progress import Progress
from fid_med.utils.threads import ordered_map


@dataclasses.dataclass
class StudyImages:
    """Images in the order of their digests, whatever order their files had.

    Attributes:
      name: what messages and the report call the set.
      loaders: functions that return uint8 [H, W] or [H, W, 3].
      digests: keyed hash of each image's pixels.
      groups: indices of the images of each patient; an image alone where no patient is known.
      by_patient: whether patients are known.
      account: counts of what was left out: `found`, `repeated` (pixel for pixel), `training`,
        `patients` (other images of patients in training), `not_drawn` (beyond the number asked
        for).
      shapes: (height, width) of the images and how many have it, the most frequent first.
    """

    name: str
    loaders: Sequence[Callable[[], np.ndarray]]
    digests: Sequence[str]
    groups: Sequence[Sequence[int]]
    by_patient: bool
    account: dict[str, int]
    shapes: Sequence[tuple[tuple[int, int], int]] = ()

    def __len__(self):
        return len(self.loaders)


def open_images(
    source,
    name: str,
    *,
    patient_regex: str | None = None,
    trained: Sequence = (),
    num_images: int | None = None,
    seed: int = 0,
) -> StudyImages:
    """Opens images for a study: each once, none that an extractor or its patients trained with.

    Args:
      source: what `open_source` takes, but no callable.
      name: of the set.
      patient_regex: finds the patient in a file's name, as for training.
      trained: `TrainingImages` of the study's extractors; an image that any of them knows is left
        out of the whole study, with the other images of its patient, so that all extractors are
        judged on the same images.
      num_images: how many to keep at most, whole patients drawn at random.
      seed: of that draw.

    Raises:
      DataError: no images, names that the expression does not match.
      UnreadableImageError: an image that cannot be read.
    """
    opened = _read(source, name, [images.hasher() for images in trained])
    patients = patients_of(opened.names, patient_regex) if patient_regex else None
    digests, found = opened.digests, len(opened.digests)
    seen = [any(d in t for d, t in zip(row, trained, strict=True)) for row in opened.keyed]
    first = {digest: i for i, digest in reversed(list(enumerate(digests)))}
    account = {"found": found, "repeated": found - len(first), "training": sum(seen)}
    keys = [[("image", digest)] for digest in digests]
    for key, patient in zip(keys, patients or (), strict=False):
        key.append(("patient", patient))
    groups = linked_groups(keys, range(found))
    clean = [group for group in groups if not any(seen[i] for i in group)]
    account["patients"] = found - sum(map(len, clean)) - account["training"]
    # Sorted by content throughout: the order of files decides nothing.
    clean = [
        sorted((i for i in group if first[digests[i]] == i), key=digests.__getitem__)
        for group in clean
    ]
    clean.sort(key=lambda group: digests[group[0]])
    kept = _drawn(clean, num_images, seed)
    account["not_drawn"] = sum(map(len, clean)) - sum(map(len, kept))
    return _study_images(opened, name, kept, patients is not None, account)


def open_generated(source, name: str) -> StudyImages:
    """Opens a set of generated images: all of them, repeated ones too, each its own group."""
    opened = _read(source, name, ())
    groups = [[i] for i in range(len(opened.digests))]
    account = {"found": len(groups)}
    return _study_images(opened, name, groups, False, account)


@dataclasses.dataclass
class _Read:
    names: Sequence[str]
    loaders: Sequence[Callable[[], np.ndarray]]
    digests: list[str]
    keyed: list[list[str]]  # of each image, a digest by each extractor's own key
    shapes: list[tuple[int, int]]


def _read(source, name, hashers):
    opened = open_source(source, name)
    names, loaders = zip(*opened.loaders, strict=True)

    def hashed(load):
        image = load()
        keyed = [hasher.digest(image) for hasher in hashers]
        return content_digest(image), keyed, tuple(image.shape[:2])

    rows = []
    with Progress(f"{name}, reading", len(loaders)) as progress:
        for row in ordered_map(hashed, loaders):
            rows.append(row)
            progress.update()
    return _Read(names, loaders, *map(list, zip(*rows, strict=True)))


def _study_images(opened, name, groups, by_patient, account):
    order = sorted((i for group in groups for i in group), key=opened.digests.__getitem__)
    place = {i: k for k, i in enumerate(order)}
    shapes = collections.Counter(opened.shapes[i] for i in order)
    return StudyImages(
        name=name,
        loaders=[opened.loaders[i] for i in order],
        digests=[opened.digests[i] for i in order],
        groups=[[place[i] for i in group] for group in groups],
        by_patient=by_patient,
        account=account,
        shapes=sorted(shapes.items(), key=lambda item: (-item[1], item[0])),
    )


def _drawn(groups, num_images, seed):
    if num_images is None or sum(map(len, groups)) <= num_images:
        return groups
    kept, room = [], num_images
    for k in np.random.default_rng([seed, 0]).permutation(len(groups)):
        # The last patient may lose images, so that the number comes out as asked for.
        if room:
            kept.append(groups[k][:room])
            room -= len(kept[-1])
    return kept


@dataclasses.dataclass(frozen=True)
class Halves:
    """One random division: indices of reference and disturbed images, patient by patient.

    The first m of each are a smaller study with the same mix of patients.
    """

    reference: np.ndarray
    disturbed: np.ndarray


def random_halves(images: StudyImages, repeats: int, seed: int) -> tuple[list[Halves], int]:
    """Divides the patients at random into two halves, many times.

    Returns:
      The divisions, and n: how many images every side of every division has at least. A FID
      depends on the counts, so all are computed with n a side.

    Raises:
      DataError: fewer than two patients, or fewer than 4 images a side.
    """
    sizes = np.array([len(group) for group in images.groups])
    divisions = []
    for repeat in range(repeats if len(sizes) > 1 else 0):
        order = np.random.default_rng([seed, 1, repeat]).permutation(len(sizes))
        filled = np.cumsum(sizes[order])
        # Cut where the halves come out nearest in number of images.
        cut = 1 + int(np.argmin(np.abs(2 * filled[:-1] - filled[-1])))
        sides = (order[:cut], order[cut:])
        divisions.append(
            Halves(*(np.concatenate([images.groups[k] for k in side]) for side in sides))
        )
    count = min((min(len(h.reference), len(h.disturbed)) for h in divisions), default=0)
    if count < 4:
        account = images.account
        left_out = account["training"] + account["patients"]
        aside = f", {left_out} left out as training images and their patients'" if left_out else ""
        what = "patients" if images.by_patient else "images"
        raise DataError(
            f"{images.name}: {len(images)} of {account['found']} images remain, of {len(sizes)} "
            f"{what}{aside}; halves of at least 4 images are needed, and 50 are a start: give "
            "images that no extractor was trained on"
        )
    return divisions, count
