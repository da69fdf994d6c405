"""The one place where images, extractor and metric meet: `compute_fid` and its result."""

import contextlib
import time
from collections.abc import Sequence

from fid_med.data.sources import open_source
from fid_med.errors import SettingError, StatisticsError
from fid_med.evaluation.extraction import SideResult, empty_statistics, extract
from fid_med.evaluation.inputs import (
    check_features,
    feature_set,
    is_statistics,
    known_count,
    load_for,
    load_statistics,
    open_sources,
)
from fid_med.evaluation.metric_registry import (
    Comparison,
    check_classifier,
    check_metrics,
    image_classes,
    measure,
    measure_classes,
)
from fid_med.evaluation.result import FIDResult, PlanResult
from fid_med.metrics.planning import FEWEST_PLANNED, detectable_difference
from fid_med.metrics.statistics import FeatureStatistics, check_comparable
from fid_med.utils.files import versions
from fid_med.utils.progress import warn

SMALL_SAMPLE = 2048


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
    seed: int = 0,
    num_generated: int | None = None,
    skip_unreadable: bool = False,
    exclude_training_images: bool = False,
    multi_frame: str = "refuse",
    keep_features: bool = False,
    cache_dir=None,
) -> FIDResult:
    """Computes the Fréchet inception distance between two sets of images, and what else is asked.

    Args:
      real, generated: each a folder of images; a `.npz` of statistics; a uint8 array [N, H, W] or
        [N, H, W, 3]; a `tf.data.Dataset` of uint8 images or batches of them; or a callable that
        takes a count and returns up to that many images as such an array (a generator network).
      extractor: a `FeatureExtractor`, or what `load_extractor` takes. Not loaded where both sides
        are statistics.
      metrics: of `measures.METRICS`; by default `fid`, and `debiased` where a side has fewer than
        2,048 images. One that is named and can't be computed is an error.
      per_class: add the FID of each class, which is the folder that an image lies in; with the
        metric `difference` what differs most within it, too.
      confidence: nominal coverage of intervals, between 0 and 1.
      train_images: the images that the generator was trained on, for `memorisation`: as `real`,
        but no `.npz`.
      other_generated: a second generated set, for `paired`: which of the two is nearer to `real`.
      patient_regex: finds the patient in the name of a real (or training) image's file, as for
        `patients_of`; intervals then go by patient.
      generated_patient_regex: the same for `generated`, where those are real patients too.
      batch_size: images that go through the network at once.
      image_size, resize, aspect, precision: as for `load_extractor`.
      seed: of the weights of `random`, and of all that metrics draw, but for the subsets of KID,
        which are torch-fidelity's.
      num_generated: images to ask a callable for; by default as many as the other side has.
      skip_unreadable: leave unreadable images out and count them, in place of an error.
      exclude_training_images: leave out images that the extractor was trained or validated on.
      multi_frame: `refuse` DICOM files of several frames, or `unroll` them, each frame an image.
      keep_features: keep the features of single images in the result, whatever the metrics.
      cache_dir: folder that keeps features by the content of image files, so that a killed run
        goes on and a repeated one computes only what changed. It holds features of single images
        and hashes, no names. Only for folders; by default nothing is kept.

    Returns:
      The result; warnings are printed to stderr as well.

    Raises:
      FidMedError: anything wrong with what was given, in one line.
    """
    wanted = check_metrics(metrics or ())
    _check_confidence(confidence)
    _check_third_set("memorisation", wanted, train_images, "train_images")
    _check_third_set("paired", wanted, other_generated, "other_generated")
    seconds: dict[str, float] = {}
    sides = {"real": real, "generated": generated}
    for name, side in (("training", train_images), ("other generated", other_generated)):
        if side is not None:
            sides[name] = side
    # Everything is opened before anything is computed: a wrong path must not cost an hour.
    done = {name: load_statistics(x, name) for name, x in sides.items() if is_statistics(x)}
    check_features(done, [*wanted[1:], *(["per_class"] if per_class else [])])
    still = {name: side for name, side in sides.items() if name not in done}
    opened = open_sources(still, done, num_generated, multi_frame)
    if per_class:
        for name in ("real", "generated"):
            image_classes(opened[name].names if name in opened else done[name].names, name)
    counts = [known_count(name, done, opened) for name in ("real", "generated")]
    small = any(count is None or count < SMALL_SAMPLE for count in counts)
    if metrics is None and small:
        wanted += ("debiased",)
    loaded = None
    if opened or "is" in wanted:
        with _clock(seconds, "extractor"):
            loaded = load_for(
                None if cache_dir else next(iter(opened.values()), None),
                extractor,
                image_size=image_size,
                resize=resize,
                aspect=aspect,
                precision=precision,
                seed=seed,
            )
        for extraction in done.values():
            check_comparable(extraction.statistics, empty_statistics(loaded))
        if "is" in wanted:
            check_classifier(loaded.logits)
    for name in opened:
        with _clock(seconds, name):
            done[name] = extract(
                opened[name],
                loaded,
                keep_features=keep_features or per_class or len(wanted) > 1,
                batch_size=batch_size,
                skip_unreadable=skip_unreadable,
                # The generator's training images are often the extractor's too.
                exclude_training_images=exclude_training_images and name != "training",
                warn_of_training=name != "training",
                patient_regex=generated_patient_regex if "generated" in name else patient_regex,
                cache_dir=cache_dir,
            )
    statistics = (done["real"].statistics, done["generated"].statistics)
    warnings = list(loaded.warnings) if loaded else []
    warnings += [line for name in sides for line in done[name].warnings]
    warnings += check_comparable(*statistics)
    warnings += _small_sample_warnings([done["real"].side, done["generated"].side])
    features = {name: feature_set(done[name], sides[name], name, multi_frame) for name in done}
    comparison = Comparison(
        statistics,
        features["real"],
        features["generated"],
        features.get("training"),
        features.get("other generated"),
        logits=loaded and loaded.logits,
        classifier=loaded.name if loaded else "",
        confidence=confidence,
        seed=seed,
    )
    found, unavailable = _measured(wanted, comparison, metrics is not None, seconds)
    by_class = measure_classes(comparison, "difference" in wanted) if per_class else None
    warnings += _metric_warnings(found) + _patient_warnings(features)
    for line in warnings:
        warn(line)
    origin = next((s for s in statistics if s.fingerprint), statistics[0])
    return FIDResult(
        fid=found["fid"]["value"],
        real=done["real"].side,
        generated=done["generated"].side,
        training=done["training"].side if "training" in done else None,
        other_generated=done["other generated"].side if "other generated" in done else None,
        extractor=origin.extractor,
        fingerprint=origin.fingerprint,
        preprocessing=origin.preprocessing,
        metrics=found,
        unavailable=unavailable,
        by_class=by_class,
        versions=versions(),
        seconds={stage: round(value, 3) for stage, value in seconds.items()},
        warnings=warnings,
        statistics=statistics,
        features=features,
    )


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
    seed: int = 0,
    skip_unreadable: bool = False,
    exclude_training_images: bool = False,
    multi_frame: str = "refuse",
    cache_dir=None,
) -> PlanResult:
    """Tells from the real images alone how small a FID a study of theirs could show.

    Args:
      real: images, or statistics saved with features, as for `compute_fid`.
      counts: images on each side to plan for, 8 or more.
      Others: as for `compute_fid`.

    Returns:
      For each count the smallest true FID that is told from 0 with a chance of 80 %, and what it
      was told from. Warnings are printed to stderr as well.

    Raises:
      FidMedError: as `compute_fid`, or too few images to tell anything.
    """
    _check_confidence(confidence)
    if min(counts, default=0) < FEWEST_PLANNED:
        raise SettingError(
            f"plan {', '.join(map(str, counts))}: expected counts of {FEWEST_PLANNED} or more"
        )
    loaded_warnings = ()
    if is_statistics(real):
        done = load_statistics(real, "real")
        check_features({"real": done}, ["plan"])
    else:
        opened = open_source(real, "real", multi_frame=multi_frame)
        loaded = load_for(
            None if cache_dir else opened,
            extractor,
            image_size=image_size,
            resize=resize,
            aspect=aspect,
            precision=precision,
            seed=seed,
        )
        loaded_warnings = loaded.warnings
        done = extract(
            opened,
            loaded,
            keep_features=True,
            batch_size=batch_size,
            skip_unreadable=skip_unreadable,
            exclude_training_images=exclude_training_images,
            patient_regex=patient_regex,
            cache_dir=cache_dir,
        )
    warnings = [*loaded_warnings, *done.warnings]
    for line in warnings:
        warn(line)
    return PlanResult(
        [
            detectable_difference(
                done.features, count, done.groups, confidence=confidence, seed=seed
            )
            for count in counts
        ],
        done.side,
        done.statistics.extractor,
        done.statistics.fingerprint,
        done.statistics.preprocessing,
        versions(),
        warnings,
    )


