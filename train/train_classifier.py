#!/usr/bin/env python3
"""Trains InceptionV3 on labelled radiographs and cuts it into an extractor for FID."""

import dataclasses
import pathlib

from absl import flags

from fid_med import cli
from fid_med.data.datasets import check_name, load_dataset
from fid_med.errors import DataError

USAGE = """usage: train_classifier.py --dataset=NAME --data_dir=PATH --output_dir=DIR [flags]

Trains InceptionV3 on labelled radiographs and writes DIR/extractor.keras, which compute_fid.py
takes as --extractor, beside classifier.keras, training.json, history.csv, history.png, splits.csv,
augmentation.png and TensorBoard logs. An interrupted run goes on when the same command is given
again.

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
_OVERWRITE = flags.DEFINE_bool(
    "overwrite",
    False,
    "Replace a finished run in --output_dir, or an interrupted one with other settings or images.",
)
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
_RECIPE = flags.DEFINE_enum(
    "recipe",
    "transfer",
    ["transfer", "scratch"],
    "transfer trains the head and the last blocks of trained weights; scratch trains every layer "
    "from random weights as Inception-v3 was trained on ImageNet.",
)
_WEIGHTS = flags.DEFINE_string(
    "weights",
    None,
    "Where transfer starts: imagenet (the default), random (every layer trains), or a path: an "
    "extractor.keras of an earlier run, or InceptionV3 weights or models in Keras's forms.",
)
_IMAGE_SIZE = flags.DEFINE_integer(
    "image_size",
    None,
    "Height and width of the network's input in pixels; by default those of --weights, or 299.",
    lower_bound=75,
)
_ASPECT = flags.DEFINE_enum(
    "aspect",
    None,
    ["stretch", "pad"],
    "How images are fitted; by default as for --weights, or stretch.",
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Images a step.", lower_bound=1)
_EPOCHS = flags.DEFINE_integer(
    "epochs", None, "Epochs at most; by default 10, or 100 from scratch.", lower_bound=1
)
_OPTIMIZER = flags.DEFINE_enum(
    "optimizer",
    None,
    ["sgd", "rmsprop", "adam"],
    "sgd has momentum 0.9 (the default of scratch), rmsprop decay 0.9 and epsilon 1.0; adam is the "
    "default of transfer.",
)
_LEARNING_RATE = flags.DEFINE_float(
    "learning_rate",
    None,
    "At the start. By default 1e-4 for transfer, 1e-3 for every layer by adam, and for scratch "
    "0.045, which falls by 0.94 every two epochs.",
    lower_bound=0,
)
_PATIENCE = flags.DEFINE_integer(
    "patience",
    None,
    "Epochs without a better validation AUC before training stops; by default 3, from scratch "
    "never.",
    lower_bound=1,
)
_LABEL_SMOOTHING = flags.DEFINE_float(
    "label_smoothing", 0.0, "Share of a label's weight spread over all labels; the paper has 0.1."
)
_CLIP_NORM = flags.DEFINE_float(
    "clip_norm",
    None,
    "Largest norm of the gradient, 0 for any; by default 0, and 2, as in the paper, from scratch "
    "by sgd or rmsprop.",
    lower_bound=0,
)
_AVERAGE_WEIGHTS = flags.DEFINE_float(
    "average_weights",
    0.0,
    "Decay of a running average of the weights, such as 0.999, which is validated and kept in "
    "their place; 0 for none.",
)
_NUM_GPUS = flags.DEFINE_integer(
    "num_gpus", None, "GPUs of this machine to train on; by default all.", lower_bound=0
)
_MIXED_PRECISION = flags.DEFINE_enum(
    "mixed_precision",
    "off",
    ["off", "float16", "bfloat16"],
    "Computes in 16 bits where that is safe, which is faster on recent GPUs; what is saved is "
    "float32.",
)
_TRAIN_FROM = flags.DEFINE_string(
    "train_from", "mixed8", "Transfer learning trains the layers behind this block."
)
_ROTATION = flags.DEFINE_float("rotation", 10.0, "Augmentation: degrees at most.", lower_bound=0)
_CROP = flags.DEFINE_float("crop", 0.85, "Augmentation: smallest share kept by a random crop.")
_TRANSLATION = flags.DEFINE_float(
    "translation", 0.0, "Augmentation: largest shift, as a share of height and width."
)
_FLIP = flags.DEFINE_bool(
    "flip",
    False,
    "Augmentation: mirror every second image left to right. A mirrored radiograph shows the other "
    "side of the body, so only where sides do not matter.",
)
_BRIGHTNESS = flags.DEFINE_float(
    "brightness", 0.0, "Augmentation: brighter or darker by up to this share of the grey range."
)
_CONTRAST = flags.DEFINE_float(
    "contrast", 0.0, "Augmentation: contrast times 1 - CONTRAST to 1 + CONTRAST."
)
_GAMMA = flags.DEFINE_float(
    "gamma", 0.0, "Augmentation: a gamma curve from 1 / (1 + GAMMA) to 1 + GAMMA."
)
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
_WITHOUT_LABELS = flags.DEFINE_list(
    "without_labels",
    None,
    "Labels to leave out of the training, images and all, such as those that a study of the "
    "extractor on images of an unknown kind is to use.",
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Of splits, order, augmentation and random weights.", lower_bound=0,
    upper_bound=2**32 - 1,
)  # fmt: skip


@flags.validator("dataset")
def _known(name):
    try:
        check_name(name)
    except DataError as error:
        raise flags.ValidationError(str(error)) from None
    return True


def main():
    cli.load_tensorflow()
    from fid_med.training.output import check_output_dir, summary, write_training
    from fid_med.training.train import TrainingConfig, train

    fields = [field.name for field in dataclasses.fields(TrainingConfig)]
    config = TrainingConfig(**{n: flags.FLAGS[n].value for n in fields if n in flags.FLAGS})
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
    if _WITHOUT_LABELS.value:
        images = images.without(_WITHOUT_LABELS.value)
    result = train(images, config, output_dir, overwrite=_OVERWRITE.value)
    named = ["dataset", "label", "without_labels", "patient_regex", "multi_frame"]
    if _DATASET.value == "phantom":
        named = ["dataset", "phantoms", "label", "without_labels"]
    write_training(
        output_dir, result, images, config, {name: flags.FLAGS[name].value for name in named}
    )
    for line in summary(result):
        print(line)
    print(f"extractor: {output_dir / 'extractor.keras'}")


if __name__ == "__main__":
    cli.run(main, USAGE)
