#!/usr/bin/env python3
"""Trains InceptionV3 on labelled radiographs and cuts it into an extractor for FID."""

import dataclasses
import pathlib

from absl import flags

from fid_med import cli
from fid_med.data.datasets import check_name, load_dataset
from fid_med.data.datasets.labelled_folder import UNCERTAIN
from fid_med.data.labelled import DEVELOPMENT, UNDIVIDED
from fid_med.errors import DataError
from fid_med.extractors.registry import (
    LARGEST_BATCH,
    LARGEST_INPUT,
    LARGEST_SEED,
    SMALLEST_INPUT,
    ExtractorSpec,
)
from fid_med.training.checkpoints import check_output_dir
from fid_med.training.config import (
    MIXED_PRECISION_POLICIES,
    OPTIMIZERS,
    RECIPES,
    TrainingConfig,
)
from fid_med.training.splits import check_fractions

USAGE = """usage: train_classifier.py [--dataset=NAME] --data_dir=PATH --output_dir=DIR [flags]

Trains InceptionV3 on labelled radiographs and writes DIR/extractor.keras, the feature extractor
for the flag --extractor of compute_fid.py. DIR also receives classifier.keras, training.json,
history.csv, history.png, splits.csv, augmentation.png and TensorBoard logs. If a run is
interrupted, run the same command again to resume it.

  --dataset=labelled_folder  --data_dir=FOLDER    FOLDER/<label>/**/*, or any files listed in
                                                  --labels_csv, where --uncertain decides on
                                                  CheXpert's -1
  --dataset=mura             --data_dir=FOLDER    MURA-v1.1, available after registration
  --dataset=lera             --data_dir=FOLDER    LERA Dataset, available after registration
  --dataset=mura_lera        --data_dir=FOLDER    eleven body parts; FOLDER contains both data sets
  --dataset=medmnist         --data_dir=FILE.npz  a file in MedMNIST's format, with its own splits
  --dataset=medmnist/FLAG    --data_dir=FOLDER    one of twelve MedMNIST sets (FLAG, FLAG_64,
                                                  FLAG_128 or FLAG_224), downloaded if missing
  --dataset=tfds/NAME[:VERSION]                   a set of TensorFlow Datasets, in --data_dir or
                                                  in TFDS's own folder; downloaded if missing
  --dataset=phantom                               procedural radiographs; needs no data"""

