"""Training, validation and test splits that share no patient, no study and no image."""

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

    Splits that the data set defines are kept. The other images (see `LabelledImages.splits`) are
    divided here, in groups: images of the same patient, images of the same study and identical
    images are linked, and linked images go to the same split. Groups are taken in order of size,
    largest first, and in seeded random order among equal sizes. Each goes to the split that lacks
    its labels most, where rare labels weigh more. Undivided images go to all three splits.
    Development images go to training and validation only, and the validation fraction then refers
    to the development images.

    After that, a link between two splits can only come from the data set's own splits. Training
    images linked to validation or test, and validation images linked to test, are excluded, so
    that the test split stays as published.

    Args:
      images: N labelled images, with one label or several per image.
      digests: N hashes, equal for identical pixels.
      fractions: shares of the images for validation and for test.
      seed: seed of the random order.

    Returns:
      [N] strings of `SPLITS`, or "repeated" for excluded images.

    Raises:
      DataError: a label has no training or no validation image, or the test split is empty although
        `fractions` asks for one.
      SettingError: the fractions are impossible.
    """
    given = _given_splits(images)
    assigned = given.astype("<U11")
    keys = _link_keys(images, digests)
    groups = linked_groups(keys, np.flatnonzero(np.isin(given, (DEVELOPMENT, UNDIVIDED))))
    if groups:
        _divide(images, groups, given, fractions, seed, assigned)
    _exclude_linked(images, keys, assigned)
    has_test = "test" in given or (UNDIVIDED in given and fractions[1] > 0)
    _check_splits(images, groups, assigned, fractions[1] if has_test else None)
    return assigned


def check_fractions(images: LabelledImages, fractions: tuple[float, float]) -> None:
    """Raises SettingError if `split` cannot divide the images by these fractions."""
    _shares(fractions, _given_splits(images))


def _given_splits(images):
    return np.full(len(images), UNDIVIDED) if images.splits is None else np.asarray(images.splits)


def _link_keys(images, digests):
    """A tuple for each image; images that share an entry are linked."""
    columns = [[("image", digest) for digest in digests]]
    for kind, values in (("patient", images.patients), ("study", images.studies)):
        if values is not None:
            columns.append([(kind, value) for value in values])
    return list(zip(*columns, strict=True))


def _divide(images, groups, given, fractions, seed, assigned):
    labels = _label_columns(images)
    shares = _shares(fractions, given)
    wanted = sum(
        share[:, None] * labels[given == kind].sum(axis=0) for kind, share in shares.items()
    )
    totals = np.maximum(labels[np.concatenate(groups)].sum(axis=0), 1)
    filled = np.zeros_like(wanted)
    rng = np.random.default_rng(seed)
    # Shuffled, then sorted stably: the seed decides the order of groups of equal size.
    rng.shuffle(groups)
    groups.sort(key=len, reverse=True)
    for group in groups:
        counts = labels[group].sum(axis=0)
        kind = DEVELOPMENT if (given[group] == DEVELOPMENT).any() else UNDIVIDED
        # How many of these labels each split still lacks, weighted by rarity.
        lack = ((wanted - filled) / totals * counts).sum(axis=1)
        lack[shares[kind] == 0] = -np.inf
        part = int(np.argmax(lack))
        filled[part] += counts
        assigned[group] = SPLITS[part]


def _label_columns(images):
    """Int64 [N, K]; with several labels per image, one more column for images without labels."""
    if not images.multi_label:
        return np.eye(len(images.classes), dtype=np.int64)[images.labels]
    none = ~images.labels.any(axis=1, keepdims=True)
    return np.hstack([images.labels, none]).astype(np.int64)


def _shares(fractions, given):
    validation, test = fractions
    shares = {
        UNDIVIDED: np.array([1 - validation - test, validation, test]),
        DEVELOPMENT: np.array([1 - validation, validation, 0]),
    }
    for kind in set(given) & set(shares):
        if not ((shares[kind][:2] > 0).all() and shares[kind][2] >= 0):
            raise SettingError(
                f"validation_fraction {validation}, test_fraction {test}: validation_fraction must "
                "be above 0, test_fraction at least 0, and their sum below 1"
            )
    return shares


def _exclude_linked(images, keys, assigned):
    held_out: set = set()
    not_identical = 0
    for part in reversed(SPLITS):
        kept = []
        for i in np.flatnonzero(assigned == part):
            if held_out.isdisjoint(keys[i]):
                kept.append(i)
            else:
                assigned[i] = "repeated"
                not_identical += keys[i][0] not in held_out
        held_out.update(key for i in kept for key in keys[i])
    if not_identical:
        warn(
            f"{images.name}: {not_identical} {'image is' if not_identical == 1 else 'images are'} "
            "excluded from training or validation, because their patient or study is also in a "
            "held-out split of the data set"
        )


def _check_splits(images, groups, assigned, test_fraction):
    for part in ("train", "validation"):
        empty = [name for name, count in images.counts(assigned == part).items() if not count]
        if empty:
            raise DataError(f"{images.name}: {_explain_empty(images, groups, part, empty)}")
    if test_fraction is None:
        return
    if not (assigned == "test").any():
        raise DataError(
            f"{images.name}: the test split is empty: no patient (or image) fits into "
            f"test_fraction {test_fraction} of {len(images)} images; increase it, or give 0 for no "
            "test split"
        )
    empty = [name for name, count in images.counts(assigned == "test").items() if not count]
    if empty:
        warn(f"{images.name}: no test image has the label {', '.join(empty)}")


def _explain_empty(images, groups, part, empty):
    labels = _label_columns(images)
    alone = [
        name
        for name in empty
        if sum(labels[group, images.classes.index(name)].any() for group in groups) == 1
    ]
    if alone:
        whose = "patient" if images.patients is not None else "image"
        return (
            f"the label {', '.join(alone)} has only one {whose}, but training and validation need "
            "one each; add images, or exclude it with --without_labels"
        )
    return (
        f"no {part} image has the label {', '.join(empty)}: too few patients (or images) have it; "
        "add images, or exclude it with --without_labels"
    )


def find_repeats(digests: Sequence[str]) -> list[tuple[int, int]]:
    """Indices of each image that is identical to an earlier one, and of the first of its kind."""
    first: dict[str, int] = {}
    return [(i, first[x]) for i, x in enumerate(digests) if first.setdefault(x, i) != i]


def contradictions(digests: Sequence[str], labels: np.ndarray) -> list[tuple[int, int]]:
    """Finds images that are identical to an earlier one with another label.

    Args:
      digests: hash of each image's pixels.
      labels: of the images, as in `LabelledImages`.

    Returns:
      As `find_repeats`.
    """
    return [(i, k) for i, k in find_repeats(digests) if np.any(labels[i] != labels[k])]
