"""Full-reference measures against scikit-image and against their definitions in SciPy."""

import numpy as np
import pytest
from scipy import ndimage

from fid_med.disturbances.registry import disturb
from fid_med.errors import DataError
from fid_med.study.image_quality import image_quality


def pair(shape, seed=0, strength=12):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(0, 1, shape), (4, 4, 0)[: len(shape)])
    original = np.clip(128 + 60 * smooth / smooth.std(), 0, 255)
    image = np.clip(original + rng.normal(0, strength, shape), 0, 255)
    return np.rint(original).astype(np.uint8), np.rint(image).astype(np.uint8)


@pytest.mark.parametrize("shape", [(64, 64), (33, 50), (40, 30, 3)], ids=str)
def test_psnr_and_ssim_agree_with_scikit_image(shape):
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    original, image = pair(shape)
    found = image_quality([original], [image])
    expected = metrics.structural_similarity(
        original, image, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        data_range=255, channel_axis=-1 if len(shape) == 3 else None,
    )  # fmt: skip
    assert found["ssim"].dtype == np.float64
    # tf.image computes in float32.
    assert found["ssim"][0] == pytest.approx(expected, abs=2e-5)
    expected = metrics.peak_signal_noise_ratio(original, image, data_range=255)
    assert found["psnr"][0] == pytest.approx(expected, abs=1e-4)


def reference_ms_ssim(first, second):
    """Five scales of Wang et al. 2003, grey [H, W] with even sides at every scale."""
    line = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    line /= line.sum()

    def mean(x):
        return ndimage.convolve1d(ndimage.convolve1d(x, line, 0), line, 1)[5:-5, 5:-5]

    product, (c1, c2) = 1.0, ((0.01 * 255) ** 2, (0.03 * 255) ** 2)
    weights = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    for i, weight in enumerate(weights):
        mu1, mu2 = mean(first), mean(second)
        var1, var2 = mean(first**2) - mu1**2, mean(second**2) - mu2**2
        both = mean(first * second) - mu1 * mu2
        term = (2 * both + c2) / (var1 + var2 + c2)
        if i == len(weights) - 1:
            term = term * (2 * mu1 * mu2 + c1) / (mu1**2 + mu2**2 + c1)
        product *= term.mean() ** weight
        first, second = (
            x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2).mean(axis=(1, 3))
            for x in (first, second)
        )
    return product


@pytest.mark.parametrize("strength", [5, 60])
def test_ms_ssim_agrees_with_its_definition(strength):
    original, image = pair((192, 224), strength=strength)
    expected = reference_ms_ssim(original.astype(float), image.astype(float))
    assert 0.1 < expected < 0.999
    assert image_quality([original], [image])["ms_ssim"][0] == pytest.approx(expected, abs=2e-5)


def test_identical_images_score_the_defined_best_and_the_least_difference_no_more():
    original, _ = pair((180, 180))
    nearly = original.copy()
    nearly[90, 90] ^= 1
    found = image_quality([original, original], [original, nearly])
    assert found["psnr"][0] == 100.0
    assert found["psnr"][1] == pytest.approx(10 * np.log10(255**2 * 180**2), abs=1e-3)
    assert found["psnr"][1] < 100
    assert found["ssim"][0] == pytest.approx(1, abs=1e-6)
    assert found["ms_ssim"][0] == pytest.approx(1, abs=1e-6)
    large = np.zeros((600, 600), np.uint8)
    other = large.copy()
    other[0, 0] = 1
    assert image_quality([large], [other])["psnr"][0] == 100.0


def test_small_images_have_no_value_where_the_measure_is_not_defined():
    sides = [1, 10, 11, 175, 176]
    pairs = [pair((side, 180), seed=side) for side in sides]
    found = image_quality(*zip(*pairs, strict=True))
    assert np.isfinite(found["psnr"]).all()
    np.testing.assert_array_equal(np.isnan(found["ssim"]), [True, True, False, False, False])
    np.testing.assert_array_equal(np.isnan(found["ms_ssim"]), [True] * 4 + [False])


def test_batches_and_mixed_sizes_change_nothing():
    shapes = [(20, 30), (24, 24), (20, 30), (20, 30, 3), (24, 24), (20, 30)]
    pairs = [pair(shape, seed) for seed, shape in enumerate(shapes)]
    together = image_quality(*zip(*pairs, strict=True), batch_size=2)
    for i, (original, image) in enumerate(pairs):
        alone = image_quality(original[None], image[None])
        for measure, values in alone.items():
            np.testing.assert_allclose(together[measure][i], values[0], rtol=0, atol=1e-5)


def test_grey_repeated_to_rgb_scores_as_grey():
    original, image = pair((30, 30))
    grey = image_quality([original], [image])
    rgb = image_quality(*([np.repeat(x[..., None], 3, axis=-1)] for x in (original, image)))
    for measure in ("psnr", "ssim"):
        np.testing.assert_allclose(grey[measure], rgb[measure], atol=1e-5)


def test_they_fall_as_the_image_is_blurred():
    original, _ = pair((176, 176))
    levels = [0.0, 0.5, 1.0, 2.0]
    images = [disturb(original, "gaussian_blur", level) for level in levels]
    found = image_quality([original] * 4, images)
    for values in found.values():
        assert (np.diff(values) < 0).all()


def test_pairs_that_do_not_fit_end_in_one_line():
    original, image = pair((20, 20))
    with pytest.raises(DataError, match="2 originals and 1 images; expected pairs"):
        image_quality([original] * 2, [image])
    with pytest.raises(DataError, match=r"image 0: shape \(20, 19\), its original \(20, 20\)"):
        image_quality([original], [image[:, 1:]])
    with pytest.raises(DataError, match=r"image 0: pixels are float32.* expected uint8"):
        image_quality([original], [image.astype(np.float32)])
