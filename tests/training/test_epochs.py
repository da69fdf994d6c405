"""Which epoch of a training is kept, from its log."""

from fid_med.training.epochs import best_epochs


def row(phase, epoch, auc, loss):
    return {"phase": phase, "epoch": epoch, "val_auc": auc, "val_loss": loss}


def test_the_kept_epoch_has_the_highest_auc_then_the_lowest_loss_and_is_the_first_such():
    rows = [
        row("head", 1, 0.7, 0.5), row("head", 2, 0.8, 0.9), row("head", 3, 0.75, 0.1),
        row("top", 1, 0.9, 0.5), row("top", 2, 0.9, 0.4), row("top", 3, 0.9, 0.4),
    ]  # fmt: skip
    assert best_epochs(rows) == {"head": 2, "top": 2}
    # Without an AUC the loss decides.
    assert best_epochs([row("all", 1, None, 2.0), row("all", 2, None, 1.0)]) == {"all": 2}
    assert best_epochs([]) == {}
