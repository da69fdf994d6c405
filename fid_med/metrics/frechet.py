"""The Fréchet distance between two Gaussians: Heusel et al.'s function and faster exact forms.

d^2 = |mu1 - mu2|^2 + Tr C1 + Tr C2 - 2 Tr (C1 C2)^(1/2)  (Dowson & Landau 1982; Heusel et al. 2017,
eq. 6). The forms differ in how they compute the last trace:

  sqrtm      the matrix root of C1 C2, as in the original code.
  symmetric  C1 = L1 L1^T: the roots of the eigenvalues of L1^T C2 L1, which are those of C1 C2.
  low_rank   C1 = A1^T A1 with A1 the centred features / sqrt(N - 1): the singular values of
             A1 A2^T, an N x M matrix. Their squares are the eigenvalues of C1 C2. They are computed
             as roots of the eigenvalues of R R^T, where A1 A2^T = Q R.
  factors    the same as low_rank, with factors of the covariances instead of the features.
"""

from __future__ import annotations

import inspect
import math
import warnings
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from fid_med.errors import StatisticsError
from fid_med.metrics.input_checks import real_array
from fid_med.metrics.statistics import FeatureStatistics, check_comparable

METHODS = ("auto", "sqrtm", "symmetric", "low_rank", "factors")

# Share of Tr C1 + Tr C2. If the symmetric form's rounding is larger, "factors" is used instead;
# a smaller negative distance is rounded to 0.
_ROUNDING = 1e-10

# Eigenvalues of a covariance below this share of the largest are rounding.
_RANK_TOLERANCE = 1e-13

# A pivot of a triangle below this share of its column's norm is rounding.
_PIVOT_TOLERANCE = 1e-15

# Rows are put in order if the smallest norm is below this share of the largest.
_ALIKE = 1e-3

# Columns per block of LAPACK's QR.
_QR_BLOCK = 64

# Covariances whose product has entries outside this range are scaled before they are multiplied:
# products of such entries would overflow, or lose digits.
_PRODUCT_RANGE = (1e-100, 1e100)

# A matrix with an eigenvalue below minus this share of the largest is not a covariance.
_NEGATIVE_TOLERANCE = 1e-5


@dataclass(frozen=True)
class FrechetComponents:
    """The two parts of a Fréchet distance, and the form that was used.

    Attributes:
      mean: |mu1 - mu2|^2, >= 0.
      covariance: Tr C1 + Tr C2 - 2 Tr (C1 C2)^(1/2), >= 0 except with "sqrtm".
      method: "sqrtm", "symmetric", "low_rank" or "factors".
    """

    mean: float
    covariance: float
    method: str

    @property
    def distance(self) -> float:
        """The sum of both parts, in units of squared features."""
        return self.mean + self.covariance


