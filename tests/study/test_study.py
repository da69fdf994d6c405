"""The study: who enters it, how halves are drawn, the cache, and a small one from end to end."""

import dataclasses
import json

import numpy as np
import pytest
from helpers import rounding

from fid_med.data.sources import open_source
from fid_med.disturbances.registry import (
    DISTURBANCES,
    content_digest,
    disturb,
    select_disturbances,
)
from fid_med.errors import DataError, SettingError
from fid_med.evaluation.compute import compute_fid
from fid_med.extractors.depths import cut_at_depth, join_depths
from fid_med.extractors.extractor import FeatureExtractor, TrainingImages
from fid_med.extractors.registry import DEPTHS
from fid_med.metrics.frechet import frechet_distance
from fid_med.metrics.statistics import FeatureStatistics
from fid_med.study import repeats
from fid_med.study.features import StudyCache, cell_key
from fid_med.study.images import Disturber, open_images
from fid_med.study.ratings import read_ratings
from fid_med.study.run import StudyConfig, run_study


@pytest.fixture(scope="module")
def images(phantoms):
    return phantoms[0]


@pytest.fixture
def folder(images, write_images):
    """Twenty-four images of twelve patients."""
    names = [f"P{i // 2:02d}_{i % 2}.png" for i in range(24)]
    return write_images("real", images[:24], names)


@pytest.fixture(scope="module")
def joined(small_extractor):
    """The small extractor with all its depths, compiled once."""
    return join_depths(small_extractor)


def counting(extractor, joined, stop_after=None, **changes):
    """The extractor, its batches counted in `.calls`, interrupted after some of them."""
    copy = FeatureExtractor(
        changes.get("name", extractor.name),
        extractor.network,
        extractor.preprocessing,
        changes.get("fingerprint", extractor.fingerprint),
        training_images=changes.get("training_images"),
    )
    copy.calls = 0

    # The study joins the depths of a copy, which keeps this method.
    def extract_batch(pixels, pad_to=0):
        if copy.calls == stop_after:
            raise KeyboardInterrupt
        copy.calls += 1
        return changes.get("scale", 1) * joined.extract_batch(pixels)

    copy.extract_batch = extract_batch
    return copy


def test_no_patient_is_on_both_sides(folder):
    images = open_images(open_source(folder, "real"), patient_regex="^P[0-9]+")
    assert len(images.patients) == 12
    halves, count = repeats.draw_halves(images, 30, seed=1)
    owner = {i: k for k, group in enumerate(images.patients) for i in group}
    for half in halves:
        sides = [{owner[i] for i in side} for side in (half.reference, half.disturbed)]
        assert not sides[0] & sides[1]
        assert min(len(half.reference), len(half.disturbed)) >= count == 12
    assert len({tuple(sorted(half.reference)) for half in halves}) > 20
    again, _ = repeats.draw_halves(images, 30, seed=1)
    assert all((a.reference == b.reference).all() for a, b in zip(halves, again, strict=True))


def test_file_order_and_names_decide_nothing(images, write_images):
    order = np.random.default_rng(0).permutation(12)
    one = open_images(open_source(write_images("one", images[:12]), "real"), num_images=8)
    two = open_images(open_source(write_images("two", images[order]), "real"), num_images=8)
    assert one.digests == two.digests
    assert one.patients == two.patients
    assert len(one) == 8
    assert one.account["not_drawn"] == 4


def test_training_images_leave_with_their_patient_and_repeats_once(images, write_images):
    trained = TrainingImages("ab" * 16)
    trained.train = frozenset([trained.hasher().digest(images[0])])
    trained.validation = frozenset([trained.hasher().digest(images[5])])
    names = [f"P{i // 2}_{i % 2}.png" for i in range(12)] + ["P9_0.png"]
    folder = write_images("real", [*images[:12], images[11]], names)
    opened = open_images(open_source(folder, "real"), patient_regex="^P[0-9]", trained=[trained])
    assert opened.account == {
        "found": 13, "repeated": 1, "training": 2, "patients": 2, "not_drawn": 0, "ignored": {},
    }  # fmt: skip
    kept = {content_digest(image) for image in [*images[2:4], *images[6:12]]}
    assert set(opened.digests) == kept
    # The repeated image makes one patient of P5 and P9.
    assert len(opened.patients) == 4
    with pytest.raises(
        DataError, match=r"4 left out \(training images.*at least 4 images per half"
    ):
        repeats.draw_halves(dataclasses.replace(opened, patients=opened.patients[:1]), 20, 0)


