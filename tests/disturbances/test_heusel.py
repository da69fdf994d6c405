"""Heusel's disturbances against their definitions, measured on what comes out."""

import hashlib
import itertools
import json

import numpy as np
import pytest
from scipy import stats

from fid_med.disturbances.registry import (
    DISTURBANCES,
    GROUPS,
    absolute_settings,
    contaminate,
    content_digest,
    disturb,
)
from fid_med.errors import DataError

OF_IMAGES = [name for name, one in DISTURBANCES.items() if not one.set_level]
FROZEN = {"black_rectangles": "b0ab4a8b123d1d38", "salt_and_pepper": "932cd20e305c8664"}


def radiograph_like(height=64, width=64, seed=0):
    """Smooth shades with some texture, uint8 [height, width], away from black and white."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    shade = 128 + 60 * np.sin(5 * x + seed) * np.cos(4 * y) + rng.normal(0, 4, (height, width))
    return np.clip(np.rint(shade), 30, 225).astype(np.uint8)


def test_the_registry_holds_the_papers_six_and_six_of_radiographs():
    assert GROUPS["six"] == (
        "gaussian_noise", "gaussian_blur", "black_rectangles", "swirl", "salt_and_pepper",
        "contamination",
    )  # fmt: skip
    levels = [DISTURBANCES[name].levels for name in GROUPS["six"]]
    quarters, doubled = (0, 0.25, 0.5, 0.75), (0, 1, 2, 4)
    assert levels == [quarters, doubled, quarters, doubled, (0, 0.1, 0.2, 0.3), quarters]
    assert tuple(DISTURBANCES) == GROUPS["six"] + GROUPS["radiograph"]
    assert len(GROUPS["radiograph"]) == 6
    for one in DISTURBANCES.values():
        assert one.levels[0] == 0
        assert len(one.levels) == 4
        assert list(one.levels) == sorted(set(one.levels))
        assert one.levels[-1] <= one.limit
        assert one.description.endswith(".")
        assert one.unit
        assert one.reference


@pytest.mark.parametrize("name", OF_IMAGES)
@pytest.mark.parametrize(
    "shape", [(64, 64), (33, 57), (40, 31, 3), (1, 50), (50, 1, 3), (1, 1)], ids=str
)
def test_any_size_comes_back_as_it_was_and_untouched_at_level_0(name, shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    before = image.copy()
    for scale in ("paper", "pixel"):
        for level in DISTURBANCES[name].levels:
            out = disturb(image, name, level, scale=scale, input_size=75)
            assert out.dtype == np.uint8
            assert out.shape == shape
            assert not np.shares_memory(out, image)
            if level == 0:
                np.testing.assert_array_equal(out, image)
            json.dumps(absolute_settings(name, level, shape, scale=scale, input_size=75))
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("name", [n for n in OF_IMAGES if n != "wrong_laterality"])
def test_each_level_changes_more_than_the_one_below(name):
    images = [radiograph_like(128, 128, seed) for seed in range(4)]
    changes = [
        np.mean([np.abs(disturb(i, name, level).astype(float) - i).mean() for i in images])
        for level in DISTURBANCES[name].levels
    ]
    assert changes[0] == 0
    assert changes[1] > 0.1
    assert (np.diff(changes) > 0.1).all()


@pytest.mark.parametrize("name", OF_IMAGES)
def test_the_same_content_and_seed_give_the_same_result_and_other_seeds_another(name):
    level = DISTURBANCES[name].levels[2]
    image = radiograph_like(48, 40)
    first = disturb(image, name, level, seed=3)
    # Other images in between, and a copy with other strides, change nothing.
    disturb(radiograph_like(seed=1), name, level, seed=3)
    np.testing.assert_array_equal(first, disturb(np.asfortranarray(image), name, level, seed=3))
    others = [disturb(image, name, level, seed=seed) for seed in range(4, 12)]
    is_random = name not in ("gaussian_blur", "contrast_loss", "jpeg_compression")
    assert any((other != first).any() for other in others) == is_random


def test_results_do_not_drift_between_versions():
    image = radiograph_like(32, 32)
    # The random fields of the two whose arithmetic is exact; a change would break resumed studies.
    digests = {
        name: hashlib.sha256(disturb(image, name, level, seed=1).tobytes()).hexdigest()[:16]
        for name, level in (("black_rectangles", 0.25), ("salt_and_pepper", 0.2))
    }
    assert digests == FROZEN


@pytest.mark.parametrize("name", OF_IMAGES)
def test_grey_as_rgb_gives_the_grey_result_in_every_channel(name):
    image = radiograph_like(45, 52)
    level = DISTURBANCES[name].levels[-1]
    rgb = np.repeat(image[..., None], 3, axis=-1)
    expected = disturb(image, name, level)
    np.testing.assert_array_equal(disturb(rgb, name, level), np.stack([expected] * 3, axis=-1))
    np.testing.assert_array_equal(disturb(image[..., None], name, level)[..., 0], expected)


def test_channels_of_colour_share_their_random_field():
    image = np.stack([radiograph_like(64, 64, seed) for seed in range(3)], axis=-1)
    salted = disturb(image, "salt_and_pepper", 0.3)
    changed = np.isin(salted, (0, 255))
    assert (changed == changed[..., :1]).all()
    assert (salted[changed[..., 0]].std(axis=-1) == 0).all()
    noise = disturb(image, "gaussian_noise", 0.5) - 0.5 * image.astype(float)
    assert np.abs(noise - noise[..., :1]).max() <= 1


@pytest.mark.parametrize("level", [0.1, 0.3])
def test_salt_and_pepper_changes_the_share_it_says_evenly(level):
    image = np.full((400, 400), 100, np.uint8)
    out = disturb(image, "salt_and_pepper", level)
    assert set(np.unique(out)) == {0, 100, 255}
    num_changed = int((out != 100).sum())
    assert stats.binomtest(num_changed, out.size, level).pvalue > 1e-4
    assert stats.binomtest(int((out == 255).sum()), num_changed, 0.5).pvalue > 1e-4


def test_weaker_salt_and_pepper_and_rectangles_lie_within_stronger_ones():
    image = np.full((96, 75), 100, np.uint8)
    for name in ("salt_and_pepper", "black_rectangles"):
        for seed in range(20):
            outs = [disturb(image, name, a, seed=seed) for a in DISTURBANCES[name].levels[1:]]
            for weaker, stronger in itertools.pairwise(outs):
                changed = weaker != 100
                np.testing.assert_array_equal(stronger[changed], weaker[changed])
                assert (stronger != 100).sum() > changed.sum()


@pytest.mark.parametrize("level", [0.25, 0.75])
def test_gaussian_noise_has_the_mean_and_deviation_of_its_definition(level):
    image = np.full((500, 500), 60, np.uint8)
    out = disturb(image, "gaussian_noise", level).astype(float)
    sd = level * 255 / 12
    assert absolute_settings("gaussian_noise", level, image.shape)[
        "noise_sd_grey_levels"
    ] == pytest.approx(sd)
    # Five standard errors; rounding adds a variance of 1/12.
    assert out.mean() == pytest.approx((1 - level) * 60 + level * 127.5, abs=5 * sd / 500)
    assert out.std() == pytest.approx(np.hypot(sd, 12**-0.5), rel=5 / np.sqrt(2 * out.size))
    assert stats.kurtosis(out, axis=None) == pytest.approx(0, abs=5 * np.sqrt(24 / out.size))


def test_noise_at_all_levels_is_one_noise():
    image = radiograph_like(96, 96)
    fields = [
        disturb(image, "gaussian_noise", a) - (1 - a) * image.astype(float) for a in (0.25, 0.75)
    ]
    assert np.corrcoef(fields[0].ravel(), fields[1].ravel())[0, 1] > 0.99


@pytest.mark.parametrize(
    ("scale", "input_size", "expected"),
    [("paper", 299, 4.0), ("pixel", 64, 4.0), ("pixel", 128, 2.0), ("paper", 64, 4.0)],
)
def test_blur_of_an_impulse_is_as_wide_as_sigma_says(scale, input_size, expected):
    # Height 128: one unit of the paper's scale is 2 pixels.
    image = np.zeros((128, 160), np.uint8)
    image[60:69, 76:85] = 255  # 9 x 9, of variance (81 - 1) / 12, so that rounding does not count
    settings = absolute_settings(
        "gaussian_blur", 2.0, image.shape, scale=scale, input_size=input_size
    )
    assert settings == {"sigma_pixels": expected}
    out = disturb(image, "gaussian_blur", 2.0, scale=scale, input_size=input_size).astype(float)
    for axis, middle in ((0, 64), (1, 80)):
        profile = out.sum(axis=1 - axis) / out.sum()
        offset = np.arange(out.shape[axis]) - middle
        assert profile @ offset == pytest.approx(0, abs=0.02)
        width = np.sqrt(profile @ offset**2 - 80 / 12)
        # Truncation at 4 sigma and rounding to grey levels, measured: below 1.5 %.
        assert width == pytest.approx(expected, rel=0.015)


@pytest.mark.parametrize("shape", [(64, 64), (75, 62)], ids=str)
@pytest.mark.parametrize("level", [0.25, 0.5, 0.75])
def test_five_rectangles_of_the_size_it_says_cover_the_image_evenly(shape, level):
    image = np.full(shape, 200, np.uint8)
    height, width = (int(side * level) for side in shape)
    settings = absolute_settings("black_rectangles", level, shape)
    assert settings == {"rectangles": 5, "height_pixels": height, "width_pixels": width}
    covered = np.zeros(shape)
    for seed in range(150):
        black = disturb(image, "black_rectangles", level, seed=seed) == 0
        covered += black
        # Every black pixel is in a whole rectangle, and there are at most five of them.
        inside = np.zeros(shape, bool)
        windows = np.lib.stride_tricks.sliding_window_view(black, (height, width))
        for top, left in np.argwhere(windows.all(axis=(2, 3))):
            inside[top : top + height, left : left + width] = True
        np.testing.assert_array_equal(inside, black)
        assert height * width <= black.sum() <= 5 * height * width
    expected = 1 - (1 - covering_probability(shape, height, width)) ** 5
    # 150 independent images: binomial, five standard errors and a little for many pixels.
    error = np.sqrt(expected * (1 - expected) / 150)
    assert (np.abs(covered / 150 - expected) <= 5.5 * error + 1e-9).all()
    assert (covered / 150).mean() == pytest.approx(expected.mean(), abs=0.02)


def covering_probability(shape, height, width):
    """Share of the places of one rectangle that cover a pixel, [H, W]."""
    shares = []
    for side, size in zip(shape, (height, width), strict=True):
        starts = np.arange(side - size + 1)[:, None]
        place = np.arange(side)
        shares.append(((starts <= place) & (place < starts + size)).mean(axis=0))
    return np.outer(*shares)


@pytest.mark.parametrize("level", [1.0, 4.0])
@pytest.mark.parametrize("shape", [(64, 64), (75, 91), (128, 128)], ids=str)
@pytest.mark.parametrize(("scale", "input_height"), [("paper", 64), ("pixel", 75), ("pixel", 16)])
def test_swirl_agrees_with_scikit_image(level, shape, scale, input_height):
    transform = pytest.importorskip("skimage.transform", reason="scikit-image is not installed")
    image = radiograph_like(*shape)
    # The widest, of 1.6 times the height (25 / 16), also takes pixels from beyond the border.
    unit = shape[0] / input_height
    out = disturb(image, "swirl", level, scale=scale, input_size=input_height)
    candidates = []
    for sign in (1, -1):
        expected = transform.swirl(
            image.astype(float), center=(shape[1] // 2, shape[0] // 2), strength=sign * level,
            radius=25 * unit, order=1, mode="reflect", preserve_range=True,
        )  # fmt: skip
        expected[:3], expected[-4:] = image[:3], image[-4:]
        expected[:, :3], expected[:, -4:] = image[:, :3], image[:, -4:]
        candidates.append(np.abs(out - expected).max())
    # Half a grey level of rounding, and float32 coordinates.
    assert min(candidates) <= 0.51
    assert max(candidates) > 5


def test_swirl_turns_left_and_right_alike_and_not_by_level():
    image = radiograph_like(64, 64)
    mirrored = [disturb(image, "swirl", 2.0, seed=seed) for seed in range(60)]
    kinds, counts = np.unique([m.tobytes() for m in mirrored], return_counts=True)
    assert len(kinds) == 2
    assert stats.binomtest(int(counts[0]), 60, 0.5).pvalue > 1e-3


def test_swirl_leaves_the_border_and_turns_about_the_middle_by_its_strength():
    # A dark ray from the middle to the right, on a swirl so wide that it barely fades.
    image = np.full((64, 64), 200, np.uint8)
    image[32, 32:] = 0
    out = disturb(image, "swirl", 1.0, scale="pixel", input_size=2)  # radius 800
    np.testing.assert_array_equal(out[:3], image[:3])
    np.testing.assert_array_equal(out[-4:], image[-4:])
    np.testing.assert_array_equal(out[:, :3], image[:, :3])
    np.testing.assert_array_equal(out[:, -4:], image[:, -4:])
    y, x = np.nonzero(out[6:58, 6:58] < 150)
    y, x = y + 6 - 32, x + 6 - 32
    away = np.hypot(x, y) > 8
    turned = np.abs(np.arctan2(y, x))[away]
    fade = 800 / 5 * np.log(2)
    np.testing.assert_allclose(turned, np.exp(-np.hypot(x, y)[away] / fade), atol=0.12)


def test_contamination_takes_exactly_its_share_whatever_the_order():
    digests = [content_digest(radiograph_like(8, 8, seed)) for seed in range(37)]
    order = np.random.default_rng(0).permutation(37)
    previous = np.zeros(37, bool)
    for level in (0.0, 0.1, 0.25, 0.5, 0.75, 1.0):
        chosen = contaminate(37, digests, level, seed=5)
        assert chosen.dtype == bool
        assert chosen.sum() == round(level * 37)
        assert chosen[previous].all()
        shuffled = contaminate(37, [digests[i] for i in order], level, seed=5)
        np.testing.assert_array_equal(shuffled, chosen[order])
        previous = chosen
    assert (contaminate(37, digests, 0.5, seed=6) != contaminate(37, digests, 0.5, seed=5)).any()


def test_contamination_takes_every_image_equally_often():
    names = [f"image {i}" for i in range(20)]
    counts = sum(contaminate(20, names, 0.25, seed).astype(int) for seed in range(400))
    assert stats.chisquare(counts).pvalue > 1e-4
    # Equal images have a place each.
    assert contaminate(6, ["twin"] * 6, 0.5, seed=0).sum() == 3


def test_mistakes_end_in_one_line_with_the_fix():
    image = radiograph_like(16, 16)
    with pytest.raises(DataError, match=r"unknown disturbance 'haze'; choose from gaussian_noise"):
        disturb(image, "haze", 1.0)
    with pytest.raises(DataError, match=r"level 1.5, expected a number from 0 to 1$"):
        disturb(image, "salt_and_pepper", 1.5)
    for level in (-1.0, float("nan"), float("inf")):
        with pytest.raises(DataError, match=r"expected a number from 0$"):
            disturb(image, "gaussian_blur", level)
    with pytest.raises(DataError, match="unknown scale 'inch'; choose from paper, pixel"):
        disturb(image, "swirl", 1.0, scale="inch")
    with pytest.raises(DataError, match="input_size 0: expected the extractor's height"):
        disturb(image, "swirl", 1.0, scale="pixel", input_size=0)
    for level in (0.0, 0.5):
        with pytest.raises(DataError, match=r"applies to a set, not to one image; .*contaminate"):
            disturb(image, "contamination", level)
    with pytest.raises(DataError, match=r"pixels are float64 .*expected uint8"):
        disturb(image / 255.0, "swirl", 1.0)
    with pytest.raises(DataError, match="2 images and 3 names"):
        contaminate(2, ["a", "b", "c"], 0.5, 0)
