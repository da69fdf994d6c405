"""Checks that need no file: the network against TensorFlow, the metrics against closed forms."""

import os
import tempfile
from typing import NamedTuple

import numpy as np

from fid_med.errors import StatisticsError
from fid_med.metrics.frechet import calculate_frechet_distance, frechet_components, frechet_distance
from fid_med.metrics.inception_score import inception_score
from fid_med.metrics.statistics import FeatureStatistics
from fid_med.validation import reference_values
from fid_med.validation.table import Check

# Share of the largest feature. The port reaches 3e-7; other processors round differently.
PORT_TOLERANCE = 1e-5
_SIZES = ((32, 32), (200, 150))  # that of CIFAR-10, which is enlarged, and one with two scales
_PRODUCT = "softmax/logits/MatMul"


def checks() -> tuple[Check, ...]:
    """Returns the checks of this module, in the order of the table."""
    return (*_network_checks(), *_closed_form_checks(), *_reference_checks())


def _network_checks():
    graph = "TensorFlow running a stand-in for the 2015-12-05 graph (same nodes, random weights)"
    rounding = "float32 through 94 convolutions is near 3e-7 of the largest; 1e-5 for other CPUs"
    return (
        Check(
            name="port_pool_3",
            compares=f"Keras port against {graph}: pool_3, largest difference / largest feature",
            source=f"computed in the same run; {rounding}",
            compute=lambda inputs: _largest(*_executed(inputs)[:2]),
            expected=0.0,
            tolerance=PORT_TOLERANCE,
            tensorflow=True,
        ),
        Check(
            name="port_logits",
            compares=f"Keras port against {graph}: {_PRODUCT}, largest difference / largest logit",
            source=f"computed in the same run; {rounding}",
            compute=lambda inputs: _largest(*_executed(inputs)[2:4]),
            expected=0.0,
            tolerance=PORT_TOLERANCE,
            tensorflow=True,
        ),
        Check(
            name="tf1_resize",
            compares="tf1 resize against that graph's own ResizeBilinear: largest difference",
            source="computed in the same run; equal to the bit",
            compute=lambda inputs: _furthest(*_executed(inputs)[4:6]),
            expected=0.0,
            tolerance=0.0,
            tensorflow=True,
        ),
        Check(
            name="tf1_resize_formula",
            compares="tf1 resize against bilinear sampling at target index * (in / out), in NumPy: "
            "largest difference, pixels 0..255",
            source="the definition (align_corners=false, no half-pixel centres, no antialiasing); "
            "rounding of float32",
            compute=_resize_against_formula,
            expected=0.0,
            tolerance=1e-3,
            tensorflow=True,
        ),
    )


class _Executed(NamedTuple):
    """Outputs of the port and of TensorFlow for the same images, one row per image."""

    features: np.ndarray
    pool_3: np.ndarray
    logits: np.ndarray
    product: np.ndarray
    resized: np.ndarray
    resize_bilinear: np.ndarray


def _executed(inputs):
    return inputs.once("stand-in", _execute)


def _execute():
    from fid_med.extractors.inception_2015 import stand_in
    from fid_med.extractors.registry import load_extractor

    graph_def = stand_in.stand_in_graph()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "classify_image_graph_def.pb")
        with open(path, "wb") as file:
            file.write(graph_def.SerializeToString())
        extractor = load_extractor(path)
    images = [stand_in.smooth_images(1, *size, seed=i)[0] for i, size in enumerate(_SIZES)]
    nodes = ["pool_3", _PRODUCT, "ResizeBilinear"]
    outputs = stand_in.run_graph(graph_def, images, nodes)
    pool, product, resized = (np.concatenate(arrays) for arrays in zip(*outputs, strict=True))
    features = extractor.extract(images)
    return _Executed(
        features,
        pool[:, 0, 0],
        extractor.logits(features),
        product,
        np.stack([extractor.preprocessing.apply(image) for image in images]),
        resized,
    )


def _furthest(obtained, expected):
    return np.abs(obtained.astype(np.float64) - expected).max()


def _largest(obtained, expected):
    return _furthest(obtained, expected) / np.abs(expected).max()


def _resize_against_formula(inputs):
    from fid_med.extractors.inception_2015.network import PREPROCESSING

    rng = np.random.default_rng(0)
    differences = []
    for size in (*_SIZES, (512, 384)):
        image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
        expected = _sampled(_sampled(image.astype(np.float64), 0, 299), 1, 299)
        differences.append(_furthest(PREPROCESSING.apply(image), expected))
    return max(differences)


def _sampled(image, axis, target):
    """Samples one axis linearly at target index * (in / out), clamped at the last pixel."""
    last = image.shape[axis] - 1
    # float32 as in the graph: rounded positions alone change a pixel by up to 0.01 of 255.
    positions = np.arange(target, dtype=np.float32) * np.float32(image.shape[axis] / target)
    low = np.floor(positions).astype(int)
    weight = (positions.astype(np.float64) - low).reshape(
        [-1 if i == axis else 1 for i in range(3)]
    )
    left, right = (image.take(np.minimum(i, last), axis) for i in (low, low + 1))
    return left * (1 - weight) + right * weight


