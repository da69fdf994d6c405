"""The scripts as their users run them: exit codes, one line a mistake, the last line of stdout."""

import io
import json
import os
import runpy
import signal
import subprocess
import sys

import numpy as np
import pytest
from helpers.script_runs import ROOT, fork_script
from helpers.script_runs import run_script as run
from PIL import Image

from fid_med.metrics.feature_files import load_features
from fid_med.metrics.statistics import FeatureStatistics

COMPUTE_FID = ROOT / "eval" / "compute_fid.py"
TRAIN = ROOT / "train" / "train_classifier.py"


def assert_one_line(process, status, *words):
    """One error line, the words in it, the status, no traceback."""
    assert process.returncode == status, process.stderr
    assert "Traceback" not in process.stderr
    errors = [line for line in process.stderr.splitlines() if ": error: " in line]
    assert len(errors) == 1, process.stderr
    for word in words:
        assert word in errors[0]
    assert "FID:" not in process.stdout


def test_keras_runs_on_tensorflow_whatever_the_machine_is_set_to(tmp_path):
    (tmp_path / "keras.json").write_text(
        '{"backend": "jax", "image_data_format": "channels_first"}'
    )
    for name in ("a.png", "b.png"):
        Image.new("L", (8, 8)).save(tmp_path / name)
    (tmp_path / "graph.pb").write_bytes(b"<html>")
    process = run(
        COMPUTE_FID, tmp_path, tmp_path, f"--extractor={tmp_path}/graph.pb",
        KERAS_BACKEND="jax", KERAS_HOME=str(tmp_path),
    )  # fmt: skip
    assert_one_line(process, 1, "graph.pb: not a GraphDef")


SCRIPTS = [
    *sorted(x for x in (ROOT / "eval").glob("*.py") if "beam" not in x.name),
    ROOT / "eval" / "compute_statistics_beam.py",
    TRAIN,
    ROOT / "examples" / "gan_phantoms.py",
]


