"""Downloads: complete, of the expected size and checksum, or not there."""

import hashlib
import io
import urllib.error

import pytest

from fid_med.errors import DataError
from fid_med.utils.download import fetch

URL = "https://example.org/x.bin"
DATA = b"0123456789" * 1000


@pytest.fixture
def serve(monkeypatch):
    """Sets the answer of the next download: bytes, their announced length, or an error."""

    def answer_with(data, announced=None):
        def urlopen(url, timeout):
            assert url == URL
            assert timeout > 0
            if isinstance(data, Exception):
                raise data
            answer = io.BytesIO(data)
            answer.headers = {} if announced is None else {"Content-Length": str(announced)}
            return answer

        monkeypatch.setattr("urllib.request.urlopen", urlopen)

    return answer_with


@pytest.mark.parametrize(
    "checks",
    [
        {},
        {"size": len(DATA)},
        {"md5": hashlib.md5(DATA).hexdigest()},
        {"sha256": hashlib.sha256(DATA).hexdigest()},
    ],
    ids=list,
)
def test_a_file_that_passes_its_checks_is_there(serve, tmp_path, checks):
    serve(DATA)
    fetch(URL, tmp_path / "new" / "x.bin", **checks)
    assert (tmp_path / "new" / "x.bin").read_bytes() == DATA


@pytest.mark.parametrize(
    ("announced", "checks", "message"),
    [
        (len(DATA) + 1, {}, "received 10,000 bytes, expected 10,001"),
        (None, {"size": 9999}, "received 10,000 bytes, expected 9,999"),
        (None, {"md5": "0" * 32}, "MD5 .*, published is 0000"),
        (None, {"sha256": "0" * 64}, "SHA256 .*, published is 0000"),
    ],
)
def test_a_file_that_fails_a_check_leaves_nothing(serve, tmp_path, announced, checks, message):
    serve(DATA, announced)
    with pytest.raises(DataError, match=message) as error:
        fetch(URL, tmp_path / "x.bin", **checks)
    assert str(error.value).startswith(URL)
    assert not list(tmp_path.iterdir())


def test_offline_the_message_says_what_to_put_where(serve, tmp_path):
    serve(urllib.error.URLError("Name or service\nnot known"))
    with pytest.raises(DataError) as error:
        fetch(URL, tmp_path / "x.bin")
    assert "Name or service not known" in str(error.value)
    assert str(error.value).endswith(f"with internet and put it at {tmp_path / 'x.bin'}")
    with pytest.raises(DataError, match=r"with internet and unpack it\Z"):
        fetch(URL, tmp_path / "x.bin", by_hand="unpack it")
    assert not list(tmp_path.iterdir())
