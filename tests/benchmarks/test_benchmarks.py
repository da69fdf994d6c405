"""That contenders are timed alternately and compared rightly; nothing is said of real seconds."""

import functools
import importlib
import json
import os
import stat
import sys

import keras
import numpy as np
import pytest
from helpers.script_runs import run_script

from benchmarks import case_commands, case_network, case_numbers, cases, table
from benchmarks.inputs import BenchmarkInputs, Settings
from benchmarks.peers import NEEDS, Peers
from benchmarks.timing import Contender, Row, UnavailableError, compare, difference
from fid_med.data.preprocessing import Preprocessing
from fid_med.errors import DataError, FidMedError
from fid_med.extractors.extractor import FeatureExtractor
from fid_med.metrics.frechet import calculate_frechet_distance

SCRIPT = "benchmarks"


class Clock:
    """Time that passes only when a contender takes it; `order` lists who ran when."""

    def __init__(self):
        self.now, self.order = 0.0, []

    def contender(self, name, seconds, result=None, **fields):
        steps = iter(seconds)

        def run():
            self.order.append(name)
            self.now += next(steps)
            return result

        return Contender(name, lambda: run, **fields)

    def __call__(self):
        return self.now


def test_contenders_are_timed_alternately_and_set_against_the_first():
    clock = Clock()
    contenders = [
        clock.contender("ours", [9, 1, 2, 4], result=10.0),
        clock.contender("theirs", [9, 3, 4, 20], result=11.0, note="a note"),
    ]
    ours, theirs = compare(contenders, 3, items=8, clock=clock)
    assert clock.order == ["ours", "theirs"] * 2 + ["theirs", "ours"] + ["ours", "theirs"]
    assert ours == Row("ours", [1, 2, 4], per_second=4.0)
    assert theirs == Row(
        "theirs", [3, 4, 20], 2.0, ratio=3.0, ratio_range=(2.0, 5.0), difference=0.1, note="a note"
    )


def test_without_warm_up_the_first_run_counts():
    clock = Clock()
    rows = compare([clock.contender("ours", [9, 1])], 2, warm_up=False, clock=clock)
    assert rows[0].seconds == [9, 1]


def test_who_is_slow_is_not_warmed_up():
    clock = Clock()
    contenders = [clock.contender("ours", [9, 1]), clock.contender("theirs", [3], slow=True)]
    assert compare(contenders, 1, clock=clock)[1].seconds == [3]
    assert clock.order == ["ours", "ours", "theirs"]


def test_a_share_of_the_work_is_scaled_up():
    clock = Clock()
    contenders = [
        clock.contender("ours", [1]),
        clock.contender("a tenth", [2], share=0.1, same=False),
    ]
    rows = compare(contenders, 1, items=100, warm_up=False, clock=clock)
    assert rows[1].seconds == [20]
    assert rows[1].ratio == 20
    assert rows[1].per_second == 5


@pytest.mark.parametrize("after", [0, 1, 2])
def test_who_gives_up_has_a_row_and_stops_nobody(after):
    clock, left = Clock(), [after]

    def run():
        if not left[0]:
            raise UnavailableError("gone")
        left[0] -= 1

    contenders = [
        clock.contender("ours", [1] * 3),
        Contender("theirs", lambda: run),
        clock.contender("third", [2] * 3),
    ]
    rows = compare(contenders, 2, clock=clock)
    assert rows[1] == Row("theirs", unavailable="gone")
    assert rows[2].ratio == 2


def test_what_is_not_installed_has_a_row():
    def prepare():
        raise UnavailableError("not installed: torch")

    rows = compare([Contender("ours", lambda: lambda: None), Contender("x", prepare)], 1)
    assert rows[1] == Row("x", unavailable="not installed: torch")


def test_our_own_error_ends_the_run():
    def run():
        raise UnavailableError("ours is broken")

    with pytest.raises(UnavailableError, match="ours is broken"):
        compare([Contender("ours", lambda: run)], 1)


def test_differences_are_relative_to_the_scale_or_the_largest_number():
    assert difference([1.0, 7.0], [1.0, 8.0]) == 1 / 8
    assert difference([1.0, 7.0], [1.0, 8.0], scale=100.0) == 1 / 100
    assert difference(lambda: 3.0, 2.0) == 0.5
    assert difference(None, 2.0) is None


def test_a_result_that_is_fetched_is_not_timed():
    clock = Clock()

    def fetch():
        clock.now += 100
        return 5.0

    contenders = [clock.contender("ours", [1], 5.0), clock.contender("theirs", [1], fetch)]
    rows = compare(contenders, 1, warm_up=False, clock=clock)
    assert rows[1].difference == 0
    assert rows[1].seconds == [1]


