"""The Fréchet distance: every form against closed forms, the original's code and each other."""

import inspect
import subprocess
import sys
import warnings

import numpy as np
import pytest
import scipy.linalg

from fid_med.errors import StatisticsError
from fid_med.metrics import frechet
from fid_med.metrics.frechet import (
    FrechetComponents,
    calculate_frechet_distance,
    frechet_components,
    frechet_distance,
)
from fid_med.metrics.statistics import FeatureStatistics

pytestmark = pytest.mark.filterwarnings("error")

FORMS = ("auto", "sqrtm", "symmetric", "factors")


def orthogonal(d, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def with_spectrum(w, q):
    """q diag(w) q^T, symmetric to the last bit."""
    sigma = (q * w) @ q.T
    return (sigma + sigma.T) / 2


def decaying_features(n, d, seed, decades=7.0, shift=0.0):
    """n Gaussian features whose spectrum falls by `decades`, in axes all forms share."""
    rng = np.random.default_rng(seed)
    scale = 10 ** (-decades / 2 * np.arange(d) / d)
    return (rng.normal(size=(n, d)) * scale) @ orthogonal(d, 99) + shift


def moments(mu, sigma, count=None):
    return FeatureStatistics.from_moments(mu, sigma, count)


def bare(statistics):
    """The same without the features, as a file gives it."""
    return moments(statistics.mean, statistics.covariance, statistics.count)


def traces(a, b):
    return np.trace(a.covariance) + np.trace(b.covariance)


def reference(mu1, sigma1, mu2, sigma2):
    """The definition, by the eigenvalues of C1 C2, which are real and not negative."""
    w = scipy.linalg.eigvals(sigma1 @ sigma2)
    assert np.abs(w.imag).max() <= 1e-6 * np.abs(w).max()
    root = np.sqrt(w.astype(complex)).real.sum()
    return ((mu1 - mu2) ** 2).sum() + np.trace(sigma1) + np.trace(sigma2) - 2 * root


# Closed forms


@pytest.mark.parametrize("method", FORMS)
@pytest.mark.parametrize(
    ("m1", "s1", "m2", "s2"), [(1, 2, 4, 0.5), (0, 1e-3, 0, 1e3), (5, 1, 5, 1)]
)
def test_one_dimension(method, m1, s1, m2, s2):
    expected = (m1 - m2) ** 2 + (s1 - s2) ** 2
    value = frechet_distance(moments([m1], [[s1**2]]), moments([m2], [[s2**2]]), method)
    assert value == pytest.approx(expected, rel=1e-9, abs=1e-15)
    assert calculate_frechet_distance(m1, s1**2, m2, s2**2) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("method", FORMS)
@pytest.mark.parametrize("d", [2, 60])
def test_diagonal_and_commuting_covariances(method, d):
    rng = np.random.default_rng(d)
    s1, s2 = rng.uniform(0.1, 3, size=(2, d))
    mu1, mu2 = rng.normal(size=(2, d))
    expected = ((mu1 - mu2) ** 2).sum() + ((s1 - s2) ** 2).sum()
    for q in (np.eye(d), orthogonal(d)):
        a, b = moments(mu1, with_spectrum(s1**2, q)), moments(mu2, with_spectrum(s2**2, q))
        assert frechet_distance(a, b, method) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("method", "rtol"), [("auto", 1e-12), ("factors", 1e-12), ("sqrtm", 1e-5)])
def test_two_by_two_that_do_not_commute(method, rtol):
    """Tr (C1 C2)^(1/2) = sqrt(Tr C1 C2 + 2 sqrt(det C1 C2)) at d = 2, also at rank one."""
    for c in (0.0, 0.3):
        c1, c2 = np.array([[2.0, 1.0], [1.0, 0.5 + c]]), np.array([[1.0, -0.4], [-0.4, 3.0]])
        det = 2 * c * (3 - 0.16)
        expected = 2.5 + c + 4 - 2 * np.sqrt(np.trace(c1 @ c2) + 2 * np.sqrt(det))
        value = frechet_distance(moments([0, 0], c1), moments([0, 0], c2), method)
        assert value == pytest.approx(expected, rel=rtol)


