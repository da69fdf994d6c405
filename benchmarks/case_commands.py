"""Cases of whole processes: the wall time of start-up and of the whole job."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.inputs import BenchmarkInputs
from benchmarks.table import Measurement
from benchmarks.timing import Contender, UnavailableError, compare
from fid_med.errors import FidMedError
from fid_med.metrics.statistics import FeatureStatistics

_HELP = {
    "pytorch-fid": "from pytorch_fid.fid_score import main; main()",
    "torch-fidelity": "from torch_fidelity.fidelity import main; main()",
}


def startup(inputs: BenchmarkInputs) -> Iterator[Measurement]:
    """Times the import, `--help`, and a distance between two files of statistics."""
    settings, peers = inputs.settings, inputs.peers

    def of(program, *arguments):
        def prepare():
            peers.require(program)
            return _process([peers.python, *arguments])

        return Contender(program, prepare)

    ours = [sys.executable, settings.script]
    imports = [
        Contender("import fid_med", lambda: _process([sys.executable, "-c", "import fid_med"])),
        Contender("python alone", lambda: _process([sys.executable, "-c", "pass"])),
        Contender(
            "import tensorflow", lambda: _process([sys.executable, "-c", "import tensorflow"])
        ),
        of("pytorch-fid", "-c", "import pytorch_fid.fid_score"),
        of("torch-fidelity", "-c", "import torch_fidelity"),
    ]
    yield Measurement("startup", "importing", compare(imports, settings.rounds))
    helps = [
        Contender("compute_fid.py --help", lambda: _process([*ours, "--help"])),
        *(of(program, "-c", code, "--help") for program, code in _HELP.items()),
    ]
    yield Measurement("startup", "--help", compare(helps, settings.rounds))
    count = max(settings.counts)
    files = []
    for name, features in zip(("a.npz", "b.npz"), inputs.features(count), strict=True):
        files.append(str(inputs.folder / name))
        FeatureStatistics.from_features(features).save(files[-1])
    npz = [
        Contender("compute_fid.py", lambda: _process([*ours, *files])),
        Contender("pytorch-fid", lambda: _program(inputs, "pytorch-fid", *files)),
    ]
    yield Measurement(
        "startup",
        f"npz against npz, d = {settings.dimension}, N = {count}",
        compare(npz, settings.rounds),
    )


def command(inputs: BenchmarkInputs) -> Iterator[Measurement]:
    """Times the FID of two folders of PNG files, including start-up."""
    settings = inputs.settings
    for size in settings.sizes[-1:]:
        folders, ours = _compute_fid(inputs, size)
        baseline = [sys.executable, "-m", "benchmarks.baseline", inputs.graph, *folders]
        contenders = [
            Contender("compute_fid.py", lambda command=ours: _process(command)),
            Contender("Pillow, Keras predict, np.cov, sqrtm", lambda c=baseline: _process(c)),
            *(
                Contender(name, lambda name=name, f=folders: _program(inputs, name, *f))
                for name in ("pytorch-fid", "torch-fidelity")
            ),
        ]
        yield Measurement(
            "command",
            _title(settings, size),
            # The files were written just now and are in the disk cache: no warm-up is needed.
            compare(contenders, settings.rounds, warm_up=False),
            note="fid_med adds the debiased FID; pytorch-fid resizes differently: its FID differs",
        )


def depths(inputs: BenchmarkInputs) -> Iterator[Measurement]:
    """Times the FID at other depths, and the profile over all, against the plain FID."""
    settings = inputs.settings
    size = settings.sizes[-1]
    _, plain = _compute_fid(inputs, size)
    flags = {
        "plain FID": ["--metrics=fid"],
        "--dims=768": ["--metrics=fid", "--dims=768"],
        "--metrics=debiased": ["--metrics=debiased"],
        "--metrics=depths": ["--metrics=depths"],
    }
    contenders = [
        Contender(name, lambda command=[*plain, *more]: _process(command), same="dims" not in name)
        for name, more in flags.items()
    ]
    yield Measurement(
        "depths",
        _title(settings, size),
        compare(contenders, settings.rounds, warm_up=False),
        note="depths includes five debiased FIDs with intervals",
    )


def _compute_fid(inputs, size):
    """The folders of real and generated images of a size, and the command on them."""
    folders = [inputs.image_folders(size)[side] for side in ("real", "generated")]
    return folders, [
        sys.executable,
        inputs.settings.script,
        *folders,
        f"--extractor={inputs.graph}",
    ]


def _title(settings, size):
    count = settings.num_images
    return f"whole command, {count} + {count} PNG files of {size} x {size}, 2015-12-05 graph"


def _program(inputs, program, *folders):
    inputs.peers.require(program)
    return _process(inputs.peers.command(program, inputs.torch_weights, *folders), peer=True)


def _process(command, peer=False):
    """Returns a function that runs a command and returns its last line, if that is a number."""
    root = str(pathlib.Path(__file__).parents[1])
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONPATH": root}

    def run():
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, check=False, env=environment
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            error = UnavailableError if peer else FidMedError
            raise error(f"{os.path.basename(str(command[1]))} ended with {done.returncode}: {last}")
        try:
            return float(done.stdout.split()[-1])
        except (IndexError, ValueError):
            return None

    return run
