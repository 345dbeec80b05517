"""Which checkpoint is taken by default, and what one says of its run."""

import os

import model
from support.checkpoints import default_checkpoint, unfinished
from support.files import FileError
from support.runs import best_epoch, checked_history, is_finished

import pytest


@pytest.fixture
def checkpoint(tmp_path):
    """checkpoint("a", age=3): a checkpoint that is three seconds old, of a finished run or not."""

    def make(name, age=0, done=2, epochs=2):
        path = tmp_path / f"{name}.npz"
        history = {"val_accuracy": [0.1] * done}
        info = {"settings": {"epochs": epochs, "patience": 0}, "history": history}
        model.Network(2).save(path, info)
        path.with_suffix(".state.npz").write_bytes(b"")
        os.utime(path, (1e9 - age, 1e9 - age))
        return path

    return make


def test_the_default_is_quick_then_best_then_the_newest_finished(checkpoint, tmp_path):
    with pytest.raises(FileError, match=r"train\.py"):
        default_checkpoint(tmp_path)
    running = checkpoint("running", done=1)
    assert default_checkpoint(tmp_path) == running
    finished = checkpoint("finished", age=5)
    assert default_checkpoint(tmp_path) == finished
    best = checkpoint("cifar10-best", age=9)
    assert default_checkpoint(tmp_path) == best
    quick = checkpoint("cifar10-quick", age=9)
    assert default_checkpoint(tmp_path) == quick


def test_a_damaged_checkpoint_is_not_taken_for_a_finished_one(checkpoint, tmp_path):
    finished = checkpoint("finished", age=5)
    checkpoint("damaged").write_bytes(b"")
    assert default_checkpoint(tmp_path) == finished


@pytest.mark.parametrize(
    ("accuracy", "patience", "text"),
    [
        ([0.1], 0, "epoch 1 of 9"),
        ([0.5, 0.4, 0.3], 3, "epoch 3 of 9"),
        ([0.5, 0.4, 0.3], 2, None),
        ([0.1] * 9, 0, None),
    ],
)
def test_a_run_is_unfinished_until_its_epochs_or_its_patience_end(
    accuracy, patience, text, tmp_path
):
    (tmp_path / "net.state.npz").write_bytes(b"")
    info = {"settings": {"epochs": 9, "patience": patience}, "history": {"val_accuracy": accuracy}}
    assert unfinished(tmp_path / "net.npz", info) == text
    (tmp_path / "net.state.npz").unlink()
    assert unfinished(tmp_path / "net.npz", info) is None


def test_the_best_epoch_is_the_first_of_equals():
    assert best_epoch({"val_accuracy": []}) == 0
    assert best_epoch({"val_accuracy": [0.1, 0.3, 0.3]}) == 2


def test_a_run_without_epochs_is_not_finished():
    settings = {"epochs": 5, "patience": 1}
    assert not is_finished(settings, {"val_accuracy": []})
    assert is_finished(settings, {"val_accuracy": [0.2, 0.1]})


@pytest.mark.parametrize(
    "history",
    [
        {},
        [1],
        {"val_accuracy": []},
        {"val_accuracy": [2.0]},
        {"val_accuracy": [True]},
        {"val_accuracy": ["0.5"]},
        {"val_accuracy": None},
    ],
)
def test_numbers_that_no_run_has_are_no_history(history):
    with pytest.raises((ValueError, KeyError, TypeError)):
        checked_history({"history": history}, ["val_accuracy"])
