"""search.py: stops and kills lose nothing, and no file in its folder is trusted."""

import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import time
from dataclasses import fields
from functools import partial
from pathlib import Path

import train
from support import files, npz
from support.searching import tables, workers
from support.searching.results import Results

import pytest
from helpers import line_of
from searches import (
    GRID,
    HALVING,
    LONG,
    TIMEOUT,
    TINY,
    command,
    left_in,
    no_workers,
    only_line,
    refusal,
    rows,
    run_here,
    start,
    trial_files,
    wait_until_training,
    workers_in_this_process,
)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs process groups")


@pytest.fixture(scope="module")
def whole(synthetic_dir, tmp_path_factory):
    """whole(flags): the folder of a search with these flags that nothing disturbs."""
    folders = {}

    def run(flags):
        if flags not in folders:
            folders[flags] = tmp_path_factory.mktemp("whole")
            argv = command(folders[flags], *flags, data=synthetic_dir)
            subprocess.run(argv, check=True, capture_output=True)
        return folders[flags]

    return run


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of the folder of a finished grid search."""
    return Path(shutil.copytree(whole(GRID), tmp_path / "copy"))


@pytest.fixture
def refused(synthetic_dir, monkeypatch, capsys):
    """refused(folder, *flags): the line on stderr with which a search ends before training."""
    monkeypatch.setattr(workers, "local_workers", no_workers)

    return partial(refusal, capsys, synthetic_dir)


@pytest.fixture
def searched(synthetic_dir, monkeypatch, capsys):
    """searched(folder, *flags): the stdout of a search in this process, which succeeds."""
    monkeypatch.setattr(workers, "local_workers", workers_in_this_process)

    def call(folder, *flags):
        code, out, error = run_here(capsys, synthetic_dir, folder, *flags)
        assert code == 0, error
        return out

    return call


def contents(folder):
    """The bytes of every regular file in a folder, and the targets of links."""
    found = {}
    for path in folder.iterdir():
        if path.is_symlink():
            found[path.name] = os.readlink(path)
        elif path.is_file():
            found[path.name] = path.read_bytes()
    return found


# ---- Stopped, killed, resumed -----------------------------------------------------------------


@pytest.mark.parametrize("flags", [GRID, HALVING], ids=["grid", "halving"])
def test_a_search_killed_twice_and_resumed_ends_as_one_that_was_not(
    flags, whole, synthetic_dir, tmp_path
):
    for _ in range(2):
        process = start(tmp_path, *flags, "--jobs", 2, "--resume", data=synthetic_dir)
        wait_until_training(tmp_path, process)
        time.sleep(random.uniform(0, 0.3))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    done = rows(tmp_path) if (tmp_path / "results.csv").exists() else []
    written = {}
    for row in done:
        written[row["checkpoint"]] = (tmp_path / row["checkpoint"]).stat().st_mtime_ns
    argv = command(tmp_path, *flags, "--resume", data=synthetic_dir)
    subprocess.run(argv, check=True, capture_output=True)
    assert rows(tmp_path) == rows(whole(flags))
    assert left_in(tmp_path) == left_in(whole(flags))
    # What had ended wasn't trained again.
    for name, time_ns in written.items():
        assert (tmp_path / name).stat().st_mtime_ns == time_ns


@pytest.mark.parametrize("to_all", [True, False], ids=["group", "process"])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_a_stopped_search_says_how_to_continue(number, code, to_all, synthetic_dir, tmp_path):
    process = start(tmp_path, *LONG, data=synthetic_dir)
    wait_until_training(tmp_path, process)
    if to_all:
        os.killpg(process.pid, number)
    else:
        os.kill(process.pid, number)
    _, error = process.communicate(timeout=TIMEOUT)
    assert process.returncode == code, error
    assert "; resume with: python search.py" in only_line(error)
    assert error.strip().endswith("--resume")
    # No temporary files, locks or images are left.
    assert {Path(name).suffix for name in left_in(tmp_path)} <= {".npz", ".csv"}
    assert not list(tmp_path.parent.glob(f"{tmp_path.name}*.lock"))


def test_ctrl_c_at_any_moment_of_the_start(synthetic_dir, tmp_path):
    # Before our first module is imported, Python itself prints a traceback.
    processes = [start(tmp_path / str(i), *LONG, data=synthetic_dir) for i in range(6)]
    for process in processes:
        wait_for_numpy(process)
    for process in processes:
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.1)
    for process in processes:
        _, error = process.communicate(timeout=TIMEOUT)
        only_line(error)


def wait_for_numpy(process):
    """Wait until the process has loaded numpy, after our handling of Ctrl-C."""
    began = time.monotonic()
    while "_multiarray_umath" not in Path(f"/proc/{process.pid}/maps").read_text():
        assert time.monotonic() < began + TIMEOUT
        time.sleep(0.005)


def test_a_killed_worker_ends_the_search_with_one_line(whole, synthetic_dir, tmp_path):
    process = start(tmp_path, *GRID, "--jobs", 1, data=synthetic_dir)
    while not (tmp_path / "results.csv").exists():
        assert process.poll() is None
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in children:
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
            os.kill(int(child), signal.SIGKILL)
    _, error = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 2
    assert "a worker process was killed" in only_line(error)
    assert "--resume" in error
    done = rows(tmp_path)
    assert done
    for row in done:
        assert row in rows(whole(GRID))


def test_workers_end_with_the_search(synthetic_dir, tmp_path):
    process = start(tmp_path, *LONG, data=synthetic_dir)
    wait_until_training(tmp_path, process)
    process.kill()
    # It returns when the last process that holds the pipes has ended.
    process.communicate(timeout=TIMEOUT)


def test_a_full_stdout(synthetic_dir, tmp_path):
    argv = command(tmp_path / "out", *TINY, "--jobs", 1, data=synthetic_dir)
    with open("/dev/full", "w") as device:
        done = subprocess.run(argv, stdout=device, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert "No space left on device" in only_line(done.stderr)


@pytest.mark.parametrize("size", [0, 1 << 20, 3_200_000], ids=["nothing", "images", "rows"])
def test_files_that_cannot_grow(size, synthetic_dir, tmp_path):
    """Files beyond a size can't be written: any, the images, or a checkpoint."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    flags = "--hidden-size", 300, 301, "--epochs", 1, "--jobs", 1, "--threads", 1
    process = start(tmp_path / "out", *flags, data=synthetic_dir, preexec_fn=limit)
    out, error = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 2, out
    only_line(error)
    assert "File too large" in out + error
    assert re.search(r"(out|state\.npz)\S*: File too large", out + error)  # it names the file
    assert not list(tmp_path.glob("out/.*.tmp"))
    assert not list(tmp_path.glob("**/*.lock"))


