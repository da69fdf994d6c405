"""The study: every disturbance, level and extractor on one set of real images, and the record."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from fid_med.data.images import read_image
from fid_med.data.sources import open_source
from fid_med.disturbances.registry import (
    DISTURBANCES,
    HEUSEL,
    RADIOGRAPH,
    SCALES,
    absolute_settings,
    settings_lines,
)
from fid_med.errors import DataError, SettingError
from fid_med.study import agreement, judgement, repeats
from fid_med.study.conclusions import concluded, fewest
from fid_med.study.example_images import example_pictures
from fid_med.study.features import UNTOUCHED, Cache, Disturber, cell_rows
from fid_med.study.images import StudyImages, open_generated, open_images, random_halves
from fid_med.study.ratings import read_ratings
from fid_med.utils.files import versions
from fid_med.utils.progress import say

CACHE = "cache"
_REPEATS_OF_COUNTS = 100


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """What decides a study beside its images and extractors.

    Attributes:
      disturbances: names; `six` stands for Heusel's, `radiograph` for the others, `all` for both.
      scale: `paper` or `pixel`, of lengths in pixels.
      repeats: random divisions of the patients.
      seed: of the divisions, the draw of images and the disturbances.
      batch_size: images that go through a network at once.
      num_images: real images to use at most, whole patients drawn at random; None for all.
      patient_regex: finds the patient in a file's name.
      note: a line to stand in the report, such as that weights are a stand-in.
    """

    disturbances: tuple[str, ...] = ("six",)
    scale: str = "paper"
    repeats: int = 200
    seed: int = 0
    batch_size: int = 32
    num_images: int | None = None
    patient_regex: str | None = None
    note: str = ""


@dataclasses.dataclass
class StudyResult:
    """What a study found.

    Attributes:
      record: JSON types alone, every number and setting; what `report` draws from.
      pictures: for each set of real images and each disturbance an example at each level, uint8
        [h, w] or [h, w, 3].
    """

    record: dict
    pictures: dict[str, dict[str, list[np.ndarray]]]


def run_study(
    real,
    extractors: Mapping[str, object],
    output_dir,
    config: StudyConfig = StudyConfig(),
    *,
    contamination=None,
    transfer=None,
    generated: Mapping[str, object] | None = None,
    ratings=None,
    example=None,
) -> StudyResult:
    """Runs the disturbance study of the user's question: does the FID rise as images get worse?

    Args:
      real: real images, a folder or an array as for `open_source`. Divided at random, by patient,
        into a reference half and a half to disturb: level 0 is a real-against-real FID.
      extractors: `FeatureExtractor`s by the name that the report gives them; each is compared
        with the first.
      output_dir: features are kept in its folder `cache`, from where a killed study goes on.
      config: settings.
      contamination: images of another domain, as many as there are real ones.
      transfer: real images of a kind that the extractors were not trained on (a left-out label or
        body part): the same study on them, beside the one on `real`.
      generated: sets of generated images by name, to rank by each extractor's FID.
      ratings: csv of people's ratings, as `read_ratings` takes it.
      example: file of an image for the report to show, in place of real ones.

    Returns:
      The record and the pictures; writing them is `report`'s.

    Raises:
      DataError: unknown names, too few images, sets that do not fit; before long work where that
        can be told.
    """
    study = _Study(dict(extractors), pathlib.Path(output_dir), config)
    given = {"real": real, "contamination": contamination, "transfer": transfer}
    for name, source in {**given, **(generated or {})}.items():
        if source is not None:
            open_source(source, name)  # a wrong path must not cost an hour
    known = ["untouched", *(f"{name}:{level:g}" for name, level in study.cells)]
    known += list(generated or {})
    example = None if example is None else read_image(example)
    rated = read_ratings(ratings, known) if ratings is not None else {}
    foreign = study.open_foreign(contamination)
    sets = {"in-domain": study.open_real(real, "real")}
    if transfer is not None:
        sets["transfer"] = study.open_real(transfer, "transfer")
    halves = {role: random_halves(x, config.repeats, config.seed) for role, x in sets.items()}
    study.check_foreign(foreign, sets.values())
    opened = {name: open_generated(x, name) for name, x in (generated or {}).items()}
    study.check_generated(opened)

    record = study.header(sets, halves)
    for name, about in record["disturbances"].items():
        say(_levels_line(name, about))
    fids = {}
    for role, images in sets.items():
        found, fids[role] = study.judged(images, *halves[role], foreign)
        record["sets"][role] |= found
    record["generated"] = study.ranked(opened, sets["in-domain"], *halves["in-domain"], rated)
    record["ratings"] = study.rated_cells(fids["in-domain"], rated)
    pictures = {
        role: example_pictures(images, foreign, study.names, study.disturber, example)
        for role, images in sets.items()
    }
    return StudyResult(record, pictures)


class _Study:
    """One run: what all its parts share."""

    def __init__(self, extractors, output_dir, config):
        if not extractors:
            raise SettingError("a study needs at least one extractor")
        if config.repeats < 20:
            raise SettingError(f"repeats {config.repeats}: an interval needs at least 20")
        if config.scale not in SCALES:
            raise SettingError(f"scale {config.scale!r}: expected one of {', '.join(SCALES)}")
        self.extractors, self.config = extractors, config
        self.names = disturbance_names(config.disturbances)
        heights = {e.preprocessing.height for e in extractors.values()}
        if config.scale == "pixel" and len(heights) > 1:
            raise DataError(
                f"the extractors' inputs are {', '.join(map(str, sorted(heights)))} pixels high: "
                "the scale pixel needs one height; give --image_size, or take the scale paper"
            )
        self.disturber = Disturber(config.scale, max(heights), config.seed)
        self.cache = Cache(output_dir / CACHE)
        self.cells = [(name, level) for name in self.names for level in self.levels(name)[1:]]

    @staticmethod
    def levels(name):
        return DISTURBANCES[name].levels

    @property
    def networks(self):
        return list(self.extractors.values())

    def open_real(self, source, name) -> StudyImages:
        config = self.config
        images = open_images(
            source,
            name,
            patient_regex=config.patient_regex,
            trained=[e.training_images for e in self.networks if e.training_images],
            num_images=config.num_images,
            seed=config.seed,
        )
        left_out = images.account["training"] + images.account["patients"]
        who = f"{len(images.groups)} patients" if images.by_patient else "patients unknown"
        say(f"{name}: {len(images)} images, {who}; {left_out} left out as training images")
        return images

    def open_foreign(self, source):
        wanted = any(DISTURBANCES[name].set_level for name in self.names)
        if wanted and source is None:
            raise DataError(
                "contamination needs images of another domain: give --contamination=DIR, or "
                "leave it out of --disturbances"
            )
        return open_images(source, "contamination") if wanted else None

    def check_foreign(self, foreign, sets):
        needed = max(len(images) for images in sets)
        if foreign is not None and len(foreign) < needed:
            raise DataError(
                f"contamination: {len(foreign)} different images, {needed} are needed, one for "
                "each real image: add images, or lower --num_images"
            )

    def check_generated(self, opened):
        few = [name for name, images in opened.items() if len(images) < 8]
        if few:
            raise DataError(f"generated set {few[0]}: fewer than 8 images tell nothing; add images")

    def rows(self, images, cell):
        """Features of each extractor, and quality, in one cell."""
        of_images = images.name in ("real", "transfer")
        return cell_rows(
            images,
            cell,
            self.networks,
            self.disturber,
            self.cache,
            batch_size=self.config.batch_size,
            with_quality=of_images,
        )

    def header(self, sets, halves) -> dict:
        config, shape = self.config, sets["in-domain"].shapes[0][0]
        return {
            "settings": dataclasses.asdict(config)
            | {"disturbances": list(self.names), "confidence": judgement.CONFIDENCE},
            "versions": versions(),
            "extractors": {name: _described(e) for name, e in self.extractors.items()},
            "disturbances": {
                name: {
                    "description": DISTURBANCES[name].description,
                    "unit": DISTURBANCES[name].unit,
                    "source": DISTURBANCES[name].reference,
                    "levels": list(self.levels(name)),
                    "image_shape": list(shape),
                    "absolute": [self.absolute(name, level, shape) for level in self.levels(name)],
                }
                for name in self.names
            },
            "sets": {
                role: {
                    "images": len(images),
                    "patients": len(images.groups) if images.by_patient else None,
                    "account": images.account,
                    "shapes": [[*size, number] for size, number in images.shapes[:5]],
                    "images_a_side": halves[role][1],
                }
                for role, images in sets.items()
            },
        }

    def absolute(self, name, level, shape) -> dict:
        return absolute_settings(
            name, level, shape, scale=self.config.scale, input_size=self.disturber.input_size
        )

    def judged(self, images, halves, count, foreign) -> tuple[dict, dict]:
        """Every extractor under every disturbance, on one set: the record, and the FIDs."""
        untouched = self.rows(images, UNTOUCHED).features
        fids = {name: {} for name in self.extractors}
        more = {name: {} for name in self.extractors}
        quality = {}
        for disturbance in self.names:
            set_level = DISTURBANCES[disturbance].set_level
            cells = [(disturbance, level) for level in self.levels(disturbance)[1:]]
            if set_level:
                of_foreign = self.rows(foreign, UNTOUCHED).features
            else:
                rows = [self.rows(images, cell) for cell in cells]
                quality |= {c: r.quality for c, r in zip(cells, rows, strict=True)}
            for k, name in enumerate(self.extractors):
                kept = None
                if set_level:
                    levels = repeats.contamination_levels(
                        untouched[k],
                        of_foreign[k],
                        [level for _, level in cells],
                        images.digests,
                        self.config.seed,
                    )
                else:
                    disturbed = [r.features[k] for r in rows]
                    levels = repeats.image_levels(untouched[k], disturbed)
                    kept = [judgement.carry_over(untouched[k], x) for x in disturbed]
                fids[name][disturbance] = repeats.repeated_fids(levels, halves, count)
                more[name][disturbance] = {
                    **fewest(levels, halves[:_REPEATS_OF_COUNTS], count),
                    "carry_over": kept,
                }
            say(f"{images.name}: {disturbance} done")
        found = concluded(fids, more)
        for name, of_name in found.items():
            of_name["quality"] = agreement.with_quality(fids[name], quality, halves, count)
        means = {f"{c[0]}:{c[1]:g}": agreement.quality_means(x) for c, x in quality.items()}
        return {"extractors": found, "quality": means}, fids

    def ranked(self, opened, images, halves, count, rated) -> dict | None:
        """FIDs of generated sets by each extractor, and whether they agree with each other."""
        if not opened:
            return None
        # Half of the smallest set, so that repeats differ on both sides.
        count = min(count, *(len(x) // 2 for x in opened.values()))
        untouched = self.rows(images, UNTOUCHED).features
        features = {name: self.rows(x, UNTOUCHED).features for name, x in opened.items()}
        fids = {name: np.empty((len(halves), len(opened))) for name in self.extractors}
        for k, name in enumerate(self.extractors):
            for j, (set_name, of_set) in enumerate(features.items()):
                draws = _draws(len(of_set[k]), len(halves), self.config.seed, set_name)
                fids[name][:, j] = repeats.fids_of_sets(
                    untouched[k], of_set[k], [h.reference for h in halves], draws, count
                )
        return {
            "sets": {name: len(x) for name, x in opened.items()},
            "images_a_side": count,
            "fid": {
                name: [judgement.estimate(x).to_dict() for x in values.T]
                for name, values in fids.items()
            },
            "between_extractors": agreement.between_extractors(fids, self.config.seed),
            "with_ratings": agreement.with_people(fids, list(opened), rated, self.config.seed),
        }

    def rated_cells(self, fids, rated) -> dict | None:
        """Agreement with people who rated disturbed images, levels of disturbances."""
        names = ["untouched", *(f"{name}:{level:g}" for name, level in self.cells)]
        values = {name: agreement.all_cells(of_name) for name, of_name in fids.items()}
        return agreement.with_people(values, names, rated, self.config.seed)


def disturbance_names(wanted: Sequence[str]) -> tuple[str, ...]:
    """Names in their order, each once, the groups `six`, `radiograph` and `all` spelt out."""
    groups = {"six": HEUSEL, "radiograph": RADIOGRAPH, "all": tuple(DISTURBANCES)}
    names = dict.fromkeys(name for one in wanted for name in groups.get(one, (one,)))
    unknown = [name for name in names if name not in DISTURBANCES]
    if unknown or not names:
        raise SettingError(
            f"disturbance {', '.join(unknown) or 'missing'}: expected six, radiograph, all, or "
            f"some of {', '.join(DISTURBANCES)}"
        )
    return tuple(names)


def _levels_line(name, about) -> str:
    height, width = about["image_shape"]
    levels = zip(about["levels"][1:], about["absolute"][1:], strict=True)
    each = "; ".join(f"level {level:g}, {', '.join(settings_lines(of))}" for level, of in levels)
    return f"{name} in images of {width} x {height} pixels: {each}"


def _described(extractor) -> dict:
    trained = extractor.training_images
    return {
        "file": extractor.name,
        "fingerprint": extractor.fingerprint,
        "architecture": extractor.architecture,
        "preprocessing": extractor.preprocessing.to_dict(),
        "labels": list(extractor.labels),
        "lineage": list(extractor.lineage),
        "training_images": None if trained is None else len(trained.train | trained.validation),
        "random": extractor.name == "random",
    }


def _draws(size, repeats_, seed, name):
    rng = np.random.default_rng([seed, 3, *name.encode()])
    return [rng.permutation(size) for _ in range(repeats_)]
