"""Runs a study of every disturbance, level and extractor, and makes its record."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from fid_med.data.images import read_image
from fid_med.data.sources import open_source
from fid_med.disturbances.registry import (
    DISTURBANCES,
    absolute_settings,
    format_settings,
    select_disturbances,
)
from fid_med.errors import DataError, SettingError
from fid_med.evaluation.image_plots import HeatedImage
from fid_med.extractors.depths import join_depths
from fid_med.extractors.registry import load_extractor, split_names
from fid_med.metrics.depth_profile import multi_depth_fid
from fid_med.metrics.statistics import FeatureStatistics
from fid_med.study import agreement, judgement, repeats
from fid_med.study.features import StudyCache, compute_cell
from fid_med.study.heat_maps import DIMS, HeatMaps
from fid_med.study.images import (
    UNTOUCHED,
    Disturber,
    Example,
    StudyImages,
    choose_example,
    make_examples,
    open_generated,
    open_images,
)
from fid_med.study.ratings import cell_names, read_ratings
from fid_med.study.recommendation import recommend
from fid_med.utils.files import versions
from fid_med.utils.progress import say, warn

_CACHE = "cache"
_REPEATS_OF_COUNTS = 100
_MIN_GENERATED = 8


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """Settings of a study, besides its images and extractors.

    Attributes:
      disturbances: names, or keys of `disturbances.registry.GROUPS`.
      scale: `paper` or `pixel`, the unit of lengths, as for `disturb`.
      repeats: number of random splits of the patients into halves, at least 20.
      seed: seed of the splits, the draw of images and the disturbances.
      batch_size: number of images per batch.
      num_images: maximum number of real images; whole patients are drawn at random. None for all.
      patient_regex: regular expression that finds the patient in a file's name.
      note: a line for the report, for example that the weights are a stand-in.
    """

    disturbances: tuple[str, ...] = ("six",)
    scale: str = "paper"
    repeats: int = 200
    seed: int = 0
    batch_size: int = 32
    num_images: int | None = None
    patient_regex: str | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Measure:
    """One number that a study judges.

    Attributes:
      extractor: display name of the extractor.
      dims: number of features of the depth; None for the multi-depth FID.
    """

    extractor: str
    dims: int | None

    @property
    def name(self) -> str:
        """Display name, such as `chest at 768`."""
        return (
            f"{self.extractor}, multi-depth"
            if self.dims is None
            else (f"{self.extractor} at {self.dims}")
        )


@dataclasses.dataclass
class StudyResult:
    """Result of a study.

    Attributes:
      record: every number and setting, as JSON types; the report is drawn from it.
      pictures: example pictures by set of real images (`in-domain`, `transfer`) and disturbance,
        one per level, uint8 [h, w] or [h, w, 3].
      heat_maps: of an example picture, undisturbed and at the strongest level, by set, disturbance
        and extractor.
    """

    record: dict
    pictures: dict[str, dict[str, list[np.ndarray]]]
    heat_maps: dict[str, dict[str, dict[str, list[HeatedImage]]]] = dataclasses.field(
        default_factory=dict
    )


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
    """Studies whether the FID rises as real images are degraded step by step.

    The real images are divided at random, by patient, into a reference half and a half to disturb.
    The FID at level 0 is thus one of real images against real images. `write_report` writes the
    result.

    Args:
      real: real images, a folder or an array as for `open_source`.
      extractors: `FeatureExtractor`s by display name. Each is judged at every depth and by its
        multi-depth FID, and compared with the first at the same depth.
      output_dir: folder whose subfolder `cache` keeps features; a killed study resumes from it.
      config: settings.
      contamination: images of another domain, at least as many as real ones. Without them,
        contamination is left out of the groups of disturbances.
      transfer: real images of a kind that the extractors were not trained on, for example a label
        or body part left out of training. The study is repeated on them.
      generated: sets of generated images by name, to be ranked by each extractor's FID.
      ratings: CSV file of ratings by people, as for `read_ratings`.
      example: image file that the report shows instead of real images.

    Raises:
      SettingError: an unknown disturbance, contamination by name without images for it, or too few
        repeats.
      DataError: too few images, or sets that do not fit together; before any network runs.
    """
    study = _Study(dict(extractors), pathlib.Path(output_dir), config, contamination is not None)
    # All sources are opened before any image is read, so that a wrong path is reported at once.
    sources = {"real": real, "contamination": contamination, "transfer": transfer}
    sources = {name: open_source(x, name) for name, x in sources.items() if x is not None}
    generated = {name: open_source(x, name) for name, x in (generated or {}).items()}
    for source in (*sources.values(), *generated.values()):
        for line in source.warnings():
            warn(line)
    example = None if example is None else Example(read_image(example))
    rated = {} if ratings is None else read_ratings(ratings, [*study.cell_names, *generated])

    foreign = study.open_foreign(sources.get("contamination"))
    sets = {"in-domain": study.open_real(sources["real"])}
    if "transfer" in sources:
        sets["transfer"] = study.open_real(sources["transfer"])
    halves = {role: repeats.draw_halves(x, config.repeats, config.seed) for role, x in sets.items()}
    _check_foreign(foreign, max(map(len, sets.values())))
    generated = {name: _open_generated(source) for name, source in generated.items()}

    record = study.describe(sets, halves)
    for name, about in record["disturbances"].items():
        say(_describe_levels(name, about))
    fids = {}
    for role, images in sets.items():
        found, fids[role] = study.judge_set(images, *halves[role], foreign)
        record["sets"][role] |= found
    record["recommendation"] = study.recommend(fids["in-domain"], halves["in-domain"][1])
    record["generated"] = study.rank_generated(
        generated, sets["in-domain"], *halves["in-domain"], rated
    )
    record["ratings"] = study.compare_cells_with_ratings(fids["in-domain"], rated)
    result = StudyResult(record, {})
    for role, images in sets.items():
        shown = example or choose_example(images)
        result.pictures[role] = make_examples(images, foreign, study.names, study.disturber, shown)
        heat_maps = study.make_heat_maps(images, foreign, *halves[role], shown)
        result.heat_maps[role] = heat_maps.make(study.extractors, study.names)
        about = {"dims": DIMS, "images_a_side": heat_maps.images_a_side}
        record["sets"][role]["heat_maps"] = about
    return result


class _Study:
    """The settings, extractors and cache that all steps of a study share."""

    def __init__(self, extractors, output_dir, config, with_foreign):
        if not extractors:
            raise SettingError("a study needs at least one extractor")
        if config.repeats < 20:
            raise SettingError(f"repeats {config.repeats}: an interval needs at least 20")
        self.extractors, self.config = extractors, config
        self.names = select_disturbances(config.disturbances, with_foreign=with_foreign)
        self.skipped = [x for x in select_disturbances(config.disturbances) if x not in self.names]
        heights = {e.preprocessing.height for e in extractors.values()}
        if config.scale == "pixel" and len(heights) > 1:
            raise DataError(
                f"the extractors' inputs are {', '.join(map(str, sorted(heights)))} pixels high: "
                "the scale pixel needs one height; give --image_size, or use the scale paper"
            )
        self.joined = [join_depths(extractor) for extractor in extractors.values()]
        self.depths = list(self.joined[0].depths)
        self.measures = [
            Measure(name, dims) for name in extractors for dims in (*self.depths, None)
        ]
        self.disturber = Disturber(config.scale, max(heights), config.seed)
        self.cache = StudyCache(output_dir / _CACHE)

    @property
    def cell_names(self) -> list[str]:
        """Names of all cells, as ratings refer to them."""
        return cell_names(self.names)

    def open_real(self, source) -> StudyImages:
        config = self.config
        trained = [e.training_images for e in self.extractors.values() if e.training_images]
        images = open_images(
            source,
            patient_regex=config.patient_regex,
            trained=trained,
            num_images=config.num_images,
            seed=config.seed,
        )
        left_out = images.account["training"] + images.account["patients"]
        patients = f"{len(images.patients)} patients" if images.by_patient else "patients unknown"
        say(
            f"{images.name}: {len(images)} images, {patients}; {left_out} left out (training "
            "images and other images of their patients)"
        )
        return images

    def open_foreign(self, source) -> StudyImages | None:
        for name in self.skipped:
            say(f"{name} is skipped: it needs images of another domain (--contamination)")
        if not any(DISTURBANCES[name].set_level for name in self.names):
            return None
        return open_images(source)

    def compute(self, images, cell):
        """Returns features [N, d] of one cell, by extractor and depth, and the images' quality."""
        rows = compute_cell(
            images,
            cell,
            self.joined,
            self.disturber,
            self.cache,
            batch_size=self.config.batch_size,
        )
        ends = np.cumsum(self.depths)[:-1]
        features = {
            name: dict(zip(self.depths, np.split(of_extractor, ends, axis=1), strict=True))
            for name, of_extractor in zip(self.extractors, rows.features, strict=True)
        }
        return features, rows.quality

    def describe(self, sets, halves) -> dict:
        """Returns the record's settings, extractors, disturbances and sets, without results."""
        height_width = sets["in-domain"].shapes[0][0]
        return {
            "settings": dataclasses.asdict(self.config)
            | {"disturbances": list(self.names), "confidence": judgement.CONFIDENCE},
            "skipped": self.skipped,
            "versions": versions(),
            "extractors": {name: _describe_extractor(e) for name, e in self.extractors.items()},
            "measures": {x.name: dataclasses.asdict(x) for x in self.measures},
            "disturbances": {
                name: self._describe_disturbance(name, height_width) for name in self.names
            },
            "sets": {
                role: {
                    "images": len(images),
                    "patients": len(images.patients) if images.by_patient else None,
                    "account": images.account,
                    "shapes": [[*size, number] for size, number in images.shapes[:5]],
                    "images_a_side": halves[role][1],
                }
                for role, images in sets.items()
            },
        }

    def _describe_disturbance(self, name, shape):
        disturbance, disturber = DISTURBANCES[name], self.disturber
        options = {"scale": disturber.scale, "input_size": disturber.input_size}
        return {
            "description": disturbance.description,
            "unit": disturbance.unit,
            "source": disturbance.reference,
            "levels": list(disturbance.levels),
            "image_shape": list(shape),
            "absolute": [
                absolute_settings(name, level, shape, **options) for level in disturbance.levels
            ],
        }

    def judge_set(self, images, halves, count, foreign) -> tuple[dict, dict]:
        """Judges every measure under every disturbance on one set of real images.

        Returns:
          The set's part of the record, and the FIDs [R, L] by measure and disturbance.
        """
        untouched, _ = self.compute(images, UNTOUCHED)
        traces = _total_variances(untouched)
        fids = {x.name: {} for x in self.measures}
        more = {x.name: {} for x in self.measures}
        quality = {}
        counts = repeats.list_counts(count)
        for disturbance in self.names:
            levels, correlations = self._stack_levels(
                images, disturbance, untouched, foreign, quality
            )
            found = self._compute_fids(levels, traces, halves, count)
            fewer = halves[:_REPEATS_OF_COUNTS]
            by_count = [self._compute_fids(levels, traces, fewer, n) for n in counts[:-1]]
            by_count.append({measure: x[: len(fewer)] for measure, x in found.items()})
            for measure in self.measures:
                fids[measure.name][disturbance] = found[measure]
                more[measure.name][disturbance] = {
                    **judgement.judge_counts(counts, [x[measure] for x in by_count]),
                    "carry_over": correlations.get(measure),
                }
            say(f"{images.name}: {disturbance} done")
        found = judgement.judge_extractors(fids, more, self._references())
        for name, of_name in found.items():
            of_name["quality"] = agreement.compare_with_quality(fids[name], quality, halves, count)
        means = {f"{c[0]}:{c[1]:g}": agreement.average_quality(x) for c, x in quality.items()}
        return {"extractors": found, "quality": means}, fids

    def recommend(self, fids, count) -> dict:
        """Returns which measure to use, of those of trained weights."""
        measures = [x for x in self.measures if self.extractors[x.extractor].name != "random"]
        return recommend({x.name: fids[x.name] for x in measures}, count)

    def make_heat_maps(self, images, foreign, halves, count, example) -> HeatMaps:
        """Returns what makes the heat maps of one set of real images."""
        return HeatMaps(
            images=images,
            foreign=foreign,
            half=halves[0],
            count=count,
            compute=lambda *cell: self.compute(*cell)[0],
            disturber=self.disturber,
            example=example,
        )

    def _references(self):
        """The measure that each is compared with: the first extractor's at the same depth."""
        first = next(iter(self.extractors))
        return {x.name: Measure(first, x.dims).name for x in self.measures if x.extractor != first}

    def _compute_fids(self, levels, traces, halves, count):
        """Returns the FIDs [R, L] of every measure at `count` images per side."""
        found = {}
        for name, of_extractor in levels.items():
            fids = {
                dims: repeats.compute_fids(x, halves, count) for dims, x in of_extractor.items()
            }
            found |= {Measure(name, dims): x for dims, x in fids.items()}
            found[Measure(name, None)] = multi_depth_fid(list(fids.values()), traces[name])
        return found

    def _stack_levels(self, images, disturbance, untouched, foreign, quality):
        """Returns levels by extractor and depth, and feature correlations; adds to `quality`."""
        cells = _cells(disturbance)
        levels, correlations = {name: {} for name in untouched}, {}
        if DISTURBANCES[disturbance].set_level:
            shares = [level for _, level in cells]
            others, _ = self.compute(foreign, UNTOUCHED)
            for name, dims, real in _each(untouched):
                levels[name][dims] = repeats.stack_contamination_levels(
                    real, others[name][dims], shares, images.digests, self.config.seed
                )
            return levels, correlations
        rows = [self.compute(images, cell) for cell in cells]
        quality |= {cell: of_cell for cell, (_, of_cell) in zip(cells, rows, strict=True)}
        for name, dims, real in _each(untouched):
            disturbed = [features[name][dims] for features, _ in rows]
            correlations[Measure(name, dims)] = [
                judgement.feature_correlation(real, x) for x in disturbed
            ]
            levels[name][dims] = repeats.stack_image_levels(real, disturbed)
        return levels, correlations

    def rank_generated(self, generated, images, halves, count, rated) -> dict | None:
        """Computes FIDs of generated sets by each measure, and their rank agreement."""
        if not generated:
            return None
        # Half of the smallest set, so that the generated images differ between repeats as well.
        count = min(count, *(len(x) // 2 for x in generated.values()))
        untouched, _ = self.compute(images, UNTOUCHED)
        features = {name: self.compute(x, UNTOUCHED)[0] for name, x in generated.items()}
        traces = _total_variances(untouched)
        fids = {}
        for extractor in self.extractors:
            of_depths = [
                self._rank_at(dims, untouched, features, extractor, halves, count)
                for dims in self.depths
            ]
            over = multi_depth_fid(of_depths, traces[extractor])
            for dims, found in zip((*self.depths, None), (*of_depths, over), strict=True):
                fids[Measure(extractor, dims).name] = found
        alike = [
            {x.name: fids[x.name] for x in self.measures if x.dims == dims}
            for dims in (*self.depths, None)
        ]
        return {
            "sets": {name: len(x) for name, x in generated.items()},
            "images_a_side": count,
            "fid": {
                name: [judgement.estimate(x).to_dict() for x in values.T]
                for name, values in fids.items()
            },
            "between_extractors": [
                row
                for group in alike
                for row in agreement.compare_rankings(group, self.config.seed)
            ],
            "with_ratings": agreement.compare_with_ratings(
                fids, list(generated), rated, self.config.seed
            ),
        }

    def _rank_at(self, dims, untouched, features, extractor, halves, count):
        """Returns the FIDs [R, K] of K generated sets at one depth of an extractor."""
        return np.stack(
            [
                repeats.compute_generated_fids(
                    untouched[extractor][dims],
                    of_set[extractor][dims],
                    halves,
                    count,
                    [self.config.seed, 3, *name.encode()],
                )
                for name, of_set in features.items()
            ],
            axis=1,
        )

    def compare_cells_with_ratings(self, fids, rated) -> dict | None:
        """Computes the agreement with people who rated disturbed images."""
        values = {name: agreement.join_levels(of_name) for name, of_name in fids.items()}
        return agreement.compare_with_ratings(values, self.cell_names, rated, self.config.seed)


def _each(features):
    """Yields extractor, depth and features [N, d]."""
    for name, of_extractor in features.items():
        for dims, rows in of_extractor.items():
            yield name, dims, rows


def _total_variances(features) -> dict[str, list[float]]:
    """The trace of the covariance at each depth, by extractor."""
    return {
        name: [FeatureStatistics.from_features(rows).trace for rows in of_depth.values()]
        for name, of_depth in features.items()
    }


def load_extractors(
    specs: Sequence[str], *, image_size: int | None = None, seed: int = 0
) -> dict[str, object]:
    """Loads extractors and names them for the report.

    Args:
      specs: what `load_extractor` takes, optionally preceded by `NAME=`. Without a name, an
        extractor keeps its own; the start of its fingerprint is added if that is taken.
      image_size, seed: as for `load_extractor`.

    Raises:
      SettingError: no extractor, a name given twice, or the same extractor twice.
      ExtractorError: as for `load_extractor`.
    """
    found: dict[str, object] = {}
    for name, path in split_names(specs):
        extractor = load_extractor(path, image_size=image_size, seed=seed)
        if any(other.fingerprint == extractor.fingerprint for other in found.values()):
            raise SettingError(f"--extractors: {path} is the same extractor as an earlier one")
        if name in found:
            raise SettingError(f"--extractors: the name {name} is given twice")
        if not name:
            name = extractor.name
            if name in found:
                name = f"{name} ({extractor.fingerprint[:6]})"
        found[name] = extractor
    return found


def _cells(name):
    return [(name, level) for level in DISTURBANCES[name].levels[1:]]


def _check_foreign(foreign, needed):
    if foreign is not None and len(foreign) < needed:
        raise DataError(
            f"contamination: {len(foreign)} different images, {needed} are needed, one for each "
            "real image: add images, or lower --num_images"
        )


def _open_generated(source):
    images = open_generated(source)
    if len(images) < _MIN_GENERATED:
        raise DataError(
            f"generated set {images.name}: {len(images)} images, fewer than {_MIN_GENERATED}; add "
            "images"
        )
    return images


def _describe_levels(name, about) -> str:
    height, width = about["image_shape"]
    levels = zip(about["levels"][1:], about["absolute"][1:], strict=True)
    each = "; ".join(f"level {level:g}, {', '.join(format_settings(x))}" for level, x in levels)
    return f"{name} in images of {width} x {height} pixels: {each}"


def _describe_extractor(extractor) -> dict:
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
