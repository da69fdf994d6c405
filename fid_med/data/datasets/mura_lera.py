"""TFDS builder `mura_lera`."""

from fid_med.data.datasets.builder import FindingsBuilder
from fid_med.data.layouts import mura_lera

load = mura_lera.load  # the same images, without TFDS


class MuraLera(FindingsBuilder):
    """MURA and LERA together, upper and lower extremities, in one label space."""

    BODY_PARTS = mura_lera.BODY_PARTS
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"manual_dir: {mura_lera.WHERE_FROM}."

    def _images(self, dl_manager):
        return mura_lera.load(dl_manager.manual_dir, self.builder_config.name)
