"""The study's verdict in words that a radiologist follows; every word follows from the record."""

import math

from fid_med.disturbances.registry import settings_lines
from fid_med.study.judgement import (
    BETTER,
    FALLS,
    RISES,
    UNDECIDED,
    WORSE,
    YES,
)

QUESTION = "Does the FID rise as the radiographs get worse?"
ROLES = {"in-domain": "Real images", "transfer": "Real images of another kind"}
SIGNS = {RISES: "▲", FALLS: "▼", UNDECIDED: "?"}


def shown(name: str) -> str:
    """A disturbance's name for reading."""
    return name.replace("_", " ")


def listed(names) -> str:
    """Names as a reader reads them: a, b and c."""
    names = [shown(name) for name in names]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def number(value: float | None) -> str:
    """Three digits, or more where the number is large; a dash for None."""
    if value is None:
        return "–"
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.3g}"


def settings_text(settings: dict) -> str:
    """Absolute settings in one line: `sigma pixels 4.67`."""
    return ", ".join(settings_lines(settings))


def verdict_lines(record: dict) -> list[tuple[str, str, str]]:
    """For each extractor (its name, its verdict, the sentences), then the comparisons."""
    of_set = record["sets"]["in-domain"]["extractors"]
    lines = []
    for name, found in of_set.items():
        sentences = _sentences(found["disturbances"], found["verdict"], record)
        if record["extractors"][name]["random"]:
            sentences.append("Its weights are random: it stands for no trained network.")
        lines.append((name, found["verdict"], " ".join(sentences)))
    return lines


def _sentences(disturbances, verdict, record):
    total = len(disturbances)
    by = {v: [n for n, x in disturbances.items() if x["verdict"] == v] for v in SIGNS}
    rising = len(by[RISES])
    if verdict == YES:
        how = "the one disturbance" if total == 1 else f"all {total} disturbances"
        return [f"Its FID rises with every step of damage, under {how}."]
    some = f"{rising} of {total}" if rising else f"none of {total}"
    sentences = [f"Its FID rises with every step of damage under {some} disturbances."]
    if total == 1:
        sentences = []  # what follows says it all
    for name in by[FALLS]:
        sentences.append(_fall(name, disturbances[name], record["disturbances"][name]["levels"]))
    if by[UNDECIDED]:
        sentences.append(
            f"Under {listed(by[UNDECIDED])} these images show neither a rise at every step nor a "
            "fall."
        )
    return sentences


def _fall(name, judged, levels):
    step = min(range(len(judged["steps"])), key=judged["steps"].__getitem__)
    before, after = (number(judged["fid"][k]["value"]) for k in (step, step + 1))
    return (
        f"Under {shown(name)} it does not rise: {before} at level {levels[step]:g}, but {after} "
        f"at the worse level {levels[step + 1]:g}."
    )


def comparison_lines(record: dict) -> list[str]:
    """How each further extractor does beside the first."""
    of_set = record["sets"]["in-domain"]["extractors"]
    first = next(iter(of_set))
    lines = []
    for name, found in of_set.items():
        if "against_first" not in found:
            continue
        against = found["against_first"]
        lines.append(
            f"{name} beside {first}. Order of the levels: {_side(against, 'order')}. Notice of the "
            f"weakest damage: {_side(against, 'notices')}. "
            + _images_needed(found["disturbances"], of_set[first]["disturbances"])
        )
    return lines


def _side(against, what):
    each = against["disturbances"]
    parts = []
    for side in (BETTER, WORSE):
        names = [name for name, one in each.items() if one[what] == side]
        if names:
            parts.append(f"{side} under {len(names)} of {len(each)} ({listed(names)})")
    return ", ".join(parts) or against[what]


def _images_needed(found, other):
    needed = {
        name: [x["fewest_in_order"] or math.inf for x in (found[name], other[name])]
        for name in found
    }
    fewer = [name for name, (a, b) in needed.items() if a < b]
    more = [name for name, (a, b) in needed.items() if a > b]
    parts = [f"{word} under {len(x)} of {len(needed)} ({listed(x)})"
             for word, x in (("fewer", fewer), ("more", more)) if x]  # fmt: skip
    return f"Images needed to tell the levels apart: {', '.join(parts) or 'as many'}."


def transfer_lines(record: dict) -> list[str]:
    """What the second set of real images says, if there is one."""
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
            f"On the other kind of radiographs, {name}: {found['verdict']} ({counts[1]} of {total} "
            f"rise, mean tau {number(taus[1])}), against {at_home['verdict']} ({counts[0]} of "
            f"{total}, {number(taus[0])}) on its own kind."
        )
    return lines


def care_lines(record: dict) -> list[str]:
    """What a reader must know before repeating the verdict."""
    lines = []
    for role, of_set in record["sets"].items():
        who = (
            f"{of_set['patients']} patients"
            if of_set["patients"] is not None
            else "patients unknown, so one patient may stand on both sides"
        )
        account = of_set["account"]
        left_out = account["training"] + account["patients"]
        lines.append(
            f"{ROLES[role]}: {of_set['images']} ({who}), {of_set['images_a_side']} a side in each "
            f"of {record['settings']['repeats']} random divisions; {left_out} left out because "
            "an extractor was trained on them or on their patients' other images, "
            f"{account['repeated']} because they repeat another pixel for pixel."
        )
    lines.append(
        "The FID between undisturbed halves is the yardstick: it is above 0 because the sets are "
        "small. FIDs of different extractors have different units; compare their shapes, the "
        "multiples of the yardstick, and the verdicts, not the FIDs."
    )
    narrow = sorted(
        {
            f"{shown(disturbance)} ({name})"
            for of_set in record["sets"].values()
            for name, found in of_set["extractors"].items()
            for disturbance, x in found["disturbances"].items()
            for kept in x["carry_over"] or []
            if kept is not None and kept < -2 / of_set["images"] ** 0.5  # beyond chance
        }
    )
    if narrow:
        lines.append(
            "Intervals may be too narrow, since disturbed features oppose the undisturbed ones: "
            f"{', '.join(narrow)}."
        )
    untold = [
        name for name, e in record["extractors"].items() if e["training_images"] is None
        and not e["random"]
    ]  # fmt: skip
    if untold:
        lines.append(
            f"{', '.join(untold)}: no memory of its training images, so nobody can tell here "
            "whether it has seen these."
        )
    known = {e["fingerprint"] for e in record["extractors"].values()}
    for name, e in record["extractors"].items():
        parents = [p for p in e["lineage"] if p.get("labels") and p["fingerprint"] not in known]
        if parents:
            lines.append(
                f"{name} was trained from an extractor that had learnt "
                f"{', '.join(parents[0]['labels'])}; whether that one saw these images is not "
                "known here. With both among the extractors, its images are left out too."
            )
    return lines
