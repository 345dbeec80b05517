"""Mutations of valid files of every kind that the project reads: each is read, or refused in one line.

    python tests/fuzz.py --minutes 10        # until then
    python tests/fuzz.py --mutations 2000    # what the tests run

One process, seeded: mutation N of a seed is the same each time (--first N --mutations 1). A reader fails if it raises
anything but a UserError of one line of at most 300 characters, computes for over five seconds, takes over 300 MB,
warns, or leaves a file behind.
"""

import argparse
import contextlib
import copy
import csv
import gzip
import io
import itertools
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
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support import threads  # noqa: F401, I001  (before numpy: it sets BLAS's threads)

import model
import search
import train
import visualize
from data import cifar10, download, pictures
from support import checkpoints, npz, results, search_figures, tables, weight_figures
from support.cli import UserError

import matplotlib
import numpy as np
from matplotlib import pyplot as plt

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
VALUES = (
    *(None, True, False, 0, 1, -1, 1.5, 0.5, 1e-320, 1e30, 1e300, -1e308, 2**31, 2**63, 2**64, 2**128, 10**25, 10**400),
    *(
        "",
        "x",
        "nan",
        "inf",
        "\0",
        "\x1b[31m",
        "$x^{",
        "数",
        "\u202e",
        "\ud800",
        "9" * 5000,
        "x" * 6000,
        "../x",
        "/dev/zero",
    ),
    *([], {}, [[]], [1, "x"], {"x": {}}, [0] * 5000, {"size": 8}, {str(i): i for i in range(300)}),
)


class TooLong(BaseException):
    """The time is over; no Exception, which a reader might turn into a line of its own."""


Change = Callable[[bytes], bytes]


@dataclass
class Reader:
    """A kind of file: valid samples, what reads one, and a second way to change a sample: what is inside, such that the
    file around it stays valid."""

    samples: list[bytes]
    read: Callable[[Path], object]
    name: str = "input"
    inside: Callable[[bytes, Change], bytes] | None = None


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


