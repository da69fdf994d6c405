"""Statistics by Apache Beam: those of one process, whatever the workers, their faults and ends."""

import dataclasses
import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers import beam_stand_in

from fid_med.errors import DataError, ExtractorError, FidMedError, UnreadableImageError
from fid_med.evaluation.compute import compute_statistics
from fid_med.metrics.frechet import frechet_distance
from fid_med.metrics.statistics import FeatureStatistics

ROOT = pathlib.Path(__file__).parents[2]
PROCESSES = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")


def test_without_beam_one_line_says_what_to_install(monkeypatch):
    for name in [x for x in sys.modules if x.split(".")[:2] == ["fid_med", "beam"]]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(FidMedError, match=r"pip install 'fid_med\[beam\]'"):
        import fid_med.beam.running  # noqa: F401


@pytest.fixture
def running(monkeypatch):
    pytest.importorskip("apache_beam")
    from fid_med.beam import running

    # For worker processes.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    return running


@pytest.fixture
def folder(write_images, phantoms):
    return write_images("phantoms", phantoms[0][:13])


@pytest.fixture
def other(phantoms):
    return compute_statistics(phantoms[0][20:], beam_stand_in.load())[0]


def assert_equal_statistics(path, expected, other=None):
    """To 1e-9 of the largest entry: the order of float64 sums is all that may differ."""
    found = FeatureStatistics.load(path)
    assert found.count == expected.count
    for key in ("fingerprint", "extractor", "preprocessing", "versions"):
        assert getattr(found, key) == getattr(expected, key)
    for mine, theirs in ((found.mean, expected.mean), (found.covariance, expected.covariance)):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-9 * np.abs(theirs).max())
    if other is not None:
        fid = frechet_distance(other, expected)
        assert frechet_distance(other, found) == pytest.approx(fid, rel=1e-9)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_any_number_of_workers_gives_the_statistics_of_one_process(
    workers, running, folder, other, tmp_path
):
    expected, alone, _ = compute_statistics(str(folder), beam_stand_in.load(), batch_size=2)
    arguments = [f"--direct_num_workers={workers}", "--direct_running_mode=multi_threading"]
    account = running.run_pipeline(
        folder, tmp_path / "out.npz", beam_stand_in.load, arguments, batch_size=2
    )
    assert_equal_statistics(tmp_path / "out.npz", expected, other)
    assert account["images"]["count"] == 13
    assert account["images"] == dataclasses.asdict(alone)
    assert account == json.loads((tmp_path / "out.json").read_text())


def test_a_real_extractor_gives_the_features_of_one_process(
    running, folder, small_extractor, tmp_path
):
    expected, _, _ = compute_statistics(str(folder), small_extractor, batch_size=4)
    load = functools.partial(running.load_extractor_quietly, "random", image_size=75)
    running.run_pipeline(folder, tmp_path / "out.npz", load, batch_size=4)
    assert_equal_statistics(tmp_path / "out.npz", expected)


def test_the_way_to_flink_and_spark_gives_them_too(running, folder, other, tmp_path):
    """As far as Beam's own stand-in for a cluster's job server shows it."""
    expected, _, _ = compute_statistics(str(folder), beam_stand_in.load(), batch_size=2)
    portable = ["--runner", "PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK"]
    running.run_pipeline(folder, tmp_path / "out.npz", beam_stand_in.load, portable, batch_size=2)
    assert_equal_statistics(tmp_path / "out.npz", expected, other)


def test_a_shard_tried_again_counts_once(running, folder, other, tmp_path):
    expected, _, _ = compute_statistics(str(folder), beam_stand_in.load(), batch_size=2)
    marker = tmp_path / "marker"
    load = functools.partial(beam_stand_in.load_troubled, "raise", str(marker), 3)
    # The runner of Beam's that tries a bundle up to four times, as those of clusters do.
    running.run_pipeline(
        folder, tmp_path / "out.npz", load, ["--runner=BundleBasedDirectRunner"], batch_size=2
    )
    assert marker.exists()
    assert_equal_statistics(tmp_path / "out.npz", expected, other)


