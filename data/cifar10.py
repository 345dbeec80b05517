"""CIFAR-10 as uint8 arrays, from the official pickles; CIFAR-100, pictures of your own or synthetic images alike.

    python data/cifar10.py                        # download, verify, unpack, and say what is there
    python data/cifar10.py --data-url file:///mnt/cifar-10-python.tar.gz
    python data/cifar10.py --dataset cifar100     # a hundred classes
    python data/cifar10.py --dataset synthetic    # draw coloured shapes instead: needs no network

    from data import cifar10
    data = cifar10.load()                         # data.train_images: (50000, 3072) uint8

A row holds 1024 red, 1024 green and 1024 blue pixels, each plane from top to bottom, row by row. Nothing read is
trusted: a pickle is refused unless it holds plain values and arrays, an archive unless its MD5 is the expected one.
Folders appear whole or not at all.
"""

import argparse
import hashlib
import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

if __name__ == "__main__":  # Python looks for modules beside the script
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from data.download import Unreachable, download
from data.folders import META, TEST, TRAIN
from data.pickles import Call, DataError, array, read_pickle, text
from data.synthetic import SHAPES, write_synthetic
from support.cli import ROOT, ArgumentParser, UserError, clean, command, shorter, user_path
from support.files import Fault, error_context

import numpy as np

HERE = ROOT / "data"
FILES = (*TRAIN, TEST, META)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MAX_CLASSES = 1000
PIXELS = 3 * 32 * 32
SMALL = 5000  # images; `split` keeps the classes' shares where there are fewer


@dataclass(frozen=True)
class Layout:
    """How a data set lies on the disk, and where it comes from."""

    folder: str  # its usual name
    train: tuple[str, ...]
    test: str
    meta: str
    labels: str  # the key of a batch's labels, and below of the classes' names
    names: str
    url: str = ""
    md5: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, self.test, self.meta)


