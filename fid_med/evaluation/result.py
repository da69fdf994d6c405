"""The result of a comparison: its fields, its files, and what a person reads of it."""

import dataclasses
import os

from fid_med.evaluation.extraction import SideResult
from fid_med.evaluation.metric_registry import FeatureSet
from fid_med.metrics.feature_files import save_features
from fid_med.metrics.planning import DetectableDifference
from fid_med.metrics.statistics import FeatureStatistics


@dataclasses.dataclass
class FIDResult:
    """What `compute_fid` found; `to_dict` gives the fields of the JSON file.

    Attributes:
      fid: Fréchet distance, Heusel et al. 2017, equation 6.
      real, generated: what was compared.
      training, other_generated: the further sets, None where there was none.
      extractor: name of the extractor, None where both sides are statistics of unknown origin.
      fingerprint: sha256 of its weights and preprocessing, None likewise.
      preprocessing: its fields, None likewise.
      metrics: by name (`measures.METRICS`) what was computed, `fid` with its mean and covariance
        parts among them; None where a metric is unavailable.
      unavailable: by name, why.
      by_class: FID of each class with its counts; None unless asked for.
      versions: of fid_med and of what it stands on.
      seconds: wall time by stage.
      warnings: what the reader of the number must know.
      statistics: the `FeatureStatistics` of both sides, real first; not in the JSON.
      features: the `FeatureSet` of `real`, `generated` and what else there was, by name; None
        where features were not kept; not in the JSON.
    """

    fid: float
    real: SideResult
    generated: SideResult
    extractor: str | None
    fingerprint: str | None
    preprocessing: dict | None
    metrics: dict
    unavailable: dict
    by_class: list[dict] | None
    versions: dict
    seconds: dict
    warnings: list[str]
    training: SideResult | None = None
    other_generated: SideResult | None = None
    statistics: tuple[FeatureStatistics, ...] = dataclasses.field(default=(), repr=False)
    features: dict[str, FeatureSet | None] = dataclasses.field(default_factory=dict, repr=False)

    def to_dict(self) -> dict:
        """The fields but `statistics` and `features`, as JSON types."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del fields["statistics"], fields["features"]
        sides = {k: v for k, v in fields.items() if isinstance(v, SideResult)}
        return fields | {name: dataclasses.asdict(side) for name, side in sides.items()}

    def summary(self) -> list[str]:
        """What a person reads above the number, a line each."""
        sides = {
            "real": self.real,
            "generated": self.generated,
            "training": self.training,
            "other generated": self.other_generated,
        }
        lines = [_side_line(name, side) for name, side in sides.items() if side]
        if self.fingerprint:
            size = f"{self.preprocessing['height']} x {self.preprocessing['width']}"
            lines.append(
                f"extractor: {self.extractor} ({self.fingerprint[:12]}), {size}, "
                f"{self.preprocessing['resize']}, {self.preprocessing['aspect']}"
            )
        return [*lines, *_table(self._rows())]

    def _rows(self):
        for name, found in self.metrics.items():
            if found is None:
                yield name, "unavailable", "", self.unavailable[name]
            elif name != "fid":
                yield from _ROWS[name](found)
        for row in self.by_class or ():
            counts = f"{row['real']} real, {row['generated']} generated"
            value = "unavailable" if row["fid"] is None else f"{row['fid']:.6g}"
            yield f"FID of {row['label']}", value, "", row["reason"] or counts

    def save_statistics(self, folder, features: bool = False) -> None:
        """Writes `real.npz` and `generated.npz` into a folder, made where it is missing.

        Args:
          folder: where to.
          features: add the features of single images, as float32, and which images are of one
            patient, where they were kept.
        """
        for name, statistics in zip(("real", "generated"), self.statistics, strict=True):
            path, side = os.path.join(folder, f"{name}.npz"), self.features.get(name)
            if features and side is not None:
                save_features(path, statistics, side.features, side.groups)
            else:
                statistics.save(path)


@dataclasses.dataclass
class PlanResult:
    """What `plan` found; `to_dict` gives the fields of the JSON file.

    Attributes:
      differences: what is detectable at each count of images.
      real: the images that it was told from.
      extractor, fingerprint, preprocessing, versions, warnings: as for `FIDResult`.
    """

    differences: list[DetectableDifference]
    real: SideResult
    extractor: str | None
    fingerprint: str | None
    preprocessing: dict | None
    versions: dict
    warnings: list[str]

    def to_dict(self) -> dict:
        """The fields as JSON types."""
        return dataclasses.asdict(self)


def _side_line(name, side):
    count = "unknown count" if side.count is None else f"{side.count} images"
    account = [
        f"{number} {what}"
        for number, what in (
            (side.skipped, "skipped as unreadable"),
            (side.excluded, "excluded as training images"),
            (side.cached, "taken from the cache"),
        )
        if number
    ]
    return f"{name}: {count} ({side.kind})" + "".join(f", {x}" for x in account)


def _table(rows) -> list[str]:
    """Rows of four texts in columns, empty columns left out."""
    rows = list(rows)
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    return [
        "  ".join(
            [*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[3]]
        ).rstrip()
        for row in rows
    ]


def _debiased_rows(found):
    interval = f"{found['confidence']:.0%}: {found['low']:.4g} to {found['high']:.4g}"
    yield "debiased FID", f"{found['value']:.6g}", interval, _drawn(found, "replicates")


def _infinity_rows(found):
    error = f"standard error of the fit {found['standard_error']:.3g}"
    yield "FID-infinity", f"{found['value']:.6g}", error, f"{len(found['counts'])} counts"


def _permutation_rows(found):
    spread = f"{found['permuted_mean']:.4g} +- {found['permuted_sd']:.2g} if the same"
    yield "same distribution", f"p = {found['p_value']:.3g}", spread, _drawn(found, "permutations")


def _paired_rows(found):
    interval = f"{found['confidence']:.0%}: {found['low']:.4g} to {found['high']:.4g}"
    note = f"p = {found['p_value']:.3g}; below 0 the first set is nearer"
    yield "debiased FID less the other's", f"{found['value']:.6g}", interval, note


def _drawn(found, what):
    by = " by patient" if found["real_patients"] or found["generated_patients"] else ""
    return f"{found[what]} {what}{by}"


def _kid_rows(found):
    error = found["standard_error"]
    spread = "" if error is None else f"standard error {error:.3g}"
    yield "KID", f"{found['value']:.6g}", spread, "all pairs"
    subsets = f"{found['subsets']} subsets of {found['subset_size']}"
    yield (
        "KID over subsets",
        f"{found['subset_mean']:.6g}",
        f"std {found['subset_std']:.3g}",
        subsets,
    )


def _prdc_rows(found):
    for name in ("precision", "recall"):
        yield name, f"{found[name]:.4f}", "", f"k = {found['k']}"
    yield "density", f"{found['density']:.4f}", "", f"k = {found['density_k']}; 1 expected at best"
    expected = f"k = {found['density_k']}; {found['expected_coverage']:.3f} expected at best"
    yield "coverage", f"{found['coverage']:.4f}", "", expected


def _score_rows(found):
    for name in ("generated", "real"):
        score = found[name]
        note = f"{found['splits']} splits, classes of {found['classifier']}"
        yield (
            f"Inception Score, {name}",
            f"{score['mean']:.5g}",
            f"std {score['std']:.3g}",
            note,
        )


def _memorisation_rows(found):
    against = f"against {found['training_images']} training images"
    yield "authenticity", f"{found['authenticity']:.4f}", "", against
    looked = "features and pixels" if found["pixels_compared"] else "features alone"
    yield "copies", str(len(found["copies"])), "", f"judged by {looked}"
    for pair in found["pairs"]:
        if pair["copy"]:
            likeness = pair["similarity"]
            alike = "" if likeness is None else f"pixels {likeness:.3f}"
            yield "copy", str(pair["generated_image"]), alike, f"of {pair['training_image']}"


def _difference_rows(found):
    for i, row in enumerate(found["directions"][:3], 1):
        parts = f"mean {row['mean_part']:.3g}, spread {row['spread_part']:.3g}"
        yield f"direction {i}", f"{row['share']:.1%}", "of the FID", parts


_ROWS = {
    "debiased": _debiased_rows,
    "infinity": _infinity_rows,
    "permutation": _permutation_rows,
    "paired": _paired_rows,
    "kid": _kid_rows,
    "prdc": _prdc_rows,
    "is": _score_rows,
    "memorisation": _memorisation_rows,
    "difference": _difference_rows,
}
