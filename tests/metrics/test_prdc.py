"""Precision, recall, density, coverage: prdc's values, brute force, ties, and what is refused."""

import numpy as np
import pytest
from helpers import peer_values

from fid_med.errors import StatisticsError
from fid_med.metrics import distances
from fid_med.metrics.distances import nearest_neighbours
from fid_med.metrics.prdc import Manifold, expected_coverage, manifold_metrics

pytestmark = pytest.mark.filterwarnings("error")

# PYTHONPATH=. python tests/helpers/peer_values.py, with prdc 0.2 and numpy 2.4.6.
FROZEN = {
    ("random", 3): [0.65, 0.8083333333333333, 0.6933333333333334, 0.7333333333333333],
    ("random", 5): [0.77, 0.9333333333333333, 0.772, 0.9166666666666666],
    ("ties", 3): [0.5666666666666667, 0.7, 0.4055555555555555, 0.3875],
    ("ties", 5): [0.8666666666666667, 1.0, 0.48666666666666664, 0.75],
    ("wide", 3): [0.5857142857142857, 0.5, 0.6619047619047619, 0.8],
    ("wide", 5): [0.6571428571428571, 0.6, 0.6142857142857143, 0.9166666666666666],
}


def by_definition(real, generated, k, density_k):
    """From the differences, image by image."""

    def gap(a, b):
        return float(((a - b) ** 2).sum())

    def radii(rows, k):
        return [sorted(gap(a, b) for j, b in enumerate(rows) if j != i)[k - 1]
                for i, a in enumerate(rows)]  # fmt: skip

    r3, g3, r5 = radii(real, k), radii(generated, k), radii(real, density_k)
    precise = [any(gap(g, r) < s for r, s in zip(real, r3, strict=True)) for g in generated]
    recalled = [any(gap(g, r) < s for g, s in zip(generated, g3, strict=True)) for r in real]
    inside = [[gap(g, r) < s for g in generated] for r, s in zip(real, r5, strict=True)]
    return [
        np.mean(precise),
        np.mean(recalled),
        np.sum(inside) / density_k / len(generated),
        np.mean(np.any(inside, axis=1)),
    ]


