"""The report: words that follow the numbers, a self-contained page, and every number."""

import csv
import html.parser
import json
import re
import struct

import numpy as np
import pytest

from fid_med.disturbances.registry import DISTURBANCES, absolute_settings
from fid_med.evaluation.image_plots import HeatedImage
from fid_med.study.agreement import measure_agreement
from fid_med.study.judgement import judge_extractors
from fid_med.study.recommendation import recommend
from fid_med.study.report import wording
from fid_med.study.report.page import render_page
from fid_med.study.report.write import make_tables, write_report
from fid_med.study.run import StudyResult

NAMES = ("gaussian_blur", "swirl", "salt_and_pepper")
UP, DOWN = (1, 2, 3, 4), (1, 5.6, 9.5, 8.7)


def fids(means, seed=0):
    return np.asarray(means, float) + 0.02 * np.random.default_rng(seed).normal(size=(40, 4))


def made(means, transfer=None, **settings):
    """A study's result whose mean FIDs are given: {extractor: one tuple for each of NAMES}."""

    def role(means):
        values = {
            extractor: {name: fids(m) for name, m in zip(NAMES, of, strict=True)}
            for extractor, of in means.items()
        }
        more = {
            "counts": [5, 10, 20],
            "share_in_order": [0.5, 0.96, 1.0],
            "fewest_to_separate": [20, 10, None],
            "carry_over": [0.9, -0.5, None],
        }
        needed = dict(zip(means, (10, 20, None), strict=False))
        more = {
            extractor: {name: {**more, "fewest_in_order": needed[extractor]} for name in NAMES}
            for extractor in means
        }
        first, *others = means
        found = judge_extractors(values, more, dict.fromkeys(others, first))
        agreed = measure_agreement(fids(UP), np.arange(4.0), test=False).to_dict()
        for extractor in found.values():
            extractor["quality"] = {"ssim": agreed}
        account = {"found": 50, "repeated": 1, "training": 6, "patients": 3, "not_drawn": 0}
        values_of_role.append(values)
        return {
            "images": 40,
            "patients": 20,
            "account": account,
            "shapes": [[64, 96, 40]],
            "images_a_side": 20,
            "extractors": found,
            "quality": {"swirl:1": {"ssim": 0.9, "psnr": 20.5}},
        }

    values_of_role = []
    sets = {"in-domain": role(means)} | ({"transfer": role(transfer)} if transfer else {})
    rated = {
        "ratings": {"a": 3.0, "b & c": 2.0, "d": 1.0},
        "numbers": {"a": 1, "b & c": 2, "d": 1},
        "agreement": {x: measure_agreement(fids(UP), np.arange(4.0)).to_dict() for x in means},
    }
    first = next(iter(means))
    estimate = {"value": 3.0, "low": 2.0, "high": None}
    record = {
        "settings": {
            "scale": "paper", "repeats": 40, "confidence": 0.95, "note": "", "num_images": None,
            "disturbances": list(NAMES), **settings,
        },
        "versions": {"fid_med": "1"},
        "extractors": {
            name: {
                "file": "extractor.keras", "fingerprint": "ab" * 32, "architecture": "inception_v3",
                "preprocessing": {"height": 299, "width": 299, "resize": "antialias",
                                  "aspect": "stretch"},
                "labels": ["<elbow>", "neck"], "lineage": [], "training_images": None,
                "random": name == "random",
            }
            for name in means
        },
        "disturbances": {
            name: {
                "description": DISTURBANCES[name].description,
                "unit": DISTURBANCES[name].unit,
                "source": DISTURBANCES[name].reference,
                "levels": list(DISTURBANCES[name].levels),
                "image_shape": [64, 96],
                "absolute": [absolute_settings(name, x, (64, 96))
                             for x in DISTURBANCES[name].levels],
            }
            for name in NAMES
        },
        "sets": sets,
        "generated": {
            "sets": {"a": 30, "b & c": 40},
            "images_a_side": 15,
            "fid": {name: [estimate, estimate] for name in means},
            "between_extractors": [
                {"extractors": [first, first], **measure_agreement(fids(UP), fids(UP)).to_dict()}
            ],
            "with_ratings": rated,
        },
        "ratings": None,
        "recommendation": recommend(values_of_role[0], 20),
    }  # fmt: skip
    picture = np.random.default_rng(0).integers(0, 256, (64, 96), np.uint8)
    return StudyResult(record, {role: {name: [picture] * 4 for name in NAMES} for role in sets})


