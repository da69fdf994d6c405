"""The plot of a training: every panel names its axes and the epoch that is kept."""

import pytest

from fid_med.utils import plots


def test_the_history_marks_the_kept_epoch_and_labels_its_axes(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: drawn.append(figure))
    row = {"loss": 1.0, "accuracy": 0.5, "val_loss": 1.2, "val_accuracy": 0.4, "val_auc": None}
    rows = [row | {"phase": phase, "epoch": i} for phase in ("head", "top") for i in (1, 2, 3)]
    plots.plot_history(rows, tmp_path / "history.png", {"head": 3, "top": 2})
    axes = drawn[0].axes
    assert [axis.get_ylabel() for axis in axes] == ["loss (cross-entropy)"] * 2 + [
        "accuracy, AUC"
    ] * 2
    assert {axis.get_xlabel() for axis in axes} == {"epoch"}
    for axis, epoch in zip(axes, (3, 2, 3, 2), strict=True):
        (line,) = [x for x in axis.lines if x.get_label().startswith("kept")]
        assert line.get_label() == f"kept: epoch {epoch}"
        assert line.get_xdata()[0] == pytest.approx(epoch)
        assert line.get_label() in [x.get_text() for x in axis.get_legend().get_texts()]
