"""Tests AUC, confusion matrix, kappa and reports against values computed by hand."""

import json

import numpy as np
import pytest

from fid_med.errors import DataError
from fid_med.training.classification_report import (
    auc_interval,
    classification_report,
    cohens_kappa,
    confusion_matrix,
    roc_auc,
    study_report,
)


@pytest.mark.parametrize("seed", range(5))
def test_auc_is_the_share_of_correctly_ordered_pairs(seed):
    rng = np.random.default_rng(seed)
    scores, positives = rng.integers(0, 12, 60), rng.random(60) < 0.3  # with many ties
    pairs = [(p > n) + (p == n) / 2 for p in scores[positives] for n in scores[~positives]]
    assert roc_auc(scores, positives) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_auc_is_undefined_without_positives_or_negatives():
    assert roc_auc([0.1, 0.2], [True, True]) is None
    assert roc_auc([0.1, 0.2], [False, True]) == 1.0
    assert roc_auc([0.2, 0.1], [False, True]) == 0.0


def test_report_on_a_small_example():
    probabilities = np.array(
        [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.3, 0.6, 0.1], [0.6, 0.3, 0.1], [0.5, 0.3, 0.2]]
    )
    labels = np.array([0, 0, 1, 1, 0])
    assert confusion_matrix(labels, probabilities.argmax(axis=1), 3).tolist() == [
        [2, 1, 0], [1, 1, 0], [0, 0, 0]
    ]  # fmt: skip
    report = classification_report(probabilities, labels, ("a", "b", "c"))
    assert report["accuracy"] == pytest.approx(3 / 5)
    assert report["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert report["by_class"]["a"]["precision"] == pytest.approx(2 / 3)
    assert report["by_class"]["b"]["recall"] == pytest.approx(1 / 2)
    assert report["by_class"]["c"] == {"count": 0, "precision": None, "recall": None, "auc": None}
    assert report["by_class"]["a"]["auc"] == pytest.approx(3 / 6)
    json.dumps(report, allow_nan=False)


@pytest.mark.parametrize("seed", range(3))
def test_confusion_matrix_counts_pairs(seed):
    rng = np.random.default_rng(seed)
    labels, predicted = rng.integers(0, 4, (2, 50))
    expected = np.zeros((5, 5), int)
    for label, guess in zip(labels, predicted, strict=True):
        expected[label, guess] += 1
    np.testing.assert_array_equal(confusion_matrix(labels, predicted, 5), expected)


def test_auc_depends_only_on_the_order_of_scores():
    rng = np.random.default_rng(0)
    scores, positives = rng.normal(size=80), rng.random(80) < 0.4
    expected = roc_auc(scores, positives)
    assert roc_auc(np.exp(scores), positives) == expected
    assert roc_auc(-scores, positives) == pytest.approx(1 - expected)
    assert roc_auc(scores, ~positives) == pytest.approx(1 - expected)
    assert roc_auc(np.ones(80), positives) == 0.5
    shuffled = rng.permutation(80)
    assert roc_auc(scores[shuffled], positives[shuffled]) == expected


def test_auc_of_two_classes_is_that_of_the_second():
    # A saturated softmax: the second column has a tie where the first has none.
    probabilities = np.array([[1e-9, 1.0], [1e-12, 1.0], [0.4, 0.6], [0.9, 0.1]], np.float32)
    report = classification_report(probabilities, np.array([0, 1, 1, 0]), ("normal", "abnormal"))
    assert report["by_class"]["abnormal"]["auc"] == report["auc"] == 2.5 / 4
    assert report["by_class"]["normal"]["auc"] == 3 / 4


def test_auc_of_more_classes_is_their_mean():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), 60)
    report = classification_report(probabilities, rng.integers(0, 3, 60), ("a", "b", "c"))
    aucs = [report["by_class"][name]["auc"] for name in "abc"]
    assert len(set(aucs)) == 3
    assert report["auc"] == pytest.approx(np.mean(aucs))


def test_report_where_only_one_of_two_classes_is_present():
    report = classification_report([[0.9, 0.1], [0.4, 0.6]], [0, 0], ("normal", "abnormal"))
    assert report["auc"] is None
    assert report["accuracy"] == report["balanced_accuracy"] == 0.5
    assert report["by_class"]["abnormal"]["precision"] == 0
    assert report["by_class"]["abnormal"]["recall"] is None
    json.dumps(report, allow_nan=False)


def test_small_integer_labels_do_not_overflow():
    matrix = confusion_matrix(np.uint8([13, 19]), np.uint8([13, 19]), 20)
    assert matrix.sum() == 2
    assert matrix[13, 13] == matrix[19, 19] == 1


