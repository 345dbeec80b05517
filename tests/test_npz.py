"""support/npz.py: files that are whole or not there, locks, and archives that are judged before they are read."""

import bz2
import errno
import io
import json
import os
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
import zipfile
import zlib

from support import files, locks, npz

import numpy as np
import pytest
from conftest import ROOT, in_little_memory, line_of

ARRAYS = {
    "W1": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b1": np.zeros((1, 4), np.float16),
    "n": np.arange(3),
}
NAME = "a.npz"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # short names in the errors
    return tmp_path


def refused(content=None, path=NAME):
    """The error of reading a file of these bytes."""
    if content is not None:
        with open(path, "wb") as file:
            file.write(content)
    start = time.process_time()
    with pytest.raises(files.FileError) as caught:
        npz.read_npz(path)
    assert time.process_time() - start < 2
    return line_of(caught, path, ";")


def archive(members, compression=zipfile.ZIP_STORED):
    """The bytes of a zip with these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def npy(header, data=b"", version=1):
    """An .npy file with this header, a dict or text."""
    text = header if isinstance(header, bytes) else repr(header).encode()
    return (
        b"\x93NUMPY"
        + bytes([version, 0])
        + struct.pack("<H" if version == 1 else "<I", len(text))
        + text
        + data
    )


def header(descr="<f4", shape=(1,), fortran=False):
    return {"descr": descr, "fortran_order": fortran, "shape": shape}


# ---- What is read ---------------------------------------------------------------------------------------------------


def test_what_is_written_is_read():
    meta = {"a": [1, 2.5, None, True], "ü\ud800": {"b": 2**127}}
    npz.write_npz(NAME, ARRAYS, meta)
    arrays, read = npz.read_npz(NAME)
    assert read == meta
    assert list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert np.array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype
        arrays[name][...] = 1  # writable
    npz.write_npz(NAME, ARRAYS)
    assert npz.read_npz(NAME)[1] == {}


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_numpys_own_files_are_read(write):
    given = ARRAYS | {
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big_endian": np.arange(3, dtype=">f4"),
        "empty": np.empty((0, 4)),
        "scalar": np.float64(3),
        "deep": np.arange(16, dtype=np.uint8).reshape(2, 2, 2, 2),
    }
    write(NAME, **given)
    arrays, meta = npz.read_npz(NAME)
    assert meta == {}
    for name, array in given.items():
        assert np.array_equal(arrays[name], array)
        assert arrays[name].dtype.isnative
    assert npz.read_npz(NAME)[0]["deep"].shape == (2, 2, 2, 2)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_all_versions_of_headers_are_read(version):
    with open(NAME, "wb") as file:
        file.write(
            archive({"x.npy": npy(header(shape=(2,)), np.float32([1, 2]).tobytes(), version)})
        )
    assert npz.read_npz(NAME)[0]["x"].tolist() == [1, 2]


# ---- What is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({"x.npy": b""}, "holds x.npy, which is no NumPy array"),
        ({"x.npy": b"text"}, "holds x.npy, which is no NumPy array"),
        ({"x.npy": npy(header(shape=(2,)), b"1234")}, "bytes of x.npy, not the"),
        ({"x.npy": npy(header(shape=(0,)), b"1234")}, "bytes of x.npy, not the"),
        ({"x.npy": npy(header(shape=(10**11,) * 7))}, "over 4 GB"),
        ({"x.npy": npy(header(shape=(0, 10**11)))}, "over 4 GB"),
        ({"x.npy": npy(header("|O"), b"1234")}, "describes no array of numbers"),
        ({"x.npy": npy(header("|S4"), b"1234")}, "describes no array of numbers"),
        ({"x.npy": npy(header("<M8[s]"), b"12345678")}, "describes no array of numbers"),
        ({"x.npy": npy(header("<c8"), b"12345678")}, "describes no array of numbers"),
        ({"x.npy": npy(header([("a", "<f4")]), b"1234")}, "describes no array of numbers"),
        ({"x.npy": npy(header("<U1"), b"1234")}, "holds text in x.npy"),
        ({"x.npy": npy(b"{" + b"(" * 3000)}, "describes no array of numbers: {((("),
        ({"x.npy": npy(b"{'descr': " + b"-" * 3000)}, "describes no array"),
        ({"x.npy": npy(b"x" * 60_000)}, "a header of 60,000 bytes"),
        ({"x.npy": npy(header(), version=2)[:8] + b"\xff" * 8}, "a header of 4,294,967,295 bytes"),
        ({"x.npy": npy(b"\x1b[31m\xff")}, "describes no array of numbers: ?[31m"),
        (
            {"x.npy": npy(header(shape=(1,)), np.float32(np.nan).tobytes())},
            "entries in x.npy that are not finite",
        ),
        (
            {"x.npy": npy(header(shape=(1,)), np.float32(np.inf).tobytes())},
            "entries in x.npy that are not finite",
        ),
        ({"readme.txt": b"text"}, "holds 'readme.txt', which is no array"),
        ({"folder/": b""}, "holds 'folder/'"),
        ({"a/x.npy": b""}, "holds 'a/x.npy'"),
        ({"\x1b]0;x.npy": b""}, "holds '?]0;x.npy'"),
        ({"y" * 60_000 + ".npy": b""}, "which is no array"),
        ({f"{i}.npy": b"" for i in range(1001)}, "has 1,001 members"),
        ({"meta.npy": npy(header("<f4"), b"1234")}, "has an array 'meta' that is no text"),
        (
            {"meta.npy": npy(header("<U1", ()), b"\xff\xff\x7f\x7f")},
            "'meta' that is no Unicode text",
        ),
        ({"meta.npy": npy(header("<U1", ()), b"\0\xd8\0\0")}, "'meta' that is no Unicode text"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:25],
)
def test_wrong_members_are_named(members, fault):
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        assert fault in refused(archive(members, compression))


@pytest.mark.parametrize(
    ("meta", "fault"),
    [
        ("", "no JSON in"),
        ("[1]", "no JSON object"),
        ("[" * 100_000, "too deep a nesting"),
        ('{"a": NaN}', "the number NaN"),
        ('{"a": -Infinity}', "the number -Infinity"),
        ('{"a": 1e999}', "a number beyond 1e308"),
        ('{"a": %s}' % ("9" * 5000), "a number of over 100 digits"),
        ('{"a": "\\', "no JSON in"),
    ],
    ids=lambda value: value[:20],
)
def test_wrong_meta_is_named(meta, fault):
    np.savez(NAME, meta=np.array(meta or " "))
    assert fault in refused()


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(compression):
    assert "compressed by other than deflate" in refused(archive({"x.npy": b"x"}, compression))


def test_damaged_files_are_one_line():
    for write in (np.savez, np.savez_compressed):
        write(NAME, **ARRAYS, meta=np.array('{"a": 1}'))
        with open(NAME, "rb") as file:
            sound = file.read()
        rng = np.random.default_rng(0)
        for _ in range(150):
            content = bytearray(sound)
            for place in rng.integers(0, len(content), rng.integers(1, 4)):
                content[place] = rng.integers(256)
            del content[rng.integers(len(content) // 2, 2 * len(content)) :]
            with open(NAME, "wb") as file:
                file.write(content)
            try:
                npz.read_npz(NAME)
            except files.FileError as error:
                assert str(error).startswith("a.npz: ")
                assert str(error).isprintable()
                assert len(str(error)) <= 300


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_only_regular_files_are_read():
    assert refused(path="none.npz").startswith(
        "none.npz: no such checkpoint; 'python train.py' writes one"
    )
    os.mkdir("folder")
    assert "is a folder" in refused(path="folder")
    os.mkfifo("fifo")
    assert "is a FIFO" in refused(path="fifo")
    os.symlink("/dev/zero", "zero")
    assert "is a device" in refused(path="zero")
    os.symlink("loop", "loop")
    assert "Too many levels of symbolic links" in refused(path="loop")
    with open("large", "wb") as file:
        file.truncate(npz.MAX_BYTES * 2)
    assert "is larger than" in refused(path="large")
    for name in ("a\0b", "a\ud800b"):
        with pytest.raises(files.FileError, match=r"a\?b: "):
            npz.read_npz(name)


def deflated(name, unpacked, claimed=None):
    """A member of zeros, and an archive that says it has `claimed` bytes."""
    content = npy(header("|u1", (unpacked,)))
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = compressor.compress(content)
    for _ in range(unpacked >> 20):
        packed += compressor.compress(bytes(1 << 20))
    packed += compressor.flush()
    size = len(content) + unpacked if claimed is None else claimed
    fields = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0, 0, len(packed), size, len(name), 0)
    local = b"PK\3\4" + fields + name + packed
    entry = b"PK\1\2" + struct.pack("<H", 20) + fields + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name
    return (
        local + entry + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), len(local), 0)
    )


def test_bombs_take_little_memory():
    npy_of_4_gb = npy(header("|u1", (4 << 30,)))
    bombs = {
        "deflate": deflated(b"x.npy", 65 << 20),
        "deflate that says less": deflated(b"x.npy", 65 << 20, 1000),
        "deflate that says more": deflated(b"x.npy", 1 << 20, 4 << 29),
        "bzip2": archive({"x.npy": npy_of_4_gb}, zipfile.ZIP_BZIP2),
        "shape": archive({"x.npy": npy_of_4_gb}, zipfile.ZIP_DEFLATED),
        "text": archive(
            {"meta.npy": npy(header(f"<U{1 << 23}", ()), bytes(1 << 25))}, zipfile.ZIP_DEFLATED
        ),
        "directory": b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, 1 << 30, 0, 0),
        "lists": archive(
            {
                "meta.npy": npy(
                    header("<U2000000", ()), ("[[]" + ",[]" * 666_665 + "]]").encode("utf-32-le")
                )
            }
        ),
    }
    bombs["twice bzip2"] = bz2.compress(bombs["bzip2"])
    for name, content in bombs.items():
        with open(f"{name}.npz", "wb") as file:
            file.write(content)
    os.mkdir("big")
    with open("big/sparse.npz", "wb") as file:
        file.truncate(3 << 30)
        file.seek(-22, 2)
        file.write(b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 65535, 65535, (3 << 30) - 22, 0, 0))
    done = in_little_memory(
        """
