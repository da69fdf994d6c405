"""The Inception Score: how sure a classifier is of each image, and how varied the set is."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from fid_med.errors import StatisticsError

# Of a row of probabilities from 1: float32 softmax over a thousand classes passes, logits do not.
_SUM_TOLERANCE = 1e-4


class InceptionScore(NamedTuple):
    """Mean and standard deviation (ddof=0) of the score over the splits, each score 1 to K."""

    mean: float
    std: float


def inception_score(
    logits, splits: int = 10, *, order=None, probabilities: bool = False
) -> InceptionScore:
    """Inception Score, exp(mean KL(p(y|x) || p(y))) of each split, in float64.

    Salimans et al., "Improved Techniques for Training GANs", NeurIPS 2016, section 4, and their
    `inception_score`: p(y) is the mean of p(y|x) over the split, and split i of S holds the images
    iN//S to (i+1)N//S - 1 in the order given. Images that are sorted (by class, by file name) give
    splits unlike each other and so another score; a published value belongs to its order.

    Args:
        logits: [N, K], any real dtype, one row an image. TTUR's score takes them without the
            classifier's bias (`FeatureExtractor.logits`).
        splits: into how many parts the images go, 10 in the literature.
        order: None keeps the images' order, as Salimans et al. do; an integer shuffles them first
            by `np.random.RandomState(order).permutation(N)`, which with 2020 is torch-fidelity's
            own order; or a permutation of 0..N-1, [N], itself.
        probabilities: `logits` are p(y|x) instead, rows of non-negative numbers whose sum is 1
            (within 1e-4).

    Returns:
        Mean and standard deviation over the splits: 1 where every image gets the same
        probabilities, K where the classifier is certain and the K classes are equally frequent.

    Raises:
        StatisticsError: a shape other than [N, K], a dtype that is no real number, NaN or
            infinity, fewer images than splits, rows that are no probabilities, an order that is
            no permutation.
    """
    values = _checked(logits)
    if isinstance(splits, bool) or not isinstance(splits, (int, np.integer)) or splits < 1:
        raise StatisticsError(f"splits {splits!r}: expected a whole number of at least 1")
    count = len(values)
    if count < splits:
        raise StatisticsError(
            f"{count} images in {splits} splits: every split needs an image, add images or ask "
            "for fewer splits"
        )
    if probabilities:
        _check_probabilities(values)
    order = _checked_order(order, count)
    scores = []
    for i in range(splits):
        # A split at a time: the logits of 50,000 images are large enough once.
        part = slice(i * count // splits, (i + 1) * count // splits)
        rows = (values[part] if order is None else values[order[part]]).astype(np.float64)
        scores.append(_score(_log(rows) if probabilities else _log_softmax(rows)))
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))


def _score(log_p: np.ndarray) -> float:
    """The score of one split from log p(y|x) [n, K]; -inf is a probability of 0."""
    p = np.exp(log_p)
    # By logarithms: a mean of probabilities near 1e-320 would round to 0, and its log away.
    log_q = logsumexp(log_p, axis=0) - math.log(len(log_p))
    alive = p > 0  # 0 log 0 is 0
    terms = np.where(alive, p * np.subtract(log_p, log_q, where=alive, out=np.zeros_like(p)), 0.0)
    return math.exp(float(terms.sum(axis=1).mean()))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # beyond the largest float apart is a probability of 0
        shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _log(probabilities: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(probabilities)


def _checked(logits) -> np.ndarray:
    values = np.asarray(logits)
    if values.ndim != 2 or not values.shape[1]:
        raise StatisticsError(f"logits of shape {values.shape}: expected [N, K]")
    if values.dtype.kind not in "fiu":
        raise StatisticsError(f"logits of dtype {values.dtype}: expected real numbers")
    bad = len(values) - int(np.isfinite(values).all(axis=1).sum())
    if bad:
        raise StatisticsError(
            f"{bad} of {len(values)} rows of logits hold NaN or infinity: check the extractor's "
            "weights and the images"
        )
    return values


def _check_probabilities(values):
    sums = values.sum(axis=1, dtype=np.float64)
    wrong = (values < 0).any(axis=1) | (np.abs(sums - 1) > _SUM_TOLERANCE)
    if wrong.any():
        row = int(wrong.argmax())
        raise StatisticsError(
            f"{int(wrong.sum())} of {len(values)} rows are no probabilities (row {row} sums to "
            f"{sums[row]:.6g}): give the softmax of the logits, or the logits themselves"
        )


def _checked_order(order, count) -> np.ndarray | None:
    if order is None:
        return None
    array = np.asarray(order)
    if array.dtype.kind not in "iu":
        raise StatisticsError(f"order of dtype {array.dtype}: expected a seed or a permutation")
    if array.ndim == 0:
        if not 0 <= array < 2**32:
            raise StatisticsError(f"order {int(array)}: expected a seed of 0 to 2**32 - 1")
        return np.random.RandomState(int(array)).permutation(count)
    if array.shape != (count,) or not np.array_equal(np.sort(array), np.arange(count)):
        raise StatisticsError(
            f"order of shape {array.shape}: expected each of 0 to {count - 1} once, or a seed"
        )
    return array
