"""Training steps on one device or on several."""

from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from fid_med.training.loss import Objective


class Trainer:
    """Runs training steps and holds all the state that they change.

    A batch is divided among the devices of the strategy. Losses are summed over the whole batch
    and then divided by its size, so a step is the same on any number of devices. The exception is
    batch normalisation, which uses the moments of each device's share.

    Args:
      model: from pixels to probabilities [B, K], or to a dict of them with the keys `predictions`
        and `auxiliary`; built in the strategy's scope.
      objective: the loss.
      optimizer: built in the strategy's scope.
      strategy: from `devices.make_strategy`.
      auxiliary_weight: weight of the auxiliary head's loss.
      average_decay: decay of the moving average of weights; 0 turns averaging off.
      averaged_model: the model whose weights are averaged, `model` (the default) or a part of it.

    Attributes:
      model: as above.
      optimizer: as above.
      averages: variables with the averaged weights; empty without averaging.
    """

    def __init__(
        self,
        model: keras.Model,
        objective: Objective,
        optimizer: keras.optimizers.Optimizer,
        strategy: tf.distribute.Strategy,
        auxiliary_weight: float = 0.0,
        average_decay: float = 0.0,
        averaged_model: keras.Model | None = None,
    ):
        self.model, self.optimizer = model, optimizer
        self._objective, self._strategy = objective, strategy
        self._auxiliary_weight, self._average_decay = auxiliary_weight, average_decay
        with strategy.scope():
            optimizer.build(model.trainable_variables)
        self._averaged = (averaged_model or model).weights if average_decay else []
        self.averages = [tf.Variable(w.numpy(), trainable=False) for w in self._averaged]
        self._steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._compiled_step = None

    def state_variables(self) -> list:
        """Returns every variable that steps change: weights, random state, optimizer, averages."""
        frozen = {
            id(w) for layer in self.model.layers if not layer.trainable for w in layer.weights
        }
        moving = [v for v in self.model.variables if id(v) not in frozen]
        return [*moving, *self.optimizer.variables, *self.averages, self._steps]

    def state(self) -> list[np.ndarray]:
        """Returns the values of `state_variables`."""
        return [np.asarray(v.numpy()) for v in self.state_variables()]

    def restore(self, state: list[np.ndarray]) -> None:
        """Sets the values of `state_variables`."""
        for variable, value in zip(self.state_variables(), state, strict=True):
            variable.assign(value)

    def train_step(self, images, targets, weights) -> tuple[float, float, float]:
        """Runs one step.

        Args:
          images: float32 [B, h, w, 3], or another input of the model.
          targets: [B] or [B, K], rows of `Objective.targets`.
          weights: float32 [B], weight of each image in the loss.

        Returns:
          Weighted mean loss of the predictions, the same of the auxiliary head, and accuracy.
        """
        if self._compiled_step is None:
            arguments = [tf.convert_to_tensor(x) for x in (images, targets, weights)]
            # Any batch size: the last batch of an epoch is smaller and must not trace again.
            signature = [tf.TensorSpec([None, *x.shape[1:]], x.dtype) for x in arguments]
            self._compiled_step = tf.function(self._all_replicas, input_signature=signature)
        sums = self._compiled_step(images, targets, weights).numpy()
        if self.averages:
            self._update_averages()
        return tuple(sums.tolist())

    def train_epoch(
        self,
        batches: Iterator,
        steps: int,
        after_step: Callable[[int], object] = lambda count: None,
    ) -> dict:
        """Runs the steps of an epoch.

        Args:
          batches: iterator over (images, targets, weights).
          steps: number of steps.
          after_step: called after each step with its number of images.

        Returns:
          A dict of means over the images: `loss`, `auxiliary_loss` (None without that head) and
          `accuracy`.
        """
        sums, count = np.zeros(3), 0
        for _ in range(steps):
            images, targets, weights = next(batches)
            sums += np.multiply(self.train_step(images, targets, weights), len(images))
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
        images, targets, weights, counted = _replica_share(images, targets, weights)

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
        if replicas > 1 and self._clips_gradients():
            # Clip by the norm of the whole batch; the optimizer then sums equal shares.
            gradients = tf.distribute.get_replica_context().all_reduce("SUM", gradients)
            gradients = [gradient / replicas for gradient in gradients]
        self.optimizer.apply(gradients, self.model.trainable_weights)
        accuracy = mean(self._objective.accuracy(targets, outputs["predictions"]))
        return tf.stack([losses["predictions"], auxiliary, accuracy])

    def _clips_gradients(self):
        inner = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        return inner.global_clipnorm is not None

    @tf.function
    def _update_averages(self):
        # The same warm-up as in tf.train.ExponentialMovingAverage, so that the average forgets the
        # random start within the first steps.
        self._steps.assign_add(1)
        steps = tf.cast(self._steps, tf.float32)
        decay = tf.minimum(self._average_decay, (1 + steps) / (10 + steps))
        for average, weight in zip(self.averages, self._averaged, strict=True):
            average.assign_sub((1 - decay) * (average - tf.convert_to_tensor(weight)))


def _replica_share(images, targets, weights):
    """This replica's part of a batch, and float32 [b] with 1 for each image that counts."""
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync
    if replicas == 1:
        return images, targets, weights, tf.ones_like(weights)
    with tf.device("CPU"):
        count = tf.shape(weights)[0]
        number = tf.cast(context.replica_id_in_sync_group, tf.int32)
        start, stop = number * count // replicas, (number + 1) * count // replicas
        # Batch normalisation needs at least one image. With fewer images than devices, an idle
        # device takes one that counts 0.
        taken = tf.maximum(stop - start, 1)
        counted = tf.cast(tf.range(taken) < stop - start, tf.float32)
        start = tf.minimum(start, count - 1)
        own = slice(start, start + taken)
        return images[own], targets[own], weights[own], counted
