"""search.py: the plan, the trials, the table and what a search leaves."""

import contextlib
import csv
import os
import re
import shlex
import statistics
import struct
import subprocess
from functools import partial

import model
import search
import train
from data import cifar10
from support import npz, runs
from support.searching import tables, values, workers
from support.settings import SettingError

import numpy as np
import pytest
from helpers import ROOT
from searches import (
    GRID,
    HALVING,
    TIMEOUT,
    TINY,
    command,
    left_in,
    no_workers,
    refusal,
    rows,
    run_here,
    trial_files,
    workers_in_this_process,
)


def plan(flags=""):
    """The plan of a command line."""
    return search.make_plan(search.parse(flags.split()))


def tried(flags, *names):
    """The values of these settings in each trial of a command line."""
    return [tuple(getattr(t.settings, name) for name in names) for t in plan(flags).trials]


@pytest.fixture(scope="module")
def search_py(synthetic_dir):
    """search_py(folder, *flags): the script's CompletedProcess; it has to end with this code."""

    def call(folder, *flags, code=0):
        argv = command(folder, *flags, data=synthetic_dir)
        done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return call


@pytest.fixture
def refused(synthetic_dir, tmp_path, monkeypatch, capsys):
    """refused(*flags): the line on stderr with which search.py ends before training."""
    monkeypatch.setattr(workers, "local_workers", no_workers)

    return partial(refusal, capsys, synthetic_dir, tmp_path / "out")


@pytest.fixture
def in_process(synthetic_dir, monkeypatch, capsys):
    """in_process(folder, *flags): a search in this process; its exit code, stdout and stderr."""
    monkeypatch.setattr(workers, "local_workers", workers_in_this_process)

    return partial(run_here, capsys, synthetic_dir)


@pytest.fixture(scope="module")
def alone(search_py, tmp_path_factory):
    """A search of four trials that nothing disturbs: (folder, CompletedProcess)."""
    folder = tmp_path_factory.mktemp("alone")
    return folder, search_py(folder, *GRID, "--jobs", 1)


# ---- A search ---------------------------------------------------------------------------------


def test_the_table_has_a_row_for_each_combination(alone):
    found = {(row["hidden_size"], row["learning_rate"]) for row in rows(alone[0])}
    assert found == {("16", "0.01"), ("16", "0.05"), ("24", "0.01"), ("24", "0.05")}


def test_the_columns_of_the_table(alone):
    with open(alone[0] / "results.csv", newline="") as file:
        columns = next(csv.reader(file))
    assert columns == ["trial", "hidden_size", "learning_rate", *tables.COLUMNS]


def test_the_best_is_first_in_the_table(alone):
    accuracies = [float(row["val_accuracy"]) for row in rows(alone[0])]
    assert accuracies == sorted(accuracies, reverse=True)


def test_each_trial_has_a_seed_of_its_own(alone):
    assert len({row["seed"] for row in rows(alone[0])}) == 4


def test_a_search_leaves_its_trials_and_nothing_else(alone):
    folder, _ = alone
    assert left_in(folder) == trial_files(rows(folder))
    assert not list(folder.parent.glob("alone*.lock"))


def test_best_npz_is_the_best_checkpoint(alone):
    folder, _ = alone
    best = folder / rows(folder)[0]["checkpoint"]
    assert (folder / "best.npz").read_bytes() == best.read_bytes()


def test_only_the_best_network_is_tested(alone):
    folder, done = alone
    best = rows(folder)[0]
    assert {row["test_accuracy"] for row in rows(folder)} == {""}
    assert f"best trial {best['trial']}" in done.stdout
    assert done.stdout.count("test accuracy") == 1


def test_a_line_is_printed_for_each_trial(alone):
    lines = alone[1].stdout.splitlines()
    assert [line[:5] for line in lines[:4]] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]


def test_a_file_gets_no_progress_bar(alone):
    assert alone[1].stderr == ""


def test_a_trial_is_the_run_of_train_py_that_its_checkpoint_names(alone, run, tmp_path):
    row = rows(alone[0])[2]
    mine = npz.read_npz(alone[0] / row["checkpoint"])
    _, script, *flags = shlex.split(mine[1]["command"])
    assert run(script, *flags, "--output", "x.npz").returncode == 0
    theirs = npz.read_npz(tmp_path / "x.npz")
    assert mine[1]["settings"] == theirs[1]["settings"]
    for name in theirs[0]:
        np.testing.assert_array_equal(mine[0][name], theirs[0][name])


