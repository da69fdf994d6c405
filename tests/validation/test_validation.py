"""The validation: every row passes or fails for the right reason, and says what it lacks."""

import dataclasses
import json
import os
import urllib.error

import numpy as np
import pytest
from helpers.script_runs import ROOT, fork_script, run_script

from fid_med.errors import DataError, FidMedError
from fid_med.extractors.inception_2015 import download
from fid_med.validation import (
    Check,
    ReferenceInputs,
    all_checks,
    check_success,
    count,
    reference_values,
    run,
    to_dict,
    to_lines,
)
from fid_med.validation import inputs as inputs_module

SCRIPT = ROOT / "eval" / "validate_reference.py"
CHECKS = {check.name: check for check in all_checks()}
TRAIN, TEST = 25, 7
PUBLISHED = [
    "published_graph_pool_3",
    "cifar10_train_ttur_statistics",
    "cifar10_train_test",
    "cifar10_train_is",
    "cifar10_train_is_torch_fidelity",
    "imagenet_valid_train",
]


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """An empty cache, and no network."""
    monkeypatch.setenv("FID_MED_CACHE", str(tmp_path / "cache"))

    def refused(url, timeout):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr("urllib.request.urlopen", refused)


@pytest.fixture(scope="session")
def graph(graph_def, tmp_path_factory):
    path = tmp_path_factory.mktemp("graph") / "classify_image_graph_def.pb"
    path.write_bytes(graph_def.SerializeToString())
    return path


@pytest.fixture(scope="session")
def images():
    """By split uint8 [N, 32, 32, 3]; the two splits differ in kind."""
    from fid_med.extractors.inception_2015.stand_in import smooth_images

    return {"train": smooth_images(TRAIN, 32, 32, seed=1), "test": smooth_images(TEST, 32, 32)}


@pytest.fixture(scope="session")
def cifar10(images, tmp_path_factory):
    """The binary version of CIFAR-10, five images a batch."""
    folder = tmp_path_factory.mktemp("cifar10") / "cifar-10-batches-bin"
    folder.mkdir()
    parts = np.split(images["train"], 5)
    named = {f"data_batch_{i}": part for i, part in enumerate(parts, 1)}
    for name, part in {**named, "test_batch": images["test"]}.items():
        records = [b"\x03" + image.transpose(2, 0, 1).tobytes() for image in part]
        (folder / f"{name}.bin").write_bytes(b"".join(records))
    (folder / "batches.meta.txt").write_text("\n".join("abcdefghij") + "\n")
    return folder


@pytest.fixture(scope="session")
def executed(graph_def, images):
    """TensorFlow's own features and logits of each split, float64, without the port."""
    from fid_med.extractors.inception_2015.stand_in import run_graph

    both = np.concatenate([images["train"], images["test"]])
    outputs = run_graph(graph_def, both, ["pool_3", "softmax/logits/MatMul"])
    pool, logits = (np.stack([o[i].ravel() for o in outputs]).astype(np.float64) for i in (0, 1))
    return {"train": (pool[:TRAIN], logits[:TRAIN]), "test": (pool[TRAIN:], logits[TRAIN:])}


@pytest.fixture(scope="session")
def ttur_stats(executed, tmp_path_factory):
    """What TTUR's folder holds, by np.mean and np.cov; ImageNet's made small."""
    folder = tmp_path_factory.mktemp("ttur_stats")
    pool = executed["train"][0]
    few = np.random.default_rng(0).normal(size=(2, 40, 6))
    for name, x in (
        ("cifar10_train", pool),
        ("imagenet_train", few[0]),
        ("imagenet_valid", few[1]),
    ):
        moments = {"mu": np.mean(x, axis=0), "sigma": np.cov(x, rowvar=False)}
        np.savez(folder / f"fid_stats_{name}.npz", **moments)
    return folder


@pytest.fixture(scope="session")
def inputs(graph, cifar10, ttur_stats):
    """Every file there; shared, so that the network runs once."""
    return ReferenceInputs(graph=graph, cifar10=cifar10, ttur_stats_dir=ttur_stats, batch_size=10)


