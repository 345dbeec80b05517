"""CIFAR-10 as uint8 arrays, from the official pickles; or synthetic images in the same layout.

    python data/cifar10.py                        # download, verify, unpack, and say what is there
    python data/cifar10.py --data-url file:///mnt/cifar-10-python.tar.gz
    python data/cifar10.py --dataset synthetic    # draw coloured shapes instead: needs no network

    from data import cifar10
    data = cifar10.load()                         # data.train_images: (50000, 3072) uint8

A row holds 1024 red, 1024 green and 1024 blue pixels, each plane from top to bottom, row by row.
Nothing read is trusted: a pickle is refused unless it holds plain values and arrays, an archive unless
its MD5 is the expected one. Folders appear whole or not at all.
"""
import argparse
import contextlib
import difflib
import errno
import hashlib
import http.client
import lzma
import math
import os
import pickle
import re
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
MD5 = "c58f30108f718f92721af3b95e74349a"
HERE = Path(__file__).resolve().parent
FOLDERS = {"cifar10": "cifar-10-batches-py", "synthetic": "synthetic-batches-py"}
TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
FILES = (*TRAIN, "test_batch", "batches.meta")
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PIXELS = 3 * 32 * 32
TIMEOUT = 5              # seconds without a byte before the connection counts as dead
WAITS = (0.5, 1, 2)      # seconds between attempts that bring nothing new
LIMIT = 2**30            # bytes; no file, archive or unpacked archive may be larger


class DataError(Exception):
    """What is wrong with the data, in one line: the file or flag, the fault, the remedy."""

    one_line = True

    def __init__(self, text):
        # The names in it may come from a hostile file: no line breaks, nothing that a terminal obeys.
        super().__init__("".join(c if c.isprintable() else "?" for c in " ".join(text.split())))


class Unreachable(DataError):
    """The archive cannot be fetched: the one fault that `load("auto")` answers with synthetic images."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels of both splits. The arrays are read-only, so that the fingerprint stays true."""

    name: str                      # "cifar10" or "synthetic"
    train_images: np.ndarray       # (N, 3072) uint8, channel-major
    train_labels: np.ndarray       # (N,) int64 in 0..9
    test_images: np.ndarray        # (M, 3072) uint8
    test_labels: np.ndarray        # (M,) int64
    class_names: tuple[str, ...]   # ten, in the order of the labels
    fingerprint: str               # SHA-256 over shapes, images and labels of both splits, 64 hex digits
    folder: Path | None = None     # where it was read


def load(dataset="auto", data_dir=None, *, url=URL, md5=MD5):
    """Return the `Dataset`, after a download or a drawing where the folder is missing.

    dataset: "cifar10", "synthetic", or "auto": CIFAR-10, and only where it can't be fetched into the
        default folder the synthetic images, with a warning on stderr.
    data_dir: the folder of batches or its parent; by default a folder beside this file.
    url, md5: the archive to fetch, http(s):// or file://, and its checksum.
    Raises DataError if the images cannot be had or are damaged, or the disk refuses.
    """
    if dataset not in ("auto", *FOLDERS):
        raise DataError(f"--dataset {dataset}: unknown; choose auto, cifar10 or synthetic")
    kind = "synthetic" if dataset == "synthetic" else "cifar10"
    folder = HERE / FOLDERS[kind] if data_dir is None else Path(data_dir).expanduser()
    if not (folder / "batches.meta").exists() and (folder / FOLDERS[kind]).is_dir():
        folder = folder / FOLDERS[kind]
    if not folder.exists():
        if kind == "synthetic":
            write_synthetic(folder)
        else:
            try:
                download(folder, url, md5)
            except Unreachable as error:
                # A folder asked for by name may be a slip of the pen: other images would hide it.
                if dataset == "cifar10" or data_dir is not None:
                    raise
                line = "*" * 100
                print(f"{line}\nWARNING: these are NOT the images of CIFAR-10 but SYNTHETIC ones, "
                      f"and so is every result.\n{error}\n{line}", file=sys.stderr)
                return load("synthetic")
    data = read(folder, kind)
    if dataset not in ("auto", data.name):
        raise DataError(f"{folder}: holds {data.name} images, not {dataset}; "
                        f"give --dataset {data.name} or another --data-dir")
    return data


