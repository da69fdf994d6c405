"""The main job on phantoms, without downloads: train, extract, compare, study, draw.

`make demo` runs it. It ends with status 1 if the classifier is not clearly better than chance, or
if a disturbed set of phantoms does not have a larger FID than the clean held-out one.
"""

import dataclasses
import pathlib

import numpy as np
from absl import flags
from scipy import ndimage

from fid_med import cli
from fid_med.errors import FidMedError
from fid_med.utils.progress import say

USAGE = """usage: python -m fid_med.demo [flags]

Runs the main job in a few minutes on two cores, without data or downloads. It trains an extractor
on procedural radiographs, computes the FID of clean, noisy, blurred and mixed-up ones, and studies
whether the FID follows image quality. The last lines say which of its numbers are good or bad."""


@dataclasses.dataclass(frozen=True)
class Scale:
    """The size of the demo.

    Attributes:
      phantoms: number of phantoms for training, validation and test.
      compared: number of phantoms in each set whose FID is computed.
      studied: number of phantoms in the disturbance study.
      image_size: height and width of phantoms and of the network's input, in pixels.
      epochs: largest number of epochs.
    """

    phantoms: int = 480
    compared: int = 160
    studied: int = 80
    image_size: int = 96
    epochs: int = 6


def run_demo(output_dir, scale: Scale = Scale(), weights: str | None = None) -> dict:
    """Runs the demo.

    Args:
      output_dir: folder for the training's output, `report.json`, `phantoms.png`, `fid.png` and
        the study's `study/report.html`.
      scale: size of the demo.
      weights: initial weights; by default `imagenet`, or `random` if ImageNet's are not available.

    Returns:
      The content of `report.json`: weights, accuracy on held-out phantoms, FID of each set, the
      study's verdicts.

    Raises:
      FidMedError: the classifier is not clearly better than chance, or the FID of a disturbed set
        is not above that of the clean held-out set.
    """
    from fid_med.data.datasets import phantom
    from fid_med.evaluation.compute import compute_statistics
    from fid_med.metrics.frechet import frechet_distance
    from fid_med.phantoms.radiograph import phantom_set
    from fid_med.training import train
    from fid_med.training.output import summary, write_training
    from fid_med.utils import plots
    from fid_med.utils.files import write_json

    output_dir = pathlib.Path(output_dir)
    size = scale.image_size
    weights = weights or _available_weights()
    images = phantom.load(scale.phantoms, size, seed=0)
    config = train.TrainingConfig(
        weights=weights, image_size=size, epochs=scale.epochs, validation_fraction=0.2
    )
    result = train.train(images, config, output_dir)
    write_training(output_dir, result, images, config, {"dataset": "phantom"})
    for line in summary(result):
        say(line)

    # Other seeds than the training's, so other patients.
    clean, _ = phantom_set(scale.compared, size=size, seed=1)
    held_out, _ = phantom_set(scale.compared, size=size, seed=2)
    sets = {"held-out phantoms": held_out, **disturbed(held_out)}
    plots.contact_sheet(
        [(name, list(pixels[:6])) for name, pixels in sets.items()],
        output_dir / "phantoms.png",
        "Procedural phantoms, not patients: clean and disturbed",
    )
    reference, _, _ = compute_statistics(clean, result.extractor, name="reference")
    distances = {}
    for name, pixels in sets.items():
        statistics, _, _ = compute_statistics(pixels, result.extractor, name=name)
        distances[name] = frechet_distance(reference, statistics)
        say(f"FID, reference phantoms against {name}: {_number(distances[name])}")
    start = "random weights" if weights == "random" else f"{pathlib.PurePath(weights).name} weights"
    plots.log_dot_chart(
        list(distances.items()),
        output_dir / "fid.png",
        f"FID between {scale.compared} clean phantoms and {scale.compared} others of each kind\n"
        f"extractor trained on {scale.phantoms} phantoms from {start}",
        "FID, logarithmic; comparable only within this extractor",
    )
    report = {
        "weights": pathlib.PurePath(weights).name,
        "accuracy": result.reports["test"]["accuracy"],
        "chance": 1 / len(images.classes),
        "images_per_set": scale.compared,
        "fid": distances,
        "study": _study(
            output_dir / "study",
            held_out[: scale.studied],
            sets["halves mixed up"][: scale.studied],
            result.extractor,
            weights,
        ),
    }
    write_json(output_dir / "report.json", report)
    _check(report)
    return report