def the_row(name, inputs=None, **changes):
    check = dataclasses.replace(CHECKS[name], **changes)
    (row,) = run([check], inputs or ReferenceInputs())
    return row


def naive_fid(real, generated):
    """Tr (C1 C2)^1/2 by the eigenvalues of a Gram product."""
    diff = real.mean(axis=0) - generated.mean(axis=0)
    a, b = ((x - x.mean(axis=0)) / np.sqrt(len(x) - 1) for x in (real, generated))
    cross = a @ b.T
    eigenvalues = np.linalg.eigvalsh(cross @ cross.T).clip(0)
    return diff @ diff + np.sum(a * a) + np.sum(b * b) - 2 * np.sqrt(eigenvalues).sum()


def naive_score(logits):
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    scores = []
    for i in range(10):
        part = p[i * len(p) // 10 : (i + 1) * len(p) // 10]
        scores.append(np.exp((part * np.log(part / part.mean(axis=0))).sum(axis=1).mean()))
    return np.mean(scores)


def test_names_are_unique_and_every_check_cites():
    assert len(CHECKS) == len(all_checks())
    assert list(CHECKS)[-len(PUBLISHED) :] == PUBLISHED
    for check in CHECKS.values():
        assert check.source
        assert (check.expected is None) == (check.tolerance is None)


@pytest.fixture(scope="session")
def metric_rows():
    """Those of NumPy alone; the script's own test runs the network's."""
    offline = list(CHECKS.values())[: -len(PUBLISHED)]
    return list(run([check for check in offline if not check.tensorflow], ReferenceInputs()))


def test_the_metrics_pass(metric_rows):
    assert len(metric_rows) == 11
    for row in metric_rows:
        assert row.status == "PASS", to_lines(row)


def test_a_wrong_expected_value_fails(metric_rows):
    for row in metric_rows:
        wrong = row.check.expected + 3 * row.check.tolerance + 1e-9
        assert the_row(row.check.name, expected=wrong).status == "FAIL"


def test_a_wrong_metric_fails(monkeypatch):
    from fid_med.metrics import frechet
    from fid_med.validation import offline

    def wrong(*sides, method="auto"):
        return frechet.frechet_distance(*sides, method=method) * 1.001

    monkeypatch.setattr(offline, "frechet_distance", wrong)
    for name in ("fid_torch_fidelity", "frechet_commuting", "frechet_one_dimension"):
        assert the_row(name).status == "FAIL"


def test_a_wrong_port_or_resize_fails(monkeypatch):
    from fid_med.validation import offline

    rng = np.random.default_rng(0)
    exact = [rng.uniform(1, 2, (2, 5)) for _ in range(3)]
    inputs = ReferenceInputs()
    pairs = [x for array in exact for x in (array * (1 + 2e-5), array)]
    inputs.once("stand-in", lambda: offline._Executed(*pairs))
    for name in ("port_pool_3", "port_logits", "tf1_resize"):
        assert the_row(name, inputs).status == "FAIL"


def test_changed_numbers_are_not_compared(monkeypatch):
    monkeypatch.setitem(reference_values.SHAPES, "real", (9, 200, 24))
    row = the_row("fid_torch_fidelity")
    assert row.status == "FAIL"
    assert "'real' are not those of reference_values.json" in row.note


def test_reference_values_name_program_version_and_command():
    for entry in reference_values.table()["values"].values():
        assert set(entry) == {"value", "program", "version", "with", "call", "command"}
        assert (ROOT / entry["command"].split()[-1]).is_file()


def test_without_files_every_published_row_says_why_and_how_to_fix_it():
    for row in run([CHECKS[name] for name in PUBLISHED], ReferenceInputs()):
        assert row.status == "UNAVAILABLE"
        assert row.obtained is None
        assert "--" in row.note
        assert "\n" not in row.note
    assert "--graph=PATH or --download" in the_row("published_graph_pool_3").note
    assert "--cifar10=FOLDER" in the_row("cifar10_train_test").note
    assert "--ttur_stats_dir=FOLDER" in the_row("imagenet_valid_train").note


def test_with_files_the_rows_are_those_of_independent_formulas(inputs, executed):
    rows = {row.check.name: row for row in run([CHECKS[name] for name in PUBLISHED], inputs)}
    statuses = {name: row.status for name, row in rows.items()}
    assert statuses == {
        "published_graph_pool_3": "PASS",
        "cifar10_train_ttur_statistics": "PASS",  # statistics of these very images
        "cifar10_train_test": "FAIL",  # they are not CIFAR-10
        "cifar10_train_is": "FAIL",
        "cifar10_train_is_torch_fidelity": "FAIL",
        "imagenet_valid_train": "INFO",
    }
    assert abs(rows["cifar10_train_ttur_statistics"].obtained) < 1e-4
    assert "but the published graph has 95,673,916" in rows["published_graph_pool_3"].note
    for name in PUBLISHED[1:5]:
        assert f"{TRAIN} train" in rows[name].note
        assert "published values do not apply" in rows[name].note

    (train, logits), (test, _) = executed["train"], executed["test"]
    expected = {
        "cifar10_train_test": naive_fid(train, test),
        "cifar10_train_is": naive_score(logits),
        "cifar10_train_is_torch_fidelity": naive_score(
            logits[np.random.RandomState(2020).permutation(TRAIN)]
        ),
    }
    assert expected["cifar10_train_test"] > 1
    for name, value in expected.items():
        row = the_row(name, inputs, expected=value, tolerance=1e-4 * value)
        assert row.status == "PASS", to_lines(row)


def test_statistics_of_other_images_fail(inputs, executed, tmp_path):
    x = executed["test"][0]
    path = tmp_path / "fid_stats_cifar10_train.npz"
    np.savez(path, mu=x.mean(axis=0), sigma=np.cov(x, rowvar=False))
    other = ReferenceInputs(graph=inputs.graph, cifar10=inputs.cifar10, ttur_stats_dir=tmp_path)
    other.once("features of train", lambda: inputs.features("train"))
    assert the_row("cifar10_train_ttur_statistics", other).status == "FAIL"


def test_damaged_files_are_unavailable_with_their_reason(tmp_path, cifar10):
    (tmp_path / "graph.pb").write_bytes(b"<html>")
    (tmp_path / "fid_stats_imagenet_train.npz").write_bytes(b"PK")
    inputs = ReferenceInputs(graph=tmp_path / "graph.pb", cifar10=tmp_path, ttur_stats_dir=tmp_path)
    row = the_row("cifar10_train_test", inputs)
    assert row.status == "UNAVAILABLE"
    assert "not a GraphDef, or a truncated one" in row.note
    assert "holds no CIFAR-10" in row.note
    row = the_row("imagenet_valid_train", inputs)
    assert row.status == "UNAVAILABLE"
    assert "fid_stats_imagenet_train.npz" in row.note


def test_a_graph_without_classifier_has_no_score(inputs):
    bare = ReferenceInputs(graph=inputs.graph, cifar10=inputs.cifar10)
    features = inputs.features("train")._replace(logits=None)
    bare.once("features of train", lambda: features)
    row = the_row("cifar10_train_is", bare)
    assert row.status == "FAIL"
    assert "ends at pool_3" in row.note


def test_given_paths_must_be_there(tmp_path):
    for argument in ("graph", "cifar10", "ttur_stats_dir"):
        with pytest.raises(DataError, match=r"none: no such (file|folder)"):
            ReferenceInputs(**{argument: tmp_path / "none"})


def test_nothing_is_downloaded_unasked(monkeypatch, tmp_path):
    def asked(*arguments, **options):
        raise AssertionError("the network was asked")

    monkeypatch.setattr("urllib.request.urlopen", asked)
    monkeypatch.setattr("tensorflow_datasets.core.dataset_builder.DatasetBuilder"
                        ".download_and_prepare", asked)  # fmt: skip
    inputs = ReferenceInputs(cifar10="tfds", tfds_data_dir=tmp_path)
    rows = list(run([CHECKS[name] for name in PUBLISHED], inputs))
    assert count(rows)["UNAVAILABLE"] == len(PUBLISHED)
    assert "--tfds_data_dir or --download" in rows[2].note
    assert "another order" in rows[4].note


def test_downloads_that_fail_are_unavailable_at_once(tmp_path):
    inputs = ReferenceInputs(download=True)
    row = the_row("imagenet_valid_train", inputs)
    assert row.status == "UNAVAILABLE"
    assert "could not be downloaded (<urlopen error no network in tests>); fetch it" in row.note
    assert not list((tmp_path / "cache" / "ttur_stats").iterdir())
    assert "could not be downloaded" in the_row("published_graph_pool_3", inputs).note


def test_statistics_are_downloaded_once(monkeypatch, ttur_stats):
    asked = []

    def answer(url, timeout):
        asked.append(url)
        return (ttur_stats / url.rsplit("/", 1)[-1]).open("rb")

    class WithHeaders:
        def __init__(self, file):
            self.file, self.read = file, file.read
            self.headers = {"Content-Length": str(os.fstat(file.fileno()).st_size)}

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: WithHeaders(answer(*a, **k)))
    first = the_row("imagenet_valid_train", ReferenceInputs(download=True))
    assert first.status == "INFO"
    assert asked == [f"{inputs_module.TTUR_URL}/fid_stats_imagenet_{x}.npz"
                     for x in ("train", "valid")]  # fmt: skip
    assert the_row("imagenet_valid_train", ReferenceInputs()).obtained == first.obtained
    assert len(asked) == 2


