"""support/files.py: atomic writes, and reads of regular files only."""

import errno
import json
import os
import stat
import subprocess
import sys
import threading

from support import files

import pytest
from helpers import ROOT, line_of, started

needs_fifos = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # short names in the errors
    return tmp_path


def write(path, content=b"new"):
    with files.write_whole(path) as file:
        file.write(content)


def read(path):
    with open(path, "rb") as file:
        return file.read()


# ---- Reading -------------------------------------------------------------------------------


def read_error(path):
    """The error in one line of reading `path`."""
    with pytest.raises(files.FileError) as caught, files.error_context(path, "give another"):
        files.read_file(path, 1000)
    return line_of(caught, "give another")


@needs_fifos
def test_only_regular_files_are_read():
    os.mkdir("folder")
    os.mkfifo("fifo")
    os.symlink("fifo", "link")
    os.symlink("/dev/zero", "zero")
    os.symlink("loop", "loop")
    write("large", bytes(1001))
    for name, fault in (
        ("none", "is missing"),
        ("folder", "is a folder"),
        ("fifo", "is a FIFO"),
        ("link", "is a FIFO"),
        ("zero", "is a device"),
        ("loop", "cannot be read"),
        ("large", "is larger than 1,000 bytes"),
    ):
        assert fault in read_error(name)


def test_a_file_of_the_largest_size_is_read():
    write("x", bytes(1000))
    assert files.read_file("x", 1000) == bytes(1000)


def test_json_objects_are_parsed():
    assert files.parse_object(json.dumps({"a": 1})) == {"a": 1}


@pytest.mark.parametrize("text", ["", "[]", "[" * 10**5, '{"a": Infinity}', '{"a": 1e999}'])
def test_anything_but_a_json_object_is_a_fault(text):
    with pytest.raises(files.Fault):
        files.parse_object(text)


# ---- Writing -------------------------------------------------------------------------------


def test_a_new_file_gets_its_folders():
    write("new/folder/x")
    assert read("new/folder/x") == b"new"


def test_an_interrupted_write_changes_nothing():
    write("x", b"old")
    with pytest.raises(KeyboardInterrupt), files.write_whole("x") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert read("x") == b"old"
    assert os.listdir() == ["x"]


def test_an_interrupt_while_the_temporary_file_is_made_leaves_nothing(monkeypatch):
    make_file = files._make_file

    def interrupted(path):
        make_file(path)
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "_make_file", interrupted)
    with pytest.raises(KeyboardInterrupt), files.write_whole("x"):
        pass
    assert os.listdir() == []


def test_links_stay_and_their_targets_are_replaced():
    write("target", b"old")
    os.symlink("target", "link")
    os.symlink("nothing", "dangling")
    for link, target in (("link", "target"), ("dangling", "nothing")):
        write(link)
        assert os.path.islink(link)
        assert read(target) == b"new"


@needs_fifos
def test_a_fifo_with_a_reader_is_written_into():
    os.mkfifo("fifo")
    # The reader is there before the writer, and reads once there is something.
    number = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
    received = []

    def receive():
        os.set_blocking(number, True)
        with open(number, "rb") as file:
            received.append(file.read())

    reader = threading.Thread(target=receive)
    with files.write_whole("fifo") as file:
        reader.start()
        file.write(bytes(1 << 20))
    reader.join(60)
    assert received == [bytes(1 << 20)]
    assert stat.S_ISFIFO(os.stat("fifo").st_mode)


@needs_fifos
def test_a_fifo_without_a_reader_does_not_block():
    os.mkfifo("fifo")
    with pytest.raises(OSError, match="a FIFO that nobody reads") as caught:
        write("fifo")
    assert caught.value.filename == "fifo"


def test_devices_stay():
    try:
        os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod("full", stat.S_IFCHR | 0o666, os.makedev(1, 7))
        write("null")
    except PermissionError:
        pytest.skip("devices can't be made here")
    with pytest.raises(OSError, match="No space left") as caught:
        write("full")
    assert caught.value.filename == "full"
    assert all(stat.S_ISCHR(os.stat(name).st_mode) for name in ("null", "full"))
    assert sorted(os.listdir()) == ["full", "null"]


def test_refusals_of_the_system_carry_the_path():
    os.mkdir("folder")
    write("file")
    os.symlink("loop", "loop")
    for path, number in (
        ("folder", errno.EISDIR),
        ("file/x", errno.ENOTDIR),
        ("file/y/x", errno.ENOTDIR),
        ("loop", errno.ELOOP),
        ("z" * 300, errno.ENAMETOOLONG),
    ):
        with pytest.raises(OSError, match=r".") as caught:
            write(path)
        assert (caught.value.filename, caught.value.errno) == (path, number)