@pytest.mark.parametrize("method", ["auto", "symmetric", "factors"])
def test_rank_deficient_with_known_answer(method):
    """Shared eigenvectors: 20 live in both, 10 in one alone, 30 in none."""
    rng = np.random.default_rng(4)
    s1, s2 = np.zeros(60), np.zeros(60)
    s1[:20], s2[:20] = rng.uniform(0.01, 3, size=(2, 20))
    s1[20:25], s2[25:30] = 1.0, 2.0
    q = orthogonal(60)
    a, b = (
        moments(np.zeros(60), with_spectrum(s1**2, q)),
        moments(np.zeros(60), with_spectrum(s2**2, q)),
    )
    expected = ((s1 - s2) ** 2).sum()
    result = frechet_components(a, b, method)
    assert result.distance == pytest.approx(expected, abs=1e-12 * traces(a, b))
    assert result.method == "factors"


def test_constant_features_and_constant_sets():
    a = moments(np.zeros(3), np.diag([4.0, 0.0, 1.0]))
    b = moments(np.ones(3), np.diag([1.0, 5.0, 0.0]))
    nothing = moments(np.full(3, 2.0), np.zeros((3, 3)))
    for method in ("auto", "symmetric", "factors"):
        assert frechet_distance(a, b, method) == pytest.approx(3 + 11 - 2 * 2, rel=1e-14)
        assert frechet_distance(a, nothing, method) == pytest.approx(12 + 5, rel=1e-14)
        assert frechet_distance(nothing, nothing, method) == 0
    assert frechet_components(a, b, "auto").method == "symmetric"
    same = FeatureStatistics.from_features(np.ones((4, 9)))
    assert frechet_distance(same, same) == 0
    assert frechet_distance(same, same, "sqrtm") == 0
    assert calculate_frechet_distance(np.zeros(3), np.zeros((3, 3)), np.ones(3), np.eye(3)) == 6


def test_ill_conditioned_with_known_answer():
    """Spectra over 12 decades, C2 = t^2 C1: the answer is (1 - t)^2 Tr C1 whatever the axes."""
    w = 10.0 ** -np.linspace(0, 12, 120)
    c = with_spectrum(w, orthogonal(120))
    a, b = moments(np.zeros(120), c), moments(np.zeros(120), 2.25 * c)
    for method in ("auto", "symmetric", "factors"):
        assert frechet_distance(a, b, method) == pytest.approx(0.25 * w.sum(), rel=1e-11)


def test_low_rank_against_longdouble():
    """Three rows on each side: Tr (C1 C2)^(1/2) from a 2 x 2 problem, solved in longdouble."""
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(2, 3, 50)).astype(np.longdouble)
    # An orthonormal basis of the differences of three rows replaces their centring.
    basis = np.array([[1, -1, 0], [1, 1, -2]], np.longdouble)
    basis /= np.sqrt((basis**2).sum(axis=1, keepdims=True))
    f1, f2 = basis @ x / np.sqrt(np.longdouble(2)), basis @ y / np.sqrt(np.longdouble(2))
    b = f1 @ f2.T
    nuclear = np.sqrt((b**2).sum() + 2 * abs(b[0, 0] * b[1, 1] - b[0, 1] * b[1, 0]))
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + (f1**2).sum() + (f2**2).sum() - 2 * nuclear
    a, b = (FeatureStatistics.from_features(f.astype(float)) for f in (x, y))
    assert frechet_components(a, b).method == "low_rank"
    assert frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-14)
    assert frechet_distance(a, b, "factors") == pytest.approx(float(expected), rel=1e-12)
    assert frechet_distance(a, b, "sqrtm") == pytest.approx(float(expected), rel=1e-6)


# Forms against each other


