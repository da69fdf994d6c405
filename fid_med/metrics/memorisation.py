"""Memorisation: whether a generator copies its training images, by features and by pixels.

Each number answers one question. `authenticity` shows whether the generated set as a whole is too
close to the training set. `training_proximity` answers the same by comparison with held-out
patients, with a p-value. `copies` names single images. `copying_likely` summarises whether there is
a reason to suspect copying.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from fid_med.errors import StatisticsError
from fid_med.metrics.distances import (
    TIE,
    Neighbours,
    nearest_neighbours,
    squared_distances,
    squared_norms,
)
from fid_med.metrics.input_checks import (
    check_same_dimension,
    checked_count,
    checked_features,
    patient_indices,
)
from fid_med.metrics.pixel_copies import COPY_SIMILARITY, PixelMatches
from fid_med.metrics.training_proximity import (
    TrainingProximity,
    pooled_patients,
    training_proximity,
)

# Largest distance ratio of a copy; see `Memorisation.ratios`. With features of ChestX-ray14, images
# of other patients had ratios of at least 0.60, and copies with one pixel changed at most 0.10.
COPY_RATIO = 0.35

# A p-value of the training proximity below this is a reason to suspect copying.
PROXIMITY_LEVEL = 0.001


class ClosePair(NamedTuple):
    """A generated image and the training image it may be a copy of.

    Attributes:
      generated, training: indices of the images.
      distance: Euclidean distance between their features.
      ratio: the generated image's entry in `Memorisation.ratios`.
      similarity: similarity of their pixels, -1..1; None without pixels.
      flipped: whether the generated image is the mirrored one; None without pixels.
      copy: whether the image meets the rule for copies.
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
    """The result of `memorisation`.

    Attributes:
      authenticity: share of generated images that are farther from their nearest training image
        than that image is from its own nearest training image, 0..1. It is near 0 for copies (Alaa
        et al., "How Faithful is your Synthetic Data?", ICML 2022, section 4.3).
      expected_authenticity: the authenticity of real images of new patients, whatever their
        number: each training patient's images against those of the others. None with fewer than
        three patients.
      nearest: nearest training image of each generated image, by features.
      ratios: for each generated image, the distance to its nearest training image over the
        spacing of that image, float64 [M]. The spacing of a training image is its distance to
        the nearest training image that is neither a repeat of it nor of the same patient, at
        most the median of these distances.
      held_out_ratios: distance to the nearest training image over the distance to the nearest
        held-out image, float64 [M], or None. Infinite for a repeat of a held-out image. If one
        set is larger, its images are nearer by chance; `training_proximity` corrects for that,
        these ratios do not.
      training_proximity: comparison with held-out patients; None without held-out images.
      copies: indices of the generated images that meet the rule for copies, ascending: a ratio of
        at most `COPY_RATIO`, or a pixel similarity of at least `COPY_SIMILARITY`.
      pairs: the closest pairs, most suspicious first.
      pixels_compared: whether pixels were compared.
      reasons: reasons to suspect copying, one line each; empty if there are none.
    """

    authenticity: float
    expected_authenticity: float | None
    nearest: Neighbours
    ratios: np.ndarray
    held_out_ratios: np.ndarray | None
    training_proximity: TrainingProximity | None
    copies: np.ndarray
    pairs: list[ClosePair]
    pixels_compared: bool
    reasons: list[str]

    @property
    def copying_likely(self) -> bool:
        """Whether there is a reason to suspect copying."""
        return bool(self.reasons)

    def to_dict(self) -> dict:
        """Returns the fields as JSON types; per-image values as median and minimum."""
        return {
            "authenticity": self.authenticity,
            "expected_authenticity": self.expected_authenticity,
            "ratio": _summary(self.ratios),
            "held_out_ratio": _summary(self.held_out_ratios),
            "attraction": self.training_proximity and self.training_proximity._asdict(),
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
    training_patients=None,
    held_out_patients=None,
    pixels: PixelMatches | None = None,
    num_pairs: int = 10,
    permutations: int = 9999,
    seed: int = 0,
) -> Memorisation:
    """Looks for copies of training images among generated images.

    Copying is likely if an image meets the rule for copies (see `Memorisation`), or if the
    generated images are closer to training patients than to held-out patients with a p-value below
    0.001. Without pixels, copies that are flipped, shifted or strongly compressed can be missed,
    because a network moves their features as far as those of another patient.

    Args:
      generated: features [M, d], any real dtype.
      training: features [N, d] of the generator's training images, N >= 2.
      held_out: features [K, d] of real images of other patients that were not used in training,
        or None. Their kinds must be those of the training images: pneumonia is nearest to
        pneumonia, whether or not it was copied.
      training_patients, held_out_patients: a label per image, [N] and [K], or None. With
        `held_out`, give both or neither. No patient may be in both.
      pixels: result of `pixel_matches(generated, training)` in the same order, or None.
      num_pairs: largest number of closest pairs to list; copies come first.
      permutations, seed: of the training proximity's p-value.

    Returns:
      Memorisation.

    Raises:
      StatisticsError: too few images, different d, NaN, patients that do not match the images, a
        patient in both sets, or pixel matches of other sets.
    """
    generated = checked_features(generated, "generated")
    training = checked_features(training, "training", 2)
    check_same_dimension({"generated": generated, "training": training})
    num_pairs = checked_count(num_pairs, "num_pairs", 0)
    if pixels is not None:
        _check_pixels(pixels, len(generated), len(training))
    nearest = nearest_neighbours(generated, training)
    spacings, own = _spacings(training, training_patients)
    ratios = _ratios(nearest.distances, spacings[nearest.indices])
    authentic = nearest.distances > own[nearest.indices] * (1 + TIE)
    held_out_ratios = proximity = None
    if held_out is not None:
        held_out = checked_features(held_out, "held-out")
        check_same_dimension({"training": training, "held-out": held_out})
        patients = pooled_patients(
            training_patients, held_out_patients, len(training), len(held_out)
        )
        both = nearest, nearest_neighbours(generated, held_out)
        held_out_ratios = _ratios(*(found.distances for found in both))
        proximity = training_proximity(
            generated, training, held_out, patients, both, permutations, seed
        )
    suspicious = ratios <= COPY_RATIO
    if pixels is not None:
        suspicious |= pixels.similarities >= COPY_SIMILARITY
    copies = np.flatnonzero(suspicious)
    return Memorisation(
        authenticity=float(authentic.mean()),
        expected_authenticity=_expected_authenticity(training, training_patients),
        nearest=nearest,
        ratios=ratios,
        held_out_ratios=held_out_ratios,
        training_proximity=proximity,
        copies=copies,
        pairs=_closest_pairs(generated, training, nearest, ratios, pixels, suspicious, num_pairs),
        pixels_compared=pixels is not None,
        reasons=_reasons(copies, len(generated), proximity),
    )


