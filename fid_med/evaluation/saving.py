"""Statistics of the real images alone, saved for later comparisons."""

from __future__ import annotations

from fid_med.errors import DataError
from fid_med.evaluation.extraction import ExtractionOptions, FeatureSet
from fid_med.evaluation.inputs import ComparisonInputs, Role, Side
from fid_med.extractors.registry import ExtractorSpec


def save_real_statistics(
    path,
    real,
    spec: ExtractorSpec,
    options: ExtractionOptions,
    *,
    patient_regex: str | None = None,
    features: bool = False,
    all_depths: bool = False,
) -> FeatureSet:
    """Computes the statistics of real images and writes them to one file.

    Args:
      path: the `.npz` file to write.
      real: images, as for `compute_fid`.
      spec: the extractor.
      options: see `ExtractionOptions`.
      patient_regex: as for `compute_fid`; the file holds numbers in place of patients.
      features: also save the features of single images, which the debiased FID needs.
      all_depths: save the features of every depth of the extractor.

    Returns:
      What was saved, with the account of the images and with warnings.

    Raises:
      FidMedError: as `compute_fid`, or statistics in place of images.
    """
    inputs = ComparisonInputs([Side(Role.REAL, real, patient_regex)], options.multi_frame)
    if not inputs.sources:
        raise DataError(
            f"{real}: holds statistics already; give a folder of images", wrong_flag=True
        )
    extractor = spec.load()
    inputs.extract(Role.REAL, extractor, options, features, all_depths=all_depths)
    found = inputs.sets[Role.REAL]
    found.warnings = [*extractor.warnings, *found.warnings]
    found.save(path)
    return found