def calculate_frechet_distance(mu1, sigma1, mu2, sigma2, eps=1e-6) -> float:
    """Computes the Fréchet distance with the matrix root of sigma1 sigma2, as the published FID.

    This is a port of `calculate_frechet_distance` in fid.py of https://github.com/bioinf-jku/TTUR
    (Apache-2.0; Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local
    Nash Equilibrium", NeurIPS 2017, section 4 and eq. 6; stable version by Dougal J. Sutherland).
    It has the same branches:

    - If the product has no finite root, a warning is given and `eps` is added to both diagonals.
      The same happens where SciPy (1.16, 1.17) calls the product singular and returns a finite
      matrix that is not its root.
    - An imaginary part above 1e-3 on the root's diagonal is an error. A smaller one is dropped.
    - The result is not clipped: equal rank-deficient covariances give about -1e-6 of the traces.

    Whether a root of an exactly singular product is found, and so which branch is taken, depends
    on SciPy's version. `frechet_distance` is exact for such products, and many times as fast.

    Args:
      mu1, mu2: means, [d] or scalar, any real dtype.
      sigma1, sigma2: covariances, [d, d] or scalar, any real dtype.
      eps: added to the diagonals of both covariances if their product is singular.

    Returns:
      The distance as a float, in units of squared features.

    Raises:
      StatisticsError: (a ValueError) shapes that do not match, NaN or infinity, a distance that
        overflows, or an imaginary component, which shows that sigma1 or sigma2 is not a covariance.

    Example:

    ```python
    import numpy as np
    from fid_med import calculate_frechet_distance

    mu, sigma = np.zeros(3), np.eye(3)
    distance = calculate_frechet_distance(mu, sigma, mu + 1, 4 * sigma)
    assert abs(distance - 6) < 1e-9  # 3 from the means, 3 from the covariances
    ```
    """
    mu1, mu2 = (np.atleast_1d(real_array(m, n)) for n, m in (("mu1", mu1), ("mu2", mu2)))
    sigma1, sigma2 = (
        np.atleast_2d(real_array(s, n)) for n, s in (("sigma1", sigma1), ("sigma2", sigma2))
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
    return _finite(
        FrechetComponents(*_sqrtm_parts(mu1, sigma1, mu2, sigma2, eps), "sqrtm")
    ).distance


def frechet_distance(
    real: FeatureStatistics, generated: FeatureStatistics, method: str = "auto"
) -> float:
    """Computes the Fréchet distance between two sets of features, by the fastest exact form.

    Args:
      real, generated: statistics of at least 2 features each, of one dimension and extractor.
      method: as for `frechet_components`.

    Returns:
      The distance as a float, in units of squared features, >= 0 (except with "sqrtm").

    Raises:
      StatisticsError: as `frechet_components`.

    Example:

    ```python
    import numpy as np
    from fid_med import FeatureStatistics, frechet_distance

    rng = np.random.default_rng(0)
    real = FeatureStatistics.from_features(rng.normal(size=(200, 16)))
    generated = FeatureStatistics.from_features(rng.normal(0.5, size=(200, 16)))
    assert frechet_distance(real, real) < 1e-9
    assert frechet_distance(real, generated) > 2
    ```
    """
    return frechet_components(real, generated, method).distance


def frechet_components(
    real: FeatureStatistics, generated: FeatureStatistics, method: str = "auto"
) -> FrechetComponents:
    """Computes the mean and covariance parts of the Fréchet distance.

    Args:
      real, generated: statistics of at least 2 features each, of one dimension and extractor.
      method: "low_rank" needs the features of at least one of the two sets
        (`FeatureStatistics.rows`). "symmetric" changes to "factors" if a covariance is not of
        full rank, or if its own rounding is estimated above 1e-10 of Tr C1 + Tr C2. "auto" is
        low_rank where possible, otherwise symmetric. "sqrtm" is `calculate_frechet_distance`.

    Returns:
      FrechetComponents; its `method` is the form that was used in the end. A negative covariance
      part of less than 1e-10 of Tr C1 + Tr C2 is rounding, and becomes 0.0. The result of
      "sqrtm" is not rounded, because its errors are near 1e-6 of the traces.

    Raises:
      StatisticsError: fewer than 2 features in a set, different dimensions or extractors, an
        unknown method, matrices with negative eigenvalues, which are not covariances, or a distance
        that overflows.
    """
    if method not in METHODS:
        raise StatisticsError(f"method {method!r}: expected one of {', '.join(METHODS)}")
    for name, side in (("real", real), ("generated", generated)):
        if side.count is not None and side.count < 2:
            raise StatisticsError(
                f"the {name} statistics hold {side.count} features: a Fréchet distance needs at "
                "least 2 per set, add images"
            )
    check_comparable(real, generated)
    with np.errstate(over="ignore", invalid="ignore"):  # reported by `_finite`
        return _finite(_components(real, generated, method))


def _components(real, generated, method) -> FrechetComponents:
    if method == "sqrtm":
        parts = _sqrtm_parts(real.mean, real.covariance, generated.mean, generated.covariance, 1e-6)
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
                "method 'low_rank' needs the features of at least one set, and at most d of "
                "them: use 'auto'"
            )
    covariance = None if method == "factors" else _symmetric(real, generated)
    if covariance is not None:
        return FrechetComponents(mean, covariance, "symmetric")
    covariance = _from_factors(_factor(real, "real"), _factor(generated, "generated"))
    return FrechetComponents(mean, covariance, "factors")


def _finite(found: FrechetComponents) -> FrechetComponents:
    """Raises StatisticsError unless both parts of a distance, and their sum, are finite."""
    if not math.isfinite(found.distance):
        raise StatisticsError(
            f"the distance is {found.distance}: it overflows float64, or the matrix root was not "
            "found: scale the features down"
        )
    return found


def _sqrtm_parts(mu1, sigma1, mu2, sigma2, eps) -> tuple[float, float]:
    diff = mu1 - mu2
    with np.errstate(over="ignore"):  # reported by the caller
        mean = float(diff.dot(diff))
    covmean = _root_of_product(sigma1, sigma2)
    if not np.isfinite(covmean).all():
        warnings.warn(
            f"fid calculation produces singular product; adding {eps} to diagonal of cov estimates",
            stacklevel=3,
        )
        offset = np.eye(sigma1.shape[0]) * eps
        covmean = _root_of_product(sigma1 + offset, sigma2 + offset)
    if np.iscomplexobj(covmean):
        if not np.allclose(np.diagonal(covmean).imag, 0, atol=1e-3):
            m = np.max(np.abs(covmean.imag))
            raise StatisticsError(
                f"Imaginary component {m}: sigma1 or sigma2 is not a covariance, or SciPy found no "
                "root of a singular product: use frechet_distance, which needs none"
            )
        covmean = covmean.real
    trace = np.trace(sigma1) + np.trace(sigma2) - 2 * np.trace(covmean)
    return mean, float(trace)


