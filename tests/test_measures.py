"""What --metrics names, end to end on features: each number is its own function's."""

import json

import numpy as np
import pytest

from fid_med.errors import SettingError, StatisticsError
from fid_med.evaluation import compute_fid, plan
from fid_med.fid_figures import draw_figures
from fid_med.measures import METRICS, check_metrics
from fid_med.metrics.feature_files import load_features, save_features
from fid_med.metrics.kernel import kid_full
from fid_med.metrics.manifold import manifold_metrics
from fid_med.metrics.statistics import FeatureStatistics
from fid_med.metrics.uncertainty import debiased_fid


@pytest.fixture(scope="module")
def features():
    """Two sides [40, 12] and [32, 12] with a known shift, and patients of two images each."""
    rng = np.random.default_rng(4)
    real = rng.normal(size=(40, 12)).astype(np.float32)
    generated = (rng.normal(size=(32, 12)) + 0.7).astype(np.float32)
    return real, generated, np.repeat([f"patient {i}" for i in range(20)], 2)


@pytest.fixture
def files(features, tmp_path):
    real, generated, patients = features
    paths = tmp_path / "real.npz", tmp_path / "generated.npz"
    for path, rows, groups in zip(paths, (real, generated), (patients, None), strict=True):
        statistics = FeatureStatistics.from_features(rows)
        statistics.fingerprint = "f" * 64
        statistics.preprocessing = {"height": 75, "width": 75, "resize": "tf1", "aspect": "pad"}
        save_features(path, statistics, rows, groups)
    return paths


def test_features_come_back_and_name_nobody(files, features):
    statistics, rows, groups = load_features(files[0])
    np.testing.assert_array_equal(rows, features[0])
    np.testing.assert_array_equal(groups, np.repeat(np.arange(20), 2))
    assert statistics.count == 40
    assert statistics.rows is not None or statistics.count > statistics.dim
    assert b"patient" not in files[0].read_bytes()
    with np.load(files[0], allow_pickle=False) as npz:  # TTUR's own keys stay
        np.testing.assert_allclose(npz["sigma"], np.cov(features[0].astype(float), rowvar=False))


def test_features_of_another_mean_are_refused(files, features, tmp_path):
    with np.load(files[0]) as npz:
        np.savez(tmp_path / "x.npz", **{**npz, "features": features[0] + np.float32(1)})
    with pytest.raises(StatisticsError, match="not those of its mu"):
        load_features(tmp_path / "x.npz")


def test_each_number_is_its_own_functions(files, features):
    real, generated, patients = features
    result = compute_fid(*files, metrics=["debiased", "kid", "prdc"], confidence=0.9, seed=3)
    assert list(result.metrics) == ["fid", "debiased", "kid", "prdc"]
    expected = debiased_fid(real, generated, real_groups=patients, confidence=0.9, seed=3)
    assert result.metrics["debiased"] == expected.to_dict()
    whole = kid_full(real, generated, real_groups=patients)
    # The patients' names became numbers, and so their order and the sums' last digit another.
    for key in ("value", "standard_error"):
        np.testing.assert_allclose(result.metrics["kid"][key], getattr(whole, key), rtol=1e-12)
    for name, value in manifold_metrics(real, generated)._asdict().items():
        assert result.metrics["prdc"][name] == value
    assert result.metrics["fid"]["value"] == result.fid
    parts = result.metrics["fid"]["mean_part"] + result.metrics["fid"]["covariance_part"]
    np.testing.assert_allclose(parts, result.fid, rtol=1e-12)
    json.dumps(result.to_dict(), allow_nan=False)
    text = "\n".join(result.summary())
    assert "debiased FID" in text
    assert "90%" in text
    assert "by patient" in text


def test_few_images_bring_the_debiased_fid_unasked(files):
    result = compute_fid(*files)
    assert list(result.metrics) == ["fid", "debiased"]
    assert result.metrics["debiased"]["low"] < result.metrics["debiased"]["value"]
    assert any("compare at any counts" in line for line in result.warnings)


def test_bare_statistics_leave_it_out_with_the_reason(files, features, tmp_path):
    bare = tmp_path / "bare.npz"
    FeatureStatistics.from_features(features[1]).save(bare)
    result = compute_fid(files[0], bare)
    assert result.metrics["debiased"] is None
    assert "generated: statistics without the features" in result.unavailable["debiased"]
    assert result.fid > 0
    with pytest.raises(StatisticsError, match="kid: the generated side is bare statistics"):
        compute_fid(files[0], bare, metrics=["kid"])


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("is", "is: the Inception Score needs a classifier"),
        ("memorisation", "memorisation: .*--train_images"),
        ("paired", "paired: .*--other_generated"),
    ],
)
def test_what_is_missing_is_told(files, metric, message):
    with pytest.raises(StatisticsError, match=message):
        compute_fid(*files, metrics=[metric])


def test_unknown_metric_and_confidence():
    with pytest.raises(SettingError, match="metrics fud: unknown; known are fid, debiased"):
        check_metrics(["fud"])
    assert check_metrics(METRICS) == METRICS
    with pytest.raises(SettingError, match="confidence 95"):
        compute_fid("a", "b", confidence=95)


def test_images_through_every_metric(small_extractor, phantoms, write_images, tmp_path):
    images = phantoms[0]
    real = write_images("real", images[:20])
    generated = write_images("generated", np.concatenate([images[20:31], images[32:33]]))
    training = write_images("training", images[32:])
    wanted = ["memorisation", "difference", "paired"]
    result = compute_fid(
        real, generated, small_extractor, metrics=wanted, train_images=training,
        other_generated=images[:20],
    )  # fmt: skip
    found = result.metrics["memorisation"]
    assert found["copies"] == [11]
    assert found["pairs"][0]["training"] == 0
    assert found["held_out_images"] == 20
    assert found["pixels_compared"]
    assert any("copying is likely: 1 of 12" in line for line in result.warnings)
    # The second set is the real one: nearer, whatever the chance.
    assert result.metrics["paired"]["value"] > 0
    named = [row["image"] for row in result.metrics["difference"]["generated_farthest"]]
    assert set(named) < {f"{i:03d}.png" for i in range(12)}
    written = draw_figures(result, tmp_path / "figures")
    assert [path.rsplit("/", 1)[1] for path in written] == ["directions.png", "closest_pairs.png"]


def test_classes_are_folders(small_extractor, phantoms, write_images):
    images = phantoms[0]
    for side, start in (("real", 0), ("generated", 16)):
        write_images(f"{side}/elbow", images[start : start + 8])
        folder = write_images(f"{side}/neck", images[start + 8 : start + 16])
    write_images("generated/wrist", images[32:33])
    root = folder.parent.parent
    result = compute_fid(root / "real", root / "generated", small_extractor, per_class=True)
    assert [row["label"] for row in result.by_class] == ["elbow", "neck", "wrist"]
    alone = compute_fid(root / "real/elbow", root / "generated/elbow", small_extractor)
    np.testing.assert_allclose(result.by_class[0]["fid"], alone.fid, rtol=1e-6)
    assert result.by_class[2]["fid"] is None
    assert result.by_class[2]["reason"]
    with pytest.raises(StatisticsError, match="some images lie in none"):
        compute_fid(root / "real/elbow", root / "generated/elbow", small_extractor, per_class=True)


def test_plan_needs_real_images_alone(files):
    fewer, more = plan(files[0], counts=[20, 200], patient_regex=None)
    assert 0 < more.difference < fewer.difference
    assert more.real_patients == 20
