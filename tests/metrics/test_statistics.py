"""FeatureStatistics: streaming, merging, files and their damages."""

import io
import json
import os
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from fid_med.errors import FidMedError, StatisticsError
from fid_med.metrics import statistics as module
from fid_med.metrics.statistics import FeatureStatistics, check_comparable


def random_features(n, d, seed=0, mean=3.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) / np.sqrt(d) + mean


def batches(x, size):
    return [x[i : i + size] for i in range(0, len(x), size)]


def streamed(x, size):
    statistics = FeatureStatistics()
    for batch in batches(x, size):
        statistics.update(batch)
    return statistics


def assert_is_cov_of(statistics, x, rtol=1e-10):
    """Within rtol of NumPy's two-pass result, relative to the largest entry."""
    x = x.astype(np.float64)
    assert statistics.count == len(x)
    np.testing.assert_allclose(statistics.mean, x.mean(axis=0), rtol=rtol)
    expected = np.atleast_2d(np.cov(x, rowvar=False))
    covariance = statistics.covariance
    assert covariance.dtype == np.float64
    assert np.abs(covariance - expected).max() <= rtol * np.abs(expected).max()
    np.testing.assert_array_equal(covariance, covariance.T)


@pytest.mark.parametrize("n", [2, 39, 40, 41, 1300])
@pytest.mark.parametrize("size", [1, 7, 64, 5000])
def test_batch_size_does_not_matter(n, size):
    x = random_features(n, 40)
    assert_is_cov_of(streamed(x, size), x)


@pytest.mark.parametrize("size", [1, 100, 2000])
def test_mean_far_from_zero(size):
    rng = np.random.default_rng(1)
    x = 1e6 + rng.normal(size=(2000, 24))
    statistics = streamed(x, size)
    assert_is_cov_of(statistics, x)
    # np.cov itself could be wrong there: the offset taken off in advance, exactly.
    centred = x - 1e6
    exact = np.cov(centred, rowvar=False)
    assert np.abs(statistics.covariance - exact).max() <= 1e-10 * np.abs(exact).max()


def test_one_dimension():
    x = random_features(9, 1)
    assert_is_cov_of(streamed(x, 2), x)
    assert streamed(x, 2).covariance.shape == (1, 1)


def test_merging_in_any_order_and_grouping():
    x = random_features(700, 30, mean=1e4)
    parts = [FeatureStatistics.from_features(p) for p in np.split(x, [1, 20, 45, 300, 640])]
    assert_is_cov_of(FeatureStatistics.merged(parts), x)
    assert_is_cov_of(FeatureStatistics.merged(parts[::-1]), x)
    left, right = FeatureStatistics.merged(parts[1::2]), FeatureStatistics.merged(parts[::2])
    assert left.merge(right) is left
    assert_is_cov_of(left, x)
    assert [p.count for p in parts] == [1, 19, 25, 255, 340, 60]
    assert parts[1].rows is not None


def test_merging_with_itself_and_with_nothing():
    x = random_features(50, 30)
    for n in (10, 50):
        statistics = FeatureStatistics.from_features(x[:n])
        statistics.merge(statistics)
        assert_is_cov_of(statistics, np.concatenate([x[:n], x[:n]]))
    statistics.merge(FeatureStatistics())
    assert statistics.count == 100
    with pytest.raises(StatisticsError, match="no statistics to merge"):
        FeatureStatistics.merged([])


def test_looking_changes_nothing():
    x = random_features(900, 20)
    looked, blind = FeatureStatistics(), FeatureStatistics()
    for batch in batches(x, 13):
        blind.update(batch)
        looked.update(batch)
        _ = looked.mean, looked.covariance, looked.rows, repr(looked)
    np.testing.assert_array_equal(looked.mean, blind.mean)
    np.testing.assert_array_equal(looked.covariance, blind.covariance)


def test_rows_are_a_factor_of_the_covariance_until_they_exceed_the_dimension():
    x = random_features(12, 12)
    statistics = FeatureStatistics()
    for batch in batches(x, 5):
        statistics.update(batch)
    rows = statistics.rows
    assert rows.shape == (12, 12)
    np.testing.assert_allclose(rows.T @ rows, np.cov(x, rowvar=False), atol=1e-14)
    rows[:] = np.nan
    assert_is_cov_of(statistics, x)
    statistics.update(x[:1])
    assert statistics.rows is None


