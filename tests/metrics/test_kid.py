"""KID: torch-fidelity's values, the definition, its standard error by simulation, refusals."""

import numpy as np
import pytest
from helpers import peer_values

from fid_med.errors import StatisticsError
from fid_med.metrics import distances
from fid_med.metrics import kid as kid_module
from fid_med.metrics.kid import kid, kid_full

pytestmark = pytest.mark.filterwarnings("error")

# PYTHONPATH=. python tests/helpers/peer_values.py, with torch-fidelity 0.4.0 and numpy 2.4.6.
FROZEN = {
    ("random", (20, 10, 2020)): [-0.01051211038208515, 0.14060381922159132],
    ("random", (50, 30, 7)): [0.04257371679955034, 0.07464875071443558],
    ("ties", (20, 10, 2020)): [0.19506335282651222, 0.9876386731261986],
    ("ties", (50, 30, 7)): [-0.02487816578483155, 0.3162604263687157],
    ("wide", (20, 10, 2020)): [0.3346831721847262, 0.04532598398324566],
    ("wide", (50, 30, 7)): [0.3113988908897494, 0.030910192395606818],
}


def by_definition(x, y, patients_x=None, patients_y=None):
    """The U-statistic pair by pair."""

    def k(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    def within(rows, groups):
        groups = range(len(rows)) if groups is None else groups
        pairs = [
            k(a, b)
            for a, g in zip(rows, groups, strict=True)
            for b, h in zip(rows, groups, strict=True)
            if g != h
        ]
        return np.mean(pairs)

    across = np.mean([k(a, b) for a in x for b in y])
    return within(x, patients_x) + within(y, patients_y) - 2 * across


@pytest.mark.parametrize(("name", "setting"), FROZEN)
def test_it_is_torch_fidelity(name, setting):
    size, subsets, seed = setting
    found = kid(*peer_values.numbers(name), subset_size=size, subsets=subsets, seed=seed)
    assert found[:2] == pytest.approx(FROZEN[name, setting], rel=1e-10, abs=1e-13)
    assert found[2:] == (size, subsets)


def test_it_is_torch_fidelity_where_that_is_installed():
    pytest.importorskip("torch_fidelity", reason="pip install torch-fidelity to compare live")
    rng = np.random.default_rng(5)
    real, generated = rng.normal(size=(90, 200)) + 0.4, rng.normal(size=(80, 200)) + 0.45
    for setting in peer_values.KID_SETTINGS:
        expected = peer_values.torch_fidelity_kid(real, generated, *setting)
        size, subsets, seed = setting
        found = kid(real, generated, subset_size=size, subsets=subsets, seed=seed)
        assert found[:2] == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_subset_by_subset_or_all_at_once(monkeypatch):
    real, generated = peer_values.numbers("random")
    arguments = {"subset_size": 30, "subsets": 4}
    assert len(real) * len(generated) > 4 * 30**2  # so this goes subset by subset
    expected = kid(real, generated, **arguments)
    monkeypatch.setattr(kid_module, "_one_subset", None)
    monkeypatch.setattr(distances, "BLOCK_ENTRIES", 999)
    many = kid(real, generated, subset_size=30, subsets=40)
    monkeypatch.undo()
    rng = np.random.RandomState(2020)
    values = []
    for i in range(40):
        x, y = (s[rng.choice(len(s), 30, replace=False)] for s in (real, generated))
        if i < 4:
            values.append(by_definition(x, y))
    assert expected[:2] == pytest.approx((np.mean(values), np.std(values)), rel=1e-10)
    assert many.mean == pytest.approx(kid_full(real, generated).value, abs=0.05)
    assert many.mean != pytest.approx(expected.mean, rel=1e-3)


def test_default_subsets():
    real, generated = peer_values.numbers("random")
    found = kid(real, generated[:61])
    assert found[2:] == (30, 100)
    assert found == kid(real, generated[:61], subset_size=30, seed=2020)
    assert found != kid(real, generated[:61], subset_size=30, seed=1)
    assert found.std > 0


@pytest.mark.parametrize("entries", [10**6, 700])
def test_full_statistic_and_patients(monkeypatch, entries):
    monkeypatch.setattr(distances, "BLOCK_ENTRIES", entries)
    real, generated = (side[:40] for side in peer_values.numbers("random"))
    assert kid_full(real, generated).value == pytest.approx(
        by_definition(real, generated), rel=1e-11
    )
    patients, others = np.arange(40) % 13, np.sort(np.arange(40) % 11).astype(str)
    found = kid_full(real, generated, real_patients=patients, generated_patients=others)
    expected = by_definition(real, generated, patients, others)
    assert found.value == pytest.approx(expected, rel=1e-11)
    alone = kid_full(
        real, generated, real_patients=np.arange(40)[::-1], generated_patients=range(40)
    )
    assert alone == pytest.approx(kid_full(real, generated), rel=1e-10)


def test_the_order_does_not_matter():
    real, generated = peer_values.numbers("wide")
    patients = np.arange(60) // 2
    found = kid_full(real, generated, real_patients=patients)
    again = kid_full(real[::-1], generated[::-1], real_patients=patients[::-1])
    assert again == pytest.approx(found, rel=1e-10)


def test_standard_error_is_the_decomposition():
    """Hoeffding's parts from whole matrices, each mean taken out by hand."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(12, 4)), rng.normal(size=(9, 4)) + 1
    n, m = 12, 9
    kxx, kyy, kxy = ((a @ b.T / 4 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))

    def own(k, n):
        off = ~np.eye(n, dtype=bool)
        k = np.where(off, k, 0)
        grand = k.sum() / (n * (n - 1))
        means = (k.sum(axis=1) - (n - 1) * grand) / (n - 2)
        rest = (k - grand - means[:, None] - means)[off]
        return means, (rest**2).sum() / (n * (n - 3))

    (a, alpha), (e, phi) = own(kxx, n), own(kyy, m)
    b, c = kxy.mean(axis=1) - kxy.mean(), kxy.mean(axis=0) - kxy.mean()
    epsilon = ((kxy - kxy.mean() - b[:, None] - c) ** 2).sum() / ((n - 1) * (m - 1))
    first = ((a - b) ** 2).sum() / (n - 1) - alpha / (n - 2) - epsilon / m
    second = ((e - c) ** 2).sum() / (m - 1) - phi / (m - 2) - epsilon / n
    assert min(first, second) > 0
    variance = 4 * first / n + 4 * second / m + 4 * epsilon / (n * m)
    variance += 2 * alpha / (n * (n - 1)) + 2 * phi / (m * (m - 1))
    assert kid_full(x, y).standard_error == pytest.approx(np.sqrt(variance), rel=1e-10)


def trial(rng, shift, grouped):
    if not grouped:
        return kid_full(rng.normal(size=(30, 6)), rng.normal(size=(45, 6)) + shift)
    sides, groups = [], []
    for count in (25, 35):
        patients = np.repeat(np.arange(count), rng.integers(1, 4, count))
        own = 0.8 * rng.normal(size=(count, 6))[patients]
        sides.append(own + 0.6 * rng.normal(size=(len(patients), 6)))
        groups.append(patients)
    return kid_full(
        sides[0], sides[1] + shift, real_patients=groups[0], generated_patients=groups[1]
    )


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize(("shift", "low", "high"), [(0, 0.95, 1.3), (0.5, 0.9, 1.1)])
def test_standard_error_by_simulation(shift, low, high, grouped):
    """Root mean squared standard error over the spread of 400 values; above 1 where it is cut."""
    rng = np.random.default_rng(7)
    values, errors = np.transpose([trial(rng, shift, grouped) for _ in range(400)])
    assert low < np.sqrt(np.mean(errors**2)) / values.std() < high
    if shift == 0:
        assert abs(values.mean()) < 4 * values.std() / np.sqrt(400)


def test_repeats_without_patients_pass_for_a_difference():
    rng = np.random.default_rng(3)
    patients = np.repeat(np.arange(30), 3)
    blind, seeing = [], []
    for _ in range(100):
        x, y = (rng.normal(size=(30, 6))[patients] for _ in range(2))
        blind.append(kid_full(x, y).value)
        seeing.append(kid_full(x, y, real_patients=patients, generated_patients=patients).value)
    assert abs(np.mean(seeing)) < 4 * np.std(seeing) / 10
    assert np.mean(blind) > 4 * np.std(blind) / 10


def test_constant_and_few_features():
    ones = np.ones((6, 4))
    assert kid_full(ones, ones) == pytest.approx((0, 0), abs=1e-7)
    assert kid(ones, ones)[:2] == pytest.approx((0, 0), abs=1e-14)
    assert kid_full(ones, 0 * ones).value == pytest.approx(7)
    few = peer_values.numbers("random")[0]
    assert kid_full(few[:3], few[3:9]).standard_error is None
    assert kid_full(few[:4], few[4:9]).standard_error > 0


GOOD = np.random.default_rng(0).normal(size=(9, 3))
NAN = np.where(np.arange(9)[:, None] == 4, np.nan, GOOD)


@pytest.mark.parametrize(
    ("function", "real", "generated", "arguments", "said"),
    [
        (kid, GOOD, GOOD, {"subset_size": 10}, "subset_size 10: the smaller set has 9 images"),
        (kid, GOOD, GOOD, {"subset_size": 1}, "subset_size 1: expected a whole number of at l"),
        (kid, GOOD, GOOD, {"subsets": 0}, "subsets 0: expected"),
        (kid, GOOD, GOOD, {"seed": -1}, "seed -1: expected"),
        (kid, GOOD, GOOD, {"seed": 2**32}, "seed 4294967296: expected a whole number from 0 to"),
        (kid, GOOD[:3], GOOD, {}, "3 images: KID over subsets needs at least 4"),
        (kid, GOOD, NAN, {}, "1 of 9 rows of generated features hold NaN"),
        (kid, GOOD * 1e120, GOOD, {}, "the kernel overflows float64"),
        (kid_full, GOOD * 1e120, GOOD, {}, "the kernel overflows float64"),
        (kid_full, GOOD[:1], GOOD, {}, "1 real images: at least 2"),
        (kid_full, GOOD, GOOD[:, :1], {}, "dimension 3 and generated features of dimension 1"),
        (kid_full, GOOD, GOOD, {"real_patients": [1, 2]}, "2 real patients for"),
        (
            kid_full,
            GOOD,
            GOOD,
            {"generated_patients": [1] * 9},
            "1 generated patient: KID by patient",
        ),
    ],
)
def test_mistakes_are_reported_in_one_line(function, real, generated, arguments, said):
    with pytest.raises(StatisticsError, match=said) as refusal:
        function(real, generated, **arguments)
    assert "\n" not in str(refusal.value)
