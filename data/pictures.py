"""Pictures of your own as a data set: a folder with a subfolder for each class becomes a folder of batches.

    python data/pictures.py FOLDER --out data/mine        # FOLDER/cat/1.jpg, FOLDER/dog/2.png, ...
    python train.py --data-dir data/mine

Pictures may have any size and any format that Pillow reads: the square in the middle is averaged down to 32x32 pixels.
If FOLDER holds train/ and test/, each with the classes in it, they are the two splits; else --test-share of each class
is drawn for testing.
"""

import io
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

if __name__ == "__main__":  # Python looks for modules beside the script
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from data.cifar10 import MAX_CLASSES, PIXELS, read, stratified
from data.folders import META, TEST, TRAIN, whole_folder, write_batch, write_meta
from data.pickles import DataError
from support.cli import (
    ArgumentParser,
    UserError,
    clean,
    command,
    integer,
    output_folder,
    script,
    shorter,
    user_path,
)
from support.files import Fault, error_context, read_file

import numpy as np
from tqdm import tqdm

MAX_PIXELS = 50_000_000  # of a picture: 200 MB when it is decoded
MAX_FILE = 1 << 28  # bytes
STRIP = 1 << 20  # pixels that are averaged at a time
NAMED = 20  # bad files that are named one by one


class PictureError(UserError):
    """A file that is no picture: one line."""


# ---- A picture ------------------------------------------------------------------------------------------------------


def shrink(square: np.ndarray) -> np.ndarray:
    """(n, n, 3) -> (32, 32, 3), float: each new pixel is the mean of the area that it covers, to fractions of a pixel;
    with n below 32 it is the pixel under it."""
    share = _shares(len(square))
    return _shrink_rows(_shrink_columns(square, share), share)


def _shares(n: int) -> np.ndarray:
    """(32, n): the share that each of n pixels in a row has in each of the 32 new ones."""
    edges, pixels = np.linspace(0, n, 33)[:, None], np.arange(n)
    overlap = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    return np.maximum(overlap, 0) * (32 / n)