CIFAR10 = Layout(
    "cifar-10-batches-py",
    TRAIN,
    TEST,
    META,
    "labels",
    "label_names",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "c58f30108f718f92721af3b95e74349a",
)
CIFAR100 = Layout(
    "cifar-100-python",
    ("train",),
    "test",
    "meta",
    "fine_labels",
    "fine_label_names",
    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    "eb9058c3a382ffc7106e4002c42a8d85",
)
# In CIFAR-10's layout, and said in each batch's label: synthetic images, and pictures of one's own.
LAYOUTS = {
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "synthetic": Layout("synthetic-batches-py", TRAIN, TEST, META, "labels", "label_names"),
}
OWN = ("synthetic", "pictures")


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Images and labels of both splits. The arrays are read-only, so that the fingerprint stays true."""

    name: str  # "cifar10", "cifar100", "synthetic" or "pictures"
    train_images: np.ndarray  # (N, 3072) uint8, channel-major
    train_labels: np.ndarray  # (N,) int64, 0 to the number of classes - 1
    test_images: np.ndarray  # (M, 3072) uint8
    test_labels: np.ndarray  # (M,) int64
    class_names: tuple[str, ...]  # 2 to 1,000, in the order of the labels
    fingerprint: str  # SHA-256 over shapes, images and labels of both splits, 64 hex digits
    folder: Path | None = None  # where it was read

    @property
    def title(self) -> str:
        """What files are named after: the name, or of own pictures the name of their folder."""
        own = self.name == "pictures" and self.folder
        return clean(self.folder.resolve().name, 40) if own else self.name

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name}: {len(self.train_labels):,} training and {len(self.test_labels):,} test images, "
            f"{len(self.class_names)} classes, fingerprint {self.fingerprint[:8]})"
        )


# ---- Loading --------------------------------------------------------------------------------------------------------


def load(
    dataset: str = "auto",
    data_dir: str | os.PathLike | None = None,
    *,
    url: str | None = None,
    md5: str | None = None,
    make: bool = False,
) -> Dataset:
    """The `Dataset`, after a download or a drawing where the default folder is missing.

    dataset: "cifar10", "cifar100", "synthetic", or "auto": what `data_dir` holds, or without one CIFAR-10, and only
    where it can't be fetched the synthetic images, with a warning on stderr. data_dir: the folder of batches or its
    parent; by default a folder beside this file. url, md5: the archive to fetch, http(s):// or file://, and its
    checksum, by default the official one's. make: whether a `data_dir` that isn't there is made, too. DataError if the
    images can't be had or are damaged, or the disk refuses.
    """
    if dataset not in ("auto", *LAYOUTS):
        raise DataError(f"--dataset {dataset}: unknown; choose auto, {', '.join(LAYOUTS)}")
    kind = "cifar10" if dataset == "auto" else dataset
    layout = LAYOUTS[kind]
    folder = HERE / layout.folder if data_dir is None else _find(dataset, data_dir)
    if not folder.exists():
        if data_dir is not None and not make:
            raise DataError(
                f"--data-dir {clean(data_dir, 80)}: there is no such folder; check the name, or have it made by: "
                f"python data/cifar10.py --dataset {kind} --data-dir {clean(shlex.quote(str(data_dir)), 80)}"
            )
        if kind == "synthetic":
            write_synthetic(folder)
        else:
            try:
                download(
                    folder,
                    url or layout.url,
                    md5 or layout.md5,
                    layout.files,
                    partial(read, kind=kind),
                )
            except Unreachable as error:
                # A folder asked for by name may be a typo: other images would hide it.
                if dataset != "auto" or data_dir is not None:
                    raise
                line = "*" * 100
                print(
                    f"{line}\nWARNING: these are NOT the images of CIFAR-10 but SYNTHETIC ones, and so is every "
                    f"result.\n{error}\n{line}",
                    file=sys.stderr,
                )
                return load("synthetic")
    data = read(folder, kind)
    if dataset not in ("auto", data.name):
        other = f"give --dataset {data.name}" if data.name in LAYOUTS else "leave --dataset out"
        raise DataError(
            f"{shorter(folder)}: holds {data.name} images, not {dataset}; {other} or another --data-dir"
        )
    return data


def _find(dataset: str, data_dir: str | os.PathLike) -> Path:
    """The folder of batches that `data_dir` is, or else holds."""
    folder = _named(data_dir)
    if _layout(folder) is None:
        for kind, layout in LAYOUTS.items():
            if dataset in ("auto", kind) and (folder / layout.folder).is_dir():
                return folder / layout.folder
    return folder


def _named(data_dir: str | os.PathLike) -> Path:
    """--data-dir as a path."""
    try:
        return user_path(data_dir)
    except UserError as error:
        raise DataError(f"--data-dir {error}") from None


def _layout(folder: Path) -> Layout | None:
    """The layout of the files in `folder`, by its file of class names; None if neither is there."""
    if (folder / META).exists():
        return CIFAR10
    if (folder / "meta").exists() and (folder / "train").exists():
        return CIFAR100
    return None


def read(folder: str | os.PathLike, kind: str = "cifar10") -> Dataset:
    """The `Dataset` in `folder`; `kind` only says which one was expected, where nothing else tells.

    DataError, which names the file, if one is missing, damaged, out of place or not trusted.
    """
    folder = Path(folder)
    layout = _layout(folder) or LAYOUTS[kind]
    shown = shlex.quote(clean(shorter(folder), 100))
    if not folder.is_dir() or not any((folder / file).exists() for file in layout.files):
        raise DataError(
            f"{shown}: is no folder of CIFAR-10 batches; give --data-dir the folder that holds {layout.train[0]}, or "
            "have one made by: python data/cifar10.py --data-dir NEW"
        )
    kind = "cifar100" if layout is CIFAR100 else kind
    flags = (f" --dataset {kind}" if kind != "cifar10" else "") + (
        f" --data-dir {shown}" if folder.parent != HERE else ""
    )
    remedy = f"put the right file there, or delete {shown} and run: python data/cifar10.py{flags}"
    with error_context(folder / layout.meta, remedy, DataError):
        names = _class_names(folder / layout.meta, layout)
    if layout is CIFAR10 and names not in (CLASSES, tuple(SHAPES)):
        remedy = f"put the right file there, or make {shown} anew by: python data/pictures.py"

    room = (
        sum(path.stat().st_size for file in layout.train if (path := folder / file).is_file())
        // PIXELS
    )
    train_images = np.empty(
        (room, PIXELS), np.uint8
    )  # more than enough, and what isn't written takes no memory
    train_labels: list[np.ndarray] = []
    rows, files, first = 0, list(layout.train), None
    while files:
        path = folder / files.pop(0)
        with error_context(path, remedy, DataError):
            images, labels, made_by, count = _batch(path, layout, len(names))
            if first is None:
                first = made_by
                files = files[: count - 1] if made_by else files  # our own folders have one to five
            _check_kind(made_by, first, names)
            train_images[rows : rows + len(images)] = images
        train_labels.append(labels)
        rows += len(images)
    path = folder / layout.test
    with error_context(path, remedy, DataError):
        test_images, test_labels, made_by, _ = _batch(path, layout, len(names))
        _check_kind(made_by, first, names)

    arrays = train_images[:rows], np.concatenate(train_labels), test_images.copy(), test_labels
    digest = hashlib.sha256()
    for item in arrays:
        item.flags.writeable = False
        digest.update(f"{item.shape}".encode())
        # Labels too: one byte each on every machine, or two if there are many classes.
        digest.update(
            np.ascontiguousarray(item, np.uint8 if item.ndim == 2 or len(names) <= 256 else "<u2")
        )
    name = first or ("cifar100" if layout is CIFAR100 else "cifar10")
    return Dataset(name, *arrays, names, digest.hexdigest(), folder)


def _check_kind(made_by: str, first: str, names: Sequence[str]) -> None:
    """Fault unless who made a batch is who made the first one, and fits the classes."""
    if made_by != "pictures" and (made_by == "synthetic") != (names == tuple(SHAPES)):
        raise Fault(f"is {'' if made_by else 'not '}synthetic, but its batches.meta says otherwise")
    if made_by != first:
        raise Fault(
            f"is of another kind ({made_by or 'official'}) than the batches before it ({first or 'official'})"
        )


def _batch(path: Path, layout: Layout, classes: int) -> tuple[np.ndarray, np.ndarray, str, int]:
    """(images (n, 3072) uint8, labels (n,) int64, who made it or '', how many training files it says there are)"""
    content = read_pickle(path, "data", layout.labels)
    if not isinstance(content["data"], Call):
        raise Fault(f"has data of type {type(content['data']).__name__}, not an array")
    images, labels = array(content["data"]), _labels(content[layout.labels], classes)
    if images.dtype != np.uint8:
        raise Fault(f"has images of dtype {images.dtype}, not uint8")
    if images.ndim != 2 or images.shape[1] != PIXELS or not len(images):
        raise Fault(f"has images of shape {images.shape}, not (rows, {PIXELS})")
    if len(images) != len(labels):
        raise Fault(f"has {len(images):,} images but {len(labels):,} labels")
    title = text(content.get("batch_label", ""))
    found = re.match(r"(training|testing) batch (\d{1,4}) of (\d{1,4})", title, re.ASCII)
    own = path.name.removeprefix("data_batch_")
    if found and layout is not CIFAR100:
        split, number = found[1], found[2]
        # Only a clear contradiction counts: copies are found that number their batches from 0.
        swapped = (split == "testing") != (path.name == layout.test)
        if swapped or (
            split == "training" and "1" <= number <= "5" and len(number) == 1 and number != own
        ):
            raise Fault(f"is swapped: it says that it is {found[0]!r}")
    made_by = next((kind for kind in OWN if title.endswith(f", {kind}")), "")
    count = int(found[3]) if found else len(layout.train)
    return images, labels, made_by, min(max(count, 1), len(layout.train))


def _labels(value: object, classes: int) -> np.ndarray:
    """Labels (n,) int64 of a list of integers, or of an array of them. Fault unless they are 0 to classes - 1."""
    if isinstance(value, list):
        value = [_scalar(item) if isinstance(item, Call) else item for item in value]
        if not all(type(label) is int for label in value):
            row = next(row for row, label in enumerate(value) if type(label) is not int)
            raise Fault(f"has a label that is no integer in row {row}")
        wrong = (row for row, label in enumerate(value) if not 0 <= label < classes)
    elif not isinstance(value, Call):
        raise Fault(f"has labels of type {type(value).__name__}, not a list or an array")
    else:
        value = array(value)
        if value.ndim != 1 or value.dtype.kind not in "iu":
            raise Fault("has a label that is no integer in row 0")
        wrong = iter(np.flatnonzero((value < 0) | (value >= classes)))
    if (row := next(wrong, None)) is not None:
        raise Fault(f"has label {value[row]} in row {row}, outside 0..{classes - 1}")
    return np.array(value, np.int64)


def _scalar(call: Call) -> object:
    """A NumPy integer as Python's; any other array as it is."""
    item = array(call)
    return item.item() if item.shape == () and item.dtype.kind in "iu" else item


