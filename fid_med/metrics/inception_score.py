"""The Inception Score: how certain a classifier is of each image, and how varied the set is."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from fid_med.errors import StatisticsError
from fid_med.metrics.input_checks import (
    LARGEST_SEED,
    check_finite_rows,
    check_matrix,
    checked_count,
)

# Largest difference of a row of probabilities from a sum of 1. The rounding of a float32 softmax
# over a thousand classes is below it; rows of logits are not.
_SUM_TOLERANCE = 1e-4


class InceptionScore(NamedTuple):
    """The Inception Score over the splits.

    Attributes:
      mean: of the splits' scores, each from 1 to K, the number of classes.
      std: their standard deviation (ddof=0).
    """

    mean: float
    std: float


def inception_score(
    logits, splits: int = 10, *, order=None, probabilities: bool = False
) -> InceptionScore:
    """Computes the Inception Score, exp(mean KL(p(y|x) || p(y))) of each split, in float64.

    It is defined by Salimans et al., "Improved Techniques for Training GANs", NeurIPS 2016, section
    4, and their function `inception_score`: p(y) is the mean of p(y|x) over the split, and split i
    of S holds the images iN//S to (i+1)N//S - 1 in the order given. If the images are sorted, by
    class or by file name, the splits differ from each other and the score changes. A published
    value therefore belongs to the order of its images.

    Args:
      logits: [N, K], any real dtype, one row per image. TTUR's score takes them without the
        classifier's bias (`FeatureExtractor.logits`).
      splits: number of splits, 10 in the literature.
      order: order of the images. None keeps it, as Salimans et al. do. An integer is the seed of
        a shuffle, `np.random.RandomState(order).permutation(N)`; torch-fidelity uses 2020. Or a
        permutation of 0..N-1, [N].
      probabilities: whether `logits` are p(y|x) instead: rows of non-negative numbers whose sum
        is 1 (within 1e-4).

    Returns:
      Mean and standard deviation over the splits. The score is 1 where every image has the same
      probabilities, and K where the classifier is certain and the K classes are equally frequent.

    Raises:
      StatisticsError: a shape other than [N, K], a dtype that is not a real number, NaN or
        infinity, fewer images than splits, rows that are not probabilities, or an order that
        is not a permutation.
    """
    values = np.asarray(logits)
    check_matrix(values, "logits", "[N, K]")
    check_finite_rows(values, "logits")
    splits = checked_count(splits, "splits")
    count = len(values)
    if count < splits:
        raise StatisticsError(
            f"{count} images in {splits} splits: every split needs an image, add images or give "
            "fewer splits"
        )
    if probabilities:
        _check_probabilities(values)
    order = _checked_order(order, count)
    scores = []
    for i in range(splits):
        # One split at a time: the logits of 50,000 images are not copied as a whole.
        part = slice(i * count // splits, (i + 1) * count // splits)
        rows = (values[part] if order is None else values[order[part]]).astype(np.float64)
        scores.append(_score(_log(rows) if probabilities else _log_softmax(rows)))
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))


def _score(log_p: np.ndarray) -> float:
    """Computes the score of one split from log p(y|x) [n, K]; -inf is a probability of 0."""
    p = np.exp(log_p)
    # By logarithms: a mean of probabilities near 1e-320 would round to 0, which has no logarithm.
    log_q = logsumexp(log_p, axis=0) - math.log(len(log_p))
    alive = p > 0  # 0 log 0 is 0
    terms = np.where(alive, p * np.subtract(log_p, log_q, where=alive, out=np.zeros_like(p)), 0.0)
    return math.exp(float(terms.sum(axis=1).mean()))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # a difference beyond the largest float: a probability of 0
        shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _log(probabilities: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(probabilities)


def _check_probabilities(values):
    sums = values.sum(axis=1, dtype=np.float64)
    wrong = (values < 0).any(axis=1) | (np.abs(sums - 1) > _SUM_TOLERANCE)
    if wrong.any():
        row = int(wrong.argmax())
        raise StatisticsError(
            f"{int(wrong.sum())} of {len(values)} rows are not probabilities (row {row} sums to "
            f"{sums[row]:.6g}): give the softmax of the logits, or the logits themselves"
        )


def _checked_order(order, count) -> np.ndarray | None:
    if order is None:
        return None
    array = np.asarray(order)
    if array.dtype.kind not in "iu":
        raise StatisticsError(f"order of dtype {array.dtype}: expected a seed or a permutation")
    if array.ndim == 0:
        seed = checked_count(array.item(), "order", 0, LARGEST_SEED)
        return np.random.RandomState(seed).permutation(count)
    if array.shape != (count,) or not np.array_equal(np.sort(array), np.arange(count)):
        raise StatisticsError(
            f"order of shape {array.shape}: expected each of 0 to {count - 1} once, or a seed"
        )
    return array