# Data.
_DATASET = flags.DEFINE_string("dataset", "labelled_folder", "Name of the data set; see above.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "Folder or npz file of the data set; required except for phantom and tfds/NAME.",
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for the results.", required=True)
_OVERWRITE = flags.DEFINE_bool(
    "overwrite",
    False,
    "Replace a finished run in --output_dir, or an interrupted run with other settings or images.",
)
_PATIENT_REGEX = flags.DEFINE_string(
    "patient_regex",
    None,
    "Regular expression that finds the patient in a file name (labelled_folder only): its first "
    "group, or the whole match. All images of a patient go to the same split. By default patients "
    "are unknown.",
)
_PATIENT_FEATURE = flags.DEFINE_string(
    "patient_feature",
    None,
    "Feature that names the patient (tfds/NAME only); by default patient, if the set has it.",
)
_MULTI_FRAME = flags.DEFINE_enum(
    "multi_frame",
    "refuse",
    ["refuse", "unroll"],
    "Treatment of DICOM files with several frames (labelled_folder only): refuse reports an error, "
    "unroll uses each frame as an image.",
)
_LABELS_CSV = flags.DEFINE_string(
    "labels_csv",
    None,
    "CSV file with the labels (labelled_folder only). Its header names the columns path and label "
    "(several labels as a|b), and optionally patient and study. By default the folder of an image "
    "is its label.",
)
_UNCERTAIN = flags.DEFINE_enum(
    "uncertain",
    None,
    UNCERTAIN,
    "Treatment of labels that are -1 (uncertain) in a column of 1 and 0 of --labels_csv, as in "
    "CheXpert: drop leaves these images out, zero and one replace -1. An empty cell (not "
    "mentioned) is then 0. By default -1 and empty cells are errors.",
)
_LABEL = flags.DEFINE_string(
    "label",
    None,
    "Label to learn. For mura, lera, mura_lera and phantom: body_part (the default), abnormality "
    "or both. With --labels_csv: a column (by default label). For data sets with several labels "
    "per image: one label (by default all). For tfds/NAME: the feature of the label (by default "
    "the only one).",
)
_WITHOUT_LABELS = flags.DEFINE_list(
    "without_labels",
    None,
    "Labels to exclude together with their images, for example to study the extractor later on "
    "images of an unknown kind. By default none.",
)
_PHANTOMS = flags.DEFINE_integer(
    "phantoms",
    600,
    "Number of phantoms to draw (phantom only).",
    lower_bound=20,
    upper_bound=1_000_000,
)
flags.DEFINE_float(
    "validation_fraction",
    0.2,
    "Fraction of the images for validation, if the data set defines no splits.",
)
flags.DEFINE_float(
    "test_fraction",
    0.2,
    "Fraction of the images for the final test, if the data set defines no test split; 0 for no "
    "test.",
)

# Network and training. Flags without a variable are fields of TrainingConfig, read by name.
flags.DEFINE_enum(
    "recipe",
    "transfer",
    RECIPES,
    "Training recipe: transfer trains the head and the last blocks of trained weights; scratch "
    "trains every layer from random weights, as Inception-v3 was trained on ImageNet.",
)
flags.DEFINE_string(
    "weights",
    None,
    "Initial weights for --recipe=transfer: imagenet (the default), random (every layer is "
    "trained), or a path to the extractor.keras of an earlier run or to a Keras file with "
    "InceptionV3 weights.",
)
_IMAGE_SIZE = flags.DEFINE_integer(
    "image_size",
    None,
    "Height and width of the network's input in pixels; by default those of --weights, or 299.",
    lower_bound=SMALLEST_INPUT,
    upper_bound=LARGEST_INPUT,
)
flags.DEFINE_enum(
    "aspect",
    None,
    ["stretch", "pad"],
    "Treatment of images that are not square: stretch them or pad them; by default as in "
    "--weights, or stretch.",
)
flags.DEFINE_string(
    "train_from",
    "mixed8",
    "transfer trains only the layers after this block (mixed0 to mixed10), or all layers (all); "
    "mixed8 trains mixed9 and mixed10.",
)
flags.DEFINE_integer(
    "batch_size",
    32,
    "Images per training step, over all GPUs together.",
    lower_bound=1,
    upper_bound=LARGEST_BATCH,
)
flags.DEFINE_integer(
    "epochs",
    None,
    "Maximum number of epochs of the main phase; by default 10, or 100 for scratch. With transfer, "
    "the head alone is trained before it, for at most 100 quick epochs, which do not count.",
    lower_bound=1,
    upper_bound=1_000_000,
)
flags.DEFINE_enum(
    "optimizer",
    None,
    OPTIMIZERS,
    "Optimizer: sgd has momentum 0.9, rmsprop decay 0.9 and epsilon 1.0; by default adam, or sgd "
    "for scratch.",
)
flags.DEFINE_float(
    "learning_rate",
    None,
    "Initial learning rate. With adam, by default 1e-4 from trained weights and 1e-3 from random "
    "weights. For scratch with sgd or rmsprop, by default 0.045; it is then multiplied by 0.94 "
    "every two epochs. For transfer with sgd or rmsprop there is no default.",
    lower_bound=0,
)
flags.DEFINE_integer(
    "patience",
    None,
    "Epochs without a better validation AUC before training stops; by default 3, and for scratch "
    "no early stopping.",
    lower_bound=1,
    upper_bound=1_000_000,
)
flags.DEFINE_float(
    "label_smoothing",
    0.0,
    "Share of a label's weight that is spread over all labels; 0 turns it off; the Inception-v3 "
    "paper uses 0.1.",
)
flags.DEFINE_float(
    "clip_norm",
    None,
    "Maximum norm of the gradient; 0 turns it off. By default 0, and 2 for scratch with sgd or "
    "rmsprop, as in the Inception-v3 paper.",
    lower_bound=0,
)
flags.DEFINE_float(
    "average_weights",
    0.0,
    "Decay of a moving average of the weights, for example 0.999; the averaged weights are "
    "validated and saved. 0 turns it off.",
)
flags.DEFINE_integer(
    "num_gpus",
    None,
    "Number of GPUs of this machine to train on; by default all.",
    lower_bound=0,
    upper_bound=1024,
)
flags.DEFINE_enum(
    "mixed_precision",
    "off",
    MIXED_PRECISION_POLICIES,
    "Precision of the computation: off is float32, the others are faster on recent GPUs. Saved "
    "weights are always float32.",
)
_SEED = flags.DEFINE_integer(
    "seed",
    0,
    "Seed of splits, image order, augmentation and random weights.",
    lower_bound=0,
    upper_bound=LARGEST_SEED,
)

# Augmentation.
flags.DEFINE_float(
    "rotation", 10.0, "Augmentation: maximum angle in degrees; 0 turns it off.", lower_bound=0
)
flags.DEFINE_float(
    "crop",
    0.85,
    "Augmentation: smallest share of height and width that a random crop keeps; 1 turns it off.",
)
flags.DEFINE_float(
    "translation",
    0.0,
    "Augmentation: maximum shift as a share of height and width; 0 turns it off.",
)
flags.DEFINE_bool(
    "flip",
    False,
    "Augmentation: mirror a random half of the images left to right. A mirrored radiograph shows "
    "the wrong side of the body; use this only if the side does not matter.",
)
flags.DEFINE_float(
    "brightness",
    0.0,
    "Augmentation: maximum change of brightness as a share of the grey range; 0 turns it off.",
)
flags.DEFINE_float(
    "contrast",
    0.0,
    "Augmentation: maximum change of contrast; its factor is between 1 - CONTRAST and "
    "1 + CONTRAST. 0 turns it off.",
)
flags.DEFINE_float(
    "gamma",
    0.0,
    "Augmentation: maximum gamma correction; its exponent is between 1 / (1 + GAMMA) and "
    "1 + GAMMA. 0 turns it off.",
)

cli.check_regex("patient_regex")


@flags.validator("dataset")
def _check_dataset(name):
    try:
        check_name(name)
    except DataError as error:
        raise flags.ValidationError(str(error)) from None
    return True


def main():
    if _DATASET.value != "phantom":
        cli.refuse_given(["phantoms"], f"with --dataset={_DATASET.value}")
    fields = [field.name for field in dataclasses.fields(TrainingConfig)]
    config = TrainingConfig(**{n: flags.FLAGS[n].value for n in fields if n in flags.FLAGS})
    # What a user may have got wrong is checked before TensorFlow is imported.
    start = config.resolved()
    if start.weights == "random":
        cli.refuse_given(["train_from"], "on random weights, of which every layer is trained")
    ExtractorSpec(start.weights, start.image_size, aspect=start.aspect)
    output_dir = pathlib.Path(_OUTPUT_DIR.value)
    check_output_dir(output_dir, _OVERWRITE.value)
    images = load_dataset(
        _DATASET.value,
        _DATA_DIR.value,
        label=_LABEL.value,
        labels_csv=_LABELS_CSV.value,
        patient_regex=_PATIENT_REGEX.value,
        patient_feature=_PATIENT_FEATURE.value,
        multi_frame=_MULTI_FRAME.value,
        uncertain=_UNCERTAIN.value,
        phantoms=_PHANTOMS.value,
        image_size=_IMAGE_SIZE.value,
        seed=_SEED.value,
    )
    if _WITHOUT_LABELS.value:
        images = images.without(_WITHOUT_LABELS.value)
    if images.splits is not None and UNDIVIDED not in images.splits:
        useless = ["test_fraction"] + ["validation_fraction"] * (DEVELOPMENT not in images.splits)
        cli.refuse_given(useless, f"on {images.name}, which has splits of its own")
    check_fractions(images, (config.validation_fraction, config.test_fraction))
    cli.load_tensorflow()
    from fid_med.training.output import next_command, summary, write_training
    from fid_med.training.train import train

    result = train(images, config, output_dir, overwrite=_OVERWRITE.value)
    print("\n".join(summary(result)), flush=True)
    recorded = [
        "dataset", "label", "without_labels", "patient_regex", "patient_feature", "multi_frame",
        "uncertain",
    ]  # fmt: skip
    if _DATASET.value == "phantom":
        recorded = ["dataset", "phantoms", "label", "without_labels"]
    write_training(
        output_dir, result, images, config, {name: flags.FLAGS[name].value for name in recorded}
    )
    print(f"extractor: {output_dir / 'extractor.keras'}")
    folder = {}
    if _DATASET.value == "labelled_folder":
        folder = {
            "data_dir": _DATA_DIR.value,
            "patient_regex": _PATIENT_REGEX.value,
            "multi_frame": _MULTI_FRAME.value,
        }
    print(f"next: {next_command(output_dir, result, **folder)}")


if __name__ == "__main__":
    cli.run(main, USAGE)
