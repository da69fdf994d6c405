"""What the whole suite shares."""

import ctypes
import fcntl
import functools
import gc
import math
import os
import sys

import numpy as np
import pytest

# Before TensorFlow is imported by any test.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    # Processes side by side share the cores: more threads than cores only wait for each other.
    _THREADS = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    for _name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(_name, str(_THREADS))


# Files that take longest go first, so that processes side by side end at about the same time.
LONG = [
    "test_train.py",
    "test_scripts.py",
    "test_extractor.py",
    "test_network.py",
    "test_inception_v3.py",
    "test_depths.py",
    "test_study.py",
    "test_validation.py",
    "test_feature_maps.py",
    "test_debiased_fid.py",
    "test_keras_networks.py",
    "test_docstrings.py",
    "test_callbacks.py",
]


def pytest_collection_modifyitems(items):
    order = {name: i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.name, len(LONG)))


def pytest_collection_finish():
    # What the tests import stays: later collections need not look at it.
    gc.collect()
    gc.freeze()
    # Keras makes and keeps many small objects: by default a seventh of the time is collection.
    gc.set_threshold(20_000, 20, 20)
    if "keras" in sys.modules:
        _initialise_large_kernels_quickly()


def _initialise_large_kernels_quickly():
    """Takes the first numbers of large convolution kernels from a table instead of drawing them.

    InceptionV3 has 22 million, which the package replaces by its own numbers or those of a file.
    Drawing them is a third of the time of building a network, or loading one, which tests do some
    hundred times. Range and dtype stay. The seed of each layer, drawn as before, says where in the
    table it begins, so layers differ, and equal seeds give equal kernels.
    """
    from keras import initializers, ops

    draw = initializers.GlorotUniform.__call__
    table = np.random.default_rng(0).uniform(-1, 1, 2_000_000).astype(np.float32)

    def look_up(self, shape, dtype=None):
        count = math.prod(shape)
        if len(shape) != 4 or not 4_000 < count < len(table) or not isinstance(self.seed, int):
            return draw(self, shape, dtype)
        start = self.seed % (len(table) - count)
        limit = math.sqrt(6 / (shape[0] * shape[1] * (shape[2] + shape[3])))
        return ops.convert_to_tensor(limit * table[start : start + count].reshape(shape), dtype)

    initializers.GlorotUniform.__call__ = look_up


@pytest.fixture(autouse=True, scope="module")
def memory_is_returned():
    """Networks of a module would otherwise pile up to gigabytes: they are reference cycles."""
    before = _resident_bytes()
    yield
    if before and _resident_bytes() < before + (100 << 20):
        return  # little to collect, which takes a quarter of a second
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def _resident_bytes():
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not on Linux
        return 0


@functools.lru_cache(maxsize=3)
def _weights_from_a_fork(folder, seed):
    """As `random_weights._calibrated_weights`, without keeping the memory that it takes.

    Args:
      folder: of all processes side by side: the first one makes the weights, the others read them.
      seed: of the weights.
    """
    from helpers.script_runs import ROOT, fork_script

    file = folder / f"random_weights_{seed}.npz"
    with open(folder / "random_weights.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            script = ROOT / "tests" / "helpers" / "random_weights_file.py"
            made = fork_script(script, seed, file)
            assert made.returncode == 0, made.stderr
    layers = {}
    with np.load(file) as arrays:
        for name in arrays.files:
            layers.setdefault(name.split("_")[0], []).append(arrays[name])
    return list(layers.values())


@pytest.fixture(scope="session")
def small_extractor(tmp_path_factory):
    """InceptionV3 at 75 pixels with seeded random weights: real topology, little work."""
    from fid_med.extractors import random_weights
    from fid_med.extractors.registry import load_extractor

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of this run, whichever process
    random_weights._calibrated_weights = functools.partial(_weights_from_a_fork, folder)
    return load_extractor("random", image_size=75)


@pytest.fixture(scope="session")
def shallow_extractor(small_extractor):
    """The small extractor at its first max pool: 64 features, in a fraction of the time."""
    from fid_med.extractors.depths import cut_at_depth

    return cut_at_depth(small_extractor, 64)


@pytest.fixture(scope="session")
def extractor_file(small_extractor, tmp_path_factory):
    """The small extractor as a file, which loads in less time than random weights take."""
    from fid_med.extractors.keras_file import save_extractor

    path = tmp_path_factory.mktemp("small") / "extractor.keras"
    save_extractor(path, small_extractor.network, small_extractor.preprocessing)
    return path


@pytest.fixture(scope="session")
def graph_def():
    """A graph of the 2015 network's form with random weights, 96 MB."""
    from fid_med.extractors.inception_2015.stand_in import stand_in_graph

    return stand_in_graph()


@pytest.fixture(scope="session")
def phantoms():
    """Forty phantoms of 80 pixels, uint8 [40, 80, 80], and their labels."""
    from fid_med.phantoms.radiograph import phantom_set

    return phantom_set(40, size=80, seed=3)


@pytest.fixture
def write_images(tmp_path):
    """Writes images as PNG files of a folder below tmp_path and returns it."""
    from PIL import Image

    def write(name, images, names=None):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for i, image in enumerate(images):
            Image.fromarray(image).save(folder / (names[i] if names else f"{i:03d}.png"))
        return folder

    return write
