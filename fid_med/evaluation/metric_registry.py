"""The metrics that `--metrics` names: one entry each.

An entry says what a metric is called, what it needs, how it is computed and how a person reads it.
The flag, its help, the checks before any work, the table of results and the figures follow from the
entries. Modules that compute load when they are used, so that `--help` needs neither SciPy nor
TensorFlow.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fid_med.errors import SettingError, StatisticsError
from fid_med.extractors.registry import DEPTHS

if TYPE_CHECKING:
    import numpy as np

    from fid_med.evaluation.extraction import FeatureSet

_SPLITS = 10  # of the Inception Score, as in the literature
_LISTED = 10  # images that `difference` names


@dataclasses.dataclass
class Comparison:
    """Everything that a metric may need.

    Attributes:
      real, generated: the sets that are compared.
      training: the images that the generator was trained on, or None.
      other_generated: a second generated set, or None.
      logits: function from features to a classifier's logits, or None.
      classifier: the name of that classifier, for messages.
      confidence: confidence level of the intervals.
      seed: seed for all metric sampling except KID subsets.
    """

    real: FeatureSet
    generated: FeatureSet
    training: FeatureSet | None = None
    other_generated: FeatureSet | None = None
    logits: Callable[[np.ndarray], np.ndarray] | None = None
    classifier: str = ""
    confidence: float = 0.95
    seed: int = 0

    @property
    def features(self) -> tuple[np.ndarray, np.ndarray]:
        """Features of both sets; raises StatisticsError if one has none."""
        for side, name in ((self.real, "real"), (self.generated, "generated")):
            if side.features is None:
                raise StatisticsError(describe_missing_features(name))
        return self.real.features, self.generated.features

    @property
    def patients(self) -> dict[str, Any]:
        """The patients of both sides, as the functions of `fid_med.metrics` take them."""
        return {
            "real_patients": self.real.patients,
            "generated_patients": self.generated.patients,
        }


def describe_missing_features(name: str) -> str:
    """Words the error for statistics without features; `name` is the set's role."""
    return (
        f"the {name} statistics hold no features of individual images; give the folder of images, "
        "or statistics saved with --save_features"
    )


def describe_missing_depths(name: str) -> str:
    """Words the error for statistics of one depth; `name` is the set's role."""
    return (
        f"the {name} statistics hold features of one depth; give the folder of images, or "
        "statistics saved with --metrics=depths --save_features"
    )


class Finding(NamedTuple):
    """What a metric found.

    Attributes:
      fields: JSON types, as they stand in `FIDResult.metrics`.
      drawn: what the metric's figure is drawn from, or None.
    """

    fields: dict
    drawn: Any = None


class TableRow(NamedTuple):
    """One line of the printed table."""

    name: str
    value: str
    spread: str = ""
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Metric:
    """One entry of the registry.

    Attributes:
      name: the name in `--metrics`.
      help: what it is, for the flag's help.
      compute: from a `Comparison` to a `Finding`.
      rows: from a finding's fields to rows of the table.
      needs_features: whether it needs the features of single images.
      needs_classifier: whether it needs a classifier's logits.
      needs_depths: whether it needs every depth of the extractor.
      extra_set: the keyword of `compute_fid` for a third set that it alone needs, or None.
      warnings: from a finding's fields to warnings.
      draw: draws its figures: from a `FIDResult` and a folder to the files written; or None.
      drawn_sides: the sides whose images its figures show.
      meanings: what the printed numbers mean and which way is good, one line each.
    """

    name: str
    help: str
    compute: Callable[[Comparison], Finding]
    rows: Callable[[dict], Iterator[TableRow]]
    needs_features: bool = True
    needs_classifier: bool = False
    needs_depths: bool = False
    extra_set: str | None = None
    warnings: Callable[[dict], list[str]] = lambda fields: []
    draw: Callable[[Any, Any], list[str]] | None = None
    drawn_sides: tuple[str, ...] = ()
    meanings: tuple[str, ...] = ()


def _fid(comparison):
    from fid_med.metrics.frechet import frechet_components

    components = frechet_components(comparison.real.statistics, comparison.generated.statistics)
    return Finding(
        {
            "value": components.distance,
            "mean_part": components.mean,
            "covariance_part": components.covariance,
            "method": components.method,
        }
    )


def _no_rows(fields):
    # The FID itself is the last line of the output.
    yield from ()


