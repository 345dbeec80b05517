"""data/cifar10.py: what loads, what is refused and in which words, and how the folder comes into being."""
import argparse
import collections
import contextlib
import errno
import hashlib
import http.server
import io
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import threading

from data import cifar10

import numpy as np
import pytest
from conftest import ROOT

NAMES = [name.encode() for name in cifar10.CLASSES]
rng = np.random.default_rng(0)


def images(n=4):
    return rng.integers(0, 256, (n, 3072), np.uint8)


def batch(file, n=4, **changes):
    number = re.findall(r"\d", file)
    title = f"training batch {number[0]} of 5".encode() if number else b"testing batch 1 of 1"
    content = {b"batch_label": title, b"labels": rng.integers(0, 10, n).tolist(), b"data": images(n),
               b"filenames": [b"x.png"] * n}
    return content | {key.encode(): value for key, value in changes.items()}


@pytest.fixture
def folder(tmp_path):
    """A sound folder of 5 x 4 training images and 4 test images."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for file in cifar10.FILES[:6]:
        dump(folder / file, batch(file))
    dump(folder / "batches.meta", {b"label_names": NAMES, b"num_cases_per_batch": 10**9})
    return folder


def dump(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol))


def message(call, *args, **options):
    """The one line of the DataError that the call raises."""
    with pytest.raises(cifar10.DataError) as caught:
        call(*args, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert ";" in text, "no remedy"
    return text


# Python 2's opcodes, which Python 3 no longer writes.

def py2_str(value):
    return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value


def py2_batch(content):
    data = content[b"data"]
    array = (b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
             + b"".join(b"M" + struct.pack("<H", n) for n in data.shape) + b"\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
             + b"(K\x03U\x01|NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb\x89" + py2_str(data.tobytes()) + b"tb")
    labels = b"](" + b"".join(b"K" + bytes([label]) for label in content[b"labels"]) + b"e"
    return (b"\x80\x02}(" + py2_str(b"batch_label") + py2_str(content[b"batch_label"]) + py2_str(b"data") + array
            + py2_str(b"labels") + labels + b"u.")


# What loads.

@pytest.mark.parametrize("layout", ["python 2", 0, 1, 2, 3, 4, 5])
def test_every_protocol_loads(folder, layout):
    batches = {file: batch(file, n=3 + i) for i, file in enumerate(cifar10.FILES[:6])}
    for file, content in batches.items():
        if layout == "python 2":
            (folder / file).write_bytes(py2_batch(content))
        else:
            dump(folder / file, content, layout)
    data = cifar10.load(data_dir=folder)
    train = [batches[file] for file in cifar10.TRAIN]
    assert np.array_equal(data.train_images, np.concatenate([content[b"data"] for content in train]))
    assert np.array_equal(data.train_labels, np.concatenate([content[b"labels"] for content in train]))
    assert np.array_equal(data.test_images, batches["test_batch"][b"data"])
    assert data.train_images.dtype == np.uint8
    assert data.train_labels.dtype == data.test_labels.dtype == np.int64
    assert (data.name, data.class_names, data.folder) == ("cifar10", cifar10.CLASSES, folder)


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("change", [
    lambda c: {key.decode(): value for key, value in c.items()},
    lambda c: c | {b"labels": np.array(c[b"labels"], ">i2")},
    lambda c: c | {b"labels": list(np.array(c[b"labels"], np.uint8))},
    lambda c: c | {b"data": np.asfortranarray(c[b"data"])},
    lambda c: {key: c[key] for key in (b"data", b"labels")},
], ids=["str keys", "label array", "numpy labels", "fortran order", "no batch_label"])
def test_repickled_batches_load_alike(folder, change, protocol):
    plain = cifar10.load(data_dir=folder)
    for file in cifar10.FILES[:6]:
        dump(folder / file, change(pickle.loads((folder / file).read_bytes())), protocol)
    dump(folder / "batches.meta", {"label_names": list(cifar10.CLASSES)}, protocol)
    data = cifar10.load(data_dir=folder)
    assert data.fingerprint == plain.fingerprint
    assert data.class_names == plain.class_names


def test_both_module_paths_of_numpy_load(folder):
    path = folder / "test_batch"
    old, new = b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n"
    written = path.read_bytes().replace(old, new)
    assert new in written
    path.write_bytes(written)
    images = cifar10.load(data_dir=folder).test_images
    path.write_bytes(written.replace(new, old))
    assert np.array_equal(images, cifar10.load(data_dir=folder).test_images)


def test_fingerprint_tells_content_not_batches(folder):
    before = cifar10.load(data_dir=folder)
    contents = [pickle.loads((folder / file).read_bytes()) for file in cifar10.TRAIN]
    pixels = np.concatenate([content[b"data"] for content in contents])
    labels = [label for content in contents for label in content[b"labels"]]
    for i, file in enumerate(cifar10.TRAIN):    # 1, 1, 1, 1 and 16 rows instead of 4 each
        rows = slice(i, i + 1 if i < 4 else None)
        dump(folder / file, {"data": pixels[rows], "labels": labels[rows]})
    assert cifar10.load(data_dir=folder).fingerprint == before.fingerprint
    labels[-1] = (labels[-1] + 1) % 10
    dump(folder / file, {"data": pixels[rows], "labels": labels[rows]})
    assert cifar10.load(data_dir=folder).fingerprint != before.fingerprint


def test_parent_of_the_folder_will_do(folder):
    assert cifar10.load(data_dir=str(folder.parent)).folder == folder


def test_arrays_are_read_only(folder):
    data = cifar10.load(data_dir=folder)
    for array in (data.train_images, data.train_labels, data.test_images, data.test_labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


# What is refused.

@pytest.mark.parametrize(("change", "fault"), [
    ({"data": images().astype(np.float32)}, "has images of dtype float32, not uint8"),
    ({"data": images().astype(">i2")}, "has images of dtype >i2, not uint8"),
    ({"data": images().astype(object)}, "holds an array of dtype 'O8'"),
    ({"data": images()[:, :1024]}, "has images of shape (4, 1024), not (rows, 3072)"),
    ({"data": images().reshape(-1, 3, 32, 32)}, "has images of shape (4, 3, 32, 32), not (rows, 3072)"),
    ({"data": images()[:0], "labels": []}, "has images of shape (0, 3072)"),
    ({"data": images().tolist()}, "has data of type list, not an array"),
    ({"data": np.zeros((4, 3072), "M8[s]")}, "holds an array of dtype 'M8'"),
    ({"labels": [0, 1, 10, 3]}, "has label 10 in row 2, outside 0..9"),
    ({"labels": [0, 1, 2, -1]}, "has label -1 in row 3, outside 0..9"),
    ({"labels": [0, 1, 2, 2**70]}, "in row 3, outside 0..9"),
    ({"labels": [0, 1, 2.0, 3]}, "has a label that is no integer in row 2"),
    ({"labels": [0, True, 2, 3]}, "has a label that is no integer in row 1"),
    ({"labels": np.zeros((4, 10), int)}, "has a label that is no integer in row 0"),
    ({"labels": None}, "has labels of type NoneType"),
    ({"labels": [1, 2, 3]}, "has 4 images but 3 labels"),
    ({"batch_label": b"training batch 2 of 5"}, "is swapped: it says that it is 'training batch 2 of 5'"),
    ({"batch_label": b"testing batch 1 of 1"}, "is swapped: it says that it is 'testing batch 1 of 1'"),
    ({"batch_label": b"training batch 1 of 5, synthetic"}, "is synthetic, but its batches.meta says otherwise"),
])
def test_wrong_content_is_named(folder, change, fault):
    dump(folder / "data_batch_1", batch("data_batch_1", **change))
    text = message(cifar10.load, data_dir=folder)
    assert text.startswith(f"{folder}/data_batch_1: ")
    assert fault in text
    assert f"delete {folder} and run python data/cifar10.py --data-dir {folder}" in text


@pytest.mark.parametrize(("names", "fault"), [
    (NAMES[:9], "no list of ten"), (None, "no list of ten"), ([b"cat"] * 10, "doubled"),
    ([*NAMES[:9], b"\x1b[31m"], "not printable"), ([*NAMES[:9], 7], "holds int where text belongs"),
])
def test_wrong_class_names_are_named(folder, names, fault):
    dump(folder / "batches.meta", {b"label_names": names})
    text = message(cifar10.load, data_dir=folder)
    assert "batches.meta: " in text
    assert fault in text


def test_swapped_files_are_named(folder):
    meta, one, two = (folder / file for file in ("batches.meta", "data_batch_1", "data_batch_2"))
    sound = one.read_bytes()
    one.write_bytes(meta.read_bytes())
    assert "data_batch_1: has no 'data', but 'label_names'" in message(cifar10.load, data_dir=folder)
    one.write_bytes(two.read_bytes())
    assert "data_batch_1: is swapped" in message(cifar10.load, data_dir=folder)
    one.write_bytes((folder / "test_batch").read_bytes())
    assert "data_batch_1: is swapped" in message(cifar10.load, data_dir=folder)
    meta.write_bytes(sound)
    assert "batches.meta: has no 'label_names'" in message(cifar10.load, data_dir=folder)


@pytest.mark.parametrize("file", cifar10.FILES)
def test_missing_file_is_named(folder, file):
    (folder / file).unlink()
    assert message(cifar10.load, data_dir=folder).startswith(f"{folder / file}: is missing; ")


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_truncated_file_is_named(folder, share):
    path = folder / "data_batch_4"
    content = path.read_bytes()
    path.write_bytes(content[:int(share * len(content))])
    assert message(cifar10.load, data_dir=folder).startswith(f"{path}: is truncated or empty; ")


@pytest.mark.parametrize("content", [b"\x80", b"hello", b"\x89PNG\r\n\x1a\n", b"\x1f\x8b" + bytes(99), bytes(99)])
def test_garbage_is_named(folder, content):
    (folder / "test_batch").write_bytes(content)
    assert message(cifar10.load, data_dir=folder).startswith(f"{folder}/test_batch: is ")


def test_what_is_no_file_or_too_large_is_named(folder):
    (folder / "data_batch_2").unlink()
    (folder / "data_batch_2").mkdir()
    assert "data_batch_2: cannot be read (Is a directory)" in message(cifar10.load, data_dir=folder)
    (folder / "data_batch_2").rmdir()
    with open(folder / "data_batch_2", "wb") as file:
        file.truncate(cifar10.LIMIT + 1)    # sparse: takes no room
    assert "data_batch_2: is larger than 1,073,741,824 bytes" in message(cifar10.load, data_dir=folder)


def test_folder_without_batches_is_named(tmp_path):
    assert f"such as {tmp_path}/cifar-10-batches-py, to have it made" in message(cifar10.load, data_dir=tmp_path)
    file = tmp_path / "cifar.tar.gz"
    file.touch()
    assert f"{file}: is no folder of CIFAR-10 batches" in message(cifar10.load, data_dir=file)


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
        dump(folder / "data_batch_1", content, protocol)
        text = message(cifar10.load, data_dir=folder)
        assert re.search(r"data_batch_1: asks for \S+, which no image batch needs, and was not run", text)
        assert not trace.exists()


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
DTYPE = b"cnumpy\ndtype\n(U\x02%bK\x00K\x01tR"


@pytest.mark.parametrize(("value", "fault"), [
    (ARRAY + b"(K\x01J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86" + DTYPE % b"u1" + b"\x89U\x01xtb", "shape (2147483647,"),
    (ARRAY + b"(K\x01J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86" + DTYPE % b"u1" + b"\x89U\x01xtb", "shape (-1, -1)"),
    (ARRAY + b"(K\x01K\x01\x85" + DTYPE % b"O8" + b"\x89]Natb", "dtype 'O8'"),
    (ARRAY + b"(K\x01K\x01\x85" + DTYPE % b"V8" + b"\x89U\x08xxxxxxxxtb", "dtype 'V8'"),
    (ARRAY + b"(K\x01K\x01\x85U\x02u1\x89U\x01xtb", "is no CIFAR-10 pickle"),
    (ARRAY, "is no CIFAR-10 pickle"),
    (b"cnumpy\nndarray\n(J\xff\xff\xff\x7f\x85tR", "holds a bare numpy.ndarray"),
    (b"cnumpy\ndtype\n(U\x03O,OtR", "holds a bare numpy.dtype"),
    (b"c_codecs\nencode\n(X\x01\x00\x00\x00xX\x03\x00\x00\x00hextR", "_codecs.encode of something that is not"),
    (b"c_codecs\nencode\n(K\x01X\x06\x00\x00\x00latin1tR", "_codecs.encode of something that is not"),
    (b"cx\x1b[2J\nsystem\n", "asks for x?[2J.system"),
    (b"Pid\n", "is no CIFAR-10 pickle"),
    (b"\x82\x01", "is no CIFAR-10 pickle"),
], ids=range(13))
def test_crafted_arrays_are_refused(folder, value, fault):
    labels = py2_str(b"labels") + b"](K\x00K\x01e"
    (folder / "data_batch_1").write_bytes(b"\x80\x02}(" + labels + py2_str(b"data") + value + b"u.")
    text = message(cifar10.load, data_dir=folder)
    assert text.startswith(f"{folder}/data_batch_1: ")
    assert fault in text


def test_pickle_cannot_change_what_later_ones_get(folder):
    # BUILD sets attributes on the function itself; with a shared one, the next file would meet them.
    poison = b"c_codecs\nencode\n(N}U\x0c__defaults__(U\x01xU\x06latin1tstb"
    (folder / "data_batch_1").write_bytes(b"\x80\x02}(U\x04data" + poison + b"u.")
    message(cifar10.load, data_dir=folder)
    assert cifar10._encode.__defaults__ is None
    dump(folder / "data_batch_1", batch("data_batch_1"))
    assert cifar10.load(data_dir=folder).name == "cifar10"


# Synthetic images.

def test_synthetic_folder_is_told_from_cifar10(synthetic_dir):
    for dataset in ("auto", "synthetic"):
        data = cifar10.load(dataset, synthetic_dir)
        assert data.name == "synthetic"
        assert data.class_names == tuple(cifar10.SHAPES)
        assert (len(data.train_images), len(data.test_images)) == (1000, 200)
    assert "holds synthetic images, not cifar10; give --dataset synthetic" in message(
        cifar10.load, "cifar10", synthetic_dir)


def test_cifar10_folder_is_no_synthetic_one(folder, synthetic_dir):
    assert "holds cifar10 images, not synthetic" in message(cifar10.load, "synthetic", folder)
    (folder / "data_batch_3").write_bytes((synthetic_dir / "data_batch_3").read_bytes())
    assert "data_batch_3: is synthetic, but" in message(cifar10.load, data_dir=folder)


def test_synthetic_images_are_drawn_on_first_use(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10.write_synthetic, "__defaults__", (10, 2, 0))
    folder = tmp_path / "new" / "images"
    first = cifar10.load("synthetic", folder)
    assert os.listdir(folder.parent) == ["images"]
    (folder / "readme").touch()
    again = cifar10.load("synthetic", folder)
    assert first.fingerprint == again.fingerprint
    assert (folder / "readme").exists(), "was drawn anew"
    other = tmp_path / "other"
    cifar10.write_synthetic(other, 10, 2, seed=1)
    assert cifar10.load("synthetic", other).fingerprint != first.fingerprint
    assert "too few" in message(cifar10.write_synthetic, tmp_path / "none", 4, 1)


def test_interrupted_drawing_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(n, rng):
        raise KeyboardInterrupt

    monkeypatch.setattr(cifar10, "synthetic", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cifar10.write_synthetic(tmp_path / "images")
    assert os.listdir(tmp_path) == []


def test_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cifar10.pickle, "dump", full)
    text = message(cifar10.write_synthetic, tmp_path / "images", 10, 2)
    assert text.startswith(f"{tmp_path}/images: cannot be written (No space left on device); free some space")
    assert os.listdir(tmp_path) == []


def test_synthetic_classes_are_balanced_and_not_told_by_colour():
    pixels, labels = cifar10.synthetic(4000, np.random.default_rng(3))
    assert np.bincount(labels).tolist() == [400] * 10
    colour = np.c_[pixels.reshape(-1, 3, 1024).mean(2) / 255, np.ones(4000)]
    weights = np.linalg.lstsq(colour[:3000], np.eye(10)[labels[:3000]], rcond=None)[0]
    assert ((colour[3000:] @ weights).argmax(1) == labels[3000:]).mean() < 0.16


# Split.

def test_split_parts_the_rows():
    train, validation = cifar10.split(50, 0.1, np.random.default_rng(1))
    assert len(validation) == 5
    assert sorted([*train, *validation]) == list(range(50))
    assert np.all(np.diff(train) > 0)
    assert np.all(np.diff(validation) > 0)
    assert train.dtype == validation.dtype == np.int64
    same, other = (cifar10.split(50, 0.1, np.random.default_rng(seed))[1] for seed in (1, 2))
    assert np.array_equal(validation, same)
    assert not np.array_equal(validation, other)


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, 0.001, 0.999, float("nan"), float("inf")])
def test_split_refuses_an_empty_side(share):
    assert f"validation share {share}: leaves no" in message(cifar10.split, 50, share, np.random.default_rng(1))


# Download, from a server in a thread.

class Server(http.server.ThreadingHTTPServer):
    """Serves `body` and keeps the Range headers that it has `seen`.

    ranges: whether it knows Range; shift: by how much it begins elsewhere; cuts: after how many bytes the next
    answers break off; codes: the next answers' errors.
    """

    def __init__(self, body):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.ranges, self.shift, self.cuts, self.codes, self.seen = body, True, 0, [], [], []
        self.url = f"http://127.0.0.1:{self.server_port}/cifar.tar.gz"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.seen.append(asked)
        begin = int(asked[6:-1]) if asked and server.ranges else 0
        if server.codes or begin >= len(server.body):
            return self.send_error(server.codes.pop(0) if server.codes else 416)
        body = server.body[begin:]
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin + server.shift}-{len(server.body) - 1}/{len(server.body)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:server.cuts.pop(0) if server.cuts else None])

    def log_message(self, *args):
        pass


def archive(folder, *extra):
    """The folder as a .tar.gz under another name than its own, with further members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for member in extra:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
        tar.add(folder, "official")
    return buffer.getvalue()


