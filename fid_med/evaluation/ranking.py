"""Compares several generated sets, such as the checkpoints of one run, with the same real images.

`compute_fid.py REAL GEN1 GEN2 ...` ends here. The real images are read once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fid_med.data.patients import patients_of
from fid_med.errors import DataError, SettingError
from fid_med.evaluation.account import (
    ImageAccount,
    repeated_image_warnings,
    shared_patient_warnings,
    small_sample_warnings,
)
from fid_med.evaluation.compute import as_spec, check_confidence, load_spec
from fid_med.evaluation.extraction import ExtractionOptions, FeatureSet
from fid_med.evaluation.inputs import ComparisonInputs, Role, Side
from fid_med.evaluation.ranking_result import GeneratorRanking, RankedGenerator
from fid_med.metrics.frechet import frechet_distance
from fid_med.metrics.ranking import MOST_IMAGES, RankedSet, draw_images, rank_sets
from fid_med.metrics.statistics import check_comparable
from fid_med.metrics.variance_decomposition import LEAST
from fid_med.utils.files import versions
from fid_med.utils.progress import warn


def compare_generators(
    real,
    generated: Mapping[str, Any],
    extractor="imagenet",
    *,
    confidence: float = 0.95,
    patient_regex: str | None = None,
    generated_patient_regex: str | None = None,
    num_generated: int | None = None,
    seed: int = 0,
    options: ExtractionOptions | None = None,
) -> GeneratorRanking:
    """Ranks generated sets by their debiased FID, and tests which are worse than the best one.

    The features of every set are computed once. `rank_sets` says how the sets are compared and
    what is corrected for. Debiased FIDs are computed at any number of images. Of sets that hold
    more than `MOST_IMAGES` images together, equal numbers are drawn for them at random; the plain
    FIDs are of all images. Memory is bounded thereby.

    Example:

    ```python
    import fid_med

    sets = {"epoch 10": "samples/epoch_10", "epoch 20": "samples/epoch_20"}
    ranking = fid_med.compare_generators("real_images", sets, "chest/extractor.keras")
    print(ranking.best, [row.debiased["value"] for row in ranking.generated])
    ```

    Args:
      real: the real images, or statistics saved with features, as for `compute_fid`.
      generated: two or more generated sets by name, as for `compute_fid`; for the checkpoints of
        one run, in their order. No image may be in two sets.
      extractor: a name, a path, an `ExtractorSpec` or a `FeatureExtractor`. It is not loaded where
        all sets are statistics.
      confidence, patient_regex, generated_patient_regex: as for `compute_fid`.
      num_generated: number of images to ask a callable for; by default as many as `real` has.
      seed: seed of the random splits.
      options: how features are computed, for example `ExtractionOptions(cache_dir="cache")`; by
        default `ExtractionOptions()`.

    Returns:
      A `GeneratorRanking`. Its warnings are printed to stderr as well.

    Raises:
      FidMedError: invalid arguments, fewer than 8 images (or patients) in a set, statistics without
        features or of another extractor; in one line, before any image is read where possible.
    """
    check_confidence(confidence)
    if len(generated) < 2:
        raise SettingError(
            f"generated sets: {len(generated)}, expected two or more; compute_fid compares one"
        )
    options = options or ExtractionOptions()
    spec = as_spec(extractor)
    first = _Set(Side(Role.REAL, real, patient_regex, num_generated), options.multi_frame)
    count = num_generated or first.count
    sets = [
        _Set(
            Side(Role.GENERATED, source, generated_patient_regex, count, name), options.multi_frame
        )
        for name, source in generated.items()
    ]
    return _compare([first, *sets], spec, options, confidence, seed)


class _Set:
    """One set: opened and checked, then its features extracted, then thinned out."""

    def __init__(self, side: Side, multi_frame: str):
        self.side = side
        self._inputs = ComparisonInputs([side], multi_frame)
        self._inputs.check_features(["ranking"])
        self._check_enough(self.count)
        names = self._inputs.names(side.role)
        if side.patient_regex and names is not None:
            self._check_enough(len(set(patients_of(names, side.patient_regex))), "patient")

    @property
    def count(self) -> int | None:
        """Number of images, where it is known before they are read."""
        return self._inputs.count(self.side.role)

    @property
    def holds_images(self) -> bool:
        """Whether an extractor is needed."""
        return bool(self._inputs.sources)

    @property
    def found(self) -> FeatureSet | None:
        """The features, or None before they are extracted."""
        return self._inputs.sets.get(self.side.role)

    def check_extractor(self, extractor) -> None:
        """Raises StatisticsError if the set is statistics of another extractor."""
        self._inputs.check_extractor(extractor)

    def extract(self, extractor, options) -> FeatureSet:
        """Returns the features of all images."""
        if self.holds_images:
            self._inputs.extract(self.side.role, extractor, options, keep_features=True)
            self._check_enough(self.found.account.count)  # some may have been left out
            if self.found.patients is not None:
                self._check_enough(len(set(self.found.patients)), "patient")
        return self.found

    def close(self) -> None:
        """Forgets the features."""
        self._inputs.sets.clear()
        self._inputs.sources.clear()

    def _check_enough(self, count, what="image"):
        if count is not None and count < LEAST:
            aside = "" if what == "image" else "; if each image is of another, give no regex"
            raise DataError(
                f"{self.side.label}: {count} {what}{'' if count == 1 else 's'}; a debiased FID "
                f"needs at least {LEAST} {what}s per set{aside}"
            )


def _compare(sets: Sequence[_Set], spec, options, confidence, seed) -> GeneratorRanking:
    known = [x.found.statistics for x in sets if x.found is not None]
    for statistics in known[1:]:
        check_comparable(known[0], statistics)
    extractor = None
    if any(x.holds_images for x in sets):
        extractor = load_spec(spec)
        for x in sets:
            x.check_extractor(extractor)
    # Only what ranking needs is kept of a set before the next one is read.
    most = MOST_IMAGES // len(sets)
    real = sets[0].extract(extractor, options)
    warnings = [*(extractor.warnings if extractor else ()), *real.warnings]
    kept = [_thinned(real, most)]
    accounts, fids, origin = [], [], real.statistics
    images = [_without_features(real)]
    for x in sets[1:]:
        found = x.extract(extractor, options)
        warnings += found.warnings
        warnings += check_comparable(real.statistics, found.statistics)
        warnings += [f"{x.side.name}: {line}" for line in shared_patient_warnings(real, found)]
        fids.append(frechet_distance(real.statistics, found.statistics))
        accounts.append(found.account)
        origin = origin if origin.fingerprint else found.statistics
        kept.append(_thinned(found, most))
        images.append(_without_features(found))
        x.close()
    features, patients = zip(*kept, strict=True)
    ranked = rank_sets(
        features[0],
        features[1:],
        real_patients=patients[0],
        generated_patients=patients[1:],
        confidence=confidence,
        seed=seed,
    )
    names = [x.side.name for x in sets[1:]]
    rows = [_row(*x) for x in zip(names, fids, accounts, ranked, strict=True)]
    warnings += small_sample_warnings([real.account, *accounts])
    for row in rows:
        warnings += repeated_image_warnings(row.debiased, row.name)
    warnings = list(dict.fromkeys(warnings))
    for line in warnings:
        warn(line)
    return GeneratorRanking(
        generated=rows,
        real=real.account,
        confidence=confidence,
        comparisons=len(rows) * (len(rows) - 1) // 2,
        extractor=origin.extractor,
        fingerprint=origin.fingerprint,
        preprocessing=origin.preprocessing,
        dims=origin.dim,
        versions=versions(),
        warnings=warnings,
        images=images,
    )


def _without_features(found: FeatureSet) -> FeatureSet:
    """What is needed to show some of the images."""
    return FeatureSet(
        found.statistics, found.account, names=found.names, source=found.source, label=found.label
    )


def _thinned(found: FeatureSet, most: int):
    """Features and patients (or None) of `most` images or fewer."""
    chosen = draw_images(found.features, found.patients, most)
    patients = None if found.patients is None else np.asarray(found.patients)[chosen]
    features = found.features[chosen]
    found.features, found.depths = None, {}
    return features, patients


def _row(name: str, fid: float, account: ImageAccount, ranked: RankedSet) -> RankedGenerator:
    difference = None
    if ranked.difference:
        difference = ranked.difference.to_dict()
        # The pair's own debiased FIDs are in its rows already.
        del difference["first"], difference["second"]
    return RankedGenerator(
        name, ranked.rank, fid, account, ranked.debiased.to_dict(), difference, ranked.p_value,
        ranked.worse,
    )  # fmt: skip
