"""What a FID is made of: its parts sum up, derivatives and directions are those of the formula."""

import time

import numpy as np
import pytest

from fid_med.errors import StatisticsError
from fid_med.metrics.difference import contributions, directions, gradients, heat_map, per_class
from fid_med.metrics.frechet import frechet_components, frechet_distance
from fid_med.metrics.statistics import FeatureStatistics

pytestmark = pytest.mark.filterwarnings("error")

SHAPES = [(30, 30, 60), (30, 22, 60), (22, 30, 60), (90, 80, 7), (20, 70, 40), (70, 20, 40)]


def features(n, m, d, seed=0):
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
    real = rng.normal(size=(n, d)) * np.linspace(0.2, 2, d)
    return real, rng.normal(size=(m, d)) * np.linspace(0.5, 1.5, d) @ turn + 0.2


def fid(real, generated):
    return frechet_distance(*map(FeatureStatistics.from_features, (real, generated)))


def exact(real, generated):
    """Shifts the features so that mean 0 and unit covariance hold to the last digits."""

    def whitened(rows):
        rows = rows - rows.mean(axis=0)
        return np.linalg.solve(np.linalg.cholesky(np.cov(rows.T)), rows.T).T

    return whitened(real), whitened(generated)


@pytest.mark.parametrize("shape", SHAPES)
def test_contributions_sum_to_the_fid(shape):
    real, generated = features(*shape)
    found = contributions(real, generated)
    expected = fid(real, generated)
    assert found.fid == pytest.approx(expected, rel=1e-12)
    assert found.generated.sum() + found.unreached == pytest.approx(expected, rel=1e-12)
    turned = contributions(generated, real)
    assert found.real.sum() + turned.unreached == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(turned.generated, found.real, rtol=1e-8)
    assert (found.unreached > 0) == (shape[1] < min(shape[0], shape[2]))


def test_contributions_are_squared_moves_of_the_optimal_map():
    """At full rank by T = C2^-1/2 (C2^1/2 C1 C2^1/2)^1/2 C2^-1/2, written down apart."""
    real, generated = features(90, 80, 7)

    def root(matrix, power=0.5):
        w, v = np.linalg.eigh(matrix)
        return (v * w**power) @ v.T

    half = root(np.cov(generated.T))
    transport = np.linalg.inv(half) @ root(half @ np.cov(real.T) @ half) @ np.linalg.inv(half)
    # Scaled so that the mean of z z^T is the unbiased covariance.
    z = (generated - generated.mean(axis=0)) * np.sqrt(80 / 79)
    moves = generated.mean(axis=0) - real.mean(axis=0) + z - z @ transport
    found = contributions(real, generated)
    np.testing.assert_allclose(found.generated, (moves**2).sum(axis=1) / 80, rtol=1e-9)


def central_difference(function, point, step):
    return (function(point + step) - function(point - step)) / 2


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_the_finite_differences_of_the_fid(shape):
    """In random directions and of single images, for N < d and N > d.

    A step h of all features together errs by h^2 / 6 of the third derivative, and by the rounding
    of the FID, 1e-14 of its value, over h: 1e-9 and 1e-10 for h = 1e-4. Measured: 1.3e-10 of the
    gradient's length.
    """
    sets = features(*shape)
    found = gradients(*sets)
    rng = np.random.default_rng(1)
    for side, gradient in enumerate(found):
        assert gradient.shape == sets[side].shape
        assert gradient.dtype == np.float64
        one_image = np.zeros_like(gradient)
        one_image[3] = rng.normal(size=shape[2])
        towards = gradient / np.linalg.norm(gradient)
        for direction in (rng.normal(size=gradient.shape), one_image, towards):
            step = 1e-4 * direction / np.linalg.norm(direction)

            def moved(rows, side=side):
                return fid(rows, sets[1]) if side == 0 else fid(sets[0], rows)

            expected = central_difference(moved, sets[side], step) / 1e-4
            obtained = np.vdot(gradient, step) / 1e-4
            assert abs(obtained - expected) < 1e-8 * np.linalg.norm(gradient)