def _check_confidence(confidence):
    if not 0 < confidence < 1:
        raise SettingError(f"confidence {confidence}: expected between 0 and 1, such as 0.95")


def _check_third_set(metric, wanted, given, flag):
    """A metric and the images that it alone needs come together, or there was a slip."""
    if metric in wanted and given is None:
        raise SettingError(f"metrics {metric}: needs --{flag}")
    if metric not in wanted and given is not None:
        raise SettingError(f"{flag}: for the metric {metric} alone; add it to --metrics")


def _measured(wanted, comparison, named, seconds):
    found, unavailable = {}, {}
    for name in wanted:
        try:
            with _clock(seconds, "frechet" if name == "fid" else name):
                found[name] = measure(name, comparison)
        except StatisticsError as error:
            if name == "fid" or named:
                raise StatisticsError(f"{name}: {error}") from error
            found[name], unavailable[name] = None, str(error)
    return found, unavailable


def _metric_warnings(found):
    lines = [
        f"copying is likely: {reason}"
        for reason in (found.get("memorisation") or {}).get("reasons", ())
    ]
    debiased = found.get("debiased")
    if not debiased:
        return lines
    if debiased["shared"]:
        lines.append(
            f"{debiased['shared']} generated images have the very features of a real one; the "
            "debiased FID takes the sides for independent and comes out too low"
        )
    for side in ("real", "generated"):
        repeats = debiased[f"{side}_count"] - debiased[f"{side}_distinct"]
        # Repeats of one patient stay together where patients are known.
        if repeats and debiased[f"{side}_patients"] is None:
            lines.append(
                f"{repeats} {side} images have the very features of another; the debiased FID "
                "takes images for independent and comes out too high: leave repeats out"
            )
    return lines