# ---- The same search, or another one ----------------------------------------------------------


def test_a_finished_search_is_resumed_without_training(copy, whole, refused, synthetic_dir, capsys):
    code, out, error = run_here(capsys, synthetic_dir, copy, *GRID, "--resume")
    assert code == 0, error
    assert "4 of 4 trials are in" in out
    assert rows(copy) == rows(whole(GRID))


@pytest.mark.parametrize(
    ("flags", "differs"),
    [
        ("--epochs 9", "--epochs 9"),
        ("--batchnorm false", "--batchnorm false"),
        ("--seed 1", "--seed 1"),
        ("--halving", "--halving --eta 2"),
        ("--repeats 2", "--repeats 2"),
        ("--random 2", "--random 2"),
        ("--hidden-size 24 12", "--hidden-size 24 12"),
        ("--dropout 0.5 0.2", "--dropout 0.5 0.2"),
        ("--learning-rate 0.01", "--learning-rate 0.01"),
        ("--recipe quick --batchnorm", "--window 8"),
    ],
)
def test_resuming_another_search_names_the_flag_that_differs(flags, differs, copy, refused):
    before = contents(copy)
    error = refused(copy, *GRID, *flags.split(), "--resume")
    assert f"{differs} differs from the search in" in error
    assert "--overwrite or another --output-dir" in error
    assert contents(copy) == before