def test_table_and_json_hold_what_was_measured():
    rows = [
        Row("ours", [0.5, 0.25, 1.0], per_second=64.0),
        Row("theirs", [1.0, 1.0, 1.0], 32.0, 2.0, (1.0, 4.0), 1.5e-7, "scaled"),
        Row("third", unavailable="not installed: torch"),
    ]
    measurement = table.Measurement("network", "32 images", rows, "images", "read it so")
    assert table.to_lines(measurement) == [
        "network: 32 images",
        "          seconds  images/s  times fid_med  differs by",
        "  ours        0.5        64",
        "  theirs        1        32     2 (1 to 4)     1.5e-07  scaled",
        "  third                                                 not installed: torch",
        "  read it so",
    ]
    found = table.to_dict(table.machine(), {"torch": "2"}, {"rounds": 3}, [measurement])
    again = json.loads(json.dumps(found, allow_nan=False))
    assert again["machine"]["cores"] >= 1
    assert again["versions"]["numpy"] == np.__version__
    assert again["measurements"][0]["rows"][1]["ratio_range"] == [1.0, 4.0]
    assert again["measurements"][0]["rows"][2]["unavailable"] == "not installed: torch"
    assert "torch (peer) 2" in table.machine_lines(table.machine(), {"torch": "2"})[1]


def test_columns_without_numbers_are_left_out():
    lines = table.to_lines(table.Measurement("startup", "x", [Row("a", [1.0]), Row("bc", [2.0])]))
    assert lines == ["startup: x", "      seconds", "  a         1", "  bc        2"]


FRECHET = """
import os
def calculate_frechet_distance(mu1, sigma1, mu2, sigma2):
    print("talk that must not be taken for an answer")
    if len(mu1) == 3:
        os._exit(1)
    if len(mu1) == 4:
        raise ValueError("no root")
    return 7.0
"""


@pytest.fixture
def pretended(tmp_path):
    """An interpreter with a pytorch-fid of three lines, a torch that is not there, and no more."""
    for name, version in (("torch", "2.0"), ("pytorch_fid", "0.3")):
        home = tmp_path / "packages" / f"{name}-{version}.dist-info"
        home.mkdir(parents=True)
        text = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n"
        (home / "METADATA").write_text(text)
    module = tmp_path / "packages" / "pytorch_fid"
    module.mkdir()
    (module / "__init__.py").write_text("")
    (module / "fid_score.py").write_text(FRECHET)
    python = tmp_path / "python"
    packages = tmp_path / "packages"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={packages} exec {sys.executable} "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    with Peers(str(python), tmp_path) as peers:
        yield peers


def moments(folder, dimension):
    path = folder / f"moments{dimension}.npz"
    np.savez(path, mu1=np.zeros(dimension), sigma1=1.0, mu2=1.0, sigma2=1.0)
    return path


def test_another_program_runs_in_its_own_interpreter(pretended, tmp_path):
    assert pretended.versions["pytorch-fid"] == "0.3"
    run = pretended.job("pytorch-fid", "frechet", moments=moments(tmp_path, 2))
    assert run()() == 7.0
    assert run()() == 7.0


@pytest.mark.parametrize(
    ("dimension", "reason"), [(3, "its process ended"), (4, "ValueError: no root")]
)
def test_a_program_that_fails_says_so(pretended, tmp_path, dimension, reason):
    run = pretended.job("pytorch-fid", "frechet", moments=moments(tmp_path, dimension))
    with pytest.raises(UnavailableError, match=reason):
        run()


def test_a_program_that_is_missing_is_named(pretended):
    with pytest.raises(UnavailableError, match="not installed: torch-fidelity"):
        pretended.require("torch-fidelity")
    with pytest.raises(UnavailableError, match="not installed: onnxruntime, onnx"):
        pretended.require("ONNX Runtime")


@pytest.fixture
def inputs(tmp_path, pretended):
    """Tiny sizes, and nothing installed but what is pretended."""
    pretended.versions.pop("pytorch-fid")
    settings = Settings(
        script=str(tmp_path / "script.py"),
        num_images=5,
        sizes=(16, 24),
        batch_size=4,
        rounds=2,
        counts=(16, 40),
        dimension=24,
        replicates=12,
        growth=(8, 16),
    )
    folder = tmp_path / "run"
    folder.mkdir()
    return BenchmarkInputs(settings, folder, pretended)