def test_jobs_and_threads_do_not_change_the_table(alone, search_py, tmp_path):
    search_py(tmp_path, *GRID, "--jobs", 2, "--threads", 2)
    assert rows(tmp_path) == rows(alone[0])


def test_the_number_of_images_and_class_weights_are_searched_like_other_settings(
    in_process, run, data, tmp_path
):
    flags = "--hidden-size 8 --epochs 1 --limit 100 300 --class-weight none balanced"
    code, _, error = in_process(tmp_path / "out", *flags.split())
    assert code == 0, error
    table = rows(tmp_path / "out")
    assert sorted((row["limit"], row["class_weight"]) for row in table) == [
        ("100", "balanced"),
        ("100", "none"),
        ("300", "balanced"),
        ("300", "none"),
    ]
    for row in table:
        _, info = npz.read_npz(tmp_path / "out" / row["checkpoint"])
        assert info["settings"]["limit"] == int(row["limit"])
        assert info["settings"]["class_weight"] == row["class_weight"]
        alone = train.train(train.Settings(**info["settings"]), data, None)
        assert alone.history["val_loss"] == info["history"]["val_loss"]


def test_repeats_are_ranked_by_their_mean(search_py, tmp_path):
    done = search_py(tmp_path, "--hidden-size", 16, 32, "--epochs", 2, "--repeats", 3, "--jobs", 1)
    table = rows(tmp_path)
    assert [row["repeat"] for row in table] == ["1", "2", "3"] * 2
    assert len({row["seed"] for row in table}) == 6
    accuracies = [100 * float(row["val_accuracy"]) for row in table]
    first, second = accuracies[:3], accuracies[3:]
    assert statistics.fmean(first) >= statistics.fmean(second)
    for group in (first, second):
        mean, spread = statistics.fmean(group), statistics.stdev(group)
        assert f"{mean:.2f} ± {spread:.2f}%" in done.stdout
    best = table[accuracies.index(max(first))]
    assert (tmp_path / "best.npz").read_bytes() == (tmp_path / best["checkpoint"]).read_bytes()


def test_report_test_tests_every_trial_and_chooses_the_same(
    alone, in_process, synthetic_dir, tmp_path
):
    code, out, error = in_process(tmp_path, *GRID, "--report-test")
    assert code == 0, error
    assert "not used for the choice" in out
    data = cifar10.load("synthetic", synthetic_dir)
    for row in rows(tmp_path):
        network, _ = model.load(tmp_path / row["checkpoint"])
        _, accuracy = network.evaluate(data.test_images, data.test_labels)
        assert float(row["test_accuracy"]) == accuracy
    assert [row | {"test_accuracy": ""} for row in rows(tmp_path)] == rows(alone[0])


def test_a_bar_shows_the_best_so_far(synthetic_dir, tmp_path):
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    argv = command(tmp_path, *TINY, data=synthetic_dir)
    subprocess.run(argv, stderr=end, stdout=subprocess.DEVNULL, check=True)
    os.close(end)
    shown = b""
    with contextlib.suppress(OSError):  # Linux raises it at the end
        while part := os.read(terminal, 65536):
            shown += part
    os.close(terminal)
    assert re.search(r"2/2.*best validation \d+\.\d\d%", shown.decode())


# ---- The plan: grids --------------------------------------------------------------------------


def test_names_and_seeds_are_the_same_on_every_machine():
    trial = search.Trial.of(train.Settings(hidden_size=512), 1, 0)
    assert (trial.name, trial.settings.seed) == ("f840590254", 308167391)


def test_a_repeat_has_another_name_and_seed():
    first, second = (search.Trial.of(train.Settings(), repeat, 0) for repeat in (1, 2))
    assert first.name != second.name
    assert first.settings.seed != second.settings.seed


def test_another_seed_of_the_search_changes_the_trials_seeds_but_not_their_names():
    first, second = (search.Trial.of(train.Settings(), 1, seed) for seed in (0, 1))
    assert first.name == second.name
    assert first.settings.seed != second.settings.seed