def _class_names(path: Path, layout: Layout) -> tuple[str, ...]:
    names = read_pickle(path, layout.names)[layout.names]
    if not isinstance(names, list | tuple) or not 2 <= len(names) <= MAX_CLASSES:
        raise Fault(f"has no list of 2 to {MAX_CLASSES:,} {layout.names}")
    names = tuple(text(name) for name in names)
    if len(set(names)) < len(names) or not all(
        name and name.isprintable() and len(name) <= 255 for name in names
    ):
        raise Fault(f"has {layout.names} that are empty, doubled, too long or not printable")
    return names


# ---- The validation split -------------------------------------------------------------------------------------------


def split(
    labels: np.ndarray | int, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the validation rows: (training, validation), two sorted int64 arrays that part the rows.

    labels: (n,), or just n. share: the validation share, between 0 and 1. Of fewer than 5,000 labels each class gives
    its share, to whole images, and keeps at least one for training; with more, or without labels, chance is fair enough
    and all rows are drawn from alike. DataError if either side would be empty.
    """
    n = labels if isinstance(labels, int | np.integer) else len(labels)
    count = round(n * share) if 0 < share < 1 else 0
    if not 0 < count < n:
        raise DataError(
            f"validation share {share}: leaves no training or no validation images out of {n}; choose a share between "
            "0 and 1, such as 0.1"
        )
    if n >= SMALL or isinstance(labels, int | np.integer):
        order = rng.permutation(n)
        return np.sort(order[count:]), np.sort(order[:count])
    return stratified(labels, share, rng)


def stratified(
    labels: np.ndarray, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a `share` of the rows of each class: (the rest, what was drawn), two sorted int64 arrays.

    What is drawn has round(n share) rows, those beyond whole rows from the classes with the largest fractions; but each
    class keeps at least one row. DataError if that leaves nothing to draw.
    """
    rows = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    sizes = np.array([len(each) for each in rows])
    counts = np.minimum(np.floor(sizes * share).astype(int), sizes - 1)
    fractions = np.where(counts < sizes - 1, sizes * share - counts, -1)
    missing = round(len(labels) * share) - int(counts.sum())
    for c in np.argsort(-fractions, kind="stable")[: max(missing, 0)]:
        counts[c] += fractions[c] > 0
    drawn = [rng.permutation(each)[:count] for each, count in zip(rows, counts, strict=True)]
    drawn = np.sort(np.concatenate(drawn)).astype(np.int64)
    if not len(drawn):
        raise DataError(
            f"validation share {share}: leaves no validation images, as each of the {len(rows)} classes keeps one for "
            "training; choose a larger share, or add images"
        )
    return np.setdiff1d(np.arange(len(labels)), drawn), drawn


# ---- The command line, and checkpoints ------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say which images to read; `load_from` takes them."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--dataset",
        choices=("auto", *LAYOUTS),
        default="auto",
        help="which images; auto: those in --data-dir, or CIFAR-10 if it is there or can be fetched, else synthetic",
    )
    group.add_argument(
        "--data-dir",
        metavar="FOLDER",
        help="the folder of batches (data_batch_1 ..., test_batch, batches.meta), or its parent (default: "
        "data/cifar-10-batches-py beside the scripts, data/synthetic-batches-py for synthetic images, and so on, "
        "made if missing)",
    )
    group.add_argument(
        "--data-url",
        metavar="URL",
        help="the archive to fetch where the folder is missing: a mirror, or file:///full/path (default: the official "
        "one)",
    )
    group.add_argument(
        "--data-md5",
        metavar="SUM",
        help="its MD5 sum; an archive with another is refused, whatever the URL (default: the official one's)",
    )


