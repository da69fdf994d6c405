"""Are generated images drawn to the generator's training patients, beyond chance?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import gammaln

from fid_med.errors import StatisticsError
from fid_med.metrics.distances import (
    TIE,
    Neighbours,
    checked_count,
    group_indices,
    squared_distances,
    squared_norms,
)


class Attraction(NamedTuple):
    """Whether generated images lie nearer to training than to held-out patients.

    Attributes:
        share: of generated images whose nearest real image is a training image, 0..1.
        expected: that share were training and held-out patients alike to the generator: the
            training images' part of all real images.
        p_value: chance of an excess this large when patients are dealt out anew to the two sides,
            one-sided; never below 1 / (permutations + 1).
        nearer: mean over generated images of the chance that the nearest image is a training image
            where as many patients of either side are drawn at random; 0.5 without attraction.
    """

    share: float
    expected: float
    p_value: float
    nearer: float


def attraction(
    generated: np.ndarray,
    training: np.ndarray,
    held_out: np.ndarray,
    groups: np.ndarray,
    nearest: tuple[Neighbours, Neighbours],
    permutations: int,
    seed: int,
) -> Attraction:
    """Compares where the nearest real image stands with patients dealt out at random.

    Each generated image names its nearest real one. If the generator knew nothing of single
    training patients, these patients and the held-out ones would be exchangeable, whatever their
    counts and however many images each has; so the p-value comes from dealing patients out anew
    (Lehmann & Romano, "Testing Statistical Hypotheses", 2005, section 15.2).

    Args:
        generated, training, held_out: float64 [M, d], [N, d], [K, d].
        groups: of `pooled_groups`, [N + K].
        nearest: of each generated image, among training and among held-out images.
        permutations: how many times to deal, at least 1.
        seed: of the dealing.
    """
    # Exactly as near, as where one image is on both sides, counts half for either.
    gaps = [found.distances for found in nearest]
    drawn = np.where(np.isclose(*gaps, rtol=1e-9, atol=0), 0.5, gaps[0] < gaps[1])
    indices = np.concatenate([nearest[0].indices, nearest[1].indices + len(training)])
    counts = np.bincount(indices, np.concatenate([drawn, 1 - drawn]), len(groups))
    # A patient's excess: the generated images it draws beyond its share of all real images.
    excess = np.bincount(groups, counts / len(generated) - 1 / len(groups))
    dealt = np.unique(groups[: len(training)])
    observed = excess[dealt].sum()
    rng = np.random.default_rng(checked_count(seed, "seed", 0))
    reached = sum(
        excess[rng.permutation(len(excess))[: len(dealt)]].sum() >= observed - 1e-12
        for _ in range(checked_count(permutations, "permutations"))
    )
    return Attraction(
        share=float(drawn.mean()),
        expected=len(training) / len(groups),
        p_value=(1 + int(reached)) / (1 + permutations),
        nearer=_nearer(generated, training, held_out, groups, gaps),
    )


def pooled_groups(training_groups, held_out_groups, count, held_out_count):
    """Groups of training then held-out images, int64 [N + K]; an image a group where None.

    Raises:
        StatisticsError: groups of one side alone, of another count, or on both sides.
    """
    if (training_groups is None) != (held_out_groups is None):
        raise StatisticsError(
            "patients are known of one of training and held-out images: give both or neither"
        )
    first, number = group_indices(training_groups, count, "training")
    second, _ = group_indices(held_out_groups, held_out_count, "held-out")
    if training_groups is not None:
        both = set(np.asarray(training_groups).tolist()) & set(np.asarray(held_out_groups).tolist())
        if both:
            raise StatisticsError(
                f"{len(both)} patients have images in training and in held-out: leave them out of "
                "the held-out images"
            )
    return np.concatenate([first, second + number])


def _nearer(generated, training, held_out, groups, gaps) -> float:
    """Mean chance that training is nearer where as many patients of the larger side are drawn."""
    sides = (training, groups[: len(training)]), (held_out, groups[len(training) :])
    counts = [len(np.unique(labels)) for _, labels in sides]
    swap = counts[1] > counts[0]
    large, labels = sides[1] if swap else sides[0]
    large, labels = (x[np.argsort(labels, kind="stable")] for x in (large, labels))
    starts = np.flatnonzero(np.diff(labels, prepend=-1))
    nearest = gaps[0 if swap else 1] ** 2  # to the smaller side
    mean = large.mean(axis=0)
    centred = generated - mean
    slack = TIE * (squared_norms(centred) + nearest)
    closer = np.empty((2, len(generated)))
    for part, block in squared_distances(centred, large - mean):
        # With and without those exactly as near, so that ties count half.
        for row, limit in enumerate((nearest - slack, nearest + slack)):
            patients = np.logical_or.reduceat(block < limit[part, None], starts, axis=1)
            closer[row, part] = patients.sum(axis=1)
    chance = float(1 - _all_missed(closer, max(counts), min(counts)).mean())
    return 1 - chance if swap else chance


def _all_missed(closer, n, m):
    """Chance that m draws out of n without replacement miss all c: C(n - c, m) / C(n, m)."""
    left = n - closer - m
    logs = gammaln(n - closer + 1) - gammaln(np.maximum(left, 0) + 1)
    logs += gammaln(n - m + 1) - gammaln(n + 1)
    return np.where(left >= 0, np.exp(logs), 0.0)
