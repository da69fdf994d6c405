"""Depths: pooled outputs of earlier layers, from the network's own weights and nothing behind."""

import keras
import numpy as np
import pytest
from helpers import rounding

from fid_med.errors import DataError, ExtractorError, StatisticsError
from fid_med.evaluation.compute import compute_fid
from fid_med.extractors.inception_2015 import stand_in
from fid_med.extractors.registry import DEPTHS, ExtractorSpec, load_extractor


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
