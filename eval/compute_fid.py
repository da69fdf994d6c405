#!/usr/bin/env python3
"""Computes the Fréchet inception distance between real and generated images."""

from absl import flags

from fid_med import cli
from fid_med.evaluation.metric_registry import metrics_help
from fid_med.extractors.registry import (
    DEPTHS,
    LARGEST_BATCH,
    LARGEST_INPUT,
    LARGEST_SEED,
    PRECISIONS,
    SMALLEST_INPUT,
    extractors_help,
)

USAGE = """usage: compute_fid.py REAL GENERATED [flags]
       compute_fid.py REAL GENERATED1 GENERATED2 ... [flags]
       compute_fid.py REAL --plan=COUNTS [flags]
       compute_fid.py REAL --save_statistics=FOLDER [flags]

Computes the Fréchet inception distance between two sets of images.
REAL and GENERATED are each a folder of images (with its subfolders), a uint8 array of images
(.npy, or .npz with the key arr_0), or a .npz of statistics, of fid_med or any with TTUR's keys mu
and sigma. The last line on stdout is "FID: <value>"; progress and warnings go to stderr. Several
generated sets, such as the checkpoints of one run in their order, are ranked by their debiased
FIDs; the last lines are then "FID <name of the set>: <value>", one per set. REAL alone with
--save_statistics writes FOLDER/real.npz, for later comparisons and for FIDCallback."""

_EXTRACTOR = flags.DEFINE_string("extractor", "imagenet", f"Extractor: {extractors_help()}.")
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
_DIMS = flags.DEFINE_enum(
    "dims",
    "2048",
    [str(dims) for dims in DEPTHS],
    "Number of features, which selects the layer they are taken from: "
    + ", ".join(f"{dims} ({layer})" for dims, layer in DEPTHS.items())
    + ". Only 2048, the default, is the depth of published FIDs.",
)
_SEED = flags.DEFINE_integer(
    "seed",
    0,
    "Seed of the weights of --extractor=random, and for all metric sampling except KID subsets.",
    lower_bound=0,
    upper_bound=LARGEST_SEED,
)
_JSON = flags.DEFINE_string(
    "json", None, "File for the whole result as JSON; by default it is not saved."
)
_SAVE_STATISTICS = flags.DEFINE_string(
    "save_statistics",
    None,
    "Folder for the statistics real.npz and generated.npz; GENERATED may be missing. By default "
    "they are not saved.",
)
_SPLIT = flags.DEFINE_enum(
    "split",
    None,
    ["train", "validation", "test"],
    "Use only the images of REAL that are in this split of a training; REAL is the --data_dir of "
    "the training, or a folder inside it. By default all images are used.",
)
_SPLITS = flags.DEFINE_string(
    "splits",
    None,
    "splits.csv of that training, for --split; by default the one next to the file of --extractor.",
)
_SKIP_UNREADABLE = flags.DEFINE_bool(
    "skip_unreadable",
    False,
    "Leave unreadable images out and count them in the result; by default one is an error.",
)
_EXCLUDE_TRAINING_IMAGES = flags.DEFINE_bool(
    "exclude_training_images",
    False,
    "Leave out images that the extractor was trained or validated on; by default they are counted "
    "in a warning.",
)
_MULTI_FRAME = flags.DEFINE_enum(
    "multi_frame",
    "refuse",
    ["refuse", "unroll"],
    "DICOM files with several frames: refuse reports an error, unroll uses each frame as an image.",
)
_CACHE_DIR = flags.DEFINE_string(
    "cache_dir",
    None,
    "Folder that keeps features by the content of image files, so that a killed run continues and "
    "a repeated run computes only what changed. It holds hashes and features, but no "
    "names; by default there is no cache.",
)
_METRICS = flags.DEFINE_list(
    "metrics",
    None,
    f"Metrics to compute in addition to the FID, separated by commas: {metrics_help()}. For sets "
    "of fewer than 2048 images, debiased, permutation and baseline are always computed.",
)
_CONFIDENCE = flags.DEFINE_float("confidence", 0.95, "Confidence level of the intervals.")
_PER_CLASS = flags.DEFINE_bool(
    "per_class",
    False,
    "Add the FID of each class; a class is a folder directly inside REAL and GENERATED.",
)
_TRAIN_IMAGES = flags.DEFINE_string(
    "train_images",
    None,
    "Folder of the images that the generator was trained on, for --metrics=memorisation.",
)
_OTHER_GENERATED = flags.DEFINE_string(
    "other_generated", None, "Second generated set, for --metrics=paired."
)
_PLAN = flags.DEFINE_list(
    "plan",
    None,
    "Numbers of images per side, such as --plan=100,200,500: estimate, from REAL alone, the "
    "smallest FID detectable at each.",
)
_PATIENT_REGEX = flags.DEFINE_string(
    "patient_regex",
    None,
    "Regular expression that finds the patient in the file names of REAL and --train_images: its "
    "first group, or the whole match. Intervals then resample whole patients; by default they "
    "resample images.",
)
_GENERATED_PATIENT_REGEX = flags.DEFINE_string(
    "generated_patient_regex",
    None,
    "Like --patient_regex, for GENERATED. Use it only if GENERATED holds images of real patients.",
)
_SAVE_FEATURES = flags.DEFINE_bool(
    "save_features",
    False,
    "Also save the features and the patient number of each image in --save_statistics.",
)
_FIGURES = flags.DEFINE_string(
    "figures",
    None,
    "Folder for figures of the metrics difference (directions.png and, where in the images the FID "
    "comes from, heatmaps.png) and memorisation (closest_pairs.png), and of several generated sets "
    "(ranking.png, and curve.png in the order given); by default none are drawn.",
)
_REPORT = flags.DEFINE_string(
    "report",
    None,
    "HTML file for a page with the verdict (or the ranking of several sets), the numbers, samples "
    "of the sets, figures, and what to report; by default it is not written.",
)

