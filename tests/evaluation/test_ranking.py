"""compare_generators: its numbers are those of compute_fid, and what it refuses."""

import json

import numpy as np
import pytest
from PIL import Image

from fid_med.data import sources
from fid_med.errors import DataError, FidMedError, SettingError, StatisticsError
from fid_med.evaluation import ranking, ranking_plot
from fid_med.evaluation.compute import compute_fid
from fid_med.evaluation.inputs import set_names
from fid_med.evaluation.ranking import compare_generators
from fid_med.evaluation.ranking_result import is_run
from fid_med.metrics.feature_files import save_features
from fid_med.metrics.statistics import FeatureStatistics


@pytest.fixture
def features_file(tmp_path):
    """Writes features [count, 6] shifted by `shift`, and returns the path."""

    def write(name, shift=0.0, count=20, patients=None, **attributes):
        rng = np.random.default_rng(sum(name.encode()))
        rows = (rng.standard_normal((count, 6)) + shift).astype(np.float32)
        statistics = FeatureStatistics.from_features(rows)
        statistics.fingerprint, statistics.extractor = "ab" * 32, "stub"
        fields = {"height": 75, "width": 75, "resize": "antialias", "aspect": "stretch"}
        statistics.preprocessing = fields
        for key, value in attributes.items():
            setattr(statistics, key, value)
        save_features(tmp_path / name, statistics, rows, patients)
        return tmp_path / name

    return write


@pytest.fixture
def files(features_file):
    """Real features, and three generated sets, the middle one the best."""
    shifts = {"far": 2.0, "near": 0.0, "middle": 0.8}
    return features_file("real.npz"), {k: features_file(f"{k}.npz", v) for k, v in shifts.items()}


def test_every_set_has_the_numbers_of_compute_fid(
    phantoms, shallow_extractor, write_images, monkeypatch, capsys
):
    images = phantoms[0]
    real = write_images("real", images[:16])
    noisy = np.clip(images[16:28] + np.random.default_rng(0).normal(0, 60, (12, 80, 80)), 0, 255)
    asked = []
    generated = {
        "noisy": write_images("noisy", noisy.astype(np.uint8)),
        "clean": images[28:],
        "network": lambda count: asked.append(count) or images[16 : 16 + count],
    }
    read, reads = sources.read_image, []
    monkeypatch.setattr(sources, "read_image", lambda path: reads.append(path) or read(path))
    found = compare_generators(real, generated, shallow_extractor)
    assert len(reads) == 16 + 12  # each file once, whatever the number of sets
    assert asked == [16]
    assert [row.name for row in found.generated] == ["noisy", "clean", "network"]
    assert [row.account.count for row in found.generated] == [12, 12, 16]
    assert found.ranked[-1].name == "noisy"
    assert found.fingerprint == shallow_extractor.fingerprint
    for row in found.generated[:2]:
        alone = compute_fid(real, generated[row.name], shallow_extractor)
        assert row.fid == alone.fid
        debiased = alone.metrics["debiased"]
        assert row.debiased["value"] == pytest.approx(
            debiased["value"], abs=debiased["standard_error"]
        )
    # Twelve of its images are those of no other set; the warning of small counts comes once.
    small = [line for line in found.warnings if "fewer than 2048" in line]
    assert len(small) == 1
    assert capsys.readouterr().err.count("fewer than 2048") == 3  # compute_fid's two


def test_the_result_says_which_sets_are_worse(files):
    found = compare_generators(*files)
    assert found.best == "near"
    by_name = {row.name: row for row in found.generated}
    assert (by_name["far"].rank, by_name["far"].worse) == (3, True)
    assert by_name["near"].difference is None
    read = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert read["best"] == "near"
    assert read["comparisons"] == 3
    assert read["generated"][0]["p_value"] == by_name["far"].p_value
    assert read["generated"][0]["difference"]["confidence"] == pytest.approx(1 - 0.05 / 3)
    lines = found.summary()
    assert lines[0] == "real: 20 images (statistics)"
    assert lines[4] == "extractor: stub (abababababab), 75 x 75, antialias, stretch"
    table = [line.split() for line in lines[5:9]]
    assert table[0][:2] == ["rank", "set"]
    assert [row[:2] for row in table[1:]] == [["1", "near"], ["2", "middle"], ["3", "far"]]
    assert table[3][-2:] == ["<", "0.0001"]
    assert "3 pairs of sets" in lines[9]
    assert lines[10].startswith("smallest debiased FID: near; ")
    assert "worse (p <= 0.05): " in lines[10]
    assert "far" in lines[10]


def test_equal_sets_are_not_called_different(features_file):
    real = features_file("real.npz", count=40)
    sets = {x: features_file(f"{x}.npz", 0.4, count=40) for x in ("a", "b")}
    found = compare_generators(real, sets | {"c": features_file("c.npz", 1.5, count=40)})
    assert {row.name for row in found.generated if row.worse} == {"c"}
    assert "no difference from it detectable: " in found.summary()[10]


def test_large_sets_are_drawn_from_and_it_is_said(files, monkeypatch):
    whole = compare_generators(*files)
    monkeypatch.setattr(ranking, "MOST_IMAGES", 48)
    found = compare_generators(*files)
    assert {row.debiased["generated_count"] for row in found.generated} == {12}
    assert [row.fid for row in found.generated] == [row.fid for row in whole.generated]
    assert any("at most 12 images per set" in line for line in found.summary())
    assert not any("drawn at random" in line for line in whole.summary())


