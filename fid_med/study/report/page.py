"""HTML page of a study."""

import string

from fid_med.disturbances.registry import DISTURBANCES
from fid_med.study.judgement import FALLS, IN_PART, NO, RISES, UNDECIDED, YES
from fid_med.study.report import wording as words
from fid_med.study.report.recommendation_wording import describe_recommendation
from fid_med.utils.html_page import embed_png, escape, make_page, make_table

_CLASSES = {
    YES: "good", RISES: "good", NO: "bad", FALLS: "bad", IN_PART: "mixed", UNDECIDED: "mixed",
}  # fmt: skip

_SHORT_ROLES = {"in-domain": "first set", "transfer": "--transfer folder"}

_GUIDE = (
    "Each real image was degraded step by step. The patients were divided at random into halves, "
    "many times, and the FID of the degraded half against the untouched other half was computed. "
    "If the FID follows image quality, it rises at every step. <b>rises</b>: it did so at every "
    "step in at least $confidence of the splits. <b>does not rise</b>: at some step, the FID of "
    "the more degraded images was equal or lower in at least $confidence of the splits. "
    "<b>undecided</b>: neither.",
    "Verdict over all disturbances: <b>yes</b> if the FID rises under all of them, <b>no</b> if it "
    "does not rise under half of them or more, <b>partly</b> if it does not rise under fewer than "
    "half, <b>undecided</b> otherwise.",
    "<b>64, 192, 768, 2048</b> are depths of the network by their number of features: first max "
    "pool, second max pool, before the auxiliary head, global average pool. Shallow depths show "
    "grain and sharpness, deep ones structure and meaning. 2048 is the depth of published FIDs. "
    "<b>multi-depth FID</b> is the mean over the depths of the FID divided by the total variance "
    "of the real features.",
    "<b>tau</b> (Kendall) is the agreement between level and FID: 1 if they have the same order, "
    "-1 if the order is reversed. <b>relative FID</b> (Woodland et al. 2024) is the FID divided by "
    "that of two undisturbed halves. <b>sensitivity</b> is the rise over the undisturbed FID in "
    "standard deviations of the undisturbed FID: 2 is barely detectable, 20 is obvious. It has no "
    "unit, so it can be compared between extractors. <b>fewest images</b> is the smallest tested "
    "number of images per side at which the level's FID exceeds the undisturbed one in at least "
    "$confidence of draws.",
    "<b>Which extractor?</b> An extractor at a depth is recommended if its FID has the verdict "
    "rises under more than half of the disturbances and does not rise under none. Of several, the "
    "one that rises under the most is taken; among equals, the one that detects the weakest level "
    "in the most splits: its FID is above $confidence of those of undisturbed halves. Extractors "
    "of random weights are left out. Numbers of images that would decide are rough extrapolations. "
    "Others are called worse only where a disturbance shows it. "
    "A recommendation holds for such images and disturbances; it does not say how well the FID "
    "agrees with human readers.",
    "Brackets contain 95 % intervals for the mean over sets of this size of similar patients. They "
    "cover the random choice of patients, but not another hospital.",
)

_HEAT_MAP = (
    "<b>Heat map.</b> An image, undisturbed and at the strongest level of $name, and next to each "
    "the same image coloured by where the FID at $dims features comes from. The FID is that of "
    "$count untouched images against $count others, in one split. The percentage below a coloured "
    "image is its share of the FID at the strongest level: the squared distance by which its "
    "features must move to match the untouched set. The colour divides this share among the places "
    "of the image (gradient of the FID times activations, as in Grad-CAM). Black: nothing. Yellow: "
    "most. A place as bright in the undisturbed image shows a difference between patients, and not "
    "the disturbance."
)


def render_page(
    record: dict,
    plots: dict[tuple[str, str | None], bytes],
    heat_maps: dict[tuple[str, str], bytes] | None = None,
) -> str:
    """Renders the page as HTML text.

    Args:
      record: the study's record.
      plots: PNG bytes by (set, disturbance), and of the verdicts by (set, None).
      heat_maps: PNG bytes by (set, disturbance), where there are heat maps.
    """
    confidence = f"{100 * record['settings']['confidence']:.0f} %"
    note = record["settings"]["note"]
    parts = [
        _render_recommendation(record),
        *_render_grids(record, plots),
        _render_verdicts(record),
        f'<p class="note">{escape(note)}</p>' if note else "",
        "<h2>Limits of these results</h2>",
        *(f"<p>{escape(line)}</p>" for line in words.list_caveats(record)),
        _render_overview(record),
        "<h2>How to read the numbers</h2>",
        *(f"<p>{string.Template(p).substitute(confidence=confidence)}</p>" for p in _GUIDE),
        *_render_disturbances(record, plots, heat_maps or {}),
        _render_counts(record),
        _render_quality(record),
        _render_transfer(record),
        _render_generated(record),
        _render_ratings(record),
        "<h2>Settings</h2>",
        _render_settings(record),
    ]
    return make_page(words.QUESTION, "\n".join(parts))