@pytest.fixture(scope="module")
def tiny():
    """An extractor of 8 features at 12 pixels."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(8, 3, use_bias=False)(pixels)
    x = keras.layers.BatchNormalization(scale=False)(x)
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    network = keras.Model(pixels, features)
    return FeatureExtractor("tiny", network, Preprocessing(12, 12), "0" * 64)


def test_every_way_through_the_network_gives_the_same(tiny):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 3), np.uint8)
    rows = compare(list(case_network._tensorflow(tiny, pixels)), 1, 4)
    assert [row.name for row in rows[1:]] == ["Keras predict", "tf.function", "tf.function, XLA"]
    for row in rows[1:]:
        assert row.difference < 1e-5


def test_every_pipeline_gives_the_same(tiny, inputs):
    inputs.extractor = tiny
    found = list(case_network.pipeline(inputs))
    assert [m.title for m in found] == [
        f"5 PNG files of {size} x {size} to statistics" for size in (16, 24)
    ]
    for measurement in found:
        assert [row.difference < 1e-5 for row in measurement.rows[1:]] == [True, True]
        assert measurement.rows[0].per_second > 0


def test_images_of_a_folder_are_scaled_up(inputs, write_images, tmp_path):
    images = [np.full((8, 8), 20 * i, np.uint8) for i in range(10)]
    inputs.settings = Settings("", images=str(write_images("few", images)), num_images=5)
    folders = inputs.image_folders(24)
    assert {side: len(os.listdir(folder)) for side, folder in folders.items()} == {
        "real": 5,
        "generated": 5,
    }
    inputs.settings = Settings("", images=inputs.settings.images, num_images=6)
    with pytest.raises(DataError, match="10 images, 12 are needed"):
        inputs.check(["pipeline"])
    inputs.check(["frechet"])


def test_forms_of_the_distance_agree(inputs):
    for measurement, count in zip(case_numbers.frechet(inputs), (16, 40), strict=True):
        assert measurement.title == f"d = 24, N = {count} on each side"
        ours, root, *others = measurement.rows
        assert ours.difference is None
        assert root.difference < 1e-5
        assert [row.unavailable[:13] for row in others] == ["not installed"] * 2


def test_the_bootstrap_is_scaled_from_a_few_replicates(inputs):
    (measurement,) = case_numbers.bootstrap(inputs)
    assert measurement.unit == "replicates"
    assert [row.note for row in measurement.rows] == ["", *["from 2 replicates"] * 2]
    assert [row.difference for row in measurement.rows] == [None] * 3


def test_growth_is_set_against_the_smallest(inputs, monkeypatch):
    monkeypatch.setattr(case_numbers, "_extraction", lambda: lambda count: lambda: count)
    found = list(case_numbers.growth(inputs))
    assert [[row.name for row in m.rows] for m in found] == [
        ["8", "16"],
        ["8", "16"],
        ["8"],
        ["3", "6", "12", "24"],
        ["3", "6", "12"],
    ]
    assert all(row.ratio > 0 for m in found for row in m.rows[1:])


def test_features_are_of_full_rank_beyond_d_and_not_diagonal(inputs):
    real, generated = inputs.features(40)
    assert real.shape == (40, 24)
    assert real.dtype == np.float32
    assert np.array_equal(real, inputs.features(40)[0])
    sigma = np.cov(real, rowvar=False)
    assert np.linalg.matrix_rank(sigma) == 24
    distance = calculate_frechet_distance(
        real.mean(0), sigma, generated.mean(0), np.cov(generated, rowvar=False)
    )
    assert distance > 0


def test_a_command_gives_the_number_on_its_last_line(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import sys; print('words'); print('FID:', sys.argv[1])")
    assert case_commands._process([sys.executable, script, "3.5"])() == 3.5
    assert case_commands._process([sys.executable, "-c", "print('words')"])() is None


@pytest.mark.parametrize(("peer", "error"), [(True, UnavailableError), (False, FidMedError)])
def test_a_command_that_fails_says_its_last_line(peer, error):
    run = case_commands._process([sys.executable, "-c", "raise SystemExit('broken')"], peer)
    with pytest.raises(error, match="ended with 1: broken") as caught:
        run()
    assert (type(caught.value) is UnavailableError) == peer


def test_every_case_is_found():
    names = ("startup", "network", "pipeline", "command", "depths", "training", "frechet")
    names += ("bootstrap", "growth")
    assert tuple(cases.CASES) == names
    for name, module in cases.CASES.items():
        assert callable(getattr(importlib.import_module(f"benchmarks.{module}"), name))
    assert set(NEEDS) == {"pytorch-fid", "torch-fidelity", "ONNX Runtime"}


run_benchmark = functools.partial(run_script, "-m", SCRIPT)


def test_the_script_prints_and_writes_a_table(tmp_path):
    target = tmp_path / "benchmark.json"
    done = run_benchmark(
        "--cases=frechet,bootstrap",
        "--dimension=16",
        "--counts=12,30",
        "--replicates=8",
        "--rounds=2",
        f"--json={target}",
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith("machine: ")
    assert "frechet: d = 16, N = 30 on each side" in done.stdout
    found = json.loads(target.read_text())
    assert [m["case"] for m in found["measurements"]] == ["frechet", "frechet", "bootstrap"]
    assert [len(row["seconds"]) for row in found["measurements"][0]["rows"][:2]] == [2, 2]
    assert found["settings"]["script"] == "compute_fid.py"


@pytest.mark.parametrize(
    "wrong",
    ["--cases=speed", "--cases=", "--counts=many", "--sizes=3", "--growth=", "--rounds=0", "extra"],
)
def test_wrong_flags_end_with_status_2_and_one_line(wrong):
    done = run_benchmark(wrong)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("benchmarks: error: ")


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ("--peer_python=/nowhere/python", "not a Python interpreter"),
        ("--peer_python=/bin/false", "not a Python interpreter"),
        ("--graph=/nowhere/graph.pb", "no such file"),
        ("--images=/nowhere", "no such folder"),
        ("--json=/proc/version/x", "is a file"),
    ],
)
def test_a_flag_that_names_nothing_ends_with_status_2_and_one_line(wrong, word):
    done = run_benchmark("--cases=pipeline", wrong)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert word in done.stderr
