"""The cache: a killed run continues to the same bits; changed images and damage are noticed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers.script_runs import ROOT
from PIL import Image

from fid_med.data.sources import open_source
from fid_med.errors import UnreadableImageError
from fid_med.evaluation import feature_cache
from fid_med.evaluation.extraction import ExtractionOptions, extract
from fid_med.evaluation.feature_cache import FeatureCache

COUNT = 60
IMAGES = np.random.default_rng(1).integers(0, 256, (COUNT, 8, 8), dtype=np.uint8)


class Stub:
    """An extractor without a network: features that no rounding can hide."""

    name, num_features, training_images = "stub", 8, None

    def __init__(self, fingerprint="0" * 64, stop_after=None):
        from fid_med.data.preprocessing import Preprocessing

        self.preprocessing = Preprocessing(8, 8)
        self.fingerprint = self.cache_key = fingerprint
        self.seen, self.stop_after = 0, stop_after

    def compiled(self, dtype):
        pass

    def extract_batch(self, pixels, pad_to=0):
        if self.stop_after is not None and self.seen >= self.stop_after:
            raise KeyboardInterrupt
        self.seen += len(pixels)
        return np.sqrt(pixels[:, 0, :, 0].astype(np.float32))


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(feature_cache, "_SHARD_ROWS", 8)


@pytest.fixture
def folder(write_images):
    return write_images("Doe_Jane", IMAGES)


def run(folder, cache, stub=None, **options):
    stub = stub or Stub()
    source = open_source(folder, "images")
    made = extract(
        source,
        stub,
        ExtractionOptions(batch_size=7, cache_dir=cache, **options),
        keep_features=True,
    )
    return made, stub.seen


def assert_same(one, other):
    np.testing.assert_array_equal(one.features, other.features)
    np.testing.assert_array_equal(one.statistics.mean, other.statistics.mean)
    np.testing.assert_array_equal(one.statistics.covariance, other.statistics.covariance)
    assert (one.names, one.digests) == (other.names, other.digests)


def test_an_interrupted_run_goes_on_to_the_same_bits(folder, tmp_path):
    plain, _ = run(folder, None)
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "cache", Stub(stop_after=25))
    resumed, seen = run(folder, tmp_path / "cache")
    assert seen == COUNT - 28  # batches of 7: all four that were done are there
    assert resumed.account.cached == 28
    assert_same(resumed, plain)
    again, seen = run(folder, tmp_path / "cache")
    assert seen == 0
    assert_same(again, plain)


def test_a_killed_process_loses_no_more_than_a_shard(folder, tmp_path):
    script = f"""
import time
from tests_of_cache import Stub, run
class Slow(Stub):
    def extract_batch(self, pixels, pad_to=0):
        time.sleep(0.05)
        return super().extract_batch(pixels)
