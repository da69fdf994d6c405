"""Says in words what a FID shows, and which line to report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from fid_med.evaluation.account import SMALL_SAMPLE
from fid_med.version import __version__

# Metrics that a verdict is made of. They are computed where features are there anyway.
PARTS = ("debiased", "permutation", "baseline")
_UNUSUAL = 3  # standard deviations below the baseline


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether two sets differ, by the statistics that were computed.

    Attributes:
      text: the verdict in words.
      differ: whether a difference was shown, at a level of 1 - confidence; False where none was
        shown, which does not prove that there is none; None if it was not tested.
      test: `permutation`, or `interval` (that of the debiased FID), or None. The permutation test
        keeps its level exactly, but needs exchangeable images: where patients with several images
        are known on one side only, the interval decides, which resamples whole patients.
      to_report: the line for a paper.
    """

    text: str
    differ: bool | None
    test: str | None
    to_report: str

    def to_dict(self) -> dict:
        """Returns the fields as JSON types."""
        return dataclasses.asdict(self)


def judge(
    metrics: Mapping[str, dict | None],
    unavailable: Mapping[str, str],
    exchangeable: bool,
    origin: str,
    counts: Sequence[int | None],
) -> Verdict:
    """Words the verdict of one comparison.

    Args:
      metrics: fields of each metric, as in `FIDResult.metrics`; those of `PARTS` may be missing.
      unavailable: reasons of metrics that are None.
      exchangeable: whether images of both sets can be exchanged under equal distributions.
      origin: the extractor and its version, for the line to report.
      counts: number of real and of generated images, None where unknown.
    """
    fid = metrics["fid"]["value"]
    debiased, permutation, base = (metrics.get(name) for name in PARTS)
    text = _against_baseline(fid, base, unavailable, counts)
    if permutation and exchangeable:
        # The permutation test works with fewer images than the debiased FID needs.
        alpha = 1 - (debiased["confidence"] if debiased else 0.95)
        p, differ, test = permutation["p_value"], permutation["p_value"] <= alpha, "permutation"
        by = f"permutation p = {p:.2g}"
    elif debiased:
        differ, test = debiased["low"] > 0, "interval"
        by = f"{_interval_of(debiased)} {_where_zero_is(debiased)}"
    else:
        reason = next((unavailable[x] for x in PARTS if x in unavailable), None)
        untested = f" Not tested: {reason}." if reason and base else ""
        return Verdict(text + "." + untested, None, None, _report(fid, None, base, origin, counts))
    if differ:
        text += f", so the sets differ ({by})."
        text += _how_far(debiased, test)
    elif _is_unusually_low(fid, debiased, base):
        text += (
            ", lower than chance explains: look for copies of real images (--metrics=memorisation) "
            f"and for images that are in both sets. No difference is detectable ({by}), but the "
            "tests assume that the sets are independent."
        )
    else:
        text += f": no difference is detectable at this sample size ({by})."
        text += _what_is_not_excluded(debiased, base, test)
    return Verdict(text, differ, test, _report(fid, debiased, base, origin, counts))


def describe_origin(extractor: str | None, fingerprint: str | None, dims: int) -> str:
    """The extractor as a paper names it, and the version of fid_med."""
    named = f"extractor {extractor} ({fingerprint[:12]})" if fingerprint else "extractor unknown"
    return f"{named}, {dims} features, fid_med {__version__}"


def _against_baseline(fid, base, unavailable, counts):
    if base:
        mean, sd = base["mean"], base["sd"]
        times = f", {fid / mean:.3g} times that" if mean > 0 else ""
        return f"Real against real at these counts: {mean:.4g} +- {sd:.2g}. Yours: {fid:.4g}{times}"
    large = min((n for n in counts if n is not None), default=0) >= SMALL_SAMPLE
    if large and "baseline" not in unavailable:
        return (
            f"Yours: {fid:.4g}. For sets this large no baseline is computed by default; "
            "--metrics=baseline computes it"
        )
    reason = unavailable.get("baseline", "add baseline to --metrics")
    return f"No baseline ({reason}). Yours: {fid:.4g}"


def _how_far(debiased, test):
    if not debiased:
        return ""
    if test == "permutation" and debiased["low"] <= 0:
        return f" How far is not known: {_interval_of(debiased)} contains 0."
    size = f" Debiased FID: {debiased['value']:.4g}"
    return f"{size}." if test == "interval" else f"{size} ({_interval(debiased)})."


def _what_is_not_excluded(debiased, base, test):
    text = ""
    if test == "permutation" and debiased and debiased["low"] > 0:
        text += f" The two tests disagree: {_interval_of(debiased)} excludes 0. Add images."
    if base and base["detectable"] is not None:
        text += (
            f" The smallest detectable debiased FID is about {base['detectable']:.2g}; a smaller "
            "difference is not excluded."
        )
    return text


def _is_unusually_low(fid, debiased, base):
    if debiased and debiased["high"] < 0:
        return True
    return bool(base) and fid < base["mean"] - _UNUSUAL * base["sd"]


def _where_zero_is(debiased):
    if debiased["high"] < 0:
        return "is below 0"
    return "excludes 0" if debiased["low"] > 0 else "contains 0"


def _interval(debiased):
    return f"{debiased['confidence']:.0%} interval {debiased['low']:.3g} to {debiased['high']:.3g}"


def _interval_of(debiased):
    low, high = debiased["low"], debiased["high"]
    return (
        f"the {debiased['confidence']:.0%} interval of the debiased FID, {low:.3g} to {high:.3g},"
    )


def _report(fid, debiased, base, origin, counts):
    real, generated = ("unknown" if n is None else str(n) for n in counts)
    parts = [f"FID {fid:.4g}"]
    if debiased:
        parts.insert(0, f"debiased FID {debiased['value']:.3g} ({_interval(debiased)})")
    if base:
        parts.append(f"real against real {base['mean']:.3g} +- {base['sd']:.2g}")
    line = "; ".join([*parts, f"{real} real and {generated} generated images", origin])
    if _is_unusually_low(fid, debiased, base):
        return f"not before copies are excluded: {line}"
    return line
