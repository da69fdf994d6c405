"""Networks of `keras.applications`, with Keras's ImageNet weights or with RadImageNet's.

RadImageNet's weights are those of RadFID: Woodland et al. 2024, "Feature Extraction for Generative
Medical Imaging Evaluation: New Evidence Against an Evolving Trend"; Mei et al. 2022, "RadImageNet:
An Open Radiologic Deep Learning Research Dataset for Effective Transfer Learning".
"""

import dataclasses
import os

from fid_med.data.preprocessing import Preprocessing
from fid_med.errors import ExtractorError, reason_of
from fid_med.extractors.extractor import FeatureExtractor
from fid_med.extractors.inception_v3 import (
    build_network,
    fingerprint,
    load_imagenet_weights,
    size_warnings,
)
from fid_med.extractors.model_files import check_hdf5

# Mean of ImageNet's blue, green and red, as `preprocess_input` subtracts it in its mode `caffe`.
_BLUE_FIRST = {"mean": (103.939, 116.779, 123.68), "channels": "bgr", "offset": 0.0}
# RadFID's, whatever the network: mode `caffe`, then division by 255; 512 x 512 pixels without
# interpolation. RadImageNet itself was trained on images of 224 x 224.
RADFID = Preprocessing(512, 512, resize="nearest", scale=1 / 255, **_BLUE_FIRST)


@dataclasses.dataclass(frozen=True)
class KerasNetwork:
    """One network.

    Attributes:
      application: its function in `keras.applications`.
      radimagenet: its name in RadImageNet's file names.
      preprocessing: that of Keras's ImageNet weights: size and `preprocess_input`.
    """

    application: str
    radimagenet: str
    preprocessing: Preprocessing


NETWORKS = {
    "inception_v3": KerasNetwork("InceptionV3", "InceptionV3", Preprocessing()),
    "resnet50": KerasNetwork(
        "ResNet50", "ResNet50", Preprocessing(224, 224, scale=1.0, **_BLUE_FIRST)
    ),
    "densenet121": KerasNetwork(
        "DenseNet121",
        "DenseNet121",
        Preprocessing(
            224,
            224,
            scale=1.0,
            offset=0.0,
            mean=(0.485 * 255, 0.456 * 255, 0.406 * 255),
            std=(0.229 * 255, 0.224 * 255, 0.225 * 255),
        ),
    ),
    "inception_resnet_v2": KerasNetwork("InceptionResNetV2", "IRV2", Preprocessing()),
}


def load_imagenet_network(name: str, changes: dict) -> FeatureExtractor:
    """Makes an extractor of Keras's ImageNet weights, downloaded once and cached by Keras.

    Args:
      name: key of `NETWORKS`.
      changes: fields of `Preprocessing` other than the network's own.

    Raises:
      ExtractorError: the weights are not cached and cannot be downloaded.
    """
    entry = NETWORKS[name]
    wanted = dataclasses.replace(entry.preprocessing, **changes)
    network = build_network(wanted, entry.application)
    load_imagenet_weights(network, entry.application)
    warnings = size_warnings(name, entry.preprocessing, wanted)
    return _extractor(name, network, wanted, name, warnings)


def load_radimagenet_file(path: str, changes: dict) -> FeatureExtractor:
    """Makes an extractor of RadFID from a file of RadImageNet's weights.

    Only weights are read. A whole model's configuration in the file is ignored: RadFID's steps do
    not depend on it.

    Args:
      path: a legacy `.h5` of Keras 2 whose name contains that of its network, as published:
        `RadImageNet-InceptionV3_notop.h5`, and `ResNet50`, `DenseNet121` or `IRV2` in that place.
      changes: fields of `Preprocessing` other than RadFID's.

    Raises:
      ExtractorError: the file is damaged, or has the weights of another network than its name.
    """
    name = os.path.basename(path)
    found = [key for key, entry in NETWORKS.items() if entry.radimagenet in name]
    if len(found) != 1:
        names = ", ".join(entry.radimagenet for entry in NETWORKS.values())
        raise ExtractorError(
            f"{path}: expected one of RadImageNet's networks, {names}, in the file's name"
        )
    (architecture,) = found
    application = NETWORKS[architecture].application
    wanted = dataclasses.replace(RADFID, **changes)
    check_hdf5(path, path)
    network = build_network(wanted, application)
    try:
        network.load_weights(path)
    except Exception as error:  # Keras raises nearly anything
        raise ExtractorError(
            f"{path}: not the weights of a Keras {application} with include_top=False "
            f"({reason_of(error)})"
        ) from None
    warnings = ()
    if wanted != RADFID:
        warnings = (
            f"{name}: RadFID is computed at 512 x 512 pixels, resized by nearest neighbour; FIDs "
            "with another preprocessing cannot be compared with it",
        )
    return _extractor(name, network, wanted, architecture, warnings)


def _extractor(name, network, preprocessing, architecture, warnings):
    return FeatureExtractor(
        name,
        network,
        preprocessing,
        fingerprint(network, preprocessing, architecture),
        architecture=architecture,
        warnings=warnings,
    )
