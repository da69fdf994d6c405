"""Verdict sentences and caveats of the report; other text is in `page.py`."""

import math

from fid_med.disturbances.registry import format_settings
from fid_med.extractors.registry import DEPTHS
from fid_med.study.judgement import BETTER, FALLS, IN_PART, RISES, UNDECIDED, WORSE, YES

QUESTION = "Does the FID rise as the radiographs get worse?"
ROLES = {"in-domain": "Real images", "transfer": "Real images of the --transfer folder"}
BAND = (
    "Curve: mean over the splits. Band: 95 % interval, from the 2.5 % to the 97.5 % quantile.\n"
    "Relative FID: divided by the FID of undisturbed halves."
)
SIGNS = {RISES: "▲", FALLS: "▼", UNDECIDED: "?"}


def display_name(name: str) -> str:
    """Returns a disturbance's name for a reader."""
    return name.replace("_", " ")


def display_verdict(verdict: str) -> str:
    """Returns a verdict of the record for a reader."""
    return "partly" if verdict == IN_PART else verdict


def join_names(names) -> str:
    """Joins names of disturbances for a reader: a, b and c."""
    return join_words([display_name(name) for name in names])


def join_words(words, last: str = "and") -> str:
    """Joins words for a reader, with `last` before the last one."""
    words = list(words)
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def format_number(value: float | None) -> str:
    """Formats with three digits, or without decimals from 100 on; a dash for None."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def count_disturbances(number: int, total: int) -> str:
    """Returns `2 of 3 disturbances`, or `all 3 disturbances`."""
    if number < total:
        return f"{number} of {total} disturbances"
    return {1: "the one disturbance", 2: "both disturbances"}.get(
        total, f"all {total} disturbances"
    )


def join_settings(settings: dict) -> str:
    """Joins absolute settings in one line: `sigma pixels 4.67`."""
    return ", ".join(format_settings(settings))


def describe_sides(record: dict, role: str) -> str:
    """Returns the number of images and of splits behind the FIDs of a set."""
    count = record["sets"][role]["images_a_side"]
    return f"{ROLES[role]}: {count:,} per side in each of {record['settings']['repeats']} splits"


def list_measures(record: dict) -> dict[str, dict]:
    """Returns the extractor and the number of features of each measure of a record, by its name.

    `dims` is None for the multi-depth FID. In a record of an earlier version each extractor is one
    measure, at the global average pool.
    """
    old = {name: {"extractor": name, "dims": max(DEPTHS)} for name in record["extractors"]}
    return record.get("measures", old)


def display_depth(dims: int | None) -> str:
    """Returns the name of a depth for a reader, with the number of its features."""
    return "multi-depth FID" if dims is None else f"{dims}, {DEPTHS[dims]}"


def describe_verdicts(record: dict) -> list[tuple[str, str, str]]:
    """Returns (name, verdict for a reader, sentences that explain it) for each measure."""
    extractors = record["sets"]["in-domain"]["extractors"]
    measures = list_measures(record)
    lines = []
    for name, found in extractors.items():
        sentences = _explain_verdict(found["disturbances"], found["verdict"], record)
        if record["extractors"][measures[name]["extractor"]]["random"]:
            sentences.append("Its weights are random, so this says nothing about trained networks.")
        lines.append((name, display_verdict(found["verdict"]), " ".join(sentences)))
    return lines


def _explain_verdict(disturbances, verdict, record):
    total = len(disturbances)
    by = {v: [n for n, x in disturbances.items() if x["verdict"] == v] for v in SIGNS}
    if verdict == YES:
        return [f"The FID rises at every step under {count_disturbances(total, total)}."]
    sentences = []
    if total > 1:  # for one disturbance the next sentence is enough
        rising = len(by[RISES])
        under = count_disturbances(rising, total)
        sentences.append(f"The FID rises at every step under {under}.")
    for name in by[FALLS]:
        sentences.append(
            _explain_fall(name, disturbances[name], record["disturbances"][name]["levels"])
        )
    if by[UNDECIDED]:
        sentences.append(
            f"Under {join_names(by[UNDECIDED])} the result is inconclusive: neither a consistent "
            "rise nor a fall."
        )
    return sentences


def _explain_fall(name, judged, levels):
    step = min(range(len(judged["steps"])), key=judged["steps"].__getitem__)
    before, after = (format_number(judged["relative"][k]["value"]) for k in (step, step + 1))
    return (
        f"Under {display_name(name)} it does not rise: the relative FID is {before} at level "
        f"{levels[step]:g}, but {after} at the stronger level {levels[step + 1]:g}."
    )


def describe_comparisons(record: dict) -> list[str]:
    """Compares each further extractor with the first at the same depth, one line each."""
    extractors, measures = record["sets"]["in-domain"]["extractors"], list_measures(record)
    lines = []
    for name, found in extractors.items():
        if "against_first" not in found:
            continue
        dims = measures[name]["dims"]
        first = next(other for other, x in measures.items() if x["dims"] == dims)
        against = found["against_first"]
        lines.append(
            f"{name} compared with {first}. Order of the levels: "
            f"{_describe_comparison(against, 'order')}. Detection of the weakest level: "
            f"{_describe_comparison(against, 'notices')}. "
            + _compare_counts(found["disturbances"], extractors[first]["disturbances"])
        )
    return lines


def _describe_comparison(against, key):
    each = against["disturbances"]
    parts = []
    for result in (BETTER, WORSE):
        names = [name for name, one in each.items() if one[key] == result]
        if names:
            parts.append(f"{result} under {len(names)} of {len(each)} ({join_names(names)})")
    return ", ".join(parts) or against[key]


def _compare_counts(found, other):
    needed = {
        name: [x["fewest_in_order"] or math.inf for x in (found[name], other[name])]
        for name in found
    }
    fewer = [name for name, (a, b) in needed.items() if a < b]
    more = [name for name, (a, b) in needed.items() if a > b]
    parts = [f"{word} under {len(x)} of {len(needed)} ({join_names(x)})"
             for word, x in (("fewer", fewer), ("more", more)) if x]  # fmt: skip
    return f"Images needed to distinguish the levels: {', '.join(parts) or 'equally many'}."


def describe_transfer(record: dict) -> list[str]:
    """Compares the results on both sets of real images, one line per extractor."""
    other = record["sets"].get("transfer")
    if not other:
        return []
    lines = []
    for name, found in other["extractors"].items():
        at_home = record["sets"]["in-domain"]["extractors"][name]
        counts = [
            sum(x["verdict"] == RISES for x in one["disturbances"].values())
            for one in (at_home, found)
        ]
        taus = [
            sum(x["tau"]["value"] for x in one["disturbances"].values()) / len(one["disturbances"])
            for one in (at_home, found)
        ]
        total = len(found["disturbances"])
        lines.append(
            f"{name} on the images of the --transfer folder: {display_verdict(found['verdict'])} "
            f"(rises under {counts[1]} of {total}, mean tau {format_number(taus[1])}). On the "
            f"first set: {display_verdict(at_home['verdict'])} ({counts[0]} of {total}, mean tau "
            f"{format_number(taus[0])})."
        )
    return lines


def list_caveats(record: dict) -> list[str]:
    """Returns what a reader must know before citing the verdict, one paragraph each."""
    return [
        *_describe_sets(record),
        *_describe_skipped(record),
        "FIDs between undisturbed halves are above 0 because the sets are small; they are the "
        "reference for all others. FIDs of different extractors and depths have different units. "
        "Compare the shapes of their curves, their relative FIDs and the verdicts, not the FIDs.",
        *_warn_of_narrow_intervals(record),
        *_warn_of_unknown_training_images(record),
    ]


def _describe_sets(record):
    for role, of_set in record["sets"].items():
        patients = (
            f"{of_set['patients']} patients"
            if of_set["patients"] is not None
            else "patients unknown, so images of one patient may be on both sides"
        )
        account = of_set["account"]
        left_out = account["training"] + account["patients"]
        yield (
            f"{ROLES[role]}: {of_set['images']} ({patients}), {of_set['images_a_side']} per side "
            f"in each of {record['settings']['repeats']} random splits. Left out: {left_out} "
            "because an extractor was trained on them or on other images of their patients, "
            f"{account['repeated']} because they are identical to another image."
        )


def _describe_skipped(record):
    for name in record.get("skipped", ()):
        yield (
            f"{display_name(name).capitalize()} was skipped, because no images of another domain "
            "were given (--contamination)."
        )


def _warn_of_narrow_intervals(record):
    narrow = sorted(
        {
            f"{display_name(disturbance)} ({name})"
            for of_set in record["sets"].values()
            for name, found in of_set["extractors"].items()
            for disturbance, x in found["disturbances"].items()
            for correlation in x["carry_over"] or []
            # Beyond two standard errors.
            if correlation is not None and correlation < -2 / of_set["images"] ** 0.5
        }
    )
    if narrow:
        yield (
            "Intervals may be too narrow, because disturbed and undisturbed features are "
            f"negatively correlated: {', '.join(narrow)}."
        )


def _warn_of_unknown_training_images(record):
    extractors = record["extractors"]
    unknown = [
        name for name, x in extractors.items() if x["training_images"] is None and not x["random"]
    ]
    if unknown:
        yield (
            f"{', '.join(unknown)}: the file does not record the training images, so it is unknown "
            "whether these images are among them."
        )
    known = {x["fingerprint"] for x in extractors.values()}
    for name, x in extractors.items():
        parents = [p for p in x["lineage"] if p.get("labels") and p["fingerprint"] not in known]
        if parents:
            yield (
                f"{name} was trained from an extractor trained on "
                f"{', '.join(parents[0]['labels'])}. Whether that one was trained on these images "
                "is unknown. Add it to --extractors to exclude its training images too."
            )