def test_fewer_coordinates_change_no_distance():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(20, 300)), rng.normal(size=(30, 300)) + 0.3
    statistics = FeatureStatistics.from_features
    short_a, short_b = repeats.reduce_dimensions([a, b])
    assert short_a.shape == (20, 50)
    direct = frechet_distance(statistics(a), statistics(b))
    short = frechet_distance(statistics(short_a), statistics(short_b))
    assert short == pytest.approx(direct, rel=1e-12)
    many = rng.normal(size=(400, 30))
    assert repeats.reduce_dimensions([many])[0].shape == (400, 30)


def test_repeated_fids_are_the_published_distance():
    rng = np.random.default_rng(1)
    untouched, disturbed = rng.normal(size=(2, 16, 6))
    half = repeats.Halves(np.arange(8), np.arange(8, 16))
    fids = repeats.compute_fids(repeats.stack_image_levels(untouched, [disturbed]), [half], 8)
    statistics = FeatureStatistics.from_features
    for fid, side in zip(fids[0], (untouched, disturbed), strict=True):
        expected = frechet_distance(statistics(untouched[:8]), statistics(side[8:]), method="sqrtm")
        assert fid == pytest.approx(expected, rel=1e-5)


def test_contamination_replaces_that_share_of_each_half():
    real, foreign = np.random.default_rng(0).normal(size=(2, 50, 3))
    digests = [f"{i:02d}" for i in range(40)]
    levels = repeats.stack_contamination_levels(real[:40], foreign, (0.25, 0.75), digests, seed=0)
    members = np.arange(7, 27)
    sides = [place(members) for place in levels.places]
    replaced = [side != members for side in sides]
    assert [side.sum() for side in replaced] == [5, 15]
    assert (replaced[1] >= replaced[0]).all()
    moved = [levels.points[side] - levels.points[0] + real[0] for side in sides]  # as they were
    is_foreign = [np.isclose(x[:, None], foreign).all(axis=2).any(axis=1) for x in moved]
    np.testing.assert_array_equal(is_foreign, replaced)


@pytest.mark.parametrize("dimensions", [4, 40])
def test_levels_of_equal_features_have_equal_fids(dimensions):
    """With fewer dimensions than images a side, and with more."""
    untouched, worse = np.random.default_rng(2).normal(size=(2, 40, dimensions))
    halves = [
        repeats.Halves(*np.split(np.random.default_rng(r).permutation(40), 2)) for r in range(30)
    ]
    levels = repeats.stack_image_levels(untouched, [worse, worse, worse + 1e-14, 2 * worse])
    fids = repeats.compute_fids(levels, halves, 18)
    assert (fids[:, 1] == fids[:, 2]).all()
    assert (fids[:, 2] == fids[:, 3]).all()
    assert (fids[:, 4] > fids[:, 3]).all()
    statistics = FeatureStatistics.from_features
    for fid, half in zip(fids[:, 4], halves, strict=True):
        sides = untouched[half.reference[:18]], 2 * worse[half.disturbed[:18]]
        assert fid == pytest.approx(frechet_distance(*map(statistics, sides)), rel=1e-9)


def test_cache_forgets_what_cannot_be_read(tmp_path):
    cache = StudyCache(tmp_path)
    cache.save("maker", "cell", ["a", "b"], np.array([[1.0], [2.0]]))
    cache.save("maker", "cell", ["c"], np.array([[3.0]]))
    rows = cache.load("maker", "cell", 1)
    assert {k: v.item() for k, v in rows.items()} == {"a": 1, "b": 2, "c": 3}
    assert cache.load("maker", "other", 1) == {}
    for path in (tmp_path / "maker" / "cell").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    assert cache.load("maker", "cell", 1) == {}


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize(
    "rows",
    [[[np.nan, 1]], [[1, np.inf]], [[1]], [[1, 2, 3]], [1], [[5, 6]], [["a", "b"]]],
    ids=["nan", "inf", "narrow", "wide", "flat", "foreign", "text"],
)
def test_cache_forgets_rows_that_are_not_its_own(checked, rows, tmp_path):
    cache = StudyCache(tmp_path)
    cache.save("maker", "cell", ["a"], np.array([[1.0, 2.0]]))
    (path,) = tmp_path.rglob("*.npz")
    with np.load(path) as file:
        arrays = dict(file) | {"rows": np.array(rows)}
    if not checked:  # as earlier versions wrote it
        del arrays["checksum"]
        if rows == [[5, 6]]:
            arrays["rows"] = np.array([[5.0, 6.0]])  # nothing shows that these are not its own
    np.savez(path, **arrays)
    found = cache.load("maker", "cell", 2)
    kept = not checked and rows == [[5, 6]]
    assert (len(found), path.exists()) == (int(kept), kept)


