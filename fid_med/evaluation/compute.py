"""The functions `compute_fid`, `plan` and `compute_statistics`."""

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Sequence

from fid_med.data.sources import open_source
from fid_med.errors import DataError, SettingError, StatisticsError
from fid_med.evaluation.account import (
    SMALL_SAMPLE,
    ImageAccount,
    shared_patient_warnings,
    small_sample_warnings,
)
from fid_med.evaluation.by_class import image_classes, measure_classes
from fid_med.evaluation.extraction import IF_SMALL, ExtractionOptions, extract
from fid_med.evaluation.inputs import ComparisonInputs, Role, Side
from fid_med.evaluation.metric_registry import (
    METRICS,
    Comparison,
    check_classifier,
    check_extra_sets,
    check_metrics,
)
from fid_med.evaluation.result import FIDResult, PlanResult
from fid_med.evaluation.verdict import PARTS, describe_origin, judge
from fid_med.extractors.registry import ExtractorSpec, loaded_extractor
from fid_med.metrics.planning import FEWEST_PLANNED, detectable_difference
from fid_med.metrics.statistics import FeatureStatistics, check_comparable
from fid_med.utils.files import versions
from fid_med.utils.progress import warn


def compute_fid(
    real,
    generated,
    extractor="imagenet",
    *,
    metrics: Sequence[str] | None = None,
    per_class: bool = False,
    confidence: float = 0.95,
    train_images=None,
    other_generated=None,
    patient_regex: str | None = None,
    generated_patient_regex: str | None = None,
    batch_size: int = 32,
    image_size: int | None = None,
    resize: str | None = None,
    aspect: str | None = None,
    precision: str | None = None,
    dims: int = 2048,
    seed: int = 0,
    num_generated: int | None = None,
    skip_unreadable: bool = False,
    exclude_training_images: bool = False,
    multi_frame: str = "refuse",
    keep_features: bool = False,
    cache_dir=None,
) -> FIDResult:
    """Computes the Fréchet inception distance between two sets of images.

    Example:

    ```python
    import fid_med

    result = fid_med.compute_fid("real_images", "generated_images", "chest/extractor.keras")
    print(result.fid, result.real.count, result.generated.count)
    ```

    Args:
      real, generated: each a folder of images, or what `data.split_files.images_of_split` opened of
        one; a `.npz` of statistics; a uint8 array [N, H, W] or [N, H, W, 3]; a `tf.data.Dataset` of
        uint8 images or batches of them; or a callable that takes a count and returns up to that
        many images as such an array (a generator network).
      extractor: a `FeatureExtractor`, or a name or path as for `load_extractor`. It is not loaded
        where both sides are statistics.
      metrics: names from `metric_registry.METRICS`. The default is `fid` and, where a side has
        fewer than 2,048 different images, what the verdict needs: `debiased`, `permutation` and
        `baseline`. They are added to other metrics of features, too. A metric that is named and
        can't be computed is an error.
      per_class: add the FID of each class, which is the folder that an image is in; with the metric
        `difference` also what differs most within each class.
      confidence: confidence level of the intervals, between 0 and 1.
      train_images: the images that the generator was trained on, for the metric `memorisation`; as
        `real`, except that a `.npz` is refused.
      other_generated: a second generated set, for the metric `paired`: which of the two sets is
        nearer to `real`.
      patient_regex: regular expression that finds the patient in the file name of a real (or
        training) image, as for `patients_of`; intervals then resample whole patients.
      generated_patient_regex: the same for `generated`, where those are images of real patients.
      batch_size: number of images per pass through the network.
      image_size, resize, aspect, precision, dims: as for `load_extractor`.
      seed: seed of the extractor `random` and for all metric sampling except KID subsets, whose
        seed is torch-fidelity's.
      num_generated: number of images to ask a callable for; by default as many as the other side
        has.
      skip_unreadable: leave unreadable images out and count them; by default one is an error.
      exclude_training_images: leave out images that the extractor was trained or validated on.
      multi_frame: `refuse` DICOM files of several frames, or `unroll` them, each frame an image.
      keep_features: keep the features of single images in the result, whatever the metrics.
      cache_dir: folder that keeps features by the content of image files, so that a killed run
        continues and a repeated run computes only what changed. It holds hashes and the features
        of single images, and no names. It applies to folders; by default there is no cache.

    Returns:
      A `FIDResult`. Its warnings are printed to stderr as well.

    Raises:
      FidMedError: invalid arguments, images or statistics, in one line.
    """
    given = {"train_images": train_images, "other_generated": other_generated}
    request = _Request(metrics, per_class, confidence, seed, keep_features)
    check_extra_sets(request.wanted, given)
    sides = [
        Side(Role.REAL, real, patient_regex, num_generated),
        Side(Role.GENERATED, generated, generated_patient_regex, num_generated),
        Side(Role.TRAINING, train_images, patient_regex, num_generated),
        Side(Role.OTHER_GENERATED, other_generated, generated_patient_regex, num_generated),
    ]
    options = ExtractionOptions(
        batch_size, skip_unreadable, exclude_training_images, multi_frame, cache_dir
    )
    spec = as_spec(
        extractor, seed, dims, image_size=image_size, resize=resize, aspect=aspect,
        precision=precision,
    )  # fmt: skip
    return _compare([x for x in sides if x.source is not None], spec, options, request)