@pytest.mark.parametrize(("name", "k"), FROZEN)
def test_it_is_prdc(name, k):
    real, generated = peer_values.numbers(name)
    values = manifold_metrics(real, generated, k=k, density_k=k)
    assert list(values) == pytest.approx(FROZEN[name, k], abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_prdc_where_that_is_installed(seed):
    pytest.importorskip("prdc", reason="pip install prdc to compare with it live")
    rng = np.random.default_rng(seed)
    real, generated = rng.normal(size=(150, 300)), 1.05 * rng.normal(size=(170, 300))
    for k in (1, 3, 5):
        values = manifold_metrics(real, generated, k=k, density_k=k)
        assert list(values) == pytest.approx(peer_values.prdc(real, generated, k), abs=1e-12)


@pytest.mark.parametrize("name", ["random", "ties", "wide"])
def test_it_is_the_definition_with_two_ks(name):
    real, generated = (side[:40] for side in peer_values.numbers(name))
    values = manifold_metrics(real, generated)
    assert list(values) == pytest.approx(by_definition(real, generated, 3, 5), abs=1e-12)


def test_ties_are_outside():
    """0, 1, 2 and 3 on a line, k = 1: every radius is 1, and a point at 1 is outside."""
    real = np.arange(4.0)[:, None]
    at_the_edge = np.array([[-1.0], [4.0], [-1.0]])
    assert manifold_metrics(real, at_the_edge, k=1, density_k=1)[:1] == (0.0,)
    within = at_the_edge * (1 - 1e-9) + 1e-9
    assert manifold_metrics(real, within, k=1, density_k=1).precision == 1
    # With a factor that no float holds exactly, rounding would decide; it must not.
    for factor in (0.1, 1 / 3, 1e-7, 1e7):
        scaled = manifold_metrics(real * factor, at_the_edge * factor, k=1, density_k=1)
        assert scaled == manifold_metrics(real, at_the_edge, k=1, density_k=1)


def test_repeats_do_not_hang_on_rounding():
    """Generated copies of real images: the k-th neighbour's own copy is on the edge of the ball."""
    real = np.random.default_rng(0).normal(size=(60, 50)) + 30
    values = manifold_metrics(real, real, k=1, density_k=1)
    # Each ball holds its own centre's copy alone.
    assert values == Manifold(1.0, 1.0, 1.0, 1.0)
    doubled = np.concatenate([real, real])
    assert manifold_metrics(doubled, doubled, k=1, density_k=1) == Manifold(0.0, 0.0, 0.0, 0.0)
    assert manifold_metrics(doubled, real, k=2, density_k=2).density == pytest.approx(1.0)


def test_constant_features_have_balls_of_no_size():
    ones = np.ones((8, 3))
    assert manifold_metrics(ones, ones) == Manifold(0.0, 0.0, 0.0, 0.0)
    assert manifold_metrics(np.random.default_rng(0).normal(size=(8, 3)), ones).recall == 0


@pytest.mark.parametrize("entries", [1, 500, 10**6])
def test_block_size_order_and_dtype_change_nothing(monkeypatch, entries):
    real, generated = (side.astype(np.float32) for side in peer_values.numbers("random"))
    expected = manifold_metrics(real, generated)
    neighbours = nearest_neighbours(generated, real)
    monkeypatch.setattr(distances, "BLOCK_ENTRIES", entries)
    assert manifold_metrics(real[::-1].astype(np.float64), generated[::-1]) == expected
    again = nearest_neighbours(generated, real)
    np.testing.assert_array_equal(again.indices, neighbours.indices)
    np.testing.assert_array_equal(again.distances, neighbours.distances)


def test_a_mean_far_from_zero_does_no_harm():
    real, generated = peer_values.numbers("random")
    real, generated = (np.round(side * 1024) / 1024 for side in (real, generated))
    shifted = manifold_metrics(real + 2.0**20, generated + 2.0**20)
    assert shifted == manifold_metrics(real, generated)


def test_nearest_neighbours_by_differences():
    real, generated = peer_values.numbers("wide")
    found = nearest_neighbours(generated, real)
    gaps = np.linalg.norm(generated[:, None] - real[None], axis=2)
    np.testing.assert_array_equal(found.indices, gaps.argmin(axis=1))
    np.testing.assert_allclose(found.distances, gaps.min(axis=1), rtol=1e-15)
    own = nearest_neighbours(real, real)
    assert (own.indices != np.arange(len(real))).all()
    repeated = np.concatenate([real, real])
    assert (nearest_neighbours(real, repeated).indices == np.arange(len(real))).all()
    assert (nearest_neighbours(real, repeated).distances == 0).all()


def test_expected_coverage_and_density_of_equal_distributions():
    assert expected_coverage(10, 10, 1) == pytest.approx(10 / 19)
    rng = np.random.default_rng(1)
    values = [
        manifold_metrics(rng.normal(size=(40, 2)), rng.normal(size=(25, 2))) for _ in range(300)
    ]
    coverage, density = ([getattr(v, n) for v in values] for n in ("coverage", "density"))
    error = 4 * np.std(coverage) / np.sqrt(300)
    assert np.mean(coverage) == pytest.approx(expected_coverage(40, 25), abs=error)
    assert error < 0.03
    assert np.mean(density) == pytest.approx(1, abs=4 * np.std(density) / np.sqrt(300))


GOOD = np.random.default_rng(0).normal(size=(9, 3))
NAN = np.where(np.arange(9)[:, None] == 4, np.nan, GOOD)


@pytest.mark.parametrize(
    ("real", "generated", "arguments", "said"),
    [
        (GOOD[:5], GOOD, {}, "5 real images for k = 5: each needs 5 other images as neighbours"),
        (GOOD, GOOD[:3], {}, "3 generated images for k = 3"),
        (GOOD, GOOD, {"k": 9}, "9 real images for k = 9"),
        (GOOD, GOOD, {"k": 0}, "k 0: expected a whole number of at least 1"),
        (GOOD, GOOD, {"density_k": 2.5}, r"density_k 2\.5: expected a whole number"),
        (GOOD, GOOD[:, :2], {}, "real features of dimension 3 and generated features of dim"),
        (NAN, GOOD, {}, "1 of 9 rows of real features hold NaN"),
        (GOOD, NAN * np.inf, {}, "9 of 9 rows of generated features hold NaN"),
        (GOOD[0], GOOD, {}, r"real features of shape \(3,\): expected \[N, d\]"),
        (GOOD.astype(str), GOOD, {}, "dtype <U32: expected real numbers"),
        (GOOD[:0], GOOD, {}, "0 real images: at least 1"),
        (GOOD * 1e160, GOOD, {}, r"real features beyond 1e\+150: scale"),
    ],
)
def test_mistakes_are_reported_in_one_line(real, generated, arguments, said):
    with pytest.raises(StatisticsError, match=said) as refusal:
        manifold_metrics(real, generated, **arguments)
    assert "\n" not in str(refusal.value)
