"""search.py: what it trains, what it leaves, and that nothing stops it for good."""

import contextlib
import csv
import json
import os
import random
import re
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path

import model
import search
import train
from data import cifar10

import numpy as np
import pytest

ROOT = Path(search.__file__).resolve().parent
GRID = ("--hidden-size", 32, 48, "--learning-rate", 0.01, 0.05, "--epochs", 6)
TINY = ("--hidden-size", 4, 8, "--epochs", 1)


@pytest.fixture(scope="module")
def search_py(synthetic_dir):
    """search_py(folder, *flags): the script's CompletedProcess, which has to succeed unless code says otherwise."""

    def call(folder, *flags, code=0):
        done = subprocess.run(command(folder, *flags, data=synthetic_dir), capture_output=True, text=True, timeout=120)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return call


def command(folder, *flags, data):
    args = [sys.executable, ROOT / "search.py", "--data-dir", data, "--output-dir", folder, *flags]
    return [str(arg) for arg in args]


@pytest.fixture
def idle(synthetic_dir, tmp_path, monkeypatch, capsys):
    """idle(*flags): what search.py prints, in this process; it may not train. Unless code says otherwise, it refuses
    the flags with one line on stderr, which is returned."""

    @contextlib.contextmanager
    def no_workers(jobs):
        yield lambda task: pytest.fail("training has begun")

    monkeypatch.setattr(search, "local_workers", no_workers)

    def call(*flags, folder=tmp_path / "out", code=2):
        argv = [str(flag) for flag in ("--data-dir", synthetic_dir, "--output-dir", folder, *flags)]
        try:
            ended = cifar10.command(search.main, argv)
        except SystemExit as end:  # argparse's
            ended = end.code
        printed = capsys.readouterr()
        assert ended == code and printed.err.count("\n") == (code == 2), printed.err
        return printed.err or printed.out

    return call