def member(name, kind=tarfile.REGTYPE, target="", size=1):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size if kind == tarfile.REGTYPE else 0
    return info


@pytest.fixture
def server(folder):
    server = Server(archive(folder))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    monkeypatch.setattr(cifar10, "WAITS", (0.01, 0.01))


def md5(content):
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def fetch(server, tmp_path):
    """Download into tmp_path/new/images; options as of `load`."""
    def fetch(**options):
        return cifar10.load(**{"dataset": "cifar10", "data_dir": tmp_path / "new" / "images", "url": server.url,
                               "md5": md5(server.body)} | options)
    return fetch


def left(tmp_path):
    return sorted(os.listdir(tmp_path / "new"))


def test_download(fetch, folder, server, tmp_path):
    data = fetch()
    assert data.fingerprint == cifar10.load(data_dir=folder).fingerprint
    assert data.folder == tmp_path / "new" / "images"
    assert left(tmp_path) == ["images"]
    assert sorted(os.listdir(data.folder)) == sorted(cifar10.FILES)
    fetch()
    assert server.seen == [None], "what is there was fetched again"


def test_interrupted_download_is_resumed(fetch, server, tmp_path):
    server.cuts = [100, 1000, 1]
    assert fetch().name == "cifar10"
    assert server.seen == [None, "bytes=100-", "bytes=1100-", "bytes=1101-"]
    assert left(tmp_path) == ["images"]


