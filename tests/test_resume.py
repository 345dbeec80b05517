"""Trainings that are stopped, killed, resumed, broken or started twice."""

import fcntl
import os
import pty
import random
import resource
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time

import model
import train
from data import cifar10, synthetic
from support import locks, npz, runs
from support.settings import SettingError
from support.training import progress
from train import Settings

import numpy as np
import pytest
from helpers import ROOT
from trainings import SMALL, fails, table, without_seconds

BUSY = {  # all that keeps a state of its own from epoch to epoch
    "hidden_size": 8,
    "stride": 6,
    "whiten_dims": 20,
    "batchnorm": True,
    "dropout": 0.25,
    "epochs": 4,
    "label_smoothing": 0.1,
    "ema": 0.9,
}
RUNS = {"report": Settings(16, epochs=4), "busy": train.resolve(BUSY, "quick")}
RUNS["balanced"] = Settings(16, epochs=4, limit=300, class_weight="balanced")
PATCHES = BUSY | {"batchnorm": False, "init": "patches", "two_sided": True, "bilinear": True}
RUNS["damped"] = train.resolve(PATCHES | {"damped": 30, "test_stride": 3}, "quick")


@pytest.fixture
def start(tmp_path, synthetic_dir):
    """start("--epochs", 3): train.py as a process on the small images. It ends with the test."""
    started = []

    def start(*args, **options):
        script = (sys.executable, ROOT / "train.py")
        command = [*script, "--data-dir", synthetic_dir, "--threads", 1, *args]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(
            subprocess.Popen([str(word) for word in command], cwd=tmp_path, **pipes | options)
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def weights(path):
    return model.load(path)[0].weights


def assert_same(a, b):
    """Assert that two dicts hold the same bits."""
    assert a.keys() == b.keys()
    for name in a:
        assert np.array_equal(a[name], b[name])


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


# ---- Stopped and resumed -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", RUNS)
def test_a_run_in_pieces_ends_in_the_same_bits(kind, data, tmp_path):
    settings = RUNS[kind]
    whole = train.train(settings, data, tmp_path / "whole.npz")
    for stop in (1, 3, None):
        run = train.train(settings, data, tmp_path / "pieces.npz", resume=True, stop_after=stop)
        assert run.epoch == (stop or 4)
    assert_same(weights(tmp_path / "whole.npz"), weights(tmp_path / "pieces.npz"))
    states = [npz.read_npz(tmp_path / f"{name}.state.npz") for name in ("whole", "pieces")]
    assert_same(states[0][0], states[1][0])
    assert states[0][1]["state"] == states[1][1]["state"]
    assert without_seconds(run.history) == without_seconds(whole.history)
    tables = [table(tmp_path / f"{name}.csv") for name in ("whole", "pieces")]
    assert without_seconds(tables[0]) == without_seconds(tables[1])


def test_kills_at_random_moments_change_no_bit(start, tmp_path):
    flags = ["--hidden-size", 24, "--epochs", 12, "--patience", 0, "--ema", 0.9, "--resume"]
    assert start(*flags, "--output", "whole.npz").wait(120) == 0
    moments = random.Random(0)
    state = tmp_path / "net.state.npz"

    def version():
        return state.stat().st_mtime_ns if state.exists() else 0

    for _ in range(4):
        before = version()
        process = start(*flags, "--output", "net.npz")
        while process.poll() is None and version() == before:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        process.communicate()
    assert start(*flags, "--output", "net.npz").wait(120) == 0
    assert_same(weights(tmp_path / "whole.npz"), weights(tmp_path / "net.npz"))
    whole, killed = table(tmp_path / "whole.csv"), table(tmp_path / "net.csv")
    assert without_seconds(whole) == without_seconds(killed)
    left = {path.name for path in tmp_path.iterdir()}
    endings = (".csv", ".npz", ".state.npz")
    assert left == {f"{name}{ending}" for name in ("net", "whole") for ending in endings}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_training_prints_the_command_that_resumes_it(number, code, start, go, tmp_path):
    flags = ["--output", "net.npz", "--hidden-size", 8, "--lr-decay", 1, "--patience", 0]
    process = start(*flags, "--epochs", 5000)
    wait_for(tmp_path / "net.state.npz", process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code
    lines = errors.strip().splitlines()
    assert len(lines) == 1
    assert f": python {ROOT}/train.py --data-dir " in lines[0]
    assert lines[0].endswith("--epochs 5000 --resume")
    assert not list(tmp_path.glob(".*"))
    assert not list(tmp_path.glob("*.lock"))
    done = len(npz.read_npz(tmp_path / "net.state.npz")[1]["history"]["seconds"])
    resumed, out, _ = go(*flags, "--epochs", done + 1, "--resume")
    assert resumed == 0
    epochs = [line.split()[0] for line in out.splitlines() if line[:5].strip().isdigit()]
    assert epochs[-1] == str(done + 1)


@pytest.mark.parametrize("moment", [0, 1])
def test_the_command_printed_in_the_first_epochs_works(moment, go, tmp_path, monkeypatch):
    """Stop before anything is written, or in the second epoch, on top of another run's files."""
    assert go(*SMALL)[0] == 0
    for name in ("net.npz", "net.csv", "net.state.npz"):
        os.utime(tmp_path / name, (0, 0))
    epoch = progress.Display.epoch

    def stopped(display, run):
        if run.epoch == moment:
            raise KeyboardInterrupt
        return epoch(display, run)

    monkeypatch.setattr(progress.Display, "epoch", stopped)
    code, _, line = go(*SMALL, "--overwrite", "--seed", 5)
    assert code == 130
    begin = "resume with" if moment else "stopped before anything was saved; start again with"
    assert f"{begin}: python train.py " in line
    again = shlex.split(line.partition("with: python train.py ")[2])
    assert again[-1] == ("--resume" if moment else "5")
    monkeypatch.setattr(progress.Display, "epoch", epoch)
    assert go(*again)[0] == 0
    assert model.load(tmp_path / "net.npz")[1]["settings"]["seed"] == 5


def test_resuming_a_finished_run_can_add_epochs(go):
    assert go(*SMALL)[0] == 0
    code, out, _ = go(*SMALL, "--resume", "--epochs", 3)
    assert code == 0
    rows = out.splitlines()
    start = next(i for i, row in enumerate(rows) if row.startswith("epoch "))
    assert [row.split()[0] for row in rows[start + 1 : start + 4]] == ["1", "2", "3"]


def test_another_run_is_neither_overwritten_nor_resumed_by_accident(go, tmp_path, capsys):
    assert go(*SMALL)[0] == 0
    before = (tmp_path / "net.npz").read_bytes()
    fails(go(*SMALL), "net.npz", "--resume", "--overwrite", "--output")
    fails(
        go(*SMALL, "--resume", "--seed", 1),
        "--seed 1 ",
        "net.state.npz, which has 0",
    )
    cosine = (*SMALL, "--output", "cosine.npz", "--schedule", "cosine")
    assert go(*cosine)[0] == 0
    fails(go(*cosine, "--resume", "--epochs", 3), "--epochs 3", "cosine")
    synthetic.write_synthetic(tmp_path / "other", train=100, test=10, seed=5)
    capsys.readouterr()
    fails(
        go(*SMALL, "--resume", "--data-dir", "other"), "net.state.npz", "other images", "--data-dir"
    )
    assert (tmp_path / "net.npz").read_bytes() == before
    assert go(*SMALL, "--overwrite", "--seed", 1)[0] == 0
    assert model.load(tmp_path / "net.npz")[1]["settings"]["seed"] == 1


def test_nothing_to_resume_is_said(go, tmp_path):
    code, _, err = go(*SMALL, "--resume")
    assert code == 0
    assert err == "note: --resume has no effect: net.state.npz isn't there; a new run begins\n"
    fails(go(*SMALL, "--resume", "--epochs", 1), "--epochs 1 is below the 2 that the run in net.st")


def test_resuming_without_a_state_does_not_replace_a_checkpoint(go, tmp_path):
    assert go(*SMALL)[0] == 0
    (tmp_path / "net.state.npz").unlink()
    before = (tmp_path / "net.npz").read_bytes()
    fails(go(*SMALL, "--resume", "--seed", 1), "net.npz", "net.state.npz", "missing")
    assert (tmp_path / "net.npz").read_bytes() == before


def test_a_table_that_is_there_is_not_replaced_by_accident(go, tmp_path):
    (tmp_path / "net.csv").write_text("somebody's own")
    fails(go(*SMALL), "net.csv", "--overwrite", "--output")
    assert (tmp_path / "net.csv").read_text() == "somebody's own"


@pytest.mark.parametrize("name", ["net.csv", "net.state.npz", "net.npz"])
@pytest.mark.parametrize("through_a_link", [False, True])
def test_overwriting_spares_what_is_not_of_a_run(name, through_a_link, go, tmp_path):
    own = tmp_path / ("notes" if through_a_link else name)
    own.write_text("somebody's own")
    if through_a_link:
        (tmp_path / name).symlink_to("notes")
    fails(go(*SMALL, "--overwrite"), name, "isn't a file of a training", "--output")
    assert own.read_text() == "somebody's own"


@pytest.mark.parametrize("content", [b"", b"PK damaged"])
def test_overwriting_replaces_damaged_files_of_a_run(content, go, tmp_path):
    assert go(*SMALL)[0] == 0
    (tmp_path / "net.state.npz").write_bytes(content)
    (tmp_path / "net.csv").write_bytes(content[:0])
    assert go(*SMALL, "--overwrite")[0] == 0


def test_overwriting_leaves_nothing_of_the_old_run_to_resume(go, tmp_path):
    assert go(*SMALL)[0] == 0
    fails(go(*SMALL, "--overwrite", "--learning-rate", 1e30, "--no-batchnorm"), "epoch 1")
    assert not (tmp_path / "net.state.npz").exists()


def test_a_refused_setting_leaves_the_old_run(go, tmp_path):
    assert go(*SMALL)[0] == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    fails(go(*SMALL, "--overwrite", "--ema", 0.9, "--epochs", 1, "--batch-size", 900), "--ema 0.9")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# ---- Two at once ---------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--overwrite", "--resume", "--flip"])
def test_the_second_training_onto_one_output_says_who_is_there(flag, go, tmp_path):
    with locks.locked(tmp_path / "net.npz", "a training"):
        fails(go(*SMALL, flag), "net.npz: in use by a training, process")
    assert go(*SMALL, flag)[0] == 0


def test_two_trainings_at_once_end_as_one(start, tmp_path):
    flags = ("--output", "net.npz", "--hidden-size", 16, "--epochs", 8, "--overwrite")
    processes = [start(*flags) for _ in range(3)]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    codes = [process.returncode for process in processes]
    assert set(codes) <= {0, 2}
    assert 0 in codes
    for code, error in zip(codes, errors, strict=True):
        if code == 0:
            assert error == ""
        else:
            fails((code, "", error), "net.npz: in use by a")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "net.csv",
        "net.npz",
        "net.state.npz",
    ]
    assert len(table(tmp_path / "net.csv")["epoch"]) == 8


# ---- Broken states -------------------------------------------------------------------------------


def history(**columns):
    return lambda arrays, info: info["history"].update(columns)


def state(**values):
    return lambda arrays, info: info["state"].update(values)


def info(**values):
    return lambda arrays, info: info.update(values)


def array(name, change):
    return lambda arrays, info: arrays.update({name: change(arrays[name])})


PCG64 = {"bit_generator": "PCG64", "has_uint32": 0, "uinteger": 0}
STATES = {
    "misshapen": array("velocity.W2", lambda v: v[:, 1:]),
    "no velocity": lambda arrays, info: arrays.pop("velocity.W2"),
    "another array": lambda arrays, info: arrays.update(other=np.zeros(3)),
    "variance": array("weights.running_var1", lambda v: -v - 1),
    "best variance": array("best.running_var1", lambda v: -v - 1),
    "large": array("weights.W2", lambda v: v.astype(float) + 1e300),
    "words in the history": history(val_loss=["low", None]),
    "no history": history(**{name: [] for name in runs.HISTORY}),
    "uneven history": history(val_loss=[1.0]),
    "no seconds": history(seconds=[0, 0]),
    "seconds backwards": history(seconds=[-1.0, 1.0]),
    "true history": history(val_loss=[True, False]),
    "history of another kind": info(history=[1, 2]),
    "negative step": state(step=-1),
    "step": state(step=10**90),
    "fraction of a step": state(step=1.5),
    "true step": state(step=True),
    "no step": lambda arrays, info: info["state"].pop("step"),
    "no state": lambda arrays, info: info.pop("state"),
    "no generator": state(generator={"bit_generator": "PCG64"}),
    "another generator": state(generator={"bit_generator": "MT19937"}),
    "negative generator": state(generator=PCG64 | {"state": {"state": -1, "inc": 1}}),
    "large generator": state(generator=PCG64 | {"state": {"state": 10**90, "inc": 1}}),
    "words of a generator": state(generator="PCG64"),
    "no settings": lambda arrays, info: info.pop("settings"),
    "settings of another kind": info(settings=7),
    "generator that repeats itself": state(generator=PCG64 | {"state": {"state": 0, "inc": 0}}),
    "long accuracy": history(val_accuracy=[1e300, 0.5]),
    "long loss": history(train_loss=[1e300, 0.5]),
    "long settings": lambda arrays, info: info["settings"].update(seed="\x1b[31m" * 1000),
    "another version's setting": lambda arrays, info: info["settings"].update(colour=1),
    "missing setting": lambda arrays, info: info["settings"].pop("seed"),
    "no data": info(data={}),
    "other data": lambda arrays, info: info["data"].update(fingerprint="\x1b", name="\x1b[31m\n"),
}


@pytest.mark.parametrize("name", STATES)
def test_a_broken_state_is_one_line(name, go, tmp_path, recwarn):
    assert go(*SMALL, "--hidden-size", 4)[0] == 0
    before = (tmp_path / "net.npz").read_bytes()
    arrays, description = npz.read_npz(tmp_path / "net.state.npz")
    STATES[name](arrays, description)
    npz.write_npz(tmp_path / "net.state.npz", arrays, description)
    fails(go(*SMALL, "--hidden-size", 4, "--resume", "--epochs", 3), "net.state.npz")
    assert (tmp_path / "net.npz").read_bytes() == before
    assert not recwarn.list


def test_a_broken_state_file_is_one_line(go, tmp_path):
    assert go(*SMALL)[0] == 0
    state = tmp_path / "net.state.npz"
    whole = state.read_bytes()
    for content in (whole[:-50], b"", b"PK", (tmp_path / "net.npz").read_bytes()):
        state.write_bytes(content)
        fails(go(*SMALL, "--resume"), "net.state.npz", ";")
    state.unlink()
    os.mkfifo(state)
    fails(go(*SMALL, "--resume"), "net.state.npz: is a FIFO")


# ---- Bad luck ------------------------------------------------------------------------------------

PATCHES = "--window 16 --stride 16 --init patches --no-batchnorm"
DIVERGING = {  # flags, and the one to blame
    "--learning-rate 1e10": "--learning-rate 1e+10",
    "--learning-rate 1e30 --no-batchnorm": "--learning-rate 1e+30",
    "--learning-rate 1e300": "--learning-rate 1e+300",
    "--bn-lr-scale 1e38": "--bn-lr-scale 1e+38",
    "--bn-lr-scale 1e308": "--bn-lr-scale 1e+308",
    "--lambda-reg 2147483648": "--lambda-reg 2.14748e+09",
    "--lambda-reg 1e300": "--lambda-reg 1e+300",
    "--output-lr-scale 1e308": "--output-lr-scale 1e+308",
    "--window 16 --stride 16 --learning-rate 1e38": "--learning-rate 1e+38",
    f"{PATCHES} --output-lr-scale 1e38": "--output-lr-scale 1e+38",
    f"{PATCHES} --lambda-reg 1e300": "--lambda-reg 1e+300",
}


@pytest.mark.parametrize("flags", DIVERGING)
def test_a_run_that_diverges_ends_in_one_line(flags, go, tmp_path, recwarn):
    result = go(*SMALL, "--hidden-size", 8, "--epochs", 1, *flags.split())
    fails(result, "loss not finite in epoch 1", DIVERGING[flags], "no weights were saved")
    assert not (tmp_path / "net.npz").exists()
    assert not recwarn.list


@pytest.mark.parametrize("name", ["W1", "W2", "b2", "gamma1", "running_var1"])
def test_huge_weights_in_a_state_end_in_one_line(name, go, tmp_path, recwarn):
    assert go(*SMALL, "--epochs", 1)[0] == 0
    arrays, info = npz.read_npz(tmp_path / "net.state.npz")
    arrays[f"weights.{name}"][...] = 3e38
    npz.write_npz(tmp_path / "net.state.npz", arrays, info)
    code, _, err = go(*SMALL, "--resume")
    assert not recwarn.list
    if code:
        fails((code, "", err), "loss not finite in epoch 2")


@pytest.mark.parametrize("rate", [2.0**64, 1e308])
def test_a_huge_rate_of_a_checkpoint_ends_in_one_line(rate, go, tmp_path, recwarn):
    assert go(*SMALL)[0] == 0
    network, info = model.load(tmp_path / "net.npz")
    for batchnorm in (True, False):
        changed = {"learning_rate": rate, "batchnorm": batchnorm}
        network.save(tmp_path / "odd.npz", info | {"settings": info["settings"] | changed})
        fails(go("--like", "odd.npz"), "loss not finite in epoch 1", "--learning-rate")
        assert not recwarn.list


def test_a_run_that_diverges_later_keeps_its_best_weights(go, tmp_path):
    flags = (*SMALL, "--no-batchnorm", "--learning-rate", 0.001)
    assert go(*flags, "--epochs", 1)[0] == 0
    arrays, info = npz.read_npz(tmp_path / "net.state.npz")
    arrays["velocity.W1"][...] = 1e38
    npz.write_npz(tmp_path / "net.state.npz", arrays, info)
    before = (tmp_path / "net.npz").read_bytes()
    # No setting is above its default, and --bn-lr-scale has no effect.
    blamed = "--output-lr-scale 1 "
    fails(go(*flags, "--resume"), "epoch 2, step", blamed, "the best weights", "net.npz")
    assert (tmp_path / "net.npz").read_bytes() == before


def test_one_training_image_is_too_few_for_batchnorm(go, monkeypatch):
    monkeypatch.setattr(
        cifar10, "split", lambda labels, share, rng: (np.arange(1), np.arange(1, 5))
    )
    fails(go(*SMALL), "--batchnorm needs at least two training images")
    assert go(*SMALL, "--no-batchnorm")[0] == 0


def test_one_training_image_is_named_in_python_by_its_setting(data, monkeypatch):
    monkeypatch.setattr(
        cifar10, "split", lambda labels, share, rng: (np.arange(1), np.arange(1, 5))
    )
    with pytest.raises(SettingError, match="batchnorm=False"):
        train.Run(train.Settings(hidden_size=4), data)


def test_a_full_disk_is_one_line_and_the_previous_files_stay(go, start, tmp_path):
    assert go(*SMALL, "--epochs", 1)[0] == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    process = start(*SMALL, "--resume", preexec_fn=full)
    errors = process.communicate(timeout=120)[1]
    fails((process.returncode, "", errors), "net.", "choose another")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_output_that_cannot_be_written_is_one_line(go, tmp_path):
    (tmp_path / "file").write_text("")
    fails(go(*SMALL, "--output", "file/net.npz"), "file: ")
    fails(go(*SMALL, "--output", "x" * 300 + ".npz"), "longer than a file system allows")
    fails(go(*SMALL, "--output", "a\x1bb.npz"), "is not printable")
    fails(go(*SMALL, "--output", ""), "--output")


def test_bars_appear_on_a_terminal(start):
    ours, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = start(*SMALL, stderr=terminal)
    os.close(terminal)
    assert b"epoch 1:" in os.read(ours, 1000)
    assert "\n    2  " in process.communicate(timeout=120)[0]
    assert process.returncode == 0
    os.close(ours)


@pytest.mark.parametrize(("left", "said"), [(True, "net.npz"), (False, "no weights were saved")])
def test_a_diverged_run_names_the_checkpoint_only_if_there_is_one(left, said, data, tmp_path):
    output = tmp_path / "net.npz"
    run = train.train(Settings(hidden_size=4, epochs=2), data, output, stop_after=1)
    if not left:
        output.unlink()
    text = progress.diverged_text(run, train.effective(run.settings), {}, 0.01, "step 1", output)
    assert said in text


@pytest.mark.parametrize(
    ("changes", "blamed"),
    [
        ({"learning_rate": 50.0}, "--learning-rate 50 "),
        ({"output_lr_scale": 0.6}, "--output-lr-scale 0.6 "),
        ({"lambda_reg": 1.0}, "--lambda-reg 1 "),
    ],
)
def test_a_diverged_run_blames_what_is_furthest_above_its_recipe(changes, blamed, data):
    settings = train.resolve({"hidden_size": 4, **changes}, "quick")
    run = train.Run(settings, data, recipe="quick")
    assert f"most likely as {blamed}" in str(train.diverged(run, 0.01, "step 1", None))