def repack(content: bytes, change: Change) -> bytes:
    """An archive with one member changed, and checksums and sizes that fit."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        infos = old.infolist()
        chosen = infos[-1 if rng.random() < 0.5 else int(rng.integers(len(infos)))]  # the last is meta, if there is one
        for info in infos:
            inside = old.read(info)
            if info is chosen and info.filename == "meta.npy" and rng.random() < 0.8:
                text = change_json(str(np.load(io.BytesIO(inside))).encode(), change).decode("utf-8", "replace")
                np.save(changed := io.BytesIO(), np.array(text))
                inside = changed.getvalue()
            elif info is chosen:
                inside = change(inside[:200]) + inside[200:]  # headers are more worth a change than weights
            new.writestr(info, inside, info.compress_type)
    return buffer.getvalue()


def change_json(content: bytes, change: Change) -> bytes:
    """A JSON object with one to three of its values replaced or gone; or any change."""
    if rng.random() < 0.3:
        return change(content)
    value = json.loads(content)
    for _ in range(rng.integers(1, 4)):
        place = value
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = keys[int(rng.integers(len(keys)))]
            if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.8:
                place = place[key]
                continue
            if rng.random() < 0.2:
                del place[key]
            else:
                place[key] = copy.deepcopy(VALUES[int(rng.integers(len(VALUES)))])
            break
    return json.dumps(value).encode()


def change_cell(content: bytes, change: Change) -> bytes:
    """A table with one to three of its cells replaced or changed."""
    rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
    for _ in range(rng.integers(1, 4)):
        row = rows[int(rng.integers(len(rows)))]
        cell = int(rng.integers(len(row)))
        value = VALUES[int(rng.integers(len(VALUES)))]
        old = row[cell].encode("utf-8", "replace")
        row[cell] = change(old).decode("utf-8", "replace") if rng.random() < 0.3 else str(value)
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "replace")


def tar_samples() -> list[bytes]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name in ("official/data_batch_1", "official/" + "long" * 40, "official/batches.meta"):
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"abc"))
    return [buffer.getvalue()[:8192], gzip.compress(buffer.getvalue())]


def pack_tar(content: bytes, change: Change) -> bytes:
    """A .tar.gz whose first header is changed, and has the right checksum."""
    content = change(tar_samples()[0])
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


# ---- Checkpoints, states, and what a search leaves ------------------------------------------------------------------

matplotlib.use("Agg")
SETTINGS = train.resolve({"hidden_size": 3, "window": 16, "stride": 16, "ema": 0.5, "epochs": 9, "batch_size": 4})
IMAGES = rng.integers(0, 256, (40, 3072), "u1")
DATA = cifar10.Dataset("x", IMAGES, np.arange(40) % 10, IMAGES, np.arange(40) % 10, cifar10.CLASSES, fingerprint="0")
RUN = train.Run(SETTINGS, DATA)
list(itertools.islice(train.epochs(RUN, DATA, None), 2))


def written(write: Callable[[Path], object]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "x.npz")
        return (Path(folder) / "x.npz").read_bytes()


def read_network(path: Path) -> None:
    """As test.py, visualize.py and train.py --like do."""
    network, info = model.load(path)
    checkpoints.unfinished(path, info)
    subject = visualize.Subject(path, network, info, None, "none here")
    visualize.configuration(subject), visualize.merit(subject), visualize.differing({})
    with contextlib.suppress(visualize.LeftOut):
        weight_figures.history_of(info)
    train.like(path)


def read_state(path: Path) -> None:
    """As train.py --resume does; what is accepted can be gone on with."""
    RUN.load_state(path)
    with contextlib.suppress(train.Diverged):
        next(train.epochs(RUN, DATA, None), None)


TRIALS = ("0" * 10, "1" * 10, "a" * 10)
SEARCHED = {"hidden_size": (3, 5, 5), "learning_rate": (0.1, 0.1, 0.01), "flip": (True, False, True)}
DEFINITION = {
    "searched": list(SEARCHED),
    "settings": {name: value for name, value in asdict(SETTINGS).items() if name not in (*SEARCHED, "seed")},
    "seed": 0,
    "data": {"name": "x", "fingerprint": "0"},
    "halving": None,
}


def table_sample() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        table = results.Results(Path(folder), list(SEARCHED), [])
        for i, trial in enumerate(TRIALS):
            settings = asdict(SETTINGS) | {name: values[i] for name, values in SEARCHED.items()}
            result = {"status": "ok", "reason": "", "history": RUN.history}
            table.add(trial, 1, settings, {"status": "failed", "reason": "x"} if i == 2 else result)
        return (Path(folder) / "results.csv").read_bytes()


def read_search(path: Path) -> None:
    """As search.py --resume does, in a folder in which the other file is sound; then a row more, and the ranking."""
    with tempfile.TemporaryDirectory(prefix=path.name) as name:  # a line may name the folder alone
        folder = Path(name)
        for each, content in (("results.csv", TABLE), ("search.json", json.dumps(DEFINITION).encode())):
            (folder / each).write_bytes(path.read_bytes() if path.name == each else content)
        for trial in TRIALS:
            (folder / f"{trial}.npz").touch()
        found = results.open_results(folder, copy.deepcopy(DEFINITION), search.OPTIONS, {}, True, False)
        found.best()
        found.add("b" * 10, 1, asdict(SETTINGS), {"status": "ok", "reason": "", "history": RUN.history})
        lines = tables.table(found.ranked(), found.searched)
        tables.as_text(lines), tables.as_markdown(lines), tables.notes(found.ranked())


def read_drawn(path: Path) -> None:
    """As visualize.py does; of the tables that it accepts it draws some."""
    found = search_figures.read_search(path)
    search_figures.best_trials(found)
    if path.stat().st_size % 8 == 0:
        with matplotlib.rc_context(visualize.style()):
            for draw in search_figures.SEARCH_FIGURES.values():
                with contextlib.suppress(visualize.LeftOut):
                    figure, _ = draw(found)
                    figure.savefig(io.BytesIO(), dpi=20)
                plt.close("all")


TABLE = table_sample()

READERS = {
    "batch": Reader(batch_samples(), read_batch, "data_batch_1"),
    "classes": Reader(meta_samples(), read_meta, "batches.meta"),
    "npz": Reader(npz_samples(), npz.read_npz, "net.npz", repack),
    "archive": Reader(tar_samples(), unpack, "archive.part", pack_tar),
    "picture": Reader(picture_samples(), pictures.read_picture, "picture.png"),
    "network": Reader([written(lambda path: RUN.best.save(path, RUN.info()))], read_network, "net.npz", repack),
    "state": Reader([written(RUN.save_state)], read_state, "net.state.npz", repack),
    "table": Reader([TABLE], read_search, "results.csv", change_cell),
    "search": Reader([json.dumps(DEFINITION).encode()], read_search, "search.json", change_json),
    "drawn": Reader([TABLE], read_drawn, "results.csv", change_cell),
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
    return name, reader.inside(sample, change) if reader.inside and rng.random() < 0.6 else change(sample)


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
