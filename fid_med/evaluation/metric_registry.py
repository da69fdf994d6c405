"""What `--metrics` names: numbers about two sets of features that are computed once for all."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fid_med.errors import SettingError, StatisticsError
from fid_med.metrics.debiased_fid import debiased_fid, paired_difference
from fid_med.metrics.difference import contributions, directions, per_class
from fid_med.metrics.fid_infinity import fid_infinity
from fid_med.metrics.frechet import frechet_components
from fid_med.metrics.inception_score import inception_score
from fid_med.metrics.kid import kid, kid_full
from fid_med.metrics.memorisation import memorisation
from fid_med.metrics.permutation import permutation_test
from fid_med.metrics.pixel_copies import PixelMatches, pixel_matches, pixel_signatures
from fid_med.metrics.prdc import expected_coverage, manifold_metrics
from fid_med.metrics.statistics import FeatureStatistics

METRICS = (
    "fid",
    "debiased",
    "infinity",
    "permutation",
    "kid",
    "prdc",
    "is",
    "memorisation",
    "paired",
    "difference",
)
_SPLITS = 10  # of the Inception Score, as in the literature
_LISTED = 10  # images that the difference names


@dataclasses.dataclass
class FeatureSet:
    """The features of one side, image by image.

    Attributes:
      features: float32 [N, d].
      names: of the images, or None where a file of features keeps none.
      digests: hashes of the images' pixels, or None likewise.
      groups: the patient of each image, [N], or None.
      loaders: functions that read an image again, by its name; None where that can't be done.
    """

    features: np.ndarray
    names: list[str] | None = None
    digests: list[str] | None = None
    groups: np.ndarray | None = None
    loaders: Mapping[str, Callable[[], np.ndarray]] | None = None

    def image(self, index: int) -> np.ndarray:
        """One image, read again: uint8 [H, W] or [H, W, 3]."""
        return self.loaders[self.names[index]]()

    def signatures(self) -> np.ndarray:
        """`pixel_signatures` of every image, read again."""
        return pixel_signatures(self.image(i) for i in range(len(self.features)))


@dataclasses.dataclass
class Comparison:
    """Everything that a metric may need.

    Attributes:
      statistics: of the real and of the generated images.
      real, generated: their features, None where only statistics are known.
      train: features of the images that the generator was trained on, or None.
      other: features of a second generated set, or None.
      logits: function from features to a classifier's logits, or None.
      classifier: what the logits belong to, for messages.
      confidence: nominal coverage of intervals.
      seed: of all that is drawn, but for the subsets of KID, which are torch-fidelity's.
    """

    statistics: tuple[FeatureStatistics, FeatureStatistics]
    real: FeatureSet | None = None
    generated: FeatureSet | None = None
    train: FeatureSet | None = None
    other: FeatureSet | None = None
    logits: Callable[[np.ndarray], np.ndarray] | None = None
    classifier: str = ""
    confidence: float = 0.95
    seed: int = 0


def check_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """The names without repeats, `fid` first; SettingError for one that is unknown."""
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise SettingError(f"metrics {', '.join(unknown)}: unknown; known are {', '.join(METRICS)}")
    return tuple(dict.fromkeys(("fid", *names)))


def measure(name: str, comparison: Comparison) -> dict:
    """One metric, as JSON types.

    Args:
      name: of `METRICS`.
      comparison: what to compute it from.

    Raises:
      StatisticsError: what it needs is not there, or there are too few images for it.
    """
    return _MEASURES[name](comparison)


def measure_classes(comparison: Comparison, differences: bool = False) -> list[dict]:
    """FID by class; an image's class is the first folder of its name.

    Args:
      comparison: of images in folders.
      differences: add the directions in which the class differs most, with their images.

    Raises:
      StatisticsError: no features, or images that lie in no class's folder.
    """
    real, generated = _both(comparison)
    labels = [
        image_classes(side.names, name) for side, name in ((real, "real"), (generated, "generated"))
    ]
    rows = []
    for row in per_class(real.features, generated.features, *labels):
        rows.append(
            {
                "label": row.label,
                "real": row.real_count,
                "generated": row.generated_count,
                "fid": row.components and row.components.distance,
                "mean_part": row.components and row.components.mean,
                "covariance_part": row.components and row.components.covariance,
                "reason": row.reason,
            }
        )
        if differences:
            places = [np.flatnonzero(of_side == row.label) for of_side in labels]
            rows[-1]["directions"] = (
                _directions(real.features, generated.features, *places) if row.components else []
            )
    return rows


def image_classes(names: Sequence[str] | None, name: str) -> np.ndarray:
    """The class of each image of a side, str [N]: the first folder of its name.

    Raises:
      StatisticsError: the names are not known, or an image lies in no folder.
    """
    if names is None or any("/" not in image for image in names):
        raise StatisticsError(
            f"{name}: classes are the folders that images lie in, {name.upper()}/<class>/..., and "
            "some images lie in none"
        )
    return np.array([image.split("/", 1)[0] for image in names])


def check_classifier(logits) -> None:
    """Raises StatisticsError where an extractor has no logits for the Inception Score."""
    if logits is None:
        raise StatisticsError(
            "the Inception Score needs a classifier's output, which this extractor does not hold: "
            "give a classifier.keras, or the graph of 2015-12-05"
        )


def _both(comparison) -> tuple[FeatureSet, FeatureSet]:
    for side, name in ((comparison.real, "real"), (comparison.generated, "generated")):
        if side is None:
            raise StatisticsError(
                f"{name}: statistics without the features of single images; give the images, or "
                "statistics saved with --save_features"
            )
    return comparison.real, comparison.generated


def _grouped(comparison) -> tuple[tuple[np.ndarray, np.ndarray], dict]:
    """Both sides' features, and their patients as the functions of `metrics` take them."""
    real, generated = _both(comparison)
    groups = {"real_groups": real.groups, "generated_groups": generated.groups}
    return (real.features, generated.features), groups


