"""Heat maps of a study: where in an image at the strongest level the FID comes from."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fid_med.disturbances.registry import DISTURBANCES
from fid_med.evaluation.image_plots import HeatedImage, heat_image
from fid_med.extractors.feature_maps import FeatureMaps, has_feature_maps
from fid_med.metrics.difference import contributions, gradients
from fid_med.study.images import UNTOUCHED, Disturber, Example, StudyImages
from fid_med.study.repeats import Halves, replace_members

# The deepest grid that still shows places: 17 x 17 in an input of 299 pixels, where the last one
# has 8 x 8.
DIMS = 768
# More images change the maps little.
MOST_IMAGES = 500


@dataclasses.dataclass
class HeatMaps:
    """Makes heat maps of one image at the strongest level of each disturbance.

    The FID is that of one split: untouched images against the other half at the strongest level,
    with the drawn image in place of one of that half. Under contamination the drawn image is of the
    other domain. The undisturbed example is drawn too, from the FID of the undisturbed half. Both
    maps are in shares of the FID at the strongest level, so what they have in common is the patient
    and not the disturbance. Only drawn images pass through a network; all other features are the
    study's.

    Attributes:
      images, foreign: as for `make_examples`.
      half: the split.
      count: number of images per side; at most `MOST_IMAGES` are used.
      compute: function of (images, cell) that returns features [N, d] by extractor and depth.
      disturber: makes disturbed images.
      example: the image to draw.
    """

    images: StudyImages
    foreign: StudyImages | None
    half: Halves
    count: int
    compute: Callable
    disturber: Disturber
    example: Example

    def make(
        self, extractors: Mapping[str, object], names: Sequence[str]
    ) -> dict[str, dict[str, list[HeatedImage]]]:
        """Returns heat maps by disturbance, then by extractor: undisturbed, at the strongest level.

        Args:
          extractors: `FeatureExtractor`s by display name; those without feature maps are left out.
          names: disturbances; one with a FID of 0 is left out.
        """
        reference, members = self._divide()
        others = members[members != self.example.index][: len(reference) - 1]
        untouched = self.compute(self.images, UNTOUCHED)
        staged = {name: self._stage(name, members, others, untouched) for name in names}
        found = {}
        for extractor, network in extractors.items():
            if not has_feature_maps(network):
                continue
            maps = FeatureMaps(network, DIMS)
            real = untouched[extractor][DIMS][reference]
            start = _Heat(maps, self.example.pixels, real, untouched[extractor][DIMS][others])
            for name, (picture, rows) in staged.items():
                end = _Heat(maps, picture, real, rows[extractor])
                if end.fid > 0:
                    level = f"level {DISTURBANCES[name].levels[-1]:g}"
                    pair = start.draw("undisturbed", end.fid), end.draw(level, end.fid)
                    found.setdefault(name, {})[extractor] = list(pair)
        return found

    @property
    def images_a_side(self) -> int:
        """Number of images per side that the heat maps are of."""
        return min(self.count, MOST_IMAGES)

    def _divide(self):
        """Returns the indices of the untouched half, and of the other, which has the example."""
        sides = self.half.reference, self.half.disturbed
        if self.example.index in sides[0]:
            sides = sides[::-1]
        return (side[: self.images_a_side] for side in sides)

    def _stage(self, name, members, others, untouched):
        """Returns the drawn image, and the features [n - 1, d] of the other images by extractor."""
        cell = name, DISTURBANCES[name].levels[-1]
        if not DISTURBANCES[name].set_level:
            features = self.compute(self.images, cell)
            return self.disturber.apply(self.example.pixels, cell), {
                extractor: of_depth[DIMS][others] for extractor, of_depth in features.items()
            }
        digests, seed = self.images.digests, self.disturber.seed
        replaced, by = replace_members(members, cell[1], digests, len(self.foreign), seed)
        foreign = self.compute(self.foreign, UNTOUCHED)
        # The first image of the other domain is drawn, in place of the example.
        kept = members[~replaced]
        return self.foreign.loaders[by[0]](), {
            extractor: np.concatenate([x[DIMS][by[1:]], untouched[extractor][DIMS][kept]])
            for extractor, x in foreign.items()
        }


class _Heat:
    """An image and its contribution to the FID of real features against it and others."""

    def __init__(self, maps, picture, real, others):
        self._maps, self._picture, self._activations = maps, picture, maps.compute(picture)
        second = np.concatenate([self._activations.mean(axis=(0, 1))[None], others])
        self.fid, self._contributions = contributions(real, second)[:2]
        self._gradient = gradients(real, second).generated[0]

    def draw(self, name, fid) -> HeatedImage:
        return heat_image(
            name,
            self._picture,
            self._maps,
            self._activations,
            self._gradient,
            self._contributions[0],
            fid,
        )
