"""Fréchet inception distance for radiographs, with the published FID next to it.

Importing the package is quick: NumPy, SciPy and TensorFlow load when a name that needs them is
first used.
"""

import importlib

from fid_med.version import __version__

_HOMES = {
    "compute_fid": "fid_med.evaluation.compute",
    "compare_generators": "fid_med.evaluation.ranking",
    "compute_statistics": "fid_med.evaluation.compute",
    "ExtractionOptions": "fid_med.evaluation.extraction",
    "ExtractorSpec": "fid_med.extractors.registry",
    "FIDCallback": "fid_med.callbacks",
    "FIDMetric": "fid_med.evaluation.fid_metric",
    "FIDResult": "fid_med.evaluation.compute",
    "train": "fid_med.training.train",
    "TrainingConfig": "fid_med.training.config",
    "LabelledImages": "fid_med.data.labelled",
    "load_extractor": "fid_med.extractors.registry",
    "FeatureExtractor": "fid_med.extractors.extractor",
    "Preprocessing": "fid_med.data.preprocessing",
    "FeatureStatistics": "fid_med.metrics.statistics",
    "calculate_frechet_distance": "fid_med.metrics.frechet",
    "frechet_distance": "fid_med.metrics.frechet",
    "phantom_radiograph": "fid_med.phantoms.radiograph",
    "phantom_set": "fid_med.phantoms.radiograph",
    "FidMedError": "fid_med.errors",
}

# Their modules import Keras at once.
_NEED_TENSORFLOW = ("FIDCallback", "FIDMetric", "FeatureExtractor", "train")

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name):
    if name in _HOMES:
        if name in _NEED_TENSORFLOW:
            from fid_med.utils.tensorflow_import import import_tensorflow

            import_tensorflow()
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'fid_med' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