def split(n, share, rng):
    """Draw the validation rows: return (training, validation), two sorted int64 arrays that part range(n).

    share: the validation share, between 0 and 1; rng: a numpy Generator.
    Raises DataError if either side would be empty.
    """
    count = round(n * share) if 0 < share < 1 else 0
    if not 0 < count < n:
        raise DataError(f"validation share {share}: leaves no training or no validation images out of {n}; "
                        "choose a share between 0 and 1, such as 0.1")
    order = rng.permutation(n)
    return np.sort(order[count:]), np.sort(order[:count])


# ---------------------------------------------------------------------------------------------------------
# Pickles: every call that a pickle asks for is recorded, none is made, and the record is then checked.

_RECORDED = {(f"numpy.{core}.{module}", name) for core in ("core", "_core") for module, name in (
    ("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"))}
_RECORDED |= {("numpy", "ndarray"), ("numpy", "dtype")}


class _Refused(ValueError):
    """What is wrong with a file, without its name and the remedy."""


class _Call:
    """A call that a pickle asks for: the name, its arguments, and the state set afterwards."""

    def __init__(self, name, args):
        self.name, self.args, self.state = name, args, None

    def __setstate__(self, state):
        self.state = state


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        # A new function each time: a pickle may set attributes on what it gets, and must not reach ours.
        if (module, name) in _RECORDED:
            return lambda *args: _Call(name, args)
        if (module, name) == ("_codecs", "encode"):    # bytes, as Python 3 writes them in protocol 2
            return lambda text, encoding: _encode(text, encoding)
        if name == "bytes" and module in ("builtins", "__builtin__"):    # so written if empty
            return lambda: b""
        raise _Refused(f"asks for {module}.{name}, which no image batch needs, and was not run")


def _encode(text, encoding):
    if type(text) is not str or encoding != "latin1":
        raise _Refused("asks for _codecs.encode of something that is not latin1 text")
    return text.encode("latin1")


def _text(value):
    value = value.decode() if isinstance(value, bytes) else value
    if not isinstance(value, str):
        raise _Refused(f"holds {type(value).__name__} where text belongs")
    return value


def _array(call):
    """Build the array (or scalar: shape ()) that `call` describes, from its own bytes and no more."""
    order = "C"
    if call.name == "_reconstruct":
        _, shape, dtype, fortran, raw = call.state
        order = "F" if fortran else "C"
    elif call.name == "_frombuffer":
        raw, dtype, shape, order = call.args
    elif call.name == "scalar":
        (dtype, raw), shape = call.args, ()
    else:
        raise _Refused(f"holds a bare numpy.{call.name}")
    kind = _text(dtype.args[0])
    if not re.fullmatch(r"[<>|=]?[biufc]\d\d?", kind):
        raise _Refused(f"holds an array of dtype {kind!r}")
    dtype = np.dtype(kind).newbyteorder(_text(dtype.state[1]) if dtype.state else "|")
    if len(raw) != math.prod(shape) * dtype.itemsize or min(shape, default=0) < 0:
        raise _Refused(f"holds an array of shape {shape} in {len(raw)} bytes")
    return np.frombuffer(raw, dtype).reshape(shape, order=order)


@contextlib.contextmanager
def _blaming(path, remedy):
    """Turn whatever goes wrong while `path` is read into one line."""
    try:
        yield
    except Exception as error:
        if isinstance(error, _Refused):
            fault = str(error)
        elif isinstance(error, FileNotFoundError):
            fault = "is missing"
        elif isinstance(error, OSError):
            fault = f"cannot be read ({error.strerror})"
        elif isinstance(error, EOFError) or "truncated" in str(error):
            fault = "is truncated or empty"
        else:
            fault = f"is no CIFAR-10 pickle ({type(error).__name__}: {error})"
        raise DataError(f"{path}: {fault}; {remedy}") from error