@pytest.mark.parametrize("shape", [(30, 40, 60), (90, 80, 7)])
def test_gradients_are_those_of_automatic_differentiation(shape):
    """Of the published formula, in float64, by TensorFlow.

    Both are exact but for rounding: measured 5e-15 of the largest entry.
    """
    tf = pytest.importorskip("tensorflow")
    real, generated = features(*shape)
    # A factor of C1 of full row rank: the root's derivative at the 0 of the centring is infinite.
    factor = np.linalg.qr((real - real.mean(axis=0)) / np.sqrt(len(real) - 1), mode="r")
    _, s, vt = np.linalg.svd(factor, full_matrices=False)
    factor = (s[:, None] * vt)[s > 1e-9 * s[0]]
    rows = tf.Variable(generated)
    with tf.GradientTape() as tape:
        centred = rows - tf.reduce_mean(rows, axis=0)
        covariance = tf.matmul(centred, centred, transpose_a=True) / (len(generated) - 1)
        roots = tf.sqrt(tf.linalg.eigvalsh(factor @ covariance @ factor.T))
        value = (
            tf.reduce_sum((tf.reduce_mean(rows, axis=0) - real.mean(axis=0)) ** 2)
            + np.sum(factor**2)
            + tf.linalg.trace(covariance)
            - 2 * tf.reduce_sum(roots)
        )
    assert float(value) == pytest.approx(fid(real, generated), rel=1e-10)
    expected = tape.gradient(value, rows).numpy()
    obtained = gradients(real, generated).generated
    np.testing.assert_allclose(obtained, expected, atol=1e-12 * np.abs(expected).max())


def test_gradients_are_those_of_the_optimal_map():
    """At full rank 2 delta / M + 2 / (M - 1) (I - T)(f - mean), T written down apart."""
    real, generated = features(90, 80, 7)
    w, v = np.linalg.eigh(np.cov(generated.T))
    half, inverse = (v * w**0.5) @ v.T, (v / w**0.5) @ v.T
    w, v = np.linalg.eigh(half @ np.cov(real.T) @ half)
    transport = inverse @ ((v * w**0.5) @ v.T) @ inverse
    centred = generated - generated.mean(axis=0)
    delta = generated.mean(axis=0) - real.mean(axis=0)
    expected = 2 * delta / 80 + 2 / 79 * (centred - centred @ transport)
    np.testing.assert_allclose(gradients(real, generated).generated, expected, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_sum_to_the_shift_and_to_twice_the_fid(shape):
    """A shift of a set moves its mean alone; a FID is homogeneous of degree 2 (Euler)."""
    real, generated = features(*shape)
    found = gradients(real, generated)
    delta = generated.mean(axis=0) - real.mean(axis=0)
    np.testing.assert_allclose(found.generated.sum(axis=0), 2 * delta, atol=1e-12)
    np.testing.assert_allclose(found.real.sum(axis=0), -2 * delta, atol=1e-12)
    total = np.vdot(found.real, real) + np.vdot(found.generated, generated)
    assert total == pytest.approx(2 * fid(real, generated), rel=1e-9)


def test_gradients_where_the_fid_has_a_kink():
    """A feature constant in one set: the FID falls in a direction and in the opposite one."""
    rng = np.random.default_rng(4)
    real, generated = rng.normal(size=(50, 3)), rng.normal(size=(40, 3))
    generated[:, 1] = real[:, 1].mean()
    step = np.zeros_like(generated)
    step[:, 1] = 1e-5 * rng.normal(size=40)
    ahead, back, here = (fid(real, generated + way * step) for way in (1, -1, 0))
    assert ahead < here > back
    # The kink is 1e-5 high; its curvature adds 1e-10, the rounding of the FID less.
    obtained = np.vdot(gradients(real, generated).generated, step)
    assert obtained == pytest.approx((ahead - back) / 2, abs=1e-4 * (here - ahead))
    # Equal sets, and constant ones.
    same = gradients(real, real[::-1])
    np.testing.assert_allclose(same.generated, 0, atol=1e-12)
    assert not np.any(gradients(np.ones((4, 3)), np.ones((5, 3))).generated)


def test_a_heat_map_divides_a_contribution_among_positions():
    rng = np.random.default_rng(5)
    maps = {side: rng.gamma(1.0, size=(count, 3, 4, 60)) for side, count in (("r", 30), ("g", 20))}
    maps["g"][:, 0, 3, :10] += 5  # what differs is at one position
    real, generated = (maps[side].mean(axis=(1, 2)) for side in "rg")
    images, slopes = contributions(real, generated), gradients(real, generated)
    for one in range(20):
        heat = heat_map(maps["g"][one], slopes.generated[one], images.generated[one])
        assert heat.shape == (3, 4)
        assert heat.mean() == pytest.approx(images.generated[one], rel=1e-12)
        assert np.unravel_index(heat.argmax(), heat.shape) == (0, 3)
    # Positions equal to the counterpart (and so the pooled feature too) contribute about 0.
    moves = slopes.generated[0] * 20 / 2
    counterpart = np.broadcast_to(generated[0] - moves, (3, 4, 60)).copy()
    counterpart[0, 3] += 12 * moves
    heat = heat_map(counterpart, slopes.generated[0], images.generated[0])
    assert heat[0, 3] == pytest.approx(12 * images.generated[0], rel=0.1)
    assert np.abs(heat[1:]).max() < 0.1 * images.generated[0]


def test_an_outlier_stands_out():
    rng = np.random.default_rng(2)
    real, generated = rng.normal(size=(60, 100)), rng.normal(size=(50, 100))
    generated[17] += 6
    found = contributions(real, generated)
    assert found.generated.argmax() == 17


@pytest.mark.parametrize("shape", SHAPES)
def test_directions_share_out_the_fid(shape):
    real, generated = features(*shape)
    found = directions(real, generated, number=shape[2])
    vectors = np.array([direction.vector for direction in found])
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(len(found)), atol=1e-7)
    shares = [direction.share for direction in found]
    assert sum(shares) == pytest.approx(1, rel=1e-9)
    assert shares == sorted(shares, reverse=True)
    expected = fid(real, generated)
    for direction in found:
        parts = direction.mean_part + direction.spread_part
        assert parts == pytest.approx(direction.share * expected, rel=1e-9)
        assert direction.spread_part > -1e-9 * expected
        assert direction.generated_mean >= -1e-9
    # The mean's parts along an orthonormal basis of what differs.
    mean = frechet_components(*map(FeatureStatistics.from_features, (real, generated))).mean
    assert sum(d.mean_part for d in found) == pytest.approx(mean, rel=1e-6)


