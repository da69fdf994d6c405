"""Ranks several generated sets by their debiased FIDs, and tests which are worse than the best."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fid_med.errors import StatisticsError
from fid_med.metrics.debiased_fid import REPLICATES, DebiasedFID, PairedDifference, SharedSplits

# Largest number of images, all sets together, that are compared: 0.33 GB of float64 at d = 2048.
MOST_IMAGES = 20_000


@dataclass(frozen=True)
class RankedSet:
    """One generated set in a ranking.

    Attributes:
      rank: 1 for the smallest debiased FID.
      debiased: its debiased FID, with an interval for this set alone.
      difference: its debiased FID less that of the best set; None for the best set. The interval
        is corrected: all differences between any two sets are in such intervals together with the
        stated confidence. `p_value` is that of this pair alone.
      p_value: corrected, for a true difference of 0 from the best set; None for the best set.
      worse: whether the set is worse than the best one: `p_value` is at most 1 - confidence.
    """

    rank: int
    debiased: DebiasedFID
    difference: PairedDifference | None
    p_value: float | None
    worse: bool


def rank_sets(
    real,
    generated: Sequence,
    *,
    real_patients=None,
    generated_patients: Sequence | None = None,
    confidence: float = 0.95,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> list[RankedSet]:
    """Ranks generated sets by the debiased FID, and compares each with the best one.

    All values come from the same random splits (`SharedSplits`). The best set is the one with the
    smallest debiased FID. The same images choose it, so its value is low partly by chance. After
    Holm's correction for the k - 1 tests against it, five equal sets would be called different in
    7 % of trials instead of 5 % (benchmarks/ranking_study.py). Any of the k (k - 1) / 2 pairs of
    sets could have been tested. The p-values of the best set's pairs are therefore corrected by
    Holm (1979) for all pairs:

        corrected p_(j) = max over i <= j of min(1, (k (k - 1) / 2 - i + 1) p_(i)),

    p_(1) the smallest. Holm's procedure on all pairs rejects every pair that this one rejects, so
    the probability of calling any two equal sets different is at most 1 - confidence, whichever set
    is the best, if the p-value of each pair is right. In simulations, five equal sets of 16 images
    were called different in 2.5 +- 0.8 % of 400 trials. The intervals of the differences have the
    confidence 1 - (1 - confidence) / (k (k - 1) / 2) each (Bonferroni). If image i of all sets was
    made from the same input, p-values are too large and intervals too wide, as for
    `paired_difference`.

    Args:
      real: features [N, d], any real dtype, 8 or more images.
      generated: features [M, d] of each of k generated sets, 8 or more images each; k >= 2.
      real_patients, generated_patients, confidence, replicates, seed: as for `SharedSplits`.

    Returns:
      A `RankedSet` for each generated set, in the order given.

    Raises:
      StatisticsError: fewer than two generated sets, or as `debiased_fid`.
    """
    if len(generated) < 2:
        raise StatisticsError(f"{len(generated)} generated set: a ranking needs two or more")
    splits = SharedSplits(
        real,
        generated,
        real_patients=real_patients,
        generated_patients=generated_patients,
        confidence=confidence,
        replicates=replicates,
        seed=seed,
    )
    found = [splits.fid(i) for i in range(len(generated))]
    order = sorted(range(len(found)), key=lambda i: found[i].value)
    best, *others = order
    pairs = len(found) * (len(found) - 1) // 2
    together = 1 - (1 - confidence) / pairs
    differences = {i: splits.difference(i, best, together) for i in others}
    p_values = holm([differences[i].p_value for i in others], pairs)
    corrected = dict(zip(others, p_values, strict=True))
    return [
        RankedSet(
            rank=order.index(i) + 1,
            debiased=debiased,
            difference=differences.get(i),
            p_value=corrected.get(i),
            worse=i in corrected and corrected[i] <= 1 - confidence,
        )
        for i, debiased in enumerate(found)
    ]


def holm(p_values: Sequence[float], tests: int | None = None) -> list[float]:
    """Corrects p-values for several tests (Holm 1979).

    Args:
      p_values: uncorrected.
      tests: number of tests that they were chosen from; by default these alone.

    Returns:
      The corrected p-values, in the order given.
    """
    tests = tests or len(p_values)
    order = np.argsort(p_values, kind="stable")
    factors = tests - np.arange(len(p_values))
    corrected = np.empty(len(p_values))
    ordered = np.asarray(p_values, np.float64)[order]
    corrected[order] = np.minimum(1, np.maximum.accumulate(factors * ordered))
    return corrected.tolist()


def draw_images(features: np.ndarray, patients, most: int) -> np.ndarray:
    """Draws images of a large set, whole patients where they are known.

    The choice depends on the features alone, and not on the order of the images.

    Args:
      features: float32 [N, d].
      patients: a label per image, [N], or None.
      most: largest number of images.

    Returns:
      Indices of the drawn images in increasing order, int [n]; all if there are at most `most`.
    """
    if len(features) <= most:
        return np.arange(len(features))
    keys = [hashlib.sha256(row.tobytes()).digest() for row in features]
    labels = range(len(keys)) if patients is None else list(patients)
    members: dict = {}
    for i in sorted(range(len(keys)), key=keys.__getitem__):
        members.setdefault(labels[i], []).append(i)
    drawn: list[int] = []
    for images in members.values():
        if len(drawn) + len(images) <= most:
            drawn += images
    return np.array(sorted(drawn))
