"""What a training run leaves behind: networks, tables, a plot, and the account of it all."""

import csv
import pathlib

import numpy as np

from fid_med.data.labelled import SPLITS, LabelledImages
from fid_med.errors import DataError, reason_of
from fid_med.extractors.keras_file import save_extractor
from fid_med.training.checkpoints import CheckpointStore
from fid_med.training.config import AUXILIARY_WEIGHT, TrainingConfig, config_fields
from fid_med.training.train import TrainingResult
from fid_med.utils import plots
from fid_med.utils.files import atomic_path, check_writable, versions, write_json

RESULT_FILES = ("extractor.keras", "classifier.keras", "training.json")


def check_output_dir(output_dir: pathlib.Path, overwrite: bool) -> None:
    """Makes the output folder, before hours of work depend on it.

    An interrupted run is no finished one, even where it had begun to write its results:
    `training.json` comes last, and `train` goes on from the checkpoint.

    Raises:
      DataError: it holds the results of a finished run and `overwrite` is not set, or it cannot
        be written to.
    """
    finished = [name for name in RESULT_FILES if (output_dir / name).exists()]
    interrupted = CheckpointStore(output_dir).path.exists()
    if interrupted and RESULT_FILES[-1] not in finished:
        finished = []
    if finished and not overwrite:
        raise DataError(
            f"{output_dir}: holds a finished run ({', '.join(finished)}); choose another "
            "--output_dir or give --overwrite"
        )
    if output_dir.exists() and not output_dir.is_dir():
        raise DataError(f"{output_dir}: is a file; --output_dir must be a folder")
    check_writable(output_dir / RESULT_FILES[0])


def write_training(
    output_dir: pathlib.Path,
    result: TrainingResult,
    images: LabelledImages,
    config: TrainingConfig,
    flags: dict,
) -> None:
    """Writes `extractor.keras`, `classifier.keras`, `training.json`, `splits.csv` and a plot.

    The checkpoint is removed when they are on disk.

    Args:
      output_dir: where to; `history.csv` and `tensorboard/` are there already.
      result, images, config: of the run.
      flags: of the script, to be stated; no paths.

    Raises:
      DataError: they cannot be written; the checkpoint stays.
    """
    try:
        _write_results(output_dir, result, images, config, flags)
    except OSError as error:
        raise DataError(
            f"{output_dir}: the results cannot be written ({reason_of(error)}); nothing that was "
            "trained is lost: make room and give the same command again"
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
    plots.plot_history(result.history, output_dir / "history.png")
    _write_splits(output_dir / "splits.csv", result, images)
    # The classifier's forward pass holds the extractor, so it is saved under the same identity.
    for name, network in (
        ("classifier.keras", result.classifier),
        ("extractor.keras", extractor.network),
    ):
        save_extractor(output_dir / name, network, extractor.preprocessing, **carried)
    write_json(
        output_dir / "training.json",
        {
            "dataset": images.name,
            "flags": flags,
            "config": config_fields(config),
            "fingerprint": extractor.fingerprint,
            "lineage": list(extractor.lineage),
            "preprocessing": extractor.preprocessing.to_dict(),
            "labels": list(images.classes),
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
        },
    )


def _write_splits(path, result, images):
    with (
        atomic_path(path) as temporary,
        open(temporary, "w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        writer = csv.writer(file)
        columns = {"image": images.names, "label": _label_texts(images), "split": result.splits}
        if images.patients is not None:  # so that whoever doubts it can check
            columns["patient"] = images.patients
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _label_texts(images):
    rows = map(np.flatnonzero, images.labels) if images.multi_label else images.labels[:, None]
    return ["|".join(images.classes[k] for k in row) for row in rows]


def summary(result: TrainingResult) -> list[str]:
    """What a person wants to know first, a line for each held-out split, and one by study."""
    lines = []
    for part, report in result.reports.items():
        lines.append(f"{part}: {report['count']} images, {_numbers(report)}")
        if part in result.study_reports:
            by_study = result.study_reports[part]
            lines.append(f"{part}: {by_study['count']} studies, {_numbers(by_study)}")
    return lines


# How a report's numbers are called on the terminal; what a report lacks is left out.
_SHOWN = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced",
    "auc": "AUC",
    "kappa": "kappa",
}


def _numbers(report):
    def written(value):
        return "undefined" if value is None else f"{value:.3f}"

    return ", ".join(f"{name} {written(report[k])}" for k, name in _SHOWN.items() if k in report)
