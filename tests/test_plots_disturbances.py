"""The contact sheet: it holds the very pixels that a study would see."""

import matplotlib.axes
import numpy as np
import pytest
from PIL import Image

from fid_med.data.disturbances import DISTURBANCES, disturb
from fid_med.plots_disturbances import disturbance_sheet


@pytest.fixture
def drawn(monkeypatch):
    """What imshow was given, and the texts beside it."""
    seen = {"images": [], "texts": []}
    imshow, text = matplotlib.axes.Axes.imshow, matplotlib.axes.Axes.text

    def spy_imshow(self, image, **kwargs):
        seen["images"].append(np.array(image))
        return imshow(self, image, **kwargs)

    def spy_text(self, x, y, s, *args, **kwargs):
        seen["texts"].append(s)
        return text(self, x, y, s, *args, **kwargs)

    monkeypatch.setattr(matplotlib.axes.Axes, "imshow", spy_imshow)
    monkeypatch.setattr(matplotlib.axes.Axes, "text", spy_text)
    return seen


def test_a_row_shows_the_definition_the_levels_and_absolute_values(tmp_path, phantoms, drawn):
    images = phantoms[0][:16]
    names = ["gaussian_blur", "contamination", "low_dose"]
    options = {"scale": "pixel", "input_size": 40, "seed": 4}
    foreign = np.full((1, 20, 30, 3), 250, np.uint8)
    disturbance_sheet(images, tmp_path / "s.png", names=names, foreign=foreign, **options)
    assert len(drawn["images"]) == 12
    for name, pictures in (
        ("gaussian_blur", drawn["images"][:4]),
        ("low_dose", drawn["images"][8:]),
    ):
        for level, picture in zip(DISTURBANCES[name].levels, pictures, strict=True):
            np.testing.assert_array_equal(picture, disturb(images[0], name, level, **options))
    tiles = [p.reshape(4, 128, 4, 128).mean(axis=(1, 3)) for p in drawn["images"][4:8]]
    assert [(tile == 250).sum() for tile in tiles] == [0, 4, 8, 12]
    text = "\n".join(drawn["texts"])
    assert "a = 4\nsigma pixels 8" in text  # 80 pixels high, 40 of input: 2 pixels a unit
    assert "untouched" in text
    for name in names:
        assert f"{name}\na: {DISTURBANCES[name].unit}" in text
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.size[0] > 1000


def test_without_another_domain_contamination_is_left_out(tmp_path, phantoms, drawn):
    names = ("contamination", "wrong_laterality")
    disturbance_sheet(phantoms[0][:2], tmp_path / "s.png", names=names)
    assert len(drawn["images"]) == 4
    assert "contamination" not in "\n".join(drawn["texts"])