def test_a_table_that_a_spreadsheet_saved_is_read_as_it_was():
    options = {field.name: field for field in fields(train.Settings)}
    searched = {name: options[name] for name in ("batchnorm", "lambda_reg", "hidden_size")}
    row = dict.fromkeys(["trial", *searched, *tables.COLUMNS], "")
    row |= {"trial": "0123456789", "repeat": "1", "seed": "0", "status": "failed"}
    row |= {"batchnorm": "TRUE", "lambda_reg": "0.00001", "hidden_size": "064"}
    tables.check_row(row, searched, ".")
    assert [row[name] for name in searched] == ["true", "1e-05", "64"]


def test_a_search_on_other_images_is_not_resumed(copy, refused):
    path = copy / "search.json"
    definition = json.loads(path.read_text())
    definition["data"] = {"name": "cifar10\x1b[2J", "fingerprint": "0"}
    path.write_text(json.dumps(definition))
    error = refused(copy, *GRID, "--resume")
    assert "other images (cifar10?[2J)" in error
    assert "--data-dir" in error


def test_a_search_that_is_there_stays_unless_a_flag_says_what_to_do(copy, refused):
    before = contents(copy)
    error = refused(copy, *GRID)
    assert "there is a search already" in error
    assert "--resume" in error
    assert "--overwrite" in error
    assert contents(copy) == before


def test_a_second_search_in_the_same_folder_is_refused(synthetic_dir, tmp_path, refused):
    process = start(tmp_path / "out", *LONG, data=synthetic_dir)
    try:
        wait_until_training(tmp_path / "out", process)
        for flags in (LONG, (*TINY, "--resume"), (*TINY, "--overwrite")):
            error = refused(tmp_path / "out", *flags)
            assert f"out: in use by a search, process {process.pid} on " in error
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate()


# ---- Overwriting: only a search's own files are deleted ---------------------------------------


def test_overwrite_leaves_nothing_of_the_old_search(copy, searched):
    (copy / "notes.txt").write_text("mine")
    old = trial_files(rows(copy))
    searched(copy, *TINY, "--overwrite", "--learning-rate", 0.01)
    assert left_in(copy) == {"notes.txt"} | trial_files(rows(copy))
    assert not old & left_in(copy)


@pytest.mark.parametrize(
    "name",
    [
        "results.csv",
        "search.json",
        "best.npz",
        "0123456789.npz",
        "0123456789.state.npz",
        "2024112512.csv",
    ],
)
def test_overwrite_deletes_no_file_of_the_users(name, copy, refused):
    (copy / name).write_bytes(b"mine")
    before = contents(copy)
    error = refused(copy, *TINY, "--overwrite")
    assert f"{name}: isn't a search's file" in error
    assert contents(copy) == before


@pytest.mark.parametrize("flag", ["--overwrite", "--resume", None])
@pytest.mark.parametrize("kind", ["link", "FIFO", "folder"])
@pytest.mark.parametrize(
    "name", ["results.csv", "search.json", "best.npz", "0123456789.npz", ".images.bin"]
)
def test_links_fifos_and_folders_with_the_name_of_a_file_are_refused(
    name, kind, flag, tmp_path, refused
):
    folder = tmp_path / "out"
    folder.mkdir()
    precious = tmp_path / "precious.npz"
    precious.write_bytes(b"precious")
    path = folder / name
    if kind == "link":
        path.symlink_to(precious)
    elif kind == "FIFO":
        os.mkfifo(path)
    else:
        path.mkdir()
    error = refused(folder, *TINY, *([flag] if flag else []))
    assert f"{name}: is a {kind}" in error
    assert "--output-dir" in error
    assert precious.read_bytes() == b"precious"
    assert os.path.lexists(path)


@pytest.mark.parametrize("name", ["out.lock", "out/0123456789.lock", "out/0123456789.npz.lock"])
@pytest.mark.parametrize("kind", ["link", "FIFO", "file"])
def test_locks_that_are_not_ours_stay(name, kind, tmp_path, synthetic_dir, monkeypatch, capsys):
    monkeypatch.setattr(workers, "local_workers", workers_in_this_process)
    (tmp_path / "out").mkdir()
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    lock = tmp_path / name
    if kind == "link":
        lock.symlink_to(precious)
    elif kind == "FIFO":
        os.mkfifo(lock)
    else:
        lock.write_bytes(b"mine")
    code, _, error = run_here(capsys, synthetic_dir, tmp_path / "out", *TINY)
    if name == "out.lock":  # the search's own lock
        assert code == 2
        assert "out.lock: " in error
    assert os.path.lexists(lock)
    assert precious.read_bytes() == b"precious"
    if kind == "file":
        assert lock.read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["best.npz", "0123456789.npz", "0123456789.csv", ".images.bin"])
