"""What a FID consists of: single images and places in them, directions in feature space, classes.

A FID is the squared 2-Wasserstein distance between two Gaussians: the smallest mean squared
distance by which one set's features must be moved to have the other's mean and covariance (Dowson &
Landau 1982; Peyré & Cuturi, "Computational Optimal Transport", 2019, remark 2.31). The movement of
each image is therefore its part of the FID.

Let A1 [N, d] and A2 [M, d] be the centred features over sqrt(N - 1) and sqrt(M - 1), A1 A2^T =
U S V^T, and delta the difference of the means. The counterpart of generated image j is row j of
B = V U^T A1. It is T(y_j) for the optimal map T wherever there is one. Then

    FID = sum_j |delta / sqrt(M) + A2_j - B_j|^2 + |A1 - U U^T A1|^2.

The last term is real variance to which no generated image can be moved. It is 0 unless there are
fewer generated than real images, or generated features span fewer dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
from scipy import linalg

from fid_med.errors import StatisticsError
from fid_med.metrics.frechet import FrechetComponents, frechet_components
from fid_med.metrics.input_checks import checked_count, checked_pair
from fid_med.metrics.statistics import FeatureStatistics

# Singular values below this share of the largest are rounding.
_RANK_TOLERANCE = 1e-12


class Contributions(NamedTuple):
    """Contribution of each image to a FID.

    Attributes:
      fid: the Fréchet distance.
      generated: squared distance that each generated image is moved, over M, float64 [M], >= 0.
        Their sum and `unreached` make `fid`.
      real: the same for real images moved to the generated set, [N]. Their sum is `fid` less the
        generated variance to which no real image can be moved (0 where N >= M).
      unreached: real variance without a counterpart.
    """

    fid: float
    generated: np.ndarray
    real: np.ndarray
    unreached: float


class Gradients(NamedTuple):
    """Gradients of a FID with respect to the features of each image.

    Attributes:
      real: float64 [N, d].
      generated: float64 [M, d].
    """

    real: np.ndarray
    generated: np.ndarray


class Direction(NamedTuple):
    """One direction in which two sets of features differ.

    Attributes:
      vector: unit vector [d] towards the generated images' mean.
      share: share of the FID, 0..1.
      mean_part, spread_part: in squared features. The first is the shift of the mean along the
        vector. The second is the rest: spread, and correlation with other directions. Their
        sum is share * FID.
      generated_mean: distance from the real mean along the vector, >= 0.
      real_std, generated_std: standard deviations along the vector (ddof=1).
      real_low, real_high, generated_low, generated_high: indices of the images at both ends of
        the direction, the most extreme first.
    """

    vector: np.ndarray
    share: float
    mean_part: float
    spread_part: float
    generated_mean: float
    real_std: float
    generated_std: float
    real_low: np.ndarray
    real_high: np.ndarray
    generated_low: np.ndarray
    generated_high: np.ndarray


def describe_shift(generated_mean: float, real_std: float, generated_std: float) -> str:
    """Words how generated images lie along a direction, in units of the real images' spread.

    Args:
      generated_mean, real_std, generated_std: as in `Direction`.

    Returns:
      Such as `mean +0.50 sd, spread x 1.20`.
    """
    shift, ratio = (
        x / real_std if real_std else float("inf") for x in (generated_mean, generated_std)
    )
    return f"mean +{shift:.2f} sd, spread x {ratio:.2f}"


class ClassDistance(NamedTuple):
    """The FID of one class.

    Attributes:
      label: the class.
      real_count, generated_count: number of its images.
      components: mean and covariance parts; None if there are too few images.
      reason: why there are no components, or None.
    """

    label: Hashable
    real_count: int
    generated_count: int
    components: FrechetComponents | None
    reason: str | None


class _Moved(NamedTuple):
    """Both sets centred and scaled, and the counterparts of their rows."""

    delta: np.ndarray  # generated less real mean
    real: np.ndarray  # A1
    generated: np.ndarray  # A2
    to_generated: np.ndarray  # U V^T A2, counterparts of the real rows
    to_real: np.ndarray  # V U^T A1, counterparts of the generated rows
    unreached: np.ndarray  # A1 - U U^T A1
    out_of_reach: bool


def contributions(real, generated) -> Contributions:
    """Divides a FID among the images.

    The contribution of an image is the squared distance by which the optimal map between the two
    Gaussians moves its feature (see the module's docstring). A large value means that the other set
    has no image like it there. Defects that do not change mean and covariance are not found.

    Args:
      real, generated: features [N, d] and [M, d], any real dtype, 2 or more images each.

    Returns:
      Contributions.

    Raises:
      StatisticsError: too few images, different d, NaN.
    """
    moved = _moved(*checked_pair(real, generated, at_least=2))
    count = len(moved.generated)
    ahead = moved.delta / math.sqrt(count) + moved.generated - moved.to_real
    back = moved.delta / math.sqrt(len(moved.real)) + moved.to_generated - moved.real
    by_generated = np.einsum("ij,ij->i", ahead, ahead)
    unreached = float(np.vdot(moved.unreached, moved.unreached)) if moved.out_of_reach else 0.0
    return Contributions(
        fid=float(by_generated.sum()) + unreached,
        generated=by_generated,
        real=np.einsum("ij,ij->i", back, back),
        unreached=unreached,
    )


def gradients(real, generated) -> Gradients:
    """Differentiates a FID with respect to the features of each image.

    The gradient of generated image j is

        2 delta / M + 2 (A2_j - B_j) / sqrt(M - 1),

    with the names of the module's docstring; for real images the sides are exchanged. With
    covariances of full rank it is 2 delta / M + 2 / (M - 1) (I - T)(f_j - mean), where T is the
    matrix of the optimal map to the real set. That form loses what is outside the span of the
    generated features, where there are fewer of them than dimensions. The first form does not, and
    it needs no matrix [d, d].

    A FID is differentiable where A1 A2^T has the largest rank that its sizes allow, min(N - 1,
    M - 1, d), so also with singular covariances. It is not if, for example, a feature is constant
    in one set only or an image is repeated. The result is then the mean of the one-sided
    derivatives along opposite directions.

    Args:
      real, generated: features [N, d] and [M, d], any real dtype, 2 or more images each.

    Returns:
      Gradients. The sum over a set is 2 delta for generated and -2 delta for real images.

    Raises:
      StatisticsError: too few images, different d, NaN.

    Example:

    ```python
    import numpy as np
    from fid_med.metrics.difference import gradients

    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(40, 6)), rng.normal(size=(30, 6)) + 1
    found = gradients(real, generated)
    assert found.generated.shape == (30, 6)
    # A small step against the gradient makes the FID smaller.
    nearer = generated - 0.1 * found.generated
    ```
    """
    moved = _moved(*checked_pair(real, generated, at_least=2))
    sides = []
    for shift, rows, counterparts in (
        (-moved.delta, moved.real, moved.to_generated),
        (moved.delta, moved.generated, moved.to_real),
    ):
        count = len(rows)
        sides.append(2 * shift / count + 2 / math.sqrt(count - 1) * (rows - counterparts))
    return Gradients(*sides)


def heat_map(activations, gradient, contribution: float) -> np.ndarray:
    """Divides the contribution of one image among the positions of its feature maps.

    Features are the mean of the maps A over positions. The value at a position x is

        contribution + 1/2 sum_k gradient_k (A_k(x) - mean of A_k).

    This is Grad-CAM (Selvaraju et al. 2017) applied to FID, as in Kynkäänniemi et al. 2023 ("The
    Role of ImageNet Classes in Fréchet Inception Distance", section 2.2): a sum of the maps,
    weighted by the gradient. They take the squared gradient, which shows where FID is sensitive.
    Here the sign is kept and the zero is set so that the mean over positions is the contribution:
    the gradient is 2 / M times the image's distance to its counterpart in the other set, so a
    position where the activations are those of the counterpart has a value of about 0. A negative
    value means that the position differs from the counterpart in the opposite way.

    Args:
      activations: maps before the pool, [h, w, d], any real dtype.
      gradient: of this image, [d], a row of `gradients`.
      contribution: of this image, an entry of `contributions`.

    Returns:
      float64 [h, w]; the mean is `contribution`.
    """
    weighted = np.asarray(activations, np.float64) @ gradient
    return contribution + (weighted - weighted.mean()) / 2


def directions(real, generated, *, number: int = 5, ends: int = 4) -> list[Direction]:
    """Finds the directions in feature space in which the two sets differ most.

    They are the principal axes of the movements: eigenvectors of D = sum_j m_j m_j^T + U with
    m_j = delta / sqrt(M) + A2_j - B_j, and U the unreached real variance. The trace of D is the FID
    (see the module's docstring). The share of a direction is its eigenvalue over the FID; the
    shares of all directions sum to 1. Where the covariances commute, the directions are their axes,
    with (s1 - s2)^2 each, and the shift of the mean. With few images a part of every share is
    sampling noise: two halves of the real images differ in some directions too.

    Args:
      real, generated: features [N, d] and [M, d], any real dtype, 2 or more images each.
      number: largest number of directions; there are fewer if the difference spans fewer.
      ends: number of images at each end of a direction.

    Returns:
      The directions, largest share first; none for a FID of 0.

    Raises:
      StatisticsError: too few images, different d, NaN.
    """
    real, generated = checked_pair(real, generated, at_least=2)
    number, ends = checked_count(number, "number"), checked_count(ends, "ends", 0)
    moved = _moved(real, generated)
    ahead = moved.delta / math.sqrt(len(generated)) + moved.generated - moved.to_real
    rows = np.concatenate([ahead, moved.unreached]) if moved.out_of_reach else ahead
    fid = float(np.vdot(rows, rows))
    size = float(np.vdot(moved.real, moved.real) + np.vdot(moved.generated, moved.generated))
    if not fid > 1e-20 * (size + float(moved.delta @ moved.delta)):
        return []  # movements as small as rounding have no direction
    found = []
    for value, vector in zip(*_principal_axes(rows, number), strict=True):
        if value <= 1e-12 * fid:
            break
        real_scores = (real - real.mean(axis=0)) @ vector
        generated_scores = (generated - real.mean(axis=0)) @ vector
        shift = generated_scores.mean()
        # The sign: towards the generated mean; without a shift, the largest entry is positive.
        even = abs(shift) <= 1e-9 * math.sqrt(size)
        if (vector[np.abs(vector).argmax()] if even else shift) < 0:
            vector, real_scores, generated_scores = -vector, -real_scores, -generated_scores
            shift = -shift
        real_order = np.argsort(real_scores, kind="stable")
        generated_order = np.argsort(generated_scores, kind="stable")
        found.append(
            Direction(
                vector=vector,
                share=float(value / fid),
                mean_part=float(shift**2),
                spread_part=float(value - shift**2),
                generated_mean=float(shift),
                real_std=float(real_scores.std(ddof=1)),
                generated_std=float(generated_scores.std(ddof=1)),
                real_low=real_order[:ends],
                real_high=real_order[::-1][:ends],
                generated_low=generated_order[:ends],
                generated_high=generated_order[::-1][:ends],
            )
        )
    return found


def per_class(real, generated, real_labels, generated_labels) -> list[ClassDistance]:
    """Computes the FID of each class.

    FID's bias depends on the number of images, which differs between classes. Compare a class with
    the same class in another set of equal counts, not with another class.

    Args:
      real, generated: features [N, d] and [M, d], any real dtype.
      real_labels, generated_labels: a label per image, [N] and [M], all strings or all integers.

    Returns:
      A `ClassDistance` for each label in either set, sorted by label.

    Raises:
      StatisticsError: different d, NaN, another number of labels than images, or labels of mixed
        kinds.
    """
    real, generated = checked_pair(real, generated)
    sides = (
        (real, _checked_labels(real_labels, len(real), "real")),
        (generated, _checked_labels(generated_labels, len(generated), "generated")),
    )
    try:
        labels = sorted({*sides[0][1].tolist(), *sides[1][1].tolist()})
    except TypeError:
        raise StatisticsError(
            "real and generated labels are of different kinds: give strings or integers for both"
        ) from None
    result = []
    for label in labels:
        parts = [features[names == label] for features, names in sides]
        counts = [len(part) for part in parts]
        reason = components = None
        if min(counts) < 2:
            reason = (
                f"{counts[0]} real and {counts[1]} generated images: a FID needs at least 2 of "
                "each, and hundreds to be informative"
            )
        else:
            components = frechet_components(*map(FeatureStatistics.from_features, parts))
        result.append(ClassDistance(label, *counts, components, reason))
    return result


def _checked_labels(labels, count, name):
    array = np.asarray(labels)
    if array.shape != (count,) or array.dtype.kind not in "iuUbO":
        raise StatisticsError(
            f"{name} labels of shape {array.shape} and dtype {array.dtype}: expected a string or "
            f"an integer for each of {count} images"
        )
    return array


def _moved(real: np.ndarray, generated: np.ndarray) -> _Moved:
    means = real.mean(axis=0), generated.mean(axis=0)
    first, second = (
        (rows - mean) / math.sqrt(len(rows) - 1)
        for rows, mean in zip((real, generated), means, strict=True)
    )
    (q1, r1), (q2, r2) = _reduced(first), _reduced(second)
    u, s, vt = linalg.svd(r1 @ r2.T, full_matrices=False)
    keep = s > _RANK_TOLERANCE * s[0] if s.size and s[0] > 0 else np.zeros(len(s), bool)
    u, v = u[:, keep], vt[keep].T
    to_real = _expanded(q2, v @ (u.T @ r1))
    to_generated = _expanded(q1, u @ (v.T @ r2))
    unreached = r1 - u @ (u.T @ r1)
    out_of_reach = float(np.vdot(unreached, unreached)) > 1e-20 * float(np.vdot(r1, r1))
    return _Moved(
        means[1] - means[0], first, second, to_generated, to_real, unreached, out_of_reach
    )


def _reduced(rows):
    """Returns Q, R with rows = Q R if there are more rows than columns; else None and the rows."""
    if len(rows) <= rows.shape[1]:
        return None, rows
    return linalg.qr(rows, mode="economic")


def _expanded(q, rows):
    return rows if q is None else q @ rows


def _principal_axes(rows, number):
    """Computes the largest eigenvalues of rows^T rows and their unit eigenvectors, as rows."""
    small = len(rows) < rows.shape[1]
    gram = rows @ rows.T if small else rows.T @ rows
    size = len(gram)
    number = min(number, size)
    values, vectors = linalg.eigh(gram, subset_by_index=[size - number, size - 1])
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    if small:
        lengths = np.sqrt(np.where(values > 0, values, 1))
        vectors = rows.T @ vectors / lengths
    return values, vectors.T
