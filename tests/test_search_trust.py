"""search.py: nothing stops it for good, two don't meet in one folder, and nothing in the folder is believed."""

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import search
from support import files, npz
from support.searching import workers
from support.searching.results import Results

import pytest
from conftest import called, line_of
from searches import (
    GRID,
    HALVING,
    LONG,
    TINY,
    command,
    left_in,
    rows,
    start,
    trial_files,
    wait_until_training,
)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs process groups")


@pytest.fixture(scope="module")
def whole(synthetic_dir, tmp_path_factory):
    """whole(flags): the folder of a search with these flags that nothing disturbs."""
    folders = {}

    def run(flags):
        if flags not in folders:
            folders[flags] = tmp_path_factory.mktemp("whole")
            subprocess.run(
                command(folders[flags], *flags, data=synthetic_dir), check=True, capture_output=True
            )
        return folders[flags]

    return run


@pytest.fixture
def copy(whole, tmp_path):
    return Path(shutil.copytree(whole(GRID), tmp_path / "copy"))


@pytest.fixture
def refused(synthetic_dir, monkeypatch, capsys):
    """refused(folder, *flags): the one line that a search in the folder ends with before it trains."""

    @contextlib.contextmanager
    def no_workers(function, jobs):
        yield lambda task: pytest.fail("training has begun")

    monkeypatch.setattr(workers, "local_workers", no_workers)

    def call(folder, *flags):
        code, _, error = called(
            search.main, capsys, "--data-dir", synthetic_dir, "--output-dir", folder, *flags
        )
        assert (
            code == 2 and error.count("\n") == 1 and len(error) <= 301 and error[:-1].isprintable()
        ), error
        return error

    return call


def line(error):
    """The one line of a stopped search's stderr."""
    (only,) = error.strip().splitlines()
    assert len(only) < 2000 and "Traceback" not in only
    return only


# ---- Stopped, killed, resumed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [GRID, HALVING], ids=["grid", "halving"])
def test_killed_twice_and_resumed(flags, whole, synthetic_dir, tmp_path):
    for _ in range(2):
        process = start(tmp_path, *flags, "--jobs", 2, "--resume", data=synthetic_dir)
        wait_until_training(tmp_path, process)
        time.sleep(random.uniform(0, 0.3))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    done = rows(tmp_path) if (tmp_path / "results.csv").exists() else []
    kept = {row["checkpoint"]: (tmp_path / row["checkpoint"]).stat().st_mtime_ns for row in done}
    subprocess.run(
        command(tmp_path, *flags, "--resume", data=synthetic_dir), check=True, capture_output=True
    )
    assert rows(tmp_path) == rows(whole(flags))
    assert all((tmp_path / name).stat().st_mtime_ns == written for name, written in kept.items())
    assert left_in(tmp_path) == left_in(whole(flags))


