"""Splits: nobody on two sides, labels in their shares."""

import numpy as np
import pytest

from fid_med.data.labelled import LabelledImages
from fid_med.data.splits import repeats, split
from fid_med.errors import DataError


def labelled(labels, patients=None, splits=None, classes=("elbow", "neck")):
    names = [str(i) for i in range(len(labels))]
    return LabelledImages(
        "set", names, [None] * len(labels), np.array(labels), classes, patients, splits
    )


@pytest.mark.parametrize("seed", range(8))
def test_no_patient_and_no_image_on_two_sides(seed):
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


def test_rare_label_gets_its_share():
    labels = np.repeat([0, 1], [270, 30])
    assigned = split(labelled(labels), [str(i) for i in range(300)], (0.2, 0.2), 0)
    for part, expected in (("train", 18), ("validation", 6), ("test", 6)):
        assert ((assigned == part) & (labels == 1)).sum() == expected


def test_seed_decides():
    labels, digests = np.arange(100) % 2, [str(i) for i in range(100)]
    first, again, other = (split(labelled(labels), digests, (0.2, 0.2), seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_own_division_stands_but_for_repeats():
    parts = np.array(["train"] * 6 + ["validation"] * 3 + ["test"] * 3)
    digests = ["a", "b", "c", "d", "e", "e", "a", "f", "g", "b", "f", "h"]
    assigned = split(
        labelled([0, 1] * 3 + [1, 1, 0] + [0, 1, 0], splits=parts), digests, (0.2, 0.2), 0
    )
    expected = parts.astype(object)
    expected[[0, 1, 7]] = "repeated"  # a is in validation, b and f in test; e within train stays
    np.testing.assert_array_equal(assigned, expected)
    assert repeats(digests) == 4


@pytest.mark.parametrize(
    ("labels", "patients", "fractions", "message"),
    [
        ([0] * 10 + [1], None, (0.2, 0.2), "no validation image has the label neck"),
        ([0, 1] * 5, ["one"] * 10, (0.2, 0.2), "too few patients"),
        ([0, 1] * 5, None, (0.0, 0.2), "fractions"),
        ([0, 1] * 5, None, (0.5, 0.5), "fractions"),
        ([0, 1] * 5, None, (0.5, -0.1), "fractions"),
    ],
)
def test_impossible_splits_are_refused(labels, patients, fractions, message):
    with pytest.raises(DataError, match=message):
        split(labelled(labels, patients), [str(i) for i in range(len(labels))], fractions, 0)


def test_one_label_is_not_enough():
    with pytest.raises(DataError, match="two labels"):
        labelled([0, 0], classes=("elbow",))