def _debiased(comparison):
    from fid_med.evaluation.account import repeated_images
    from fid_med.metrics.debiased_fid import debiased_fid

    options = {"confidence": comparison.confidence, "seed": comparison.seed}
    fields = debiased_fid(*comparison.features, **comparison.patients, **options).to_dict()
    if repeated := repeated_images(comparison.real, comparison.generated, fields):
        fields["repeated"] = repeated
    return Finding(fields)


def _debiased_rows(fields):
    yield TableRow(
        "debiased FID", f"{fields['value']:.6g}", _interval(fields), _drawn(fields, "replicates")
    )


def _debiased_warnings(fields):
    from fid_med.evaluation.account import repeated_image_warnings

    return repeated_image_warnings(fields)


def _infinity(comparison):
    from fid_med.metrics.fid_infinity import fid_infinity

    return Finding(
        fid_infinity(*comparison.features, **comparison.patients, seed=comparison.seed).to_dict()
    )


def _infinity_rows(fields):
    error = f"standard error of the fit {fields['standard_error']:.3g}"
    yield TableRow(
        "FID-infinity", f"{fields['value']:.6g}", error, f"{len(fields['counts'])} counts"
    )


def _permutation(comparison):
    from fid_med.metrics.permutation import permutation_test

    return Finding(
        permutation_test(
            *comparison.features, **comparison.patients, seed=comparison.seed
        ).to_dict()
    )


def _permutation_rows(fields):
    expected = f"{fields['permuted_mean']:.4g} +- {fields['permuted_sd']:.2g}"
    yield TableRow(
        "permutation test",
        f"p = {fields['p_value']:.3g}",
        f"{expected} after exchange",
        _drawn(fields, "permutations"),
    )


def _baseline(comparison):
    from fid_med.metrics.baseline import baseline
    from fid_med.metrics.planning import FEWEST_PLANNED, detectable_difference

    real, generated = comparison.real, comparison.generated
    if real.features is None:
        raise StatisticsError(describe_missing_features("real"))
    counts = real.statistics.count, generated.statistics.count
    if counts[1] is None:
        raise StatisticsError("the generated statistics do not say how many images they are of")
    found = baseline(real.features, *counts, real.patients, seed=comparison.seed)
    # The count of two equal sets whose FID has the same spread.
    equal = round(2 / sum(1 / n for n in counts))
    detectable = None
    if equal >= FEWEST_PLANNED:
        options = {"confidence": comparison.confidence, "seed": comparison.seed}
        detectable = detectable_difference(real.features, equal, real.patients, **options)
    return Finding(
        found.to_dict()
        | {
            "detectable": detectable and detectable.difference,
            "power": detectable and detectable.power,
        }
    )


def _baseline_rows(fields):
    expected = f"{fields['mean']:.4g} +- {fields['sd']:.2g}"
    note = "FID of two sets of the real distribution, at these counts"
    yield TableRow("real against real", expected, note=note)


def _kid(comparison):
    from fid_med.metrics.kid import kid, kid_full

    subsets = kid(*comparison.features)
    whole = kid_full(*comparison.features, **comparison.patients)
    return Finding(
        {
            "value": whole.value,
            "standard_error": whole.standard_error,
            "subset_mean": subsets.mean,
            "subset_std": subsets.std,
            "subset_size": subsets.subset_size,
            "subsets": subsets.subsets,
        }
    )


def _kid_rows(fields):
    error = fields["standard_error"]
    spread = "" if error is None else f"standard error {error:.3g}"
    yield TableRow("KID", f"{fields['value']:.6g}", spread, "all pairs")
    yield TableRow(
        "KID over subsets",
        f"{fields['subset_mean']:.6g}",
        f"std {fields['subset_std']:.3g}",
        f"{fields['subsets']} subsets of {fields['subset_size']}",
    )


def _prdc(comparison):
    from fid_med.metrics.prdc import expected_coverage, manifold_metrics

    real, generated = comparison.features
    return Finding(
        {
            **manifold_metrics(real, generated)._asdict(),
            "k": 3,
            "density_k": 5,
            "expected_coverage": expected_coverage(len(real), len(generated)),
        }
    )


def _prdc_rows(fields):
    for name in ("precision", "recall"):
        yield TableRow(name, f"{fields[name]:.4f}", note=f"k = {fields['k']}")
    k = f"k = {fields['density_k']}"
    yield TableRow("density", f"{fields['density']:.4f}", note=f"{k}; about 1 for real images")
    expected = f"{fields['expected_coverage']:.3f} expected of real images"
    yield TableRow("coverage", f"{fields['coverage']:.4f}", note=f"{k}; {expected}")