def test_a_graph_in_the_cache_needs_no_flag(monkeypatch, graph, tmp_path):
    monkeypatch.setattr(download, "GRAPH_BYTES", graph.stat().st_size)
    (tmp_path / "cache").mkdir()
    os.link(graph, tmp_path / "cache" / download.GRAPH_NAME)
    assert ReferenceInputs().graph_path() == tmp_path / "cache" / download.GRAPH_NAME


def test_cifar10_through_tensorflow_datasets(monkeypatch, cifar10, images, tmp_path):
    import tensorflow_datasets as tfds

    monkeypatch.setattr(
        tfds.download.DownloadManager, "download_and_extract", lambda self, url: cifar10.parent
    )
    prepared = ReferenceInputs(cifar10="tfds", tfds_data_dir=tmp_path / "tfds", download=True).get(
        "cifar10"
    )
    again = ReferenceInputs(cifar10="tfds", tfds_data_dir=tmp_path / "tfds").get("cifar10")
    for split, expected in images.items():
        # In an order of its own: the same images, each once.
        found = sorted(image.tobytes() for image in prepared[split])
        assert found == sorted(image.tobytes() for image in expected)
        np.testing.assert_array_equal(prepared[split], again[split])


def fixed(name, obtained, **fields):
    return Check(name, "a with b", "nowhere", lambda inputs: obtained, **fields)