def _fid(comparison):
    components = frechet_components(*comparison.statistics)
    return {
        "value": components.distance,
        "mean_part": components.mean,
        "covariance_part": components.covariance,
        "method": components.method,
    }


def _debiased(comparison):
    features, groups = _grouped(comparison)
    options = {"confidence": comparison.confidence, "seed": comparison.seed}
    return debiased_fid(*features, **groups, **options).to_dict()


def _infinity(comparison):
    features, groups = _grouped(comparison)
    return fid_infinity(*features, **groups, seed=comparison.seed).to_dict()


def _permutation(comparison):
    features, groups = _grouped(comparison)
    return permutation_test(*features, **groups, seed=comparison.seed).to_dict()


def _paired(comparison):
    real, generated = _both(comparison)
    if comparison.other is None:
        raise StatisticsError("paired needs a second generated set (--other_generated)")
    return paired_difference(
        real.features,
        generated.features,
        comparison.other.features,
        real_groups=real.groups,
        first_groups=generated.groups,
        second_groups=comparison.other.groups,
        confidence=comparison.confidence,
        seed=comparison.seed,
    ).to_dict()


def _kid(comparison):
    features, groups = _grouped(comparison)
    subsets, whole = kid(*features), kid_full(*features, **groups)
    return {
        "value": whole.value,
        "standard_error": whole.standard_error,
        "subset_mean": subsets.mean,
        "subset_std": subsets.std,
        "subset_size": subsets.subset_size,
        "subsets": subsets.subsets,
    }


def _prdc(comparison):
    real, generated = _both(comparison)
    found = manifold_metrics(real.features, generated.features)
    counts = len(real.features), len(generated.features)
    return {
        **found._asdict(),
        "k": 3,
        "density_k": 5,
        "expected_coverage": expected_coverage(*counts),
    }


