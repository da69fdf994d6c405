"""Copies by pixels: on phantoms, every planted near copy is found and no other patient is."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fid_med.errors import StatisticsError
from fid_med.metrics import distances
from fid_med.metrics.pixel_copies import (
    COPY_SIMILARITY,
    _banded,
    pixel_matches,
    pixel_signatures,
)
from fid_med.phantoms.radiograph import phantom_set

COUNT = 24
CHESTS = Path(__file__).parents[3] / "shared/data/nih_chest"


@pytest.fixture(scope="module")
def images():
    """Phantoms of 48 patients in two views, all much alike: generated 0..23, training 24..47."""
    return phantom_set(2 * COUNT, size=128, seed=5, body_parts=("chest", "elbow"))[0]


@pytest.fixture(scope="module")
def training(images):
    return pixel_signatures(images[COUNT:])


def shifted(image, down, right):
    padded = np.pad(image, 8, mode="edge")
    height, width = image.shape
    return padded[8 - down : 8 - down + height, 8 - right : 8 - right + width]


def one_pixel(image):
    changed = image.copy()
    changed[30, 40] = 255 - changed[30, 40]
    return changed


def encoded(image, quality=50):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


CHANGES = {
    "none": lambda image: image,
    "one pixel": one_pixel,
    "re-encoded": encoded,
    "mirrored": lambda image: image[:, ::-1],
    "shifted": lambda image: shifted(image, 3, -2),
    "shifted by 5 of 128": lambda image: shifted(image, -5, 5),
    "mirrored, shifted, re-encoded": lambda image: encoded(shifted(image[:, ::-1], 2, 1)),
    "darker": lambda image: (image * 0.8 + 5).astype(np.uint8),
    "larger": lambda image: np.asarray(Image.fromarray(image).resize((200, 200))),
    "in colour": lambda image: np.stack([image] * 3, axis=2),
    "noisy": lambda image: np.clip(
        image + np.random.default_rng(0).normal(0, 4, image.shape), 0, 255
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_planted_copies_are_found(images, training, change):
    found = pixel_matches(pixel_signatures(map(CHANGES[change], images[COUNT:])), training)
    np.testing.assert_array_equal(found.indices, np.arange(COUNT))
    assert found.similarities.min() >= COPY_SIMILARITY
    assert (found.flipped == ("mirrored" in change)).all()
    np.testing.assert_array_equal(found.copies, np.arange(COUNT))


def test_no_other_patient_is_taken_for_a_copy(images, training):
    found = pixel_matches(pixel_signatures(images[:COUNT]), training)
    assert len(found.copies) == 0
    assert found.similarities.max() < COPY_SIMILARITY - 0.03
    assert found.similarities.min() > 0  # radiographs of the same view, after all


@pytest.mark.skipif(not CHESTS.is_dir(), reason=f"no real chest radiographs in {CHESTS}")
def test_on_real_radiographs():
    """Images of one patient (first 8 characters of the name) are alike, and still no copies."""
    paths = sorted(CHESTS.glob("*/*.png"))
    patients = np.array([path.name[:8] for path in paths])
    signatures = pixel_signatures(np.asarray(Image.open(path)) for path in paths)
    first = np.isin(patients, np.unique(patients)[::2])
    assert pixel_matches(signatures[first], signatures[~first]).similarities.max() < 0.6
    chosen = np.arange(0, len(paths), 16)
    planted = [encoded(shifted(np.asarray(Image.open(paths[i]))[:, ::-1], 7, -5)) for i in chosen]
    found = pixel_matches(pixel_signatures(planted), signatures)
    np.testing.assert_array_equal(found.copies, np.arange(len(chosen)))
    np.testing.assert_array_equal(found.indices, chosen)


def test_similarity_is_the_correlation_of_aligned_windows(training):
    """By the definition, over all 169 shifts by whole pixels, for one pair."""
    generated = pixel_signatures(np.random.default_rng(0).normal(99, 9, (1, 96, 96)))
    fine, other_fine = (_banded(side, 0.7, 1.5, 8.0) for side in (generated, training))
    best = -1.0
    for turned in (fine[0], fine[0][:, ::-1]):
        window = turned[6:90, 6:90].ravel().astype(float)
        for i in range(13):
            for j in range(13):
                other = other_fine[0][i : i + 84, j : j + 84].ravel().astype(float)
                best = max(best, np.corrcoef(window, other)[0, 1])
    found = pixel_matches(generated, training[:1])
    assert found.similarities[0] == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("entries", [1, 10**6])
def test_block_size_and_company_change_nothing(monkeypatch, images, training, entries):
    signatures = pixel_signatures(images[:COUNT])
    expected = pixel_matches(signatures, training)
    monkeypatch.setattr(distances, "BLOCK_ENTRIES", entries)
    found = pixel_matches(signatures[::-1], training)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a[::-1], b)


def test_blank_images_resemble_nothing(training):
    blank = pixel_signatures(np.full((2, 40, 50), 7, np.uint8))
    assert pixel_matches(blank, training).similarities.tolist() == [0, 0]
    assert pixel_matches(training, blank).similarities.max() == 0
    assert pixel_matches(blank, blank).similarities.max() == 0


def test_equal_training_images_go_to_the_first(training):
    found = pixel_matches(training[3:4], np.concatenate([training, training]))
    assert (found.indices[0], found.similarities[0]) == (3, 1.0)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ([], "no images to make signatures of"),
        ([np.ones((5, 5)), np.ones(5)], r"image 1 of shape \(5,\)"),
        ([np.full((5, 5), "a")], "image 0 of shape .5, 5. and dtype <U1"),
        ([np.full((5, 5), np.nan)], "image 0 holds NaN"),
    ],
)
def test_bad_images(images, said):
    with pytest.raises(StatisticsError, match=said):
        pixel_signatures(images)


@pytest.mark.parametrize(
    ("signatures", "said"),
    [
        (np.ones((2, 64, 64)), r"generated signatures of shape \(2, 64, 64\)"),
        (np.ones((0, 96, 96)), "no generated signatures"),
        (np.full((1, 96, 96), np.nan), "generated signatures hold NaN"),
        (np.ones((1, 96, 96), np.uint8), "dtype uint8"),
    ],
)
def test_bad_signatures(training, signatures, said):
    with pytest.raises(StatisticsError, match=said):
        pixel_matches(signatures, training)
