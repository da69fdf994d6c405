"""Heat maps of a study: a planted difference lights up its corner, and nowhere else does."""

import keras
import numpy as np
import pytest

from fid_med.data.preprocessing import Preprocessing
from fid_med.data.sources import open_source
from fid_med.extractors.extractor import FeatureExtractor
from fid_med.metrics.difference import contributions
from fid_med.study.heat_maps import HeatMaps
from fid_med.study.images import UNTOUCHED, Example, choose_example, open_images
from fid_med.study.repeats import Halves


class Planted:
    """Disturbs images by a white corner, upper left."""

    seed = 0

    def apply(self, image, cell):
        changed = image.copy()
        if cell != UNTOUCHED:
            changed[:32, :32] = 255
        return changed


def make_extractor():
    """768 features of one convolution whose positions are tiles of 16 x 16 pixels."""
    pixels = keras.Input((80, 80, 3))
    start = keras.initializers.GlorotUniform(seed=0)
    maps = keras.layers.Conv2D(768, 16, strides=16, kernel_initializer=start)(pixels)
    pooled = keras.layers.GlobalAveragePooling2D()(maps)
    return FeatureExtractor("own", keras.Model(pixels, pooled), Preprocessing(80, 80), "f")


@pytest.fixture(scope="module")
def study(phantoms):
    """Twenty images, their halves, and their features by cell, untouched and disturbed."""
    network = make_extractor()
    images = open_images(open_source(phantoms[0][:20], "real"))
    foreign = open_images(open_source(255 - phantoms[0][20:40], "foreign"))
    known = {}

    def compute(of, cell):
        if (id(of), cell) not in known:
            pixels = [Planted().apply(load(), cell) for load in of.loaders]
            known[id(of), cell] = {"net": {768: network.extract(pixels)}}
        return known[id(of), cell]

    half = Halves(np.arange(0, 20, 2), np.arange(1, 20, 2))
    return images, foreign, half, compute, network


def made(study, names, example=None):
    images, foreign, half, compute, network = study
    maps = HeatMaps(
        images, foreign, half, 10, compute, Planted(), example or choose_example(images)
    )
    return maps.make({"net": network}, names)


def test_the_damaged_corner_is_hot_and_only_when_it_is_damaged(study):
    before, after = made(study, ["swirl"])["swirl"]["net"]
    assert (before.name, after.name) == ("undisturbed", "level 4")
    assert (after.image[:32, :32] == 255).all()
    others = [after.heat[40:, :40], after.heat[:40, 40:], after.heat[40:, 40:]]
    assert after.heat[:32, :32].mean() > 3 * max(map(np.mean, others))
    assert after.heat[:32, :32].mean() > 3 * before.heat[:32, :32].mean()
    assert after.share > before.share


@pytest.mark.parametrize("elsewhere", [False, True])
def test_shares_are_contributions_to_the_fid_at_the_strongest_level(study, elsewhere):
    images, foreign, half, compute, network = study
    pixels = foreign.loaders[0]() if elsewhere else images.loaders[4]()
    example = Example(pixels, None if elsewhere else 4)
    before, after = made(study, ["swirl"], example)["swirl"]["net"]
    # Image 4 is of the reference half, so the halves change places.
    reference, others = half.reference, half.disturbed[:9]
    if not elsewhere:
        reference, others = half.disturbed, half.reference[half.reference != 4]
    real = compute(images, UNTOUCHED)["net"][768][reference]
    sides = []
    for cell in (UNTOUCHED, ("swirl", 4.0)):
        drawn = network.extract([Planted().apply(pixels, cell)])
        sides.append(np.concatenate([drawn, compute(images, cell)["net"][768][others]]))
        assert len(real) == len(sides[-1]) == 10
    found = [contributions(real, side) for side in sides]
    fid = found[1].fid
    assert before.share == pytest.approx(found[0].generated[0] / fid, rel=1e-3)
    assert after.share == pytest.approx(found[1].generated[0] / fid, rel=1e-3)


def test_contamination_shows_an_image_of_the_other_domain(study):
    foreign = study[1]
    before, after = made(study, ["contamination"])["contamination"]["net"]
    assert any((after.image == load()).all() for load in foreign.loaders)
    assert not any((before.image == load()).all() for load in foreign.loaders)
    assert after.share > 2 * before.share


def test_networks_without_feature_maps_are_left_out(study):
    images, foreign, half, compute, network = study
    maps = HeatMaps(images, foreign, half, 10, compute, Planted(), choose_example(images))
    flat = keras.Sequential([keras.Input((80, 80, 3)), keras.layers.Flatten()])
    other = FeatureExtractor("own", flat, network.preprocessing, "f")
    assert maps.make({"net": other}, ["swirl"]) == {}
