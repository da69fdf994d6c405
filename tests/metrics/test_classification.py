"""AUC, confusion matrix and the report, against counting by hand."""

import json

import numpy as np
import pytest

from fid_med.metrics.classification import classification_report, confusion_matrix, roc_auc


@pytest.mark.parametrize("seed", range(5))
def test_auc_is_the_share_of_pairs_in_order(seed):
    rng = np.random.default_rng(seed)
    scores, positives = rng.integers(0, 12, 60), rng.random(60) < 0.3  # with many ties
    pairs = [(p > n) + (p == n) / 2 for p in scores[positives] for n in scores[~positives]]
    assert roc_auc(scores, positives) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_auc_of_one_kind_is_undefined():
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


def test_auc_depends_on_order_alone():
    rng = np.random.default_rng(0)
    scores, positives = rng.normal(size=80), rng.random(80) < 0.4
    expected = roc_auc(scores, positives)
    assert roc_auc(np.exp(scores), positives) == expected
    assert roc_auc(-scores, positives) == pytest.approx(1 - expected)
    assert roc_auc(scores, ~positives) == pytest.approx(1 - expected)
    assert roc_auc(np.ones(80), positives) == 0.5
    shuffled = rng.permutation(80)
    assert roc_auc(scores[shuffled], positives[shuffled]) == expected


def test_auc_of_two_classes_is_the_second_ones():
    # A saturated softmax: the second column ties where the first still tells apart.
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
