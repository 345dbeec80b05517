"""CIFAR-10 as uint8 arrays, and other data sets in its form: CIFAR-100, own pictures, drawn images.

  python data/cifar10.py                            fetch CIFAR-10 and check it
  python data/cifar10.py --dataset cifar100         a hundred classes
  python data/cifar10.py --dataset cifar100-coarse  the same images in 20 superclasses
  python data/cifar10.py --dataset synthetic        draw images: needs no network

  from data import cifar10
  data = cifar10.load()                             data.train_images: (50000, 3072) uint8

An image is 1024 red, 1024 green and 1024 blue pixels, each plane row by row from the top.
No file is trusted: a pickle may hold plain values and arrays only, an archive has to have the
expected MD5 sum. A folder appears complete or not at all.
"""

import argparse
import hashlib
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

if __name__ == "__main__":
    # The modules are in the folder above; python -P leaves out the script's own as well.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.batches import read_batch, read_class_names
from data.download import Unreachable, download
from data.formats import folder_fault
from data.layouts import CIFAR10, CIFAR100, CIFAR100_COARSE, CLASSES, LAYOUTS, Layout
from data.pickles import DataError
from data.synthetic import SHAPES, write_synthetic
from support.cli import (
    ROOT,
    ArgumentParser,
    UserError,
    clean,
    command,
    note,
    script,
    shorter,
    user_path,
)
from support.files import Fault, error_context
from support.image_shape import PIXELS

import numpy as np

