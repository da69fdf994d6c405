"""Memorisation: planted copies are found, disjoint patients are not; the test keeps its level."""

import json

import numpy as np
import pytest
import scipy.stats

from fid_med.errors import StatisticsError
from fid_med.metrics import distances
from fid_med.metrics.distances import nearest_neighbours
from fid_med.metrics.memorisation import COPY_RATIO, memorisation
from fid_med.metrics.pixel_copies import PixelMatches, pixel_matches, pixel_signatures
from fid_med.metrics.training_proximity import _all_missed, pooled_patients, training_proximity
from fid_med.phantoms.radiograph import phantom_set


def patients(count, seed, d=20, each=3):
    """Features of `count` patients with `each` images that lie near one another."""
    rng = np.random.default_rng(seed)
    own = np.repeat(rng.normal(size=(count, d)), each, axis=0)
    return own + 0.2 * rng.normal(size=own.shape), np.repeat(np.arange(count), each) + 1000 * seed


TRAINING, PATIENTS = patients(30, 1)
HELD_OUT, OTHERS = patients(20, 2)
GENERATED, _ = patients(40, 3, each=1)
SIDES = {"held_out": HELD_OUT, "training_patients": PATIENTS, "held_out_patients": OTHERS}


def by_definition(generated, training):
    """AuthPct image by image, as Alaa et al. and dgm-eval have it."""
    authentic = []
    for g in generated:
        gaps = np.linalg.norm(training - g, axis=1)
        nearest = gaps.argmin()
        own = np.delete(np.linalg.norm(training - training[nearest], axis=1), nearest).min()
        authentic.append(gaps[nearest] > own)
    return np.mean(authentic)


def test_authenticity_and_neighbours():
    rng = np.random.default_rng(0)
    generated = np.concatenate([GENERATED, TRAINING[:30] + 0.1 * rng.normal(size=(30, 20))])
    found = memorisation(generated, TRAINING)
    assert 0 < found.authenticity < 1
    assert found.authenticity == by_definition(generated, TRAINING)
    gaps = np.linalg.norm(generated[:, None] - TRAINING, axis=2)
    np.testing.assert_array_equal(found.nearest.indices, gaps.argmin(axis=1))
    np.testing.assert_allclose(found.nearest.distances, gaps.min(axis=1))
    assert memorisation(TRAINING, TRAINING).authenticity == 0


