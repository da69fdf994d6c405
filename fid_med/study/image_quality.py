"""Full-reference image quality by `tf.image`: PSNR, SSIM and MS-SSIM against the original."""

import collections
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from fid_med.data.images import check_pixels
from fid_med.errors import DataError

MEASURES = ("psnr", "ssim", "ms_ssim")
_PSNR_LIMIT = 100.0  # decibels
# Smallest shorter side in pixels: one window of 11, and one window of 11 at the fifth scale.
_SSIM_MIN, _MS_SSIM_MIN = 11, 176


def image_quality(
    originals: Sequence[np.ndarray], images: Sequence[np.ndarray], *, batch_size: int = 8
) -> dict[str, np.ndarray]:
    """Compares each image with its original; higher is more similar.

    Args:
      originals, images: N each, uint8 [H, W] or [H, W, 3] with grey levels 0..255; or arrays of
        them. Both images of a pair have the same shape; shapes may differ between pairs. Colour
        channels are compared separately and averaged.
      batch_size: number of pairs per batch; affects memory only.

    Returns:
      float64 [N] for each of `MEASURES`:
      `psnr`: decibels, 10 log10(255^2 / mean squared difference), at most 100. Identical images
        get 100 too, so that means are finite.
      `ssim`: -1..1 (Wang et al., IEEE TIP 2004; window 11, sigma 1.5). NaN if a side has fewer
        than 11 pixels.
      `ms_ssim`: 0..1 (Wang et al., Asilomar 2003; five scales). NaN if a side has fewer than 176
        pixels, because fewer scales would be a different measure.

    Raises:
      DataError: unequal numbers or shapes, or pixels that `check_pixels` rejects.
    """
    if len(originals) != len(images):
        raise DataError(f"{len(originals)} originals and {len(images)} images; expected pairs")
    by_shape = collections.defaultdict(list)
    for i, pair in enumerate(zip(originals, images, strict=True)):
        first, second = (np.shape(check_pixels(one, f"image {i}")) for one in pair)
        if first != second:
            raise DataError(
                f"image {i}: shape {second}, its original {first}; expected equal shapes"
            )
        by_shape[first].append(i)
    found = {measure: np.full(len(images), np.nan) for measure in MEASURES}
    for shape, members in by_shape.items():
        for start in range(0, len(members), batch_size):
            batch = members[start : start + batch_size]
            pairs = [_stack(x, batch, shape) for x in (originals, images)]
            for measure, values in _measure(*pairs, side=min(shape[:2])).items():
                found[measure][batch] = values
    return found


def _stack(images, members, shape):
    stacked = np.stack([np.reshape(images[i], (*shape[:2], -1)) for i in members])
    return tf.constant(stacked, tf.float32)


def _measure(originals, images, side):
    psnr = tf.image.psnr(originals, images, max_val=255.0).numpy()
    measured = {"psnr": np.minimum(psnr, _PSNR_LIMIT)}
    if side >= _SSIM_MIN:
        measured["ssim"] = tf.image.ssim(originals, images, max_val=255.0).numpy()
    if side >= _MS_SSIM_MIN:
        measured["ms_ssim"] = tf.image.ssim_multiscale(originals, images, max_val=255.0).numpy()
    return measured
