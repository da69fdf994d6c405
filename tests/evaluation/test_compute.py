"""compute_fid: every kind of source, the account of images, and what it refuses."""

import copy
import dataclasses
import json
import os

import numpy as np
import pytest
from helpers import rounding
from helpers.script_runs import run_script
from PIL import Image

from fid_med.data import sources
from fid_med.errors import DataError, FidMedError, StatisticsError, UnreadableImageError
from fid_med.evaluation.compute import compute_fid, compute_statistics
from fid_med.evaluation.result import draw_figures
from fid_med.extractors.extractor import TrainingImages
from fid_med.metrics.statistics import FeatureStatistics


@pytest.fixture(scope="module")
def halves(phantoms):
    return phantoms[0][:20], phantoms[0][20:]


@pytest.fixture(scope="module")
def expected(halves, shallow_extractor):
    """FID by the textbook: the eigenvalues of C1^(1/2) C2 C1^(1/2).

    Not by the published function, for whether SciPy finds a root of so singular a product depends
    on its version.
    """
    features = [shallow_extractor.extract(images).astype(np.float64) for images in halves]
    # In coordinates of their common span, which change no distance: 40 dimensions, not 2,048.
    basis = np.linalg.qr(np.concatenate(features).T)[0]
    features = [x @ basis for x in features]
    (mean1, c1), (mean2, c2) = ((x.mean(axis=0), np.cov(x, rowvar=False)) for x in features)
    values, vectors = np.linalg.eigh(c1)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    roots = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ c2 @ root), 0))
    return np.sum((mean1 - mean2) ** 2) + np.trace(c1) + np.trace(c2) - 2 * roots.sum()


def carrying(extractor, images):
    """The extractor, compiled as it is, with other training images."""
    carrying = copy.copy(extractor)
    carrying.training_images = images
    return carrying


def test_agrees_with_the_textbook(halves, shallow_extractor, expected):
    result = compute_fid(*halves, shallow_extractor)
    # The root itself is off by about 1e-6 of the traces where covariances are rank-deficient.
    traces = sum(np.trace(s.covariance) for s in result.statistics)
    assert abs(result.fid - expected) < 1e-5 * traces
    assert result.fid > 0.01 * traces


def test_each_image_is_read_once(halves, shallow_extractor, write_images, monkeypatch):
    folders = [write_images(name, images) for name, images in zip("rg", halves, strict=True)]
    read, reads = sources.read_image, []

    def watched(path):
        reads.append(path)
        return read(path)

    monkeypatch.setattr(sources, "read_image", watched)
    compute_fid(*folders, shallow_extractor, metrics=["debiased"])
    assert len(reads) == len(set(reads)) == len(halves[0]) + len(halves[1])


def test_each_folder_is_listed_once(halves, shallow_extractor, write_images, monkeypatch, tmp_path):
    folders = [write_images(name, images) for name, images in zip("rg", halves, strict=True)]
    index_folder, listed = sources.index_folder, []
    monkeypatch.setattr(
        sources, "index_folder", lambda *args: listed.append(args[0]) or index_folder(*args)
    )
    result = compute_fid(*folders, shallow_extractor, metrics=["difference"])
    assert draw_figures(result, tmp_path / "figures")
    assert listed == folders


def test_every_source_gives_the_same_number(halves, shallow_extractor, write_images, tmp_path):
    import tensorflow as tf

    real, generated = halves
    fid = compute_fid(real, generated, shallow_extractor).fid
    folder = write_images("real", real)
    calls = iter(np.array_split(generated, 4))
    sources = [
        generated,
        generated[..., None],
        np.repeat(generated[..., None], 3, axis=-1),
        write_images("generated/nested", generated).parent,
        tf.data.Dataset.from_tensor_slices(generated),
        tf.data.Dataset.from_tensor_slices((generated[..., None], np.zeros(20))).batch(7),
        tf.data.Dataset.from_tensor_slices({"image": generated[..., None]}).batch(7),
        lambda count: next(calls),
    ]
    for source in sources:
        assert compute_fid(folder, source, shallow_extractor).fid == pytest.approx(
            fid, rel=rounding.FID
        )


