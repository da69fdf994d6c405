"""The page of a comparison: what it says, what it shows, and that it needs no other file."""

import html.parser
import re

import numpy as np
import pytest

from fid_med.evaluation import report
from fid_med.evaluation.compute import compute_fid
from fid_med.evaluation.ranking import compare_generators
from fid_med.evaluation.report import write_ranking_report, write_report


class Page(html.parser.HTMLParser):
    """Collects the text and the pictures of a page."""

    def __init__(self, text):
        super().__init__()
        self.words, self.pictures, self.links = [], [], []
        self.feed(text)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "img":
            self.pictures.append(attrs["alt"])
            assert attrs["src"].startswith("data:image/png;base64,")
        self.links += [attrs[x] for x in ("href",) if x in attrs]

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def result(shallow_extractor, phantoms, tmp_path_factory):
    from PIL import Image

    root = tmp_path_factory.mktemp("sets")
    for name, images in (("Doe_Jane", phantoms[0][:20]), ("samples", phantoms[0][20:38])):
        (root / name).mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image).save(root / name / f"<{name}>{i:02d}.png")
    return compute_fid(
        root / "Doe_Jane", root / "samples", shallow_extractor, metrics=["difference"],
        keep_features=True,
    )  # fmt: skip


def test_the_page_begins_with_the_verdict_and_shows_the_sets(result, tmp_path):
    write_report(result, tmp_path / "page.html")
    written = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(written)
    order = [
        result.verdict.text, "real against real", "directions",
        result.verdict.to_report, "Where the numbers come from", result.fingerprint,
    ]  # fmt: skip
    places = [page.text.lower().index(text.lower()) for text in order]
    assert places == sorted(places)
    assert page.pictures == ["The FID and its baseline", "Samples of the sets", "directions",
                             "heatmaps"]  # fmt: skip
    assert page.links == []
    assert "<script" not in written
    assert all(meaning.strip() in page.text for meaning in result.meanings())
    assert all(warning in page.text for warning in result.warnings)
    assert str(tmp_path.parent) not in written  # no path of this machine
    assert "real (Doe_Jane): 20 images (folder); generated (samples)" in page.text
    # The page shows the images. Nothing else names a folder, which may be named after a patient.
    fields = str(result.to_dict()).replace("<Doe_Jane>", "")  # files in the folder
    assert "Doe_Jane" not in fields + "\n".join(result.summary())


def test_without_images_the_page_says_so(result, tmp_path):
    result.save_statistics(tmp_path, features=True)
    found = compute_fid(tmp_path / "real.npz", tmp_path / "generated.npz", metrics=["kid"])
    write_report(found, tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "No images to show of real:" in page.text
    assert page.pictures == ["The FID and its baseline"]
    assert "--metrics=difference" in page.text


def test_a_ranking_has_a_page_with_its_table_and_its_sets(
    shallow_extractor, phantoms, write_images, tmp_path
):
    real = write_images("real", phantoms[0][:16])
    sets = {
        name: write_images(name, phantoms[0][part])
        for name, part in (("step_1", slice(16, 28)), ("step_2", slice(28, 40)))
    }
    found = compare_generators(real, sets, shallow_extractor)
    write_ranking_report(found, tmp_path / "page.html")
    written = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(written)
    assert page.pictures == ["ranking", "curve", "Samples of the sets"]
    texts = [found.verdict(), "debiased FID", *found.notes(), found.to_report(), found.advice(),
             "step_2", found.fingerprint]  # fmt: skip
    assert all(text in page.text for text in texts)
    assert page.text.index(found.verdict()) < page.text.index("Numbers")
    for row in found.table()[1:]:
        assert all(cell in page.words for cell in filter(None, row))
    assert "<script" not in written
    assert str(tmp_path.parent) not in written
    assert "images" not in found.to_dict()


def test_a_generated_set_may_be_named_as_the_real_one(
    shallow_extractor, phantoms, write_images, tmp_path
):
    real = write_images("radiographs", phantoms[0][:16])
    sets = {"real": write_images("real", phantoms[0][16:28]), "b": phantoms[0][28:40]}
    found = compare_generators(real, sets, shallow_extractor)
    write_ranking_report(found, tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "real (radiographs) 16 images (folder) real 12 images (folder)" in page.text
    assert "No images to show" not in page.text


def test_samples_keep_noise_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (1030, 520, 3)).astype(np.uint8)
    whole, crop = report._whole(image), report._crop(image)
    assert whole.shape == (257, 130, 3)
    np.testing.assert_allclose(whole[3, 5], image[12:16, 20:24].mean(axis=(0, 1)), atol=0.5)
    np.testing.assert_array_equal(crop, image[387:643, 132:388])
    small = image[:40, :50, 0]
    np.testing.assert_array_equal(report._whole(small), small)
    np.testing.assert_array_equal(report._crop(small), small)
