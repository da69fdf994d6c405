"""The Fréchet distance between two Gaussians: Heusel et al.'s function and exact fast forms.

Everywhere d^2 = |mu1 - mu2|^2 + Tr C1 + Tr C2 - 2 Tr (C1 C2)^(1/2)  (Dowson & Landau 1982;
Heusel et al. 2017, eq. 6). The forms differ in how they reach the last trace:

  sqrtm      the matrix root of C1 C2, as in the original code.
  symmetric  C1 = L1 L1^T: the roots of the eigenvalues of L1^T C2 L1, which are those of C1 C2.
  low_rank   C1 = A1^T A1 with A1 the centred features / sqrt(N - 1): the singular values of
             A1 A2^T, an N x M matrix. Their squares are the eigenvalues of C1 C2.
  factors    the same with factors of the covariances in place of the features.
"""

from __future__ import annotations

import inspect
import math
import warnings
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from fid_med.errors import StatisticsError
from fid_med.metrics.statistics import FeatureStatistics, check_comparable

METHODS = ("auto", "sqrtm", "symmetric", "low_rank", "factors")

# Share of Tr C1 + Tr C2: the rounding that the symmetric form may carry before the factors
# take over, and the size of a negative distance that is taken for rounding.
_ROUNDING = 1e-10

# Eigenvalues of a covariance below this share of the largest are rounding.
_RANK_TOLERANCE = 1e-13

# A covariance with an eigenvalue below minus this share of the largest is none.
_NEGATIVE_TOLERANCE = 1e-5


@dataclass(frozen=True)
class FrechetComponents:
    """The two parts of a Fréchet distance, and the form that computed the second.

    Attributes:
        mean: |mu1 - mu2|^2, >= 0.
        covariance: Tr C1 + Tr C2 - 2 Tr (C1 C2)^(1/2), >= 0 (but see `frechet_components`).
        method: "sqrtm", "symmetric", "low_rank" or "factors".
    """

    mean: float
    covariance: float
    method: str

    @property
    def distance(self) -> float:
        """Their sum, in units of squared features."""
        return self.mean + self.covariance


def calculate_frechet_distance(mu1, sigma1, mu2, sigma2, eps=1e-6) -> float:
    """The published FID's own function: the Fréchet distance by the root of sigma1 sigma2.

    A port of `calculate_frechet_distance` in fid.py of https://github.com/bioinf-jku/TTUR
    (Apache-2.0; Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local
    Nash Equilibrium", NeurIPS 2017, section 4 and eq. 6; stable version by Dougal J. Sutherland),
    with its branches:

    - Where the product has no finite root, a warning, and `eps` on both diagonals. Where SciPy
      calls the product singular and hands out a finite matrix that is not its root (1.16, 1.17),
      this counts as none.
    - An imaginary part over 1e-3 on the root's diagonal is an error; a smaller one is dropped.
    - The result is not clipped: equal rank-deficient covariances give about -1e-6 of the traces.

    For exactly singular products it depends on SciPy's version whether a root is found, and so
    which branch is taken; `frechet_distance` is exact there, and many times as fast.

    Args:
        mu1, mu2: means, [d] or scalar.
        sigma1, sigma2: covariances, [d, d] or scalar. All are taken to float64.
        eps: what a singular product gets added to both covariances' diagonals.

    Returns:
        The distance as a float, in squared units of the features.

    Raises:
        StatisticsError: (a ValueError) shapes that do not fit, NaN or infinity, or the imaginary
            component of a product of matrices that are no covariances.
    """
    mu1, mu2 = (np.atleast_1d(_finite(n, m)) for n, m in (("mu1", mu1), ("mu2", mu2)))
    sigma1, sigma2 = (
        np.atleast_2d(_finite(n, s)) for n, s in (("sigma1", sigma1), ("sigma2", sigma2))
    )
    if mu1.shape != mu2.shape:
        raise StatisticsError(
            "Training and test mean vectors have different lengths: "
            f"{mu1.shape} and {mu2.shape}, give features of one extractor"
        )
    if sigma1.shape != sigma2.shape:
        raise StatisticsError(
            "Training and test covariances have different dimensions: "
            f"{sigma1.shape} and {sigma2.shape}, give features of one extractor"
        )
    if sigma1.shape != mu1.shape * 2:
        raise StatisticsError(
            f"means of shape {mu1.shape} and covariances of shape {sigma1.shape}: expected [d] "
            "and [d, d]"
        )
    mean, covariance = _sqrtm_parts(mu1, sigma1, mu2, sigma2, eps)
    return mean + covariance