def test_memory_is_bounded():
    d = 64
    statistics = FeatureStatistics(d)
    batch = random_features(100, d).astype(np.float32)
    for _ in range(20):
        statistics.update(batch)
    tracemalloc.start()
    for _ in range(300):
        statistics.update(batch)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert statistics.count == 32000
    # 30,000 rows would be 15 MB; a chunk of 512 rows is 0.26 MB.
    assert held < 0.6e6
    assert peak < 2e6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batches_are_copied(dtype):
    x = random_features(30, 8).astype(dtype)
    batch = np.empty((10, 8), dtype)
    statistics = FeatureStatistics()
    for part in batches(x, 10):
        batch[:] = part
        statistics.update(batch)
    batch[:] = 0
    assert_is_cov_of(statistics, x)
    statistics.update(np.empty((0, 8)))
    assert statistics.count == 30


def test_any_real_dtype_is_taken():
    half = random_features(30, 8).astype(np.float16)
    assert_is_cov_of(FeatureStatistics.from_features(half), half)
    whole = np.arange(12).reshape(4, 3) ** 2
    assert_is_cov_of(FeatureStatistics.from_features(whole), whole)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros(8), r"shape \(8,\): expected \[B, d\]"),
        (np.zeros((2, 7)), "dimension 7 in statistics of dimension 8"),
        (np.zeros((2, 8), complex), "complex128: expected real numbers"),
        (np.full((2, 8), "x"), "expected real numbers"),
        (np.where(np.arange(24).reshape(3, 8) == 9, np.nan, 1), "1 of 3 rows of features hold NaN"),
        (np.where(np.arange(24).reshape(3, 8) > 9, np.inf, 1), "2 of 3 rows of features hold NaN"),
    ],
)
def test_bad_batches_leave_statistics_as_they_were(features, message):
    x = random_features(5, 8)
    statistics = FeatureStatistics.from_features(x)
    with pytest.raises(StatisticsError, match=message):
        statistics.update(features)
    assert_is_cov_of(statistics, x)


def test_too_few_features():
    empty = FeatureStatistics(4)
    with pytest.raises(StatisticsError, match="no mean"):
        _ = empty.mean
    for statistics in (empty, FeatureStatistics.from_features(np.ones((1, 4)))):
        for name in ("covariance", "rows"):
            with pytest.raises(StatisticsError, match="at least 2"):
                getattr(statistics, name)
    np.testing.assert_array_equal(statistics.mean, np.ones(4))
    with pytest.raises(StatisticsError, match="expected 1 or more"):
        FeatureStatistics(0)


def test_metadata_in_merges():
    known, unknown, other = (FeatureStatistics.from_features(np.eye(3)) for _ in range(3))
    known.fingerprint, known.extractor = "a" * 64, "imagenet"
    other.fingerprint, other.extractor = "b" * 64, "mine.keras"
    taken = FeatureStatistics.merged([known, known])
    assert (taken.fingerprint, taken.extractor) == ("a" * 64, "imagenet")
    assert FeatureStatistics.merged([known, unknown]).fingerprint is None
    assert FeatureStatistics.merged([unknown, known]).fingerprint is None
    target = FeatureStatistics()
    target.fingerprint = "a" * 64
    assert target.merge(unknown).fingerprint == "a" * 64
    with pytest.raises(StatisticsError, match=r"imagenet .a{12}. and mine.keras .b{12}.: compute"):
        FeatureStatistics.merged([known, other])
    bare = FeatureStatistics.from_moments(np.zeros(3), np.eye(3))
    for first, second in ((bare, known), (known, bare)):
        with pytest.raises(StatisticsError, match="unknown count"):
            first.merge(second)
    with pytest.raises(StatisticsError, match="unknown count"):
        bare.update(np.eye(3))
    with pytest.raises(StatisticsError, match="dimension 3 and of dimension 2"):
        known.merge(FeatureStatistics.from_features(np.eye(2)))


def test_check_comparable():
    a, b = (FeatureStatistics.from_features(np.eye(3)) for _ in range(2))
    assert "both sides have no fingerprint" in check_comparable(a, b)[0]
    a.fingerprint, a.extractor = "c" * 64, "imagenet"
    (warning,) = check_comparable(a, b)
    assert warning.startswith("statistics of unknown origin: one side has no fingerprint")
    b.fingerprint = "c" * 64
    assert check_comparable(a, b) == []
    b.fingerprint = "d" * 64
    with pytest.raises(StatisticsError, match=r"imagenet \(c{12}\) and unnamed \(d{12}\)"):
        check_comparable(a, b)
    with pytest.raises(StatisticsError, match="dimension 3 and of dimension 2"):
        check_comparable(a, FeatureStatistics.from_features(np.eye(2)))


