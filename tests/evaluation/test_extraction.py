"""extract: the same digits whatever the batch, what it keeps, and what memory it takes."""

import functools

import numpy as np
import pytest
from helpers import rounding

from fid_med.data.patients import patients_of
from fid_med.data.sources import ImageSource, open_source
from fid_med.errors import DataError, SettingError
from fid_med.evaluation.extraction import PIXEL_HASHER, ExtractionOptions
from fid_med.evaluation.extraction import extract as extract_source
from fid_med.evaluation.feature_cache import FeatureStore


def extract(images, extractor, batch_size=32, **options):
    source = images if isinstance(images, ImageSource) else open_source(images, "images")
    return extract_source(source, extractor, ExtractionOptions(batch_size), **options)


def same(one, other):
    pairs = [(x.statistics.mean, x.statistics.covariance) for x in (one, other)]
    return all(np.array_equal(a, b) for a, b in zip(*pairs, strict=True))


def test_no_bit_depends_on_the_batch_size(phantoms, shallow_extractor):
    whole = extract(phantoms[0][:21], shallow_extractor, keep_features=True, batch_size=64)
    # 20 leaves a last batch of one image, which a network would sum in another order.
    for size in (1, 2, 5, 20):
        part = extract(phantoms[0][:21], shallow_extractor, keep_features=True, batch_size=size)
        # To the bit where this was written; another processor may choose its sums by the batch.
        largest = np.abs(whole.features).max()
        tolerance = rounding.FEATURES * largest
        assert np.abs(part.features - whole.features).max() <= tolerance
        # Products of two features each.
        np.testing.assert_allclose(
            part.statistics.covariance, whole.statistics.covariance, rtol=0,
            atol=2 * tolerance * largest,
        )  # fmt: skip


class Stub:
    """An extractor without a network: a feature is a pixel."""

    name, fingerprint, num_features, training_images = "stub", "0" * 64, 8, None

    def __init__(self):
        from fid_med.data.preprocessing import Preprocessing

        self.preprocessing = Preprocessing(8, 8)
        self.seen = 0

    def compiled(self, dtype):
        assert dtype == np.uint8

    def extract_batch(self, pixels, pad_to=0):
        self.seen += len(pixels)
        return pixels[:, 0, :, 0].astype(np.float32)


IMAGES = np.random.default_rng(0).integers(0, 256, (1500, 8, 8), dtype=np.uint8)


def test_rows_that_wait_for_a_block_are_all_counted():
    for count in (2, 511, 512, 513, 1500):
        for size in (7, 1000):
            made = extract(IMAGES[:count], Stub(), batch_size=size)
            assert made.account.count == count
            rows = IMAGES[:count, 0].astype(np.float64)
            np.testing.assert_allclose(made.statistics.mean, rows.mean(axis=0), rtol=1e-12)
            np.testing.assert_allclose(
                made.statistics.covariance, np.cov(rows, rowvar=False), rtol=1e-10
            )
        assert same(made, extract(IMAGES[:count], Stub(), batch_size=1))


@pytest.mark.parametrize("limit", [1 << 20, 100], ids=["memory", "file"])
def test_features_come_with_names_digests_and_patients(limit, write_images):
    names = [f"p{i // 3:02d}_{i}.png" for i in range(12)]
    folder = write_images("set", IMAGES[:12], names)
    made = extract(
        folder, Stub(), keep_features=True, batch_size=5, patient_regex=r"^(p\d+)_",
        memory_limit=limit,
    )  # fmt: skip
    assert isinstance(made.features, np.memmap) == (limit == 100)
    order = np.argsort(names)
    np.testing.assert_array_equal(made.features, IMAGES[order, 0].astype(np.float32))
    assert made.names == sorted(names)
    assert made.patients.tolist() == [name[:3] for name in sorted(names)]
    assert made.digests == [PIXEL_HASHER.digest(IMAGES[i]) for i in order]


def test_nothing_of_single_images_is_kept_unasked():
    made = extract(IMAGES[:5], Stub())
    assert (made.features, made.names, made.digests, made.patients) == (None,) * 4


def test_store_grows_without_knowing_the_end():
    for limit in (0, 100, 1 << 20):
        store, rows = FeatureStore(3, limit), np.arange(60, dtype=np.float32).reshape(20, 3)
        for part in np.split(rows, [1, 1, 8, 9]):
            store.append(part)
        np.testing.assert_array_equal(store.array(), rows)
        np.testing.assert_array_equal(store.array(), rows)
        store.append(rows[:2])
        assert store.array().shape == (22, 3)
    assert FeatureStore(3).array().shape == (0, 3)


def test_a_wrong_patient_regex_costs_no_work(write_images):
    folder, stub = write_images("set", IMAGES[:5]), Stub()
    for expression in ("(", "^x"):
        with pytest.raises((DataError, SettingError), match="patient_regex"):
            extract(folder, stub, keep_features=True, patient_regex=expression)
    with pytest.raises(DataError, match="works only for a folder, because it reads file names"):
        extract(IMAGES[:5], stub, patient_regex=".")
    assert stub.seen == 0


def test_ignored_files_are_in_the_account_and_a_warning(write_images):
    folder = write_images("set", IMAGES[:3])
    (folder / "film.GIF").write_bytes(b"GIF89a")
    write_images("set/@eaDir", IMAGES[:3])
    found = extract(folder, Stub())
    assert found.account.ignored == {".gif": 1, "@eaDir": 1}
    assert found.account.describe() == "3 images (folder), 2 other files ignored"
    assert any(line.endswith("1 .gif, 1 @eaDir") for line in found.warnings)


def test_patients_are_the_first_group_or_the_match():
    assert patients_of(["a/12_3.png", "b/45_6.png"], r"^(\d+)_") == ["12", "45"]
    assert patients_of(["a/12_3.png"], r"^\d") == ["1"]
    with pytest.raises(DataError, match="names, such as x/y"):
        patients_of(["x/y.png"], r"^(\d*)")


def test_network_is_compiled_while_images_are_read():
    """The first image alone is there when compiling begins; the others are decoded meanwhile."""
    import threading

    read, all_read = [], threading.Event()

    def load(i):
        read.append(i)
        if len(read) == 30:
            all_read.set()
        return IMAGES[i]

    class Slow(Stub):
        def compiled(self, dtype):
            assert all_read.wait(20), "nothing was read while the network was compiled"

    loaders = [(str(i), functools.partial(load, i)) for i in range(30)]
    extract(ImageSource("array", "x", loaders), Slow())
