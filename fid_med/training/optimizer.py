"""The optimizer, its learning rate, and the momentum of batch normalisation."""

import keras

from fid_med.training.config import TrainingConfig

# Szegedy et al. 2015, section 8: "decayed every two epoch using an exponential rate of 0.94".
_DECAY, _DECAY_EPOCHS = 0.94, 2
HEAD_LEARNING_RATE = 1e-3


def make_head_optimizer() -> keras.optimizers.Optimizer:
    """Makes the optimizer of the head, which `transfer` trains alone before the last blocks."""
    return keras.optimizers.Adam(HEAD_LEARNING_RATE)


def make_optimizer(config: TrainingConfig, replicas: int = 1) -> keras.optimizers.Optimizer:
    """Makes the optimizer of a run, at the learning rate of the first epoch.

    Settings are those of Szegedy et al. 2015, section 8: momentum "with a decay of 0.9", or
    "RMSProp with decay of 0.9 and epsilon = 1.0". Gradient clipping applies to the norm over all
    layers, as in Pascanu et al. 2013, which that section cites.

    Args:
      config: resolved.
      replicas: number of devices that train together; each applies its share of the gradient.
    """
    rate = config.learning_rate
    options = {"global_clipnorm": config.clip_norm / replicas} if config.clip_norm else {}
    if config.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(rate, momentum=0.9, **options)
    elif config.optimizer == "rmsprop":
        optimizer = keras.optimizers.RMSprop(rate, rho=0.9, epsilon=1.0, **options)
    else:
        optimizer = keras.optimizers.Adam(rate, **options)
    if config.mixed_precision == "float16":
        # Float16 gradients below 6e-8 would become 0; bfloat16 has the range of float32.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def learning_rate(config: TrainingConfig, epoch: int) -> float:
    """Returns the learning rate of an epoch.

    It is constant for `transfer` and for Adam, which adapts its step sizes itself. Otherwise
    `scratch` uses r(e) = r(0) * 0.94 ** floor(e / 2), a staircase.

    Args:
      config: resolved.
      epoch: counted from 0.
    """
    if config.recipe != "scratch" or config.optimizer == "adam":
        return config.learning_rate
    return config.learning_rate * _DECAY ** (epoch // _DECAY_EPOCHS)


def batch_norm_momentum(config: TrainingConfig, steps: int) -> float:
    """Returns the momentum of the moving statistics when every layer is trained.

    Keras's default of 0.99 needs several hundred steps to forget the initial statistics, more than
    small data sets have. `scratch` therefore averages over about one epoch, between 10 and 100
    steps; `transfer` always averages over 10 steps.

    Args:
      config: gives the recipe.
      steps: steps per epoch.
    """
    if config.recipe == "transfer":
        return 0.9
    return min(max(1 - 1 / steps, 0.9), 0.99)
