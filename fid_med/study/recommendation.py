"""The rule that recommends an extractor and depth from the FIDs of a study.

A FID is of use as a measure of quality if it never falls as images get worse, and if it notices
weak damage. `judgement` says which of this is shown. A measure is one extractor at one depth, or
its multi-depth FID.

1. A measure is suitable if no disturbance has the verdict "does not rise" and more than half of
   them have the verdict "rises". A shown fall excludes a measure whatever it does otherwise: with
   it, damaged images can look better than undamaged ones.
2. Of the suitable measures, those that rise under the most disturbances are best.
3. Among equals, the best is the one that detects the weakest level in the most splits, summed over
   the disturbances. A split detects it if its FID is above the 95 % quantile of the FIDs of
   undisturbed halves, so undisturbed images pass for disturbed ones in 5 % of the splits.

The recommendation is the best measure; several, if rule 3 finds them equal to the last split. It
says that the measure is suitable, and not that all others are worse. `not_worse` therefore lists
the other suitable measures but those that `judgement.compare` shows to be worse under some
disturbance, in the order of the levels or in the detection of the weakest one, and better under
none. The intervals of all these comparisons have a joint level of 95 % (Bonferroni).

Without a suitable measure, the result is undecided if some measure has no shown fall: more images
could make it suitable. If all fall somewhere, none can be recommended.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from scipy import stats

from fid_med.study.judgement import (
    BETTER,
    CONFIDENCE,
    FALLS,
    RISES,
    UNDECIDED,
    combine_comparisons,
    compare,
    judge,
)

USE, UNDECIDED_YET, NONE = "use", "undecided", "none"
# Beyond this multiple of the study's images, an extrapolated number says nothing.
_FARTHEST = 10
_POWER = 0.8


@dataclasses.dataclass(frozen=True)
class Candidate:
    """What one measure has shown.

    Attributes:
      rises, undecided, falls: disturbances by verdict.
      detection: share of the splits that detect the weakest level, mean over the disturbances.
      images_needed: for each undecided disturbance, `images_to_rise`.
    """

    rises: tuple[str, ...]
    undecided: tuple[str, ...]
    falls: tuple[str, ...]
    detection: float
    images_needed: dict[str, int | None]

    @property
    def suitable(self) -> bool:
        """Whether rule 1 holds."""
        return not self.falls and len(self.rises) >= self._majority

    @property
    def images_to_suit(self) -> int | None:
        """Number of images per side at which rule 1 would hold; None if it cannot be said."""
        if self.falls:
            return None
        missing = self._majority - len(self.rises)
        needed = sorted(math.inf if n is None else n for n in self.images_needed.values())
        found = needed[missing - 1] if missing > 0 else 0
        return None if math.isinf(found) else int(found)

    @property
    def _majority(self) -> int:
        return (len(self.rises) + len(self.undecided) + len(self.falls)) // 2 + 1

    def to_dict(self) -> dict:
        """Returns the fields as JSON types."""
        fields = dataclasses.asdict(self)
        return fields | {name: list(fields[name]) for name in ("rises", "undecided", "falls")}


def recommend(fids: Mapping[str, Mapping[str, np.ndarray]], count: int) -> dict:
    """Recommends a measure by the module's rules.

    Args:
      fids: [R, L] by measure, then by disturbance; the same splits and disturbances everywhere.
      count: number of images per side.

    Returns:
      JSON types: `outcome`, `USE`, `UNDECIDED_YET` or `NONE`; `best`, the recommended measures, or
      those that come closest; `not_worse`; `images_needed`, with `UNDECIDED_YET` the number per
      side at which the first of them would be suitable, None if it cannot be said; `candidates`,
      the fields of each `Candidate`. `NONE` with no best where there are no measures.
    """
    found = {name: _examine(of_name, count) for name, of_name in fids.items()}
    suitable = [name for name, x in found.items() if x.suitable]
    open_yet = {name: x.images_to_suit for name, x in found.items() if not x.falls}
    result = {"outcome": NONE, "best": [], "not_worse": [], "images_needed": None}
    if suitable:
        result["outcome"] = USE
        result["best"] = _pick_best({name: found[name] for name in suitable})
        result["not_worse"] = _find_rivals(fids, result["best"], suitable)
    elif open_yet:
        result["outcome"] = UNDECIDED_YET
        fewest = min((n for n in open_yet.values() if n is not None), default=None)
        result["best"] = _pick_best({name: found[name] for name, n in open_yet.items()
                                     if n == fewest})  # fmt: skip
        result["images_needed"] = fewest
    elif found:
        result["best"] = _pick_best(found)
    return result | {"candidates": {name: x.to_dict() for name, x in found.items()}}


def _examine(fids, count):
    verdicts = {name: judge(x).verdict for name, x in fids.items()}

    def those(verdict):
        return tuple(name for name, x in verdicts.items() if x == verdict)

    return Candidate(
        rises=those(RISES),
        undecided=those(UNDECIDED),
        falls=those(FALLS),
        detection=float(np.mean([_detect(x) for x in fids.values()])),
        images_needed={name: images_to_rise(fids[name], count) for name in those(UNDECIDED)},
    )


def _pick_best(candidates):
    def rank(x):
        return -len(x.falls), len(x.rises), x.detection

    highest = max(map(rank, candidates.values()))
    return [name for name, x in candidates.items() if rank(x) == highest]


def _find_rivals(fids, best, suitable):
    """Returns the suitable measures that are not shown to be worse than the best."""
    others = [name for name in suitable if name not in best]
    # Of each pair, two differences per disturbance are looked at (Bonferroni).
    confidence = 1 - (1 - CONFIDENCE) / (2 * len(fids[best[0]]) * max(len(others), 1))
    rivals = []
    for other in others:
        found = [compare(x, fids[other][name], confidence) for name, x in fids[best[0]].items()]
        results = [result for x in found for result in (x.order, x.detects_weakest)]
        if combine_comparisons(results) != BETTER:
            rivals.append(other)
    return rivals


def _detect(fids):
    """Returns which splits of FIDs [R, L] detect the weakest level, bool [R]."""
    return fids[:, 1] > np.quantile(fids[:, 0], CONFIDENCE)


def images_to_rise(fids: np.ndarray, count: int) -> int | None:
    """Estimates how many images per side give the verdict "rises" with a power of 80 %.

    The mean rise of each step is taken as the true one, and the deviations from it as proportional
    to 1 / sqrt(images), as for any smooth function of means. The spread of the splits is about the
    error of the mean rise, so the margin for the power is that of a normal distribution. The number
    is rough: in simulations of 20 images per side, studies of as many images as it says found the
    rise in 57, 96 and 100 % of the cases, where 20 images found it in 5, 10 and 60 %.

    Args:
      fids: [R, L] of one measure under one disturbance.
      count: their number of images per side.

    Returns:
      None if a step has no rise on average, or if more than ten times as many images are needed.
    """
    steps = np.diff(np.asarray(fids, np.float64), axis=1)
    means = steps.mean(axis=0)
    if not (means > 0).all():
        return None
    below = np.maximum(means - steps, 0)
    with np.errstate(divide="ignore"):
        # The largest factor on the deviations with which a split still rises at every step.
        factors = np.sort((means / below).min(axis=1))
    factor = factors[math.floor(len(factors) * (1 - CONFIDENCE) + 1e-9)]
    level, power = (stats.norm.ppf(x) for x in (CONFIDENCE, _POWER))
    needed = max(math.ceil(count * ((level + power) / level / factor) ** 2), 1)
    return needed if needed <= _FARTHEST * count else None
