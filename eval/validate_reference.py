#!/usr/bin/env python3
"""Compares every part of the FID with values from other sources."""

from absl import flags

from fid_med import cli
from fid_med.extractors.registry import LARGEST_BATCH

USAGE = """usage: validate_reference.py [flags]

Prints a table of checks. They compare the network with TensorFlow, the metrics with closed forms
and with other programs, and the FID with published values. The last need the 2015-12-05 graph,
CIFAR-10 and TTUR's statistics; without these files they are UNAVAILABLE. Files are downloaded only
with --download. The last line counts the rows. The exit status is 1 if a check FAILs, or if a check
that --require names is UNAVAILABLE."""

_GRAPH = flags.DEFINE_string(
    "graph", None, "Path of the 2015-12-05 graph (.pb, .tgz); by default in fid_med's cache."
)
_TTUR_STATS_DIR = flags.DEFINE_string(
    "ttur_stats_dir",
    None,
    "Folder of TTUR's fid_stats_*.npz; by default ttur_stats in fid_med's cache.",
)
_CIFAR10 = flags.DEFINE_string(
    "cifar10",
    None,
    "Folder of CIFAR-10's binary or Python version, or tfds to read it with "
    "tensorflow_datasets. Its 60,000 images take one to two hours on a few cores. By default it is "
    "not used.",
)
_TFDS_DATA_DIR = flags.DEFINE_string(
    "tfds_data_dir", None, "Data folder for --cifar10=tfds; by default that of tensorflow_datasets."
)
_DOWNLOAD = flags.DEFINE_bool(
    "download", False, "Download missing files: graph, statistics, CIFAR-10 (with --cifar10=tfds)."
)
_REQUIRE = flags.DEFINE_list(
    "require", [], "Names of checks that must not be UNAVAILABLE; by default none."
)
_ONLY = flags.DEFINE_list(
    "only", [], "Names of the checks to run, besides those of --require; by default all."
)
_JSON = flags.DEFINE_string("json", None, "File for the table as JSON; by default it is not saved.")
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size",
    32,
    "Number of images per pass through the network.",
    lower_bound=1,
    upper_bound=LARGEST_BATCH,
)


def _check_names(given):
    if not given:
        return True
    from fid_med.validation import all_checks

    known = [check.name for check in all_checks()]
    unknown = [name for name in given if name not in known]
    if unknown:
        raise flags.ValidationError(
            f"no check named {', '.join(unknown)}; there are {', '.join(known)}"
        )
    return True


flags.register_validator("require", _check_names)
flags.register_validator("only", _check_names)


def main():
    from fid_med import validation
    from fid_med.utils import files

    if _CIFAR10.value != "tfds":
        cli.refuse_given(["tfds_data_dir"], "without --cifar10=tfds")
    if _JSON.value:
        files.check_writable(_JSON.value)
    inputs = validation.ReferenceInputs(
        graph=_GRAPH.value,
        ttur_stats_dir=_TTUR_STATS_DIR.value,
        cifar10=_CIFAR10.value,
        tfds_data_dir=_TFDS_DATA_DIR.value,
        download=_DOWNLOAD.value,
        batch_size=_BATCH_SIZE.value,
    )
    # Required checks run even if --only does not name them.
    wanted = {*_ONLY.value, *_REQUIRE.value} if _ONLY.value else None
    checks = [c for c in validation.all_checks() if wanted is None or c.name in wanted]
    if any(check.tensorflow for check in checks):
        cli.load_tensorflow()
    rows = []
    for row in validation.run(checks, inputs):
        rows.append(row)
        print("\n".join(validation.to_lines(row)), flush=True)
    print(", ".join(f"{status} {n}" for status, n in validation.count(rows).items()), flush=True)
    if _JSON.value:
        files.write_json(_JSON.value, validation.to_dict(rows))
    validation.check_success(rows, _REQUIRE.value)


if __name__ == "__main__":
    cli.run(main, USAGE)
