"""The data sets: labels stay with their images, and layouts that are wrong are told."""

import numpy as np
import pytest
from PIL import Image

from fid_med.data.datasets import load_dataset
from fid_med.errors import DataError


@pytest.fixture
def folder(tmp_path):
    for name in ("neck/P1_a.png", "neck/deep/P2_a.png", "elbow/P1_b.png", "elbow/._P1_b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), len(name), np.uint8)).save(tmp_path / name)
    return tmp_path


def test_labelled_folder(folder):
    images = load_dataset("labelled_folder", folder, patient_regex="^(P[0-9]+)_")
    assert list(images.names) == ["elbow/P1_b.png", "neck/P1_a.png", "neck/deep/P2_a.png"]
    assert images.classes == ("elbow", "neck")
    assert images.labels.tolist() == [0, 1, 1]
    assert images.patients == ["P1", "P1", "P2"]
    for name, load in zip(images.names, images.loaders, strict=True):
        assert load()[0, 0] == len(name)
    assert load_dataset("labelled_folder", folder).patients is None
    assert load_dataset("labelled_folder", folder, patient_regex="^P.").patients[0] == "P1"


@pytest.mark.parametrize(
    ("expression", "message"), [("^Q", "matches nothing in 3 names"), ("(", "patient_regex")]
)
def test_patient_regex_that_fails(expression, message, folder):
    with pytest.raises(DataError, match=message):
        load_dataset("labelled_folder", folder, patient_regex=expression)


def test_stray_images_are_told(folder):
    Image.new("L", (4, 4)).save(folder / "stray.png")
    with pytest.raises(DataError, match=r"1 images \(such as stray\.png\)"):
        load_dataset("labelled_folder", folder)


def medmnist(path, **changes):
    arrays = {}
    for start, part in ((0, "train"), (100, "val"), (200, "test")):
        numbers = np.arange(start, start + 6, dtype=np.uint8)
        arrays[f"{part}_images"] = numbers[:, None, None] * np.ones((1, 5, 5), np.uint8)
        arrays[f"{part}_labels"] = np.sort(numbers % 2)[:, None]
    arrays |= changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_medmnist_keeps_labels_and_splits_with_their_images(tmp_path):
    images = load_dataset("medmnist", medmnist(tmp_path / "x.npz"))
    assert images.classes == ("0", "1")
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1] * 3
    first = [int(load()[0, 0]) for load in images.loaders]
    assert first == [*range(6), *range(100, 106), *range(200, 206)]
    assert images.splits.tolist() == ["train"] * 6 + ["validation"] * 6 + ["test"] * 6
    flat = medmnist(tmp_path / "y.npz", train_labels=np.array([0, 0, 0, 1, 1, 1]))
    assert load_dataset("medmnist", flat).labels.tolist() == images.labels.tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_images": None}, "lacks val_images"),
        ({"train_labels": np.zeros((6, 14))}, "14 labels for each train image"),
        ({"train_labels": np.zeros((5, 1))}, "6 train images, 5 labels"),
        ({"train_labels": np.array([{}], dtype=object)}, "cannot be read"),
    ],
)
def test_medmnist_that_is_none(changes, message, tmp_path):
    with pytest.raises(DataError, match=message):
        load_dataset("medmnist", medmnist(tmp_path / "x.npz", **changes))


def test_medmnist_file_that_is_missing_cut_or_text(tmp_path):
    path = medmnist(tmp_path / "x.npz")
    (tmp_path / "cut.npz").write_bytes(path.read_bytes()[:300])
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("missing.npz", "cut.npz", "text.npz"):
        with pytest.raises(DataError, match=name) as error:
            load_dataset("medmnist", tmp_path / name)
        assert "\n" not in str(error.value)


def test_phantoms_by_either_label():
    by_part = load_dataset("phantom", None, phantoms=12, image_size=32)
    assert len(by_part.classes) == 6
    assert set(by_part.counts().values()) == {2}
    assert len(set(by_part.patients)) == 12
    by_lesion = load_dataset("phantom", None, phantoms=12, image_size=32, label="abnormality")
    assert by_lesion.classes == ("abnormal", "normal")


def test_load_dataset_refuses():
    with pytest.raises(DataError, match="no such data set"):
        load_dataset("mnist", "x")
    with pytest.raises(DataError, match="--data_dir"):
        load_dataset("medmnist", None)