import glob
for path in sorted(glob.glob("*.npz") + ["big/sparse.npz"]):
    try:
        npz.read_npz(path)
    except files.FileError as error:
        assert len(str(error)) <= 300, error
    else:
        raise AssertionError(path)
print("refused")
""",
        megabytes=250,
    )
    assert done == "refused"


def test_reading_takes_the_arrays_memory_once():
    np.savez(NAME, a=np.ones(100 << 17), b=np.ones(50 << 17))  # 150 MB
    assert (
        in_little_memory("print(npz.read_npz('a.npz')[0]['a'].sum())", megabytes=190)
        == f"{100 << 17}.0"
    )


# ---- Whole files ----------------------------------------------------------------------------------------------------


def write(path, content=b"new"):
    with files.write_whole(path) as file:
        file.write(content)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def test_a_file_is_replaced_as_a_whole():
    write("new/folder/x")
    assert read("new/folder/x") == b"new"
    with pytest.raises(KeyboardInterrupt), files.write_whole("new/folder/x") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert read("new/folder/x") == b"new"
    assert os.listdir("new/folder") == ["x"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_what_is_no_regular_file_stays():
    write("target", b"old")
    os.symlink("target", "link")
    os.symlink("nothing", "dangling")
    for link, target in (("link", "target"), ("dangling", "nothing")):
        write(link)
        assert os.path.islink(link)
        assert read(target) == b"new"
    os.mkfifo("fifo")
    received = []
    reader = threading.Thread(target=lambda: received.append(read("fifo")))
    reader.start()
    npz.write_npz("fifo", ARRAYS)
    reader.join()
    assert stat.S_ISFIFO(os.stat("fifo").st_mode)
    write("copy.npz", received[0])
    assert np.array_equal(npz.read_npz("copy.npz")[0]["W1"], ARRAYS["W1"])


def test_a_device_stays():
    try:
        os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod("full", stat.S_IFCHR | 0o666, os.makedev(1, 7))
        write("null")
    except PermissionError:
        pytest.skip("devices can't be made here")
    npz.write_npz("null", ARRAYS)
    with pytest.raises(OSError, match="No space left") as caught:
        npz.write_npz("full", ARRAYS)
    assert caught.value.filename == "full"
    assert all(stat.S_ISCHR(os.stat(name).st_mode) for name in ("null", "full"))
    assert sorted(os.listdir()) == ["full", "null"]


def test_refusals_carry_the_path(monkeypatch):
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

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        npz.write_npz("x", ARRAYS)
    assert caught.value.filename == "x"
    assert sorted(os.listdir()) == ["file", "folder", "loop"]


def test_long_names_are_written():
    for name in ("x" * 255, "ü" * 127):
        write(name)
        assert read(name) == b"new"


def test_what_could_not_be_read_is_not_written():
    with pytest.raises(files.FileError, match="can't be written"):
        npz.write_npz(NAME, {}, {"a": float("nan")})
    with pytest.raises(files.FileError, match=r"would have 8\.0 GB"):
        npz.write_npz(NAME, {"x": np.broadcast_to(np.float64(0), 1 << 30)})
    assert os.listdir() == []


def python(code, **options):
    start = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from support import files, locks, npz\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", start + code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_only_leftovers_of_ended_processes_are_deleted():
    code = """
