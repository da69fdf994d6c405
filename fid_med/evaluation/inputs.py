"""The sides of a comparison before anything is computed: what they are, opened and checked."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fid_med.data.read_ahead import reading_ahead
from fid_med.data.sources import ImageSource, is_generator, open_source
from fid_med.errors import DataError, StatisticsError
from fid_med.evaluation.extraction import Extraction, SideResult
from fid_med.evaluation.metric_registry import FeatureSet
from fid_med.metrics.feature_files import load_features

if TYPE_CHECKING:
    from fid_med.extractors.extractor import FeatureExtractor


def is_statistics(side) -> bool:
    """Whether one side of a comparison is a file of statistics."""
    return isinstance(side, (str, os.PathLike)) and os.fspath(side).endswith(".npz")


def needs_extractor(sides: Sequence, metrics: Sequence[str] | None) -> bool:
    """Whether `compute_fid` loads a network for these sides, None where one is not given."""
    return "is" in (metrics or ()) or any(
        side is not None and not is_statistics(side) for side in sides
    )


def load_statistics(path, name: str) -> Extraction:
    """Reads a file of statistics as what `extract` returns, features and patients if it has them.

    Args:
      path: of the `.npz`.
      name: of the side: real, generated, training or other generated.

    Raises:
      StatisticsError: as for `load_features`.
      DataError: it is to stand for training images.
    """
    if name == "training":
        raise DataError(f"{path}: training images must be images, their statistics do not serve")
    statistics, features, groups = load_features(path)
    return Extraction(
        statistics, SideResult("statistics", statistics.count), [], features, groups=groups
    )


def check_features(done: Mapping[str, Extraction], wanted: Sequence[str]) -> None:
    """Raises StatisticsError where a side is bare and something needs features: `wanted`."""
    bare = [name for name, extraction in done.items() if extraction.features is None]
    if bare and wanted:
        raise StatisticsError(
            f"{', '.join(wanted)}: the {bare[0]} side is bare statistics, without the features of "
            "single images; give the images, or statistics saved with --save_features"
        )


def feature_set(extraction: Extraction, side, name: str, multi_frame: str) -> FeatureSet | None:
    """What metrics see of a side, with its images to be read again; None without features.

    Args:
      extraction: of the side.
      side, name, multi_frame: as for `open_source`.
    """
    if extraction.features is None:
        return None
    loaders = None
    if extraction.side.kind in ("folder", "array"):
        loaders = dict(open_source(side, name, multi_frame=multi_frame).loaders)
    return FeatureSet(
        extraction.features, extraction.names, extraction.digests, extraction.groups, loaders
    )


def open_sources(
    sides: Mapping[str, Any],
    done: Mapping[str, Extraction],
    num_generated: int | None,
    multi_frame: str,
) -> dict[str, ImageSource]:
    """Opens what holds images.

    Args:
      sides: what holds images, by the side's name.
      done: sides that are statistics.
      num_generated: images to ask a callable for; by default as many as there are real ones, or
        generated ones where the real side is the callable.
      multi_frame: as for `open_source`.

    Raises:
      DataError: as for `open_source`.
    """
    opened = {
        name: open_source(side, name, multi_frame=multi_frame)
        for name, side in sides.items()
        if not is_generator(side)
    }
    for name, side in sides.items():
        if is_generator(side):
            reference = "generated" if name == "real" else "real"
            opened[name] = open_source(
                side, name, num_generated or known_count(reference, done, opened)
            )
    return opened


def known_count(
    name: str, done: Mapping[str, Extraction], opened: Mapping[str, ImageSource]
) -> int | None:
    """Images of a side, where that is known before they are read."""
    if name in done:
        return done[name].side.count
    return opened[name].count if name in opened else None


def load_for(source: ImageSource | None, extractor, **options) -> FeatureExtractor:
    """Loads an extractor while the first images that it is for are being read.

    Args:
      source: the images; None where there are none, or where a cache may know them already.
      extractor: as for `compute_fid`; a loaded one is handed through.
      **options: of `load_extractor`.

    Raises:
      ExtractorError: as for `load_extractor`.
      DataError: preprocessing for a loaded extractor.
    """
    if not isinstance(extractor, (str, os.PathLike)):
        if any(value is not None for key, value in options.items() if key != "seed"):
            raise DataError("a loaded extractor carries its own preprocessing; load it with that")
        return extractor
    with reading_ahead(source) if source else contextlib.nullcontext():
        from fid_med.extractors.extractor import load_extractor

        return load_extractor(extractor, **options)
