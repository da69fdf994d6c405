"""Metrics of a classifier, per image and per study: accuracy, AUC, kappa, confusion matrix."""

import numpy as np

from fid_med.errors import DataError

_THRESHOLD = 0.5
_RESAMPLES, _CONFIDENCE = 500, 0.95


def roc_auc(scores, positives) -> float | None:
    """Computes the area under the ROC curve.

    It is the probability that a positive scores higher than a negative, where a tie counts half,
    and is computed from ranks (Hanley & McNeil 1982, "The meaning and use of the area under a ROC
    curve").

    Args:
      scores: float [N].
      positives: bool [N].

    Returns:
      A number in [0, 1], or None without any positives or without any negatives.

    Raises:
      DataError: a score is NaN.
    """
    scores, positives = np.asarray(scores, np.float64), np.asarray(positives, bool)
    if np.isnan(scores).any():
        raise DataError(
            f"{int(np.isnan(scores).sum())} of {len(scores)} scores are NaN, the AUC is undefined"
        )
    num_positive, num_negative = int(positives.sum()), int((~positives).sum())
    if not num_positive or not num_negative:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse.reshape(-1)]
    above = ranks[positives].sum() - num_positive * (num_positive + 1) / 2
    return float(above / (num_positive * num_negative))


def confusion_matrix(labels, predicted, num_classes: int) -> np.ndarray:
    """Counts pairs of true and predicted labels.

    Args:
      labels: int [N], true labels from 0 to num_classes - 1.
      predicted: int [N], predicted labels.
      num_classes: K.

    Returns:
      int64 [K, K]; rows are true labels, columns predicted ones.
    """
    pairs = np.asarray(labels, np.int64) * num_classes + np.asarray(predicted, np.int64)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def cohens_kappa(matrix) -> float | None:
    """Computes Cohen's kappa, the agreement beyond chance (Cohen 1960), unweighted.

    kappa = (p_o - p_e) / (1 - p_e), where p_o is the observed agreement and p_e the agreement
    expected by chance from the label frequencies of both raters.

    Args:
      matrix: counts [K, K] of label pairs, for example a `confusion_matrix`.

    Returns:
      A number in [-1, 1], or None if p_e is 1 because both raters use one label only.
    """
    shares = np.asarray(matrix, np.float64) / np.sum(matrix)
    chance = float(shares.sum(axis=0) @ shares.sum(axis=1))
    if np.count_nonzero(shares) == 1 and np.trace(shares) > 0:
        return None
    return (float(np.trace(shares)) - chance) / (1 - chance)


def classification_report(probabilities, labels, classes) -> dict:
    """Computes the metrics of a classifier on the images of one split.

    Args:
      probabilities: float [N, K], N at least 1.
      labels: int [N]; or bool [N, K] if an image may have several labels.
      classes: K names.

    Returns:
      A dict of JSON types, with None for undefined numbers.

      For int labels: `count`, `accuracy`, `balanced_accuracy` (mean recall over classes with
      images), `auc` (of the second of two classes; of more classes the mean of one class against
      the rest), `kappa` (`cohens_kappa` of prediction and truth), `by_class` (`count`,
      `precision`, `recall`, `auc`) and `confusion_matrix`.

      For bool labels, where each label is predicted separately at a probability of at least 0.5:
      `count`, `accuracy` (the share of correct decisions over images and labels, as in MedMNIST,
      Yang et al. 2023), `balanced_accuracy` (mean over labels of (recall + specificity) / 2),
      `auc`, `precision` and `recall` (means over labels), and `by_class`. Means skip labels for
      which the number is undefined.

    Raises:
      DataError: there are no images, the shapes do not match, or probabilities are NaN.
    """
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    if not len(labels):
        raise DataError("no images to report on: the split is empty")
    expected = (len(labels), len(classes))
    if probabilities.shape != expected or labels.shape not in (expected, expected[:1]):
        raise DataError(
            f"probabilities of shape {probabilities.shape}, labels {labels.shape}, "
            f"{len(classes)} classes: expected [N, K], [N] or [N, K], and K"
        )
    if np.isnan(probabilities).any():
        raise DataError(
            "the classifier's probabilities are NaN: the training has diverged; lower the learning "
            "rate and start again"
        )
    report = _multi_label_report if labels.ndim == 2 else _single_label_report
    return report(probabilities, labels, classes)