def test_statuses_and_counts():
    def fails(inputs):
        raise DataError("went wrong")

    def lacking(name):
        return fixed(name, 1.0, expected=1.0, tolerance=0.0, needs=("graph",))

    rows = list(
        run(
            [
                fixed("within", 1.5, expected=1.0, tolerance=0.5),
                fixed("beyond", 1.6, expected=1.0, tolerance=0.5),
                fixed("nan", np.nan, expected=1.0, tolerance=0.5),
                fixed("unknown", (2.0, "who knows")),
                dataclasses.replace(fixed("error", 0, expected=0, tolerance=0), compute=fails),
                lacking("lacking"),
            ],
            ReferenceInputs(),
        )
    )
    statuses = [row.status for row in rows]
    assert statuses == ["PASS", "FAIL", "FAIL", "INFO", "FAIL", "UNAVAILABLE"]
    assert count(rows) == {"PASS": 1, "FAIL": 3, "UNAVAILABLE": 1, "INFO": 1}
    assert [row.note for row in rows[2:5]] == ["obtained nan", "who knows", "went wrong"]
    assert json.loads(json.dumps(to_dict(rows), allow_nan=False))["counts"] == count(rows)
    with pytest.raises(FidMedError, match=r"^FAIL: beyond, nan, error$"):
        check_success(rows)
    check_success([rows[0], rows[3], rows[5]], ["within", "unknown"])
    with pytest.raises(FidMedError, match=r"^required but UNAVAILABLE: lacking$"):
        check_success([rows[0], rows[5]], ["lacking", "within"])