def test_auc_of_nan_is_an_error():
    with pytest.raises(DataError, match="1 of 3 scores are NaN"):
        roc_auc([0.1, np.nan, 0.3], [True, False, False])
    assert roc_auc([0.1, np.inf, 0.3], [False, True, False]) == 1.0


@pytest.mark.parametrize("shape", [(0,), (0, 2)])
def test_report_on_no_images_is_an_error(shape):
    with pytest.raises(DataError, match="no images"):
        classification_report(np.zeros((0, 2)), np.zeros(shape, int), ("a", "b"))
    with pytest.raises(DataError, match="no studies"):
        study_report(np.zeros((0, 2)), np.zeros(shape, int), [], ("a", "b"))


def test_a_report_of_nan_probabilities_is_an_error():
    for labels in (np.array([0, 1]), np.eye(2, dtype=bool)):
        with pytest.raises(DataError, match="diverged"):
            classification_report([[0.1, 0.9], [np.nan, np.nan]], labels, ("a", "b"))


@pytest.mark.parametrize(("rows", "labels"), [(3, 2), (2, (2, 3)), (2, (2, 2, 1))])
def test_a_report_of_mismatched_shapes_is_an_error(rows, labels):
    with pytest.raises(DataError, match="expected"):
        classification_report(np.zeros((rows, 2)), np.zeros(labels, int), ("a", "b"))


@pytest.mark.parametrize(
    ("matrix", "kappa"),
    [
        # A table as in Cohen 1960: (0.7 - 0.5) / (1 - 0.5).
        ([[20, 5], [10, 15]], 0.4),
        ([[45, 15], [25, 15]], (0.6 - 0.54) / 0.46),
        ([[5, 0], [0, 5]], 1.0),
        ([[0, 5], [5, 0]], -1.0),
        ([[0, 5], [0, 0]], 0.0),
        ([[9, 0], [0, 0]], None),
    ],
)
def test_kappa(matrix, kappa):
    found = cohens_kappa(matrix)
    assert found == (None if kappa is None else pytest.approx(kappa, abs=1e-12))


def test_reports_agree_with_scikit_learn():
    # Values of scikit-learn 1.9.1 (cohen_kappa_score, roc_auc_score, precision_score,
    # recall_score) for the same numbers; over 300 random inputs the two agree to 4e-16.
    labels, predicted = [0, 0, 0, 1, 1, 1, 1, 2, 2, 2], [0, 1, 0, 1, 1, 2, 0, 2, 1, 0]
    report = classification_report(np.eye(3)[predicted], labels, "abc")
    assert report["kappa"] == pytest.approx(0.24242424242424243, abs=1e-12)

    scores = np.arange(24) * 7 % 24 / 24
    probabilities = np.stack([scores, np.roll(scores, 5), 1 - scores**2], axis=1).round(1)
    report = classification_report(probabilities, np.arange(24) * 5 % 3, "abc")
    aucs = [report["by_class"][name]["auc"] for name in "abc"]
    assert aucs == pytest.approx([0.44140625, 0.44140625, 0.49609375], abs=1e-12)

    several = np.stack([scores > 0.4, np.arange(24) % 3 == 0, np.arange(24) % 5 < 2], axis=1)
    rows = classification_report(probabilities, several, "abc")["by_class"].values()
    for key, expected in {
        "auc": [0.9964285714285714, 0.49609375, 0.5428571428571429],
        "precision": [1.0, 0.3076923076923077, 0.3888888888888889],
        "recall": [0.9285714285714286, 0.5, 0.7],
    }.items():
        assert [row[key] for row in rows] == pytest.approx(expected, abs=1e-12)


def test_report_of_several_labels_on_a_small_example():
    labels = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]], bool)
    probabilities = [[0.9, 0.6, 0.1], [0.5, 0.7, 0.1], [0.2, 0.4, 0.6], [0.6, 0.3, 0.1]]
    report = classification_report(probabilities, labels, ("a", "b", "c"))
    # At 0.5 and above: a for images 0, 1, 3; b for 0, 1; c for 2.
    assert report["by_class"]["a"] == {"count": 2, "precision": 2 / 3, "recall": 1.0, "auc": 0.75}
    assert report["by_class"]["b"] == {"count": 2, "precision": 0.5, "recall": 0.5, "auc": 0.5}
    assert report["by_class"]["c"] == {"count": 0, "precision": 0.0, "recall": None, "auc": None}
    assert report["count"] == 4
    assert report["accuracy"] == pytest.approx(8 / 12)
    assert report["balanced_accuracy"] == pytest.approx(((1 + 0.5) / 2 + (0.5 + 0.5) / 2) / 2)
    assert report["auc"] == pytest.approx((0.75 + 0.5) / 2)
    assert report["precision"] == pytest.approx((2 / 3 + 0.5 + 0) / 3)
    assert report["recall"] == pytest.approx((1 + 0.5) / 2)
    json.dumps(report, allow_nan=False)


