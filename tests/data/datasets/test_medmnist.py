"""MedMNIST: labels stay with their images, downloads are checked, odd files are reported."""

import hashlib
import tempfile
import urllib.error
import urllib.request
import zipfile

import numpy as np
import pytest
from helpers.dummy_datasets import write_medmnist

from fid_med.data.datasets import load_dataset, medmnist, medmnist_facts
from fid_med.errors import DataError
from fid_med.training.splits import split


def numbered(path, **changes):
    """Six images a split whose grey says which they are, sorted by label."""
    arrays = {}
    for start, part in ((0, "train"), (100, "val"), (200, "test")):
        numbers = np.arange(start, start + 6, dtype=np.uint8)
        arrays[f"{part}_images"] = numbers[:, None, None] * np.ones((1, 5, 5), np.uint8)
        arrays[f"{part}_labels"] = np.sort(numbers % 2)[:, None]
    return write_medmnist(path, **(arrays | changes))


def test_labels_and_splits_stay_with_their_images(tmp_path):
    images = load_dataset("medmnist", numbered(tmp_path / "x.npz"))
    assert images.classes == ("0", "1")
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1] * 3
    first = [int(load()[0, 0]) for load in images.loaders]
    assert first == [*range(6), *range(100, 106), *range(200, 206)]
    assert images.splits.tolist() == ["train"] * 6 + ["validation"] * 6 + ["test"] * 6
    flat = numbered(tmp_path / "y.npz", train_labels=np.array([0, 0, 0, 1, 1, 1]))
    assert load_dataset("medmnist", flat).labels.tolist() == images.labels.tolist()


@pytest.mark.parametrize(
    ("name", "file", "classes"),
    [
        ("medmnist", "pneumoniamnist.npz", ("normal", "pneumonia")),
        ("medmnist", "pneumoniamnist_224.npz", ("normal", "pneumonia")),
        ("medmnist", "pneumoniamnist_32.npz", ("0", "1")),
        ("medmnist/breastmnist", "any.npz", ("malignant", "normal, benign")),
    ],
)
def test_labels_have_names_where_the_set_is_known(name, file, classes, tmp_path):
    assert load_dataset(name, numbered(tmp_path / file)).classes == classes


def test_labels_that_the_set_does_not_have_keep_their_numbers(tmp_path):
    odd = np.array([0, 0, 0, 7, 7, 7], np.uint8)[:, None]
    images = load_dataset("medmnist", numbered(tmp_path / "breastmnist.npz", train_labels=odd))
    assert images.classes == ("0", "1", "7")


def test_ordinal_labels_are_classes_in_their_order(tmp_path):
    path = write_medmnist(tmp_path / "retinamnist.npz", (10, 5, 5), labels=5, colour=True)
    images = load_dataset("medmnist", path)
    assert images.classes == ("0", "1", "2", "3", "4")
    assert images.loaders[0]().shape == (28, 28, 3)
    assert not images.multi_label


def test_chestmnist_has_fourteen_labels_at_once(tmp_path):
    path = write_medmnist(tmp_path / "chestmnist.npz", (60, 60, 60), several=14)
    arrays = np.load(path)
    expected = np.concatenate([arrays[f"{part}_labels"] for part in ("train", "val", "test")])
    images = load_dataset("medmnist", path)
    assert images.labels.dtype == bool
    np.testing.assert_array_equal(images.labels, expected)
    assert images.classes[0] == "atelectasis"
    assert images.counts()["hernia"] == expected[:, 13].sum()
    digests = [str(i) for i in range(180)]
    np.testing.assert_array_equal(split(images, digests, (0.2, 0.2), 0), images.splits)
    alone = load_dataset("medmnist", path, label="pneumonia")
    assert alone.classes == ("no pneumonia", "pneumonia")
    np.testing.assert_array_equal(alone.labels, expected[:, 6])
    with pytest.raises(DataError, match=r"label 'pneumona': not in chestmnist\.npz; choose atelec"):
        load_dataset("medmnist", path, label="pneumona")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_images": None}, "lacks val_images"),
        (
            {"train_labels": np.zeros((6, 14), int)},
            "the splits differ in the number of labels per image",
        ),
        ({"train_labels": np.zeros((5, 1), int)}, "6 train images, 5 labels"),
        ({"train_labels": np.zeros((6, 1))}, "train labels are float64, expected whole numbers"),
        ({"train_labels": np.full((6, 2), 2)}, "train labels of 2 columns must be 0 or 1"),
        ({"train_labels": np.array([{}], dtype=object)}, "cannot be read"),
        ({"train_labels": np.zeros((6, 1, 1), int)}, r"train labels of shape \(6, 1, 1\)"),
        ({"test_labels": np.array(3)}, r"test labels of shape \(\)"),
        ({"val_images": np.array(3, np.uint8)}, r"val images of shape \(\)"),
        ({"val_images": np.zeros((6, 5), np.uint8)}, r"val images of shape \(6, 5\)"),
        ({"train_images": np.array([{}] * 6, dtype=object)}, "cannot be read"),
    ],
)
def test_files_of_odd_shapes_are_reported_in_one_line(changes, message, tmp_path):
    with pytest.raises(DataError, match=message) as error:
        load_dataset("medmnist", numbered(tmp_path / "x.npz", **changes))
    assert "\n" not in str(error.value)


def test_label_of_a_set_with_one_label_an_image_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"label '1': x\.npz has one label per image"):
        load_dataset("medmnist", numbered(tmp_path / "x.npz"), label="1")