def script(tmp_path, *arguments, run=fork_script):
    return run(SCRIPT, *arguments, FID_MED_CACHE=str(tmp_path / "cache"))


def test_the_script_offline_passes_and_counts(tmp_path):
    process = script(tmp_path, f"--json={tmp_path}/out/table.json", run=run_script)
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stderr == ""
    counts = {"PASS": len(CHECKS) - len(PUBLISHED), "FAIL": 0, "UNAVAILABLE": 6, "INFO": 0}
    last = ", ".join(f"{status} {n}" for status, n in counts.items())
    assert process.stdout.splitlines()[-1] == last
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    assert table["counts"] == counts
    assert [check["name"] for check in table["checks"]] == list(CHECKS)
    assert all(check["source"] for check in table["checks"])
    assert "tensorflow" in table["versions"]


def test_the_script_ends_with_1_where_a_required_check_is_unavailable(tmp_path):
    only = "--only=frechet_one_dimension,imagenet_valid_train"
    assert script(tmp_path, only).returncode == 0
    process = script(tmp_path, only, "--require=imagenet_valid_train,frechet_one_dimension")
    assert process.returncode == 1
    assert process.stdout.splitlines()[-1] == "PASS 1, FAIL 0, UNAVAILABLE 1, INFO 0"
    said = "validate_reference.py: error: required but UNAVAILABLE: imagenet_valid_train\n"
    assert process.stderr == said


def test_the_script_runs_what_is_required_whatever_only_says(tmp_path):
    process = script(tmp_path, "--only=frechet_forms", "--require=frechet_commuting")
    assert process.returncode == 0
    assert process.stdout.splitlines()[-1].startswith("PASS 2,")


@pytest.mark.parametrize(
    ("argument", "status", "said"),
    [
        ("--require=frechet_form", 2, "no check named frechet_form; there are port_pool_3"),
        ("--only=x,frechet_forms,y", 2, "no check named x, y;"),
        ("--batch_size=0", 2, "batch_size"),
        ("stray", 2, "stray"),
        ("--graph=/none.pb", 2, "/none.pb: no such file"),
        ("--cifar10=/none", 2, "/none: no such folder"),
        ("--json=/proc/x/y.json", 2, "/proc"),
    ],
)
def test_mistakes_end_in_one_line(tmp_path, argument, status, said):
    process = script(tmp_path, argument)
    assert process.returncode == status
    assert process.stdout == ""
    (line,) = process.stderr.splitlines()
    assert line.startswith("validate_reference.py: error: ")
    assert said in line


def test_help(tmp_path):
    process = script(tmp_path, "--help")
    assert process.returncode == 0
    assert process.stdout.startswith("usage: validate_reference.py")
    assert "--require" in process.stdout
    assert process.stderr == ""


def test_the_script_with_files_fails_where_they_are_no_cifar10(tmp_path, ttur_stats):
    moments = np.load(ttur_stats / "fid_stats_imagenet_train.npz")
    folder = tmp_path / "stats"
    folder.mkdir()
    for name in ("train", "valid"):
        np.savez(folder / f"fid_stats_imagenet_{name}.npz", **moments)
    process = script(tmp_path, "--only=imagenet_valid_train", f"--ttur_stats_dir={folder}")
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1] == "PASS 0, FAIL 0, UNAVAILABLE 0, INFO 1"
