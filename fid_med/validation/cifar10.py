"""CIFAR-10 as its authors publish it. Several FIDs and Inception Scores of it are published."""

import pathlib
import pickle

import numpy as np

from fid_med.errors import DataError

URL = "https://www.cs.toronto.edu/~kriz/cifar.html"
COUNTS = {"train": 50_000, "test": 10_000}
_FILES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
_FOLDERS = ("", "cifar-10-batches-bin", "cifar-10-batches-py")
_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
_RECORD = 1 + _PIXELS  # in the binary version an image follows its label


def read_folder(folder) -> dict[str, np.ndarray]:
    """Reads the binary or the Python version, in the order of the files.

    Args:
      folder: the unpacked archive, or the folder that contains it.

    Returns:
      A dictionary of `train` and `test`, each uint8 [N, 32, 32, 3]. The published files hold 50,000
      and 10,000 images.

    Raises:
      DataError: no such folder, or a missing or damaged file.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; expected CIFAR-10's batches, from {URL}", wrong_flag=True
        )
    for inner in (folder / name for name in _FOLDERS):
        for suffix, read in ((".bin", _read_binary), ("", _read_python)):
            paths = {
                split: [inner / f"{name}{suffix}" for name in names]
                for split, names in _FILES.items()
            }
            if any(path.is_file() for files in paths.values() for path in files):
                return {split: _joined(files, read) for split, files in paths.items()}
    raise DataError(
        f"{folder}: holds no CIFAR-10; expected data_batch_1 to data_batch_5 and test_batch, "
        f"binary (.bin) or Python version, from {URL}"
    )


def _joined(paths, read):
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise DataError(f"{paths[0].parent}: lacks {', '.join(missing)}; unpack {URL} again")
    planes = np.concatenate([read(path) for path in paths])
    # Each image is stored as three planes: red, green, blue.
    return np.ascontiguousarray(planes.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1))


def _read_binary(path):
    data = np.fromfile(path, np.uint8)
    if not len(data) or len(data) % _RECORD:
        raise DataError(
            f"{path}: {len(data):,} bytes are not a whole number of images of {_RECORD:,}; unpack "
            f"{URL} again"
        )
    return data.reshape(-1, _RECORD)[:, 1:]


def _read_python(path):
    try:
        with open(path, "rb") as file:
            data = _Unpickler(file, encoding="bytes").load()[b"data"]
    except Exception as error:  # a damaged pickle raises nearly anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: not a batch of CIFAR-10 ({reason}); unpack {URL} again") from None
    data = np.asarray(data)
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != _PIXELS:
        raise DataError(f"{path}: data of {data.dtype} {data.shape}, expected uint8 [N, {_PIXELS}]")
    return data


class _Unpickler(pickle.Unpickler):
    """Unpickles only arrays of numbers, because a pickle could run any code."""

    def find_class(self, module, name):
        allowed = {
            "_reconstruct": np.zeros(0).__reduce__()[0],  # its module moved with NumPy 2
            "ndarray": np.ndarray,
            "dtype": np.dtype,
        }
        if module.split(".")[0] == "numpy" and name in allowed:
            return allowed[name]
        if (module, name) == ("_codecs", "encode"):
            return lambda text, encoding: text.encode(encoding)
        raise pickle.UnpicklingError(f"asks for {module}.{name}, which no batch needs")