def _inception_score(comparison):
    check_classifier(comparison.logits)
    result = {"classifier": comparison.classifier, "splits": _SPLITS}
    for side, name in zip(_both(comparison), ("real", "generated"), strict=True):
        # Shuffled: images sorted by class would give splits unlike each other.
        score = inception_score(comparison.logits(side.features), _SPLITS, order=comparison.seed)
        result[name] = {"mean": score.mean, "std": score.std}
    return result


def _memorisation(comparison):
    real, generated = _both(comparison)
    if comparison.train is None:
        raise StatisticsError("memorisation needs the generator's training images (--train_images)")
    train = comparison.train
    held_out = _held_out(real, train)
    found = memorisation(
        generated.features,
        train.features,
        held_out=None if held_out is None else real.features[held_out],
        training_groups=train.groups,
        held_out_groups=None if held_out is None or real.groups is None else real.groups[held_out],
        pixels=_pixels(generated, train),
        seed=comparison.seed,
    )
    pairs = [
        pair._asdict()
        | {
            "generated_image": _name(generated, pair.generated),
            "training_image": _name(train, pair.training),
        }
        for pair in found.pairs
    ]
    return found.to_dict() | {
        "pairs": pairs,
        "copied_images": [_name(generated, i) for i in found.copies.tolist()],
        "training_images": len(train.features),
        "held_out_images": 0 if held_out is None else len(held_out),
    }


def _held_out(real, train) -> np.ndarray | None:
    """Indices of the real images that are no training images, nor of their patients."""
    if real.digests is None or train.digests is None:
        return None
    if (real.groups is None) != (train.groups is None):
        return None
    seen, patients = set(train.digests), set(() if train.groups is None else train.groups)
    indices = [
        i
        for i, digest in enumerate(real.digests)
        if digest not in seen and (real.groups is None or real.groups[i] not in patients)
    ]
    return np.array(indices) if len(indices) >= 2 else None


def _pixels(generated, train) -> PixelMatches | None:
    if generated.loaders is None or train.loaders is None:
        return None
    return pixel_matches(generated.signatures(), train.signatures())


def _difference(comparison):
    real, generated = _both(comparison)
    images = contributions(real.features, generated.features)
    return {
        "fid": images.fid,
        "unreached": images.unreached,
        "generated_farthest": _farthest(images.generated, generated),
        "real_farthest": _farthest(images.real, real),
        "generated_contributions": images.generated.tolist(),
        "real_contributions": images.real.tolist(),
        "directions": _directions(real.features, generated.features),
    }


def _directions(real, generated, real_places=None, generated_places=None) -> list[dict]:
    """`directions` as JSON types, of all images or of those at these places of their sides."""
    if real_places is None:
        real_places, generated_places = np.arange(len(real)), np.arange(len(generated))
    else:
        real, generated = real[real_places], generated[generated_places]
    return [
        {
            "share": row.share,
            "mean_part": row.mean_part,
            "spread_part": row.spread_part,
            "generated_mean": row.generated_mean,
            "real_std": row.real_std,
            "generated_std": row.generated_std,
            "real_low": real_places[row.real_low].tolist(),
            "real_high": real_places[row.real_high].tolist(),
            "generated_low": generated_places[row.generated_low].tolist(),
            "generated_high": generated_places[row.generated_high].tolist(),
        }
        for row in directions(real, generated)
    ]


def _farthest(moves, side):
    order = np.argsort(-moves, kind="stable")[:_LISTED].tolist()
    return [{"image": _name(side, i), "contribution": float(moves[i])} for i in order]


def _name(side, index) -> str | int:
    """An image's name, or its place where there are no names."""
    return side.names[index] if side.names else index


_MEASURES = {
    "fid": _fid,
    "debiased": _debiased,
    "infinity": _infinity,
    "permutation": _permutation,
    "kid": _kid,
    "prdc": _prdc,
    "is": _inception_score,
    "memorisation": _memorisation,
    "paired": _paired,
    "difference": _difference,
}