class Page(html.parser.HTMLParser):
    """Checks that tags close in order, and gathers images, links and text."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.links, self.tags, self.text = [], [], [], set(), ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.add(tag)
        if tag == "img":
            self.images.append(attributes)
        self.links += [attributes[key] for key in ("src", "href") if key in attributes]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title"):
            self.text += data + " "


def page_of(result):
    keys = [(role, name) for role in result.record["sets"] for name in (None, *NAMES)]
    text = render_page(result.record, dict.fromkeys(keys, b"a plot"))
    return Page(text), text


@pytest.mark.parametrize(
    ("trained", "verdict", "first_words"),
    [
        ([UP, UP, UP], "yes", "rises at every step under all 3 disturbances"),
        ([DOWN, UP, UP], "partly", "under 2 of 3 disturbances"),
        ([DOWN, DOWN, UP], "no", "under 1 of 3 disturbances"),
        (
            [(1, 1, 2, 3), UP, UP],
            "undecided",
            "Under gaussian blur the result is inconclusive: neither a consistent rise nor a fall",
        ),
    ],
)
def test_the_first_lines_say_what_the_numbers_say(trained, verdict, first_words):
    result = made({"natural": [DOWN, UP, UP], "chest": trained})
    found, _ = page_of(result)
    start = re.sub(r"\s+", " ", found.text)[:1800]
    assert f"chest: {verdict}." in start
    assert "natural: partly." in start
    # In the unit of the plots, the FID over that at level 0.
    fall = r"not rise: the relative FID is 9\.\d+ at level 2, but 8\.\d+ at the stronger level 4"
    assert re.search(fall, start)
    assert first_words in start[start.index("chest:") :]


def test_the_page_begins_with_what_to_use():
    found, _ = page_of(made({"natural": [DOWN, UP, UP], "chest": [UP, UP, UP]}))
    start = re.sub(r"\s+", " ", found.text)
    assert start.index("Which extractor? Use chest (--dims=2048).") < start.index("natural: partly")
    found, _ = page_of(made({"natural": [DOWN, UP, UP], "chest": [DOWN, UP, UP]}))
    assert "Which extractor? Use none of them" in re.sub(r"\s+", " ", found.text)
    old = made({"natural": [UP, UP, UP]})
    del old.record["recommendation"]
    assert "Which extractor? Use" not in page_of(old)[0].text


def test_heat_maps_are_below_their_disturbance_with_what_they_show(tmp_path):
    result = made({"natural": [UP] * 3}, transfer={"natural": [UP] * 3})
    image = np.full((64, 96), 90, np.uint8)
    pair = [HeatedImage(x, image, np.ones((4, 6)) / 20, 0.05) for x in ("undisturbed", "level 4")]
    result.heat_maps["in-domain"] = {"swirl": {"natural": pair}}
    result.record["sets"]["in-domain"]["heat_maps"] = {"dims": 768, "images_a_side": 1200}
    found = Page(write_report(result, tmp_path).read_text(encoding="utf-8"))
    assert [x["alt"] for x in found.images if "Heat" in x["alt"]] == [
        "Heat maps of an image, undisturbed and under swirl."
    ]
    text = re.sub(r"\s+", " ", found.text)
    assert "strongest level of swirl" in text
    assert "the FID at 768 features comes from. The FID is that of 1,200 untouched" in text
    assert "the other domain" not in text
    assert (tmp_path / "heatmaps-in-domain-swirl.png").stat().st_size > 10_000


def test_the_comparison_can_turn_against_the_trained_extractor():
    ahead = wording.describe_comparisons(made({"a": [DOWN, UP, UP], "b": [UP, UP, UP]}).record)
    behind = wording.describe_comparisons(made({"a": [UP, UP, UP], "b": [DOWN, UP, UP]}).record)
    assert "Order of the levels: better under 1 of 3 (gaussian blur)." in ahead[0]
    assert "Order of the levels: worse under 1 of 3 (gaussian blur)." in behind[0]
    assert "more under 3 of 3" in ahead[0]
    same = wording.describe_comparisons(made({"a": [UP] * 3, "b": [UP] * 3}).record)
    assert "Order of the levels: no difference shown." in same[0]


def test_transfer_is_compared_with_the_first_set():
    result = made({"a": [UP] * 3}, transfer={"a": [UP, DOWN, DOWN]})
    found, _ = page_of(result)
    text = re.sub(r"\s+", " ", found.text)
    assert (
        "a on the images of the --transfer folder: no (rises under 1 of 3, mean tau 0.778). On the "
        "first set: yes (3 of 3, mean tau 1)." in text
    )
    assert "On the images of the --transfer folder" in text
    assert len(found.images) == 8


def test_the_page_is_self_contained_and_well_formed(tmp_path):
    result = made({"natural": [DOWN, UP, UP], "random": [UP] * 3})
    text = write_report(result, tmp_path).read_text(encoding="utf-8")
    found = Page(text)
    assert not found.tags & {"script", "link", "iframe", "object", "video"}
    assert "http" not in text
    assert "@import" not in text
    assert "url(" not in text
    assert all(link.startswith("data:image/png;base64,") for link in found.links)
    grid, *plots = found.images
    assert "natural: partly" in grid["alt"]
    for image, name in zip(plots, NAMES, strict=True):
        assert name.replace("_", " ") in image["alt"]
        assert "natural: 1" in image["alt"]
    assert "random" in found.text
    assert "weights are random" in found.text
    assert 'name="viewport"' in text
    assert "ab" * 32 in found.text
    assert len(text) < 3e6


def test_names_and_notes_are_text_not_markup():
    nasty = '<img src="http://x/y" onerror="alert(1)">'
    result = made({nasty: [UP] * 3, "b&b": [UP] * 3}, note="stand-in <b>weights</b> & more")
    found, text = page_of(result)
    assert nasty not in text
    assert all(image["src"].startswith("data:") for image in found.images)
    assert nasty in found.text
    assert "stand-in <b>weights</b> & more" in found.text
    assert "<elbow>" in found.text
    assert "b & c" in found.text


def test_caveats_name_what_was_left_out_and_what_is_doubtful():
    lines = " ".join(wording.list_caveats(made({"a": [UP] * 3}).record))
    assert "Left out: 9 because an extractor was trained on them" in lines
    assert "Intervals may be too narrow" in lines
    assert "a: the file does not record the training images" in lines
    assert "trained from an extractor" not in lines


def test_what_was_skipped_is_said():
    record = made({"a": [UP] * 3}).record
    assert "skipped" not in " ".join(wording.list_caveats(record))
    record["skipped"] = ["contamination"]
    lines = " ".join(wording.list_caveats(record))
    assert "Contamination was skipped, because no images of another domain" in lines


def test_settings_have_no_empty_rows_and_break_what_is_long():
    result = made({"a": [UP] * 3}, num_images=None, note="", patient_regex=None)
    result.record["versions"]["pydicom"] = None
    _, text = page_of(result)
    settings = text[text.index("<h2>Settings") :]
    assert "num images" not in settings
    assert "pydicom" not in settings
    assert "None" not in settings
    assert '<td class="any"><code>abab' in settings
    assert "nowrap; }" not in text[text.index("code {") : text.index("code {") + 40]


def test_a_parent_whose_images_were_not_left_out_is_reported():
    record = made({"a": [UP] * 3}).record
    parent = {"name": "extractor.keras", "fingerprint": "cd" * 32, "labels": ["hand", "knee"]}
    record["extractors"]["a"]["lineage"] = [{"fingerprint": "0", "labels": []}, parent]
    assert "an extractor trained on hand, knee." in " ".join(wording.list_caveats(record))
    record["extractors"]["b"] = record["extractors"]["a"] | {
        "lineage": [],
        "fingerprint": "cd" * 32,
    }
    assert "an extractor trained on" not in " ".join(wording.list_caveats(record))


def test_every_number_is_in_json_and_tables(tmp_path):
    result = made({"natural": [DOWN, UP, UP], "chest": [UP] * 3})
    write_report(result, tmp_path)
    assert json.loads((tmp_path / "study.json").read_text(encoding="utf-8")) == result.record
    with open(tmp_path / "levels.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3 * 4
    row = next(r for r in rows if (r["extractor"], r["disturbance"], r["level"])
               == ("natural", "gaussian_blur", "4.0"))  # fmt: skip
    judged = result.record["sets"]["in-domain"]["extractors"]["natural"]["disturbances"]
    assert float(row["fid"]) == judged["gaussian_blur"]["fid"][3]["value"]
    assert row["absolute"] == "sigma pixels 4"
    with open(tmp_path / "repeats.csv", newline="", encoding="utf-8") as file:
        repeats = list(csv.DictReader(file))
    assert len(repeats) == 2 * 3 * 40
    assert float(repeats[0]["fid_3"]) == judged["gaussian_blur"]["fids"][0][3]
    found = {name: len(rows) for name, rows in make_tables(result.record).items()}
    assert found == {
        "levels": 24, "judgements": 6, "repeats": 240, "counts": 18, "agreement": 5, "generated": 4
    }  # fmt: skip


def test_a_table_without_rows_is_no_file(tmp_path):
    result = made({"a": [UP] * 3})
    write_report(result, tmp_path)
    assert (tmp_path / "generated.csv").exists()
    result.record["generated"] = None
    write_report(result, tmp_path)
    assert not (tmp_path / "generated.csv").exists()


def test_plots_are_pictures_of_one_size(tmp_path):
    write_report(made({"a": [UP] * 3}), tmp_path)
    sizes = {
        struct.unpack(">II", path.read_bytes()[16:24]) for path in tmp_path.glob("in-domain-*.png")
    }
    assert len(sizes) == 1
    assert min(min(size) for size in sizes) > 400


def test_a_contact_sheet_shows_every_disturbance_of_a_set(tmp_path):
    write_report(made({"a": [UP] * 3}), tmp_path)
    (sheet,) = tmp_path.glob("disturbances-*.png")
    width, height = struct.unpack(">II", sheet.read_bytes()[16:24])
    assert min(width, height) > 400


def test_fids_of_zero_at_level_0_still_make_a_report(tmp_path):
    result = made({"a": [UP] * 3})
    for judged in result.record["sets"]["in-domain"]["extractors"]["a"]["disturbances"].values():
        for key in ("relative", "sensitivity"):
            judged[key] = [{"value": None, "low": None, "high": None}] * 4
    write_report(result, tmp_path)


def test_a_record_of_several_depths_is_shown_by_extractor_and_depth(tmp_path):
    names = ["a at 64", "a at 2048", "a, multi-depth"]
    result = made(dict(zip(names, [[UP] * 3, [DOWN, UP, UP], [UP] * 3], strict=True)))
    record = result.record
    about = record["extractors"].pop("a at 64")
    record["extractors"] = {"a": about | {"random": True}}
    record["measures"] = {
        name: {"extractor": "a", "dims": dims}
        for name, dims in zip(names, (64, 2048, None), strict=True)
    }
    found = Page(write_report(result, tmp_path).read_text(encoding="utf-8"))
    assert found.images[0]["alt"].endswith("a at 64: yes; a at 2048: partly; a, multi-depth: yes.")
    assert "a at 2048: partly." in found.text
    assert found.text.count("weights are random") == 3
    assert (tmp_path / "verdicts-in-domain.png").exists()