def test_next_run_resumes(fetch, server, tmp_path):
    server.cuts = [500, 0, 0, 0]
    assert "cannot be fetched (the connection broke off)" in message(fetch)
    assert left(tmp_path) == [f"images.{md5(server.body)[:8]}.part"]
    server.seen.clear()
    assert fetch().name == "cifar10"
    assert server.seen == ["bytes=500-"]


def test_server_without_range(fetch, server):
    server.ranges, server.cuts = False, [3000]
    assert fetch().name == "cifar10"
    assert server.seen == [None, "bytes=3000-"]


def test_server_that_sends_another_range(fetch, server):
    server.shift, server.cuts = 7, [3000]
    assert fetch().name == "cifar10"
    assert server.seen == [None, "bytes=3000-", None]


def test_server_that_always_breaks_off_is_given_up(fetch, server):
    server.ranges, server.cuts = False, [3000] * 100
    assert "cannot be fetched" in message(fetch)
    assert len(server.seen) < 10


@pytest.mark.parametrize("content", ["whole", "damaged", "too long"])
def test_part_left_by_a_killed_run(fetch, server, tmp_path, content):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "images.partial").mkdir()
    (tmp_path / "new" / "images.lock").touch()
    part = {"whole": server.body, "damaged": b"x" * 100, "too long": server.body + b"x"}[content]
    (tmp_path / "new" / f"images.{md5(server.body)[:8]}.part").write_bytes(part)
    assert fetch().name == "cifar10"
    assert left(tmp_path) == ["images"]


