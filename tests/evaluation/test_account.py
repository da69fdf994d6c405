"""The account of images: how the training used them, blank images, repeats, few patients."""

import dataclasses

import numpy as np
import pytest

from fid_med.data.preprocessing import Preprocessing
from fid_med.data.sources import open_source
from fid_med.errors import StatisticsError
from fid_med.evaluation import compute
from fid_med.evaluation.account import (
    ImageAccount,
    few_patients_warnings,
    repeated_image_warnings,
    repeated_images,
)
from fid_med.evaluation.compute import compute_fid
from fid_med.evaluation.extraction import IF_SMALL, ExtractionOptions, FeatureSet, extract
from fid_med.evaluation.metric_registry import METRICS
from fid_med.extractors.extractor import TrainingImages
from fid_med.metrics.debiased_fid import debiased_fid

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)


class Stub:
    """An extractor without a network: a feature is a pixel."""

    name, num_features = "stub", 8
    fingerprint = cache_key = "0" * 64
    warnings, logits = (), None

    def __init__(self, training_images=None):
        self.preprocessing, self.training_images = Preprocessing(8, 8), training_images

    def compiled(self, dtype):
        pass

    def extract_batch(self, pixels, pad_to=0):
        return pixels[:, 0, :, 0].astype(np.float32)


def account_of(images, training_images=None, **options):
    source = images if hasattr(images, "loaders") else open_source(images, "real")
    made = extract(source, Stub(training_images), ExtractionOptions(**options))
    return made.account, made.warnings


def test_trained_and_validated_images_are_distinguished():
    memory = TrainingImages("ab" * 16)
    digests = [memory.hasher().digest(image) for image in IMAGES]
    memory = dataclasses.replace(
        memory, train=frozenset(digests[:6]), validation=frozenset(digests[4:9])
    )
    account, _ = account_of(IMAGES, memory, exclude_training_images=True)
    assert (account.count, account.excluded, account.validated_on) == (11, 9, 3)
    assert account.describe() == (
        "11 images (array), 9 excluded as training images (6 trained on, 3 validated on)"
    )
    account, (warning,) = account_of(IMAGES, memory)
    assert (account.seen_in_training, account.validated_on) == (9, 3)
    assert "has seen 9 of these 20 images (6 trained on, 3 validated on), which" in warning


def test_accounts_of_an_earlier_version_can_be_read():
    account = ImageAccount("folder", 40, 0, 160, 0, 0)
    assert account.describe() == "40 images (folder), 160 excluded as training images"
    assert account.blank_warnings("real") == []


@pytest.mark.parametrize(
    ("value", "field", "words"),
    [(0, "black", "nearly black"), (255, "white", "nearly white"), (99, "uniform", "one grey")],
)
def test_a_set_of_blank_images_is_a_warning(value, field, words):
    images = IMAGES.copy()
    images[:2] = value
    account, (warning,) = account_of(images)
    assert getattr(account, field) == 2
    assert warning.startswith("real: 2 of 20 images are ")
    assert words in warning
    images[1] = IMAGES[1]  # one in twenty is no property of the set
    account, warnings = account_of(images)
    assert getattr(account, field) == 1
    assert warnings == []


def test_blank_images_from_the_cache_are_a_warning_too(write_images, tmp_path):
    folder = write_images("generated", np.zeros((4, 8, 8), np.uint8))
    found = [account_of(folder, cache_dir=tmp_path / "cache") for _ in range(2)]
    assert [account.cached for account, _ in found] == [0, 4]
    assert found[0][1] == found[1][1]
    assert "4 of 4 images are nearly black" in found[1][1][0]


def feature_set(features, names):
    return FeatureSet(None, None, features=features, names=names)


