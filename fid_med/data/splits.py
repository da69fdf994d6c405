"""Train, validation and test: no patient, and no image twice, on two sides."""

import collections
from collections.abc import Sequence

import numpy as np

from fid_med.data.labelled import SPLITS, LabelledImages
from fid_med.errors import DataError


def split(
    images: LabelledImages,
    digests: Sequence[str],
    fractions: tuple[float, float],
    seed: int,
) -> np.ndarray:
    """Assigns every image to a split.

    Where the data set brings its own division, that stands, but for training images that appear
    again in validation or test, and validation images that appear again in test: they are left
    out. Elsewhere patients, joined where they share an identical image, go whole into one split,
    in seeded random order but large ones first, each to the split that lacks its labels most.

    Args:
      images: N labelled images.
      digests: an image's hash, equal for identical pixels.
      fractions: of the images, for validation and test.
      seed: of the random order.

    Returns:
      [N] strings of `SPLITS`, or "repeated" for images left out.

    Raises:
      DataError: a label that has no image in training or validation.
    """
    if images.splits is not None:
        assigned = _own_splits(images.splits, digests)
    else:
        assigned = _stratified(images, _groups(images.patients, digests), fractions, seed)
    wanted = SPLITS[: 2 + bool(images.splits is not None or fractions[1])]
    for part in wanted:
        empty = [name for name, count in images.counts(assigned == part).items() if not count]
        if empty and part != "test":
            raise DataError(
                f"{images.name}: no {part} image has the label {', '.join(empty)}; too few "
                "patients (or images) with it to split"
            )
    return assigned


def _own_splits(splits, digests):
    assigned = np.array(splits, dtype="<U10")
    seen: set[str] = set()
    # The test split stays as published; what repeats in training is what gets left out.
    for part in reversed(SPLITS):
        members = np.flatnonzero(assigned == part)
        for i in members:
            if digests[i] in seen:
                assigned[i] = "repeated"
        seen |= {digests[i] for i in members}
    return assigned


def _groups(patients, digests):
    """Images that must stay together: of one patient, or identical, or linked through either."""
    parent = list(range(len(digests)))

    def find(i):
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict = {}
    for i, digest in enumerate(digests):
        keys = [("image", digest)] + ([("patient", patients[i])] if patients else [])
        for key in keys:
            parent[find(i)] = find(first.setdefault(key, i))
    groups = collections.defaultdict(list)
    for i in range(len(digests)):
        groups[find(i)].append(i)
    return list(groups.values())


def _stratified(images, groups, fractions, seed):
    rng = np.random.default_rng(seed)
    # Shuffled first and sorted stably after: the seed decides among patients of one size.
    rng.shuffle(groups)
    groups.sort(key=len, reverse=True)
    shares = np.array([1 - sum(fractions), *fractions])
    if not (shares[:2] > 0).all() or shares[2] < 0:
        raise DataError(
            f"validation and test fractions {fractions[0]} and {fractions[1]}: the first must be "
            "above 0, the second at least 0, and something must be left to train on"
        )
    totals = np.bincount(images.labels, minlength=len(images.classes))
    wanted = shares[:, None] * totals
    filled = np.zeros_like(wanted)
    assigned = np.empty(len(images), dtype="<U10")
    for group in groups:
        counts = np.bincount(images.labels[group], minlength=len(totals))
        # How far each split lies behind its share of these labels, by how rare the label is.
        lack = ((wanted - filled) / np.maximum(totals, 1) * counts).sum(axis=1)
        lack[shares == 0] = -np.inf
        part = int(np.argmax(lack))
        filled[part] += counts
        assigned[group] = SPLITS[part]
    return assigned


def repeats(digests: Sequence[str]) -> int:
    """How many images repeat one that came before."""
    return len(digests) - len(set(digests))
