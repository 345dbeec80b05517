"""data/pickles.py and data/batches.py: pickles that load, pickles that are refused, and attacks."""

import bz2
import collections
import gzip
import lzma
import os
import pickle
import re
import struct
import subprocess

from data import cifar10, pickles
from data.layouts import CIFAR10, CLASSES

import numpy as np
import pytest
from batches import (
    BATCHES,
    FILES,
    NAMES,
    batch,
    dump,
    images,
    py2_batch,
    py2_str,
    py2_text_batch,
)
from helpers import in_little_memory, line_of


def refused(folder, content=None, file="data_batch_1"):
    """Return the error for a folder whose file has this content: bytes, or a value to pickle."""
    if isinstance(content, bytes):
        (folder / file).write_bytes(content)
    elif content is not None:
        dump(folder / file, content)
    with pytest.raises(cifar10.DataError) as caught:
        cifar10.load(data_dir=folder)
    return line_of(caught, file, ";")


# ---- What loads ----------------------------------------------------------------------------------


@pytest.fixture(params=["python 2", "python 2, protocol 0", 0, 1, 2, 3, 4, 5])
def rewritten(request, folder):
    """The contents of the batches in a folder written by one of the protocols."""
    batches = {file: batch(file, n=3 + i) for i, file in enumerate(BATCHES)}
    for file, content in batches.items():
        if request.param == "python 2":
            (folder / file).write_bytes(py2_batch(content))
        elif request.param == "python 2, protocol 0":
            (folder / file).write_bytes(py2_text_batch(content))
        else:
            dump(folder / file, content, request.param)
    return batches


def test_every_protocol_loads(folder, rewritten):
    data = cifar10.load(data_dir=folder)
    train = [rewritten[file] for file in CIFAR10.train]
    images = np.concatenate([content[b"data"] for content in train])
    labels = np.concatenate([content[b"labels"] for content in train])
    assert np.array_equal(data.train_images, images)
    assert np.array_equal(data.train_labels, labels)
    assert np.array_equal(data.test_images, rewritten["test_batch"][b"data"])
    assert np.array_equal(data.test_labels, rewritten["test_batch"][b"labels"])


def test_images_are_bytes_and_labels_integers(folder):
    data = cifar10.load(data_dir=folder)
    assert data.train_images.dtype == data.test_images.dtype == np.uint8
    assert data.train_labels.dtype == data.test_labels.dtype == np.int64


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "change",
    [
        lambda c: {key.decode(): value for key, value in c.items()},
        lambda c: c | {b"labels": np.array(c[b"labels"], ">i2")},
        lambda c: c | {b"labels": list(np.array(c[b"labels"], np.uint8))},
        lambda c: c | {b"data": np.asfortranarray(c[b"data"])},
        lambda c: c | {b"filenames": ["ü", "x" * 70_000, b"", b"y" * 5000]},
        lambda c: {key: c[key] for key in (b"data", b"labels")},
    ],
    ids=[
        "str keys",
        "label array",
        "numpy labels",
        "fortran order",
        "other names",
        "no batch_label",
    ],
)
def test_repickled_batches_load_alike(folder, change, protocol):
    plain = cifar10.load(data_dir=folder)
    for file in BATCHES:
        dump(folder / file, change(pickle.loads((folder / file).read_bytes())), protocol)
    dump(folder / "batches.meta", {"label_names": list(CLASSES)}, protocol)
    data = cifar10.load(data_dir=folder)
    assert data.fingerprint == plain.fingerprint
    assert data.class_names == plain.class_names