class NotebookStream(io.TextIOBase):
    """A stream as ipykernel's: no `reconfigure`, and no file below."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text
        return len(text)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_run_in_a_notebook_again_and_after_one_another(script, monkeypatch, tmp_path):
    streams = NotebookStream(), NotebookStream()
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    monkeypatch.setattr(sys, "argv", [str(script), f"--output={tmp_path}/x.npz", "--nonsense=1"])
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(script), run_name="__main__")
        assert ended.value.code in (1, 2)  # 1 without Beam
    errors = streams[1].text.splitlines()
    assert errors[0] == errors[1]
    assert len(errors) == 2
    assert ": error: " in errors[0]


@pytest.mark.parametrize(("closed", "status"), [(">&-", 2), ("2>&-", 2), (">&- 2>&-", 2)])
def test_closed_streams_end_without_traceback(closed, status):
    process = subprocess.run(
        ["sh", "-c", f'"$0" "$@" {closed}', sys.executable, str(COMPUTE_FID), "--nonsense=1"],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert process.returncode == status
    assert process.stdout == ""
    assert len(process.stderr.splitlines()) == ("2>" not in closed)


@pytest.fixture
def statistics_file(tmp_path):
    def write(name, seed=0, **attributes):
        features = np.random.default_rng(seed).normal(size=(50, 16))
        statistics = FeatureStatistics.from_features(features)
        for key, value in attributes.items():
            setattr(statistics, key, value)
        statistics.save(tmp_path / name)
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("script", "arguments", "flag"),
    [
        (COMPUTE_FID, ("a", "b"), "generated_patient_regex"),
        (TRAIN, ("--output_dir={}/out",), "patient_regex"),
    ],
)
def test_a_wrong_regular_expression_ends_at_once(script, arguments, flag, tmp_path):
    process = run(script, *(x.format(tmp_path) for x in arguments), f"--{flag}=(")
    assert_one_line(process, 2, f"--{flag}=(", "not a regular expression")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", [COMPUTE_FID, TRAIN])
@pytest.mark.parametrize("flag", ["--help", "-h", "--helpfull"])
def test_help_ends_with_0_and_shows_the_flags(script, flag):
    process = run(script, flag)
    assert process.returncode == 0
    assert process.stdout.startswith("usage: ")
    assert "--batch_size" in process.stdout
    assert process.stderr == ""


@pytest.mark.parametrize("arguments", ["--help", "one.npz two.npz"])
def test_a_reader_that_has_seen_enough_is_no_crash(arguments, statistics_file, tmp_path):
    for name in ("one.npz", "two.npz"):
        statistics_file(name)
    command = f"{sys.executable} {COMPUTE_FID} {arguments} | true; exit ${{PIPESTATUS[0]}}"
    process = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=300,
        check=False,
    )
    assert process.returncode == 1
    assert "Traceback" not in process.stderr
    assert "BrokenPipe" not in process.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([COMPUTE_FID], "REAL GENERATED"),
        ([COMPUTE_FID, "one"], "REAL GENERATED"),
        ([COMPUTE_FID, "one", "two", "three", "--plan=100"], "got 3"),
        ([COMPUTE_FID, "one", "two", "--extracter=imagenet"], "extracter"),
        ([COMPUTE_FID, "one", "two", "--resize=best"], "resize"),
        ([COMPUTE_FID, "one", "two", "--precision=half"], "precision"),
        ([COMPUTE_FID, "one", "two", "--batch_size=0"], "batch_size"),
        ([COMPUTE_FID, "one", "two", "--image_size=100000"], "image_size"),
        ([COMPUTE_FID, "one.npz", "two.npz", "--metrics=fod"], "fod"),
        ([COMPUTE_FID, "one.npz", "two.npz", "--confidence=95"], "confidence"),
        ([COMPUTE_FID, "one.npz", "two.npz", "--save_features"], "--save_statistics"),
        (
            [COMPUTE_FID, "one", "--save_statistics=x", "--json=y.json", "--report=z"],
            "--json, --report: have no effect without GENERATED; leave them out",
        ),
        ([COMPUTE_FID, "one", "--plan=9", "--metrics=kid"], "--metrics: has no effect with --plan"),
        ([COMPUTE_FID, "one", "--plan=9", "--figures=x"], "--figures: has no effect with --plan"),
        ([COMPUTE_FID, "one", "--save_statistics=x", "--metrics=kid"], "--metrics=depths"),
        ([COMPUTE_FID, "one", "two", "--split=test"], "no splits.csv next to --extractor=imagenet"),
        ([COMPUTE_FID, "one", "two", "--splits=x.csv"], "--split=test"),
        ([COMPUTE_FID, "one.npz", "--plan=many"], "--plan"),
        ([COMPUTE_FID, "one.npz", "--plan=5"], "plan 5"),
        ([COMPUTE_FID, "one.npz", "two.npz", "--seed=-1"], "seed"),
        ([COMPUTE_FID, "one.npz", "two.npz", "--metrics=memorisation"], "--train_images"),
        ([TRAIN, "--output_dir=x", "--seed=-1"], "seed"),
        ([TRAIN, "--output_dir=x", "--phantoms=50"], "--phantoms: has no effect with --dataset"),
        ([TRAIN], "output_dir"),
        ([TRAIN, "--output_dir=x", "--dataset=imagenet"], "dataset"),
        ([TRAIN, "--output_dir=x", "stray"], "stray"),
    ],
)
def test_wrong_flags_end_with_2(arguments, word):
    assert_one_line(run(*arguments), 2, word)


def test_settings_of_a_training_are_checked_before_tensorflow_is_imported(tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise ImportError('must not be imported')")
    process = run(
        TRAIN, "--output_dir=x", "--dataset=phantom", "--crop=2",
        PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}",
    )  # fmt: skip
    assert_one_line(process, 2, "crop")


def test_statistics_against_statistics_prints_the_number_without_tensorflow(
    statistics_file, tmp_path
):
    one, two = statistics_file("one.npz"), statistics_file("two.npz", seed=1)
    blocked = tmp_path / "tensorflow.py"
    blocked.write_text("raise ImportError('must not be imported')")
    process = run(
        COMPUTE_FID, one, two, f"--json={tmp_path}/out/x.json",
        PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}",
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    fid = json.loads((tmp_path / "out" / "x.json").read_text())["fid"]
    assert process.stdout.splitlines()[-1] == f"FID: {fid:.10g}"
    assert "unknown origin" in process.stderr
    assert "FID" not in process.stderr.replace("the FID is biased", "").replace("FIDs", "")


def test_statistics_against_itself_is_zero(statistics_file):
    one = statistics_file("one.npz")
    process = run(COMPUTE_FID, one, one)
    assert abs(float(process.stdout.splitlines()[-1].removeprefix("FID: "))) < 1e-6


def _without_mu(path):
    np.savez(path, sigma=np.eye(4))


def _objects(path):
    np.savez(path, mu=np.array([{}, None], dtype=object), sigma=np.eye(2))


def _too_large(path):
    np.savez(path, mu=np.full(4, 1e200), sigma=np.eye(4))


def _count(path):
    np.savez(path, mu=np.zeros(4), sigma=np.eye(4), count=1e300)


def _nan(path):
    sigma = np.eye(4)
    sigma[1, 1] = np.nan
    np.savez(path, mu=np.zeros(4), sigma=sigma)


@pytest.mark.parametrize(
    ("write", "word"),
    [
        (_without_mu, "'mu'"),
        (_objects, "pickled objects"),
        (_nan, "sigma"),
        (_too_large, "mu beyond 1e+150"),
        (_count, "count 1e+300"),
    ],
)
def test_bad_statistics_end_with_1(write, word, statistics_file, tmp_path):
    write(tmp_path / "bad.npz")
    assert_one_line(
        run(COMPUTE_FID, tmp_path / "bad.npz", statistics_file("x.npz")), 1, word, "bad"
    )


def test_statistics_without_preprocessing_give_a_result(statistics_file, tmp_path):
    """As the Python API writes them; the file's suffix and the folder are those of a user."""
    for name in ("ONE.NPZ", "TWO.NPZ"):
        statistics_file(name, fingerprint="ab" * 32)
    process = run(COMPUTE_FID, "~/ONE.NPZ", "~/TWO.NPZ", "--json=~/x.json", HOME=str(tmp_path))
    assert process.returncode == 0, process.stderr
    assert "extractor: unnamed (abababababab)" in process.stdout
    assert json.loads((tmp_path / "x.json").read_text())["preprocessing"] is None