def test_the_default_grid_holds_table_1():
    found = tried("", "hidden_size", "learning_rate", "lambda_reg", "epochs")
    assert len(found) == 8
    table_1 = {
        (512, 0.005, 0.005, 100),
        (512, 0.01, 0.01, 100),
        (1024, 0.005, 0.01, 100),
        (1024, 0.01, 0.01, 100),
    }
    assert table_1 <= set(found)


def test_single_values_fix_settings_of_the_default_grid():
    flags = "--hidden-size 64 --epochs 3"
    assert plan(flags).searched == ["learning_rate", "lambda_reg"]
    assert set(tried(flags, "hidden_size", "epochs")) == {(64, 3)}


def test_a_boolean_flag_takes_values_or_none_or_is_negated():
    flags = "--no-flip --batchnorm --halving --hidden-size 8 16 --mirror false"
    assert set(tried(flags, "flip", "batchnorm", "mirror")) == {(False, True, False)}


def test_aliases_underscores_and_double_values():
    flags = "--use_batchnorm true false --schedule cosine constant cosine --hidden_size=4"
    assert sorted(tried(flags, "batchnorm", "schedule")) == [
        (False, "constant"),
        (False, "cosine"),
        (True, "constant"),
        (True, "cosine"),
    ]


def test_values_without_effect_next_to_others_are_one_trial():
    flags = "--batchnorm true false --bn-lr-scale 64 128"
    assert tried(flags, "batchnorm", "bn_lr_scale") == [(True, 64), (True, 128), (False, 128)]


def test_a_value_stays_if_the_recipes_own_would_have_an_effect():
    # 12 epochs end before a patience of 20, but not before the default of 10.
    assert (12, 20) in tried("--epochs 12 100 --patience 20", "epochs", "patience")


def test_a_value_that_stays_brings_back_no_other():
    flags = "--recipe quick --patience 20 --preprocess none whiten --whiten-dims 20 30"
    found = tried(flags, "patience", "preprocess", "whiten_dims")
    assert found == [(20, "none", 95), (20, "whiten", 20), (20, "whiten", 30)]


def test_a_test_stride_of_0_and_that_of_training_are_one_trial():
    assert tried("--recipe quick --test-stride 0 3 1", "test_stride") == [(0,), (1,)]


@pytest.mark.parametrize("order", ["true false", "false true"])
def test_a_single_value_applies_to_the_trials_in_which_it_has_an_effect(order):
    found = tried(f"--batchnorm {order} --bn-lr-scale 1", "batchnorm", "bn_lr_scale")
    assert set(found) == {(True, 1), (False, 128)}


# ---- The plan: random draws -------------------------------------------------------------------


def test_random_draws_are_within_their_ranges():
    flags = "--random 200 --learning-rate 1e-4:1e-1 --hidden-size 4:64 --batchnorm true false"
    rates, sizes, batchnorms = zip(
        *tried(flags, "learning_rate", "hidden_size", "batchnorm"), strict=True
    )
    assert min(rates) >= 1e-4
    assert max(rates) <= 1e-1
    assert min(sizes) >= 4
    assert max(sizes) <= 64
    assert set(batchnorms) == {True, False}


def test_ranges_are_drawn_log_uniformly():
    rates = [rate for (rate,) in tried("--random 200 --learning-rate 1e-4:1e-1", "learning_rate")]
    counts, _ = np.histogram(np.log10(rates), bins=[-4, -3, -2, -1])
    assert counts.min() > 45


def test_random_draws_depend_on_the_seed_alone():
    flags = "--random 20 --learning-rate 1e-4:1e-1 --hidden-size 4:64 --seed "
    assert plan(flags + "1") == plan(flags + "1")
    assert plan(flags + "1") != plan(flags + "2")


def test_more_draws_begin_with_the_fewer():
    flags = "--learning-rate 1e-3:1e-1 --random "
    assert plan(flags + "3").trials[:2] == plan(flags + "2").trials


