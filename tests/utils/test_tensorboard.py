"""Event files: what TensorBoard reads in them, and what their names do not hold."""

import platform

import pytest
import tensorflow as tf

from fid_med.utils.tensorboard import ScalarWriter


def test_scalars_can_be_read_and_no_name_holds_the_computer(tmp_path):
    for start in (0, 2):  # two writers in the same second
        writer = ScalarWriter(tmp_path / "logs")
        for step in (start, start + 1):
            writer.add({"fid": step + 0.5, "loss": 1.0}, step)
        writer.close()
    files = sorted((tmp_path / "logs").iterdir())
    assert len(files) == 2
    found = {}
    for file in files:
        assert file.name.startswith("events.out.tfevents.1")
        assert platform.node() not in file.name
        assert platform.node().encode() not in file.read_bytes()
        first, *events = tf.compat.v1.train.summary_iterator(str(file))
        assert first.file_version == "brain.Event:2"
        for event in events:
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                found[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    assert found == {("fid", i): i + 0.5 for i in range(4)} | {("loss", i): 1.0 for i in range(4)}


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file.*TensorBoard logs cannot be written"):
        ScalarWriter(tmp_path / "file" / "logs")