def _patient_warnings(features):
    sides = [features["real"], features["generated"]]
    # Groups from a file of features are numbers: equal ones on the two sides mean nothing.
    if any(side is None or side.groups is None or side.names is None for side in sides):
        return []
    both = len(set(sides[0].groups) & set(sides[1].groups))
    if not both:
        return []
    have = "patient has" if both == 1 else "patients have"
    return [
        f"{both} {have} images on both sides; the debiased FID takes the sides for independent "
        "and comes out too low: leave them out of one"
    ]


@contextlib.contextmanager
def _clock(seconds, stage):
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start


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
) -> tuple[FeatureStatistics, SideResult, list[str]]:
    """Computes the statistics of the features of a set of images, in bounded memory.

    Args:
      source: a folder, array, dataset or callable, as for `compute_fid`, or an `ImageSource`.
      extractor: a loaded `FeatureExtractor`.
      name: what messages call the set.
      batch_size, skip_unreadable, exclude_training_images, cache_dir: as for `compute_fid`.
      num_images: how many images to ask a callable for.

    Returns:
      The statistics, the account of the images, and warnings.

    Raises:
      DataError: no source of images, or fewer than two images in it.
      UnreadableImageError: an unreadable image, unless `skip_unreadable`.
    """
    extraction = extract(
        source,
        extractor,
        name=name,
        batch_size=batch_size,
        num_images=num_images,
        skip_unreadable=skip_unreadable,
        exclude_training_images=exclude_training_images,
        cache_dir=cache_dir,
    )
    return extraction.statistics, extraction.side, extraction.warnings


def _small_sample_warnings(sides):
    small = [side.count for side in sides if side.count is not None and side.count < SMALL_SAMPLE]
    if not small:
        return []
    return [
        f"fewer than {SMALL_SAMPLE} images on a side ({min(small)}): the covariance is "
        "rank-deficient and the FID is biased upward; compare it only with FIDs of the same "
        "extractor at the same two counts; debiased FIDs of one extractor compare at any counts"
    ]