def rows(folder):
    """results.csv without the seconds, which differ from run to run."""
    with open(folder / "results.csv", newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


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
    assert columns == ["trial", "hidden_size", "learning_rate", "repeat", "seed", "status", "val_accuracy", "val_loss",
                       "best_epoch", "epochs", "seconds", "test_accuracy", "checkpoint", "reason"]  # fmt: skip
    assert {(row["hidden_size"], row["learning_rate"]) for row in table} == {
        (hidden, rate) for hidden in ("32", "48") for rate in ("0.01", "0.05")
    }
    assert {row["status"] for row in table} == {"ok"} and len({row["seed"] for row in table}) == 4
    accuracies = [float(row["val_accuracy"]) for row in table]
    assert accuracies == sorted(accuracies, reverse=True)
    assert all(row["test_accuracy"] == row["reason"] == "" for row in table)
    files = {"results.csv", "results.md", "search.json", "best.npz", *(row["checkpoint"] for row in table)}
    assert {file.name for file in folder.iterdir()} == files
    assert (folder / "best.npz").read_bytes() == (folder / table[0]["checkpoint"]).read_bytes()

    lines = done.stdout.splitlines()
    assert [line[:5] for line in lines[:4]] == [f"[{i}/4]" for i in range(1, 5)]
    assert f"best trial {table[0]['trial']}: validation accuracy {accuracies[0]:.2%}, test accuracy" in lines[-2]
    assert lines[-1].startswith("results in") and str(folder / "results.csv") in lines[-1]
    assert done.stderr == ""  # no bar where it would be noise in a file
    markdown = (folder / "results.md").read_text()
    assert "| rank | hidden size | learning rate | validation | best epoch | epochs | seconds | status |" in markdown
    assert f"| 1 | {table[0]['hidden_size']} | {table[0]['learning_rate']} | {accuracies[0]:.2%} |" in markdown


def test_a_trial_is_a_run_of_train_py(alone, run, synthetic_dir, tmp_path):
    row = rows(alone[0])[2]
    flags = [f"--{name}={row[name.replace('-', '_')]}" for name in ("hidden-size", "learning-rate", "seed")]
    run("train.py", *flags, "--epochs", 6, "--data-dir", synthetic_dir, "--output", "x.npz")
    mine, theirs = (model.read_npz(path) for path in (alone[0] / row["checkpoint"], tmp_path / "x.npz"))
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
    names, trials = search.plan(search.parse([]))
    assert names == ["hidden_size", "learning_rate", "lambda_reg"] and len(trials) == 8
    tried = {(t.settings.hidden_size, t.settings.learning_rate, t.settings.lambda_reg) for t in trials}
    assert tried >= {(512, 0.005, 0.005), (512, 0.01, 0.01), (1024, 0.005, 0.01), (1024, 0.01, 0.01)}
    assert {t.settings.epochs for t in trials} == {100}
    names, trials = search.plan(search.parse(["--hidden-size", "64", "--epochs", "3"]))
    assert names == ["learning_rate", "lambda_reg"] and {t.settings.hidden_size for t in trials} == {64}
    assert {t.settings.epochs for t in trials} == {3}
    _, trials = search.plan(search.parse(["--no-flip", "--batchnorm", "--dropout", "0.1", "0.2"]))
    assert {(t.settings.flip, t.settings.batchnorm) for t in trials} == {(False, True)}


def test_booleans_choices_aliases_and_double_values(search_py, tmp_path):
    done = search_py(tmp_path, "--use_batchnorm", "true", "false", "--schedule", "cosine", "constant", "cosine",
                     "--hidden_size=4", "--epochs", 1, "--jobs", 1)  # fmt: skip
    found = sorted((row["batchnorm"], row["schedule"]) for row in rows(tmp_path))
    assert found == [(bn, schedule) for bn in ("false", "true") for schedule in ("constant", "cosine")]
    assert "batchnorm" in done.stdout
    _, info = model.load(tmp_path / "best.npz")
    assert info["settings"]["schedule"] == rows(tmp_path)[0]["schedule"]


def test_repeats_rank_by_the_mean(search_py, tmp_path):
    done = search_py(tmp_path, "--hidden-size", 16, 32, "--epochs", 2, "--repeats", 3, "--jobs", 1)
    table = rows(tmp_path)
    assert [row["repeat"] for row in table] == ["1", "2", "3"] * 2 and len({row["seed"] for row in table}) == 6
    groups = [[float(row["val_accuracy"]) for row in table[i : i + 3]] for i in (0, 3)]
    means, spreads = [statistics.fmean(each) for each in groups], [statistics.stdev(each) for each in groups]
    assert means[0] >= means[1]
    for mean, spread in zip(means, spreads, strict=True):
        assert f"{100 * mean:.2f} +- {100 * spread:.2f}%" in done.stdout
        assert f"{100 * mean:.2f} ± {100 * spread:.2f}%" in (tmp_path / "results.md").read_text()
    best = max(table[:3], key=lambda row: float(row["val_accuracy"]))
    assert (tmp_path / "best.npz").read_bytes() == (tmp_path / best["checkpoint"]).read_bytes()


def test_report_test_adds_a_column_that_chooses_nothing(copy, alone, idle, synthetic_dir):
    shown = idle(*GRID, "--resume", "--report-test", folder=copy, code=0)
    assert "4 of 4 trials are in" in shown and "[1/4]" not in shown
    assert "test (not used)" in shown and "not used for the choice" in (copy / "results.md").read_text()
    data = cifar10.load("synthetic", synthetic_dir)
    for row in rows(copy):
        network, _ = model.load(copy / row["checkpoint"])
        assert float(row["test_accuracy"]) == network.evaluate(data.test_images, data.test_labels)[1]
    assert [row | {"test_accuracy": ""} for row in rows(copy)] == rows(alone[0])


def test_a_bar_shows_the_best_so_far(synthetic_dir, tmp_path):
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    subprocess.run(command(tmp_path, *TINY, data=synthetic_dir), stderr=end, stdout=subprocess.DEVNULL, check=True)
    os.close(end)
    shown = b""
    with contextlib.suppress(OSError):  # Linux's way to say that this was all
        while part := os.read(terminal, 65536):
            shown += part
    os.close(terminal)
    assert re.search(r"2/2.*best validation \d+\.\d\d%", shown.decode())


# ---- Random settings and successive halving -------------------------------------------------------------------------


def test_random_draws_are_in_range_and_log_uniform():
    argv = "--random 200 --learning-rate 1e-4:1e-1 --hidden-size 4:64 --batchnorm true false --seed {}"
    names, trials = search.plan(search.parse(argv.format(1).split()))
    assert names == ["hidden_size", "batchnorm", "learning_rate"] and len(trials) == 200
    rates = np.array([t.settings.learning_rate for t in trials])
    assert rates.min() >= 1e-4 and rates.max() <= 1e-1
    assert np.histogram(np.log10(rates), bins=[-4, -3, -2, -1])[0].min() > 45
    sizes = {t.settings.hidden_size for t in trials}
    assert min(sizes) >= 4 and max(sizes) <= 64 and len(sizes) > 20
    assert {t.settings.batchnorm for t in trials} == {True, False}
    assert search.plan(search.parse(argv.format(1).split()))[1] == trials
    assert search.plan(search.parse(argv.format(2).split()))[1] != trials


def test_a_random_search_and_more_draws(search_py, tmp_path):
    flags = "--learning-rate", "1e-3:1e-1", "--hidden-size", 4, "--epochs", 1
    search_py(tmp_path, "--random", 2, *flags, "--jobs", 1)
    rates = {float(row["learning_rate"]) for row in rows(tmp_path)}
    _, more = search.plan(search.parse(["--random", "3", *map(str, flags)]))
    assert [trial.settings.learning_rate in rates for trial in more] == [True, True, False]
    assert {trial.name for trial in more[:2]} == {row["trial"] for row in rows(tmp_path)}


HALVING = ("--hidden-size", 16, 32, "--learning-rate", 0.01, 0.02, "--epochs", 8, "--patience", 0, "--halving")


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
    histories = [model.read_npz(folder / row["checkpoint"])[1]["history"]["val_accuracy"] for row in table]
    assert max(histories[1][:2]) >= max(max(history[:2]) for history in histories[2:])
    data = cifar10.load("synthetic", synthetic_dir)
    trial = search.Trial.of(train.Settings(hidden_size=int(table[0]["hidden_size"]), epochs=8, patience=0,
                                           learning_rate=float(table[0]["learning_rate"])), 1, 0)  # fmt: skip
    whole = train.train(trial.settings, data, tmp_path / "whole.npz")
    assert whole.history["val_accuracy"] == histories[0]


COUNTS_EPOCHS = """
import contextlib, sys
sys.path.insert(0, sys.argv[1])
import search, train

save_state, count = train.Run.save_state, 0

def counting(run, path):
    global count
    count += 1
    save_state(run, path)

@contextlib.contextmanager
def workers_in_this_process(jobs):
    def submit(task):
        future = search.Future()
        future.set_result(search.run_trial(task))
        return future
    yield submit

train.Run.save_state, search.local_workers = counting, workers_in_this_process
search.main(sys.argv[2:])
print(count)
"""


def test_halving_trains_no_epoch_twice(halved, synthetic_dir, tmp_path):
    _, _, *flags = command(tmp_path, *HALVING, data=synthetic_dir)
    done = subprocess.run([sys.executable, "-c", COUNTS_EPOCHS, ROOT, *flags], capture_output=True, text=True)
    assert rows(tmp_path) == rows(halved[0]), done.stderr
    assert int(done.stdout.split()[-1]) == sum(int(row["epochs"]) for row in rows(tmp_path)) == 8 + 4 + 2 + 2


def test_rungs():
    assert search.halving_rungs(8, 100, 2) == [12, 25, 50, 100]
    assert search.halving_rungs(9, 90, 3) == [10, 30, 90]
    assert search.halving_rungs(8, 3, 2) == [1, 3]
    assert search.halving_rungs(2, 1, 2) == [1]


# ---- Stopped, killed, resumed ---------------------------------------------------------------------------------------


def start(folder, *flags, data):
    return subprocess.Popen(
        command(folder, *flags, data=data), start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def wait_until_training(folder, process):
    """Wait until a worker has written something after the start, or all is done."""
    began = time.time()
    while process.poll() is None:
        with contextlib.suppress(FileNotFoundError):  # a state goes when its trial is done
            if any(path.stat().st_mtime > began for path in folder.glob("[0-9a-f]*.npz")):
                return
        assert time.time() < began + 60
        time.sleep(0.01)


@pytest.mark.skipif(os.name == "nt", reason="needs process groups")
@pytest.mark.parametrize("flags", [GRID, HALVING], ids=["grid", "halving"])
def test_killed_twice_and_resumed(flags, alone, halved, search_py, synthetic_dir, tmp_path):
    for _ in range(2):
        process = start(tmp_path, *flags, "--jobs", 2, "--resume", data=synthetic_dir)
        wait_until_training(tmp_path, process)
        time.sleep(random.uniform(0, 0.3))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    done = rows(tmp_path) if (tmp_path / "results.csv").exists() else []
    kept = {row["checkpoint"]: (tmp_path / row["checkpoint"]).stat().st_mtime_ns for row in done}
    search_py(tmp_path, *flags, "--resume")
    folder = alone[0] if flags is GRID else halved[0]
    assert rows(tmp_path) == rows(folder)
    assert all((tmp_path / name).stat().st_mtime_ns == written for name, written in kept.items())
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in folder.iterdir()}


@pytest.mark.skipif(os.name == "nt", reason="needs process groups")
@pytest.mark.parametrize("to_all", [True, False], ids=["terminal", "process"])
def test_ctrl_c(to_all, synthetic_dir, tmp_path):
    process = start(tmp_path, *GRID, "--epochs", 300, "--patience", 0, data=synthetic_dir)
    wait_until_training(tmp_path, process)
    began = time.monotonic()
    (os.killpg if to_all else os.kill)(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 130 and time.monotonic() - began < 5
    assert len(error.strip().splitlines()) == 1 and "python search.py" in error and error.strip().endswith("--resume")
    assert not list(tmp_path.glob(".*.npy"))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the worker in /proc")
def test_a_worker_that_is_killed(alone, synthetic_dir, tmp_path):
    process = start(tmp_path, *GRID, "--jobs", 1, data=synthetic_dir)
    while not (tmp_path / "results.csv").exists():
        assert process.poll() is None
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    worker = next(pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(int(worker), signal.SIGKILL)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 2 and error.count("\n") == 1
    assert "a worker process was killed" in error and "--resume" in error
    assert rows(tmp_path) and all(row in rows(alone[0]) for row in rows(tmp_path))


def test_workers_end_with_the_search(synthetic_dir, tmp_path):
    process = start(tmp_path, *GRID, "--epochs", 300, "--patience", 0, data=synthetic_dir)
    wait_until_training(tmp_path, process)
    process.kill()
    process.communicate(timeout=5)  # ends when the last process that holds the pipes does


def test_a_changed_grid_runs_only_what_is_new(copy, alone, search_py, idle):
    done = search_py(copy, "--hidden-size", 32, 16, "--learning-rate", 0.01, "--epochs", 6, "--dropout", 0.5, 0.2,
                     "--resume")  # fmt: skip
    assert "1 of 4 trials are in" in done.stdout and "[4/4]" in done.stdout
    table = rows(copy)
    assert len(table) == 4 + 3 and list(table[0])[1:4] == ["hidden_size", "dropout", "learning_rate"]
    old = {row["trial"]: row for row in table}
    assert all(old[row["trial"]] == row | {"dropout": "0.5"} for row in rows(alone[0]))
    shown = idle(*GRID, "--resume", folder=copy, code=0)  # the first grid again: the same search, with a setting more
    assert "4 of 4 trials are in" in shown and rows(copy) == table


def test_overwrite_leaves_nothing_of_the_old_search(copy, search_py):
    (copy / "notes.txt").write_text("mine")
    search_py(copy, *TINY, "--overwrite", "--learning-rate", 0.01)
    names = {file.name for file in copy.iterdir()}
    assert names == {"results.csv", "results.md", "search.json", "best.npz", "notes.txt",
                     *(row["checkpoint"] for row in rows(copy))}  # fmt: skip
    assert len(rows(copy)) == 2


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
    assert error.count("\n") == 1 and "no trial has left a network" in error and str(tmp_path / "results.csv") in error


def test_a_trial_that_failed_is_tried_again(search_py, tmp_path):
    _, trials = search.plan(search.parse(["--hidden-size", "4", "8", "--epochs", "1"]))
    obstacle = tmp_path / f"{trials[0].name}.npz"
    obstacle.mkdir()
    search_py(tmp_path, *TINY, "--jobs", 1)
    good, bad = rows(tmp_path)
    assert good["status"] == "ok" and bad["status"] == "failed" and "directory" in bad["reason"].lower()
    obstacle.rmdir()
    assert "1 of 2 trials are in" in search_py(tmp_path, *TINY, "--resume").stdout
    assert {row["status"] for row in rows(tmp_path)} == {"ok"} and good in rows(tmp_path)


# ---- Dask -----------------------------------------------------------------------------------------------------------


def test_two_dask_workers_make_the_same_table(alone, search_py, tmp_path):
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with cluster:
        done = search_py(tmp_path, *GRID, "--dask", cluster.scheduler_address)
        assert done.stderr == ""
    assert rows(tmp_path) == rows(alone[0])


def test_dask_is_missing(synthetic_dir, tmp_path):
    (tmp_path / "distributed.py").write_text("raise ImportError")
    done = subprocess.run(command(tmp_path / "out", *TINY, "--dask", "tcp://127.0.0.1:9", data=synthetic_dir),
                          capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(tmp_path)})  # fmt: skip
    assert not (tmp_path / "out").exists()
    assert done.returncode == 2
    assert done.stderr == 'search.py: error: --dask needs Dask; install it with: pip install "dask[distributed]"\n'


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
        ("--no-mirror --no-batchnorm --bn-lr-scale 2", "--bn-lr-scale 2.0 does nothing"),
        ("--schedule cosine linear", "--schedule linear must be one of report, cosine, constant"),
        ("--learning-rate 0.1:0.01 --random 3", "a range is LOW:HIGH with 0 < LOW < HIGH"),
        ("--learning-rate 0:1 --random 3", "a range is LOW:HIGH"),
        ("--learning-rate 1:2:3 --random 3", "'1:2:3' is not a number or LOW:HIGH"),
        ("--learning-rate 1e-4:1e-1", "--learning-rate 0.0001:0.1 is a range: give --random N"),
        ("--learning-rate 1e-4:1e-1 1 --random 3", "--learning-rate 0.0001:0.1 1.0 mixes a range"),
        ("--hidden-size 4 8 --random 3", "--random 3: the values given make only 2 different settings"),
        ("--random 0", "--random 0: must be at least 1"),
        ("--jobs 0", "--jobs 0: must be at least 1"),
        ("--threads 0", "--threads 0: must be at least 1"),
        ("--repeats 0", "--repeats 0: must be at least 1"),
        ("--seed -1", "--seed -1: must be at least 0"),
        ("--eta 3", "--eta 3 does nothing without --halving"),
        ("--eta 1 --halving", "--eta 1: must be at least 2"),
        ("--halving --epochs 1 2", "--epochs 1 2 must be one value with --halving"),
        ("--halving --repeats 2 --hidden-size 4 --learning-rate 0.1 --lambda-reg 0", "--halving does nothing with a"),
        ("--hidden-size 4 --learning-rate 0.1 --lambda-reg 0", "nothing to search: this is a single trial"),
        ("--batchnorm false --bn-lr-scale 1 2", "--bn-lr-scale 1.0 does nothing"),
        ("--validation-share 0.1 0", "validation share 0.0"),
        ("--jobs 2 --dask tcp://127.0.0.1:1", "not allowed with argument"),
        ("--resume --overwrite", "not allowed with argument"),
        ("--hiden-size 4 8", "did you mean --hidden-size?"),
        ("--recipe best", "nothing to search"),
    ],
)
def test_bad_input_is_refused_before_training(flags, message, idle, tmp_path):
    assert message in idle(*flags.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("", "results.csv: there is a search already; go on with it by --resume, replace it by --overwrite"),
        ("--resume --epochs 9", "--epochs 9 differs from the search in"),
        ("--resume --batchnorm false", "batchnorm differs from the search in"),
        ("--resume --seed 1", "--seed 1 differs from the search in"),
        ("--resume --halving", "--halving: what is stopped depends on all the trials"),
    ],
)
def test_another_search_is_idle(flags, message, alone, idle):
    before = {file: file.stat().st_mtime_ns for file in alone[0].iterdir()}
    assert message in idle(*GRID, *flags.split(), folder=alone[0])
    assert {file: file.stat().st_mtime_ns for file in alone[0].iterdir()} == before


