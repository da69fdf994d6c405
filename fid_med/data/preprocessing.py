"""Pixels to network input: the contract that an extractor carries and a result states."""

import dataclasses
import math

import numpy as np
from PIL import Image

from fid_med.errors import DataError, ExtractorError

RESIZE_MODES = ("antialias", "tf1")
ASPECT_MODES = ("stretch", "pad")


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input of a network.

    Attributes:
      height, width: size of the network's input in pixels.
      resize: `antialias`, Pillow's bicubic filter on 8-bit pixels, whose support grows with the
        reduction, so that nothing aliases (Parmar et al. 2022, "On Aliased Resizing", section 3);
        or `tf1`, the bilinear sampling of the 2015 graph on float32 pixels (`ResizeBilinear`,
        `align_corners=False`, no half-pixel centres, no antialiasing), for reference numbers.
      aspect: `stretch` to the input's shape as every FID tool does, or `pad`: fit inside, centred,
        black around.
      scale, offset: the network sees pixel * scale + offset; the default maps 0..255 to -1..1.
    """

    height: int = 299
    width: int = 299
    resize: str = "antialias"
    aspect: str = "stretch"
    scale: float = 1 / 127.5
    offset: float = -1.0

    def __post_init__(self):
        for size in (self.height, self.width):
            if type(size) is not int or size < 1:
                raise DataError(
                    f"image size {self.height!r} x {self.width!r}: expected whole numbers of "
                    "pixels, 1 or more"
                )
        for number in (self.scale, self.offset):
            if type(number) not in (int, float) or not math.isfinite(number):
                raise DataError(
                    f"scale {self.scale!r}, offset {self.offset!r}: expected finite numbers"
                )
        if self.resize not in RESIZE_MODES:
            raise DataError(f"resize {self.resize!r}: expected one of {', '.join(RESIZE_MODES)}")
        if self.aspect not in ASPECT_MODES:
            raise DataError(f"aspect {self.aspect!r}: expected one of {', '.join(ASPECT_MODES)}")

    def to_dict(self) -> dict:
        """The fields as JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict) -> "Preprocessing":
        """The inverse of `to_dict`; ExtractorError where a field is unknown or missing."""
        if not isinstance(fields, dict):
            raise ExtractorError(f"preprocessing {fields!r}: expected its fields")
        if set(fields) != {field.name for field in dataclasses.fields(cls)}:
            raise ExtractorError(
                f"preprocessing {sorted(fields)} is not what this version of fid_med knows"
            )
        return cls(**fields)

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Resizes one image to the network's input size.

        Args:
          image: uint8 [H, W] or [H, W, 3].

        Returns:
          0..255, not yet scaled: for `antialias` uint8 (rounded), [height, width] or
          [height, width, 3] as the image; for `tf1` float32 [height, width, 3], whose fractions
          are part of the published number.
        """
        if self.aspect == "stretch":
            return self._resized(image, self.height, self.width)
        height, width = image.shape[:2]
        shrink = min(self.height / height, self.width / width)
        inner_height = max(1, round(height * shrink))
        inner_width = max(1, round(width * shrink))
        inner = self._resized(image, inner_height, inner_width)
        padded = np.zeros((self.height, self.width, *inner.shape[2:]), inner.dtype)
        top, left = (self.height - inner_height) // 2, (self.width - inner_width) // 2
        padded[top : top + inner_height, left : left + inner_width] = inner
        return padded

    def _resized(self, image, height, width):
        if self.resize == "tf1":
            return _resize_tf1(image, height, width)
        if image.shape[:2] == (height, width):
            return image
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def _resize_tf1(image, height, width):
    # TensorFlow's own kernel: equal to the graph bit for bit because it is the graph's op.
    import tensorflow as tf

    # Three channels even for grey: the kernel has a path of its own for them, the graph's. It takes
    # 8 bits as they are; the float32 that the graph feeds it hold the same whole numbers.
    with tf.device("/CPU:0"):
        return tf.raw_ops.ResizeBilinear(
            images=as_rgb_batch([image]),
            size=(height, width),
            align_corners=False,
            half_pixel_centers=False,
        ).numpy()[0]


def as_rgb_batch(images: list[np.ndarray]) -> np.ndarray:
    """Stacks preprocessed images, grey repeated to RGB.

    Args:
      images: each [height, width] or [height, width, 3], one size and dtype.

    Returns:
      [len(images), height, width, 3], same dtype.
    """
    batch = np.empty((len(images), *images[0].shape[:2], 3), images[0].dtype)
    for row, image in zip(batch, images, strict=True):
        if image.ndim == 2:
            for channel in range(3):  # five times as fast as to broadcast
                row[..., channel] = image
        else:
            row[...] = image
    return batch