cli.check_regex("patient_regex", "generated_patient_regex")

# Flags of a comparison, which have no effect where there is none.
_OF_GENERATED = (
    "per_class", "train_images", "other_generated", "generated_patient_regex", "figures", "report"
)  # fmt: skip
_USELESS_IN_PLAN = ("metrics", "save_statistics", "save_features", *_OF_GENERATED)
_USELESS_ALONE = ("json", "confidence", *_OF_GENERATED)
_USELESS_FOR_SEVERAL = (
    "metrics", "per_class", "train_images", "other_generated", "save_statistics", "save_features",
)  # fmt: skip


def main(real, generated=None, *more):
    from fid_med.errors import SettingError
    from fid_med.evaluation.compute import compute_fid
    from fid_med.utils import files
    from fid_med.utils.progress import say

    _refuse_useless(generated, more)
    if _SPLIT.value or _SPLITS.value:
        real = _images_of_split(real)
    if _PLAN.value:
        return _plan(real)
    if generated is None:
        return _save_real(real)
    if more:
        return _rank(real, (generated, *more))
    if _SAVE_FEATURES.value and not _SAVE_STATISTICS.value:
        raise SettingError("--save_features needs --save_statistics=FOLDER to save them to")
    for target in filter(None, (_JSON.value, _REPORT.value)):
        files.check_writable(target)
    for folder in filter(None, (_SAVE_STATISTICS.value, _CACHE_DIR.value, _FIGURES.value)):
        files.check_writable_folder(folder)
    if _FIGURES.value:
        from fid_med.evaluation.inputs import check_figures
        from fid_med.evaluation.result import draw_figures

        check_figures(_METRICS.value, real, generated)
    cli.prepare_tensorflow()
    result = compute_fid(
        real,
        generated,
        _extractor(),
        metrics=_METRICS.value,
        per_class=_PER_CLASS.value,
        train_images=_TRAIN_IMAGES.value,
        other_generated=_OTHER_GENERATED.value,
        generated_patient_regex=_GENERATED_PATIENT_REGEX.value,
        keep_features=_SAVE_FEATURES.value or bool(_REPORT.value),
        **_shared_options(),
    )
    print(result)
    drawn = None

    def save_statistics():
        result.save_statistics(_SAVE_STATISTICS.value, features=_SAVE_FEATURES.value)

    def save_json():
        files.write_json(_JSON.value, result.to_dict())

    def draw():
        nonlocal drawn
        drawn = draw_figures(result, _FIGURES.value)
        for path in drawn:
            say(f"look at {path}")

    def save_report():
        from fid_med.evaluation.report import write_report

        write_report(result, _REPORT.value, drawn)
        say(f"report: {_REPORT.value}")

    cli.write_outputs(
        (_SAVE_STATISTICS, save_statistics),
        (_JSON, save_json),
        (_FIGURES, draw),
        (_REPORT, save_report),
    )


def _refuse_useless(generated, more):
    if _PLAN.value:
        cli.refuse_given(_USELESS_IN_PLAN, "with --plan")
    elif generated is None:
        cli.refuse_given(_USELESS_ALONE, "without GENERATED")
    elif more:
        cli.refuse_given(
            _USELESS_FOR_SEVERAL, "for several generated sets; compare them one by one"
        )


def _extractor():
    from fid_med.extractors.registry import ExtractorSpec

    return ExtractorSpec(
        _EXTRACTOR.value, _IMAGE_SIZE.value, _RESIZE.value, _ASPECT.value, _PRECISION.value,
        _SEED.value, int(_DIMS.value),
    )  # fmt: skip


