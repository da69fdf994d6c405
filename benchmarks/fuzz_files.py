"""The kinds of file that `fuzz` damages: how a small valid one is made, and what reads it.

Whatever is imported only in some kinds is imported there, so that a process that reads images does
not load TensorFlow.
"""

import csv
import dataclasses
import functools
import importlib.util
import json
import pathlib
import pickle
import tarfile
import zipfile
from collections.abc import Callable

import numpy as np
from PIL import Image, features

from fid_med.errors import StatisticsError

_HEIGHT, _WIDTH = 40, 48
_DIM = 16  # of features
_PATIENT = "1.2.3"


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
      name: of the kind.
      make: writes a valid file to an empty folder, and what else the reader needs, and returns its
        path.
      read: function of the path that the scripts use, or that calls it; returns what it read.
      checksum: whether the file's container has checksums of what is read.
      own_checksum: whether fid_med's own checksum or fingerprint covers what is read.
      accepted: whether the reader accepts the valid file. Small models of Keras are refused, but
        only after most of the reader has seen them.
      share: of the number of files; files that take seconds are fewer.
      needs: package without which the file cannot be made or read.
    """

    name: str
    make: Callable[[pathlib.Path], pathlib.Path]
    read: Callable[[pathlib.Path], object]
    checksum: bool = False
    own_checksum: bool = False
    accepted: bool = True
    share: float = 1.0
    needs: str | None = None


def missing_package(kind: Kind) -> str | None:
    """The package that a kind needs and that is not installed."""
    if kind.needs is None or importlib.util.find_spec(kind.needs):
        return None
    return kind.needs


def _pixels(channels=0, count=0):
    """A gradient with noise, uint8."""
    shape = (*((count,) if count else ()), _HEIGHT, _WIDTH, *((channels,) if channels else ()))
    noise = np.random.default_rng(0).integers(0, 64, shape)
    ramp = np.arange(_WIDTH) * 4
    return (noise + (ramp[:, None] if channels else ramp) % 192).astype(np.uint8)


# Images.


def _read_images(path):
    from fid_med.data.sources import open_source

    source = open_source(path.parent, "real", None, "unroll")
    read = [source.loaders[i][1]() for i in sorted({0, 1 % source.count, source.count - 1})]
    return [*read, source.count, source.dark_sixteen_bit, source.wrong_depth]


def _image(name, image, checksum=False, **options):
    def make(folder):
        image().save(folder / name, **options)
        return folder / name

    return make, checksum


def _grey():
    return Image.fromarray(_pixels())


def _colour():
    return Image.fromarray(_pixels(3))


def _sixteen_bits():
    return Image.fromarray(_pixels().astype(np.uint16) * 257)


def _see_through():
    return Image.fromarray(_pixels(4))


def _turned():
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    return exif


def _palette():
    return _colour().quantize(200)


_IMAGES = {
    "png_grey": _image("x.png", _grey, True),
    "png_rgb": _image("x.png", _colour, True),
    "png_16": _image("x.png", _sixteen_bits, True),
    "png_rgba": _image("x.png", _see_through, True),
    "png_palette": _image("x.png", _palette, True, transparency=7),
    "png_exif": _image("x.png", _grey, True, exif=_turned()),
    "jpeg_grey": _image("x.jpg", _grey),
    "jpeg_rgb": _image("x.jpg", _colour, exif=_turned(), progressive=True),
    "jpeg_cmyk": _image("x.jpeg", lambda: _colour().convert("CMYK")),
    "bmp": _image("x.bmp", _colour),
    "tiff": _image("x.tif", _grey),
    "tiff_16": _image("x.tif", _sixteen_bits),
    "tiff_lzw": _image("x.tiff", _colour, compression="tiff_lzw"),
    "tiff_deflate": _image("x.tiff", _sixteen_bits, compression="tiff_adobe_deflate"),
    "tiff_jpeg": _image("x.tiff", _colour, compression="jpeg"),
    "tiff_fax": _image("x.tiff", lambda: _grey().convert("1"), compression="group4"),
    "tiff_packbits": _image("x.tiff", _see_through, compression="packbits"),
}
if features.check("webp"):
    _IMAGES["webp"] = _image("x.webp", _see_through)


def _dicom(values, syntax="1.2.840.10008.1.2.1", frame=None, preamble=True, **elements):
    """Makes a function that writes a DICOM file.

    Args:
      values: the stored values.
      syntax: UID of the transfer syntax.
      frame: returns the values in that encoding; None for pydicom's own.
      preamble: whether to write the preamble, the file meta information and a suffix.
      **elements: further elements.
    """

    def make(folder):
        import pydicom
        from pydicom import uid

        header = pydicom.Dataset()
        header.file_meta = pydicom.dataset.FileMetaDataset()
        header.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        header.file_meta.MediaStorageSOPClassUID = uid.SecondaryCaptureImageStorage
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = _PATIENT
        header.SOPClassUID, header.PatientID = uid.SecondaryCaptureImageStorage, _PATIENT
        colour = values.ndim == 3 and values.shape[-1] == 3
        header.SamplesPerPixel = 3 if colour else 1
        header.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
        if colour:
            header.PlanarConfiguration = 0
        elif values.ndim == 3:
            header.NumberOfFrames = len(values)
        header.Rows, header.Columns = _HEIGHT, _WIDTH
        header.BitsAllocated = header.BitsStored = 8 * values.itemsize
        header.HighBit, header.PixelRepresentation = header.BitsStored - 1, 0
        for keyword, value in elements.items():
            setattr(header, keyword, value() if callable(value) else value)
        header.PixelData = values.tobytes()
        header["PixelData"].VR = "OB" if values.itemsize == 1 else "OW"
        wanted = uid.UID(syntax)
        if frame is not None:
            header.PixelData = pydicom.encaps.encapsulate([frame(values)])
            header["PixelData"].is_undefined_length = True
        elif wanted.is_encapsulated:
            header.compress(wanted)
        header.file_meta.TransferSyntaxUID = wanted
        path = folder / ("x.dcm" if preamble else "IM0001")
        if preamble:
            header.save_as(path, enforce_file_format=True)
        else:
            del header.file_meta
            header.save_as(path, implicit_vr=True, little_endian=True)
        return path

    return make


def _window():
    """A VOI look-up table."""
    import pydicom

    item = pydicom.Dataset()
    item.add_new(0x00283002, "US", [4096, 0, 12])
    item.add_new(0x00283006, "OW", np.arange(4096, dtype="<u2").tobytes())
    return pydicom.Sequence([item])


def _table():
    return (np.arange(256, dtype="<u2") * 257).tobytes()


def _own_window():
    """Functional groups of frames, with a window."""
    import pydicom

    window, group = pydicom.Dataset(), pydicom.Dataset()
    window.WindowCenter, window.WindowWidth = "100", "150"
    group.FrameVOILUTSequence = pydicom.Sequence([window])
    return pydicom.Sequence([group])


def _as_jpeg(values):
    import io

    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "JPEG")
    return buffer.getvalue()


def _as_jpeg_ls(values):
    import imagecodecs

    return imagecodecs.jpegls_encode(values)


def _as_lossless_jpeg(values):
    import imagecodecs

    return imagecodecs.jpeg8_encode(values, lossless=True)


_TWELVE_BITS = _pixels().astype("<u2") * 16
_MONO_12 = {"BitsStored": 12, "HighBit": 11}
_UID = "1.2.840.10008.1.2"
_DICOM = {
    "dicom": _dicom(_TWELVE_BITS, WindowCenter="2000", WindowWidth="3000", **_MONO_12),
    "dicom_rgb": _dicom(_pixels(3)),
    "dicom_implicit": _dicom(_TWELVE_BITS, _UID, RescaleSlope="2", RescaleIntercept="-1000",
                             PixelPaddingValue=0, **_MONO_12),
    "dicom_bare": _dicom(_pixels(), preamble=False),
    "dicom_deflated": _dicom(_TWELVE_BITS, f"{_UID}.1.99", **_MONO_12),
    "dicom_rle": _dicom(_TWELVE_BITS, f"{_UID}.5", **_MONO_12),
    "dicom_frames": _dicom(_pixels(count=3), SharedFunctionalGroupsSequence=_own_window),
    "dicom_rle_frames": _dicom(_pixels(count=3), f"{_UID}.5"),
    "dicom_look_up": _dicom(_TWELVE_BITS, VOILUTSequence=_window, **_MONO_12),
    "dicom_palette": _dicom(
        _pixels(), PhotometricInterpretation="PALETTE COLOR",
        **{f"{c}PaletteColorLookupTableDescriptor": [256, 0, 16] for c in ("Red", "Green", "Blue")},
        **{f"{c}PaletteColorLookupTableData": _table for c in ("Red", "Green", "Blue")},
    ),
    "dicom_jpeg": _dicom(_pixels(), f"{_UID}.4.50", _as_jpeg, LossyImageCompression="01"),
}  # fmt: skip
_DICOM_BY_PACKAGE = {
    "imagecodecs": {
        "dicom_jpeg_ls": _dicom(_TWELVE_BITS, f"{_UID}.4.80", _as_jpeg_ls, **_MONO_12),
        "dicom_lossless_jpeg": _dicom(_pixels(), f"{_UID}.4.70", _as_lossless_jpeg),
    },
    "openjpeg": {"dicom_jpeg_2000": _dicom(_TWELVE_BITS, f"{_UID}.4.90", **_MONO_12)},
}


# Arrays and statistics.


def _array_file(name, save):
    def make(folder):
        save(folder / name, _pixels(count=6))
        return folder / name

    return make


def _read_array(path):
    from fid_med.data.sources import open_source

    source = open_source(path, "generated")
    return [load() for _, load in source.loaders]


def _make_medmnist(folder):
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = _pixels(count=4)
        arrays[f"{split}_labels"] = np.arange(4, dtype=np.uint8)[:, None] % 2
    np.savez_compressed(folder / "breastmnist.npz", **arrays)
    return folder / "breastmnist.npz"


def _read_data_set(path, name="medmnist", **options):
    from fid_med.data.datasets import load_dataset

    images = load_dataset(name, path, **options)
    pixels = [load() for load in images.loaders]
    fields = images.names, images.labels, images.classes, images.patients, images.studies
    return [pixels, *fields, None if images.splits is None else list(images.splits)]


def _statistics():
    from fid_med.metrics.statistics import FeatureStatistics

    rows = np.random.default_rng(0).normal(size=(40, _DIM)).astype(np.float32)
    statistics = FeatureStatistics.from_features(rows)
    statistics.fingerprint, statistics.extractor = "ab" * 32, "chest"
    statistics.preprocessing, statistics.versions = {"height": 75}, {"numpy": "2"}
    return statistics, rows


def _make_statistics(folder):
    from fid_med.metrics.feature_files import save_features

    statistics, rows = _statistics()
    depths = {8: (statistics, rows[:, :8])}
    patients = [f"patient {i // 2}" for i in range(len(rows))]
    save_features(folder / "real.npz", statistics, rows, patients, depths)
    return folder / "real.npz"


def _make_ttur(folder):
    statistics, _ = _statistics()
    np.savez(folder / "ttur.npz", mu=statistics.mean, sigma=statistics.covariance)
    return folder / "ttur.npz"


def _read_statistics(path):
    from fid_med.metrics.feature_files import load_features
    from fid_med.metrics.frechet import frechet_distance

    saved = load_features(path, (8, _DIM))
    distance = frechet_distance(saved.statistics, _statistics()[0])
    if not np.isfinite(distance.value if hasattr(distance, "value") else distance):
        raise AssertionError(f"the Fréchet distance is {distance}")
    depths = {dims: rows for dims, (_, rows) in saved.depths.items()}
    found = saved.statistics
    return [found.mean, found.covariance, found.count, saved.features, saved.patients, depths]


# Tables and records.


def _image_folder(folder):
    """Four images of two labels."""
    names = ["a/0.png", "a/1.png", "b/2.png", "b/3.png"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        _grey().save(folder / name)
    return names


def _table_file(name, header, row):
    """Makes a function that writes a csv file with one row per image, next to the images."""

    def make(folder):
        with open(folder / name, "w", newline="") as file:
            rows = [row(i, name) for i, name in enumerate(_image_folder(folder / "images"))]
            csv.writer(file).writerows([header, *rows])
        return folder / name

    return make


def _read_splits(path):
    from fid_med.data.split_files import images_of_split

    return images_of_split(path.parent / "images", path, "test").names


def _read_labels(path):
    return _read_data_set(path.parent / "images", "labelled_folder", labels_csv=path)


def _read_ratings(path):
    from fid_med.study.ratings import read_ratings

    return read_ratings(path, {"untouched", "gan"})


def _make_lera(folder):
    rows = []
    for patient in "1000", "1001":
        (folder / patient / "ST-1").mkdir(parents=True)
        _grey().save(folder / patient / "ST-1" / "0.png")
        rows.append([patient, ("XR HIP", "XR KNEE")[len(rows)], len(rows)])
    with open(folder / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "labels.csv"


def _make_mura(folder):
    for split in ("train", "valid"):
        studies, images = [], []
        for i, part in enumerate(("ELBOW", "HAND")):
            state = ("negative", "positive")[i]
            study = f"{split}/XR_{part}/patient0000{i}/study1_{state}"
            (folder / study).mkdir(parents=True)
            _grey().save(folder / study / "image1.png")
            studies.append([f"MURA-v1.1/{study}/", i])
            images.append([f"MURA-v1.1/{study}/image1.png"])
        for name, rows in (("labeled_studies", studies), ("image_paths", images)):
            with open(folder / f"{split}_{name}.csv", "w", newline="") as file:
                csv.writer(file).writerows(rows)
    return folder / "train_labeled_studies.csv"


def _make_cifar10(folder):
    images = np.random.default_rng(0).integers(0, 256, (2, 3072), dtype=np.uint8)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(pickle.dumps({b"data": images, b"labels": [0, 1]}, protocol=2))
    return folder / "test_batch"


def _read_cifar10(path):
    from fid_med.validation.cifar10 import read_folder

    return read_folder(path.parent)


def _rows():
    return np.random.default_rng(0).normal(size=(8, _DIM)).astype(np.float32)


_FILE_KEYS = [bytes([i]) * 32 for i in range(8)]


def _cache(folder):
    from fid_med.evaluation.feature_cache import FeatureCache

    return FeatureCache(folder, "ab" * 32, _DIM, ("cd" * 16,))


def _make_shard(folder):
    with _cache(folder) as cache:
        for i, (key, row) in enumerate(zip(_FILE_KEYS, _rows(), strict=True)):
            cache.put(key, row, (f"{i:032x}",), i % 2)
    return next(folder.glob("*/*.npz"))


def _read_shard(path):
    found = [_cache(path.parents[1]).get(key) for key in _FILE_KEYS]
    if None in found:  # the images are computed again
        raise StatisticsError("removed")
    return [tuple(image) for image in found]


_DIGESTS = [f"{i:032x}" for i in range(8)]


def _make_study_rows(folder):
    from fid_med.study.features import StudyCache

    StudyCache(folder).save("ab" * 16, "blur-1-0", _DIGESTS, _rows())
    return next(folder.glob("*/*/*.npz"))


def _read_study_rows(path):
    from fid_med.study.features import StudyCache

    rows = StudyCache(path.parents[2]).load("ab" * 16, "blur-1-0", _DIM)
    if list(rows) != _DIGESTS:
        raise StatisticsError("removed")
    return rows


def _make_checkpoint(folder):
    from fid_med.training.checkpoints import Checkpoint, CheckpointStore

    CheckpointStore(folder).save(
        Checkpoint(
            settings={"config": {"epochs": 2, "seed": 0}, "weights": "random"}, hash_key="ab" * 16,
            images=np.arange(8, dtype=np.uint64), phase="head", epoch=1, best=(1, (0.7, -0.3)),
            rows=[{"phase": "head", "epoch": 1, "loss": 0.5}], seconds=1.5,
            state=[_rows(), np.arange(4)], best_weights=[_rows()],
        )
    )  # fmt: skip
    return CheckpointStore(folder).path


def _read_checkpoint(path):
    from fid_med.training.checkpoints import CheckpointStore

    return list(vars(CheckpointStore(path.parents[1]).load()).values())


# Networks.


@functools.cache
def _network(classified=False):
    from fid_med import cli

    cli.load_tensorflow()
    import keras

    from fid_med.data.preprocessing import Preprocessing
    from fid_med.extractors.inception_v3 import build_network

    keras.utils.set_random_seed(0)
    network = build_network(Preprocessing(75, 75))
    if classified:
        return keras.Model(network.input, keras.layers.Dense(2)(network.output))
    return network


def _small_model():
    from fid_med import cli

    cli.load_tensorflow()
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    x = pixels = keras.Input((75, 75, 3))
    for layer in (
        layers.Rescaling(1 / 127.5, -1), layers.Conv2D(4, 3, strides=2),
        layers.BatchNormalization(), layers.GlobalAveragePooling2D(), layers.Dense(2),
    ):  # fmt: skip
        x = layer(x)
    return keras.Model(pixels, x)


def _saved(name, model):
    def make(folder):
        model().save(folder / name)
        return folder / name

    return make


def _make_weights(folder):
    _network().save_weights(folder / "x.weights.h5")
    return folder / "x.weights.h5"


def _save_extractor(path, network):
    from fid_med.data.preprocessing import Preprocessing
    from fid_med.extractors.extractor import TrainingImages
    from fid_med.extractors.keras_file import save_extractor

    images = TrainingImages("ab" * 16, frozenset({"cd" * 16}), frozenset({"ef" * 16}))
    save_extractor(
        path, network, Preprocessing(75, 75), labels=("a", "b"), training_images=images,
        lineage=({"fingerprint": "ab" * 32},),
    )  # fmt: skip
    return path


def _make_extractor(folder):
    return _save_extractor(folder / "extractor.keras", _network(classified=True))


def _make_small_extractor(folder):
    return _save_extractor(folder / "extractor.keras", _small_model())


def _read_extractor(path):
    from fid_med.extractors.registry import load_extractor

    extractor = load_extractor(path)
    return [extractor.fingerprint, extractor.preprocessing]


def _make_graph(folder, small=False):
    from fid_med import cli

    cli.load_tensorflow()
    from fid_med.extractors.inception_2015.stand_in import stand_in_graph

    graph = stand_in_graph()
    if small:
        del graph.node[40:]
    (folder / "classify_image_graph_def.pb").write_bytes(graph.SerializeToString())
    return folder / "classify_image_graph_def.pb"


def _make_graph_archive(folder):
    with tarfile.open(folder / "inception-2015-12-05.tgz", "w:gz", compresslevel=1) as archive:
        graph = _make_graph(folder, small=True)
        archive.add(graph, graph.name)
    return folder / "inception-2015-12-05.tgz"


def _make_metadata(folder):
    """An archive of `fid_med.json` alone: what is wrong in it is found before the network."""
    whole = _make_small_extractor(folder)
    with zipfile.ZipFile(whole) as archive:
        content = json.loads(archive.read("fid_med.json"))
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("fid_med.json", json.dumps(content, indent=1))
    return whole


_FEW = 0.3
KINDS = (
    *(Kind(name, make, _read_images, checksum) for name, (make, checksum) in _IMAGES.items()),
    *(Kind(name, make, _read_images, needs="pydicom") for name, make in _DICOM.items()),
    *(
        Kind(name, make, _read_images, needs=package)
        for package, kinds in _DICOM_BY_PACKAGE.items()
        for name, make in kinds.items()
    ),
    Kind("images_npy", _array_file("x.npy", np.save), _read_array),
    Kind("images_npz", _array_file("x.npz", np.savez), _read_array, True),
    Kind("images_npz_packed", _array_file("x.npz", np.savez_compressed), _read_array, True),
    Kind("medmnist", _make_medmnist, _read_data_set, True),
    Kind("statistics_features", _make_statistics, _read_statistics, True),
    Kind("statistics_ttur", _make_ttur, _read_statistics, True),
    Kind("splits_csv", _table_file(
        "splits.csv", ["image", "label", "split"],
        lambda i, name: [name, name[0], ("train", "test")[i % 2]],
    ), _read_splits),
    Kind("labels_csv", _table_file(
        "labels.csv", ["path", "label", "patient", "study"],
        lambda i, name: [name, "a|b" if i == 1 else name[0], f"p{i}", f"s{i}"],
    ), _read_labels),
    Kind("ratings_csv", _table_file(
        "ratings.csv", ["set", "rating"], lambda i, name: [("gan", "untouched")[i % 2], i]
    ), _read_ratings),
    Kind("lera", _make_lera, lambda path: _read_data_set(path.parent, "lera")),
    Kind("mura", _make_mura, lambda path: _read_data_set(path.parent, "mura")),
    Kind("cifar10", _make_cifar10, _read_cifar10),
    Kind("cache_shard", _make_shard, _read_shard, own_checksum=True),
    Kind("study_rows", _make_study_rows, _read_study_rows, own_checksum=True),
    Kind("checkpoint", _make_checkpoint, _read_checkpoint, True),
    Kind("extractor_metadata", _make_metadata, _read_extractor, accepted=False),
    Kind("small_extractor", _make_small_extractor, _read_extractor, accepted=False),
    Kind("small_keras", _saved("x.keras", _small_model), _read_extractor, accepted=False),
    Kind("small_h5", _saved("x.h5", _small_model), _read_extractor, accepted=False),
    Kind("small_graph", functools.partial(_make_graph, small=True), _read_extractor,
         accepted=False),
    Kind("graph_archive", _make_graph_archive, _read_extractor, accepted=False),
    Kind("extractor", _make_extractor, _read_extractor, own_checksum=True, share=_FEW),
    Kind("model_keras", _saved("x.keras", functools.partial(_network, True)), _read_extractor,
         True, share=_FEW),
    Kind("model_h5", _saved("x.h5", functools.partial(_network, True)), _read_extractor,
         share=_FEW),
    Kind("weights_h5", _make_weights, _read_extractor, share=_FEW),
    Kind("graph", _make_graph, _read_extractor, share=_FEW),
)  # fmt: skip
