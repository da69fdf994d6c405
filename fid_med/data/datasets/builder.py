"""What the TFDS builders share: labelled images in, TFDS examples out."""

import abc

import numpy as np
import tensorflow_datasets as tfds

from fid_med.data.labelled import SPLITS, LabelledImages
from fid_med.data.layouts.findings import KINDS, class_names
from fid_med.errors import DataError


class LabelledBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Writes `LabelledImages` as TFDS examples.

    An example is a dict: `image` uint8 [H, W, C], as the library reads it (8 bits); `label`, a
    number, or a sequence of numbers where an image may carry several; `name`, `patient` and
    `study` as text, empty where not known. Images that the data set leaves undivided, or for
    development, are in `train`: divide them by `patient`.
    """

    VERSION = tfds.core.Version("1.0.0")
    CITATION = ""
    HOMEPAGE = ""

    @property
    def channels(self) -> int:
        """3, or 1 where all images are grey."""
        return 3

    @abc.abstractmethod
    def _images(self, dl_manager) -> LabelledImages:
        """The data set."""

    @abc.abstractmethod
    def _label_feature(self):
        """The feature that holds the label."""

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
                raise DataError(f"{images.names[i]}: in colour, where {self.name} is grey")
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


class FindingsBuilder(LabelledBuilder, skip_registration=True):
    """Data sets labelled by body part and abnormality: a config for each way of labelling."""

    BUILDER_CONFIGS = tuple(
        tfds.core.BuilderConfig(name=kind, description=f"Labelled by {kind.replace('_', ' ')}.")
        for kind in KINDS
    )
    BODY_PARTS: tuple[str, ...] = ()

    def _label_feature(self):
        return tfds.features.ClassLabel(
            names=class_names(self.builder_config.name, self.BODY_PARTS)
        )