def auc_interval(probabilities, labels, patients=None, seed: int = 0) -> list[float] | None:
    """Computes a 95 % confidence interval of the report's `auc`, by the bootstrap.

    The percentile interval of 500 resamples of the patients, or of the images if patients are not
    known (Efron & Tibshirani 1993, chapter 13). It covers the choice of the images that the network
    is tested on, not that of the images it was trained on.

    Args:
      probabilities: float [N, K].
      labels: int [N] or bool [N, K].
      patients: N patients, any hashable type, or None.
      seed: seed of the resampling.

    Returns:
      Its two ends; None where half of the resamples or more leave the AUC undefined.
    """
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    truth = labels if labels.ndim == 2 else labels[:, None] == np.arange(probabilities.shape[1])
    if labels.ndim == 1 and probabilities.shape[1] == 2:
        probabilities, truth = probabilities[:, 1:], truth[:, 1:]
    of_image = _number(range(len(labels)) if patients is None else patients)
    members = np.split(np.argsort(of_image, kind="stable"), np.cumsum(np.bincount(of_image))[:-1])
    rng, found = np.random.default_rng(seed), []
    for _ in range(_RESAMPLES):
        drawn = rng.integers(len(members), size=len(members))
        rows = np.concatenate([members[i] for i in drawn])
        aucs = [roc_auc(p, t) for p, t in zip(probabilities[rows].T, truth[rows].T, strict=True)]
        aucs = [auc for auc in aucs if auc is not None]
        found += [np.mean(aucs)] if aucs else []
    if len(found) <= _RESAMPLES / 2:
        return None
    tail = (1 - _CONFIDENCE) / 2
    return np.quantile(found, [tail, 1 - tail]).tolist()


def _single_label_report(probabilities, labels, classes):
    matrix = confusion_matrix(labels, probabilities.argmax(axis=1), len(classes))
    by_class = {}
    for i, name in enumerate(classes):
        predicted, true = int(matrix[:, i].sum()), int(matrix[i].sum())
        by_class[name] = {
            "count": true,
            "precision": _ratio(matrix[i, i], predicted),
            "recall": _ratio(matrix[i, i], true),
            "auc": roc_auc(probabilities[:, i], labels == i),
        }
    # Of two classes only the second: if the softmax saturates, ties differ between the two.
    counted = classes[1:] if len(classes) == 2 else classes
    return {
        "count": len(labels),
        "accuracy": float(np.trace(matrix) / len(labels)),
        "balanced_accuracy": _mean(by_class.values(), "recall"),
        "auc": _mean([by_class[name] for name in counted], "auc"),
        "kappa": cohens_kappa(matrix),
        "by_class": by_class,
        "confusion_matrix": matrix.tolist(),
    }


def _multi_label_report(probabilities, labels, classes):
    truth, decided = labels.astype(bool), probabilities >= _THRESHOLD
    by_class, balanced = {}, []
    for i, name in enumerate(classes):
        hits, true = int((truth & decided)[:, i].sum()), int(truth[:, i].sum())
        rejected = int((~truth & ~decided)[:, i].sum())
        by_class[name] = {
            "count": true,
            "precision": _ratio(hits, int(decided[:, i].sum())),
            "recall": _ratio(hits, true),
            "auc": roc_auc(probabilities[:, i], truth[:, i]),
        }
        if 0 < true < len(truth):
            balanced.append((hits / true + rejected / (len(truth) - true)) / 2)
    rows = by_class.values()
    return {
        "count": len(labels),
        "accuracy": float(np.mean(truth == decided)),
        "balanced_accuracy": float(np.mean(balanced)) if balanced else None,
        "auc": _mean(rows, "auc"),
        "precision": _mean(rows, "precision"),
        "recall": _mean(rows, "recall"),
        "by_class": by_class,
    }


def _number(names):
    """Numbers names in the order of their first appearance, int64 [N]."""
    numbers: dict = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)


def _ratio(part, whole):
    return float(part / whole) if whole else None


def _mean(rows, key):
    values = [row[key] for row in rows if row[key] is not None]
    return float(np.mean(values)) if values else None


def study_report(probabilities, labels, studies, classes) -> dict:
    """Computes `classification_report` per study, as for MURA.

    The probability of a study is the mean over its images (Rajpurkar et al. 2018, sections 3
    and 4).

    Args:
      probabilities: float [N, K], one row per image.
      labels: int [N] or bool [N, K], the same for all images of a study.
      studies: N study identifiers, any hashable type.
      classes: K names.

    Returns:
      The dict of `classification_report`, where `count` is the number of studies.

    Raises:
      DataError: images of one study have different labels; or as `classification_report`.
    """
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    of_image = _number(studies)
    if not len(of_image) == len(labels) == len(probabilities):
        raise DataError(
            f"{len(probabilities)} probabilities, {len(labels)} labels and {len(of_image)} "
            "studies: expected one of each per image"
        )
    if not len(labels):
        raise DataError("no studies to report on: the split is empty")
    _, first = np.unique(of_image, return_index=True)
    of_study = labels[first]
    differing = (of_study[of_image] != labels).reshape(len(labels), -1).any(axis=1)
    if differing.any():
        raise DataError(
            f"{len(set(of_image[differing]))} of {len(first)} studies have images of different "
            "labels: a study's label is undefined"
        )
    sums = np.zeros((len(first), probabilities.shape[1]))
    np.add.at(sums, of_image, probabilities)
    means = sums / np.bincount(of_image)[:, None]
    return classification_report(means, of_study, classes)
