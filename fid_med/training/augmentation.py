"""Augmentation for small data: moved, and on request mirrored and lit anew; by given numbers."""

import dataclasses

import tensorflow as tf

from fid_med.errors import SettingError

# Angle, crop share, crop place down and right; then shift down and right, flip, brightness,
# contrast, gamma.
NUM_DRAWS = 10


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How far images are changed while training.

    Attributes:
      rotation: degrees; each image turns by an angle uniform in [-rotation, rotation].
      crop: share of height and width, in (0, 1]; each image is cropped to a square share uniform
        in [crop, 1] at a uniform place and brought back to size. 1 crops nothing.
      translation: share of height and width, in [0, 1); each image is shifted by up to that much
        in either direction.
      flip: mirrors every second image left to right. Off by default, because a mirrored radiograph
        shows the other side of the body: a heart on the right, a left hand for a right one, and
        side markers in mirror writing, which no generated image may be measured against.
      brightness: share of the grey range, in [0, 1); each image gets up to that much brighter or
        darker.
      contrast: in [0, 1); each image's distance from middle grey is multiplied by a factor uniform
        in [1 - contrast, 1 + contrast].
      gamma: at least 0; each image is raised to a power between 1 / (1 + gamma) and 1 + gamma,
        uniform in its logarithm.

    Raises:
      SettingError: a value outside its range.
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
        if not self.gamma >= 0:
            raise SettingError(f"gamma {self.gamma}: expected 0 (off) or a number above it")

    @property
    def changes_nothing(self) -> bool:
        """Whether every image comes out as it went in."""
        return self == Augmentation(0.0, 1.0)

    def describe(self) -> str:
        """The settings in words."""
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
        """Changes a batch of images; what comes in from outside is black.

        Args:
          pixels: [B, h, w, c], any real dtype, 0..255.
          draws: float32 [B, 10], uniform in [0, 1): angle, crop share, place of the crop down and
            right, shift down and right, flip, brightness, contrast, gamma.

        Returns:
          float32 [B, h, w, c], 0..255, bilinearly interpolated.
        """
        images = self._lit(tf.cast(pixels, tf.float32), draws)
        if dataclasses.replace(self, brightness=0, contrast=0, gamma=0).changes_nothing:
            return images
        height, width = (tf.cast(n, tf.float32) for n in tf.unstack(tf.shape(pixels)[1:3]))
        angle = (draws[:, 0] * 2 - 1) * (self.rotation * 3.141592653589793 / 180)
        share = 1 - draws[:, 1] * (1 - self.crop)
        # The centre that an output is taken around, from the image's own: pixels span 0 to n - 1,
        # so a crop at the very edge ends on the last row, and black comes in by rotation and
        # translation alone.
        down = (draws[:, 2] - 0.5) * (1 - share) * (height - 1)
        right = (draws[:, 3] - 0.5) * (1 - share) * (width - 1)
        down += (draws[:, 4] * 2 - 1) * self.translation * height
        right += (draws[:, 5] * 2 - 1) * self.translation * width
        cos, sin = tf.cos(angle) * share, tf.sin(angle) * share
        middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
        mirror = tf.where(draws[:, 6] < 0.5, -1.0, 1.0) if self.flip else tf.ones_like(cos)
        zero = tf.zeros_like(cos)
        # Rows map an output pixel (x, y, 1) to the input pixel it is taken from.
        x_from_x, y_from_x = cos * mirror, sin * mirror
        transforms = tf.stack(
            [
                x_from_x, -sin, middle_x - x_from_x * middle_x + sin * middle_y + right,
                y_from_x, cos, middle_y - y_from_x * middle_x - cos * middle_y + down,
                zero, zero,
            ],
            axis=1,
        )  # fmt: skip
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=images,
            transforms=transforms,
            output_shape=tf.shape(pixels)[1:3],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="CONSTANT",
        )

    def _lit(self, images, draws):
        """Gamma, then contrast and brightness, cut to 0..255."""
        if not (self.brightness or self.contrast or self.gamma):
            return images
        either = (draws[:, 7:10] * 2 - 1)[:, None, None, None, :]
        power = (1 + self.gamma) ** either[..., 2]
        factor = 1 + self.contrast * either[..., 1]
        images = 255 * tf.pow(images / 255, power)
        images = (images - 127.5) * factor + 127.5 + 255 * self.brightness * either[..., 0]
        return tf.clip_by_value(images, 0.0, 255.0)
