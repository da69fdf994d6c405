"""Pictures of pairs, directions and heat maps: whole, as large as their rows ask, refusals."""

import numpy as np
import pytest
from PIL import Image

from fid_med.errors import DataError
from fid_med.evaluation.image_plots import (
    HeatedImage,
    draw_closest_pairs,
    draw_directions,
    draw_heat_maps,
)
from fid_med.metrics.difference import directions
from fid_med.metrics.memorisation import memorisation


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(0)
    return rng.normal(size=(20, 5)), rng.normal(size=(20, 5)) + 1


def test_closest_pairs(phantoms, features, tmp_path):
    images = phantoms[0]
    generated = np.concatenate([features[0], features[1][:2]])
    found = memorisation(generated, features[1], num_pairs=4)
    assert [pair.copy for pair in found.pairs] == [True, True, False, False]
    by_index = {pair.generated: images[pair.generated] for pair in found.pairs}
    for number in (4, 2):
        path = tmp_path / f"{number}.png"
        draw_closest_pairs(found.pairs[:number], by_index, images, path, title="Closest pairs")
        with Image.open(path) as picture:
            assert picture.width > 400 * number // 2
            pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        orange = (pixels == (0xE6, 0x9F, 0x00)).all(axis=1).sum()
        assert orange > 1000  # the frames of the two copies
    with pytest.raises(DataError, match="no pairs to draw"):
        draw_closest_pairs([], images, images, tmp_path / "none.png")
    draw_closest_pairs(found.pairs[2:], images, images, tmp_path / "framed.png")
    with Image.open(tmp_path / "framed.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert not (pixels == (0xE6, 0x9F, 0x00)).all(axis=1).any()


def test_directions(phantoms, features, tmp_path):
    images = phantoms[0]
    found = directions(*features, number=2, ends=2)
    draw_directions(found, images, images, tmp_path / "two.png", ends=9, title="What differs")
    draw_directions(found[:1], images, images[..., None].repeat(3, 3), tmp_path / "one.png", ends=1)
    sizes = [Image.open(tmp_path / name).size for name in ("two.png", "one.png")]
    assert sizes[0][0] > 1.5 * sizes[1][0]
    assert sizes[0][1] > sizes[1][1] + 100
    with pytest.raises(DataError, match="no directions to draw"):
        draw_directions([], images, images, tmp_path / "none.png")
    without_images = directions(*features, ends=0)
    with pytest.raises(DataError, match="or no images at their ends"):
        draw_directions(without_images, images, images, tmp_path / "none.png")


def heated(image, corner):
    """An image of which one corner has all the heat: rows and columns of a map of 4 x 4."""
    heat = np.zeros((4, 4))
    heat[corner] = 0.64
    return HeatedImage("image.png", image, heat, 0.04)


def test_heat_maps(tmp_path):
    wide = np.full((60, 120), 90, np.uint8)
    square = np.full((80, 80, 3), 90, np.uint8)
    sides = {"generated": [heated(wide, (0, 3)), heated(square, (3, 0))], "real": []}
    draw_heat_maps(sides, tmp_path / "one.png", title="Where the sets differ")
    sides["real"] = [heated(square, (0, 0))]
    draw_heat_maps(sides, tmp_path / "two.png")
    pictures = [
        np.asarray(Image.open(tmp_path / f"{x}.png").convert("RGB")) for x in ("one", "two")
    ]
    assert pictures[0].shape == pictures[1].shape
    # Yellow, as hot as it gets, is in the plot of the first image at its upper right.
    hot = (pictures[0][..., 0] > 150) & (pictures[0][..., 2] < 140)
    rows, columns = np.nonzero(hot[:, : hot.shape[1] // 2])
    plot = hot.shape[1] / 4
    assert len(rows) > 200
    assert columns.min() > 1.5 * plot
    nothing = [HeatedImage(0, square, np.full((4, 4), -1.0), 0.0)]
    draw_heat_maps({"real": nothing}, tmp_path / "cold.png")
    with pytest.raises(DataError, match="no heat maps to draw"):
        draw_heat_maps({"real": []}, tmp_path / "none.png")
