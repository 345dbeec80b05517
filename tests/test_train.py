"""train.py: settings, schedules, batches and maps, and what a training leaves, as a user types it."""

import csv
import itertools
import json
import re
import shlex
import subprocess
import sys
from dataclasses import asdict, fields, replace
from types import SimpleNamespace

import model
import train
from data.augmentation import augment
from support import cli, npz
from support.network.window import Window
from support.settings import SettingError
from train import Settings

import numpy as np
import pytest
from conftest import ROOT, called
from networks import make

SMALL = ("--hidden-size", 16, "--epochs", 2, "--output", "net.npz")
QUICK = (
    "--recipe",
    "quick",
    "--hidden-size",
    8,
    "--stride",
    6,
    "--whiten-dims",
    20,
    "--epochs",
    2,
    "--ema",
    0.9,
)


@pytest.fixture
def go(capsys, monkeypatch, tmp_path, synthetic_dir):
    """go("--epochs", 3): train.py's main on the small images, in an empty folder; exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    return lambda *args: called(
        train.main, capsys, "--data-dir", synthetic_dir, "--threads", 1, *args
    )


def fails(result, *parts):
    """Assert that a command ended in one line on stderr, and nothing else there."""
    code, _, err = result
    lines = err.splitlines()
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith("train.py: error: ")
    assert len(lines[0]) <= 300
    assert lines[0].isprintable()
    for part in parts:
        assert part in lines[0]


# ---- A run ----------------------------------------------------------------------------------------------------------


def test_a_run_says_what_it_does_and_leaves_a_checkpoint(go, tmp_path, data):
    code, out, err = go(*SMALL, "--seed", 3)
    assert (code, err) == (0, "")
    about, network, *arrays, settings, length, empty, header, first, second, last, checkpoint = (
        out.splitlines()
    )
    assert about == "data        synthetic: 900 training and 100 validation images"
    assert (
        network
        == "network     3072 -> 16 units -> 10; batch normalisation, dropout 0.5, 49,370 parameters"
    )
    assert [line.split()[0] for line in arrays] == [*model.Network(16).weights, "parameters"]
    assert arrays[0].split()[1:] == ["3072", "x", "16", "49,152"]
    assert arrays[-2].split()[1:] == ["1", "x", "16", "-"]
    assert arrays[-1].split()[1:] == ["49,370"]
    assert re.fullmatch(r"time        at most [0-9.]+ s, 2 epochs of [0-9.]+ s", length)
    assert settings == "settings    hidden_size 16, epochs 2, seed 3"
    assert empty == ""
    assert header.split() == [
        "epoch",
        "rate",
        "train",
        "loss",
        "acc",
        "val",
        "loss",
        "acc",
        "images/s",
    ]
    assert first.split()[:2] == ["1", "0.010000"]
    assert first.endswith("*")
    assert second.split()[:2] == ["2", "0.009000"]
    assert checkpoint.startswith(
        "checkpoint net.npz; test it with: python test.py net.npz --data-dir "
    )
    net, info = model.load(tmp_path / "net.npz")
    assert (net.hidden_size, net.batchnorm, net.dropout) == (16, True, 0.5)
    assert info["settings"] == asdict(Settings(16, epochs=2, seed=3))
    assert info["recipe"] == "report"
    assert info["data"]["name"] == "synthetic"
    assert info["data"]["fingerprint"] == data.fingerprint
    assert info["data"]["class_names"] == list(data.class_names)
    assert len(info["data"]["validation_rows"]) == 100
    assert {name: len(values) for name, values in info["history"].items()} == dict.fromkeys(
        train.HISTORY, 2
    )
    best = info["best_epoch"]
    assert last.startswith(
        f"best epoch {best} of 2, validation accuracy {max(info['history']['val_accuracy']):.2%}, "
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "net.csv",
        "net.npz",
        "net.state.npz",
    ]
    assert (
        go(*shlex.split(info["command"])[2:], "--overwrite")[0] == 0
    )  # the command makes it again
    assert np.array_equal(model.load(tmp_path / "net.npz")[0].weights["W1"], net.weights["W1"])


def test_the_estimate_is_of_all_epochs_that_are_left(data, tmp_path, capsys, monkeypatch):
    clock = itertools.count()  # each look at it takes a second
    monkeypatch.setattr(train, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    settings = Settings(
        8, epochs=1000, batch_size=5, patience=20
    )  # 900 and 100 images: a hundred steps take 500
    train.train(settings, data, tmp_path / "net.npz", show=True, stop_after=1)
    first = "time        at most 33 min, 1000 epochs of 2 s; less, if validation accuracy doesn't rise for 20 epochs"
    out = capsys.readouterr().out
    assert (
        out.index("settings    ") < out.index(f"{first}\n\nepoch   ") < out.index("\n    1  0.01")
    )
    train.train(settings, data, tmp_path / "net.npz", show=True, resume=True, stop_after=2)
    assert (
        "at most 37 min, 999 epochs of 2.2 s; less" in capsys.readouterr().out
    )  # an epoch took two seconds for 900
    train.train(settings, data, tmp_path / "quiet.npz", stop_after=1)
    assert capsys.readouterr().out == ""


def test_every_setting_of_sgd_reaches_it(data, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(model.SGD, "__call__", lambda self, *arrays: seen.append(self))
    given = {
        "momentum": 0.5,
        "lambda_reg": 0.1,
        "bn_lr_scale": 0.6,
        "output_lr_scale": 0.4,
        "hidden_lambda_scale": 0.3,
    }
    train.train(Settings(8, epochs=1, learning_rate=0.2, **given), data, tmp_path / "net.npz")
    assert seen[0] == model.SGD(0.2, **given)
    assert {"learning_rate", *given} == {option.name for option in fields(model.SGD)}


def table(path):
    """The columns of a history's CSV but the seconds, which differ from run to run."""
    with open(path, newline="") as file:
        names, *rows = csv.reader(file)
    return {
        name: [float(value) for value in column]
        for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }


