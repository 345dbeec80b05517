"""Mutations of valid files of every kind that the project reads: each is read, or refused in one line.

    python tests/fuzz.py --minutes 10        # until then
    python tests/fuzz.py --mutations 2000    # what the tests run

One process, seeded: mutation N of a seed is the same each time (--first N --mutations 1). A reader fails if it raises
anything but a UserError of one line of at most 300 characters, computes for over five seconds, takes over 300 MB,
warns, or leaves a file behind.
"""

import argparse
import gzip
import io
import json
import os
import pickle
import resource
import signal
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support import threads  # noqa: F401, I001  (before numpy: it sets BLAS's threads)

from data import cifar10, download, pictures
from support import npz
from support.cli import UserError

import numpy as np

SECONDS, MEGABYTES = 5, 300
SIZES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 1 << 27, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1)
TOKENS = (
    *(
        b"NaN",
        b"Infinity",
        b"-1",
        b"0",
        b"1e308",
        b"1e999",
        b"9" * 25,
        b"9" * 5000,
        b"null",
        b"true",
        b"{}",
        b"[]",
        b'""',
    ),
    *(
        b"[" * 2000,
        b"{" * 2000,
        b'{"a":' * 1000,
        b"(" * 2000,
        b"\x1b[31m",
        b"\0",
        b"\xff\xfe",
        b"\\ud800",
        b"$",
        b"x" * 6000,
    ),
    *(b"../../etc/passwd", b"/dev/zero", b",", b"\n", b"'", b'"'),
)


class TooLong(BaseException):
    """The time is over; no Exception, which a reader might turn into a line of its own."""


@dataclass
class Reader:
    """A kind of file: valid samples, what reads one, and how a sample is packed after its content was changed."""

    samples: list[bytes]
    read: Callable[[Path], object]
    name: str = "input"
    pack: Callable[[bytes], bytes] | None = None  # a second way to a sample: changed inside, then packed as is valid


# ---- Samples --------------------------------------------------------------------------------------------------------

rng = np.random.default_rng(0)


def batch_samples() -> list[bytes]:
    content = {
        b"batch_label": b"training batch 1 of 5",
        b"labels": [3, 9],
        b"data": rng.integers(0, 9, (2, 3072), "u1"),
    }
    labels = content | {b"labels": np.array([1, 2]), b"filenames": ["a.png", "ü"], b"data": content[b"data"].copy("F")}
    return [pickle.dumps(each, protocol) for each in (content, labels) for protocol in range(6)]


def meta_samples() -> list[bytes]:
    names = {b"label_names": [name.encode() for name in cifar10.CLASSES], b"num_vis": 3072}
    return [pickle.dumps(names, protocol) for protocol in range(6)]


def npz_samples() -> list[bytes]:
    info = {"architecture": {"hidden_size": 3, "dropout": 0.5}, "history": {"loss": [1.5, 2]}, "data": {"name": "x"}}
    arrays = {"W1": rng.random((3072, 3), "f4").astype("f2"), "b1": np.zeros((1, 3)), "W2": np.ones((3, 10), ">f4")}
    arrays |= {"b2": np.zeros((1, 10), "f4"), "meta": np.array(json.dumps(info))}
    buffers = io.BytesIO(), io.BytesIO()
    np.savez(buffers[0], **arrays)
    np.savez_compressed(buffers[1], **{name: array for name, array in arrays.items() if name != "W1"})
    return [buffer.getvalue() for buffer in buffers]


