#!/usr/bin/env python3
"""Computes the Fréchet inception distance between real and generated images."""

from absl import flags

from fid_med import cli

USAGE = """usage: compute_fid.py REAL GENERATED [flags]
       compute_fid.py REAL --plan=COUNTS [flags]

Computes the Fréchet inception distance between two sets of images.
REAL and GENERATED are each a folder of images (searched below too) or a .npz of statistics, ours
or any with TTUR's keys mu and sigma. The last line on stdout is "FID: <value>"; progress and
warnings go to stderr."""

_EXTRACTOR = flags.DEFINE_string(
    "extractor",
    "imagenet",
    "imagenet (Keras's weights, downloaded once), ttur (the 2015-12-05 graph of published FIDs), "
    "random, or the path of an extractor.keras, of InceptionV3 weights (.weights.h5, .h5), of a "
    "whole InceptionV3 model (.keras, .h5) or of the 2015-12-05 graph (.pb, .tgz).",
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 32, "Images that go through the network at once.", lower_bound=1
)
_IMAGE_SIZE = flags.DEFINE_integer(
    "image_size", None, "Input size in pixels, in place of the extractor's own.", lower_bound=75
)
_RESIZE = flags.DEFINE_enum(
    "resize", None, ["antialias", "tf1"], "Resize mode, in place of the extractor's own."
)
_ASPECT = flags.DEFINE_enum(
    "aspect", None, ["stretch", "pad"], "Aspect mode, in place of the extractor's own."
)
_PRECISION = flags.DEFINE_enum(
    "precision",
    None,
    ["float32", "bfloat16", "float16"],
    "In which the network computes; the result names any but float32, the default.",
)
_SEED = flags.DEFINE_integer(
    "seed",
    0,
    "Of the weights of --extractor=random, and of all that metrics draw but the subsets of KID, "
    "which are torch-fidelity's.",
    lower_bound=0,
)
_JSON = flags.DEFINE_string("json", None, "File to write the whole result to, as JSON.")
_SAVE_STATISTICS = flags.DEFINE_string(
    "save_statistics", None, "Folder to write real.npz and generated.npz to."
)
_SKIP_UNREADABLE = flags.DEFINE_bool(
    "skip_unreadable", False, "Leave unreadable images out and count them in the result."
)
_EXCLUDE_TRAINING_IMAGES = flags.DEFINE_bool(
    "exclude_training_images",
    False,
    "Leave out images that the extractor was trained or validated on.",
)
_MULTI_FRAME = flags.DEFINE_enum(
    "multi_frame",
    "refuse",
    ["refuse", "unroll"],
    "DICOM files of several frames: refuse, or unroll (each frame an image).",
)
_CACHE_DIR = flags.DEFINE_string(
    "cache_dir",
    None,
    "Folder that keeps features by the content of image files: a killed run goes on, a repeated "
    "one computes only what changed. Holds hashes, no names.",
)

_METRICS = flags.DEFINE_list(
    "metrics",
    None,
    "What to compute beside the FID, separated by commas: debiased (FID without the bias of few "
    "images, with an interval), infinity (FID-infinity), permutation (test of one distribution), "
    "kid, prdc (precision, recall, density, coverage), is (Inception Score), memorisation (with "
    "--train_images), paired (with --other_generated), difference (what differs most). By default "
    "debiased, where a side has fewer than 2048 images.",
)
_CONFIDENCE = flags.DEFINE_float("confidence", 0.95, "Nominal coverage of intervals.")
_PER_CLASS = flags.DEFINE_bool(
    "per_class", False, "Add the FID of each class, the folder below REAL or GENERATED."
)
_TRAIN_IMAGES = flags.DEFINE_string(
    "train_images", None, "Folder of the images that the generator was trained on."
)
_OTHER_GENERATED = flags.DEFINE_string(
    "other_generated", None, "A second generated set, for --metrics=paired."
)
_PLAN = flags.DEFINE_list(
    "plan",
    None,
    "Tell from REAL alone (no GENERATED) how small a FID these counts of images can show, such as "
    "--plan=100,200,500.",
)
_PATIENT_REGEX = flags.DEFINE_string(
    "patient_regex",
    None,
    "Regular expression that finds the patient in the name of a file of REAL or --train_images; "
    "its first group, or the whole match. Intervals then go by patient.",
)
_GENERATED_PATIENT_REGEX = flags.DEFINE_string(
    "generated_patient_regex", None, "The same for GENERATED, where those are patients too."
)
_SAVE_FEATURES = flags.DEFINE_bool(
    "save_features",
    False,
    "Add the features of single images, and which are of one patient, to --save_statistics.",
)
_FIGURES = flags.DEFINE_string(
    "figures", None, "Folder to draw the metrics difference and memorisation into."
)


