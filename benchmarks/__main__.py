#!/usr/bin/env python3
"""Times every part of fid_med against baseline code and against other programs."""

import pathlib
import tempfile

from absl import flags

from benchmarks.cases import CASES
from fid_med import cli

USAGE = """usage: python -m benchmarks [flags]

Run it from the checkout. It times fid_med alternately with baseline code, and with pytorch-fid,
torch-fidelity and ONNX Runtime if the interpreter of --peer_python has them. For each case it
prints a table: seconds of the median round; rate; time relative to fid_med (median and range over
the rounds); and the difference of the results. All programs run one network: the graph of --graph,
or a stand-in with the same nodes and random weights. Keep the machine idle; the whole run takes
about half an hour on 2 cores."""

_CASES = flags.DEFINE_list("cases", list(CASES), "Cases to time, separated by commas.")
_PEER_PYTHON = flags.DEFINE_string(
    "peer_python", None, "Python interpreter of the other programs; by default the running one."
)
_GRAPH = flags.DEFINE_string(
    "graph", None, "The 2015-12-05 graph (.pb, .tgz); by default a stand-in with random weights."
)
_IMAGES = flags.DEFINE_string(
    "images", None, "Folder of images to resize to --sizes; by default phantoms."
)
_NUM_IMAGES = flags.DEFINE_integer(
    "num_images", 120, "Images per side, for pipeline and command.", lower_bound=2
)
_SIZES = flags.DEFINE_list(
    "sizes", ["512", "1024"], "Heights and widths of the images in pixels; command uses the last."
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 32, "Images per batch of a network.", lower_bound=2
)
_ROUNDS = flags.DEFINE_integer(
    "rounds", 3, "Number of times that each contender is timed.", lower_bound=1
)
_COUNTS = flags.DEFINE_list(
    "counts",
    ["500", "2048", "3000"],
    "Images per side, for frechet. bootstrap uses the first, startup the largest.",
)
_DIMENSION = flags.DEFINE_integer(
    "dimension",
    2048,
    "Dimension of the features, for frechet, bootstrap and growth.",
    lower_bound=2,
)
_REPLICATES = flags.DEFINE_integer("replicates", 400, "Replicates of the bootstrap.", lower_bound=2)
_GROWTH = flags.DEFINE_list(
    "growth", ["250", "500", "1000", "2000", "4000"], "Images per side, for growth."
)
_JSON = flags.DEFINE_string("json", None, "JSON file to write the results to.")


@flags.validator("cases", f"expected some of {', '.join(CASES)}")
def _known_cases(cases):
    return bool(cases) and set(cases) <= set(CASES)


def _counts(given):
    return bool(given) and all(x.isdecimal() and int(x) >= 8 for x in given)


for _name in ("sizes", "counts", "growth"):
    flags.register_validator(_name, _counts, "expected whole numbers of 8 or more: 512,1024")


def main():
    from benchmarks.cases import run_case
    from benchmarks.inputs import BenchmarkInputs, Settings
    from benchmarks.peers import Peers
    from benchmarks.table import machine, machine_lines, to_dict, to_lines
    from fid_med.utils import files

    if _JSON.value:
        files.check_writable(_JSON.value)
    found = machine()
    settings = Settings(
        script=str(pathlib.Path(__file__).parents[1] / "eval" / "compute_fid.py"),
        graph=_GRAPH.value,
        images=_IMAGES.value,
        num_images=_NUM_IMAGES.value,
        sizes=tuple(map(int, _SIZES.value)),
        batch_size=_BATCH_SIZE.value,
        rounds=_ROUNDS.value,
        counts=tuple(map(int, _COUNTS.value)),
        dimension=_DIMENSION.value,
        replicates=_REPLICATES.value,
        growth=tuple(map(int, _GROWTH.value)),
    )
    measurements = []
    with tempfile.TemporaryDirectory() as folder, Peers(_PEER_PYTHON.value, folder) as peers:
        print("\n".join(machine_lines(found, peers.versions)), flush=True)
        inputs = BenchmarkInputs(settings, folder, peers)
        inputs.check(_CASES.value)
        for measurement in (row for name in _CASES.value for row in run_case(name, inputs)):
            measurements.append(measurement)
            print("\n" + "\n".join(to_lines(measurement)), flush=True)
            if _JSON.value:
                files.write_json(
                    _JSON.value, to_dict(found, peers.versions, settings.to_dict(), measurements)
                )


if __name__ == "__main__":
    cli.run(main, USAGE)
