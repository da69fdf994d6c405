"""TFDS builder `medmnist`: `medmnist/pathmnist`, `medmnist/pathmnist_64` and so on."""

import dataclasses

import tensorflow_datasets as tfds

from fid_med.data.datasets.builder import LabelledBuilder
from fid_med.data.layouts import medmnist
from fid_med.data.layouts.medmnist_facts import SETS, SIZES, set_name

load = medmnist.load  # the same images, without TFDS


@dataclasses.dataclass(eq=False)
class MedMNISTConfig(tfds.core.BuilderConfig):
    """One set in one size.

    Attributes:
      flag: name of the set.
      size: height and width in pixels.
      npz: a file on disk, to be read instead of a download.
    """

    flag: str = "pathmnist"
    size: int = SIZES[0]
    npz: str | None = None


def _config(flag, size):
    return MedMNISTConfig(
        name=set_name(flag, size),
        description=f"{flag} in {size} x {size} pixels.",
        flag=flag,
        size=size,
    )


class MedMNIST(LabelledBuilder):
    """MedMNIST v2's twelve 2-D sets, with their own splits.

    All are under CC BY 4.0 but DermaMNIST, which is under CC BY-NC 4.0.
    """

    name = "medmnist"
    BUILDER_CONFIGS = tuple(_config(flag, size) for flag in SETS for size in SIZES)
    HOMEPAGE = "https://medmnist.com"
    CITATION = """@article{medmnistv2,
      title={MedMNIST v2 - A large-scale lightweight benchmark for 2D and 3D biomedical image
        classification},
      author={Yang, Jiancheng and Shi, Rui and others},
      journal={Scientific Data},
      volume={10},
      number={41},
      year={2023}
    }"""

    @property
    def channels(self):
        return SETS[self.builder_config.flag].channels

    def _label_feature(self):
        facts = SETS[self.builder_config.flag]
        label = tfds.features.ClassLabel(names=facts.labels)
        return tfds.features.Sequence(label) if facts.multi_label else label

    def _images(self, dl_manager):
        config = self.builder_config
        # TFDS's own download knows sha256 alone, and MD5 is what was published.
        folder = config.npz or dl_manager.download_dir
        return medmnist.load(folder, set_name(config.flag, config.size))