def _closed_form_checks():
    dowson = "Dowson & Landau 1982"
    return (
        Check(
            name="frechet_forms",
            compares="sqrtm, symmetric and factors at full rank, low_rank and factors below: "
            "largest difference / sum of traces",
            source="equal by algebra; rounding of float64",
            compute=_forms_against_each_other,
            expected=0.0,
            tolerance=1e-10,
        ),
        Check(
            name="frechet_commuting",
            compares="every form on covariances that commute, H diag(a^2) H and H diag(b^2) H, "
            "d=16: the value with the largest error",
            source=f"|m1-m2|^2 + sum (a-b)^2 = 4 + 1360 ({dowson}); rounding of float64",
            compute=_commuting,
            expected=1364.0,
            tolerance=1364e-10,
        ),
        Check(
            name="frechet_one_dimension",
            compares="every form on N(1, 4) and N(4, 25): the value with the largest error",
            source=f"(m1-m2)^2 + (s1-s2)^2 = 9 + 9 ({dowson}); rounding of float64",
            compute=lambda inputs: _furthest_off(18.0, *_moments_of(1.0, 4.0, 4.0, 25.0)),
            expected=18.0,
            tolerance=18e-12,
        ),
        Check(
            name="is_certain_classes",
            compares="Inception Score of a classifier that is certain, 8 classes evenly spread",
            source="exp(log K) = K; rounding of float64",
            compute=lambda inputs: inception_score(1e4 * np.tile(np.eye(8), (20, 1))).mean,
            expected=8.0,
            tolerance=8e-12,
        ),
        Check(
            name="is_equal_probabilities",
            compares="Inception Score of a classifier with equal logits for every image",
            source="exp(0) = 1; rounding of float64",
            compute=lambda inputs: inception_score(np.tile(np.arange(9.0), (160, 1))).mean,
            expected=1.0,
            tolerance=1e-12,
        ),
    )


def _forms_against_each_other(inputs):
    differences = []
    for names, methods in (
        (("real", "generated"), ("symmetric", "factors", "sqrtm")),
        (("few_real", "few_generated"), ("low_rank", "factors")),
    ):
        sides = [FeatureStatistics.from_features(reference_values.numbers(name)) for name in names]
        total = sum(np.trace(side.covariance) for side in sides)
        found = [frechet_distance(*sides, method=method) for method in methods]
        used = [frechet_components(*sides, method=method).method for method in methods]
        if used != list(methods):
            # Two methods would use the same form, and the comparison would be meaningless.
            raise StatisticsError(f"the forms {methods} were replaced by {used}")
        differences.append((max(found) - min(found)) / total)
    return max(differences)


def _commuting(inputs):
    """All numbers are small integers over powers of two, so that only the forms can round."""
    h = np.ones((1, 1))
    for _ in range(4):
        h = np.block([[h, h], [h, -h]])  # Hadamard's matrix: h h / 16 is the identity
    a, b = np.arange(1.0, 17.0), np.arange(16.0, 0.0, -1.0)
    sigma1, sigma2 = (h * x**2 @ h / 16 for x in (a, b))
    return _furthest_off(1364.0, np.zeros(16), sigma1, np.full(16, 0.5), sigma2)


def _moments_of(*scalars):
    return [np.full((1,) if i % 2 == 0 else (1, 1), x) for i, x in enumerate(scalars)]


def _furthest_off(expected, mu1, sigma1, mu2, sigma2):
    sides = [FeatureStatistics.from_moments(*side) for side in ((mu1, sigma1), (mu2, sigma2))]
    found = [frechet_distance(*sides, method=method) for method in ("symmetric", "factors")]
    found.append(calculate_frechet_distance(mu1, sigma1, mu2, sigma2))
    return max(found, key=lambda value: abs(value - expected))


def _reference_checks():
    fid = "Fréchet distance of fixed features, d=24, float64"
    score = f"Inception Score of fixed logits [503, 40], {reference_values.SPLITS} splits"
    order = f"shuffled by RandomState({reference_values.SHUFFLE})"
    return (
        _reference("fid_torch_fidelity", f"{fid}, N=200 and 150", _fid("real", "generated")),
        _reference("fid_pytorch_fid", f"{fid}, N=200 and 150", _fid("real", "generated")),
        _reference(
            "fid_few_torch_fidelity",
            f"{fid}, N=16 and 20, fewer than d",
            _fid("few_real", "few_generated"),
            # The other program computes roots of zero eigenvalues, which are 1e-16 by rounding.
            tolerance=1e-7,
            because="the other program's rounding of singular covariances",
        ),
        _reference("is_mean_in_order", f"{score}, in order: mean", _score("mean")),
        _reference(
            "is_mean_shuffled",
            f"{score}, {order}: mean",
            _score("mean", reference_values.SHUFFLE),
        ),
        _reference(
            "is_std_shuffled", f"{score}, {order}: std", _score("std", reference_values.SHUFFLE)
        ),
    )


def _reference(name, compares, compute, tolerance=1e-10, because="rounding of float64"):
    entry = reference_values.table()["values"][name]
    return Check(
        name=name,
        compares=f"{compares}; against {entry['program']}",
        source=f"{entry['program']} {entry['version']}, {entry['call']}, frozen by "
        f"`{entry['command']}`; {tolerance:g} relative for {because}",
        compute=compute,
        expected=entry["value"],
        tolerance=tolerance * abs(entry["value"]),
    )


def _fid(real, generated):
    def compute(inputs):
        arrays = [reference_values.checked(name) for name in (real, generated)]
        return frechet_distance(*map(FeatureStatistics.from_features, arrays))

    return compute


def _score(statistic, order=None):
    def compute(inputs):
        logits = reference_values.checked("logits")
        return getattr(inception_score(logits, reference_values.SPLITS, order=order), statistic)

    return compute
