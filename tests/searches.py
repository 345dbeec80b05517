"""What the tests of search.py share: its command line, its table, and searches that a test stops."""

import contextlib
import csv
import subprocess
import sys
import time

from conftest import ROOT

GRID = ("--hidden-size", 16, 24, "--learning-rate", 0.01, 0.05, "--epochs", 4, "--threads", 1)
HALVING = (
    "--hidden-size",
    16,
    32,
    "--learning-rate",
    0.01,
    0.02,
    "--epochs",
    8,
    "--patience",
    0,
    "--halving",
)
TINY = ("--hidden-size", 4, 8, "--epochs", 1, "--threads", 1)
LONG = (*GRID, "--epochs", 300, "--patience", 0, "--jobs", 2)


def command(folder, *flags, data):
    args = [sys.executable, ROOT / "search.py", "--data-dir", data, "--output-dir", folder, *flags]
    return [str(arg) for arg in args]


def rows(folder):
    """results.csv without the seconds, which differ from run to run."""
    with open(folder / "results.csv", newline="") as file:
        return [
            {name: value for name, value in row.items() if name != "seconds"}
            for row in csv.DictReader(file)
        ]


def trial_files(table):
    return {f"{row['trial']}{ending}" for row in table for ending in (".npz", ".csv")}


def left_in(folder):
    """The names of the files that a search which has ended may leave in its folder, but those of its trials."""
    return {file.name for file in folder.iterdir()} - {
        "results.csv",
        "results.md",
        "search.json",
        "best.npz",
    }


def start(folder, *flags, data, **options):
    """The search as a process of a group of its own, as a terminal would start it."""
    options = {
        "start_new_session": True,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    } | options
    return subprocess.Popen(command(folder, *flags, data=data), **options)


def wait_until_training(folder, process):
    """Wait until a worker has written something after the start, or all is done."""
    began = time.time()
    while process.poll() is None:
        with contextlib.suppress(FileNotFoundError):  # a state goes when its trial is done
            if any(path.stat().st_mtime > began for path in folder.glob("[0-9a-f]*.npz")):
                return
        assert time.time() < began + 60
        time.sleep(0.01)
