"""Training steps: one network, its loss, its optimizer, on one device or on several at once."""

from collections.abc import Callable, Iterable

import keras
import numpy as np
import tensorflow as tf

from fid_med.training.loss import Objective


class Stepper:
    """Takes training steps with a network and knows all the state that they change.

    A batch is divided among the devices of the strategy. Losses are summed over the whole batch
    before they are divided by its size, so that the step is the same on any number of devices, but
    for batch normalisation, whose moments are those of each device's own share.

    Args:
      model: from pixels to probabilities [B, K], or to a dict of them with `predictions` and
        `auxiliary`; built under the strategy.
      objective: what is minimised.
      optimizer: made under the strategy.
      strategy: of `devices.make_strategy`.
      auxiliary_weight: of the auxiliary head's loss.
      average: decay of a running average of the weights of `averaged`; 0 for none.
      averaged: the model whose weights are averaged, `model` or a part of it.
    """

    def __init__(
        self,
        model: keras.Model,
        objective: Objective,
        optimizer: keras.optimizers.Optimizer,
        strategy: tf.distribute.Strategy,
        auxiliary_weight: float = 0.0,
        average: float = 0.0,
        averaged: keras.Model | None = None,
    ):
        self.model, self.optimizer = model, optimizer
        self._objective, self._strategy = objective, strategy
        self._auxiliary_weight, self._average = auxiliary_weight, average
        with strategy.scope():
            optimizer.build(model.trainable_variables)
        self._averaged = [] if not average else (averaged or model).weights
        self.averages = [tf.Variable(w.numpy(), trainable=False) for w in self._averaged]
        self._steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._step = None

    def state_variables(self) -> list:
        """Every variable that steps change: weights, random state, optimizer, averages."""
        frozen = {
            id(w) for layer in self.model.layers if not layer.trainable for w in layer.weights
        }
        moving = [v for v in self.model.variables if id(v) not in frozen]
        return [*moving, *self.optimizer.variables, *self.averages, self._steps]

    def state(self) -> list[np.ndarray]:
        """The values of `state_variables`."""
        return [np.asarray(v.numpy()) for v in self.state_variables()]

    def restore(self, state: list[np.ndarray]) -> None:
        """Sets `state_variables`."""
        for variable, value in zip(self.state_variables(), state, strict=True):
            variable.assign(value)

    def step(self, images, targets, weights) -> tuple[float, float, float]:
        """One step.

        Args:
          images: float32 [B, h, w, 3], or what the network takes.
          targets: [B] or [B, K], of `Objective.targets`.
          weights: float32 [B], of the images in the loss.

        Returns:
          Mean weighted loss of the predictions, the same of the auxiliary head, and accuracy.
        """
        if self._step is None:
            arguments = [tf.convert_to_tensor(x) for x in (images, targets, weights)]
            free = [tf.TensorSpec([None, *x.shape[1:]], x.dtype) for x in arguments]
            # One trace, though the last batch of an epoch is smaller.
            self._step = tf.function(self._all_replicas, input_signature=free)
        sums = self._step(images, targets, weights).numpy()
        if self.averages:
            self._update_averages()
        return tuple(sums.tolist())

    def epoch(
        self,
        batches: Iterable,
        steps: int,
        after_step: Callable[[int], object] = lambda count: None,
    ) -> dict:
        """Steps through an epoch.

        Args:
          batches: iterator over (images, targets, weights).
          steps: how many to take.
          after_step: called after each with the number of its images.

        Returns:
          `loss`, `auxiliary_loss` (None without that head) and `accuracy`, means over the images.
        """
        sums, count = np.zeros(3), 0
        for _ in range(steps):
            images, targets, weights = next(batches)
            sums += np.multiply(self.step(images, targets, weights), len(images))
            count += len(images)
            after_step(len(images))
        loss, auxiliary, accuracy = (sums / count).tolist()
        return {
            "loss": loss,
            "auxiliary_loss": auxiliary if len(self.model.outputs) > 1 else None,
            "accuracy": accuracy,
        }

    def _all_replicas(self, images, targets, weights):
        sums = self._strategy.run(self._one_replica, args=(images, targets, weights))
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, sums, axis=None)

    def _one_replica(self, images, targets, weights):
        count = tf.cast(tf.shape(weights)[0], tf.float32)
        images, targets, weights, counted = _own_share(images, targets, weights)

        def mean(values):
            return tf.reduce_sum(values * counted) / count

        with tf.GradientTape() as tape:
            outputs = self.model(images, training=True)
            if not isinstance(outputs, dict):
                outputs = {"predictions": outputs}
            losses = {
                name: mean(self._objective.loss(targets, output) * weights)
                for name, output in outputs.items()
            }
            auxiliary = losses.get("auxiliary", tf.constant(0.0))
            total = losses["predictions"] + self._auxiliary_weight * auxiliary
            total = self.optimizer.scale_loss(total)
        gradients = tape.gradient(total, self.model.trainable_weights)
        replicas = self._strategy.num_replicas_in_sync
        if replicas > 1 and self.optimizer_clips():
            # The norm is that of the whole batch's gradient; the optimizer adds up equal shares.
            gradients = tf.distribute.get_replica_context().all_reduce("SUM", gradients)
            gradients = [gradient / replicas for gradient in gradients]
        self.optimizer.apply(gradients, self.model.trainable_weights)
        accuracy = mean(self._objective.accuracy(targets, outputs["predictions"]))
        return tf.stack([losses["predictions"], auxiliary, accuracy])

    def optimizer_clips(self) -> bool:
        """Whether the optimizer cuts the gradient's norm."""
        inner = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        return inner.global_clipnorm is not None

    @tf.function
    def _update_averages(self):
        # TensorFlow's own ramp: a long average forgets the random start in the first steps.
        self._steps.assign_add(1)
        steps = tf.cast(self._steps, tf.float32)
        decay = tf.minimum(self._average, (1 + steps) / (10 + steps))
        for average, weight in zip(self.averages, self._averaged, strict=True):
            average.assign_sub((1 - decay) * (average - tf.convert_to_tensor(weight)))


def _own_share(images, targets, weights):
    """This replica's part of a batch, and 1 for each of its images that counts."""
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync
    if replicas == 1:
        return images, targets, weights, tf.ones_like(weights)
    with tf.device("CPU"):
        count = tf.shape(weights)[0]
        number = tf.cast(context.replica_id_in_sync_group, tf.int32)
        start, stop = number * count // replicas, (number + 1) * count // replicas
        # Batch normalisation has no moments of nothing: where there are fewer images than devices,
        # an idle one takes an image along that counts for nothing.
        taken = tf.maximum(stop - start, 1)
        counted = tf.cast(tf.range(taken) < stop - start, tf.float32)
        start = tf.minimum(start, count - 1)
        own = slice(start, start + taken)
        return images[own], targets[own], weights[own], counted
