"""Configuration of a training run.

The recipe `transfer` starts from trained weights and trains the head, then the last blocks. The
recipe `scratch` trains every layer from random weights, as Inception-v3 was trained on ImageNet
(Szegedy et al. 2015, "Rethinking the Inception Architecture for Computer Vision", sections 4, 7
and 8).
"""

import dataclasses
import pathlib

from fid_med.errors import SettingError
from fid_med.training.augmentation import Augmentation

RECIPES = ("transfer", "scratch")
OPTIMIZERS = ("sgd", "rmsprop", "adam")
ALL_LAYERS = "all"
AUXILIARY_WEIGHT = 0.3
# Values of `TrainingConfig.mixed_precision`, and Keras's name of each dtype policy.
MIXED_PRECISION_POLICIES = {
    "off": "float32",
    "float16": "mixed_float16",
    "bfloat16": "mixed_bfloat16",
}
# Ends of the stages of Szegedy et al. 2015 ("Rethinking the Inception Architecture"), table 1,
# under Keras's names.
_BLOCKS = ("mixed0", "mixed1", "mixed2", "mixed3", "mixed4", "mixed5", "mixed6", "mixed7", "mixed8",
           "mixed9", "mixed10")  # fmt: skip

# Szegedy et al. 2015, section 8: "a learning rate of 0.045".
_SCRATCH_LEARNING_RATE = 0.045
# The same section: "gradient clipping with threshold 2.0 to be useful to stabilize the training".
_SCRATCH_CLIP_NORM = 2.0
_ADAM_LEARNING_RATE_TOP, _ADAM_LEARNING_RATE_ALL = 1e-4, 1e-3


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training run; None means the default of the recipe.

    ```python
    from fid_med.training.config import TrainingConfig

    config = TrainingConfig(recipe="scratch", epochs=50)
    print(config.resolved().learning_rate)  # 0.045
    ```

    Attributes:
      recipe: `transfer` or `scratch`.
      weights: `imagenet` (the default of `transfer`), `random`, or a path, as for
        `load_extractor`. `scratch` accepts only `random`. `transfer` from `random` trains every
        layer, with the other settings of `transfer`.
      image_size: height and width of the network's input in pixels; by default that of `weights`,
        or 299 if they do not define it.
      aspect: `stretch` or `pad`; by default that of `weights`, or `stretch`.
      batch_size: images per step, over all GPUs together.
      epochs: maximum number of epochs, not counting those of the head; by default 10, or 100 for
        `scratch`.
      optimizer: `sgd` (momentum 0.9; the default of `scratch`), `rmsprop` (decay 0.9, epsilon 1.0)
        or `adam` (the default of `transfer`). The head of `transfer` is always trained by Adam.
      learning_rate: initial learning rate. With Adam, by default 1e-4 from trained weights and 1e-3
        from random weights. For `scratch` with another optimizer, by default 0.045; it is then
        multiplied by 0.94 every two epochs. `transfer` has no default for other optimizers.
      patience: epochs without a better validation AUC before training stops; by default 3, and
        for `scratch` no early stopping.
      train_from: `transfer` trains all layers after this block (`mixed0` to `mixed10`), or `all`
        layers. Batch normalisations are not trained.
      dropout: dropout rate before the last layer, in [0, 1).
      label_smoothing: share of each label's weight that is spread over all labels, in [0, 1).
      clip_norm: maximum norm of the gradient over all layers; 0 turns clipping off. By default 0,
        and 2 for `scratch` with `sgd` or `rmsprop`: the paper's learning rate was chosen for 1,000
        labels, and with few labels the loss first triples without clipping.
      average_weights: decay of a moving average of the weights, in [0, 1); the averaged
        weights are validated and saved. 0 turns averaging off.
      rotation, crop, translation, flip, brightness, contrast, gamma: see `Augmentation`.
      validation_fraction, test_fraction: shares of the images, if the data set defines no splits.
      num_gpus: GPUs of this machine to train on; by default all that TensorFlow sees.
      mixed_precision: `off`, `float16` or `bfloat16`; saved weights are always float32.
      seed: seed of splits, image order, augmentation and random weights.

    Raises:
      SettingError: a value is outside its range, or two settings contradict each other.
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
        _check_choice("train_from", self.train_from, (ALL_LAYERS, *_BLOCKS))
        _check_choice("mixed_precision", self.mixed_precision, MIXED_PRECISION_POLICIES)
        if self.optimizer is not None:
            _check_choice("optimizer", self.optimizer, OPTIMIZERS)
        for name in ("batch_size", "epochs", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingError(f"{name} {value}: expected at least 1")
        for name in ("dropout", "label_smoothing", "average_weights"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingError(f"{name} {getattr(self, name)}: expected 0 or more and below 1")
        if self.learning_rate is not None and not 0 < self.learning_rate <= 1000:
            raise SettingError(
                f"learning_rate {self.learning_rate}: expected a positive number up to 1000"
            )
        if self.clip_norm is not None and not 0 <= self.clip_norm <= 1e6:
            raise SettingError(
                f"clip_norm {self.clip_norm}: expected 0 (off) or a positive number up to 1e6"
            )
        if self.recipe == "scratch" and self.weights not in (None, "random"):
            raise SettingError(
                f"weights {self.weights!r}: recipe scratch starts from random weights; omit "
                "--weights, or start from these weights with --recipe=transfer"
            )
        self.augmentation()

    def augmentation(self) -> Augmentation:
        """Returns the settings of the data augmentation."""
        fields = [field.name for field in dataclasses.fields(Augmentation)]
        return Augmentation(**{name: getattr(self, name) for name in fields})

    def resolved(self) -> "TrainingConfig":
        """Returns a copy with the recipe's defaults in place of None.

        `num_gpus` may stay None, and so may `image_size` and `aspect`, which the weights define.

        Raises:
          SettingError: the recipe has no default learning rate for the optimizer.
        """
        scratch = self.recipe == "scratch"
        weights = self.weights or ("random" if scratch else "imagenet")
        optimizer = self.optimizer or ("sgd" if scratch else "adam")
        epochs = self.epochs or (100 if scratch else 10)
        clip_norm = self.clip_norm
        if clip_norm is None:
            clip_norm = _SCRATCH_CLIP_NORM if scratch and optimizer != "adam" else 0.0
        rate = self.learning_rate
        if rate is None:
            if optimizer == "adam":
                random = weights == "random"
                rate = _ADAM_LEARNING_RATE_ALL if random else _ADAM_LEARNING_RATE_TOP
            elif scratch:
                rate = _SCRATCH_LEARNING_RATE
            else:
                raise SettingError(
                    f"optimizer {optimizer}: recipe transfer has no default learning rate for it; "
                    "give --learning_rate"
                )
        return dataclasses.replace(
            self,
            weights=weights,
            optimizer=optimizer,
            epochs=epochs,
            learning_rate=rate,
            clip_norm=clip_norm,
            patience=self.patience or (epochs if scratch else 3),
        )

    def to_dict(self) -> dict:
        """Returns the resolved settings as JSON types; of a path only the last part is kept."""
        fields = dataclasses.asdict(self.resolved())
        fields["weights"] = pathlib.PurePath(fields["weights"]).name
        return fields


def _check_choice(name, value, choices):
    if value not in choices:
        raise SettingError(f"{name} {value!r}: expected one of {', '.join(choices)}")
