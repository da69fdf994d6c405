"""Does a number follow image quality? Statistics on repeated FIDs, and the rules of the verdict.

Arrays in, numbers out. `fids` is float64 [R, L]: R repeats, each a random division of the patients
into a reference half and a half to disturb, and L levels, the untouched one first. All levels of
a repeat share its division, so levels and extractors compare within a repeat.

What an interval means: its middle, the mean over the repeats, estimates the FID that sets of this
many images of such patients give on average. Its ends are the 2.5 and 97.5 % quantiles of the
repeats. Each repeat puts half of the patients on a side, so their spread is that of half-samples
(the delete-half jackknife; Shao & Wu, "A General Theory for Jackknife Variance Estimation", Annals
of Statistics 17, 1989): the error of the mean where an image's disturbed features have nothing to
do with its undisturbed ones, and more where they keep to them. Simulated, 95 % intervals hold the
truth in 87 to 97 % of studies in the first case, in 99 % or more in the second, and two levels of
equal FID are called rising in up to 6 %, not rising in up to 9 %. Were disturbed features opposed
to the undisturbed ones, the intervals would be too narrow; `carry_over` tells. They say nothing of
patients of another hospital, and a single study of other patients falls outside them more often
than in 5 %.

The rules, with `CONFIDENCE` = 95 %:
  rises          each level's FID lies above the one before in at least 95 % of the repeats
  does not rise  a level's FID lies at or below the one before in at least 95 % of the repeats
  undecided      neither
and for an extractor over all disturbances:
  yes            rises under every disturbance
  no             does not rise under half of the disturbances or more
  in part        does not rise under some, fewer than half
  undecided      fails under none, and is undecided under some
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
RISES, FALLS, UNDECIDED = "rises", "does not rise", "undecided"
YES, NO, IN_PART = "yes", "no", "in part"
BETTER, WORSE, EQUAL = "better", "worse", "no difference shown"
_EXACT_PERMUTATIONS = 8  # up to 8! = 40,320 orders are all counted


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95 % interval; NaN or infinity where there is none."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict:
        """The fields as JSON types; None for what is not finite."""
        fields = dataclasses.asdict(self)
        return {name: x if math.isfinite(x) else None for name, x in fields.items()}


def estimate(repeats: np.ndarray, value: float | None = None) -> Estimate:
    """Mean (or `value`) and the 95 % interval of repeats [R]."""
    repeats = np.asarray(repeats, np.float64)
    tail = 100 * (1 - CONFIDENCE) / 2
    with np.errstate(invalid="ignore"):
        low, high = np.percentile(repeats, [tail, 100 - tail])
        middle = float(repeats.mean()) if value is None else float(value)
    return Estimate(middle, float(low), float(high))


def rising(fids: np.ndarray) -> np.ndarray:
    """Whether each level of a repeat lies above the one before: bool [R] of fids [R, L]."""
    return (np.diff(fids, axis=1) > 0).all(axis=1)


def kendall(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
    """Kendall's tau-b along an axis (Kendall, "The Treatment of Ties", Biometrika 33, 1945).

    Args:
      x, y: [..., K] along `axis`, broadcast against each other.

    Returns:
      [...]; 0 where one side is all ties, and so tells no order.
    """
    x, y = (np.moveaxis(np.asarray(a, np.float64), axis, -1) for a in (x, y))
    first, second = np.triu_indices(x.shape[-1], 1)
    # Compared, not subtracted: infinity (PSNR of equal images) is a rank like any other.
    of_x, of_y = (
        (a[..., second] > a[..., first]) * 1.0 - (a[..., second] < a[..., first]) for a in (x, y)
    )
    untied = np.sqrt((of_x**2).sum(-1) * (of_y**2).sum(-1))
    return (of_x * of_y).sum(-1) / np.where(untied > 0, untied, 1.0)


def spearman(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
    """Spearman's rank correlation along an axis, ties at their mean rank; 0 where all are tied."""
    x, y = (np.moveaxis(np.asarray(a, np.float64), axis, -1) for a in (x, y))
    x, y = (stats.rankdata(a, axis=-1) for a in (x, y))
    x, y = (a - a.mean(-1, keepdims=True) for a in (x, y))
    norm = np.sqrt((x**2).sum(-1) * (y**2).sum(-1))
    return (x * y).sum(-1) / np.where(norm > 0, norm, 1.0)