def test_file_that_is_missing_cut_text_empty_or_a_bare_array(tmp_path):
    path = numbered(tmp_path / "x.npz")
    (tmp_path / "cut.npz").write_bytes(path.read_bytes()[:300])
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "empty.npz").write_bytes(b"")
    with open(tmp_path / "bare.npz", "wb") as file:
        np.save(file, np.zeros(3))
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / "odd.npz", "w") as odd:
        for name in whole.namelist():
            odd.writestr(name, "no array" if name == "val_labels.npy" else whole.read(name))
    for name in ("missing.npz", "cut.npz", "text.npz", "empty.npz", "bare.npz", "odd.npz"):
        with pytest.raises(DataError, match=name) as error:
            load_dataset("medmnist", tmp_path / name)
        assert "\n" not in str(error.value)
        assert "pickle" not in str(error.value)


def test_in_colour_and_of_wrong_type(tmp_path):
    colour = np.arange(6 * 75, dtype=np.uint8).reshape(6, 5, 5, 3)
    images = load_dataset("medmnist", numbered(tmp_path / "x.npz", train_images=colour))
    np.testing.assert_array_equal(images.loaders[4](), colour[4])
    floats = load_dataset("medmnist", numbered(tmp_path / "y.npz", val_images=np.zeros((6, 5, 5))))
    with pytest.raises(DataError, match=r"y\.npz val/0: pixels are float64"):
        floats.loaders[6]()


def test_damaged_anywhere_is_refused_or_whole(tmp_path):
    path = numbered(tmp_path / "x.npz")
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


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Stands in for Zenodo: pneumoniamnist_64.npz, its address and its checksum."""
    source = numbered(tmp_path / "zenodo" / "pneumoniamnist_64.npz")
    md5 = hashlib.md5(source.read_bytes()).hexdigest()
    facts = medmnist_facts.SETS["pneumoniamnist"]
    monkeypatch.setitem(
        medmnist_facts.SETS, "pneumoniamnist", facts._replace(md5=("-", md5, "-", "-"))
    )
    monkeypatch.setattr(medmnist_facts, "_RECORD", (tmp_path / "zenodo").as_uri())
    opened = urllib.request.urlopen

    def from_disk(url, timeout):
        return opened(url.removesuffix("?download=1"), timeout=timeout)

    monkeypatch.setattr(urllib.request, "urlopen", from_disk)
    return source


def test_a_set_by_name_is_downloaded_once(published, tmp_path):
    folder = tmp_path / "data"
    first = load_dataset("medmnist/pneumoniamnist_64", folder)
    assert [path.name for path in folder.iterdir()] == ["pneumoniamnist_64.npz"]
    published.unlink()
    again = load_dataset("medmnist/pneumoniamnist_64", folder)
    assert first.classes == again.classes == ("normal", "pneumonia")
    assert first.labels.tolist() == again.labels.tolist()


def test_a_download_with_another_checksum_leaves_nothing(published, tmp_path):
    numbered(published, train_labels=np.zeros((6, 1), int))
    with pytest.raises(DataError, match=r"pneumoniamnist_64\.npz.*MD5.*published is"):
        load_dataset("medmnist/pneumoniamnist_64", tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())


def test_offline_says_what_to_fetch_and_where_to_put_it(tmp_path, monkeypatch):
    def urlopen(url, timeout):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    with pytest.raises(DataError) as error:
        load_dataset("medmnist/octmnist", tmp_path)
    message = str(error.value)
    assert message.startswith("https://zenodo.org/records/10519652/files/octmnist.npz?download=1 ")
    assert message.endswith(f"put it at {tmp_path / 'octmnist.npz'}")
    assert "\n" not in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["medmnist/mnist", "medmnist/octmnist_32", "medmnist/octmnist_28", "medmnist/"]
)
def test_unknown_sets_are_reported_with_the_known(name, tmp_path):
    with pytest.raises(DataError, match="known: pathmnist, chestmnist"):
        load_dataset(name, tmp_path)


def test_a_folder_without_a_flag_asks_for_it(tmp_path):
    with pytest.raises(DataError, match="--dataset=medmnist/<flag>"):
        load_dataset("medmnist", tmp_path)


def test_facts_are_those_of_the_publication():
    sets = medmnist_facts.SETS
    assert len(sets) == 12
    digests = [md5 for facts in sets.values() for md5 in facts.md5]
    assert len(set(digests)) == 48
    assert all(len(md5) == 32 and int(md5, 16) for md5 in digests)
    classes = {flag: len(facts.labels) for flag, facts in sets.items()}
    assert classes == {
        "pathmnist": 9, "chestmnist": 14, "dermamnist": 7, "octmnist": 4, "pneumoniamnist": 2,
        "retinamnist": 5, "breastmnist": 2, "bloodmnist": 8, "tissuemnist": 8, "organamnist": 11,
        "organcmnist": 11, "organsmnist": 11,
    }  # fmt: skip
    colour = {flag for flag, facts in sets.items() if facts.channels == 3}
    assert colour == {"pathmnist", "dermamnist", "retinamnist", "bloodmnist"}
    assert [flag for flag, facts in sets.items() if facts.multi_label] == ["chestmnist"]


def test_files_beyond_the_memory_limit_are_read_from_disk(tmp_path, monkeypatch):
    path = numbered(tmp_path / "x.npz")
    expected = load_dataset("medmnist", path)
    monkeypatch.setattr(medmnist, "MEMORY_LIMIT", 200)  # the images, not the labels
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    images = load_dataset("medmnist", path)
    assert isinstance(images.loaders[0].args[0].base, np.memmap)
    for one, other in zip(images.loaders, expected.loaders, strict=True):
        np.testing.assert_array_equal(one(), other())
    assert images.labels.tolist() == expected.labels.tolist()
    assert not list((tmp_path / "temporary").iterdir())
