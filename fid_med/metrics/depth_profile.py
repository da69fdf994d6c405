"""Profile of FIDs over the depths of one extractor, and the multi-depth FID."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from fid_med.errors import StatisticsError
from fid_med.metrics.baseline import Baseline, baseline
from fid_med.metrics.debiased_fid import DebiasedFID, debiased_sum
from fid_med.metrics.frechet import frechet_components
from fid_med.metrics.statistics import FeatureStatistics


@dataclasses.dataclass(frozen=True)
class DepthFID:
    """The FID at one depth.

    Attributes:
      dims: number of features.
      fid: Fréchet distance; `mean_part` and `covariance_part` are its summands.
      trace: total variance of the real features, the trace of their covariance.
      normalised: `fid` / `trace`, without unit: comparable between depths and extractors.
      debiased: the debiased FID, in the unit of `fid`; None where it was not asked for.
      baseline: the FID of two sets of real images at the same counts; None where it was not asked
        for.
    """

    dims: int
    fid: float
    mean_part: float
    covariance_part: float
    trace: float
    normalised: float
    debiased: DebiasedFID | None = None
    baseline: Baseline | None = None


@dataclasses.dataclass(frozen=True)
class DepthProfile:
    """FIDs at several depths, and the number over them.

    Attributes:
      depths: the FID of each depth.
      value: the multi-depth FID, without unit.
      debiased: the debiased multi-depth FID; None where it was not asked for.
      baseline: the mean multi-depth FID of two sets of real images at the same counts; None where
        it was not asked for.
    """

    depths: tuple[DepthFID, ...]
    value: float
    debiased: DebiasedFID | None = None
    baseline: float | None = None

    def to_dict(self) -> dict:
        """Returns the fields as JSON types."""
        fields = dataclasses.asdict(self)
        return fields | {"depths": list(fields["depths"])}


def multi_depth_fid(fids: Sequence, traces: Sequence[float]):
    """Computes the multi-depth FID.

    Definition. With FID_k the Fréchet distance at depth k of K, and C_k the covariance of the real
    features there,

        multi-depth FID = 1/K sum of FID_k / Tr C_k.

    It is the squared Wasserstein distance of two Gaussians of the features of all depths together,
    each depth scaled to a total variance of 1/K, if correlations between depths are ignored. A set
    of images whose features are all at the mean of the real ones has the value 1: no variation at
    all. 0 means that mean and covariance agree at every depth.

    Limits. A difference that only one depth shows is divided by K. A difference that is large next
    to the variation of the real images, such as noise at a shallow depth, outweighs all others:
    read the depths themselves to see where two sets differ. Values of different extractors have
    one scale, but no common meaning. The plain form has the bias of small samples at every depth.

    Args:
      fids: FIDs of each depth: numbers, or arrays of one shape.
      traces: Tr C_k of each depth, above 0.

    Returns:
      A number, or an array of the shape of one of `fids`.

    Raises:
      StatisticsError: real features that do not vary at a depth.

    Example:

    ```python
    from fid_med.metrics.depth_profile import multi_depth_fid

    assert multi_depth_fid([2.0, 9.0], [1.0, 3.0]) == (2.0 + 3.0) / 2
    ```
    """
    if not all(trace > 0 for trace in traces):
        raise StatisticsError(
            "the real features do not vary at some depth: the multi-depth FID needs real images "
            "that differ"
        )
    return sum(fid / trace for fid, trace in zip(fids, traces, strict=True)) / len(traces)


def depth_profile(
    real: Mapping[int, FeatureStatistics], generated: Mapping[int, FeatureStatistics]
) -> DepthProfile:
    """Computes the FIDs at several depths and the multi-depth FID.

    Args:
      real, generated: statistics of the same images at each depth, by number of features.

    Returns:
      The profile, without debiased FIDs.

    Raises:
      StatisticsError: as `frechet_components` and `multi_depth_fid`.
    """
    depths = []
    for dims, of_real in real.items():
        found, trace = frechet_components(of_real, generated[dims]), of_real.trace
        normalised = multi_depth_fid([found.distance], [trace])
        depths.append(
            DepthFID(dims, found.distance, found.mean, found.covariance, trace, normalised)
        )
    value = multi_depth_fid([x.fid for x in depths], [x.trace for x in depths])
    return DepthProfile(tuple(depths), value)


def add_debiased(
    profile: DepthProfile, real: Mapping[int, object], generated: Mapping[int, object], **options
) -> DepthProfile:
    """Adds debiased FIDs to a profile.

    Args:
      profile: of these images.
      real, generated: features [N, d] and [M, d] of each depth, by d.
      options: keyword arguments of `debiased_sum`.

    Returns:
      The profile with the debiased FID of each depth, and the debiased multi-depth FID, all from
      the same random splits. The traces are treated as known.

    Raises:
      StatisticsError: as `debiased_fid`.
    """
    # The deepest first: its splits, and so its value, are those of `debiased_fid` alone.
    order = sorted(profile.depths, key=lambda x: -x.dims)
    each, of_sum = debiased_sum(
        [real[x.dims] for x in order],
        [generated[x.dims] for x in order],
        [1 / (len(order) * x.trace) for x in order],
        **options,
    )
    found = {x.dims: debiased for x, debiased in zip(order, each, strict=True)}
    depths = tuple(dataclasses.replace(x, debiased=found[x.dims]) for x in profile.depths)
    return dataclasses.replace(profile, depths=depths, debiased=of_sum)


def add_baseline(
    profile: DepthProfile, real: Mapping[int, object], counts: Sequence[int], patients, seed: int
) -> DepthProfile:
    """Adds the FIDs of two sets of real images to a profile.

    Args:
      profile: of these images.
      real: features [N, d] of each depth, by d.
      counts: images in both sets of the comparison.
      patients: a label per real image, [N], or None.
      seed: of the divisions.

    Returns:
      The profile with the baseline of each depth and of the multi-depth FID.

    Raises:
      StatisticsError: as `baseline`.
    """
    depths = tuple(
        dataclasses.replace(x, baseline=baseline(real[x.dims], *counts, patients, seed=seed))
        for x in profile.depths
    )
    value = multi_depth_fid([x.baseline.mean for x in depths], [x.trace for x in depths])
    return dataclasses.replace(profile, depths=depths, baseline=value)