@dataclasses.dataclass(frozen=True)
class Judgement:
    """How the FID of one extractor behaves under one disturbance.

    Attributes:
      verdict: `RISES`, `FALLS` or `UNDECIDED`, by the module's rules.
      share_rising: share of the repeats in which every step rises.
      steps: [L - 1], share of the repeats in which each step rises.
      tau: Kendall's tau between level and FID; the value is that of the mean FIDs.
      fid: of each level.
      relative: FID over level 0's (Woodland et al., MICCAI 2024), of each level.
      sensitivity: rise over level 0 in standard deviations of level 0's FID, of each level. The
        deviation is taken as known: a few per cent at 200 repeats.
    """

    verdict: str
    share_rising: float
    steps: tuple[float, ...]
    tau: Estimate
    fid: tuple[Estimate, ...]
    relative: tuple[Estimate, ...]
    sensitivity: tuple[Estimate, ...]

    def to_dict(self) -> dict:
        """The fields as JSON types."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name in ("fid", "relative", "sensitivity"):
            fields[name] = [x.to_dict() for x in fields[name]]
        return fields | {"steps": list(self.steps), "tau": self.tau.to_dict()}


def judge(fids: np.ndarray) -> Judgement:
    """Judges the FIDs [R, L] of one extractor under one disturbance; R >= 2, L >= 2."""
    fids = np.asarray(fids, np.float64)
    steps = (np.diff(fids, axis=1) > 0).mean(axis=0)
    share = float(rising(fids).mean())
    if share >= CONFIDENCE:
        verdict = RISES
    elif steps.min() <= 1 - CONFIDENCE + 1e-12:
        verdict = FALLS
    else:
        verdict = UNDECIDED
    means = fids.mean(axis=0)
    sensitivity = sensitivities(fids)
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
        sensitivity=tuple(estimate(x) for x in sensitivity.T),
    )


def _tau(fids):
    return kendall(fids, np.arange(fids.shape[-1]))


def sensitivities(fids: np.ndarray) -> np.ndarray:
    """Rise over level 0 in standard deviations of level 0's FID: [R, L] of fids [R, L]."""
    spread = fids[:, 0].std(ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (fids - fids[:, :1]) / spread


def carry_over(untouched: np.ndarray, disturbed: np.ndarray) -> float | None:
    """Correlation of images' features [N, d] before and after, along the means' difference.

    At 0 or above the intervals are wide enough; below they are too narrow. None where nothing
    varies along it.
    """
    direction = disturbed.mean(axis=0) - untouched.mean(axis=0)
    before, after = untouched @ direction, disturbed @ direction
    if not (before.std() > 0 and after.std() > 0):
        return None
    return float(np.corrcoef(before, after)[0, 1])


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One extractor beside another under one disturbance, repeat by repeat.

    Attributes:
      order: `BETTER`, `WORSE` or `EQUAL`: does it bring the levels into their order better? By
        whether the interval of the difference in tau leaves 0 out.
      notices: the same for the weakest level: is its sensitivity larger?
      tau_difference, sensitivity_difference: this extractor's minus the other's.
    """

    order: str
    notices: str
    tau_difference: Estimate
    sensitivity_difference: Estimate

    def to_dict(self) -> dict:
        """The fields as JSON types."""
        return {
            "order": self.order,
            "notices": self.notices,
            "tau_difference": self.tau_difference.to_dict(),
            "sensitivity_difference": self.sensitivity_difference.to_dict(),
        }


def compare(fids: np.ndarray, other: np.ndarray) -> Comparison:
    """Compares two extractors on the FIDs [R, L] of the same repeats and levels."""
    fids, other = np.asarray(fids, np.float64), np.asarray(other, np.float64)
    tau = estimate(_tau(fids) - _tau(other))
    first = estimate(sensitivities(fids)[:, 1] - sensitivities(other)[:, 1])
    return Comparison(_side(tau), _side(first), tau, first)


def _side(difference):
    if difference.low > 0:
        return BETTER
    return WORSE if difference.high < 0 else EQUAL


def overall(verdicts: Sequence[str]) -> str:
    """One extractor's verdict over its disturbances: `YES`, `NO`, `IN_PART` or `UNDECIDED`."""
    against = sum(verdict == FALLS for verdict in verdicts)
    if verdicts and all(verdict == RISES for verdict in verdicts):
        return YES
    if against and 2 * against >= len(verdicts):
        return NO
    return IN_PART if against else UNDECIDED


def overall_comparison(sides: Sequence[str]) -> str:
    """Over the disturbances: `BETTER` where better at least once and never worse; or "mixed"."""
    found = set(sides) & {BETTER, WORSE}
    if len(found) == 2:
        return "mixed"
    return found.pop() if found else EQUAL


def fewest_images(counts: Sequence[int], passed: Sequence[bool]) -> int | None:
    """The smallest count from which on every larger tested count passes too; None if none does."""
    best = None
    for count, good in sorted(zip(counts, passed, strict=True), reverse=True):
        if not good:
            break
        best = count
    return best


def separated(fids: np.ndarray) -> np.ndarray:
    """Which levels are told from level 0, [L] bool of fids [R, L].

    A level is, where at least 95 % of its FIDs lie above the 95 % quantile of level 0's: somebody
    who sees one FID then misses the damage in 5 %, and cries wolf in 5 %.
    """
    threshold = np.quantile(fids[:, 0], CONFIDENCE)
    return (fids > threshold).mean(axis=0) >= CONFIDENCE


@dataclasses.dataclass(frozen=True)
class RankAgreement:
    """Whether two measures bring the same things into the same order.

    Attributes:
      count: things that were ranked.
      spearman, kendall: with intervals over the repeats, the things themselves fixed.
      p_value: two-sided, of Spearman's coefficient of the means by permutation; None with fewer
        than three things, where one measure does not vary, or where it was not asked for.
    """

    count: int
    spearman: Estimate
    kendall: Estimate
    p_value: float | None

    def to_dict(self) -> dict:
        """The fields as JSON types."""
        return {
            "count": self.count,
            "spearman": self.spearman.to_dict(),
            "kendall": self.kendall.to_dict(),
            "p_value": self.p_value,
        }


def rank_agreement(
    x: np.ndarray,
    y: np.ndarray,
    *,
    middle: np.ndarray | None = None,
    seed: int = 0,
    test: bool = True,
) -> RankAgreement:
    """Agreement of two measures of K things, over R repeats.

    Args:
      x, y: [R, K]; one measured once may be [1, K]. Infinity ranks above all.
      middle: [K], y itself where its repeats are draws about it; by default their mean.
      seed: of the permutations, where there are too many to count them all.
      test: whether to compute the p-value; it means something where the things are exchangeable,
        which levels of one disturbance are not.
    """
    x, y = np.atleast_2d(x), np.atleast_2d(y)
    means = [x.mean(axis=0), y.mean(axis=0) if middle is None else middle]
    return RankAgreement(
        count=x.shape[-1],
        spearman=estimate(np.atleast_1d(spearman(x, y)), float(spearman(*means))),
        kendall=estimate(np.atleast_1d(kendall(x, y)), float(kendall(*means))),
        p_value=permutation_p_value(*means, seed=seed) if test else None,
    )


def permutation_p_value(x, y, *, seed: int = 0, permutations: int = 9999) -> float | None:
    """Two-sided p-value of Spearman's correlation of x [K] and y [K] under random pairing.

    All K! pairings are counted for K <= 8; else `permutations` seeded ones, the observed one
    counted among them (Phipson & Smyth 2010), so that the value is never 0.
    """
    x, y = (stats.rankdata(np.asarray(a, np.float64)) for a in (x, y))
    if len(x) < 3 or not np.ptp(x) or not np.ptp(y):
        return None
    observed = abs(float(spearman(x, y))) - 1e-12
    if len(x) <= _EXACT_PERMUTATIONS:
        orders = np.array(list(itertools.permutations(range(len(x)))))
        return float((np.abs(spearman(x[orders], y)) >= observed).mean())
    rng = np.random.default_rng(seed)
    shuffled = rng.permuted(np.tile(x, (permutations, 1)), axis=1)
    extreme = int((np.abs(spearman(shuffled, y)) >= observed).sum())
    return (extreme + 1) / (permutations + 1)
