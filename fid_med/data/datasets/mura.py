"""TFDS builder `mura`."""

from fid_med.data.datasets.builder import FindingsBuilder
from fid_med.data.layouts import mura

load = mura.load  # the same images, without TFDS


class Mura(FindingsBuilder):
    """MURA-v1.1, radiographs of the upper extremity. Its valid split is `test` here."""

    BODY_PARTS = mura.BODY_PARTS
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"{mura.WHERE_FROM} as manual_dir."
    HOMEPAGE = "https://stanfordmlgroup.github.io/competitions/mura/"
    CITATION = """@article{rajpurkar2018mura,
      title={MURA: Large Dataset for Abnormality Detection in Musculoskeletal Radiographs},
      author={Rajpurkar, Pranav and Irvin, Jeremy and others},
      journal={arXiv preprint arXiv:1712.06957},
      year={2018}
    }"""

    def _images(self, dl_manager):
        return mura.load(dl_manager.manual_dir, self.builder_config.name)
