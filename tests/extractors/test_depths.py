"""Depths: pooled outputs of earlier layers, from the network's own weights and nothing behind."""

import json

import keras
import numpy as np
import pytest
from helpers import rounding

from fid_med.data.preprocessing import Preprocessing
from fid_med.errors import DataError, ExtractorError, StatisticsError
from fid_med.evaluation.compute import compute_fid
from fid_med.extractors.depths import cut_at_depth, join_depths
from fid_med.extractors.extractor import FeatureExtractor
from fid_med.extractors.inception_2015 import stand_in
from fid_med.extractors.registry import DEPTHS, ExtractorSpec, load_extractor
from fid_med.metrics.feature_files import load_features


@pytest.fixture(scope="module")
def extractors():
    """The random extractor of 75 pixels at every depth."""
    return {dims: load_extractor("random", image_size=75, dims=dims) for dims in DEPTHS}


@pytest.mark.parametrize("dims", [64, 192, 768])
def test_features_are_the_averages_of_the_layers_own_output(extractors, phantoms, dims):
    whole = extractors[2048].network
    pools = [x for x in whole.layers if isinstance(x, keras.layers.MaxPooling2D)]
    layer = {64: pools[0], 192: pools[1], 768: whole.get_layer("mixed7")}[dims]
    pixels = np.repeat(phantoms[0][:3, :75, :75, None], 3, axis=-1)
    maps = keras.Model(whole.input, layer.output)(pixels.astype(np.float32), training=False)
    expected = np.asarray(maps).astype(np.float64).mean(axis=(1, 2))
    obtained = extractors[dims].extract_batch(pixels)
    assert obtained.shape == (3, dims) == (3, extractors[dims].num_features)
    assert np.abs(obtained - expected).max() <= rounding.FEATURES * np.abs(expected).max()


def test_a_depth_runs_no_layer_behind_it(extractors):
    numbers = [len(extractors[dims].network.layers) for dims in DEPTHS]
    assert numbers == sorted(numbers)
    assert numbers[0] < 20
    assert not any(x.name == "mixed8" for x in extractors[768].network.layers)


def test_each_depth_is_another_extractor_and_2048_is_the_one_of_before(extractors, small_extractor):
    assert len({x.fingerprint for x in extractors.values()}) == len(DEPTHS)
    assert extractors[2048].fingerprint == small_extractor.fingerprint
    assert extractors[2048].name == "random"
    assert extractors[768].name == "random at 768"
    lower = load_extractor("random", image_size=75, dims=768, precision="bfloat16")
    assert lower.name == "random in bfloat16 at 768"
    assert lower.fingerprint != extractors[768].fingerprint


def test_all_depths_from_one_pass_are_those_of_single_passes(extractors, phantoms):
    pixels = np.repeat(phantoms[0][:5, :75, :75, None], 3, axis=-1)
    joined = join_depths(extractors[2048])
    assert joined.fingerprint not in {x.fingerprint for x in extractors.values()}
    assert joined.num_features == sum(DEPTHS)
    rows = np.split(joined.extract_batch(pixels), np.cumsum(list(DEPTHS))[:-1], axis=1)
    for (dims, extractor), obtained in zip(extractors.items(), rows, strict=True):
        part = joined.depths[dims]
        assert (part.name, part.fingerprint) == (extractor.name, extractor.fingerprint)
        expected = extractor.extract_batch(pixels)
        assert np.abs(obtained - expected).max() <= rounding.FEATURES * np.abs(expected).max()


def test_a_depth_knows_the_whole_and_can_be_cut_again(extractors):
    again = cut_at_depth(extractors[768], 2048)
    assert again is extractors[768].whole
    assert again.fingerprint == extractors[2048].fingerprint
    assert cut_at_depth(extractors[64], 768).fingerprint == extractors[768].fingerprint
    assert join_depths(extractors[64]).fingerprint == join_depths(extractors[2048]).fingerprint
    # One network for both sides of a comparison: it is compiled once.
    assert join_depths(extractors[64]) is join_depths(extractors[64].whole)


def test_a_network_without_these_depths_is_refused():
    pixels = keras.Input((8, 8, 3))
    other = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(pixels), name="other")
    extractor = FeatureExtractor("other", other, Preprocessing(8, 8), "0" * 64)
    with pytest.raises(ExtractorError, match="dims 64: other has no layer of InceptionV3"):
        join_depths(extractor)


@pytest.fixture(scope="module")
def profile(phantoms):
    sides = phantoms[0][:16], phantoms[0][16:32]
    metrics = ["depths", "debiased"]
    return compute_fid(*sides, "random", image_size=75, dims=768, metrics=metrics)


def test_the_metric_depths_is_the_fid_of_each_depth(profile, phantoms, small_extractor):
    sides = phantoms[0][:16], phantoms[0][16:32]
    found = profile.metrics["depths"]
    assert [x["dims"] for x in found["depths"]] == list(DEPTHS)
    for depth in found["depths"]:
        alone = compute_fid(*sides, cut_at_depth(small_extractor, depth["dims"]))
        assert depth["fid"] == pytest.approx(alone.fid, rel=rounding.FID)
        assert depth["debiased"]["low"] < depth["debiased"]["value"] < depth["debiased"]["high"]
        base = depth["baseline"]
        for key in ("mean", "sd"):
            assert base[key] == pytest.approx(alone.metrics["baseline"][key], rel=1e-3)
        shown = f"real against real {base['mean']:.4g} +- {base['sd']:.2g}"
        assert any(shown in line for line in profile.summary())
    assert profile.dims == 768
    assert profile.fid == found["depths"][2]["fid"]
    assert found["value"] == pytest.approx(np.mean([x["normalised"] for x in found["depths"]]))
    lines = profile.summary()
    assert any(line.startswith("FID at 64, first max pool") for line in lines)
    (line,) = [line for line in lines if line.startswith("multi-depth FID")]
    assert f"real against real {found['baseline']:.4g}" in line
    json.dumps(profile.to_dict(), allow_nan=False)