def test_batch_size_and_file_order_do_not_matter(halves, shallow_extractor, write_images):
    real, generated = halves
    names = [f"{i:03d}.png" for i in np.random.default_rng(0).permutation(20)]
    renamed = write_images("renamed", generated, names)
    fid = compute_fid(real, generated, shallow_extractor, batch_size=64).fid
    for size in (1, 7):
        assert compute_fid(
            real, generated, shallow_extractor, batch_size=size
        ).fid == pytest.approx(fid, rel=rounding.FID)
    assert compute_fid(real, renamed, shallow_extractor).fid == pytest.approx(fid, rel=rounding.FID)


def test_a_set_against_itself_and_its_statistics_is_zero(halves, shallow_extractor, tmp_path):
    result = compute_fid(halves[0], halves[0], shallow_extractor)
    assert abs(result.fid) < 1e-6
    result.save_statistics(tmp_path)
    file = tmp_path / "real.npz"
    assert abs(compute_fid(halves[0], file, shallow_extractor).fid) < 1e-6
    assert abs(compute_fid(file, tmp_path / "generated.npz").fid) < 1e-6


def test_result_says_what_was_done(halves, shallow_extractor, capsys):
    result = compute_fid(*halves, shallow_extractor)
    fields = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert fields["fid"] == result.fid
    assert fields["real"] == {
        "kind": "array", "count": 20, "skipped": 0, "excluded": 0, "seen_in_training": 0,
        "cached": 0, "validated_on": 0, "black": 0, "white": 0, "uniform": 0, "ignored": {},
        "distinct": 20,
    }  # fmt: skip
    assert fields["extractor"] == "random at 64"
    assert fields["fingerprint"] == shallow_extractor.fingerprint
    assert fields["preprocessing"]["resize"] == "antialias"
    assert {"fid_med", "tensorflow", "keras", "numpy", "scipy"} <= set(fields["versions"])
    assert {"real", "generated", "frechet"} <= set(fields["seconds"])
    assert any("fewer than 2048" in line for line in fields["warnings"])
    out, err = capsys.readouterr()
    assert out == ""
    assert "fewer than 2048" in err


def test_what_an_extractor_warns_of_is_said(halves, shallow_extractor, capsys, monkeypatch):
    monkeypatch.setattr(shallow_extractor, "warnings", ("no published network",))
    assert compute_fid(*halves, shallow_extractor).warnings[0] == "no published network"
    assert "warning: no published network\n" in capsys.readouterr().err


