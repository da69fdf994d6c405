"""The FID of each class alone; an image's class is the first folder of its name."""

from collections.abc import Sequence

import numpy as np

from fid_med.errors import StatisticsError
from fid_med.evaluation.metric_registry import Comparison, Finding, direction_fields
from fid_med.metrics.debiased_fid import debiased_fid
from fid_med.metrics.difference import Direction, directions, per_class


def image_classes(names: Sequence[str] | None, side: str) -> np.ndarray:
    """The class of each image of a side, str [N].

    Raises:
      StatisticsError: the names are unknown, or an image is in no folder.
    """
    if names is None:
        raise StatisticsError(
            f"{side}: --per_class needs a folder of images; a .npz of statistics, an array, a "
            "tf.data.Dataset or a callable has no file names to read the classes from"
        )
    if any("/" not in name for name in names):
        raise StatisticsError(
            f"{side}: --per_class needs a subfolder for each class ({side.upper()}/<class>/...), "
            f"but some images are directly in {side.upper()}"
        )
    return np.array([name.split("/", 1)[0] for name in names])


def measure_classes(comparison: Comparison, with_directions: bool = False) -> list[Finding]:
    """FID by class.

    Args:
      comparison: of images in folders.
      with_directions: add the directions in which each class differs most, with their images.

    Returns:
      A finding for each class, with its debiased FID where it has 8 images or more on each side;
      `drawn` holds its directions.

    Raises:
      StatisticsError: no features, or images outside of class folders.
    """
    real, generated = comparison.features
    labels = [
        image_classes(comparison.real.names, "real"),
        image_classes(comparison.generated.names, "generated"),
    ]
    findings = []
    for row in per_class(real, generated, *labels):
        components = row.components
        fields = {
            "label": row.label,
            "real": row.real_count,
            "generated": row.generated_count,
            "fid": components and components.distance,
            "mean_part": components and components.mean,
            "covariance_part": components and components.covariance,
            "reason": row.reason,
        }
        members = [np.flatnonzero(of_side == row.label) for of_side in labels]
        debiased = _debiased(comparison, *members)
        found: list[Direction] = []
        if with_directions:
            found = _directions(real, generated, *members) if components else []
            fields["directions"] = [direction_fields(x) for x in found]
        findings.append(Finding(fields | {"debiased": debiased}, found))
    return findings


def _debiased(comparison: Comparison, *members) -> dict | None:
    """The debiased FID of one class; None where it has too few images or patients."""
    sides = (comparison.real, comparison.generated)
    patients = [
        None if side.patients is None else np.asarray(side.patients)[rows]
        for side, rows in zip(sides, members, strict=True)
    ]
    try:
        return debiased_fid(
            *(x[rows] for x, rows in zip(comparison.features, members, strict=True)),
            real_patients=patients[0],
            generated_patients=patients[1],
            confidence=comparison.confidence,
            seed=comparison.seed,
        ).to_dict()
    except StatisticsError:
        return None


def _directions(real, generated, real_members, generated_members) -> list[Direction]:
    """Directions of one class, with image indices into the whole set."""
    return [
        row._replace(
            real_low=real_members[row.real_low],
            real_high=real_members[row.real_high],
            generated_low=generated_members[row.generated_low],
            generated_high=generated_members[row.generated_high],
        )
        for row in directions(real[real_members], generated[generated_members])
    ]