def test_patients_and_repeated_images_count(features_file):
    patients = np.repeat(np.arange(10), 2)
    real = features_file("real.npz", patients=patients)
    twice = features_file("twice.npz", 0.5)
    saved = np.load(twice)["features"]
    saved[1] = saved[0]
    statistics = FeatureStatistics.from_features(saved)
    save_features(twice, statistics, saved)
    found = compare_generators(real, {"twice": twice, "other": features_file("other.npz")})
    assert found.generated[0].debiased["real_patients"] == 10
    assert [line for line in found.warnings if "same features" in line] == [
        "1 twice image has the same features as another twice image; the debiased FID assumes "
        "independent images and is too high; remove the duplicates"
    ]


def test_patients_in_both_sets_are_reported_with_the_sets_name(
    phantoms, shallow_extractor, write_images
):
    names = [f"{i // 2:04d}_{i % 2}.png" for i in range(20)]
    real = write_images("real", phantoms[0][:20], names)
    other = [f"9{name}" for name in names]
    sets = {
        "shared": write_images("shared", phantoms[0][20:], names),
        "apart": write_images("apart", phantoms[0][20:, ::-1], other),
    }
    regex = {"patient_regex": "^[0-9]+", "generated_patient_regex": "^[0-9]+"}
    found = compare_generators(real, sets, shallow_extractor, **regex)
    reported = [line for line in found.warnings if "patients have images in both sets" in line]
    assert len(reported) == 1
    assert reported[0].startswith("shared: 10 patients")
    with pytest.raises(DataError, match="shared: 1 patient; a debiased FID needs at least 8"):
        compare_generators(
            real, sets, shallow_extractor, **regex | {"generated_patient_regex": "png"}
        )


def test_mistakes_are_reported_before_any_work(files, features_file, write_images, tmp_path):
    real, sets = files
    no_extractor = tmp_path / "no_extractor.keras"
    no_extractor.touch()
    images = np.zeros((7, 80, 80), np.uint8)
    bare = features_file("bare.npz")
    FeatureStatistics.load(bare).save(bare)
    of_another = features_file("another.npz", fingerprint="cd" * 32)
    cases = [
        ({"few": images}, DataError, "few: 7 images; a debiased FID needs at least 8"),
        ({"few": write_images("few", images)}, DataError, "few: 7 images"),
        ({"bare": bare}, StatisticsError, "the bare statistics hold no features"),
        ({"another": of_another}, StatisticsError, "statistics of different extractors"),
        ({"missing": "nowhere"}, FidMedError, "nowhere"),
    ]
    for more, error, message in cases:
        # A file that is no extractor: loading it would be another error.
        with pytest.raises(error, match=message):
            compare_generators(real, sets | more, no_extractor)
    with pytest.raises(SettingError, match="1, expected two or more"):
        compare_generators(real, {"near": sets["near"]})
    with pytest.raises(SettingError, match="confidence 2"):
        compare_generators(real, sets, confidence=2)


def test_sets_are_named_by_their_last_folder():
    assert set_names(["a/x/", "b/y.npz", "z.v2"]) == {"x": "a/x/", "y": "b/y.npz", "z.v2": "z.v2"}
    with pytest.raises(SettingError, match=r"two sets are named x \(a/x, b/x/\)"):
        set_names(["a/x", "c/y", "b/x/"])


def test_figures_show_the_rank_and_the_order_given(files, tmp_path, monkeypatch):
    drawn, save = [], ranking_plot.save_figure
    monkeypatch.setattr(
        ranking_plot, "save_figure", lambda figure, path: drawn.append(figure) or save(figure, path)
    )
    real, sets = files
    names = {"epoch 5": "far", "epoch 10": "near", "epoch 15": "middle"}
    found = compare_generators(real, {name: sets[x] for name, x in names.items()})
    paths = found.draw(tmp_path / "figures")
    assert [path.rpartition("/")[2] for path in paths] == ["ranking.png", "curve.png"]
    for path in paths:
        with Image.open(path) as image:
            assert image.format == "PNG"
    ranked, curve = (figure.axes[0] for figure in drawn)
    assert [x.get_text() for x in ranked.get_yticklabels()] == ["epoch 10", "epoch 15", "epoch 5"]
    assert [x.get_text() for x in curve.get_xticklabels()] == list(names)
    values = [row.debiased["value"] for row in found.generated]
    assert curve.lines[0].get_ydata().tolist() == values
    assert "best" in [x.get_text() for x in drawn[0].legends[0].get_texts()]


def test_distances_of_many_magnitudes_are_drawn_on_a_logarithmic_axis(features_file, tmp_path):
    sets = {"near": features_file("near.npz", 2.0), "far": features_file("far.npz", 60.0)}
    found = compare_generators(features_file("real.npz"), sets)
    assert ranking_plot._is_wide(found.generated)
    assert [path.rpartition("/")[2] for path in found.draw(tmp_path)] == ["ranking.png"]


def test_a_curve_is_drawn_of_checkpoints_only():
    assert is_run(["epoch_10", "epoch_20"])
    assert is_run(["9", "10", "11"])
    assert is_run(["v2-step100.final", "v2-step2000.final"])
    for names in (
        ["gan", "diffusion"], ["epoch_20", "epoch_10"], ["epoch_1", "epoch_1b"], ["a1b1", "a2b2"],
        ["a1", "b2"], ["epoch_1", "epoch_01"],
    ):  # fmt: skip
        assert not is_run(names), names