def _inception_score(comparison):
    from fid_med.metrics.inception_score import inception_score

    check_classifier(comparison.logits)
    fields = {"classifier": comparison.classifier, "splits": _SPLITS}
    for features, name in zip(comparison.features, ("real", "generated"), strict=True):
        # Shuffled: images sorted by class would give splits that differ.
        score = inception_score(comparison.logits(features), _SPLITS, order=comparison.seed)
        fields[name] = {"mean": score.mean, "std": score.std}
    return Finding(fields)


def _inception_score_rows(fields):
    note = f"{fields['splits']} splits, classes of {fields['classifier']}"
    for name in ("generated", "real"):
        score = fields[name]
        yield TableRow(
            f"Inception Score, {name}", f"{score['mean']:.5g}", f"std {score['std']:.3g}", note
        )


def _memorisation(comparison):
    from fid_med.metrics.memorisation import memorisation
    from fid_med.metrics.pixel_copies import pixel_matches

    _, generated_features = comparison.features
    real, generated, training = comparison.real, comparison.generated, comparison.training
    if training is None:
        raise StatisticsError("memorisation needs the generator's training images (--train_images)")
    held_out = _held_out(real, training)
    pixels = None
    if generated.source and training.source:
        pixels = pixel_matches(generated.signatures(), training.signatures())
    by_patient = held_out is not None and real.patients is not None
    found = memorisation(
        generated_features,
        training.features,
        held_out=None if held_out is None else real.features[held_out],
        training_patients=training.patients,
        held_out_patients=real.patients[held_out] if by_patient else None,
        pixels=pixels,
        seed=comparison.seed,
    )
    pairs = [
        pair._asdict()
        | {
            "generated_image": generated.name(pair.generated),
            "training_image": training.name(pair.training),
        }
        for pair in found.pairs
    ]
    fields = found.to_dict() | {
        "pairs": pairs,
        "copied_images": [generated.name(i) for i in found.copies.tolist()],
        "training_images": len(training.features),
        "held_out_images": 0 if held_out is None else len(held_out),
    }
    return Finding(fields, found.pairs)


def _held_out(real, training) -> np.ndarray | None:
    """Indices of the real images that are neither training images nor of training patients."""
    import numpy as np

    if real.digests is None or training.digests is None:
        return None
    if (real.patients is None) != (training.patients is None):
        return None
    seen = set(training.digests)
    patients = set(() if training.patients is None else training.patients)
    indices = [
        i
        for i, digest in enumerate(real.digests)
        if digest not in seen and (real.patients is None or real.patients[i] not in patients)
    ]
    return np.array(indices) if len(indices) >= 2 else None


def _memorisation_rows(fields):
    against = f"against {fields['training_images']} training images"
    if fields["expected_authenticity"] is not None:
        against += f"; {fields['expected_authenticity']:.3f} expected of new real images"
    yield TableRow("authenticity", f"{fields['authenticity']:.4f}", note=against)
    looked = "features and pixels" if fields["pixels_compared"] else "features alone"
    yield TableRow("copies", str(len(fields["copies"])), note=f"judged by {looked}")
    for pair in fields["pairs"]:
        if pair["copy"]:
            similarity = pair["similarity"]
            alike = "" if similarity is None else f"pixels {similarity:.3f}"
            yield TableRow(
                "copy", str(pair["generated_image"]), alike, f"of {pair['training_image']}"
            )


def _memorisation_warnings(fields):
    return [f"copying is likely: {reason}" for reason in fields["reasons"]]


def _draw_memorisation(result, folder):
    from fid_med.evaluation.figures import draw_memorisation

    return draw_memorisation(result, folder)


def _paired(comparison):
    from fid_med.metrics.debiased_fid import paired_difference

    real, generated = comparison.features
    other = comparison.other_generated
    if other is None:
        raise StatisticsError("paired needs a second generated set (--other_generated)")
    return Finding(
        paired_difference(
            real,
            generated,
            other.features,
            real_patients=comparison.real.patients,
            first_patients=comparison.generated.patients,
            second_patients=other.patients,
            confidence=comparison.confidence,
            seed=comparison.seed,
        ).to_dict()
    )


def _paired_rows(fields):
    note = f"p = {fields['p_value']:.3g}; negative: GENERATED is nearer"
    yield TableRow(
        "debiased FID, GENERATED minus other", f"{fields['value']:.6g}", _interval(fields), note
    )