def test_wrong_checksum_is_refused(fetch, server, tmp_path):
    text = message(fetch, md5=cifar10.MD5)
    assert f"has MD5 {md5(server.body)}, not {cifar10.MD5}" in text
    assert "--data-md5" in text
    assert left(tmp_path) == []


def test_wrong_checksum_never_falls_back(server, home):
    assert "has MD5" in message(cifar10.load, "auto", url=server.url)


@pytest.mark.parametrize(("code", "requests"), [(404, 1), (403, 1), (500, 3)])
def test_http_errors(fetch, server, tmp_path, code, requests):
    server.codes = [code] * 9
    assert f"--data-url {server.url}: cannot be fetched (the server answers {code}" in message(fetch)
    assert len(server.seen) == requests
    assert left(tmp_path) == []


def test_passing_errors_are_passed_over(fetch, server):
    server.codes = [503, 429]
    assert fetch().name == "cifar10"


def test_silent_server_is_given_up(fetch, server, monkeypatch):
    monkeypatch.setattr(cifar10, "TIMEOUT", 0.05)
    monkeypatch.setattr(Handler, "do_GET", lambda self: threading.Event().wait(0.3))
    assert "cannot be fetched (timed out)" in message(fetch)


def test_file_url(fetch, server, tmp_path):
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(server.body)
    assert fetch(url=path.as_uri()).name == "cifar10"
    assert path.read_bytes() == server.body
    assert server.seen == []


