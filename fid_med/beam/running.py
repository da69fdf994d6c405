"""Running the pipeline, on this machine or on the runner that Beam's flags select."""

import argparse
import contextlib
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Iterable

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from fid_med import errors
from fid_med.beam import files
from fid_med.beam.statistics import ImageStatistics, WriteStatistics, account_path
from fid_med.data.sources import open_source
from fid_med.errors import DataError, FidMedError, reason_of
from fid_med.evaluation.account import ImageAccount
from fid_med.extractors import hub
from fid_med.utils.progress import quiet_tensorflow, say, warn


def load_extractor_quietly(spec: str, threads: int | None = None, **options):
    """Calls `load_extractor` in a worker process, without TensorFlow's start-up messages.

    Args:
      spec: as for `load_extractor`, or a path on one of Beam's file systems.
      threads: number of cores that TensorFlow may use in this process; by default all.
      **options: options of `load_extractor`.
    """
    with quiet_tensorflow():
        import tensorflow as tf

        with contextlib.suppress(RuntimeError):  # TensorFlow is already in use in this process
            tf.config.threading.set_intra_op_parallelism_threads(threads or 0)
        tf.config.list_physical_devices()
        from fid_med.extractors.registry import load_extractor

    if spec.startswith(hub.SCHEME):  # no file system of Beam's
        return load_extractor(spec, **options)
    with files.local_copy(spec) as path:
        return load_extractor(path, **options)


def split_arguments(arguments: Iterable[str]) -> tuple[list[str], list[str]]:
    """Separates positional arguments from Beam's flags.

    Args:
      arguments: the command line without the script's own flags.

    Returns:
      (positional, flags): lists of str; flags are Beam's flags with their values.

    Raises:
      ValueError: a wrong value of one of Beam's flags, or an unknown flag. Runners outside of
        Beam's Python package may have other flags, so for them unknown flags are allowed.
    """
    arguments = list(arguments)
    parser = _Parser(add_help=False, allow_abbrev=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    known, rest = parser.parse_known_args(arguments)
    positional = [x for x in rest if not x.startswith("-")]
    unknown = [x for x in rest if x.startswith("-")]
    if unknown and _is_local(known.runner):
        raise ValueError(f"unknown flag {unknown[0]}, neither of this script nor of Apache Beam")
    for argument in positional:
        arguments.remove(argument)
    return positional, arguments


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ValueError(message)


def _is_local(runner):
    return runner in (None, "DirectRunner", "direct")


def run_pipeline(folder, output, load, arguments: Iterable[str] = (), **options) -> dict:
    """Runs the pipeline that writes the statistics of a folder of images, and waits for its end.

    Args:
      folder: path of the images, the same on all workers; with apache_beam's extras also on gs://,
        s3:// or hdfs://.
      output: path of the `.npz` file to write, the same on all workers. The account of the images
        is written next to it, as `.json`.
      load: as for `ImageStatistics`.
      arguments: Beam's flags, for example `--runner=FlinkRunner`. Without a runner, or with
        DirectRunner, Beam's Python runner runs on this machine (`--direct_num_workers`,
        `--direct_running_mode`). It stops if a worker process dies; the run is then repeated once.
        Its log is hidden unless `--default_sdk_harness_log_level` is given.
      **options: options of `ImageStatistics`.

    Returns:
      dict, the account that is written next to the output: `images` with the counts of an
      `ImageAccount`, `unreadable`, `extractor`, `fingerprint`, `preprocessing`, `versions`.

    Raises:
      FidMedError: an error of a worker, or a failed pipeline. Then nothing is written.
    """
    folder, output = os.fspath(folder), os.fspath(output)
    if not output.endswith(".npz"):
        raise DataError(f"{output}: expected the path of an .npz file")
    for target in (output, account_path(output)):
        files.check_target(target)
    # Open it here too, so that a wrong path fails before the cluster starts.
    if not files.is_remote(folder):
        source = open_source(folder, "images")
        say(f"{folder}: {source.count} images")
        for line in source.warnings():
            warn(line)
    arguments = list(arguments)
    local = _is_local(PipelineOptions(arguments).view_as(StandardOptions).runner)
    quiet = contextlib.nullcontext
    if local:
        # Beam's DirectRunner would otherwise download Prism, a runner in Go without the direct_*
        # flags. This flag prevents it, and is harmless, since the pipeline has no triggers.
        arguments.append("--allow_unsafe_triggers")
        if not any(x.startswith("--default_sdk_harness_log_level") for x in arguments):
            arguments.append("--default_sdk_harness_log_level=CRITICAL")
            quiet = _quiet

    def attempt():
        with quiet(), _unwrapped_errors():
            pipeline = beam.Pipeline(options=PipelineOptions(arguments))
            _ = (
                pipeline
                | "Folder" >> beam.Create([folder])
                | "Statistics" >> ImageStatistics(load, **options)
                | "Write" >> beam.ParDo(WriteStatistics(output))
            )
            pipeline.run().wait_until_finish()

    try:
        attempt()
    except _WorkerLost as error:
        if not local:  # the cluster's runner has retried already
            raise
        warn(f"{error}; starting once more from the beginning")
        attempt()
    account = _read_account(output)
    for line in account["unreadable"]:
        warn(f"skipped: {line}")
    images = ImageAccount(**account["images"])
    for line in images.training_warnings("images") + images.blank_warnings("images"):
        warn(line)
    return account


def _read_account(output):
    try:
        with files.local_copy(account_path(output)) as path, open(path, encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise FidMedError(
            f"the pipeline is done, but {output} cannot be read here ({reason_of(error)}); give a "
            "path that the workers and this machine share"
        ) from None


class _WorkerLost(FidMedError):
    """The pipeline stopped, but not because of an error in it."""


@contextlib.contextmanager
def _unwrapped_errors():
    """Raises an error of a worker as it was before Beam wrapped it."""
    try:
        yield
    except Exception as error:
        text = f"{type(error).__module__}.{type(error).__qualname__}: {error}"
        ours = re.findall(r"fid_med\.errors\.(\w+): (.*)", text)
        if ours:
            kind, message = ours[-1]
            raise getattr(errors, kind)(message.split(" [while running")[0]) from error
        last = [line for line in text.splitlines() if line.strip()][-1].removeprefix("builtins.")
        kind = FidMedError if "[while running" in text else _WorkerLost
        raise kind(f"the pipeline stopped, nothing was written: {last.strip()[:300]}") from error


@contextlib.contextmanager
def _quiet():
    """Hides Beam's log, and the tracebacks of its threads and worker processes."""
    logger, hook = logging.getLogger("apache_beam"), threading.excepthook
    level = logger.level
    sys.stderr.flush()
    shown = os.dup(2)
    logger.setLevel(logging.CRITICAL + 1)
    threading.excepthook = lambda _: None
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(shown, 2)
        os.close(shown)
        logger.setLevel(level)
        threading.excepthook = hook