@pytest.mark.parametrize("expression", ["^(Q[0-9]+)?", "(x)*P", "^Q?", "()"])
def test_patient_regex_that_finds_nobody_is_refused(expression, folder):
    # Else every image would be one patient's, called None.
    with pytest.raises(DataError, match="matches nothing in 3 names, such as elbow/P1_b"):
        load_dataset("labelled_folder", folder, patient_regex=expression)


def test_patient_is_searched_in_the_file_name_alone(folder):
    images = load_dataset("labelled_folder", folder, patient_regex="[a-z]")
    assert images.patients == ["b", "a", "a"]


def test_labelled_folder_is_named_wherever_it_is_called_from(folder, monkeypatch):
    expected = folder.name
    monkeypatch.chdir(folder)
    assert load_dataset("labelled_folder", ".").name == expected


def test_labelled_folder_that_cannot_serve(folder, tmp_path_factory):
    with pytest.raises(DataError, match="no such folder"):
        load_dataset("labelled_folder", folder / "missing")
    one = tmp_path_factory.mktemp("one")
    (one / "neck").mkdir()
    Image.new("L", (4, 4)).save(one / "neck" / "x.png")
    (one / "elbow").mkdir()
    with pytest.raises(DataError, match="at least two labels to tell apart, has neck"):
        load_dataset("labelled_folder", one)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_labels": np.zeros((6, 1, 1))}, r"train labels of shape \(6, 1, 1\)"),
        ({"test_labels": np.array(3)}, r"test labels of shape \(\)"),
        ({"val_images": np.array(3, np.uint8)}, r"val images of shape \(\)"),
        ({"val_images": np.zeros((6, 5), np.uint8)}, r"val images of shape \(6, 5\)"),
        ({"train_images": np.array([{}] * 6, dtype=object)}, "cannot be read"),
    ],
)
def test_medmnist_of_odd_shapes_is_told_in_one_line(changes, message, tmp_path):
    with pytest.raises(DataError, match=message) as error:
        load_dataset("medmnist", medmnist(tmp_path / "x.npz", **changes))
    assert "\n" not in str(error.value)


def test_medmnist_in_colour_and_of_wrong_type(tmp_path):
    colour = np.arange(6 * 75, dtype=np.uint8).reshape(6, 5, 5, 3)
    images = load_dataset("medmnist", medmnist(tmp_path / "x.npz", train_images=colour))
    np.testing.assert_array_equal(images.loaders[4](), colour[4])
    floats = load_dataset("medmnist", medmnist(tmp_path / "y.npz", val_images=np.zeros((6, 5, 5))))
    with pytest.raises(DataError, match=r"y\.npz val/0: pixels are float64"):
        floats.loaders[6]()


def test_medmnist_damaged_anywhere_is_refused_or_whole(tmp_path):
    path = medmnist(tmp_path / "x.npz")
    arrays = dict(np.load(path))
    np.savez_compressed(path, **arrays)
    content = path.read_bytes()
    refused = 0
    for at in range(0, len(content), 37):
        damaged = bytearray(content)
        damaged[at] ^= 0xFF
        path.write_bytes(damaged)
        try:
            images = load_dataset("medmnist", path)
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017
            refused += 1
        else:
            assert [int(load()[0, 0]) for load in images.loaders[:6]] == [*range(6)]
    assert refused > 20


def test_medmnist_that_is_empty_or_a_bare_array(tmp_path):
    (tmp_path / "empty.npz").write_bytes(b"")
    with open(tmp_path / "bare.npz", "wb") as file:
        np.save(file, np.zeros(3))
    for name in ("empty.npz", "bare.npz"):
        with pytest.raises(DataError, match=name) as error:
            load_dataset("medmnist", tmp_path / name)
        assert "\n" not in str(error.value)


def test_phantoms_are_a_function_of_their_seed():
    first, again, other = (
        load_dataset("phantom", None, phantoms=6, image_size=32, seed=seed) for seed in (0, 0, 1)
    )
    for one, two in zip(first.loaders, again.loaders, strict=True):
        np.testing.assert_array_equal(one(), two())
    assert any(
        (one() != two()).any() for one, two in zip(first.loaders, other.loaders, strict=True)
    )
    assert first.loaders[0]().dtype == np.uint8
