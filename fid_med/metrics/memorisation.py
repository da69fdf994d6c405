"""Does a generator copy its training images? Told by features, and by pixels where there are any.

What each number is made to find: `authenticity` a generator that stays too near to its training
set as a whole, `attraction` the same against held-out patients with a p-value, `copies` single
images, and `copying_likely` whether there is reason to look.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from fid_med.errors import StatisticsError
from fid_med.metrics.distances import (
    TIE,
    Neighbours,
    check_same_dimension,
    checked_count,
    checked_features,
    group_indices,
    nearest_neighbours,
    squared_distances,
    squared_norms,
)
from fid_med.metrics.pixel_copies import COPY_SIMILARITY, PixelMatches
from fid_med.metrics.training_proximity import Attraction, attraction, pooled_groups

# A copy's distance ratio is at most this; see `Memorisation.ratios`. On ChestX-ray14 features no
# image of another patient came below 0.60; with one pixel changed, none above 0.10.
COPY_RATIO = 0.35

# Attraction to training patients counts as a reason below this chance.
ATTRACTION_LEVEL = 0.001


class ClosePair(NamedTuple):
    """A generated image and the training image it may be a copy of.

    Attributes:
        generated, training: indices.
        distance: of their features.
        ratio: that over the training image's own room, as `Memorisation.ratios`.
        similarity: of their pixels, -1..1, or None without pixels.
        flipped: whether the generated image is the mirrored one; None without pixels.
        copy: whether it meets the rule for copies.
    """

    generated: int
    training: int
    distance: float
    ratio: float
    similarity: float | None
    flipped: bool | None
    copy: bool


@dataclasses.dataclass(frozen=True)
class Memorisation:
    """What `memorisation` found.

    Attributes:
        authenticity: share of generated images farther from their nearest training image than
            that is from its own nearest training image, 0..1: about a half for an independent set
            of as many images, near 0 for copies (Alaa et al. 2022, section 4.3).
        nearest: of each generated image among the training images, by features.
        ratios: the distance of each over its training image's room: that image's distance to the
            nearest training image that neither repeats it nor is of its patient, at most the
            median of those distances; [M].
        held_out_ratios: distance to the nearest training image over that to the nearest held-out
            one, [M], or None. Where one set is larger it is nearer by count alone: `attraction`
            puts that right, these do not. inf for a repeat of a held-out image.
        attraction: None without held-out images.
        copies: indices of generated images that meet the rule: ratio at most `COPY_RATIO`, or
            pixel similarity at least `COPY_SIMILARITY`; ascending.
        pairs: the closest pairs, most suspicious first.
        pixels_compared: whether there were pixel matches.
        reasons: why copying is likely, a line each; empty if it is not.
    """

    authenticity: float
    nearest: Neighbours
    ratios: np.ndarray
    held_out_ratios: np.ndarray | None
    attraction: Attraction | None
    copies: np.ndarray
    pairs: list[ClosePair]
    pixels_compared: bool
    reasons: list[str]

    @property
    def copying_likely(self) -> bool:
        """Whether there is any reason to think so."""
        return bool(self.reasons)

    def to_dict(self) -> dict:
        """As JSON types; of values for each image, the median and the least."""
        return {
            "authenticity": self.authenticity,
            "ratio": _summary(self.ratios),
            "held_out_ratio": _summary(self.held_out_ratios),
            "attraction": self.attraction and self.attraction._asdict(),
            "pixels_compared": self.pixels_compared,
            "copies": self.copies.tolist(),
            "pairs": [pair._asdict() for pair in self.pairs],
            "copying_likely": self.copying_likely,
            "reasons": list(self.reasons),
        }


def memorisation(
    generated,
    training,
    *,
    held_out=None,
    training_groups=None,
    held_out_groups=None,
    pixels: PixelMatches | None = None,
    num_pairs: int = 10,
    permutations: int = 9999,
    seed: int = 0,
) -> Memorisation:
    """Looks for training images in generated ones.

    Copying is called likely where any image meets the rule for copies (see `Memorisation`), or
    where the generated images are drawn to training patients with a chance below 0.001. Without
    pixels, copies that are flipped, shifted or strongly compressed can be missed: a network moves
    their features as far as to another patient's.

    Args:
        generated: features [M, d], any real dtype.
        training: features [N, d] of the generator's training images, N >= 2.
        held_out: features [K, d] of real images of other patients that it never saw, of the same
            kinds (else attraction shows the kind: pneumonia is nearest to pneumonia), or None.
        training_groups, held_out_groups: the patient of each image, [N] and [K], or None. Give
            both or neither with `held_out`; no patient may be in both.
        pixels: of `pixel_matches(generated, training)`, in the same order, or None.
        num_pairs: how many of the closest pairs to list at most; copies come first.
        permutations, seed: of the attraction's p-value.

    Raises:
        StatisticsError: too few images, different d, NaN, groups that do not fit, a patient on
            both sides, pixel matches of other sets.
    """
    generated = checked_features(generated, "generated")
    training = checked_features(training, "training", 2)
    check_same_dimension(generated=generated, training=training)
    num_pairs = checked_count(num_pairs, "num_pairs", 0)
    group_indices(training_groups, len(training), "training")
    if pixels is not None:
        _check_pixels(pixels, len(generated), len(training))
    nearest = nearest_neighbours(generated, training)
    rooms, own = _rooms(training, training_groups)
    ratios = _ratios(nearest.distances, rooms[nearest.indices])
    authentic = nearest.distances > own[nearest.indices] * (1 + TIE)
    held_out_ratios = drawn = None
    if held_out is not None:
        held_out = checked_features(held_out, "held-out")
        check_same_dimension(training=training, held_out=held_out)
        groups = pooled_groups(training_groups, held_out_groups, len(training), len(held_out))
        beside = nearest_neighbours(generated, held_out)
        held_out_ratios = _ratios(nearest.distances, beside.distances)
        both = nearest, beside
        drawn = attraction(generated, training, held_out, groups, both, permutations, seed)
    suspicious = ratios <= COPY_RATIO
    if pixels is not None:
        suspicious |= pixels.similarities >= COPY_SIMILARITY
    copies = np.flatnonzero(suspicious)
    return Memorisation(
        authenticity=float(authentic.mean()),
        nearest=nearest,
        ratios=ratios,
        held_out_ratios=held_out_ratios,
        attraction=drawn,
        copies=copies,
        pairs=_closest_pairs(generated, training, nearest, ratios, pixels, suspicious, num_pairs),
        pixels_compared=pixels is not None,
        reasons=_reasons(copies, len(generated), drawn),
    )


def _ratios(distances, others) -> np.ndarray:
    """Their quotients; 0 over 0 is 0, a repeat."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(distances > 0, distances / others, 0.0)


