"""What --metrics names, end to end on features: each number is its own function's."""

import json
import types

import numpy as np
import pytest
from helpers import rounding

from fid_med.data.preprocessing import Preprocessing
from fid_med.errors import DataError, SettingError, StatisticsError
from fid_med.evaluation import inputs
from fid_med.evaluation.compute import compute_fid, plan
from fid_med.evaluation.inputs import check_figures
from fid_med.evaluation.metric_registry import METRICS, check_metrics
from fid_med.evaluation.result import draw_figures
from fid_med.extractors.extractor import TrainingImages
from fid_med.metrics.debiased_fid import debiased_fid
from fid_med.metrics.feature_files import load_features, save_features
from fid_med.metrics.inception_score import inception_score
from fid_med.metrics.kid import kid_full
from fid_med.metrics.prdc import manifold_metrics
from fid_med.metrics.statistics import FeatureStatistics


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
    statistics, rows, groups, _ = load_features(files[0])
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
    with pytest.raises(StatisticsError, match="do not match its mu"):
        load_features(tmp_path / "x.npz")


def test_features_of_another_covariance_are_refused(files, features, tmp_path):
    with np.load(files[0]) as npz:
        np.savez(tmp_path / "x.npz", **{**npz, "sigma": npz["sigma"] * 1.001})
        np.savez(tmp_path / "y.npz", **{**npz, "sigma": npz["sigma"].astype(np.float32)})
    with pytest.raises(StatisticsError, match="do not match its mu, sigma and count"):
        load_features(tmp_path / "x.npz")
    assert load_features(tmp_path / "y.npz").statistics.count == 40


def test_each_number_is_its_own_functions(files, features):
    real, generated, patients = features
    result = compute_fid(*files, metrics=["debiased", "kid", "prdc"], confidence=0.9, seed=3)
    # What the verdict needs comes along, because the features are there.
    assert list(result.metrics) == ["fid", "debiased", "kid", "prdc", "permutation", "baseline"]
    expected = debiased_fid(real, generated, real_patients=patients, confidence=0.9, seed=3)
    assert result.metrics["debiased"] == expected.to_dict()
    whole = kid_full(real, generated, real_patients=patients)
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
    assert str(result) == f"{text}\nFID: {result.fid:.10g}"


def test_few_images_bring_what_the_verdict_needs_unasked(files):
    result = compute_fid(*files)
    assert list(result.metrics) == ["fid", "debiased", "permutation", "baseline"]
    assert result.metrics["debiased"]["low"] < result.metrics["debiased"]["value"]
    assert any("can be compared at any number of images" in line for line in result.warnings)


def test_bare_statistics_leave_it_out_with_the_reason(files, features, tmp_path):
    bare = tmp_path / "bare.npz"
    FeatureStatistics.from_features(features[1]).save(bare)
    result = compute_fid(files[0], bare)
    assert result.metrics["debiased"] is None
    assert "the generated statistics hold no features" in result.unavailable["debiased"]
    assert result.fid > 0
    with pytest.raises(StatisticsError, match="kid: the generated statistics hold no features"):
        compute_fid(files[0], bare, metrics=["kid"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["memorisation"]}, "metrics memorisation: needs --train_images"),
        ({"metrics": ["paired"]}, "metrics paired: needs --other_generated"),
        (
            {"train_images": "t"},
            "--train_images is used only by the metric memorisation; add memorisation to",
        ),
        (
            {"metrics": ["kid"], "other_generated": "t"},
            "other_generated is used only by the metric paired",
        ),
        ({"metrics": "debiased,kid"}, r"expected a list of names, such as \['debiased', 'kid'\]"),
        ({"extractor": types.SimpleNamespace()}, "extractor SimpleNamespace: expected a name"),
    ],
)
def test_a_metric_without_its_images_is_a_slip_as_are_images_without_it(options, message):
    with pytest.raises(SettingError, match=message):
        compute_fid("no_such_folder", "nor_this", **options)


@pytest.fixture
def unread(monkeypatch):
    """Extraction fails the test."""

    def extract(*_, **__):
        pytest.fail("images were read before the mistake was reported")

    monkeypatch.setattr(inputs, "extract", extract)


def test_a_classifier_that_is_missing_is_reported_before_images_are_read(
    shallow_extractor, phantoms, unread
):
    assert shallow_extractor.logits is None
    with pytest.raises(StatisticsError, match="Inception Score needs a classifier"):
        compute_fid(phantoms[0][:9], phantoms[0][9:], shallow_extractor, metrics=["is"])


def test_classes_that_are_missing_are_reported_before_images_are_read(
    shallow_extractor, phantoms, write_images, unread
):
    folder = write_images("flat", phantoms[0][:4])
    with pytest.raises(StatisticsError, match="real: --per_class needs a subfolder for each class"):
        compute_fid(folder, folder, shallow_extractor, per_class=True)
    array = phantoms[0][:4]
    with pytest.raises(StatisticsError, match="real: --per_class needs a folder of images"):
        compute_fid(array, array, shallow_extractor, per_class=True)