@pytest.mark.parametrize(("url", "fault"), [
    ("file:///no/such/file", "No such file"), ("http://[", "cannot be fetched"), ("/x/cifar.tar.gz", "is no URL"),
    ("ftp://x/y", "is no URL"), ("http://127.0.0.1:1/", "refused")])
def test_wrong_urls(fetch, url, fault):
    text = message(fetch, url=url)
    assert text.startswith(f"--data-url {url}: ")
    assert fault in text


def test_wrong_md5_flag(fetch):
    assert message(fetch, md5="abc").startswith("--data-md5 abc: is no MD5 sum")


@pytest.mark.parametrize("extra", [
    member("official/../../../evil"), member("/tmp/evil"), member("official/link", tarfile.SYMTYPE, "/etc/passwd"),
    member("official/data_batch_1", tarfile.LNKTYPE, "../../x"), member("official/pipe", tarfile.FIFOTYPE)],
    ids=lambda extra: extra.name)
@pytest.mark.parametrize("has_filter", [True, False])
def test_archive_that_leads_out_is_refused(fetch, folder, server, tmp_path, monkeypatch, extra, has_filter):
    if not has_filter:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    server.body = archive(folder, extra)
    assert f"holds {extra.name!r}, a link or a way out" in message(fetch)
    assert left(tmp_path) == []