def test_repeated_images_are_named():
    rng = np.random.default_rng(0)
    real, generated = (rng.normal(size=(14, 3)).astype(np.float32) for _ in range(2))
    real[9:] = real[2]
    generated[5], generated[7] = real[2], generated[1]
    sides = (
        feature_set(real, [f"r{i}.png" for i in range(14)]),
        feature_set(generated, None),  # features from a file have no names
    )
    fields = debiased_fid(real, generated, replicates=4).to_dict()
    fields["repeated"] = repeated_images(*sides, fields)
    assert fields["repeated"] == {
        "shared": [[5, "r2.png"]],
        "real": [[f"r{i}.png", "r2.png"] for i in range(9, 14)],
        "generated": [[7, 1]],
    }
    shared, of_real, of_generated = repeated_image_warnings(fields)
    assert (
        "1 generated image has the same features as a real image (image 5 repeats r2.png);"
        in shared
    )
    assert (
        "(r9.png repeats r2.png, r10.png repeats r2.png, r11.png repeats r2.png and 2 more);"
    ) in of_real
    assert "(image 7 repeats image 1)" in of_generated


def test_without_repeats_nothing_is_named():
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(9, 3)).astype(np.float32) for _ in range(2)]
    fields = debiased_fid(*rows, replicates=4).to_dict()
    assert repeated_images(*(feature_set(x, None) for x in rows), fields) == {}
    assert repeated_image_warnings(fields) == []


MANY = np.random.default_rng(1).integers(0, 256, (2100, 8, 8), dtype=np.uint8)


def _counted(comparison):
    assert sorted(len(x) for x in comparison.features) == [2056, 2100]
    raise StatisticsError("not computed here")


@pytest.mark.parametrize("copied", ["real", "generated"])
def test_copies_are_no_images(copied, monkeypatch):
    # Debiased FIDs of 2,000 images take a minute.
    monkeypatch.setattr(compute, "PARTS", ("debiased",))
    monkeypatch.setitem(
        METRICS, "debiased", dataclasses.replace(METRICS["debiased"], compute=_counted)
    )
    sides = {"real": MANY, "generated": MANY[::-1] // 2, copied: np.tile(IMAGES[:8], (257, 1, 1))}
    result = compute_fid(**sides, extractor=Stub())
    assert (getattr(result, copied).count, getattr(result, copied).distinct) == (2056, 8)
    small = [line for line in result.warnings if line.startswith("fewer than 2048")]
    assert "different images per side (8 among 2056, the others are copies)" in small[0]
    assert "debiased" in result.unavailable


def test_statistics_without_features_tell_copies_too(tmp_path):
    source = open_source(np.tile(IMAGES[:8], (257, 1, 1)), "real")
    extract(source, Stub()).save(tmp_path / "copies.npz")
    extract(open_source(MANY, "generated"), Stub()).save(tmp_path / "many.npz")
    result = compute_fid(tmp_path / "copies.npz", tmp_path / "many.npz")
    assert (result.real.count, result.real.distinct) == (2056, 8)
    assert (result.generated.count, result.generated.distinct) == (2100, None)
    assert "(8 among 2056, the others are copies)" in "".join(result.warnings)


def test_of_many_different_images_nothing_is_added_or_kept():
    result = compute_fid(MANY, MANY[::-1] // 2, Stub())
    assert (result.real.count, result.real.distinct) == (2100, None)
    assert result.warnings == []
    assert set(result.metrics) == {"fid"}
    assert result.features == {"real": None, "generated": None}


def test_features_kept_for_copies_only_do_not_fill_the_memory():
    source = open_source(MANY, "real")
    kept = [
        extract(source, Stub(), keep_features=IF_SMALL, memory_limit=limit).features is not None
        for limit in (2100 * 8 * 4, 2099 * 8 * 4)
    ]
    assert kept == [True, False]


def test_few_patients_of_generated_images_say_drop_the_flag():
    patients = ["a", "b", "c"] * 10
    (line,) = few_patients_warnings("generated", "generated_patient_regex", patients)
    assert line == (
        "generated: --generated_patient_regex finds only 3 patients in 30 images, and an interval "
        "needs 8; drop it, because generated images have no patients"
    )
    (line,) = few_patients_warnings("real", "patient_regex", ["a"] * 30)
    assert "--patient_regex finds only 1 patient in 30 images" in line
    assert "if every image is of another patient" in line
    assert few_patients_warnings("real", "patient_regex", list("abcdefgh")) == []
    assert few_patients_warnings("real", "patient_regex", None) == []
