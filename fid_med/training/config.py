"""The recipes of training: what a run is asked to do, its learning rates, its optimizers.

`transfer` starts from trained weights and trains the head, then the last blocks. `scratch` trains
every layer from random weights as Szegedy et al. 2015 ("Rethinking the Inception Architecture for
Computer Vision", sections 4, 7 and 8) trained Inception-v3 on ImageNet.
"""

import dataclasses
import pathlib

import keras

from fid_med.errors import SettingError
from fid_med.extractors import inception_v3
from fid_med.training.augmentation import Augmentation
from fid_med.training.devices import PRECISIONS

RECIPES = ("transfer", "scratch")
OPTIMIZERS = ("sgd", "rmsprop", "adam")
AUXILIARY_WEIGHT = 0.3

# Szegedy et al. 2015, section 8: "a learning rate of 0.045, decayed every two epoch using an
# exponential rate of 0.94".
_RATE, _DECAY, _DECAY_EPOCHS = 0.045, 0.94, 2
# The same section: "gradient clipping with threshold 2.0 to be useful to stabilize the training".
_CLIP_NORM = 2.0
_ADAM_RATE_TOP, _ADAM_RATE_ALL = 1e-4, 1e-3


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """What a training run is asked to do; None stands for the recipe's own value.

    Attributes:
      recipe: `transfer` or `scratch`.
      weights: `imagenet` (the default of `transfer`), `random`, or a path, as for
        `load_extractor`; `scratch` takes `random` alone. `transfer` from `random` has nothing to
        transfer and trains every layer with its own settings.
      image_size: height and width of the network's input; by default that of `weights`, 299 where
        these do not tell.
      aspect: `stretch` or `pad`; by default likewise, or `stretch`.
      batch_size: images a step, over all GPUs together.
      epochs: at most; by default 10, or 100 from scratch.
      optimizer: `sgd` (momentum 0.9; the default of `scratch`), `rmsprop` (decay 0.9, epsilon 1.0)
        or `adam` (the default of `transfer`). The head of `transfer` always trains by Adam.
      learning_rate: by default 1e-4 for the top blocks and 1e-3 for every layer by Adam; 0.045,
        times 0.94 every two epochs, from scratch by the other two.
      patience: epochs without a better validation AUC before training stops; by default 3, and
        from scratch never.
      train_from: transfer learning trains the layers behind this block (`mixed0` .. `mixed10`).
      dropout: before the softmax.
      label_smoothing: share of each label's weight that is spread over all labels.
      clip_norm: the gradient's norm over all layers is cut to this; 0 leaves it. By default 0, and
        2 from scratch by `sgd` or `rmsprop`: with the paper's rate and a handful of labels instead
        of its 1,000, the head's loss else rises threefold before it falls.
      average_weights: decay of a running average of the weights, which is then what is validated
        and kept; 0 keeps the weights themselves.
      rotation, crop, translation, flip, brightness, contrast, gamma: of `Augmentation`.
      validation_fraction, test_fraction: of the images, where the data set has no own division.
      num_gpus: GPUs of this machine to train on; by default all that TensorFlow sees.
      mixed_precision: `off`, `float16` or `bfloat16`; what is kept is float32 in any case.
      seed: of splits, order, augmentation and random weights.
    """

    recipe: str = "transfer"
    weights: str | None = None
    image_size: int | None = None
    aspect: str | None = None
    batch_size: int = 32
    epochs: int | None = None
    optimizer: str | None = None
    learning_rate: float | None = None
    patience: int | None = None
    train_from: str = "mixed8"
    dropout: float = 0.2
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    average_weights: float = 0.0
    rotation: float = 10.0
    crop: float = 0.85
    translation: float = 0.0
    flip: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    validation_fraction: float = 0.2
    test_fraction: float = 0.2
    num_gpus: int | None = None
    mixed_precision: str = "off"
    seed: int = 0

    def __post_init__(self):
        _check_choice("recipe", self.recipe, RECIPES)
        _check_choice("train_from", self.train_from, inception_v3.BLOCKS)
        _check_choice("mixed_precision", self.mixed_precision, PRECISIONS)
        if self.optimizer is not None:
            _check_choice("optimizer", self.optimizer, OPTIMIZERS)
        for name in ("batch_size", "epochs", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingError(f"{name} {value}: expected at least 1")
        for name in ("dropout", "label_smoothing", "average_weights"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingError(f"{name} {getattr(self, name)}: expected 0 or more and below 1")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise SettingError(f"learning_rate {self.learning_rate}: expected a number above 0")
        if self.clip_norm is not None and not self.clip_norm >= 0:
            raise SettingError(f"clip_norm {self.clip_norm}: expected 0 (off) or a number above it")
        if self.recipe == "scratch" and self.weights not in (None, "random"):
            raise SettingError(
                f"weights {self.weights!r}: recipe scratch starts from random weights; leave "
                "--weights out, or go on from these by --recipe=transfer"
            )
        self.augmentation()

    def augmentation(self) -> Augmentation:
        """How the images are moved."""
        fields = [field.name for field in dataclasses.fields(Augmentation)]
        return Augmentation(**{name: getattr(self, name) for name in fields})

    def resolved(self) -> "TrainingConfig":
        """The same with the recipe's own values in place of None.

        But for `num_gpus`, and for `image_size` and `aspect`, which are the weights' own.

        Raises:
          SettingError: an optimizer that the recipe knows no learning rate for.
        """
        scratch = self.recipe == "scratch"
        weights = self.weights or ("random" if scratch else "imagenet")
        optimizer = self.optimizer or ("sgd" if scratch else "adam")
        epochs = self.epochs or (100 if scratch else 10)
        clip = self.clip_norm
        if clip is None:
            clip = _CLIP_NORM if scratch and optimizer != "adam" else 0.0
        rate = self.learning_rate
        if rate is None:
            if optimizer == "adam":
                rate = _ADAM_RATE_ALL if weights == "random" else _ADAM_RATE_TOP
            elif scratch:
                rate = _RATE
            else:
                raise SettingError(
                    f"recipe transfer knows no learning rate for {optimizer}: give --learning_rate"
                )
        return dataclasses.replace(
            self,
            weights=weights,
            optimizer=optimizer,
            epochs=epochs,
            learning_rate=rate,
            clip_norm=clip,
            patience=self.patience or (epochs if scratch else 3),
        )


def _check_choice(name, value, choices):
    if value not in choices:
        raise SettingError(f"{name} {value!r}: expected one of {', '.join(choices)}")


def learning_rate(config: TrainingConfig, epoch: int) -> float:
    """The learning rate of an epoch: constant, or for `scratch` 0.94 times less every two epochs.

    r(e) = r(0) * 0.94 ** floor(e / 2): "decayed every two epoch" is read as a staircase. Adam
    scales its steps itself and keeps its rate.

    Args:
      config: resolved.
      epoch: counted from 0.
    """
    if config.recipe != "scratch" or config.optimizer == "adam":
        return config.learning_rate
    return config.learning_rate * _DECAY ** (epoch // _DECAY_EPOCHS)


def make_optimizer(config: TrainingConfig, replicas: int = 1) -> keras.optimizers.Optimizer:
    """The optimizer of a resolved configuration, at the rate of the first epoch.

    Section 8 of Szegedy et al. 2015: momentum "with a decay of 0.9", or "RMSProp with decay of 0.9
    and epsilon = 1.0", and "gradient clipping with threshold 2.0", which cites Pascanu et al. 2013:
    the norm over all layers together.

    Args:
      config: resolved.
      replicas: devices that train together; each hands in its share of the gradient's sum.
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
        # Float16 gradients below 6e-8 would vanish; bfloat16 has float32's range.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def batch_norm_momentum(config: TrainingConfig, steps: int) -> float:
    """Momentum of the moving statistics where every layer trains.

    Keras's 0.99 needs several hundred steps to forget its start, and small data has fewer; so about
    an epoch's steps are averaged, between 10 and 100.

    Args:
      config: the recipe `transfer` always averages 10.
      steps: of an epoch.
    """
    if config.recipe == "transfer":
        return 0.9
    return min(max(1 - 1 / steps, 0.9), 0.99)


def config_fields(config: TrainingConfig) -> dict:
    """The configuration as JSON types, resolved, paths cut to their last part."""
    fields = dataclasses.asdict(config.resolved())
    fields["weights"] = pathlib.PurePath(fields["weights"]).name
    return fields
