"""Random blocks of whole patients, and Fréchet distances between many of them at once.

What `uncertainty`, `permutation`, `extrapolation` and `planning` stand on. The features are
multiplied with each other once; each distance between two blocks of images then comes from a
part of that Gram matrix, centred, whose singular values make Tr (C1 C2)^(1/2) as in the low_rank
form of `frechet`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fid_med.errors import StatisticsError
from fid_med.metrics.blas_threads import map_side_by_side

# Images of all sets together whose Gram matrix is kept (0.13 GB); beyond, products are made anew.
GRAM_LIMIT = 4000

# Entries of the arrays that one step of a batch may make: 2 MB, which stays near the core.
_BATCH_ENTRIES = 250_000


@dataclass(frozen=True)
class ImageSet:
    """Features of one set in an order of their own, and the patients they belong to.

    Attributes:
        features: float64 [N, d], in lexicographic order, so that nothing depends on file order.
        members: for each patient the indices of the images, int [n]; one image each where no
            patients are known. Patients are ordered by their first image.
        grouped: whether patients were given.
    """

    features: np.ndarray
    members: tuple[np.ndarray, ...]
    grouped: bool

    @property
    def count(self) -> int:
        return len(self.features)

    @property
    def patients(self) -> int | None:
        return len(self.members) if self.grouped else None

    @property
    def units(self) -> int:
        """What is drawn as a whole: patients, or images where no patients are known."""
        return len(self.members)


def image_set(features, groups, name: str, least: int) -> ImageSet:
    """Checks features [N, d] and the patients of the images, [N] or None, and puts them in order.

    Args:
        features: any real dtype.
        groups: one identifier an image, of any type that can be a dictionary's key.
        name: what messages call the set, such as "real".
        least: how many patients, or images without patients, there must be.

    Raises:
        StatisticsError: wrong shape or dtype, NaN or infinity, groups of another length, too few
            images or patients.
    """
    values = np.asarray(features)
    if values.ndim != 2 or not values.shape[1]:
        raise StatisticsError(f"{name} features of shape {values.shape}: expected [N, d]")
    if values.dtype.kind not in "fiu":
        raise StatisticsError(f"{name} features of dtype {values.dtype}: expected real numbers")
    bad = len(values) - int(np.isfinite(values).all(axis=1).sum())
    if bad:
        raise StatisticsError(
            f"{bad} of {len(values)} rows of {name} features hold NaN or infinity: check the "
            "extractor's weights and the images"
        )
    if len(values) < least:
        raise StatisticsError(
            f"{len(values)} {name} images: at least {least} are needed here, add images"
        )
    values = values.astype(np.float64)
    order = np.lexsort(values.T[::-1])
    values = values[order]
    if groups is None:
        return ImageSet(values, tuple(np.arange(len(values))[:, None]), False)
    groups = list(groups)
    if len(groups) != len(values):
        raise StatisticsError(
            f"{len(groups)} {name} groups for {len(values)} images: expected one an image"
        )
    members: dict = {}
    for i, old in enumerate(order):
        members.setdefault(groups[old], []).append(i)
    if len(members) < least:
        raise StatisticsError(
            f"{len(members)} {name} patients: at least {least} are needed here, add patients "
            "(or leave the groups away if the images are independent)"
        )
    return ImageSet(values, tuple(np.array(m) for m in members.values()), True)


def check_dimensions(sets: Sequence[ImageSet]) -> None:
    """Raises StatisticsError where the sets' features are not of one dimension."""
    dims = sorted({s.features.shape[1] for s in sets})
    if len(dims) > 1:
        raise StatisticsError(
            f"features of {' and '.join(map(str, dims))} dimensions: give features of one extractor"
        )


def check_whole(name: str, value, least: int) -> int:
    """The whole number `value`; StatisticsError where it is none, or below `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise StatisticsError(f"{name} {value!r}: expected a whole number of at least {least}")
    return int(value)


def check_share(name: str, value) -> float:
    """The number `value` between 0 and 1, both excluded; StatisticsError otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise StatisticsError(f"{name} {value!r}: expected a number between 0 and 1")
    return float(value)


