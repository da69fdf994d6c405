#!/usr/bin/env python3
"""Trains InceptionV3 on labelled radiographs and cuts it into an extractor for FID."""

import pathlib

from absl import flags

from fid_med import cli
from fid_med.data.datasets import check_name, load_dataset
from fid_med.errors import DataError

USAGE = """usage: train_classifier.py --dataset=NAME --data_dir=PATH --output_dir=DIR [flags]

Trains InceptionV3 on labelled radiographs and writes DIR/extractor.keras, which compute_fid.py
takes as --extractor, beside classifier.keras, training.json, history.csv, history.png, splits.csv
and TensorBoard logs.

  --dataset=labelled_folder  --data_dir=FOLDER    FOLDER/<label>/**/*, or any with --labels_csv
  --dataset=mura, --dataset=lera  --data_dir=FOLDER   MURA-v1.1, LERA Dataset, got by registering
  --dataset=mura_lera        --data_dir=FOLDER    eleven body parts; FOLDER holds both
  --dataset=medmnist         --data_dir=FILE.npz  MedMNIST's layout, with its own splits
  --dataset=medmnist/FLAG    --data_dir=FOLDER    one of the twelve (FLAG, FLAG_64, _128, _224),
                                                  downloaded to FOLDER where it is not there
  --dataset=phantom                               procedural radiographs, no data needed"""

_DATASET = flags.DEFINE_string("dataset", "labelled_folder", "Source of images; see above.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder, or npz file, of the data set.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to write to.", required=True)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace a finished run in --output_dir.")
_PATIENT_REGEX = flags.DEFINE_string(
    "patient_regex",
    None,
    "Regular expression that finds the patient in a file's name (labelled_folder); its first "
    "group, or the whole match. No patient's images are put into two splits.",
)
_MULTI_FRAME = flags.DEFINE_enum(
    "multi_frame",
    "refuse",
    ["refuse", "unroll"],
    "DICOM files of several frames (labelled_folder): refuse, or unroll (each frame an image).",
)
_LABELS_CSV = flags.DEFINE_string(
    "labels_csv",
    None,
    "Csv file for labelled_folder: its first line names the columns path, label (several as a|b) "
    "and, where known, patient and study.",
)
_WEIGHTS = flags.DEFINE_string(
    "weights",
    "imagenet",
    "Where to start: imagenet, random (every layer trains), or a path: an extractor.keras of an "
    "earlier run, or InceptionV3 weights or models in Keras's forms.",
)
_IMAGE_SIZE = flags.DEFINE_integer(
    "image_size", 299, "Height and width of the network's input in pixels.", lower_bound=75
)
_ASPECT = flags.DEFINE_enum("aspect", "stretch", ["stretch", "pad"], "How images are fitted.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Images a step.", lower_bound=1)
_EPOCHS = flags.DEFINE_integer("epochs", 10, "Epochs at most.", lower_bound=1)
_LEARNING_RATE = flags.DEFINE_float(
    "learning_rate", None, "Of Adam; by default 1e-4, or 1e-3 from random weights.", lower_bound=0
)
_PATIENCE = flags.DEFINE_integer(
    "patience", 3, "Epochs without a better validation AUC before training stops.", lower_bound=1
)
_TRAIN_FROM = flags.DEFINE_string(
    "train_from", "mixed8", "Transfer learning trains the layers behind this block."
)
_ROTATION = flags.DEFINE_float("rotation", 10.0, "Augmentation: degrees at most.", lower_bound=0)
_CROP = flags.DEFINE_float("crop", 0.85, "Augmentation: smallest share kept by a random crop.")
_VALIDATION_FRACTION = flags.DEFINE_float(
    "validation_fraction", 0.2, "Share of images for validation, where no split comes with them."
)
_TEST_FRACTION = flags.DEFINE_float(
    "test_fraction", 0.2, "Share of images never seen in training; 0 for none."
)
_PHANTOMS = flags.DEFINE_integer("phantoms", 600, "How many phantoms to draw.", lower_bound=20)
_LABEL = flags.DEFINE_string(
    "label",
    None,
    "What to learn: body_part, abnormality or both (mura, lera, mura_lera, phantom; by default "
    "body_part); a column of --labels_csv; or one label of a set with several labels an image.",
)
_SEED = flags.DEFINE_integer("seed", 0, "Of splits, order, augmentation and random weights.")


@flags.validator("dataset")
def _known(name):
    try:
        check_name(name)
    except DataError as error:
        raise flags.ValidationError(str(error)) from None
    return True


def main():
    cli.load_tensorflow()
    from fid_med.models import training
    from fid_med.training_output import check_output_dir, summary, write_training

    output_dir = pathlib.Path(_OUTPUT_DIR.value)
    check_output_dir(output_dir, _OVERWRITE.value)
    images = load_dataset(
        _DATASET.value,
        _DATA_DIR.value,
        label=_LABEL.value,
        labels_csv=_LABELS_CSV.value,
        patient_regex=_PATIENT_REGEX.value,
        multi_frame=_MULTI_FRAME.value,
        phantoms=_PHANTOMS.value,
        image_size=_IMAGE_SIZE.value,
        seed=_SEED.value,
    )
    config = training.TrainingConfig(
        weights=_WEIGHTS.value,
        image_size=_IMAGE_SIZE.value,
        aspect=_ASPECT.value,
        batch_size=_BATCH_SIZE.value,
        epochs=_EPOCHS.value,
        learning_rate=_LEARNING_RATE.value,
        patience=_PATIENCE.value,
        train_from=_TRAIN_FROM.value,
        rotation=_ROTATION.value,
        crop=_CROP.value,
        validation_fraction=_VALIDATION_FRACTION.value,
        test_fraction=_TEST_FRACTION.value,
        seed=_SEED.value,
    )
    result = training.train(images, config, output_dir)
    named = ["dataset", "label", "patient_regex", "multi_frame"]
    if _DATASET.value == "phantom":
        named = ["dataset", "phantoms", "label"]
    write_training(
        output_dir, result, images, config, {name: flags.FLAGS[name].value for name in named}
    )
    for line in summary(result):
        print(line)
    print(f"extractor: {output_dir / 'extractor.keras'}")


if __name__ == "__main__":
    cli.run(main, USAGE)
