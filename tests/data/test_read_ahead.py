"""Images read while a network is made: the same images, once each, in bounded memory."""

import threading
import time

import numpy as np
import pytest

from fid_med.data import read_ahead
from fid_med.data.preprocessing import Preprocessing
from fid_med.data.read_ahead import reading_ahead
from fid_med.data.sources import ImageSource, prepared_images
from fid_med.errors import UnreadableImageError

TINY = Preprocessing(8, 8)


class Folder:
    """Images by number that remember when each was read."""

    def __init__(self, count, bad=()):
        self.reads, self.bad = [], bad
        loaders = ((str(i), self._load(i)) for i in range(count))
        self.source = ImageSource("folder", "x", loaders, count)

    def _load(self, i):
        def load():
            self.reads.append(i)
            if i in self.bad:
                raise UnreadableImageError(f"{i}.png: cannot be read")
            return np.full((8, 8), i, np.uint8)

        return load

    def images(self):
        return list(prepared_images(self.source, TINY))


def wait_until(true):
    for _ in range(500):
        if true():
            return
        time.sleep(0.01)
    pytest.fail("nothing was read")


def test_the_first_images_are_read_within_the_block_and_once(monkeypatch):
    monkeypatch.setattr(read_ahead, "_IMAGES", 10)
    folder = Folder(30)
    with reading_ahead(folder.source):
        wait_until(lambda: len(folder.reads) == 10)
        assert sorted(folder.reads) == list(range(10))
    assert [image.pixels[0, 0] for image in folder.images()] == list(range(30))
    assert sorted(folder.reads) == list(range(30))


def test_what_does_not_fit_is_read_later(monkeypatch):
    monkeypatch.setattr(read_ahead, "_BYTES", 5 * 64)
    monkeypatch.setattr(read_ahead, "default_workers", lambda: 1)
    folder = Folder(30)
    with reading_ahead(folder.source):
        wait_until(lambda: len(folder.reads) == 5)
        time.sleep(0.05)
        assert folder.reads == [0, 1, 2, 3, 4]
    assert [image.pixels[0, 0] for image in folder.images()] == list(range(30))


def test_what_was_not_begun_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(read_ahead, "default_workers", lambda: 1)
    folder, go = Folder(5), threading.Event()
    loaders = list(folder.source.loaders)
    folder.source.loaders = [("0", lambda: go.wait() and loaders[0][1]()), *loaders[1:]]
    with reading_ahead(folder.source):
        threading.Timer(0.1, go.set).start()
    assert folder.reads == [0]
    assert [image.pixels[0, 0] for image in folder.images()] == list(range(5))


def test_an_unreadable_image_is_told_in_its_place():
    folder = Folder(4, bad=[2])
    with reading_ahead(folder.source):
        wait_until(lambda: len(folder.reads) == 4)
    assert [str(image.error or "") for image in folder.images()] == [
        "", "", "2.png: cannot be read", ""
    ]  # fmt: skip


def test_the_block_may_fail(monkeypatch):
    folder = Folder(4)
    with pytest.raises(KeyError), reading_ahead(folder.source):
        raise KeyError
    assert len(folder.images()) == 4


def test_other_sources_are_left_alone():
    loaders = [("a", lambda: np.zeros((8, 8), np.uint8))]
    source = ImageSource("dataset", "x", loaders)
    with reading_ahead(source):
        assert source.loaders is loaders
