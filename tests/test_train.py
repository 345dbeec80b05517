"""Training as a user starts, stops, resumes and breaks it."""

import fcntl
import json
import os
import pty
import resource
import signal
import struct
import subprocess
import sys
import termios
import time

import model
import train
from data import cifar10
from train import SettingError, Settings

import numpy as np
import pytest
from conftest import ROOT

SMALL = ("--hidden-size", 16, "--epochs", 2, "--threads", 1)
BUSY = {  # everything that keeps a state of its own from epoch to epoch
    "receptive_fields": "16/16x3@20 8/8x2@9",
    "share": 2,
    "preprocess": "whiten",
    "mirror": True,
    "ema": 0.9,
    "shift": 2,
    "schedule": "cosine",
    "warmup_epochs": 1,
    "label_smoothing": 0.1,
    "learning_rate": 0.05,
}


@pytest.fixture
def go(run, synthetic_dir):
    """go("--epochs", 3): train.py on the small images, in the test's folder."""
    return lambda *args, **options: run("train.py", "--data-dir", synthetic_dir, *args, **options)


def weights(path):
    return model.load(path)[0].arrays()


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def fails(result, *parts):
    assert result.returncode == 2, result.stderr
    line = result.stderr.strip().splitlines()[-1]
    assert "Traceback" not in result.stderr and line.startswith("train.py: error: "), result.stderr
    for part in parts:
        assert part in line


# ---- A run ----------------------------------------------------------------------------------------------------------


def test_a_run_prints_a_table_and_leaves_a_checkpoint(go, tmp_path, data):
    result = go("--output", "net.npz", "--seed", 3, *SMALL)
    assert result.returncode == 0, result.stderr
    header, first, second, last, checkpoint = result.stdout.splitlines()
    assert header.split() == ["epoch", "rate", "train", "loss", "acc", "val", "loss", "acc", "images/s"]
    assert first.split()[0] == "1" and first.endswith("*") and second.split()[1] == "0.009000"
    assert last.startswith("best epoch") and checkpoint == "checkpoint net.npz; test it with: python test.py net.npz"
    assert "%|" not in result.stderr  # no bar where stderr is no terminal
    network, info = model.load(tmp_path / "net.npz")
    assert network.hidden_size == 16 and network.batchnorm and network.dropout == 0.5
    assert info["settings"]["seed"] == 3 and info["settings"]["hidden_size"] == 16
    assert info["data"]["name"] == "synthetic" and info["data"]["fingerprint"] == data.fingerprint
    assert len(info["data"]["validation_rows"]) == 100
    assert {name: len(values) for name, values in info["history"].items()} == dict.fromkeys(train.HISTORY, 2)
    assert f"validation accuracy {max(info['history']['val_accuracy']):.2%}" in last


def test_the_checkpoint_holds_the_best_weights_with_their_statistics(data, tmp_path):
    plain, busy = Settings(16, learning_rate=0.3, epochs=6), Settings(**BUSY, epochs=4)
    for name, settings in (("plain", plain), ("busy", busy)):
        run = train.train(settings, data, tmp_path / f"{name}.npz")
        network, info = model.load(tmp_path / f"{name}.npz")
        rows, history = info["data"]["validation_rows"], info["history"]
        best = info["best_epoch"] - 1
        loss, accuracy = network.evaluate(data.train_images[rows], data.train_labels[rows].astype(int))
        assert (loss, accuracy) == (history["val_loss"][best], history["val_accuracy"][best])
        assert accuracy == max(history["val_accuracy"]) and best == history["val_accuracy"].index(accuracy)
        assert run.epoch == len(history["val_loss"])


def test_training_learns(data, tmp_path):
    settings = Settings(48, epochs=15, dropout=0.1, bn_lr_scale=1, lambda_reg=0, preprocess="standardize", lr_decay=1)
    run = train.train(settings, data, tmp_path / "net.npz")
    assert run.history["train_accuracy"][-1] > 0.3
    assert max(run.history["val_accuracy"]) > 0.2