def test_statistics_of_two_extractors_end_with_1(statistics_file):
    one = statistics_file("one.npz", fingerprint="1" * 64, extractor="elbow")
    two = statistics_file("two.npz", fingerprint="2" * 64, extractor="imagenet")
    assert_one_line(run(COMPUTE_FID, one, two), 1, "elbow", "imagenet")


def test_unwritable_output_is_reported_before_the_work(statistics_file, tmp_path):
    one = statistics_file("one.npz")
    (tmp_path / "file").write_text("")
    assert_one_line(run(COMPUTE_FID, one, one, f"--json={tmp_path}/file/x.json"), 2, "is a file")
    assert_one_line(run(COMPUTE_FID, one, one, f"--json={tmp_path}"), 2, "is a folder")


def test_failed_writes_cost_neither_the_number_nor_the_other_files(statistics_file, tmp_path):
    one = statistics_file("one.npz")
    process = run(
        COMPUTE_FID, one, one, "--json=/dev/full", f"--report={tmp_path}/report.html",
        f"--save_statistics={tmp_path}/saved",
    )  # fmt: skip
    assert process.returncode == 1
    errors = [line for line in process.stderr.splitlines() if "warning: " not in line]
    assert errors[1:] == ["compute_fid.py: error: /dev/full: No space left on device"]
    assert process.stdout.splitlines()[-1].startswith("FID: ")
    assert (tmp_path / "report.html").exists()
    assert sorted(x.name for x in (tmp_path / "saved").iterdir()) == ["generated.npz", "real.npz"]


