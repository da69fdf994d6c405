"""Whether generated images are closer to training patients than to held-out patients."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import gammaln

from fid_med.errors import StatisticsError
from fid_med.metrics.distances import TIE, Neighbours, squared_distances, squared_norms
from fid_med.metrics.input_checks import checked_count, patient_indices


class TrainingProximity(NamedTuple):
    """Comparison of the distances to training and to held-out patients.

    Attributes:
      share: share of generated images whose nearest real image is a training image, 0..1.
      expected: the share that is expected if the generator does not favour its training patients:
        the number of training images over that of all real images.
      p_value: probability of at least this excess if patients are assigned at random to training
        and held-out, one-sided; at least 1 / (permutations + 1).
      nearer: probability that the nearest image is a training image if equally many patients are
        drawn from both sets, averaged over generated images. It is 0.5 without an effect.
    """

    share: float
    expected: float
    p_value: float
    nearer: float


def training_proximity(
    generated: np.ndarray,
    training: np.ndarray,
    held_out: np.ndarray,
    patients: np.ndarray,
    nearest: tuple[Neighbours, Neighbours],
    permutations: int,
    seed: int,
) -> TrainingProximity:
    """Tests whether generated images are closer to training patients than to held-out patients.

    Each generated image has a nearest real image. If the generator does not favour single training
    patients, training and held-out patients are exchangeable, whatever their number and their
    images per patient. The p-value therefore comes from random assignments of the patients (Lehmann
    & Romano, "Testing Statistical Hypotheses", 2005, section 15.2).

    Args:
      generated, training, held_out: features, float64 [M, d], [N, d] and [K, d].
      patients: from `pooled_patients`, int64 [N + K].
      nearest: nearest neighbours of the generated images among training and held-out images.
      permutations: number of random assignments, 1 or more.
      seed: of the assignments, 0 or more.
    """
    # An equal distance, as to an image that is in both sets, counts half for each.
    gaps = [found.distances for found in nearest]
    wins = np.where(np.isclose(*gaps, rtol=1e-9, atol=0), 0.5, gaps[0] < gaps[1])
    indices = np.concatenate([nearest[0].indices, nearest[1].indices + len(training)])
    counts = np.bincount(indices, np.concatenate([wins, 1 - wins]), len(patients))
    # A patient's excess: its share of nearest images beyond its share of all real images.
    excess = np.bincount(patients, counts / len(generated) - 1 / len(patients))
    trained = np.unique(patients[: len(training)])
    observed = excess[trained].sum()
    rng = np.random.default_rng(checked_count(seed, "seed", 0))
    reached = sum(
        excess[rng.permutation(len(excess))[: len(trained)]].sum() >= observed - 1e-12
        for _ in range(checked_count(permutations, "permutations"))
    )
    return TrainingProximity(
        share=float(wins.mean()),
        expected=len(training) / len(patients),
        p_value=(1 + int(reached)) / (1 + permutations),
        nearer=_nearer(generated, training, held_out, patients, gaps),
    )


def pooled_patients(training_patients, held_out_patients, count, held_out_count) -> np.ndarray:
    """Numbers the patients of training images, followed by those of held-out images.

    Args:
      training_patients, held_out_patients: a label per image, [N] and [K], or None for both,
        which makes each image its own patient.
      count, held_out_count: N and K.

    Returns:
      int64 [N + K].

    Raises:
      StatisticsError: labels for one set only, another number of labels than images, or a patient
        in both sets.
    """
    if (training_patients is None) != (held_out_patients is None):
        raise StatisticsError(
            "patients are known for only one of training and held-out images: give both or neither"
        )
    first, number = patient_indices(training_patients, count, "training")
    second, _ = patient_indices(held_out_patients, held_out_count, "held-out")
    if training_patients is not None:
        both = set(np.asarray(training_patients).tolist())
        both &= set(np.asarray(held_out_patients).tolist())
        if both:
            raise StatisticsError(
                f"{len(both)} patients have images in both training and held-out: remove them from "
                "the held-out images"
            )
    return np.concatenate([first, second + number])


def _nearer(generated, training, held_out, patients, gaps) -> float:
    """Computes the mean probability that training is nearer at equal numbers of patients."""
    sides = (training, patients[: len(training)]), (held_out, patients[len(training) :])
    counts = [len(np.unique(labels)) for _, labels in sides]
    swap = counts[1] > counts[0]
    large, labels = sides[1] if swap else sides[0]
    large, labels = (x[np.argsort(labels, kind="stable")] for x in (large, labels))
    starts = np.flatnonzero(np.diff(labels, prepend=-1))
    nearest = gaps[0 if swap else 1] ** 2  # to the smaller set
    mean = large.mean(axis=0)
    centred = generated - mean
    slack = TIE * (squared_norms(centred) + nearest)
    closer = np.empty((2, len(generated)))
    for part, block in squared_distances(centred, large - mean):
        # Without and with equal distances, so that ties count half.
        for row, limit in enumerate((nearest - slack, nearest + slack)):
            near = np.logical_or.reduceat(block < limit[part, None], starts, axis=1)
            closer[row, part] = near.sum(axis=1)
    chance = float(1 - _all_missed(closer, max(counts), min(counts)).mean())
    return 1 - chance if swap else chance


def _all_missed(closer, n, m):
    """Returns the chance that m of n draws without replacement miss all c: C(n-c, m) / C(n, m)."""
    left = n - closer - m
    logs = gammaln(n - closer + 1) - gammaln(np.maximum(left, 0) + 1)
    logs += gammaln(n - m + 1) - gammaln(n + 1)
    return np.where(left >= 0, np.exp(logs), 0.0)