def test_the_default_name_says_which_data_it_was(go, tmp_path):
    assert go("--output-dir", "here", "--seed", 7, *SMALL).returncode == 0
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == [
        "synthetic-report-seed7.npz",
        "synthetic-report-seed7.state.npz",
    ]


def test_the_reports_flag_names_work(run, tmp_path, synthetic_dir):
    flags = (
        f"--data_dir {synthetic_dir} --output_dir out --hidden_size 8 --dropout_rate 0.25 --use_batchnorm "
        "--use_dropout --epochs 1 --batch_size 50 --learning_rate 0.02 --lr_decay 0.8 --lambda_reg 0.001 "
        "--momentum 0.8 --early_stopping 3"
    )
    result = run("train.py", *flags.split())
    assert result.returncode == 0, result.stderr
    network, info = model.load(tmp_path / "out" / "synthetic-report-seed0.npz")
    expected = {"hidden_size": 8, "dropout": 0.25, "batchnorm": True, "epochs": 1, "batch_size": 50}
    expected |= {"lambda_reg": 0.001, "learning_rate": 0.02, "lr_decay": 0.8, "momentum": 0.8, "patience": 3}
    assert {name: info["settings"][name] for name in expected} == expected
    assert network.dropout == 0.25


def test_batchnorm_and_dropout_can_be_left_out(go, tmp_path):
    result = go("--output", "net.npz", "--no-batchnorm", "--no-use-dropout", "--batch-size", 128, *SMALL)
    assert result.returncode == 0, result.stderr
    network, _ = model.load(tmp_path / "net.npz")
    assert not network.batchnorm and network.dropout == 0 and set(network.arrays()) == {"W1", "b1", "W2", "b2"}


def test_float16_halves_the_checkpoint(go, tmp_path):
    for storage in ("float32", "float16"):
        result = go("--output", f"{storage}.npz", "--storage", storage, *SMALL, "--hidden-size", 64)
        assert result.returncode == 0, result.stderr
    sizes = [(tmp_path / f"{storage}.npz").stat().st_size for storage in ("float16", "float32")]
    assert sizes[0] < 0.6 * sizes[1]
    half, whole = (model.load(tmp_path / f"{storage}.npz")[0] for storage in ("float16", "float32"))
    np.testing.assert_allclose(half.b2, whole.b2, rtol=1e-3, atol=1e-6)


def test_training_stops_when_validation_no_longer_improves(data, tmp_path):
    run = train.train(Settings(16, learning_rate=0, epochs=50, patience=3), data, tmp_path / "net.npz")
    best = run.best_epoch
    assert run.epoch == best + 3 < 50
    run = train.train(Settings(16, learning_rate=0, epochs=6, patience=0), data, tmp_path / "all.npz")
    assert run.epoch == 6


def test_any_number_of_threads_gives_the_same_weights(data, tmp_path):
    settings = Settings(**BUSY, epochs=2)
    found = [train.train(settings, data, tmp_path / f"{n}.npz", threads=n).best.arrays() for n in (1, 3)]
    assert same(*found)
    other = train.train(Settings(**BUSY, epochs=2, seed=1), data, tmp_path / "other.npz").best.arrays()
    assert not same(found[0], other)


def test_training_needs_no_matplotlib():
    code = "import train, sys; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_bars_appear_on_a_terminal(tmp_path, synthetic_dir):
    ours, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, ROOT / "train.py", "--data-dir", synthetic_dir, "--output", "net.npz", *SMALL]
    process = subprocess.Popen([str(part) for part in command], cwd=tmp_path, stdout=subprocess.PIPE, stderr=terminal)
    os.close(terminal)
    assert b"epoch 1:" in os.read(ours, 1000)
    assert process.wait(60) == 0
    os.close(ours)


