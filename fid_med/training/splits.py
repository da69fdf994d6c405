"""Train, validation and test: no patient, no study, and no image twice, on two sides."""

from collections.abc import Sequence

import numpy as np

from fid_med.data.labelled import DEVELOPMENT, SPLITS, UNDIVIDED, LabelledImages
from fid_med.data.patients import linked_groups
from fid_med.errors import DataError, SettingError
from fid_med.utils.progress import warn


def split(
    images: LabelledImages,
    digests: Sequence[str],
    fractions: tuple[float, float],
    seed: int,
) -> np.ndarray:
    """Assigns every image to a split.

    What the data set divides itself stands. What it leaves open (`LabelledImages.splits`) is
    divided here: the images of a patient, of a study, and identical images, and all that hang
    together through these, go whole into one split; groups in seeded random order but large ones
    first, each to the split that lacks its labels most, rare labels weighing more. Undivided
    images take part in all three splits in their fractions; those for development in train and
    validation alone, where the validation fraction is that of the development images.

    Training images that share image, patient or study with validation or test, and validation
    images that share them with test, can then only come of the data set's own division: they are
    left out, so that the test split stays as published.

    Args:
      images: N labelled images, with one label each or several.
      digests: an image's hash, equal for identical pixels.
      fractions: of the images, for validation and test.
      seed: of the random order.

    Returns:
      [N] strings of `SPLITS`, or "repeated" for images left out.

    Raises:
      DataError: a label that has no image in training or validation, an empty test split where
        one was asked for.
      SettingError: impossible fractions.
    """
    own = _own(images)
    assigned = own.astype("<U11")
    keys = _keys(images, digests)
    open_ones = np.flatnonzero(np.isin(own, (DEVELOPMENT, UNDIVIDED)))
    groups = linked_groups(keys, open_ones)
    if groups:
        _divide(images, groups, own, fractions, seed, assigned)
    _leave_out(images, keys, assigned)
    tested = "test" in own or (UNDIVIDED in own and fractions[1] > 0)
    _check(images, groups, assigned, fractions if tested else None)
    return assigned


def check_fractions(images: LabelledImages, fractions: tuple[float, float]) -> None:
    """Raises SettingError for fractions that `split` could not divide these images by."""
    _shares(fractions, _own(images))


def _own(images):
    return np.full(len(images), UNDIVIDED) if images.splits is None else np.asarray(images.splits)


def _keys(images, digests):
    """What ties an image to others, a tuple for each image."""
    tied = [[("image", digest) for digest in digests]]
    for kind, values in (("patient", images.patients), ("study", images.studies)):
        if values is not None:
            tied.append([(kind, value) for value in values])
    return list(zip(*tied, strict=True))


def _divide(images, groups, own, fractions, seed, assigned):
    labels = _label_columns(images)
    shares = _shares(fractions, own)
    wanted = sum(share[:, None] * labels[own == kind].sum(axis=0) for kind, share in shares.items())
    totals = np.maximum(labels[np.concatenate(groups)].sum(axis=0), 1)
    filled = np.zeros_like(wanted)
    rng = np.random.default_rng(seed)
    # Shuffled first and sorted stably after: the seed decides among patients of one size.
    rng.shuffle(groups)
    groups.sort(key=len, reverse=True)
    for group in groups:
        counts = labels[group].sum(axis=0)
        kind = DEVELOPMENT if (own[group] == DEVELOPMENT).any() else UNDIVIDED
        # How far each split lies behind its share of these labels, by how rare the label is.
        lack = ((wanted - filled) / totals * counts).sum(axis=1)
        lack[shares[kind] == 0] = -np.inf
        part = int(np.argmax(lack))
        filled[part] += counts
        assigned[group] = SPLITS[part]


def _label_columns(images):
    """Int64 [N, K]; with several labels an image, a column more for images that have none."""
    if not images.multi_label:
        return np.eye(len(images.classes), dtype=np.int64)[images.labels]
    none = ~images.labels.any(axis=1, keepdims=True)
    return np.hstack([images.labels, none]).astype(np.int64)


def _shares(fractions, own):
    validation, test = fractions
    shares = {
        UNDIVIDED: np.array([1 - validation - test, validation, test]),
        DEVELOPMENT: np.array([1 - validation, validation, 0]),
    }
    for kind in set(own) & set(shares):
        if not ((shares[kind][:2] > 0).all() and shares[kind][2] >= 0):
            raise SettingError(
                f"validation and test fractions {validation} and {test}: the first must be above "
                "0, the second at least 0, and something must be left to train on"
            )
    return shares


def _leave_out(images, keys, assigned):
    held_out: set = set()
    not_repeated = 0
    for part in reversed(SPLITS):
        kept = []
        for i in np.flatnonzero(assigned == part):
            if held_out.isdisjoint(keys[i]):
                kept.append(i)
            else:
                assigned[i] = "repeated"
                not_repeated += keys[i][0] not in held_out
        held_out.update(key for i in kept for key in keys[i])
    if not_repeated:
        warn(
            f"{images.name}: its own division has patients on two sides; {not_repeated} images of "
            "theirs left out of the split that they are held out from"
        )


def _check(images, groups, assigned, tested):
    for part in ("train", "validation"):
        empty = [name for name, count in images.counts(assigned == part).items() if not count]
        if empty:
            raise DataError(f"{images.name}: {_why_empty(images, groups, part, empty)}")
    if tested and not (assigned == "test").any():
        raise DataError(
            f"{images.name}: the test split comes out empty: no patient (or image) fits into "
            f"test_fraction {tested[1]} of {len(images)} images; raise it, or give 0 for no test"
        )
    empty = [name for name, count in images.counts(assigned == "test").items() if not count]
    if tested and empty:
        warn(f"{images.name}: no test image has the label {', '.join(empty)}")


def _why_empty(images, groups, part, empty):
    labels = _label_columns(images)
    alone = [
        name
        for name in empty
        if sum(labels[group, images.classes.index(name)].any() for group in groups) == 1
    ]
    if alone:
        whose = "one patient" if images.patients is not None else "one image"
        return (
            f"the label {', '.join(alone)} has {whose} only, and training and validation need one "
            "each; add more or leave the label out"
        )
    return (
        f"no {part} image has the label {', '.join(empty)}; too few patients (or images) with it "
        "to split"
    )


def repeats(digests: Sequence[str]) -> int:
    """How many images repeat one that came before."""
    return len(digests) - len(set(digests))