def _ratios(distances, others) -> np.ndarray:
    """Divides distances; 0 over 0 is 0, a repeat."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(distances > 0, distances / others, 0.0)


def _spacings(training, patients) -> tuple[np.ndarray, np.ndarray]:
    """Computes each training image's spacing, and each image's nearest-neighbour distance.

    Both are [N]. The spacing is the distance to the nearest image that is not a repeat and of
    another patient. If all images are of one patient, any image that is not a repeat counts. The
    spacing is at most the median: otherwise every generated image near a single image of a rare
    view would be a copy.
    """
    labels, _ = patient_indices(patients, len(training), "training")
    rows = training - training.mean(axis=0)
    norms = squared_norms(rows)
    spacings, neighbours = np.empty(len(rows)), np.empty(len(rows), np.int64)
    for part, block in squared_distances(rows, rows):
        neighbours[part] = block.argmin(axis=1)
        # Wider than rounding, because repeats may be in different batches of the network.
        block[block <= 100 * TIE * (norms[part, None] + norms)] = np.inf
        lowest = block.min(axis=1)
        block[labels[part, None] == labels] = np.inf
        others = block.min(axis=1)
        spacings[part] = np.sqrt(np.where(np.isfinite(others), others, lowest))
    if not np.isfinite(spacings).all():
        raise StatisticsError(
            "the training features are all equal, so copies cannot be recognised: check the "
            "extractor's weights"
        )
    own = np.linalg.norm(training - training[neighbours], axis=1)
    return np.minimum(spacings, np.median(spacings)), own


def _expected_authenticity(training, patients) -> float | None:
    """Computes the authenticity of each patient's images against those of all others, pooled."""
    labels, number = patient_indices(patients, len(training), "training")
    if number < 3:
        return None
    rows = training - training.mean(axis=0)
    nearest, own = (np.empty(len(rows), np.int64) for _ in range(2))
    for part, block in squared_distances(rows, rows):
        block[labels[part, None] == labels] = np.inf
        nearest[part] = block.argmin(axis=1)
    for part, block in squared_distances(rows[nearest], rows):
        block[labels[part, None] == labels] = np.inf  # the patient that counts as new
        block[np.arange(len(block)), nearest[part]] = np.inf
        own[part] = block.argmin(axis=1)
    gaps, others = (
        np.linalg.norm(a - b, axis=1)
        for a, b in ((rows, rows[nearest]), (rows[nearest], rows[own]))
    )
    return float((gaps > others * (1 + TIE)).mean())


def _check_pixels(pixels, count, training_count):
    indices = np.asarray(pixels.indices)
    if len(indices) != count or len(pixels.similarities) != count:
        raise StatisticsError(
            f"pixel matches of {len(indices)} images for features of {count}: give both for the "
            "same generated images"
        )
    if indices.max() >= training_count:
        raise StatisticsError(
            f"pixel matches name training image {indices.max()} of {training_count}: give both for "
            "the same training images"
        )


def _closest_pairs(generated, training, nearest, ratios, pixels, suspicious, number):
    """Lists copies first: those by pixels before those by features, the most similar first."""
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


def _reasons(copies, count, proximity):
    reasons = []
    if len(copies):
        reasons.append(
            f"{len(copies)} of {count} generated images {'is' if len(copies) == 1 else 'are'} "
            "nearly a training image"
        )
    if proximity is not None and proximity.p_value < PROXIMITY_LEVEL:
        reasons.append(
            f"{proximity.share:.1%} of generated images are nearest to a training image, where "
            f"{proximity.expected:.1%} were to be expected (p = {proximity.p_value:.2g}), if the "
            "held-out images are of the same kinds"
        )
    return reasons


def _summary(ratios):
    """Returns the median and the smallest; None for what is not finite, which JSON cannot hold."""
    if ratios is None:
        return None
    values = {"median": np.median(ratios), "least": ratios.min()}
    return {name: float(x) if np.isfinite(x) else None for name, x in values.items()}