def test_forms_agree_at_full_rank():
    x, y = decaying_features(400, 96, 1), decaying_features(300, 96, 2, shift=0.02)
    a, b = FeatureStatistics.from_features(x), FeatureStatistics.from_features(y)
    expected = reference(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))
    # Singular values of the QR factors of the data: no covariance in between.
    factors = [np.linalg.qr(f - f.mean(0), mode="r") / np.sqrt(len(f) - 1) for f in (x, y)]
    root = np.linalg.svd(factors[0] @ factors[1].T, compute_uv=False).sum()
    exact = ((x.mean(0) - y.mean(0)) ** 2).sum() + sum((f**2).sum() for f in factors) - 2 * root
    assert expected == pytest.approx(exact, rel=1e-6)
    for method, rtol in (
        ("auto", 1e-11),
        ("symmetric", 1e-11),
        ("factors", 1e-11),
        ("sqrtm", 1e-6),
    ):
        result = frechet_components(a, b, method)
        assert result.distance == pytest.approx(exact, rel=rtol)
        assert result.method == {"auto": "symmetric"}.get(method, method)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), rel=1e-11)


@pytest.mark.parametrize(("n", "m"), [(30, 30), (30, 64), (64, 30)])
def test_forms_agree_below_full_rank(n, m):
    d = 64
    x, y = decaying_features(n, d, 1), decaying_features(m, d, 2, shift=0.1)
    a, b = FeatureStatistics.from_features(x), FeatureStatistics.from_features(y)
    exact = frechet_distance(a, b, "low_rank")
    total = traces(a, b)
    for real in (a, bare(a)):
        for generated in (b, bare(b)):
            result = frechet_components(real, generated)
            assert result.distance == pytest.approx(exact, abs=1e-11 * total)
            bares = real is not a and generated is not b
            assert result.method == ("factors" if bares else "low_rank")
    assert frechet_components(a, b, "symmetric").method == "factors"
    assert frechet_distance(a, b, "factors") == pytest.approx(exact, abs=1e-11 * total)
    assert frechet_distance(a, b, "sqrtm") == pytest.approx(exact, abs=1e-5 * total)
    expected = reference(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))
    assert expected == pytest.approx(exact, abs=1e-5 * total)


@pytest.mark.parametrize(
    ("kind", "by_eigenvalues"),
    [("decaying", True), ("steep", True), ("equal", True), ("copies", False), ("few", False)],
)
@pytest.mark.parametrize(("n", "m"), [(2, 2), (90, 90), (60, 90), (90, 60)])
def test_eigenvalues_of_r_give_the_singular_values(kind, by_eigenvalues, n, m, monkeypatch):
    """Both are exact to rounding; the promise is 1e-10 of the traces.

    Where the rank is lower than the number of images, the singular values are computed.
    """
    rng, d = np.random.default_rng(3), 120
    decades = {"steep": 12, "equal": 0}.get(kind, 4)
    spectrum = 10.0 ** -np.linspace(0, decades / 2, d)
    axes = orthogonal(d)
    sides = []
    for count in (n, m):
        x = rng.normal(size=(count, d)) * spectrum @ axes
        if kind == "copies":
            x[1] = x[0]
        if kind == "few":
            x[:, 20:] = 0
        sides.append(FeatureStatistics.from_features(x))
    rows = [side.rows for side in sides]
    svdvals = scipy.linalg.svdvals
    singular = svdvals(rows[0] @ rows[1].T)
    expected = sum(float(np.trace(side.covariance)) for side in sides) - 2 * singular.sum()
    calls = []
    monkeypatch.setattr(
        scipy.linalg, "svdvals", lambda *a, **k: calls.append(a) or svdvals(*a, **k)
    )
    found = frechet_components(*sides)
    assert found.covariance == pytest.approx(expected, abs=1e-13 * traces(*sides))
    assert found.method == "low_rank"
    if min(n, m) > 20:
        assert (not calls) == by_eigenvalues


@pytest.mark.parametrize("wide", [True, False])
def test_rows_that_grow_lose_no_singular_value(wide):
    """Factors of a covariance of low rank come with the smallest row first."""
    rng = np.random.default_rng(4)
    matrix = 10.0 ** np.linspace(-9, 0, 150)[:, None] * rng.normal(size=(150, 180))
    matrix = matrix if wide else np.ascontiguousarray(matrix.T)
    expected = scipy.linalg.svdvals(matrix).sum()
    found = frechet._sum_of_singular_values(matrix.copy(), 2 * expected)
    assert found == pytest.approx(expected, rel=1e-13)


