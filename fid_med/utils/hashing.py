"""Identity of networks and images: what a sha256 can tell apart."""

import hashlib
import hmac
import json
from collections.abc import Iterable

import numpy as np

from fid_med.errors import DataError


def extractor_fingerprint(network: str, arrays: Iterable[np.ndarray], preprocessing: dict) -> str:
    """Identifies an extractor by what decides its features.

    Args:
      network: name of the topology, such as `inception_v3`.
      arrays: weights in the topology's own order, any float dtype, compared as float32.
      preprocessing: JSON fields of the preprocessing.

    Returns:
      sha256 in hex; equal for equal weights whatever file they came from.
    """
    digest = hashlib.sha256()
    header = {"network": network, "preprocessing": preprocessing}
    digest.update(json.dumps(header, sort_keys=True).encode())
    for array in arrays:
        array = np.ascontiguousarray(array, dtype="<f4")
        digest.update(repr(array.shape).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


class ImageHasher:
    """Keyed hash of an image's pixels, to know it again without keeping it.

    The same pixels give the same digest whatever file format they came in, grey or grey repeated
    to RGB. Without the key nobody can match digests between extractors.

    Args:
      key: hex string; 16 bytes or more.

    Raises:
      DataError: another key.
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
        """HMAC-SHA256, 16 bytes in hex, of uint8 [H, W] or [H, W, 3]."""
        if image.ndim == 3 and (image[..., :1] == image[..., 1:]).all():
            image = image[..., 0]
        message = repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()[:32]