def _shrink_columns(rows: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(r, n, 3) -> (r, 32, 3)"""
    return np.einsum("cj,ijk->ick", share, rows, optimize=True)


def _shrink_rows(rows: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(n, 32, 3) -> (32, 32, 3)"""
    return np.einsum("ri,ijc->rjc", share, rows, optimize=True)


def read_picture(path: str | os.PathLike) -> np.ndarray:
    """A picture of any size as the network's input, (3072,) uint8: turned upright, set on white where it is
    transparent, cropped to the square in its middle, and averaged down. PictureError if it is none."""
    with error_context(path, "give another picture", PictureError):
        content = io.BytesIO(
            read_file(path, MAX_FILE)
        )  # Pillow reads sizes that a header says, however large
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return _decode(content)
        except Fault:
            raise
        except MemoryError:
            raise Fault("needs more memory than there is") from None
        except Exception as error:  # a damaged file makes Pillow raise nearly anything
            unknown = (
                type(error).__name__ == "UnidentifiedImageError"
            )  # whose text is an address in memory
            reason = "its format is unknown" if unknown else clean(error, 80)
            raise Fault(f"no picture that can be read ({reason})") from None


def _decode(source: BinaryIO) -> np.ndarray:
    """The picture in a file, (3072,) uint8. Fault before anything large is decoded."""
    from PIL import Image, ImageOps

    logging.getLogger("PIL").addHandler(
        logging.NullHandler()
    )  # damaged files make it speak up, in words of its own
    with Image.open(source) as file:
        if file.width * file.height > MAX_PIXELS:
            size = f"{file.width:,} x {file.height:,}"
            raise Fault(
                f"has {size} pixels, over {MAX_PIXELS // 10**6} million; make it smaller first"
            )
        if file.format == "EPS":  # Pillow starts another program for it
            raise Fault("is no picture but a program in PostScript")
        orientation = file.getexif().get(0x0112, 1)
        return _square(file if orientation == 1 else ImageOps.exif_transpose(file))


def _square(picture) -> np.ndarray:
    """The square in the middle of a Pillow image, averaged down strip by strip, (3072,) uint8."""
    from PIL import Image

    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    share, rows = _shares(side), []
    height = max(1, STRIP // side)
    for upper in range(top, top + side, height):
        strip = picture.crop((left, upper, left + side, min(upper + height, top + side)))
        if strip.mode.startswith("I"):  # grey with 16 bits, which convert() would clip, not scale
            strip = Image.fromarray((np.asarray(strip) / 257).clip(0, 255).astype(np.uint8))
        strip = strip.convert("RGBA")
        on_white = Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip).convert(
            "RGB"
        )
        rows.append(_shrink_columns(np.asarray(on_white, np.float32), share))
    return (
        np.round(_shrink_rows(np.concatenate(rows), share))
        .astype(np.uint8)
        .transpose(2, 0, 1)
        .reshape(-1)
    )


# ---- A folder of pictures -------------------------------------------------------------------------------------------


def make_batches(folder: Path, out: Path, test_share: float = 0.2, seed: int = 0) -> None:
    """Write the pictures in `folder` to the new folder of batches `out`.

    Files that are no pictures are named on stderr and left out. DataError for an empty class, for fewer than 2 or more
    than 1,000 of them, and if `out` is there.
    """
    if os.path.lexists(out):
        raise DataError(
            f"--out {shorter(out)}: is there already; delete it, or name another folder"
        )
    parts = {"train": folder / "train", "test": folder / "test"}
    if not all(_subfolders(part) for part in parts.values()):
        parts = {"train": folder}
    names = _class_names(parts)
    with whole_folder(out) as new:
        if new is None:
            raise DataError(
                f"--out {shorter(out)}: was made by another process meanwhile; name another folder"
            )
        splits = {split: _read_classes(part, names) for split, part in parts.items()}
        for split, (_, labels, _) in splits.items():
            empty = np.flatnonzero(np.bincount(labels, minlength=len(names)) == 0)
            if len(empty) and (split == "train" or len(empty) == len(names)):
                where = clean(shorter(parts[split]) / names[empty[0]], 120)
                raise DataError(
                    f"{where}: holds no picture that can be read; add some, or delete the folder"
                )
        rng = np.random.default_rng(seed)
        if "test" not in splits:
            images, labels, files = splits["train"]
            rows = dict(zip(("train", "test"), _drawn(labels, test_share, rng), strict=True))
            splits = {
                split: (images[r], labels[r], [files[i] for i in r]) for split, r in rows.items()
            }
        _write_splits(new, names, splits, rng)
        read(new)


def _drawn(
    labels: np.ndarray, test_share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    try:
        return stratified(labels, test_share, rng)
    except DataError:
        raise DataError(
            f"--test-share {test_share}: leaves no test pictures out of {len(labels):,}, as each class keeps one for "
            "training; choose a larger share, or add pictures"
        ) from None


def _subfolders(folder: Path) -> list[Path]:
    """The folders in `folder` that aren't hidden, by name."""
    if not folder.is_dir():
        return []
    return sorted(
        entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )


def _class_names(parts: dict[str, Path]) -> list[str]:
    names = [entry.name for entry in _subfolders(parts["train"])]
    shown = clean(shorter(parts["train"]), 100)
    if not parts["train"].is_dir():
        raise DataError(
            f"{shown}: is no folder; name one that holds a subfolder of pictures for each class"
        )
    if not 2 <= len(names) <= MAX_CLASSES:
        raise DataError(
            f"{shown}: holds {len(names):,} subfolders; it needs one for each class, 2 to {MAX_CLASSES:,} of them"
        )
    for name in names:
        if not name.isprintable():
            raise DataError(
                f"{shown}: holds a class whose name can't be printed, {clean(name, 60)}; rename its folder"
            )
    others = (
        [entry.name for entry in _subfolders(parts["test"]) if entry.name not in names]
        if "test" in parts
        else []
    )
    if others:
        where = clean(shorter(parts["test"]) / others[0], 120)
        raise DataError(f"{where}: is a class that train/ doesn't have; rename or delete it")
    return names


def _files(folder: Path) -> Iterator[Path]:
    """The files below `folder` that aren't hidden, in the order of their names."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place) / name for name in sorted(files) if not name.startswith("."))


def _read_classes(folder: Path, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(images (n, 3072) uint8, labels (n,) int64, file names) of the pictures in the classes' folders"""
    found = [(label, path) for label, name in enumerate(names) for path in _files(folder / name)]
    images = np.empty((len(found), PIXELS), np.uint8)
    labels, files, bad = [], [], 0
    with tqdm(found, f"reading {clean(folder.name, 20)}", unit=" pictures", disable=None) as bar:
        for label, path in bar:
            try:
                images[len(files)] = read_picture(path)
            except PictureError as error:
                bad += 1
                if bad <= NAMED:
                    bar.write(clean(f"left out: {error}"), file=sys.stderr)
                continue
            labels.append(label)
            files.append(path.name)
    if bad > NAMED:
        print(f"left out: {bad - NAMED:,} more files that are no pictures", file=sys.stderr)
    return images[: len(files)], np.array(labels, np.int64), files


def _write_splits(new: Path, names: Sequence[str], splits: dict, rng: np.random.Generator) -> None:
    """Write one to five training batches, in random order, a test batch and the names of the classes."""
    images, labels, files = splits["train"]
    count = min(len(TRAIN), -(-len(labels) // 10_000))
    for i, rows in enumerate(np.array_split(rng.permutation(len(labels)), count)):
        title = f"training batch {i + 1} of {count}"
        write_batch(
            new / TRAIN[i],
            title,
            images[rows],
            labels[rows],
            [files[row] for row in rows],
            "pictures",
        )
    images, labels, files = splits["test"]
    write_batch(new / TEST, "testing batch 1 of 1", images, labels, files, "pictures")
    write_meta(new / META, names, -(-len(splits["train"][1]) // count))


def main(argv: Sequence[str] | None = None) -> None:
    """Turn a folder of pictures into a folder of batches, and say how to train on it."""
    parser = ArgumentParser(prog="pictures.py", description=__doc__)
    parser.add_argument(
        "folder", metavar="FOLDER", help="holds a subfolder of pictures for each class"
    )
    parser.add_argument(
        "--out", type=output_folder, required=True, metavar="FOLDER", help="the folder of batches"
    )
    parser.add_argument(
        "--test-share", type=float, default=0.2, help="how much of each class is for testing"
    )
    parser.add_argument(
        "--seed",
        type=integer(0, 2**32 - 1),
        default=0,
        help="draws the test pictures and the order",
    )
    args = parser.parse_args(argv)
    if not 0 < args.test_share < 1:
        parser.error(
            f"--test-share {args.test_share}: is no share; choose one between 0 and 1, such as 0.2"
        )
    make_batches(user_path(args.folder), args.out, args.test_share, args.seed)
    data = read(args.out)
    folder = shorter(args.out)
    print(
        f"{len(data.class_names):,} classes, {len(data.train_labels):,} training and {len(data.test_labels):,} test "
        f"pictures in {folder}; train on them with: {shlex.join([*script('train.py'), '--data-dir', str(folder)])}"
    )


if __name__ == "__main__":
    sys.exit(command(main))
