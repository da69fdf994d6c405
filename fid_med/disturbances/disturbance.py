"""The type of an entry in the registry of disturbances."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Disturbance:
    """One way to degrade images by a known amount.

    Attributes:
      name: key in the registry, and value of the flag `--disturbances`.
      levels: four values of alpha in ascending order; the first is 0, the untouched image.
      unit: unit of alpha.
      description: one sentence about what happens to the image.
      reference: source of the definition or of its constants.
      settings: function of (level, height, width, unit) that returns the absolute settings as
        JSON numbers, by names that end in their unit. Height and width are in pixels; `unit` is
        the number of pixels per unit of the length scale.
      apply: function of (planes, settings, rng) that returns the disturbed planes, float or uint8
        [H, W, C]. `planes` is uint8 [H, W, C], and `rng` a NumPy generator. At every level it draws
        the same random numbers in the same order, so the levels of one image share their random
        choices. None for a disturbance of a set of images, which `contaminate` applies.
      limit: largest alpha allowed.
    """

    name: str
    levels: tuple[float, ...]
    unit: str
    description: str
    reference: str
    settings: Callable[[float, int, int, float], dict[str, float]]
    apply: Callable[[np.ndarray, dict[str, float], np.random.Generator], np.ndarray] | None
    limit: float = math.inf

    @property
    def set_level(self) -> bool:
        """Whether it applies to a set of images instead of to each image."""
        return self.apply is None