HERE = ROOT / "data"  # data sets lie here by default
SMALL = 5000  # labels; `split` draws from each class if there are fewer


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Images and labels of both splits. The arrays are read-only, so the fingerprint stays true."""

    name: str  # "pictures", or one of LAYOUTS: "cifar10", "cifar100", ...
    train_images: np.ndarray  # (N, 3072) uint8
    train_labels: np.ndarray  # (N,) int64, from 0 to the number of classes - 1
    test_images: np.ndarray  # (M, 3072) uint8
    test_labels: np.ndarray  # (M,) int64
    class_names: tuple[str, ...]  # 2 to 1,000, in the order of the labels
    fingerprint: str  # SHA-256 of shapes, images and labels of both splits: 64 hex digits
    folder: Path | None = None  # the folder of batches

    @property
    def title(self) -> str:
        """The name for files about this data set: own pictures are called after their folder."""
        if self.name == "pictures" and self.folder:
            return clean(self.folder.resolve().name, 40)
        return self.name

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name}: {len(self.train_labels):,} training and "
            f"{len(self.test_labels):,} test images, {len(self.class_names)} classes, "
            f"fingerprint {self.fingerprint[:8]})"
        )


def load(
    dataset: str = "auto",
    data_dir: str | os.PathLike | None = None,
    *,
    url: str | None = None,
    md5: str | None = None,
    make: bool = False,
) -> Dataset:
    """Return the `Dataset`; fetch or draw it first if the default folder is missing.

    dataset: "cifar10", "cifar100", "cifar100-coarse", "synthetic" or "auto". "auto" takes what is
        in `data_dir`. Without `data_dir` it takes CIFAR-10, or drawn images if no address
        delivers it.
    data_dir: the folder of batches or a folder above it; by default a folder in data/.
    url: the address or path of the archive; by default several addresses are tried in turn.
    md5: its MD5 sum, by default that of the official archive.
    make: fetch or draw the images into `data_dir` if they are missing.
    Raises DataError if the images are missing or damaged, or the disk refuses.
    """
    if dataset not in ("auto", *LAYOUTS):
        raise DataError(f"--dataset {dataset}: unknown; choose auto, {', '.join(LAYOUTS)}")
    kind = "cifar10" if dataset == "auto" else dataset
    usual_name = LAYOUTS[kind].folder
    if data_dir is None:
        folder = HERE / usual_name
    else:
        folder = find_folder(dataset, data_dir)
        if make and folder.is_dir() and layout_in(folder) is None:
            folder = folder / usual_name
        if not make:
            _check_exists(folder, Source(kind, data_dir, url, md5))

    if folder.exists():
        where = clean(shorter(folder), 100)
        why = f"{where} is there already; give a new --data-dir, or leave the flag out"
        _note_idle_archive(url, md5, why)
    else:
        if kind == "synthetic":
            _note_idle_archive(url, md5, "images are drawn; leave the flag out")
        try:
            _make(folder, kind, url, md5)
        except Unreachable as error:
            # The user asked for these images: others instead would hide a mistake.
            if dataset != "auto" or data_dir is not None:
                raise
            _warn_of_synthetic(error)
            return load("synthetic")

    data = read(folder, kind)
    if dataset not in ("auto", data.name):
        known = data.name in LAYOUTS
        remedy = f"give --dataset {data.name}" if known else "leave --dataset out"
        raise DataError(
            f"{shorter(folder)}: holds {data.name} images, not {dataset}; "
            f"{remedy} or another --data-dir"
        )
    return data


def _make(folder: Path, kind: str, url: str | None, md5: str | None) -> None:
    """Draw or fetch the data set into the new folder `folder`."""
    if kind == "synthetic":
        write_synthetic(folder)
        return
    layout = LAYOUTS[kind]
    archive = layout.archive
    look_in = (HERE, folder.parent, Path.cwd())
    if md5 is not None:
        archive = replace(archive, md5=md5.lower(), size=0, sums={})
    if url is not None:
        archive = replace(archive, urls=(os.fspath(url),), size=0)
        look_in = ()

    def check(new: Path) -> None:
        read(new, kind)

    download(folder, archive, layout.files, check, look_in)


def _note_idle_archive(url: str | None, md5: str | None, why: str) -> None:
    """Say on stderr that --data-url and --data-md5, if they are given, have no effect, and why."""
    for flag, value in (("--data-url", url), ("--data-md5", md5)):
        if value is not None:
            note(f"{flag} has no effect: {why}")


def _warn_of_synthetic(error: Unreachable) -> None:
    print(
        f"{error}\n"
        "WARNING: ten kinds of drawn shapes are used instead of photographs. "
        "Accuracies on them say nothing about CIFAR-10.",
        file=sys.stderr,
    )


# ---- The folder of batches -----------------------------------------------------------------------


def find_folder(dataset: str, data_dir: str | os.PathLike) -> Path:
    """Return the folder of batches: `data_dir`, or one up to two levels below. It need not exist.

    Raises DataError if there are several, and neither their names nor `dataset` tell which.
    """
    folder = given_folder(data_dir)
    if folder.is_file() and layout_in(folder.parent):
        folder = folder.parent  # one of the batches was named
    if layout_in(folder):
        return folder
    for pattern in ("*", "*/*"):
        below = _folders_of_batches(folder, pattern)
        if below:
            return _choose(dataset, folder, below)
    return folder


def _folders_of_batches(folder: Path, pattern: str) -> list[Path]:
    """Return the folders of batches below a folder that match the pattern, sorted."""
    found = set()
    # By these names, as to look at each of a million files would take long.
    for file in (CIFAR10.meta, CIFAR10.train[0], CIFAR10.test, CIFAR100.meta):
        found |= {path.parent for path in folder.glob(f"{pattern}/{file}")}
    being_made = {path for path in found if path.suffix == ".partial"}
    return sorted(path for path in found - being_made if layout_in(path))


def _choose(dataset: str, folder: Path, below: list[Path]) -> Path:
    """Return the folder of batches that is meant, out of those `below` a folder."""
    wanted = LAYOUTS.values() if dataset == "auto" else [LAYOUTS[dataset]]
    for layout in wanted:
        for path in below:
            if path.name == layout.folder:
                return path
    metas = {layout.meta for layout in wanted}
    fitting = [path for path in below if layout_in(path).meta in metas] or below
    if len(fitting) > 1:
        names = ", ".join(path.name for path in fitting)
        raise DataError(
            f"--data-dir {shorter(folder)}: holds several data sets ({clean(names, 90)}); "
            "name one of them"
        )
    return fitting[0]


def given_folder(data_dir: str | os.PathLike) -> Path:
    """Return --data-dir as a path."""
    try:
        return user_path(data_dir)
    except UserError as error:
        raise DataError(f"--data-dir {error}") from None


def layout_in(folder: Path, dataset: str = "auto") -> Layout | None:
    """Return the layout of the files in `folder`, or None if it holds none.

    dataset: tells CIFAR-100's superclasses from its classes, as they are in the same files.
    """
    if any((folder / file).is_file() for file in (CIFAR10.meta, CIFAR10.train[0], CIFAR10.test)):
        return CIFAR10
    if all((folder / file).is_file() for file in (CIFAR100.meta, CIFAR100.train[0])):
        return CIFAR100_COARSE if dataset == CIFAR100_COARSE.name else CIFAR100
    return None


def _check_exists(folder: Path, source: "Source") -> None:
    if not folder.exists():
        how = "make it by data/cifar10.py with the same flags"
        typed = source.typed()
        if typed.isprintable() and len(typed) <= 160:  # a command that is cut would do harm
            how = f"make it by: python data/cifar10.py {typed}"
        raise DataError(
            f"--data-dir {clean(source.data_dir, 80)}: there is no such folder; check the name, or "
            f"{how}"
        )


# ---- Reading and checking ------------------------------------------------------------------------


def read(folder: str | os.PathLike, dataset: str = "cifar10") -> Dataset:
    """Return the `Dataset` in `folder`.

    dataset: the expected data set. It only tells cifar100-coarse from cifar100, and what a
        damaged folder should hold.
    Raises DataError, which names the file, if one is missing, damaged, swapped or not trusted.
    """
    folder = Path(folder)
    layout = layout_in(folder, dataset)
    if layout is None:
        shown = shlex.quote(clean(shorter(folder), 90))
        raise DataError(
            f"{shown}: is not a folder of CIFAR-10 batches, it {folder_fault(folder)}; "
            "give another --data-dir, or fetch one by: python data/cifar10.py --data-dir NEW"
        )
    if LAYOUTS[dataset].meta != layout.meta:
        dataset = layout.name

    remedy = _remedy(folder, dataset)
    with error_context(folder / layout.meta, remedy, DataError):
        names = read_class_names(folder / layout.meta, layout)
    if layout is CIFAR10 and names not in (CLASSES, tuple(SHAPES)):
        shown = shlex.quote(clean(shorter(folder), 100))
        remedy = f"put the correct file there, or make {shown} again by: python data/pictures.py"

    # Memory that isn't written costs nothing, and no second copy of the images is made.
    images = np.empty((_most_rows(folder, layout), PIXELS), np.uint8)
    labels = []
    rows = 0
    count = len(layout.train)
    maker = None
    for number, file in enumerate(layout.train, start=1):
        if number > count:
            break
        with error_context(folder / file, remedy, DataError):
            batch = read_batch(folder / file, layout, len(names))
            if number == 1:
                count = batch.count
                maker = batch.maker
            _check_maker(batch.maker, maker, names)
        images[rows : rows + len(batch.images)] = batch.images
        labels.append(batch.labels)
        rows += len(batch.images)

    with error_context(folder / layout.test, remedy, DataError):
        test = read_batch(folder / layout.test, layout, len(names))
        _check_maker(test.maker, maker, names)

    arrays = (images[:rows], np.concatenate(labels), test.images.copy(), test.labels)
    for array in arrays:
        array.flags.writeable = False
    name = maker or layout.name
    return Dataset(name, *arrays, names, _fingerprint(arrays, len(names)), folder)


def _remedy(folder: Path, dataset: str) -> str:
    shown = shlex.quote(clean(shorter(folder), 100))
    flags = "" if dataset == "cifar10" else f" --dataset {dataset}"
    if not _is_usual(folder, dataset):
        flags += f" --data-dir {shown}"
    return f"put the correct file there, or delete {shown} and run: python data/cifar10.py{flags}"


def _is_usual(folder: Path, dataset: str) -> bool:
    """Return whether the folder is the one that a data set has without --data-dir."""
    if dataset not in LAYOUTS:
        return False
    # Links are not followed: what a link leads to has a name of its own.
    return os.path.abspath(folder) == os.path.abspath(HERE / LAYOUTS[dataset].folder)


def _most_rows(folder: Path, layout: Layout) -> int:
    """Return a number that the training images don't exceed, from the sizes of their files."""
    paths = [folder / file for file in layout.train]
    return sum(path.stat().st_size for path in paths if path.is_file()) // PIXELS


