"""HTML page of a comparison or a ranking: the answer, numbers, images, what to report."""

import pathlib
import tempfile
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from fid_med.evaluation.extraction import FeatureSet
from fid_med.evaluation.ranking_result import GeneratorRanking
from fid_med.evaluation.result import FIDResult, draw_figures
from fid_med.utils.files import atomic_path
from fid_med.utils.html_page import embed_png, escape, make_page, make_table
from fid_med.utils.plots import BLUE, ORANGE, save_figure, shorten_name

TITLE = "How far are the generated images from the real ones?"
RANKING_TITLE = "Which generated set is nearest to the real images?"
_MOST_SETS = 8  # whose samples a page of a ranking shows
_SAMPLES = 6  # images of each set
_PIXELS = 256  # side of a sample: one pixel of the crop is one pixel of the figure or more

_CAPTIONS = {
    "directions": "<b>Directions.</b> Each row is an axis of the features along which the sets "
    "differ. From left to right: the images at its lower end and at its upper end, real ones "
    "framed in blue, generated ones in orange. The label gives the axis's share of the FID, the "
    "shift of the generated images in standard deviations (sd) of the real ones, and the ratio of "
    "the standard deviations. What the images at one end have in common, and those at the other "
    "end lack, is what the axis measures.",
    "heatmaps": "<b>Heat maps.</b> The images with the largest contribution to the FID, each next "
    "to itself coloured by where the contribution comes from (gradient of the FID times "
    "activations, as in Grad-CAM). Black: nothing. Yellow: most.",
    "closest_pairs": "<b>Closest pairs.</b> Generated images next to the training image nearest to "
    "them. Distance: of the features. Ratio: that distance over the usual distance between "
    "training images; far below 1 is suspicious. Pixels: correlation of the images, 1 if they are "
    "equal. Copies are framed.",
}
_WHAT_NOT = (
    "Do not compare this FID with one of another extractor, another depth, or other numbers of "
    "images: its bias differs. Debiased FIDs of the same extractor and depth can be compared at "
    "any number of images.",
    "Only FIDs of the network of 2015-12-05 (<code>--extractor=ttur</code>) at its last depth can "
    "be compared with published FIDs, and only at the same number of images.",
    "A FID compares sets. It does not show that a single image is correct, that patients are "
    "private, or that images are of clinical use.",
)


def write_report(result: FIDResult, path, figures: Sequence[str] | None = None) -> None:
    """Writes the page of a comparison: one file that opens from disk, without scripts.

    It shows the verdict, the numbers next to their baseline, samples of both sets, the figures of
    the metrics that were computed, what to report, and where the numbers come from. The page
    contains images of both sets and their file names: share it as you would share these.

    ```python
    import fid_med
    from fid_med.evaluation.report import write_report

    result = fid_med.compute_fid("real_images", "generated_images", "chest/extractor.keras",
                                 keep_features=True)
    write_report(result, "report.html")
    ```

    Args:
      result: of `compute_fid` with `keep_features`, without which the page has no images.
      path: the HTML file.
      figures: the files that `draw_figures` wrote for this result; by default they are drawn again.

    Raises:
      OSError: the file cannot be written.
    """
    names = [name for name, _ in result.accounts]
    sets = [result.features.get(name) for name in names]
    titles = _titles(names, sets)
    with tempfile.TemporaryDirectory() as folder:
        parts = [
            _verdict(result, titles),
            "<h2>Numbers</h2>",
            _numbers_figure(result, pathlib.Path(folder)),
            _numbers(result),
            "<h2>Samples</h2>",
            _samples(titles[:2], sets[:2], pathlib.Path(folder)),
            "<h2>What differs</h2>",
            _differences(result, folder, figures),
            "<h2>What to report</h2>",
            f"<p>Copy this line: <code>{escape(result.verdict.to_report)}</code></p>",
            *(f"<p>{line}</p>" for line in _WHAT_NOT),
            "<h2>Where the numbers come from</h2>",
            _provenance(result, titles),
        ]
    _write(path, TITLE, parts)