# ---- Stopped and resumed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [Settings(16, epochs=4), Settings(**BUSY, epochs=4)], ids=["report", "busy"])
def test_a_run_in_pieces_ends_in_the_same_bits(settings, data, tmp_path):
    whole = train.train(settings, data, tmp_path / "whole.npz")
    for stop in (1, 3, None):
        run = train.train(settings, data, tmp_path / "pieces.npz", resume=True, stop_after=stop)
        assert run.epoch == (stop or 4)
    assert same(weights(tmp_path / "whole.npz"), weights(tmp_path / "pieces.npz"))
    mine, theirs = run.history, whole.history
    assert all(mine[name] == theirs[name] for name in train.HISTORY if name != "seconds")


def test_kills_at_random_moments_change_no_bit():
    result = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "kills.py", "--kills", "4"], capture_output=True, text=True, timeout=170
    )
    assert result.returncode == 0 and "4 kills in" in result.stdout, result.stdout + result.stderr


def test_ctrl_c_says_how_to_go_on_and_going_on_works(go, tmp_path, synthetic_dir):
    flags = ["--data-dir", str(synthetic_dir), "--output", "net.npz", "--hidden-size", "16", "--lr-decay", "1"]
    flags += ["--patience", "0", "--epochs"]
    command = [sys.executable, str(ROOT / "train.py"), *flags]
    process = subprocess.Popen(
        [*command, "5000"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "net.state.npz").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    hint = errors.strip().splitlines()[-1]
    assert "python train.py" in hint and hint.endswith("--epochs 5000 --resume")
    done = len(model.read_npz(tmp_path / "net.state.npz")[1]["history"]["seconds"])
    result = go(*flags[2:], done + 1, "--resume")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-3].split()[0] == str(done + 1)


def test_resuming_a_finished_run_can_add_epochs(go):
    assert go("--output", "net.npz", *SMALL).returncode == 0
    result = go("--output", "net.npz", *SMALL, "--resume", "--epochs", 3)
    assert result.returncode == 0 and [line.split()[0] for line in result.stdout.splitlines()[1:4]] == ["1", "2", "3"]


def test_another_run_is_neither_overwritten_nor_resumed_by_accident(go, tmp_path, run):
    assert go("--output", "net.npz", *SMALL).returncode == 0
    before = (tmp_path / "net.npz").read_bytes()
    fails(go("--output", "net.npz", *SMALL), "net.npz", "--resume", "--overwrite", "--output")
    fails(go("--output", "net.npz", *SMALL, "--resume", "--seed", 1), "--seed 1", "net.state.npz")
    cosine = ("--output", "cosine.npz", *SMALL, "--schedule", "cosine")
    assert go(*cosine).returncode == 0
    fails(go(*cosine, "--resume", "--epochs", 3), "--epochs 3", "cosine")
    cifar10.write_synthetic(tmp_path / "other", train=100, test=10, seed=5)
    other = run("train.py", "--data-dir", tmp_path / "other", "--output", "net.npz", *SMALL, "--resume")
    fails(other, "net.state.npz", "other images", "--data-dir")
    assert (tmp_path / "net.npz").read_bytes() == before
    assert go("--output", "net.npz", *SMALL, "--overwrite", "--seed", 1).returncode == 0
    assert model.load(tmp_path / "net.npz")[1]["settings"]["seed"] == 1


def test_resuming_without_a_state_does_not_replace_a_checkpoint(go, tmp_path):
    assert go("--output", "net.npz", *SMALL).returncode == 0
    (tmp_path / "net.state.npz").unlink()
    before = (tmp_path / "net.npz").read_bytes()
    fails(go("--output", "net.npz", *SMALL, "--resume", "--seed", 1), "net.npz", "net.state.npz", "is missing")
    assert (tmp_path / "net.npz").read_bytes() == before


def test_overwriting_leaves_nothing_of_the_old_run_to_resume(go, tmp_path):
    assert go("--output", "net.npz", *SMALL).returncode == 0
    result = go("--output", "net.npz", *SMALL, "--overwrite", "--learning-rate", 1e30, "--no-batchnorm")
    fails(result, "epoch 1")
    assert not (tmp_path / "net.state.npz").exists()


