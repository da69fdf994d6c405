import pytest

from fid_med.data.patients import linked_groups, patients_of
from fid_med.errors import DataError, SettingError


def test_patients_are_found_in_names():
    assert patients_of(["a/P1_0.png", "P2_0.png"], "^[^_]+") == ["P1", "P2"]
    assert patients_of(["x_P1.png"], "_(P[0-9])") == ["P1"]
    with pytest.raises(DataError, match=r"nothing in 1 names, such as x\.png"):
        patients_of(["x.png", "P1.png"], "P")
    with pytest.raises(SettingError, match=r"patient_regex '\(': not a regular expression"):
        patients_of(["x.png"], "(")


def test_images_that_share_a_key_stay_together():
    keys = [["p1", "x"], ["p2"], ["p3", "x"], ["p4"], ["p3"]]
    groups = sorted(map(sorted, linked_groups(keys, range(5))))
    assert groups == [[0, 2, 4], [1], [3]]
    assert sorted(map(sorted, linked_groups(keys, [0, 3, 4]))) == [[0], [3], [4]]