def _check_maker(maker: str, first: str, names: Sequence[str]) -> None:
    """Check that a batch has the maker of the first one and of the names. Raises Fault if not."""
    names_are_drawn = names == tuple(SHAPES)
    is_drawn = maker == "synthetic"
    if maker != "pictures" and is_drawn != names_are_drawn:
        kind = "synthetic" if is_drawn else "not synthetic"
        raise Fault(f"is {kind}, but its batches.meta says otherwise")
    if maker != first:
        raise Fault(
            f"is of another kind ({maker or 'official'}) than the batches before it "
            f"({first or 'official'})"
        )


def _fingerprint(arrays: Sequence[np.ndarray], classes: int) -> str:
    """Return the SHA-256 sum of shapes and values, the same on every machine."""
    digest = hashlib.sha256()
    label_type = "<u1" if classes <= 256 else "<u2"
    for array in arrays:
        digest.update(f"{array.shape}".encode())
        digest.update(np.ascontiguousarray(array, np.uint8 if array.ndim == 2 else label_type))
    return digest.hexdigest()


# ---- The validation split ------------------------------------------------------------------------


def split(
    labels: np.ndarray | int, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the validation rows; return (training rows, validation rows), sorted int64 arrays.

    labels: (n,), or just n. share: the share of validation rows, between 0 and 1.
    Fewer than 5,000 labels are split by class, see `stratified`. From more, or without labels,
    rows are drawn at random.
    Raises DataError if either side would be empty.
    """
    only_count = isinstance(labels, int | np.integer)
    n = labels if only_count else len(labels)
    count = round(n * share) if 0 < share < 1 else 0
    if not 0 < count < n:
        raise DataError(
            f"--validation-share {share}: leaves no training or no validation images out of {n}; "
            "choose a share between 0 and 1, such as 0.1"
        )
    if only_count or n >= SMALL:
        order = rng.permutation(n)
        return np.sort(order[count:]), np.sort(order[:count])
    return stratified(labels, share, rng)


def stratified(
    labels: np.ndarray, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a `share` of each class; return (other rows, drawn rows), sorted int64 arrays.

    round(n * share) rows are drawn: from each class its share rounded down, then one more from
    the classes with the largest fractions. Each class keeps at least one row undrawn.
    Raises DataError if that leaves nothing to draw.
    """
    rows_of_class = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    sizes = np.array([len(rows) for rows in rows_of_class])
    counts = np.minimum(np.floor(sizes * share).astype(int), sizes - 1)
    fractions = np.where(counts < sizes - 1, sizes * share - counts, -1)
    missing = max(round(len(labels) * share) - int(counts.sum()), 0)
    largest = np.argsort(-fractions, kind="stable")[:missing]
    counts[largest] += fractions[largest] > 0

    drawn = [
        rng.permutation(rows)[:count] for rows, count in zip(rows_of_class, counts, strict=True)
    ]
    drawn = np.sort(np.concatenate(drawn)).astype(np.int64)
    if len(drawn) == 0:
        raise DataError(
            f"--validation-share {share}: leaves no validation images, as each of the "
            f"{len(sizes)} classes keeps one for training; choose a larger share, or "
            "more images (see --limit)"
        )
    return np.setdiff1d(np.arange(len(labels)), drawn), drawn


# ---- The flags of all scripts --------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """The flags of `add_arguments`: which images to read, and where they come from."""

    dataset: str = "auto"
    data_dir: str | None = None
    url: str | None = None
    md5: str | None = None

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Source":
        """Return the source that a command line names."""
        return cls(args.dataset, args.data_dir, args.data_url, args.data_md5)

    @property
    def given(self) -> dict[str, str]:
        """The flags that were given, with their values."""
        flags = {
            "--dataset": None if self.dataset == "auto" else self.dataset,
            "--data-dir": self.data_dir,
            "--data-url": self.url,
            "--data-md5": self.md5,
        }
        return {flag: value for flag, value in flags.items() if value is not None}

    def typed(self) -> str:
        """Return the flags as they are typed; "" for none."""
        words = []
        for flag, value in self.given.items():
            words += [flag, str(value)]
        return shlex.join(words)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that choose the images, see `Source`."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--dataset",
        choices=("auto", *LAYOUTS),
        default="auto",
        help="auto: the one in --data-dir, else CIFAR-10, else (without a network) drawn images",
    )
    group.add_argument(
        "--data-dir",
        metavar="FOLDER",
        help="the folder of batches or one above it (default: a folder in data/, made if missing)",
    )
    group.add_argument(
        "--data-url",
        metavar="URL",
        help="the archive to fetch if the folder is missing: an address or a file's path",
    )
    group.add_argument(
        "--data-md5",
        metavar="SUM",
        help="the MD5 sum of the archive of --data-url",
    )