def load_from(args: argparse.Namespace, make: bool = False) -> Dataset:
    """`load`'s Dataset for the flags of `add_arguments`."""
    return load(args.dataset, args.data_dir, url=args.data_url, md5=args.data_md5, make=make)


def load_for(args: argparse.Namespace, trained: dict) -> Dataset:
    """The images that the flags ask for; where they leave it open, those that a checkpoint was trained on.

    trained: what the checkpoint says of them, name, fingerprint and class_names, each of which may be anything.
    """
    name = trained.get("name")
    if args.dataset == "auto" and args.data_dir is None and name == "pictures":
        raise DataError(
            "this checkpoint was trained on pictures of your own; give their folder by --data-dir"
        )
    dataset = args.dataset
    if dataset == "auto" and isinstance(name, str) and name in LAYOUTS:
        inside = args.data_dir is None or (_named(args.data_dir) / LAYOUTS[name].folder).is_dir()
        dataset = name if inside else "auto"
    return load(dataset, args.data_dir, url=args.data_url, md5=args.data_md5)


def warn_of_other_data(path: str | os.PathLike, trained: dict, dataset: Dataset) -> None:
    """A line on stderr where the images aren't known to be those that the checkpoint `path` was trained on."""
    shown = clean(shorter(path), 100)
    if "fingerprint" not in trained:
        print(
            f"{shown}: doesn't say which images it was trained on; these are {dataset.name}",
            file=sys.stderr,
        )
    elif trained["fingerprint"] != dataset.fingerprint:
        print(
            f"WARNING: {shown}: was trained on other images ({clean(trained.get('name'), 40)}, fingerprint "
            f"{clean(trained['fingerprint'])[:8]}) than these ({dataset.name}, {dataset.fingerprint[:8]})",
            file=sys.stderr,
        )


def class_names(trained: dict, count: int) -> list[str]:
    """The names of a checkpoint's `count` classes; CIFAR-10's, or numbers, if it has none that can be shown."""
    names = trained.get("class_names")
    usable = isinstance(names, list) and len(names) == count
    # The names go to the terminal, and to matplotlib, to which a $ is mathematics.
    if usable and all(
        isinstance(name, str) and name.isprintable() and "$" not in name for name in names
    ):
        return [clean(name, 60) for name in names]
    return list(CLASSES) if count == len(CLASSES) else [f"class {i}" for i in range(count)]


def main(argv: Sequence[str] | None = None) -> None:
    """Make sure that the images are there, and say what they are."""
    parser = ArgumentParser(description=__doc__)
    add_arguments(parser)
    data = load_from(parser.parse_args(argv), make=True)
    names = clean(" ".join(data.class_names), 200)
    print(
        f"name         {data.name}\nfolder       {clean(data.folder)}\nclasses      {len(data.class_names)}: {names}"
    )
    print(
        f"training     {len(data.train_images):,} images\ntest         {len(data.test_images):,} images"
    )
    print(f"fingerprint  {data.fingerprint}")


if __name__ == "__main__":
    sys.exit(command(main))