from fid_med.evaluation import feature_cache
feature_cache._SHARD_ROWS = 8
run({str(folder)!r}, {str(tmp_path / "cache")!r}, Slow())
"""
    (tmp_path / "tests_of_cache.py").write_text(
        f"import importlib.util as u\ns = u.spec_from_file_location('m', {__file__!r})\n"
        "m = u.module_from_spec(s)\ns.loader.exec_module(m)\nStub, run = m.Stub, m.run\n"
    )
    paths = os.pathsep.join(map(str, (tmp_path, ROOT, ROOT / "tests")))
    environment = os.environ | {"PYTHONPATH": paths}
    process = subprocess.Popen([sys.executable, "-c", script], env=environment)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list(tmp_path.glob("cache/*/[!.]*.npz"))) < 2:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    resumed, seen = run(folder, tmp_path / "cache")
    assert 0 < seen <= COUNT - 16
    assert not resumed.warnings
    assert_same(resumed, run(folder, None)[0])


def test_a_shard_is_written_after_some_seconds_however_few_images(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "_SHARD_ROWS", 1000)
    times = iter(np.arange(1000) * 1.0)
    monkeypatch.setattr(feature_cache.time, "monotonic", lambda: next(times))
    cache = FeatureCache(tmp_path, "0" * 64, 1)
    for i in range(19):
        cache.put(bytes([i]) * 32, np.array([i], "f4"), ())
    written = FeatureCache(tmp_path, "0" * 64, 1)  # nothing was flushed: the process was killed
    assert 10 <= len(written) < 19
    assert len(list(tmp_path.glob("*/*.npz"))) <= 4


def test_a_changed_image_is_noticed_though_size_and_time_stay(folder, tmp_path):
    for path in folder.iterdir():  # bitmaps: same size whatever the pixels
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    run(folder, tmp_path / "cache")
    path = folder / "005.bmp"
    before = path.stat()
    Image.fromarray(255 - IMAGES[5]).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    changed, seen = run(folder, tmp_path / "cache")
    assert seen == 1
    np.testing.assert_array_equal(changed.features[5], np.sqrt(255.0 - IMAGES[5, 0]).astype("f4"))


def test_renamed_and_repeated_images_are_known_by_their_content(folder, tmp_path):
    run(folder, tmp_path / "cache")
    (folder / "003.png").rename(folder / "z.png")
    (folder / "copy.png").write_bytes((folder / "004.png").read_bytes())
    renamed, seen = run(folder, tmp_path / "cache")
    assert (seen, renamed.account.count, renamed.account.cached) == (0, COUNT + 1, COUNT + 1)
    assert_same(renamed, run(folder, None)[0])


def test_extractors_do_not_share(folder, tmp_path):
    run(folder, tmp_path / "cache")
    assert run(folder, tmp_path / "cache", Stub("1" * 64))[1] == COUNT
    assert run(folder, tmp_path / "cache")[1] == 0


def test_other_versions_are_computed_again(folder, tmp_path, monkeypatch):
    run(folder, tmp_path / "cache")
    known = feature_cache.versions()
    monkeypatch.setattr(feature_cache, "versions", lambda: known | {"scipy": "0"})
    assert run(folder, tmp_path / "cache")[1] == 0
    monkeypatch.setattr(feature_cache, "versions", lambda: known | {"pillow": "0"})
    assert run(folder, tmp_path / "cache")[1] == COUNT


def flip(data, place):
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"no zip",
        lambda data: flip(data, data.index(b"features.npy") + 200),  # in the numbers
        lambda data: flip(data, data.index(b"keys.npy") + 200),
        lambda data: flip(data, data.index(b"digests.npy") + 200),
    ],
    ids=["cut", "empty", "text", "feature", "key", "digest"],
)
def test_a_damaged_shard_is_reported_and_computed_again(damage, folder, tmp_path):
    plain, _ = run(folder, tmp_path / "cache")
    shards = sorted(tmp_path.glob("cache/*/*.npz"))
    shards[2].write_bytes(damage(shards[2].read_bytes()))
    repeated, seen = run(folder, tmp_path / "cache")
    assert 1 <= seen <= 8
    assert any("damaged" in line for line in repeated.warnings)
    assert_same(repeated, plain)


def test_a_shard_of_another_form_is_damaged(folder, tmp_path):
    plain, _ = run(folder, tmp_path / "cache")
    shard = sorted(tmp_path.glob("cache/*/*.npz"))[0]
    with np.load(shard) as file:
        arrays = dict(file)
    np.savez(shard, **(arrays | {"features": arrays["features"][:, :4]}))
    repeated, seen = run(folder, tmp_path / "cache")
    assert 1 <= seen <= 8
    assert_same(repeated, plain)


def rewrite(shard, change):
    with np.load(shard) as file:
        arrays = dict(file)
    change(arrays)
    np.savez(shard, **arrays)


def _nan(arrays):
    arrays["features"][0, 3] = np.nan


def _foreign(arrays):
    arrays["features"] = np.roll(arrays["features"], 1, axis=0)


def _foreign_keys(arrays):
    arrays["keys"] = np.roll(arrays["keys"], 1, axis=0)


def _nan_of_an_earlier_version(arrays):
    _nan(arrays)
    del arrays["checksum"]


@pytest.mark.parametrize("change", [_nan, _foreign, _foreign_keys, _nan_of_an_earlier_version])
def test_rows_that_are_not_its_own_are_computed_again(change, folder, tmp_path):
    plain, _ = run(folder, tmp_path / "cache")
    for shard in sorted(tmp_path.glob("cache/*/*.npz"))[:3]:
        rewrite(shard, change)
    repeated, seen = run(folder, tmp_path / "cache")
    assert 3 <= seen <= 3 * 14
    (line,) = [line for line in repeated.warnings if "damaged" in line]
    assert "and 2 more damaged" in line
    assert_same(repeated, plain)
    again, seen = run(folder, tmp_path / "cache")
    assert seen == 0
    assert not any("damaged" in line for line in again.warnings)


def test_a_shard_of_another_extractor_is_not_taken(folder, tmp_path):
    plain, _ = run(folder, tmp_path / "cache")
    (own,) = tmp_path.glob("cache/*")
    run(folder, tmp_path / "cache", Stub("1" * 64))
    (other,) = set(tmp_path.glob("cache/*")) - {own}
    for shard in own.glob("*.npz"):
        shard.unlink()
    for shard in other.glob("*.npz"):
        shard.rename(own / shard.name)
    repeated, seen = run(folder, tmp_path / "cache")
    assert seen == COUNT
    assert_same(repeated, plain)


def test_shards_of_earlier_versions_are_used(folder, tmp_path):
    run(folder, tmp_path / "cache")
    for shard in tmp_path.glob("cache/*/*.npz"):
        rewrite(shard, lambda arrays: arrays.pop("checksum"))
    assert run(folder, tmp_path / "cache")[1] == 0


def _in_process(folder, cache, results):
    made, seen = run(folder, cache)
    results.put((seen, made.statistics.mean, made.statistics.covariance))


def test_two_processes_on_one_cache_do_no_harm(folder, tmp_path):
    context, plain = multiprocessing.get_context("fork"), run(folder, None)[0]
    results = context.Queue()
    processes = [
        context.Process(target=_in_process, args=(folder, tmp_path / "cache", results))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    for _ in processes:
        _, mean, covariance = results.get(timeout=60)
        np.testing.assert_array_equal(mean, plain.statistics.mean)
        np.testing.assert_array_equal(covariance, plain.statistics.covariance)
    for process in processes:
        process.join()
    after, seen = run(folder, tmp_path / "cache")
    assert seen == 0
    assert_same(after, plain)


def test_shards_are_bounded_and_name_nobody(folder, tmp_path):
    run(folder, tmp_path / "cache")
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(files) >= COUNT // 8
    for path in files:
        assert b"Doe" not in path.read_bytes()
        assert "Doe" not in str(path.relative_to(tmp_path))
        with np.load(path) as shard:
            assert set(shard.files) == {"keys", "features", "digests", "appearance", "checksum"}
            assert len(shard["keys"]) <= 14  # a batch of 7 may come on top of 7


def test_unreadable_images_are_not_kept(folder, tmp_path):
    (folder / "010.png").write_text("no image")
    with pytest.raises(UnreadableImageError, match=r"010\.png"):
        run(folder, tmp_path / "cache")
    for _ in range(2):
        made, _ = run(folder, tmp_path / "cache", skip_unreadable=True)
        assert (made.account.count, made.account.skipped) == (COUNT - 1, 1)


def test_a_full_disk_costs_the_cache_and_not_the_run(folder, tmp_path, monkeypatch):
    def full(path, arrays):
        raise feature_cache.StatisticsError(f"{path.name}: cannot be written (disk full)")

    monkeypatch.setattr(feature_cache, "write_npz", full)
    made, _ = run(folder, tmp_path / "cache")
    assert_same(made, run(folder, None)[0])
    assert sum("disk full" in line for line in made.warnings) >= 1


def test_a_folder_that_cannot_be_written_is_reported_at_once(folder, tmp_path):
    (tmp_path / "file").write_text("")
    stub = Stub()
    with pytest.raises(OSError, match="file"):
        run(folder, tmp_path / "file", stub)
    assert stub.seen == 0


def test_numbers_that_are_none_are_not_kept(tmp_path):
    with FeatureCache(tmp_path, "0" * 64, 2, ("00" * 16,)) as cache:
        cache.put(b"a" * 32, np.array([1, np.nan], "f4"), ("00" * 16,))
        cache.put(b"b" * 32, np.array([1, 2], "f4"), ("11" * 16,))
    cache = FeatureCache(tmp_path, "0" * 64, 2, ("00" * 16,))
    assert len(cache) == 1
    assert cache.get(b"a" * 32) is None
    assert cache.get(b"b" * 32).digests == ("11" * 16,)


def test_arrays_pass_the_cache_by(tmp_path):
    assert run(IMAGES, tmp_path / "cache")[1] == COUNT
    assert not (tmp_path / "cache").exists()
