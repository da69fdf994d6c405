#!/usr/bin/env python3
"""Tests whether the FID rises as radiographs get worse, for one or several extractors."""

from absl import flags

from fid_med import cli
from fid_med.disturbances.registry import DISTURBANCES, GROUPS, SCALES, select_disturbances
from fid_med.extractors.registry import (
    LARGEST_BATCH,
    LARGEST_INPUT,
    LARGEST_SEED,
    SMALLEST_INPUT,
    ExtractorSpec,
    split_names,
)

USAGE = """usage: disturbance_study.py REAL --extractors=NAME,... --output_dir=DIR [flags]

Degrades real radiographs step by step and judges whether each extractor's FID rises at every step,
at four depths of its network and for its multi-depth FID. REAL is a folder of images; its
subfolders are searched too. Writes DIR/report.html, a page without links, DIR/study.json, CSV
tables and plots. DIR/cache keeps features: a stopped study resumes when started again; delete the
folder when the study is done. The last lines on stdout are the verdicts, and which extractor and
depth to use."""

_EXTRACTORS = flags.DEFINE_list(
    "extractors",
    ["imagenet"],
    "Extractors to study, separated by commas; each is compared with the first. Each is a value of "
    "compute_fid.py's --extractor, or NAME=VALUE to set its name in the report.",
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to write to.", required=True)
_CONTAMINATION = flags.DEFINE_string(
    "contamination",
    None,
    "Folder of images of another domain, at least as many as real ones. By default the disturbance "
    "contamination is skipped.",
)
_DISTURBANCES = flags.DEFINE_list(
    "disturbances",
    ["six"],
    "Disturbances to apply, separated by commas: names or groups. "
    + "; ".join(f"{group} is {', '.join(GROUPS[group])}" for group in GROUPS if group != "all")
    + "; all is both.",
)
_SCALE = flags.DEFINE_enum(
    "scale",
    "paper",
    SCALES,
    "Length unit of blur, swirl and motion: paper, the image's height / 64; or pixel, a pixel of "
    "the extractor's input.",
)
_PATIENT_REGEX = flags.DEFINE_string(
    "patient_regex",
    None,
    "Regular expression that finds the patient in a file's name: its first group, or the whole "
    "match. Each patient's images are then all in one half. By default every image counts as its "
    "own patient.",
)
_TRANSFER = flags.DEFINE_string(
    "transfer",
    None,
    "Folder of real images of a kind that the extractors were not trained on, for example "
    "with a label or body part that was left out of training. The study is repeated on them.",
)
_GENERATED = flags.DEFINE_list(
    "generated",
    [],
    "Folders of generated images, separated by commas, to rank by each extractor's FID.",
)
_RATINGS = flags.DEFINE_string(
    "ratings",
    None,
    "CSV file of human ratings; a higher rating means better images. Column rating, and either set "
    "(a generated folder's name, untouched, or a level such as gaussian_blur:2) or image "
    "(<set>/<file>).",
)
_EXAMPLE_IMAGE = flags.DEFINE_string(
    "example_image",
    None,
    "Image file that the report shows at each level. By default it shows real images; give a file "
    "if images of patients must not be in the report.",
)
_NUM_IMAGES = flags.DEFINE_integer(
    "num_images",
    None,
    "Maximum number of real images; whole patients are drawn at random; by default all.",
    lower_bound=8,
)
_REPEATS = flags.DEFINE_integer(
    "repeats",
    200,
    "Number of random splits of the patients into halves.",
    lower_bound=20,
    upper_bound=10_000,
)
_SEED = flags.DEFINE_integer(
    "seed",
    0,
    "Seed of splits, disturbances and --extractors=random.",
    lower_bound=0,
    upper_bound=LARGEST_SEED,
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 32, "Number of images per batch.", lower_bound=1, upper_bound=LARGEST_BATCH
)
_IMAGE_SIZE = flags.DEFINE_integer(
    "image_size",
    None,
    "Input size in pixels; by default as in the extractors.",
    lower_bound=SMALLEST_INPUT,
    upper_bound=LARGEST_INPUT,
)
_NOTE = flags.DEFINE_string(
    "note", "", "Line to print in the report, for example that weights are a stand-in."
)

cli.check_regex("patient_regex")


def main(real):
    # What a user may have got wrong is checked before TensorFlow is imported.
    names = select_disturbances(_DISTURBANCES.value, with_foreign=_CONTAMINATION.value is not None)
    if not any(DISTURBANCES[name].set_level for name in names):
        cli.refuse_given(["contamination"], "without the disturbance of this name")
    from fid_med.data.images import list_images, read_image
    from fid_med.data.patients import patients_of
    from fid_med.evaluation.inputs import set_names
    from fid_med.study.ratings import cell_names, read_ratings
    from fid_med.utils.files import check_writable_folder

    for _, name_or_path in split_names(_EXTRACTORS.value):
        ExtractorSpec(name_or_path, _IMAGE_SIZE.value)
    for folder in filter(None, (real, _TRANSFER.value)):
        listed = list_images(folder)
        if _PATIENT_REGEX.value:
            patients_of(listed, _PATIENT_REGEX.value)
    for folder in filter(None, (_CONTAMINATION.value, *_GENERATED.value)):
        list_images(folder)
    generated = set_names(_GENERATED.value)
    if _EXAMPLE_IMAGE.value:
        read_image(_EXAMPLE_IMAGE.value)
    if _RATINGS.value:
        read_ratings(_RATINGS.value, [*cell_names(names), *generated])
    check_writable_folder(_OUTPUT_DIR.value)
    cli.load_tensorflow()
    from fid_med.study.report.recommendation_wording import describe_recommendation
    from fid_med.study.report.wording import describe_verdicts
    from fid_med.study.report.write import write_report
    from fid_med.study.run import StudyConfig, load_extractors, run_study
    from fid_med.utils.progress import say

    result = run_study(
        real,
        load_extractors(_EXTRACTORS.value, image_size=_IMAGE_SIZE.value, seed=_SEED.value),
        _OUTPUT_DIR.value,
        StudyConfig(
            disturbances=tuple(_DISTURBANCES.value),
            scale=_SCALE.value,
            repeats=_REPEATS.value,
            seed=_SEED.value,
            batch_size=_BATCH_SIZE.value,
            num_images=_NUM_IMAGES.value,
            patient_regex=_PATIENT_REGEX.value,
            note=_NOTE.value,
        ),
        contamination=_CONTAMINATION.value,
        transfer=_TRANSFER.value,
        generated=generated,
        ratings=_RATINGS.value,
        example=_EXAMPLE_IMAGE.value,
    )
    for name, verdict, text in describe_verdicts(result.record):
        print(f"{name}: {verdict}. {text}")
    print(f"recommendation: {' '.join(describe_recommendation(result.record))}", flush=True)
    say(f"report: {write_report(result, _OUTPUT_DIR.value)}")


if __name__ == "__main__":
    cli.run(main, USAGE, positional=("REAL",))
