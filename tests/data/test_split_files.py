"""A split of a training's images: found by path, whichever folder of the data is given."""

import numpy as np
import pytest

from fid_med.data.split_files import images_of_split, read_splits
from fid_med.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)
NAMES = ["a.png", "b.png", "c.png", "new.png"]


@pytest.fixture
def folder(write_images):
    for label in ("sick", "well"):
        write_images(f"radiographs/{label}/wrist", IMAGES, NAMES)
    return write_images("other", IMAGES, ["x.png", "y.png", "z.png", "w.png"]).parent


@pytest.fixture
def splits_csv(tmp_path):
    rows = ["image,label,split,patient"]
    for label, parts in (("sick", ("train", "test", "validation")), ("well", ("test",) * 3)):
        rows += [
            f"{label}/wrist/{name},{label},{part},p"
            for name, part in zip(NAMES, parts, strict=False)
        ]
    (tmp_path / "splits.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "splits.csv"


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("radiographs", ["sick/wrist/b.png", *(f"well/wrist/{x}.png" for x in "abc")]),
        ("radiographs/sick", ["wrist/b.png"]),
        ("radiographs/well/wrist", ["a.png", "b.png", "c.png"]),
    ],
)
def test_the_data_folder_or_one_inside_it(inside, expected, folder, splits_csv):
    source = images_of_split(folder / inside, splits_csv, "test")
    assert (source.names, source.count, source.kind) == (expected, len(expected), "folder")
    assert [name for name, _ in source.loaders] == expected
    np.testing.assert_array_equal(source.loaders[0][1](), IMAGES["ab".index(expected[0][-5])])
    (validated,) = images_of_split(folder / "radiographs", splits_csv, "validation").names
    assert validated == "sick/wrist/c.png"


def test_an_opened_split_can_be_given_as_a_folder_can(folder, splits_csv):
    from fid_med.data.sources import open_source

    source = images_of_split(folder / "radiographs", splits_csv, "test")
    again = open_source(source, "real")
    assert (again.name, again.names) == ("real", source.names)


@pytest.mark.parametrize(
    ("inside", "split", "message"),
    [
        ("other", "test", "none of its 4 images is in .*splits.csv; give the data folder"),
        ("radiographs/well", "train", "no image of the split train in .*, only 3 test"),
        ("radiographs", "held-out", "expected train, validation, test"),
    ],
)
def test_what_holds_no_such_image_is_refused(inside, split, message, folder, splits_csv):
    with pytest.raises(DataError, match=message):
        images_of_split(folder / inside, splits_csv, split)


def test_what_is_no_file_of_splits_is_refused(tmp_path):
    (tmp_path / "labels.csv").write_text("path,label\na.png,well\n")
    with pytest.raises(DataError, match="no columns image and split"):
        read_splits(tmp_path / "labels.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_splits(tmp_path / "none.csv")
