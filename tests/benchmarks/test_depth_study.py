"""The study of depths: what separates classes, and what few images do."""

import numpy as np

from benchmarks import depth_study


def _classes(shift):
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(40), 2)
    rows = [{d: rng.normal(size=(80, d)) for d in (4, 12)} for _ in range(2)]
    rows[1][12] += shift
    return (rows[0], patients), (rows[1], patients + 1000)


def test_the_depth_that_differs_separates_the_classes():
    between, within = depth_study.separations(*_classes(1.0), splits=10).transpose(2, 0, 1)
    ratios = np.median(between / within, axis=0)
    assert between.shape == (10, 3)  # two depths, and the number over them
    # Two finite samples differ a little by chance: 1.6 at the depth without a difference.
    assert 1 < ratios[0] < 2 < ratios[2] < ratios[1]


def test_halves_share_no_patient():
    patients = np.repeat(np.arange(9), 3)
    first, second = depth_study._halves(patients, np.random.default_rng(0))
    assert not set(patients[first]) & set(patients[second])
    assert sorted([*first, *second]) == list(range(27))


def test_few_images_raise_the_plain_fid_and_not_the_debiased_one():
    plain, debiased = depth_study.small_samples(*_classes(0.0), 20, draws=12)
    error = debiased.std(axis=0, ddof=1) / 12**0.5
    assert (plain.mean(axis=0) > 5 * error).all()
    assert (np.abs(debiased.mean(axis=0)) < 4 * error).all()
    assert depth_study.small_samples(*_classes(0.0), 200) is None