def test_directions_of_gaussians_known_in_advance():
    """Commuting covariances: the axes, with (s1 - s2)^2 each, and the shift's own part."""
    rng = np.random.default_rng(1)
    real, generated = exact(rng.normal(size=(200, 4)), rng.normal(size=(150, 4)))
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    real = real * [1, 2, 1, 1] @ turn
    generated = (generated * [1, 0.5, 1.8, 1] + [-3, 0, 0, 0]) @ turn
    found = directions(real, generated, ends=3)
    assert [d.share * fid(real, generated) for d in found] == pytest.approx([9, 2.25, 0.64])
    for direction, axis in zip(found, turn, strict=False):
        assert abs(direction.vector @ axis) == pytest.approx(1)
    shift, wide, narrow = found
    assert shift.vector @ turn[0] == pytest.approx(-1)  # towards the generated images
    assert (shift.mean_part, shift.spread_part) == pytest.approx((9, 0), abs=1e-9)
    assert (shift.generated_mean, shift.real_std, shift.generated_std) == pytest.approx((3, 1, 1))
    assert (wide.mean_part, wide.spread_part) == pytest.approx((0, 2.25), abs=1e-9)
    assert (wide.real_std, wide.generated_std) == pytest.approx((2, 0.5))
    assert (narrow.real_std, narrow.generated_std) == pytest.approx((1, 1.8))
    for direction in found:
        scores = real @ direction.vector, generated @ direction.vector
        for side, low, high in zip(
            scores,
            (direction.real_low, direction.generated_low),
            (direction.real_high, direction.generated_high),
            strict=True,
        ):
            assert low.tolist() == np.argsort(side)[:3].tolist()
            assert high.tolist() == np.argsort(-side)[:3].tolist()