def test_the_csv_is_the_history(go, tmp_path):
    assert go(*SMALL, "--epochs", 3)[0] == 0
    found, info = table(tmp_path / "net.csv"), model.load(tmp_path / "net.npz")[1]
    assert found == {"epoch": [1, 2, 3]} | info["history"]
    (tmp_path / "net.csv").unlink()  # as after a kill between the state and the table
    assert go(*SMALL, "--epochs", 3, "--resume")[0] == 0
    assert table(tmp_path / "net.csv") == found


def test_the_last_line_works_as_it_is(run, tmp_path, synthetic_dir):
    folder = tmp_path / "my images"
    folder.symlink_to(synthetic_dir)
    trained = run(
        "train.py", "--data-dir", folder, "--output", "a net.npz", "--hidden-size", 8, "--epochs", 1
    )
    assert trained.returncode == 0, trained.stderr
    command = shlex.split(trained.stdout.splitlines()[-1].partition("test it with: ")[2])
    assert command[:3] == ["python", str(ROOT / "test.py"), "a net.npz"]
    tested = run(*command[1:])
    assert tested.returncode == 0, tested.stderr


def test_quick_learns_from_windows(go, tmp_path):
    code, out, _ = go(*QUICK, "--epochs", 5, "--output", "net.npz")
    assert code == 0
    network, info = model.load(tmp_path / "net.npz")
    assert (network.window.size, network.window.stride, network.window.regions) == (8, 6, 3)
    assert network.window.P.shape == (192, 20)
    assert (
        "8 units at 25 places (8x8 windows in steps of 6, 3x3 regions, mirrored ones, too)" in out
    )
    assert info["history"]["train_loss"][-1] < info["history"]["train_loss"][0] < 2.31
    assert network.window.mirror and not network.fold_mirror().window.mirror


