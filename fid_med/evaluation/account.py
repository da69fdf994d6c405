"""Counts the images of a set, and words the warnings about those left out.

`extract`, the cluster pipeline and the Keras callback all decide and word it here.
"""

import dataclasses
from collections.abc import Iterable, Iterator

from fid_med.data.appearance import BLACK, UNIFORM, WHITE
from fid_med.data.sources import ImageSource, Prepared
from fid_med.errors import DataError, UnreadableImageError
from fid_med.metrics.statistics import SMALL_SAMPLE
from fid_med.utils.wording import name_some

# Fewest patients from which an interval is computed.
_FEWEST_PATIENTS = 8
# Share of a set that must be without content before that is a warning: single blank exposures are
# part of many data sets.
_MANY = 0.1
# Number of repeated images that a result names.
LISTED = 10
_APPEARANCES = {BLACK: "black", WHITE: "white", UNIFORM: "uniform"}


@dataclasses.dataclass
class ImageAccount:
    """Counts of the images of one set.

    Attributes:
      kind: statistics, folder, array, dataset or callable.
      count: images that entered the statistics; None for statistics of unknown origin.
      skipped: unreadable images that were left out, only on request.
      excluded: images left out because the extractor was trained or validated on them, only on
        request.
      seen_in_training: images that entered although the extractor was trained or validated on them.
      cached: images among `count` whose features came from the cache of an earlier run.
      ignored: number of files of the folder that are no images, by suffix or name.
      validated_on: images among `excluded` or `seen_in_training` that the extractor was validated
        on, and not trained on.
      black, white, uniform: images among `count` that are nearly black, nearly white, or of one
        grey value, as `data.appearance` decides.
      distinct: images among `count` with different features, where those are fewer than
        `SMALL_SAMPLE`; None where they are more, or unknown.
    """

    kind: str
    count: int | None
    skipped: int = 0
    excluded: int = 0
    seen_in_training: int = 0
    cached: int = 0
    ignored: dict[str, int] = dataclasses.field(default_factory=dict)
    validated_on: int = 0
    black: int = 0
    white: int = 0
    uniform: int = 0
    distinct: int | None = None

    @property
    def few(self) -> bool:
        """Whether there are fewer different images than `SMALL_SAMPLE`; False if unknown."""
        known = self.count if self.distinct is None else self.distinct
        return known is not None and known < SMALL_SAMPLE

    def describe(self) -> str:
        """Describes the counts, such as `80 images (folder), 320 excluded: 240 trained on, ...`."""
        count = "unknown count" if self.count is None else f"{self.count} images"
        parts = [
            f"{number} {what}"
            for number, what in (
                (self.skipped, "skipped as unreadable"),
                (self.excluded, f"excluded as training images{self._use_in_training()}"),
                (self.cached, "taken from the cache"),
                (sum(self.ignored.values()), "other files ignored"),
            )
            if number
        ]
        return ", ".join([f"{count} ({self.kind})", *parts])

    def _use_in_training(self):
        """Says how the extractor's training used these images, where it was not all the same."""
        if not self.validated_on:
            return ""
        trained = self.excluded + self.seen_in_training - self.validated_on
        return f" ({trained} trained on, {self.validated_on} validated on)"

    def check_enough(self, name: str) -> None:
        """Raises DataError where fewer than two images are left for a covariance."""
        if self.count < 2:
            left_out = self.skipped + self.excluded
            aside = f" ({left_out} left out)" if left_out else ""
            raise DataError(
                f"{name}: {self.count} image{'' if self.count == 1 else 's'}{aside}; a covariance "
                "needs at least 2 images, and a useful FID needs hundreds"
            )

    def training_warnings(self, name: str) -> list[str]:
        """Warns if the extractor was trained on some of the images."""
        if not self.seen_in_training:
            return []
        return [
            f"{name}: the extractor's training has seen {self.seen_in_training} of these "
            f"{self.count} images{self._use_in_training()}, which biases the FID; compare held-out "
            "images (--exclude_training_images)"
        ]

    def blank_warnings(self, name: str) -> list[str]:
        """Warns if a tenth or more of the images are nearly black, nearly white, or uniform."""
        kinds = (
            (self.black, "nearly black"),
            (self.white, "nearly white"),
            (self.uniform, "of one grey value"),
        )
        return [
            f"{name}: {number} of {self.count} images are {what}; check how they were made and "
            "scaled: pixels are whole numbers from 0 to 255"
            for number, what in kinds
            if number and number >= _MANY * self.count
        ]


class ImageSelection:
    """Decides which images of a source count, and keeps the account.

    Args:
      source: the images.
      training_images: the extractor's `TrainingImages`, or None.
      skip_unreadable: leave unreadable images out; by default one is an error.
      exclude_training_images: leave out images that the extractor was trained or validated on.

    Attributes:
      account: `ImageAccount` of the images seen so far, except `count`, which the statistics have.
      unreadable: why images were skipped, without the path of their folder.
    """

    def __init__(
        self,
        source: ImageSource,
        training_images,
        *,
        skip_unreadable: bool = False,
        exclude_training_images: bool = False,
    ):
        self._source, self._trained = source, training_images
        self._skip_unreadable, self._exclude = skip_unreadable, exclude_training_images
        self.account = ImageAccount(source.kind, 0, ignored=source.ignored)
        self.unreadable: list[str] = []

    @property
    def hashers(self) -> list:
        """Returns the hashers; the first one's digests identify training images."""
        return [self._trained.hasher()] if self._trained else []

    def kept(self, images: Iterable[Prepared]) -> Iterator[Prepared]:
        """Yields the images that count.

        Raises:
          UnreadableImageError: an unreadable image, unless `skip_unreadable`.
        """
        account = self.account
        for image in images:
            if image.error:
                if not self._skip_unreadable:
                    raise UnreadableImageError(
                        f"{image.error}; repair or remove it, or leave unreadable images out with "
                        "--skip_unreadable"
                    ) from image.error
                account.skipped += 1
                self.unreadable.append(self._source.error_of(image))
                continue
            if image.found is not None:
                image.digests, image.appearance = image.found.digests, image.found.appearance
            if self._trained and image.digests[0] in self._trained:
                account.validated_on += image.digests[0] not in self._trained.train
                if self._exclude:
                    account.excluded += 1
                    continue
                account.seen_in_training += 1
            account.cached += image.found is not None
            if kind := _APPEARANCES.get(image.appearance):
                setattr(account, kind, getattr(account, kind) + 1)
            yield image

    def skipped_warnings(self) -> list[str]:
        """One warning for each unreadable image that was skipped."""
        return [f"{self._source.name}: skipped {reason}" for reason in self.unreadable]