def test_equal_sets_do_not_differ():
    real, _ = features(30, 30, 60)
    assert directions(real, real) == []
    assert directions(real, real[::-1]) == []
    found = contributions(real, real)
    assert found.fid == pytest.approx(0, abs=1e-20)
    ones = np.ones((5, 3))
    assert directions(ones, ones) == []
    assert contributions(ones, ones).generated.tolist() == [0] * 5


def test_constant_features_on_one_side():
    real, _ = features(30, 30, 6)
    ones = np.ones((12, 6))
    for pair in ((real, ones), (ones, real)):
        found, expected = contributions(*pair), fid(*pair)
        assert found.generated.sum() + found.unreached == pytest.approx(expected)
        assert sum(d.share for d in directions(*pair, number=6)) == pytest.approx(1)


def test_duplicates_and_order():
    real, generated = features(30, 30, 60)
    generated[1] = generated[0]
    found = contributions(real, generated)
    assert found.generated[0] == pytest.approx(found.generated[1], rel=1e-9)
    order = np.random.default_rng(0).permutation(30)
    again = contributions(real[::-1], generated[order])
    np.testing.assert_allclose(again.generated, found.generated[order], rtol=1e-8)
    first, second = directions(real, generated)[0], directions(real[::-1], generated[order])[0]
    np.testing.assert_allclose(first.vector, second.vector, atol=1e-8)
    assert order[second.generated_high].tolist() == first.generated_high.tolist()


def test_features_of_the_real_size_take_a_second():
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(2, 300, 2048))
    start = time.process_time()
    contributions(real, generated)
    directions(real, generated)
    assert time.process_time() - start < 5  # 0.3 s where this was written; machines are busy


def test_per_class():
    real, generated = features(40, 36, 5)
    labels = np.array(["elbow", "neck", "hand", "hand"] * 10)
    others = np.array(["elbow", "neck", "knee"] * 12)
    found = {entry.label: entry for entry in per_class(real, generated, labels, others)}
    assert list(found) == ["elbow", "hand", "knee", "neck"]
    for label in ("elbow", "neck"):
        expected = fid(real[labels == label], generated[others == label])
        assert found[label].components.distance == pytest.approx(expected, rel=1e-12)
        assert (found[label].real_count, found[label].generated_count) == (10, 12)
        assert found[label].reason is None
    assert found["hand"][1:4] == (20, 0, None)
    assert found["knee"].reason.startswith("0 real and 12 generated images: a FID needs at least 2")
    alone = per_class(real, generated, [0] * 40, [0] * 35 + [1])
    assert alone[1].reason.startswith("0 real and 1 generated")
    one = per_class(real, generated, [1] + [0] * 39, [0] * 34 + [1, 1])
    assert one[1].components is None
    assert one[1].reason.startswith("1 real and 2 generated")


GOOD = np.random.default_rng(0).normal(size=(9, 3))
NAN = np.where(np.arange(9)[:, None] == 4, np.nan, GOOD)


@pytest.mark.parametrize(
    ("function", "arguments", "said"),
    [
        (contributions, (GOOD[:1], GOOD), "1 real images: at least 2"),
        (contributions, (GOOD, NAN), "1 of 9 rows of generated features hold NaN"),
        (gradients, (GOOD, NAN), "1 of 9 rows of generated features hold NaN"),
        (directions, (GOOD, GOOD[:, :2]), "dimension 3 and generated features of dimension 2"),
        (per_class, (GOOD, GOOD, ["a"] * 8, ["a"] * 9), r"real labels of shape \(8,\)"),
        (per_class, (GOOD, GOOD, ["a"] * 9, [1] * 9), "labels are of different kinds"),
        (per_class, (GOOD, GOOD, ["a"] * 9, [0.5] * 9), "generated labels of shape .* float64"),
    ],
)
def test_mistakes_are_reported_in_one_line(function, arguments, said):
    with pytest.raises(StatisticsError, match=said) as refusal:
        function(*arguments)
    assert "\n" not in str(refusal.value)


def test_numbers_of_directions_and_ends():
    real, generated = features(30, 30, 60)
    found = directions(real, generated, number=2, ends=100)
    assert len(found) == 2
    assert len(found[0].real_low) == 30
    with pytest.raises(StatisticsError, match="number 0: expected"):
        directions(real, generated, number=0)