def repack(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """An archive with one member changed, and checksums and sizes that fit."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        infos = old.infolist()
        chosen = infos[int(rng.integers(len(infos)))]
        for info in infos:
            inside = old.read(info)
            if info is chosen and info.filename == "meta.npy" and rng.random() < 0.7:
                text = change(str(np.load(io.BytesIO(inside))).encode()).decode("utf-8", "replace")
                np.save(changed := io.BytesIO(), np.array(text))
                inside = changed.getvalue()
            elif info is chosen:
                inside = change(inside[:200]) + inside[200:]  # headers are more worth a change than weights
            new.writestr(info, inside, info.compress_type)
    return buffer.getvalue()


def tar_samples() -> list[bytes]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name in ("official/data_batch_1", "official/" + "long" * 40, "official/batches.meta"):
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"abc"))
    return [buffer.getvalue()[:8192], gzip.compress(buffer.getvalue())]


def pack_tar(content: bytes) -> bytes:
    """A .tar.gz whose first header has the right checksum."""
    header = content[:148] + b" " * 8 + content[156:512]
    return gzip.compress(content[:148] + b"%06o\0 " % sum(header) + content[156:], 1)


def picture_samples() -> list[bytes]:
    from PIL import Image

    samples = []
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (12, 16, 3), "u1")).save(buffer, kind)
        samples.append(buffer.getvalue())
    return samples


def read_batch(path: Path) -> None:
    with npz.error_context(path, "restore it", cifar10.DataError):
        cifar10._batch(path, cifar10.CIFAR10, 10)


def read_meta(path: Path) -> None:
    with npz.error_context(path, "restore it", cifar10.DataError):
        cifar10._class_names(path, cifar10.CIFAR10)


def unpack(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        download._unpack(path, Path(folder), cifar10.FILES)


# Further kinds of files come in here: NAME: Reader(samples, what reads a path).
READERS = {
    "batch": Reader(batch_samples(), read_batch, "data_batch_1"),
    "classes": Reader(meta_samples(), read_meta, "batches.meta"),
    "npz": Reader(npz_samples(), npz.read_npz, "net.npz"),
    "headers": Reader(npz_samples(), npz.headers, "net.npz"),
    "archive": Reader(tar_samples(), unpack, "archive.part", pack_tar),
    "picture": Reader(picture_samples(), pictures.read_picture, "picture.png"),
}


# ---- Mutations ------------------------------------------------------------------------------------------------------


def mutate(content: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    """The content with one to five changes."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        # Half of the changes near the start, where headers are.
        place = int(rng.integers(len(data) + 1) if rng.random() < 0.5 else rng.integers(min(len(data), 150) + 1))
        length = int(rng.integers(1, 1 + int(2 ** rng.integers(0, 8))))
        match int(rng.integers(8)):
            case 0:  # bytes
                data[place : place + length] = rng.bytes(length)
            case 1:  # a bit
                if place < len(data):
                    data[place] ^= 1 << int(rng.integers(8))
            case 2:  # a number that is a size or an index somewhere
                width = int(rng.choice([1, 2, 4, 8]))
                number = int(rng.choice(SIZES)) & ((1 << 8 * width) - 1)
                data[place : place + width] = number.to_bytes(width, str(rng.choice(["little", "big"])))
            case 3:
                del data[place : place + length]
            case 4:  # a piece again and again
                data[place:place] = data[place : place + length] * int(rng.integers(1, 30))
            case 5:  # a piece of another sample
                other = others[int(rng.integers(len(others)))]
                start = int(rng.integers(len(other)))
                data[place:place] = other[start : start + length]
            case 6:
                token = TOKENS[int(rng.integers(len(TOKENS)))]
                data[place : place + (length if rng.random() < 0.5 else 0)] = token
            case 7:
                del data[place if rng.random() < 0.3 else len(data) :]
    return bytes(data)


def mutation(seed: int, number: int, names: list[str]) -> tuple[str, bytes]:
    """The kind and content of one mutation."""
    global rng
    rng = np.random.default_rng((seed, number))
    name = names[number % len(names)]
    reader = READERS[name]
    sample = reader.samples[int(rng.integers(len(reader.samples)))]
    change = lambda content: mutate(content, reader.samples, rng)  # noqa: E731
    if sample[:2] == b"PK" and rng.random() < 0.6:
        return name, repack(sample, change)
    if reader.pack and rng.random() < 0.6:
        return name, reader.pack(change(reader.samples[0]))
    return name, change(sample)


# ---- The run --------------------------------------------------------------------------------------------------------


def attempt(reader: Reader, folder: Path, content: bytes) -> str | None:
    """What is wrong with how the reader treats the content; None if nothing is."""

    def too_long(*args) -> None:
        raise TooLong(f"over {SECONDS} s")

    path = folder / reader.name
    path.write_bytes(content)
    signal.signal(signal.SIGPROF, too_long)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        reader.read(path)
    except UserError as error:
        text = str(error)
        if not text.isprintable() or len(text) > 300 or reader.name not in text:
            return f"a bad line: {text!r}"
    except BaseException:
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        path.unlink()
    left = os.listdir(folder)
    return f"leaves {left}" if left else None


def limit_memory() -> None:
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (MEGABYTES << 20), resource.RLIM_INFINITY))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, help="how long")
    parser.add_argument("--mutations", type=int, help="how many (default: 2000 without --minutes)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutation")
    parser.add_argument("--only", nargs="+", choices=READERS, default=list(READERS), help="kinds of files")
    args = parser.parse_args(argv)
    end = time.monotonic() + (args.minutes * 60 if args.minutes else float("inf"))
    last = args.first + (args.mutations or (10**12 if args.minutes else 2000))
    failures, number = set(), args.first
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for reader in READERS.values():
            for sample in reader.samples:
                (folder / reader.name).write_bytes(sample)
                reader.read(folder / reader.name)
                (folder / reader.name).unlink()
        if os.path.exists("/proc/self/statm"):
            limit_memory()
        while number < last and time.monotonic() < end:
            kind, content = mutation(args.seed, number, args.only)
            fault = attempt(READERS[kind], folder, content)
            if fault and fault[-300:] not in failures:
                failures.add(fault[-300:])
                print(
                    f"{kind}, {len(content):,} bytes, --seed {args.seed} --first {number}:\n{fault}\n", file=sys.stderr
                )
            number += 1
    print(f"{number - args.first:,} mutations, {len(failures)} kinds of failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