@pytest.mark.parametrize("each", [1, 3])
def test_the_expected_authenticity_is_that_of_new_patients(each):
    """Whatever their number: 20 or 200 new images, and one or three images of each patient."""
    expected, blind, obtained = [], [], {20: [], 200: []}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        training = np.repeat(rng.normal(size=(90 // each, 6)), each, axis=0)
        training += rng.normal(size=training.shape)
        labels = np.repeat(np.arange(90 // each), each)
        for count, values in obtained.items():
            new = rng.normal(scale=2**0.5, size=(count, 6))
            found = memorisation(new, training, training_patients=labels)
            values.append(found.authenticity)
        expected.append(found.expected_authenticity)
        blind.append(memorisation(new, training).expected_authenticity)
    for values in obtained.values():
        error = np.std(np.subtract(values, expected), ddof=1) / np.sqrt(len(values))
        assert abs(np.mean(values) - np.mean(expected)) < 4 * error < 0.1
    assert 0.4 < np.mean(expected) < 0.8
    # Without the patients, further images of a patient would count as new ones.
    assert each == 1 or np.mean(blind) < np.mean(expected) - 0.02


def test_two_patients_are_too_few_for_the_expected_authenticity():
    found = memorisation(GENERATED, TRAINING[:6], training_patients=[0] * 3 + [1] * 3)
    assert found.expected_authenticity is None


def test_as_near_as_the_neighbour_is_not_authentic():
    training = np.array([[0.0], [1], [10]])
    assert memorisation([[-1.0]], training).authenticity == 0
    assert memorisation([[-1.001]], training).authenticity == 1


def test_ratios_by_definition():
    found = memorisation(GENERATED, TRAINING, **SIDES, permutations=9)
    rooms = []
    for feature, patient in zip(TRAINING, PATIENTS, strict=True):
        rooms.append(np.linalg.norm(TRAINING[patient != PATIENTS] - feature, axis=1).min())
    rooms = np.minimum(rooms, np.median(rooms))
    expected = found.nearest.distances / rooms[found.nearest.indices]
    np.testing.assert_allclose(found.ratios, expected)
    nearest_held_out = np.linalg.norm(GENERATED[:, None] - HELD_OUT, axis=2).min(axis=1)
    np.testing.assert_allclose(found.held_out_ratios, found.nearest.distances / nearest_held_out)


def test_disjoint_patients_are_no_copies():
    found = memorisation(GENERATED, TRAINING, **SIDES, permutations=999)
    assert not found.copying_likely
    assert found.reasons == []
    assert len(found.copies) == 0
    assert not any(pair.copy for pair in found.pairs)
    assert found.ratios.min() > 1.5 * COPY_RATIO
    assert found.training_proximity.p_value > 0.01
    assert 0.3 < found.training_proximity.nearer < 0.7


@pytest.mark.parametrize("noise", [0.0, 1e-7, 0.02])
def test_planted_copies_are_found(noise):
    rng = np.random.default_rng(4)
    copies = TRAINING[[7, 50]] + noise * rng.normal(size=(2, 20))
    generated = np.concatenate([GENERATED[:10], copies, GENERATED[10:]])
    found = memorisation(generated, TRAINING, training_patients=PATIENTS)
    assert found.copying_likely
    assert found.copies.tolist() == [10, 11]
    assert {(p.generated, p.training) for p in found.pairs[:2]} == {(10, 7), (11, 50)}
    assert [p.copy for p in found.pairs] == [True] * 2 + [False] * 8
    assert found.reasons == ["2 of 42 generated images are nearly a training image"]
    distances = [p.ratio for p in found.pairs[2:]]
    assert distances == sorted(distances)


def test_a_copy_of_a_training_image_that_repeats_itself():
    training = np.concatenate([TRAINING, TRAINING[:1]])
    found = memorisation(np.concatenate([GENERATED, TRAINING[:1]]), training)
    assert found.copies.tolist() == [len(GENERATED)]


def test_the_lone_image_of_a_view_has_no_more_room_than_others():
    """Its only kin in training is far away; that makes no copy of an image of the same view."""
    view = np.full(20, 30.0)
    rng = np.random.default_rng(0)
    training = np.concatenate([TRAINING, [view + rng.normal(size=20)]])
    found = memorisation([view + rng.normal(size=20)], training, training_patients=[*PATIENTS, 9])
    assert found.nearest.indices.tolist() == [len(TRAINING)]
    assert len(found.copies) == 0


def planted_images():
    images, _ = phantom_set(48, size=128, seed=8, body_parts=("knee",))
    training, generated = images[:24], images[24:].copy()
    generated[3], generated[5] = training[11][:, ::-1], np.roll(training[2], 3, axis=1)
    return generated, training


def test_copies_that_pixels_alone_show():
    generated, training = planted_images()
    matches = pixel_matches(pixel_signatures(generated), pixel_signatures(training))
    rng = np.random.default_rng(0)
    features = rng.normal(size=(24, 10)), rng.normal(size=(24, 10))
    assert not memorisation(*features).copying_likely
    found = memorisation(*features, pixels=matches)
    assert found.copies.tolist() == [3, 5]
    assert found.pixels_compared
    pairs = {p.generated: p for p in found.pairs[:2]}
    assert (pairs[3].training, pairs[3].flipped) == (11, True)
    assert (pairs[5].training, pairs[5].flipped) == (2, False)
    assert pairs[3].similarity == 1
    expected = np.linalg.norm(features[0][3] - features[1][11])
    assert pairs[3].distance == pytest.approx(expected)


def test_a_generator_that_stays_near_its_training_patients():
    """No image is a copy; together they lean on training patients."""
    rng = np.random.default_rng(6)
    near = TRAINING[rng.integers(0, 90, 60)] + 0.6 * rng.normal(size=(60, 20))
    found = memorisation(near, TRAINING, **SIDES, permutations=1999)
    assert len(found.copies) == 0
    assert found.training_proximity.share > 0.95
    assert found.training_proximity.expected == 0.6
    assert found.training_proximity.p_value == 1 / 2000
    assert found.training_proximity.nearer > 0.8
    assert found.copying_likely
    assert "nearest to a training image, where 60.0% were to be expected" in found.reasons[0]


def test_training_proximity_keeps_its_level_at_unequal_counts():
    """45 patients against 15, one law for all: p below 0.05 in about 5 % of 200 trials."""
    below, nearer = 0, []
    for trial in range(200):
        rng = np.random.default_rng(trial)
        sizes = rng.integers(1, 5, 60)
        own = np.repeat(rng.normal(size=(60, 5)), sizes, axis=0)
        real = own + 0.3 * rng.normal(size=own.shape)
        groups = np.repeat(np.arange(60), sizes)
        first = groups < 45
        pooled = pooled_patients(groups[first], groups[~first], first.sum(), (~first).sum())
        generated = rng.normal(size=(50, 5))
        nearest = [nearest_neighbours(generated, real[side]) for side in (first, ~first)]
        found = training_proximity(
            generated, real[first], real[~first], pooled, nearest, 199, trial
        )
        below += found.p_value <= 0.05
        nearer.append(found.nearer)
    assert scipy.stats.binomtest(below, 200, 0.05).pvalue > 0.01
    assert np.mean(nearer) == pytest.approx(0.5, abs=4 * np.std(nearer) / np.sqrt(200))


@pytest.mark.parametrize("swap", [False, True])
def test_nearer_is_the_mean_over_draws(swap):
    rng = np.random.default_rng(9)
    generated, large, small = (rng.normal(size=(n, 3)) for n in (15, 30, 8))
    large[4] = small[2]  # a tie
    patients = np.arange(30) // 2, np.arange(8) // 2 + 15
    generated[0] = small[2] + 0.01
    sides = (small, large) if swap else (large, small)
    groups = np.concatenate(patients[::-1] if swap else patients)
    nearest = [nearest_neighbours(generated, side) for side in sides]
    found = training_proximity(generated, *sides, groups, nearest, 9, 0).nearer
    wins = []
    for _ in range(4000):
        drawn = large[np.isin(patients[0], rng.choice(15, 4, replace=False))]
        a, b = (np.linalg.norm(generated[:, None] - s, axis=2).min(axis=1) for s in (drawn, small))
        wins.append(np.mean(np.where(np.abs(a - b) < 1e-12, 0.5, a < b)))
    drawn_share = np.mean(wins) if not swap else 1 - np.mean(wins)
    assert found == pytest.approx(drawn_share, abs=4 * np.std(wins) / np.sqrt(4000))


def test_all_missed_is_the_hypergeometric_chance():
    closer = np.array([0.0, 1, 5, 22, 23, 30])
    expected = scipy.stats.hypergeom(30, closer.astype(int), 8).pmf(0)
    np.testing.assert_allclose(_all_missed(closer, 30, 8), expected, atol=1e-12)


@pytest.mark.parametrize("entries", [1, 10**6])
def test_block_size_and_dtype_change_nothing(monkeypatch, entries):
    arguments = {**SIDES, "permutations": 99}
    sides = GENERATED.astype(np.float32), TRAINING.astype(np.float32)
    expected = memorisation(*sides, **arguments).to_dict()
    monkeypatch.setattr(distances, "BLOCK_ENTRIES", entries)
    found = memorisation(*(s.astype(np.float64) for s in sides), **arguments).to_dict()
    assert found.pop("ratio") == pytest.approx(expected.pop("ratio"), rel=1e-12)
    pairs = found.pop("pairs"), expected.pop("pairs")
    for a, b in zip(*pairs, strict=True):
        assert {k: v or 0 for k, v in a.items()} == pytest.approx(
            {k: v or 0 for k, v in b.items()}, rel=1e-12
        )
    assert found == expected


def test_json():
    generated = np.concatenate([GENERATED, HELD_OUT[:1], TRAINING[:1]])
    found = memorisation(generated, TRAINING, **SIDES, permutations=9, num_pairs=2)
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert json.loads(text)["copies"] == [41]
    assert found.held_out_ratios[40] == np.inf
    assert found.to_dict()["held_out_ratio"]["least"] == 0
    assert len(found.pairs) == 2


NAN = np.where(np.arange(40)[:, None] == 4, np.nan, GENERATED)
MATCHES = PixelMatches(np.full(40, 90), np.zeros(40), np.zeros(40, bool))


@pytest.mark.parametrize(
    ("generated", "training", "arguments", "said"),
    [
        (GENERATED, TRAINING[:1], {}, "1 training images: at least 2"),
        (NAN, TRAINING, {}, "1 of 40 rows of generated features hold NaN"),
        (GENERATED, TRAINING[:, :3], {}, "dimension 20 and training features of dimension 3"),
        (GENERATED, np.ones((5, 20)), {}, "the training features are all equal"),
        (GENERATED, TRAINING, {"held_out": HELD_OUT[:, :3]}, "held-out features of dimension 3"),
        (GENERATED, TRAINING, {"held_out": HELD_OUT[:0]}, "0 held-out images"),
        (GENERATED, TRAINING, {**SIDES, "held_out_patients": None}, "give both or neither"),
        (GENERATED, TRAINING, {**SIDES, "held_out_patients": OTHERS - 1000}, "20 patients have im"),
        (GENERATED, TRAINING, {"training_patients": [1]}, "1 training patients for 90 images"),
        (GENERATED, TRAINING, {"pixels": MATCHES}, "name training image 90 of 90"),
        (GENERATED[:9], TRAINING, {"pixels": MATCHES}, "matches of 40 images for features of 9"),
        (GENERATED, TRAINING, {**SIDES, "permutations": 0}, "permutations 0: expected"),
        (GENERATED, TRAINING, {**SIDES, "seed": -1}, "seed -1: expected"),
        (GENERATED, TRAINING, {"num_pairs": -1}, "num_pairs -1: expected"),
    ],
)
def test_mistakes_are_reported_in_one_line(generated, training, arguments, said):
    with pytest.raises(StatisticsError, match=said) as refusal:
        memorisation(generated, training, **arguments)
    assert "\n" not in str(refusal.value)
