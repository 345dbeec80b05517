# ruff: noqa: E501
"""search.py: what it trains, what it leaves, and that nothing stops it for good."""

import contextlib
import csv
import os
import re
import shlex
import shutil
import statistics
import struct
import subprocess
import sys
from pathlib import Path

import model
import search
import train
from data import cifar10
from support import npz
from support.searching import results, workers

import numpy as np
import pytest
from conftest import ROOT, called
from searches import GRID, HALVING, TINY, command, left_in, rows, trial_files


@pytest.fixture(scope="module")
def search_py(synthetic_dir):
    """search_py(folder, *flags): the script's CompletedProcess, which has to succeed unless code says otherwise."""

    def call(folder, *flags, code=0):
        done = subprocess.run(
            command(folder, *flags, data=synthetic_dir), capture_output=True, text=True, timeout=120
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return call


@pytest.fixture
def idle(synthetic_dir, tmp_path, monkeypatch, capsys):
    """idle(*flags): what search.py prints, in this process; it may not train. Unless code says otherwise, it refuses
    the flags with one line on stderr, which is returned."""

    @contextlib.contextmanager
    def no_workers(function, jobs):
        yield lambda task: pytest.fail("training has begun")

    monkeypatch.setattr(workers, "local_workers", no_workers)

    def call(*flags, folder=tmp_path / "out", code=2):
        ended, out, err = called(
            search.main, capsys, "--data-dir", synthetic_dir, "--output-dir", folder, *flags
        )
        assert ended == code, err
        if code == 2:
            assert (
                err.count("\n") == 1
                and err.endswith("\n")
                and len(err) <= 301
                and err[:-1].isprintable()
            ), err
        return err or out

    return call


@pytest.fixture(scope="module")
def alone(search_py, tmp_path_factory):
    """A search of four trials that nothing disturbs: (folder, CompletedProcess)."""
    folder = tmp_path_factory.mktemp("alone")
    return folder, search_py(folder, *GRID, "--jobs", 1, "--threads", 1)


@pytest.fixture
def copy(alone, tmp_path):
    """A copy of that search's folder."""
    return Path(shutil.copytree(alone[0], tmp_path / "copy"))


# ---- A search -------------------------------------------------------------------------------------------------------


def test_what_a_search_leaves(alone):
    folder, done = alone
    table = rows(folder)
    with open(folder / "results.csv", newline="") as file:
        columns = next(csv.reader(file))
    assert columns == [
        "trial",
        "hidden_size",
        "learning_rate",
        "repeat",
        "seed",
        "status",
        "val_accuracy",
        "val_loss",
        "best_epoch",
        "epochs",
        "seconds",
        "test_accuracy",
        "checkpoint",
        "reason",
    ]
    assert {(row["hidden_size"], row["learning_rate"]) for row in table} == {
        (hidden, rate) for hidden in ("16", "24") for rate in ("0.01", "0.05")
    }
    assert {row["status"] for row in table} == {"ok"} and len({row["seed"] for row in table}) == 4
    accuracies = [float(row["val_accuracy"]) for row in table]
    assert accuracies == sorted(accuracies, reverse=True)
    assert all(row["test_accuracy"] == row["reason"] == "" for row in table)
    assert left_in(folder) == trial_files(table)
    assert sorted(folder.parent.glob("alone*.lock")) == []
    assert (folder / "best.npz").read_bytes() == (folder / table[0]["checkpoint"]).read_bytes()

    lines = done.stdout.splitlines()
    assert [line[:5] for line in lines[:4]] == [f"[{i}/4]" for i in range(1, 5)]
    assert (
        f"best trial {table[0]['trial']}: validation accuracy {accuracies[0]:.2%}, test accuracy"
        in lines[-2]
    )
    assert lines[-1].startswith("results in") and str(folder / "results.csv") in lines[-1]
    assert done.stderr == ""  # no bar where it would be noise in a file
    markdown = (folder / "results.md").read_text()
    assert (
        "| rank | hidden size | learning rate | validation | best epoch | epochs | seconds | status |"
        in markdown
    )
    assert (
        f"| 1 | {table[0]['hidden_size']} | {table[0]['learning_rate']} | {accuracies[0]:.2%} |"
        in markdown
    )


def test_a_trial_is_the_run_of_train_py_that_its_checkpoint_names(alone, run, tmp_path):
    row = rows(alone[0])[2]
    mine = npz.read_npz(alone[0] / row["checkpoint"])
    python, script, *flags = shlex.split(mine[1]["command"])
    assert (python, script) == ("python", "train.py")
    assert run(script, *flags, "--output", "x.npz").returncode == 0
    theirs = npz.read_npz(tmp_path / "x.npz")
    assert all(np.array_equal(mine[0][name], theirs[0][name]) for name in theirs[0])
    assert mine[1]["settings"] == theirs[1]["settings"]


def test_jobs_and_threads_do_not_change_the_table(alone, search_py, tmp_path):
    search_py(tmp_path, *GRID, "--jobs", 2, "--threads", 2)
    assert rows(tmp_path) == rows(alone[0])


def test_names_and_seeds_are_the_same_on_every_machine():
    trial = search.Trial.of(train.Settings(hidden_size=512), 1, 0)
    assert (trial.name, trial.settings.seed) == ("f840590254", 308167391)
    others = [search.Trial.of(train.Settings(hidden_size=512), *key) for key in ((2, 0), (1, 1))]
    assert others[0].name != trial.name and others[1].name == trial.name
    assert len({each.settings.seed for each in (trial, *others)}) == 3


def test_the_default_grid_holds_table_1():
    names, _, trials = search.plan(search.parse([]))
    assert names == ["hidden_size", "learning_rate", "lambda_reg"] and len(trials) == 8
    tried = {
        (t.settings.hidden_size, t.settings.learning_rate, t.settings.lambda_reg) for t in trials
    }
    assert tried >= {
        (512, 0.005, 0.005),
        (512, 0.01, 0.01),
        (1024, 0.005, 0.01),
        (1024, 0.01, 0.01),
    }
    assert {t.settings.epochs for t in trials} == {100}
    names, _, trials = search.plan(search.parse(["--hidden-size", "64", "--epochs", "3"]))
    assert names == ["learning_rate", "lambda_reg"] and {
        t.settings.hidden_size for t in trials
    } == {64}
    assert {t.settings.epochs for t in trials} == {3}
    *_, trials = search.plan(search.parse(["--no-flip", "--batchnorm", "--dropout", "0.1", "0.2"]))
    assert {(t.settings.flip, t.settings.batchnorm) for t in trials} == {(False, True)}


def test_booleans_choices_aliases_and_double_values(search_py, tmp_path):
    done = search_py(
        tmp_path,
        "--use_batchnorm",
        "true",
        "false",
        "--schedule",
        "cosine",
        "constant",
        "cosine",
        "--hidden_size=4",
        "--epochs",
        1,
        "--jobs",
        1,
    )
    found = sorted((row["batchnorm"], row["schedule"]) for row in rows(tmp_path))
    assert found == [
        (bn, schedule) for bn in ("false", "true") for schedule in ("constant", "cosine")
    ]
    assert "batchnorm" in done.stdout
    _, info = model.load(tmp_path / "best.npz")
    assert info["settings"]["schedule"] == rows(tmp_path)[0]["schedule"]


def test_repeats_rank_by_the_mean(search_py, tmp_path):
    done = search_py(tmp_path, "--hidden-size", 16, 32, "--epochs", 2, "--repeats", 3, "--jobs", 1)
    table = rows(tmp_path)
    assert [row["repeat"] for row in table] == ["1", "2", "3"] * 2 and len(
        {row["seed"] for row in table}
    ) == 6
    groups = [[float(row["val_accuracy"]) for row in table[i : i + 3]] for i in (0, 3)]
    means, spreads = (
        [statistics.fmean(each) for each in groups],
        [statistics.stdev(each) for each in groups],
    )
    assert means[0] >= means[1]
    for mean, spread in zip(means, spreads, strict=True):
        assert f"{100 * mean:.2f} ± {100 * spread:.2f}%" in done.stdout
        assert f"{100 * mean:.2f} ± {100 * spread:.2f}%" in (tmp_path / "results.md").read_text()
    best = max(table[:3], key=lambda row: float(row["val_accuracy"]))
    assert (tmp_path / "best.npz").read_bytes() == (tmp_path / best["checkpoint"]).read_bytes()


def test_report_test_adds_a_column_that_chooses_nothing(copy, alone, idle, synthetic_dir):
    shown = idle(*GRID, "--resume", "--report-test", folder=copy, code=0)
    assert "4 of 4 trials are in" in shown and "[1/4]" not in shown
    assert (
        "test (not used)" in shown
        and "not used for the choice" in (copy / "results.md").read_text()
    )
    data = cifar10.load("synthetic", synthetic_dir)
    for row in rows(copy):
        network, _ = model.load(copy / row["checkpoint"])
        assert (
            float(row["test_accuracy"]) == network.evaluate(data.test_images, data.test_labels)[1]
        )
    assert [row | {"test_accuracy": ""} for row in rows(copy)] == rows(alone[0])


def test_a_bar_shows_the_best_so_far(synthetic_dir, tmp_path):
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    subprocess.run(
        command(tmp_path, *TINY, data=synthetic_dir),
        stderr=end,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    os.close(end)
    shown = b""
    with contextlib.suppress(OSError):  # Linux's way to say that this was all
        while part := os.read(terminal, 65536):
            shown += part
    os.close(terminal)
    assert re.search(r"2/2.*best validation \d+\.\d\d%", shown.decode())


# ---- Random settings and successive halving -------------------------------------------------------------------------


def test_values_without_effect_beside_others_count_once():
    argv = "--batchnorm true false --bn-lr-scale 64 128"
    names, _, trials = search.plan(search.parse(argv.split()))
    assert names == ["batchnorm", "bn_lr_scale"]
    tried = [(trial.settings.batchnorm, trial.settings.bn_lr_scale) for trial in trials]
    assert tried == [(True, 64), (True, 128), (False, 128)]


def test_what_is_the_same_in_all_trials_is_kept_as_typed_even_where_some_ignore_it():
    for order in ("true false", "false true"):
        _, shared, trials = search.plan(
            search.parse(f"--batchnorm {order} --bn-lr-scale 1".split())
        )
        assert shared["bn_lr_scale"] == 1 and "batchnorm" not in shared
        assert {(t.settings.batchnorm, t.settings.bn_lr_scale) for t in trials} == {
            (True, 1),
            (False, 128),
        }


@pytest.mark.parametrize("values", ["10 20", "10:20"])
def test_a_random_setting_without_effect_in_any_draw_is_refused(values, idle):
    error = idle(*f"--random 2 --hidden-size 16 32 64 --whiten-dims {values}".split())
    assert "--whiten-dims 10 has no effect here" in error


def test_the_reports_grid_command():
    argv = "--mode grid_search --epochs 5 --use_batchnorm --no-use_dropout --activation relu --save_results"
    *_, trials = search.plan(search.parse(argv.split()))
    assert len(trials) == 8
    assert {(t.settings.batchnorm, t.settings.dropout, t.settings.epochs) for t in trials} == {
        (True, 0.0, 5)
    }


def test_random_draws_are_in_range_and_log_uniform():
    argv = (
        "--random 200 --learning-rate 1e-4:1e-1 --hidden-size 4:64 --batchnorm true false --seed {}"
    )
    names, _, trials = search.plan(search.parse(argv.format(1).split()))
    assert names == ["hidden_size", "batchnorm", "learning_rate"] and len(trials) == 200
    rates = np.array([t.settings.learning_rate for t in trials])
    assert rates.min() >= 1e-4 and rates.max() <= 1e-1
    assert np.histogram(np.log10(rates), bins=[-4, -3, -2, -1])[0].min() > 45
    sizes = {t.settings.hidden_size for t in trials}
    assert min(sizes) >= 4 and max(sizes) <= 64 and len(sizes) > 20
    assert {t.settings.batchnorm for t in trials} == {True, False}
    assert search.plan(search.parse(argv.format(1).split()))[-1] == trials
    assert search.plan(search.parse(argv.format(2).split()))[-1] != trials


def test_a_random_search_and_more_draws(search_py, tmp_path):
    flags = "--learning-rate", "1e-3:1e-1", "--hidden-size", 4, "--epochs", 1
    search_py(tmp_path, "--random", 2, *flags, "--jobs", 1)
    rates = {float(row["learning_rate"]) for row in rows(tmp_path)}
    *_, more = search.plan(search.parse(["--random", "3", *map(str, flags)]))
    assert [trial.settings.learning_rate in rates for trial in more] == [True, True, False]
    assert {trial.name for trial in more[:2]} == {row["trial"] for row in rows(tmp_path)}


@pytest.fixture(scope="module")
def halved(search_py, tmp_path_factory):
    folder = tmp_path_factory.mktemp("halved")
    return folder, search_py(folder, *HALVING)


def test_halving_stops_the_worse(halved, synthetic_dir, tmp_path):
    folder, done = halved
    table = rows(folder)
    assert [(row["status"], row["epochs"]) for row in table[:2]] == [("ok", "8"), ("stopped", "4")]
    assert [(row["status"], row["epochs"]) for row in table[2:]] == [("stopped", "2")] * 2
    assert "rung 1 of 3: 4 of 4 settings, up to epoch 2" in done.stdout
    assert not list(folder.glob("*.state.npz"))
    histories = [
        npz.read_npz(folder / row["checkpoint"])[1]["history"]["val_accuracy"] for row in table
    ]
    assert max(histories[1][:2]) >= max(max(history[:2]) for history in histories[2:])
    data = cifar10.load("synthetic", synthetic_dir)
    trial = search.Trial.of(
        train.Settings(
            hidden_size=int(table[0]["hidden_size"]),
            epochs=8,
            patience=0,
            learning_rate=float(table[0]["learning_rate"]),
        ),
        1,
        0,
    )
    whole = train.train(trial.settings, data, tmp_path / "whole.npz")
    assert whole.history["val_accuracy"] == histories[0]


COUNTS_EPOCHS = """
import contextlib, sys
from concurrent.futures import Future
sys.path.insert(0, sys.argv[1])
import search
from support import runs
from support.searching import workers

save_state, count = runs.save_state, 0

def counting(run, path):
    global count
    count += 1
    save_state(run, path)

@contextlib.contextmanager
def workers_in_this_process(function, jobs):
    def submit(task):
        future = Future()
        future.set_result(function(task))
        return future
    yield submit

runs.save_state, workers.local_workers = counting, workers_in_this_process
search.main(sys.argv[2:])
print(count)
"""


def test_halving_trains_no_epoch_twice(halved, synthetic_dir, tmp_path):
    _, _, *flags = command(tmp_path, *HALVING, data=synthetic_dir)
    done = subprocess.run(
        [sys.executable, "-c", COUNTS_EPOCHS, ROOT, *flags], capture_output=True, text=True
    )
    assert rows(tmp_path) == rows(halved[0]), done.stderr
    assert (
        int(done.stdout.split()[-1])
        == sum(int(row["epochs"]) for row in rows(tmp_path))
        == 8 + 4 + 2 + 2
    )


def test_halving_without_epochs_for_it_says_how_many_it_trains_to_the_end(search_py, tmp_path):
    grid = "--hidden-size", 4, 6, "--learning-rate", 0.01, 0.05, "--lambda-reg", 0, 0.01
    done = search_py(tmp_path, *grid, "--epochs", 2, "--halving")
    lines = done.stdout.splitlines()
    assert (
        lines[0].startswith("4 of the 8 settings will be trained to the end")
        and "--epochs 8 would" in lines[0]
    )
    assert lines[1] == "rung 1 of 2: 8 of 8 settings, up to epoch 1"
    assert sorted(row["status"] for row in rows(tmp_path)) == ["ok"] * 4 + ["stopped"] * 4


def test_rungs():
    assert search.halving_rungs(8, 100, 2) == [(12, 8), (25, 4), (50, 2), (100, 1)]
    assert search.halving_rungs(9, 90, 3) == [(10, 9), (30, 3), (90, 1)]
    assert search.halving_rungs(8, 3, 2) == [(1, 8), (3, 4)]
    assert search.halving_rungs(2, 1, 2) == [(1, 2)]


# ---- Gone on with, and replaced ----------------------------------------------------------------------------------


def test_a_changed_grid_runs_only_what_is_new(copy, alone, search_py, idle):
    flags = "--hidden-size", 24, 12, "--learning-rate", 0.01, "--epochs", 4, "--dropout", 0.5, 0.2
    done = search_py(copy, *flags, "--resume")
    assert "1 of 4 trials are in" in done.stdout and "[4/4]" in done.stdout
    table = rows(copy)
    assert len(table) == 4 + 3 and list(table[0])[1:4] == [
        "hidden_size",
        "learning_rate",
        "dropout",
    ]
    old = {row["trial"]: row for row in table}
    assert all(old[row["trial"]] == row | {"dropout": "0.5"} for row in rows(alone[0]))
    shown = idle(
        *GRID, "--resume", folder=copy, code=0
    )  # the first grid again: the same search, with a setting more
    assert "4 of 4 trials are in" in shown and rows(copy) == table


def test_a_search_grows_by_a_setting_that_some_of_its_trials_ignore(search_py, idle, tmp_path):
    flags = (
        "--hidden-size",
        8,
        "--epochs",
        1,
        "--threads",
        1,
        "--batchnorm",
        "true",
        "false",
        "--bn-lr-scale",
    )
    search_py(tmp_path, *flags, 1)
    found = {(row["batchnorm"], row["val_loss"]) for row in rows(tmp_path)}
    search_py(tmp_path, *flags, 1, 2, "--resume")
    table = rows(tmp_path)
    values = {(row["batchnorm"], row["bn_lr_scale"]) for row in table}
    assert values == {("true", "1.0"), ("true", "2.0"), ("false", "128.0")}
    assert found <= {(row["batchnorm"], row["val_loss"]) for row in table}
    idle(*flags, 1, "--resume", folder=tmp_path, code=0)
    assert rows(tmp_path) == table


def test_a_search_grows_though_a_setting_had_or_has_no_effect(tmp_path):
    def definition(flags):
        searched, settings, _ = search.plan(search.parse(flags.split()))
        same = {"data": {"fingerprint": "0", "name": "x"}, "seed": 0, "halving": False}
        return {"searched": searched, "settings": settings} | same

    old = definition("--recipe quick --hidden-size 8 16 --lambda-reg 0")
    new = definition("--recipe quick --hidden-size 8 16 --lambda-reg 0 0.001")
    assert (
        "hidden_lambda_scale" not in old["settings"] and new["settings"]["hidden_lambda_scale"] == 0
    )
    assert (
        results.merge(old, new, search.OPTIONS, tmp_path)[0]["settings"]["hidden_lambda_scale"] == 0
    )

    old = definition("--batchnorm false true --bn-lr-scale 1")
    new = definition("--batchnorm false --hidden-size 512 1024")
    assert old["settings"]["bn_lr_scale"] == 1 and "bn_lr_scale" not in new["settings"]
    assert results.merge(old, new, search.OPTIONS, tmp_path)[0]["settings"]["bn_lr_scale"] == 1


def test_overwrite_leaves_nothing_of_the_old_search(copy, search_py):
    (copy / "notes.txt").write_text("mine")
    search_py(copy, *TINY, "--overwrite", "--learning-rate", 0.01)
    assert left_in(copy) == {"notes.txt"} | trial_files(rows(copy)) and len(rows(copy)) == 2


# ---- Trials that fail -----------------------------------------------------------------------------------------------


def test_a_trial_that_diverges_is_a_row(search_py, idle, tmp_path):
    flags = "--lambda-reg", 0.01, "1e30", *TINY, "--hidden-size", 8, "--jobs", 1
    done = search_py(tmp_path, *flags)
    good, bad = rows(tmp_path)
    assert good["status"] == "ok" and bad["status"] == "diverged"
    assert bad["val_accuracy"] == bad["checkpoint"] == "" and bad["reason"].startswith("loss ")
    assert str(tmp_path) not in bad["reason"]
    assert "diverged: loss" in done.stdout and done.stderr == ""
    idle(*flags, "--resume", folder=tmp_path, code=0)
    assert rows(tmp_path) == [good, bad]


def test_all_trials_diverge(search_py, tmp_path):
    error = search_py(tmp_path, *TINY, "--lambda-reg", "1e30", code=2).stderr
    assert (
        error.count("\n") == 1
        and "no trial has left a network" in error
        and str(tmp_path / "results.csv") in error
    )


def test_a_trial_that_failed_is_tried_again(search_py, tmp_path):
    *_, trials = search.plan(search.parse(["--hidden-size", "4", "8", "--epochs", "1"]))
    obstacle = tmp_path / f"{trials[0].name}.npz"
    obstacle.mkdir()
    search_py(tmp_path, *TINY, "--jobs", 1)
    good, bad = rows(tmp_path)
    assert (
        good["status"] == "ok"
        and bad["status"] == "failed"
        and "directory" in bad["reason"].lower()
    )
    obstacle.rmdir()
    assert "1 of 2 trials are in" in search_py(tmp_path, *TINY, "--resume").stdout
    assert {row["status"] for row in rows(tmp_path)} == {"ok"} and good in rows(tmp_path)


# ---- Dask -----------------------------------------------------------------------------------------------------------


def test_two_dask_workers_make_the_same_table(alone, search_py, tmp_path):
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    )
    with cluster:
        done = search_py(tmp_path, *GRID, "--dask", cluster.scheduler_address)
        assert done.stderr == ""
    assert rows(tmp_path) == rows(alone[0])


def test_dask_is_missing(synthetic_dir, tmp_path):
    (tmp_path / "distributed.py").write_text("raise ImportError")
    done = subprocess.run(
        command(tmp_path / "out", *TINY, "--dask", "tcp://127.0.0.1:9", data=synthetic_dir),
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert not (tmp_path / "out").exists()
    assert done.returncode == 2
    assert (
        done.stderr
        == 'search.py: error: --dask needs Dask; install it with: pip install "dask[distributed]"\n'
    )


def test_no_dask_scheduler(idle):
    pytest.importorskip("distributed")
    assert "--dask nowhere: no scheduler answers there" in idle(*TINY, "--dask", "nowhere")


# ---- What is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--hidden-size", "argument --hidden-size: expected at least one argument"),
        ("--hidden-size 0 8", "--hidden-size 0 must be at least 1"),
        ("--hidden-size 8 x", "argument --hidden-size: 'x' is not a whole number or LOW:HIGH"),
        ("--dropout 0.5 1", "--dropout 1.0 must be below 0.998"),
        ("--batchnorm yes", "'yes' is not true or false"),
        ("--no-batchnorm --bn-lr-scale 2", "--bn-lr-scale 2.0 has no effect here"),
        ("--batchnorm false --bn-lr-scale 1 2", "--bn-lr-scale 1.0 has no effect here"),
        ("--epochs 3 4 --patience 5", "--patience 5 has no effect here"),
        ("--schedule cosine linear", "--schedule linear must be one of report, cosine, constant"),
        ("--learning-rate 0.1:0.01 --random 3", "a range is LOW:HIGH with 0 < LOW < HIGH"),
        ("--learning-rate 0:1 --random 3", "a range is LOW:HIGH"),
        ("--learning-rate 1:2:3 --random 3", "'1:2:3' is not a number or LOW:HIGH"),
        ("--learning-rate 1e-4:1e-1", "--learning-rate 0.0001:0.1 is a range: give --random N"),
        ("--learning-rate 1e-4:1e-1 1 --random 3", "--learning-rate 0.0001:0.1 1.0 mixes a range"),
        (
            "--hidden-size 4:1000000000000000000000000000 --random 3",
            "--hidden-size 1000000000000000000000000000 must",
        ),
        ("--dropout 0.1:1e27 --random 3", "--dropout 1e+27 must be below"),
        (f"--epochs 1:1{'0' * 400} --random 3", "a range is LOW:HIGH"),
        (f"--epochs {'9' * 5000} 3", "is not a whole number or LOW:HIGH"),
        (
            "--hidden-size 4 8 --random 3",
            "--random 3: the values given make only 2 different settings",
        ),
        (
            "--hidden-size 4:6 --random 4",
            "--random 4: the values given make only 3 different settings",
        ),
        ("--dropout 0.1:0.10001 --random 9000", "the values given make only 1 different settings"),
        ("--random 0", "argument --random: '0' is no integer from 1"),
        (
            "--random 100000",
            "100,000 settings with --repeats 1: 100,000 trials, and 10,000 is the limit",
        ),
        ("--repeats 100000000", "8 settings with --repeats 100,000,000: 800,000,000 trials"),
        ("--jobs 0", "argument --jobs: '0' is no integer from 1"),
        (
            "--jobs 9223372036854775808",
            "argument --jobs: '9223372036854775808' is no integer from 1",
        ),
        ("--threads 0", "argument --threads: '0' is no integer from 1"),
        ("--repeats 0", "argument --repeats: '0' is no integer from 1"),
        ("--seed -1", "argument --seed: '-1' is no integer from 0"),
        ("--eta 3", "--eta 3 does nothing without --halving"),
        ("--eta 1 --halving", "argument --eta: '1' is no integer from 2"),
        ("--halving --epochs 1 2", "--epochs 1 2 must be one value with --halving"),
        (
            "--halving --repeats 2 --hidden-size 4 --learning-rate 0.1 --lambda-reg 0",
            "--halving does nothing with a",
        ),
        (
            "--hidden-size 4 --learning-rate 0.1 --lambda-reg 0",
            "nothing to search: this is a single trial",
        ),
        ("--dropout 0.2 0.5 --no-use-dropout", "--dropout 0.2 0.5 contradicts --no-use-dropout"),
        ("--validation-share 0.1 0", "validation share 0.0"),
        ("--jobs 2 --dask tcp://127.0.0.1:1", "not allowed with argument"),
        ("--resume --overwrite", "not allowed with argument"),
        ("--hiden-size 4 8", "did you mean --hidden-size?"),
        ("--mode train", "argument --mode: invalid choice: 'train'"),
        ("--recipe best", "nothing to search"),
    ],
)
def test_bad_input_is_refused_before_training(flags, message, idle, tmp_path):
    assert message in idle(*flags.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            "",
            "results.csv: there is a search already; go on with it by --resume, replace it by --overwrite",
        ),
        ("--resume --epochs 9", "--epochs 9 differs from the search in"),
        ("--resume --batchnorm false", "batchnorm differs from the search in"),
        ("--resume --seed 1", "--seed 1 differs from the search in"),
        ("--resume --output-dir /", "argument --output-dir: /: is no place for results"),
        ("--resume --halving", "--halving: what is stopped depends on all the trials"),
    ],
)
def test_another_search_is_idle(flags, message, alone, idle):
    before = {file: file.stat().st_mtime_ns for file in alone[0].iterdir()}
    assert message in idle(*GRID, *flags.split(), folder=alone[0])
    assert {file: file.stat().st_mtime_ns for file in alone[0].iterdir()} == before


def test_a_best_npz_of_someone_else_stays(idle, tmp_path):
    (tmp_path / "best.npz").write_bytes(b"mine")
    assert "best.npz: there is a search already" in idle(*TINY, folder=tmp_path)
    assert "search.json: is missing; give --overwrite" in idle(*TINY, "--resume", folder=tmp_path)


def test_a_folder_that_cannot_be(idle, tmp_path):
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in idle(*TINY, folder=tmp_path / "file")


def test_help_teaches(run):
    text = " ".join(run("search.py", "--help").stdout.split())
    for part in (
        "--hidden-size N [N ...]",
        "the report's grid: 512 1024",
        "--random N",
        "LOW:HIGH",
        "--halving",
        "Jamieson & Talwalkar 2016",
        "(default: 2, as in the paper)",
        "--dask ADDRESS",
    ):
        assert part in text
