"""The training loss: softmax for one label per image, sigmoids for several labels."""

import keras
import numpy as np
import tensorflow as tf

_EPSILON = 1e-7


class Objective:
    """Cross-entropy loss and accuracy for the labels of a data set.

    With one label per image, the loss is softmax cross-entropy, and images are weighted inversely
    to the frequency of their label. With several labels per image, it is binary cross-entropy with
    sigmoids, averaged over labels and without weights. For a finding in one of 500 images, as in
    ChestX-ray14, balancing weights would let single images dominate the gradient. They would hardly
    change the validation AUC either, which depends only on ranks.

    Args:
      labels: int64 [N] or bool [N, K].
      num_classes: K.
      train: int [n], indices of the training images, which define the class weights.
      label_smoothing: share of a label's weight that is spread over all labels (Szegedy et al.
        2015, section 7); not used in validation.

    Attributes:
      multi_label: whether an image may have several labels.
      activation: `softmax` or `sigmoid`.
      class_weights: float64 [K], or None with several labels per image.
      targets: int64 [N] or float32 [N, K], the targets for `loss`.
      image_weights: float64 [N], weight of each image in the loss.
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
        """Computes the unweighted cross-entropy of each image.

        Args:
          targets: [B] or [B, K], rows of the attribute `targets`.
          probabilities: float32 [B, K].

        Returns:
          float32 [B].
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
        """Computes the accuracy of each image; of several labels, the share that is correct.

        Args:
          targets: [B] or [B, K], rows of the attribute `targets`.
          probabilities: float32 [B, K].

        Returns:
          float32 [B], 0 to 1.
        """
        if self.multi_label:
            correct = tf.equal(probabilities > 0.5, targets > 0.5)
            return tf.reduce_mean(tf.cast(correct, tf.float32), axis=1)
        if len(targets.shape) == 2:
            targets = tf.argmax(targets, axis=1)
        return tf.cast(tf.equal(tf.argmax(probabilities, axis=1), targets), tf.float32)

    def validation_loss(self, probabilities: np.ndarray, members: np.ndarray) -> float:
        """Computes the weighted mean cross-entropy without label smoothing, in NumPy.

        Args:
          probabilities: float [n, K].
          members: int [n], indices of the images.
        """
        labels = self._labels[members]
        probabilities = probabilities.astype(np.float64)
        if self.multi_label:
            chosen = np.where(labels, probabilities, 1 - probabilities)
            return float(-np.log(np.maximum(chosen, _EPSILON)).mean())
        chosen = probabilities[np.arange(len(labels)), labels]
        weights = self.image_weights[members]
        return float(np.sum(weights * -np.log(np.maximum(chosen, _EPSILON))) / np.sum(weights))

    def validation_accuracy(self, probabilities: np.ndarray, members: np.ndarray) -> float:
        """Computes the share of correct labels; arguments as for `validation_loss`."""
        labels = self._labels[members]
        if self.multi_label:
            return float(((probabilities > 0.5) == labels).mean())
        return float((probabilities.argmax(axis=1) == labels).mean())
