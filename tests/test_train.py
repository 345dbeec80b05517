"""train.py: settings, schedules, batches and first weights, and what a training leaves."""

import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict, fields, replace
from types import SimpleNamespace

import model
import train
from data.augmentation import augment
from support import npz, runs
from support.image_shape import PIXELS
from support.network.window import Window
from support.settings import SettingError
from support.training import progress
from train import Settings

import numpy as np
import pytest
from helpers import ROOT
from trainings import QUICK, SMALL, fails, table


def words(text):
    """Return a text without its line breaks and indents."""
    return " ".join(text.split())


def info_of(path):
    return model.load(path)[1]


# ---- A run ---------------------------------------------------------------------------------------


def test_a_run_prints_what_it_trains_and_on_what(go):
    code, out, err = go(*SMALL, "--seed", 3)
    assert code == 0
    assert err == ""
    assert "data synthetic: 900 training and 100 validation images" in words(out)
    assert "network 3072 -> 16 " in words(out)
    assert "settings hidden_size 16, epochs 2, seed 3" in words(out)
    assert re.search(r"^time +at most [0-9.]+ s, 2 epochs of [0-9.]+ s\n\n", out, re.MULTILINE)


def test_a_run_prints_its_arrays(go):
    out = go(*SMALL)[1].splitlines()
    start = next(i for i, line in enumerate(out) if line.split()[0] == "W1")
    end = next(i for i in range(start, len(out)) if out[i].split()[0] == "parameters")
    names = [line.split()[0] for line in out[start:end]]
    assert names == list(model.Network(16).weights)
    assert out[start].split()[1:] == ["3072", "x", "16", "49,152"]
    assert out[end - 1].split()[1:] == ["1", "x", "16", "-"]
    assert out[end].split()[1:] == ["49,370"]


def test_a_run_prints_one_line_per_epoch_and_the_best_one(go, tmp_path):
    out = go(*SMALL)[1].splitlines()
    first, second, last, checkpoint, command = out[-5:]
    assert first.split()[:2] == ["1", "0.010000"]
    assert first.endswith("*")
    assert second.split()[:2] == ["2", "0.009000"]
    info = info_of(tmp_path / "net.npz")
    best = f"best epoch {info['best_epoch']} of 2, validation accuracy "
    assert last.startswith(f"{best}{max(info['history']['val_accuracy']):.2%}, ")
    assert checkpoint == "checkpoint net.npz"
    assert command.startswith("test it with: python test.py net.npz ")


def test_no_line_is_wider_than_80_columns(go):
    for flags in (SMALL, (*QUICK, "--output", "quick.npz")):
        assert max(len(line) for line in go(*flags)[1].splitlines()[:-1]) <= 80


def test_a_checkpoint_says_how_it_was_trained(go, tmp_path, data):
    assert go(*SMALL, "--seed", 3)[0] == 0
    network, info = model.load(tmp_path / "net.npz")
    assert network.hidden_size == 16
    assert info["settings"] == asdict(Settings(16, epochs=2, seed=3))
    assert info["recipe"] == "report"
    assert info["data"]["name"] == "synthetic"
    assert info["data"]["fingerprint"] == data.fingerprint
    assert info["data"]["class_names"] == list(data.class_names)
    assert len(info["data"]["validation_rows"]) == 100
    assert list(info["history"]) == list(runs.HISTORY)
    assert {len(column) for column in info["history"].values()} == {2}


def test_the_command_in_a_checkpoint_trains_it_again(go, tmp_path):
    assert go(*SMALL, "--seed", 3)[0] == 0
    network, info = model.load(tmp_path / "net.npz")
    assert go(*shlex.split(info["command"])[2:], "--overwrite")[0] == 0
    again, _ = model.load(tmp_path / "net.npz")
    assert np.array_equal(again.weights["W1"], network.weights["W1"])


def test_a_run_leaves_three_files(go, tmp_path):
    assert go(*SMALL)[0] == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["net.csv", "net.npz", "net.state.npz"]


