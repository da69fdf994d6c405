"""Random blocks of whole patients, and Fréchet distances between many blocks at once.

The metrics that resample images are based on this module: `debiased_fid`, `permutation`,
`fid_infinity` and `planning`. All features are multiplied with each other once. The distance
between two blocks of images is then computed from a part of that Gram matrix: after centring, its
singular values give Tr (C1 C2)^(1/2) as in the low_rank form of `frechet`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fid_med.errors import StatisticsError
from fid_med.metrics.blas_threads import map_on_cores
from fid_med.metrics.input_checks import (
    check_one_per_image,
    check_range,
    check_same_dimension,
    checked_features,
)
from fid_med.utils.progress import Progress

# Largest number of images, all sets together, for which the Gram matrix is kept (0.13 GB). For
# more images, products are computed for each pair of blocks.
GRAM_LIMIT = 4000

# Largest feature of which the square of a squared distance, a variance, does not overflow.
_LARGEST_FEATURE = 1e75

# Entries of the arrays of one step of a batch: 2 MB, which fit a core's cache.
_BATCH_ENTRIES = 250_000

# Replicates that are computed at once.
_STEP = 32


@dataclass(frozen=True)
class ImageSet:
    """Features of one set in a fixed order, and the patients they belong to.

    Attributes:
      features: float64 [N, d], in lexicographic order, so that nothing depends on file order.
      members: indices of each patient's images, int [n]. Patients are in the order of their
        first image. Without patients, each image is a unit of one.
      has_patients: whether patients were given.
    """

    features: np.ndarray
    members: tuple[np.ndarray, ...]
    has_patients: bool

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.features)

    @property
    def patient_count(self) -> int | None:
        """Number of patients; None if they are not known."""
        return len(self.members) if self.has_patients else None

    @property
    def units(self) -> int:
        """Number of units that are drawn as a whole: patients, or images without patients."""
        return len(self.members)


def image_sets(sets: Mapping[str, tuple], least: int) -> list[ImageSet]:
    """Makes several sets of one feature dimension.

    Args:
      sets: features and patients of each set, as for `image_set`, by name.
      least: smallest accepted number of patients, or of images without patients.

    Returns:
      The sets in the order given.

    Raises:
      StatisticsError: as `image_set`, or different d.
    """
    ordered = {name: image_set(*given, name, least) for name, given in sets.items()}
    check_same_dimension({name: images.features for name, images in ordered.items()})
    return list(ordered.values())


def image_set(features, patients, name: str, least: int) -> ImageSet:
    """Checks features and patients of one set, and puts the images in order.

    Args:
      features: [N, d], any real dtype.
      patients: a label per image, [N], of any hashable type; or None.
      name: name of the set in messages, such as "real".
      least: smallest accepted number of patients, or of images without patients.

    Raises:
      StatisticsError: wrong shape or dtype, NaN or infinity, another number of labels than
        images, too few images or patients.
    """
    values = checked_features(features, name, least)
    check_range(values, f"{name} features", _LARGEST_FEATURE)
    order = np.lexsort(values.T[::-1])
    values = values[order]
    if patients is None:
        return ImageSet(values, tuple(np.arange(len(values))[:, None]), False)
    patients = list(patients)
    check_one_per_image(patients, len(values), f"{name} patients")
    members: dict = {}
    for new, old in enumerate(order):
        members.setdefault(patients[old], []).append(new)
    if len(members) < least:
        raise StatisticsError(
            f"{len(members)} {name} patients: at least {least} are needed here; add patients, or "
            "give no patients (drop the patient_regex of this set) if the images are independent, "
            "as generated images are"
        )
    return ImageSet(values, tuple(np.array(m) for m in members.values()), True)


def distinct_rows(features: np.ndarray) -> int:
    """Counts the different rows of features that are in lexicographic order."""
    return 1 + int((features[1:] != features[:-1]).any(axis=1).sum())


def shared_rows(first: np.ndarray, second: np.ndarray) -> int:
    """Counts the rows of `second` that are equal to a row of `first`, bit for bit."""
    return len(equal_rows(second, first, len(second)))


def equal_rows(first: np.ndarray, second: np.ndarray | None, most: int) -> list[tuple[int, int]]:
    """Finds rows that are equal bit for bit.

    Args:
      first: [N, d].
      second: [M, d], or None.
      most: largest number of pairs to return.

    Returns:
      The index of a row of `first` and that of the first equal row of `second`, or, without
      `second`, of the first equal row before it in `first`.
    """
    known: dict[bytes, int] = {}
    pairs: list[tuple[int, int]] = []
    for j, row in enumerate(() if second is None else second):
        known.setdefault((row + 0.0).tobytes(), j)  # + 0.0: no negative zeros
    for i, row in enumerate(first):
        content = (row + 0.0).tobytes()
        if content in known:
            pairs.append((i, known[content]))
        elif second is None:
            known[content] = i
        if len(pairs) == most:
            break
    return pairs


def replicate_steps(replicates: int, label: str) -> Iterator[int]:
    """Yields how many replicates to compute at once, and shows the progress.

    Args:
      replicates: number of all replicates.
      label: what they are, for the progress bar.
    """
    with Progress(label, replicates) as progress:
        for start in range(0, replicates, _STEP):
            now = min(_STEP, replicates - start)
            yield now
            progress.update(now)


def draw_blocks(
    images: ImageSet, sizes: Sequence[int], rng: np.random.Generator, offset: int = 0
) -> list[np.ndarray]:
    """Draws disjoint random blocks of whole patients.

    Args:
      images: the set to draw from.
      sizes: number of patients (of images, if no patients are known) in each block.
      rng: random number generator.
      offset: added to the indices.

    Returns:
      Indices of each block's images, int [n] each.
    """
    chosen = rng.permutation(images.units)[: sum(sizes)]
    if not images.has_patients:
        return np.split(chosen + offset, np.cumsum(sizes)[:-1])
    parts = np.split(chosen, np.cumsum(sizes)[:-1])
    return [np.concatenate([images.members[u] for u in part]) + offset for part in parts]


class BlockDistances:
    """Fréchet distances between blocks of the images of several sets.

    Blocks are given as indices into the concatenated sets, and may be of different sizes. The
    distances agree with `frechet` on the blocks' rows to 1e-9 of the traces, and to 1e-7 where rows
    repeat: singular values of K are computed from the eigenvalues of K K^T, which is several times
    as fast, and keeps only half the digits of those near zero.

    Args:
      sets: features [N_i, d] of each set.

    Attributes:
      offsets: index of each set's first image in the concatenated sets, and the total, int.
    """

    def __init__(self, sets: Sequence[np.ndarray]):
        # Centred among the images, so that means far from zero cost no digits.
        origin = np.mean([s.mean(axis=0) for s in sets], axis=0)
        self._rows = np.concatenate(sets) - origin
        self._squares = np.einsum("ij,ij->i", self._rows, self._rows)
        self._gram = self._rows @ self._rows.T if len(self._rows) <= GRAM_LIMIT else None
        self.offsets = np.cumsum([0] + [len(s) for s in sets])

    def distances(self, blocks: Sequence[np.ndarray], pairs) -> np.ndarray:
        """Computes the Fréchet distances between pairs of blocks.

        Args:
          blocks: arrays of indices, each of 2 or more different images.
          pairs: indices into `blocks`, int [P, 2].

        Returns:
          The distances, float64 [P].
        """
        pairs = np.asarray(pairs)
        index, mask = _padded(blocks)
        count = mask.sum(axis=1)
        members = np.zeros((len(blocks), len(self._rows)))
        for row, block in zip(members, blocks, strict=True):
            row[block] = 1 / len(block)
        # Products of the blocks' means with the images and with each other.
        if self._gram is not None:
            products = members @ self._gram
            between = np.einsum("pi,pi->p", products[pairs[:, 0]], members[pairs[:, 1]])
            square = np.einsum("bi,bi->b", products, members)
            means = None
        else:
            products, means = None, members @ self._rows
            between = np.einsum("pi,pi->p", means[pairs[:, 0]], means[pairs[:, 1]])
            square = np.einsum("bi,bi->b", means, means)
        trace = count * ((members @ self._squares) - square) / (count - 1)
        root = np.empty(len(pairs))
        first, second = (int(count[side].max()) for side in pairs.T)
        entries = first * second
        if self._gram is None:
            entries += (first + second) * self._rows.shape[1]
        step = max(1, _BATCH_ENTRIES // entries)

        def of_step(start):
            part = slice(start, start + step)
            i, j = pairs[part].T
            # Only the padding that the longest blocks of this step need: sizes may differ widely.
            rows, columns = (slice(int(count[k].max())) for k in (i, j))
            left, right = index[i, rows], index[j, columns]
            if means is None:
                cross = self._gram[left[:, :, None], right[:, None, :]]
                cross -= np.take_along_axis(products[j], left, axis=1)[:, :, None]
                cross -= np.take_along_axis(products[i], right, axis=1)[:, None, :]
                cross += between[part, None, None]
            else:
                a, b = (self._rows[x] - means[k][:, None] for x, k in ((left, i), (right, j)))
                cross = np.matmul(a, b.transpose(0, 2, 1))
            if not mask.all():
                cross *= mask[i, rows][:, :, None]
                cross *= mask[j, columns][:, None, :]
            root[part] = _nuclear_norm(cross)

        map_on_cores(of_step, range(0, len(pairs), step))
        i, j = pairs.T
        root /= np.sqrt((count[i] - 1) * (count[j] - 1))
        return square[i] + square[j] - 2 * between + trace[i] + trace[j] - 2 * root


def _padded(blocks):
    """Returns indices [B, n] of blocks of up to n images, and a mask: 1.0 for images, else 0.0."""
    longest = max(len(block) for block in blocks)
    index = np.zeros((len(blocks), longest), np.intp)
    mask = np.zeros((len(blocks), longest))
    for i, block in enumerate(blocks):
        index[i, : len(block)] = block
        mask[i, : len(block)] = 1
    return index, mask


def _nuclear_norm(matrices: np.ndarray) -> np.ndarray:
    """Computes the sums of singular values of [B, n, m]."""
    if matrices.shape[1] > matrices.shape[2]:
        matrices = matrices.transpose(0, 2, 1)
    w = np.linalg.eigvalsh(np.matmul(matrices, matrices.transpose(0, 2, 1)))
    # Zeros from centring and padding must not count as the root of a rounding error.
    floor = w.shape[1] * np.finfo(np.float64).eps * w[:, -1:]
    return np.sqrt(np.where(w > floor, w, 0.0)).sum(axis=1)