def small_sample_warnings(accounts: Iterable[ImageAccount]) -> list[str]:
    """Warns if a side has fewer than `SMALL_SAMPLE` different images."""
    small = [(x.count if x.distinct is None else x.distinct, x.count) for x in accounts if x.few]
    if not small:
        return []
    distinct, count = min(small)
    images, number = "images", f"{count}"
    if distinct < count:
        images, number = "different images", f"{distinct} among {count}, the others are copies"
    return [
        f"fewer than {SMALL_SAMPLE} {images} per side ({number}): the covariance is "
        "rank-deficient and the FID is biased upward; compare it only with FIDs of the same "
        "extractor at the same two counts; debiased FIDs of the same extractor "
        "can be compared at any number of images"
    ]


def repeated_images(real, generated, debiased: dict) -> dict[str, list[list]]:
    """Names images that the debiased FID counts as repeated.

    Args:
      real, generated: the `FeatureSet` of both sides, with features.
      debiased: fields of the debiased FID.

    Returns:
      Pairs of names (or of indices, where images have no names), at most `LISTED` each: `shared`,
      a generated image and the real one that it repeats; `real` and `generated`, an image and the
      earlier one of the same set. A kind without repeats is left out.
    """
    from fid_med.metrics.resampling import equal_rows

    found = {}
    if debiased["shared"]:
        found["shared"] = (generated, real, equal_rows(generated.features, real.features, LISTED))
    for role, side in (("real", real), ("generated", generated)):
        if debiased[f"{role}_count"] > debiased[f"{role}_distinct"]:
            found[role] = (side, side, equal_rows(side.features, None, LISTED))
    return {
        kind: [[one.name(i), other.name(j)] for i, j in pairs]
        for kind, (one, other, pairs) in found.items()
    }


def repeated_image_warnings(debiased: dict, generated: str = "generated") -> list[str]:
    """Warnings about repeated images.

    Args:
      debiased: fields of the debiased FID; `repeated`, where there is one, is as `repeated_images`
        returns it.
      generated: name of the generated set.
    """
    lines, named = [], debiased.get("repeated", {})
    if debiased["shared"]:
        lines.append(
            f"{_images_have(debiased['shared'], generated)} the same features as a real image"
            f"{_pairs(named.get('shared'), debiased['shared'])}; the debiased FID assumes "
            "independent sets and is too low; remove them from one set"
        )
    for side, name in (("real", "real"), ("generated", generated)):
        repeats = debiased[f"{side}_count"] - debiased[f"{side}_distinct"]
        # Repeats of one patient stay together where patients are known.
        if repeats and debiased[f"{side}_patients"] is None:
            lines.append(
                f"{_images_have(repeats, name)} the same features as another {name} image"
                f"{_pairs(named.get(side), repeats)}; the debiased FID assumes independent images "
                "and is too high; remove the duplicates"
            )
    return lines


def _pairs(pairs, count):
    if not pairs:
        return ""
    named = [[f"image {x}" if isinstance(x, int) else x for x in pair] for pair in pairs]
    return f" ({name_some([' repeats '.join(pair) for pair in named], count)})"


def few_patients_warnings(name: str, flag: str, patients) -> list[str]:
    """Warns if a regular expression finds too few patients for an interval.

    Args:
      name: the set's name in messages.
      flag: `patient_regex` or `generated_patient_regex`.
      patients: the patient of each image, or None.
    """
    if patients is None or (found := len(set(patients))) >= _FEWEST_PATIENTS:
        return []
    advice = "drop it, because generated images have no patients"
    if flag == "patient_regex":
        advice = (
            "change it so that it matches the patient in a file name, or drop it if every image is "
            "of another patient"
        )
    return [
        f"{name}: --{flag} finds only {found} patient{'' if found == 1 else 's'} in "
        f"{len(patients)} images, and an interval needs {_FEWEST_PATIENTS}; {advice}"
    ]


def _images_have(count: int, side: str) -> str:
    return f"{count} {side} {'image has' if count == 1 else 'images have'}"


def shared_patient_warnings(real, generated) -> list[str]:
    """Warns if patients have images in both of two `FeatureSet`s."""
    sides = (real, generated)
    # Patients from a file of features are numbers: equal ones on the two sides mean nothing.
    if any(side.patients is None or side.names is None for side in sides):
        return []
    both = len(set(real.patients) & set(generated.patients))
    if not both:
        return []
    have = "patient has" if both == 1 else "patients have"
    return [
        f"{both} {have} images in both sets; the debiased FID assumes independent sets and is too "
        "low; remove these patients from one set"
    ]