def test_a_file_of_the_users_without_a_search_stays(name, tmp_path, refused):
    (tmp_path / name).write_bytes(b"mine")
    assert f"{name}: there is a search already" in refused(tmp_path, *TINY)
    assert "search.json: is missing" in refused(tmp_path, *TINY, "--resume")
    assert f"{name}: isn't a search's file" in refused(tmp_path, *TINY, "--overwrite")
    assert (tmp_path / name).read_bytes() == b"mine"


def test_a_file_as_output_folder(tmp_path, refused):
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in refused(tmp_path / "file", *TINY)


# ---- Damaged files in the folder --------------------------------------------------------------


def test_a_damaged_search_json_is_one_line(copy, refused):
    path = copy / "search.json"
    text = path.read_text()
    good = json.loads(text)
    damages = ["", "{", "[]", "{}", "\udcff", "[" * 100_000, "9" * 5000, "1e999", text[:-9]]
    for name in good:
        for value in (None, 3, [[]], {"a": 1}, "x" * 9000):
            if value != good[name]:
                damages.append(json.dumps(good | {name: value}))
    for damage in damages:
        path.write_bytes(damage.encode("utf-8", "surrogateescape"))
        assert "search" in refused(copy, *GRID, "--resume")


def test_a_missing_search_json_is_one_line(copy, refused):
    (copy / "search.json").unlink()
    assert "search.json: is missing" in refused(copy, *GRID, "--resume")


def table_damages(text):
    """Contents of results.csv that no search writes."""
    first, row, *_ = text.splitlines()
    cells = dict(zip(first.split(","), row.split(","), strict=True))
    yield from ("", "\0", "a,b\n1,2\n", text + "zz,64\n", text + row + "\n", first * 2)
    yield from ('"' + text, "x," * 99_999)
    for name in ("learning_rate", "x$", ""):
        yield text.replace(first, first.replace("hidden_size", name))
    wrong = {
        "trial": ("", "../../x", "ABCDEF0123", "0123456789", "0" * 5000),
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
    for name, values in wrong.items():
        for value in values:
            yield text.replace(row, ",".join((cells | {name: value}).values()))


def test_a_damaged_table_is_one_line(copy, refused):
    table = copy / "results.csv"
    for damage in table_damages(table.read_text()):
        table.write_text(damage)
        assert "results.csv: " in refused(copy, *GRID, "--resume"), damage[:99]


def test_a_missing_checkpoint_is_one_line(copy, refused):
    name = rows(copy)[0]["checkpoint"]
    (copy / name).unlink()
    assert f"{name} is missing" in refused(copy, *GRID, "--resume")


@pytest.mark.parametrize(
    "history",
    [
        None,
        {},
        {"val_accuracy": [], "val_loss": []},
        {"val_accuracy": ["x"], "val_loss": [1]},
    ],
)
def test_a_damaged_history_is_one_line(history, copy):
    trial = rows(copy)[0]["trial"]
    path = copy / f"{trial}.npz"
    arrays, info = npz.read_npz(path)
    npz.write_npz(path, arrays, info | {"history": history})
    with pytest.raises(files.FileError) as caught:
        Results(copy, [], rows(copy)).history(trial)
    line_of(caught, f"{trial}.npz", "--resume")


def test_a_history_is_read_from_its_checkpoint(copy):
    trial = rows(copy)[0]["trial"]
    _, info = npz.read_npz(copy / f"{trial}.npz")
    found = Results(copy, [], rows(copy)).history(trial)
    assert found == {name: info["history"][name] for name in ("val_accuracy", "val_loss")}


def test_files_that_a_kill_leaves_are_deleted_on_resume(copy, whole, searched):
    trial = rows(copy)[0]["trial"]
    for name in (f"{trial}.state.npz", f"{trial}.npz.lock", f"{trial}.lock", ".images.bin"):
        (copy / name).write_text("")
    searched(copy, *GRID, "--resume")
    assert left_in(copy) == left_in(whole(GRID))
