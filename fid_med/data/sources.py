"""Image sources: folder, array, `tf.data.Dataset` or callable, behind one interface.

An `ImageSource` yields loaders, functions that each read one image. `prepared_images` calls them in
threads and yields their images in order, so that decoding overlaps the network and no result
depends on timing.
"""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from fid_med.data.appearance import ORDINARY, appearance
from fid_med.data.arrays import is_array_file, read_array
from fid_med.data.images import (
    check_pixels,
    describe_ignored,
    has_wrong_depth,
    index_folder,
    is_dark_sixteen_bit,
    read_image,
)
from fid_med.data.preprocessing import Preprocessing
from fid_med.errors import DataError, FidMedError, UnreadableImageError, reason_of
from fid_med.utils.files import open_regular
from fid_med.utils.hashing import ImageHasher
from fid_med.utils.progress import Progress
from fid_med.utils.threads import default_workers, ordered_map
from fid_med.utils.wording import name_some

_MODEL_SUFFIXES = (".keras", ".h5", ".hdf5")
_FROM_MODEL = (
    "write the images that it generates to a folder, or give a function that takes a count n and "
    "returns n of them as a uint8 array"
)


@dataclasses.dataclass
class ImageSource:
    """One set of images, opened.

    Attributes:
      kind: folder, array, dataset or callable.
      name: the set's name in messages.
      loaders: iterable of (image name, function that returns uint8 [H, W] or [H, W, 3]). Those of a
        folder or an array are a sequence, which may be read again.
      count: number of images, or None if it is unknown until the end.
      dark_sixteen_bit: number of files, among the first 20, that look like 12-bit data without
        scaling.
      wrong_depth: number of these files with a look-up table of other bits than it declares.
      ignored: number of files of a folder that are no images, as in `FolderListing`.
      names: file names of a folder, None for other sources.
      folder: path of a folder, empty for other sources.
    """

    kind: str
    name: str
    loaders: Iterable[tuple[str, Callable[[], np.ndarray]]]
    count: int | None = None
    dark_sixteen_bit: int = 0
    wrong_depth: int = 0
    ignored: dict[str, int] = dataclasses.field(default_factory=dict)
    names: Sequence[str] | None = None
    folder: str = ""

    @property
    def repeatable(self) -> bool:
        """Whether the images can be read again."""
        return self.kind in ("folder", "array")

    def warnings(self) -> list[str]:
        """Warnings that are known before the images are read."""
        lines = describe_ignored(self.ignored)
        if self.dark_sixteen_bit:
            lines.append(
                "16-bit images that use at most a sixteenth of their range (12-bit data?) become "
                "nearly black; scale them to the whole range first, or give DICOM a window"
            )
        if self.wrong_depth:
            lines.append(
                "DICOM look-up tables declare another number of bits than their entries use; "
                "pixels are scaled by the bits that are used"
            )
        return [f"{self.name}: {line}" for line in lines]

    def error_of(self, image: "Prepared") -> str:
        """Why an image cannot be read, without the path of its folder."""
        return str(image.error).replace(os.path.join(self.folder, ""), "")


class _Loaders(Sequence):
    """Items (image name, loader) of images 0 to count - 1, each made when it is asked for."""

    def __init__(self, count: int, item: Callable[[int], tuple[str, Callable[[], np.ndarray]]]):
        self._count, self._item = count, item

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        if not 0 <= index < self._count:
            raise IndexError(index)
        return self._item(index)


def is_generator(source) -> bool:
    """Whether a source is a callable that returns images on request."""
    return (
        callable(source)
        and not hasattr(source, "__array__")
        and not hasattr(source, "element_spec")
    )


