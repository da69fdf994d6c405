"""Rules that decide whether the FID follows image quality, and statistics on repeated FIDs.

Arrays in, numbers out. `fids` is float64 [R, L]. R is the number of repeats; each is a random
split of the patients into a reference half and a half to disturb. L is the number of levels,
the untouched one first. All levels and all extractors of a repeat share its split, so they are
compared within a repeat.

Intervals. The value is the mean over the repeats. It estimates the average FID of sets of this
many images of such patients. The ends are the 2.5 and 97.5 % quantiles of the repeats. Each repeat
assigns half of the patients to a side, so the spread is that of half-samples (delete-half
jackknife; Shao & Wu, "A General Theory for Jackknife Variance Estimation", Annals of Statistics 17,
1989). Where an image's disturbed features are independent of its undisturbed ones, that spread is
the error of the mean; where they are positively correlated, it is larger. In simulations, 95 %
intervals contain the truth in 87 to 97 % of studies in the first case and in 99 % or more in the
second. Two levels of equal FID are called rising in up to 6 % of studies, and not rising in up to
9 %. Where disturbed and undisturbed features are negatively correlated, the intervals are too
narrow; `feature_correlation` measures this. The intervals do not cover patients of another
hospital, and a single study of other patients falls outside them in more than 5 %.

Verdict for an extractor under one disturbance, with `CONFIDENCE` = 95 %:
  rises          each level's FID is above the one before in at least 95 % of the repeats
  does not rise  some level's FID is at or below the one before in at least 95 % of the repeats
  undecided      neither
Verdict for an extractor over all disturbances:
  yes            rises under every disturbance
  no             does not rise under half of the disturbances or more
  in part        does not rise under some disturbances, but fewer than half
  undecided      does not rise under none, and is undecided under some
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

CONFIDENCE = 0.95
RISES, FALLS, UNDECIDED = "rises", "does not rise", "undecided"
YES, NO, IN_PART = "yes", "no", "in part"
BETTER, WORSE, EQUAL = "better", "worse", "no difference shown"


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95 % interval; NaN or infinity where undefined."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict:
        """Returns the fields as JSON types; None for values that are not finite."""
        fields = dataclasses.asdict(self)
        return {name: x if math.isfinite(x) else None for name, x in fields.items()}


def estimate(
    repeats: np.ndarray, value: float | None = None, confidence: float = CONFIDENCE
) -> Estimate:
    """Returns the mean (or `value`) and the interval, by default of 95 %, of repeats [R]."""
    repeats = np.asarray(repeats, np.float64)
    tail = 100 * (1 - confidence) / 2
    with np.errstate(invalid="ignore"):
        low, high = np.percentile(repeats, [tail, 100 - tail])
        value = float(repeats.mean()) if value is None else float(value)
    return Estimate(value, float(low), float(high))


def kendall(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
    """Computes Kendall's tau-b (Kendall, "The Treatment of Ties", Biometrika 33, 1945).

    Args:
      x, y: [..., K] along `axis`, broadcast against each other.

    Returns:
      [...]; 0 where all values of x, or of y, are tied.
    """
    x, y = (np.moveaxis(np.asarray(a, np.float64), axis, -1) for a in (x, y))
    first, second = np.triu_indices(x.shape[-1], 1)
    # Compared, not subtracted: infinity (PSNR of equal images) is a rank like any other.
    of_x, of_y = (
        (a[..., second] > a[..., first]) * 1.0 - (a[..., second] < a[..., first]) for a in (x, y)
    )
    untied = np.sqrt((of_x**2).sum(-1) * (of_y**2).sum(-1))
    return (of_x * of_y).sum(-1) / np.where(untied > 0, untied, 1.0)


@dataclasses.dataclass(frozen=True)
class Judgement:
    """Behaviour of one extractor's FID under one disturbance.

    Attributes:
      verdict: `RISES`, `FALLS` or `UNDECIDED`, by the module's rules.
      share_rising: share of the repeats in which every step rises.
      steps: [L - 1], share of the repeats in which each step rises.
      tau: Kendall's tau between level and FID; the value is that of the mean FIDs.
      fid: FID of each level.
      relative: FID of each level divided by that of level 0 (Woodland et al., MICCAI 2024).
      sensitivity: rise of each level over level 0, in standard deviations of level 0's FID. The
        deviation is treated as known; at 200 repeats its error is a few per cent.
    """

    verdict: str
    share_rising: float
    steps: tuple[float, ...]
    tau: Estimate
    fid: tuple[Estimate, ...]
    relative: tuple[Estimate, ...]
    sensitivity: tuple[Estimate, ...]

    def to_dict(self) -> dict:
        """Returns the fields as JSON types."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name in ("fid", "relative", "sensitivity"):
            fields[name] = [x.to_dict() for x in fields[name]]
        return fields | {"steps": list(self.steps), "tau": self.tau.to_dict()}