def write_ranking_report(result: GeneratorRanking, path) -> None:
    """Writes the page of several generated sets, as `write_report` does for one.

    It shows which set is nearest, the table, the plots of `GeneratorRanking.draw`, samples of the
    sets, what to report, and where the numbers come from.

    Args:
      result: of `compare_generators`.
      path: the HTML file.

    Raises:
      OSError: the file cannot be written.
    """
    titles, shown = _titles([name for name, _ in result.accounts], result.images), 1 + _MOST_SETS
    with tempfile.TemporaryDirectory() as folder:
        plots = [pathlib.Path(x) for x in result.draw(folder)]
        parts = [
            _box("mixed", result.verdict()),
            *(f'<p class="note">{escape(line)}</p>' for line in result.warnings),
            "<h2>Numbers</h2>",
            make_table(*_ranking_table(result)),
            *(f'<p class="small">{escape(line)}</p>' for line in result.notes()),
            *(embed_png(x.read_bytes(), x.stem) for x in plots),
            "<h2>Samples</h2>",
            _samples(titles[:shown], result.images[:shown], pathlib.Path(folder)),
            "<h2>What to report</h2>",
            f"<p>Report the table, with this line: <code>{escape(result.to_report())}</code></p>",
            f"<p>{escape(result.advice())}</p>",
            *(f"<p>{line}</p>" for line in _WHAT_NOT),
            "<h2>Where the numbers come from</h2>",
            _provenance(result, titles),
        ]
    _write(path, RANKING_TITLE, parts)


def _write(path, title, parts):
    with atomic_path(path) as temporary:
        pathlib.Path(temporary).write_text(make_page(title, "\n".join(parts)), encoding="utf-8")


def _box(kind, text):
    return f'<div class="verdict {kind}"><p class="answer">{escape(text)}</p></div>'


def _titles(names, sets: Sequence[FeatureSet | None]) -> list[str]:
    """Adds the name of the folder, where it is known and another, such as `real (radiographs)`."""
    labels = [found.label if found else "" for found in sets]
    return [
        f"{name} ({label})" if label not in ("", name) else name
        for name, label in zip(names, labels, strict=True)
    ]


def _ranking_table(result):
    header, *rows = result.table()
    kinds = ("n", "", *["n"] * (len(header) - 2))
    return header, [list(zip(kinds, map(escape, row), strict=True)) for row in rows]


def _verdict(result, titles):
    # No difference shown is not good news: it may be for want of images.
    kind = "bad" if result.verdict.differ else "mixed"
    accounts = zip(titles[:2], (result.real, result.generated), strict=True)
    sets = "; ".join(f"{title}: {account.describe()}" for title, account in accounts)
    warnings = "".join(f'<p class="note">{escape(line)}</p>' for line in result.warnings)
    return f"{_box(kind, result.verdict.text)}<p>{escape(sets)}</p>{warnings}"


def _numbers(result):
    rows = [("FID", f"{result.fid:.6g}", "", "plain, with the bias of few images")]
    rows += [tuple(row) for row in result.rows()]
    cells = [[escape(a), ("n", escape(b)), escape(c), escape(d)] for a, b, c, d in rows]
    table = make_table(("number", "value", "spread", "note"), cells)
    meanings = "<br>".join(escape(line.strip()) for line in result.meanings())
    return f'{table}<p class="small">{meanings}</p>'


def _numbers_figure(result, folder):
    """Draws the FID above its baseline, and the debiased FID with its interval above 0."""
    base, debiased = (result.metrics.get(name) for name in ("baseline", "debiased"))
    if not base and not debiased:
        return ""
    figure = Figure(figsize=(8.5, 2.2), layout="constrained")
    axis = figure.subplots()
    if base:
        band = base["mean"] - 2 * base["sd"], base["mean"] + 2 * base["sd"]
        axis.barh(1, band[1] - band[0], left=band[0], height=0.5, color=BLUE, alpha=0.35)
    axis.plot(result.fid, 1, "o", color=ORANGE, markersize=9)
    if debiased:
        low, high = debiased["low"], debiased["high"]
        axis.plot([low, high], [0, 0], "-", color=ORANGE, linewidth=2)
        axis.plot(debiased["value"], 0, "o", color=ORANGE, markersize=9)
    axis.axvline(0, color="k", linewidth=1)
    if base:
        side = "right" if band[1] > np.mean(axis.get_xlim()) else "left"  # it must fit the axes
        label = {"color": BLUE, "fontsize": 8, "va": "bottom", "ha": side}
        axis.text(band[1], 1.32, "real against real", **label)
    axis.set_yticks([0, 1], ["debiased FID", "FID"])
    axis.set_ylim(-0.6, 1.8)
    axis.grid(axis="x", alpha=0.3)
    axis.set_xlabel(f"Fréchet distance, {result.dims} features")
    path = folder / "numbers.png"
    save_figure(figure, path)
    caption = (
        '<p class="small">Orange: this comparison; the line is the interval of the debiased FID. '
        "Blue: two sets of real images at the same counts, mean +- 2 standard deviations. Sets "
        "without a difference have a FID in the blue band and a debiased FID at 0.</p>"
    )
    return embed_png(path.read_bytes(), "The FID and its baseline") + caption


