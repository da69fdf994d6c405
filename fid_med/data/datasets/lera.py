"""TFDS builder `lera`."""

from fid_med.data.datasets.builder import FindingsBuilder
from fid_med.data.layouts import lera

load = lera.load  # the same images, without TFDS


class Lera(FindingsBuilder):
    """LERA, radiographs of the lower extremity."""

    BODY_PARTS = lera.BODY_PARTS
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"{lera.WHERE_FROM} as manual_dir."
    HOMEPAGE = "https://aimi.stanford.edu/datasets/lera-lower-extremity-radiographs"
    CITATION = """@article{varma2019automated,
      title={Automated abnormality detection in lower extremity radiographs using deep learning},
      author={Varma, Maya and Lu, Mandy and others},
      journal={Nature Machine Intelligence},
      volume={1},
      pages={578--583},
      year={2019}
    }"""

    def _images(self, dl_manager):
        return lera.load(dl_manager.manual_dir, self.builder_config.name)
