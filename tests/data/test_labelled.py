import numpy as np
import pytest

from fid_med.data.labelled import LabelledImages
from fid_med.errors import DataError


def images(labels, **fields):
    count = len(labels)
    return LabelledImages(
        "set", [f"{i}.png" for i in range(count)], [lambda i=i: i for i in range(count)],
        np.array(labels), ("elbow", "neck", "wrist"), **fields,
    )  # fmt: skip


def test_images_of_a_label_left_out_go_with_it():
    rest = images([0, 1, 2, 1, 2], patients=list("abcde"), splits=np.array(["train"] * 5))
    rest = rest.without(["neck"])
    assert rest.classes == ("elbow", "wrist")
    assert rest.names == ["0.png", "2.png", "4.png"]
    np.testing.assert_array_equal(rest.labels, [0, 1, 1])
    assert rest.patients == ["a", "c", "e"]
    assert [load() for load in rest.loaders] == [0, 2, 4]
    assert len(rest.splits) == 3
    assert rest.studies is None


def test_an_image_that_also_carries_it_goes_too():
    rest = images([[True, True, False], [True, False, False], [False, False, True]])
    rest = rest.without(["neck"])
    assert rest.names == ["1.png", "2.png"]
    np.testing.assert_array_equal(rest.labels, [[True, False], [False, True]])


def test_unknown_and_too_many_are_refused():
    with pytest.raises(DataError, match="no label hip to leave out; known are elbow, neck, wrist"):
        images([0, 1, 2]).without(["hip"])
    with pytest.raises(DataError, match="at least two labels"):
        images([0, 1, 2]).without(["neck", "wrist"])
