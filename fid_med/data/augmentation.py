"""Geometric augmentation for small data: rotation and crop, the same for the same seed."""

import dataclasses

import tensorflow as tf

NUM_DRAWS = 4


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How far images are moved while training.

    Attributes:
      rotation: degrees; each image turns by an angle uniform in [-rotation, rotation].
      crop: share of height and width, in (0, 1]; each image is cropped to a square share uniform
        in [crop, 1] at a uniform place and brought back to size. 1 crops nothing.
    """

    rotation: float = 10.0
    crop: float = 0.85

    def apply(self, pixels: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Moves a batch of images; what comes in from outside is black.

        Args:
          pixels: [B, h, w, c], any real dtype.
          draws: float32 [B, 4], uniform in [0, 1): angle, crop share, vertical and horizontal
            place.

        Returns:
          float32 [B, h, w, c], bilinearly interpolated.
        """
        height, width = (tf.cast(n, tf.float32) for n in tf.unstack(tf.shape(pixels)[1:3]))
        angle = (draws[:, 0] * 2 - 1) * (self.rotation * 3.141592653589793 / 180)
        share = 1 - draws[:, 1] * (1 - self.crop)
        # Offset of the crop's centre from the image's.
        down = (draws[:, 2] - 0.5) * (1 - share) * height
        right = (draws[:, 3] - 0.5) * (1 - share) * width
        cos, sin = tf.cos(angle) * share, tf.sin(angle) * share
        middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
        zero = tf.zeros_like(cos)
        # Rows map an output pixel (x, y, 1) to the input pixel it is taken from.
        transforms = tf.stack(
            [
                cos, -sin, middle_x - cos * middle_x + sin * middle_y + right,
                sin, cos, middle_y - sin * middle_x - cos * middle_y + down,
                zero, zero,
            ],
            axis=1,
        )  # fmt: skip
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=tf.cast(pixels, tf.float32),
            transforms=transforms,
            output_shape=tf.shape(pixels)[1:3],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="CONSTANT",
        )