def test_like_starts_from_a_checkpoints_settings(go, tmp_path):
    assert go(*QUICK, "--output", "net.npz", "--seed", 4)[0] == 0
    assert go("--like", "net.npz", "--seed", 5, "--output-dir", "out")[0] == 0
    mine, like = (
        model.load(path)[1]
        for path in (tmp_path / "net.npz", tmp_path / "out" / "synthetic-net-seed5.npz")
    )
    assert like["settings"] == mine["settings"] | {"seed": 5}
    assert like["recipe"] == "net"
    np.savez(tmp_path / "report.npz", **make().weights)
    fails(
        go("--like", "report.npz"),
        "report.npz: doesn't say with which settings it was trained",
        "--like",
    )
    npz.write_npz(tmp_path / "odd.npz", {}, {"settings": {"hidden_size": "many"}})
    fails(
        go("--like", "odd.npz"),
        "odd.npz: has a wrong setting: --hidden-size many must be of type int",
    )
    npz.write_npz(tmp_path / "odd.npz", {}, {"settings": {"colour": 1}})
    fails(go("--like", "odd.npz"), "odd.npz: is damaged", "--like")
    fails(go("--like", "none.npz"), "none.npz: no such checkpoint")
    fails(go("--like", "/dev/zero"), "/dev/zero: is a device")
    fails(go("--like", "net.npz", "--recipe", "quick"), "--recipe", "--like")
    for name in (
        "a\x1bb.npz",
        "y" * 245 + ".npz",
    ):  # would make a name for the output that can't be
        (tmp_path / name).write_bytes((tmp_path / "net.npz").read_bytes())
        fails(go("--like", name, "--output-dir", "new"), "choose ")
    assert not (tmp_path / "new").exists()


def test_default_names_say_data_recipe_and_seed(go, tmp_path):
    assert go("--hidden-size", 4, "--epochs", 1, "--seed", 7)[0] == 0
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "synthetic-report-seed7.csv",
        "synthetic-report-seed7.npz",
        "synthetic-report-seed7.state.npz",
    ]


def test_the_reports_command_works(run, tmp_path, synthetic_dir):
    flags = (
        f"--mode train --activation relu --save_results --data_dir {synthetic_dir} --output_dir out --hidden_size 8 "
        "--dropout_rate 0.25 --use_batchnorm --use_dropout --epochs 1 --batch_size 50 --learning_rate 0.02 "
        "--lr_decay 0.8 --lambda_reg 0.001 --momentum=0.8 --early_stopping 0 --seed 1"
    )
    result = run("train.py", *flags.split())
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    network, info = model.load(tmp_path / "out" / "synthetic-report-seed1.npz")
    expected = {
        "hidden_size": 8,
        "dropout": 0.25,
        "batchnorm": True,
        "epochs": 1,
        "batch_size": 50,
        "patience": 0,
    }
    expected |= {"lambda_reg": 0.001, "learning_rate": 0.02, "lr_decay": 0.8, "momentum": 0.8}
    assert {name: info["settings"][name] for name in expected} == expected
    assert network.dropout == 0.25


def test_batchnorm_and_dropout_can_be_left_out(go, tmp_path):
    assert go(*SMALL, "--no-use-batchnorm", "--no-use-dropout")[0] == 0
    network, _ = model.load(tmp_path / "net.npz")
    assert network.dropout == 0
    assert set(network.weights) == {"W1", "b1", "W2", "b2"}


def test_half_precision(go, tmp_path):
    for storage in ("float32", "float16"):
        assert (
            go(*SMALL, "--output", f"{storage}.npz", "--storage", storage, "--hidden-size", 64)[0]
            == 0
        )
    sizes = [(tmp_path / f"{storage}.npz").stat().st_size for storage in ("float16", "float32")]
    assert sizes[0] < 0.6 * sizes[1]
    half, whole = (model.load(tmp_path / f"{storage}.npz")[0] for storage in ("float16", "float32"))
    np.testing.assert_allclose(half.weights["W1"], whole.weights["W1"], rtol=1e-3, atol=1e-6)
    flags = (
        "--storage",
        "float16",
        "--learning-rate",
        3e6,
        "--no-batchnorm",
        "--lambda-reg",
        0,
        "--dropout",
        0,
    )
    fails(
        go(*SMALL, *flags, "--overwrite"),
        "net.npz: a weight is too large for float16; give --storage float32",
    )