def _format_estimate(found) -> tuple[str, str]:
    value, low, high = (words.format_number(found[key]) for key in ("value", "low", "high"))
    return "n", f"{value} [{low}, {high}]"


def _format_number(value) -> tuple[str, str]:
    return "n", words.format_number(value)


def _format_verdict(verdict, extra="") -> tuple[str, str]:
    return _CLASSES[
        verdict
    ], f"{words.SIGNS.get(verdict, '')} {words.display_verdict(verdict)}{extra}".strip()


def _render_grids(record, plots):
    for role in record["sets"]:
        measures = words.list_measures(record)
        cells = "; ".join(
            f"{name}: {words.display_verdict(record['sets'][role]['extractors'][name]['verdict'])}"
            for name in measures
        )
        alt = f"Verdicts by disturbance and depth, {words.ROLES[role].lower()}. Over all: {cells}."
        if len(record["sets"]) > 1:
            yield f"<h4>{words.ROLES[role]}</h4>\n"
        yield embed_png(plots[role, None], alt)


def _render_verdicts(record):
    found, measures = record["sets"]["in-domain"]["extractors"], words.list_measures(record)
    boxes, kinds = {}, {}
    for name, verdict, text in words.describe_verdicts(record):
        extractor = measures[name]["extractor"]
        line = f"<p><b>{escape(name)}: {verdict}.</b> {escape(text)}</p>"
        boxes[extractor] = boxes.get(extractor, "") + line
        # The last is that of the multi-depth FID.
        kinds[extractor] = _CLASSES[found[name]["verdict"]]
    parts = [f'<div class="verdict {kinds[x]}">{lines}</div>\n' for x, lines in boxes.items()]
    lines = words.describe_comparisons(record) + words.describe_transfer(record)
    return "".join(parts) + "".join(f"<p>{escape(line)}</p>\n" for line in lines)


def _render_overview(record):
    parts = ["<h2>All verdicts</h2>"]
    for role, of_set in record["sets"].items():
        extractors = of_set["extractors"]
        rows = []
        for name in record["disturbances"]:
            row = [escape(words.display_name(name))]
            for found in extractors.values():
                judged = found["disturbances"][name]
                tau = words.format_number(judged["tau"]["value"])
                row.append(
                    _format_verdict(
                        judged["verdict"],
                        f", tau {tau}, {100 * judged['share_rising']:.0f} % rising",
                    )
                )
            rows.append(row)
        caption = words.ROLES[role] if len(record["sets"]) > 1 else ""
        parts.append(make_table(["disturbance", *map(escape, extractors)], rows, caption))
    return "".join(parts)


def _render_recommendation(record):
    first, *others = describe_recommendation(record) or [""]
    if not first:
        return ""
    answer = escape(first[0].upper() + first[1:])
    return (
        f'<div class="verdict"><p class="answer"><b>Which extractor? {answer}</b></p>'
        f"<p>{escape(' '.join(others))}</p></div>\n"
    )


def _render_disturbances(record, plots, heat_maps):
    yield "<h2>Each disturbance</h2>\n"
    for name, about in record["disturbances"].items():
        yield f"<h3>{escape(words.display_name(name))}</h3>\n"
        yield f"<p>{escape(about['description'])}</p>\n"
        for role, of_set in record["sets"].items():
            if len(record["sets"]) > 1:
                yield f"<h4>{words.ROLES[role]}</h4>\n"
            yield embed_png(plots[role, name], _describe_plot(record, role, name))
            if (role, name) in heat_maps:
                yield from _render_heat_map(heat_maps[role, name], name, of_set["heat_maps"])
            yield from _render_levels(record, role, name, about, of_set)


