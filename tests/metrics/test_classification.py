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
