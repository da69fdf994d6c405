"""Cases from images to features: the network alone, and with reading and resizing."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from benchmarks.inputs import BenchmarkInputs
from benchmarks.peers import NEEDS
from benchmarks.table import Measurement
from benchmarks.timing import Contender, compare
from fid_med.data.images import list_images, read_image
from fid_med.data.preprocessing import as_rgb_batch
from fid_med.evaluation.compute import compute_statistics
from fid_med.extractors.registry import load_extractor


def network(inputs: BenchmarkInputs) -> Iterator[Measurement]:
    """Times one batch in the 2015-12-05 graph, then in Keras's InceptionV3."""
    pixels, rounds = inputs.pixels, inputs.settings.rounds
    contenders = [*_tensorflow(inputs.extractor, pixels)]
    np.save(inputs.folder / "pixels.npy", pixels)
    for program in NEEDS:
        contenders.append(Contender(program, lambda p=program: _peer(inputs, p)))
    yield Measurement(
        "network",
        f"2015-12-05 graph, {len(pixels)} images of {pixels.shape[1]} x {pixels.shape[2]}",
        compare(contenders, rounds, len(pixels)),
        "images",
    )
    keras = load_extractor("random")
    yield Measurement(
        "network",
        f"Keras's InceptionV3, random weights, {len(pixels)} images of 299 x 299",
        compare(list(_tensorflow(keras, pixels.astype(np.uint8))), rounds, len(pixels)),
        "images",
    )


def _peer(inputs, program):
    inputs.peers.require(program)
    return inputs.peers.job(
        program, "network", weights=inputs.torch_weights, pixels=inputs.folder / "pixels.npy"
    )


def _tensorflow(extractor, pixels):
    """Yields fid_med and the usual ways to run a network in TensorFlow."""
    model = extractor.network

    def compiled(**options):
        function = tf.function(lambda x: model(tf.cast(x, tf.float32), training=False), **options)
        return lambda: function(tf.constant(pixels)).numpy()

    yield Contender("fid_med", lambda: lambda: extractor.extract_batch(pixels))
    yield Contender(
        "Keras predict",
        lambda: lambda: model.predict(pixels.astype(np.float32), len(pixels), verbose=0),
    )
    yield Contender("tf.function", compiled)
    yield Contender("tf.function, XLA", lambda: compiled(jit_compile=True))


def pipeline(inputs: BenchmarkInputs) -> Iterator[Measurement]:
    """Times the statistics of a folder of PNG files."""
    for size in inputs.settings.sizes:
        folder = inputs.image_folders(size)["real"]
        count, batch_size = inputs.settings.num_images, inputs.settings.batch_size
        yield Measurement(
            "pipeline",
            f"{count} PNG files of {size} x {size} to statistics",
            compare(
                _pipelines(inputs.extractor, folder, batch_size), inputs.settings.rounds, count
            ),
            "images",
            "'times fid_med' of the network alone is the share of its speed that the pipeline has",
        )


def _pipelines(extractor, folder, batch_size):
    def ours():
        return compute_statistics(folder, extractor, batch_size=batch_size)[0].mean

    def prepared():
        for name in list_images(folder):
            yield extractor.preprocessing.apply(read_image(os.path.join(folder, name)))

    def batches():
        images = list(prepared())
        return [as_rgb_batch(images[i : i + batch_size]) for i in range(0, len(images), batch_size)]

    def alone():
        ready = batches()
        return lambda: _mean([extractor.extract_batch(batch) for batch in ready])

    def baseline():
        features = [
            extractor.network.predict(batch.astype(np.float32), verbose=0) for batch in batches()
        ]
        return _mean(features)

    return [
        Contender("fid_med", lambda: ours),
        Contender("the network alone", alone),
        Contender("one file after another, then Keras predict", lambda: baseline),
    ]


def _mean(features):
    return np.concatenate(features).mean(axis=0, dtype=np.float64)