def open_source(
    source, name: str, num_images: int | None = None, multi_frame: str = "refuse"
) -> ImageSource:
    """Opens a set of images.

    Args:
      source: path of a folder; an `ImageSource`; uint8 array [N, H, W], [N, H, W, 1] or
        [N, H, W, 3], or the path of one (`.npy`, or `.npz` with the key `arr_0`); a
        `tf.data.Dataset` whose elements are images or batches of them, alone, first in a tuple or
        under the key `image`; or a callable that takes a count and returns that many images or
        fewer (at least one) as such an array. It is called until `num_images` are there.
      name: the set's name in messages, such as "real".
      num_images: number of images to ask a callable for.
      multi_frame: handling of DICOM files of several frames, as for `list_images`.

    Raises:
      DataError: not a source of images, or a callable without `num_images`.
    """
    if isinstance(source, ImageSource):
        return dataclasses.replace(source, name=name)
    if is_array_file(source):
        return _array_source(read_array(source), name)
    if isinstance(source, (str, os.PathLike)):
        path = pathlib.Path(source)
        if path.is_file() and path.suffix.lower() in _MODEL_SUFFIXES:
            raise DataError(f"{path}: is a Keras model, not images: {_FROM_MODEL}", wrong_flag=True)
        return _folder_source(path, name, multi_frame)
    if hasattr(source, "predict") and hasattr(source, "get_config"):
        raise DataError(f"{name}: a Keras model is no source of images: {_FROM_MODEL}")
    if hasattr(source, "__array__"):
        return _array_source(np.asarray(source), name)
    if hasattr(source, "element_spec"):
        return _dataset_source(source, name)
    if is_generator(source):
        if not num_images:
            raise DataError(f"{name}: a callable needs the number of images to ask it for")
        return ImageSource("callable", name, _asked(source, name, num_images), num_images)
    listed = isinstance(source, (list, tuple))
    if listed and len({np.shape(x) for x in source if hasattr(x, "shape")}) > 1:
        raise DataError(f"{name}: a {type(source).__name__} of {_describe_sizes(source)}")
    raise DataError(
        f"{name}: {type(source).__name__} is no source of images; expected a folder, an array, "
        "a tf.data.Dataset or a callable"
        + ("; give the folder of the files, or np.stack(images)" if listed else "")
    )


def _folder_source(folder, name, multi_frame):
    paths, ignored = index_folder(folder, multi_frame)
    eight_bit = (".jpg", ".jpeg", ".jpe", ".bmp", ".webp")
    deeper = (folder / p for p in paths if not p.lower().endswith(eight_bit))
    sample = list(itertools.islice(deeper, 20))
    loaders = _Loaders(
        len(paths), lambda i: (paths[i], functools.partial(read_image, folder / paths[i]))
    )
    return ImageSource(
        "folder",
        name,
        loaders,
        len(paths),
        dark_sixteen_bit=sum(is_dark_sixteen_bit(path) for path in sample),
        wrong_depth=sum(has_wrong_depth(path) for path in sample),
        ignored=ignored,
        names=paths,
        folder=os.fspath(folder),
    )


def _array_source(array, name):
    if array.dtype == object and array.ndim == 1 and len({np.shape(x) for x in array}) > 1:
        raise DataError(f"{name}: an array of {_describe_sizes(array)}")
    if not is_batch(array):
        features = "; of features give the statistics" if array.ndim == 2 else ""
        raise DataError(
            f"{name}: array of shape {array.shape}, expected [N, H, W] or [N, H, W, 3]{features}"
        )
    if len(array):
        check_pixels(array[0], name, array)  # the other images have the same dtype and shape
    loaders = _Loaders(
        len(array), lambda i: (f"{name}[{i}]", functools.partial(_item, array, i, name))
    )
    return ImageSource("array", name, loaders, len(array))


def is_batch(array: np.ndarray) -> bool:
    """Whether an array has the shape of several images."""
    # [n, H, 3] is one colour image without its first axis, not n images that are 3 pixels wide.
    return array.ndim == 4 or (array.ndim == 3 and array.shape[-1] not in (1, 3))


def _item(array, i, name):
    return check_pixels(array[i], f"{name}[{i}]")


def _dataset_source(dataset, name):
    if dataset.cardinality() == -1:  # tf.data.INFINITE_CARDINALITY
        raise DataError(f"{name}: the dataset never ends; give it a .take(n)")
    return ImageSource("dataset", name, _dataset_loaders(dataset, name))


def _dataset_loaders(dataset, name):
    seen = 0
    for element in dataset.as_numpy_iterator():
        if isinstance(element, dict):
            if "image" not in element:
                raise DataError(f"{name}: the dataset has no key 'image', only {sorted(element)}")
            element = element["image"]
        elif isinstance(element, tuple):
            element = element[0]
        element = np.asarray(element)
        if element.ndim < 2:
            raise DataError(
                f"{name}: the dataset's elements have shape {element.shape}, expected images or "
                "batches of them"
            )
        single = not is_batch(element)
        batch = element[None] if single else element
        for image in batch:
            load = functools.partial(check_pixels, image, f"{name}[{seen}]", batch)
            yield f"{name}[{seen}]", load
            seen += 1