def test_cache_takes_no_row_of_a_file_with_fewer_rows_than_digests(tmp_path):
    cache = StudyCache(tmp_path)
    cache.save("maker", "cell", ["a", "b"], np.ones((1, 2)))
    assert cache.load("maker", "cell", 2) == {}


def test_cache_forgets_rows_of_another_cell(tmp_path):
    cache = StudyCache(tmp_path)
    cache.save("quality", "cell", ["a"], np.array([[1.0, np.nan]]))  # an image too small for ssim
    (path,) = tmp_path.rglob("*.npz")
    (tmp_path / "quality" / "other").mkdir()
    (tmp_path / "quality" / "other" / path.name).write_bytes(path.read_bytes())
    assert list(cache.load("quality", "cell", 2)) == ["a"]
    assert cache.load("quality", "other", 2) == {}


def test_the_cache_distinguishes_scales_where_they_matter():
    scales = [Disturber("paper", 299, 0), Disturber("pixel", 299, 0), Disturber("pixel", 96, 0)]
    image = np.random.default_rng(0).integers(0, 256, (96, 80), dtype=np.uint8)
    for name in DISTURBANCES:
        if name == "contamination":
            continue
        cell = (name, DISTURBANCES[name].levels[1])
        keys = {cell_key(cell, scale) for scale in scales}
        pictures = {scale.apply(image, cell).tobytes() for scale in scales}
        assert len(keys) == len(pictures) == (3 if "blur" in name or name == "swirl" else 1)
        assert cell_key(cell, Disturber("paper", 299, 1)) not in keys


def test_groups_of_disturbances_are_replaced_by_their_names():
    assert len(select_disturbances(["six"])) == 6
    assert len(select_disturbances(["all"])) == 12
    assert select_disturbances(["swirl", "six"])[0] == "swirl"
    with pytest.raises(SettingError, match=r"blurr.*gaussian_blur"):
        select_disturbances(["blurr"])