def test_the_temporary_files_of_other_runs_stay(go, tmp_path):
    ours, theirs = tmp_path / ".a.npz.123.tmp", tmp_path / ".a.5.npz.123.tmp"
    ours.touch()
    theirs.touch()
    assert go("--output", "a.npz", *SMALL, "--epochs", 1).returncode == 0
    assert theirs.exists() and not ours.exists()


@pytest.mark.parametrize("damage", ["truncated", "a checkpoint", "misshapen", "no generator", "history", "step"])
def test_a_broken_state_is_one_line(damage, go, tmp_path):
    assert go("--output", "net.npz", *SMALL).returncode == 0
    state = tmp_path / "net.state.npz"
    if damage == "truncated":
        state.write_bytes(state.read_bytes()[:-50])
    elif damage == "a checkpoint":
        state.write_bytes((tmp_path / "net.npz").read_bytes())
    else:
        arrays, info = model.read_npz(state)
        if damage == "history":
            info["history"]["val_loss"] = ["low", None]
        elif damage == "step":
            info["state"]["step"] = float("inf")
        elif damage == "misshapen":
            arrays["velocity.W2"] = arrays["velocity.W2"][:, 1:]
        else:
            info["state"]["generator"] = {"bit_generator": "PCG64"}
        model.write_npz(state, arrays, info)
    fails(go("--output", "net.npz", *SMALL, "--resume"), "net.state.npz")


# ---- Bad luck -------------------------------------------------------------------------------------------------------


def test_a_loss_that_explodes_stops_the_run_and_keeps_the_last_checkpoint(go, tmp_path):
    result = go("--output", "net.npz", *SMALL, "--learning-rate", 1e30, "--no-batchnorm")
    fails(result, "epoch 1, step", "--learning-rate", "no weights were saved")
    assert not (tmp_path / "net.npz").exists() and "RuntimeWarning" not in result.stderr
    assert go("--output", "net.npz", *SMALL, "--epochs", 1, "--no-batchnorm").returncode == 0
    arrays, info = model.read_npz(tmp_path / "net.state.npz")
    arrays["velocity.W1"][...] = 1e38
    model.write_npz(tmp_path / "net.state.npz", arrays, info)
    before = (tmp_path / "net.npz").read_bytes()
    fails(go("--output", "net.npz", *SMALL, "--no-batchnorm", "--resume"), "epoch 2, step", "are in net.npz")
    assert (tmp_path / "net.npz").read_bytes() == before


def test_a_full_disk_is_one_line_and_the_previous_files_stay(go, tmp_path):
    assert go("--output", "net.npz", *SMALL, "--epochs", 1).returncode == 0
    before = {path.name: path.read_bytes() for path in tmp_path.glob("net*")}

    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    result = go("--output", "net.npz", *SMALL, "--resume", preexec_fn=full)
    fails(result, "net.", "choose another place")
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*net*")} == before


def test_an_output_that_cannot_be_written_is_one_line(go, tmp_path):
    (tmp_path / "file").write_text("")
    fails(go("--output", "file/net.npz", *SMALL), "file")
    fails(go("--output", "net.pt", *SMALL), "--output net.pt", ".npz")


