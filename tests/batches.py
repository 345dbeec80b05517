"""Batches and pickles for the tests, as Python 2, Python 3 and attackers write them."""

import pickle
import re
import struct

from data import cifar10

import numpy as np

NAMES = [name.encode() for name in cifar10.CLASSES]
rng = np.random.default_rng(0)


def images(n=4):
    return rng.integers(0, 256, (n, 3072), np.uint8)


def batch(file, n=4, **changes):
    number = re.findall(r"\d", file)
    title = f"training batch {number[0]} of 5".encode() if number else b"testing batch 1 of 1"
    content = {
        b"batch_label": title,
        b"labels": rng.integers(0, 10, n).tolist(),
        b"data": images(n),
        b"filenames": [b"x.png"] * n,
    }
    return content | {key.encode(): value for key, value in changes.items()}


def dump(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol))


def write_cifar10(folder):
    """A sound folder of 5 x 4 training images and 4 test images."""
    folder.mkdir()
    for file in cifar10.FILES[:6]:
        dump(folder / file, batch(file))
    dump(folder / "batches.meta", {b"label_names": NAMES, b"num_cases_per_batch": 10**9})


def write_cifar100(folder):
    """A sound folder of 6 training and 4 test images in CIFAR-100's layout."""
    folder.mkdir()
    for file, title, n in (
        ("train", b"training batch 1 of 1", 6),
        ("test", b"testing batch 1 of 1", 4),
    ):
        content = batch(file, n, batch_label=title)
        del content[b"labels"]
        fine = rng.integers(0, 100, n).tolist()
        dump(folder / file, content | {b"fine_labels": fine, b"coarse_labels": [0] * n})
    names = [f"class_{i}".encode() for i in range(100)]
    dump(folder / "meta", {b"fine_label_names": names, b"coarse_label_names": [b"x"] * 20})


# Python 2's opcodes, which Python 3 no longer writes.


def py2_str(value):
    return (
        b"U" + bytes([len(value)]) + value
        if len(value) < 256
        else b"T" + struct.pack("<i", len(value)) + value
    )


def py2_batch(content):
    data = content[b"data"]
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + b"".join(b"M" + struct.pack("<H", n) for n in data.shape)
        + b"\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        + b"(K\x03U\x01|NNN"
        + b"J\xff\xff\xff\xff" * 2
        + b"K\x00tb\x89"
        + py2_str(data.tobytes())
        + b"tb"
    )
    labels = b"](" + b"".join(b"K" + bytes([label]) for label in content[b"labels"]) + b"e"
    return (
        b"\x80\x02}("
        + (py2_str(b"batch_label") + py2_str(content[b"batch_label"]) + py2_str(b"data") + array)
        + (py2_str(b"labels") + labels + b"u.")
    )


def py2_text_batch(content):
    """Protocol 0, as cPickle of Python 2 writes it: strings as literals, numbers in decimal."""
    data = content[b"data"]

    def literal(value):
        return b"S" + repr(value)[1:].encode() + b"\n"

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\np1\n(cnumpy\nndarray\np2\n(I0\ntS'b'\ntRp3\n(I1\n("
        + b"".join(b"L%dL\n" % n for n in data.shape)
        + b"tcnumpy\ndtype\n(S'u1'\nI0\nI1\ntRp4\n(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\n"
        + literal(data.tobytes())
        + b"tb"
    )
    labels = b"(lp5\n" + b"".join(b"I%d\na" % label for label in content[b"labels"])
    return (
        b"(dp0\n"
        + (literal(b"batch_label") + literal(content[b"batch_label"]) + b"s")
        + (literal(b"data") + array + b"s" + literal(b"labels") + labels + b"s.")
    )
