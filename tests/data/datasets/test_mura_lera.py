"""MURA and LERA: counts, labels, splits and patients of dummy trees; mistakes are reported."""

import numpy as np
import pytest
from helpers.dummy_datasets import REGIONS, write_image, write_lera, write_mura

from fid_med.data.datasets import load_dataset
from fid_med.data.labelled import DEVELOPMENT, UNDIVIDED
from fid_med.errors import DataError
from fid_med.training.splits import split
from fid_med.utils.hashing import ImageHasher


@pytest.fixture
def folder(tmp_path):
    write_mura(tmp_path)
    write_lera(tmp_path)
    return tmp_path


def of(images, name):
    i = list(images.names).index(name)
    splits = images.splits if images.splits is not None else [UNDIVIDED] * len(images)
    return images.classes[images.labels[i]], images.patients[i], images.studies[i], splits[i]


def test_mura(folder):
    images = load_dataset("mura", folder)
    assert len(images) == 98
    assert images.classes == tuple(region.lower() for region in REGIONS)
    assert set(images.counts().values()) == {14}
    assert not any("._" in name for name in images.names)
    name = "train/XR_ELBOW/patient00002/study1_positive/image2.png"
    assert of(images, name) == (
        "elbow", "patient00002", "XR_ELBOW/patient00002/study1_positive", DEVELOPMENT
    )  # fmt: skip
    assert of(images, "valid/XR_WRIST/patient00035/study1_negative/image1.png")[3] == "test"
    assert len(set(images.studies)) == 35
    assert {load().shape for load in images.loaders} == {(6, 5, 3), (6, 5)}
    assert load_dataset("mura", folder / "MURA-v1.1").names == images.names


def test_mura_by_abnormality_and_by_both(folder):
    images = load_dataset("mura", folder, label="abnormality")
    assert images.classes == ("abnormal", "normal")
    for name, label in zip(images.names, images.labels, strict=True):
        assert ("positive" in name) == (images.classes[label] == "abnormal")
    both = load_dataset("mura", folder, label="both")
    assert len(both.classes) == 14
    assert of(both, "train/XR_HAND/patient00014/study1_positive/image1.png")[0] == "hand_abnormal"


@pytest.mark.parametrize("label", ["body_part", "abnormality"])
def test_mura_is_split_by_patient_and_its_valid_split_stays_apart(label, folder):
    images = load_dataset("mura", folder, label=label)
    hasher = ImageHasher("00" * 16)
    digests = [hasher.digest(load()) for load in images.loaders]
    assigned = split(images, digests, (0.25, 0.2), 3)
    theirs = np.array([name.startswith("valid") for name in images.names])
    np.testing.assert_array_equal(assigned == "test", theirs)
    # Of four patients a region, one: the fraction is that of the training images.
    assert (assigned == "validation").sum() == pytest.approx(21, abs=3)
    for keys in (images.patients, images.studies, digests):
        sides = {}
        for key, part in zip(keys, assigned, strict=True):
            assert sides.setdefault(key, part) == part


def test_lera(folder):
    images = load_dataset("lera", folder)
    assert images.counts() == {"ankle": 6, "foot": 6, "hip": 6, "knee": 6}
    assert of(images, "0000/ST-1/im_1.png") == ("foot", "0000", "0000/ST-1", UNDIVIDED)
    assert of(images, "0007/ST-1/im_0.png")[0] == "hip"
    abnormal = load_dataset("lera", folder / "LERA Dataset", label="abnormality")
    assert abnormal.counts() == {"abnormal": 8, "normal": 16}
    assert of(load_dataset("lera", folder, label="both"), "0009/ST-1/im_0.png")[0] == (
        "ankle_abnormal"
    )


def test_mura_and_lera_share_one_label_space_and_no_patient(folder):
    images = load_dataset("mura_lera", folder)
    assert len(images.classes) == 11
    assert len(images) == 98 + 24
    assert len(set(images.patients)) == 35 + 12
    assert of(images, "lera/0003/ST-1/im_0.png") == (
        "hip", "lera/0003", "lera/0003/ST-1", UNDIVIDED
    )  # fmt: skip
    name = "mura/train/XR_ELBOW/patient00002/study1_positive/image2.png"
    assert of(images, name)[0] == "elbow"
    assigned = split(images, [str(i) for i in range(len(images))], (0.25, 0.25), 0)
    lower = np.array([name.startswith("lera") for name in images.names])
    assert {part: (assigned[lower] == part).sum() for part in ("validation", "test")} == {
        "validation": 8, "test": 8
    }  # fmt: skip
    assert (assigned[~lower] == "test").sum() == 14
    assert len(load_dataset("mura_lera", folder, label="both").classes) == 22
    assert len(load_dataset("mura_lera", folder, label="abnormality").classes) == 2