def test_steps_of_an_epoch_are_those_that_batches_makes(data):
    for n, batch_size, batchnorm in (
        (9, 8, True),
        (9, 8, False),
        (16, 8, True),
        (17, 8, True),
        (5, 100, True),
    ):
        few = replace(
            data, train_images=data.train_images[: 2 * n], train_labels=data.train_labels[: 2 * n]
        )
        given = {
            "validation_share": 0.5,
            "batch_size": batch_size,
            "batchnorm": batchnorm,
            "dropout": 0.0,
        }
        run = train.Run(Settings(4, **given), few)
        made = [
            *train.batches(
                few.train_images, few.train_labels, run.train_rows, run.settings, run.rng
            )
        ]
        assert len(made) == run.steps
        if run.steps < 2:
            continue
        with pytest.raises(SettingError, match="averages nothing in fewer than 8 steps"):
            train.Run(Settings(4, ema=0.9, epochs=7 // run.steps, **given), few)


def test_the_checkpoint_holds_the_best_weights_with_their_statistics(data, tmp_path):
    report = Settings(16, learning_rate=0.3, epochs=6)
    quick = train.resolve(
        {"hidden_size": 8, "stride": 6, "whiten_dims": 20, "epochs": 4, "ema": 0.9}, "quick"
    )
    for name, settings in (("report", report), ("quick", quick)):
        run = train.train(settings, data, tmp_path / f"{name}.npz")
        network, info = model.load(tmp_path / f"{name}.npz")
        rows, history, best = (
            info["data"]["validation_rows"],
            info["history"],
            info["best_epoch"] - 1,
        )
        found = network.evaluate(data.train_images[rows], data.train_labels[rows])
        assert found == (history["val_loss"][best], history["val_accuracy"][best])
        assert history["val_accuracy"].index(max(history["val_accuracy"])) == best
        assert run.epoch == len(history["val_loss"])
        assert run.finished


def test_training_learns(data, tmp_path):
    settings = Settings(48, epochs=15, dropout=0.1, bn_lr_scale=1, lambda_reg=0, lr_decay=1)
    run = train.train(settings, data, tmp_path / "net.npz")
    assert run.history["train_accuracy"][-1] > 0.3
    assert max(run.history["val_accuracy"]) > 0.2


def test_training_stops_when_validation_no_longer_improves(data, tmp_path):
    run = train.train(
        Settings(8, learning_rate=0, epochs=50, patience=3), data, tmp_path / "net.npz"
    )
    assert run.epoch == run.best_epoch + 3 < 50
    run = train.train(
        Settings(8, learning_rate=0, epochs=12, patience=0), data, tmp_path / "all.npz"
    )
    assert run.epoch == 12


@pytest.mark.parametrize("recipe", ["report", "quick"])
def test_any_number_of_threads_gives_the_same_bits(recipe, data, tmp_path):
    given = {"hidden_size": 24, "epochs": 1, "label_smoothing": 0.1}
    given |= {"stride": 6, "whiten_dims": 20, "ema": 0.5} if recipe == "quick" else {}
    settings, found = train.resolve(given, recipe), []
    for count in (1, 3):
        run = train.train(settings, data, tmp_path / f"{count}.npz", threads=count)
        found.append(run.averaged.weights | {"loss": run.history["val_loss"]})
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])
    run = train.train(replace(settings, seed=1), data, tmp_path / "other.npz")
    assert not np.array_equal(run.averaged.weights["W1"], found[0]["W1"])


def test_the_average_follows_the_weights(data, tmp_path):
    run = train.train(
        Settings(4, epochs=1, ema=0.9, batch_size=50, dropout=0), data, tmp_path / "net.npz"
    )
    assert run.step == 18
    W1 = run.averaged.weights["W1"]
    assert not np.array_equal(W1, run.network.weights["W1"])
    network, averaged = make(), make()
    network.weights["W1"] += 1
    for step in range(1, 16 * train.EMA_EVERY + 1):
        before = averaged.weights["W1"][0, 0]
        train.average(averaged, network, 0.9, step)
        moved = averaged.weights["W1"][0, 0] - before
        keep = min(0.9**train.EMA_EVERY, step / (step + 10 * train.EMA_EVERY))
        expected = (
            0 if step % train.EMA_EVERY else (1 - keep) * (network.weights["W1"][0, 0] - before)
        )
        assert moved == pytest.approx(expected, abs=1e-12)


def test_training_needs_no_matplotlib():
    code = "import train, sys; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# ---- Settings -------------------------------------------------------------------------------------------------------

