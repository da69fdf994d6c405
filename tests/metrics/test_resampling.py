import numpy as np
import pytest

from fid_med.errors import StatisticsError
from fid_med.metrics import resampling
from fid_med.metrics.frechet import calculate_frechet_distance, frechet_distance
from fid_med.metrics.resampling import BlockDistances, draw_blocks, image_set
from fid_med.metrics.statistics import FeatureStatistics


def _features(seed, count, dim=40, shift=0.0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, dim)) / np.sqrt(1 + np.arange(dim)) + shift


def _brute_force(rows1, rows2):
    """By np.cov's moments and `frechet`, from the blocks' actual rows."""
    sides = (
        FeatureStatistics.from_moments(r.mean(axis=0), np.cov(r, rowvar=False))
        for r in (rows1, rows2)
    )
    return frechet_distance(*sides)


@pytest.mark.parametrize("gram", [True, False], ids=["gram", "rows"])
@pytest.mark.parametrize("sizes", [(12, 12, 12), (12, 7, 2), (60, 70, 55)])
def test_distances_of_blocks_are_those_of_their_rows(monkeypatch, gram, sizes):
    if not gram:
        monkeypatch.setattr(resampling, "GRAM_LIMIT", 0)
    sets = [_features(0, 80, shift=100.0), _features(1, 90, shift=100.5)]
    rng = np.random.default_rng(2)
    blocks = [rng.permutation(80)[: sizes[0]]]
    blocks += [80 + rng.permutation(90)[:n] for n in sizes[1:]]
    pairs = [(0, 1), (0, 2), (2, 1), (1, 2)]
    found = BlockDistances(sets).distances(blocks, pairs)
    rows = np.concatenate(sets)
    for value, (i, j) in zip(found, pairs, strict=True):
        expected = _brute_force(rows[blocks[i]], rows[blocks[j]])
        assert value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("gram", [True, False], ids=["gram", "rows"])
def test_a_small_block_against_a_large_one_costs_the_small_ones_side(monkeypatch, gram):
    if not gram:
        monkeypatch.setattr(resampling, "GRAM_LIMIT", 0)
    shapes, nuclear_norm = [], resampling._nuclear_norm

    def watched(matrices):
        shapes.append(matrices.shape[1:])
        return nuclear_norm(matrices)

    monkeypatch.setattr(resampling, "_nuclear_norm", watched)
    rows = [_features(0, 9), _features(1, 70, shift=0.3)]
    blocks = [np.arange(9), 9 + np.arange(70), np.arange(5), 9 + np.arange(60)]
    pairs = [(0, 1), (2, 3)]
    found = BlockDistances(rows).distances(blocks, pairs)
    assert set(shapes) <= {(9, 70), (5, 60)}
    together = np.concatenate(rows)
    for value, (i, j) in zip(found, pairs, strict=True):
        expected = _brute_force(together[blocks[i]], together[blocks[j]])
        assert value == pytest.approx(expected, abs=1e-9)


def test_distances_agree_with_the_published_function():
    rows = [_features(0, 60, dim=6), _features(1, 70, dim=6, shift=0.3)]
    found = BlockDistances(rows).distances([np.arange(60), 60 + np.arange(70)], [(0, 1)])
    moments = [(r.mean(axis=0), np.cov(r, rowvar=False)) for r in rows]
    assert found[0] == pytest.approx(calculate_frechet_distance(*moments[0], *moments[1]), rel=1e-9)


def test_repeated_and_constant_rows_cost_digits_but_not_sense():
    rows = _features(0, 10)[np.arange(20) // 2]
    found = BlockDistances([rows, np.ones((8, 40))]).distances(
        [np.arange(20), np.arange(20, 28), np.arange(10)], [(0, 0), (1, 1), (0, 1), (0, 2)]
    )
    assert found[0] == pytest.approx(0, abs=1e-7)
    assert found[1] == pytest.approx(0, abs=1e-12)
    assert found[2] == pytest.approx(_brute_force(rows, np.ones((8, 40))), abs=1e-7)
    assert found[3] == pytest.approx(_brute_force(rows, rows[:10]), abs=1e-7)


def test_a_small_batch_limit_changes_nothing(monkeypatch):
    sets = [_features(0, 20), _features(1, 20)]
    blocks = [np.arange(20), np.arange(20, 40), np.arange(5, 25)]
    pairs = [(0, 1), (1, 2), (0, 2)]
    whole = BlockDistances(sets).distances(blocks, pairs)
    monkeypatch.setattr(resampling, "_BATCH_ENTRIES", 1)
    assert BlockDistances(sets).distances(blocks, pairs) == pytest.approx(whole, rel=1e-12)


def test_blocks_hold_whole_patients_once():
    patients = [f"patient {i // 3}" for i in range(30)]
    images = image_set(_features(0, 30), patients, "real", 8)
    assert (images.units, images.patient_count, images.count) == (10, 10, 30)
    rng = np.random.default_rng(0)
    for _ in range(5):
        blocks = draw_blocks(images, [2, 3, 4], rng, offset=7)
        assert [len(b) for b in blocks] == [6, 9, 12]
        everything = np.concatenate(blocks) - 7
        assert len(set(everything)) == 27
        of = np.empty(30, int)
        for unit, members in enumerate(images.members):
            of[members] = unit
        assert [len(set(of[b - 7])) for b in blocks] == [2, 3, 4]


def test_the_order_of_files_and_the_names_of_patients_do_not_matter():
    features, patients = _features(0, 30), np.arange(30) // 3
    order = np.random.default_rng(1).permutation(30)
    first = image_set(features, patients, "real", 8)
    second = image_set(features[order], [f"p{99 - p}" for p in patients[order]], "real", 8)
    assert np.array_equal(first.features, second.features)
    assert all(np.array_equal(a, b) for a, b in zip(first.members, second.members, strict=True))


def test_equal_rows_are_counted():
    features = _features(0, 6)
    images = image_set(features[[0, 1, 1, 2, 0, 0]], None, "real", 4)
    assert resampling.distinct_rows(images.features) == 3
    assert resampling.shared_rows(features[:2], features[[1, 1, 2]]) == 2


@pytest.mark.parametrize(
    ("features", "patients", "message"),
    [
        (np.ones((0, 3)), None, "0 real images: at least 8"),
        (np.ones((1, 3)), None, "1 real images: at least 8"),
        (np.ones((7, 3)), None, "7 real images: at least 8"),
        (np.ones(9), None, r"shape \(9,\): expected \[N, d\]"),
        (np.ones((9, 0)), None, "expected"),
        (np.full((9, 3), np.nan), None, "9 of 9 rows of real features hold NaN"),
        (np.array([["a"] * 3] * 9), None, "expected real numbers"),
        (np.ones((9, 3)), ["one"] * 9, "1 real patients: at least 8"),
        (np.ones((9, 3)), range(8), "8 real patients for 9 images"),
    ],
)
def test_wrong_sets_end_in_one_line(features, patients, message):
    with pytest.raises(StatisticsError, match=message) as error:
        image_set(features, patients, "real", 8)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("count", "steps"), [(70, [32, 32, 6]), (32, [32]), (2, [2])])
def test_steps_cover_every_replicate(count, steps):
    assert list(resampling.replicate_steps(count, "halves")) == steps