def _unpickle(path, *keys):
    """Return the dict in the pickle `path`, with str keys; `keys` must be among them."""
    if path.stat().st_size > LIMIT:
        raise _Refused(f"is larger than {LIMIT:,} bytes")
    with open(path, "rb") as file:
        content = _Unpickler(file, encoding="bytes").load()
    if not isinstance(content, dict):
        raise _Refused(f"holds a {type(content).__name__}, not a dict")
    content = {_text(key): value for key, value in content.items()}
    for key in keys:
        if key not in content:
            raise _Refused(f"has no {key!r}, but {', '.join(map(repr, content)) or 'nothing'}"[:200])
    return content


def _labels(value):
    if isinstance(value, _Call):
        value = list(_array(value))
    elif isinstance(value, list):
        value = [_array(item)[()] if isinstance(item, _Call) else item for item in value]
    else:
        raise _Refused(f"has labels of type {type(value).__name__}, not a list or an array")
    for row, label in enumerate(value):
        if type(label) is not int and not isinstance(label, np.integer):
            raise _Refused(f"has a label that is no integer in row {row}")
        if not 0 <= label <= 9:
            raise _Refused(f"has label {label} in row {row}, outside 0..9")
    return np.array(value, np.int64)


def _batch(path):
    """Return (images (n, 3072) uint8, labels (n,) int64, whether the batch says that it is synthetic)."""
    content = _unpickle(path, "data", "labels")
    if not isinstance(content["data"], _Call):
        raise _Refused(f"has data of type {type(content['data']).__name__}, not an array")
    images, labels = np.ascontiguousarray(_array(content["data"])), _labels(content["labels"])
    if images.dtype != np.uint8:
        raise _Refused(f"has images of dtype {images.dtype}, not uint8")
    if images.ndim != 2 or images.shape[1] != PIXELS or not len(images):
        raise _Refused(f"has images of shape {images.shape}, not (rows, {PIXELS})")
    if len(images) != len(labels):
        raise _Refused(f"has {len(images)} images but {len(labels)} labels")
    title = _text(content.get("batch_label", ""))
    found = re.match(r"(training|testing) batch (\d+) of \d+", title)
    wanted = ("testing", "1") if path.name == "test_batch" else ("training", path.name[-1])
    if found and found.groups() != wanted:
        raise _Refused(f"is swapped: it says that it is {found[0]!r}")
    return images, labels, "synthetic" in title


def _class_names(path):
    names = _unpickle(path, "label_names")["label_names"]
    if not isinstance(names, (list, tuple)) or len(names) != 10:
        raise _Refused("has no list of ten label_names")
    names = tuple(_text(name) for name in names)
    if len(set(names)) != 10 or not all(name and name.isprintable() for name in names):
        raise _Refused("has label_names that are empty, doubled or not printable")
    return names


def read(folder, kind="cifar10"):
    """Return the `Dataset` in `folder`; `kind` ("cifar10" or "synthetic") only words the remedy.

    Raises DataError, which names the file, if one is missing, damaged, out of place or not trusted.
    """
    folder = Path(folder)
    flag = " --dataset synthetic" if kind == "synthetic" else ""
    if not folder.is_dir() or not any((folder / file).exists() for file in FILES):
        raise DataError(f"{folder}: is no folder of CIFAR-10 batches; give --data-dir the folder that holds "
                        "data_batch_1, or a new name, such as "
                        f"{(folder if folder.is_dir() else folder.parent) / FOLDERS[kind]}, to have it made")
    remedy = (f"put the right file there, or delete {folder} and "
              f"run python data/cifar10.py{flag} --data-dir {folder}")
    with _blaming(folder / "batches.meta", remedy):
        class_names = _class_names(folder / "batches.meta")
    is_synthetic = class_names == tuple(SHAPES)
    images, labels = [], []
    for file in (*TRAIN, "test_batch"):
        with _blaming(folder / file, remedy):
            pixels, numbers, marked = _batch(folder / file)
            if marked != is_synthetic:
                raise _Refused(f"is {'' if marked else 'not '}synthetic, but its batches.meta says otherwise")
        images.append(pixels)
        labels.append(numbers)
    arrays = np.concatenate(images[:5]), np.concatenate(labels[:5]), images[5], labels[5]
    digest = hashlib.sha256()
    for array in arrays:
        array.flags.writeable = False
        digest.update(f"{array.shape}".encode())
        digest.update(np.ascontiguousarray(array, np.uint8))    # labels too: one byte each on every machine
    name = "synthetic" if is_synthetic else "cifar10"
    return Dataset(name, *arrays, class_names, digest.hexdigest(), folder)


