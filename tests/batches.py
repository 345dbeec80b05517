"""Folders of batches for the tests, and pickles as Python 2, Python 3 and attackers write them."""

import pickle
import re
import struct

from data.layouts import CIFAR10, CLASSES

import numpy as np

FILES = CIFAR10.files
BATCHES = FILES[:6]  # five training batches and the test batch
NAMES = [name.encode() for name in CLASSES]
rng = np.random.default_rng(0)


def images(n=4):
    return rng.integers(0, 256, (n, 3072), np.uint8)


def batch(file, n=4, **changes):
    """Return the content of a sound batch, with other values for some of its keys."""
    number = re.findall(r"\d", file)
    title = f"training batch {number[0]} of 5" if number else "testing batch 1 of 1"
    content = {
        b"batch_label": title.encode(),
        b"labels": rng.integers(0, 10, n).tolist(),
        b"data": images(n),
        b"filenames": [b"x.png"] * n,
    }
    return content | {key.encode(): value for key, value in changes.items()}


def dump(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol))


def write_cifar10(folder):
    """Write a sound folder of 5 x 4 training images and 4 test images."""
    folder.mkdir()
    for file in BATCHES:
        dump(folder / file, batch(file))
    dump(folder / "batches.meta", {b"label_names": NAMES, b"num_cases_per_batch": 10**9})


def write_cifar100(folder, train=6):
    """Write a sound folder in the layout of CIFAR-100: `train` training images, 4 test images."""
    folder.mkdir()
    _write_cifar100_batch(folder / "train", b"training batch 1 of 1", train)
    _write_cifar100_batch(folder / "test", b"testing batch 1 of 1", 4)
    content = {
        b"fine_label_names": [f"class_{i}".encode() for i in range(100)],
        b"coarse_label_names": [f"group_{i}".encode() for i in range(20)],
    }
    dump(folder / "meta", content)


def _write_cifar100_batch(path, title, n):
    content = {
        b"batch_label": title,
        b"data": images(n),
        b"fine_labels": [99, *rng.integers(0, 100, n - 1).tolist()],
        b"coarse_labels": [19, *rng.integers(0, 20, n - 1).tolist()],
        b"filenames": [b"x.png"] * n,
    }
    dump(path, content)


# ---- The operations of Python 2, which Python 3 reads but never writes ---------------------------


def py2_str(value):
    if len(value) < 256:
        return b"U" + bytes([len(value)]) + value
    return b"T" + struct.pack("<i", len(value)) + value


def py2_batch(content):
    """Return a batch in protocol 2, as the official files are."""
    data = content[b"data"]
    shape = b"".join(b"M" + struct.pack("<H", n) for n in data.shape)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + shape
        + b"\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN"
        + b"J\xff\xff\xff\xff" * 2
        + b"K\x00tb\x89"
        + py2_str(data.tobytes())
        + b"tb"
    )
    labels = b"](" + b"".join(b"K" + bytes([label]) for label in content[b"labels"]) + b"e"
    items = (
        py2_str(b"batch_label") + py2_str(content[b"batch_label"]),
        py2_str(b"data") + array,
        py2_str(b"labels") + labels,
    )
    return b"\x80\x02}(" + b"".join(items) + b"u."


def py2_text_batch(content):
    """Return a batch in protocol 0: strings as literals, numbers in decimal."""
    data = content[b"data"]
    shape = b"".join(b"L%dL\n" % n for n in data.shape)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\np1\n(cnumpy\nndarray\np2\n(I0\ntS'b'\ntRp3\n(I1\n("
        + shape
        + b"tcnumpy\ndtype\n(S'u1'\nI0\nI1\ntRp4\n(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\n"
        + _literal(data.tobytes())
        + b"tb"
    )
    labels = b"(lp5\n" + b"".join(b"I%d\na" % label for label in content[b"labels"])
    items = (
        _literal(b"batch_label") + _literal(content[b"batch_label"]) + b"s",
        _literal(b"data") + array + b"s",
        _literal(b"labels") + labels + b"s",
    )
    return b"(dp0\n" + b"".join(items) + b"."


def _literal(value):
    return b"S" + repr(value)[1:].encode() + b"\n"