def frechet_distance(
    real: FeatureStatistics, generated: FeatureStatistics, method: str = "auto"
) -> float:
    """Fréchet distance between two sets of features, by the quickest form that is exact.

    Arguments, errors and rounding are those of `frechet_components`, whose sum this is.
    """
    return frechet_components(real, generated, method).distance


def frechet_components(
    real: FeatureStatistics, generated: FeatureStatistics, method: str = "auto"
) -> FrechetComponents:
    """The Fréchet distance's mean and covariance parts.

    Args:
        real, generated: statistics of at least 2 features each, of one dimension and extractor.
        method: "low_rank" needs the features of one side at least (`FeatureStatistics.rows`);
            "symmetric" goes on to "factors" where a covariance has no full rank, or where its own
            rounding is estimated at over 1e-10 of Tr C1 + Tr C2; "auto" takes low_rank where it
            can, then symmetric; "sqrtm" is `calculate_frechet_distance`.

    Returns:
        FrechetComponents, `method` naming the form that was used in the end. A covariance part
        that is negative by less than 1e-10 of Tr C1 + Tr C2 is rounding, and becomes 0.0; "sqrtm"
        alone is left as it comes, for it carries errors near 1e-6 of the traces.

    Raises:
        StatisticsError: fewer than 2 features on a side, different dimensions or extractors, an
            unknown method, or covariances that are none (negative eigenvalues).
    """
    if method not in METHODS:
        raise StatisticsError(f"method {method!r}: expected one of {', '.join(METHODS)}")
    for name, side in (("real", real), ("generated", generated)):
        if side.count is not None and side.count < 2:
            raise StatisticsError(
                f"the {name} statistics hold {side.count} features: a Fréchet distance needs at "
                "least 2 on each side, add images"
            )
    check_comparable(real, generated)
    if method == "sqrtm":
        parts = _sqrtm_parts(real.mean, real.covariance, generated.mean, generated.covariance, 1e-6)
        if not math.isfinite(sum(parts)):
            raise StatisticsError(f"sqrtm found no finite root of the product: use {METHODS[0]!r}")
        return FrechetComponents(*parts, "sqrtm")

    diff = real.mean - generated.mean
    mean = float(diff @ diff)
    if method in ("auto", "low_rank"):
        factors = [real.rows, generated.rows]
        if any(factor is not None for factor in factors):
            if factors[0] is None:
                factors[0] = _factor(real, "real")
            if factors[1] is None:
                factors[1] = _factor(generated, "generated")
            return FrechetComponents(mean, _from_factors(*factors), "low_rank")
        if method == "low_rank":
            raise StatisticsError(
                "method 'low_rank' needs the features of one side at least, and no more of them "
                "than dimensions: use 'auto'"
            )
    covariance = None if method == "factors" else _symmetric(real, generated)
    if covariance is not None:
        return FrechetComponents(mean, covariance, "symmetric")
    covariance = _from_factors(_factor(real, "real"), _factor(generated, "generated"))
    return FrechetComponents(mean, covariance, "factors")


