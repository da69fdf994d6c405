"""Full-reference quality of an image beside its original: PSNR, SSIM and MS-SSIM by `tf.image`."""

import collections
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from fid_med.data.images import check_pixels
from fid_med.errors import DataError

MEASURES = ("psnr", "ssim", "ms_ssim")
PSNR_LIMIT = 100.0
# Pixels of the shorter side: one window of 11, and one window on the fifth of five halved scales.
SSIM_MIN, MS_SSIM_MIN = 11, 176


def image_quality(
    originals: Sequence[np.ndarray], images: Sequence[np.ndarray], *, batch_size: int = 8
) -> dict[str, np.ndarray]:
    """Compares each image with its original, grey levels 0 to 255; higher is more alike.

    Args:
      originals, images: N each, uint8 [H, W] or [H, W, 3], a pair of one shape, pairs of any; or
        arrays of them. Colour channels are compared apart and averaged.
      batch_size: pairs at a time, of equal shapes; decides memory alone.

    Returns:
      float64 [N] for each of `MEASURES`:
      `psnr`, decibels, 10 log10(255^2 / mean squared difference), no more than `PSNR_LIMIT` (100),
      which is also what identical images get, so that means stay finite;
      `ssim`, -1..1 (Wang et al., IEEE TIP 2004; window 11, sigma 1.5), NaN where a side has fewer
      than 11 pixels;
      `ms_ssim`, 0..1 (Wang et al., Asilomar 2003; five scales), NaN where a side has fewer than
      176: fewer scales would be another measure.

    Raises:
      DataError: unequal numbers or shapes, or what `check_pixels` refuses.
    """
    if len(originals) != len(images):
        raise DataError(f"{len(originals)} originals and {len(images)} images; expected pairs")
    by_shape = collections.defaultdict(list)
    for i, pair in enumerate(zip(originals, images, strict=True)):
        first, second = (np.shape(check_pixels(one, f"image {i}")) for one in pair)
        if first != second:
            raise DataError(f"image {i}: shape {second}, its original {first}; expected the same")
        by_shape[first].append(i)
    found = {measure: np.full(len(images), np.nan) for measure in MEASURES}
    for shape, members in by_shape.items():
        for start in range(0, len(members), batch_size):
            batch = members[start : start + batch_size]
            pairs = [_batch(side, batch, shape) for side in (originals, images)]
            for measure, values in _measured(*pairs, side=min(shape[:2])).items():
                found[measure][batch] = values
    return found


def _batch(images, members, shape):
    stacked = np.stack([np.reshape(images[i], (*shape[:2], -1)) for i in members])
    return tf.constant(stacked, tf.float32)


def _measured(originals, images, side):
    psnr = tf.image.psnr(originals, images, max_val=255.0).numpy()
    measured = {"psnr": np.minimum(psnr, PSNR_LIMIT)}
    if side >= SSIM_MIN:
        measured["ssim"] = tf.image.ssim(originals, images, max_val=255.0).numpy()
    if side >= MS_SSIM_MIN:
        measured["ms_ssim"] = tf.image.ssim_multiscale(originals, images, max_val=255.0).numpy()
    return measured
