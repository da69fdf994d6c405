"""Writes a study's report: every number as CSV and JSON, the plots, and one HTML page.

The report is made from the study's record and the example pictures only. It contains no name of an
image file and no path.
"""

import csv
import math
import pathlib

from fid_med.evaluation.image_plots import draw_heat_maps
from fid_med.study.report.page import render_page
from fid_med.study.report.plots import plot_contact_sheet, plot_disturbance, plot_verdicts
from fid_med.study.report.wording import (
    BAND,
    describe_sides,
    display_depth,
    display_name,
    join_settings,
    list_measures,
)
from fid_med.study.run import StudyResult
from fid_med.utils.files import atomic_path, write_json

_PAGE, _RECORD = "report.html", "study.json"


def write_report(result: StudyResult, output_dir) -> pathlib.Path:
    """Writes `study.json`, CSV tables, plots and `report.html`.

    Args:
      result: the study's result; a record of an earlier version is accepted.
      output_dir: folder to write to.

    Returns:
      Path of `report.html`.
    """
    output_dir, record = pathlib.Path(output_dir), result.record
    write_json(output_dir / _RECORD, record)
    for name, rows in make_tables(record).items():
        _write_csv(output_dir / f"{name}.csv", rows)
    plots, heat_maps = {}, {}
    for role in record["sets"]:
        plots[role, None] = output_dir / f"verdicts-{role}.png"
        _plot_verdicts(plots[role, None], record, role)
        for name in record["disturbances"]:
            plots[role, name] = output_dir / f"{role}-{name}.png"
            _plot(plots[role, name], record, role, name, result.pictures[role][name])
            drawn = result.heat_maps.get(role, {}).get(name)
            if drawn:
                heat_maps[role, name] = output_dir / f"heatmaps-{role}-{name}.png"
                _plot_heat_maps(heat_maps[role, name], record, role, name, drawn)
        plot_contact_sheet(
            output_dir / f"disturbances-{role}.png",
            record["disturbances"],
            result.pictures[role],
            record["settings"]["scale"],
        )
    text = render_page(record, *(_read_all(paths) for paths in (plots, heat_maps)))
    with atomic_path(output_dir / _PAGE) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    return output_dir / _PAGE


def _plot_verdicts(path, record, role):
    grids = {}
    for name, measure in list_measures(record).items():
        found = record["sets"][role]["extractors"][name]["disturbances"]
        depth = "multi-\ndepth" if measure["dims"] is None else str(measure["dims"])
        grids.setdefault(measure["extractor"], {})[depth] = {
            display_name(one): (x["verdict"], x["share_rising"]) for one, x in found.items()
        }
    plot_verdicts(path, grids, describe_sides(record, role))


def _plot(path, record, role, name, pictures):
    def points(relative):
        return [[math.nan if x is None else x for x in point.values()] for point in relative]

    curves = {}
    for measure, about in list_measures(record).items():
        found = record["sets"][role]["extractors"][measure]
        relative = points(found["disturbances"][name]["relative"])
        curves.setdefault(display_depth(about["dims"]), {})[about["extractor"]] = relative
    about = record["disturbances"][name]
    plot_disturbance(
        path,
        f"Relative FID under {display_name(name)}",
        about["levels"],
        about["unit"],
        pictures,
        curves,
        f"{describe_sides(record, role)}.\n{BAND}",
    )


def _plot_heat_maps(path, record, role, name, drawn):
    about = record["sets"][role]["heat_maps"]
    draw_heat_maps(
        {f"{extractor[:16]},": heated for extractor, heated in drawn.items()},
        path,
        title=f"Where the FID under {display_name(name)} comes from\n({about['dims']} features, "
        f"{about['images_a_side']} images per side)",
    )


def _read_all(paths):
    return {key: path.read_bytes() for key, path in paths.items()}


def make_tables(record: dict) -> dict[str, list[dict]]:
    """Returns every number of the record as rows of tables, by the name of the CSV file."""
    return {
        "levels": list(_level_rows(record)),
        "judgements": list(_judgement_rows(record)),
        "repeats": list(_repeat_rows(record)),
        "counts": list(_count_rows(record)),
        "agreement": list(_agreement_rows(record)),
        "generated": list(_generated_rows(record)),
    }