with files.write_whole(sys.argv[-1]) as file:
    print("ready", flush=True)
    sys.stdin.read()
"""
    living, killed = (
        python(code.replace("sys.argv[-1]", repr(name)), stdin=subprocess.PIPE)
        for name in ("x", "x")
    )
    assert [process.stdout.readline() for process in (living, killed)] == ["ready\n"] * 2
    killed.kill()
    killed.communicate()
    write(".y.otherhost.1.0.tmp")
    assert len(os.listdir()) == 3
    files.remove_leftovers("x")
    found = os.listdir()
    assert len(found) == 2
    assert any(f".{living.pid}." in name for name in found)
    write("x")
    assert len(os.listdir()) == 3
    files.remove_leftovers(".")
    living.communicate("")
    assert living.returncode == 0
    assert sorted(os.listdir()) == [".y.otherhost.1.0.tmp", "x"]


def test_processes_that_write_one_file_at_once():
    code = """
for i in range(50):
    with files.write_whole("x") as file:
        file.write(bytes([i]) * 100_000)
"""
    processes = [python(code) for _ in range(3)]
    assert [process.communicate(timeout=60)[1] for process in processes] == [""] * 3
    assert read("x") == bytes([49]) * 100_000
    assert os.listdir() == ["x"]


# ---- Locks ----------------------------------------------------------------------------------------------------------

HOLD = """
with locks.locked("x.npz", "a training"):
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_who_holds_a_lock_is_named():
    holder = python(HOLD, stdin=subprocess.PIPE)
    assert holder.stdout.readline() == "ready\n"
    with pytest.raises(files.FileError) as caught, locks.locked("x.npz", "a test"):
        pass
    text = line_of(
        caught,
        "x.npz: in use by a training, process ",
        f"process {holder.pid} on ",
        " since 20",
        ";",
    )
    assert "stop it" in text
    with locks.locked("y.npz", "a test"):
        pass
    waiting = python(HOLD.replace('training"', 'second one", wait=True'), stdin=subprocess.PIPE)
    assert waiting.stderr.readline().startswith("waiting for a training, process ")
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert waiting.stdout.readline() == "ready\n"
    waiting.kill()
    waiting.communicate()
    assert os.listdir() == ["x.npz.lock"]  # left by the kill
    held = pytest.raises(files.FileError, match="a test, process")
    with locks.locked("x.npz", "a test"), held, locks.locked("x.npz", "another"):
        pass
    assert os.listdir() == []