def test_a_random_search_trains_its_draws(in_process, tmp_path):
    flags = "--random 2 --learning-rate 1e-3:1e-1 --hidden-size 4 --epochs 1"
    code, _, error = in_process(tmp_path, *flags.split())
    assert code == 0, error
    assert {row["trial"] for row in rows(tmp_path)} == {t.name for t in plan(flags).trials}


# ---- Successive halving -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def halved(search_py, tmp_path_factory):
    folder = tmp_path_factory.mktemp("halved")
    return folder, search_py(folder, *HALVING)


def test_halving_trains_the_best_to_the_end_and_stops_the_others(halved):
    found = [(row["status"], row["epochs"]) for row in rows(halved[0])]
    assert found == [("ok", "8"), ("stopped", "4"), ("stopped", "2"), ("stopped", "2")]


def test_halving_keeps_the_best_of_each_rung(halved):
    folder, _ = halved
    infos = [npz.read_npz(folder / row["checkpoint"])[1] for row in rows(folder)]
    first_rung = [max(info["history"]["val_accuracy"][:2]) for info in infos]
    assert min(first_rung[:2]) >= max(first_rung[2:])


def test_halving_leaves_no_states(halved):
    assert not list(halved[0].glob("*.state.npz"))


def test_the_winner_of_a_halving_is_the_run_that_was_never_paused(halved, data, tmp_path):
    _, info = npz.read_npz(halved[0] / "best.npz")
    whole = train.train(train.Settings(**info["settings"]), data, tmp_path / "whole.npz")
    assert whole.history["val_accuracy"] == info["history"]["val_accuracy"]


def test_halving_trains_no_epoch_twice(halved, in_process, tmp_path, monkeypatch):
    epochs = []
    save = runs.RunFiles.save

    def counting(run_files, run):
        epochs.append(run.epoch)
        save(run_files, run)

    monkeypatch.setattr(runs.RunFiles, "save", counting)
    code, _, error = in_process(tmp_path, *HALVING)
    assert code == 0, error
    assert rows(tmp_path) == rows(halved[0])
    assert len(epochs) == 8 + 4 + 2 + 2


def test_halving_with_few_epochs_says_how_many_settings_reach_the_end(in_process, tmp_path):
    grid = "--hidden-size", 4, 6, "--learning-rate", 0.01, 0.05, "--lambda-reg", 0, 0.01
    _, out, _ = in_process(tmp_path, *grid, "--epochs", 2, "--halving")
    assert out.startswith("4 of the 8 settings will be trained to the end")
    assert "--epochs 8 would leave one" in out
    statuses = sorted(row["status"] for row in rows(tmp_path))
    assert statuses == ["ok"] * 4 + ["stopped"] * 4


@pytest.mark.parametrize(
    ("count", "epochs", "eta", "rungs"),
    [
        (8, 100, 2, [(12, 8), (25, 4), (50, 2), (100, 1)]),
        (9, 90, 3, [(10, 9), (30, 3), (90, 1)]),
        (8, 3, 2, [(1, 8), (3, 4)]),
        (2, 1, 2, [(1, 2)]),
    ],
)
def test_the_rungs_of_successive_halving(count, epochs, eta, rungs):
    assert search.halving_rungs(count, epochs, eta) == rungs


# ---- The printed ranking ----------------------------------------------------------------------


def some_rows(searched, count=3, **changes):
    """Rows of trials that differ in all searched settings."""
    found = []
    for i in range(count):
        row = dict.fromkeys(["trial", *searched, *tables.COLUMNS], "")
        row |= dict.fromkeys(searched, f"{i + 1}e-05")
        row |= {"repeat": "1", "status": "ok", "val_accuracy": str(0.5 - i / 1000)}
        row |= {"val_loss": "1", "best_epoch": "3", "epochs": "4", "seconds": "99"}
        found.append(row | changes)
    return found


def printed(monkeypatch, columns, searched, **options):
    monkeypatch.setenv("COLUMNS", str(columns))
    groups = tables.ranked(some_rows(searched, **options), searched)
    return tables.ranking(groups, searched).splitlines()


