"""The benchmarks run and print their tables. Their figures aren't tested."""

import importlib.util
import os

from data import synthetic

import pytest
from helpers import ROOT

TINY = ("--batch", 8, "--hidden", 32, "--threads", 1, "--wait", 0)


def rows(text):
    """Return the first cell of each row of the tables in Markdown."""
    return [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("flags", [(), ("--windows",)])
def test_step_compares_ours_with_the_floor(run, flags):
    result = run(
        "benchmarks/step.py", *flags, *TINY, "--rounds", 1, "--steps", 2, "--images", 64, "--peers"
    )
    assert result.returncode == 0, result.stderr
    assert rows(result.stdout)[2] == "ours"
    assert sum(row.startswith("floor") for row in rows(result.stdout)) == 2
    last = result.stdout.splitlines()[-1]
    assert last.startswith("ours / floor: **")
    assert "PyTorch" not in last


def test_the_recipes_networks_are_compared_with_the_floor(run):
    recipes = "report", "quick", "dense"
    flags = "--recipe", *recipes, *TINY, "--rounds", 1, "--steps", 2, "--images", 64
    result = run("benchmarks/step.py", *flags)
    assert result.returncode == 0, result.stderr
    for recipe in recipes:
        assert f"### recipe {recipe}, batch 8, 32 units, 1 thread" in result.stdout
    assert rows(result.stdout).count("ours") == len(recipes)
    assert result.stdout.count("ours / floor: **") == len(recipes)


def test_a_peer_of_the_whole_image_is_not_timed_with_windows(run):
    result = run("benchmarks/step.py", "--windows", "--peers", "sklearn", "torch-fused")
    assert result.returncode == 2
    assert "error: --peers sklearn: can be timed with the whole image only" in result.stderr


@pytest.mark.parametrize("flags", [["--windows"], ["--peers", "torch-fused"]])
def test_a_recipe_takes_no_window_and_no_peers(run, flags):
    result = run("benchmarks/step.py", "--recipe", "quick", *flags)
    assert result.returncode == 2
    assert f"error: {flags[0]}: " in result.stderr


def test_a_busy_machine_is_reported(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import machine

    monkeypatch.setattr(machine.Others, "cores", lambda others: 1.5)
    assert machine.wait_until_quiet(0).startswith("- **not quiet**: other programs keep 1.50")
    monkeypatch.setattr(machine.Others, "cores", lambda others: 0.01)
    assert machine.wait_until_quiet(60).startswith("- quiet")


def test_a_system_that_does_not_say_how_busy_it_is(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import machine

    monkeypatch.setattr(machine.Others, "cores", lambda others: float("nan"))
    assert "stop them first" in machine.wait_until_quiet(60)


def counts(exchange):
    exchange("ready")
    while True:
        exchange(([9, 1, 2], 50))


def dies(exchange):
    exchange("ready")
    os._exit(3)


def fails(exchange):
    raise ValueError("no such option\nat all")


def test_a_contender_that_fails_does_not_stop_the_others(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import timing

    starts = {
        each.__name__: lambda each=each: timing.Worker(each) for each in (counts, dies, fails)
    }
    times, memory, lost = timing.race(starts, 2, 3)
    assert times == {"counts": [[1, 2], [1, 2]]}
    assert memory == {"counts": 50}
    assert lost == {"dies": "died with exit code 3", "fails": "ValueError: no such option at all"}


def test_ratios_are_taken_within_each_round(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import timing

    assert timing.ratio([[2, 2, 9], [40], [6]], [[1], [10], [3]]) == "2.00 (2.00-4.00)"


def test_epoch_compares_an_epoch_with_its_steps(run, synthetic_dir):
    result = run(
        "benchmarks/epoch.py", *TINY, "--epochs", 2, "--steps", 2, "--data-dir", synthetic_dir
    )
    assert result.returncode == 0, result.stderr
    assert {"**a whole epoch**", "**epoch / (steps + validation)**", "peak memory"} <= set(
        rows(result.stdout)
    )


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
def test_a_whole_training_is_compared_with_pytorchs(run, synthetic_dir):
    flags = "--training", "--epochs", 2, "--rounds", 1, "--data-dir", synthetic_dir
    result = run("benchmarks/epoch.py", *TINY, *flags)
    assert result.returncode == 0, result.stderr
    assert rows(result.stdout)[2:] == ["ours: python train.py", "PyTorch, SGD(fused=True)"]


@pytest.mark.parametrize("script", ["epoch.py", "step.py"])
def test_scripts_find_their_modules_if_python_leaves_out_their_folder(run, script):
    result = run(f"benchmarks/{script}", "--help", env=os.environ | {"PYTHONSAFEPATH": "1"})
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("flags", [["--rounds", 2], ["--training", "--steps", 5]])
def test_an_epoch_has_no_rounds_and_a_training_no_steps(run, flags):
    result = run("benchmarks/epoch.py", *flags)
    assert result.returncode == 2
    assert f"error: {flags[-2]}: " in result.stderr


def test_a_missing_folder_is_one_line(run, tmp_path):
    result = run("benchmarks/epoch.py", *TINY, "--data-dir", tmp_path / "nowhere")
    assert result.returncode == 2
    assert "nowhere" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_figure_of_minutes_is_drawn_from_the_table(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setattr("sys.argv", ["minutes.py"])
    import minutes

    monkeypatch.setattr(minutes, "FIGURE", tmp_path / "minutes.png")
    assert minutes.main() == 0
    assert capsys.readouterr().out.startswith("figure ")
    assert minutes.FIGURE.read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
def test_a_recipe_in_pytorch_prints_its_row(run, tmp_path):
    folder = tmp_path / "synthetic-batches-py"
    synthetic.write_synthetic(folder, train=200, test=10)
    flags = "--pytorch", "quick", "--minutes", 0.02, "--threads", 1, "--data-dir", folder
    result = run("benchmarks/minutes.py", *flags)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1].startswith('"PyTorch, quick",0.02,')


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf"])
def test_invalid_minutes_are_one_line(run, minutes):
    result = run("benchmarks/minutes.py", "--pytorch", "quick", f"--minutes={minutes}")
    assert result.returncode == 2
    assert "--minutes" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
