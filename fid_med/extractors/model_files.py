"""Reads models from `.keras` and `.h5` files of any origin: nothing in them is run.

Sizes, links and the model's configuration are checked before Keras sees the file.
"""

import contextlib
import errno
import json
import os
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Iterator

import h5py
import keras

from fid_med.errors import ExtractorError, reason_of
from fid_med.extractors.keras_config import WAY_OUT, build_model

# JSON of a configuration or of metadata; 128 MiB hold hashes of 3 million training images.
_LARGEST_JSON = 128 << 20
# Weights may take this much more memory than their file: Keras does not compress them.
_MARGIN = 256 << 20
_MOST_OBJECTS = 100_000  # in an HDF5 file; InceptionV3 with an optimizer has 2,000
_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"


def read_json_member(path: str, name: str) -> object | None:
    """Reads JSON from a `.keras` file; None if the file is no archive, or has no such member.

    Raises:
      ExtractorError: the archive or the member is damaged, encrypted, or too large.
    """
    if not zipfile.is_zipfile(path):
        return None
    with _archive(path) as archive:
        if name not in archive.namelist():
            return None
        with _member(archive, path, name, _LARGEST_JSON) as file:
            content = file.read(_LARGEST_JSON)
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise ExtractorError(f"{path}: its {name} is damaged") from None


def read_model(path: str, expected: keras.Model | None = None) -> keras.Model | None:
    """Reads a whole model in float32, without running code of the file.

    Args:
      path: a `.keras` archive, or a legacy `.h5`.
      expected: a model; if the file's has the same kinds of layers, its weights are set and it is
        returned. This takes half of the time that building the file's own model takes.

    Returns:
      The model, or None if an `.h5` holds weights only. A file with a model's configuration is
      never read as weights: the configuration may scale pixels.

    Raises:
      ExtractorError: the file is damaged, its model has other layers than an InceptionV3 and its
        classifier, or Keras cannot read it.
    """
    with _config_and_weights(path) as (config, weights):
        if config is None:
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = expected if _has_layers_of(expected, config) else build_model(config)
                model.load_weights(weights)
        except ExtractorError as error:
            raise ExtractorError(f"{path}: {error}") from None
        except Exception as error:  # Keras raises nearly anything
            raise ExtractorError(
                f"{path}: cannot be loaded by Keras ({reason_of(error)}); {WAY_OUT}"
            ) from None
    return model


def _has_layers_of(model, config):
    """Whether a configuration lists the kinds of layers of a model, in its order."""
    if model is None:
        return False
    try:
        kinds = [layer["class_name"] for layer in config["config"]["layers"]]
    except (KeyError, TypeError):
        return False
    return kinds == [type(layer).__name__ for layer in model.layers]


@contextlib.contextmanager
def _config_and_weights(path: str) -> Iterator[tuple[object | None, str]]:
    if not path.endswith(".keras"):
        yield _config_of_hdf5(path), path
        return
    config = read_json_member(path, _CONFIG)
    if config is None:
        raise ExtractorError(f"{path}: damaged, or not a .keras file: it has no {_CONFIG}")
    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, _WEIGHTS)
        with _archive(path) as archive:
            most = os.path.getsize(path) + _MARGIN
            with _member(archive, path, _WEIGHTS, most) as file, open(weights, "wb") as copy:
                shutil.copyfileobj(file, copy, 1 << 20)
        check_hdf5(weights, path)
        yield config, weights


@contextlib.contextmanager
def _archive(path: str) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # of a damaged directory: nearly anything
        raise ExtractorError(f"{path}: damaged ({reason_of(error)})") from None
    with archive:
        yield archive


@contextlib.contextmanager
def _member(archive, path, name, most):
    """Opens a member of an archive for reading, if it is plain and not too large."""
    try:
        info = archive.getinfo(name)
        if info.flag_bits & 1:
            raise ExtractorError(f"{path}: its {name} is encrypted: save it without a password")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ExtractorError(f"{path}: its {name} is not stored as Keras does")
        if info.file_size > most:
            raise ExtractorError(f"{path}: its {name} unpacks to {info.file_size:,} bytes: damaged")
        with archive.open(info) as file:
            yield file
    except ExtractorError:
        raise
    except OSError as error:
        # Of the disk, not of the archive; a damaged one asks for an impossible position.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise ExtractorError(f"{path}: its {name} is damaged ({reason_of(error)})") from None
    except Exception as error:
        raise ExtractorError(f"{path}: its {name} is damaged ({reason_of(error)})") from None


def _config_of_hdf5(path):
    """Returns the model's configuration, or None if there is none."""
    check_hdf5(path, path)
    with h5py.File(path, "r") as file:
        if "model_config" not in file.attrs:
            return None
        if path.endswith(".weights.h5"):
            raise ExtractorError(f"{path}: is a whole model: rename it to end in .h5 alone")
        try:
            return json.loads(file.attrs["model_config"])
        except (OSError, TypeError, ValueError, RecursionError):
            raise ExtractorError(f"{path}: its model_config is damaged") from None


def check_hdf5(file_name: str, path: str) -> None:
    """Checks that an HDF5 file holds plain arrays of no more bytes than the file, and no links.

    Args:
      file_name: the file.
      path: its name in messages.

    Raises:
      ExtractorError: not an HDF5 file, damaged, links or arrays in other files, or arrays that
        would fill the memory.
    """
    try:
        with h5py.File(file_name, "r") as file:
            sizes = list(_sizes(file, path))
    except ExtractorError:
        raise
    except Exception as error:  # h5py raises nearly anything
        raise ExtractorError(f"{path}: damaged, or not HDF5 ({reason_of(error)})") from None
    if sum(sizes) > os.path.getsize(file_name) + _MARGIN:
        raise ExtractorError(f"{path}: its arrays unpack to {sum(sizes):,} bytes: damaged")


def _sizes(file, path):
    groups, seen, walked = [file], 0, set()
    while groups:
        group = groups.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in walked:  # hard links can form a loop
            continue
        walked.add(address)
        for name in group:
            seen += 1
            if seen > _MOST_OBJECTS or not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ExtractorError(f"{path}: has links or parts that Keras does not write")
            item = group[name]
            if isinstance(item, h5py.Group):
                groups.append(item)
            elif isinstance(item, h5py.Dataset):
                if item.is_virtual or item.external:
                    raise ExtractorError(f"{path}: has arrays that are in other files")
                yield item.nbytes
