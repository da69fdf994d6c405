"""Hashes that identify extractors, images and files."""

import hashlib
import hmac
import json
from collections.abc import Iterable

import numpy as np

from fid_med.errors import DataError


def extractor_fingerprint(network: str, arrays: Iterable[np.ndarray], preprocessing: dict) -> str:
    """Hashes everything that determines the features of an extractor.

    Args:
      network: name of the architecture, for example `inception_v3`.
      arrays: weights in the architecture's own order, of any float dtype. They are hashed as
        float32.
      preprocessing: JSON fields of the preprocessing.

    Returns:
      SHA-256 in hex. Equal weights give equal fingerprints, whatever file they came from.
    """
    digest = hashlib.sha256()
    header = {"network": network, "preprocessing": preprocessing}
    digest.update(json.dumps(header, sort_keys=True).encode())
    for array in arrays:
        array = np.ascontiguousarray(array, dtype="<f4")
        digest.update(repr(array.shape).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def file_digest(path, algorithm: str) -> str:
    """Hashes a file's content.

    Args:
      path: the file.
      algorithm: a name that `hashlib.new` knows, for example `sha256` or `md5`.

    Returns:
      The digest in hex.

    Raises:
      OSError: the file cannot be read.
    """
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class ImageHasher:
    """Keyed hash of an image's pixels, which recognises an image without storing it.

    The same pixels give the same digest in every file format, and grey gives the same digest as
    grey repeated to RGB. Digests with different keys cannot be matched.

    Args:
      key: hex string of 16 bytes or more.

    Raises:
      DataError: the key is not hexadecimal or too short.
    """

    def __init__(self, key: str):
        try:
            self._key = bytes.fromhex(key)
        except (TypeError, ValueError):
            self._key = b""
        if len(self._key) < 16:
            raise DataError("key of an image hash: expected 32 hex digits or more")
        self.key = key

    def digest(self, image: np.ndarray) -> str:
        """Hashes one image.

        Args:
          image: uint8 [H, W] or [H, W, 3].

        Returns:
          The first 16 bytes of HMAC-SHA256, in hex.
        """
        if image.ndim == 3 and (image[..., :1] == image[..., 1:]).all():
            image = image[..., 0]
        message = repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()[:32]