# Files


@pytest.fixture
def saved(tmp_path):
    statistics = FeatureStatistics.from_features(random_features(50, 6))
    statistics.fingerprint, statistics.extractor = "e" * 64, "random"
    statistics.preprocessing = {"resize": "antialias", "size": [299, 299]}
    statistics.versions = {"numpy": np.__version__}
    path = tmp_path / "statistics.npz"
    statistics.save(path)
    return statistics, path


def test_a_file_gives_back_every_bit(saved, tmp_path):
    statistics, path = saved
    loaded = FeatureStatistics.load(path)
    for name in ("count", "dim", "fingerprint", "extractor", "preprocessing", "versions"):
        assert getattr(loaded, name) == getattr(statistics, name)
    np.testing.assert_array_equal(loaded.mean, statistics.mean)
    np.testing.assert_array_equal(loaded.covariance, statistics.covariance)
    assert loaded.rows is None
    loaded.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == path.read_bytes()


def test_peers_read_the_file(saved):
    statistics, path = saved
    with np.load(path) as f:  # as pytorch-fid does it
        mu, sigma = f["mu"][:], f["sigma"][:]
        assert f["count"] == 50
        assert json.loads(str(f["preprocessing"])) == statistics.preprocessing
    assert mu.dtype == sigma.dtype == np.float64
    np.testing.assert_array_equal(mu, statistics.mean)
    np.testing.assert_array_equal(sigma, statistics.covariance)


def test_files_of_peers_are_read(tmp_path):
    x = random_features(50, 6)
    path = tmp_path / "peer.npz"
    np.savez_compressed(path, mu=x.mean(axis=0), sigma=np.cov(x, rowvar=False))
    loaded = FeatureStatistics.load(str(path))
    assert loaded.count is None
    assert loaded.fingerprint is None
    np.testing.assert_array_equal(loaded.mean, x.mean(axis=0))
    np.testing.assert_allclose(loaded.covariance, np.cov(x, rowvar=False), rtol=1e-15)
    loaded.save(tmp_path / "again.npz")
    assert FeatureStatistics.load(tmp_path / "again.npz").count is None
    one = random_features(5, 1)
    np.savez(path, mu=one.mean(axis=0), sigma=np.cov(one, rowvar=False))  # sigma is a scalar
    assert FeatureStatistics.load(path).covariance.shape == (1, 1)


def test_loaded_statistics_go_on(saved):
    x = random_features(50, 6)
    more = random_features(33, 6, seed=5)
    loaded = FeatureStatistics.load(saved[1]).update(more)
    assert_is_cov_of(loaded, np.concatenate([x, more]))
    both = FeatureStatistics.from_features(more[:3]).merge(FeatureStatistics.load(saved[1]))
    assert_is_cov_of(both, np.concatenate([x, more[:3]]))
    assert both.rows is None


def test_the_path_is_taken_as_it_is(tmp_path):
    statistics = FeatureStatistics.from_features(random_features(5, 3))
    for name in ("plain", "other.stats", "mine.npz"):
        statistics.save(tmp_path / name)
        assert FeatureStatistics.load(tmp_path / name).count == 5
    assert sorted(os.listdir(tmp_path)) == ["mine.npz", "other.stats", "plain"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failing_disk_leaves_the_old_file(saved, monkeypatch, failing):
    statistics, path = saved
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, failing, fail)
    with pytest.raises(StatisticsError, match=r"statistics.npz: cannot be written .*No space"):
        statistics.update(np.ones((1, 6))).save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_an_interrupt_leaves_no_temporary_file(saved, monkeypatch):
    statistics, path = saved

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        statistics.save(path)
    assert os.listdir(path.parent) == [path.name]


def test_save_errors(saved, tmp_path):
    statistics, path = saved
    with pytest.raises(StatisticsError, match="cannot be written"):
        statistics.save(path / "below_a_file.npz")
    with pytest.raises(StatisticsError, match="cannot be written"):
        statistics.save(tmp_path)
    with pytest.raises(StatisticsError, match="at least 2"):
        FeatureStatistics.from_features(np.ones((1, 4))).save(tmp_path / "one.npz")
    statistics.preprocessing = {"resize": object()}
    with pytest.raises(StatisticsError, match="preprocessing cannot be written as JSON"):
        statistics.save(path)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("dim", [3, 100])  # rows are folded, or kept