def main(real, generated=None):
    from fid_med.errors import SettingError
    from fid_med.evaluation.compute import compute_fid
    from fid_med.evaluation.inputs import needs_extractor
    from fid_med.utils import files

    if _PLAN.value:
        return _plan(real)
    if _SAVE_FEATURES.value and not _SAVE_STATISTICS.value:
        raise SettingError("--save_features needs --save_statistics=FOLDER to save them to")
    folders = [
        f"{folder}/file"
        for folder in (_SAVE_STATISTICS.value, _CACHE_DIR.value, _FIGURES.value)
        if folder
    ]
    for target in (_JSON.value, *folders):
        if target:
            files.check_writable(target)
    if _FIGURES.value:
        from fid_med.evaluation.figures import check_figures, draw_figures

        check_figures(_METRICS.value, real, generated)
    sides = (real, generated, _TRAIN_IMAGES.value, _OTHER_GENERATED.value)
    if needs_extractor(sides, _METRICS.value):
        cli.load_tensorflow()
    result = compute_fid(
        real,
        generated,
        _EXTRACTOR.value,
        metrics=_METRICS.value,
        per_class=_PER_CLASS.value,
        train_images=_TRAIN_IMAGES.value,
        other_generated=_OTHER_GENERATED.value,
        generated_patient_regex=_GENERATED_PATIENT_REGEX.value,
        keep_features=_SAVE_FEATURES.value,
        **_shared_options(),
    )
    if _SAVE_STATISTICS.value:
        result.save_statistics(_SAVE_STATISTICS.value, features=_SAVE_FEATURES.value)
    if _JSON.value:
        files.write_json(_JSON.value, result.to_dict())
    for line in result.summary():
        print(line)
    if _FIGURES.value:
        for path in draw_figures(result, _FIGURES.value):
            print(f"look at {path}")
    print(f"FID: {result.fid:.10g}")


def _shared_options():
    shared = (
        _CONFIDENCE, _PATIENT_REGEX, _BATCH_SIZE, _IMAGE_SIZE, _RESIZE, _ASPECT,
        _PRECISION, _SEED, _SKIP_UNREADABLE, _EXCLUDE_TRAINING_IMAGES, _MULTI_FRAME, _CACHE_DIR,
    )  # fmt: skip
    return {flag.name: flag.value for flag in shared}


def _plan(real):
    from fid_med.errors import SettingError
    from fid_med.evaluation.compute import plan
    from fid_med.evaluation.inputs import needs_extractor
    from fid_med.utils import files

    if not all(count.isdecimal() and int(count) for count in _PLAN.value):
        raise SettingError(f"--plan={','.join(_PLAN.value)}: expected counts, such as 100,200,500")
    if _JSON.value:
        files.check_writable(_JSON.value)
    if needs_extractor([real], None):
        cli.load_tensorflow()
    counts = [int(count) for count in _PLAN.value]
    found = plan(real, _EXTRACTOR.value, counts=counts, **_shared_options())
    if _JSON.value:
        files.write_json(_JSON.value, found.to_dict())
    for row in found.differences:
        print(
            f"{row.count} images a side: a true FID of {row.difference:.4g} is told from 0 with "
            f"{row.power:.0%} chance"
        )


if __name__ == "__main__":
    cli.run(main, USAGE, lambda: ("REAL",) if _PLAN.value else ("REAL", "GENERATED"))