def test_without_an_output_nothing_is_written(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = train.train(Settings(8, epochs=1), data, None)
    assert run.finished
    assert not list(tmp_path.iterdir())


def ticking_clock():
    """Return a module `time` whose clock moves on by a second with each look at it."""
    clock = itertools.count()
    return SimpleNamespace(perf_counter=lambda: float(next(clock)))


def test_the_estimate_is_of_all_epochs_that_are_left(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "time", ticking_clock())
    monkeypatch.setattr(train, "time", SimpleNamespace(perf_counter=ticking_clock().perf_counter))
    # Of 900 training images and 100 for validation, a hundred steps take 500.
    settings = Settings(8, epochs=1000, batch_size=5, patience=20)
    train.train(settings, data, tmp_path / "net.npz", show=True, stop_after=1)
    out = words(capsys.readouterr().out)
    assert "time at most 33 min, 1000 epochs of 2 s; less, if validation accuracy doesn't" in out
    train.train(settings, data, tmp_path / "net.npz", show=True, resume=True, stop_after=2)
    # Now a whole epoch of 900 images has taken a second.
    assert "at most 18 min, 999 epochs of 1.1 s" in words(capsys.readouterr().out)


def test_a_training_from_python_prints_nothing(data, tmp_path, capsys):
    train.train(Settings(8, epochs=1), data, tmp_path / "net.npz")
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_every_setting_of_sgd_reaches_it(data, monkeypatch):
    used = []
    monkeypatch.setattr(model.SGD, "__call__", lambda self, *arrays: used.append(self))
    given = {
        "momentum": 0.5,
        "lambda_reg": 0.1,
        "bn_lr_scale": 0.6,
        "output_lr_scale": 0.4,
        "hidden_lambda_scale": 0.3,
    }
    train.train(Settings(8, epochs=1, learning_rate=0.2, **given), data, None)
    assert used[0] == model.SGD(0.2, **given)
    assert {"learning_rate", *given} == {option.name for option in fields(model.SGD)}


def test_the_csv_is_the_history(go, tmp_path):
    assert go(*SMALL, "--epochs", 3)[0] == 0
    found = table(tmp_path / "net.csv")
    assert found == {"epoch": [1, 2, 3]} | info_of(tmp_path / "net.npz")["history"]
    (tmp_path / "net.csv").unlink()  # as after a kill between the state and the table
    assert go(*SMALL, "--epochs", 3, "--resume")[0] == 0
    assert table(tmp_path / "net.csv") == found


def test_the_last_line_works_as_it_is(run, tmp_path, synthetic_dir):
    folder = tmp_path / "my images"
    folder.symlink_to(synthetic_dir)
    flags = ("--data-dir", folder, "--output", "a net.npz", "--hidden-size", 8, "--epochs", 1)
    trained = run("train.py", *flags)
    assert trained.returncode == 0, trained.stderr
    command = shlex.split(trained.stdout.splitlines()[-1].partition("test it with: ")[2])
    assert command[:3] == ["python", str(ROOT / "test.py"), "a net.npz"]
    tested = run(*command[1:])
    assert tested.returncode == 0, tested.stderr


def test_quick_trains_a_convolutional_layer(go, tmp_path):
    assert go(*QUICK, "--epochs", 5, "--output", "net.npz")[0] == 0
    network, info = model.load(tmp_path / "net.npz")
    window = network.window
    assert (window.size, window.stride, window.regions, window.mirror) == (8, 6, 3, True)
    assert window.P.shape == (192, 20)
    losses = info["history"]["train_loss"]
    assert losses[-1] < losses[0] < 2.31


def test_a_recipes_damping_has_no_effect_with_other_first_filters(go):
    assert go(*QUICK, "--init", "he", "--learning-rate", 0.01)[0] == 0


def test_a_network_that_is_trained_further_keeps_the_stride_of_training(data):
    given = {"hidden_size": 8, "stride": 6, "test_stride": 3, "whiten_dims": 20, "ema": 0.5}
    run = train.Run(train.resolve(given, "quick"), data, threads=1)
    assert run.best.window.stride == 3
    run.start_from(run.best, data.train_images)
    assert run.network.window.stride == 6


def test_the_next_command_names_the_folder_of_the_images(go, synthetic_dir, tmp_path):
    shutil.copytree(synthetic_dir, tmp_path / "up" / "cifar-10-batches-py")
    shutil.copytree(synthetic_dir, tmp_path / "up" / "synthetic-batches-py")
    _, out, _ = go(*SMALL, "--data-dir", "up", "--dataset", "synthetic")
    assert out.splitlines()[-1].endswith("--data-dir up/synthetic-batches-py")


def test_like_starts_from_a_checkpoints_settings(go, tmp_path):
    assert go(*QUICK, "--output", "net.npz", "--seed", 4)[0] == 0
    assert go("--like", "net.npz", "--seed", 5, "--output-dir", "out")[0] == 0
    mine = info_of(tmp_path / "net.npz")
    like = info_of(tmp_path / "out" / "synthetic-net-seed5.npz")
    assert like["settings"] == mine["settings"] | {"seed": 5}
    assert like["recipe"] == "net"


def test_a_run_like_a_file_that_is_called_as_a_recipe_has_another_name(go, tmp_path):
    assert go(*QUICK, "--output", "best.npz")[0] == 0
    assert go("--like", "best.npz", "--output-dir", "out")[0] == 0
    assert (tmp_path / "out" / "synthetic-like-best-seed0.npz").exists()


def test_like_refuses_what_has_no_settings(go, tmp_path):
    np.savez(tmp_path / "report.npz", **model.Network(4).weights)
    fails(go("--like", "report.npz"), "report.npz", "settings", "--like")
    npz.write_npz(tmp_path / "odd.npz", {}, {"settings": {"hidden_size": "many"}})
    fails(go("--like", "odd.npz"), "odd.npz", "hidden_size='many' must be a whole number")
    npz.write_npz(tmp_path / "odd.npz", {}, {"settings": {"colour": 1}})
    fails(go("--like", "odd.npz"), "odd.npz: is damaged", "--like")
    fails(go("--like", "none.npz"), "none.npz: no such checkpoint")
    fails(go("--like", "/dev/zero"), "/dev/zero: is a device")
    fails(go("--like", "net.npz", "--recipe", "quick"), "--recipe", "--like")


@pytest.mark.parametrize("name", ["a\x1bb.npz", "y" * 245 + ".npz"])
def test_like_refuses_names_that_no_output_can_have(name, go, tmp_path):
    train.train(Settings(4, epochs=1), tiny_data(), tmp_path / "net.npz")
    (tmp_path / name).write_bytes((tmp_path / "net.npz").read_bytes())
    fails(go("--like", name, "--output-dir", "new"), "choose ")
    assert not (tmp_path / "new").exists()


def tiny_data():
    """Return twenty random images of two classes."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, PIXELS), np.uint8)
    labels = np.arange(20) % 2
    none = images[:0], labels[:0]
    return train.cifar10.Dataset("synthetic", images, labels, *none, ("a", "b"), "0" * 64)


def test_default_names_say_data_recipe_and_seed(go, tmp_path):
    assert go("--hidden-size", 4, "--epochs", 1, "--seed", 7)[0] == 0
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == [
        "synthetic-report-seed7.csv",
        "synthetic-report-seed7.npz",
        "synthetic-report-seed7.state.npz",
    ]


def test_the_reports_command_works(run, tmp_path, synthetic_dir):
    flags = (
        f"--mode train --activation relu --save_results --data_dir {synthetic_dir} "
        "--output_dir out --hidden_size 8 --dropout_rate 0.25 --use_batchnorm --use_dropout "
        "--epochs 1 --batch_size 50 --learning_rate 0.02 --lr_decay 0.8 --lambda_reg 0.001 "
        "--momentum=0.8 --early_stopping 0 --seed 1"
    )
    result = run("train.py", *flags.split())
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    settings = info_of(tmp_path / "out" / "synthetic-report-seed1.npz")["settings"]
    expected = {
        "hidden_size": 8,
        "dropout": 0.25,
        "batchnorm": True,
        "epochs": 1,
        "batch_size": 50,
        "learning_rate": 0.02,
        "lr_decay": 0.8,
        "lambda_reg": 0.001,
        "momentum": 0.8,
        "patience": 0,
    }
    assert {name: settings[name] for name in expected} == expected


def test_a_read_only_checkout_is_one_line(go, tmp_path, monkeypatch):
    monkeypatch.setattr(train.os, "access", lambda path, mode: False)
    fails(go("--hidden-size", 4, "--epochs", 1), "checkpoints", "--output-dir")
    assert not (tmp_path / "checkpoints").exists()


def test_train_py_runs_with_a_safe_path_next_to_a_foreign_data_package(tmp_path, synthetic_dir):
    for package in ("data", "support", "model"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise ImportError('not ours')")
    flags = ["--data-dir", synthetic_dir, "--hidden-size", "4", "--epochs", "1"]
    for options, name in ((["-P"], "a.npz"), ([], "b.npz")):
        if options and sys.version_info < (3, 11):
            continue
        command = [sys.executable, *options, ROOT / "train.py", *flags, "--output", name]
        environment = {**train.os.environ, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr


def test_a_foreign_data_package_that_is_imported_already_is_named(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "__init__.py").write_text("")
    code = f"import sys, data; sys.path.insert(0, {str(ROOT)!r}); import train"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    last = done.stderr.splitlines()[-1]
    assert str(tmp_path / "data" / "__init__.py") in last
    assert "import this project first" in last


def test_batchnorm_and_dropout_can_be_left_out(go, tmp_path):
    assert go(*SMALL, "--no-use-batchnorm", "--no-use-dropout")[0] == 0
    network, _ = model.load(tmp_path / "net.npz")
    assert network.dropout == 0
    assert set(network.weights) == {"W1", "b1", "W2", "b2"}


def test_half_precision_halves_a_checkpoint(go, tmp_path):
    sizes = {}
    found = {}
    for storage in ("float32", "float16"):
        path = tmp_path / f"{storage}.npz"
        flags = ("--output", path.name, "--storage", storage, "--hidden-size", 64)
        assert go(*SMALL, *flags)[0] == 0
        sizes[storage] = path.stat().st_size
        found[storage] = model.load(path)[0].weights["W1"]
    assert sizes["float16"] < 0.6 * sizes["float32"]
    np.testing.assert_allclose(found["float16"], found["float32"], rtol=1e-3, atol=1e-6)


def test_weights_beyond_half_precision_are_refused(go):
    flags = "--storage float16 --learning-rate 3e6 --no-batchnorm --lambda-reg 0 --dropout 0"
    fails(go(*SMALL, *flags.split()), "net.npz", "float16", "--storage float32")


BATCHES = [(9, 8, True), (9, 8, False), (16, 8, True), (17, 8, True), (5, 100, True), (1, 8, False)]


@pytest.mark.parametrize(("images", "batch_size", "batchnorm"), BATCHES)
def test_steps_of_an_epoch_are_those_that_batches_makes(images, batch_size, batchnorm):
    settings = Settings(batch_size=batch_size, batchnorm=batchnorm)
    made = list(train.batches(np.arange(images), settings, np.random.default_rng(0)))
    assert len(made) == train.steps_per_epoch(images, settings)


def test_a_run_too_short_for_its_average_is_refused(data):
    settings = Settings(4, ema=0.9, epochs=1, batch_size=200)
    with pytest.raises(SettingError, match=r"ema=0.9 averages nothing in fewer than 8 steps"):
        train.Run(settings, data)


RUNS = {
    "report": Settings(16, learning_rate=0.3, epochs=6),
    "quick": train.resolve(
        {"hidden_size": 8, "stride": 6, "whiten_dims": 20, "epochs": 4, "ema": 0.9}, "quick"
    ),
}


@pytest.mark.parametrize("kind", RUNS)
def test_the_checkpoint_holds_the_best_weights_with_their_statistics(kind, data, tmp_path):
    run = train.train(RUNS[kind], data, tmp_path / "net.npz")
    network, info = model.load(tmp_path / "net.npz")
    rows = info["data"]["validation_rows"]
    history = info["history"]
    best = info["best_epoch"] - 1
    found = network.evaluate(data.train_images[rows], data.train_labels[rows])
    assert found == (history["val_loss"][best], history["val_accuracy"][best])
    assert history["val_accuracy"].index(max(history["val_accuracy"])) == best
    assert len(history["val_loss"]) == run.epoch


def test_training_learns(data):
    settings = Settings(48, epochs=15, dropout=0.1, bn_lr_scale=1, lambda_reg=0, lr_decay=1)
    history = train.train(settings, data, None).history
    assert history["train_accuracy"][-1] > 0.3
    assert max(history["val_accuracy"]) > 0.2


def test_training_stops_when_validation_stops_improving(data):
    run = train.train(Settings(8, learning_rate=0, epochs=50, patience=3), data, None)
    assert run.epoch == run.best_epoch + 3
    assert run.finished


def test_without_patience_training_takes_all_epochs(data):
    run = train.train(Settings(8, learning_rate=0, epochs=12, patience=0), data, None)
    assert run.epoch == 12


@pytest.mark.parametrize("recipe", ["report", "quick"])
def test_any_number_of_threads_gives_the_same_bits(recipe, data):
    given = {"hidden_size": 24, "epochs": 1, "label_smoothing": 0.1}
    if recipe == "quick":
        given |= {"stride": 6, "whiten_dims": 20, "ema": 0.5}
    settings = train.resolve(given, recipe)
    one = train.train(settings, data, None, threads=1)
    three = train.train(settings, data, None, threads=3)
    assert one.history["val_loss"] == three.history["val_loss"]
    for name, array in one.averaged.weights.items():
        assert np.array_equal(array, three.averaged.weights[name])


def test_another_seed_gives_another_network(data):
    one = train.train(Settings(8, epochs=1), data, None)
    other = train.train(Settings(8, epochs=1, seed=1), data, None)
    assert not np.array_equal(one.best.weights["W1"], other.best.weights["W1"])


def test_the_average_is_another_network(data):
    settings = Settings(4, epochs=1, ema=0.9, batch_size=50, dropout=0)
    run = train.train(settings, data, None)
    assert run.step == 18
    assert not np.array_equal(run.averaged.weights["W1"], run.network.weights["W1"])


def test_the_average_follows_the_weights():
    network, averaged = model.Network(8), model.Network(8)
    network.weights["W1"] += 1
    for step in range(1, 16 * train.EMA_EVERY + 1):
        before = averaged.weights["W1"][0, 0].copy()
        train.average(averaged, network, 0.9, step)
        keep = min(0.9**train.EMA_EVERY, step / (step + 10 * train.EMA_EVERY))
        expected = (1 - keep) * (network.weights["W1"][0, 0] - before)
        if step % train.EMA_EVERY:
            expected = 0
        assert averaged.weights["W1"][0, 0] - before == pytest.approx(expected, abs=1e-6)


def test_training_needs_no_matplotlib():
    code = "import train, sys; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# ---- Settings ------------------------------------------------------------------------------------

REFUSED = {
    "--hidden-size 0": ["--hidden-size 0", "at least 1"],
    "--hidden-size many": ["--hidden-size", "'many'", "whole number"],
    "--hidden-size 1.5": ["--hidden-size", "'1.5'", "whole number"],
    "--hidden-size 10000000000000000000000": ["--hidden-size", "at most 1000000"],
    "--dropout 0.999": ["--dropout 0.999", "below 0.998"],
    "--cap -1": ["--cap -1.0", "at least 0"],
    "--dropout_rate -0.1": ["--dropout -0.1", "at least 0"],
    "--batch-size 1": ["--batch-size 1", "--no-batchnorm"],
    "--batch-size -1": ["--batch-size -1"],
    "--momentum 1": ["--momentum 1.0", "below 1"],
    "--learning-rate nan": ["--learning-rate nan", "finite"],
    "--lr inf": ["--learning-rate inf", "finite"],
    "--learning-rate -1": ["--learning-rate -1.0", "at least 0"],
    "--lr-decay 1.5": ["--lr-decay 1.5", "at most 1"],
    "--epochs 0": ["--epochs 0"],
    "--patience -1": ["--patience -1"],
    "--seed -1": ["--seed -1"],
    "--seed 10000000000000000000": ["--seed 10000000000000000000", "at most"],
    "--preprocess whiten --whiten-eps 1e308": ["--whiten-eps 1e+308", "at most"],
    "--output-dir /": ["--output-dir"],
    "--shift 17": ["--shift 17", "at most 16"],
    "--threads 0": ["--threads", "'0'"],
    "--schedule linear": ["--schedule", "'cosine'"],
    "--recipe worst": ["--recipe", "'best'"],
    "--activation tanh": ["--activation", "'tanh'"],
    "--mode test": ["--mode", "'test'", "test.py"],
    "--mode grid_search": ["--mode", "'grid_search'", "search.py"],
    "--mode fly": ["--mode", "'fly'"],
    "--validation-share 0": ["--validation-share 0.0"],
    "--window 12 --stride 3": ["--window 12", "32 pixels"],
    "--window 33": ["--window 33", "at most 32"],
    "--window 8 --stride 2 --regions 2": ["--regions 2 is invalid", "symmetric"],
    "--window 8 --stride 2 --regions 14": ["--regions 14 is invalid", "1 to 13"],
    "--ema 0.9 --epochs 1 --batch-size 900": ["--ema 0.9", "fewer than 8 steps", "--epochs"],
    "--no-use-dropout --dropout 0.5": ["--dropout 0.5", "--no-use-dropout"],
    "--use-dropout --dropout 0": ["--dropout 0", "--use-dropout"],
    "--use-dropout --recipe quick": ["--dropout 0", "--use-dropout"],
    "--resume --overwrite": ["--overwrite", "--resume"],
    "--output a.npz --output-dir b": ["--output-dir", "--output"],
    "--output net.pt": ["--output net.pt", ".npz"],
    "--output .": ["--output", "folder"],
    "--hiden-size 5": ["--hiden-size", "--hidden-size?"],
    "--version": ["--version"],
    "--data-dir /nope": ["--data-dir /nope"],
    f"--seed {'9' * 5000}": ["--seed"],
    f"--learning-rate {'9' * 5000}": ["--learning-rate"],
    f"--lambda-reg 1{'0' * 25} --hidden-size 0": ["--hidden-size 0"],
    # What would do nothing:
    "--stride 2 --window 32": ["--stride 2", "no effect", "--window below 32"],
    "--regions 1 --stride 31": ["--stride 31", "no effect"],
    "--recipe quick --window 32 --stride 1 --regions 3": ["--regions 3", "no effect", "--window"],
    "--whiten-dims 5": ["--whiten-dims 5", "no effect", "--preprocess whiten"],
    "--whiten-eps 5": ["--whiten-eps 5.0", "no effect", "--preprocess whiten"],
    "--whiten-eps 0 --preprocess none": ["--whiten-eps 0.0", "no effect"],
    "--schedule cosine --lr-decay 0.5": ["--lr-decay 0.5", "no effect", "--schedule report"],
    "--schedule cosine --lr-decay 0": ["--lr-decay 0.0", "no effect"],
    "--schedule constant --step-decay 0.25": ["--step-decay 0.25", "--schedule report"],
    "--recipe quick --step_decay 0.3": ["--step-decay 0.3", "no effect"],
    "--recipe quick --mirror --no-flip": ["--no-flip", "no effect", "--no-mirror"],
    "--mirror": ["--mirror", "no effect", "--preprocess whiten"],
    "--bilinear": ["--bilinear", "no effect", "--window below 32"],
    "--test-stride 2": ["--test-stride", "no effect", "--window below 32"],
    "--recipe quick --ema 0 --test-stride 1": ["--test-stride", "no effect", "--ema"],
    "--recipe quick --init he --damped 9": ["--damped", "no effect", "--init patches"],
    "--window 8 --stride 8 --bilinear": ["--regions 1 is invalid", "at least 2"],
    "--recipe quick --stride 5": ["--window 8 is invalid", "another --stride"],
    "--mirror --window 8 --stride 8": ["--mirror", "no effect", "--preprocess whiten"],
    "--recipe quick --mirror --preprocess none": ["--mirror", "--preprocess whiten"],
}


@pytest.mark.parametrize("flags", REFUSED, ids=lambda flags: flags[:50])
def test_invalid_settings_are_refused_by_name(flags, go, tmp_path):
    fails(go(*flags.split()), *REFUSED[flags])
    assert not list(tmp_path.rglob("*.npz"))


NOTED = {
    "--epochs 10 --step-decay 0.3": ["--step-decay 0.3", "--epochs above 10"],
    "--no-batchnorm --bn-lr-scale 2": ["--bn-lr-scale 2.0", "--batchnorm"],
    "--no-batchnorm --bn-lr-scale 0": ["--bn-lr-scale 0.0", "--batchnorm"],
    "--lambda-reg 0 --hidden-lambda-scale 2": ["--hidden-lambda-scale 2.0", "--lambda-reg"],
    "--early_stopping 3 --epochs 1": ["--patience 3", "--epochs"],
    "--epochs 2 --patience 5": ["--patience 5", "--epochs"],
    "--model_path somewhere.npz": ["--model-path", "--output"],
}


@pytest.mark.parametrize("flags", NOTED)
def test_a_flag_without_effect_is_noted_if_the_run_is_what_was_meant(flags, go, tmp_path):
    code, _, err = go(*SMALL, "--hidden-size", 4, *flags.split())
    assert code == 0
    assert len(err.splitlines()) == 1
    assert "note: " in err
    for part in (*NOTED[flags], "no effect"):
        assert part in err
    assert (tmp_path / "net.npz").exists()


def test_a_note_is_not_repeated_for_settings_of_a_checkpoint(go):
    assert go(*SMALL, "--epochs", 1, "--patience", 5)[0] == 0
    assert go("--like", "net.npz", "--output", "again.npz")[2] == ""


def test_every_setting_that_may_have_no_effect_is_tried_above():
    tried = set()
    for flags in [*REFUSED, *NOTED]:
        for word in flags.split():
            tried.add(word.removeprefix("--no-").removeprefix("--"))
    names = {need.setting.replace("_", "-") for need in train.NEEDS}
    assert names - {"patience"} <= tried  # --early_stopping is its alias


@pytest.mark.parametrize(
    "flags",
    [
        "--schedule cosine --lr-decay 0.9 --patience 0",
        "--no-batchnorm --bn-lr-scale 128",
        "--batch-size 1 --no-batchnorm",
    ],
)
def test_defaults_may_be_typed_where_they_have_no_effect(flags, go):
    assert go(*SMALL, "--epochs", 1, *flags.split())[0] == 0


def test_a_network_beyond_the_machines_memory_is_refused(go, monkeypatch):
    monkeypatch.setattr(train.os, "sysconf", lambda name: 300)  # 300 pages of 300 bytes
    fails(go(*SMALL), "--hidden-size 16", "memory")


def test_no_memory_left_is_one_line(go, monkeypatch):
    def none_left(*args, **options):
        raise MemoryError

    monkeypatch.setattr(train, "Network", none_left)
    fails(go(*SMALL), "memory", "fewer hidden units")


def test_whole_numbers_are_numbers():
    assert type(Settings(learning_rate=1).learning_rate) is float


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 2.0}, {"flip": 1}, {"learning_rate": True}, {"schedule": None}, {"seed": "0"}],
)
def test_values_of_another_type_are_refused(wrong):
    with pytest.raises(SettingError, match=f"{next(iter(wrong))}=.* must be "):
        Settings(**wrong)


def test_from_python_an_error_names_the_parameter_as_it_is_spelled_there():
    with pytest.raises(SettingError, match="hidden_size='many' must be a whole number"):
        Settings(hidden_size="many")
    with pytest.raises(SettingError, match=r"batch_size=1 .*batchnorm=False"):
        Settings(batch_size=1)
    with pytest.raises(SettingError, match=r"flip=False .*mirror=False"):
        train.resolve({"flip": False}, "quick")
    with pytest.raises(SettingError, match=r"learning_rate=1000.* is too large"):
        Settings(learning_rate=10**400)


def test_an_error_can_name_a_parameter_otherwise():
    error = SettingError("seed", "x", "is odd", "give {epochs}")
    assert error.python_text({"seed": "random_state"}) == "random_state='x' is odd: give epochs"


@pytest.mark.parametrize("recipe", train.RECIPES)
def test_recipes_are_settings_that_single_flags_override(recipe):
    settings = train.resolve({}, recipe)
    assert train.resolve({"seed": 5, "epochs": 30}, recipe) == replace(settings, seed=5, epochs=30)
    assert train.resolve(asdict(settings), asdict(settings)) == settings
    assert train.resolve({}, asdict(settings)) == settings


def test_effective_settings_are_those_that_do_something():
    report = train.effective(Settings())
    idle = {"stride", "test_stride", "regions", "bilinear", "mirror", "damped"}
    idle |= {"whiten_dims", "whiten_eps"}
    assert set(asdict(Settings())) - set(report) == idle
    assert "step_decay" not in train.effective(Settings(epochs=10))
    quick = train.effective(asdict(train.resolve({}, "quick")))
    assert not {"lr_decay", "step_decay", "bn_lr_scale", "flip"} & set(quick)
    assert {"stride", "regions", "whiten_dims", "whiten_eps", "window"} <= set(quick)
    assert "flip" in train.effective(train.resolve({"preprocess": "none"}, "quick"))


def test_a_recipes_stride_and_regions_do_nothing_with_the_whole_image():
    assert train.resolve({"window": 32}, "quick").make_window().positions == 1


def test_help_shows_the_usual_settings_and_help_all_every_one(run):
    usual = words(run("train.py", "--help").stdout)
    every = words(run("train.py", "--help-all").stdout)
    for option in fields(Settings):
        flag = f"--{option.name.replace('_', '-')} "
        assert flag in every or flag.replace(" ", ",") in every
        if not option.metadata["rare"]:
            assert flag in usual or flag.replace(" ", ",") in usual
    assert "--help-all" in usual
    assert "(report: 32, quick: 8, best: 8, dense: 32)" in usual


def test_help_takes_two_screens_of_80_columns(run):
    lines = run("train.py", "--help", env={**train.os.environ, "COLUMNS": "80"}).stdout.splitlines()
    assert len(lines) <= 110
    assert any("checkpoints/DATASET-RECIPE-seedN.npz" in line for line in lines)
    assert max(map(len, lines)) <= 80


def test_the_reports_learning_rate_follows_its_two_rules():
    settings = Settings()
    rate = 0.01
    for epoch in range(40):
        if epoch >= 5 and epoch % 10 == 0:
            rate *= 0.5
        assert train.learning_rate(settings, epoch, 0.5) == pytest.approx(rate)
        rate *= 0.9


def test_the_cosine_ends_at_zero_after_its_warmup():
    settings = Settings(schedule="cosine", learning_rate=0.4, epochs=10, warmup_epochs=2)

    def cosine(share):
        return pytest.approx(0.4 * (1 + np.cos(share * np.pi)) / 2, abs=1e-12)

    assert 4 * train.learning_rate(settings, 0, 0.5) == cosine(0.05)
    assert train.learning_rate(settings, 2, 0) == cosine(0.2)
    assert train.learning_rate(settings, 5, 0) == cosine(0.5)
    assert train.learning_rate(settings, 9, 1) == cosine(1)


def test_a_constant_rate_stays_after_its_warmup():
    assert train.learning_rate(Settings(schedule="constant"), 7, 0.3) == 0.01
    warm = Settings(schedule="constant", warmup_epochs=4)
    assert train.learning_rate(warm, 1, 0.5) == pytest.approx(0.01 * 1.5 / 4)


# ---- Batches -------------------------------------------------------------------------------------


def test_an_epoch_has_every_row_once_in_random_order():
    rows = np.arange(1, 50)
    made = list(train.batches(rows, Settings(batch_size=7), np.random.default_rng(0)))
    assert [len(batch) for batch in made] == [7] * 7
    found = np.concatenate(made)
    assert sorted(found) == list(range(1, 50))
    assert not np.array_equal(found, rows)


@pytest.mark.parametrize(("batchnorm", "used"), [(True, 49), (False, 50)])
def test_batchnorm_leaves_out_a_single_last_image(batchnorm, used):
    settings = Settings(batch_size=7, batchnorm=batchnorm)
    made = train.batches(np.arange(50), settings, np.random.default_rng(0))
    assert sum(len(batch) for batch in made) == used


@pytest.mark.parametrize(("flip", "shift"), [(True, 2), (True, 0), (False, 1)])
def test_augmentation_flips_and_shifts_each_image_by_itself(flip, shift):
    image = np.random.default_rng(1).integers(0, 256, (32, 32), dtype=np.uint8)
    images = np.tile(image.ravel(), (400, 3))
    padded = np.pad(image, shift, mode="reflect")
    possible = {}
    for down, right in itertools.product(range(2 * shift + 1), repeat=2):
        moved = padded[down : down + 32, right : right + 32]
        possible[moved.tobytes()] = (down, right, False)
        if flip:
            possible[moved[:, ::-1].tobytes()] = (down, right, True)
    results = augment(images.copy(), np.random.default_rng(0), flip, shift)
    assert results.shape == images.shape
    assert results.dtype == images.dtype
    found = []
    for result in results.reshape(-1, 3, 32, 32):
        assert np.array_equal(result[0], result[2])
        found.append(possible[result[0].tobytes()])
    assert len(set(found)) == (2 * shift + 1) ** 2 * (1 + flip)
    flipped = sum(change[2] for change in found)
    assert flipped == 0 if not flip else 150 < flipped < 250


def test_augmentation_repeats_itself_with_the_same_generator():
    images = np.random.default_rng(1).integers(0, 256, (9, PIXELS), dtype=np.uint8)
    one = augment(images.copy(), np.random.default_rng(0), True, 2, 0.1)
    assert np.array_equal(one, augment(images.copy(), np.random.default_rng(0), True, 2, 0.1))


def test_without_augmentation_images_stay():
    images = np.random.default_rng(1).integers(0, 256, (5, PIXELS), dtype=np.uint8)
    assert np.array_equal(augment(images.copy(), np.random.default_rng(0)), images)


def test_jitter_changes_each_channel_of_each_image_by_itself():
    image = np.random.default_rng(1).integers(80, 176, (1, PIXELS), dtype=np.uint8)
    images = np.tile(image, (500, 1))
    results = augment(images.copy(), np.random.default_rng(0), jitter=0.1)
    assert results.shape == images.shape
    assert results.dtype == np.uint8
    # Gain and offset of every channel, with pixels in [-1, 1]: (images, channels, 2).
    before = images.reshape(-1, 1024) / 127.5 - 1
    after = results.reshape(-1, 1024) / 127.5 - 1
    lines = [np.polyfit(*channel, 1) for channel in zip(before, after, strict=True)]
    lines = np.array(lines).reshape(500, 3, 2)
    np.testing.assert_allclose(lines.mean(axis=(0, 1)), [1, 0], atol=0.02)
    both, whole = [0.12, 0.06], [0.107, 0.054]  # of 1 and 2/3 together, and of a channel's mean
    np.testing.assert_allclose(lines.std(axis=(0, 1)), both, rtol=0.15)
    means = lines.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(means.std(axis=(0, 1)), whole, rtol=0.15)
    np.testing.assert_allclose((lines - means).std(axis=(0, 1)), [0.054, 0.027], rtol=0.15)


def test_jitter_clips_bright_pixels():
    bright = augment(np.full((500, PIXELS), 250, np.uint8), np.random.default_rng(0), jitter=0.5)
    assert {0, 255} <= set(bright.ravel().tolist())


# ---- The first weights ---------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "stride", "dims", "eps"), [(16, 16, 30, 0.0), (8, 8, 20, 0.1)])
def test_whitening_gives_uncorrelated_dimensions(size, stride, dims, eps, data):
    settings = Settings(
        window=size, stride=stride, preprocess="whiten", whiten_dims=dims, whiten_eps=eps
    )
    window = train.fit_window(data.train_images, settings)
    assert (window.size, window.stride, window.P.shape) == (size, stride, (3 * size**2, dims))
    # The map is fitted to the patches of the images and of the flipped images.
    flipped = data.train_images.reshape(-1, 3, 32, 32)[..., ::-1].reshape(-1, PIXELS)
    patches = np.concatenate([window.patches(data.train_images), window.patches(flipped)]) / 255
    X = (patches - window.mean) @ window.P
    np.testing.assert_allclose(X.mean(axis=0), 0, atol=1e-3)
    variances = np.linalg.eigvalsh(np.cov(patches.T))[::-1]
    expected = variances[:dims] / (variances[:dims] + eps * variances.mean())
    found = np.cov(X.T)
    np.testing.assert_allclose(found, np.diag(np.diag(found)), atol=0.02)
    np.testing.assert_allclose(np.sort(np.diag(found))[::-1], expected, atol=0.02)


def test_whitening_splits_into_even_and_odd_components(data):
    settings = Settings(window=8, stride=8, preprocess="whiten", whiten_dims=20)
    window = train.fit_window(data.train_images, settings)
    flip = np.arange(window.pixels).reshape(3, 8, 8)[:, :, ::-1].ravel()
    assert np.array_equal(window.mean[flip], window.mean)
    assert 0 < window.odd < 20
    signs = np.repeat([-1, 1], [window.odd, 20 - window.odd])
    assert np.array_equal(window.P[flip] * signs, window.P)


def test_whitening_has_the_same_bits_with_any_number_of_threads(data):
    settings = Settings(window=8, stride=8, preprocess="whiten", whiten_dims=20)
    one = train.fit_window(data.train_images, settings)
    three = train.fit_window(data.train_images, settings, model.Threads(3))
    assert np.array_equal(one.P, three.P)
    assert np.array_equal(one.mean, three.mean)


def test_images_without_contrast_can_be_whitened():
    settings = Settings(window=8, preprocess="whiten", whiten_dims=5, whiten_eps=0)
    assert np.isfinite(train.fit_window(np.full((3, PIXELS), 7, np.uint8), settings).P).all()


def test_whitening_is_fitted_to_the_training_split_alone(data):
    settings = Settings(4, window=8, stride=8, preprocess="whiten", whiten_dims=9, epochs=1)
    run = train.Run(settings, data)
    split = np.delete(data.train_images, run.validation_rows, axis=0)
    mean = train.fit_window(split, settings).mean
    np.testing.assert_allclose(run.network.window.mean, mean, rtol=1e-6)


def test_a_checkpoints_info_is_json(data):
    run = train.Run(Settings(4), data)
    info = json.loads(json.dumps(runs.describe(run)))
    assert info["data"]["validation_rows"] == run.validation_rows.tolist()


@pytest.mark.parametrize(
    "settings",
    [
        Settings(window=8, stride=8, preprocess="whiten", whiten_dims=30),
        Settings(window=8, stride=8),
    ],
)
def test_filters_start_as_patches_of_the_images(settings, data):
    window = train.fit_window(data.train_images, settings)
    network = model.Network(9, window, batchnorm=False, dropout=0)
    train.start_from_patches(network, data.train_images, np.random.default_rng(0))
    W1 = network.weights["W1"]
    np.testing.assert_allclose(np.linalg.norm(W1, axis=0), np.sqrt(2), rtol=1e-5)
    X = model.layer_input(data.train_images, window, np.float32)[:, : window.inputs]
    cosines = (X / np.linalg.norm(X, axis=1, keepdims=True)) @ W1 / np.sqrt(2)
    np.testing.assert_allclose(cosines.max(axis=0), 1, rtol=1e-4)


def test_patches_start_with_random_thresholds_and_no_output_weights(data):
    window = train.fit_window(data.train_images, Settings(window=8, stride=8))
    network = model.Network(9, window, batchnorm=False, dropout=0)
    train.start_from_patches(network, data.train_images, np.random.default_rng(0))
    b1 = network.weights["b1"]
    assert -2 <= b1.min() < b1.mean() - 0.2
    assert b1.mean() + 0.2 < b1.max() <= 0
    assert not network.weights["W2"].any()
    assert network.preconditioner.shape == (2, 9 * window.q)
    assert (network.preconditioner[1] > 0).all()


@pytest.mark.parametrize("flags", ["", "--cap 0.001", "--window 31 --stride 1 --cap 0.5"])
def test_patches_whose_units_are_all_at_their_cap_are_refused(flags, go, recwarn):
    flags = f"--init patches --no-batchnorm --cap 1 {flags}".split()
    fails(go(*SMALL, *flags), "--init patches", "--cap", "--preprocess whiten")
    assert not recwarn.list


def test_patches_of_images_that_are_all_alike_are_refused(data, recwarn):
    alike = replace(data, train_images=np.full_like(data.train_images, 7))
    with pytest.raises(SettingError, match="init='patches'"):
        train.Run(train.resolve({"hidden_size": 4}, "quick"), alike)
    assert not recwarn.list


def test_a_window_without_whitening_needs_no_images():
    none = np.empty((0, PIXELS), np.uint8)
    window = train.fit_window(none, Settings(window=8, stride=2, regions=3))
    assert isinstance(window, Window)
    assert (window.size, window.stride, window.regions, window.P) == (8, 2, 3, None)


# ---- Part of the images, and their weights -------------------------------------------------------


def test_a_limit_takes_the_same_share_of_each_class():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    rows = train.limited_rows(labels, 50, np.random.default_rng(0))
    assert np.bincount(labels[rows]).tolist() == [30, 15, 5]
    assert np.array_equal(rows, np.unique(rows))


@pytest.mark.parametrize("limit", [4, 5, 17, 500, 1003])
def test_a_limit_is_exact_and_leaves_no_class_out(limit):
    labels = np.repeat([0, 1, 2, 3], [1000, 1, 1, 1])
    rows = train.limited_rows(labels, limit, np.random.default_rng(0))
    assert len(rows) == limit
    assert len(np.unique(labels[rows])) == 4


def test_a_limited_run_uses_so_many_images_and_remembers_it(go, tmp_path):
    code, out, _ = go(*SMALL, "--limit", 200)
    assert code == 0
    assert "180 training and 20 validation images" in out
    info = info_of(tmp_path / "net.npz")
    assert info["settings"]["limit"] == 200
    assert len(info["data"]["validation_rows"]) == 20
    assert go(*SMALL, "--limit", 200, "--resume", "--epochs", 3)[0] == 0
    fails(go(*SMALL, "--limit", 300, "--resume", "--epochs", 4), "--limit 300", "200")


def test_a_limited_run_never_sees_other_images(data):
    run = train.Run(Settings(4, limit=200), data)
    used = np.concatenate([run.train_rows, run.validation_rows])
    assert len(np.unique(used)) == 200
    changed = data.train_images.copy()
    changed[np.delete(np.arange(1000), used)] = 0
    settings = Settings(4, limit=200, epochs=1, init="patches", batchnorm=False)
    one = train.train(settings, data, None)
    other = train.train(settings, replace(data, train_images=changed), None)
    assert np.array_equal(one.best.weights["W1"], other.best.weights["W1"])


@pytest.mark.parametrize(("limit", "fault"), [(1001, "1,000 training images"), (9, "10 classes")])
def test_limits_that_the_images_do_not_allow_are_refused(limit, fault, go):
    fails(go(*SMALL, "--limit", limit), f"--limit {limit} ", fault)


def test_a_limit_that_leaves_no_validation_image_names_the_flags(go):
    fails(go(*SMALL, "--limit", 10), "--validation-share 0.1", "--limit")


def test_balanced_weights_give_each_class_the_same_sum():
    labels = np.repeat([0, 2, 5], [60, 30, 10])
    weights = train.balanced_weights(labels)
    sums = [weights[labels == label].sum() for label in (0, 2, 5)]
    np.testing.assert_allclose(sums, 100 / 3)
    assert weights.mean() == pytest.approx(1)


@pytest.fixture
def uneven(data):
    """Images of class 0, and a few of class 1."""
    zeros = np.flatnonzero(data.train_labels == 0)
    ones = np.flatnonzero(data.train_labels == 1)[:12]
    rows = np.concatenate([zeros, ones])
    labels = data.train_labels[rows]
    return replace(
        data, train_images=data.train_images[rows], train_labels=labels, class_names=("a", "b")
    )


def test_class_weights_reach_the_training_loss(uneven, monkeypatch):
    batches = []

    def record(self, images, labels, sgd, smoothing, image_weights):
        batches.append((labels, image_weights))
        return 1.0, 0

    monkeypatch.setattr(model.Network, "train_batch", record)
    settings = Settings(4, epochs=1, class_weight="balanced", validation_share=0.25)
    run = train.train(settings, uneven, None)
    labels, weights = map(np.concatenate, zip(*batches, strict=True))
    counts = np.bincount(uneven.train_labels[run.train_rows])
    np.testing.assert_allclose(weights, len(labels) / (2 * counts[labels]))


def test_a_balanced_run_is_validated_by_its_mean_over_classes(uneven):
    settings = Settings(4, epochs=2, class_weight="balanced", validation_share=0.25)
    run = train.train(settings, uneven, None)
    labels = uneven.train_labels[run.validation_rows]
    correct = run.best.predict(uneven.train_images[run.validation_rows]) == labels
    recalls = [correct[labels == label].mean() for label in (0, 1)]
    best = run.history["val_accuracy"][run.best_epoch - 1]
    assert best == pytest.approx(np.mean(recalls))


def test_a_balanced_command_says_so(go, tmp_path):
    code, out, _ = go(*SMALL, "--class-weight", "balanced")
    assert code == 0
    assert "means over the classes" in words(out)
    assert "balanced validation accuracy" in out
    assert info_of(tmp_path / "net.npz")["settings"]["class_weight"] == "balanced"


def test_equal_sample_weights_of_any_size_change_almost_nothing(data):
    settings = Settings(4, epochs=1, dropout=0.0)
    plain = train.train(settings, data, None)
    weighted = train.train(settings, data, None, sample_weight=np.full(1000, 1e-3))
    assert weighted.history["val_loss"] == pytest.approx(plain.history["val_loss"], rel=1e-3)


def test_images_of_weight_0_teach_nothing(data):
    weight = (np.arange(1000) % 2).astype(float)
    changed = data.train_images.copy()
    changed[::2] = 0
    settings = Settings(4, epochs=1, batchnorm=False)
    one = train.train(settings, data, None, sample_weight=weight)
    other = train.train(settings, replace(data, train_images=changed), None, sample_weight=weight)
    np.testing.assert_allclose(one.best.weights["W1"], other.best.weights["W1"], atol=1e-6)


def test_weights_that_are_all_0_are_refused(data):
    with pytest.raises(train.TrainingError, match="sample_weight"):
        train.Run(Settings(4), data, sample_weight=np.zeros(1000))