def _sqrtm_parts(mu1, sigma1, mu2, sigma2, eps) -> tuple[float, float]:
    diff = mu1 - mu2
    with np.errstate(over="ignore", invalid="ignore"):  # told below
        product = sigma1.dot(sigma2)
    if not np.isfinite(product).all():
        raise StatisticsError("sigma1 sigma2 overflows float64: scale the features down")
    covmean = _square_root(product)
    if not np.isfinite(covmean).all():
        warnings.warn(
            f"fid calculation produces singular product; adding {eps} to diagonal of cov estimates",
            stacklevel=3,
        )
        offset = np.eye(sigma1.shape[0]) * eps
        covmean = _square_root((sigma1 + offset).dot(sigma2 + offset))
    if np.iscomplexobj(covmean):
        if not np.allclose(np.diagonal(covmean).imag, 0, atol=1e-3):
            m = np.max(np.abs(covmean.imag))
            raise StatisticsError(
                f"Imaginary component {m}: sigma1 or sigma2 is no covariance, or SciPy found no "
                "root of a singular product: frechet_distance needs none"
            )
        covmean = covmean.real
    trace = np.trace(sigma1) + np.trace(sigma2) - 2 * np.trace(covmean)
    return float(diff.dot(diff)), float(trace)


def _square_root(product: np.ndarray) -> np.ndarray:
    """SciPy's sqrtm on any version; NaN where it finds no root, and nothing printed or warned."""
    if not product.any():
        return np.zeros_like(product)  # SciPy 1.18 divides zero by zero here
    disp = inspect.signature(linalg.sqrtm).parameters.get("disp")
    if disp is not None and disp.default is True:
        # Before SciPy 1.16; without it, failures are printed. Later it warns, then is gone.
        return linalg.sqrtm(product, disp=False)[0]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        root = linalg.sqrtm(product)
    doubtful = any(issubclass(w.category, linalg.LinAlgWarning) for w in caught)
    if doubtful and np.isfinite(root).all():
        # Far from rounding: a root of a singular matrix is either good or a wholly other matrix.
        residual = linalg.norm(root @ root - product) / linalg.norm(product)
        if residual > 1e-3:
            return np.full_like(product, np.nan)
    return root


def _finite(name: str, value) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise StatisticsError(f"{name} is of dtype {array.dtype}: expected real numbers")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise StatisticsError(f"{name} holds NaN or infinity: compute it again")
    return array


def _symmetric(real: FeatureStatistics, generated: FeatureStatistics) -> float | None:
    """The covariance part by the symmetric eigenproblem; None where it would be inexact.

    No more than two matrices [d, d] are there at any time.
    """
    sides = (real, generated)
    sigma2 = generated.covariance
    variances = [real.covariance.diagonal().copy(), sigma2.diagonal().copy()]
    total = float(sum(of_side.sum() for of_side in variances))
    for side, of_side in zip(sides, variances, strict=True):
        dead = of_side <= 0
        if dead.any() and side.covariance[dead].any():
            return None  # covariance without variance: for the eigenvalues to refuse
    # A feature that never varies on one side adds nothing to the root, and spoils full rank.
    alive = (variances[0] > 0) & (variances[1] > 0)
    if not alive.any():
        return total

    def among_alive(sigma):
        return sigma if alive.all() else sigma[np.ix_(alive, alive)]

    sigma2 = among_alive(sigma2)
    lower = _cholesky(sigma2)
    if lower is None:
        return None
    log_det = 2 * float(np.log(lower.diagonal()).sum())
    del lower
    lower = _cholesky(among_alive(real.covariance), overwrite=True)
    if lower is None:
        return None
    log_det += 2 * float(np.log(lower.diagonal()).sum())
    product = linalg.blas.dtrmm(1.0, lower, sigma2.T, lower=1, trans_a=1, overwrite_b=1)
    product = linalg.blas.dtrmm(1.0, lower, product, lower=1, side=1, overwrite_b=1)
    w = linalg.eigvalsh(product, overwrite_a=True)
    if w[0] <= 0:
        return None
    # The determinant is known from the Cholesky factors, so the sum of relative errors of the
    # eigenvalues is known too. It tells their common absolute error, which cannot be told
    # beforehand: graded matrices have far less of it than the d eps w_max of the textbook.
    error = abs(float(np.log(w).sum()) - log_det) / float(linalg.norm(1 / w))
    rounding = error * float(np.sqrt((1 / w).sum()))  # of 2 sum(sqrt(w))
    if not 10 * rounding <= _ROUNDING * total:  # so that NaN, of underflow, is inexact too
        return None
    return _without_rounding(total - 2 * float(np.sqrt(w).sum()), total)