def test_archive_that_is_no_cifar10_is_refused(fetch, folder, server, tmp_path):
    (folder / "test_batch").unlink()
    half = server.body[:len(server.body) // 2]
    for body, fault in ((archive(folder), "test_batch: is missing"), (b"<html>", "is no sound archive"),
                        (half, "is no sound archive"), (archive(ROOT / "tests"), "is no folder of")):
        server.body = body
        assert fault in message(fetch)
        assert left(tmp_path) == []


def test_too_large_an_archive_is_refused(fetch, server, tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "LIMIT", len(server.body))
    assert "unpacks to more than" in message(fetch)
    monkeypatch.setattr(cifar10, "LIMIT", 1000)
    assert "is larger than 1,000 bytes" in message(fetch)
    assert left(tmp_path) == []


def test_processes_that_start_at_once(server, tmp_path):
    command = [sys.executable, ROOT / "data" / "cifar10.py", "--data-dir", tmp_path / "new" / "images",
               "--data-url", server.url, "--data-md5", md5(server.body)]
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
                     for _ in range(3)]
        printed = {process.communicate(timeout=60)[0] for process in processes}
        assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(printed) == 1
    assert server.seen == [None], "was fetched more than once"
    assert left(tmp_path) == ["images"]


# What auto does.

@pytest.fixture
def home(tmp_path, monkeypatch):
    """The default folders, moved to tmp_path/home, and small."""
    monkeypatch.setattr(cifar10, "HERE", tmp_path / "home")
    monkeypatch.setattr(cifar10.write_synthetic, "__defaults__", (10, 2, 0))
    return tmp_path / "home"