LABELS = [3, 0, 9, 1]


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    "labels",
    [
        tuple(LABELS),
        [float(label) for label in LABELS],
        [[label] for label in LABELS],
        [LABELS],
        (tuple(LABELS),),
        [(float(label),) for label in LABELS],
        [np.int64(label) for label in LABELS],
        [np.float32(label) for label in LABELS],
        [np.array([label]) for label in LABELS],
        np.array(LABELS),
        np.array(LABELS, ">u2"),
        np.array(LABELS, np.float64),
        np.array(LABELS, np.float16)[:, None],
        np.array(LABELS)[:, None],
        np.array(LABELS)[None],
    ],
    ids=lambda labels: f"{type(labels).__name__} of {labels[0]!r}",
)
def test_labels_saved_again_in_another_form_are_read(folder, labels, protocol):
    dump(folder / "test_batch", batch("test_batch", labels=labels), protocol)
    read = cifar10.load(data_dir=folder).test_labels
    assert read.tolist() == LABELS
    assert read.dtype == np.int64


def test_both_module_paths_of_numpy_load(folder):
    path = folder / "test_batch"
    old, new = b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n"
    written = path.read_bytes()
    versions = [written.replace(new, old), written.replace(old, new)]
    assert versions[0] != versions[1]
    read = []
    for version in versions:
        path.write_bytes(version)
        read.append(cifar10.load(data_dir=folder).test_images)
    assert np.array_equal(*read)


def test_values_equal_those_of_pickle(tmp_path):
    value = {
        "ints": [0, 255, 256, 65536, -1, 2**31, -(2**63), 2**100],
        "texts": ["", "ü€", "x" * 300],
        "bytes": [b"", b"\0\xff'\"\n", b"x" * 300],
        "others": (
            None,
            True,
            False,
            1.5,
            (),
            (1,),
            (1, 2),
            (1, 2, 3),
            (1, 2, 3, 4),
            [],
            {},
            {"a": [{"b": (1,)}]},
        ),
    }
    for protocol in range(6):
        dump(tmp_path / "x", value, protocol)
        assert pickles.read_pickle(tmp_path / "x") == value


# ---- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"data": images().astype(np.float32)}, "has images of dtype float32, not uint8"),
        ({"data": images().astype(">i2")}, "has images of dtype >i2, not uint8"),
        ({"data": images().astype(object)}, "holds an array of dtype 'O8'"),
        ({"data": images()[:, :1024]}, "has images of shape (4, 1024), not (rows, 3072)"),
        (
            {"data": images().reshape(-1, 3, 32, 32)},
            "has images of shape (4, 3, 32, 32), not (rows, 3072)",
        ),
        ({"data": images()[:0], "labels": []}, "has images of shape (0, 3072)"),
        ({"data": images().tolist()}, "has data of type list, not an array"),
        ({"data": np.zeros((4, 3072), "M8[s]")}, "holds an array of dtype 'M8'"),
        ({"labels": [0, 1, 10, 3]}, "has label 10 in row 2, outside 0..9"),
        ({"labels": [0, 1, 2, -1]}, "has label -1 in row 3, outside 0..9"),
        ({"labels": np.array([0, 1, 2, 99])}, "has label 99 in row 3, outside 0..9"),
        ({"labels": [0, 1, 2, 2**70]}, "in row 3, outside 0..9"),
        ({"labels": [0, 1, 2, 2**5000]}, "holds an integer of 626 bytes"),
        ({"labels": [0, 1, 2.5, 3]}, "has a label that is not an integer in row 2: 2.5"),
        ({"labels": [0, 1, float("nan"), 3]}, "has label nan in row 2"),
        ({"labels": np.array([0, 1, np.inf, 3])}, "has label inf in row 2"),
        ({"labels": ["cat", "dog", "cat", "dog"]}, "not an integer in row 0: 'cat'"),
        ({"labels": [0, 1, [2, 3], 3]}, "not an integer in row 2: a list"),
        ({"labels": [0, 1, None, 3]}, "not an integer in row 2: a NoneType"),
        ({"labels": np.array([True, False, True, True])}, "not an integer in row 0: True"),
        ({"labels": {0: 1}}, "has labels of type dict"),
        ({"labels": np.array(3)}, "has labels of shape ()"),
        ({"labels": [0, True, 2, 3]}, "has a label that is not an integer in row 1"),
        ({"labels": np.zeros((4, 10), int)}, "has labels of shape (4, 10), not (rows,)"),
        ({"labels": np.eye(10)[:4]}, "save labels.argmax(1)"),
        ({"labels": None}, "has labels of type NoneType"),
        ({"labels": [1, 2, 3]}, "has 4 images but 3 labels"),
        (
            {"batch_label": b"training batch 2 of 5"},
            "is swapped: it says that it is 'training batch 2 of 5'",
        ),
        (
            {"batch_label": b"testing batch 1 of 1"},
            "is swapped: it says that it is 'testing batch 1 of 1'",
        ),
        (
            {"batch_label": b"training batch 1 of 5, synthetic"},
            "is synthetic, but its batches.meta says otherwise",
        ),
        ({"x" * 6000: 1, "labels": None}, "has labels of type NoneType"),
    ],
)
def test_wrong_content_is_named(folder, change, fault):
    text = refused(folder, batch("data_batch_1", **change))
    assert text.startswith("cifar-10-batches-py/data_batch_1: ")
    assert fault in text