def _rooms(training, groups) -> tuple[np.ndarray, np.ndarray]:
    """Each training image's room, and its distance to its nearest neighbour, [N] both.

    The room is the distance to the nearest image that is no repeat and of another patient; where
    all are of one patient, to the nearest that is no repeat. It is at most the median, or the one
    image of a rare view would have room for all others of its kind.
    """
    labels, _ = group_indices(groups, len(training), "training")
    rows = training - training.mean(axis=0)
    norms = squared_norms(rows)
    rooms, neighbours = np.empty(len(rows)), np.empty(len(rows), np.int64)
    for part, block in squared_distances(rows, rows):
        neighbours[part] = block.argmin(axis=1)
        # Wider than rounding: repeats that went through the network in other batches count too.
        block[block <= 100 * TIE * (norms[part, None] + norms)] = np.inf
        lowest = block.min(axis=1)
        block[labels[part, None] == labels] = np.inf
        others = block.min(axis=1)
        rooms[part] = np.sqrt(np.where(np.isfinite(others), others, lowest))
    if not np.isfinite(rooms).all():
        raise StatisticsError(
            "the training features are all alike: nothing can be told from a copy, check the "
            "extractor's weights"
        )
    own = np.linalg.norm(training - training[neighbours], axis=1)
    return np.minimum(rooms, np.median(rooms)), own


def _check_pixels(pixels, count, training_count):
    indices = np.asarray(pixels.indices)
    if len(indices) != count or len(pixels.similarities) != count:
        raise StatisticsError(
            f"pixel matches of {len(indices)} images for features of {count}: give both of the "
            "same generated images"
        )
    if indices.max() >= training_count:
        raise StatisticsError(
            f"pixel matches name training image {indices.max()} of {training_count}: give both of "
            "the same training images"
        )


def _closest_pairs(generated, training, nearest, ratios, pixels, suspicious, number):
    """Copies first, those of the pixels before those of the features, the most alike first."""
    likeness = np.zeros(len(generated))
    if pixels is not None:
        likeness = np.where(pixels.similarities >= COPY_SIMILARITY, pixels.similarities, likeness)
    order = np.lexsort((ratios, -likeness, ~suspicious))[:number]
    pairs = []
    for i in order.tolist():
        j = int(pixels.indices[i]) if likeness[i] else int(nearest.indices[i])
        matched = pixels is not None and j == pixels.indices[i]
        distance = float(np.linalg.norm(generated[i] - training[j]))
        pairs.append(
            ClosePair(
                generated=i,
                training=j,
                distance=distance,
                ratio=float(ratios[i]),
                similarity=float(pixels.similarities[i]) if matched else None,
                flipped=bool(pixels.flipped[i]) if matched else None,
                copy=bool(suspicious[i]),
            )
        )
    return pairs


def _reasons(copies, count, drawn):
    reasons = []
    if len(copies):
        reasons.append(
            f"{len(copies)} of {count} generated images {'is' if len(copies) == 1 else 'are'} "
            "nearly a training image"
        )
    if drawn is not None and drawn.p_value < ATTRACTION_LEVEL:
        reasons.append(
            f"{drawn.share:.1%} of generated images are nearest to a training image, where "
            f"{drawn.expected:.1%} were to be expected (p = {drawn.p_value:.2g}), if the held-out "
            "images are of the same kinds"
        )
    return reasons


def _summary(ratios):
    """Median and least; None for what JSON has no number for."""
    if ratios is None:
        return None
    values = {"median": np.median(ratios), "least": ratios.min()}
    return {name: float(x) if np.isfinite(x) else None for name, x in values.items()}