def test_auto_fetches(home, server, capsys):
    data = cifar10.load(url=server.url, md5=md5(server.body))
    assert (data.name, data.folder) == ("cifar10", home / "cifar-10-batches-py")
    assert "WARNING" not in capsys.readouterr().err


def test_auto_falls_back_with_a_warning(home, capsys):
    data = cifar10.load(url="http://127.0.0.1:1/x")
    assert (data.name, data.folder) == ("synthetic", home / "synthetic-batches-py")
    captured = capsys.readouterr()
    assert "WARNING: these are NOT the images of CIFAR-10 but SYNTHETIC ones" in captured.err
    assert "Connection refused" in captured.err
    assert captured.out == ""


def test_auto_never_falls_back_from_a_named_or_broken_folder(home, tmp_path):
    assert "cannot be fetched" in message(cifar10.load, data_dir=tmp_path / "typo", url="http://127.0.0.1:1/x")
    assert "cannot be fetched" in message(cifar10.load, "cifar10", url="http://127.0.0.1:1/x")
    (home / "cifar-10-batches-py").mkdir(parents=True)
    assert "is no folder of CIFAR-10 batches" in message(cifar10.load)
    assert "unknown" in message(cifar10.load, "mnist")


# The command line.

@pytest.mark.parametrize("flag", ["--data-dir {}", "--data_dir {}", "--data-dir={}", "--data_dir={}"])
def test_script_says_what_is_there(run, synthetic_dir, flag):
    done = run("data/cifar10.py", *flag.format(synthetic_dir).split())
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"name +synthetic\n", done.stdout)
    assert str(synthetic_dir) in done.stdout
    assert re.search(r"training +1,000 images", done.stdout)
    assert cifar10.load(data_dir=synthetic_dir).fingerprint in done.stdout


@pytest.mark.parametrize(("args", "line"), [
    (["--data-dri", "x"], "unrecognized arguments: --data-dri x; did you mean --data-dir?; see cifar10.py --help"),
    (["--data_url_", "x"], "unrecognized arguments: --data_url_ x; did you mean --data-url?; see cifar10.py --help"),
    (["--data", "x"], "unrecognized arguments: --data x"),
    (["--dataset", "mnist"], "argument --dataset: invalid choice: 'mnist'"),
    (["--data-dir"], "argument --data-dir: expected one argument; see cifar10.py --help"),
    (["--data-dir", os.curdir], ".: is no folder of CIFAR-10 batches; "),
    (["--data-dir", "new", "--data-url", "file:///nothing"], "--data-url file:///nothing: cannot be fetched"),
])
def test_script_fails_in_one_line(run, args, line):
    done = run("data/cifar10.py", *args)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2
    assert last.startswith(f"cifar10.py: error: {line}")
    assert len(done.stderr.splitlines()) == 1 + ("new" in args)    # "downloading ..."
    assert done.stdout == ""


