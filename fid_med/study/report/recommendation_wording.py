"""Sentences of the report that say which extractor and depth to use."""

from fid_med.study.judgement import RISES
from fid_med.study.recommendation import NONE, UNDECIDED_YET
from fid_med.study.report.wording import (
    count_disturbances,
    display_name,
    join_names,
    join_words,
    list_measures,
)


def describe_recommendation(record: dict) -> list[str]:
    """Returns which extractor and depth to use, one sentence each; none for an old record."""
    found = record.get("recommendation")
    if found is None:
        return []
    if not found["candidates"]:
        return ["none: all extractors have random weights."]
    describe = {NONE: _describe_none, UNDECIDED_YET: _describe_undecided}
    return describe.get(found["outcome"], _describe_use)(found, record)


def _describe_use(found, record):
    best, count = found["best"], _count_images(record)
    some = found["candidates"][best[0]]
    names = (f"{name} ({_flag(name, record)})" for name in best)
    return [
        f"use {join_words(names, 'or')}.",
        f"{_its(best)} FID rises at every step under {_of(some['rises'], record)}, each in "
        f"{_splits(record)} with {count:,} images per side.",
        f"On average over the disturbances, {100 * some['detection']:.0f} % of the splits detect "
        "the weakest level.",
        *_describe_open([found["candidates"][name] for name in best], count),
        *_describe_rivals(found["not_worse"]),
        *_describe_transfer(best[0], record),
    ]


def _describe_undecided(found, record):
    best, count, needed = found["best"], _count_images(record), found["images_needed"]
    rising = len(found["candidates"][best[0]]["rises"])
    return [
        f"undecided: {_describe_needed(needed, count)}; this study has {count:,}.",
        "No FID rises at every step under more than half of the disturbances in "
        f"{_splits(record)}, without failing to rise under another.",
        f"Closest: {join_words(best, 'or')}, under {rising} of {len(record['disturbances'])}.",
    ]


def _describe_none(found, record):
    best = found["best"]
    some = found["candidates"][best[0]]
    closest = f"Closest: {join_words(best, 'or')}, rising under {_of(some['rises'], record)}"
    if len(best) == 1:
        closest += f", but not under {join_names(some['falls'])}"
    return [
        "use none of them as a measure of quality.",
        "Each FID has a disturbance under which it does not rise from one level to the next in "
        f"{_splits(record)} with {_count_images(record):,} images per side.",
        f"{closest}.",
    ]


def _describe_open(best, count):
    """One sentence for each disturbance that is undecided for all of the best."""
    for name in best[0]["undecided"]:
        if all(name in x["undecided"] for x in best):
            known = [x["images_needed"][name] for x in best if x["images_needed"][name]]
            needed = _describe_needed(min(known, default=None), count)
            yield f"Under {display_name(name)} the result is inconclusive: {needed}."


def _describe_needed(needed, count):
    if needed is None:
        return f"more than {10 * count:,} images per side may be needed"
    return f"about {_round(needed):,} images per side would decide, with 80 % power"


def _describe_rivals(names):
    if names:
        # Semicolons, because a name may have a comma.
        yield f"Not shown to be worse: {'; '.join(names)}."


def _describe_transfer(name, record):
    other = record["sets"].get("transfer")
    if other:
        judged = other["extractors"][name]["disturbances"]
        rising = [one for one, x in judged.items() if x["verdict"] == RISES]
        yield f"On the images of the --transfer folder it rises under {_of(rising, record)}."


def _count_images(record):
    return record["sets"]["in-domain"]["images_a_side"]


def _splits(record):
    settings = record["settings"]
    return f"at least {100 * settings['confidence']:.0f} % of {settings['repeats']} random splits"


def _of(rising, record):
    return count_disturbances(len(rising), len(record["disturbances"]))


def _its(best):
    return "Its" if len(best) == 1 else "Each"


def _flag(name, record):
    dims = list_measures(record)[name]["dims"]
    return "--metrics=depths" if dims is None else f"--dims={dims}"


def _round(number):
    """Rounds up to two digits: the number is an estimate."""
    unit = 10 ** max(len(str(number)) - 2, 0)
    return -(-number // unit) * unit