def test_the_remedy_is_a_command(folder):
    text = refused(folder, b"")
    assert text.endswith("run: python data/cifar10.py --data-dir cifar-10-batches-py")


@pytest.mark.parametrize(
    "label", [b"training batch 0 of 5", b"training batch 17 of 20", b"my own copy", b"\xff"]
)
def test_labels_that_do_not_contradict_the_name(folder, label):
    dump(folder / "data_batch_1", batch("data_batch_1", batch_label=label))
    if label == b"\xff":
        assert "holds text that is not UTF-8" in refused(folder)
    else:
        assert cifar10.load(data_dir=folder).name == "cifar10"


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (NAMES[:1], "no list of 2 to 1,000 label_names"),
        ([b"%d" % i for i in range(1001)], "no list of 2 to 1,000 label_names"),
        (None, "no list of 2"),
        ([b"cat"] * 10, "doubled"),
        ([*NAMES[:9], b"\x1b[31m"], "not printable"),
        ([*NAMES[:9], b"x" * 5000], "holds memoryview where text belongs"),
        ([*NAMES[:9], 7], "holds int where text belongs"),
    ],
)
def test_wrong_class_names_are_named(folder, names, fault):
    assert fault in refused(folder, pickle.dumps({b"label_names": names}, 3), "batches.meta")


def test_swapped_files_are_named(folder):
    meta, one, two = (folder / file for file in ("batches.meta", "data_batch_1", "data_batch_2"))
    sound = one.read_bytes()
    assert "data_batch_1: has no 'data', but 'label_names'" in refused(folder, meta.read_bytes())
    assert "data_batch_1: is swapped" in refused(folder, two.read_bytes())
    assert "data_batch_1: is swapped" in refused(folder, (folder / "test_batch").read_bytes())
    one.write_bytes(sound)
    assert "test_batch: is swapped" in refused(folder, sound, "test_batch")
    assert "batches.meta: has no 'label_names'" in refused(folder, sound, "batches.meta")


@pytest.mark.parametrize("file", FILES)
def test_missing_file_is_named(folder, file):
    (folder / file).unlink()
    assert refused(folder, file=file).startswith(f"cifar-10-batches-py/{file}: is missing; ")


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_a_truncated_file_is_named(folder, share):
    content = (folder / "data_batch_4").read_bytes()
    text = refused(folder, content[: int(share * len(content))], "data_batch_4")
    assert text.startswith("cifar-10-batches-py/data_batch_4: is truncated or empty; ")


@pytest.mark.parametrize(
    "content", [b"\x80", b"hello", b"\x89PNG\r\n\x1a\n", b"\x1f\x8b" + bytes(99), bytes(99)]
)
def test_garbage_is_named(folder, content):
    assert refused(folder, content, "test_batch").startswith("cifar-10-batches-py/test_batch: is ")