def test_script_cannot_write(run, tmp_path):
    (tmp_path / "file").touch()
    done = run("data/cifar10.py", "--dataset", "synthetic", "--data-dir", "file/images")
    assert done.returncode == 2
    assert re.fullmatch(r"cifar10.py: error: file\S*: cannot be written \(.*\); free .*\n", done.stderr)


def test_script_help(run):
    done = run("data/cifar10.py", "--help")
    assert done.returncode == 0
    assert "    python data/cifar10.py --dataset synthetic " in done.stdout
    assert "(default: auto)" in " ".join(done.stdout.split())
    assert "(default: None)" not in " ".join(done.stdout.split())


def test_reader_that_has_gone_is_no_error(run, synthetic_dir):
    reader, writer = os.pipe()
    os.close(reader)
    done = run("data/cifar10.py", "--data-dir", synthetic_dir, capture_output=False, stdout=writer,
               stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_is_full_is_one_line(run, synthetic_dir):
    with open("/dev/full", "w") as full:
        done = run("data/cifar10.py", "--data-dir", synthetic_dir, capture_output=False, stdout=full,
                   stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr.startswith("cifar10.py: error: No space left on device; free some space")
    assert done.stderr.count("\n") == 1


def test_parser():
    parser = cifar10.ArgumentParser(prog="x.py")
    parser.add_argument("--lambda_reg", type=float)
    parser.add_argument("--hidden-size", type=int, default=0, help="units")
    parser.add_argument("--out-file")
    parser.add_argument("rest", nargs="*")
    args = parser.parse_args(["--lambda-reg=1", "--hidden_size", "2", "--out_file=--a_b=c_d", "--", "--x_y"])
    assert vars(args) == {"lambda_reg": 1, "hidden_size": 2, "out_file": "--a_b=c_d", "rest": ["--x_y"]}
    assert parser.parse_args(["--out-file", "a_b"]).out_file == "a_b"
    assert "units (default: 0)" in parser.format_help()


def test_add_arguments_hands_over_every_flag(folder, server):
    parser = argparse.ArgumentParser()
    cifar10.add_arguments(parser)
    new = folder.parent / "elsewhere"
    args = parser.parse_args(["--dataset=cifar10", f"--data-dir={new}", f"--data-url={server.url}",
                              f"--data-md5={md5(server.body).upper()}"])
    assert cifar10.load_from(args).folder == new


class OneLine(Exception):
    one_line = True


@pytest.mark.parametrize(("raised", "code", "line"), [
    (None, 0, ""),
    (cifar10.DataError("file: wrong; mend it"), 2, "t.py: error: file: wrong; mend it\n"),
    (OneLine("a\n b"), 2, "t.py: error: a b\n"),
    (PermissionError(errno.EACCES, "Permission denied", "f"), 2,
     "t.py: error: f: Permission denied; change its permissions or choose another place\n"),
    (OSError(errno.EROFS, "Read-only file system", "f"), 2,
     "t.py: error: f: Read-only file system; choose another place\n"),
    (KeyboardInterrupt(), 130, "\nt.py: interrupted\n"),
    (KeyboardInterrupt("go on with --resume"), 130, "\nt.py: go on with --resume\n"),
])
def test_command(raised, code, line, capsys, monkeypatch):
    def main():
        if raised:
            raise raised

    monkeypatch.setattr(sys, "argv", ["/x/t.py"])
    assert cifar10.command(main) == code
    assert capsys.readouterr().err == line


def test_command_hides_no_bug():
    with pytest.raises(ZeroDivisionError):
        cifar10.command(lambda: 1 / 0)
    assert cifar10.command(lambda code: code, 3) == 3
