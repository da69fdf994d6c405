#!/usr/bin/env python3
"""Shows whether the FID rises as radiographs get worse, for one or several extractors."""

from absl import flags

from fid_med import cli

USAGE = """usage: disturbance_study.py REAL --extractors=NAME,... --output_dir=DIR [flags]

Spoils real radiographs step by step (noise, blur, black rectangles, swirl, salt and pepper,
contamination by other images) and judges whether each extractor's FID rises with every step.
REAL is a folder of images (searched below too). Writes DIR/report.html, which opens anywhere,
DIR/study.json, CSV tables and plots. DIR/cache keeps features: a study that was stopped goes on
when started again; delete it when done. The last lines on stdout are the verdicts."""

_EXTRACTORS = flags.DEFINE_list(
    "extractors",
    ["imagenet"],
    "What compute_fid.py takes as --extractor, several divided by commas, each optionally as "
    "NAME=PATH with the name that the report gives it; each is compared with the first.",
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to write to.", required=True)
_CONTAMINATION = flags.DEFINE_string(
    "contamination", None, "Folder of images of another domain, at least as many as real ones."
)
_DISTURBANCES = flags.DEFINE_list(
    "disturbances", ["six"], "six (Heusel et al. 2017), radiograph, all, or names."
)
_SCALE = flags.DEFINE_enum(
    "scale",
    "paper",
    ["paper", "pixel"],
    "Of lengths: paper, the image's height / 64; or pixel, pixels of the extractor's input.",
)
_PATIENT_REGEX = flags.DEFINE_string(
    "patient_regex",
    None,
    "Regular expression that finds the patient in a file's name; its first group, or the whole "
    "match. No patient stands on both sides of a FID.",
)
_TRANSFER = flags.DEFINE_string(
    "transfer",
    None,
    "Folder of real images of a kind that the extractors were not trained on, such as a label or "
    "body part left out: studied too, and shown beside REAL.",
)
_GENERATED = flags.DEFINE_list(
    "generated", [], "Folders of generated images, to be ranked by each extractor's FID."
)
_RATINGS = flags.DEFINE_string(
    "ratings",
    None,
    "csv of people's ratings, larger for better: columns set (a generated folder's name, "
    "untouched, or gaussian_blur:2) or image (<set>/<file>), and rating.",
)
_EXAMPLE_IMAGE = flags.DEFINE_string(
    "example_image",
    None,
    "Image file that the report shows at each level, in place of a real image: give one where "
    "pixels of patients must not leave the house.",
)
_NUM_IMAGES = flags.DEFINE_integer(
    "num_images", None, "Real images to use at most, whole patients at random.", lower_bound=8
)
_REPEATS = flags.DEFINE_integer(
    "repeats", 200, "Random divisions of the patients, for the intervals.", lower_bound=20
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Of divisions, disturbances and --extractors=random.", lower_bound=0
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 32, "Images that go through the network at once.", lower_bound=1
)
_IMAGE_SIZE = flags.DEFINE_integer(
    "image_size", None, "Input size in pixels, in place of the extractors' own.", lower_bound=75
)
_NOTE = flags.DEFINE_string("note", "", "A line for the report, such as that weights stand in.")


def main(real):
    from fid_med.data.images import list_images

    for folder in (real, _TRANSFER.value, _CONTAMINATION.value, *_GENERATED.value):
        if folder is not None:
            list_images(folder)  # a wrong path must not cost the loading of networks
    cli.load_tensorflow()
    from fid_med.study.inputs import load_extractors, named_folders
    from fid_med.study.report.wording import verdict_lines
    from fid_med.study.report.write import check_report_dir, write_report
    from fid_med.study.run import StudyConfig, run_study

    output_dir = _OUTPUT_DIR.value
    check_report_dir(output_dir)
    config = StudyConfig(
        disturbances=tuple(_DISTURBANCES.value),
        scale=_SCALE.value,
        repeats=_REPEATS.value,
        seed=_SEED.value,
        batch_size=_BATCH_SIZE.value,
        num_images=_NUM_IMAGES.value,
        patient_regex=_PATIENT_REGEX.value,
        note=_NOTE.value,
    )
    result = run_study(
        real,
        load_extractors(_EXTRACTORS.value, image_size=_IMAGE_SIZE.value, seed=_SEED.value),
        output_dir,
        config,
        contamination=_CONTAMINATION.value,
        transfer=_TRANSFER.value,
        generated=named_folders(_GENERATED.value),
        ratings=_RATINGS.value,
        example=_EXAMPLE_IMAGE.value,
    )
    page = write_report(result, output_dir)
    print(f"report: {page}")
    for name, verdict, text in verdict_lines(result.record):
        print(f"{name}: {verdict}. {text}")


if __name__ == "__main__":
    cli.run(main, USAGE, positional=("REAL",))