def disturbed(images: np.ndarray) -> dict[str, np.ndarray]:
    """Disturbs uint8 [N, H, W] images in three ways, with a fixed seed; maps a name to images."""
    rng = np.random.default_rng(0)
    noisy = images + rng.normal(0, 25, images.shape)
    blurred = ndimage.gaussian_filter(images.astype(np.float32), (0, 2, 2))
    swapped = images.copy()
    # The lower half of each phantom goes under the upper half of the next.
    swapped[:, images.shape[1] // 2 :] = np.roll(images, 1, axis=0)[:, images.shape[1] // 2 :]
    as_pixels = {"with noise": noisy, "blurred": blurred, "halves mixed up": swapped}
    return {n: np.clip(np.rint(x), 0, 255).astype(np.uint8) for n, x in as_pixels.items()}


def _study(output_dir, images, foreign, extractor, weights):
    """Studies both extractors on phantoms; maps each name to the verdict on its multi-depth FID."""
    from fid_med.extractors.registry import load_extractor
    from fid_med.study.report.wording import describe_verdicts, list_measures
    from fid_med.study.report.write import write_report
    from fid_med.study.run import StudyConfig, run_study

    untrained = load_extractor(weights, image_size=extractor.preprocessing.height)
    result = run_study(
        images,
        {"before training": untrained, "trained on phantoms": extractor},
        output_dir,
        StudyConfig(
            repeats=40,
            note="Procedural phantoms, not patients: this page shows what a study looks like, and "
            "nothing about radiographs. Foreign images are phantoms with their halves mixed up.",
        ),
        contamination=foreign,
    )
    write_report(result, output_dir)
    measures = list_measures(result.record)
    return {
        measures[name]["extractor"]: f"{verdict}. {text}"
        for name, verdict, text in describe_verdicts(result.record)
        if measures[name]["dims"] is None
    }


def _available_weights():
    from fid_med.extractors.registry import load_extractor

    try:
        load_extractor("imagenet")
    except FidMedError as error:
        say(f"no ImageNet weights here: {error}")
        say("the demo trains from random weights instead, every layer")
        return "random"
    return "imagenet"


def _check(report):
    if not report["accuracy"] >= 3 * report["chance"]:
        raise FidMedError(
            f"accuracy on held-out phantoms is {report['accuracy']:.3f}, not clearly above chance "
            f"({report['chance']:.3f})"
        )
    clean, *worse = report["fid"].items()
    for name, fid in worse:
        if not fid > clean[1]:
            raise FidMedError(f"FID of {name} is {fid:.4g}, not above {clean[1]:.4g} of {clean[0]}")


def summary_lines(report: dict) -> list[str]:
    """The results of the demo, each with whether it is good or bad.

    Args:
      report: from `run_demo`.
    """
    count = report["images_per_set"]
    (clean, level), *worse = report["fid"].items()
    lines = [
        f"does the multi-depth FID rise as images get worse? {name}: {verdict}"
        for name, verdict in report["study"].items()
    ]
    lines += [
        "(yes is the best answer; with so few phantoms, expect less.)",
        f"weights: {report['weights']}",
        f"accuracy on {clean}: {report['accuracy']:.3f} (good: chance is {report['chance']:.3f})",
        f"FID {clean}: {_number(level)} (good: both sets are clean, {count} phantoms each)",
    ]
    lines += [
        f"FID {name}: {_number(fid)} (bad, as it should be: {fid / level:,.1f} times that of the "
        "clean set)"
        for name, fid in worse
    ]
    lines.append(
        "These figures vary with the processor, because training amplifies rounding. On every "
        "processor, the FID of each disturbed set must be above that of the clean one."
    )
    return lines


def _number(fid):
    return f"{fid:.4g}" if fid < 1000 else f"{fid:,.0f}"


def main():
    cli.load_tensorflow()
    report = run_demo(flags.FLAGS.output_dir)
    for name in (
        "phantoms.png", "fid.png", "history.png", "study/report.html", "extractor.keras",
    ):  # fmt: skip
        print(f"look at {pathlib.Path(flags.FLAGS.output_dir) / name}")
    for line in summary_lines(report):
        print(line)


if __name__ == "__main__":
    # Defined here, because a program that imports this module may have a flag of the same name.
    flags.DEFINE_string("output_dir", "demo_output", "Folder to write to.")
    cli.run(main, USAGE)