def test_features_on_one_side_and_a_full_covariance_on_the_other():
    x, y = decaying_features(25, 64, 1), decaying_features(400, 64, 2, shift=0.1)
    a, b = FeatureStatistics.from_features(x), FeatureStatistics.from_features(y)
    assert a.rows is not None
    assert b.rows is None
    centred = [(f - f.mean(0)) / np.sqrt(len(f) - 1) for f in (x, y)]
    root = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    exact = ((x.mean(0) - y.mean(0)) ** 2).sum() + sum((f**2).sum() for f in centred) - 2 * root
    for pair in ((a, b), (b, a)):
        assert frechet_components(*pair).method == "low_rank"
        assert frechet_distance(*pair) == pytest.approx(exact, rel=1e-12)
        assert frechet_distance(*map(bare, pair)) == pytest.approx(exact, rel=1e-10)


@pytest.mark.parametrize("n", [200, 900])
def test_spectrum_like_that_of_radiographs(n):
    """Effective rank 8 of 512: half the trace in 5 directions, the tail 1e-9 of the largest."""
    d = 512
    w = np.exp(-np.arange(d) / 8.0) + 1e-9
    rng = np.random.default_rng(7)
    q = orthogonal(d, 3)
    x = (rng.normal(size=(n, d)) * np.sqrt(w)) @ q
    y = (rng.normal(size=(n, d)) * np.sqrt(w[::-1] * 1e-3 + w)) @ q + 0.01
    factors = [np.linalg.qr(f - f.mean(0), mode="r") / np.sqrt(n - 1) for f in (x, y)]
    root = np.linalg.svd(factors[0] @ factors[1].T, compute_uv=False).sum()
    exact = ((x.mean(0) - y.mean(0)) ** 2).sum() + sum((f**2).sum() for f in factors) - 2 * root
    a, b = FeatureStatistics.from_features(x), FeatureStatistics.from_features(y)
    for pair in ((a, b), (bare(a), b), (bare(a), bare(b))):
        assert frechet_distance(*pair) == pytest.approx(exact, rel=1e-9)
    assert frechet_distance(a, b, "factors") == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(("n", "d"), [(2, 160), (40, 160), (159, 160), (160, 160), (500, 160)])
def test_a_set_against_itself_is_zero(n, d):
    x = decaying_features(n, d, 1, decades=9) * 10 + 5
    a = FeatureStatistics.from_features(x)
    shuffled = FeatureStatistics.from_features(x[np.random.default_rng(0).permutation(n)])
    for pair in ((a, a), (a, bare(a)), (bare(a), bare(a)), (a, shuffled)):
        for method in ("auto", "symmetric", "factors"):
            value = frechet_distance(*pair, method)
            assert 0 <= value < 1e-9
            assert not np.signbit(value)


# The check that the symmetric form makes on itself


def symmetric(c1, c2):
    return frechet._symmetric(*(moments(np.zeros(len(c)), c) for c in (c1, c2)))