def _render_heat_map(png, name, about):
    caption = string.Template(_HEAT_MAP).substitute(
        name=words.display_name(name), dims=about["dims"], count=f"{about['images_a_side']:,}"
    )
    if DISTURBANCES[name].set_level:
        caption += " The image at the strongest level is one of the other domain."
    yield f'<p class="small">{caption}</p>\n'
    yield embed_png(
        png, f"Heat maps of an image, undisturbed and under {words.display_name(name)}."
    )


def _describe_plot(record, role, name):
    levels = ", ".join(f"{level:g}" for level in record["disturbances"][name]["levels"])
    curves = "; ".join(
        f"{extractor}: {', '.join(words.format_number(x['value']) for x in judged['relative'])}"
        for extractor, judged in (
            (extractor, found["disturbances"][name])
            for extractor, found in record["sets"][role]["extractors"].items()
        )
    )
    return (
        f"{words.display_name(name)}, {words.ROLES[role].lower()}: an example image at levels "
        f"{levels}, above curves of the relative FID. {curves}."
    )


def _render_levels(record, role, name, about, of_set):
    levels = about["levels"]
    quality = [of_set["quality"].get(f"{name}:{level:g}", {}) for level in levels]
    measures = [m for m in ("ssim", "ms_ssim", "psnr") if any(m in q for q in quality)]
    damage = [
        [
            f"{level:g}",
            *(_format_number(quality[k].get(measure)) for measure in measures),
            ("wide", escape(words.join_settings(about["absolute"][k]) if k else "untouched")),
        ]
        for k, level in enumerate(levels)
    ]
    height, width = about["image_shape"]
    header = [
        "level",
        *map(_format_measure, measures),
        f"settings for images of {width} x {height} pixels",
    ]
    yield make_table(header, damage, _make_caption(record, role, "Applied disturbance"))
    rows = []
    for extractor, found in of_set["extractors"].items():
        judged = found["disturbances"][name]
        for k, level in enumerate(levels):
            row = [escape(extractor), f"{level:g}"]
            row += [_format_estimate(judged[key][k]) for key in ("fid", "relative", "sensitivity")]
            row.append(("n", _format_count(judged["fewest_to_separate"][k - 1]) if k else "–"))
            rows.append(row)
    header = ["extractor", "level", "FID", "relative FID", "sensitivity", "fewest images"]
    yield make_table(
        header, rows, _make_caption(record, role, f"FID, {of_set['images_a_side']} images per side")
    )


def _make_caption(record, role, text):
    """Adds the name of the set of images to a caption if there are two sets."""
    return f"{text}: {words.ROLES[role].lower()}" if len(record["sets"]) > 1 else text


def _format_measure(name):
    return name.upper().replace("_", "-")


def _format_count(value):
    return "none" if value is None else str(value)


def _render_counts(record):
    parts = ["<h2>Fewest images that distinguish the levels</h2><p>Smallest tested number of "
             "images per side at which the FID rises at every step of a disturbance in at least "
             f"{100 * record['settings']['confidence']:.0f} % of draws. none: no tested number is "
             "sufficient.</p>"]  # fmt: skip
    for role, of_set in record["sets"].items():
        extractors = of_set["extractors"]
        rows = [
            [
                escape(words.display_name(name)),
                *(("n", _format_count(x["disturbances"][name]["fewest_in_order"]))
                  for x in extractors.values()),
            ]
            for name in record["disturbances"]
        ]  # fmt: skip
        some = next(iter(next(iter(extractors.values()))["disturbances"].values()))
        caption = _make_caption(
            record, role, f"Tested numbers: {', '.join(map(str, some['counts']))}"
        )
        parts.append(make_table(["disturbance", *map(escape, extractors)], rows, caption))
    return "".join(parts)


def _render_agreements(entries, label, caption=""):
    entries = list(entries)
    tested = any(x["p_value"] is not None for _, x in entries)
    rows = [
        [escape(name), *(_format_estimate(x[key]) for key in ("spearman", "kendall")),
         ("n", str(x["count"])), *[_format_number(x["p_value"])] * tested]
        for name, x in entries
    ]  # fmt: skip
    header = [label, "Spearman", "Kendall", "ranked items", *["p"] * tested]
    return make_table(header, rows, caption)