# ---- Settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ("--hidden-size 0", ["--hidden-size 0 must be at least 1"]),
        ("--hidden-size many", ["--hidden-size", "invalid int value", "many"]),
        ("--dropout 0.999", ["--dropout 0.999 must be below 0.998"]),
        ("--batch-size 1", ["--batch-size 1 must be at least 2", "--no-batchnorm"]),
        ("--hidden-size 10000000000000000000000", ["--hidden-size", "must be at most 1000000"]),
        ("--receptive-fields 32x1000001", ["1 to 1,000,000 units"]),
        ("--schedule cosine --lr-decay 0", ["--lr-decay 0.0 does nothing"]),
        ("--recipe quick --whiten-dims 7", ["--whiten-dims 7 does nothing", "without @DIMS"]),
        ("--ema 0.9 --epochs 1 --batch-size 900", ["--ema 0.9 averages nothing in fewer than 8 steps"]),
        ("--dropout_rate -0.1", ["--dropout -0.1 must be at least 0"]),
        ("--momentum 1", ["--momentum 1.0 must be below 1"]),
        ("--learning-rate nan", ["--learning-rate nan must be finite"]),
        ("--lr-decay 1.5", ["--lr-decay 1.5 must be at most 1"]),
        ("--epochs 0", ["--epochs 0"]),
        ("--batch-size -1", ["--batch-size -1"]),
        ("--patience -1", ["--patience -1"]),
        ("--seed -1", ["--seed -1"]),
        ("--shift 17", ["--shift 17 must be at most 16"]),
        ("--threads 0", ["--threads must be at least 1"]),
        ("--schedule linear", ["--schedule", "'cosine'"]),
        ("--recipe worst", ["--recipe", "'best'"]),
        ("--validation-share 0", ["validation share 0.0"]),
        ("--receptive-fields 12", ["--receptive-fields 12", "16/8x300@128"]),
        ("--receptive-fields 12/3x4", ["12/3x4", "don't cover"]),
        ("--receptive-fields 12/4x4@9", ["--receptive-fields", "--preprocess whiten"]),
        ("--receptive-fields 12/4x4 --hidden-size 5", ["--hidden-size 5 does nothing", "--receptive-fields"]),
        ("--whiten-dims 5", ["--whiten-dims 5 does nothing", "--preprocess whiten"]),
        ("--schedule cosine --lr-decay 0.5", ["--lr-decay 0.5 does nothing", "--schedule report"]),
        ("--no-batchnorm --bn-lr-scale 2", ["--bn-lr-scale 2.0 does nothing", "--batchnorm"]),
        ("--share 2", ["--share 2.0 does nothing", "--receptive-fields"]),
        ("--mirror --flip", ["--flip does nothing", "--no-mirror"]),
        ("--no-use-dropout --dropout 0.5", ["--dropout 0.5 does nothing with --no-use-dropout"]),
        ("--resume --overwrite", ["--overwrite", "--resume"]),
        ("--output a.npz --output-dir b", ["--output-dir", "--output"]),
        ("--hiden-size 5", ["--hiden-size", "--hidden-size"]),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(flags, parts, synthetic_dir, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["train.py", "--data-dir", str(synthetic_dir), *flags.split()])
    monkeypatch.setattr(train, "HERE", tmp_path)
    try:
        code = cifar10.command(train.main)
    except SystemExit as stop:
        code = stop.code
    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and len(lines) == 1 and lines[0].startswith("train.py: error: "), lines
    assert all(part in lines[0] for part in parts), lines[0]
    assert not any(tmp_path.iterdir())


def test_settings_keep_their_types():
    assert Settings(learning_rate=1).learning_rate == 1.0
    for wrong in ({"epochs": 2.0}, {"mirror": 1}, {"learning_rate": True}, {"schedule": None}):
        with pytest.raises(SettingError, match="must be of type"):
            Settings(**wrong)


@pytest.mark.parametrize("recipe", train.RECIPES)
def test_recipes_are_settings_that_single_flags_override(recipe):
    settings = train.resolve({}, recipe)
    assert train.resolve({"seed": 5, "epochs": 3}, recipe) == train.replace(settings, seed=5, epochs=3)


def test_help_shows_every_setting_with_its_defaults(run):
    text = " ".join(run("train.py", "--help").stdout.split())
    for option in train.fields(Settings):
        assert f"--{option.name.replace('_', '-')}" in text
    assert "(default: 1024)" in text or "report: 1024" in text


def test_the_reports_learning_rate_follows_its_two_rules():
    settings, rate = Settings(), 0.01
    for epoch in range(40):
        if epoch >= 5 and epoch % 10 == 0:
            rate *= 0.5
        assert train.learning_rate(settings, epoch, 0.5) == pytest.approx(rate)
        rate *= 0.9


