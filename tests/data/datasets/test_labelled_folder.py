"""A folder of images, labelled by subfolders or by a csv file."""

import numpy as np
import pytest
from PIL import Image

from fid_med.data.datasets import load_dataset
from fid_med.errors import DataError, SettingError
from fid_med.training.splits import split


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
    with pytest.raises((DataError, SettingError), match=message):
        load_dataset("labelled_folder", folder, patient_regex=expression)


@pytest.mark.parametrize("cell", ["-1.0", "-1", "nan", "NaN"])
def test_uncertain_labels_get_a_line_that_says_what_to_do(cell, folder):
    table = folder / "labels.csv"
    table.write_text(f"path,Edema\nneck/P1_a.png,1.0\nelbow/P1_b.png,{cell}\n")
    words = r"1 lines have an uncertain or no Edema.*--uncertain=drop.*line 3: elbow/P1_b\.png"
    with pytest.raises(DataError, match=words):
        load_dataset("labelled_folder", folder, labels_csv=table, label="Edema")


@pytest.mark.parametrize(
    ("uncertain", "names", "labels", "treated"),
    [
        ("drop", "023", [1, 0, 0], "left out"),
        ("zero", "0123", [1, 0, 0, 0], "read as 0"),
        ("one", "0123", [1, 1, 0, 0], "read as 1"),
    ],
)
@pytest.mark.parametrize("nothing", ["", "nan"])
def test_uncertain_labels_are_treated_as_the_flag_says(
    uncertain, names, labels, treated, nothing, flat, capsys
):
    text = f"path,Edema\n{PATHS[0]},1.0\n{PATHS[1]},-1.0\n{PATHS[2]},{nothing}\n{PATHS[3]},0.0\n"
    with pytest.raises(DataError, match=r"2 lines have .* or no Edema .* give --uncertain=drop"):
        flat(text, label="Edema")
    images = flat(text, label="Edema", uncertain=uncertain)
    assert list(images.names) == [PATHS[int(i)] for i in names]
    assert [int(load()[0, 0]) for load in images.loaders] == [int(i) for i in names]
    assert images.classes == ("no Edema", "Edema")
    assert images.labels.tolist() == labels
    assert images.uncertain == {"treatment": uncertain, "uncertain": 1, "empty": 1}
    assert capsys.readouterr().err == (
        f"labels.csv: 1 of 4 images have an uncertain Edema (-1), {treated}; 1 have an empty cell, "
        "read as 0\n"
    )


def test_uncertain_labels_need_a_column_like_chexperts(flat, folder):
    with pytest.raises(DataError, match=r"4 lines have another label than 1, 0, -1 .*--uncertain"):
        flat("path,label\n" + ROWS, uncertain="zero")
    with pytest.raises(DataError, match="2 lines have -1 or nan as label: correct or remove them"):
        flat("path,label\n" + ROWS.replace(",b", ",nan"))
    with pytest.raises(SettingError, match="drop, zero, one"):
        flat("path,label\n" + ROWS, uncertain="ignore")
    with pytest.raises(SettingError, match="--labels_csv"):
        load_dataset("labelled_folder", folder, uncertain="zero")
    with pytest.raises(DataError, match="--uncertain is for --dataset=labelled_folder"):
        load_dataset("phantom", None, uncertain="zero")


def test_ignored_files_are_counted_without_the_labels(folder, capsys):
    (folder / "labels.csv").write_text("path,label\nneck/P1_a.png,x\nelbow/P1_b.png,y\n")
    (folder / "neck" / "film.gif").write_bytes(b"GIF89a")
    load_dataset("labelled_folder", folder, labels_csv=folder / "labels.csv")
    assert "ignored, because not read as images: 1 .gif, 1 hidden\n" in capsys.readouterr().err


def test_stray_images_are_reported(folder):
    Image.new("L", (4, 4)).save(folder / "stray.png")
    with pytest.raises(DataError, match=r"1 images \(such as stray\.png\)"):
        load_dataset("labelled_folder", folder)


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
    with pytest.raises(DataError, match="at least two labels, has neck"):
        load_dataset("labelled_folder", one)


@pytest.fixture
def flat(tmp_path):
    """A flat folder of four images, and a function that writes a csv file and loads both."""
    folder = tmp_path / "radiographs"
    folder.mkdir()
    for i in range(4):
        Image.fromarray(np.full((4, 4), i, np.uint8)).save(folder / f"P{i // 2}_{i}.png")

    def load(text, **arguments):
        table = tmp_path / "labels.csv"
        table.write_text(text, encoding="utf-8")
        return load_dataset("labelled_folder", folder, labels_csv=table, **arguments)

    return load


PATHS = [f"P{i // 2}_{i}.png" for i in range(4)]
ROWS = "".join(f"{path},{label}\n" for path, label in zip(PATHS, "abba", strict=True))


def test_csv_gives_the_labels_of_a_flat_folder(flat):
    images = flat("path,label\n" + ROWS)
    assert list(images.names) == PATHS
    assert images.classes == ("a", "b")
    assert images.labels.tolist() == [0, 1, 1, 0]
    assert images.patients is None
    assert [load()[0, 0] for load in images.loaders] == [0, 1, 2, 3]
    assert flat("path,label\n" + ROWS, patient_regex="^P.").patients == ["P0", "P0", "P1", "P1"]