def _render_quality(record):
    parts = []
    for role, of_set in record["sets"].items():
        entries = [
            (f"{extractor}, {_format_measure(measure)}", agreed)
            for extractor, found in of_set["extractors"].items()
            for measure, agreed in found["quality"].items()
        ]
        if entries:
            caption = words.ROLES[role] if len(record["sets"]) > 1 else ""
            parts.append(_render_agreements(entries, "extractor, measure", caption))
    if not parts:
        return ""
    return (
        "<h2>Agreement with measured image quality</h2><p>Rank correlation, over all disturbances "
        "and levels, between the FID and the loss of quality relative to the untouched image. 1 is "
        "full agreement. These measures do not assess diagnostic quality.</p>" + "".join(parts)
    )


def _render_transfer(record):
    if "transfer" not in record["sets"]:
        return ""
    rows = []
    for name in record["disturbances"]:
        for extractor in words.list_measures(record):
            for role, of_set in record["sets"].items():
                judged = of_set["extractors"][extractor]["disturbances"][name]
                rows.append(
                    [
                        escape(words.display_name(name)), escape(extractor), _SHORT_ROLES[role],
                        _format_verdict(judged["verdict"]), _format_estimate(judged["tau"]),
                        *(_format_estimate(judged["sensitivity"][k]) for k in (1, -1)),
                    ]
                )  # fmt: skip
    header = ["disturbance", "extractor", "images", "verdict", "tau", "sensitivity, lowest level",
              "sensitivity, highest level"]  # fmt: skip
    return (
        "<h2>On the images of the --transfer folder</h2><p>The same study on images of a kind left "
        "out of training, next to the first set.</p>" + make_table(header, rows)
    )


def _render_generated(record):
    found = record["generated"]
    if not found:
        return ""
    rows = [
        [
            escape(name),
            ("n", str(number)),
            *(_format_estimate(x[k]) for x in found["fid"].values()),
        ]
        for k, (name, number) in enumerate(found["sets"].items())
    ]
    caption = f"FID against real images, {found['images_a_side']} per side"
    header = ["generated set", "images", *map(escape, found["fid"])]
    parts = ["<h2>Generated sets</h2>", make_table(header, rows, caption)]
    if found["between_extractors"]:
        entries = [(" and ".join(x["extractors"]), x) for x in found["between_extractors"]]
        parts.append("<p>Rank agreement of the extractors on these sets:</p>")
        parts.append(_render_agreements(entries, "extractors"))
    return "".join(parts)


def _render_ratings(record):
    generated = record["generated"] or {"with_ratings": None}
    parts = []
    for title, found in (
        ("Generated sets", generated["with_ratings"]),
        ("Disturbed images", record["ratings"]),
    ):
        if found:
            rows = [
                [escape(name), _format_number(value), ("n", str(found["numbers"][name]))]
                for name, value in found["ratings"].items()
            ]
            parts.append(f"<h3>{title}</h3>")
            parts.append(_render_agreements(found["agreement"].items(), "extractor"))
            parts.append(make_table(["rated set", "mean rating", "number of ratings"], rows))
    if not parts:
        return ""
    return (
        "<h2>Agreement with ratings by people</h2><p>Rank correlation: 1 if the FID is higher "
        "wherever people rate lower. p: two-sided permutation test of no association.</p>"
        + "".join(parts)
    )


def _render_settings(record):
    rows = [
        [
            escape(name), escape(x["file"]), ("any", f"<code>{escape(x['fingerprint'])}</code>"),
            escape(x["architecture"]),
            escape("{height} x {width}, {resize}, {aspect}".format(**x["preprocessing"])),
            escape(", ".join(x["labels"]) or "–"),
            escape("unknown" if x["training_images"] is None else x["training_images"]),
        ]
        for name, x in record["extractors"].items()
    ]  # fmt: skip
    extractors = make_table(
        ["extractor", "file", "fingerprint (sha256)", "architecture", "input", "labels",
         "training images"],
        rows,
    )  # fmt: skip
    settings = [
        [escape(name.replace("_", " ")), escape(", ".join(x) if isinstance(x, list) else x)]
        for name, x in record["settings"].items()
        if x not in (None, "", [])
    ]
    settings += [[f"version of {escape(k)}", escape(v)] for k, v in record["versions"].items() if v]
    sources = [
        [escape(words.display_name(name)), escape(x["unit"]), escape(x["source"])]
        for name, x in record["disturbances"].items()
    ]
    return (
        extractors
        + make_table(["setting", "value"], settings)
        + make_table(["disturbance", "unit of the level", "definition"], sources)
        + '<p class="small">All numbers: study.json and the CSV files next to this page.</p>'
    )
