import numpy as np
import pytest

from fid_med.metrics import blas_threads, resampling
from fid_med.metrics.blas_threads import map_on_cores
from fid_med.metrics.resampling import BlockDistances


@pytest.fixture
def blas(monkeypatch):
    """A BLAS of three threads, and the record of how many it was given."""
    given = [3]
    monkeypatch.setattr(blas_threads, "_openblas", lambda: (lambda: given[-1], given.append))
    return given


def test_the_blas_has_one_thread_meanwhile_and_its_own_afterwards(blas):
    seen = map_on_cores(lambda item: (item, blas[-1]), range(5))
    assert seen == [(item, 1) for item in range(5)]
    assert blas == [3, 1, 3]
    with pytest.raises(ZeroDivisionError):
        map_on_cores(lambda item: 1 / item, [1, 0])
    assert blas[-1] == 3


def test_one_thread_or_no_known_blas_is_the_plain_loop(blas, monkeypatch):
    blas.append(1)
    assert map_on_cores(str, [1, 2]) == ["1", "2"]
    assert blas == [3, 1]
    monkeypatch.setattr(blas_threads, "_openblas", lambda: None)
    assert map_on_cores(str, iter([1, 2])) == ["1", "2"]


def test_numpys_own_blas_takes_the_number():
    controls = blas_threads._openblas()
    if controls is None:
        pytest.skip("the threads of this NumPy BLAS cannot be set")
    before = controls[0]()
    controls[1](1)
    assert controls[0]() == 1
    controls[1](before)
    assert controls[0]() == before


def test_distances_do_not_depend_on_the_threads(blas, monkeypatch):
    monkeypatch.setattr(resampling, "_BATCH_ENTRIES", 2000)  # 30 steps
    rows = np.random.default_rng(0).standard_normal((80, 12))
    distances = BlockDistances([rows[:40], rows[40:]])
    blocks = [np.random.default_rng(s).permutation(80)[: 8 + s % 3] for s in range(600)]
    pairs = np.arange(1200).reshape(-1, 2) % 600
    together = distances.distances(blocks, pairs)
    blas.append(1)
    np.testing.assert_array_equal(distances.distances(blocks, pairs), together)