def test_a_killed_worker_process_changes_nothing(running, folder, other, tmp_path, capsys):
    expected, _, _ = compute_statistics(str(folder), beam_stand_in.load(), batch_size=2)
    load = functools.partial(beam_stand_in.load_troubled, "kill", str(tmp_path / "marker"), 2)
    running.run_pipeline(folder, tmp_path / "out.npz", load, PROCESSES, batch_size=2)
    assert (tmp_path / "marker").exists()
    assert_equal_statistics(tmp_path / "out.npz", expected, other)
    warning = capsys.readouterr().err
    assert "once more" in warning
    assert "Traceback" not in warning


@pytest.mark.parametrize("killed", [False, True])
def test_a_dask_cluster_gives_them_too_also_without_one_of_its_workers(
    killed, running, folder, other, tmp_path
):
    distributed = pytest.importorskip("distributed")
    expected, _, _ = compute_statistics(str(folder), beam_stand_in.load(), batch_size=2)
    marker = str(tmp_path / "marker")
    load = functools.partial(beam_stand_in.load_troubled, "kill", marker, 2)
    with distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster:
        arguments = [
            "--runner=apache_beam.runners.dask.dask_runner.DaskRunner",
            f"--dask_client_address={cluster.scheduler_address}",
        ]
        load = load if killed else beam_stand_in.load
        running.run_pipeline(folder, tmp_path / "out.npz", load, arguments, batch_size=2)
    assert pathlib.Path(marker).exists() == killed
    assert_equal_statistics(tmp_path / "out.npz", expected, other)


def test_an_unreadable_image_is_named_or_counted(running, folder, tmp_path, capsys):
    (folder / "broken.png").write_bytes(b"no image")
    with pytest.raises(UnreadableImageError, match=r"^/.*broken\.png: not a readable image"):
        running.run_pipeline(folder, tmp_path / "out.npz", beam_stand_in.load)
    assert not (tmp_path / "out.npz").exists()
    assert not (tmp_path / "out.json").exists()
    account = running.run_pipeline(
        folder, tmp_path / "out.npz", beam_stand_in.load, skip_unreadable=True
    )
    assert account["images"]["count"] == 13
    assert account["images"]["skipped"] == 1
    assert account["unreadable"][0].startswith("broken.png: ")
    assert str(tmp_path) not in (tmp_path / "out.json").read_text()
    assert "skipped: broken.png" in capsys.readouterr().err


def test_images_of_the_training_are_counted_or_left_out(
    running, folder, tmp_path, phantoms, capsys
):
    from fid_med.extractors.extractor import TrainingImages

    empty = TrainingImages("00" * 16)
    digests = frozenset(empty.hasher().digest(x) for x in phantoms[0][:3])
    load = functools.partial(beam_stand_in.load_trained, TrainingImages("00" * 16, digests))
    account = running.run_pipeline(folder, tmp_path / "a.npz", load)
    assert account["images"]["seen_in_training"] == 3
    assert "has seen 3 of these 13" in capsys.readouterr().err
    account = running.run_pipeline(folder, tmp_path / "b.npz", load, exclude_training_images=True)
    assert (account["images"]["count"], account["images"]["excluded"]) == (10, 3)
    assert FeatureStatistics.load(tmp_path / "b.npz").count == 10


def missing_extractor():
    raise ExtractorError("x.keras: no such extractor")


