"""The study of verdicts on features of known distributions."""

import numpy as np

from benchmarks.verdicts import study

OPTIONS = {"permutations": 39, "replicates": 20}


def test_equal_sets_are_rarely_and_different_ones_always_called_different():
    rng = np.random.default_rng(0)
    real, other = rng.normal(size=(2, 60, 8))
    how, share, _, _ = study(real, None, 24, 40, **OPTIONS)
    assert how == "images"
    assert share <= 6 / 40  # of a level of 5 %
    how, share, fid, base = study(real, other + 2, 24, 5, **OPTIONS)
    assert share == 1
    assert fid > 4 * base > 0


def test_counts_beyond_the_images_are_drawn_from_gaussians():
    rng = np.random.default_rng(1)
    real = rng.normal(size=(30, 5))
    how, share, fid, base = study(real, None, 64, 20, **OPTIONS)
    assert how == "Gaussian"
    assert share <= 4 / 20
    assert 0.6 < fid / base < 1.6