def test_symmetric_form_detects_its_own_rounding():
    """C1 = I and C2 anti-graded leave eigenvalues at the noise: the factors must take over."""
    d = 128
    w = 10.0 ** -np.linspace(0, 11, d)
    graded = np.diag(w[::-1])
    rotated = with_spectrum(w, orthogonal(d))
    assert symmetric(graded, rotated) is None
    result = frechet_components(
        moments(np.zeros(d), graded), moments(np.zeros(d), rotated), "symmetric"
    )
    assert result.method == "factors"
    l2 = scipy.linalg.cholesky(rotated, lower=True)
    root = scipy.linalg.svdvals(np.sqrt(w[::-1])[:, None] * l2).sum()
    assert result.distance == pytest.approx(2 * w.sum() - 2 * root, rel=1e-10)
    harmless = with_spectrum(w[: d // 3], orthogonal(d // 3))
    assert symmetric(harmless, harmless) == pytest.approx(0, abs=1e-12)


def test_estimate_of_rounding_is_not_blind(monkeypatch):
    """Eigenvalues off by an absolute error, as a worse LAPACK would give, must be refused."""
    x, y = decaying_features(400, 64, 1, decades=5), decaying_features(400, 64, 2, decades=5)
    c1, c2 = np.cov(x.T), np.cov(y.T)
    exact = symmetric(c1, c2)
    assert exact is not None
    eigvalsh = scipy.linalg.eigvalsh
    for noise, accepted in ((1e-17, True), (1e-11, False)):
        rng = np.random.default_rng(0)

        def noisy(g, noise=noise, rng=rng, **options):
            w = eigvalsh(g, **options)
            return np.sort(np.abs(w + noise * w[-1] * rng.normal(size=len(w))))

        monkeypatch.setattr(scipy.linalg, "eigvalsh", noisy)
        value = symmetric(c1, c2)
        assert (value is not None) == accepted
        if accepted:
            assert value == pytest.approx(exact, abs=1e-10 * np.trace(c1 + c2))


def test_cholesky_refuses_pivots_of_rounding():
    x = decaying_features(64, 64, 1)  # rank 63: the last pivot is rounding, of either sign
    assert frechet._cholesky(np.cov(x.T)) is None
    assert frechet._cholesky(np.cov(decaying_features(200, 64, 1).T)) is not None
    tiny_but_sound = np.diag([1.0, 1e-20, 1e20])
    assert frechet._cholesky(tiny_but_sound) is not None


# Errors and results


def test_components():
    a = moments([0.0, 0.0], np.eye(2))
    b = moments([3.0, 4.0], 4 * np.eye(2))
    for method in FORMS:
        result = frechet_components(a, b, method)
        assert isinstance(result, FrechetComponents)
        assert result.mean == 25
        assert result.covariance == pytest.approx(2)
        assert result.distance == frechet_distance(a, b, method)
        assert isinstance(result.distance, float)
    assert frechet_components(a, b, "sqrtm").distance == calculate_frechet_distance(
        a.mean, a.covariance, b.mean, b.covariance
    )


def test_errors_of_statistics():
    a = FeatureStatistics.from_features(np.eye(3))
    with pytest.raises(StatisticsError, match="dimension 3 and of dimension 2"):
        frechet_distance(a, FeatureStatistics.from_features(np.eye(2)))
    for one in (FeatureStatistics(3), FeatureStatistics.from_features(np.ones((1, 3)))):
        with pytest.raises(StatisticsError, match=f"real statistics hold {one.count} features"):
            frechet_distance(one, a)
        with pytest.raises(StatisticsError, match="generated statistics hold"):
            frechet_distance(a, one, "sqrtm")
    with pytest.raises(StatisticsError, match="'fast': expected one of auto, sqrtm"):
        frechet_distance(a, a, "fast")
    with pytest.raises(StatisticsError, match="needs the features of at least one set"):
        frechet_distance(bare(a), bare(a), "low_rank")
    b = FeatureStatistics.from_features(np.eye(3))
    a.fingerprint, b.fingerprint = "a" * 64, "b" * 64
    with pytest.raises(StatisticsError, match="different extractors"):
        frechet_distance(a, b)


def test_matrices_that_are_no_covariances():
    good = moments([0, 0], np.eye(2))
    bad = moments([0, 0], [[1.0, 2.0], [2.0, 1.0]])
    for method in ("auto", "symmetric", "factors"):
        with pytest.raises(StatisticsError, match="generated covariance has the eigenvalue -1 "):
            frechet_distance(good, bad, method)
    with pytest.raises(StatisticsError, match="Imaginary component"):
        frechet_distance(good, bad, "sqrtm")
    with pytest.raises(StatisticsError, match=r"real covariance has the eigenvalue -0\.618"):
        frechet_distance(moments([0, 0], [[0.0, 1.0], [1.0, 1.0]]), good)
    assert frechet._without_rounding(-1e-11, 1.0) == 0
    with pytest.raises(StatisticsError, match="came out as -1e-09"):
        frechet._without_rounding(-1e-9, 1.0)


def test_float32_files_of_low_rank():
    """Their rounding has both signs: the negative eigenvalues show what is to be dropped."""
    x, y = decaying_features(100, 300, 1, decades=2), decaying_features(100, 300, 2, decades=2)
    a, b = (FeatureStatistics.from_features(f) for f in (x, y))
    c, d = (moments(s.mean, s.covariance.astype(np.float32)) for s in (a, b))
    exact = frechet_distance(a, b)
    assert frechet_distance(c, d) == pytest.approx(exact, abs=2e-9 * traces(a, b))
    assert 0 <= frechet_distance(c, c) < 1e-9


# The port


def original(mu1, sigma1, mu2, sigma2, eps=1e-6):
    """Heusel et al.'s steps, written down again from the paper's code for covariances that are
    real and regular enough for any SciPy."""
    root = scipy.linalg.sqrtm(np.dot(sigma1, sigma2))
    if not np.isfinite(root).all():
        shifted1, shifted2 = (s + eps * np.identity(len(s)) for s in (sigma1, sigma2))
        root = scipy.linalg.sqrtm(np.dot(shifted1, shifted2))
    difference = np.subtract(mu1, mu2)
    total = np.trace(sigma1) + np.trace(sigma2) - 2 * np.real(np.trace(root))
    return np.dot(difference, difference) + total


@pytest.mark.parametrize(("n", "d"), [(200, 3), (200, 80), (30, 80)])
def test_port_equals_the_original(n, d, capfd):
    x, y = decaying_features(n, d, 1), decaying_features(n + 9, d, 2, shift=0.3)
    arguments = x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = calculate_frechet_distance(*arguments)
    assert isinstance(value, float)
    assert capfd.readouterr() == ("", "")
    assert value == pytest.approx(original(*arguments), rel=1e-12)
    assert value == pytest.approx(reference(*arguments), rel=1e-6)
    as_lists = [v.tolist() for v in arguments]
    assert calculate_frechet_distance(*as_lists) == value


def test_port_takes_scalars():
    assert calculate_frechet_distance(1, 4, 3, 9) == 5
    assert calculate_frechet_distance(np.array(1.0), np.array(4.0), [3.0], [[9.0]]) == 5


@pytest.mark.parametrize("d", [2, 100])
@pytest.mark.parametrize("eps", [1e-6, 1e-2])
def test_singular_product_adds_eps(d, eps, capfd):
    """A product without a root, for every SciPy: 1.17 hands out a finite non-root at d = 100."""
    product = np.zeros((d, d))
    product[0, -1] = 1
    message = f"fid calculation produces singular product; adding {eps} to diagonal"
    with pytest.warns(UserWarning, match=message) as caught:
        value = calculate_frechet_distance(np.zeros(d), np.eye(d), np.ones(d), product, eps=eps)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    # (I + eps)(product + eps) has the one eigenvalue (1 + eps) eps, d times.
    assert value == pytest.approx(d + d - 2 * d * np.sqrt((1 + eps) * eps), rel=1e-9)
    assert capfd.readouterr() == ("", "")


def fake_sqrtm(monkeypatch, *results):
    """Stands in for sqrtm: hands out the results in turn, and keeps what it was given."""
    given, results = [], list(results)

    def sqrtm(product):
        given.append(product)
        return results.pop(0)

    monkeypatch.setattr(scipy.linalg, "sqrtm", sqrtm)
    return given


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_eps_branch_in_detail(monkeypatch, bad):
    c1, c2 = np.diag([1.0, 2.0]), np.diag([3.0, 4.0])
    broken = np.array([[1.0, bad], [0.0, 1.0]])
    given = fake_sqrtm(monkeypatch, broken, 5 * np.eye(2))
    with pytest.warns(UserWarning, match="adding 0.5 to diagonal"):
        value = calculate_frechet_distance([0, 0], c1, [1, 0], c2, eps=0.5)
    np.testing.assert_array_equal(given[0], c1 @ c2)
    np.testing.assert_array_equal(given[1], (c1 + 0.5 * np.eye(2)) @ (c2 + 0.5 * np.eye(2)))
    assert value == 1 + 3 + 7 - 2 * 10


def test_imaginary_branch(monkeypatch):
    c = np.eye(2)
    root = np.array([[1, 0.7j], [0.3, 1 + 0.9e-3j]])
    fake_sqrtm(monkeypatch, root)
    assert calculate_frechet_distance([0, 0], c, [0, 0], c) == 0
    fake_sqrtm(monkeypatch, root + np.diag([0, 0.2e-3j]))
    # The maximum over the whole imaginary part, not its diagonal.
    with pytest.raises(ValueError, match=r"^Imaginary component 0\.7\b") as caught:
        calculate_frechet_distance([0, 0], c, [0, 0], c)
    assert isinstance(caught.value, StatisticsError)


def test_imaginary_component_of_an_indefinite_matrix():
    with pytest.raises(StatisticsError, match=r"Imaginary component 2\.0"):
        calculate_frechet_distance([0, 0], np.eye(2), [0, 0], np.diag([1.0, -4.0]))


def test_old_and_new_signatures_of_sqrtm(monkeypatch):
    calls = []

    def old(product, disp=True, blocksize=64):
        calls.append(disp)
        if disp:
            return np.eye(2)
        return np.eye(2), 0.0

    def deprecating(product, disp="no value", blocksize="no value"):
        calls.append(disp)
        return np.eye(2)

    for fake, disp in ((old, False), (deprecating, "no value")):
        monkeypatch.setattr(scipy.linalg, "sqrtm", fake)
        assert calculate_frechet_distance([0, 0], np.eye(2), [0, 0], np.eye(2)) == 0
        assert calls.pop() == disp
    assert "disp" in inspect.signature(old).parameters


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 0], np.eye(2), [0], np.eye(2)), "Training and test mean vectors have different len"),
        (([0, 0], np.eye(2), [0, 0], np.eye(3)), "Training and test covariances have different d"),
        (([0, 0], np.eye(3), [0, 0], np.eye(3)), r"means of shape \(2,\) and covariances of shape"),
        (([0, 0], np.ones((2, 3)), [0, 0], np.ones((2, 3))), "covariances of shape"),
        (([0, np.nan], np.eye(2), [0, 0], np.eye(2)), "1 of 2 entries of mu1 are NaN or infinite"),
        (
            ([0, 0], np.eye(2), [0, 0], np.full((2, 2), np.inf)),
            "4 of 4 entries of sigma2 are NaN or infinite",
        ),
        (([0, 0], np.eye(2) * 1j, [0, 0], np.eye(2)), "sigma1 is of dtype complex128"),
        (([1e200, 0], np.eye(2), [0, 0], np.eye(2)), "the distance is inf: it overflows float64"),
    ],
)
def test_port_errors(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        calculate_frechet_distance(*arguments)
    assert isinstance(caught.value, StatisticsError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scale", [1e-140, 1e-100, 1e-60, 1e60, 1e100, 1e140])
def test_the_distance_scales_with_the_features(scale):
    """Products of covariances of 1e-200 underflow, and those of 1e200 overflow."""
    x, y = decaying_features(40, 8, 1, decades=2), decaying_features(50, 8, 2, decades=2, shift=0.3)
    one, scaled = (
        [FeatureStatistics.from_features(rows * factor) for rows in (x, y)] for factor in (1, scale)
    )
    for method in ("auto", "symmetric", "factors", "sqrtm"):
        expected = frechet_distance(*one, method)
        for pair in (scaled, [bare(side) for side in scaled]):
            value = frechet_distance(*pair, method)
            assert value / scale / scale == pytest.approx(expected, rel=1e-9)
    moments_of = [(side.mean, side.covariance) for side in scaled]
    port = calculate_frechet_distance(*moments_of[0], *moments_of[1])
    assert port / scale / scale == pytest.approx(expected, rel=1e-9)


def test_a_result_that_overflows_is_refused():
    a, b = moments([1e150] * 3, np.eye(3)), moments([-1e150] * 3, np.eye(3))
    wide = moments(np.zeros(200), np.eye(200) * 9e299)
    far = moments(np.full(200, 1e150), np.eye(200) * 9e299)
    for method in FORMS:
        assert frechet_distance(a, b, method) == pytest.approx(1.2e301)
        assert frechet_distance(wide, far, method) == pytest.approx(2e302, rel=1e-6)
    with pytest.raises(StatisticsError, match="the distance is inf: it overflows"):
        calculate_frechet_distance([1e200], [[1.0]], [0], [[1.0]])


def test_import_is_light():
    code = "import sys, fid_med.metrics.frechet; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    code = "import sys, fid_med.metrics.statistics; print('scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
