"""support/locks.py: one process at a time, and nobody's files are touched."""

import os
import signal
import subprocess

from support import files, locks

import pytest
from helpers import line_of, started

HOLD = """
with locks.locked("x.npz", "a training"):
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # short names in the errors
    return tmp_path


def lock_error(path="x.npz", name="x.npz"):
    """The error in one line of locking `path`, which it calls `name`."""
    with pytest.raises(files.FileError) as caught, locks.locked(path, "another"):
        pass
    return line_of(caught, name, ";")


@pytest.fixture
def holder():
    """Another process that holds the lock on x.npz."""
    process = started(HOLD, stdin=subprocess.PIPE)
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.communicate()


def test_the_holder_of_a_lock_is_named(holder):
    text = lock_error()
    assert f"in use by a training, process {holder.pid} on " in text


def test_other_files_are_not_locked(holder):
    with locks.locked("y.npz", "a test"):
        pass


def test_a_killed_process_holds_nothing(holder):
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert os.listdir() == ["x.npz.lock"]
    assert locks.holder("x.npz") is None
    with locks.locked("x.npz", "a test"):
        pass
    assert os.listdir() == []


def test_a_process_waits_for_the_holder(holder):
    waiting = started(HOLD.replace('training"', 'second one", wait=True'), stdin=subprocess.PIPE)
    assert waiting.stderr.readline().startswith("waiting for a training, process ")
    holder.communicate("")
    assert waiting.stdout.readline() == "ready\n"
    waiting.communicate("")
    assert os.listdir() == []


def test_a_process_locks_itself_out():
    with locks.locked("x.npz", "a test"):
        assert "in use by a test, process" in lock_error()
    assert os.listdir() == []


def test_the_holder_can_be_asked_for():
    assert locks.holder("x.npz") is None
    with locks.locked("x.npz", "a test"):
        assert locks.holder("x.npz").startswith(f"a test, process {os.getpid()} on ")
    assert locks.holder("x.npz") is None


def test_links_are_locked_as_their_targets():
    os.symlink("x.npz", "link")
    with locks.locked("x.npz", "a test"):
        assert "in use by a test" in lock_error("link", "x.npz")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_fifo_is_not_locked():
    os.mkfifo("fifo")
    with locks.locked("fifo", "a test"), locks.locked("fifo", "another"):
        assert os.listdir() == ["fifo"]


def test_the_text_of_a_lock_is_not_trusted():
    with locks.locked("x.npz", "a test"):
        with open("x.npz.lock", "wb") as file:
            file.write(locks.FIRST_LINE + b"\x1b]0;" + b"y" * 10_000 + b"\xff\0\n")
        assert "in use by ?]0;yyy" in lock_error()


def test_processes_hold_a_lock_one_at_a_time():
    code = """
import os, time
for _ in range(20):
    with locks.locked("x", "a test", wait=True):
        os.mkdir("inside")
        time.sleep(0.001)
        os.rmdir("inside")
"""
    processes = [started(code) for _ in range(3)]
    for process in processes:
        assert "Error" not in process.communicate(timeout=120)[1]
        assert process.returncode == 0
    assert os.listdir() == []


# ---- Files of the user's own ---------------------------------------------------------------

PRECIOUS = b"years of work\n"


def make_file(path):
    with open(path, "wb") as file:
        file.write(PRECIOUS)


def make_link(path):
    make_file("precious")
    os.symlink("precious", path)


def make_hard_link(path):
    make_file("precious")
    os.link("precious", path)


def make_dangling_link(path):
    os.symlink("nothing", path)


def make_link_to_a_lock(path):
    with open("precious", "wb") as file:
        file.write(locks.FIRST_LINE)
    os.symlink("precious", path)


def make_start_of_a_lock(path):
    with open(path, "wb") as file:
        file.write(locks.FIRST_LINE[:10])


def make_fifo(path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("needs FIFOs")
    os.mkfifo(path)


def snapshot():
    """The files here: kind, and content if it can be read."""
    found = {}
    for name in sorted(os.listdir()):
        content = None
        if os.path.isfile(name):
            with open(name, "rb") as file:
                content = file.read()
        found[name] = os.lstat(name).st_mode, content
    return found


@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        make_file,
        make_link,
        make_hard_link,
        make_dangling_link,
        make_link_to_a_lock,
        make_start_of_a_lock,
        make_fifo,
        os.mkdir,
    ],
)
def test_anything_but_a_lock_is_left_alone(make, wait):
    make("x.npz.lock")
    before = snapshot()
    with pytest.raises(files.FileError) as caught, locks.locked("x.npz", "a test", wait=wait):
        pass
    line_of(caught, "x.npz.lock: ", "; rename it")
    assert locks.holder("x.npz") is None
    assert snapshot() == before


def test_an_empty_lock_is_taken():
    make_file("x.npz.lock")
    os.truncate("x.npz.lock", 0)  # of a process that was killed between two calls
    with locks.locked("x.npz", "a test"):
        pass
    assert os.listdir() == []


def test_a_file_that_replaces_a_lock_is_not_deleted():
    with locks.locked("x.npz", "a test"):
        os.unlink("x.npz.lock")
        make_file("x.npz.lock")
    assert os.listdir() == ["x.npz.lock"]


def test_a_lock_that_cannot_be_written_is_named_and_deleted(monkeypatch):
    def full(*args):
        raise OSError(27, "File too large")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="File too large") as caught, locks.locked("x", "a test"):
        pass
    assert caught.value.filename.endswith("x.lock")
    assert os.listdir() == []