def test_unreadable_image_is_named_or_counted(halves, shallow_extractor, write_images):
    folder = write_images("real", halves[0])
    whole = (folder / "003.png").read_bytes()
    (folder / "003.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("no image")
    with pytest.raises(UnreadableImageError, match=r"003\.png"):
        compute_fid(folder, halves[1], shallow_extractor)
    result = compute_fid(folder, halves[1], shallow_extractor, skip_unreadable=True)
    assert (result.real.count, result.real.skipped) == (19, 2)
    assert any(line.startswith("real: skipped text.png: ") for line in result.warnings)
    assert str(folder) not in json.dumps(result.to_dict())
    without = np.delete(halves[0], 3, axis=0)
    assert result.fid == pytest.approx(
        compute_fid(without, halves[1], shallow_extractor).fid, rel=rounding.FID
    )


def test_training_images_are_counted_and_left_out_on_request(halves, shallow_extractor):
    real, generated = halves
    remembered = TrainingImages("ab" * 16)
    hasher = remembered.hasher()
    remembered = dataclasses.replace(
        remembered,
        train=frozenset(hasher.digest(image) for image in real[:4]),
        validation=frozenset([hasher.digest(real[4])]),
    )
    extractor = carrying(shallow_extractor, remembered)
    result = compute_fid(real, generated, extractor)
    assert result.real.seen_in_training == 5
    assert result.generated.seen_in_training == 0
    assert any("has seen 5 of these 20" in line for line in result.warnings)
    result = compute_fid(real, generated, extractor, exclude_training_images=True)
    assert (result.real.count, result.real.excluded) == (15, 5)
    assert result.fid == pytest.approx(
        compute_fid(real[5:], generated, shallow_extractor).fid, rel=rounding.FID
    )


def test_statistics_of_another_extractor_are_refused_before_any_work(
    halves, shallow_extractor, tmp_path
):
    statistics, _, _ = compute_statistics(halves[0], shallow_extractor)
    statistics.fingerprint = "f" * 64
    statistics.extractor = "other"
    statistics.save(tmp_path / "other.npz")

    def never(count):
        raise AssertionError("the generator must not be asked")

    with pytest.raises(StatisticsError, match=r"other.*random"):
        compute_fid(tmp_path / "other.npz", never, shallow_extractor)


def test_statistics_of_unknown_origin_come_with_a_warning(halves, shallow_extractor, tmp_path):
    features = shallow_extractor.extract(halves[0]).astype(np.float64)
    np.savez(tmp_path / "bare.npz", mu=features.mean(axis=0), sigma=np.cov(features, rowvar=False))
    result = compute_fid(tmp_path / "bare.npz", halves[0], shallow_extractor)
    assert abs(result.fid) < 1e-6
    assert result.real.count is None
    assert any("unknown origin" in line for line in result.warnings)
    both = compute_fid(tmp_path / "bare.npz", tmp_path / "bare.npz")
    assert both.extractor is None
    json.dumps(both.to_dict())


WRONG = """
import numpy as np, sys
import fid_med

images = np.zeros((9, 80, 80), np.uint8)
for wrong in (
    {"metrics": "kid"}, {"metrics": ["fod"]}, {"confidence": 95}, {"batch_size": 0},
    {"extractor": "inception"}, {"extractor": None}, {"resize": "best"}, {"image_size": 0},
    {"real": images[..., None] * 1.0}, {"real": images[0]}, {"real": images[:1]},
    {"real": [images]}, {"generated": "no/such"}, {"patient_regex": "x"},
    {"real": sys.argv[1], "patient_regex": "("}, {"real": sys.argv[1], "patient_regex": "^x"},
):
    try:
        fid_med.compute_fid(**({"real": images, "generated": images} | wrong))
        print("accepted", wrong)
    except fid_med.FidMedError:
        pass
print("tensorflow" in sys.modules)
"""


def test_wrong_arguments_are_refused_before_tensorflow_loads(write_images):
    folder = write_images("real", np.zeros((9, 8, 8), np.uint8))
    process = run_script("-c", WRONG, folder)
    assert (process.stdout, process.stderr) == ("False\n", "")


def test_patients_of_generated_images_are_advised_against(halves, shallow_extractor, write_images):
    folder = write_images("generated", halves[1])
    result = compute_fid(halves[0], folder, shallow_extractor, generated_patient_regex="^0(.)")
    assert result.metrics["debiased"] is None
    assert "as generated images are" in result.unavailable["debiased"]
    (line,) = [line for line in result.warnings if "patient" in line]
    assert line.startswith("generated: --generated_patient_regex finds only 2 patients in 20")
    assert "drop it" in line


@pytest.mark.parametrize("name", ["real", "generated"])
def test_a_missing_folder_is_reported_before_the_other_is_read(name, halves, shallow_extractor):
    def never(count):
        raise AssertionError("the generator must not be asked")

    sides = {"real": never, "generated": never} | {name: "missing/folder"}
    with pytest.raises(DataError, match="missing/folder"):
        compute_fid(**sides, extractor=shallow_extractor, num_generated=4)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((1, 80, 80), np.uint8), "1 image; a covariance needs at least 2"),
        (np.zeros((0, 80, 80), np.uint8), "0 images"),
        (np.zeros((3, 80, 80), np.float32), "float32 from .*expected uint8"),
        (np.zeros((3, 80, 80, 2), np.uint8), "shape"),
        (np.zeros((80, 80), np.uint8), "shape"),
        (42, "int is no source of images"),
        (["a.png", "b.png"], "list is no source of images.*give the folder of the files"),
    ],
)
def test_what_is_no_set_of_images_is_refused(images, message, halves, shallow_extractor):
    with pytest.raises(FidMedError, match=message):
        compute_fid(images, halves[0], shallow_extractor)