def test_the_cosine_ends_at_zero_after_its_warmup():
    settings = Settings(schedule="cosine", learning_rate=0.4, epochs=10, warmup_epochs=2)
    assert train.learning_rate(settings, 0, 0.5) == pytest.approx(0.4 * (1 + np.cos(0.05 * np.pi)) / 2 / 4)
    assert train.learning_rate(settings, 5, 0) == pytest.approx(0.2)
    assert train.learning_rate(settings, 9, 1) == pytest.approx(0, abs=1e-12)
    assert train.learning_rate(Settings(schedule="constant"), 7, 0.3) == 0.01


# ---- Batches --------------------------------------------------------------------------------------------------------


def test_an_epoch_shows_every_row_once_with_its_label():
    images = np.repeat(np.arange(50, dtype=np.uint8)[:, None], model.PIXELS, axis=1)
    settings = Settings(batch_size=7)
    X, y = zip(*train.batches(images, np.arange(50), np.arange(1, 50), settings, np.random.default_rng(0)), strict=True)
    assert [len(labels) for labels in y] == [7] * 7
    assert sorted(np.concatenate(y)) == list(range(1, 50)) and (np.concatenate(X)[:, 0] == np.concatenate(y)).all()
    leftover = list(train.batches(images, np.arange(50), np.arange(50), settings, np.random.default_rng(0)))
    assert sum(len(labels) for _, labels in leftover) == 49  # BN can't normalise the one row that is left over


def test_augmentation_flips_and_shifts_each_image_by_itself():
    image = np.arange(32 * 32, dtype=np.uint8).reshape(32, 32)
    image = np.random.default_rng(1).permuted(image, axis=None)
    images = np.tile(image.ravel(), (400, 3))
    padded, seen = np.pad(image, 2, mode="reflect"), set()
    for result in train.augment(images.copy(), True, 2, np.random.default_rng(0)).reshape(-1, 3, 32, 32):
        assert (result[0] == result[2]).all()
        hits = [
            (down, right, flipped)
            for down in range(5)
            for right in range(5)
            for flipped in (False, True)
            if (result[0][:, :: -1 if flipped else 1] == padded[down : down + 32, right : right + 32]).all()
        ]
        assert len(hits) == 1
        seen.add(hits[0])
    assert len(seen) == 50
    assert (train.augment(images.copy(), False, 0, np.random.default_rng(0)) == images).all()


@pytest.mark.parametrize("text", ["16/16x1@30", "8/8x1@20"])
def test_whitening_gives_uncorrelated_dimensions_of_variance_one(text, data):
    seen = model.Field.parse(text)
    mean, P = train.fit_map(data.train_images, seen, "whiten", 0.0)
    square = data.train_images.reshape(-1, 3, 32, 32) / 255
    patches = [square[:, :, r : r + seen.size, c : c + seen.size].reshape(-1, seen.pixels) for r, c in seen.corners]
    mirrored = [p.reshape(-1, 3, seen.size, seen.size)[..., ::-1].reshape(-1, seen.pixels) for p in patches]
    X = (np.concatenate(patches + mirrored) - mean) @ P
    np.testing.assert_allclose(X.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(X.T), np.eye(seen.dims), atol=0.02)


def test_standardizing_uses_the_channels_mean_and_spread(data):
    mean, P = train.fit_map(data.train_images, model.Field(), "standardize", 0.0)
    X = ((data.train_images / 255 - mean) * P).reshape(-1, 3, 1024)
    np.testing.assert_allclose(X.mean(axis=(0, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(X.std(axis=(0, 2)), 1, atol=1e-6)


def test_the_map_sees_the_training_split_alone(data, tmp_path):
    settings = Settings(4, preprocess="standardize", epochs=1)
    run = train.train(settings, data, tmp_path / "net.npz")
    split = np.delete(data.train_images, run.validation_rows, axis=0)
    mean, _ = train.fit_map(split, model.Field(), "standardize", 0)
    np.testing.assert_allclose(run.network.maps[0][0], mean, rtol=1e-6)
    assert json.loads(json.dumps(run.info()))["data"]["validation_rows"] == run.validation_rows.tolist()