def test_sigterm_lets_a_script_save_what_it_has(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("""
import os, signal
from fid_med import cli
def main():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    finally:
        print("saved")
cli.run(main, "usage: script.py")
""")
    process = run(script)
    assert_one_line(process, 128 + signal.SIGTERM, "script.py: error: interrupted (SIGTERM)")
    assert process.stdout == "saved\n"


def test_json_on_standard_output_comes_after_the_number(statistics_file):
    one = statistics_file("one.npz")
    process = run(COMPUTE_FID, one, one, "--json=/dev/stdout")
    assert process.returncode == 0, process.stderr
    printed, _, written = process.stdout.partition("\n{\n")
    assert printed.splitlines()[-1].startswith("FID: ")
    assert json.loads("{" + written)["verdict"]


def test_folders_through_the_script(phantoms, write_images, extractor_file, tmp_path):
    real = write_images("real", phantoms[0][:6])
    generated = write_images("generated", phantoms[0][6:12])
    process = run(
        COMPUTE_FID, real, generated, f"--extractor={extractor_file}", "--batch_size=4",
        "--dims=192", f"--save_statistics={tmp_path}/saved",
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    fid = float(process.stdout.splitlines()[-1].removeprefix("FID: "))
    assert fid > 0
    assert all(line.startswith("warning: ") for line in process.stderr.splitlines())
    saved = (tmp_path / "saved" / name for name in ("real.npz", "generated.npz"))
    again = fork_script(COMPUTE_FID, *saved)
    assert float(again.stdout.splitlines()[-1].removeprefix("FID: ")) == pytest.approx(fid)


def test_the_held_out_real_images_alone_become_statistics(
    phantoms, write_images, extractor_file, tmp_path
):
    folder = write_images("real", phantoms[0][:14])
    rows = [f"{i:03d}.png,{'test' if i < 9 else 'train'}" for i in range(14)]
    (tmp_path / "splits.csv").write_text("\n".join(["image,split", *rows]))
    process = fork_script(
        COMPUTE_FID, folder, f"--extractor={extractor_file}", f"--save_statistics={tmp_path}/saved",
        "--split=test", f"--splits={tmp_path}/splits.csv", "--save_features", "--patient_regex=^..",
        "--dims=64",
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines() == [
        "real: 9 images (folder)", f"statistics: {tmp_path}/saved/real.npz"
    ]  # fmt: skip
    assert "--patient_regex finds only 1 patient in 9 images" in process.stderr
    saved = load_features(tmp_path / "saved" / "real.npz")
    assert saved.features.shape == (9, 64)
    assert saved.statistics.count == 9
    assert saved.patients.tolist() == [0] * 9
    again = fork_script(COMPUTE_FID, tmp_path / "saved/real.npz", f"--save_statistics={tmp_path}/x")
    assert_one_line(again, 2, "holds statistics already")


def test_figures_through_the_script(phantoms, write_images, extractor_file, tmp_path):
    folders = write_images("real", phantoms[0][:8]), write_images("generated", phantoms[0][8:16])
    process = fork_script(
        COMPUTE_FID, *folders, f"--extractor={extractor_file}", "--dims=192",
        "--metrics=difference", f"--figures={tmp_path}/figures",
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    names = ["directions.png", "heatmaps.png"]
    assert lines[-1].startswith("FID: ")
    shown = [line for line in process.stderr.splitlines() if line.startswith("look at ")]
    assert shown == [f"look at {tmp_path}/figures/{name}" for name in names]
    with Image.open(tmp_path / "figures" / "heatmaps.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    # Radiographs are grey: what is coloured is the heat maps and their scale.
    coloured = (np.ptp(pixels, axis=-1) > 40).mean()
    assert 0.02 < coloured < 0.6


@pytest.mark.parametrize(
    ("make", "status", "word"),
    [
        (lambda folder: None, 2, "no such folder"),
        (lambda folder: folder.mkdir(), 1, "contains no image files"),
        (lambda folder: folder.write_text(""), 2, "is a file"),
    ],
)
def test_bad_folders(make, status, word, tmp_path):
    make(tmp_path / "images")
    process = fork_script(COMPUTE_FID, tmp_path / "images", tmp_path / "images")
    assert_one_line(process, status, word)


@pytest.mark.parametrize(
    ("files", "word"),
    [(["a.png"], "1 image"), (["a.png", "cut.png", "b.png"], "cut.png")],
)
def test_bad_images_end_with_1(files, word, phantoms, extractor_file, tmp_path):
    for name in files:
        Image.fromarray(phantoms[0][0]).save(tmp_path / name)
    if "cut.png" in files:
        (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:900])
    extractor = f"--extractor={extractor_file}"
    process = fork_script(COMPUTE_FID, tmp_path, tmp_path, extractor, "--dims=64")
    assert_one_line(process, 1, word)


def test_training_refuses_what_it_cannot_train_on(tmp_path):
    out = f"--output_dir={tmp_path}/out"
    assert_one_line(fork_script(TRAIN, out), 2, "--data_dir")
    assert_one_line(fork_script(TRAIN, out, f"--data_dir={tmp_path}/none"), 2, "no such folder")
    process = fork_script(TRAIN, out, "--dataset=medmnist", f"--data_dir={tmp_path}/x.npz")
    assert_one_line(process, 2, "no such file")


def test_finished_run_is_not_overwritten(tmp_path):
    (tmp_path / "extractor.keras").write_text("precious")
    process = fork_script(TRAIN, f"--output_dir={tmp_path}", "--dataset=phantom")
    assert_one_line(process, 1, "--overwrite")
    assert (tmp_path / "extractor.keras").read_text() == "precious"


def test_a_training_without_a_label_says_so(extractor_file, tmp_path):
    process = fork_script(
        TRAIN, f"--output_dir={tmp_path}", "--dataset=phantom", "--phantoms=24",
        f"--weights={extractor_file}", "--train_from=mixed10", "--epochs=1",
        "--without_labels=chest,neck",
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    saved = json.loads((tmp_path / "training.json").read_text())
    *_, extractor, command = process.stdout.splitlines()
    assert extractor == f"extractor: {tmp_path}/extractor.keras"
    assert command == (
        f"next: compute_fid.py REAL GENERATED --extractor={tmp_path}/extractor.keras "
        "--exclude_training_images"
    )
    assert "head: at most 100 quick epochs" in process.stderr
    assert "then top: at most --epochs=1" in process.stderr
    assert set(saved["labels"]) == {"elbow", "hand", "knee", "pelvis"}
    assert saved["flags"]["without_labels"] == ["chest", "neck"]


def test_import_is_quick_and_loads_nothing_heavy():
    code = (
        "import sys, time; start = time.perf_counter(); import fid_med; "
        "print(time.perf_counter() - start); "
        "print([m for m in ('tensorflow', 'keras', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    seconds, loaded = run("-c", code).stdout.splitlines()
    assert float(seconds) < 0.3
    assert loaded == "[]"


def test_every_public_name_is_there():
    import fid_med

    for name in fid_med.__all__:
        assert getattr(fid_med, name) is not None
    assert set(dir(fid_med)) == set(fid_med.__all__)


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path, write_images):
    images = np.zeros((2, 75, 75), np.uint8)
    sides = write_images("real", images), write_images("generated", images)
    (tmp_path / "file").write_text("")
    process = run(COMPUTE_FID, *sides, f"--cache_dir={tmp_path}/file")
    assert_one_line(process, 2, "is a file")