def distinct_rows(features: np.ndarray) -> int:
    """How many different rows there are in features that are in lexicographic order."""
    return 1 + int((features[1:] != features[:-1]).any(axis=1).sum())


def shared_rows(first: np.ndarray, second: np.ndarray) -> int:
    """How many rows of `second` are found, bit for bit, in `first`."""
    known = {row.tobytes() for row in first + 0.0}  # + 0.0: no negative zeros
    return sum(row.tobytes() in known for row in second + 0.0)


def draw_blocks(image_set: ImageSet, sizes: Sequence[int], rng, offset: int = 0):
    """Disjoint random blocks of whole patients.

    Args:
        image_set: what to draw from.
        sizes: patients (images where no patients are known) in each block.
        rng: NumPy's generator.
        offset: added to the indices.

    Returns:
        A list of arrays of indices, int [images in the block].
    """
    chosen = rng.permutation(image_set.units)[: sum(sizes)]
    if not image_set.grouped:
        return np.split(chosen + offset, np.cumsum(sizes)[:-1])
    parts = np.split(chosen, np.cumsum(sizes)[:-1])
    return [np.concatenate([image_set.members[u] for u in part]) + offset for part in parts]


class BlockDistances:
    """Fréchet distances between blocks of the images of several sets.

    Blocks are given as indices into the sets put one after another, and may be of different
    sizes. Agrees with `frechet` on the blocks' rows to 1e-9 of the traces, and where rows repeat
    to 1e-7: the eigenvalues of K K^T stand in for the singular values of K (several times as
    fast), which carries those near zero at half the digits.

    Args:
        sets: features [N_i, d] each.
    """

    def __init__(self, sets: Sequence[np.ndarray]):
        # A common origin among the images keeps the digits of far-off means.
        origin = np.mean([s.mean(axis=0) for s in sets], axis=0)
        self._rows = np.concatenate(sets) - origin
        self._squares = np.einsum("ij,ij->i", self._rows, self._rows)
        self._gram = self._rows @ self._rows.T if len(self._rows) <= GRAM_LIMIT else None
        self.offsets = np.cumsum([0] + [len(s) for s in sets])

    def distances(self, blocks: Sequence[np.ndarray], pairs) -> np.ndarray:
        """Distances between pairs of blocks.

        Args:
            blocks: arrays of indices, each of 2 different images or more.
            pairs: int [P, 2], indices into `blocks`.

        Returns:
            float64 [P].
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
            # Of the padding only what this step's longest blocks need: sides may differ by far.
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

        map_side_by_side(of_step, range(0, len(pairs), step))
        i, j = pairs.T
        root /= np.sqrt((count[i] - 1) * (count[j] - 1))
        return square[i] + square[j] - 2 * between + trace[i] + trace[j] - 2 * root


def _padded(blocks):
    """Indices [B, n] of blocks of up to n images, and 1.0 where there is one, 0.0 elsewhere."""
    longest = max(len(block) for block in blocks)
    index = np.zeros((len(blocks), longest), np.intp)
    mask = np.zeros((len(blocks), longest))
    for i, block in enumerate(blocks):
        index[i, : len(block)] = block
        mask[i, : len(block)] = 1
    return index, mask


def _nuclear_norm(matrices: np.ndarray) -> np.ndarray:
    """Sums of singular values of [B, n, m]."""
    if matrices.shape[1] > matrices.shape[2]:
        matrices = matrices.transpose(0, 2, 1)
    w = np.linalg.eigvalsh(np.matmul(matrices, matrices.transpose(0, 2, 1)))
    # What centring and padding left at zero must not come back as the root of rounding.
    floor = w.shape[1] * np.finfo(np.float64).eps * w[:, -1:]
    return np.sqrt(np.where(w > floor, w, 0.0)).sum(axis=1)
