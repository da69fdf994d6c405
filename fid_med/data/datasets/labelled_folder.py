"""TFDS builder `labelled_folder`."""

import dataclasses

import tensorflow_datasets as tfds

from fid_med.data.datasets.builder import LabelledBuilder
from fid_med.data.layouts import labelled_folder
from fid_med.errors import DataError

load = labelled_folder.load  # the same images, without TFDS


@dataclasses.dataclass(eq=False)
class LabelledFolderConfig(tfds.core.BuilderConfig):
    """One folder; the name tells it from others.

    Attributes:
      labels_csv, patient_regex, label, multi_frame: as for
        `fid_med.data.layouts.labelled_folder.load`.
      several_labels: whether the csv file gives some images several labels.
    """

    labels_csv: str | None = None
    patient_regex: str | None = None
    label: str | None = None
    multi_frame: str = "refuse"
    several_labels: bool = False


class LabelledFolder(LabelledBuilder):
    """A folder of radiographs of one's own, by label folders or a csv file."""

    BUILDER_CONFIGS = (LabelledFolderConfig(name="folders", description="A folder a label."),)
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Give the folder as manual_dir: <manual_dir>/<label>/**/*, or any layout with a csv file "
        "named by LabelledFolderConfig(name=..., labels_csv=...)."
    )

    def _label_feature(self):
        label = tfds.features.ClassLabel()  # its names are known once the folder is read
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
