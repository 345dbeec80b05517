"""support/npz.py: archives whose headers are checked before any data is read."""

import bz2
import io
import os
import struct
import zipfile
import zlib

from support import files, npz

import numpy as np
import pytest
from helpers import in_little_memory, line_of

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
    with pytest.raises(files.FileError) as caught:
        npz.read_npz(path)
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


# ---- Files that are read -------------------------------------------------------------------


def test_written_arrays_are_read_back():
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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_archives_are_written_into_fifos():
    os.mkfifo("fifo")
    number = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
    npz.write_npz("fifo", ARRAYS)
    with open(number, "rb") as fifo, open(NAME, "wb") as file:
        file.write(fifo.read())
    assert np.array_equal(npz.read_npz(NAME)[0]["W1"], ARRAYS["W1"])


# ---- Files that are refused ----------------------------------------------------------------


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
            for position in rng.integers(0, len(content), rng.integers(1, 4)):
                content[position] = rng.integers(256)
            del content[rng.integers(len(content) // 2, 2 * len(content)) :]
            with open(NAME, "wb") as file:
                file.write(content)
            try:
                npz.read_npz(NAME)
            except files.FileError as error:
                assert str(error).startswith("a.npz: ")
                assert str(error).isprintable()
                assert len(str(error)) <= 300


def test_a_missing_checkpoint_is_named():
    assert refused(path="none.npz").startswith("none.npz: no such checkpoint; 'python train.py'")


def test_the_checkpoints_next_to_a_missing_one_are_named():
    os.mkdir("nets")
    for name in ("a.npz", "a.state.npz", "b.npz", "c.txt"):
        open(f"nets/{name}", "w").close()
    text = "nets/none.npz: no such checkpoint; its folder has a.npz, b.npz"
    assert refused(path="nets/none.npz") == text


def test_of_many_checkpoints_next_to_a_missing_one_three_are_named():
    os.mkdir("nets")
    for name in "abcde":
        open(f"nets/{name}.npz", "w").close()
    assert refused(path="nets/none.npz").endswith("a.npz, b.npz, c.npz and 2 more")


def test_folders_are_refused():
    os.mkdir("folder")
    assert "is a folder" in refused(path="folder")


def test_files_beyond_the_limit_are_refused():
    with open("large", "wb") as file:
        file.truncate(npz.MAX_BYTES * 2)
    assert "is larger than" in refused(path="large")


def test_names_that_cannot_be_printed_are_named():
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


# ---- Files that are not written ------------------------------------------------------------


def test_unreadable_content_is_not_written():
    with pytest.raises(files.FileError, match="not valid JSON"):
        npz.write_npz(NAME, {}, {"a": float("nan")})
    with pytest.raises(files.FileError, match=r"would have 8\.0 GB"):
        npz.write_npz(NAME, {"x": np.broadcast_to(np.float64(0), 1 << 30)})
    assert os.listdir() == []
