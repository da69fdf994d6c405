"""The demo's checks, its last lines and its pictures; `make demo` runs the rest."""

import numpy as np
import pytest
from PIL import Image

from fid_med import demo
from fid_med.disturbances.registry import GROUPS
from fid_med.errors import FidMedError
from fid_med.utils import plots


def test_disturbed_sets_differ_from_the_clean_one_as_their_names_say(phantoms):
    images = phantoms[0][:6]
    sets, again = demo.disturbed(images), demo.disturbed(images)
    for name, pixels in sets.items():
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, again[name])

    def roughness(pixels):
        return np.abs(np.diff(pixels.astype(float), axis=2)).mean()

    assert roughness(sets["with noise"]) > 2 * roughness(images)
    assert roughness(sets["blurred"]) < 0.8 * roughness(images)
    np.testing.assert_array_equal(sets["halves mixed up"][1, 40:], images[0, 40:])
    np.testing.assert_array_equal(sets["halves mixed up"][:, :40], images[:, :40])


def report(accuracy=0.9, noise=5.0):
    fid = {"held-out phantoms": 1.0, "with noise": noise, "blurred": 3.0}
    return {"accuracy": accuracy, "chance": 1 / 6, "fid": fid}


def test_demo_fails_where_it_proves_nothing():
    demo._check(report())
    with pytest.raises(FidMedError, match="chance"):
        demo._check(report(accuracy=0.3))
    with pytest.raises(FidMedError, match="chance"):
        demo._check(report(accuracy=float("nan")))
    with pytest.raises(FidMedError, match="with noise"):
        demo._check(report(noise=1.0))
    with pytest.raises(FidMedError, match="with noise"):
        demo._check(report(noise=float("nan")))


def test_the_last_lines_say_what_is_good_and_what_is_bad():
    study = {"before training": "no. Why.", "trained on phantoms": "yes. Why."}
    fid = {"held-out phantoms": 95.512, "with noise": 144700.2}
    results = report() | {"fid": fid, "study": study, "weights": "random", "images_per_set": 240}
    lines = demo.summary_lines(results)
    assert "trained on phantoms: yes. Why." in lines[1]
    assert lines[-4:-1] == [
        "accuracy on held-out phantoms: 0.900 (good: chance is 0.167)",
        "FID held-out phantoms: 95.51 (good: both sets are clean, 240 phantoms each)",
        "FID with noise: 144,700 (bad, as it should be: 1,515.0 times that of the clean set)",
    ]
    assert "vary with the processor" in lines[-1]


def test_the_study_judges_both_networks_and_writes_its_page(
    phantoms, small_extractor, tmp_path, monkeypatch
):
    images, foreign = phantoms[0][:8], phantoms[0][8:16]
    monkeypatch.setitem(GROUPS, "six", ("gaussian_blur", "contamination"))
    verdicts = demo._study(tmp_path / "study", images, foreign, small_extractor, "random")
    assert list(verdicts) == ["before training", "trained on phantoms"]
    page = (tmp_path / "study" / "report.html").read_text(encoding="utf-8")
    for name, verdict in verdicts.items():
        assert verdict.split(".")[0] in ("yes", "no", "partly", "undecided")
        assert name in page
    assert "not patients" in page


def test_pictures_are_drawn(phantoms, tmp_path):
    row = {"loss": 1.0, "accuracy": 0.5, "val_loss": 1.2, "val_accuracy": 0.4, "val_auc": None}
    rows = [row | {"phase": phase, "epoch": i} for phase in ("head", "top") for i in (1, 2)]
    plots.plot_history(rows, tmp_path / "history.png", {"head": 1, "top": 2})
    plots.contact_sheet([("a", list(phantoms[0][:3])), ("b", [])], tmp_path / "sheet.png", "t")
    plots.log_dot_chart([("a", 1.0), ("b", 1e4)], tmp_path / "dots.png", "t", "FID")
    for name in ("history.png", "sheet.png", "dots.png"):
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 150
            assert np.asarray(picture.convert("L")).std() > 5