def _difference(comparison):
    from fid_med.metrics.difference import contributions, directions

    real, generated = comparison.features
    images, rows = contributions(real, generated), directions(real, generated)
    fields = {
        "fid": images.fid,
        "unreached": images.unreached,
        "generated_farthest": _farthest(images.generated, comparison.generated),
        "real_farthest": _farthest(images.real, comparison.real),
        "generated_contributions": images.generated.tolist(),
        "real_contributions": images.real.tolist(),
        "directions": [direction_fields(row) for row in rows],
    }
    return Finding(fields, rows)


def direction_fields(direction) -> dict:
    """A `Direction` as JSON types, without its vector."""
    fields = direction._asdict()
    del fields["vector"]
    return {
        name: value.tolist() if hasattr(value, "tolist") else value
        for name, value in fields.items()
    }


def _farthest(contributions, side):
    import numpy as np

    order = np.argsort(-contributions, kind="stable")[:_LISTED].tolist()
    return [{"image": side.name(i), "contribution": float(contributions[i])} for i in order]


def _difference_rows(fields):
    from fid_med.metrics.difference import describe_shift

    for i, row in enumerate(fields["directions"][:3], 1):
        parts = describe_shift(row["generated_mean"], row["real_std"], row["generated_std"])
        yield TableRow(f"direction {i}", f"{row['share']:.1%}", "of the FID", parts)


def _draw_difference(result, folder):
    from fid_med.evaluation.figures import draw_difference

    return draw_difference(result, folder)


def _depths(comparison):
    from fid_med.metrics.depth_profile import add_baseline, add_debiased, depth_profile

    real = comparison.real
    sides = [x.depths for x in (comparison.real, comparison.generated)]
    profile = depth_profile(*({k: x.statistics for k, x in side.items()} for side in sides))
    # As by default for the FID: for large sets the bias is negligible, and the splits take long.
    if comparison.real.account.few or comparison.generated.account.few:
        profile = add_debiased(
            profile,
            *({k: x.features for k, x in side.items()} for side in sides),
            **comparison.patients,
            confidence=comparison.confidence,
            seed=comparison.seed,
        )
        counts = [x.statistics.count for x in (real, comparison.generated)]
        with contextlib.suppress(StatisticsError):  # too few images
            features = {k: x.features for k, x in real.depths.items()}
            profile = add_baseline(profile, features, counts, real.patients, comparison.seed)
    fields = profile.to_dict()
    for depth in fields["depths"]:
        depth["layer"] = DEPTHS[depth["dims"]]
    return Finding(fields)


def _depths_rows(fields):
    for depth in fields["depths"]:
        base = depth["baseline"]
        expected = f"; real against real {base['mean']:.4g} +- {base['sd']:.2g}" if base else ""
        yield TableRow(
            f"FID at {depth['dims']}, {depth['layer']}",
            f"{depth['fid']:.6g}",
            describe_debiased(depth["debiased"]),
            f"{depth['normalised']:.3g} of the real variance{expected}",
        )
    base = fields["baseline"]
    expected = "" if base is None else f"; real against real {base:.4g}"
    yield TableRow(
        "multi-depth FID",
        f"{fields['value']:.6g}",
        describe_debiased(fields["debiased"]),
        f"mean of the {len(fields['depths'])} depths, each divided by its real variance{expected}",
    )


def describe_debiased(fields: dict | None) -> str:
    """A debiased FID and its interval for a column of the table; empty where there is none."""
    return f"debiased {fields['value']:.4g}, {_interval(fields)}" if fields else ""


def _interval(fields) -> str:
    return f"{fields['confidence']:.0%}: {fields['low']:.4g} to {fields['high']:.4g}"


def _drawn(fields, what) -> str:
    by_patient = fields["real_patients"] or fields["generated_patients"]
    return f"{fields[what]} {what}{' by patient' if by_patient else ''}"