REFUSED = {
    "--hidden-size 0": ["--hidden-size 0 must be at least 1"],
    "--hidden-size many": ["--hidden-size", "'many' is not a whole number"],
    "--hidden-size 1.5": ["--hidden-size", "'1.5' is not a whole number"],
    "--hidden-size 10000000000000000000000": ["--hidden-size", "must be at most 1000000"],
    "--dropout 0.999": ["--dropout 0.999 must be below 0.998"],
    "--cap -1": ["--cap -1.0 must be at least 0"],
    "--dropout_rate -0.1": ["--dropout -0.1 must be at least 0"],
    "--batch-size 1": ["--batch-size 1 must be at least 2, or give --no-batchnorm"],
    "--batch-size -1": ["--batch-size -1"],
    "--momentum 1": ["--momentum 1.0 must be below 1"],
    "--learning-rate nan": ["--learning-rate nan must be finite"],
    "--lr inf": ["--learning-rate inf must be finite"],
    "--learning-rate -1": ["--learning-rate -1.0 must be at least 0"],
    "--lr-decay 1.5": ["--lr-decay 1.5 must be at most 1"],
    "--epochs 0": ["--epochs 0"],
    "--patience -1": ["--patience -1"],
    "--seed -1": ["--seed -1"],
    "--seed 10000000000000000000": ["--seed 10000000000000000000 must be at most"],
    "--preprocess whiten --whiten-eps 1e308": ["--whiten-eps 1e+308 must be at most"],
    "--output-dir /": ["--output-dir", "is no place for results; name a folder in it"],
    "--shift 17": ["--shift 17 must be at most 16"],
    "--threads 0": ["--threads", "'0' is no integer from 1 to"],
    "--schedule linear": ["--schedule", "'cosine'"],
    "--recipe worst": ["--recipe", "'best'"],
    "--activation tanh": ["--activation", "'tanh'"],
    "--mode test": ["--mode", "'test'"],
    "--validation-share 0": ["validation share 0.0"],
    "--window 12 --stride 3": ["--window 12", "12 pixels, 3 apart, don't cover 32 pixels"],
    "--window 33": ["--window 33 must be at most 32"],
    "--window 8 --stride 2 --regions 2": [
        "--window 8",
        "2 regions can't lie symmetrically in 13 places",
    ],
    "--window 8 --stride 2 --regions 14": ["14 regions in a row are not 1 to 13"],
    "--ema 0.9 --epochs 1 --batch-size 900": ["--ema 0.9 averages nothing in fewer than 8 steps"],
    "--no-use-dropout --dropout 0.5": ["--dropout 0.5 contradicts --no-use-dropout"],
    "--resume --overwrite": ["--overwrite", "--resume"],
    "--output a.npz --output-dir b": ["--output-dir", "--output"],
    "--output net.pt": ["--output net.pt", ".npz"],
    "--output .": ["--output", "is a folder"],
    "--hiden-size 5": ["--hiden-size", "did you mean --hidden-size?"],
    "--version": ["unrecognized arguments: --version"],
    "--data-dir /nope": ["--data-dir /nope: there is no such folder"],
    f"--seed {'9' * 5000}": ["--seed"],
    f"--learning-rate {'9' * 5000}": ["--learning-rate"],
    f"--lambda-reg 1{'0' * 25} --hidden-size 0": ["--hidden-size 0"],
    # What would do nothing:
    "--stride 2 --window 32": [
        "--stride 2 has no effect here: leave it out, or give --window below 32"
    ],
    "--regions 1 --stride 31": ["--stride 31 has no effect"],
    "--recipe quick --window 32 --stride 1 --regions 3": [
        "--regions 3 has no effect here: leave it out, or give --window below 32"
    ],
    "--whiten-dims 5": ["--whiten-dims 5 has no effect here", "--preprocess whiten"],
    "--whiten-eps 5": ["--whiten-eps 5.0 has no effect here", "--preprocess whiten"],
    "--whiten-eps 0 --preprocess none": ["--whiten-eps 0.0 has no effect here"],
    "--schedule cosine --lr-decay 0.5": ["--lr-decay 0.5 has no effect here", "--schedule report"],
    "--schedule cosine --lr-decay 0": ["--lr-decay 0.0 has no effect here"],
    "--schedule constant --step-decay 0.25": [
        "--step-decay 0.25 has no effect here",
        "--schedule report",
    ],
    "--epochs 10 --step-decay 0.3": ["--step-decay 0.3 has no effect here", "--epochs above 10"],
    "--recipe quick --step_decay 0.3": ["--step-decay 0.3 has no effect here"],
    "--no-batchnorm --bn-lr-scale 2": ["--bn-lr-scale 2.0 has no effect here", "--batchnorm"],
    "--recipe quick --mirror --no-flip": [
        "--no-flip has no effect here: leave it out, or give --no-mirror"
    ],
    "--mirror": [
        "--mirror has no effect here: leave it out, or give --window below 32 and --preprocess whiten"
    ],
    "--recipe quick --mirror --preprocess none": ["--mirror has no effect", "--preprocess whiten"],
    "--lambda-reg 0 --hidden-lambda-scale 2": [
        "--hidden-lambda-scale 2.0 has no effect here",
        "--lambda-reg above 0",
    ],
    "--no-batchnorm --bn-lr-scale 0": ["--bn-lr-scale 0.0 has no effect here"],
    "--epochs 2 --patience 5": ["--patience 5 has no effect here", "give more --epochs"],
}