def test_callable_is_asked_for_as_many_as_the_other_side_has(halves, shallow_extractor):
    asked = []

    def generator(count):
        asked.append(count)
        return halves[1][: min(count, 6)]

    result = compute_fid(halves[0], generator, shallow_extractor)
    assert result.generated.count == 20
    assert sum(min(count, 6) for count in asked) == 20
    assert (
        compute_fid(halves[0], generator, shallow_extractor, num_generated=9).generated.count == 9
    )


def test_further_sets_do_not_tell_a_callable_how_many(halves, shallow_extractor):
    result = compute_fid(
        halves[0], lambda count: halves[1][:count], shallow_extractor,
        metrics=["paired"], other_generated=halves[1][:16],
    )  # fmt: skip
    assert result.generated.count == 20
    import tensorflow as tf

    unknown = tf.data.Dataset.from_tensor_slices(halves[0]).filter(lambda _: True)
    with pytest.raises(DataError, match="needs the number of images"):
        compute_fid(
            unknown, lambda count: halves[1][:count], shallow_extractor,
            metrics=["memorisation"], train_images=halves[1][:16],
        )  # fmt: skip


def test_loaded_extractor_refuses_another_preprocessing(halves, shallow_extractor):
    with pytest.raises(DataError, match="the extractor is already loaded; pass image_size"):
        compute_fid(*halves, shallow_extractor, resize="tf1")


def test_dark_sixteen_bit_images_are_warned_about(halves, shallow_extractor, tmp_path):
    for i, image in enumerate(halves[0][:3]):
        twelve_bit = image.astype(np.uint16) * 16
        Image.fromarray(twelve_bit).save(tmp_path / f"{i}.png")
    result = compute_fid(tmp_path, halves[1], shallow_extractor)
    assert any("12-bit" in line for line in result.warnings)


def test_no_path_reaches_the_result(halves, shallow_extractor, write_images):
    folder = write_images("Doe_Jane", halves[0])
    result = compute_fid(folder, halves[1], shallow_extractor)
    text = json.dumps(result.to_dict())
    assert "Doe_Jane" not in text
    assert os.fspath(folder.parent) not in text


def test_statistics_file_is_what_peers_read(halves, shallow_extractor, tmp_path):
    statistics, _, _ = compute_statistics(halves[0], shallow_extractor)
    statistics.save(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as file:  # as pytorch-fid does it
        mu, sigma = file["mu"][:], file["sigma"][:]
    features = shallow_extractor.extract(halves[0]).astype(np.float64)
    np.testing.assert_allclose(mu, features.mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(sigma, np.cov(features, rowvar=False), rtol=1e-3, atol=1e-5)
    assert FeatureStatistics.load(tmp_path / "x.npz").fingerprint == shallow_extractor.fingerprint


def test_a_second_run_takes_its_features_from_the_cache(
    halves, shallow_extractor, write_images, tmp_path
):
    sides = write_images("real", halves[0]), write_images("generated", halves[1])
    plain = compute_fid(*sides, shallow_extractor)
    first, second = (
        compute_fid(*sides, shallow_extractor, cache_dir=tmp_path / "cache") for _ in range(2)
    )
    assert plain.fid == first.fid == second.fid
    assert (first.real.cached, second.real.cached, second.generated.cached) == (0, 20, 20)
    assert second.summary()[0] == "real: 20 images (folder), 20 taken from the cache"


def test_training_images_are_known_in_the_cache_too(
    halves, shallow_extractor, write_images, tmp_path
):
    remembered = TrainingImages("ab" * 16)
    digests = frozenset(remembered.hasher().digest(image) for image in halves[0][:4])
    extractor = carrying(shallow_extractor, dataclasses.replace(remembered, train=digests))
    folder, cache = write_images("real", halves[0]), tmp_path / "cache"
    for cached in (0, 16):
        result = compute_fid(
            folder, halves[1], extractor, cache_dir=cache, exclude_training_images=True
        )
        assert (result.real.count, result.real.excluded, result.real.cached) == (16, 4, cached)
    assert compute_fid(folder, halves[1], extractor, cache_dir=cache).real.seen_in_training == 4
    # What one extractor was trained on is no other's business, though their features are the same.
    result = compute_fid(folder, halves[1], shallow_extractor, cache_dir=cache)
    assert (result.real.seen_in_training, result.real.cached) == (0, 0)