def test_a_holder_can_be_asked_for():
    assert locks.holder("x.npz") is None
    with locks.locked("x.npz", "a test"):
        assert locks.holder("x.npz").startswith(f"a test, process {os.getpid()} on ")
    with open("x.npz.lock", "w") as file:  # left by a kill
        file.write("a test, process 1")
    assert locks.holder("x.npz") is None
    with locks.locked("x.npz", "another"):
        pass


def test_links_are_locked_as_what_they_name():
    os.symlink("x.npz", "link")
    with (
        locks.locked("x.npz", "a test"),
        pytest.raises(files.FileError),
        locks.locked("link", "another"),
    ):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_fifo_is_not_locked():
    os.mkfifo("fifo")
    with locks.locked("fifo", "a test"), locks.locked("fifo", "another"):
        assert os.listdir() == ["fifo"]


def test_a_lock_file_is_not_trusted():
    with locks.locked("x.npz", "a test"):
        with open("x.npz.lock", "wb") as file:
            file.write(b"\x1b]0;" + b"y" * 10_000 + b"\xff\0\n")
        with pytest.raises(files.FileError) as caught, locks.locked("x.npz", "another"):
            pass
        line_of(caught, "in use by ?]0;yyy")


def test_one_at_a_time():
    code = """
import os, time
for _ in range(20):
    with locks.locked("x", "a test", wait=True):
        os.mkdir("inside")
        time.sleep(0.001)
        os.rmdir("inside")
"""
    processes = [python(code) for _ in range(3)]
    for process in processes:
        assert "Error" not in process.communicate(timeout=60)[1]
        assert process.returncode == 0
    assert os.listdir() == []


def test_json_objects_of_other_files():
    assert files.parse_object(json.dumps({"a": 1})) == {"a": 1}
    for text in ("", "[]", "[" * 10**5, '{"a": Infinity}'):
        with pytest.raises(files.Fault):
            files.parse_object(text)
    with open("x.json", "wb") as file:
        file.write(b"{}" + b" " * 1000)
    assert files.parse_object(files.read_file("x.json", 1002).decode()) == {}
    with pytest.raises(files.Fault, match="larger than 1,001 bytes"):
        files.read_file("x.json", 1001)