def test_a_full_disk_carries_the_path_and_leaves_nothing(monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write("x")
    assert caught.value.filename == "x"
    assert os.listdir() == []


def test_long_names_are_written():
    for name in ("x" * 255, "ü" * 127, "猫" * 85):
        write(name)
        assert read(name) == b"new"


def test_a_temporary_name_that_is_taken_stays(monkeypatch):
    monkeypatch.setattr(files, "_counter", iter(range(3)))
    monkeypatch.setattr(files, "remove_leftovers", lambda path: None)
    taken = [f".x.{files.HOST}.{os.getpid()}.{i}.tmp" for i in range(2)]
    with open(taken[0], "w") as file:
        file.write("notes")
    os.symlink("precious", taken[1])
    write("x")
    assert read(taken[0]) == b"notes"
    assert sorted(os.listdir()) == sorted([*taken, "x"])


def test_only_leftovers_of_ended_processes_are_deleted():
    code = """
with files.write_whole("x") as file:
    print("ready", flush=True)
    sys.stdin.read()
"""
    living = started(code, stdin=subprocess.PIPE)
    killed = started(code, stdin=subprocess.PIPE)
    for process in (living, killed):
        assert process.stdout.readline() == "ready\n"
    killed.kill()
    killed.communicate()
    others = [".y.otherhost.1.0.tmp", ".x.tmp", "x.partial", ".x.notes.tmp"]
    for name in others:
        write(name)
    files.remove_leftovers("x")
    left = set(os.listdir()) - set(others)
    assert len(left) == 1
    assert f".{living.pid}." in left.pop()
    files.remove_leftovers(".")
    living.communicate("")
    assert living.returncode == 0
    assert sorted(os.listdir()) == sorted([*others, "x"])


def test_processes_write_one_file_at_once():
    code = """
for i in range(50):
    with files.write_whole("x") as file:
        file.write(bytes([i]) * 100_000)
"""
    processes = [started(code) for _ in range(3)]
    assert [process.communicate(timeout=120)[1] for process in processes] == [""] * 3
    assert read("x") == bytes([49]) * 100_000
    assert os.listdir() == ["x"]


# ---- Folders -------------------------------------------------------------------------------


def test_a_folder_appears_complete_or_not_at_all():
    with files.write_whole_folder(files.Path("new")) as folder:
        (folder / "x").write_bytes(b"")
        assert not os.path.exists("new")
    assert os.listdir("new") == ["x"]
    with (
        pytest.raises(KeyboardInterrupt),
        files.write_whole_folder(files.Path("other")) as folder,
    ):
        (folder / "x").write_bytes(b"")
        raise KeyboardInterrupt
    assert os.listdir() == ["new"]


def test_errors_name_the_folder_and_not_its_temporary_name():
    with (
        pytest.raises(OSError, match="missing") as caught,
        files.write_whole_folder(files.Path("new")) as folder,
    ):
        raise FileNotFoundError(errno.ENOENT, "missing", str(folder / "x"))
    assert os.path.basename(caught.value.filename) == "new"
    assert os.listdir() == []


def test_a_folder_that_is_being_made_is_no_leftover():
    os.mkdir("real")
    os.symlink("real", "link")
    with files.write_whole_folder(files.Path("link/new")) as folder:
        files.remove_leftovers("link/new")
        files.remove_leftovers("real")
        (folder / "x").write_bytes(b"")
    assert os.listdir("real/new") == ["x"]


def test_folders_of_killed_processes_are_deleted():
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    os.makedirs(f".new.{files.HOST}.{dead.pid}.0.tmp/deep")
    os.makedirs("new.partial")  # this one is the user's
    with files.write_whole_folder(files.Path("new")):
        pass
    assert sorted(os.listdir()) == ["new", "new.partial"]


@pytest.mark.skipif(os.name == "nt", reason="needs a limit on file sizes")
def test_a_limit_on_file_sizes_names_the_file(synthetic_dir):
    code = (
        "import resource, runpy, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    script = [str(ROOT / "train.py"), "--epochs", "1", "--output", "net.npz"]
    script += ["--data-dir", str(synthetic_dir)]
    done = subprocess.run(
        [sys.executable, "-c", code, *script], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert "net.npz" in done.stderr
    assert "File too large" in done.stderr
    assert os.listdir() == []
