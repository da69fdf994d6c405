"""The result of a comparison of several generated sets: its fields, table and figures."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Sequence

from fid_med.evaluation.account import ImageAccount
from fid_med.evaluation.extraction import FeatureSet
from fid_med.evaluation.verdict import describe_origin

_HEADER = ("rank", "set", "debiased FID", "interval", "more than best", "interval", "p")
_SMALLEST_P = 1e-4  # printed; further out, the t distribution is not accurate


@dataclasses.dataclass
class RankedGenerator:
    """One generated set.

    Attributes:
      name: the name that it was given.
      rank: 1 for the smallest debiased FID.
      fid: plain FID of all its images.
      account: account of its images.
      debiased: fields of `DebiasedFID`.
      difference: fields of `PairedDifference`: this set less the best one; None for the best one.
        Its interval is corrected for all pairs of sets, its `p_value` is that of this pair alone.
      p_value: the corrected p-value of that difference, as in `rank_sets`; None for the best one.
      worse: whether the set is worse than the best one.
    """

    name: str
    rank: int
    fid: float
    account: ImageAccount
    debiased: dict
    difference: dict | None
    p_value: float | None
    worse: bool

    @property
    def verdict(self) -> str:
        """The set next to the best one, in words."""
        if self.difference is None:
            return "best"
        return "worse than the best" if self.worse else "no difference from the best detectable"


@dataclasses.dataclass
class GeneratorRanking:
    """What `compare_generators` found; `to_dict` gives the fields of the JSON file.

    Attributes:
      generated: a `RankedGenerator` for each generated set, in the order given.
      real: account of the real images.
      confidence: confidence level of the intervals.
      comparisons: number of pairs of sets, which p-values and differences are corrected for.
      extractor, fingerprint, preprocessing, dims, versions, warnings: as for `FIDResult`.
      images: the real set and each generated one, without features, for samples; not in the JSON.
    """

    generated: list[RankedGenerator]
    real: ImageAccount
    confidence: float
    comparisons: int
    extractor: str | None
    fingerprint: str | None
    preprocessing: dict | None
    dims: int
    versions: dict
    warnings: list[str]
    images: list[FeatureSet] = dataclasses.field(repr=False)

    @property
    def accounts(self) -> list[tuple[str, ImageAccount]]:
        """Name and account of each set, real first, then in the order given."""
        return [("real", self.real), *((row.name, row.account) for row in self.generated)]

    @property
    def ranked(self) -> list[RankedGenerator]:
        """The generated sets, the best one first."""
        return sorted(self.generated, key=lambda row: row.rank)

    @property
    def best(self) -> str:
        """Name of the set with the smallest debiased FID."""
        return self.ranked[0].name

    def to_dict(self) -> dict:
        """The fields of the JSON file, as JSON types."""
        fields = dataclasses.asdict(dataclasses.replace(self, images=[]))
        del fields["images"]
        return {"best": self.best, **fields}

    def summary(self) -> list[str]:
        """Returns the lines printed above the FIDs."""
        lines = [f"{name}: {account.describe()}" for name, account in self.accounts]
        if self.fingerprint:
            size = f"{self.preprocessing['height']} x {self.preprocessing['width']}"
            lines.append(
                f"extractor: {self.extractor} ({self.fingerprint[:12]}), {size}, "
                f"{self.preprocessing['resize']}, {self.preprocessing['aspect']}"
            )
        return [*lines, *_columns(self.table()), *self.notes(), self.verdict(), self.advice()]

    def table(self) -> list[tuple[str, ...]]:
        """Returns the header and the rows of the printed table, the best set first."""
        return [_HEADER, *(_cells(row) for row in self.ranked)]

    def notes(self) -> Iterator[str]:
        """Yields what the columns of the table mean."""
        yield (
            f"interval: {self.confidence:.0%}. p: chance of so large a difference from the best "
            "set if both are equally far from the real images. p and the intervals of differences "
            f"are corrected for {self.comparisons} pair{'s' * (self.comparisons > 1)} of sets, "
            "because the same images chose the best set."
        )
        used = [(row.debiased["generated_count"], row.account.count) for row in self.generated]
        used.append((self.generated[0].debiased["real_count"], self.real.count))
        if any(drawn < count for drawn, count in used):
            yield (
                f"debiased FIDs are of at most {max(drawn for drawn, _ in used)} images per set, "
                "drawn at random; FIDs are of all images."
            )

    def verdict(self) -> str:
        """Says which set is the best, and which are not shown to be worse."""
        best, *others = self.ranked
        worse = ", ".join(row.name for row in others if row.worse)
        level = ", ".join(row.name for row in others if not row.worse)
        parts = [f"smallest debiased FID: {best.name}"]
        if level:
            parts.append(f"no difference from it detectable: {level}")
        if worse:
            parts.append(f"worse (p <= {1 - self.confidence:.3g}): {worse}")
        return "; ".join(parts)

    def advice(self) -> str:
        """Says how to report the best set."""
        return (
            f"{self.best} was chosen as the smallest of {len(self.generated)}, so its debiased FID "
            "is biased low: to report it, compare new images of this set."
        )

    def to_report(self) -> str:
        """Returns what a paper needs besides the table."""
        origin = describe_origin(self.extractor, self.fingerprint, self.dims)
        counts = sorted({row.account.count for row in self.generated})
        each = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
        return (
            f"debiased FIDs of {each} generated images per set and {self.real.count} real images; "
            f"{origin}"
        )

    def draw(self, folder) -> list[str]:
        """Draws the debiased FIDs with their intervals.

        Args:
          folder: where the PNG files go; made where it is missing.

        Returns:
          The files written: `ranking.png`, the best set first, and, for the checkpoints of one run
          (see `is_run`), `curve.png` with the sets in the order given.
        """
        from fid_med.evaluation.ranking_plot import plot_curve, plot_ranking

        os.makedirs(folder, exist_ok=True)
        plots = {"ranking.png": plot_ranking}
        if is_run([row.name for row in self.generated]):
            plots["curve.png"] = plot_curve
        paths = [os.path.join(folder, name) for name in plots]
        for path, plot in zip(paths, plots.values(), strict=True):
            plot(self, path)
        return paths


def is_run(names: Sequence[str]) -> bool:
    """Whether names are those of checkpoints in order: equal but for one number that increases."""
    parts = [re.split("([0-9]+)", name) for name in names]
    if len({len(x) for x in parts}) > 1:
        return False
    changing = [column for column in zip(*parts, strict=True) if len(set(column)) > 1]
    if len(changing) != 1 or not all(x.isdecimal() for x in changing[0]):
        return False
    numbers = [int(x) for x in changing[0]]
    return numbers == sorted(set(numbers))


def _cells(row: RankedGenerator) -> tuple[str, ...]:
    cells = (str(row.rank), row.name, f"{row.debiased['value']:.4g}", _interval(row.debiased))
    if row.difference is None:
        return (*cells, row.verdict, "", "")
    p = f"{row.p_value:.2g}" if row.p_value >= _SMALLEST_P else f"< {_SMALLEST_P:.4f}"
    return (*cells, f"{row.difference['value']:.4g}", _interval(row.difference), p)


def _interval(fields) -> str:
    return f"{fields['low']:.4g} to {fields['high']:.4g}"


def _columns(rows) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
