"""What training minimises: one label an image by softmax, any number of labels by sigmoids."""

import keras
import numpy as np
import tensorflow as tf

_SMALLEST = 1e-7


class Objective:
    """Cross-entropy of the labels, with what it needs of the data.

    One label an image: softmax and categorical cross-entropy, where each image weighs inversely to
    its label's frequency. Several at once: sigmoids and binary cross-entropy, averaged over labels,
    every image and label with weight 1: with one in 500 positive, as ChestX-ray14's rarest finding
    has it, a balancing weight would let single images rule the gradient, and the AUC that chooses
    the epoch is of ranks, which such a weight hardly moves.

    Args:
      labels: int64 [N], or bool [N, K].
      num_classes: K.
      train: int [n], the training images, which the weights are counted from.
      label_smoothing: share of a label's weight spread over all labels (Szegedy et al. 2015,
        section 7); validation losses are without it.

    Attributes:
      multi_label: whether an image may carry several labels.
      activation: `softmax` or `sigmoid`.
      class_weights: float64 [K], or None for several labels.
      targets: what `loss` takes, an entry an image: int64 [N], or float32 [N, K].
      image_weights: float64 [N], of each image in the loss.
    """

    def __init__(
        self,
        labels: np.ndarray,
        num_classes: int,
        train: np.ndarray,
        label_smoothing: float = 0.0,
    ):
        self.multi_label = labels.ndim == 2
        self.activation = "sigmoid" if self.multi_label else "softmax"
        self._labels, self._smoothing = labels, label_smoothing
        if self.multi_label:
            self.class_weights = None
            self.targets = labels.astype(np.float32)
            self.image_weights = np.ones(len(labels))
            return
        counts = np.bincount(labels[train], minlength=num_classes)
        self.class_weights = counts.sum() / (num_classes * counts)
        self.image_weights = self.class_weights[labels]
        one_hot = np.eye(num_classes, dtype=np.float32)
        self.targets = one_hot[labels] if label_smoothing else labels.astype(np.int64)

    def loss(self, targets: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
        """Cross-entropy of each image, float32 [B], unweighted.

        Args:
          targets: [B] or [B, K], from `targets`.
          probabilities: float32 [B, K].
        """
        losses, smoothing = keras.losses, self._smoothing
        if self.multi_label:
            return losses.binary_crossentropy(targets, probabilities, label_smoothing=smoothing)
        if smoothing:
            return losses.categorical_crossentropy(
                targets, probabilities, label_smoothing=smoothing
            )
        return losses.sparse_categorical_crossentropy(targets, probabilities)

    def accuracy(self, targets: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
        """Float32 [B]: 1 where the label is right; of several labels the share that is right."""
        if self.multi_label:
            right = tf.equal(probabilities > 0.5, targets > 0.5)
            return tf.reduce_mean(tf.cast(right, tf.float32), axis=1)
        if len(targets.shape) == 2:
            targets = tf.argmax(targets, axis=1)
        return tf.cast(tf.equal(tf.argmax(probabilities, axis=1), targets), tf.float32)

    def validation_loss(self, probabilities: np.ndarray, members: np.ndarray) -> float:
        """Weighted mean cross-entropy of the images `members`, in NumPy and without smoothing.

        Args:
          probabilities: float [n, K].
          members: int [n].
        """
        labels = self._labels[members]
        probabilities = probabilities.astype(np.float64)
        if self.multi_label:
            chosen = np.where(labels, probabilities, 1 - probabilities)
            return float(-np.log(np.maximum(chosen, _SMALLEST)).mean())
        chosen = probabilities[np.arange(len(labels)), labels]
        weights = self.image_weights[members]
        return float(np.sum(weights * -np.log(np.maximum(chosen, _SMALLEST))) / np.sum(weights))

    def validation_accuracy(self, probabilities: np.ndarray, members: np.ndarray) -> float:
        """Share of right labels among the images `members`."""
        labels = self._labels[members]
        if self.multi_label:
            return float(((probabilities > 0.5) == labels).mean())
        return float((probabilities.argmax(axis=1) == labels).mean())
