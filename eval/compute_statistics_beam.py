#!/usr/bin/env python3
"""Computes the statistics of a folder of images with Apache Beam, on a machine or a cluster."""

import functools
import pathlib

from absl import flags

from fid_med import cli
from fid_med.data.images import check_folder
from fid_med.extractors.registry import (
    LARGEST_BATCH,
    LARGEST_INPUT,
    LARGEST_SEED,
    PRECISIONS,
    SMALLEST_INPUT,
    ExtractorSpec,
)

USAGE = """usage: compute_statistics_beam.py IMAGES --output=STATISTICS.npz [flags] [Beam's flags]

Computes the statistics of a folder of images with Apache Beam, for sets too large for one machine.
compute_fid.py accepts the .npz file in place of a folder. Next to it, a .json file accounts for the
images. Every worker must be able to read IMAGES and write the output; both may be on gs://, s3://
or hdfs://. All other flags are passed to Beam:

  on this machine   --direct_num_workers=2 --direct_running_mode=multi_processing
  on a Dask cluster --runner=apache_beam.runners.dask.dask_runner.DaskRunner
                    --dask_client_address=tcp://HOST:8786
  on Flink          --runner=FlinkRunner --flink_master=HOST:8081

The workers of a cluster need fid_med installed."""

_OUTPUT = flags.DEFINE_string("output", None, "Path of the .npz file to write.", required=True)
_EXTRACTOR = flags.DEFINE_string(
    "extractor",
    "imagenet",
    "Extractor: imagenet, ttur, random, or the path of a file, as for compute_fid.py. Each worker "
    "process loads it once.",
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size",
    32,
    "Number of images per pass through the network.",
    lower_bound=1,
    upper_bound=LARGEST_BATCH,
)
_IMAGE_SIZE = flags.DEFINE_integer(
    "image_size",
    None,
    "Height and width of the network's input in pixels; by default as in the extractor.",
    lower_bound=SMALLEST_INPUT,
    upper_bound=LARGEST_INPUT,
)
_RESIZE = flags.DEFINE_enum(
    "resize",
    None,
    ["antialias", "tf1", "nearest"],
    "Resizing: antialias (bicubic, antialiased), tf1 (TensorFlow 1's bilinear, as in published "
    "FIDs) or nearest (nearest neighbour, as in RadFID); by default as in the extractor.",
)
_ASPECT = flags.DEFINE_enum(
    "aspect",
    None,
    ["stretch", "pad"],
    "Images that are not square: stretch or pad them; by default as in the extractor.",
)
_PRECISION = flags.DEFINE_enum(
    "precision",
    None,
    PRECISIONS,
    "Compute precision of the network; by default float32. float32_unfolded runs each operation as "
    "the network defines it and is equal up to rounding; lower precisions appear in the "
    "extractor's name.",
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Seed of the weights of --extractor=random.", lower_bound=0, upper_bound=LARGEST_SEED
)
_SKIP_UNREADABLE = flags.DEFINE_bool(
    "skip_unreadable",
    False,
    "Leave unreadable images out and count them in the account; by default one is an error.",
)
_EXCLUDE_TRAINING_IMAGES = flags.DEFINE_bool(
    "exclude_training_images",
    False,
    "Leave out images that the extractor was trained or validated on; by default they are counted "
    "in a warning.",
)
_THREADS = flags.DEFINE_integer(
    "threads_per_worker",
    0,
    "Number of cores that the network may use in one worker process; 0 means all.",
    lower_bound=0,
    upper_bound=1024,
)


flags.register_validator(
    "output", lambda path: path.endswith(".npz"), "expected the path of an .npz file"
)


def main(*arguments):
    if _EXTRACTOR.value != "random":
        cli.refuse_given(["seed"], "without --extractor=random")
    if "://" not in _EXTRACTOR.value:  # checked here before Beam is imported, and on the workers
        ExtractorSpec(_EXTRACTOR.value, _IMAGE_SIZE.value)
    words = [word for word in arguments if not word.startswith("-")]
    if not words:
        raise flags.Error("expected IMAGES, got none")
    if len(words) == 1 and "://" not in words[0]:  # of several, some are values of Beam's flags
        check_folder(pathlib.Path(words[0]))
    from fid_med.beam.running import load_extractor_quietly, run_pipeline, split_arguments

    try:
        positional, arguments = split_arguments(arguments)
    except ValueError as error:
        raise flags.Error(str(error)) from None
    if len(positional) != 1:
        raise flags.Error(f"expected IMAGES, got {len(positional)}: {' '.join(positional)}")
    account = run_pipeline(
        positional[0],
        _OUTPUT.value,
        functools.partial(
            load_extractor_quietly,
            _EXTRACTOR.value,
            threads=_THREADS.value,
            image_size=_IMAGE_SIZE.value,
            resize=_RESIZE.value,
            aspect=_ASPECT.value,
            precision=_PRECISION.value,
            seed=_SEED.value,
        ),
        arguments,
        batch_size=_BATCH_SIZE.value,
        skip_unreadable=_SKIP_UNREADABLE.value,
        exclude_training_images=_EXCLUDE_TRAINING_IMAGES.value,
    )
    images = account["images"]
    left_out = [f"{images[key]} {key}" for key in ("skipped", "excluded") if images[key]]
    print(", ".join([f"{images['count']} images", *left_out]))
    print(f"extractor: {account['extractor']} ({account['fingerprint'][:12]})")
    print(f"statistics: {_OUTPUT.value}")


if __name__ == "__main__":
    cli.run(main, USAGE, positional=("IMAGES",), pass_on=True)