_ENTRIES = (
    Metric("fid", "the FID, always computed", _fid, _no_rows, needs_features=False),
    Metric(
        "debiased",
        "FID corrected for small samples, with an interval",
        _debiased,
        _debiased_rows,
        warnings=_debiased_warnings,
        meanings=(
            "debiased FID: without the bias of few images; 0 is best, slightly below 0 is chance",
            "replicates: random splits used for the value and the interval",
        ),
    ),
    Metric(
        "depths",
        "FID at every depth of the extractor, and the multi-depth FID",
        _depths,
        _depths_rows,
        needs_depths=True,
        meanings=(
            "FID at 64, 192: grain and sharpness; at 768, 2048: structure; lower is better",
            "multi-depth FID: in units of the real variance; lower is better",
        ),
    ),
    Metric(
        "infinity",
        "FID-infinity, extrapolated to infinitely many images",
        _infinity,
        _infinity_rows,
        meanings=("FID-infinity: estimated for infinitely many images; lower is better",),
    ),
    Metric(
        "permutation",
        "permutation test of equal distributions",
        _permutation,
        _permutation_rows,
        meanings=(
            "p: share of random exchanges of images between sets whose FID is at least as large",
        ),
    ),
    Metric(
        "baseline",
        "FID of real against real images at the same counts",
        _baseline,
        _baseline_rows,
        needs_features=False,  # those of the real images alone
        meanings=(
            "real against real: FID of two real sets, mean +- standard deviation; a FID far "
            "below it suggests copies",
        ),
    ),
    Metric(
        "kid",
        "kernel inception distance",
        _kid,
        _kid_rows,
        meanings=("KID: kernel distance of the features; 0 is best, slightly below 0 is chance",),
    ),
    Metric(
        "prdc",
        "precision, recall, density, coverage",
        _prdc,
        _prdc_rows,
        meanings=(
            "precision: share of generated images that are near real ones; 1 is best",
            "recall: share of real images that are near generated ones; 1 is best",
            "density: like precision, counts how many real images are near; higher is better",
            "coverage: like recall, less sensitive to outliers; higher is better",
        ),
    ),
    Metric(
        "is",
        "Inception Score, with a classifier as extractor",
        _inception_score,
        _inception_score_rows,
        needs_classifier=True,
        meanings=("Inception Score: clear and varied classes; best near that of the real images",),
    ),
    Metric(
        "memorisation",
        "copies of training images, with --train_images",
        _memorisation,
        _memorisation_rows,
        extra_set="train_images",
        warnings=_memorisation_warnings,
        draw=_draw_memorisation,
        drawn_sides=("generated",),
        meanings=(
            "authenticity: share not too near a training image; far below expected suggests copies",
            "copies: generated images that repeat a training image; 0 is best",
        ),
    ),
    Metric(
        "paired",
        "which of two generated sets is nearer to REAL, with --other_generated",
        _paired,
        _paired_rows,
        extra_set="other_generated",
        meanings=(
            "GENERATED minus other: below 0, GENERATED is nearer; no difference if 0 is inside",
        ),
    ),
    Metric(
        "difference",
        "what differs most between the sets",
        _difference,
        _difference_rows,
        draw=_draw_difference,
        drawn_sides=("real", "generated"),
        meanings=(
            "direction: axis of the features along which the sets differ, the farthest first",
            "mean: shift of generated images in standard deviations (sd) of real ones",
            "spread: their standard deviation over that of real images; 1 is best",
        ),
    ),
)
METRICS: dict[str, Metric] = {entry.name: entry for entry in _ENTRIES}


def metrics_help() -> str:
    """Lists the metrics for a flag's help."""
    return ", ".join(f"{entry.name} ({entry.help})" for entry in _ENTRIES[1:])


def check_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """Returns the names without repeats, `fid` first; raises SettingError if one is unknown."""
    if isinstance(names, str):
        listed = [name.strip() for name in names.split(",")]
        raise SettingError(f"metrics {names!r}: expected a list of names, such as {listed}")
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise SettingError(
            f"metrics: unknown metric {', '.join(unknown)}; choose from {', '.join(METRICS)}"
        )
    return tuple(dict.fromkeys(("fid", *names)))


def check_extra_sets(wanted: Sequence[str], given: dict[str, Any]) -> None:
    """Checks that a metric and the set that it alone needs are given together.

    Args:
      wanted: names of metrics.
      given: each keyword of `Metric.extra_set`, with its value or None.

    Raises:
      SettingError: one is given without the other.
    """
    for entry in _ENTRIES:
        if entry.extra_set is None:
            continue
        value = given[entry.extra_set]
        if entry.name in wanted and value is None:
            raise SettingError(f"metrics {entry.name}: needs --{entry.extra_set}")
        if entry.name not in wanted and value is not None:
            raise SettingError(
                f"--{entry.extra_set} is used only by the metric {entry.name}; add {entry.name} to "
                "--metrics"
            )


def check_classifier(logits) -> None:
    """Raises StatisticsError where an extractor has no logits for the Inception Score."""
    if logits is None:
        raise StatisticsError(
            "the Inception Score needs a classifier's output, which this extractor does not have; "
            "use --extractor=FOLDER/classifier.keras or --extractor=ttur"
        )
