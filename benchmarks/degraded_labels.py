#!/usr/bin/env python3
"""Writes a training set whose second target is the degree of degradation.

python -m benchmarks.degraded_labels IMAGES OUTPUT_DIR --disturbances=radiograph --patient_regex=...

IMAGES has one folder per label. OUTPUT_DIR gets each image untouched, and at levels 1, 2 and 3 of
a disturbance that is drawn at random for each level; and labels.csv with the columns path, label
and patient. Its labels are those of the folders, except the first one, which is their absence, and
degraded1, degraded2 and degraded3: an image of level 2 has the first two. Then train with

train_classifier.py --data_dir=OUTPUT_DIR --labels_csv=OUTPUT_DIR/labels.csv --train_from=mixed2

An extractor that is trained on some disturbances has to be judged by others.
"""

import csv
import pathlib

import numpy as np
from absl import app, flags
from PIL import Image

from fid_med.data.images import list_images, read_image
from fid_med.data.patients import patients_of
from fid_med.data.split_files import read_splits
from fid_med.disturbances.registry import DISTURBANCES, disturb, select_disturbances

# Mirroring is a matter of the set: a mirrored image alone is not degraded.
_OF_SETS = ("wrong_laterality",)


def degraded_labels(folder, output_dir, names, patient_regex, splits, seed) -> int:
    """Writes the images and labels.csv; returns the number of images.

    Args:
      folder: has one folder per label.
      output_dir: made where it is missing.
      names: disturbances.
      patient_regex: finds the patient in a file's name, or None.
      splits: split of each image by its name; test images are left out.
      seed: of the choice of disturbances.
    """
    folder, output_dir = pathlib.Path(folder), pathlib.Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    names = [x for x in names if not DISTURBANCES[x].set_level and x not in _OF_SETS]
    images = [x for x in list_images(folder) if splits.get(x) != "test"]
    patients = patients_of(images, patient_regex) if patient_regex else images
    absent = min(x.split("/", 1)[0] for x in images)
    rng, rows = np.random.default_rng(seed), []
    for image, patient in zip(images, patients, strict=True):
        pixels, label = read_image(folder / image), image.split("/", 1)[0]
        for level in range(4):
            name = names[rng.integers(len(names))]
            # Another seed than the study's, so that no noise is that of a later test.
            changed = disturb(pixels, name, DISTURBANCES[name].levels[level], seed=seed + 1)
            path = f"{pathlib.PurePosixPath(image).with_suffix('')}_{level}.png".replace("/", "_")
            Image.fromarray(changed).save(output_dir / path)
            labels = [label] * (label != absent) + [f"degraded{k + 1}" for k in range(level)]
            rows.append((path, "|".join(labels), patient))
    with (output_dir / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label", "patient"), *rows])
    return len(rows)


def main(argv):
    values, (_, folder, output_dir) = flags.FLAGS, argv
    names = select_disturbances(values.disturbances, with_foreign=False)
    splits = read_splits(values.splits) if values.splits else {}
    count = degraded_labels(folder, output_dir, names, values.patient_regex, splits, values.seed)
    print(f"{output_dir}: {count} images")


if __name__ == "__main__":
    # Defined here, because a test that imports this module may run a script with such flags.
    flags.DEFINE_list(
        "disturbances",
        ["radiograph"],
        "Names or groups of disturbances; those of sets are left out.",
    )
    flags.DEFINE_string("patient_regex", None, "Finds the patient in a file's name.")
    flags.DEFINE_string(
        "splits", None, "splits.csv of another training, whose test images are left out."
    )
    flags.DEFINE_integer("seed", 0, "Seed of the choice of disturbances.")
    app.run(main)