def load_from(source: Source, make: bool = False) -> Dataset:
    """Return the `Dataset` of a source; see `load`."""
    return load(source.dataset, source.data_dir, url=source.url, md5=source.md5, make=make)


# ---- The script ----------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> None:
    """Fetch or draw the images if they are missing, check them, and print a summary."""
    parser = ArgumentParser(description=__doc__)
    add_arguments(parser)
    source = Source.of(parser.parse_args(argv))
    if source.dataset == "auto" and source.data_dir is None:
        # Those who only want to fetch want no drawn images instead.
        source = replace(source, dataset="cifar10")
    data = load_from(source, make=True)
    names = clean(" ".join(data.class_names), 200)
    print(f"name         {data.name}")
    print(f"folder       {clean(data.folder)}")
    print(f"classes      {len(data.class_names)}: {names}")
    print(f"training     {len(data.train_images):,} images")
    print(f"test         {len(data.test_images):,} images")
    print(f"fingerprint  {data.fingerprint}")
    print(f"The images are in {clean(shorter(data.folder))}; next: {_next_command(data)}")


def _next_command(data: Dataset) -> str:
    """Return the command that trains on these images."""
    words = script("train.py")
    if data.name not in ("cifar10", "pictures"):
        words += ["--dataset", data.name]
    if not _is_usual(data.folder, data.name):
        words += ["--data-dir", str(shorter(data.folder))]
    return shlex.join(words)


if __name__ == "__main__":
    sys.exit(command(main))
