"""Data augmentation: random rotation, crop and shift; on request flip and grey-level changes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from fid_med.errors import SettingError

if TYPE_CHECKING:
    import tensorflow as tf

# Random numbers per image, in this order: angle, crop size, crop position (down, right), shift
# (down, right), flip, brightness, contrast, gamma.
NUM_DRAWS = 10


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How strongly training images are augmented.

    Attributes:
      rotation: degrees, 0 to 180; each image is rotated by an angle uniform in
        [-rotation, rotation].
      crop: in (0, 1]; each image is cropped to a share of its height and width, uniform in
        [crop, 1], at a uniform position, and resized to its original size. 1 turns cropping off.
      translation: share of height and width, in [0, 1); each image is shifted by up to that much
        in both directions.
      flip: whether a random half of the images is mirrored left to right. Off by default, because
        a mirrored radiograph shows the wrong side of the body: the heart on the right, a left hand
        as a right one, and mirrored side markers.
      brightness: share of the grey range, in [0, 1); each image becomes brighter or darker by up to
        that much.
      contrast: in [0, 1); the distance of each pixel from middle grey is multiplied by a factor
        uniform in [1 - contrast, 1 + contrast].
      gamma: from 0 to 100; each image is raised to a power between 1 / (1 + gamma) and 1 + gamma,
        uniform in its logarithm.

    Raises:
      SettingError: a value is outside its range.
    """

    rotation: float = 10.0
    crop: float = 0.85
    translation: float = 0.0
    flip: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0

    def __post_init__(self):
        if not 0 < self.crop <= 1:
            raise SettingError(f"crop {self.crop}: expected a share above 0 and at most 1")
        if not 0 <= self.rotation <= 180:
            raise SettingError(f"rotation {self.rotation}: expected degrees from 0 to 180")
        for name in ("translation", "brightness", "contrast"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingError(f"{name} {getattr(self, name)}: expected 0 or more and below 1")
        if not 0 <= self.gamma <= 100:
            raise SettingError(f"gamma {self.gamma}: expected a number from 0 (off) to 100")

    @property
    def is_identity(self) -> bool:
        """Whether every image is returned unchanged."""
        return self == Augmentation(0.0, 1.0)

    def describe(self) -> str:
        """Returns the settings in words, for the title of a figure."""
        parts = [
            f"rotation up to {self.rotation:g} degrees",
            f"crop to {self.crop:g} or more" if self.crop < 1 else "no crop",
            f"translation up to {self.translation:g}" if self.translation else "no translation",
            "flip left to right" if self.flip else "no flip",
        ]
        parts += [
            f"{name} up to {getattr(self, name):g}"
            for name in ("brightness", "contrast", "gamma")
            if getattr(self, name)
        ]
        return ", ".join(parts)

    def apply(self, pixels: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Augments a batch of images; areas outside an image become black.

        Args:
          pixels: [B, h, w, c], any real dtype, 0 to 255.
          draws: float32 [B, 10], uniform in [0, 1), in the order of `NUM_DRAWS`.

        Returns:
          float32 [B, h, w, c], 0 to 255, bilinearly interpolated.
        """
        import tensorflow as tf  # not above: the settings are checked before this slow import

        images = self._change_grey_levels(tf.cast(pixels, tf.float32), draws)
        if dataclasses.replace(self, brightness=0, contrast=0, gamma=0).is_identity:
            return images
        height, width = (tf.cast(n, tf.float32) for n in tf.unstack(tf.shape(pixels)[1:3]))
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=images,
            transforms=self._transforms(height, width, draws),
            output_shape=tf.shape(pixels)[1:3],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="CONSTANT",
        )

    def _transforms(self, height, width, draws):
        """Projective transforms float32 [B, 8] from output to input pixels."""
        import tensorflow as tf

        angle = (draws[:, 0] * 2 - 1) * (self.rotation * 3.141592653589793 / 180)
        share = 1 - draws[:, 1] * (1 - self.crop)
        # Offset of the crop's centre from the image's centre. Pixel centres span 0 to n - 1, so a
        # crop at the edge ends exactly on the last row: only rotation and translation add black.
        down = (draws[:, 2] - 0.5) * (1 - share) * (height - 1)
        right = (draws[:, 3] - 0.5) * (1 - share) * (width - 1)
        down += (draws[:, 4] * 2 - 1) * self.translation * height
        right += (draws[:, 5] * 2 - 1) * self.translation * width
        cos, sin = tf.cos(angle) * share, tf.sin(angle) * share
        middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
        mirror = tf.where(draws[:, 6] < 0.5, -1.0, 1.0) if self.flip else tf.ones_like(cos)
        zero = tf.zeros_like(cos)
        x_from_x, y_from_x = cos * mirror, sin * mirror
        return tf.stack(
            [
                x_from_x, -sin, middle_x - x_from_x * middle_x + sin * middle_y + right,
                y_from_x, cos, middle_y - y_from_x * middle_x - cos * middle_y + down,
                zero, zero,
            ],
            axis=1,
        )  # fmt: skip

    def _change_grey_levels(self, images, draws):
        """Applies gamma, then contrast and brightness, and clips to 0 to 255."""
        if not (self.brightness or self.contrast or self.gamma):
            return images
        import tensorflow as tf

        either = (draws[:, 7:10] * 2 - 1)[:, None, None, None, :]
        power = (1 + self.gamma) ** either[..., 2]
        factor = 1 + self.contrast * either[..., 1]
        images = 255 * tf.pow(images / 255, power)
        images = (images - 127.5) * factor + 127.5 + 255 * self.brightness * either[..., 0]
        return tf.clip_by_value(images, 0.0, 255.0)
