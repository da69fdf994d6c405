"""The phantom: its physics against closed forms, its sets against what they promise."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from fid_med.errors import DataError
from fid_med.phantoms import radiograph, solids
from fid_med.phantoms.radiograph import BODY_PARTS, phantom_radiograph, phantom_set


def at(x, y):
    return np.float32([[x]]), np.float32([[y]])


def integrated(inside, x, y, reach=6.0, steps=60001):
    """Length of the ray through (x, y) within a solid, by stepping along the beam."""
    z = np.linspace(-reach, reach, steps)
    return np.count_nonzero(inside(x, y, z)) * (z[1] - z[0])


# Physics.


@pytest.mark.parametrize("point", [(0.3, 0.2), (-0.9, 0.4), (1.1, -0.6), (2.4, 0.1), (9.0, 9.0)])
def test_ellipsoid_chord_is_the_length_within_it(point):
    solid = solids.Ellipsoid(0.2, -0.1, 2.0, 1.0, 1.5, angle=0.4)

    def inside(x, y, z):
        u = np.cos(0.4) * (x - 0.2) + np.sin(0.4) * (y + 0.1)
        v = np.cos(0.4) * (y + 0.1) - np.sin(0.4) * (x - 0.2)
        return (u / 2.0) ** 2 + v**2 + (z / 1.5) ** 2 <= 1

    whole, _ = solid.chords(*at(*point))
    assert whole[0, 0] == pytest.approx(integrated(inside, *point), abs=1e-3)


@pytest.mark.parametrize("point", [(0.5, 0.3), (2.0, 1.0), (3.1, 1.0), (-0.4, 0.1), (2.0, 4.0)])
def test_capsule_chord_is_the_length_within_it(point):
    solid = solids.Capsule(0.0, 0.0, 3.0, 1.5, 1.2, 0.6, 0.3, 0.2)

    def inside(thinner_a, thinner_b):
        def test(x, y, z):
            t = np.clip((x * 3.0 + y * 1.5) / (3.0**2 + 1.5**2), 0, 1)
            radius = (1.2 - thinner_a) + t * ((0.6 - thinner_b) - (1.2 - thinner_a))
            return (x - 3.0 * t) ** 2 + (y - 1.5 * t) ** 2 + z**2 <= radius**2

        return test

    whole, core = solid.chords(*at(*point))
    assert whole[0, 0] == pytest.approx(integrated(inside(0, 0), *point), abs=1e-3)
    assert core[0, 0] == pytest.approx(integrated(inside(0.3, 0.2), *point), abs=1e-3)


def test_cylinder_chord_has_its_closed_form_and_shell():
    solid = solids.Capsule(0, -10, 0, 10, 1.0, 1.0, 0.25, 0.25)
    x = np.linspace(-1.5, 1.5, 61, dtype=np.float32)[None]
    whole, core = solid.chords(x, np.zeros_like(x))
    np.testing.assert_allclose(whole, 2 * np.sqrt(np.maximum(1 - x**2, 0)), atol=1e-6)
    np.testing.assert_allclose(core, 2 * np.sqrt(np.maximum(0.75**2 - x**2, 0)), atol=1e-6)


def test_block_and_plate_of_the_same_outline_agree():
    corners = np.array([(-2.0, -1.0), (2.0, -1.0), (2.0, 1.0), (-2.0, 1.0)])
    block = solids.Block(0, 0, 2.0, 1.0, 3.0, edge=1e-3, shell=0.0)
    plate = solids.Plate(corners, 3.0, edge=1e-3)
    x, y = np.meshgrid(np.linspace(-3, 3, 62), np.linspace(-2, 2, 41))
    x, y = x.astype(np.float32), y.astype(np.float32)
    inside = 3.0 * ((np.abs(x) < 2) & (np.abs(y) < 1))
    clear = (np.abs(np.abs(x) - 2) > 0.01) & (np.abs(np.abs(y) - 1) > 0.01)
    for solid in (block, plate):
        np.testing.assert_allclose(solid.chords(x, y)[0][clear], inside[clear], atol=1e-6)


def test_overlapping_solids_of_one_body_are_united_not_summed():
    grid = solids.Grid((41, 41), 0.1)
    ball = solids.Ellipsoid(0, 0, 1, 1, 1, shell=0.2)
    once = solids.line_integral([solids.bone([ball])], grid)
    twice = solids.line_integral([solids.bone([ball, ball])], grid)
    assert once.max() > 0.1
    np.testing.assert_array_equal(once, twice)


def test_a_marrow_bone_in_muscle_obeys_beer_and_lambert():
    grid = solids.Grid((3, 201), 0.02)
    block = solids.Block(0, 0, 50, 50, 6.0, 1.0)
    shaft = solids.Capsule(0, -9, 0, 9, 1.0, 1.0, 0.3, 0.3)
    muscle = solids.flesh([block])
    line = solids.line_integral([muscle, solids.bone([shaft])], grid)
    x = grid.x[1]
    whole = 2 * np.sqrt(np.maximum(1 - x**2, 0))
    core = 2 * np.sqrt(np.maximum(0.7**2 - x**2, 0))
    expected = solids.MUSCLE * (6.0 - whole) + solids.CORTEX * (whole - core) + solids.SPONGY * core
    np.testing.assert_allclose(line[1], expected, atol=3e-4)  # float32 at the core's edge


def test_coefficients_are_those_of_the_tables_at_60_kev():
    assert pytest.approx(0.604, abs=0.001) == solids.CORTEX
    assert pytest.approx(0.215, abs=0.001) == solids.MUSCLE
    names = ["AIR", "LUNG", "FAT", "MUSCLE", "SPONGY", "CORTEX", "TITANIUM", "STEEL", "LEAD"]
    order = [getattr(solids, name) for name in names]
    assert order == sorted(order)


@pytest.mark.parametrize("photons", [500, 5000, 50000])
@pytest.mark.parametrize("blur", [0.5, 1.2])
def test_noise_follows_the_photon_count(photons, blur):
    passed = np.full((300, 300), 0.2, np.float32)
    seen = radiograph.expose(passed, photons, blur, np.random.default_rng(3))
    point = np.zeros((31, 31))
    point[15, 15] = 1
    kernel = gaussian_filter(point, blur, truncate=3.0)
    predicted = np.sum(kernel**2) / (photons * 0.2)
    inner = seen[10:-10, 10:-10].astype(float)
    # 78400 pixels, some 10 to a spot of the blur: the variance is known to about 2 %.
    assert inner.var() == pytest.approx(predicted, rel=0.08)
    assert inner.mean() == pytest.approx(-np.log(0.2), abs=0.01)


def test_display_is_linear_within_its_window():
    flat = np.linspace(0.0, 3.0, 64 * 64, dtype=np.float32).reshape(64, 64)
    grey = radiograph.display(flat, (1.0, 2.0), latitude=0.0)
    expected = np.rint(255 * np.clip(flat - 1.0, 0, 1))
    assert np.abs(grey - expected).max() <= 1
    assert grey.min() == 0
    assert grey.max() == 255


# One radiograph.


@pytest.mark.parametrize("body_part", BODY_PARTS)
@pytest.mark.parametrize("abnormal", [False, True])
def test_same_seed_same_pixels(body_part, abnormal):
    first = phantom_radiograph(body_part, abnormal=abnormal, size=64, seed=5)
    again = phantom_radiograph(body_part, abnormal=abnormal, size=64, seed=5)
    other = phantom_radiograph(body_part, abnormal=abnormal, size=64, seed=6)
    np.testing.assert_array_equal(first, again)
    assert np.mean(np.abs(first.astype(int) - other)) > 3


def test_global_random_state_plays_no_part():
    np.random.seed(0)
    first = phantom_radiograph("hand", size=32)
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    np.testing.assert_array_equal(first, phantom_radiograph("hand", size=32))
    np.testing.assert_array_equal(state, np.random.get_state()[1])


@pytest.mark.parametrize("body_part", BODY_PARTS)
@pytest.mark.parametrize("size", [16, 96, (40, 70), (97, 31), (16, 300)])
def test_sizes(body_part, size):
    image = phantom_radiograph(body_part, size=size, seed=1)
    assert image.dtype == np.uint8
    assert image.shape == (size if isinstance(size, tuple) else (size, size))
    assert image.max() > 100  # something is there
    assert image.std() > 10


@pytest.mark.parametrize("body_part", BODY_PARTS)
def test_the_size_changes_the_sampling_not_the_patient(body_part):
    small = phantom_radiograph(body_part, size=48, seed=2)
    large = phantom_radiograph(body_part, size=240, seed=2).reshape(48, 5, 48, 5).mean((1, 3))
    assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.97


@pytest.mark.parametrize("body_part", ["elbow", "hand", "knee"])
def test_bone_is_brighter_than_flesh_and_flesh_than_air(body_part):
    streams = radiograph._streams(4, body_part)
    tissues = radiograph.ANATOMIES[body_part](streams["patient"]).tissues
    technique = radiograph.TECHNIQUES[body_part]
    grid = radiograph._View(technique, (128, 128), 1, streams["view"]).grid
    thick = {}
    for name in tissues:
        window, whole, _ = solids.project(tissues[name], grid)
        thick[name] = np.zeros(grid.size, np.float32)
        thick[name][window] = whole
    skin = thick.pop("skin")
    bones = np.max(list(thick.values()), axis=0)
    image = phantom_radiograph(body_part, size=128, seed=4)
    air = image[gaussian_filter(skin, 2) < 1e-3]
    assert np.median(air) == 0
    assert np.mean(air) < 8  # the lead letter is there
    flesh = image[(skin > 1.0) & (gaussian_filter(bones, 1.5) < 1e-3)]
    assert np.mean(flesh) > np.mean(air) + 10
    assert np.mean(image[bones > 1.0]) > np.mean(flesh) + 20


@pytest.mark.parametrize("body_part", BODY_PARTS)
def test_a_lesion_changes_the_patient_here_and_not_there(body_part):
    technique = radiograph.TECHNIQUES[body_part]
    kinds = set()
    for seed in range(12):
        lines = []
        for abnormal in (False, True):
            streams = radiograph._streams(seed, body_part)
            tissues = radiograph._patient(body_part, abnormal, streams)
            grid = radiograph._View(technique, (128, 128), 1, streams["view"]).grid
            lines.append(solids.line_integral(tissues, grid))
        change = lines[1] - lines[0]
        touched = np.mean(np.abs(change) > 0.02)
        assert 0.0005 < touched < 0.15
        assert np.mean(change == 0) > 0.7
        kinds.add("implant" if change.max() > 1.0 else "fracture")
    assert kinds == {"implant", "fracture"}


@pytest.mark.parametrize("body_part", BODY_PARTS)
def test_a_lesion_is_visible_among_the_noise(body_part):
    for seed in range(6):
        normal = phantom_radiograph(body_part, size=256, seed=seed).astype(float)
        abnormal = phantom_radiograph(body_part, size=256, seed=seed, abnormal=True).astype(float)
        change = np.abs(gaussian_filter(abnormal - normal, 1.0))
        # Two draws of the noise alone differ by less than 10 grey levels after this blur.
        assert change.max() > 15
        assert np.mean(change > 15) < 0.15


def test_every_lesion_names_a_bone_that_is_there_and_lies_on_it():
    for body_part, anatomy in radiograph.ANATOMIES.items():
        for seed in range(3):
            tissues, breaks, implants = anatomy(np.random.default_rng(seed))
            assert breaks, body_part
            assert implants, body_part
            for site in (site for together in breaks for site in together):
                x, y = at(site.x, site.y)
                chords = [solid.chords(x, y)[0][0, 0] for solid in tissues[site.bone].solids]
                assert max(chords) > 0.2, (body_part, site)


def test_body_parts_are_distinguished_by_a_trivial_classifier():
    train, train_labels = phantom_set(6 * 12, size=16, seed=1)
    test, test_labels = phantom_set(6 * 8, size=16, seed=2)
    truth = np.array([label.body_part for label in train_labels])
    means = np.stack([train[truth == part].mean(axis=0) for part in BODY_PARTS])
    distances = np.square(test[:, None].astype(float) - means).sum(axis=(2, 3))
    guesses = [BODY_PARTS[i] for i in distances.argmin(axis=1)]
    right = np.mean(
        [guess == label.body_part for guess, label in zip(guesses, test_labels, strict=True)]
    )
    assert right > 0.75  # chance is 1/6


# Sets.


def test_a_longer_set_begins_with_the_shorter():
    short, short_labels = phantom_set(5, size=24, seed=9)
    long, long_labels = phantom_set(20, size=24, seed=9)
    np.testing.assert_array_equal(short, long[:5])
    assert short_labels == long_labels[:5]
    assert len({image.tobytes() for image in long}) == 20


def test_sets_of_other_seeds_share_nothing():
    one, one_labels = phantom_set(6, size=24, seed=1)
    two, two_labels = phantom_set(6, size=24, seed=2)
    assert not {image.tobytes() for image in one} & {image.tobytes() for image in two}
    assert not {label.patient for label in one_labels} & {label.patient for label in two_labels}


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_classes_are_balanced(share):
    _, labels = phantom_set(6 * 8, size=16, abnormal_share=share)
    for part in BODY_PARTS:
        own = [label for label in labels if label.body_part == part]
        assert len(own) == 8
        assert sum(label.abnormality == "abnormal" for label in own) == 8 * share
    assert {label.abnormality for label in labels} <= {"normal", "abnormal"}
    assert len({label.patient for label in labels}) == len(labels)


def test_a_set_of_chosen_body_parts_takes_turns():
    images, labels = phantom_set(4, size=(20, 30), body_parts=("neck", "elbow"))
    assert images.shape == (4, 20, 30)
    assert [label.body_part for label in labels] == ["neck", "elbow", "neck", "elbow"]


# Mistakes.


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: phantom_radiograph("wing"), "unknown body part 'wing'; choose elbow, neck"),
        (lambda: phantom_radiograph(["hand"]), "unknown body part"),
        (lambda: phantom_radiograph("hand", size=15), "from 16 to 4096 pixels, got 15"),
        (lambda: phantom_radiograph("hand", size=(64, 8)), r"got \(64, 8\)"),
        (lambda: phantom_radiograph("hand", size=(64, 64, 3)), "height, width"),
        (lambda: phantom_radiograph("hand", size=64.0), "got 64.0"),
        (lambda: phantom_radiograph("hand", size=10**6), "4096"),
        (lambda: phantom_radiograph("hand", seed=-1), "non-negative"),
        (lambda: phantom_radiograph("hand", seed=1.5), "non-negative"),
        (lambda: phantom_radiograph("hand", seed=()), "empty"),
        (lambda: phantom_set(0), "at least 1, got 0"),
        (lambda: phantom_set(2.0), "whole number"),
        (lambda: phantom_set(2, abnormal_share=1.2), "between 0 and 1"),
        (lambda: phantom_set(2, body_parts=()), "body_parts"),
        (lambda: phantom_set(2, body_parts=("hand", "wing")), "wing"),
        (lambda: phantom_set(2, body_parts="hand"), "body_parts"),
    ],
)
def test_mistakes_end_in_one_clear_line(call, message):
    with pytest.raises(DataError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
