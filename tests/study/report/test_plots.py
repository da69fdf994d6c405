"""The grid of verdicts, and the contact sheet: each example with the settings of its level."""

import matplotlib.axes
import numpy as np
import pytest
from PIL import Image

from fid_med.disturbances.registry import DISTURBANCES, absolute_settings, disturb
from fid_med.study.judgement import FALLS, RISES, UNDECIDED
from fid_med.study.report import plots
from fid_med.study.report.plots import plot_contact_sheet, plot_disturbance, plot_verdicts


@pytest.fixture
def drawn(monkeypatch):
    """Records the images and texts that are drawn."""
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
    image, options = phantoms[0][0], {"scale": "pixel", "input_size": 40}
    names = ["gaussian_blur", "low_dose"]
    about, pictures = {}, {}
    for name in names:
        one = DISTURBANCES[name]
        about[name] = {
            "description": one.description,
            "unit": one.unit,
            "levels": list(one.levels),
            "absolute": [absolute_settings(name, a, image.shape, **options) for a in one.levels],
        }
        pictures[name] = [disturb(image, name, level, seed=0, **options) for level in one.levels]
    plot_contact_sheet(tmp_path / "s.png", about, pictures, "pixel")
    given = [picture for name in names for picture in pictures[name]]
    for shown, picture in zip(drawn["images"], given, strict=True):
        np.testing.assert_array_equal(shown, picture)
    text = "\n".join(drawn["texts"])
    assert "a = 4\nsigma pixels 8" in text  # 80 pixels high, 40 of input: 2 pixels a unit
    assert text.count("untouched") == 2
    for name in names:
        assert f"{name}\na: {DISTURBANCES[name].unit}" in text
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.size[0] > 1000


@pytest.mark.parametrize("extractors", [1, 2, 3])
def test_the_grid_shows_the_verdict_of_each_disturbance_at_each_depth(tmp_path, drawn, extractors):
    cells = {"swirl": (UNDECIDED, 0.8), "noise": (RISES, 1.0)}
    depths = {"64": cells, "2048": cells | {"noise": (FALLS, 0.0)}}
    plot_verdicts(tmp_path / "v.png", {f"extractor {k}": depths for k in range(extractors)})
    for text, number in (("? 80", 2), ("▲ 100", 1), ("▼ 0", 1)):
        assert drawn["texts"].count(text) == number * extractors


@pytest.mark.parametrize("depths", [1, 5])
def test_curves_carry_their_disturbance_counts_and_band(tmp_path, monkeypatch, phantoms, depths):
    drawn = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: drawn.append(figure))
    points = [(1, 1, 1), (2, 1.5, 3), (4, 3, 5)]
    curves = {f"depth {k}": {"one": points, "other": points} for k in range(depths)}
    large = np.kron(phantoms[0][0], np.ones((8, 8), np.uint8))
    plot_disturbance(
        tmp_path / "c.png", "Relative FID under swirl", [0, 1, 2], "radians", [large] * 3, curves,
        "20 per side.\nBand: 95 % interval",
    )  # fmt: skip
    (figure,) = drawn
    top, bottom = figure.subfigs
    assert figure.get_suptitle() == "Relative FID under swirl"
    assert bottom.get_supxlabel() == "level: radians\n20 per side.\nBand: 95 % interval"
    assert [axis.get_title() for axis in top.axes] == ["undisturbed", "level 1", "level 2"]
    # Large enough to see the damage.
    assert top.axes[0].images[0].get_array().shape == (320, 320)
    panels = [axis for axis in bottom.axes if axis.lines]
    assert [axis.get_title() for axis in panels] == list(curves)
    assert all(axis.get_ylim()[0] <= 1 for axis in panels)
    assert sum(axis.get_legend() is not None for axis in bottom.axes) == 1