def test_saved_features_have_an_inception_score_too(features, files):
    weights = np.random.default_rng(0).normal(size=(12, 5))
    classifier = types.SimpleNamespace(
        name="classifier",
        num_features=12,
        fingerprint="f" * 64,
        preprocessing=Preprocessing(75, 75),
        logits=lambda x: x.astype(np.float64) @ weights,
        warnings=(),
    )
    result = compute_fid(*files, classifier, metrics=["is"])
    for side, rows in zip(("real", "generated"), features, strict=False):
        expected = inception_score(classifier.logits(rows), 10, order=0)
        assert result.metrics["is"][side] == {"mean": expected.mean, "std": expected.std}
    classifier.fingerprint = "e" * 64
    with pytest.raises(StatisticsError, match="extractor"):
        compute_fid(*files, classifier, metrics=["is"])


def test_unknown_metric_and_confidence():
    with pytest.raises(
        SettingError, match="metrics: unknown metric fud; choose from fid, debiased"
    ):
        check_metrics(["fud"])
    assert check_metrics(list(METRICS)) == tuple(METRICS)
    with pytest.raises(SettingError, match="confidence 95"):
        compute_fid("a", "b", confidence=95)


def test_images_through_every_metric(shallow_extractor, phantoms, write_images, tmp_path):
    images = phantoms[0]
    real = write_images("real", images[:20])
    generated = write_images("generated", np.concatenate([images[20:31], images[32:33]]))
    training = write_images("training", images[32:])
    wanted = ["memorisation", "difference", "paired"]
    result = compute_fid(
        real, generated, shallow_extractor, metrics=wanted, train_images=training,
        other_generated=images[:20],
    )  # fmt: skip
    found = result.metrics["memorisation"]
    assert found["copies"] == [11]
    assert found["pairs"][0]["training"] == 0
    assert found["pairs"][0]["generated_image"] == "011.png"
    assert found["pairs"][0]["training_image"] == "000.png"
    assert found["copied_images"] == ["011.png"]
    assert any(line.split()[:2] == ["copy", "011.png"] for line in result.summary())
    expected = f"{found['expected_authenticity']:.3f} expected of new real images"
    assert any(expected in line for line in result.summary())
    sides = result.to_dict()
    assert sides["training"]["count"] == len(images[32:])
    assert sides["other_generated"]["count"] == 20
    assert found["held_out_images"] == 20
    assert found["pixels_compared"]
    assert any("copying is likely: 1 of 12" in line for line in result.warnings)
    # The second set is the real one: nearer, whatever the chance.
    assert result.metrics["paired"]["value"] > 0
    named = [row["image"] for row in result.metrics["difference"]["generated_farthest"]]
    assert set(named) < {f"{i:03d}.png" for i in range(12)}
    parts = result.metrics["difference"]
    assert len(parts["real_contributions"]) == 20
    assert len(parts["generated_contributions"]) == 12
    assert sum(parts["generated_contributions"]) + parts["unreached"] == pytest.approx(result.fid)
    assert max(parts["generated_contributions"]) == parts["generated_farthest"][0]["contribution"]
    written = draw_figures(result, tmp_path / "figures")
    assert [path.rsplit("/", 1)[1] for path in written] == [
        "directions.png",
        "heatmaps.png",
        "closest_pairs.png",
    ]


@pytest.fixture
def class_folders(phantoms, write_images):
    """Folder of `real` and `generated`: two classes of 8 on each side, and a single wrist."""
    images = phantoms[0]
    for side, start in (("real", 0), ("generated", 16)):
        write_images(f"{side}/elbow", images[start : start + 8])
        write_images(f"{side}/neck", images[start + 8 : start + 16])
    return write_images("generated/wrist", images[32:33]).parent.parent


def test_classes_are_folders(shallow_extractor, class_folders):
    root = class_folders
    result = compute_fid(root / "real", root / "generated", shallow_extractor, per_class=True)
    assert [row["label"] for row in result.by_class] == ["elbow", "neck", "wrist"]
    alone = compute_fid(root / "real/elbow", root / "generated/elbow", shallow_extractor)
    np.testing.assert_allclose(result.by_class[0]["fid"], alone.fid, rtol=rounding.FID)
    assert result.by_class[2]["fid"] is None
    assert result.by_class[2]["reason"]
    with pytest.raises(StatisticsError, match="some images are directly in"):
        compute_fid(
            root / "real/elbow", root / "generated/elbow", shallow_extractor, per_class=True
        )


def test_what_differs_is_reported_by_class_too(shallow_extractor, class_folders, tmp_path):
    sides = class_folders / "real", class_folders / "generated"
    result = compute_fid(*sides, shallow_extractor, per_class=True, metrics=["difference"])
    elbow, neck, wrist = result.by_class
    assert wrist["directions"] == []
    alone = compute_fid(*(s / "neck" for s in sides), shallow_extractor, metrics=["difference"])
    first, expected = (
        rows[0] for rows in (neck["directions"], alone.metrics["difference"]["directions"])
    )
    assert first["share"] == pytest.approx(expected["share"], rel=rounding.FID)
    # The neck's images are the second eight of either side.
    assert first["real_low"] == [8 + i for i in expected["real_low"]]
    assert first["generated_high"] == [8 + i for i in expected["generated_high"]]
    assert set(elbow["directions"][0]["real_low"]) < set(range(8))
    written = draw_figures(result, tmp_path / "figures")
    assert [path.rsplit("/", 1)[1] for path in written] == [
        "directions.png",
        "directions_elbow.png",
        "directions_neck.png",
        "heatmaps.png",
    ]


