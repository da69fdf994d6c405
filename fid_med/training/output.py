"""Output files of a training run: networks, tables, a plot, and `training.json`."""

import csv
import os
import pathlib
import shlex

import numpy as np

from fid_med.data.labelled import SPLITS, LabelledImages
from fid_med.data.split_files import FILE_NAME
from fid_med.errors import DataError, reason_of
from fid_med.extractors.keras_file import save_extractor
from fid_med.training.checkpoints import RESULT_FILES, CheckpointStore
from fid_med.training.config import AUXILIARY_WEIGHT, TrainingConfig
from fid_med.training.epochs import best_epochs
from fid_med.training.model_card import model_card
from fid_med.training.train import TrainingResult
from fid_med.utils.files import atomic_path, versions, write_json
from fid_med.utils.plots import plot_history


def write_training(
    output_dir: str | os.PathLike,
    result: TrainingResult,
    images: LabelledImages,
    config: TrainingConfig,
    flags: dict | None = None,
) -> None:
    """Writes the results of a run, then removes its checkpoint.

    The files are `extractor.keras`, `classifier.keras`, `training.json`, `splits.csv`,
    `history.png` and `model_card.md`.

    Args:
      output_dir: folder given to `train`, which has written `history.csv` and `tensorboard/`.
      result: returned by `train`.
      images: given to `train`.
      config: given to `train`.
      flags: further settings to record in `training.json`, as JSON types; must not contain paths.

    Raises:
      DataError: a file cannot be written; the checkpoint is kept.
    """
    try:
        _write_results(pathlib.Path(output_dir), result, images, config, flags or {})
    except OSError as error:
        raise DataError(
            f"{output_dir}: the results cannot be written ({reason_of(error)}); the trained "
            "weights are kept in the checkpoint: free disk space and run the same command again"
        ) from error
    CheckpointStore(output_dir).discard()


def _write_results(output_dir, result, images, config, flags):
    for layer in result.classifier.layers:
        layer.trainable = True
    extractor = result.extractor
    carried = {
        "labels": extractor.labels,
        "training_images": extractor.training_images,
        "lineage": extractor.lineage,
    }
    plot_history(result.history, output_dir / "history.png", best_epochs(result.history))
    _write_splits(output_dir / FILE_NAME, result, images)
    # The classifier contains the extractor, so it is saved with the same fingerprint.
    for name, network in (
        ("classifier.keras", result.classifier),
        ("extractor.keras", extractor.network),
    ):
        save_extractor(output_dir / name, network, extractor.preprocessing, **carried)
    record = {
        "dataset": images.name,
        "flags": flags,
        "config": config.to_dict(),
        "fingerprint": extractor.fingerprint,
        "lineage": list(extractor.lineage),
        "preprocessing": extractor.preprocessing.to_dict(),
        "labels": list(images.classes),
        "uncertain": images.uncertain,
        "patients": len(set(images.patients)) if images.patients else None,
        "splits": {
            part: {
                "count": int((result.splits == part).sum()),
                "labels": images.counts(result.splits == part),
            }
            for part in SPLITS
        },
        "repeated_images": result.repeated,
        "left_out_as_repeated": int((result.splits == "repeated").sum()),
        "class_weights": result.class_weights,
        "auxiliary_weight": AUXILIARY_WEIGHT if config.recipe == "scratch" else None,
        "reports": result.reports,
        "study_reports": result.study_reports,
        "epochs": len(result.history),
        "seconds": round(result.seconds, 1),
        "versions": versions(),
    }
    with atomic_path(output_dir / "model_card.md") as temporary:
        temporary.write_text(model_card(record), encoding="utf-8", errors="backslashreplace")
    write_json(output_dir / "training.json", record)


def _write_splits(path, result, images):
    with (
        atomic_path(path) as temporary,
        open(temporary, "w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        writer = csv.writer(file)
        columns = {"image": images.names, "label": _format_labels(images), "split": result.splits}
        if images.patients is not None:  # lets a user check that no patient is in two splits
            columns["patient"] = images.patients
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _format_labels(images):
    rows = map(np.flatnonzero, images.labels) if images.multi_label else images.labels[:, None]
    return ["|".join(images.classes[k] for k in row) for row in rows]


def next_command(
    output_dir: pathlib.Path,
    result: TrainingResult,
    data_dir=None,
    patient_regex: str | None = None,
    multi_frame: str = "refuse",
) -> str:
    """Returns the command that compares generated images with held-out ones of this training.

    Args:
      output_dir: folder of the results.
      result: returned by `train`.
      data_dir: folder of the images, if the data set is one; otherwise the command says REAL.
      patient_regex, multi_frame: as they were given to the training.

    Returns:
      A line for a shell, in which GENERATED is in place of the folder of generated images.
    """
    words = ["compute_fid.py", str(data_dir or "REAL"), "GENERATED"]
    words.append(f"--extractor={output_dir / RESULT_FILES[0]}")
    held_out = data_dir and (result.splits == "test").any()
    words.append("--split=test" if held_out else "--exclude_training_images")
    if patient_regex:
        words.append(f"--patient_regex={patient_regex}")
    if multi_frame != "refuse":
        words.append(f"--multi_frame={multi_frame}")
    return shlex.join(words)


def summary(result: TrainingResult) -> list[str]:
    """Returns one line with the main metrics for each report: per split, by image and by study."""
    lines = []
    for part, report in result.reports.items():
        lines.append(f"{part}: {report['count']} images, {_format_metrics(report)}")
        if part in result.study_reports:
            by_study = result.study_reports[part]
            lines.append(f"{part}: {by_study['count']} studies, {_format_metrics(by_study)}")
    return lines


_SUMMARY_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auc": "AUC",
    "kappa": "kappa",
}


def _format_metrics(report):
    return ", ".join(
        f"{name} {_format_value(report, key)}"
        for key, name in _SUMMARY_NAMES.items()
        if key in report
    )


def _format_value(report, key):
    ends = report.get("auc_interval") if key == "auc" else None
    if report[key] is None:
        return "undefined"
    interval = f" (95 % interval {ends[0]:.3f} to {ends[1]:.3f})" if ends else ""
    return f"{report[key]:.3f}{interval}"
