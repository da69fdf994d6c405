"""Preprocessing: from the pixels of an image to the input of a network."""

import dataclasses
import math

import numpy as np
from PIL import Image

from fid_med.errors import DataError, ExtractorError

RESIZE_MODES = ("antialias", "tf1", "nearest")
ASPECT_MODES = ("stretch", "pad")
CHANNEL_ORDERS = ("rgb", "bgr")
# Added after the first release. Left out of `to_dict` where unset, so that old fingerprints stay.
_OPTIONAL = ("mean", "std", "channels")


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Describes how an image becomes the input of a network.

    `apply` resizes an image. The remaining fields are applied by the first layers of the network:
    each channel c of the pixels, 0..255, becomes
    `(pixel - mean[c]) / std[c] * scale + offset`.

    Attributes:
      height: height of the network's input in pixels.
      width: width of the network's input in pixels.
      resize: `antialias` is Pillow's bicubic filter on 8-bit pixels. Its support grows with the
        reduction, which prevents aliasing (Parmar et al. 2022, "On Aliased Resizing and Surprising
        Subtleties in GAN Evaluation", section 3). `tf1` is the bilinear sampling of the 2015-12-05
        graph on float32 pixels (`ResizeBilinear`, `align_corners=False`, no half-pixel centres, no
        antialiasing), for published numbers. `nearest` takes the nearest pixel, as RadFID does.
      aspect: `stretch` changes the image to the input's shape, as other FID tools do. `pad` keeps
        the aspect ratio, centres the image and fills the rest with black.
      scale: factor for every channel; the default maps 0..255 to -1..1.
      offset: summand for every channel.
      mean: mean of each channel in pixel units, 0..255, subtracted before `std`, `scale` and
        `offset` apply; by default nothing is subtracted. The order of the three numbers is that of
        the network's channels: blue first for `channels="bgr"`.
      std: standard deviation of each channel in pixel units, in the same order; by default 1.
      channels: order in which the network takes the channels of an RGB image, `rgb` or `bgr`; by
        default `rgb`.

    Raises:
      DataError: a size is not a positive whole number, a number is not finite, a standard deviation
        is not positive, or a mode is unknown.

    Example:

    ```python
    import numpy as np
    from fid_med import Preprocessing

    preprocessing = Preprocessing(height=299, width=299, aspect="pad")
    radiograph = np.zeros((512, 384), np.uint8)
    assert preprocessing.apply(radiograph).shape == (299, 299)

    # RadFID: blue first, ImageNet's mean subtracted, divided by 255.
    radfid = Preprocessing(
        height=512,
        width=512,
        resize="nearest",
        scale=1 / 255,
        offset=0.0,
        mean=(103.939, 116.779, 123.68),
        channels="bgr",
    )
    ```
    """

    height: int = 299
    width: int = 299
    resize: str = "antialias"
    aspect: str = "stretch"
    scale: float = 1 / 127.5
    offset: float = -1.0
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    channels: str | None = None

    def __post_init__(self):
        for size in (self.height, self.width):
            if type(size) is not int or size < 1:
                raise DataError(
                    f"image size {self.height!r} x {self.width!r}: expected whole numbers of "
                    "pixels, 1 or more"
                )
        if not (_is_finite(self.scale) and _is_finite(self.offset)):
            raise DataError(
                f"scale {self.scale!r}, offset {self.offset!r}: expected finite numbers"
            )
        for name in ("mean", "std"):
            numbers = getattr(self, name)
            if numbers is None:
                continue
            if not _is_finite_triple(numbers) or (name == "std" and min(numbers) <= 0):
                kind = "finite" if name == "mean" else "positive finite"
                raise DataError(f"{name} {numbers!r}: expected three {kind} numbers")
            object.__setattr__(self, name, tuple(map(float, numbers)))
        if self.resize not in RESIZE_MODES:
            raise DataError(f"resize {self.resize!r}: expected one of {', '.join(RESIZE_MODES)}")
        if self.aspect not in ASPECT_MODES:
            raise DataError(f"aspect {self.aspect!r}: expected one of {', '.join(ASPECT_MODES)}")
        if self.channels not in (None, *CHANNEL_ORDERS):
            raise DataError(
                f"channels {self.channels!r}: expected one of {', '.join(CHANNEL_ORDERS)}"
            )

    def to_dict(self) -> dict:
        """Returns the fields as JSON types, without `mean`, `std` and `channels` where unset."""
        fields = dataclasses.asdict(self)
        for name in _OPTIONAL:
            if fields[name] is None:
                del fields[name]
            elif name != "channels":
                fields[name] = list(fields[name])
        return fields

    @classmethod
    def from_dict(cls, fields: dict) -> "Preprocessing":
        """Builds a `Preprocessing` from the result of `to_dict`.

        Raises:
          ExtractorError: a field is unknown or missing.
          DataError: a value is invalid.
        """
        if not isinstance(fields, dict):
            raise ExtractorError(f"preprocessing {fields!r}: expected its fields")
        known = {field.name for field in dataclasses.fields(cls)}
        if not known - set(_OPTIONAL) <= set(fields) <= known:
            raise ExtractorError(
                f"preprocessing {sorted(fields)}: this version of fid_med expects "
                f"{sorted(known - set(_OPTIONAL))}, and optionally {sorted(_OPTIONAL)}"
            )
        return cls(**fields)

    def affine(self) -> tuple[float | list[float], float | list[float]]:
        """Combines `mean`, `std`, `scale` and `offset` into one scale and one offset.

        Returns:
          The numbers a and b of `pixel * a + b`: lists of three where the channels differ.
        """
        if self.mean is None and self.std is None:
            return self.scale, self.offset
        std, mean = self.std or (1.0,) * 3, self.mean or (0.0,) * 3
        scale = [self.scale / s for s in std]
        return scale, [self.offset - m * a for m, a in zip(mean, scale, strict=True)]

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Resizes one image to the network's input size.

        Args:
          image: uint8 [H, W] or [H, W, 3].

        Returns:
          Pixels in 0..255, not yet scaled. For `antialias` and `nearest` uint8, [height, width] or
          [height, width, 3] as the image. For `tf1` float32 [height, width, 3], not rounded, as in
          published numbers.
        """
        top, left, height, width = self.box(*image.shape[:2])
        inner = self._resized(image, height, width)
        if (height, width) == (self.height, self.width):
            return inner
        padded = np.zeros((self.height, self.width, *inner.shape[2:]), inner.dtype)
        padded[top : top + height, left : left + width] = inner
        return padded

    def box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Finds where `apply` puts an image of this height and width in the network's input.

        Returns:
          Top, left, height and width of the image in the input, in pixels. The rest is padding.
        """
        if self.aspect == "stretch":
            return 0, 0, self.height, self.width
        shrink = min(self.height / height, self.width / width)
        inner_height = max(1, round(height * shrink))
        inner_width = max(1, round(width * shrink))
        top, left = (self.height - inner_height) // 2, (self.width - inner_width) // 2
        return top, left, inner_height, inner_width

    def _resized(self, image, height, width):
        if self.resize == "tf1":
            return _resize_tf1(image, height, width)
        if image.shape[:2] == (height, width):
            return image
        resampling = Image.Resampling
        kind = resampling.NEAREST if self.resize == "nearest" else resampling.BICUBIC
        return np.asarray(Image.fromarray(image).resize((width, height), kind))


def _is_finite(number):
    return type(number) in (int, float) and math.isfinite(number)


def _is_finite_triple(numbers):
    return (
        isinstance(numbers, (tuple, list)) and len(numbers) == 3 and all(map(_is_finite, numbers))
    )


def _resize_tf1(image, height, width):
    # TensorFlow's own kernel is the op of the graph, so the result is equal bit for bit.
    import tensorflow as tf

    # Grey is repeated because the kernel computes three channels on another path, the one that the
    # graph takes. Its input may be uint8: the graph's float32 pixels are the same whole numbers.
    with tf.device("/CPU:0"):
        return tf.raw_ops.ResizeBilinear(
            images=as_rgb_batch([image]),
            size=(height, width),
            align_corners=False,
            half_pixel_centers=False,
        ).numpy()[0]


def as_rgb_batch(images: list[np.ndarray]) -> np.ndarray:
    """Stacks preprocessed images. Grey images are repeated to RGB.

    Args:
      images: at least one image, each [height, width] or [height, width, 3], all of one size and
        dtype.

    Returns:
      Array [len(images), height, width, 3] of the same dtype.
    """
    batch = np.empty((len(images), *images[0].shape[:2], 3), images[0].dtype)
    for row, image in zip(batch, images, strict=True):
        if image.ndim == 2:
            for channel in range(3):  # five times as fast as broadcasting
                row[..., channel] = image
        else:
            row[...] = image
    return batch
