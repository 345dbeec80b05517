"""Make a data set of pictures of your own: a folder of pictures becomes a folder of batches.

    python data/pictures.py FOLDER --out data/mine
    python train.py --data-dir data/mine

FOLDER holds a folder of pictures for each class (FOLDER/cat/1.jpg, FOLDER/dog/2.png), and
--test-share of each class is drawn for testing. If the pictures are split already
(FOLDER/train/cat, FOLDER/test/cat), these are the splits. A validation folder is the test split
if there is no other, and part of the training split if there is: train.py draws its validation
images itself.

Pictures may have any size: the square in the middle is averaged down to 32x32 pixels.
"""

import os
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # Python looks for modules next to the script
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from data.cifar10 import read, stratified
from data.decoding import PictureError, read_picture
from data.folders import META, TEST, TRAIN, whole_folder, write_batch, write_meta
from data.pickles import DataError
from data.picture_folders import Files, find_files, find_layout
from support.cli import (
    ArgumentParser,
    clean,
    command,
    integer,
    note,
    output_folder,
    script,
    shorter,
    user_path,
)
from support.image_shape import PIXELS

import numpy as np
from tqdm import tqdm

TEST_SHARE = 0.2  # of each class, unless the pictures are split already
NAMED = 20  # files left out that are named one by one
NAMED_CLASSES = 12  # classes that a split's line names
BATCH = 10_000  # images in a training batch


@dataclass
class Pictures:
    """Images (n, 3072) uint8, labels (n,) int64, file names, and counts of what isn't in them."""

    images: np.ndarray
    labels: np.ndarray
    names: list[str]
    left_out: Counter
    passed_over: Counter

    def rows(self, rows: np.ndarray) -> "Pictures":
        """Return a part of the split, without the counts."""
        names = [self.names[row] for row in rows]
        return Pictures(self.images[rows], self.labels[rows], names, Counter(), Counter())


def make_batches(
    folder: Path, out: Path, test_share: float | None = None, seed: int = 0
) -> list[str]:
    """Write the pictures in `folder` to the new folder of batches `out`.

    test_share: of each class that is for testing, 0.2 by default, unless they are split already.
    Return a report: notes on the folder, then a line for each split. Unusable files are
    named on stderr and left out.

    Raises DataError if the folder has no classes or splits that can be used, if a class has no
    picture, and if `out` is there already.
    """
    if os.path.lexists(out):
        raise DataError(
            f"--out {shorter(out)}: is there already; delete it, or name another folder"
        )
    layout = find_layout(folder)
    found = find_files(layout)  # before there is anything of ours
    with whole_folder(out) as new:
        if new is None:
            raise DataError(
                f"--out {shorter(out)}: was made by another process meanwhile; name another folder"
            )
        splits = {
            split: _read_pictures(files, f"reading {split}") for split, files in found.items()
        }
        _check_split(splits["train"], layout.splits["train"], every_class=True)
        rng = np.random.default_rng(seed)
        if "test" in splits:
            if test_share is not None:
                note("--test-share has no effect: these pictures are split already")
            _check_split(splits["test"], layout.splits["test"], every_class=False)
        else:
            share = TEST_SHARE if test_share is None else test_share
            splits["test"] = _draw_test(splits, share, rng)
        _write_splits(new, layout.classes, splits["train"], splits["test"], rng)
        read(new)
    lines = [_describe(split, splits[split], layout.classes) for split in ("train", "test")]
    return layout.notes + lines


def _read_pictures(files: Files, title: str) -> Pictures:
    """Return the pictures in these files. Name the unusable ones on stderr."""
    images = np.empty((len(files.found), PIXELS), np.uint8)
    labels, names = [], []
    left_out = Counter()
    with tqdm(files.found, title, unit=" pictures", disable=None) as bar:
        for label, path in bar:
            try:
                images[len(names)] = read_picture(path)
            except PictureError as error:
                left_out[error.reason] += 1
                if left_out.total() <= NAMED:
                    bar.write(clean(f"left out: {error}"), file=sys.stderr)
                continue
            labels.append(label)
            names.append(path.name)
    if left_out.total() > NAMED:
        print(f"left out: {left_out.total() - NAMED:,} more files", file=sys.stderr)
    labels = np.array(labels, np.int64)
    return Pictures(images[: len(names)], labels, names, left_out, files.passed_over)


