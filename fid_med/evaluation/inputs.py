"""The sides of a comparison: what is given for each, opened and checked before any work."""

from __future__ import annotations

import dataclasses
import enum
import os
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fid_med.data.arrays import is_array_file
from fid_med.data.sources import ImageSource, is_generator, open_source
from fid_med.errors import DataError, SettingError, StatisticsError
from fid_med.evaluation.account import ImageAccount, few_patients_warnings
from fid_med.evaluation.extraction import (
    NOT_REPEATABLE,
    ExtractionOptions,
    FeatureSet,
    check_patient_regex,
    empty_statistics,
    extract,
)
from fid_med.evaluation.metric_registry import (
    METRICS,
    describe_missing_depths,
    describe_missing_features,
)
from fid_med.extractors.registry import DEPTHS
from fid_med.metrics.feature_files import SavedFeatures, load_features
from fid_med.metrics.statistics import check_comparable

if TYPE_CHECKING:
    from fid_med.extractors.extractor import FeatureExtractor


class Role(str, enum.Enum):
    """Role of a set in a comparison; the value is used in messages."""

    REAL = "real"
    GENERATED = "generated"
    TRAINING = "training"
    OTHER_GENERATED = "other generated"


@dataclasses.dataclass(frozen=True)
class Side:
    """One set of a comparison, as it was given.

    Attributes:
      role: what the set is.
      source: images as for `open_source`, or the path of an `.npz` of statistics.
      patient_regex: regular expression that finds the patient in a file's name, or None.
      count: number of images to ask a callable for; None for as many as the other side has.
      name: name of the set in messages, where the role alone does not identify it.
    """

    role: Role
    source: Any
    patient_regex: str | None = None
    count: int | None = None
    name: str = ""

    @property
    def label(self) -> str:
        """The set in messages."""
        return self.name or self.role.value


def set_name(source) -> str:
    """The last part of a set's path, without `.npz` or `.npy`; empty for sets without a path."""
    path = source.folder if isinstance(source, ImageSource) else source
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        return ""
    return re.sub(r"\.np[yz]$", "", os.path.basename(os.path.abspath(path)), flags=re.IGNORECASE)


def set_names(paths: Sequence[str]) -> dict[str, str]:
    """Maps the names of sets, as of `set_name`, to their paths.

    Raises:
      SettingError: two sets of one name.
    """
    named: dict[str, str] = {}
    for path in paths:
        name = set_name(path)
        if name in named:
            raise SettingError(
                f"two sets are named {name} ({named[name]}, {path}); the result names them by "
                "their last folder, so rename one, or link it under another name"
            )
        named[name] = path
    return named


def is_statistics(source) -> bool:
    """Whether a source is a file of statistics: an `.npz` that is no array of images."""
    if not isinstance(source, (str, os.PathLike)):
        return False
    return os.fspath(source).lower().endswith(".npz") and not is_array_file(source)


def check_figures(metrics, real, generated) -> None:
    """Checks before any work that figures can be drawn.

    Args:
      metrics: names of the metrics that were asked for, or None.
      real, generated: the sets that are compared.

    Raises:
      SettingError: no metric that was asked for has a figure.
      DataError: a side holds no images.
    """
    with_figure = [name for name, entry in METRICS.items() if entry.draw]
    wanted = [name for name in with_figure if name in (metrics or ())]
    if not wanted:
        raise SettingError(
            f"--figures draws the metrics {' and '.join(with_figure)}: name one of them in "
            "--metrics"
        )
    for name, side in (("real", real), ("generated", generated)):
        if is_statistics(side) and any(name in METRICS[x].drawn_sides for x in wanted):
            raise DataError(f"{name}: {NOT_REPEATABLE}")


