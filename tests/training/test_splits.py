"""Tests the splits: no patient in two of them, and labels in their fractions."""

import collections

import numpy as np
import pytest

from fid_med.data.labelled import LabelledImages
from fid_med.errors import DataError, SettingError
from fid_med.training.splits import contradictions, find_repeats, split


def labelled(labels, patients=None, splits=None, classes=("elbow", "neck"), studies=None):
    names = [str(i) for i in range(len(labels))]
    return LabelledImages(
        "set",
        names,
        [None] * len(labels),
        np.array(labels),
        classes,
        patients,
        studies,
        splits,
    )


@pytest.mark.parametrize("seed", range(8))
def test_no_patient_and_no_image_is_in_two_splits(seed):
    rng = np.random.default_rng(seed)
    patients = [str(n) for n in rng.integers(0, 80, 400)]
    digests = [str(n) for n in rng.integers(0, 2000, 400)]
    images = labelled(rng.integers(0, 2, 400), patients)
    assigned = split(images, digests, (0.2, 0.2), seed)
    for keys in (patients, digests):
        for key in set(keys):
            members = [a for a, k in zip(assigned, keys, strict=True) if k == key]
            assert len(set(members)) == 1
    shares = [np.mean(assigned == part) for part in ("train", "validation", "test")]
    np.testing.assert_allclose(shares, [0.6, 0.2, 0.2], atol=0.06)


def test_a_rare_label_is_split_by_the_fractions():
    labels = np.repeat([0, 1], [270, 30])
    assigned = split(labelled(labels), [str(i) for i in range(300)], (0.2, 0.2), 0)
    for part, expected in (("train", 18), ("validation", 6), ("test", 6)):
        assert ((assigned == part) & (labels == 1)).sum() == expected