@pytest.mark.parametrize("name", ["mura", "lera", "mura_lera", "phantom"])
def test_misspelt_label_is_reported_with_the_known(name, folder):
    with pytest.raises(DataError, match="label 'bodypart': unknown for this data set; choose body"):
        load_dataset(
            name, None if name == "phantom" else folder, label="bodypart", image_size=32, phantoms=2
        )


@pytest.mark.parametrize("name", ["mura", "lera", "mura_lera"])
def test_missing_data_says_where_to_get_it_and_where_to_put_it(name, tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DataError, match=r"register at https://.* and give the folder") as error:
            load_dataset(name, folder)
        assert "\n" not in str(error.value)
        assert str(folder) in str(error.value)


def test_half_of_mura_lera_is_reported(tmp_path):
    write_mura(tmp_path)
    with pytest.raises(DataError, match="lacks LERA Dataset; expected a folder that contains 'MUR"):
        load_dataset("mura_lera", tmp_path)


def test_images_of_mura_that_are_missing_are_counted(folder):
    for i in (1, 3):
        (folder / f"MURA-v1.1/train/XR_HAND/patient00013/study1_negative/image{i}.png").unlink()
    with pytest.raises(DataError, match=r"2 of 98 images .*patient00013/study1_negative/image1"):
        load_dataset("mura", folder)


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("train_image_paths.csv", "MURA-v1.1/train/XR_ELBOW/x.png", "name no image of a study in"),
        ("valid_image_paths.csv", "MURA-v1.1/../secret.png", "such as line 16: MURA-v1.1/../secr"),
        (
            "train_image_paths.csv",
            "MURA-v1.1/train/XR_HAND/patient99999/study1_positive/image1.png",
            "1 lines name no image of a study in train_labeled_studies.csv, such as line 86",
        ),
        ("valid_labeled_studies.csv", "MURA-v1.1/valid/XR_HAND/patient1/study1_x/,2", "0 or 1"),
        ("valid_labeled_studies.csv", "MURA-v1.1/valid/XR_HAND/patient1/study1_x/", "0 or 1"),
    ],
)
def test_csv_files_of_mura_that_contradict_each_other(file, line, message, folder):
    with open(folder / "MURA-v1.1" / file, "a") as table:
        table.write(line + "\n")
    with pytest.raises(DataError, match=message) as error:
        load_dataset("mura", folder)
    assert file in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "0099,XR ELBOW,0",
            "1 lines do not read patient, examination .* such as line 13: 0099,XR ELB",
        ),
        ("0099,XR HIP KNEE,0", "do not read patient, examination"),
        ("0099,XR HIP,yes", "do not read patient, examination"),
        ("0099,XR HIP", "do not read patient, examination"),
        ("0000,XR FOOT RIGHT,1", None),
        ("0000,XR HIP,0", "another label than an earlier line, such as line 13"),
        ("0099,XR HIP,0", "1 of 13 patients have no image, such as 0099"),
    ],
)
def test_lines_of_lera_that_cannot_be(line, message, folder):
    with open(folder / "LERA Dataset" / "labels.csv", "a") as table:
        table.write(line + "\n")
    if message is None:  # an image has one body part still
        assert len(load_dataset("lera", folder)) == 24
        return
    with pytest.raises(DataError, match=message) as error:
        load_dataset("lera", folder)
    assert "\n" not in str(error.value)


def test_images_that_lera_does_not_label_are_left_out_with_a_warning(folder, capsys):
    write_image(folder / "LERA Dataset" / "0500" / "ST-1" / "x.png", 1)
    assert len(load_dataset("lera", folder)) == 24
    assert "lacks the patients of 1 images, such as 0500/ST-1/x.png" in capsys.readouterr().err