class ComparisonInputs:
    """Opened inputs: statistics are loaded, image sources are ready to extract.

    Args:
      sides: one for each role, in the order of extraction.
      multi_frame: handling of DICOM files of several frames, as for `list_images`.

    Attributes:
      sets: `FeatureSet` of each role; those of images are added by `extract`.
      sources: `ImageSource` of each role that holds images.

    Raises:
      DataError: as for `open_source`, statistics in place of training images, fewer than two
        images, or a patient_regex that does not fit the file names.
      StatisticsError: as for `load_features`.
    """

    def __init__(self, sides: Sequence[Side], multi_frame: str = "refuse"):
        self._sides = {side.role: side for side in sides}
        self.sets = {x.role: _read_statistics(x) for x in sides if is_statistics(x.source)}
        self.sources: dict[Role, ImageSource] = {}
        images = [side for side in sides if side.role not in self.sets]
        # Callables last: how many images to ask for may depend on the other side.
        for side in sorted(images, key=lambda side: is_generator(side.source)):
            count = None
            if is_generator(side.source):
                count = side.count or self.count(
                    Role.GENERATED if side.role is Role.REAL else Role.REAL
                )
            source = open_source(side.source, side.label, count, multi_frame)
            check_patient_regex(source, side.patient_regex)
            if source.count is not None:
                ImageAccount(source.kind, source.count).check_enough(source.name)
            self.sources[side.role] = source
        self.sources = {role: self.sources[role] for role in self._sides if role in self.sources}

    def count(self, role: Role) -> int | None:
        """Number of images of a side, where it is known before they are read."""
        if role in self.sets:
            return self.sets[role].account.count
        return self.sources[role].count if role in self.sources else None

    def names(self, role: Role) -> Sequence[str] | None:
        """File names of a side, where it has any."""
        return (self.sets.get(role) or self.sources[role]).names

    def check_features(self, wanted: Iterable[str]) -> None:
        """Raises StatisticsError where `wanted` metrics need features and a side has none."""
        bare = [self._sides[k].label for k, found in self.sets.items() if found.features is None]
        if bare and (names := ", ".join(wanted)):
            raise StatisticsError(f"{names}: {describe_missing_features(bare[0])}")

    def check_depths(self, wanted: Iterable[str]) -> None:
        """Raises StatisticsError where `wanted` metrics need all depths and a side has one."""
        flat = [role.value for role, found in self.sets.items() if not found.depths]
        if flat and (names := ", ".join(wanted)):
            raise StatisticsError(f"{names}: {describe_missing_depths(flat[0])}")

    def check_extractor(self, extractor: FeatureExtractor) -> None:
        """Raises StatisticsError where statistics are of another extractor."""
        for found in self.sets.values():
            check_comparable(found.statistics, empty_statistics(extractor))

    def extract(
        self,
        role: Role,
        extractor: FeatureExtractor,
        options: ExtractionOptions,
        keep_features: bool | str,
        all_depths: bool = False,
    ) -> None:
        """Extracts the features of one side's images; raises as the function `extract` does."""
        side = self._sides[role]
        found = extract(
            self.sources[role],
            extractor,
            options,
            keep_features=keep_features,
            all_depths=all_depths,
            patient_regex=side.patient_regex,
            # A generator's training images are often the extractor's too.
            is_training_set=role is Role.TRAINING,
        )
        of_generated = role in (Role.GENERATED, Role.OTHER_GENERATED)
        flag = "generated_patient_regex" if of_generated else "patient_regex"
        found.warnings += few_patients_warnings(role.value, flag, found.patients)
        found.label = set_name(side.source)
        self.sets[role] = found


def statistics_account(saved: SavedFeatures) -> ImageAccount:
    """The account of what `load_features` has read."""
    statistics = saved.statistics
    return ImageAccount("statistics", statistics.count, distinct=statistics.distinct)


def _read_statistics(side: Side) -> FeatureSet:
    if side.role is Role.TRAINING:
        raise DataError(
            f"{side.source}: expected a folder of training images; statistics cannot replace them",
            wrong_flag=True,
        )
    saved = load_features(side.source, DEPTHS)
    account = statistics_account(saved)
    found = FeatureSet(
        saved.statistics, account, features=saved.features, patients=saved.patients,
        label=set_name(side.source),
    )  # fmt: skip
    if len(saved.depths) == len(DEPTHS):
        found.depths = found.at_depths(saved.depths)
    return found
