"""Lists in messages stay short."""

from fid_med.utils.wording import name_some


def test_three_are_named_and_the_others_counted():
    assert name_some(["a"]) == "a"
    assert name_some(list("abc")) == "a, b, c"
    assert name_some(list("abcde")) == "a, b, c and 2 more"
    assert name_some(list("ab"), 10) == "a, b and 8 more"