def _asked(function, name, num_images):
    seen = 0
    while seen < num_images:
        images = _returned(function, min(64, num_images - seen), name)
        if not is_batch(images) or not len(images):
            raise DataError(
                f"{name}: the callable returned shape {images.shape}, expected at least one image "
                "as [n, H, W] or [n, H, W, 3]"
            )
        for image in images[: num_images - seen]:
            load = functools.partial(check_pixels, image, f"{name}[{seen}]", images)
            yield f"{name}[{seen}]", load
            seen += 1


def _returned(function, count, name):
    try:
        images = function(count)
    except FidMedError:
        raise
    except Exception as error:
        raise DataError(
            f"{name}: the callable, asked for {count} images, raised {type(error).__name__}: "
            f"{reason_of(error)}"
        ) from error
    try:
        return np.asarray(images)
    except ValueError as error:  # NumPy's "inhomogeneous shape"
        raise DataError(f"{name}: the callable returned {_describe_sizes(images)}") from error


def _describe_sizes(images):
    shapes = list(dict.fromkeys(str(np.shape(image)) for image in images))
    return (
        f"images of several sizes, {name_some(shapes)}: resize or pad them to one size, or write "
        "them to a folder, which may hold any sizes"
    )


@dataclasses.dataclass
class Prepared:
    """One image on its way to the network: resized pixels, or the reason why there are none.

    Attributes:
      name: the image's name.
      pixels: as `Preprocessing.apply` makes them.
      digests: one of each hasher.
      error: why the image cannot be read.
      key: hash of its file's content, where a `look_up` was given.
      found: what `look_up` returned for that key, in place of pixels and digests.
      appearance: of the image before it is resized, as the function of that name returns it.
    """

    name: str
    pixels: np.ndarray | None = None
    digests: tuple[str, ...] = ()
    error: UnreadableImageError | None = None
    key: bytes | None = None
    found: Any = None
    appearance: int = ORDINARY


def content_key(load: Callable[[], np.ndarray]) -> bytes | None:
    """sha256 of the whole file that a folder's loader reads; None where there is no file.

    The content is hashed because a file's size and time can stay while its pixels change.
    """
    path = next(iter(getattr(load, "args", ())), None)
    if not isinstance(path, pathlib.Path):
        return None
    file_name, frame = os.fspath(path), ""
    if "#" in path.name and not path.exists():  # one frame of a file
        file_name, _, frame = file_name.rpartition("#")
    digest = hashlib.sha256(frame.encode())
    try:
        with open_regular(file_name) as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    except OSError:
        return None  # loading it will give the reason
    return digest.digest()


def prepared_images(
    source: ImageSource,
    preprocessing: Preprocessing,
    hashers: Iterable[ImageHasher] = (),
    workers: int | None = None,
    look_up: Callable[[bytes], Any] | None = None,
) -> Iterator[Prepared]:
    """Loads, hashes and resizes the images of a source in threads, in the source's order.

    An unreadable image is yielded with its error set; the caller decides what follows.

    Args:
      source: as `open_source` returns it.
      preprocessing: how pixels are resized.
      hashers: each adds one digest of the image's own pixels to `digests`.
      workers: number of threads; `default_workers()` if None.
      look_up: function from a file's `content_key` to what a cache holds for it, or None. It is
        called in the threads. An image that is found is not decoded.
    """
    hashers = tuple(hashers)
    workers = workers or default_workers()

    def prepare(name, load):
        key = content_key(load) if look_up else None
        found = look_up(key) if key else None
        if found is not None:
            return Prepared(name, key=key, found=found)
        try:
            image = load()
        except UnreadableImageError as error:
            return Prepared(name, error=error)
        if key and content_key(load) != key:
            key = None  # the file changed meanwhile: which content was read is unknown
        digests = tuple(hasher.digest(image) for hasher in hashers)
        pixels = preprocessing.apply(image)
        return Prepared(name, pixels, digests, key=key, appearance=appearance(image))

    # Far enough ahead to keep the network fed, near enough to keep memory flat.
    images = ordered_map(
        lambda item: prepare(*item), source.loaders, workers, ahead=4 * workers + 32
    )
    with (
        contextlib.closing(images),
        Progress(f"{source.name} images", source.count) as progress,
    ):
        for image in images:
            yield image
            progress.update()