def judge(fids: np.ndarray) -> Judgement:
    """Judges the FIDs [R, L] of one extractor under one disturbance; R >= 2, L >= 2."""
    fids = np.asarray(fids, np.float64)
    steps = (np.diff(fids, axis=1) > 0).mean(axis=0)
    share = _share_rising(fids)
    if share >= CONFIDENCE:
        verdict = RISES
    elif steps.min() <= 1 - CONFIDENCE + 1e-12:
        verdict = FALLS
    else:
        verdict = UNDECIDED
    means = fids.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = fids / fids[:, :1]
        of_means = means / means[0]
    return Judgement(
        verdict=verdict,
        share_rising=share,
        steps=tuple(map(float, steps)),
        tau=estimate(_tau(fids), value=float(_tau(means))),
        fid=tuple(estimate(x) for x in fids.T),
        relative=tuple(estimate(x, value) for x, value in zip(relative.T, of_means, strict=True)),
        sensitivity=tuple(estimate(x) for x in _sensitivity(fids).T),
    )


def _share_rising(fids):
    return float((np.diff(fids, axis=1) > 0).all(axis=1).mean())


def _tau(fids):
    return kendall(fids, np.arange(fids.shape[-1]))


def _sensitivity(fids):
    """Returns the rise over level 0 in standard deviations of level 0's FID, [R, L]."""
    spread = fids[:, 0].std(ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (fids - fids[:, :1]) / spread


def feature_correlation(untouched: np.ndarray, disturbed: np.ndarray) -> float | None:
    """Correlates features [N, d] before and after, along the difference of their means.

    Returns:
      -1..1. At 0 or above the intervals are wide enough; below 0 they are too narrow. None if
      the features do not vary along that direction.
    """
    direction = disturbed.mean(axis=0) - untouched.mean(axis=0)
    before, after = untouched @ direction, disturbed @ direction
    if not (before.std() > 0 and after.std() > 0):
        return None
    return float(np.corrcoef(before, after)[0, 1])


@dataclasses.dataclass(frozen=True)
class ExtractorComparison:
    """One extractor against another under one disturbance, repeat by repeat.

    Attributes:
      order: `BETTER`, `WORSE` or `EQUAL`: whether it orders the levels better. `EQUAL` if the
        interval of the difference in tau contains 0.
      detects_weakest: the same for the weakest level: whether its sensitivity is larger.
      tau_difference, sensitivity_difference: this extractor's value minus the other's.
    """

    order: str
    detects_weakest: str
    tau_difference: Estimate
    sensitivity_difference: Estimate

    def to_dict(self) -> dict:
        """Returns the fields as JSON types; `detects_weakest` has the key `notices`."""
        return {
            "order": self.order,
            "notices": self.detects_weakest,
            "tau_difference": self.tau_difference.to_dict(),
            "sensitivity_difference": self.sensitivity_difference.to_dict(),
        }


def compare(
    fids: np.ndarray, other: np.ndarray, confidence: float = CONFIDENCE
) -> ExtractorComparison:
    """Compares two extractors on the FIDs [R, L] of the same repeats and levels."""
    fids, other = np.asarray(fids, np.float64), np.asarray(other, np.float64)
    tau = estimate(_tau(fids) - _tau(other), confidence=confidence)
    sensitivity = _sensitivity(fids)[:, 1] - _sensitivity(other)[:, 1]
    weakest = estimate(sensitivity, confidence=confidence)
    return ExtractorComparison(_order(tau), _order(weakest), tau, weakest)


def _order(difference):
    if difference.low > 0:
        return BETTER
    return WORSE if difference.high < 0 else EQUAL


def judge_extractors(
    fids: Mapping[str, Mapping[str, np.ndarray]],
    more: Mapping[str, Mapping[str, dict]],
    references: Mapping[str, str],
) -> dict[str, dict]:
    """Judges every extractor (at every depth) under every disturbance, and compares them.

    Args:
      fids: [R, L] by name of extractor and depth, then by disturbance.
      more: further fields of each judgement, by the same names, then by disturbance.
      references: the name that a name is compared with, where it is compared.

    Returns:
      For each name its judgements, its verdict and, where it has a reference, its comparison with
      that.
    """
    found = {}
    for name, of_name in fids.items():
        judged = {
            one: {**judge(x).to_dict(), **more[name][one], "fids": np.asarray(x).tolist()}
            for one, x in of_name.items()
        }
        verdicts = [x["verdict"] for x in judged.values()]
        found[name] = {"disturbances": judged, "verdict": combine_verdicts(verdicts)}
        if name in references:
            reference = fids[references[name]]
            each = {one: compare(x, reference[one]) for one, x in of_name.items()}
            weakest = [one.detects_weakest for one in each.values()]
            found[name]["against_first"] = {
                "disturbances": {one: x.to_dict() for one, x in each.items()},
                "order": combine_comparisons([one.order for one in each.values()]),
                "notices": combine_comparisons(weakest),
            }
    return found


def combine_verdicts(verdicts: Sequence[str]) -> str:
    """Returns the verdict over all disturbances: `YES`, `NO`, `IN_PART` or `UNDECIDED`."""
    against = sum(verdict == FALLS for verdict in verdicts)
    if verdicts and all(verdict == RISES for verdict in verdicts):
        return YES
    if against and 2 * against >= len(verdicts):
        return NO
    return IN_PART if against else UNDECIDED


def combine_comparisons(results: Sequence[str]) -> str:
    """Returns `BETTER` if better at least once and never worse, and so on; "mixed" if both."""
    found = set(results) & {BETTER, WORSE}
    if len(found) == 2:
        return "mixed"
    return found.pop() if found else EQUAL


def judge_counts(counts: Sequence[int], fids: Sequence[np.ndarray]) -> dict:
    """Finds the smallest numbers of images per side that distinguish the levels.

    Args:
      counts: tested numbers of images per side, ascending.
      fids: [R, L] at each of them.

    Returns:
      `counts`; `share_in_order`, the share of the repeats at each count in which every step rises;
      `fewest_to_separate`, the smallest count for each level above 0 that separates it from level
      0; `fewest_in_order`, the smallest count at which the levels are in order. None where no
      tested count suffices.
    """
    separated = np.array([separate_levels(x) for x in fids])
    in_order = [_share_rising(x) for x in fids]
    passed = [share >= CONFIDENCE for share in in_order]
    return {
        "counts": list(counts),
        "share_in_order": in_order,
        "fewest_to_separate": [find_smallest_count(counts, x) for x in separated.T[1:]],
        "fewest_in_order": find_smallest_count(counts, passed),
    }


def find_smallest_count(counts: Sequence[int], passed: Sequence[bool]) -> int | None:
    """Returns the smallest count that passes together with all larger ones; None if none does."""
    smallest = None
    for count, good in sorted(zip(counts, passed, strict=True), reverse=True):
        if not good:
            break
        smallest = count
    return smallest


def separate_levels(fids: np.ndarray) -> np.ndarray:
    """Returns which levels of FIDs [R, L] are separated from level 0, bool [L].

    A level is separated if at least 95 % of its FIDs are above the 95 % quantile of level 0's. A
    test on a single FID then has a false negative rate and a false positive rate of 5 %.
    """
    threshold = np.quantile(fids[:, 0], CONFIDENCE)
    return (fids > threshold).mean(axis=0) >= CONFIDENCE
