"""The training set whose second target is the degree of degradation."""

import csv

import numpy as np
from PIL import Image

from benchmarks.degraded_labels import degraded_labels
from fid_med.data.datasets import load_dataset
from fid_med.disturbances.registry import DISTURBANCES, disturb


def test_labels_are_those_of_the_folders_and_the_levels(phantoms, tmp_path):
    splits = {}
    for i, image in enumerate(phantoms[0][:6]):
        name = f"{'normal' if i < 3 else 'fracture'}/p{i // 2}_{i}.png"
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / name)
        splits[name] = "test" if i == 5 else "train"
    out = tmp_path / "out"
    names = ["low_dose", "wrong_laterality", "contamination"]
    assert degraded_labels(tmp_path, out, names, "^p.", splits, 0) == 20
    rows = list(csv.DictReader((out / "labels.csv").open()))
    found = {row["path"]: row["label"] for row in rows}
    # The first folder in the alphabet is the absence of the other label.
    assert found["fracture_p1_3_0.png"] == ""
    assert found["normal_p0_1_2.png"] == "normal|degraded1|degraded2"
    assert not any("p2_5" in path for path in found)
    assert {row["patient"] for row in rows} == {"p0", "p1", "p2"}
    level = DISTURBANCES["low_dose"].levels[2]
    expected = disturb(phantoms[0][1], "low_dose", level, seed=1)
    np.testing.assert_array_equal(np.asarray(Image.open(out / "normal_p0_1_2.png")), expected)
    images = load_dataset("labelled_folder", out, labels_csv=out / "labels.csv")
    assert images.classes == ("degraded1", "degraded2", "degraded3", "normal")
    assert images.labels.sum(axis=0).tolist() == [15, 10, 5, 12]