def test_splits_depend_on_the_seed():
    labels, digests = np.arange(100) % 2, [str(i) for i in range(100)]
    first, again, other = (split(labelled(labels), digests, (0.2, 0.2), seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_given_splits_are_kept_except_for_repeated_images():
    parts = np.array(["train"] * 6 + ["validation"] * 3 + ["test"] * 3)
    digests = ["a", "b", "c", "d", "e", "e", "a", "f", "g", "b", "f", "h"]
    assigned = split(
        labelled([0, 1] * 3 + [1, 1, 0] + [0, 1, 0], splits=parts), digests, (0.2, 0.2), 0
    )
    expected = parts.astype(object)
    expected[[0, 1, 7]] = "repeated"  # a is in validation, b and f in test; e within train stays
    np.testing.assert_array_equal(assigned, expected)
    repeats = find_repeats(digests)
    assert len(repeats) == 4
    assert all(digests[i] == digests[first] and first < i for i, first in repeats)


@pytest.mark.parametrize(
    ("labels", "patients", "fractions", "message"),
    [
        ([0] * 10 + [1], None, (0.2, 0.2), "the label neck has only one image"),
        ([0, 1] * 5, ["one"] * 10, (0.2, 0.2), "the label elbow, neck has only one patient"),
        ([0, 1] * 5, None, (0.05, 0.0), "no validation image has the label"),
        ([0, 1] * 20, None, (0.2, 0.001), "the test split is empty"),
        ([0, 1] * 5, None, (0.0, 0.2), "their sum below 1"),
        ([0, 1] * 5, None, (0.5, 0.5), "their sum below 1"),
        ([0, 1] * 5, None, (0.5, -0.1), "their sum below 1"),
        ([0, 1] * 5, None, (0.5, float("nan")), "their sum below 1"),
    ],
)
def test_impossible_splits_are_errors(labels, patients, fractions, message):
    expected = SettingError if message == "their sum below 1" else DataError
    with pytest.raises(expected, match=message):
        split(labelled(labels, patients), [str(i) for i in range(len(labels))], fractions, 0)


def test_one_label_is_not_enough():
    with pytest.raises(DataError, match="two labels"):
        labelled([0, 0], classes=("elbow",))


def splits_by_key(assigned, keys):
    """Returns the set of splits of each key's images."""
    found = {}
    for part, key in zip(assigned, keys, strict=True):
        found.setdefault(key, set()).add(str(part))
    return found


@pytest.mark.parametrize("seed", range(8))
def test_fractions_hold_for_patients_with_very_different_numbers_of_images(seed):
    rng = np.random.default_rng(seed)
    sizes = np.minimum(rng.geometric(0.25, 300), 20)
    patients = np.repeat([f"p{i}" for i in range(300)], sizes).tolist()
    # Unbalanced labels, the same for all images of a patient, like a pathology.
    labels = np.repeat(rng.choice(3, 300, p=[0.7, 0.2, 0.1]), sizes)
    images = labelled(labels, patients, classes=("a", "b", "c"))
    assigned = split(images, [str(i) for i in range(len(labels))], (0.2, 0.1), seed)
    assert all(len(found) == 1 for found in splits_by_key(assigned, patients).values())
    for part, share in (("train", 0.7), ("validation", 0.2), ("test", 0.1)):
        for label in range(3):
            members = labels == label
            assert np.mean(assigned[members] == part) == pytest.approx(share, abs=0.03)


def test_identical_images_link_patients_in_a_chain():
    # Each patient shares an image with the next: one group of 60 images, and 140 single ones.
    patients = [f"p{i // 2}" for i in range(60)] + [f"q{i}" for i in range(140)]
    digests = [f"link{(i + 1) // 2}" for i in range(60)] + [f"d{i}" for i in range(140)]
    assigned = split(labelled(np.arange(200) % 2, patients), digests, (0.2, 0.2), 0)
    assert len(set(assigned[:60])) == 1
    assert all(len(found) == 1 for found in splits_by_key(assigned, digests).values())


def test_identical_images_are_in_one_split_if_patients_are_unknown():
    digests = [str(i // 4) for i in range(400)]
    assigned = split(labelled(np.arange(400) // 2 % 2), digests, (0.3, 0.2), 1)
    assert all(len(found) == 1 for found in splits_by_key(assigned, digests).values())
    assert set(assigned) == {"train", "validation", "test"}


def test_a_test_fraction_of_0_gives_no_test_images():
    assigned = split(labelled(np.arange(80) % 2), [str(i) for i in range(80)], (0.25, 0.0), 0)
    assert collections.Counter(assigned.tolist()) == {"train": 60, "validation": 20}


@pytest.mark.parametrize("seed", range(6))
def test_given_splits_keep_every_test_image_and_exclude_repeated_images(seed):
    rng = np.random.default_rng(seed)
    parts = rng.permutation(np.repeat(["train", "validation", "test"], [300, 100, 100]))
    digests = [str(n) for n in rng.integers(0, 400, 500)]
    assigned = split(labelled(rng.integers(0, 2, 500), splits=parts), digests, (0.2, 0.2), seed)
    np.testing.assert_array_equal(assigned == "test", parts == "test")
    kept = assigned != "repeated"
    np.testing.assert_array_equal(assigned[kept], parts[kept])
    held_out = splits_by_key(assigned[kept], np.array(digests)[kept])
    assert all(len(found) == 1 for found in held_out.values())
    # Only images with an identical one in a split held out from theirs are excluded.
    originally = splits_by_key(parts, digests)
    for i in np.flatnonzero(~kept):
        above = {"test"} if parts[i] == "validation" else {"validation", "test"}
        assert originally[digests[i]] & above


def test_given_splits_without_validation_are_an_error():
    parts = np.array(["train"] * 6 + ["test"] * 6)
    images = labelled(np.arange(12) % 2, splits=parts)
    with pytest.raises(DataError, match="no validation image has the label elbow, neck"):
        split(images, [str(i) for i in range(12)], (0.2, 0.2), 0)


def test_a_rare_label_is_split_by_the_fractions_if_patients_have_both_labels():
    errors = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sizes = rng.integers(1, 12, 60)
        patients = np.repeat([f"p{i}" for i in range(60)], sizes).tolist()
        chance = np.repeat(rng.uniform(0, 0.2, 60), sizes)
        labels = (rng.random(len(chance)) < chance).astype(int)
        digests = [str(i) for i in range(len(labels))]
        rare = split(labelled(labels, patients), digests, (0.2, 0.2), seed)[labels == 1]
        errors += [np.mean(rare == part) - share for part, share in (("train", 0.6), ("test", 0.2))]
    # Measured: 0.025, and 0.1 without weights for rare labels.
    assert np.abs(errors).max() < 0.05


def in_one_split_each(assigned, *all_keys):
    """Whether no key is in two splits; excluded images are in none."""
    kept = assigned != "repeated"
    return all(
        len(found) == 1
        for keys in all_keys
        for found in splits_by_key(assigned[kept], np.array(keys)[kept]).values()
    )


@pytest.mark.parametrize("seed", range(4))
def test_development_images_go_to_training_and_validation_only(seed):
    rng = np.random.default_rng(seed)
    patients = [f"p{n}" for n in rng.integers(0, 90, 300)] + [f"q{i}" for i in range(50)]
    own = np.array(["development"] * 300 + ["test"] * 50)
    digests = [str(i) for i in range(350)]
    images = labelled(rng.integers(0, 2, 350), patients, own)
    assigned = split(images, digests, (0.25, 0.2), seed)
    np.testing.assert_array_equal(assigned == "test", own == "test")
    assert (assigned == "validation").sum() == pytest.approx(75, abs=6)
    assert set(assigned) == {"train", "validation", "test"}
    assert in_one_split_each(assigned, patients, digests)
    # The test fraction has no effect if the data set defines its test split.
    np.testing.assert_array_equal(assigned, split(images, digests, (0.25, 0.9), seed))


def test_the_test_split_is_filled_from_undivided_images():
    own = np.array(["development"] * 100 + ["undivided"] * 100)
    images = labelled(np.arange(200) % 2, splits=own)
    assigned = split(images, [str(i) for i in range(200)], (0.2, 0.1), 0)
    shares = [
        [(assigned[half] == part).sum() for part in ("train", "validation", "test")]
        for half in (slice(100), slice(100, 200))
    ]
    assert shares[0][2] == 0
    assert shares[1][2] == pytest.approx(10, abs=2)
    assert shares[0][1] + shares[1][1] == pytest.approx(40, abs=2)


def test_undivided_images_linked_to_development_images_are_not_in_the_test_split():
    own = np.array(["development", "undivided"] * 30 + ["undivided"] * 20)
    digests = [str(i // 2) for i in range(60)] + [f"alone{i}" for i in range(20)]
    images = labelled(np.arange(80) // 2 % 2, splits=own)
    assigned = split(images, digests, (0.2, 0.4), 0)
    assert in_one_split_each(assigned, digests)
    assert "test" not in assigned[:60]
    assert (assigned[60:] == "test").all()


def test_training_images_of_patients_in_the_given_test_split_are_excluded(capsys):
    own = np.array(["development"] * 20 + ["test"] * 4)
    patients = [f"p{i // 2}" for i in range(20)] + ["p0", "p3", "q", "q"]
    images = labelled(np.arange(24) % 2, patients, own)
    assigned = split(images, [str(i) for i in range(24)], (0.3, 0.2), 0)
    assert np.flatnonzero(assigned == "repeated").tolist() == [0, 1, 6, 7]
    assert in_one_split_each(assigned, patients)
    assert "4 images are excluded" in capsys.readouterr().err


@pytest.mark.parametrize("seed", range(4))
def test_no_study_is_in_two_splits_if_patients_are_unknown(seed):
    rng = np.random.default_rng(seed)
    studies = [f"s{n}" for n in rng.integers(0, 80, 300)]
    digests = [str(n) for n in rng.integers(0, 2000, 300)]
    images = labelled(rng.integers(0, 2, 300), studies=studies)
    assigned = split(images, digests, (0.2, 0.2), seed)
    assert in_one_split_each(assigned, studies, digests)


@pytest.mark.parametrize("seed", range(4))
def test_several_labels_per_image_are_split_by_patient(seed):
    rng = np.random.default_rng(seed)
    patients = np.repeat([f"p{i}" for i in range(300)], rng.integers(1, 5, 300)).tolist()
    labels = rng.random((len(patients), 4)) < [0.5, 0.2, 0.08, 0.04]
    images = labelled(labels, patients, classes=tuple("abcd"))
    digests = [str(i) for i in range(len(labels))]
    assigned = split(images, digests, (0.2, 0.1), seed)
    assert in_one_split_each(assigned, patients)
    for part, share in (("train", 0.7), ("validation", 0.2), ("test", 0.1)):
        for column in (*labels.T, ~labels.any(axis=1)):
            # Measured: 0.021, and 0.12 if labels are ignored.
            assert np.mean(assigned[column] == part) == pytest.approx(share, abs=0.06)


def test_a_label_of_only_one_patient_is_named():
    labels = np.zeros((60, 3), bool)
    labels[:, 0], labels[::2, 1], labels[:2, 2] = True, True, True
    patients = [f"p{i // 4}" for i in range(60)]
    with pytest.raises(DataError, match="the label rare has only one patient"):
        split(
            labelled(labels, patients, classes=("a", "b", "rare")),
            [str(i) for i in range(60)],
            (0.2, 0.2),
            0,
        )


def test_labels_without_test_images_cause_a_warning(capsys):
    labels = np.repeat([0, 1, 2], [40, 40, 2])
    images = labelled(labels, classes=("elbow", "neck", "rib"))
    assigned = split(images, [str(i) for i in range(82)], (0.2, 0.2), 0)
    assert "test" in assigned
    assert "no test image has the label rib" in capsys.readouterr().err


def test_identical_images_with_different_labels_are_found():
    digests = ["a", "b", "a", "c", "b", "a"]
    assert contradictions(digests, np.array([0, 1, 1, 0, 1, 0])) == [(2, 0)]
    several = np.array([[1, 0], [0, 1], [1, 0], [0, 0], [1, 1], [0, 0]], bool)
    assert contradictions(digests, several) == [(4, 1), (5, 0)]
