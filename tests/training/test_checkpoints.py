"""Tests checkpoints: complete or the previous one, and only for the same settings and images."""

import dataclasses
import os
import pathlib
import signal
import threading

import numpy as np
import pytest

from fid_med.errors import DataError
from fid_med.training.checkpoints import (
    Checkpoint,
    CheckpointError,
    CheckpointStore,
    Interrupted,
    check_images,
    check_settings,
    hash_images,
    interruptible,
)

FIRST = Checkpoint(
    settings={"config": {"epochs": 3, "rotation": 10.0}, "data": {"dataset": "bones"}},
    hash_key="ab" * 16,
    images=np.array([1, 2**64 - 1], np.uint64),
    phase="top",
    epoch=1,
    best=(1, (0.75, -1.25)),
    rows=[{"phase": "top", "epoch": 1, "loss": 0.5, "val_auc": None}],
    seconds=12.5,
    state=[np.arange(6, dtype=np.float32).reshape(2, 3), np.int64(7), np.array([1, 2], np.uint32)],
    best_weights=[np.ones(3, np.float32)],
)
SECOND = dataclasses.replace(FIRST, epoch=2)


def assert_same(one, other):
    for field in dataclasses.fields(Checkpoint):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name in ("state", "best_weights"):
            assert len(a) == len(b)
            for x, y in zip(a, b, strict=True):
                np.testing.assert_array_equal(x, y)
                assert np.asarray(x).dtype == np.asarray(y).dtype
        elif field.name == "images":
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b


def test_a_saved_checkpoint_is_loaded_unchanged(tmp_path):
    store = CheckpointStore(tmp_path)
    assert store.load() is None
    store.save(FIRST)
    assert_same(CheckpointStore(tmp_path).load(), FIRST)
    store.save(SECOND)
    assert CheckpointStore(tmp_path).load().epoch == 2
    assert os.listdir(store.folder) == ["state.npz"]
    store.discard()
    assert not store.folder.exists()


def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path)
    write = pathlib.Path.write_bytes

    def fail(path, content):
        write(path, bytes(content)[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_bytes", fail)
    with pytest.raises(CheckpointError, match=r"No space left on device.*to start over"):
        store.save(FIRST)
    monkeypatch.setattr(pathlib.Path, "write_bytes", write)
    store.save(FIRST)
    monkeypatch.setattr(pathlib.Path, "write_bytes", fail)
    with pytest.raises(CheckpointError) as caught:
        store.save(SECOND)
    assert "\n" not in str(caught.value)
    assert "after epoch 2 of phase top cannot be written" in str(caught.value)
    assert "run the same command again to resume after epoch 1 of phase top" in str(caught.value)
    assert_same(CheckpointStore(tmp_path).load(), FIRST)
    assert os.listdir(store.folder) == ["state.npz"]


def test_partial_files_of_a_killed_run_are_removed(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(FIRST)
    partial = store.folder / ".0abc_123.partial.npz"
    partial.write_bytes(b"half")
    os.utime(partial, (0, 0))
    assert_same(store.load(), FIRST)
    assert os.listdir(store.folder) == ["state.npz"]


def test_a_damaged_checkpoint_is_an_error(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(FIRST)
    store.path.write_bytes(store.path.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match=r"cannot be read .*--overwrite"):
        store.load()
    store.save(dataclasses.replace(FIRST, images=np.zeros((2, 1), np.uint64)))
    with pytest.raises(CheckpointError, match=r"cannot be read .* another shape .*--overwrite"):
        store.load()


def test_changed_settings_are_named(tmp_path):
    store = CheckpointStore(tmp_path)
    check_settings(FIRST, FIRST.settings, store)
    other = {"config": {"epochs": 9, "rotation": 10.0}, "data": {"dataset": "feet"}}
    with pytest.raises(DataError) as caught:
        check_settings(FIRST, other, store)
    message = str(caught.value)
    assert "dataset was bones, now feet; epochs was 3, now 9" in message
    assert "rotation" not in message
    assert "--overwrite" in message


def hashes(**changes):
    fields = {
        "names": ["a", "b", "c"],
        "digests": ["1", "2", "3"],
        "labels": np.array([0, 1, 1]),
        "splits": np.array(["train", "train", "test"]),
    } | changes
    return hash_images(**fields)


@pytest.mark.parametrize(
    "changes",
    [
        {"names": ["a", "x", "c"]},
        {"digests": ["1", "x", "3"]},
        {"labels": np.array([0, 0, 1])},
        {"splits": np.array(["train", "validation", "test"])},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_changed_images_are_named(changes, tmp_path):
    store, saved = CheckpointStore(tmp_path), dataclasses.replace(FIRST, images=hashes())
    check_images(saved, hashes(), ["a", "b", "c"], store)
    with pytest.raises(DataError, match=r"1 of 3 \(the first is b\) differ .*--overwrite"):
        check_images(saved, hashes(**changes), ["a", "b", "c"], store)
    with pytest.raises(DataError, match="it had 3, now there are 2"):
        check_images(saved, hashes()[:2], ["a", "b"], store)


def test_the_hash_of_an_image_covers_several_labels():
    labels = np.array([[True, False], [True, True], [False, False]])
    changed = labels.copy()
    changed[2, 1] = True
    assert (hashes(labels=labels) != hashes(labels=changed)).tolist() == [
        False, False, True
    ]  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_the_run_and_say_how_to_resume(number, tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(FIRST)
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as caught, interruptible(store):
        os.kill(os.getpid(), number)
    assert caught.value.status == 128 + number
    assert str(caught.value) == (
        f"interrupted ({number.name}); run the same command again to resume after epoch 1 of "
        "phase top"
    )
    assert isinstance(caught.value, KeyboardInterrupt)  # no `except Exception` swallows it
    assert signal.getsignal(number) is before


def test_signals_are_not_handled_outside_the_main_thread(tmp_path):
    failures = []

    def work():
        try:
            with interruptible(CheckpointStore(tmp_path)):
                pass
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failures