def test_an_error_of_a_worker_is_reported_as_by_one_process(
    running, folder, tmp_path, write_images, phantoms
):
    with pytest.raises(ExtractorError, match=r"^x\.keras: no such extractor$"):
        running.run_pipeline(folder, tmp_path / "out.npz", missing_extractor)
    single = write_images("single", phantoms[0][:1])
    with pytest.raises(DataError, match=r"^images: 1 image;"):
        running.run_pipeline(single, tmp_path / "out.npz", beam_stand_in.load)
    with pytest.raises(DataError, match="no such folder"):
        running.run_pipeline(tmp_path / "none", tmp_path / "out.npz", beam_stand_in.load)
    with pytest.raises(DataError, match=r"an \.npz file"):
        running.run_pipeline(folder, tmp_path / "out", beam_stand_in.load)
    with pytest.raises(FidMedError, match=r"stopped.*surprise"):
        running.run_pipeline(folder, tmp_path / "out.npz", surprising_load)
    assert sorted(x.name for x in tmp_path.iterdir()) == ["phantoms", "single"]


def surprising_load():
    raise KeyError("surprise")


def test_beams_flags_are_distinguished_from_positional_arguments(running):
    arguments = ["--runner", "FlinkRunner", "images", "--flink_master=host:8081"]
    assert running.split_arguments(arguments) == (
        ["images"],
        ["--runner", "FlinkRunner", "--flink_master=host:8081"],
    )
    with pytest.raises(ValueError, match="--extracter"):
        running.split_arguments(["images", "--extracter=random"])
    with pytest.raises(ValueError, match="invalid int value: 'two'"):
        running.split_arguments(["images", "--direct_num_workers=two"])
    unknown = ["--runner=PortableRunner", "--known_to_the_job_server=1"]
    assert running.split_arguments(["images", *unknown]) == (["images"], unknown)


def test_the_script_ends_with_2_for_wrong_flags(running):
    process = subprocess.run(
        [sys.executable, ROOT / "eval" / "compute_statistics_beam.py", "a", "b", "--output=c.npz"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2
    assert process.stderr.endswith("error: expected IMAGES, got 2: a b; see --help\n")
    assert process.stdout == ""


def test_images_and_output_on_a_file_system_of_beams(
    running, folder, other, tmp_path_factory, tmp_path, monkeypatch
):
    from apache_beam.io.localfilesystem import LocalFileSystem

    # There LocalFileSystem makes a folder "bucket:".
    monkeypatch.chdir(tmp_path_factory.mktemp("working"))

    class Bucket(LocalFileSystem):
        """bucket://x is x below tmp_path."""

        @classmethod
        def scheme(cls):
            return "bucket"

        def split(self, path):
            return tuple(path.rsplit("/", 1))

        def _list(self, path):
            for found in super()._list(self._local(path)):
                found.path = f"bucket://{pathlib.Path(found.path).relative_to(tmp_path)}"
                yield found

        def exists(self, path):
            return super().exists(self._local(path))

        def _path_open(self, path, *arguments, **named):
            return super()._path_open(self._local(path), *arguments, **named)

        def rename(self, sources, targets):
            super().rename([self._local(x) for x in sources], [self._local(x) for x in targets])

        def _local(self, path):
            return str(tmp_path / path.removeprefix("bucket://"))

    shutil.move(folder, tmp_path / "images")
    (tmp_path / "images" / "deeper").mkdir()
    shutil.move(tmp_path / "images" / "012.png", tmp_path / "images" / "deeper" / "012.png")
    for hidden in (".hidden.png", "notes.txt"):
        (tmp_path / "images" / hidden).write_text("no image")
    expected, _, _ = compute_statistics(str(tmp_path / "images"), beam_stand_in.load())
    account = running.run_pipeline("bucket://images", "bucket://out.npz", beam_stand_in.load)
    assert account["images"]["count"] == 13
    assert_equal_statistics(tmp_path / "out.npz", expected, other)
    assert sorted(x.name for x in tmp_path.iterdir()) == ["images", "out.json", "out.npz"]
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    with pytest.raises(
        UnreadableImageError, match=r"^bucket://images/broken\.png: not a readable image"
    ):
        running.run_pipeline("bucket://images", "bucket://b.npz", beam_stand_in.load)