@pytest.mark.parametrize("flags", REFUSED, ids=lambda flags: flags[:50])
def test_settings_that_cannot_be_are_refused_by_name(flags, go, tmp_path):
    fails(go(*flags.split()), *REFUSED[flags])
    assert not list(tmp_path.rglob("*.npz"))


def test_every_setting_that_may_have_no_effect_is_tried_above():
    tried = {
        word.removeprefix("--no-").removeprefix("--") for flags in REFUSED for word in flags.split()
    }
    assert {name.replace("_", "-") for name in train.NEEDS} <= tried


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


def test_settings_keep_their_types():
    assert Settings(learning_rate=1).learning_rate == 1.0
    for wrong in (
        {"epochs": 2.0},
        {"flip": 1},
        {"learning_rate": True},
        {"schedule": None},
        {"seed": "0"},
    ):
        with pytest.raises(SettingError, match="must be of type"):
            Settings(**wrong)
    with pytest.raises(SettingError, match=r"--learning-rate 1000.* is too large"):
        Settings(learning_rate=10**400)


@pytest.mark.parametrize("recipe", train.RECIPES)
def test_recipes_are_settings_that_single_flags_override(recipe):
    settings = train.resolve({}, recipe)
    assert train.resolve({"seed": 5, "epochs": 30}, recipe) == replace(settings, seed=5, epochs=30)
    assert train.resolve(asdict(settings), asdict(settings)) == settings
    assert train.resolve({}, asdict(settings)) == settings


def test_effective_settings_are_those_that_do_something():
    report = train.effective(Settings())
    assert set(asdict(Settings())) - set(report) == {
        "stride",
        "regions",
        "mirror",
        "whiten_dims",
        "whiten_eps",
    }
    quick = train.effective(asdict(train.resolve({}, "quick")))
    assert not {"lr_decay", "step_decay", "bn_lr_scale", "flip"} & set(quick)
    assert {"stride", "regions", "whiten_dims", "whiten_eps", "window"} <= set(quick)
    assert "step_decay" not in train.effective(Settings(epochs=10))
    assert (
        train.resolve({"window": 32}, "quick").seen().positions == 1
    )  # quick's stride, regions, mirror do nothing then
    assert "flip" in train.effective(train.resolve({"preprocess": "none"}, "quick"))


def test_help_shows_every_setting_with_its_defaults(run):
    text = " ".join(run("train.py", "--help").stdout.split())
    for option in fields(Settings):
        assert f"--{option.name.replace('_', '-')}" in text
    assert "(report: 32, quick: 8, best: 8)" in text


def test_the_reports_learning_rate_follows_its_two_rules():
    settings, rate = Settings(), 0.01
    for epoch in range(40):
        if epoch >= 5 and epoch % 10 == 0:
            rate *= 0.5
        assert train.learning_rate(settings, epoch, 0.5) == pytest.approx(rate)
        rate *= 0.9