@pytest.mark.parametrize("columns", [60, 80])
def test_the_ranking_fits_the_terminal(columns, monkeypatch):
    searched = ["hidden_size", "learning_rate", "lambda_reg", "hidden_lambda_scale", "bn_lr_scale"]
    lines = printed(monkeypatch, columns, searched, test_accuracy="0.5", status="stopped")
    assert max(map(len, lines)) <= columns
    text = " ".join(" ".join(lines).split())
    for name in searched:
        assert f"{name.replace('_', ' ')} 1e-05" in text


def test_a_setting_stays_with_its_value_in_one_line(monkeypatch):
    lines = printed(monkeypatch, 40, ["hidden_size", "learning_rate", "hidden_lambda_scale"])
    assert "      hidden size 1e-05," in lines
    assert "      hidden lambda scale 1e-05" in lines


def test_a_narrow_ranking_is_a_plain_table(monkeypatch):
    lines = printed(monkeypatch, 80, ["hidden_size", "cap"])
    heads = "rank  hidden size    cap  validation  best epoch  epochs  seconds  status"
    assert lines[0] == heads
    assert len(lines) == 4


def test_a_long_ranking_ends_with_a_reference_to_the_file(monkeypatch):
    lines = printed(monkeypatch, 80, ["cap"], count=100)
    assert len(lines) < 50
    assert "60 settings more are in results.csv" in lines[-1]


# ---- Trials that fail -------------------------------------------------------------------------

DIVERGING = ("--lambda-reg", 0.01, "1e30", *TINY, "--hidden-size", 8, "--jobs", 1)


@pytest.fixture(scope="module")
def diverged(search_py, tmp_path_factory):
    folder = tmp_path_factory.mktemp("diverged")
    return folder, search_py(folder, *DIVERGING)


def test_a_trial_that_diverges_is_a_row_with_the_reason(diverged):
    folder, done = diverged
    good, bad = rows(folder)
    assert (good["status"], bad["status"]) == ("ok", "diverged")
    assert bad["val_accuracy"] == ""
    assert bad["checkpoint"] == ""
    assert "loss" in bad["reason"]
    assert "diverged: loss" in done.stdout


def test_a_reason_does_not_name_the_folder(diverged):
    assert str(diverged[0]) not in rows(diverged[0])[1]["reason"]


def test_a_reason_is_no_formula_for_a_spreadsheet(in_process, tmp_path):
    # An average of 100 steps' weights, in fewer steps than are averaged.
    flags = "--hidden-size", 4, "--epochs", 1, "--batch-size", 500, "--ema", 0, 0.9
    code, out, _ = in_process(tmp_path, *flags)
    assert code == 0
    assert "failed: --ema 0.9" in out
    assert rows(tmp_path)[1]["reason"].startswith("'--ema 0.9")
    code, _, error = in_process(tmp_path, *flags, "--resume")
    assert code == 0, error
    assert rows(tmp_path)[1]["reason"].startswith("'--ema 0.9")


def test_a_search_whose_trials_all_diverge_is_an_error(in_process, tmp_path):
    code, _, error = in_process(tmp_path, *TINY, "--lambda-reg", "1e30")
    assert code == 2
    assert error.count("\n") == 1
    assert "no trial has left a network" in error
    assert str(tmp_path / "results.csv") in error


