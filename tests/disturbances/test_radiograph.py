"""The disturbances of radiographs against the physics that their settings state."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from fid_med.disturbances.registry import absolute_settings, disturb


def blob(height=120, width=140, side=9):
    image = np.zeros((height, width), np.uint8)
    top, left = height // 2 - side // 2, width // 2 - side // 2
    image[top : top + side, left : left + side] = 255
    return image


def covariance(image):
    weight = image.astype(float) / image.sum(dtype=float)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    y, x = y - (weight * y).sum(), x - (weight * x).sum()
    return np.array([[(weight * a * b).sum() for b in (x, y)] for a in (x, y)])


@pytest.mark.parametrize(
    ("scale", "input_size", "level", "path"),
    [("paper", 299, 4.0, 16.0), ("pixel", 64, 6.0, 24.0), ("pixel", 256, 8.0, 8.0)],
)
def test_motion_spreads_an_impulse_along_one_direction_as_far_as_the_path(
    scale, input_size, level, path
):
    image = blob(256, 256)
    options = {"scale": scale, "input_size": input_size}
    settings = absolute_settings("motion_blur", level, image.shape, **options)
    assert settings["path_pixels"] == path
    assert settings["sd_along_path_pixels"] == pytest.approx(path / np.sqrt(12))
    directions = []
    for seed in range(40):
        out = disturb(image, "motion_blur", level, seed=seed, **options)
        spread = covariance(out) - covariance(image)
        (across, along), axes = np.linalg.eigh(spread)
        # A point between pixels is shared by the two nearest: up to a quarter in each direction.
        assert -0.05 <= across <= 0.35
        assert along - across == pytest.approx(path**2 / 12, rel=0.04)
        directions.append(np.arctan2(axes[1, 1], axes[0, 1]) % np.pi / np.pi)
        assert out.sum(dtype=float) == pytest.approx(image.sum(dtype=float), rel=0.02)
    assert stats.kstest(directions, "uniform").pvalue > 1e-3


def test_motion_keeps_its_direction_over_the_levels_and_a_flat_image_flat():
    image = blob()
    angles = []
    for level in (2.0, 4.0):
        _, axes = np.linalg.eigh(covariance(disturb(image, "motion_blur", level)))
        angles.append(np.arctan2(axes[1, 1], axes[0, 1]) % np.pi)
    assert angles[0] == pytest.approx(angles[1], abs=0.05)
    flat = np.full((40, 30), 77, np.uint8)
    np.testing.assert_array_equal(disturb(flat, "motion_blur", 4.0), flat)


@pytest.mark.parametrize("grey", [40, 128, 215])
@pytest.mark.parametrize(
    ("level", "shape"), [(6.0, (256, 256)), (9.0, (256, 256)), (1.0, (2048, 32))]
)
def test_low_dose_has_the_noise_of_thinned_poisson_counts(grey, level, shape):
    image = np.full(shape, grey, np.uint8)
    settings = absolute_settings("low_dose", level, image.shape)
    photons = 2.5 * 30174 * 0.6 * (400 / shape[0]) ** 2
    kept = photons * 2**-level
    assert settings["dose_share"] == 2**-level
    assert settings["photons_per_pixel_middle_grey"] == pytest.approx(kept)
    out = disturb(image, "low_dose", level).astype(float)
    here = kept * np.exp(2.8 * (0.5 - grey / 255))
    expected = 255 / 2.8 * np.sqrt((1 - 2**-level) / here)
    if grey == 128:
        assert settings["noise_sd_grey_levels_middle_grey"] == pytest.approx(expected, rel=0.01)
    # The logarithm's second order (about 1 / counts) and rounding; 5 standard errors of 65,536.
    tolerance = 5 / np.sqrt(2 * out.size) + 1.5 / here
    assert np.sqrt(out.var() - 1 / 12) == pytest.approx(expected, rel=tolerance)
    bias = 255 / 2.8 / (2 * here)  # E[-log(counts)] is above -log E[counts]
    assert out.mean() - grey == pytest.approx(bias, abs=5 * expected / 256 + 0.3 * bias)


def test_low_dose_is_noisier_in_bone_and_independent_of_resolution_per_area():
    image = np.full((128, 256), 40, np.uint8)
    image[:, 128:] = 215
    out = disturb(image, "low_dose", 6.0).astype(float)
    soft, bone = (np.sqrt(half.var() - 1 / 12) for half in (out[:, :128], out[:, 128:]))
    assert bone / soft == pytest.approx(np.exp(2.8 * (215 - 40) / 255 / 2), rel=0.05)
    # Four pixels of the finer image receive what one of the coarser does.
    sds = [
        absolute_settings("low_dose", 6.0, (side, side))["noise_sd_grey_levels_middle_grey"]
        for side in (128, 256)
    ]
    assert sds[1] == pytest.approx(2 * sds[0])


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.6])
def test_scatter_loses_the_contrast_of_its_share_and_keeps_the_exposure(fraction):
    # Two greys near each other: at their mean signal the local contrast factor is 1 - a.
    image = np.full((20, 20), 120, np.uint8)
    image[:, 10:] = 160
    out = disturb(image, "contrast_loss", fraction)
    received = np.exp(-2.8 * image / 255.0)
    veiled = (1 - fraction) * received + fraction * received.mean()
    expected = -np.log(veiled) * 255 / 2.8
    np.testing.assert_allclose(out, expected, atol=0.51)
    assert veiled.mean() == pytest.approx(received.mean())
    contrast = (float(out[0, 10]) - out[0, 9]) / 40
    assert contrast == pytest.approx(1 - fraction, abs=0.02)
    settings = absolute_settings("contrast_loss", fraction, image.shape)
    assert settings["contrast_factor_at_mean_signal"] == 1 - fraction


@pytest.mark.parametrize(("level", "quality"), [(60.0, 40), (85.0, 15), (99.0, 1)])
@pytest.mark.parametrize("shape", [(40, 33), (40, 33, 3)], ids=str)
def test_jpeg_is_what_pillow_stores_at_that_quality(level, quality, shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="JPEG", quality=quality)
    np.testing.assert_array_equal(disturb(image, "jpeg_compression", level), Image.open(file))
    assert absolute_settings("jpeg_compression", level, shape) == {"pillow_quality": quality}


@pytest.mark.parametrize(("side", "period"), [(360, 6.0), (100, 4.0)])
def test_grid_lines_have_the_period_and_amplitude_that_the_settings_say(side, period):
    image = np.full((side, side), 128, np.uint8)
    settings = absolute_settings("grid_artefact", 0.3, image.shape)
    assert settings["period_pixels"] == period
    upright = 0
    for seed in range(30):
        out = disturb(image, "grid_artefact", 0.3, seed=seed).astype(float) - 128
        signal = np.exp(-2.8 * out / 255) - 1
        power = np.abs(np.fft.rfft2(signal)) ** 2
        power[0, 0] = 0
        row, column = np.unravel_index(power.argmax(), power.shape)
        down, right = np.fft.fftfreq(side)[row], np.fft.rfftfreq(side)[column]
        assert np.hypot(down, right) == pytest.approx(1 / period, abs=1.0 / side)
        assert (
            min(abs(down), abs(right)) / max(abs(down), abs(right))
            <= np.tan(np.radians(2)) + period / side
        )
        upright += right > abs(down)
        # A sine of amplitude a in the signal, whose greys are rounded.
        assert np.sqrt(2) * signal.std() == pytest.approx(0.3, rel=0.03)
        assert signal.mean() == pytest.approx(0, abs=0.01)
    assert 5 <= upright <= 25


def test_mirroring_takes_about_its_share_and_more_at_higher_levels():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (400, 6, 5), dtype=np.uint8)
    previous = np.zeros(len(images), bool)
    for level in (0.25, 0.5, 1.0):
        outs = [disturb(image, "wrong_laterality", level) for image in images]
        mirrored = np.array(
            [(out == image[:, ::-1]).all() for out, image in zip(outs, images, strict=True)]
        )
        kept = [(out == image).all() for out, image in zip(outs, images, strict=True)]
        np.testing.assert_array_equal(mirrored, ~np.array(kept))
        assert stats.binomtest(int(mirrored.sum()), len(images), level).pvalue > 1e-3
        assert mirrored[previous].all()
        previous = mirrored
