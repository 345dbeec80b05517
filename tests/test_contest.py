"""docs/contest.py: who keeps the rules of a contest."""

import json
import sys

import model
import train
from support import npz

import numpy as np
import pytest
from helpers import ROOT, called

sys.path.insert(0, str(ROOT / "docs"))
import contest


@pytest.fixture
def submit(tmp_path, data):
    """submit(minutes=..., ...): write a checkpoint whose history is right, and return its path."""

    def submit(name="net.npz", minutes=2.0, accuracy=None, **changes):
        network = model.Network(8, dropout=0)
        rows = list(range(100))  # a tenth of the images
        labels = data.train_labels[rows].astype(np.int64)
        _, measured = network.evaluate(data.train_images[rows], labels)
        described = {"name": data.name, "fingerprint": data.fingerprint, "validation_rows": rows}
        history = {"seconds": [30 * minutes, 30 * minutes]}
        history["val_accuracy"] = [0.0, measured if accuracy is None else accuracy]
        network.save(tmp_path / name, {"data": described, "history": history} | changes)
        return tmp_path / name

    return submit


def test_a_submission_that_keeps_the_rules(submit, capsys, synthetic_dir):
    code, out, err = called(contest.main, capsys, submit(), "--data-dir", synthetic_dir)
    assert (code, err) == (0, "")
    assert out.splitlines()[1].endswith("kept")


def test_too_long_a_training_is_named(submit, capsys):
    code, out, _ = called(contest.main, capsys, submit(minutes=11))
    assert code == 1
    assert "trained for 11.0 minutes" in out


def test_the_time_allowed_can_be_chosen(submit, capsys):
    assert called(contest.main, capsys, submit(minutes=11), "--minutes", 12)[0] == 0


def test_an_accuracy_that_is_not_its_own_is_named(submit, capsys, synthetic_dir):
    path = submit(accuracy=0.99)
    code, out, _ = called(contest.main, capsys, path, "--data-dir", synthetic_dir)
    assert code == 1
    assert "its history says 99.00%" in out


@pytest.mark.parametrize(
    "changes", [{"history": {}}, {"history": []}, {"history": {"seconds": ["x"]}}]
)
def test_a_history_that_is_missing_is_named(submit, capsys, changes):
    code, out, _ = called(contest.main, capsys, submit(**changes))
    assert code == 1
    assert "its history is missing" in out


@pytest.mark.parametrize(
    "history",
    [
        {"seconds": [-1e9, 1.0], "val_accuracy": [0.0, 0.5]},
        {"seconds": [0, 0], "val_accuracy": [0.0, 0.5]},
        {"seconds": [True, True], "val_accuracy": [0.0, 0.5]},
        {"seconds": [1.0], "val_accuracy": [0.0, 0.5]},
        {"seconds": [1.0, 1.0], "val_accuracy": [0.0, 5.0]},
        {"seconds": [1.0, 1.0], "val_accuracy": [0.0, -1.0]},
    ],
    ids=["negative", "no time", "no numbers", "uneven", "above 1", "below 0"],
)
def test_a_history_of_no_run_is_named(submit, capsys, history):
    code, out, _ = called(contest.main, capsys, submit(history=history))
    assert code == 1
    assert "its history is missing or damaged" in out


def test_other_images_are_named(submit, capsys, synthetic_dir):
    path = submit(data={"fingerprint": "another"})
    code, out, _ = called(contest.main, capsys, path, "--data-dir", synthetic_dir)
    assert code == 1
    assert "other images" in out


def test_a_balanced_run_is_measured_as_it_was_trained(submit, capsys, data, synthetic_dir):
    # These labels are uneven, so that the two kinds of accuracy differ.
    network = model.Network(8, dropout=0)
    labels = data.train_labels[:150].astype(np.int64)
    weights = train.balanced_weights(labels)
    _, balanced = network.evaluate(data.train_images[:150], labels, weights)
    assert balanced != pytest.approx(network.evaluate(data.train_images[:150], labels)[1], abs=1e-4)
    described = {
        "name": data.name,
        "fingerprint": data.fingerprint,
        "validation_rows": list(range(150)),
    }
    path = submit(accuracy=balanced, data=described, settings={"class_weight": "balanced"})
    code, out, _ = called(contest.main, capsys, path, "--data-dir", synthetic_dir)
    assert (code, out.splitlines()[1].split()[-1]) == (0, "kept")


def test_another_number_of_classes_is_named(submit, capsys, data, synthetic_dir):
    path = submit()
    _, info = model.load(path)
    model.Network(8, classes=3).save(path, info)
    code, out, _ = called(contest.main, capsys, path, "--data-dir", synthetic_dir)
    assert code == 1
    assert "has 3 classes, and the images 10" in out


def test_a_submission_is_neither_replaced_nor_counted_twice(submit, capsys):
    path = submit()
    before = path.read_bytes()
    for flags, said in ((["--json", path], "--json"), ([path], "named twice")):
        code, out, err = called(contest.main, capsys, path, *flags)
        assert (code, out) == (2, "")
        assert said in err
    assert path.read_bytes() == before


def test_what_has_no_single_hidden_layer_is_named(capsys, tmp_path):
    npz.write_npz(tmp_path / "deep.npz", {"W1": np.zeros((3072, 2)), "W3": np.zeros((2, 2))})
    code, out, _ = called(contest.main, capsys, tmp_path / "deep.npz")
    assert code == 1
    assert "no network with one hidden layer" in out


def test_the_best_comes_first_and_who_breaks_a_rule_last(submit, capsys):
    paths = [submit("c.npz", minutes=99, accuracy=0.9), submit("b.npz", accuracy=0.2)]
    paths.append(submit("a.npz", accuracy=0.3))
    _, out, _ = called(contest.main, capsys, *paths)
    assert [line.split()[0][-5:] for line in out.splitlines()[1:4]] == ["a.npz", "b.npz", "c.npz"]


def test_the_table_for_a_program(submit, capsys, tmp_path):
    output = tmp_path / "contest.json"
    called(contest.main, capsys, submit(), "--json", output)
    (entry,) = json.loads(output.read_text())
    assert entry["units"] == 8
    assert entry["broken"] == []


def test_too_few_images_for_validation_are_named(submit, capsys, data, synthetic_dir):
    path = submit()
    network, info = model.load(path)
    info["data"]["validation_rows"] = [0, 1, 2]
    network.save(path, info)
    code, out, _ = called(contest.main, capsys, path, "--data-dir", synthetic_dir)
    assert code == 1
    assert "kept only 3 images" in out


def test_what_was_not_measured_is_said(submit, capsys):
    _, out, _ = called(contest.main, capsys, submit())
    assert "give --data-dir" in out