def _extraction_options():
    from fid_med.evaluation.extraction import ExtractionOptions

    return ExtractionOptions(
        _BATCH_SIZE.value, _SKIP_UNREADABLE.value, _EXCLUDE_TRAINING_IMAGES.value,
        _MULTI_FRAME.value, _CACHE_DIR.value,
    )  # fmt: skip


def _shared_options():
    shared = (
        _CONFIDENCE, _PATIENT_REGEX, _BATCH_SIZE, _SEED, _SKIP_UNREADABLE,
        _EXCLUDE_TRAINING_IMAGES, _MULTI_FRAME, _CACHE_DIR,
    )  # fmt: skip
    return {flag.name: flag.value for flag in shared}


def _images_of_split(real):
    import os

    from fid_med.data.split_files import FILE_NAME, images_of_split
    from fid_med.errors import SettingError

    if not _SPLIT.value:
        raise SettingError("--splits needs --split, such as --split=test")
    path = _SPLITS.value or os.path.join(os.path.dirname(_EXTRACTOR.value), FILE_NAME)
    if not _SPLITS.value and not (os.path.dirname(_EXTRACTOR.value) and os.path.exists(path)):
        raise SettingError(
            f"--split={_SPLIT.value}: no {FILE_NAME} next to --extractor={_EXTRACTOR.value}; give "
            f"--splits=FOLDER/{FILE_NAME} of the training"
        )
    return images_of_split(real, path, _SPLIT.value, _MULTI_FRAME.value)


def _save_real(real):
    import os

    from fid_med.errors import SettingError
    from fid_med.evaluation.saving import save_real_statistics
    from fid_med.utils import files
    from fid_med.utils.progress import warn

    if _METRICS.value and not (_METRICS.value == ["depths"] and _SAVE_FEATURES.value):
        raise SettingError(
            "--metrics without GENERATED: only --metrics=depths with --save_features, which saves "
            "the features of all depths"
        )
    path = os.path.join(_SAVE_STATISTICS.value, "real.npz")
    files.check_writable(path)
    cli.prepare_tensorflow()
    found = save_real_statistics(
        path,
        real,
        _extractor(),
        _extraction_options(),
        patient_regex=_PATIENT_REGEX.value,
        features=_SAVE_FEATURES.value,
        all_depths=bool(_METRICS.value),
    )
    for line in found.warnings:
        warn(line)
    print(f"real: {found.account.describe()}")
    print(f"statistics: {path}")


def _rank(real, generated):
    from fid_med.evaluation.inputs import set_names
    from fid_med.evaluation.ranking import compare_generators
    from fid_med.utils import files
    from fid_med.utils.progress import say

    sets = set_names(generated)
    for folder in filter(None, (_CACHE_DIR.value, _FIGURES.value)):
        files.check_writable_folder(folder)
    for target in filter(None, (_JSON.value, _REPORT.value)):
        files.check_writable(target)
    cli.prepare_tensorflow()
    result = compare_generators(
        real,
        sets,
        _extractor(),
        confidence=_CONFIDENCE.value,
        patient_regex=_PATIENT_REGEX.value,
        generated_patient_regex=_GENERATED_PATIENT_REGEX.value,
        seed=_SEED.value,
        options=_extraction_options(),
    )
    for line in result.summary():
        print(line)
    for row in result.generated:
        print(f"FID {row.name}: {row.fid:.10g}")

    def save_json():
        files.write_json(_JSON.value, result.to_dict())

    def draw():
        for path in result.draw(_FIGURES.value):
            say(f"look at {path}")

    def save_report():
        from fid_med.evaluation.report import write_ranking_report

        write_ranking_report(result, _REPORT.value)
        say(f"report: {_REPORT.value}")

    cli.write_outputs((_JSON, save_json), (_FIGURES, draw), (_REPORT, save_report))


def _plan(real):
    import re

    from fid_med.errors import SettingError
    from fid_med.evaluation.compute import plan
    from fid_med.utils import files

    if not all(re.fullmatch("[0-9]{1,9}", count) and int(count) for count in _PLAN.value):
        raise SettingError(f"--plan={','.join(_PLAN.value)}: expected counts, such as 100,200,500")
    if _JSON.value:
        files.check_writable(_JSON.value)
    cli.prepare_tensorflow()
    counts = [int(count) for count in _PLAN.value]
    found = plan(real, _extractor(), counts=counts, **_shared_options())
    print(found, flush=True)
    if _JSON.value:
        files.write_json(_JSON.value, found.to_dict())


def _positional():
    if _PLAN.value:
        return ("REAL",)
    # REAL alone is enough to save its statistics.
    one = () if _SAVE_STATISTICS.value else ("GENERATED",)
    return ("REAL", *one, "[GENERATED ...]")


if __name__ == "__main__":
    cli.run(main, USAGE, _positional)
