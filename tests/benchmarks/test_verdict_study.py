"""The study of verdicts on features of known distributions."""

import numpy as np
import pytest

from benchmarks.verdicts import study

OPTIONS = {"permutations": 39, "replicates": 20}


def test_equal_sets_are_rarely_and_different_ones_always_called_different():
    rng = np.random.default_rng(0)
    real, other = rng.normal(size=(2, 60, 8))
    share, _, _ = study(real, None, 24, 40, **OPTIONS)
    assert share <= 6 / 40  # of a level of 5 %
    share, fid, base = study(real, other + 2, 24, 5, **OPTIONS)
    assert share == 1
    assert fid > 4 * base > 0


def test_gaussians_have_any_count_and_differ_by_the_moments_alone():
    real = np.random.default_rng(1).normal(size=(30, 5))
    with pytest.raises(ValueError, match="64 images per side of 15"):
        study(real, None, 64, 20, **OPTIONS)
    for same in (None, real):
        share, fid, base = study(real, same, 64, 10, gaussian=True, **OPTIONS)
        assert share <= 3 / 10
        assert 0.6 < fid / base < 1.6
    share, fid, base = study(real, real + 2, 64, 5, gaussian=True, **OPTIONS)
    assert share == 1
    assert fid == pytest.approx(20 + base, rel=0.2)