# ---------------------------------------------------------------------------------------------------------
# Making a folder: one process at a time, whole or not at all.

try:
    import fcntl

    def _lock(file):
        """Wait until this process alone holds `file`; closing it, or dying, lets go."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for the process that holds {file.name}", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
except ImportError:    # Windows
    import msvcrt

    def _lock(file):
        while True:
            with contextlib.suppress(OSError):    # LK_LOCK gives up after ten seconds
                return msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)


@contextlib.contextmanager
def _locked(path):
    """Hold the lock file `path`, which is there only as long as someone needs it."""
    while True:
        with open(path, "wb") as file:
            _lock(file)
            # Who held it before has deleted it, and others may lock a new file of that name by now.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                try:
                    yield
                finally:
                    with contextlib.suppress(PermissionError):    # Windows does not delete open files
                        path.unlink()
                return


@contextlib.contextmanager
def _whole(folder):
    """Yield a new folder that becomes `folder` when the block ends without an error.

    Other processes wait. Where one of them has made `folder` in the meantime, None is yielded instead.
    Raises DataError if the disk refuses, in the block too.
    """
    lock, partial = (folder.with_name(folder.name + end) for end in (".lock", ".partial"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(lock):
            try:
                if folder.exists():
                    yield None
                else:
                    shutil.rmtree(partial, ignore_errors=True)    # left by a process that was killed
                    partial.mkdir()
                    yield partial
                    partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise DataError(f"{error.filename or folder}: cannot be written ({error.strerror}); free some space, "
                        "change its permissions, or name another place with --data-dir") from error


# ---------------------------------------------------------------------------------------------------------
# Download: resumed where it stopped, verified, and only then unpacked.

def download(folder, url=URL, md5=MD5):
    """Fetch the archive at `url`, verify its MD5 sum and unpack it into the new folder `folder`.

    An interrupted download stays beside `folder` (*.part) and is resumed by the next call. Does nothing
    if the folder is there, or another process makes it meanwhile.
    Raises Unreachable if the archive can't be fetched, DataError if it isn't the expected one or the disk
    refuses.
    """
    folder, md5 = Path(folder), md5.lower()
    if not re.fullmatch("[0-9a-f]{32}", md5):
        raise DataError(f"--data-md5 {md5}: is no MD5 sum; give 32 hexadecimal digits, as md5sum prints them")
    if not re.match("(https?|file)://", url):
        raise DataError(f"--data-url {url}: is no URL; give https://, http:// or file:///")
    with _whole(folder) as new:
        if new is None:
            return
        # The sum in the name keeps the parts of different archives apart.
        part = folder.with_name(f"{folder.name}.{md5[:8]}.part")
        print(f"downloading {url} into {folder}", file=sys.stderr)
        resumed = part.exists()
        try:
            found = _fetch(url, part)
            if found != md5 and resumed:    # what was there may have been damaged
                part.unlink()
                found = _fetch(url, part)
            if found != md5:
                raise DataError(f"--data-url {url}: has MD5 {found}, not {md5}; try again or another URL, "
                                "and give --data-md5 if this archive is the one that you want")
            _unpack(part, new)
            read(new)
        except Unreachable:
            raise
        except DataError:
            part.unlink(missing_ok=True)
            raise
        part.unlink()


def _fetch(url, part):
    """Bring `part` to its full length, in as many attempts as go forward; return its MD5 sum."""
    waits, most, connected = list(WAITS), 0, False
    while True:
        before = part.stat().st_size if part.exists() else 0
        most = max(most, before)
        try:
            if _receive(url, part, before):
                break
            fault = "the connection broke off"
        except urllib.error.HTTPError as error:
            if error.code == 416 and before:    # nothing beyond what is there: the checksum will tell
                break
            fault = f"the server answers {error.code} {error.reason}"
            if error.code < 500 and error.code != 429:
                waits = []
        except (OSError, ValueError, http.client.HTTPException) as error:
            if getattr(error, "filename", None) == str(part):
                raise    # the disk's fault
            fault = str(getattr(error, "reason", error)) or type(error).__name__
            if isinstance(error, (urllib.error.URLError, ValueError)) and not connected:
                waits = []    # no network, or no such address: waiting does not help
        after = part.stat().st_size if part.exists() else 0
        if after > most:
            waits, connected = list(WAITS), True
        elif not waits:
            raise Unreachable(f"--data-url {url}: cannot be fetched ({fault}); check the network, "
                              "give the URL of a mirror, or give --dataset synthetic")
        else:
            time.sleep(waits.pop(0))
    digest = hashlib.md5(usedforsecurity=False)
    with open(part, "rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def _receive(url, part, have):
    """Append to `part`, which has `have` bytes, what the server sends; return whether that was all."""
    headers = {"User-Agent": "cifar10.py"} | ({"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as response:
        if getattr(response, "status", None) == 206:
            begins = re.match(rf"bytes {have}-", response.headers.get("Content-Range", ""))
            if not begins:
                part.unlink()
                return False
        else:
            have = 0    # the server ignores Range
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else None
        with open(part, "ab" if have else "wb") as file, tqdm(
                total=total, initial=have, desc="download", unit="B", unit_scale=True, disable=None) as bar:
            while chunk := response.read(2**18):
                have += len(chunk)
                if max(have, total or 0) > LIMIT:
                    raise DataError(f"--data-url {url}: is larger than {LIMIT:,} bytes; give another URL")
                try:
                    file.write(chunk)
                    file.flush()
                except OSError as error:
                    error.filename = str(part)    # tells the disk's faults from the network's
                    raise
                bar.update(len(chunk))
    return total is None or have == total


def _unpack(archive, folder):
    """Unpack the batches in `archive`, whatever its own folder is called, into `folder`."""
    # Patch releases of Python before June 2023 lack the filter; what is checked here is enough by itself.
    safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    remedy = "give the --data-url and --data-md5 of another archive"
    size = 0
    try:
        with tarfile.open(archive) as tar:
            for member in tqdm(tar, "unpack", unit=" files", disable=None):
                path = PurePosixPath(member.name)
                if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
                    raise DataError(f"{archive}: holds {member.name!r}, a link or a way out of its folder; "
                                    f"{remedy}")
                size += member.size
                if size > LIMIT:
                    raise DataError(f"{archive}: unpacks to more than {LIMIT:,} bytes; {remedy}")
                if member.isfile() and path.name in FILES:
                    member.name = path.name
                    tar.extract(member, folder, set_attrs=False, **safely)
    except (tarfile.TarError, EOFError, OSError, ValueError, lzma.LZMAError, zlib.error) as error:
        if getattr(error, "errno", None):    # the disk's fault; a damaged archive's OSError has no number
            raise
        raise DataError(f"{archive}: is no sound archive ({error}); {remedy}") from error


# ---------------------------------------------------------------------------------------------------------
# Synthetic images: each class is a function that is positive inside its shape, within about [-1, 1]^2.

SHAPES = {
    "disc": lambda x, y: 0.85 - np.hypot(x, y),
    "ring": lambda x, y: 0.25 - abs(np.hypot(x, y) - 0.75),
    "square": lambda x, y: 0.75 - np.maximum(abs(x), abs(y)),
    "frame": lambda x, y: 0.18 - abs(np.maximum(abs(x), abs(y)) - 0.75),
    "triangle": lambda x, y: np.minimum(0.7 - y, 0.5 + 0.5 * y - abs(x)),
    "cross": lambda x, y: np.minimum(0.25 - np.minimum(abs(x), abs(y)), 0.95 - np.maximum(abs(x), abs(y))),
    "star": lambda x, y: 0.65 + 0.35 * np.cos(5 * np.arctan2(x, -y)) - np.hypot(x, y),
    "stripes": lambda x, y: np.minimum(0.25 * np.cos(8 * x), 0.95 - np.maximum(abs(x), abs(y))),
    "bars": lambda x, y: np.minimum(0.25 * np.cos(8 * y), 0.95 - np.maximum(abs(x), abs(y))),
    "checkers": lambda x, y: np.minimum(0.4 * np.sin(5 * x) * np.sin(5 * y),
                                        0.95 - np.maximum(abs(x), abs(y))),
}


def synthetic(n, rng):
    """Draw n images of coloured shapes from the numpy Generator `rng`.

    Returns (images (n, 3072) uint8, labels (n,) int64), the ten classes of `SHAPES` equally often. Place,
    size, angle, colours, light, background, an occluding bar and noise vary, and none tells the class.
    """
    labels = rng.permutation(np.arange(n) % 10)
    images = np.empty((n, PIXELS), np.uint8)
    for start in range(0, n, 500):    # small enough to stay in the cache
        rows = slice(start, start + 500)
        images[rows] = _draw(labels[rows], rng)
    return images, labels


def _draw(labels, rng):
    n = len(labels)

    def uniform(low, high, channels=1):
        return rng.uniform(low, high, (n, channels, 1, 1)).astype(np.float32)

    def turned(angle):    # coordinates along and across a direction, (n, 1, 32, 32)
        return np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x

    grid = np.linspace(-1, 1, 32, dtype=np.float32)
    y, x = np.meshgrid(grid, grid, indexing="ij")

    size = uniform(0.45, 0.8)
    u, v = turned(uniform(-0.35, 0.35))
    u, v = (u - uniform(-0.25, 0.25)) / size, (v - uniform(-0.25, 0.25)) / size
    inside = np.empty_like(u)
    for label, shape in enumerate(SHAPES.values()):
        rows = labels == label
        inside[rows] = shape(u[rows], v[rows])
    inside = np.clip(inside * size * 12 + 0.5, 0, 1)

    # The shape is lighter than its ground in most images, not all: a linear classifier gets that far.
    lighter = np.where(rng.random((n, 1, 1, 1)) < 0.85, 1, -1).astype(np.float32)
    ground, contrast = uniform(0.3, 0.7, 3), lighter * uniform(0.1, 0.5, 3)
    wave = uniform(0, 0.15) * np.sin(uniform(2, 9) * turned(uniform(0, 6.3))[0] + uniform(0, 6.3))
    image = ground + wave - contrast / 2 + contrast * inside

    across = turned(uniform(0, 6.3))[0] - uniform(-1.5, 1.5)
    hidden = np.clip((uniform(0, 0.2) - abs(across)) * 16 + 0.5, 0, 1)
    image += hidden * (uniform(0, 1, 3) - image)
    image *= 1 + uniform(0, 0.3) * turned(uniform(0, 6.3))[0]
    image += uniform(0.01, 0.1) * rng.standard_normal(image.shape, np.float32)
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8).reshape(n, PIXELS)


def write_synthetic(folder, train=50_000, test=10_000, seed=0):
    """Draw `train` + `test` synthetic images into the new folder `folder`, in the layout of CIFAR-10.

    Does nothing if the folder is there. Raises DataError if one of the six batches would be empty, or the
    disk refuses.
    """
    folder = Path(folder)
    if train < 5 or test < 1:
        raise DataError(f"{folder}: {train} training and {test} test images are too few; ask for 5 and 1")
    with _whole(folder) as new:
        if new is None:
            return
        print(f"drawing {train + test:,} synthetic images into {folder}", file=sys.stderr)
        rng = np.random.default_rng(seed)
        rows = [len(part) for part in np.array_split(np.arange(train), 5)] + [test]
        titles = [f"training batch {i} of 5" for i in range(1, 6)] + ["testing batch 1 of 1"]
        files = tqdm(FILES[:6], "draw", unit=" files", disable=None)
        for file, n, title in zip(files, rows, titles, strict=True):
            images, labels = synthetic(n, rng)
            names = [f"{list(SHAPES)[c]}_s_{row:06d}.png".encode() for row, c in enumerate(labels)]
            _write(new / file, {b"batch_label": f"{title}, synthetic".encode(), b"labels": labels.tolist(),
                                b"data": images, b"filenames": names})
        _write(new / "batches.meta", {b"num_cases_per_batch": rows[0], b"num_vis": PIXELS,
                                      b"label_names": [name.encode() for name in SHAPES]})


def _write(path, content):
    with open(path, "wb") as file:
        pickle.dump(content, file, protocol=3)    # in protocol 2, the official one, Python 3 has no bytes


# ---------------------------------------------------------------------------------------------------------
# The command line that all scripts share.

class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults that say something, and keeps the line breaks of the description."""

    def _get_help_string(self, action):
        says_nothing = action.default is None or action.default is False
        return action.help if says_nothing else super()._get_help_string(action)


