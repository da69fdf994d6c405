"""Are generated images drawn to the generator's training patients, beyond chance?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import gammaln

from fid_med.errors import StatisticsError
from fid_med.metrics.distances import (
    TIE,
    checked_count,
    group_indices,
    nearest_neighbours,
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
        permutations: how many times to deal, at least 1.
        seed: of the dealing.
    """
    real = np.concatenate([training, held_out])
    counts = np.bincount(nearest_neighbours(generated, real).indices, minlength=len(real))
    # A patient's excess: the generated images it draws beyond its share of all real images.
    excess = np.bincount(groups, counts / len(generated) - 1 / len(real))
    dealt = np.unique(groups[: len(training)])
    observed = excess[dealt].sum()
    rng = np.random.default_rng(checked_count(seed, "seed", 0))
    reached = sum(
        excess[rng.permutation(len(excess))[: len(dealt)]].sum() >= observed - 1e-12
        for _ in range(checked_count(permutations, "permutations"))
    )
    return Attraction(
        share=float(counts[: len(training)].sum() / len(generated)),
        expected=len(training) / len(real),
        p_value=(1 + int(reached)) / (1 + permutations),
        nearer=_nearer(generated, training, held_out, groups),
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


def _nearer(generated, training, held_out, groups) -> float:
    """Mean chance that training is nearer where as many patients of the larger side are drawn."""
    sides = (training, groups[: len(training)]), (held_out, groups[len(training) :])
    counts = [len(np.unique(labels)) for _, labels in sides]
    swap = counts[1] > counts[0]
    (large, labels), (small, _) = reversed(sides) if swap else sides
    large, labels = (x[np.argsort(labels, kind="stable")] for x in (large, labels))
    starts = np.flatnonzero(np.diff(labels, prepend=-1))
    nearest = nearest_neighbours(generated, small).distances ** 2
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