def test_without_images_of_another_domain_groups_lack_contamination():
    five = select_disturbances(["six"], with_foreign=False)
    assert set(select_disturbances(["six"])) - set(five) == {"contamination"}
    assert len(select_disturbances(["all"], with_foreign=False)) == 11
    with pytest.raises(SettingError, match=r"contamination needs images of another domain"):
        select_disturbances(["six", "contamination"], with_foreign=False)
    with pytest.raises(SettingError, match="blurr"):
        select_disturbances(["blurr"], with_foreign=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "header nothing"),
        ("set,score\na,1\n", "header set,score"),
        ("set,rating\n", "no rating"),
        ("set,rating\na,1\nc,2\n", "line 3: set 'c'.*known are a, b"),
        ("set,rating\na,good\n", "line 2: rating 'good'"),
        ("set,rating\na,nan\n", "line 2"),
        ("image,rating\nelsewhere/x.png,1\n", "line 2: image 'elsewhere/x.png'"),
    ],
)
def test_invalid_ratings_are_rejected(text, words, tmp_path):
    (tmp_path / "ratings.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        read_ratings(tmp_path / "ratings.csv", ["b", "a"])


def test_ratings_are_gathered_by_set(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text("\ufeffrater,set,rating\n1,a,4\n2,a,5\n1,b,2\n", encoding="utf-8")
    assert read_ratings(path, ["a", "b", "c"]) == {"a": [4, 5], "b": [2]}
    path.write_text("image,rating\na/1.png,4\na/below/2.png,5\nb/1.png,2\n")
    assert read_ratings(path, ["a", "b"]) == {"a": [4, 5], "b": [2]}
    with pytest.raises(DataError, match="no such file"):
        read_ratings(tmp_path / "missing.csv", ["a"])


CONFIG = StudyConfig(
    disturbances=("gaussian_blur", "contamination"),
    repeats=20,
    batch_size=5,
    patient_regex="^P[0-9]+",
)


def test_study_from_end_to_end_interrupted_and_resumed(
    folder, images, small_extractor, joined, write_images, tmp_path
):
    contamination = write_images("foreign", 255 - images[:24])
    sets = {name: write_images(name, disturbed) for name, disturbed in (
        ("good", images[24:40]),
        ("noisy", [disturb(x, "gaussian_noise", 0.5) for x in images[24:40]]),
        ("worst", [disturb(x, "gaussian_noise", 0.9) for x in images[24:40]]),
    )}  # fmt: skip
    (tmp_path / "ratings.csv").write_text("set,rating\ngood,5\nnoisy,2\nworst,1\n")
    more = {
        "contamination": contamination,
        "generated": sets,
        "ratings": tmp_path / "ratings.csv",
    }

    def run(extractor, output):
        # A second extractor, the first one's features doubled.
        other = counting(small_extractor, joined, fingerprint="0" * 64, scale=2)
        pair = {"one": extractor, "twice": other}
        return run_study(folder, pair, tmp_path / output, CONFIG, **more), other

    whole, _ = run(counting(small_extractor, joined), "whole")
    with pytest.raises(KeyboardInterrupt):
        run(counting(small_extractor, joined, stop_after=9), "broken")
    rest = counting(small_extractor, joined)
    resumed, _ = run(rest, "broken")
    assert resumed.record == whole.record
    # 24 images untouched, at 3 levels, 24 foreign, 3 x 16 generated, in batches of 5.
    batches = 5 + 3 * 5 + 5 + 3 * 4
    assert rest.calls == batches - 9
    idle = counting(small_extractor, joined)
    run_study(folder, {"one": idle}, tmp_path / "whole", CONFIG, contamination=contamination)
    assert idle.calls == 0
    json.dumps(whole.record, allow_nan=False)

    found = whole.record["sets"]["in-domain"]
    assert (found["images"], found["patients"], found["images_a_side"]) == (24, 12, 12)
    depths = ["at 64", "at 192", "at 768", "at 2048"]
    assert list(found["extractors"]) == [
        *(f"one {depth}" for depth in depths), "one, multi-depth",
        *(f"twice {depth}" for depth in depths), "twice, multi-depth",
    ]  # fmt: skip
    one, twice = (found["extractors"][f"{name} at 2048"] for name in ("one", "twice"))
    for name in CONFIG.disturbances:
        fids = [np.array(x["disturbances"][name]["fids"]) for x in (one, twice)]
        assert fids[0].shape == (20, 4)
        np.testing.assert_allclose(fids[1], 4 * fids[0], rtol=1e-9)
        # Another unit of features changes no verdict.
        assert one["disturbances"][name]["tau"] == twice["disturbances"][name]["tau"]
        # Nor does it change the multi-depth FID, which has none.
        np.testing.assert_allclose(
            *(found["extractors"][f"{x}, multi-depth"]["disturbances"][name]["fids"]
              for x in ("one", "twice")),
            rtol=1e-9,
        )  # fmt: skip
    assert twice["against_first"]["order"] == "no difference shown"
    assert "against_first" not in one
    blur = one["disturbances"]["gaussian_blur"]
    assert blur["relative"][3]["value"] > 1
    np.testing.assert_allclose(
        np.array(blur["fids"])[:, 0], np.array(one["disturbances"]["contamination"]["fids"])[:, 0]
    )
    assert found["quality"]["gaussian_blur:1"]["ssim"] > found["quality"]["gaussian_blur:4"]["ssim"]
    assert set(one["quality"]) == {"psnr", "ssim"}  # 80 pixels are too few for MS-SSIM
    assert one["quality"]["psnr"]["count"] == 4
    ranked = whole.record["generated"]
    assert ranked["images_a_side"] == 8
    assert ranked["between_extractors"][0]["kendall"]["value"] == 1
    assert len(ranked["between_extractors"]) == 5  # each pair at one depth
    assert ranked["with_ratings"]["agreement"]["one at 2048"]["kendall"]["value"] == 1
    pictures = whole.pictures["in-domain"]
    assert [len(x) for x in pictures.values()] == [4, 4]
    assert (pictures["gaussian_blur"][0] != pictures["gaussian_blur"][3]).any()
    assert whole.record["skipped"] == []
    # The small extractor's weights are random.
    assert whole.record["recommendation"]["candidates"] == {}
    assert found["heat_maps"] == {"dims": 768, "images_a_side": 12}
    heated = whole.heat_maps["in-domain"]
    assert {name: list(x) for name, x in heated.items()} == {
        name: ["one", "twice"] for name in CONFIG.disturbances
    }
    before, after = heated["gaussian_blur"]["one"]
    assert (before.name, after.name) == ("undisturbed", "level 4")
    assert (before.image == pictures["gaussian_blur"][0]).all()
    assert (after.image == pictures["gaussian_blur"][3]).all()
    # Under contamination the second is one of the other domain.
    foreign = {content_digest(255 - image) for image in images[:24]}
    assert content_digest(heated["contamination"]["one"][1].image) in foreign


def test_level_0_and_level_3_are_what_compute_fid_says(images, small_extractor, tmp_path):
    config = StudyConfig(disturbances=("black_rectangles",), repeats=20, seed=5)
    study = run_study(images[:12], {"random": small_extractor}, tmp_path, config)
    opened = open_images(open_source(images[:12], "real"))
    halves, count = repeats.draw_halves(opened, 20, seed=5)
    found = study.record["sets"]["in-domain"]["extractors"]
    pixels = np.stack([load() for load in opened.loaders])
    reference, members = halves[3].reference[:count], halves[3].disturbed[:count]
    worst = [disturb(image, "black_rectangles", 0.75, seed=5) for image in pixels[members]]
    for level, side in ((0, pixels[members]), (3, np.stack(worst))):
        over_depths = 0
        for dims in DEPTHS:
            extractor = cut_at_depth(small_extractor, dims)
            expected = compute_fid(pixels[reference], side, extractor).fid
            fids = found[f"random at {dims}"]["disturbances"]["black_rectangles"]["fids"]
            assert fids[3][level] == pytest.approx(expected, rel=rounding.FID)
            # np.cov, not this package, for the variance of all untouched images.
            every = extractor.extract(pixels).astype(np.float64)
            over_depths += expected / np.trace(np.cov(every, rowvar=False)) / len(DEPTHS)
        fids = found["random, multi-depth"]["disturbances"]["black_rectangles"]["fids"]
        assert fids[3][level] == pytest.approx(over_depths, rel=rounding.FID)


def test_transfer_runs_the_same_study_on_other_images(
    images, small_extractor, write_images, tmp_path
):
    folder = write_images("real", images[:10])
    config = StudyConfig(disturbances=("salt_and_pepper",), repeats=20)
    study = run_study(
        folder, {"random": small_extractor}, tmp_path, config, transfer=images[10:22],
        example=next(folder.glob("007.png")),
    )  # fmt: skip
    for pictures in study.pictures.values():
        assert (pictures["salt_and_pepper"][0] == images[7]).all()
    roles = study.record["sets"]
    assert [roles[role]["images"] for role in ("in-domain", "transfer")] == [10, 12]
    fids = [x["extractors"]["random at 2048"]["disturbances"]["salt_and_pepper"]["fids"]
            for x in roles.values()]  # fmt: skip
    assert np.shape(fids[0]) == np.shape(fids[1])
    assert fids[0] != fids[1]


@pytest.mark.parametrize(
    ("change", "more", "words"),
    [
        ({"disturbances": ("swirl", "contamination")}, {}, "--contamination=DIR, or remove it"),
        ({"repeats": 5}, {}, "at least 20"),
        ({"scale": "inch"}, {}, "scale 'inch'"),
        ({"disturbances": ("contamination",)}, {"contamination": 3}, "3 different images, 10"),
        ({}, {"generated": {"g": 4}}, "fewer than 8"),
        ({}, {"transfer": 5}, "at least 4 images per half"),
        ({}, {"transfer": "missing/folder"}, "missing/folder: no such folder"),
    ],
)
def test_what_cannot_be_studied_is_reported_before_any_network_runs(
    change, more, words, images, small_extractor, tmp_path
):
    config = dataclasses.replace(CONFIG, disturbances=("swirl",), patient_regex=None)
    config = dataclasses.replace(config, **change)

    def some(value):
        return images[20 : 20 + value] if isinstance(value, int) else value

    more = {k: {n: some(x) for n, x in v.items()} if isinstance(v, dict) else some(v)
            for k, v in more.items()}  # fmt: skip
    extractor = counting(small_extractor, None, stop_after=0)
    with pytest.raises((DataError, SettingError), match=words):
        run_study(images[:10], {"random": extractor}, tmp_path, config, **more)
