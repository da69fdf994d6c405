"""TensorFlow Datasets builders of the data sets.

Importing this module registers the builders, so that `tfds.load` finds the data sets by name. The
training does not need them: it reads the same images directly (`fid_med.data.datasets`).

```python
import fid_med.data.tfds_builders
import tensorflow_datasets as tfds

train = tfds.load("phantom/body_part", split="train")
```
"""

import abc
import dataclasses

import numpy as np
import tensorflow_datasets as tfds

from fid_med.data.datasets import labelled_folder, lera, medmnist, mura, mura_lera, phantom
from fid_med.data.datasets.label_kinds import KINDS, class_names
from fid_med.data.datasets.medmnist_facts import SETS, SIZES, set_name
from fid_med.data.labelled import SPLITS, LabelledImages
from fid_med.errors import DataError
from fid_med.phantoms.radiograph import BODY_PARTS


class LabelledBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Writes `LabelledImages` as TFDS examples.

    An example is a dict: `image` uint8 [H, W, C]; `label`, a number, or a sequence of numbers if an
    image may have several labels; `name`, `patient` and `study` as text, empty if not known. Images
    without a split, and those of the split `DEVELOPMENT`, are in `train`: divide them by `patient`.
    """

    VERSION = tfds.core.Version("1.0.0")
    CITATION = ""
    HOMEPAGE = ""

    @property
    def channels(self) -> int:
        """Channels of the images: 1 if all are grey, else 3."""
        return 3

    @abc.abstractmethod
    def _images(self, dl_manager) -> LabelledImages:
        """Loads the data set."""

    @abc.abstractmethod
    def _label_feature(self):
        """The feature of the label."""

    def _info(self):
        text = tfds.features.Text()
        return tfds.core.DatasetInfo(
            builder=self,
            description=type(self).__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, self.channels)),
                    "label": self._label_feature(),
                    "name": text,
                    "patient": text,
                    "study": text,
                }
            ),
            supervised_keys=("image", "label"),
            homepage=self.HOMEPAGE or None,
            citation=self.CITATION or None,
        )

    def _split_generators(self, dl_manager):
        images = self._images(dl_manager)
        splits = np.full(len(images), "train") if images.splits is None else images.splits
        splits = np.where(np.isin(splits, SPLITS), splits, "train")
        return {
            part: self._generate_examples(images, np.flatnonzero(splits == part))
            for part in SPLITS
            if (splits == part).any()
        }

    def _generate_examples(self, images, members):
        for i in members:
            pixels = images.loaders[i]()
            pixels = pixels[..., None] if pixels.ndim == 2 else pixels
            if pixels.shape[-1] not in (1, self.channels):
                raise DataError(f"{images.names[i]}: a colour image, but {self.name} is grey")
            row = images.labels[i]
            label = (
                [images.classes[k] for k in np.flatnonzero(row)]
                if images.multi_label
                else images.classes[row]
            )
            yield (
                images.names[i],
                {
                    "image": np.broadcast_to(pixels, (*pixels.shape[:2], self.channels)),
                    "label": label,
                    "name": images.names[i],
                    "patient": images.patients[i] if images.patients else "",
                    "study": images.studies[i] if images.studies else "",
                },
            )


class LabelKindsBuilder(LabelledBuilder, skip_registration=True):
    """Base of data sets labelled by body part and abnormality, with one config per kind."""

    BUILDER_CONFIGS = tuple(
        tfds.core.BuilderConfig(name=kind, description=f"Labelled by {kind.replace('_', ' ')}.")
        for kind in KINDS
    )
    BODY_PARTS: tuple[str, ...] = ()

    def _label_feature(self):
        return tfds.features.ClassLabel(
            names=class_names(self.builder_config.name, self.BODY_PARTS)
        )


@dataclasses.dataclass(eq=False)
class LabelledFolderConfig(tfds.core.BuilderConfig):
    """Options of one folder. Give each folder a different `name`.

    Attributes:
      labels_csv, patient_regex, label, multi_frame: as for
        `fid_med.data.datasets.labelled_folder.load`.
      several_labels: whether the csv file has several labels per image.
    """

    labels_csv: str | None = None
    patient_regex: str | None = None
    label: str | None = None
    multi_frame: str = "refuse"
    several_labels: bool = False


class LabelledFolder(LabelledBuilder):
    """A folder of images with one subfolder per label, or with labels in a csv file."""

    BUILDER_CONFIGS = (LabelledFolderConfig(name="folders", description="One folder per label."),)
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Give the folder as manual_dir: <manual_dir>/<label>/**/*, or any images with a csv file "
        "given as LabelledFolderConfig(name=..., labels_csv=...)."
    )

    def _label_feature(self):
        label = tfds.features.ClassLabel()  # its names are set when the folder is read
        return tfds.features.Sequence(label) if self.builder_config.several_labels else label

    def _images(self, dl_manager):
        config = self.builder_config
        images = labelled_folder.load(
            dl_manager.manual_dir,
            config.patient_regex,
            config.labels_csv,
            config.label,
            config.multi_frame,
        )
        if images.multi_label != config.several_labels:
            raise DataError(
                f"{images.name}: set LabelledFolderConfig(several_labels={images.multi_label})"
            )
        label = self.info.features["label"]
        (label.feature if config.several_labels else label).names = list(images.classes)
        return images


class Lera(LabelKindsBuilder):
    """LERA, radiographs of the lower extremity."""

    BODY_PARTS = lera.BODY_PARTS
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"{lera.WHERE_FROM} as manual_dir."
    HOMEPAGE = "https://aimi.stanford.edu/datasets/lera-lower-extremity-radiographs"
    CITATION = """@article{varma2019automated,
      title={Automated abnormality detection in lower extremity radiographs using deep learning},
      author={Varma, Maya and Lu, Mandy and others},
      journal={Nature Machine Intelligence},
      volume={1},
      pages={578--583},
      year={2019}
    }"""

    def _images(self, dl_manager):
        return lera.load(dl_manager.manual_dir, self.builder_config.name)


@dataclasses.dataclass(eq=False)
class MedMNISTConfig(tfds.core.BuilderConfig):
    """One set in one size.

    Attributes:
      flag: name of the set.
      size: height and width in pixels.
      npz: path of a file to read instead of downloading it, or None.
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
    """MedMNIST v2's twelve 2-D sets, with their official splits.

    All are licensed under CC BY 4.0, except DermaMNIST, which is under CC BY-NC 4.0.
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
        # TFDS verifies downloads by sha256, but the authors published MD5.
        folder = config.npz or dl_manager.download_dir
        return medmnist.load(folder, set_name(config.flag, config.size))


class Mura(LabelKindsBuilder):
    """MURA-v1.1, radiographs of the upper extremity. The split `test` is MURA's valid split."""

    BODY_PARTS = mura.BODY_PARTS
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"{mura.WHERE_FROM} as manual_dir."
    HOMEPAGE = "https://stanfordmlgroup.github.io/competitions/mura/"
    CITATION = """@article{rajpurkar2018mura,
      title={MURA: Large Dataset for Abnormality Detection in Musculoskeletal Radiographs},
      author={Rajpurkar, Pranav and Irvin, Jeremy and others},
      journal={arXiv preprint arXiv:1712.06957},
      year={2018}
    }"""

    def _images(self, dl_manager):
        return mura.load(dl_manager.manual_dir, self.builder_config.name)


class MuraLera(LabelKindsBuilder):
    """MURA and LERA as one data set: radiographs of the upper and lower extremities."""

    BODY_PARTS = mura_lera.BODY_PARTS
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"manual_dir: {mura_lera.WHERE_FROM}."

    def _images(self, dl_manager):
        return mura_lera.load(dl_manager.manual_dir, self.builder_config.name)


@dataclasses.dataclass(eq=False)
class PhantomConfig(tfds.core.BuilderConfig):
    """Options of a set of phantoms.

    Attributes:
      count: number of phantoms.
      size: height and width in pixels.
      seed, label: as for `fid_med.data.datasets.phantom.load`.
    """

    count: int = 120
    size: int = 64
    seed: int = 0
    label: str = "body_part"


class Phantom(LabelledBuilder):
    """Procedural radiographs, which show no real patient."""

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