def test_other_images_and_damaged_files_are_idle(copy, idle):
    path, table = copy / "search.json", copy / "results.csv"
    whole, text = json.loads(path.read_text()), table.read_text()
    path.write_text(json.dumps(whole | {"data": {"name": "cifar10", "fingerprint": "0"}}))
    assert "a search on other images (cifar10)" in idle(*GRID, "--resume", folder=copy)
    for damage in (b"{", b"[]", b"{}", b"\xff"):
        path.write_bytes(damage)
        assert "search.json: missing or damaged" in idle(*GRID, "--resume", folder=copy)
    path.unlink()
    assert "search.json: missing or damaged" in idle(*GRID, "--resume", folder=copy)
    path.write_text(json.dumps(whole))
    for damage in ("a,b\n1,2\n", text + "zz,64\n", text.replace(",ok,", ",ok,x"), "\0", ""):
        table.write_text(damage)
        assert "results.csv: not a table of this search" in idle(*GRID, "--resume", folder=copy)


def test_a_best_npz_of_someone_else_stays(idle, tmp_path):
    (tmp_path / "best.npz").write_bytes(b"mine")
    assert "best.npz: there is a search already" in idle(*TINY, folder=tmp_path)
    assert "search.json: missing or damaged" in idle(*TINY, "--resume", folder=tmp_path)


def test_a_folder_that_cannot_be(idle, tmp_path):
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in idle(*TINY, folder=tmp_path / "file")


def test_help_teaches(run):
    text = run("search.py", "--help").stdout
    for part in ("--hidden-size N [N ...]", "the report's grid: 512 1024", "--random N", "LOW:HIGH", "--halving",
                 "Jamieson & Talwalkar 2016", "(default: 2, as in the paper)", "--dask ADDRESS"):  # fmt: skip
        assert part in text
