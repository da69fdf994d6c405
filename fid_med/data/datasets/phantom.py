"""TFDS builder `phantom`."""

import dataclasses

import tensorflow_datasets as tfds

from fid_med.data.datasets.builder import LabelledBuilder
from fid_med.data.layouts import phantom
from fid_med.data.layouts.findings import KINDS, class_names
from fid_med.data.phantom import BODY_PARTS

load = phantom.load  # the same images, without TFDS


@dataclasses.dataclass(eq=False)
class PhantomConfig(tfds.core.BuilderConfig):
    """How many phantoms, of which size, labelled by what.

    Attributes:
      count, size, seed, label: as for `fid_med.data.layouts.phantom.load`.
    """

    count: int = 120
    size: int = 64
    seed: int = 0
    label: str = "body_part"


class Phantom(LabelledBuilder):
    """Procedural radiographs of nobody."""

    BUILDER_CONFIGS = tuple(
        PhantomConfig(name=kind, description=f"Labelled by {kind.replace('_', ' ')}.", label=kind)
        for kind in KINDS
    )

    @property
    def channels(self):
        return 1

    def _label_feature(self):
        return tfds.features.ClassLabel(names=class_names(self.builder_config.label, BODY_PARTS))

    def _images(self, dl_manager):
        config = self.builder_config
        return phantom.load(config.count, config.size, config.seed, config.label)