def test_the_cosine_ends_at_zero_after_its_warmup():
    settings = Settings(schedule="cosine", learning_rate=0.4, epochs=10, warmup_epochs=2)
    assert train.learning_rate(settings, 0, 0.5) == pytest.approx(
        0.4 * (1 + np.cos(0.05 * np.pi)) / 2 / 4
    )
    assert train.learning_rate(settings, 2, 0) == pytest.approx(0.4 * (1 + np.cos(0.2 * np.pi)) / 2)
    assert train.learning_rate(settings, 5, 0) == pytest.approx(0.2)
    assert train.learning_rate(settings, 9, 1) == pytest.approx(0, abs=1e-12)
    assert train.learning_rate(Settings(schedule="constant"), 7, 0.3) == 0.01
    assert train.learning_rate(
        Settings(schedule="constant", warmup_epochs=4), 1, 0.5
    ) == pytest.approx(0.01 * 1.5 / 4)


# ---- Batches --------------------------------------------------------------------------------------------------------


def test_an_epoch_shows_every_row_once_with_its_label():
    images = np.repeat(np.arange(50, dtype=np.uint8)[:, None], model.PIXELS, axis=1)
    settings = Settings(batch_size=7)
    X, y = zip(
        *train.batches(images, np.arange(50), np.arange(1, 50), settings, np.random.default_rng(0)),
        strict=True,
    )
    assert [len(labels) for labels in y] == [7] * 7
    assert sorted(np.concatenate(y)) == list(range(1, 50))
    assert np.array_equal(np.concatenate(X)[:, 0], np.concatenate(y))
    assert not np.array_equal(np.concatenate(y), np.arange(1, 50))
    for batchnorm, shown in (
        (True, 49),
        (False, 50),
    ):  # BN can't normalise the one row that is left over
        settings = Settings(batch_size=7, batchnorm=batchnorm)
        found = train.batches(
            images, np.arange(50), np.arange(50), settings, np.random.default_rng(0)
        )
        assert sum(len(labels) for _, labels in found) == shown


@pytest.mark.parametrize(("flip", "shift"), [(True, 2), (True, 0), (False, 1)])
def test_augmentation_flips_and_shifts_each_image_by_itself(flip, shift):
    image = np.random.default_rng(1).integers(0, 256, (32, 32), dtype=np.uint8)
    images = np.tile(image.ravel(), (400, 3))
    padded, seen = np.pad(image, shift, mode="reflect"), []
    results = augment(images.copy(), np.random.default_rng(0), flip, shift)
    assert (results.shape, results.dtype) == (images.shape, images.dtype)
    for result in results.reshape(-1, 3, 32, 32):
        assert np.array_equal(result[0], result[2])
        hits = [
            (down, right, flipped)
            for down in range(2 * shift + 1)
            for right in range(2 * shift + 1)
            for flipped in {False, flip}
            if np.array_equal(
                result[0][:, :: -1 if flipped else 1], padded[down : down + 32, right : right + 32]
            )
        ]
        assert len(hits) == 1
        seen += hits
    assert len(set(seen)) == (2 * shift + 1) ** 2 * (1 + flip)
    if flip:
        assert 150 < sum(flipped for _, _, flipped in seen) < 250
    again = augment(images.copy(), np.random.default_rng(0), flip, shift)
    assert np.array_equal(results, again)


def test_without_augmentation_images_stay():
    images = np.random.default_rng(1).integers(0, 256, (5, 3072), dtype=np.uint8)
    assert np.array_equal(augment(images.copy(), np.random.default_rng(0)), images)


def test_jitter_changes_each_channel_of_each_image_by_itself():
    images = np.tile(
        np.random.default_rng(1).integers(80, 176, (1, 3072), dtype=np.uint8), (500, 1)
    )
    results = augment(images.copy(), np.random.default_rng(0), jitter=0.1)
    assert (results.shape, results.dtype) == (images.shape, np.uint8)
    lines = np.array(
        [
            np.polyfit(before / 127.5 - 1, after / 127.5 - 1, 1)
            for before, after in zip(
                images.reshape(-1, 1024), results.reshape(-1, 1024), strict=True
            )
        ]
    ).reshape(500, 3, 2)  # gain and offset of every channel
    np.testing.assert_allclose(lines.mean(axis=(0, 1)), [1, 0], atol=0.02)
    np.testing.assert_allclose(
        lines.std(axis=(0, 1)), [0.12, 0.06], rtol=0.15
    )  # of 1 and 2/3 together
    np.testing.assert_allclose(lines.mean(axis=1).std(axis=0), [0.107, 0.054], rtol=0.15)
    np.testing.assert_allclose(
        (lines - lines.mean(axis=1, keepdims=True)).std(axis=(0, 1)), [0.054, 0.027], rtol=0.15
    )
    bright = augment(np.full((500, 3072), 250, np.uint8), np.random.default_rng(0), jitter=0.5)
    assert {0, 255} <= set(bright.ravel().tolist())  # cut, not wrapped around