def test_different_features_are_counted_whatever_the_batches_and_merges(dim, tmp_path):
    rows = np.random.default_rng(0).normal(size=(30, dim)).astype(np.float32)
    rows[0, 0], copies = 0.0, np.concatenate([rows, rows[:20], -rows[:1] * -1])
    whole = FeatureStatistics.from_features(copies)
    parts = [FeatureStatistics.from_features(copies[i : i + 7]) for i in range(0, 51, 7)]
    assert whole.distinct == FeatureStatistics.merged(parts).distinct == 30
    whole.save(tmp_path / "x.npz")
    loaded = FeatureStatistics.load(tmp_path / "x.npz")
    assert loaded.distinct == 30
    assert loaded.merge(parts[0]).distinct is None  # which of them are the same is unknown
    assert parts[0].merge(FeatureStatistics.load(tmp_path / "x.npz")).distinct is None
    assert FeatureStatistics().distinct == 0


def test_different_features_are_counted_up_to_a_limit(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "SMALL_SAMPLE", 10)
    rows = np.random.default_rng(0).normal(size=(12, 3))
    found = [FeatureStatistics.from_features(rows[:n]) for n in (9, 10, 12)]
    assert [x.distinct for x in found] == [9, None, None]
    assert found[0].merge(FeatureStatistics.from_features(rows[5:])).distinct is None
    found[1].save(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as file:
        assert "distinct" not in file
    assert FeatureStatistics.load(tmp_path / "x.npz").distinct is None


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


MU, SIGMA = np.arange(3.0), np.diag([1.0, 2.0, 3.0])
NAN = np.where(SIGMA == 2, np.nan, SIGMA)
UNEVEN = SIGMA + np.array([[0, 1e-4, 0], [0, 0, 0], [0, 0, 0]])
BIG = npz(mu=np.random.default_rng(0).normal(size=500), sigma=np.eye(500))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an npz"),
        (b"FID: 12.5\n", "not an npz"),
        (npy(MU), "not an npz"),
        (BIG[: len(BIG) // 2], "truncated"),
        (BIG[:50], "truncated"),
        (BIG.replace(MU.tobytes()[8:16], b"\x01" * 8, 1), "truncated"),
        (npz(mean=MU, cov=SIGMA), r"no 'mu' and no 'sigma' in it \(keys found: cov, mean\)"),
        (npz(mu=MU), r"no 'sigma' in it \(keys found: mu\): expected an npz"),
        (zipped(), "keys found: none"),
        (zipped(mu=b"hello", sigma=b"world"), "mu is not an array"),
        (npz(mu=MU, sigma=np.array([{}, 1], object)), "pickled objects, which are never loaded"),
        (npz(mu=MU, sigma=SIGMA, count=np.array([None])), "pickled objects"),
        (npz(mu=MU, sigma=np.eye(2)), r"mu of shape \(3,\) and sigma of shape \(2, 2\)"),
        (npz(mu=MU[None], sigma=SIGMA), r"shape \(1, 3\)"),
        (npz(mu=MU, sigma=SIGMA[:2]), r"shape \(2, 3\)"),
        (npz(mu=np.empty(0), sigma=np.empty((0, 0))), r"expected \[d\] and \[d, d\]"),
        (npz(mu=MU, sigma=SIGMA.astype(str)), "sigma is of dtype <U"),
        (npz(mu=MU + 0j, sigma=SIGMA), "mu is of dtype complex128"),
        (npz(mu=MU, sigma=NAN), "1 of 9 entries of sigma are NaN or infinite"),
        (npz(mu=np.full(3, -np.inf), sigma=SIGMA), "3 of 3 entries of mu are NaN or infinite"),
        (npz(mu=MU, sigma=UNEVEN), "not symmetric.*1e-06 of the largest"),
        (npz(mu=MU, sigma=SIGMA - 1.5 * np.eye(3)), "negative variance, -0.5"),
        (npz(mu=MU, sigma=SIGMA, count=1), "count 1: expected a whole number of at least 2"),
        (npz(mu=MU, sigma=SIGMA, count=2.5), "count 2.5: expected a whole number"),
        (npz(mu=MU, sigma=SIGMA, count=np.nan), "count is nan"),
        (npz(mu=MU, sigma=SIGMA, count=1e300), r"count 1e\+300: expected a whole number"),
        (npz(mu=MU * 1e160, sigma=SIGMA), r"numbers of mu beyond 1e\+150: scale them down"),
        (npz(mu=MU, sigma=SIGMA * 1e305), r"numbers of sigma beyond 1e\+300"),
        (npz(mu=MU, sigma=SIGMA * 1e-305), "numbers of sigma below 1e-300: scale them up"),
        (npz(mu=MU, sigma=SIGMA, count=9, distinct=10), "distinct 10: expected 1 to 9"),
        (npz(mu=MU, sigma=SIGMA, distinct=1), "distinct 1: expected 1 to a known count"),
        (npz(mu=MU, sigma=SIGMA, count="many"), "count of dtype"),
        (npz(mu=MU, sigma=SIGMA, count=[3, 4]), "count of dtype"),
        (npz(mu=MU, sigma=SIGMA, fingerprint=7), "fingerprint of dtype"),
        (npz(mu=MU, sigma=SIGMA, versions="{"), "versions is not JSON"),
        (npz(mu=MU, sigma=SIGMA, versions="[]"), "versions is list: expected a JSON object"),
        (npz(mu=MU, sigma=SIGMA, format=99), "format 99 is newer"),
    ],
)
def test_bad_files_end_in_one_line_that_names_them(tmp_path, content, message):
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(FidMedError, match=message) as caught:
        FeatureStatistics.load(path)
    assert isinstance(caught.value, StatisticsError)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text


def test_a_member_that_a_damaged_directory_hides_is_not_taken_for_absent(tmp_path):
    content = npz(mu=MU, sigma=SIGMA, count=7)
    begin, path = content.rindex(b"PK\1\2"), tmp_path / "bad.npz"
    renamed = content[:begin] + content[begin:].replace(b"count", b"cnunt")
    # The comment of the member before now contains the entry of `count`.
    before = content.rindex(b"PK\1\2", 0, begin)
    length = struct.pack("<H", content.index(b"PK\5\6") - begin)
    swallowed = content[: before + 32] + length + content[before + 34 :]
    for damaged in (renamed, swallowed):
        path.write_bytes(damaged)
        with pytest.raises(StatisticsError, match=r"bad\.npz: cannot be read"):
            FeatureStatistics.load(path)


@pytest.mark.parametrize(
    ("shape", "unpacked", "message"),
    [
        ((5_000, 5_000), 1 << 20, r"mu of shape \(8,\) and sigma of shape \(5000, 5000\)"),
        ((24_000, 24_000), 1 << 20, "sigma of shape .* unpacks to 4,608,000,000 bytes"),
        ((1 << 40,), 1 << 20, "sigma of shape .* unpacks to 8,796,093,022,208 bytes"),
        ((8, 8), 257 << 20, "sigma of shape .* unpacks to 269,48"),
    ],
)
def test_arrays_are_not_unpacked_to_find_that_they_do_not_fit(tmp_path, shape, unpacked, message):
    path, header = tmp_path / "bomb.npz", io.BytesIO()
    entry = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, entry)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mu.npy", npy(np.zeros(8)))
        with archive.open("sigma.npy", "w", force_zip64=True) as member:
            member.write(header.getvalue())
            for _ in range((unpacked >> 20) - 1):
                member.write(bytes(1 << 20))
            member.write(bytes((1 << 20) - len(header.getvalue())))
    tracemalloc.start()
    with pytest.raises(StatisticsError, match=message):
        FeatureStatistics.load(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 16 << 20


def test_a_pipe_is_no_file_of_statistics(tmp_path):
    os.mkfifo(tmp_path / "x.npz")
    with pytest.raises(StatisticsError, match=r"x\.npz: is a pipe or a device"):
        FeatureStatistics.load(tmp_path / "x.npz")


@pytest.mark.parametrize(("scale", "message"), [(1e160, "beyond 1e"), (1e-160, "below 1e-150")])
def test_features_whose_squares_leave_float64_are_refused(scale, message):
    statistics = FeatureStatistics.from_features(np.eye(3))
    with pytest.raises(StatisticsError, match=f"^features {message}"):
        statistics.update(np.eye(3) * scale)
    assert statistics.count == 3


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(StatisticsError, match=r"none\.npz: no such file"):
        FeatureStatistics.load(tmp_path / "none.npz")
    with pytest.raises(StatisticsError, match="is a folder"):
        FeatureStatistics.load(tmp_path)


def test_tolerated_rounding_is_corrected():
    rng = np.random.default_rng(3)
    sigma = np.cov(rng.normal(size=(20, 6)), rowvar=False)
    noisy = sigma * (1 + 1e-8 * rng.normal(size=sigma.shape))
    loaded = FeatureStatistics.from_moments(np.zeros(6), noisy).covariance
    np.testing.assert_array_equal(loaded, loaded.T)
    np.testing.assert_allclose(loaded, sigma, rtol=1e-7)
    np.testing.assert_array_equal(
        FeatureStatistics.from_moments(np.zeros(6), sigma).covariance, sigma
    )