def test_saved_features_hold_every_depth(profile, tmp_path):
    profile.save_statistics(tmp_path, features=True)
    files = tmp_path / "real.npz", tmp_path / "generated.npz"
    again = compute_fid(*files, metrics=["depths"])
    assert again.metrics["depths"] == profile.metrics["depths"]
    assert again.fid == profile.fid
    loaded = load_features(files[0], DEPTHS)
    for dims, (statistics, _) in loaded.depths.items():
        expected = profile.features["real"].depths[dims].statistics
        assert (statistics.fingerprint, statistics.extractor) == (
            expected.fingerprint, expected.extractor,
        )  # fmt: skip
    with np.load(files[0]) as npz:
        arrays = dict(npz)
    np.savez(tmp_path / "one.npz", **{k: v for k, v in arrays.items() if k != "features_64"})
    with pytest.raises(StatisticsError, match="depths: the real statistics hold features of one"):
        compute_fid(tmp_path / "one.npz", files[1], metrics=["depths"])
    np.savez(tmp_path / "bad.npz", **arrays | {"features_64": arrays["features_64"][:5]})
    with pytest.raises(StatisticsError, match=r"features_64 of shape \(5, 64\)"):
        compute_fid(tmp_path / "bad.npz", files[1], metrics=["depths"])


def test_depths_of_two_extractors_are_never_compared(profile, phantoms, tmp_path):
    profile.save_statistics(tmp_path, features=True)
    with np.load(tmp_path / "real.npz") as npz:
        np.savez(tmp_path / "real.npz", **{**npz, "fingerprint_64": np.array("0" * 64)})
    sides = tmp_path / "real.npz", tmp_path / "generated.npz"
    with pytest.raises(StatisticsError, match="extractor"):
        compute_fid(*sides, metrics=["depths"])


def test_the_cache_keeps_every_depth(phantoms, write_images, tmp_path):
    sides = [write_images(n, phantoms[0][i : i + 8]) for n, i in (("a", 0), ("b", 8))]
    options = {"image_size": 75, "metrics": ["depths"], "cache_dir": tmp_path / "cache"}
    first = compute_fid(*sides, "random", **options)
    extractor = load_extractor("random", image_size=75)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractor, "extract_batch", None)  # a call would fail
        again = compute_fid(*sides, extractor, metrics=["depths"], cache_dir=tmp_path / "cache")
    assert again.metrics["depths"] == first.metrics["depths"]


def test_an_unknown_depth_is_refused_before_any_work():
    with pytest.raises(ExtractorError, match="dims 512: expected 64, 192, 768 or 2048"):
        ExtractorSpec("random", dims=512)


def test_a_loaded_extractor_keeps_its_depth(extractors, phantoms):
    with pytest.raises(DataError, match="precision and dims to load_extractor"):
        compute_fid(phantoms[0][:9], phantoms[0][9:18], extractors[2048], dims=768)


def test_the_result_states_its_depth(phantoms):
    sides = phantoms[0][:9], phantoms[0][9:18]
    result = compute_fid(*sides, "random", image_size=75, dims=64)
    assert result.to_dict()["dims"] == 64
    assert result.statistics[0].dim == 64
    assert "random at 64" in result.summary()[2]


def test_statistics_of_another_depth_are_refused(phantoms, tmp_path):
    sides = phantoms[0][:9], phantoms[0][9:18]
    compute_fid(*sides, "random", image_size=75, dims=64).save_statistics(tmp_path)
    with pytest.raises(StatisticsError, match="dimension 64 and of dimension 192"):
        compute_fid(tmp_path / "real.npz", sides[1], "random", image_size=75, dims=192)


@pytest.mark.parametrize(("dims", "node"), [(64, "pool"), (192, "pool_1"), (768, "mixed_7/join")])
def test_depths_of_the_2015_graph_are_tensorflows_own(tmp_path_factory, dims, node):
    folder = tmp_path_factory.getbasetemp() / "graph_of_depths"
    path = folder / "graph.pb"
    graph_def = stand_in.stand_in_graph()
    if not path.exists():
        folder.mkdir(exist_ok=True)
        path.write_bytes(graph_def.SerializeToString())
    images = stand_in.smooth_images(2, 120, 90)
    expected = np.stack(
        [maps[0].mean(axis=(0, 1)) for (maps,) in stand_in.run_graph(graph_def, images, [node])]
    )
    extractor = load_extractor(path, dims=dims)
    obtained = extractor.extract(images)
    assert obtained.shape == (2, dims)
    assert np.abs(obtained - expected).max() <= rounding.FEATURES * np.abs(expected).max()
    assert any("published FIDs are those of 2048" in line for line in extractor.warnings)
