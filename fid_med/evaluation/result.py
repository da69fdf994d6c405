"""The result of a comparison: its fields, its files, and the printed table."""

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

from fid_med.evaluation.account import ImageAccount
from fid_med.evaluation.extraction import FeatureSet
from fid_med.evaluation.metric_registry import METRICS, TableRow, describe_debiased
from fid_med.evaluation.verdict import Verdict
from fid_med.metrics.planning import DetectableDifference
from fid_med.metrics.statistics import FeatureStatistics


@dataclasses.dataclass
class FIDResult:
    """What `compute_fid` found; `to_dict` gives the fields of the JSON file.

    Attributes:
      fid: Fréchet distance (Heusel et al. 2017, equation 6).
      real, generated: account of the images of both sides.
      training, other_generated: account of the further sets, None where there was none.
      extractor: name of the extractor, None where both sides are statistics of unknown origin.
      fingerprint: sha256 of its weights and preprocessing, None where `extractor` is.
      preprocessing: its fields, None where `extractor` is.
      dims: number of features, which is the depth of the extractor.
      metrics: what was computed, by the metric's name, as JSON types; `fid` with its mean and
        covariance parts is always there. None where a metric is unavailable.
      unavailable: the reason, by the metric's name.
      by_class: FID of each class with its counts; None unless asked for.
      versions: of fid_med and of the packages that a result depends on.
      seconds: wall time of each stage.
      warnings: what the reader of the number must know.
      verdict: what the FID shows, in words, and the line to report.
      statistics: the `FeatureStatistics` of both sides, real first; not in the JSON.
      features: the `FeatureSet` of `real`, `generated` and further sets, by name; None where
        features were not kept; not in the JSON.
      drawn: what the figures of metrics are drawn from, by the metric's name; not in the JSON.
    """

    fid: float
    real: ImageAccount
    generated: ImageAccount
    extractor: str | None
    fingerprint: str | None
    preprocessing: dict | None
    metrics: dict
    unavailable: dict
    by_class: list[dict] | None
    versions: dict
    seconds: dict
    warnings: list[str]
    dims: int
    verdict: Verdict
    training: ImageAccount | None = None
    other_generated: ImageAccount | None = None
    statistics: tuple[FeatureStatistics, ...] = dataclasses.field(default=(), repr=False)
    features: dict[str, FeatureSet | None] = dataclasses.field(default_factory=dict, repr=False)
    drawn: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)

    def to_dict(self) -> dict:
        """The fields of the JSON file, as JSON types."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del fields["statistics"], fields["features"], fields["drawn"]
        accounts = {k: v for k, v in fields.items() if isinstance(v, ImageAccount)}
        fields |= {name: dataclasses.asdict(account) for name, account in accounts.items()}
        return fields | {"verdict": self.verdict.to_dict()}

    @property
    def accounts(self) -> list[tuple[str, ImageAccount]]:
        """Name and account of each set, real first."""
        found = [
            ("real", self.real),
            ("generated", self.generated),
            ("training", self.training),
            ("other generated", self.other_generated),
        ]
        return [(name, account) for name, account in found if account]

    def summary(self) -> list[str]:
        """Returns the lines printed above the FID."""
        lines = [f"{name}: {account.describe()}" for name, account in self.accounts]
        if self.fingerprint:
            lines.append(
                f"extractor: {self.extractor or 'unnamed'} ({self.fingerprint[:12]})"
                f"{_described(self.preprocessing or {})}"
            )
        sentences = [f"verdict: {self.verdict.text}", f"to report: {self.verdict.to_report}"]
        return [*lines, *_table(self.rows()), *self.meanings(), *sentences]

    def __str__(self) -> str:
        """The summary with the FID last, as `compute_fid.py` prints it."""
        return "\n".join([*self.summary(), f"FID: {self.fid:.10g}"])

    def meanings(self) -> list[str]:
        """Returns a line for each number of the table: what it means, and which way is good."""
        shown = [METRICS[name] for name, fields in self.metrics.items() if fields is not None]
        return [f"  {line}" for entry in shown for line in entry.meanings]

    def rows(self) -> Iterator[TableRow]:
        """Yields the rows of the printed table."""
        for name, fields in self.metrics.items():
            if fields is not None:
                yield from METRICS[name].rows(fields)
        for reason in dict.fromkeys(self.unavailable.values()):
            names = ", ".join(name for name, why in self.unavailable.items() if why == reason)
            yield TableRow(names, "unavailable", note=reason)
        for row in self.by_class or ():
            counts = f"{row['real']} real, {row['generated']} generated"
            value = "unavailable" if row["fid"] is None else f"{row['fid']:.6g}"
            debiased = describe_debiased(row["debiased"])
            yield TableRow(f"FID of {row['label']}", value, debiased, row["reason"] or counts)

    def save_statistics(self, folder, features: bool = False) -> None:
        """Writes `real.npz` and `generated.npz` into a folder, made where it is missing.

        Args:
          folder: path of the folder.
          features: also save the features, as float32, of every depth that was computed, and
            the patient number of each image, where they were kept.
        """
        for name, statistics in zip(("real", "generated"), self.statistics, strict=True):
            path, side = os.path.join(folder, f"{name}.npz"), self.features.get(name)
            if features and side is not None:
                side.save(path)
            else:
                statistics.save(path)


@dataclasses.dataclass
class PlanResult:
    """What `plan` found; `to_dict` gives the fields of the JSON file.

    Attributes:
      differences: the smallest detectable FID at each count of images.
      real: account of the images that it was estimated from.
      extractor, fingerprint, preprocessing, versions, warnings, dims: as for `FIDResult`.
    """

    differences: list[DetectableDifference]
    real: ImageAccount
    extractor: str | None
    fingerprint: str | None
    preprocessing: dict | None
    versions: dict
    warnings: list[str]
    dims: int

    def summary(self) -> list[str]:
        """What is detected, and a line for each number of images, as `--plan` prints it."""
        level = self.differences[0].confidence
        first = (
            f"Detected: the {level:.0%} interval of the debiased FID does not contain 0. Compare "
            "the debiased FID of your generator with these:"
        )
        return [first] + [
            f"{row.count} images per side detect a true FID of {row.difference:.4g} with "
            f"{row.power:.0%} power"
            for row in self.differences
        ]

    def __str__(self) -> str:
        return "\n".join(self.summary())

    def to_dict(self) -> dict:
        """The fields as JSON types."""
        return dataclasses.asdict(self)


def _described(preprocessing: dict) -> str:
    """Says how images were resized, as far as statistics of any origin tell it."""
    known = {key: preprocessing[key] for key in ("height", "width") if key in preprocessing}
    parts = [" x ".join(map(str, known.values()))] if len(known) == 2 else []
    parts += [str(preprocessing[key]) for key in ("resize", "aspect") if key in preprocessing]
    return "".join(f", {part}" for part in parts)


def draw_figures(result: FIDResult, folder) -> list[str]:
    """Draws the figures of the metrics that were computed.

    Args:
      result: of `compute_fid` with the metrics `difference` or `memorisation`.
      folder: where the PNG files go; made where it is missing.

    Returns:
      The files written: `directions.png`, `directions_CLASS.png` where FIDs by class were asked
      for, `heatmaps.png`, `closest_pairs.png`. Heat maps show where in the images the FID comes
      from; they need a network of plain layers that end in a global average pool.

    Raises:
      DataError: images that can't be read again, such as those of a generator.
    """
    os.makedirs(folder, exist_ok=True)
    drawn = sorted(name for name in result.drawn if name in METRICS)
    return [path for name in drawn for path in METRICS[name].draw(result, folder)]


def _table(rows) -> list[str]:
    """Rows in columns, empty columns left out."""
    rows = list(rows)
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    return [
        "  ".join(
            [*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row.note]
        ).rstrip()
        for row in rows
    ]
