"""The model that `fit` trains, and the moving average of its weights."""

import keras
import tensorflow as tf

from fid_med.training.loss import Objective


class TrainingModel(keras.Model):
    """A classifier whose `fit` gives the same weights on any number of devices.

    Batches are (images, targets, weights): float32 [B, h, w, 3], or another input of the model; [B]
    or [B, K], rows of `Objective.targets`; float32 [B], weight of each image in the loss. Each
    device of a strategy gets the whole batch, as from `input_pipeline.distribute`, and takes its
    share. Losses are summed over the whole batch and then divided by its size, and gradients are
    clipped by their norm over the whole batch. Batch normalisation uses the moments of each
    device's share.

    `logs` have the means over the images of the epoch so far: `loss`, `accuracy` and, with an
    auxiliary head, `auxiliary_loss`.

    Args:
      model: from images to probabilities [B, K], or to a dict of them with the keys `predictions`
        and `auxiliary`; its layers are shared. Built in the scope of the strategy, as this model.
      objective: the loss.
      optimizer: built in the same scope.
      auxiliary_weight: weight of the auxiliary head's loss.
    """

    def __init__(
        self,
        model: keras.Model,
        objective: Objective,
        optimizer: keras.optimizers.Optimizer,
        auxiliary_weight: float = 0.0,
    ):
        super().__init__(model.input, model.output, name=model.name)
        self._objective, self._auxiliary_weight = objective, auxiliary_weight
        # The losses of a batch are float32; their mean over an epoch keeps all digits.
        names = ["loss", "accuracy", "auxiliary_loss"][: 1 + len(self.outputs)]
        self._means = [keras.metrics.Mean(name, dtype="float64") for name in names]
        optimizer.build(self.trainable_variables)
        # XLA would round differently; the optimizer scales the loss itself where that is needed.
        self.compile(optimizer, jit_compile=False, auto_scale_loss=False)

    @property
    def metrics(self) -> list:
        """The means that `logs` have, without the loss that Keras would add."""
        return self._means

    def state_variables(self) -> list:
        """Returns the variables that `fit` changes: weights, random state, optimizer."""
        frozen = {id(w) for layer in self.layers if not layer.trainable for w in layer.weights}
        moving = [v for v in self.variables if id(v) not in frozen]
        return [*moving, *self.optimizer.variables]

    def train_step(self, data):
        """Runs a step on a batch of (images, targets, weights), and returns `logs`."""
        images, targets, weights = data
        context = tf.distribute.get_replica_context()
        replicas = context.num_replicas_in_sync
        count = tf.cast(tf.shape(weights)[0], tf.float32)
        images, targets, weights, counted = _replica_share(images, targets, weights)

        def mean(values):
            return tf.reduce_sum(values * counted) / count

        with tf.GradientTape() as tape:
            outputs = self(images, training=True)
            if not isinstance(outputs, dict):
                outputs = {"predictions": outputs}
            losses = {
                name: mean(self._objective.loss(targets, output) * weights)
                for name, output in outputs.items()
            }
            total = losses["predictions"]
            if "auxiliary" in losses:
                total += self._auxiliary_weight * losses["auxiliary"]
            total = self.optimizer.scale_loss(total)
        gradients = tape.gradient(total, self.trainable_weights)
        if replicas > 1 and self._clips_gradients():
            # Clip by the norm of the whole batch; the optimizer then sums equal shares.
            gradients = context.all_reduce("SUM", gradients)
            gradients = [gradient / replicas for gradient in gradients]
        self.optimizer.apply(gradients, self.trainable_weights)
        values = [
            losses["predictions"],
            mean(self._objective.accuracy(targets, outputs["predictions"])),
            *(losses[name] for name in losses if name == "auxiliary"),
        ]
        if replicas > 1:
            values = context.all_reduce("SUM", values)
        for metric, value in zip(self._means, values, strict=True):
            # Keras adds what the devices have counted.
            metric.update_state(value, sample_weight=count / replicas)
        return self.get_metrics_result()

    def _clips_gradients(self):
        inner = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        return inner.global_clipnorm is not None


class WeightAverage(keras.callbacks.Callback):
    """Keeps a moving average of weights, updated after each step of `fit`.

    Args:
      weights: the weights; empty turns averaging off.
      decay: decay of the average.

    Attributes:
      averages: variables with the averaged weights.
    """

    def __init__(self, weights: list, decay: float):
        super().__init__()
        self._weights, self._decay = weights, decay
        self.averages = [tf.Variable(w.numpy(), trainable=False) for w in weights]
        self._steps = tf.Variable(0, dtype=tf.int64, trainable=False)

    def state_variables(self) -> list:
        """Returns the variables that steps change."""
        return [*self.averages, self._steps]

    def on_train_batch_end(self, batch, logs=None):
        """Updates the average."""
        if self.averages:
            self._update()

    @tf.function
    def _update(self):
        # The same warm-up as in tf.train.ExponentialMovingAverage, so that the average forgets the
        # random start within the first steps.
        self._steps.assign_add(1)
        steps = tf.cast(self._steps, tf.float32)
        decay = tf.minimum(self._decay, (1 + steps) / (10 + steps))
        for average, weight in zip(self.averages, self._weights, strict=True):
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