class ArgumentParser(argparse.ArgumentParser):
    """argparse's, but --some_flag is --some-flag, no flag is abbreviated, and an error is one line."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{"allow_abbrev": False, "formatter_class": _HelpFormatter} | kwargs)

    def parse_known_args(self, args=None, namespace=None):
        flags = {flag.replace("_", "-"): flag for flag in self._option_string_actions}
        args = list(sys.argv[1:] if args is None else args)
        end = args.index("--") if "--" in args else len(args)
        for i, arg in enumerate(args[:end]):
            flag, equals, value = arg.partition("=")
            if flag.startswith("--"):
                args[i] = flags.get(flag.replace("_", "-"), flag) + equals + value
        return super().parse_known_args(args, namespace)

    def parse_args(self, args=None, namespace=None):
        namespace, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flag = unknown[0].partition("=")[0].replace("_", "-")
            near = difflib.get_close_matches(flag, self._option_string_actions, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return namespace

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}; see {self.prog} --help\n")


def add_arguments(parser):
    """Add the flags that say which images to read; `load_from` takes them."""
    group = parser.add_argument_group("data")
    group.add_argument("--dataset", choices=("auto", *FOLDERS), default="auto",
                       help="which images; auto: CIFAR-10 if it is there or can be fetched, else synthetic")
    group.add_argument("--data-dir", metavar="FOLDER",
                       help="the folder that holds data_batch_1 to 5, test_batch and batches.meta, or its "
                            "parent; made if missing (default: data/cifar-10-batches-py beside the scripts, "
                            "data/synthetic-batches-py for synthetic images)")
    group.add_argument("--data-url", metavar="URL", default=URL,
                       help="the archive to fetch where the folder is missing: a mirror, or file:///full/path")
    group.add_argument("--data-md5", metavar="SUM", default=MD5,
                       help="its MD5 sum; an archive with another is refused, whatever the URL")


def load_from(args):
    """Return `load`'s Dataset for the flags of `add_arguments`."""
    return load(args.dataset, args.data_dir, url=args.data_url, md5=args.data_md5)