def _judged(record):
    for role, of_set in record["sets"].items():
        for extractor, found in of_set["extractors"].items():
            for name, judged in found["disturbances"].items():
                yield {"set": role, "extractor": extractor, "disturbance": name}, judged


def _level_rows(record):
    for keys, judged in _judged(record):
        about = record["disturbances"][keys["disturbance"]]
        of_set = record["sets"][keys["set"]]
        for k, level in enumerate(about["levels"]):
            quality = of_set["quality"].get(f"{keys['disturbance']}:{level:g}", {})
            fewest = judged["fewest_to_separate"][k - 1] if k else None
            yield {
                **keys,
                "level": level,
                "absolute": join_settings(about["absolute"][k]),
                "images_a_side": of_set["images_a_side"],
                **_columns("fid", judged["fid"][k]),
                **_columns("relative_fid", judged["relative"][k]),
                **_columns("sensitivity", judged["sensitivity"][k]),
                "fewest_images_to_separate": fewest,
                "carry_over": judged["carry_over"][k - 1] if k and judged["carry_over"] else None,
                **{name: quality.get(name) for name in ("ssim", "ms_ssim", "psnr")},
            }


def _judgement_rows(record):
    for keys, judged in _judged(record):
        found = record["sets"][keys["set"]]["extractors"][keys["extractor"]]
        against = found.get("against_first", {}).get("disturbances", {})
        against = against.get(keys["disturbance"], {})
        empty = {"value": None, "low": None, "high": None}
        yield {
            **keys,
            "verdict": judged["verdict"],
            "share_rising": judged["share_rising"],
            **{f"share_step_{k + 1}": share for k, share in enumerate(judged["steps"])},
            **_columns("tau", judged["tau"]),
            "fewest_images_in_order": judged["fewest_in_order"],
            "order_against_first": against.get("order"),
            **_columns("tau_difference", against.get("tau_difference", empty)),
            "notices_against_first": against.get("notices"),
            **_columns("sensitivity_difference", against.get("sensitivity_difference", empty)),
        }


def _repeat_rows(record):
    for keys, judged in _judged(record):
        for repeat, fids in enumerate(judged["fids"]):
            yield {**keys, "repeat": repeat} | {f"fid_{k}": fid for k, fid in enumerate(fids)}


def _count_rows(record):
    for keys, judged in _judged(record):
        for count, share in zip(judged["counts"], judged["share_in_order"], strict=True):
            yield {**keys, "images_a_side": count, "share_in_order": share}


def _agreement_rows(record):
    def row(what, extractor, other, found):
        return {
            "what": what,
            "extractor": extractor,
            "with": other,
            "count": found["count"],
            **_columns("spearman", found["spearman"]),
            **_columns("kendall", found["kendall"]),
            "p_value": found["p_value"],
        }

    for role, of_set in record["sets"].items():
        for extractor, found in of_set["extractors"].items():
            for measure, agreed in found["quality"].items():
                yield row(f"quality, {role}", extractor, measure, agreed)
    generated = record["generated"] or {"between_extractors": [], "with_ratings": None}
    for agreed in generated["between_extractors"]:
        yield row("generated sets", *agreed["extractors"], agreed)
    people = {"ratings of disturbed images": record["ratings"]}
    people["ratings of generated sets"] = generated["with_ratings"]
    for what, found in people.items():
        for extractor, agreed in (found or {"agreement": {}})["agreement"].items():
            yield row(what, extractor, "people", agreed)


def _generated_rows(record):
    generated = record["generated"] or {"fid": {}}
    for extractor, values in generated["fid"].items():
        for (name, images), fid in zip(generated["sets"].items(), values, strict=True):
            yield {
                "extractor": extractor,
                "generated_set": name,
                "images": images,
                "images_a_side": generated["images_a_side"],
                **_columns("fid", fid),
            }


def _columns(name, found):
    return {name: found["value"], f"{name}_low": found["low"], f"{name}_high": found["high"]}


def _write_csv(path, rows):
    """Writes a table; without rows, removes a file of an earlier run instead."""
    if not rows:
        path.unlink(missing_ok=True)
        return
    header = list(dict.fromkeys(key for row in rows for key in row))
    with (
        atomic_path(path) as temporary,
        open(temporary, "w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows(rows)
