"""Checks against published values: they need the 2015-12-05 graph, CIFAR-10, TTUR's statistics."""

import numpy as np

from fid_med.errors import DataError
from fid_med.metrics.frechet import frechet_distance
from fid_med.metrics.inception_score import inception_score
from fid_med.validation import cifar10
from fid_med.validation.inputs import (
    CIFAR10,
    CIFAR10_ORDER,
    GRAPH,
    TTUR_CIFAR10_TRAIN,
    TTUR_IMAGENET_TRAIN,
    TTUR_IMAGENET_VALID,
)
from fid_med.validation.offline import PORT_TOLERANCE
from fid_med.validation.table import Check


def checks() -> tuple[Check, ...]:
    """Returns the checks of this module, in the order of the table."""
    return (
        Check(
            name="published_graph_pool_3",
            compares="Keras port against TensorFlow running the published graph itself: pool_3, "
            "largest difference / largest feature",
            source="computed in the same run; rounding of float32",
            compute=_published_graph,
            expected=0.0,
            tolerance=PORT_TOLERANCE,
            needs=(GRAPH,),
            tensorflow=True,
        ),
        Check(
            name="cifar10_train_ttur_statistics",
            compares=f"FID of CIFAR-10's training images against TTUR's {TTUR_CIFAR10_TRAIN}",
            source="the same images in the same network should give 0; not verified, because this "
            "value is not published (pytorch-fid issue 33: 15, with its own resize). 0.01 is "
            "far above rounding, and far below any change of resize, weights or images",
            compute=_train_against_ttur,
            expected=0.0,
            tolerance=0.01,
            needs=(GRAPH, CIFAR10, TTUR_CIFAR10_TRAIN),
            tensorflow=True,
        ),
        Check(
            name="cifar10_train_test",
            compares="FID between CIFAR-10's 50,000 training and 10,000 test images",
            source="value of the official code in the README of "
            "w86763777/pytorch-image-generation-metrics; 0.02 covers the values of its own port to "
            "PyTorch in several versions, 3.1377 to 3.1525 (NVlabs/stylegan2-ada issue 53: 3.1)",
            compute=_train_against_test,
            expected=3.1508,
            tolerance=0.02,
            needs=(GRAPH, CIFAR10),
            tensorflow=True,
        ),
        Check(
            name="cifar10_train_is",
            compares="Inception Score of CIFAR-10's training images, 10 splits in order",
            source="Salimans et al. 2016, real data: 11.24 +- 0.12, the spread over their splits "
            "(pytorch-image-generation-metrics: 11.24 +- 0.20 with the official code)",
            compute=lambda inputs: _score(inputs, order=None),
            expected=11.24,
            tolerance=0.12,
            needs=(GRAPH, CIFAR10),
            tensorflow=True,
        ),
        Check(
            name="cifar10_train_is_torch_fidelity",
            compares="Inception Score of CIFAR-10's training images, shuffled by RandomState(2020)",
            source="torch-fidelity prints 11.23678 for cifar10-train; 1e-4 relative is the "
            "precision that it states against TensorFlow",
            compute=lambda inputs: _score(inputs, order=2020),
            expected=11.23678,
            tolerance=1.1e-3,
            needs=(GRAPH, CIFAR10_ORDER),
            tensorflow=True,
        ),
        Check(
            name="imagenet_valid_train",
            compares=f"FID between TTUR's {TTUR_IMAGENET_VALID} and {TTUR_IMAGENET_TRAIN}",
            source="no published value",
            compute=lambda inputs: frechet_distance(
                inputs.get(TTUR_IMAGENET_TRAIN), inputs.get(TTUR_IMAGENET_VALID)
            ),
            needs=(TTUR_IMAGENET_TRAIN, TTUR_IMAGENET_VALID),
        ),
    )


def _published_graph(inputs):
    from fid_med.extractors.inception_2015 import stand_in
    from fid_med.extractors.inception_2015.download import read_graph

    graph_def = stand_in.GraphDef.FromString(read_graph(inputs.graph_path()))
    images = [stand_in.smooth_images(1, *size)[0] for size in ((32, 32), (200, 150))]
    # Only up to pool_3: the shape to which the file's classifier reshapes is not known.
    outputs = stand_in.run_graph(graph_def, images, ["pool_3"])
    expected = np.stack([pool.ravel() for (pool,) in outputs])
    extractor = inputs.get(GRAPH)
    difference = np.abs(extractor.extract(images) - expected).max() / np.abs(expected).max()
    return difference, "; ".join(extractor.warnings)


def _train_against_ttur(inputs):
    train = inputs.features("train").statistics
    distance = frechet_distance(inputs.get(TTUR_CIFAR10_TRAIN), train)
    return distance, _shortage(inputs, "train")


def _train_against_test(inputs):
    sides = [inputs.features(split).statistics for split in ("train", "test")]
    return frechet_distance(*sides), _shortage(inputs, "train", "test")


def _score(inputs, order):
    logits = inputs.features("train").logits
    if logits is None:
        raise DataError("the graph ends at pool_3: an Inception Score needs its softmax/weights")
    score = inception_score(logits, order=order)
    notes = (f"std over the splits {score.std:.6g}", _shortage(inputs, "train"))
    return score.mean, "; ".join(note for note in notes if note)


def _shortage(inputs, *splits):
    """Returns a note if the images are not all of CIFAR-10."""
    found = {split: len(inputs.get(CIFAR10)[split]) for split in splits}
    if all(cifar10.COUNTS[split] == number for split, number in found.items()):
        return ""
    images = " and ".join(f"{number:,} {split}" for split, number in found.items())
    return f"{images} images are not CIFAR-10's 50,000 and 10,000: published values do not apply"