ROWS = np.random.default_rng(0).integers(0, 10, (3, 3073), np.uint8)
OTHER_FILES = [
    (b"", "is empty"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 3\n", "git lfs pull"),
    (b"/annex/objects/SHA256E-s31--ab\n", "git annex get"),
    (b"<!DOCTYPE html><html><title>404", "is a web page"),
    (b"\xef\xbb\xbf\r\n <HTML lang=en>", "is a web page"),
    (b"<?xml version='1.0'?><Error><Code>AccessDenied", "is a web page"),
    (gzip.compress(b"x"), "is compressed with gzip"),
    (bz2.compress(b"x"), "is compressed with bzip2"),
    (lzma.compress(b"x"), "is compressed with xz"),
    (b"PK\x03\x04" + bytes(40), "is a zip archive"),
    (b"7z\xbc\xaf\x27\x1c" + bytes(40), "is a 7z archive"),
    (b"MATLAB 5.0 MAT-file, Platform: GLNXA64", "is the version for MATLAB"),
    (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
    (b"\x93NUMPY\x01\0v\0{'descr'", "is a NumPy array"),
    (b"PAR1\x15\x04\x15", "is a Parquet file"),
    (b"\x89PNG\r\n\x1a\n", "is a PNG picture"),
    (b"\xff\xd8\xff\xe0\0\x10JFIF", "is a JPEG picture"),
    (b"data_batch_1".ljust(257, b"\0") + b"ustar\x0000", "is a tar archive"),
    (bytes(5000), "is full of zeros"),
    (ROWS.tobytes(), "is the binary version"),
    (np.insert(ROWS, 0, 19, axis=1).tobytes(), "is the binary version"),
]


@pytest.mark.parametrize("file", ["data_batch_1", "test_batch", "batches.meta"])
@pytest.mark.parametrize(("content", "fault"), OTHER_FILES, ids=[fault for _, fault in OTHER_FILES])
def test_another_kind_of_file_is_named(folder, file, content, fault):
    assert fault in refused(folder, content, file)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_what_is_no_regular_file_is_named(folder):
    path = folder / "data_batch_2"
    path.unlink()
    path.mkdir()
    assert "data_batch_2: is a folder, not a regular file" in refused(folder, file="data_batch_2")
    path.rmdir()
    os.mkfifo(path)
    assert "data_batch_2: is a FIFO, not a regular file" in refused(folder, file="data_batch_2")
    path.unlink()
    path.symlink_to("/dev/zero")
    assert "data_batch_2: is a device, not a regular file" in refused(folder, file="data_batch_2")
    path.unlink()
    path.symlink_to(path)
    assert "data_batch_2: cannot be read (Too many levels" in refused(folder, file="data_batch_2")
    path.unlink()
    with open(path, "wb") as file:
        file.truncate(pickles.LIMIT + 1)  # sparse: takes no room
    assert "data_batch_2: is larger than 1,073,741,824 bytes" in refused(
        folder, file="data_batch_2"
    )


# ---- Attacks -------------------------------------------------------------------------------------


class Runs:
    """Pickles as a call of `function` with `args`."""

    def __init__(self, function, *args):
        self.reduced = function, args

    def __reduce__(self):
        return self.reduced


def hostile(path):
    trace = str(path)
    return {
        "os.system": Runs(os.system, f"touch {trace}"),
        "eval": Runs(eval, f"open({trace!r}, 'w')"),
        "open": Runs(open, trace, "w"),
        "subprocess": Runs(subprocess.call, ["touch", trace]),
        "getattr": Runs(getattr, "", "join"),
        "numpy.load": Runs(np.load, trace, None, True),
        "numpy.save": Runs(np.save, trace, 1),
        "nested": [{"deep": (Runs(os.mkdir, trace),)}],
        "OrderedDict": collections.OrderedDict(a=1),
    }


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", hostile(""))
def test_no_foreign_global_is_run(folder, tmp_path, name, protocol):
    trace = tmp_path / "trace"
    for content in (batch("data_batch_1") | {b"extra": hostile(trace)[name]}, hostile(trace)[name]):
        text = refused(folder, pickle.dumps(content, protocol))
        assert re.search(
            r"data_batch_1: asks for \S+, which no image batch needs, and was not run", text
        )
        assert not trace.exists()


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
DTYPE = b"cnumpy\ndtype\n(U\x02%bK\x00K\x01tR"
CRAFTED = [
    (
        ARRAY + b"(K\x01J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86" + DTYPE % b"u1" + b"\x89U\x01xtb",
        "shape (2147483647,",
    ),
    (
        ARRAY + b"(K\x01J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86" + DTYPE % b"u1" + b"\x89U\x01xtb",
        "an array of an invalid shape",
    ),
    (
        ARRAY + b"(K\x01U\x01bJ\xff\xff\xff\x7f\x86" + DTYPE % b"u1" + b"\x89U\x01xtb",
        "an array of an invalid shape",
    ),
    (
        ARRAY + b"(K\x01(" + b"K\x01" * 4000 + b"t" + DTYPE % b"u1" + b"\x89U\x01xtb",
        "an array of an invalid shape",
    ),
    (
        ARRAY
        + b"(K\x01("
        + b"\x8a\x10"
        + b"\x7f" * 16
        + b"K\x00t"
        + DTYPE % b"u1"
        + b"\x89U\x00tb",
        "an array of an invalid shape",
    ),
    (ARRAY + b"(K\x01K\x01\x85" + DTYPE % b"O8" + b"\x89]Natb", "dtype 'O8'"),
    (ARRAY + b"(K\x01K\x01\x85" + DTYPE % b"V8" + b"\x89U\x08xxxxxxxxtb", "dtype 'V8'"),
    (ARRAY + b"(K\x01K\x01\x85" + DTYPE % b"i9" + b"\x89U\x09xxxxxxxxxtb", "dtype 'i9'"),
    (ARRAY + b"(K\x01K\x01\x85U\x02u1\x89U\x01xtb", "is not a CIFAR-10 pickle"),
    (ARRAY + b"(K\x01K\x01\x85" + DTYPE % b"u1" + b"\x89]tb", "holds an array without bytes"),
    (ARRAY, "is not a CIFAR-10 pickle"),
    (b"cnumpy\nndarray\n(J\xff\xff\xff\x7f\x85tR", "holds a bare numpy.ndarray"),
    (b"cnumpy\nndarray\n", "has data of type Name"),
    (b"cnumpy\ndtype\n(U\x03O,OtR", "holds a bare numpy.dtype"),
    (
        b"c_codecs\nencode\n(X\x01\x00\x00\x00xX\x03\x00\x00\x00hextR",
        "_codecs.encode of something that is not",
    ),
    (
        b"c_codecs\nencode\n(K\x01X\x06\x00\x00\x00latin1tR",
        "_codecs.encode of something that is not",
    ),
    (b"c_codecs\nencode\n(N}U\x0c__defaults__U\x01xstb", "sets items of something|sets the state"),
    (b"cbuiltins\nbytes\nJ\xff\xff\xff\x7f\x85R", "asks for bytes of something"),
    (b"cx\x1b[2J\nsystem\n", "asks for x?[2J.system"),
    (b"c" + b"x" * 6000 + b"\nsystem\n", "a line that is too long"),
    (b"\x8c\xc8" + b"y" * 200 + b"\x8c\x01z\x93", "asks for yyy"),
    (b"Pid\n", "is not a CIFAR-10 pickle (operation b'P')"),
    (b"\x82\x01", "is not a CIFAR-10 pickle (operation b'\\x82')"),
    (b"h\x05", "is not a CIFAR-10 pickle (a reference to 5)"),
    (b"L" + b"9" * 100 + b"\n", "holds an integer that is none, or too long"),
    (b"F1_0x\n", "is not a CIFAR-10 pickle (ValueError in b'F')"),
]


@pytest.mark.parametrize(("value", "fault"), CRAFTED, ids=range(len(CRAFTED)))
def test_crafted_values_are_refused(folder, value, fault):
    labels = py2_str(b"labels") + b"](K\x00K\x01e"
    text = refused(folder, b"\x80\x02}(" + labels + py2_str(b"data") + value + b"u.")
    assert any(part in text for part in fault.split("|"))


def nest(depth):
    """Return a tuple of two references to a tuple of two ...: printing it takes 2^depth steps."""
    return b")q\x00" + b"".join(b"h%c%s\x86q%c" % (i, b"h%c" % i, i + 1) for i in range(depth))


BOMBS = {
    "a memo index of 2^27": b"Nr\x00\x00\x00\x08.",
    "a memo index of 2^32 - 1": b"Nr\xff\xff\xff\xff.",
    "a key of 2^40 tuples": b"}" + nest(40) + b"Ns.",
    "2^40 tuples as the content": nest(40) + b".",
    "2^40 tuples as labels": b"}U\x06labels" + nest(40) + b"sU\x04data" + ARRAY + b"s.",
    "2^40 tuples as a shape": b"}(U\x06labels]U\x04data"
    + ARRAY
    + b"(K\x01"
    + nest(40)
    + DTYPE % b"u1"
    + b"\x89U\0tbu.",
    "300,000 nested tuples": b")" + b"\x85" * 300_000 + b".",
    "300,000 nested lists": b"]" * 300_000 + b"a" * 299_999 + b".",
    "300,000 marks": b"(" * 300_000 + b"t" * 300_000 + b".",
    "a million empty dicts": b"}" * 1_000_000 + b".",
    "a string of 2^62 bytes": b"\x8e" + struct.pack("<Q", 2**62) + b"x.",
    "a string of -1 bytes": b"T\xff\xff\xff\xffx.",
    "an integer of 2^31 bytes": b"\x8b\xff\xff\xff\x7fx.",
    "one text, encoded ten thousand times": b"X"
    + struct.pack("<I", 10**6)
    + b"x" * 10**6
    + b"q\x00"
    b"X\x06\0\0\0latin1q\x01c_codecs\nencode\nq\x02" + b"h\x02h\x00h\x01\x86R" * 10_000 + b".",
    "labels of shape (4e7, 0)": b"}(U\x04data"
    + ARRAY
    + b"(K\x01K\x01M\x00\x0c\x86"
    + DTYPE % b"u1"
    + b"\x89T"
    + struct.pack("<i", 3072)
    + bytes(3072)
    + b"tbU\x06labels"
    + ARRAY
    + b"(K\x01J"
    + struct.pack("<i", 40_000_000)
    + b"K\x00\x86"
    + DTYPE % b"u1"
    + b"\x89U\x00tbu.",
}


def test_bombs_are_refused_in_little_memory(folder):
    for i, content in enumerate(BOMBS.values()):
        (folder.parent / f"bomb{i}").write_bytes(b"\x80\x02" + content)
    done = in_little_memory(
        f"""
import shutil
for i in range({len(BOMBS)}):
    shutil.copy({str(folder.parent)!r} + f"/bomb{{i}}", {str(folder / "data_batch_1")!r})
    try:
        cifar10.load(data_dir={str(folder)!r})
    except cifar10.DataError as error:
        assert len(str(error)) <= 300 and "data_batch_1: " in str(error), error
    else:
        raise AssertionError(i)
print("refused", i + 1)
""",
        megabytes=150,
    )
    assert done == f"refused {len(BOMBS)}"