def test_a_trial_that_failed_is_trained_again_on_resume(in_process, tmp_path, monkeypatch):
    whole_train = train.train

    def failing(settings, *args, **options):
        if settings.hidden_size == 4:
            raise OSError(28, "No space left on device")
        return whole_train(settings, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(train, "train", failing)
        in_process(tmp_path, *TINY)
    good, bad = rows(tmp_path)
    assert (good["status"], bad["status"]) == ("ok", "failed")
    assert "No space left" in bad["reason"]

    code, out, _ = in_process(tmp_path, *TINY, "--resume")
    assert code == 0
    assert "1 of 2 trials are in" in out
    assert good in rows(tmp_path)
    assert {row["status"] for row in rows(tmp_path)} == {"ok"}


# ---- Dask -------------------------------------------------------------------------------------


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
    argv = command(tmp_path / "out", *TINY, "--dask", "tcp://127.0.0.1:9", data=synthetic_dir)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(argv, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert 'pip install "dask[distributed]"' in done.stderr
    assert not (tmp_path / "out").exists()


def test_no_dask_scheduler(refused):
    pytest.importorskip("distributed")
    assert "--dask nowhere: no scheduler" in refused(*TINY, "--dask", "nowhere")


# ---- Invalid command lines --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "flag", "fault"),
    [
        ("--hidden-size", "--hidden-size", "expected at least one argument"),
        ("--hidden-size 0 8", "--hidden-size 0", "at least 1"),
        ("--hidden-size 8 x", "--hidden-size", "'x' is not a whole number"),
        ("--dropout 0.5 1", "--dropout 1.0", "below 0.998"),
        ("--batchnorm yes", "--batchnorm", "'yes' is not true or false"),
        ("--window 32 --stride 2", "--stride 2", "no effect"),
        ("--limit 100 9", "--limit 9", "10 classes"),
        ("--limit 100 1001", "--limit 1001", "1,000 training images"),
        ("--random 2 --hidden-size 16 32 --whiten-dims 10 20", "--whiten-dims 10", "no effect"),
        ("--random 2 --hidden-size 16 32 --whiten-dims 10:20", "--whiten-dims 10", "no effect"),
        ("--schedule cosine --lr-decay 0.5 0.6", "--lr-decay 0.5", "no effect"),
        ("--schedule cosine linear", "--schedule linear", "one of report, cosine, constant"),
        ("--learning-rate 0.1:0.01 --random 3", "--learning-rate", "LOW:HIGH"),
        ("--learning-rate 0:1 --random 3", "--learning-rate", "LOW:HIGH"),
        ("--learning-rate 1:2:3 --random 3", "--learning-rate", "LOW:HIGH"),
        ("--learning-rate 1e-4:1e-1", "--learning-rate 0.0001:0.1", "give --random N"),
        ("--learning-rate 1e-4:1e-1 1 --random 3", "--learning-rate 0.0001:0.1 1.0", "mixes"),
        (f"--hidden-size 4:1{'0' * 27} --random 3", "--hidden-size 1000", "at most"),
        ("--dropout 0.1:1e27 --random 3", "--dropout 1e+27", "below"),
        (f"--epochs 1:1{'0' * 400} --random 3", "--epochs", "LOW:HIGH"),
        (f"--epochs {'9' * 5000} 3", "--epochs", "is not a whole number"),
        ("--hidden-size 4 8 --random 3", "--random 3", "only 2 different settings"),
        ("--hidden-size 4:6 --random 4", "--random 4", "only 3 different settings"),
        ("--dropout 0.1:0.10001 --random 9000", "--random 9000", "only 1 different settings"),
        ("--random 0", "--random", "'0'"),
        ("--random 100000", "100,000 trials", "10,000 is the limit"),
        ("--repeats 100000000", "--repeats 100000000", "10,000 is the limit"),
        ("--repeats 0", "--repeats", "'0'"),
        ("--jobs 0", "--jobs", "'0'"),
        ("--jobs 9223372036854775808", "--jobs", "'9223372036854775808'"),
        ("--threads 0", "--threads", "'0'"),
        ("--seed -1", "--seed", "'-1'"),
        ("--eta 3", "--eta 3", "without --halving"),
        ("--eta 1 --halving", "--eta", "'1'"),
        ("--halving --epochs 1 2", "--epochs 1 2", "one value with --halving"),
        (
            "--halving --repeats 2 --hidden-size 4 --learning-rate 0.1 --lambda-reg 0",
            "--halving",
            "single setting",
        ),
        ("--hidden-size 4 --learning-rate 0.1 --lambda-reg 0", "nothing to search", "--repeats"),
        ("--recipe best", "nothing to search", "--repeats"),
        ("--dropout 0.2 0.5 --no-use-dropout", "--dropout 0.2 0.5", "--no-use-dropout"),
        ("--dropout 0 --use-dropout", "--dropout 0", "--use-dropout"),
        ("--recipe quick --use-dropout", "--dropout 0", "--use-dropout"),
        ("--validation-share 0.1 0", "--validation-share 0.0", "validation"),
        ("--jobs 2 --dask tcp://127.0.0.1:1", "--dask", "not allowed with"),
        ("--resume --overwrite", "--overwrite", "not allowed with"),
        ("--hiden-size 4 8", "--hiden-size", "did you mean --hidden-size?"),
        ("--mode train", "--mode", "'train'"),
        ("--output-dir /", "--output-dir", "/"),
    ],
)
def test_an_invalid_command_line_is_refused_before_training(flags, flag, fault, refused, tmp_path):
    error = refused(*flags.split())
    assert flag in error
    assert fault in error
    assert not (tmp_path / "out").exists()


REPORTS_OWN = (
    "--mode grid_search --save_results --use_batchnorm --no-use_dropout --activation relu "
    "--epochs 5 --batch_size 64 --lr_decay 0.9 --momentum 0.9 --early_stopping 3"
)


def test_the_reports_own_command_is_planned():
    found = tried(REPORTS_OWN, "batchnorm", "dropout", "epochs", "batch_size", "patience")
    assert found == [(True, 0.0, 5, 64, 3)] * 8


def test_the_reports_own_command_runs_with_a_note(search_py, tmp_path):
    flags = REPORTS_OWN + " --hidden_size 8 --learning_rate 0.01 --model_path x.npz"
    done = search_py(tmp_path, *flags.split())
    assert len(rows(tmp_path)) == 2
    notes = done.stderr.splitlines()
    assert len(notes) == 2
    assert "note: --save-results has no effect" in notes[0]
    assert "note: --model-path has no effect" in notes[1]


def test_a_patience_beyond_the_epochs_is_noted(in_process, tmp_path):
    code, _, error = in_process(tmp_path, *TINY, "--early_stopping", 3)
    assert code == 0, error
    assert "note: --patience 3" in error
    assert "no effect" in error


def commands_of_the_page():
    """The search.py commands of docs/search.md, without the ones that are cut off by `...`."""
    text = (ROOT / "docs" / "search.md").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^python search\.py (.*)$", text, re.MULTILINE)
    flags = [shlex.split(line, comments=True) for line in lines]
    return [each for each in flags if "..." not in each]


@pytest.mark.parametrize("flags", commands_of_the_page(), ids=" ".join)
def test_the_commands_of_the_page_are_searches(flags):
    assert len(search.make_plan(search.parse(flags)).trials) > 1


# ---- From Python ------------------------------------------------------------------------------


def task(**fields):
    return search.Task(**({"values": {}, "source": search.cifar10.Source()} | fields))


@pytest.mark.parametrize(
    ("fields", "parameter"),
    [
        ({"values": {"hidden_size": [8, 0]}}, "hidden_size=0 must"),
        ({"values": {"schedule": ["linear"]}}, "schedule='linear' must"),
        ({"random": 0}, "random=0 must"),
        ({"random": 2.0}, "random=2.0 must"),
        ({"eta": 1}, "eta=1 must"),
        ({"repeats": True}, "repeats=True must"),
        ({"seed": -1}, "seed=-1 must"),
        ({"jobs": 0}, "jobs=0 must"),
        ({"threads": "4"}, "threads='4' must"),
    ],
)
def test_from_python_an_error_names_the_parameter(fields, parameter):
    with pytest.raises(SettingError) as caught:
        task(**fields)
    assert parameter in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "parameter"),
    [
        ({"random": 9, "values": {"cap": [1.0, 2.0]}}, "random=9 is too many"),
        ({"repeats": 10**6, "values": {"cap": [1.0, 2.0]}}, "repeats=1000000 makes"),
        ({"values": {"whiten_dims": [8, 9]}}, "whiten_dims=8 has no effect"),
    ],
)
def test_from_python_an_error_of_the_plan_names_the_parameter(fields, parameter):
    with pytest.raises(SettingError) as caught:
        search.make_plan(task(**fields))
    assert parameter in str(caught.value)


# ---- Help -------------------------------------------------------------------------------------


def test_help_fits_two_screens(run):
    done = run("search.py", "--help", env=os.environ | {"COLUMNS": "80"})
    lines = done.stdout.splitlines()
    assert len(lines) <= 100
    assert max(map(len, lines)) <= 80


def test_help_lists_every_setting(run):
    text = run("search.py", "--help").stdout
    for name in search.OPTIONS:
        assert f"--{name.replace('_', '-')} " in text


def test_a_range_of_integers_is_counted():
    assert values.count([values.Range(4, 6, int)]) == 3
