"""The study of verdicts on features of known distributions."""

import numpy as np

from benchmarks.verdict_study import study

OPTIONS = {"permutations": 39, "replicates": 20}


def test_equal_sets_are_rarely_and_different_ones_always_called_different():
    rng = np.random.default_rng(0)
    real, equal = rng.normal(size=(2, 60, 8))
    how, share, _, _ = study(real, equal, 24, 40, **OPTIONS)
    assert how == "images"
    # A level of 5 %, where 60 images are one draw of their distribution: 6 of 40 would be far off.
    assert share <= 6 / 40
    how, share, fid, base = study(real, equal + 2, 24, 5, **OPTIONS)
    assert share == 1
    assert fid > 4 * base > 0


def test_counts_beyond_the_images_are_drawn_from_gaussians():
    rng = np.random.default_rng(1)
    real = rng.normal(size=(30, 5))
    how, share, fid, base = study(real, real, 64, 20, **OPTIONS)
    assert how == "Gaussian"
    assert share <= 4 / 20
    assert 0.6 < fid / base < 1.6