def _check_split(split: Pictures, folders: list[tuple[int, Path]], every_class: bool) -> None:
    """Raise DataError if the split has no picture, or with every_class, if a class has none."""
    labels = set(split.labels.tolist())
    for label, folder in folders:
        if label not in labels and (every_class or not labels):
            raise DataError(
                f"{clean(shorter(folder), 120)}: holds no picture that can be read; add some, or "
                "delete the folder"
            )


def _draw_test(
    splits: dict[str, Pictures], test_share: float, rng: np.random.Generator
) -> Pictures:
    """Move a share of each class from the training split to a new split, which is returned."""
    everything = splits["train"]
    try:
        training, test = stratified(everything.labels, test_share, rng)
    except DataError:
        raise DataError(
            f"--test-share {test_share}: leaves no test pictures out of "
            f"{len(everything.labels):,}, as each class keeps one for training; choose a larger "
            "share, or add pictures"
        ) from None
    splits["train"] = everything.rows(training)
    splits["train"].left_out = everything.left_out
    splits["train"].passed_over = everything.passed_over
    return everything.rows(test)


def _write_splits(
    new: Path, names: Sequence[str], training: Pictures, test: Pictures, rng: np.random.Generator
) -> None:
    """Write one to five training batches, in random order, a test batch and the classes' names."""
    count = min(len(TRAIN), -(-len(training.labels) // BATCH))
    parts = np.array_split(rng.permutation(len(training.labels)), count)
    for i, rows in enumerate(parts):
        part = training.rows(rows)
        title = f"training batch {i + 1} of {count}"
        write_batch(new / TRAIN[i], title, part.images, part.labels, part.names, "pictures")
    title = "testing batch 1 of 1"
    write_batch(new / TEST, title, test.images, test.labels, test.names, "pictures")
    write_meta(new / META, names, len(parts[0]))


# ---- The report ----------------------------------------------------------------------------


def _describe(name: str, split: Pictures, classes: Sequence[str]) -> str:
    """Return a split's line: its pictures by class, and what was left out, by reason."""
    counts = np.bincount(split.labels, minlength=len(classes))
    shown = [
        f"{clean(each, 40)} {count:,}"
        for each, count in zip(classes[:NAMED_CLASSES], counts, strict=False)
    ]
    if len(classes) > NAMED_CLASSES:
        shown.append(f"and {len(classes) - NAMED_CLASSES:,} more")
    line = f"{name}: {len(split.labels):,} pictures of {len(classes):,} classes: {', '.join(shown)}"
    for what, reasons in (("left out", split.left_out), ("passed over", split.passed_over)):
        listed = [f"{reason} {count:,}" for reason, count in reasons.most_common() if count]
        if listed:
            line += f"; {what} {reasons.total():,}: {', '.join(listed)}"
    return line


# ---- The command ---------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> None:
    """Turn a folder of pictures into a folder of batches, and report what is in it."""
    parser = ArgumentParser(prog="pictures.py", description=__doc__)
    parser.add_argument(
        "folder", metavar="FOLDER", help="holds a folder of pictures for each class"
    )
    parser.add_argument(
        "--out", type=output_folder, required=True, metavar="FOLDER", help="the folder of batches"
    )
    parser.add_argument(
        "--test-share",
        type=float,
        metavar="SHARE",
        help=f"share of each class that is for testing (default: {TEST_SHARE})",
    )
    parser.add_argument(
        "--seed",
        type=integer(0, 2**32 - 1),
        default=0,
        help="draws the test pictures and the order",
    )
    args = parser.parse_args(argv)
    if args.test_share is not None and not 0 < args.test_share < 1:
        parser.error(
            f"--test-share {args.test_share}: is no share; choose one between 0 and 1, such as 0.2"
        )
    report = make_batches(user_path(args.folder), args.out, args.test_share, args.seed)
    folder = shorter(args.out)
    train = shlex.join([*script("train.py"), "--data-dir", str(folder)])
    print(f"wrote {folder}; train on it with: {train}")
    for line in report:
        print(line)


if __name__ == "__main__":
    sys.exit(command(main))
