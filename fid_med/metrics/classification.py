"""How well a classifier tells labels apart."""

import numpy as np


def roc_auc(scores, positives) -> float | None:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties half.

    Computed by ranks (Hanley & McNeil 1982, "The meaning and use of the area under a ROC curve").

    Args:
      scores: float [N].
      positives: bool [N].

    Returns:
      0 to 1, or None where one of the two kinds is missing.
    """
    scores, positives = np.asarray(scores, np.float64), np.asarray(positives, bool)
    num_positive, num_negative = int(positives.sum()), int((~positives).sum())
    if not num_positive or not num_negative:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse.reshape(-1)]
    above = ranks[positives].sum() - num_positive * (num_positive + 1) / 2
    return float(above / (num_positive * num_negative))


def confusion_matrix(labels, predicted, num_classes: int) -> np.ndarray:
    """Counts int64 [num_classes, num_classes]: rows the true label, columns the predicted one."""
    pairs = np.asarray(labels, np.int64) * num_classes + np.asarray(predicted, np.int64)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def classification_report(probabilities, labels, classes) -> dict:
    """Accuracy, AUC, precision and recall by class, and the confusion matrix, as JSON types.

    Args:
      probabilities: float [N, K].
      labels: int [N].
      classes: K names.

    Returns:
      `count`, `accuracy`, `balanced_accuracy` (mean recall over classes with images), `auc` (of
      the second class where there are two, else the mean over classes, one against the rest),
      `by_class` and `confusion_matrix`; None where a number is not defined.
    """
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    matrix = confusion_matrix(labels, probabilities.argmax(axis=1), len(classes))
    by_class = {}
    for i, name in enumerate(classes):
        predicted, true = int(matrix[:, i].sum()), int(matrix[i].sum())
        by_class[name] = {
            "count": true,
            "precision": matrix[i, i] / predicted if predicted else None,
            "recall": matrix[i, i] / true if true else None,
            "auc": roc_auc(probabilities[:, i], labels == i),
        }
    # Of two classes the second alone: where the softmax saturates, the two break ties differently.
    counted = classes[1:] if len(classes) == 2 else classes
    aucs = [by_class[name]["auc"] for name in counted if by_class[name]["auc"] is not None]
    recalls = [entry["recall"] for entry in by_class.values() if entry["recall"] is not None]
    return {
        "count": len(labels),
        "accuracy": float(np.trace(matrix) / len(labels)),
        "balanced_accuracy": float(np.mean(recalls)),
        "auc": float(np.mean(aucs)) if aucs else None,
        "by_class": by_class,
        "confusion_matrix": matrix.tolist(),
    }
