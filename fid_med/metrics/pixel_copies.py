"""Copies found in the pixels: one pixel changed, re-encoded, brightened, flipped, or shifted.

Features are made to overlook what does not change the meaning, and radiographs of one body part
are alike to begin with: a flipped copy may be no nearer to its source than another patient is. So
thumbnails are compared as well, band-passed to the size of ribs and joints, in which patients
differ, and normalised for contrast from place to place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy import fft, ndimage

from fid_med.errors import StatisticsError
from fid_med.metrics.distances import block_rows

SIZE = 96

# Shifts that are searched: this share of the image's side each way.
MAX_SHIFT = 6 / SIZE

# On ChestX-ray14 no two patients come above 0.44 and no two images of one above 0.78; copies that
# are mirrored, shifted by up to 3 % of the side, brightened or re-encoded stay above 0.95.
COPY_SIMILARITY = 0.92

_SHIFT = round(MAX_SHIFT * SIZE)
_WINDOW = SIZE - 2 * _SHIFT
# Gaussian deviations in pixels: of smoothing, of what is subtracted, of the local contrast.
_FINE_BAND = 0.7, 1.5, 8.0
_COARSE_BAND = 1.0, 4.0, 6.0
_GREY_NOISE = 2.0  # grey levels, below which a flat region is not raised to full contrast
_COARSE = 3  # thumbnail pixels to one when candidates are chosen
_CANDIDATES = 6
_LIKELY = (
    0.88  # coarse similarity from which candidates after the first are looked at; copies: 0.92
)
_REFINED = 0.6  # similarity from which shifts by half a pixel are tried too
_FLAT = 1e-5


class PixelMatches(NamedTuple):
    """For each generated image the training image that looks most like it.

    Attributes:
        indices: of the training image, int64 [M].
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
    """What `pixel_matches` compares: grey thumbnails, 96 x 96, by a triangle filter.

    Args:
        images: each [H, W] or [H, W, 3], any real dtype, 0..255; sizes may differ.

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
    """The most similar training image of each generated one, as it is or mirrored, and shifted.

    Thumbnails are band-passed (a Gaussian of deviation 0.7 less one of 1.5 pixels) and divided by
    their own contrast round about. At a third of the size, with a broader band and at thirteen
    places, they choose up to six candidates for either way round by matrix products. The similarity
    is the largest normalised cross-correlation of the middle of the generated one with a candidate,
    over shifts of up to 6 of 96 pixels each way, in steps of half a pixel where whole ones reach
    0.6. A blank image resembles nothing: 0.

    Args:
        generated, training: float [M, 96, 96] and [N, 96, 96], of `pixel_signatures`.

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
            # Equal similarities go to the earlier image, not mirrored before mirrored.
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
    """Weights [96, side] of a bilinear filter whose support grows with the reduction."""
    scale = side / SIZE
    centres = (np.arange(SIZE) + 0.5) * scale
    gaps = np.abs(np.arange(side) + 0.5 - centres[:, None]) / max(scale, 1.0)
    weights = np.maximum(1 - gaps, 0)
    return weights / weights.sum(axis=1, keepdims=True)


def _banded(images, smooth, broad, local):
    """Images [N, n, n] band-passed and divided by the contrast round about, float32."""
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
            f"[N, {SIZE}, {SIZE}], as pixel_signatures makes them"
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
    """Rows [N, ...] flattened, without mean, of length 1; of length 0 where there is nothing."""
    rows = rows.reshape(len(rows), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(lengths > _FLAT, rows / np.maximum(lengths, _FLAT), 0).astype(np.float32)


def _candidates(generated, training):
    """The likeliest training images, best first: pairs of indices, int64 [M], and scores, [M]."""
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
        # Rounded, and repeats by index, so that the order of summation decides nothing.
        order = np.argsort(-np.round(scores, 4), axis=1, kind="stable")[:, :count]
        chosen[:, part] = order.T
        reached[:, part] = np.take_along_axis(scores, order, axis=1).T
    return zip(chosen, reached, strict=True)


def _aligned(generated, training, indices) -> np.ndarray:
    """Largest normalised cross-correlation of generated[i] with training[indices[i]], [M]."""
    result = np.empty(len(generated))
    step = max(1, block_rows(8 * SIZE * SIZE))
    for start in range(0, len(generated), step):
        part = slice(start, start + step)
        result[part] = _correlations(generated[part], training[indices[part]])
    return result


def _correlations(generated, training) -> np.ndarray:
    """As `_aligned`, row by row."""
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
            # A shift by half a pixel turns the phases; lengths hardly change over it.
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