def _cholesky(sigma: np.ndarray, overwrite: bool = False) -> np.ndarray | None:
    """L with sigma = L L^T; None where sigma is not of full rank, as far as rounding tells."""
    variances = sigma.diagonal().copy()
    try:
        # Its transpose is the same matrix in the order that LAPACK can work in without a copy.
        lower = linalg.cholesky(sigma.T, lower=True, overwrite_a=overwrite)
    except linalg.LinAlgError:
        return None
    # Rounding may carry a singular matrix through; its pivots then are rounding themselves.
    noise = 10 * len(sigma) * np.finfo(np.float64).eps
    return lower if (lower.diagonal() ** 2 > noise * variances).all() else None


def _factor(statistics: FeatureStatistics, name: str) -> np.ndarray:
    """F [k, d] with F^T F the covariance: by Cholesky at full rank, otherwise by eigenvectors."""
    lower = _cholesky(statistics.covariance, overwrite=True)
    if lower is not None:
        return lower.T
    w, v = linalg.eigh(statistics.covariance.T, overwrite_a=True)
    if w[0] < -_NEGATIVE_TOLERANCE * max(w[-1], -w[0]):
        raise StatisticsError(
            f"the {name} covariance has the eigenvalue {w[0]:.3g} where its largest is "
            f"{w[-1]:.3g}: none may be negative, compute the statistics again"
        )
    # What is negative is rounding, and so is as much on the positive side.
    first = np.searchsorted(w, max(_RANK_TOLERANCE * w[-1], -w[0]), side="right")
    v = v[:, first:]
    v *= np.sqrt(w[first:])
    return v.T


def _from_factors(factor1: np.ndarray, factor2: np.ndarray) -> float:
    """The covariance part from C1 = F1^T F1 and C2 = F2^T F2, F1 [k, d] and F2 [l, d].

    What is in a factor that may be written to is lost.
    """
    total = float(np.vdot(factor1, factor1) + np.vdot(factor2, factor2))
    if not (len(factor1) and len(factor2)):
        return total
    # Transposed it lies as LAPACK works, without a copy.
    singular = linalg.svdvals(_product(factor1, factor2).T, overwrite_a=True)
    return _without_rounding(total - 2 * float(np.sum(singular)), total)


def _product(factor1: np.ndarray, factor2: np.ndarray) -> np.ndarray:
    """F2 F1^T or its transpose, in the place of one of them where the other one is square."""
    for left, right in ((factor2, factor1), (factor1, factor2)):
        if len(right) == right.shape[1] and left.flags.writeable:
            for i in range(0, len(left), 256):
                left[i : i + 256] = left[i : i + 256] @ right.T
            return left
    return factor2 @ factor1.T


def _without_rounding(value: float, total: float) -> float:
    if value < -_ROUNDING * total:
        raise StatisticsError(
            f"the covariance part came out as {value:.3g} with traces of {total:.3g}: a covariance "
            "has negative eigenvalues, compute the statistics again"
        )
    return max(value, 0.0)


class _Factored(FeatureStatistics):
    """Statistics with a factor of their covariance in place of the features."""

    _factor: np.ndarray | None = None

    @property
    def rows(self) -> np.ndarray | None:
        return self._factor


def factored(statistics: FeatureStatistics) -> FeatureStatistics:
    """The same statistics, their covariance factored once for many distances to them.

    Worth it against sets of at most d features; beyond that, `frechet_distance` is quicker with
    the statistics as they are. The result stays as it is: update and merge the original.

    Args:
        statistics: of at least 2 features.

    Returns:
        Statistics whose `rows` are F [k, d] with F.T @ F the covariance, k its rank.
    """
    rows = statistics.rows
    result = _Factored.from_moments(statistics.mean, statistics.covariance, statistics.count)
    result.fingerprint, result.extractor = statistics.fingerprint, statistics.extractor
    result._factor = _factor(statistics, "real") if rows is None else rows
    result._factor.flags.writeable = False
    return result