def _root_of_product(sigma1: np.ndarray, sigma2: np.ndarray) -> np.ndarray:
    """Computes a root of sigma1 sigma2, also where the product itself is out of float64's range."""
    largest = [float(np.abs(sigma).max()) for sigma in (sigma1, sigma2)]
    low, high = _PRODUCT_RANGE
    if 0 in largest or low < largest[0] * largest[1] < high:
        return _square_root(sigma1.dot(sigma2))
    # By powers of 4, so that their roots are exact and no digit changes.
    halves = [min(500, -(math.frexp(x)[1] // 2)) for x in largest]
    root = _square_root((sigma1 * 4.0 ** halves[0]).dot(sigma2 * 4.0 ** halves[1]))
    return root * 2.0 ** -halves[0] * 2.0 ** -halves[1]


def _square_root(product: np.ndarray) -> np.ndarray:
    """Calls SciPy's sqrtm of any version, without output; returns NaN where it finds no root."""
    if not product.any():
        return np.zeros_like(product)  # SciPy 1.18 divides zero by zero here
    disp = inspect.signature(linalg.sqrtm).parameters.get("disp")
    if disp is not None and disp.default is True:
        # Before SciPy 1.16. With disp=True failures are printed; later versions give warnings.
        return linalg.sqrtm(product, disp=False)[0]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        root = linalg.sqrtm(product)
    doubtful = any(issubclass(w.category, linalg.LinAlgWarning) for w in caught)
    if doubtful and np.isfinite(root).all():
        # A root of a singular matrix is either accurate or completely wrong.
        residual = linalg.norm(root @ root - product) / linalg.norm(product)
        if residual > 1e-3:
            return np.full_like(product, np.nan)
    return root


def _symmetric(real: FeatureStatistics, generated: FeatureStatistics) -> float | None:
    """Computes the covariance part by the symmetric eigenproblem; None where it is inexact.

    At most two [d, d] matrices are in memory at any time.
    """
    sides = (real, generated)
    sigma2 = generated.covariance
    variances = [real.covariance.diagonal().copy(), sigma2.diagonal().copy()]
    total = float(sum(of_side.sum() for of_side in variances))
    for side, of_side in zip(sides, variances, strict=True):
        dead = of_side <= 0
        if dead.any() and side.covariance[dead].any():
            return None  # covariance without variance: "factors" rejects it by its eigenvalues
    low, high = _PRODUCT_RANGE
    largest = [float(of_side.max()) for of_side in variances]
    if min(largest) > 0 and not low < largest[0] * largest[1] < high:
        return None  # "factors" multiplies roots of the covariances, which stay in range
    # A feature that is constant in one set adds nothing to the root, but makes it singular.
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
    # Not `>`, so that NaN is inexact too.
    if not 100 * _rounding_of_roots(w, log_det) <= _ROUNDING * total:
        return None
    return _without_rounding(total - 2 * float(np.sqrt(w).sum()), total)


def _cholesky(sigma: np.ndarray, overwrite: bool = False) -> np.ndarray | None:
    """Computes L with sigma = L L^T; None if sigma is not of full rank within rounding."""
    variances = sigma.diagonal().copy()
    try:
        # The transpose is the same matrix, in the memory order that LAPACK needs without a copy.
        lower = linalg.cholesky(sigma.T, lower=True, overwrite_a=overwrite)
    except linalg.LinAlgError:
        return None
    # Rounding can hide that a matrix is singular; then its pivots are rounding.
    noise = 10 * len(sigma) * np.finfo(np.float64).eps
    return lower if (lower.diagonal() ** 2 > noise * variances).all() else None


def _factor(statistics: FeatureStatistics, name: str) -> np.ndarray:
    """Computes F [k, d] with F^T F the covariance, by Cholesky or, below full rank, by eigh."""
    lower = _cholesky(statistics.covariance, overwrite=True)
    if lower is not None:
        return lower.T
    w, v = linalg.eigh(statistics.covariance.T, overwrite_a=True)
    if w[0] < -_NEGATIVE_TOLERANCE * max(w[-1], -w[0]):
        raise StatisticsError(
            f"the {name} covariance has the eigenvalue {w[0]:.3g} where its largest is "
            f"{w[-1]:.3g}: none may be negative, compute the statistics again"
        )
    # A negative eigenvalue is rounding; positive ones of the same size are rounding too.
    first = np.searchsorted(w, max(_RANK_TOLERANCE * w[-1], -w[0]), side="right")
    v = v[:, first:]
    v *= np.sqrt(w[first:])
    return v.T


def _from_factors(factor1: np.ndarray, factor2: np.ndarray) -> float:
    """Computes the covariance part from C1 = F1^T F1 and C2 = F2^T F2, F1 [k, d] and F2 [l, d].

    A factor that is writeable may be overwritten.
    """
    total = float(np.vdot(factor1, factor1) + np.vdot(factor2, factor2))
    if not (len(factor1) and len(factor2)):
        return total
    root = _sum_of_singular_values(_product(factor1, factor2), total)
    return _without_rounding(total - 2 * root, total)


def _sum_of_singular_values(matrix: np.ndarray, total: float) -> float:
    """Computes Tr (M^T M)^(1/2) of M [n, m], within 1e-10 of `total`. M may be overwritten.

    Singular values need a reduction of M to two diagonals, which takes most of their time. The
    eigenvalues of R R^T, where M or its transpose is Q R, need one of half the cost. Squares lose
    the small singular values in rounding in general. They keep them here: the rows of R become
    smaller and smaller, and eigenvalues of such a graded matrix have a small relative error.
    `_rounding_of_roots` decides whether that was so.
    """
    largest = max(float(matrix.max()), -float(matrix.min()))
    if not 0 < largest < math.inf:
        return 0.0 if largest == 0 else math.nan
    # By a power of 2, so that no digit changes: the squares must stay in range.
    unit = 2.0 ** min(max(math.frexp(largest)[1], -1000), 1000)
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    norms = linalg.norm(wide, axis=1)
    if norms.min() < _ALIKE * norms.max():
        # The largest first: rows of factors may grow, and so would those of R.
        wide = wide[np.argsort(-norms, kind="stable")]
    wide /= unit
    # The transpose has LAPACK's memory order, so that nothing is copied.
    tall, size = wide.T, len(wide)
    triangle, _, _, _ = linalg.lapack.dgeqrf(tall, lwork=_QR_BLOCK * size, overwrite_a=True)
    triangle = np.tril(triangle[:size].T).T
    pivots = np.abs(triangle.diagonal())
    # The last row, of one entry, is rounding where the features of a set are centred.
    if pivots[-1] <= _RANK_TOLERANCE * total / unit:
        size -= 1
    # Where another is rounding, such as for copies of an image, so are some of the eigenvalues.
    if size and (pivots > _PIVOT_TOLERANCE * linalg.norm(triangle, axis=0))[:size].all():
        log_det = 2 * float(np.log(pivots[:size]).sum())
        if size < len(triangle):
            rest = linalg.solve_triangular(triangle[:size, :size], triangle[:size, size])
            log_det += float(np.log1p(rest @ rest))
        gram, _ = linalg.lapack.dlauum(triangle)
        # "lower": the upper triangle is reduced from the wrong end of the graded rows.
        w = linalg.eigvalsh(gram[:size, :size].T, lower=True, overwrite_a=True)
        if 1e4 * _rounding_of_roots(w, log_det) <= _ROUNDING * total / unit:
            return float(np.sqrt(w).sum()) * unit
    return float(linalg.svdvals(triangle, overwrite_a=True).sum()) * unit


def _rounding_of_roots(eigenvalues: np.ndarray, log_det: float) -> float:
    """Estimates the rounding of 2 sum(sqrt(eigenvalues)) from the determinant; NaN if unknown.

    The determinant is known from the factors of the matrix, and so is the sum of the relative
    errors of the eigenvalues. It gives their common absolute error, for which there is no useful
    bound in advance: graded matrices have far less of it than the textbook's d eps w_max. It is
    one draw of that error, too small by a factor of k in about one case of k: leave room for it.
    """
    if eigenvalues[0] <= 0:
        return math.nan
    inverse = 1 / eigenvalues
    error = abs(float(np.log(eigenvalues).sum()) - log_det) / float(linalg.norm(inverse))
    return error * float(np.sqrt(inverse.sum()))


def _product(factor1: np.ndarray, factor2: np.ndarray) -> np.ndarray:
    """Computes F2 F1^T or its transpose, in place of one factor where the other is square."""
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
    """Statistics that return a factor of their covariance as `rows`."""

    _factor: np.ndarray | None = None

    @property
    def rows(self) -> np.ndarray | None:
        return self._factor


def factored(statistics: FeatureStatistics) -> FeatureStatistics:
    """Returns the same statistics with their covariance factored, for many distances to them.

    This saves time against sets of at most d features. Against larger sets `frechet_distance` is
    faster with the original statistics. Do not update or merge the result.

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
