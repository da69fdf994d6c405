"""Tests the learning rate of each epoch, and which epoch of a training is kept."""

import types

import pytest

from fid_med.training.epochs import LearningRate, best_epochs


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


def test_the_rate_follows_the_schedule_and_keeps_the_factor_of_another_callback():
    optimizer = types.SimpleNamespace(learning_rate=1.0)
    rate = LearningRate([0.4, 0.4, 0.2, 0.1].__getitem__)
    rate.set_model(types.SimpleNamespace(optimizer=optimizer))
    used = []
    for epoch in range(4):
        rate.on_epoch_begin(epoch)
        logs = {}
        rate.on_epoch_end(epoch, logs)
        assert logs == {"learning_rate": optimizer.learning_rate}
        used.append(optimizer.learning_rate)
        if epoch == 1:
            optimizer.learning_rate *= 0.5  # as ReduceLROnPlateau does
    assert used == pytest.approx([0.4, 0.4, 0.1, 0.05])
    assert used[:2] == [0.4, 0.4]  # to the bit
