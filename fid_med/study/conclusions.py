"""From repeated FIDs to judgements, by the rules of `judgement`."""

from collections.abc import Mapping, Sequence

import numpy as np

from fid_med.study import judgement, repeats
from fid_med.study.images import Halves


def concluded(
    fids: Mapping[str, Mapping[str, np.ndarray]], more: Mapping[str, Mapping[str, dict]]
) -> dict[str, dict]:
    """What the FIDs [R, L] of each extractor and disturbance say, by the rules of `judgement`.

    Args:
      fids: by extractor, then by disturbance.
      more: fields to stand beside each judgement, likewise.

    Returns:
      For each extractor its judgements, its verdict and, but for the first, its comparison with
      the first.
    """
    first = next(iter(fids))
    found = {}
    for name, of_name in fids.items():
        judged = {
            one: {**judgement.judge(x).to_dict(), **more[name][one], "fids": np.asarray(x).tolist()}
            for one, x in of_name.items()
        }
        verdicts = [x["verdict"] for x in judged.values()]
        found[name] = {"disturbances": judged, "verdict": judgement.overall(verdicts)}
        if name != first:
            found[name]["against_first"] = _compared(of_name, fids[first])
    return found


def _compared(fids, other) -> dict:
    each = {name: judgement.compare(fids[name], other[name]) for name in fids}
    return {
        "disturbances": {name: one.to_dict() for name, one in each.items()},
        "order": judgement.overall_comparison([one.order for one in each.values()]),
        "notices": judgement.overall_comparison([one.notices for one in each.values()]),
    }


def fewest(levels: repeats.Levels, halves: Sequence[Halves], count: int) -> dict:
    """With how few images a side, up to `count`, the levels are told apart.

    Returns:
      `counts` that were tried, `share_in_order` of the divisions at each, `fewest_to_separate`
      each level above 0 from level 0, `fewest_in_order` for all levels; None where none does.
    """
    counts = repeats.tested_counts(count)
    fids = [repeats.repeated_fids(levels, halves, number) for number in counts]
    separated = np.array([judgement.separated(x) for x in fids])
    in_order = [float(judgement.rising(x).mean()) for x in fids]
    return {
        "counts": counts,
        "share_in_order": in_order,
        "fewest_to_separate": [
            judgement.fewest_images(counts, column) for column in separated.T[1:]
        ],
        "fewest_in_order": judgement.fewest_images(
            counts, [share >= judgement.CONFIDENCE for share in in_order]
        ),
    }