def test_csv_in_any_order_by_any_writer(flat):
    lines = ROWS.splitlines()[::-1]
    text = "\ufeffpath;label\r\n" + "\r\n".join(lines).replace(",", ";") + "\r\n\r\n"
    assert flat(text).labels.tolist() == [0, 1, 1, 0]
    windows = "path,label\n" + "".join(f".\\{line}\n" for line in lines)
    assert flat(windows).labels.tolist() == [0, 1, 1, 0]


def test_csv_of_paths_in_nested_folders(tmp_path):
    for name in ("x/1.png", "x/y/2.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / name)
    (tmp_path / "labels.csv").write_text("path,label\nx\\y\\2.png,a\n./x/1.png,b\n")
    images = load_dataset("labelled_folder", tmp_path, labels_csv=tmp_path / "labels.csv")
    assert [images.classes[i] for i in images.labels] == ["b", "a"]


def test_csv_columns_for_patient_study_and_another_label(flat):
    text = "patient,path,part,study,label,age\n" + "".join(
        f"Q{i % 2},{path},{part},S1,{label},{i}\n"
        for i, (path, part, label) in enumerate(zip(PATHS, "nnen", "abba", strict=True))
    )
    images = flat(text)
    assert images.patients == ["Q0", "Q1", "Q0", "Q1"]
    assert images.studies == ["Q0/S1", "Q1/S1", "Q0/S1", "Q1/S1"]
    assert flat(text, label="part").classes == ("e", "n")
    with pytest.raises(DataError, match="leave --patient_regex out"):
        flat(text, patient_regex="^P.")
    with pytest.raises(DataError, match=r"including path and pathology; it is 'patient,path,"):
        flat(text, label="pathology")


def test_csv_with_several_labels_an_image(flat):
    images = flat(f"path,label\n{PATHS[0]},b|a\n{PATHS[1]},\n{PATHS[2]}, b \n{PATHS[3]},c|b\n")
    assert images.multi_label
    assert images.classes == ("a", "b", "c")
    assert images.labels.tolist() == [
        [True, True, False], [False] * 3, [False, True, False], [False, True, True]
    ]  # fmt: skip


def test_csv_with_several_labels_of_which_one_is_learned(flat):
    text = f"path,label\n{PATHS[0]},b|a\n{PATHS[1]},\n{PATHS[2]}, b \n{PATHS[3]},c|a\n"
    images = flat(text, label="a")
    assert images.classes == ("no a", "a")
    assert images.labels.tolist() == [1, 0, 0, 1]
    with pytest.raises(DataError, match=r"label 'A': not in .*labels\.csv; choose a, b, c"):
        flat(text, label="A")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the first line must name the columns"),
        (ROWS, "the first line must name the columns, including path and label; it is 'P0_0"),
        ("path,label\n" + ROWS + "x.png,a\ny.png,a\n", "2 lines name no image in .* line 6: x.png"),
        ("path,label\n" + ROWS + "../labels.csv,a\n", "1 lines name no image in"),
        ("path,label\n" + ROWS + "P0_0.png,b\n", "name an image a second time .* line 6: P0_0.png"),
        ("path,label\n" + ROWS.replace(",b", ","), "2 lines lack the label"),
        ("path,label,patient\n" + ROWS.replace("\n", ",\n"), "4 lines lack the label, the patient"),
        ("path,label\n" + ROWS.replace(",b", ""), "2 lines do not have the 2 cells of the first"),
        ("path,label\n" + ROWS.replace(",b", ",a"), "at least two labels, has a"),
    ],
)
def test_csv_that_cannot_be_used_is_reported_in_one_line(text, message, flat):
    with pytest.raises(DataError, match=message) as error:
        flat(text)
    assert "\n" not in str(error.value)


def test_csv_that_is_missing_or_binary(flat, tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.csv: no such file"):
        load_dataset(
            "labelled_folder", tmp_path / "radiographs", labels_csv=tmp_path / "nowhere.csv"
        )
    (tmp_path / "x.csv").write_bytes(b"path,label\n\xff\xfe\n")
    with pytest.raises(DataError, match="cannot be read as a csv file"):
        load_dataset("labelled_folder", tmp_path / "radiographs", labels_csv=tmp_path / "x.csv")


def test_images_that_the_csv_does_not_name_are_left_out_with_a_warning(flat, capsys):
    images = flat("path,label\n" + "".join(ROWS.splitlines(keepends=True)[:2]))
    assert list(images.names) == PATHS[:2]
    assert "2 of 4 images are not in labels.csv, such as P1_2.png" in capsys.readouterr().err


def test_the_same_row_twice_is_no_contradiction(flat):
    assert len(flat("path,label\n" + ROWS + ROWS)) == 4


def test_label_without_a_csv_is_refused(folder):
    with pytest.raises(DataError, match=r"labelled by its folders; leave .*--labels_csv"):
        load_dataset("labelled_folder", folder, label="pathology")


def test_label_of_one_patient_is_named(flat):
    rows = "".join(f"{path},{label}\n" for path, label in zip(PATHS, "aaba", strict=True))
    images = flat("path,label\n" + rows, patient_regex="^P.")
    with pytest.raises(DataError, match="the label b has only one patient"):
        split(images, ["w", "x", "y", "z"], (0.5, 0.0), 0)


def test_an_option_of_no_data_set_is_an_error(folder):
    with pytest.raises(TypeError, match="unexpected option 'regex'"):
        load_dataset("labelled_folder", folder, regex="x")
