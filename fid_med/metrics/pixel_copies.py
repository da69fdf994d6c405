"""Copies found by pixels: one pixel changed, re-encoded, brightened, flipped, or shifted.

Features are trained to ignore changes that keep the meaning, and radiographs of one body part are
similar to each other. A flipped copy may therefore be no nearer to its source than another patient.
So thumbnails are compared as well. They are band-pass filtered to the size of ribs and joints, in
which patients differ, and normalised for local contrast.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy import fft, ndimage

from fid_med.errors import StatisticsError
from fid_med.metrics.distances import block_rows

SIZE = 96  # height and width of a thumbnail

# Largest shift that is searched in each direction, as a share of the image's width.
MAX_SHIFT = 6 / SIZE

# Smallest similarity of a copy. On ChestX-ray14 different patients reach at most 0.44, and
# different images of one patient 0.78. Copies that are mirrored, shifted by up to 3 % of the width,
# brightened or re-encoded stay above 0.95.
COPY_SIMILARITY = 0.92

_SHIFT = round(MAX_SHIFT * SIZE)
_WINDOW = SIZE - 2 * _SHIFT
# Standard deviations in pixels of three Gaussians: the first less the second is the band, the third
# averages the local contrast.
_FINE_BAND = 0.7, 1.5, 8.0
_COARSE_BAND = 1.0, 4.0, 6.0
_GREY_NOISE = 2.0  # grey levels; a region of less contrast is not amplified
_COARSE = 3  # thumbnails are reduced by this factor to choose candidates
_CANDIDATES = 6
# Smallest coarse similarity of a candidate after the first. Copies reach 0.92.
_LIKELY = 0.88
_REFINED = 0.6  # smallest similarity at which shifts by half a pixel are searched too
_FLAT = 1e-5


class PixelMatches(NamedTuple):
    """The most similar training image of each generated image.

    Attributes:
      indices: index of the training image, int64 [M].
      similarities: normalised cross-correlation of the aligned signatures, -1..1, float64 [M].
      flipped: whether the generated image had to be mirrored, bool [M].
    """

    indices: np.ndarray
    similarities: np.ndarray
    flipped: np.ndarray

    @property
    def copies(self) -> np.ndarray:
        """Indices of the generated images at `COPY_SIMILARITY` or above, ascending."""
        return np.flatnonzero(self.similarities >= COPY_SIMILARITY)


def pixel_signatures(images: Iterable) -> np.ndarray:
    """Computes grey thumbnails for `pixel_matches`, 96 x 96, by a triangle filter.

    Args:
      images: each [H, W], [H, W, 1] or [H, W, 3], any real dtype, 0..255; sizes may differ.

    Returns:
      float32 [N, 96, 96], 0..255.

    Raises:
      StatisticsError: another shape or dtype, NaN or infinity, or no images.
    """
    signatures, weights = [], {}
    for i, image in enumerate(images):
        grey = _grey(np.asarray(image), i)
        for side in grey.shape:
            if side not in weights:
                weights[side] = _triangle(side)
        small = weights[grey.shape[0]] @ grey @ weights[grey.shape[1]].T
        signatures.append(small.astype(np.float32))
    if not signatures:
        raise StatisticsError("no images to make signatures of: give at least one")
    return np.stack(signatures)


def pixel_matches(generated: np.ndarray, training: np.ndarray) -> PixelMatches:
    """Finds the most similar training image of each generated image, also mirrored and shifted.

    Thumbnails are band-pass filtered (a Gaussian of standard deviation 0.7 less one of 1.5 pixels)
    and divided by their local contrast. First, at a third of the size, with a broader band and at
    thirteen positions, up to six candidates are chosen by matrix products, for the image as it is
    and mirrored. Then the similarity to each candidate is the largest normalised cross-correlation
    of the middle of the generated thumbnail with it. Shifts of up to 6 of 96 pixels in each
    direction are searched, in steps of half a pixel where whole steps reach 0.6. The similarity of
    a blank image is 0.

    Args:
      generated, training: float [M, 96, 96] and [N, 96, 96], from `pixel_signatures`.

    Returns:
      PixelMatches.

    Raises:
      StatisticsError: other shapes, NaN, or no images.
    """
    generated, training = _checked(generated, "generated"), _checked(training, "training")
    fine = [_banded(side, *_FINE_BAND) for side in (generated, training)]
    coarse = [_banded(_reduced(side), *_COARSE_BAND) for side in (generated, training)]
    best = np.zeros(len(generated)), np.zeros(len(generated), np.int64)
    flipped = np.zeros(len(generated), bool)
    for flip in (False, True):
        turned, small = ((x[:, :, ::-1] if flip else x) for x in (fine[0], coarse[0]))
        for place, (column, scores) in enumerate(_candidates(small, coarse[1])):
            rows = np.flatnonzero(scores >= (_LIKELY if place else -np.inf))
            similarities = _aligned(turned[rows], fine[1], column[rows])
            # Of equal similarities the earlier candidate is kept, and the unmirrored one.
            better = similarities > best[0][rows] + 1e-9
            rows = rows[better]
            best[0][rows], best[1][rows] = similarities[better], column[rows]
            flipped[rows] = flip
    return PixelMatches(best[1], np.minimum(best[0].round(9), 1.0), flipped)


def _grey(image, i):
    if image.ndim == 3 and image.shape[2] in (1, 3):
        image = image.mean(axis=2, dtype=np.float64)
    if image.ndim != 2 or not image.size or image.dtype.kind not in "fiu":
        raise StatisticsError(
            f"image {i} of shape {image.shape} and dtype {image.dtype}: expected [H, W] or "
            "[H, W, 3], real numbers"
        )
    image = image.astype(np.float64)
    if not np.isfinite(image).all():
        raise StatisticsError(f"image {i} holds NaN or infinity: read it again")
    return image


def _triangle(side: int) -> np.ndarray:
    """Computes weights [96, side] of a bilinear filter whose support grows with the reduction."""
    scale = side / SIZE
    centres = (np.arange(SIZE) + 0.5) * scale
    gaps = np.abs(np.arange(side) + 0.5 - centres[:, None]) / max(scale, 1.0)
    weights = np.maximum(1 - gaps, 0)
    return weights / weights.sum(axis=1, keepdims=True)


def _banded(images, smooth, broad, local):
    """Band-pass filters images [N, n, n] and divides them by the local contrast, float32."""
    blurs = [
        ndimage.gaussian_filter1d(np.eye(images.shape[1]), deviation, axis=0, mode="nearest")
        for deviation in (smooth, broad, local)
    ]
    banded = np.empty(images.shape, np.float32)
    for image, result in zip(images, banded, strict=True):
        low, lower = (blur @ image @ blur.T for blur in blurs[:2])
        band = low - lower
        contrast = blurs[2] @ (band * band) @ blurs[2].T
        result[...] = band / np.sqrt(contrast + _GREY_NOISE**2)
    return banded


def _checked(signatures, name):
    array = np.asarray(signatures)
    if array.ndim != 3 or array.shape[1:] != (SIZE, SIZE) or array.dtype.kind != "f":
        raise StatisticsError(
            f"{name} signatures of shape {array.shape} and dtype {array.dtype}: expected float "
            f"[N, {SIZE}, {SIZE}] from pixel_signatures"
        )
    if not len(array):
        raise StatisticsError(f"no {name} signatures: give at least one image")
    if not np.isfinite(array).all():
        raise StatisticsError(f"{name} signatures hold NaN or infinity: make them again")
    return array


def _reduced(signatures):
    size = SIZE // _COARSE
    return signatures.reshape(len(signatures), size, _COARSE, size, _COARSE).mean(axis=(2, 4))


def _unit(rows):
    """Flattens rows [N, ...] and scales them to mean 0 and length 1; a constant row becomes 0."""
    rows = rows.reshape(len(rows), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(lengths > _FLAT, rows / np.maximum(lengths, _FLAT), 0).astype(np.float32)


def _candidates(generated, training):
    """Yields the likeliest training images, best first: indices, int64 [M], and scores, [M]."""
    count = min(_CANDIDATES, len(training))
    edge = _SHIFT // _COARSE
    inner = SIZE // _COARSE - 2 * edge
    middle = _unit(generated[:, edge : edge + inner, edge : edge + inner])
    chosen = np.empty((count, len(generated)), np.int64)
    reached = np.empty((count, len(generated)), np.float32)
    around = [edge - 1, edge, edge + 1]
    between = (training[:, 1:] + training[:, :-1]) / 2
    between = (between[:, :, 1:] + between[:, :, :-1]) / 2
    places = [
        _unit(side[:, y : y + inner, x : x + inner])
        for side, starts in ((training, around), (between, around[:2]))
        for y in starts
        for x in starts
    ]
    step = block_rows(len(training))
    for start in range(0, len(generated), step):
        part = slice(start, start + step)
        scores = np.full((len(middle[part]), len(training)), -np.inf, np.float32)
        for place in places:
            np.maximum(scores, middle[part] @ place.T, out=scores)
        # Rounded, and ties by index, so that the order of summation has no influence.
        order = np.argsort(-np.round(scores, 4), axis=1, kind="stable")[:, :count]
        chosen[:, part] = order.T
        reached[:, part] = np.take_along_axis(scores, order, axis=1).T
    return zip(chosen, reached, strict=True)


def _aligned(generated, training, indices) -> np.ndarray:
    """Computes the largest cross-correlation of generated[i] with training[indices[i]], [M]."""
    result = np.empty(len(generated))
    step = max(1, block_rows(8 * SIZE * SIZE))
    for start in range(0, len(generated), step):
        part = slice(start, start + step)
        result[part] = _correlations(generated[part], training[indices[part]])
    return result


def _correlations(generated, training) -> np.ndarray:
    """As `_aligned`, for one training image per row."""
    window = generated[:, _SHIFT : SIZE - _SHIFT, _SHIFT : SIZE - _SHIFT].astype(np.float64)
    window -= window.mean(axis=(1, 2), keepdims=True)
    other = training.astype(np.float64)
    spectrum = fft.rfft2(other) * fft.rfft2(window, s=(SIZE, SIZE)).conj()
    variances = _window_sums(other**2) - _window_sums(other) ** 2 / _WINDOW**2
    lengths = np.sqrt(np.maximum(variances, 0))
    lengths *= np.linalg.norm(window, axis=(1, 2))[:, None, None]
    best = _peaks(spectrum, lengths)
    near = np.flatnonzero(best >= _REFINED)
    if len(near):
        down, right = fft.fftfreq(SIZE)[:, None], fft.rfftfreq(SIZE)
        for turns in (down / 2, right / 2, (down + right) / 2):
            # A shift by half a pixel changes phases; the lengths hardly change over it.
            turned = spectrum[near] * np.exp(2j * np.pi * turns)
            best[near] = np.maximum(best[near], _peaks(turned, lengths[near]))
    return best


def _peaks(spectrum, lengths):
    shifts = 2 * _SHIFT + 1
    products = fft.irfft2(spectrum, s=(SIZE, SIZE))[:, :shifts, :shifts]
    alive = lengths > _FLAT
    return np.where(alive, products / np.where(alive, lengths, 1), 0).max(axis=(1, 2))


def _window_sums(images):
    """Sums over every window of the inner size, [n, shifts, shifts]."""
    sums = np.pad(images, ((0, 0), (1, 0), (1, 0))).cumsum(axis=1).cumsum(axis=2)
    w = _WINDOW
    return sums[:, w:, w:] - sums[:, :-w, w:] - sums[:, w:, :-w] + sums[:, :-w, :-w]