_REMEDIES = {errno.ENOENT: "check the path", errno.ENOSPC: "free some space or choose another place",
             errno.EACCES: "change its permissions or choose another place"}


def command(main, *args):
    """Run `main(*args)` as a script's whole work; return its exit code: what main returns, or 0 for None.

    Errors that a user can mend are one line on stderr and 2: those with the attribute `one_line` set, and
    the operating system's about a file. Ctrl-C is 130, a reader that has gone (`| head`) 141.
    """
    prog = Path(sys.argv[0]).name
    try:
        try:
            return main(*args) or 0
        finally:
            print(end="", flush=True)    # here, where the failure can be told
    except KeyboardInterrupt as interrupt:
        print(f"\n{prog}: {str(interrupt) or 'interrupted'}", file=sys.stderr)
        return 130
    except Exception as error:
        if isinstance(error, OSError) and error.filename is None:
            # Standard output itself: Python would try once more at exit, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            if isinstance(error, BrokenPipeError):
                return 141
        if isinstance(error, OSError) and error.errno:
            text = f"{error.strerror}; {_REMEDIES.get(error.errno, 'choose another place')}"
            text = text if error.filename is None else f"{error.filename}: {text}"
        elif getattr(error, "one_line", False):
            text = str(error)
        elif isinstance(error, MemoryError):
            text = "not enough memory; choose fewer hidden units or a smaller --batch-size"
        else:
            raise
        print(f"{prog}: error: {DataError(text)}", file=sys.stderr)
        return 2


def main(argv=None):
    """Make sure that the images are there, and say what they are."""
    parser = ArgumentParser(description=__doc__)
    add_arguments(parser)
    data = load_from(parser.parse_args(argv))
    print(f"name         {data.name}\nfolder       {data.folder}\nclasses      {' '.join(data.class_names)}")
    print(f"training     {len(data.train_images):,} images\ntest         {len(data.test_images):,} images")
    print(f"fingerprint  {data.fingerprint}")


if __name__ == "__main__":
    sys.exit(command(main))