def test_a_patient_on_both_sides_is_warned_of(shallow_extractor, phantoms, write_images):
    images = phantoms[0]
    real = write_images("real", images[:10], [f"p{i}_0.png" for i in range(10)])
    generated = write_images("other", images[10:20], [f"p{i}_1.png" for i in range(8, 18)])
    regex = "p[0-9]+"
    one = compute_fid(real, generated, shallow_extractor, patient_regex=regex)
    assert not any("in both sets" in line for line in one.warnings)
    both = compute_fid(
        real, generated, shallow_extractor, patient_regex=regex, generated_patient_regex=regex
    )
    assert any("2 patients have images in both sets" in line for line in both.warnings)


def test_repeats_within_a_side_are_warned_of(features, tmp_path):
    real, generated, patients = features
    twice = np.concatenate([generated, generated[:3]])
    paths = [tmp_path / f"{i}.npz" for i in range(2)]
    for path, rows, groups in zip(paths, (real, twice), (patients, None), strict=True):
        save_features(path, FeatureStatistics.from_features(rows), rows, groups)
    lines = compute_fid(*paths).warnings
    assert [line[:22] for line in lines if "as another generated" in line] == [
        "3 generated images have"[:22]
    ]
    groups = np.concatenate([np.arange(32), np.arange(3)])
    save_features(paths[1], FeatureStatistics.from_features(twice), twice, groups)
    assert not any("as another generated" in line for line in compute_fid(*paths).warnings)


@pytest.mark.parametrize(
    ("metrics", "sides", "message"),
    [
        (["kid"], ("a", "b"), "name one of them"),
        (None, ("a", "b"), "name one of them"),
        (["difference"], ("a.npz", "b"), "real: --figures reads the images a second time"),
        (
            ["memorisation"],
            ("a.npz", "b.npz"),
            "generated: --figures reads the images a second time",
        ),
    ],
)
def test_figures_that_cannot_be_drawn_are_reported_before_any_work(metrics, sides, message):
    with pytest.raises((DataError, SettingError), match=message):
        check_figures(metrics, *sides)
    check_figures(["memorisation"], "a.npz", "b")


def test_damaged_training_images_are_counted_and_named(shallow_extractor, phantoms, write_images):
    training = write_images("training", phantoms[0][:8])
    (training / "damaged.png").write_bytes(b"no image")
    result = compute_fid(
        phantoms[0][8:20], phantoms[0][20:], shallow_extractor, metrics=["memorisation"],
        train_images=training, skip_unreadable=True,
    )  # fmt: skip
    assert (result.training.count, result.training.skipped) == (8, 1)
    assert any(line.startswith("training: skipped damaged.png") for line in result.warnings)
    assert str(training) not in json.dumps(result.to_dict())
    assert "training: 8 images (folder), 1 skipped as unreadable" in result.summary()


def test_plan_needs_real_images_alone(files):
    found = plan(files[0], counts=[20, 200], patient_regex=None)
    reported = str(found).splitlines()
    assert reported[0].startswith(
        "Detected: the 95% interval of the debiased FID does not contain 0"
    )
    assert reported[2] == (
        f"200 images per side detect a true FID of {found.differences[1].difference:.4g} with "
        "80% power"
    )
    fewer, more = found.differences
    assert 0 < more.difference < fewer.difference
    assert more.real_patients == 20
    fields = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert fields["fingerprint"] == "f" * 64
    assert fields["real"]["count"] == 40
    assert fields["differences"][1]["difference"] == more.difference
    assert {"fid_med", "numpy"} <= set(fields["versions"])


def test_plan_leaves_training_images_out(shallow_extractor, phantoms, monkeypatch):
    images = phantoms[0]
    remembered = TrainingImages("ab" * 16)
    hasher = remembered.hasher()
    train = frozenset(hasher.digest(image) for image in images[:4])
    monkeypatch.setattr(shallow_extractor, "training_images", TrainingImages("ab" * 16, train))
    found = plan(images, shallow_extractor, counts=[20], exclude_training_images=True)
    assert (found.real.count, found.real.excluded) == (len(images) - 4, 4)
    assert not any("trained" in line for line in found.warnings)


@pytest.mark.parametrize(
    ("options", "message"), [({"counts": [5, 100]}, "plan 5"), ({"confidence": 95}, "confidence")]
)
def test_a_plan_that_cannot_be_is_reported_before_images_are_read(options, message, unread):
    with pytest.raises(SettingError, match=message):
        plan("no_such_folder", **options)
