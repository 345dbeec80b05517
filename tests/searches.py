"""Helpers of search.py's tests: its command line, its table, and searches that a test stops."""

import contextlib
import csv
import subprocess
import sys
import time
from concurrent.futures import Future

import search

from helpers import ROOT, called

GRID = ("--hidden-size", 16, 24, "--learning-rate", 0.01, 0.05, "--epochs", 4, "--threads", 1)
TINY = ("--hidden-size", 4, 8, "--epochs", 1, "--threads", 1)
LONG = (*GRID, "--epochs", 300, "--patience", 0, "--jobs", 2)
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
TIMEOUT = 120  # seconds after which a test counts as hanging


def command(folder, *flags, data):
    args = [sys.executable, ROOT / "search.py", "--data-dir", data, "--output-dir", folder, *flags]
    return [str(arg) for arg in args]


def rows(folder):
    """Return results.csv without the seconds, which differ from run to run."""
    with open(folder / "results.csv", newline="") as file:
        found = list(csv.DictReader(file))
    for row in found:
        del row["seconds"]
    return found


def trial_files(table):
    return {f"{row['trial']}{ending}" for row in table for ending in (".npz", ".csv")}


def left_in(folder):
    """Return the names of the files in a search's folder, without those that are always there."""
    return {file.name for file in folder.iterdir()} - {"results.csv", "search.json", "best.npz"}


def only_line(error):
    """Return the only line of a failed search's stderr."""
    (line,) = error.strip().splitlines()
    assert len(line) < 2000
    assert "Traceback" not in line
    return line


@contextlib.contextmanager
def no_workers(function, jobs):
    """Replace workers.local_workers: a test fails if a trial is trained."""

    def submit(job):
        raise AssertionError("training has begun")

    yield submit


@contextlib.contextmanager
def workers_in_this_process(function, jobs):
    """Replace workers.local_workers: jobs run at once, in the test's own process."""

    def submit(job):
        future = Future()
        future.set_result(function(job))
        return future

    yield submit


def run_here(capsys, data, folder, *flags):
    """Run a search in this process; return its exit code, stdout and stderr."""
    return called(search.main, capsys, "--data-dir", data, "--output-dir", folder, *flags)


def refusal(capsys, data, folder, *flags):
    """Return the line on stderr with which a search ends before training."""
    code, _, error = run_here(capsys, data, folder, *flags)
    assert code == 2, error
    assert error.count("\n") == 1
    assert error.removesuffix("\n").isprintable()
    return error


def start(folder, *flags, data, **options):
    """Start the search as a process group of its own, as a terminal would."""
    defaults = {
        "start_new_session": True,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }
    return subprocess.Popen(command(folder, *flags, data=data), **(defaults | options))


def wait_until_training(folder, process):
    """Wait until a worker has written a state or checkpoint, or until the search has ended."""
    began = time.time()
    while process.poll() is None:
        with contextlib.suppress(FileNotFoundError):  # a state is deleted when its trial ends
            if any(path.stat().st_mtime > began for path in folder.glob("[0-9a-f]*.npz")):
                return
        assert time.time() < began + TIMEOUT
        time.sleep(0.01)