def test_study_report_takes_the_mean_over_a_study():
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.4, 0.6], [0.2, 0.8], [0.6, 0.4]])
    labels = np.array([0, 0, 1, 1, 0])
    studies = ["s2", "s2", "s1", "s1", "s0"]
    report = study_report(probabilities, labels, studies, ("normal", "abnormal"))
    by_hand = classification_report(
        [[0.6, 0.4], [0.3, 0.7], [0.6, 0.4]], [0, 1, 0], ("normal", "abnormal")
    )
    assert report["count"] == 3
    assert report["accuracy"] == report["auc"] == report["kappa"] == 1.0
    assert by_hand == report
    images = classification_report(probabilities, labels, ("normal", "abnormal"))
    assert images["accuracy"] == 4 / 5


def test_study_report_does_not_depend_on_the_order_of_images():
    rng = np.random.default_rng(0)
    studies = rng.integers(0, 20, 80)
    labels = rng.integers(0, 3, 20)[studies]
    probabilities = rng.dirichlet(np.ones(3), 80)
    one = study_report(probabilities, labels, studies, "abc")
    order = rng.permutation(80)
    other = study_report(probabilities[order], labels[order], studies[order], "abc")
    assert other["confusion_matrix"] == one["confusion_matrix"]
    assert other["auc"] == pytest.approx(one["auc"], abs=1e-12)
    assert other["kappa"] == pytest.approx(one["kappa"], abs=1e-12)


def test_study_report_of_several_labels():
    labels = np.array([[1, 0], [1, 0], [0, 1]], bool)
    report = study_report([[0.9, 0.2], [0.3, 0.1], [0.2, 0.4]], labels, ["x", "x", "y"], ("a", "b"))
    assert report["count"] == 2
    assert report["by_class"]["a"]["recall"] == 1.0
    assert report["by_class"]["b"]["recall"] == 0.0


@pytest.mark.parametrize(
    ("labels", "studies", "message"),
    [
        ([0, 1, 1], ["x", "x", "y"], "1 of 2 studies have images of different labels"),
        ([[1, 0], [1, 1], [0, 1]], ["x", "x", "y"], "1 of 2 studies"),
        ([0, 1, 1], ["x", "y"], "3 labels and 2 studies"),
    ],
)
def test_a_report_of_inconsistent_studies_is_an_error(labels, studies, message):
    with pytest.raises(DataError, match=message):
        study_report(np.full((3, 2), 0.5), labels, studies, ("a", "b"))


def two_normals(seed, count):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    second = 1 / (1 + np.exp(-rng.normal(labels, 1)))
    return np.stack([1 - second, second], axis=1), labels


def test_the_interval_of_the_auc_is_as_wide_as_by_hanley_and_mcneil():
    probabilities, labels = two_normals(0, 200)
    low, high = auc_interval(probabilities, labels)
    a, n = roc_auc(probabilities[:, 1], labels), 100
    # Equations 1 and 2 of Hanley & McNeil 1982, with as many positives as negatives.
    q1, q2 = a / (2 - a), 2 * a**2 / (1 + a)
    error = np.sqrt((a * (1 - a) + (n - 1) * (q1 + q2 - 2 * a**2)) / n**2)
    # Their Q is that of exponentials, and 500 resamples give the ends within 10 %.
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.2)
    assert low < a < high


def test_the_interval_resamples_patients():
    probabilities, labels = two_normals(1, 60)
    four = np.repeat(probabilities, 4, axis=0), np.repeat(labels, 4)
    alone = np.diff(auc_interval(probabilities, labels))[0]
    by_patient = np.diff(auc_interval(*four, np.repeat(np.arange(60), 4)))[0]
    by_image = np.diff(auc_interval(*four))[0]
    assert by_patient == pytest.approx(alone, rel=0.15)
    assert by_image < 0.7 * alone


def test_an_interval_of_several_labels_and_none_where_the_auc_is_undefined():
    rng = np.random.default_rng(2)
    truth = rng.random((80, 3)) < 0.4
    low, high = auc_interval(np.clip(truth * 0.3 + rng.random((80, 3)) * 0.7, 0, 1), truth)
    assert 0.5 < low < high <= 1
    assert auc_interval(np.full((6, 2), 0.5), np.zeros(6, int)) is None