def _samples(titles, sets: Sequence[FeatureSet | None], folder):
    """Draws some images of each set, whole and the centre of each at full size."""
    shown, note = [], ""
    for title, side in zip(titles, sets, strict=True):
        if side and side.source:
            shown.append((title, _pick(side)))
        else:
            note += (
                f"<p>No images to show of {escape(title)}: they were given as statistics or made "
                "by a generator.</p>"
            )
    if not shown:
        return note
    rows = 2 * len(shown)
    figure = Figure(figsize=(2.3 * _SAMPLES, 2.35 * rows), layout="constrained")
    axes = figure.subplots(rows, _SAMPLES, squeeze=False)
    for number, (title, images) in enumerate(shown):
        for line, (kind, change) in enumerate((("whole", _whole), ("centre, full size", _crop))):
            row = axes[2 * number + line]
            row[0].set_ylabel(f"{shorten_name(title)}\n{kind}", fontsize=9)
            for axis, image in zip(row, images, strict=False):
                axis.imshow(change(image), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            for axis in row:
                axis.set(xticks=[], yticks=[])
                axis.set_visible(bool(axis.images))
    path = folder / "samples.png"
    save_figure(figure, path)
    caption = (
        f'<p class="small">{_SAMPLES} images of each set, evenly from the sorted file names. Below '
        "each: its centre without reduction, where blur and noise can be seen.</p>"
    )
    return note + caption + embed_png(path.read_bytes(), "Samples of the sets")


def _pick(side: FeatureSet) -> list[np.ndarray]:
    order = sorted(range(len(side.names)), key=lambda i: side.names[i])
    places = np.linspace(0, len(order) - 1, min(_SAMPLES, len(order))).round().astype(int)
    return [side.image(order[i]) for i in places]


def _whole(image):
    step = max(1, max(image.shape[:2]) // _PIXELS)
    rows, columns = (size // step * step for size in image.shape[:2])
    # The mean of blocks: taking every n-th pixel would show noise that the image does not have.
    blocks = image[:rows, :columns].reshape(
        rows // step, step, columns // step, step, *image.shape[2:]
    )
    return blocks.mean(axis=(1, 3)).round().astype(np.uint8)


def _crop(image):
    top, left = (max(0, (size - _PIXELS) // 2) for size in image.shape[:2])
    return image[top : top + _PIXELS, left : left + _PIXELS]


def _differences(result, folder, figures):
    if not result.drawn:
        return (
            "<p>Not computed. <code>--metrics=difference</code> adds the directions and places in "
            "which the sets differ, <code>--metrics=memorisation --train_images=FOLDER</code> the "
            "closest pairs.</p>"
        )
    if any(side is not None and side.source is None for side in result.features.values()):
        return "<p>The figures need images that can be read a second time.</p>"
    parts = []
    if figures is None:
        figures = draw_figures(result, folder)
    for path in map(pathlib.Path, figures):
        caption = next((text for x, text in _CAPTIONS.items() if path.stem.startswith(x)), "")
        parts.append(f"<p>{caption}</p>{embed_png(path.read_bytes(), path.stem)}")
    return "".join(parts)


def _provenance(result, titles):
    accounts = zip(titles, result.accounts, strict=True)
    rows = [(title, account.describe()) for title, (_, account) in accounts]
    rows.append(("extractor", result.extractor or "unknown"))
    if result.fingerprint:
        rows.append(("fingerprint", result.fingerprint))
        fields = ", ".join(f"{k} {v}" for k, v in result.preprocessing.items() if v is not None)
        rows.append(("preprocessing", fields))
    rows.append(("depth", f"{result.dims} features"))
    rows += [(name, version) for name, version in result.versions.items()]
    return make_table(("", ""), [[("any", escape(x)) for x in row] for row in rows])
