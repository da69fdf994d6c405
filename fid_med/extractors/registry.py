"""Registry of extractors: one entry per name or kind of file.

To add an extractor, write a loader in a new module and add an entry to `EXTRACTORS`. The
`--extractor` help and the error messages derive from the entries. Importing this module is quick:
TensorFlow loads when an extractor does.
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fid_med.errors import ExtractorError, SettingError
from fid_med.extractors import hub

if TYPE_CHECKING:
    from fid_med.extractors.extractor import FeatureExtractor

# Height and width of a network's input, in pixels. Keras's InceptionV3 needs the smallest; at the
# largest, the first block's output of one image has half a gigabyte.
SMALLEST_INPUT, LARGEST_INPUT = 75, 4096
# Architecture of models whose layers are not known in advance.
KERAS_MODEL = "keras_model"
# Of flags: beyond these, libraries raise errors of their own, or take all memory.
LARGEST_BATCH, LARGEST_SEED = 65_536, 2**32 - 1
# float32 in the network's own operations: features differ from float32's by rounding alone.
UNFOLDED = "float32_unfolded"
PRECISIONS = ("float32", UNFOLDED, "bfloat16", "float16")
# Number of features: the layer whose output, averaged over positions, they are.
DEPTHS = {
    64: "first max pool",
    192: "second max pool",
    768: "before the auxiliary head",
    2048: "global average pool",
}


@dataclasses.dataclass(frozen=True)
class ExtractorSpec:
    """Names an extractor and the options that it is loaded with.

    Attributes:
      name_or_path: as for `load_extractor`.
      image_size: height and width of the input in pixels; None for the extractor's own.
      resize: `antialias`, `tf1` or `nearest`; None for the extractor's own.
      aspect: `stretch` or `pad`; None for the extractor's own.
      precision: compute precision of the network, of `PRECISIONS`; None for float32.
      seed: seed of the weights of `random`.
      dims: depth of the features, a key of `DEPTHS`.

    Raises:
      ExtractorError: unknown precision or depth, no such extractor, or a missing file.
      DataError: an impossible image size, or an unknown `resize` or `aspect`.
    """

    name_or_path: str | os.PathLike
    image_size: int | None = None
    resize: str | None = None
    aspect: str | None = None
    precision: str | None = None
    seed: int = 0
    dims: int = 2048

    def __post_init__(self):
        if self.dims not in DEPTHS:
            raise ExtractorError(f"dims {self.dims!r}: expected {_either(list(map(str, DEPTHS)))}")
        if self.precision not in (None, *PRECISIONS):
            raise ExtractorError(f"precision {self.precision!r}: expected {', '.join(PRECISIONS)}")
        # Before TensorFlow is loaded, which takes seconds.
        from fid_med.data.preprocessing import Preprocessing

        _find_entry(os.fspath(self.name_or_path))
        Preprocessing(**self.preprocessing_changes)

    @property
    def preprocessing_changes(self) -> dict:
        """Fields of `Preprocessing` that replace the extractor's own."""
        fields = {
            "height": self.image_size,
            "width": self.image_size,
            "resize": self.resize,
            "aspect": self.aspect,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def load(self) -> "FeatureExtractor":
        """Loads the extractor; arguments and errors as for `load_extractor`."""
        from fid_med.utils.tensorflow_import import import_tensorflow

        import_tensorflow()
        from fid_med.extractors.keras_settings import plain_keras

        with plain_keras():
            extractor = _find_entry(os.fspath(self.name_or_path)).load(self)
        if self.precision not in (None, "float32"):
            _set_precision(extractor, self.precision)
        if self.dims != max(DEPTHS):
            from fid_med.extractors.depths import cut_at_depth

            extractor = cut_at_depth(extractor, self.dims)
        return extractor


@dataclasses.dataclass(frozen=True)
class ExtractorEntry:
    """One way to name an extractor: by a name, by an address, or by the suffix of a file.

    Attributes:
      load: function from an `ExtractorSpec` to the extractor.
      help: part of the `--extractor` help, without a full stop.
      name: value of `--extractor`; None for files.
      suffixes: ends of file names; empty for a name.
      prefix: beginning of file names, where the suffix alone does not decide.
      address: form of an address, whose beginning is `hub.SCHEME`; empty for others.
    """

    load: Callable[[ExtractorSpec], "FeatureExtractor"]
    help: str
    name: str | None = None
    suffixes: tuple[str, ...] = ()
    prefix: str = ""
    address: str = ""

    @property
    def files(self) -> str:
        """Describes the names of the files."""
        return _either([f"{self.prefix}*{x}" if self.prefix else x for x in self.suffixes])


def _load_imagenet(spec):
    from fid_med.extractors.inception_v3 import load_imagenet_extractor

    return load_imagenet_extractor(spec.preprocessing_changes)


def _load_ttur(spec):
    from fid_med.extractors.inception_2015.download import ensure_graph
    from fid_med.extractors.inception_2015.network import load_graph_extractor

    return load_graph_extractor(ensure_graph(), spec.preprocessing_changes, name="ttur")


def _load_random(spec):
    from fid_med.extractors.random_weights import load_random_extractor

    return load_random_extractor(spec.seed, spec.preprocessing_changes)


def _load_keras_network(spec):
    from fid_med.extractors.keras_networks import load_imagenet_network

    return load_imagenet_network(os.fspath(spec.name_or_path), spec.preprocessing_changes)


def _load_radimagenet_file(spec):
    from fid_med.extractors.keras_networks import load_radimagenet_file

    return load_radimagenet_file(os.fspath(spec.name_or_path), spec.preprocessing_changes)


def _load_keras_file(spec):
    from fid_med.extractors.keras_file import load_keras_file

    return load_keras_file(os.fspath(spec.name_or_path), spec.preprocessing_changes)


def _load_from_hub(spec):
    from fid_med.extractors.keras_file import load_keras_file

    address = os.fspath(spec.name_or_path)
    extractor = load_keras_file(hub.fetch(address), spec.preprocessing_changes)
    extractor.name = address.removeprefix(hub.SCHEME)
    return extractor


def _load_graph_file(spec):
    from fid_med.extractors.inception_2015.network import load_graph_extractor

    return load_graph_extractor(os.fspath(spec.name_or_path), spec.preprocessing_changes)


EXTRACTORS = (
    ExtractorEntry(
        _load_imagenet,
        "Keras's InceptionV3 with ImageNet weights, downloaded once",
        name="imagenet",
    ),
    ExtractorEntry(_load_keras_network, "Keras's ResNet50 likewise", name="resnet50"),
    ExtractorEntry(_load_keras_network, "Keras's DenseNet121 likewise", name="densenet121"),
    ExtractorEntry(
        _load_keras_network, "Keras's InceptionResNetV2 likewise", name="inception_resnet_v2"
    ),
    ExtractorEntry(
        _load_ttur, "the 2015-12-05 graph of published FIDs, downloaded once", name="ttur"
    ),
    ExtractorEntry(_load_random, "InceptionV3 with seeded random weights", name="random"),
    ExtractorEntry(
        _load_from_hub,
        "the extractor.keras of a repository of the Hugging Face hub",
        address="hf://USER/NAME[@REVISION]",
    ),
    ExtractorEntry(
        _load_radimagenet_file,
        "RadImageNet's weights under their published names, for RadFID",
        suffixes=(".h5",),
        prefix="RadImageNet-",
    ),
    ExtractorEntry(
        _load_keras_file,
        "an extractor.keras of train_classifier.py, InceptionV3 weights, a whole InceptionV3, or "
        "another model from pixels 0..255 to features",
        suffixes=(".keras", ".h5", ".hdf5"),
    ),
    ExtractorEntry(_load_graph_file, "the 2015-12-05 graph", suffixes=(".pb", ".tgz", ".tar.gz")),
)


def extractors_help() -> str:
    """Builds the description of the values that `--extractor` takes, without a full stop."""
    named = [(entry.name or entry.address, entry.help) for entry in EXTRACTORS]
    names = [f"{name} ({text})" for name, text in named if name]
    files = [f"{entry.files} ({entry.help})" for entry in EXTRACTORS if entry.suffixes]
    return f"{', '.join(names)}, or the path of a file: {', '.join(files)}"


def load_extractor(
    spec,
    *,
    image_size: int | None = None,
    resize: str | None = None,
    aspect: str | None = None,
    seed: int = 0,
    precision: str | None = None,
    dims: int = 2048,
) -> "FeatureExtractor":
    """Loads a network as a feature extractor.

    Args:
      spec: a name or the path of a file. Names:

        * `imagenet`: Keras's InceptionV3 with ImageNet weights, downloaded and cached by Keras. It
          is not the network of published FIDs.
        * `ttur`: the network of published FIDs, the frozen graph of 2015-12-05, downloaded once.
        * `random`: InceptionV3 with seeded random weights. Its FID has no absolute scale.
        * `resnet50`, `densenet121`, `inception_resnet_v2`: Keras's networks with ImageNet weights
          and the scaling of their `preprocess_input`.
        * `hf://USER/NAME` or `hf://USER/NAME@REVISION`: the file `extractor.keras` of a repository
          of the Hugging Face hub, downloaded once.

        Files:

        * `.keras` written by `train_classifier.py`.
        * `.weights.h5` or legacy `.h5`: InceptionV3 weights with `include_top=False`.
        * `.keras` or legacy `.h5`, of Keras 2 or 3: a whole model with an InceptionV3 in it. Pixels
          are scaled to -1..1 unless the model scales them itself. No code in the file is run.
        * the same of any other convolutional network whose first layers scale pixels, 0..255, and
          whose output are features, [d], or [h, w, d], which are averaged over positions.
        * `.pb`, or the `.tgz` that contains it: the graph of 2015-12-05.
        * `RadImageNet-*.h5`: the networks of RadFID, under their published names:
          `RadImageNet-InceptionV3_notop.h5`, and `ResNet50`, `DenseNet121` and `IRV2`.
      image_size: height and width of the input in pixels, 75 or more; by default the extractor's
        own. The graph of 2015-12-05 takes only 299.
      resize: `antialias`, `tf1` or `nearest`; by default the extractor's own.
      aspect: `stretch` or `pad`; by default the extractor's own.
      seed: seed of the weights of `random`.
      precision: compute precision of the network: `float32` (default); `float32_unfolded`, which
        does not fold batch normalisation into the convolutions, so that each operation is the
        network's own, and features differ by rounding (1e-5 of the largest); or `bfloat16` or
        `float16`, which are faster on processors that support them. With bfloat16, features differ
        by 2 %.
      dims: depth of the features by their number, as in pytorch-fid: 64 (first max pool), 192
        (second max pool), 768 (before the auxiliary head) or 2048 (global average pool, the
        default, and the depth of published FIDs). Layers behind the depth do not run. Other
        networks than InceptionV3 have the global average pool only, of any number of features.

    Returns:
      The extractor. A changed preprocessing, precision or depth makes another extractor, with
      another fingerprint. Its name states a precision other than float32 and a depth other than
      2048.

    Raises:
      ExtractorError: the name, the precision or the depth is unknown, the file is missing or
        damaged, or weights cannot be downloaded.
      DataError: unknown `resize` or `aspect`.

    Example:

    ```python
    import fid_med

    extractor = fid_med.load_extractor("random", image_size=75, aspect="pad")
    assert extractor.preprocessing.aspect == "pad"
    assert extractor.num_features == 2048
    ```
    """
    return ExtractorSpec(spec, image_size, resize, aspect, precision, seed, dims).load()


def loaded_extractor(extractor) -> "FeatureExtractor":
    """Returns a `FeatureExtractor` itself, or loads the one with that name or path.

    Raises:
      SettingError: neither of both.
      ExtractorError: as for `load_extractor`.
    """
    if isinstance(extractor, (str, os.PathLike)):
        return load_extractor(extractor)
    if not hasattr(extractor, "fingerprint"):
        raise SettingError(
            f"extractor {type(extractor).__name__}: expected a name, the path of a file, or what "
            "load_extractor returns"
        )
    return extractor


def split_names(specs: Sequence[str]) -> list[tuple[str, str]]:
    """Splits each NAME=VALUE, where VALUE names an extractor; NAME is empty if there is none.

    Raises:
      SettingError: no extractor, or a name or an extractor given twice.
    """
    found: dict[str, str] = {}
    for spec in specs:
        name, _, value = spec.rpartition("=")
        if "/" in name:  # the path itself contains the sign
            name, value = "", spec
        if value in found:
            raise SettingError(f"--extractors: {spec} is the same extractor as an earlier one")
        if name and name in found.values():
            raise SettingError(f"--extractors: the name {name} is given twice")
        found[value] = name
    if not found:
        raise SettingError("--extractors: none given; name one, for example imagenet")
    return [(name, value) for value, name in found.items()]


def _find_entry(name_or_path):
    if name_or_path.startswith(hub.SCHEME):
        hub.parse(name_or_path)
        return next(entry for entry in EXTRACTORS if entry.address)
    for entry in EXTRACTORS:
        if entry.name == name_or_path:
            return entry
    if not os.path.exists(name_or_path):
        if "radimagenet" in name_or_path.lower():
            raise ExtractorError(
                f"{name_or_path}: no such file; fetch RadImageNet-InceptionV3_notop.h5, or another "
                "of RadImageNet's networks, from https://github.com/BMEII-AI/RadImageNet and give "
                "its path",
                wrong_flag=True,
            )
        names = ", ".join(entry.name for entry in EXTRACTORS if entry.name)
        raise ExtractorError(
            f"{name_or_path}: no such extractor; expected {names}, or the path of a file",
            wrong_flag=True,
        )
    if os.path.isdir(name_or_path):
        inside = os.path.join(name_or_path, "extractor.keras")
        hint = f"; give {inside}" if os.path.exists(inside) else ""
        raise ExtractorError(
            f"{name_or_path}: is a folder, not a file of weights{hint}", wrong_flag=True
        )
    if not os.path.isfile(name_or_path):
        raise ExtractorError(
            f"{name_or_path}: is a pipe or a device, not a file of weights", wrong_flag=True
        )
    for entry in EXTRACTORS:
        named = os.path.basename(name_or_path).startswith(entry.prefix)
        if entry.suffixes and named and name_or_path.endswith(entry.suffixes):
            return entry
    suffixes = [x for entry in EXTRACTORS if not entry.prefix for x in entry.suffixes]
    raise ExtractorError(f"{name_or_path}: expected a {_either(suffixes)} file", wrong_flag=True)


def _either(words):
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _set_precision(extractor, precision):
    from fid_med.extractors.inception_2015.network import NETWORK

    if precision == UNFOLDED:
        extractor.precision = precision
        return
    if extractor.architecture == KERAS_MODEL:
        raise ExtractorError(f"{extractor.name}: is computed in float32 only")
    extractor.precision = precision
    extractor.name += f" in {precision}"
    if extractor.architecture == NETWORK:
        warning = f"{extractor.name}: published FIDs are computed in float32"
        extractor.warnings += (warning,)
    identity = f"{extractor.fingerprint} {precision}"
    extractor.fingerprint = hashlib.sha256(identity.encode()).hexdigest()