@dataclasses.dataclass(frozen=True)
class _Request:
    """What `compute_fid` was asked to compute; the fields are arguments of it."""

    metrics: Sequence[str] | None
    per_class: bool
    confidence: float
    seed: int
    keep_features: bool

    def __post_init__(self):
        check_confidence(self.confidence)
        check_metrics(self.metrics or ())

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the metrics that were asked for, `fid` first."""
        return check_metrics(self.metrics or ())


def _compare(sides, spec, options: ExtractionOptions, request: _Request) -> FIDResult:
    seconds: dict[str, float] = {}
    # Everything is opened before anything is computed: a wrong path must not cost an hour.
    inputs = ComparisonInputs(sides, options.multi_frame)
    wanted = request.wanted
    needing = [name for name in wanted if METRICS[name].needs_features]
    inputs.check_features([*needing, *(["per_class"] if request.per_class else [])])
    deep = [name for name in wanted if METRICS[name].needs_depths]
    inputs.check_depths(deep)
    both = (Role.REAL, Role.GENERATED)
    if request.per_class:
        for role in both:
            image_classes(inputs.names(role), role.value)
    counts = [inputs.count(role) for role in both]
    judged = request.metrics is None or bool(needing)
    if judged and (
        any(count is None or count < SMALL_SAMPLE for count in counts)
        or any(found.account.few for found in inputs.sets.values())
    ):
        wanted = _with_verdict(wanted, counts)
    extractor = None
    with_classifier = any(METRICS[name].needs_classifier for name in wanted)
    if inputs.sources or with_classifier:
        with _clock(seconds, "extractor"):
            extractor = load_spec(spec)
        inputs.check_extractor(extractor)
        if with_classifier:
            check_classifier(extractor.logits)
    needed = request.keep_features or request.per_class or len(wanted) > 1
    # Many images may be copies of a few; only their features show it.
    keep = needed or (IF_SMALL if judged else False)
    for role in inputs.sources:
        with _clock(seconds, role.value):
            inputs.extract(role, extractor, options, keep, all_depths=bool(deep))
    sets = {side.role: inputs.sets[side.role] for side in sides}
    if judged and any(sets[role].account.few for role in both):
        wanted = _with_verdict(wanted, counts)
    elif not needed:
        for role in inputs.sources:
            sets[role].forget_features()
    comparison = Comparison(
        sets[Role.REAL],
        sets[Role.GENERATED],
        sets.get(Role.TRAINING),
        sets.get(Role.OTHER_GENERATED),
        logits=extractor and extractor.logits,
        classifier=extractor.name if extractor else "",
        confidence=request.confidence,
        seed=request.seed,
    )
    found, unavailable = _measured(wanted, comparison, request.wanted, seconds)
    by_class = None
    if request.per_class:
        by_class = measure_classes(comparison, "difference" in wanted)
    warnings = [*(extractor.warnings if extractor else ()), *_warnings(sets, found)]
    for line in warnings:
        warn(line)
    return _result(sets, found, unavailable, by_class, seconds, warnings)


def _with_verdict(wanted, counts) -> tuple[str, ...]:
    """Adds the metrics of a verdict, less those that would take longer than the features."""
    large = any(count is not None and count > SMALL_SAMPLE for count in counts)
    parts = [name for name in PARTS if not (large and name == "permutation")]
    return tuple(dict.fromkeys((*wanted, *parts)))


def _warnings(sets, found) -> list[str]:
    """What the reader of the number must know, of the images first and of the metrics last."""
    real, generated = sets[Role.REAL], sets[Role.GENERATED]
    lines = [line for of_set in sets.values() for line in of_set.warnings]
    lines += check_comparable(real.statistics, generated.statistics)
    lines += small_sample_warnings([real.account, generated.account])
    for name, finding in found.items():
        lines += METRICS[name].warnings(finding.fields) if finding else []
    if real.features is not None and generated.features is not None:
        lines += shared_patient_warnings(real, generated)
    return lines


def _result(sets, found, unavailable, by_class, seconds, warnings) -> FIDResult:
    real, generated = sets[Role.REAL], sets[Role.GENERATED]
    statistics = (real.statistics, generated.statistics)
    origin = next((s for s in statistics if s.fingerprint), statistics[0])
    fields = {name: finding and finding.fields for name, finding in found.items()}
    drawn = {name: x.drawn for name, x in found.items() if x and x.drawn is not None}
    return FIDResult(
        verdict=judge(
            fields,
            unavailable,
            _exchangeable(real, generated),
            describe_origin(origin.extractor, origin.fingerprint, origin.dim),
            [x.account.count for x in (real, generated)],
        ),
        fid=fields["fid"]["value"],
        real=real.account,
        generated=generated.account,
        training=_account(sets, Role.TRAINING),
        other_generated=_account(sets, Role.OTHER_GENERATED),
        extractor=origin.extractor,
        fingerprint=origin.fingerprint,
        preprocessing=origin.preprocessing,
        dims=origin.dim,
        metrics=fields,
        unavailable=unavailable,
        by_class=by_class and [finding.fields for finding in by_class],
        versions=versions(),
        seconds={stage: round(value, 3) for stage, value in seconds.items()},
        warnings=warnings,
        statistics=statistics,
        features={role.value: None if x.features is None else x for role, x in sets.items()},
        drawn=drawn | ({"by_class": [x.drawn for x in by_class]} if by_class else {}),
    )


def _exchangeable(real, generated) -> bool:
    """Whether both sets have patients, or both have single images."""
    several = [
        x.patients is not None and len(set(x.patients)) < len(x.patients) for x in (real, generated)
    ]
    return several[0] == several[1]


def _account(sets, role):
    return sets[role].account if role in sets else None


def plan(
    real,
    extractor="imagenet",
    *,
    counts: Sequence[int] = (50, 100, 200, 500, 1000, 2000),
    confidence: float = 0.95,
    patient_regex: str | None = None,
    batch_size: int = 32,
    image_size: int | None = None,
    resize: str | None = None,
    aspect: str | None = None,
    precision: str | None = None,
    dims: int = 2048,
    seed: int = 0,
    skip_unreadable: bool = False,
    exclude_training_images: bool = False,
    multi_frame: str = "refuse",
    cache_dir=None,
) -> PlanResult:
    """Estimates, from the real images alone, the smallest FID detectable at each sample size.

    Args:
      real: images, or statistics saved with features, as for `compute_fid`.
      counts: numbers of images per side to plan for, 8 or more each.
      confidence, patient_regex, batch_size, image_size, resize, aspect, precision, dims, seed,
      skip_unreadable, exclude_training_images, multi_frame, cache_dir: as for `compute_fid`.

    Returns:
      For each count the smallest true FID that is distinguished from 0 with 80 % power, and the
      account of the images. Warnings are printed to stderr as well.

    Raises:
      FidMedError: as `compute_fid`, or too few images for an estimate.
    """
    check_confidence(confidence)
    if min(counts, default=0) < FEWEST_PLANNED:
        raise SettingError(
            f"plan {', '.join(map(str, counts))}: expected counts of {FEWEST_PLANNED} or more"
        )
    options = ExtractionOptions(
        batch_size, skip_unreadable, exclude_training_images, multi_frame, cache_dir
    )
    spec = as_spec(
        extractor, seed, dims, image_size=image_size, resize=resize, aspect=aspect,
        precision=precision,
    )  # fmt: skip
    inputs = ComparisonInputs([Side(Role.REAL, real, patient_regex)], multi_frame)
    inputs.check_features(["plan"])
    warnings = []
    if inputs.sources:
        loaded = load_spec(spec)
        inputs.extract(Role.REAL, loaded, options, keep_features=True)
        warnings += loaded.warnings
    found = inputs.sets[Role.REAL]
    warnings += found.warnings
    for line in warnings:
        warn(line)
    return PlanResult(
        [
            detectable_difference(
                found.features, count, found.patients, confidence=confidence, seed=seed
            )
            for count in counts
        ],
        found.account,
        found.statistics.extractor,
        found.statistics.fingerprint,
        found.statistics.preprocessing,
        versions(),
        warnings,
        found.statistics.dim,
    )


def compute_statistics(
    source,
    extractor,
    *,
    name: str = "images",
    batch_size: int = 32,
    num_images: int | None = None,
    skip_unreadable: bool = False,
    exclude_training_images: bool = False,
    cache_dir=None,
) -> tuple[FeatureStatistics, ImageAccount, list[str]]:
    """Computes the statistics of the features of a set of images, in bounded memory.

    Example:

    ```python
    import fid_med

    extractor = fid_med.load_extractor("chest/extractor.keras")
    statistics, account, warnings = fid_med.compute_statistics("real_images", extractor)
    statistics.save("real.npz")
    ```

    Args:
      source: a folder, array, dataset or callable, as for `compute_fid`.
      extractor: a loaded `FeatureExtractor`.
      name: the set's name in messages.
      num_images: number of images to ask a callable for.
      batch_size, skip_unreadable, exclude_training_images, cache_dir: as for `compute_fid`.

    Returns:
      The statistics, the account of the images, and warnings.

    Raises:
      DataError: not a source of images, or fewer than two images in it.
      UnreadableImageError: an unreadable image, unless `skip_unreadable`.
    """
    options = ExtractionOptions(
        batch_size, skip_unreadable, exclude_training_images, cache_dir=cache_dir
    )
    found = extract(open_source(source, name, num_images), extractor, options)
    return found.statistics, found.account, found.warnings


def as_spec(extractor, seed: int = 0, dims: int = 2048, **changes):
    """Returns an `ExtractorSpec` of a name or path; a spec or a loaded extractor as it is.

    Args:
      extractor: a name, a path, an `ExtractorSpec` or a `FeatureExtractor`.
      seed, dims, changes: fields of `ExtractorSpec`.
    """
    if isinstance(extractor, (str, os.PathLike)):
        return ExtractorSpec(extractor, seed=seed, dims=dims, **changes)
    if not isinstance(extractor, ExtractorSpec):
        extractor = loaded_extractor(extractor)
    if any(value is not None for value in changes.values()) or dims != 2048:
        raise DataError(
            "the extractor is already loaded; pass image_size, resize, aspect, precision and dims "
            "to load_extractor instead"
        )
    return extractor


def load_spec(spec):
    """Loads an `ExtractorSpec`; an extractor that is loaded already is returned as it is."""
    return spec.load() if isinstance(spec, ExtractorSpec) else spec


def check_confidence(confidence):
    """Raises SettingError unless a confidence level is between 0 and 1."""
    if not 0 < confidence < 1:
        raise SettingError(
            f"confidence {confidence}: expected a number between 0 and 1, such as 0.95"
        )


def _measured(wanted, comparison, named, seconds):
    """Findings by name, None where a metric is unavailable, and the reasons for those."""
    found, unavailable = {}, {}
    for name in wanted:
        try:
            with _clock(seconds, "frechet" if name == "fid" else name):
                found[name] = METRICS[name].compute(comparison)
            _check_finite(found[name].fields)
        except StatisticsError as error:
            if name in named:
                raise StatisticsError(f"{name}: {error}") from error
            found[name], unavailable[name] = None, str(error)
    return found, unavailable


def _check_finite(value):
    """Raises StatisticsError if a result holds NaN or infinity: what was given is out of range."""
    if isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            _check_finite(item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise StatisticsError(f"the result is {value}: the features are too large or too small")


@contextlib.contextmanager
def _clock(seconds, stage):
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