# ---- What the units see ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "stride", "dims", "eps"), [(16, 16, 30, 0.0), (8, 8, 20, 0.1)])
def test_whitening_gives_uncorrelated_dimensions(size, stride, dims, eps, data):
    settings = Settings(
        window=size, stride=stride, preprocess="whiten", whiten_dims=dims, whiten_eps=eps
    )
    window = train.fit_window(data.train_images, settings)
    assert (window.size, window.stride, window.P.shape) == (size, stride, (3 * size**2, dims))
    square = data.train_images.reshape(-1, 3, 32, 32)[..., ::-1].reshape(-1, 3072)
    patches = np.concatenate([window.patches(data.train_images), window.patches(square)]) / 255
    X = (patches - window.mean) @ window.P
    np.testing.assert_allclose(X.mean(axis=0), 0, atol=1e-3)
    variances = np.linalg.eigvalsh(np.cov(patches.T))[::-1]
    expected = variances[:dims] / (variances[:dims] + eps * variances.mean())
    found = np.cov(X.T)
    np.testing.assert_allclose(found, np.diag(np.diag(found)), atol=0.02)
    np.testing.assert_allclose(np.sort(np.diag(found))[::-1], expected, atol=0.02)
    flip = np.arange(window.pixels).reshape(3, size, size)[:, :, ::-1].ravel()
    assert np.array_equal(window.mean[flip], window.mean)
    assert 0 < window.odd < dims
    assert np.array_equal(
        window.P[flip] * np.repeat([-1, 1], [window.odd, dims - window.odd]), window.P
    )
    threads = train.fit_window(data.train_images, settings, model.Threads(3))
    assert np.array_equal(threads.P, window.P)
    assert np.array_equal(threads.mean, window.mean)


def test_images_without_contrast_have_a_map_too():
    settings = Settings(window=8, preprocess="whiten", whiten_dims=5, whiten_eps=0)
    assert np.isfinite(train.fit_window(np.full((3, 3072), 7, np.uint8), settings).P).all()


def test_the_map_sees_the_training_split_alone(data, tmp_path):
    run = train.train(
        Settings(4, window=8, stride=8, preprocess="whiten", whiten_dims=9, epochs=1),
        data,
        tmp_path / "net.npz",
    )
    split = np.delete(data.train_images, run.validation_rows, axis=0)
    mean = train.fit_window(split, run.settings).mean
    np.testing.assert_allclose(run.network.window.mean, mean, rtol=1e-6)
    assert (
        json.loads(json.dumps(run.info()))["data"]["validation_rows"]
        == run.validation_rows.tolist()
    )


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
    b1 = network.weights["b1"]
    assert -2 <= b1.min() < b1.mean() - 0.2 < b1.mean() + 0.2 < b1.max() <= 0
    assert not network.weights["W2"].any()
    X = model.layer_input(data.train_images, window, np.float32)[:, : window.inputs]
    cosines = (X / np.linalg.norm(X, axis=1, keepdims=True)) @ W1 / np.sqrt(2)
    np.testing.assert_allclose(cosines.max(axis=0), 1, rtol=1e-4)
    assert network.preconditioner.shape == (2, 9 * window.q)
    assert (network.preconditioner[1] > 0).all()


def test_the_plain_window_needs_no_images():
    window = train.fit_window(
        np.empty((0, 3072), np.uint8), Settings(window=8, stride=2, regions=3)
    )
    assert isinstance(window, Window)
    assert (window.size, window.stride, window.regions, window.P) == (8, 2, 3, None)
