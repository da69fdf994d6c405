"""Messages of errors, which may quote files."""

import pickle

import pytest

from fid_med.errors import DataError, ExtractorError, FidMedError


@pytest.mark.parametrize("kind", [FidMedError, DataError, ExtractorError])
def test_a_message_is_one_line_of_bounded_length(kind):
    error = kind("x.csv: header a\r\nb\x0cc\u2028d: expected e")
    assert str(error) == "x.csv: header a b c d: expected e"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert len(str(kind("x" * 1_000_000))) < 2100
    assert pickle.loads(pickle.dumps(kind("x", wrong_flag=True))).wrong_flag
    assert not error.wrong_flag
    assert str(kind("a  b.png")) == "a  b.png"  # a file's name stays as it is