@pytest.mark.parametrize("to_all", [True, False], ids=["group", "process"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal(number, to_all, synthetic_dir, tmp_path):
    process = start(tmp_path, *LONG, data=synthetic_dir)
    wait_until_training(tmp_path, process)
    began = time.monotonic()
    (os.killpg if to_all else os.kill)(process.pid, number)
    _, error = process.communicate(timeout=20)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number], error
    assert time.monotonic() - began < 5
    assert "go on with: python search.py" in line(error) and error.strip().endswith("--resume")
    assert not [name for name in left_in(tmp_path) if not name.endswith((".npz", ".csv"))]
    assert not list(tmp_path.parent.glob(f"{tmp_path.name}*.lock"))


def test_ctrl_c_at_any_moment_of_the_start(synthetic_dir, tmp_path):
    # Python itself, before its first module of ours, prints a traceback: the moments begin after that.
    processes = [start(tmp_path / str(i), *LONG, data=synthetic_dir) for i in range(6)]
    for process in processes:
        wait_for_hook(process)
    for i, process in enumerate(processes):
        time.sleep(0.1 * (i > 0))
        os.killpg(process.pid, signal.SIGINT)
    for process in processes:
        _, error = process.communicate(timeout=30)
        assert "Traceback" not in error and error.strip().count("\n") == 0, error


def wait_for_hook(process):
    """Wait until the process has loaded numpy, which comes after support.cli."""
    began = time.monotonic()
    while "_multiarray_umath" not in Path(f"/proc/{process.pid}/maps").read_text():
        assert time.monotonic() < began + 30
        time.sleep(0.005)


def test_a_worker_that_is_killed(whole, synthetic_dir, tmp_path):
    process = start(tmp_path, *GRID, "--jobs", 1, data=synthetic_dir)
    while not (tmp_path / "results.csv").exists():
        assert process.poll() is None
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    worker = next(
        pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    os.kill(int(worker), signal.SIGKILL)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "a worker process was killed" in line(error) and "--resume" in error
    assert rows(tmp_path) and all(row in rows(whole(GRID)) for row in rows(tmp_path))


def test_workers_end_with_the_search(synthetic_dir, tmp_path):
    process = start(tmp_path, *LONG, data=synthetic_dir)
    wait_until_training(tmp_path, process)
    process.kill()
    process.communicate(timeout=5)  # ends when the last process that holds the pipes does


def test_a_closed_and_a_broken_stdout(synthetic_dir, tmp_path):
    closed = command(tmp_path / "closed", *TINY, "--jobs", 1, data=synthetic_dir)
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *closed], stderr=subprocess.PIPE, text=True
    )
    assert (done.returncode, done.stderr) == (0, "") and len(rows(tmp_path / "closed")) == 2
    full = command(tmp_path / "full", *TINY, "--jobs", 1, data=synthetic_dir)
    with open("/dev/full", "w") as device:
        done = subprocess.run(full, stdout=device, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and "No space left on device" in line(done.stderr)


@pytest.mark.parametrize("size", [0, 1 << 20, 3_200_000], ids=["nothing", "images", "rows"])
def test_a_full_disk(size, synthetic_dir, tmp_path):
    """Files beyond a size can't be written: none at all, not the images', not a checkpoint's."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    flags = "--hidden-size", 300, 301, "--epochs", 1, "--jobs", 1, "--threads", 1
    process = start(tmp_path / "out", *flags, data=synthetic_dir, preexec_fn=limit)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 2, out
    assert "File too large" in line(error) or (
        "no trial has left a network" in error and "File too large" in out
    )
    assert not (tmp_path / "out").exists() or not [
        name for name in left_in(tmp_path / "out") if name.endswith(".tmp")
    ]


# ---- Two at once ----------------------------------------------------------------------------------------------------


def test_a_second_search_says_who_is_there(synthetic_dir, tmp_path, refused):
    process = start(tmp_path / "out", *LONG, data=synthetic_dir)
    try:
        wait_until_training(tmp_path / "out", process)
        for flags in (LONG, (*TINY, "--resume"), (*TINY, "--overwrite")):
            error = refused(tmp_path / "out", *flags)
            assert (
                f"out: in use by a search, process {process.pid} on " in error and "since" in error
            )
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate()


def test_killed_as_the_table_grows_by_a_setting(copy, whole, synthetic_dir):
    """The table is written before search.json, which then is behind."""
    before = (copy / "search.json").read_bytes()
    grown = command(copy, *GRID, "--dropout", 0.5, 0.2, "--resume", data=synthetic_dir)
    subprocess.run(grown, check=True, capture_output=True)
    (copy / "search.json").write_bytes(before)
    done = subprocess.run(grown, check=True, capture_output=True, text=True)
    assert "8 of 8 trials are in" in done.stdout and len(rows(copy)) == 8


# ---- What is in the folder ------------------------------------------------------------------------------------------


def test_a_damaged_search_json_is_one_line(copy, refused):
    path = copy / "search.json"
    text = path.read_text()
    good = json.loads(text)
    other = good | {"data": {"name": "cifar10\x1b[2J", "fingerprint": "0"}}
    path.write_text(json.dumps(other))
    assert "a search on other images (cifar10?[2J)" in refused(copy, *GRID, "--resume")
    damages = ["", "{", "[]", "{}", "\udcff", "[" * 100_000, "9" * 5000, "1e999", "null", text[:-9]]
    values = None, 3, [[]], {"a": 1}, "x" * 9000
    damages += [
        json.dumps(good | {name: value}) for name in good for value in values if value != good[name]
    ]
    for damage in damages:
        path.write_bytes(damage.encode("utf-8", "surrogateescape"))
        assert "search" in refused(copy, *GRID, "--resume")
    path.unlink()
    assert "search.json: is missing; give --overwrite" in refused(copy, *GRID, "--resume")
    os.mkfifo(path)
    assert "search.json: is a FIFO" in refused(copy, *GRID, "--resume")


def test_a_damaged_table_is_one_line(copy, refused, tmp_path):
    table = copy / "results.csv"
    text = table.read_text()
    first, row, *_ = text.splitlines()
    fields = dict(zip(first.split(","), row.split(","), strict=True))
    damages = [
        "",
        "\0",
        "a,b\n1,2\n",
        text + "zz,64\n",
        text + row + "\n",
        first * 2,
        '"' + text,
        "x," * 99_999,
    ]
    damages += [
        text.replace(first, first.replace("hidden_size", name))
        for name in ("learning_rate", "x$", "")
    ]
    values = {
        "trial": ("", "../../x", "ABCDEF0123", "0" * 5000),
        "hidden_size": ("0", "x", "", "9" * 5000, "16:24"),
        "learning_rate": ("nan", "1e999", "-1"),
        "repeat": ("0", "-1", "x", "9" * 5000),
        "status": ("", "fine", "ok\x1b"),
        "val_accuracy": ("", "1e308", "inf", "nan", "-1", "9" * 5000),
        "val_loss": ("1e308", "-inf", "x"),
        "best_epoch": ("1e300", "x"),
        "seconds": ("inf", "9" * 400),
        "checkpoint": ("", "..", "/dev/zero", "search.json", "../x.npz", "0000000000.npz"),
        "reason": ("\x1b[2J", "x" * 5000),
    }
    for name, wrong in values.items():
        for value in wrong:
            damages.append(text.replace(row, ",".join((fields | {name: value}).values())))
    for damage in damages:
        table.write_text(damage)
        assert "results.csv: " in refused(copy, *GRID, "--resume"), damage[:99]
    table.unlink()
    table.symlink_to("/dev/zero")
    assert "results.csv: is a device" in refused(copy, *GRID, "--resume")
    table.unlink()
    table.write_text(text)
    checkpoint = copy / f"{fields['trial']}.npz"
    checkpoint.unlink()
    checkpoint.symlink_to("/dev/zero")
    assert f"{fields['trial']}.npz is missing or no file" in refused(copy, *GRID, "--resume")


def test_a_damaged_history_is_one_line(copy):
    results = Results(copy, [], rows(copy))
    trial = rows(copy)[0]["trial"]
    arrays, info = npz.read_npz(copy / f"{trial}.npz")
    assert results.history(trial) == {
        name: info["history"][name] for name in ("val_accuracy", "val_loss")
    }
    for history in (
        None,
        {},
        {"val_accuracy": [], "val_loss": []},
        {"val_accuracy": ["x"], "val_loss": [1]},
    ):
        npz.write_npz(copy / f"{trial}.npz", arrays, info | {"history": history})
        with pytest.raises(files.FileError) as caught:
            results.history(trial)
        line_of(
            caught, f"{trial}.npz: ", "delete its row in results.csv, and --resume trains it again"
        )


def test_states_and_locks_that_a_kill_has_left(copy, whole, synthetic_dir):
    trial = rows(copy)[0]["trial"]
    leftovers = [f"{trial}.state.npz", f"{trial}.npz.lock", f"{trial}.lock", ".images.bin"]
    for name in leftovers:
        (copy / name).write_text("")
    subprocess.run(
        command(copy, *GRID, "--resume", "--dropout", 0.4, data=synthetic_dir), capture_output=True
    )
    assert left_in(copy) >= trial_files(rows(copy))
    subprocess.run(
        command(copy, *GRID, "--resume", data=synthetic_dir), check=True, capture_output=True
    )
    assert left_in(copy) == left_in(whole(GRID))
