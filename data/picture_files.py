"""Find picture files: by name, in folders, by patterns such as *.png; in natural order."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from support.cli import clean

# Endings of the formats that Pillow reads, or that a person would take for a picture.
SUFFIXES = frozenset(
    {".apng", ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".ico", ".j2k", ".jfif"}
    | {".jp2", ".jpe", ".jpeg", ".jpg", ".jxl", ".pbm", ".pcx", ".pgm", ".png", ".pnm"}
    | {".ppm", ".qoi", ".tga", ".tif", ".tiff", ".webp"}
)
# Names of files and folders that systems and programs leave behind, in lower case. __MACOSX has a
# hidden copy of each file of an archive that was packed on a Mac.
SYSTEM_NAMES = (
    "__macosx",
    "@eadir",
    "#recycle",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "icon\r",
    "__pycache__",
)


@dataclass(frozen=True)
class PictureList:
    """The files that a list of names stands for."""

    paths: tuple[Path, ...]  # in natural order, each once
    faults: tuple[str, ...]  # one line for each name that stands for nothing
    passed_over: int  # hidden files and files that are no pictures by their names, in folders


def find_pictures(names: Sequence[str]) -> PictureList:
    """Return the files that the names stand for.

    A name is a file, whatever its ending; a folder, with all picture files below it; or a pattern
    with * ? [ ] or **, which stands for files and folders.
    """
    paths: dict[str, Path] = {}  # by absolute path
    faults = []
    passed_over = 0
    for name in names:
        matches = _matches(name)
        if not matches:
            faults.append(f"{clean(name, 120)}: matches no file")
        for match in matches:
            if not os.path.isdir(match):
                paths[os.path.abspath(match)] = match
                continue
            for file in _files_below(match, faults):
                if _is_picture_name(file):
                    paths[os.path.abspath(file)] = file
                else:
                    passed_over += 1
    ordered = sorted(paths.values(), key=lambda path: natural_key(str(path)))
    return PictureList(tuple(ordered), tuple(faults), passed_over)


def _matches(name: str) -> list[Path]:
    """Return what one name stands for: itself, unless it is a pattern and no file is called so."""
    if not name or "\0" in name:  # no file can be called so
        return []
    path = _expanded(name)
    if os.path.lexists(path) or not glob.has_magic(name):
        return [path]
    return [Path(match) for match in glob.glob(str(path), recursive=True)]


def _expanded(name: str) -> Path:
    """Return the path with ~ expanded, which a shell leaves alone in quotes."""
    try:
        return Path(name).expanduser()
    except RuntimeError:  # there is no such user
        return Path(name)


def _files_below(folder: Path, faults: list[str]) -> Iterator[Path]:
    """Yield the files below a folder, links followed, each folder once.

    A hidden folder is yielded itself, so that it is counted. Unreadable folders go to `faults`.
    """
    seen = set()
    folders = [folder]
    while folders:  # not recursive: folders may be nested deeper than Python's stack
        folder = folders.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = list(os.scandir(folder))
        except OSError as error:
            faults.append(f"{clean(folder, 120)}: cannot be read ({error.strerror})")
            continue
        for entry in entries:
            path = folder / entry.name
            if os.path.isdir(path) and not is_passed_over(path.name):
                folders.append(path)
            else:
                yield path


def is_passed_over(name: str) -> bool:
    """Return whether a file or folder is hidden, or is a system's own."""
    return name.startswith(".") or name.casefold() in SYSTEM_NAMES


def _is_picture_name(path: Path) -> bool:
    return not is_passed_over(path.name) and path.suffix.lower() in SUFFIXES


def natural_key(text: str) -> tuple:
    """Return a key that sorts 2.png before 10.png: digits count as numbers, case doesn't.

    re.split puts text at even indices and digits at odd ones, so that like meets like.
    """
    parts: list = re.split(r"([0-9]+)", text.casefold())
    for i in range(1, len(parts), 2):
        digits = parts[i].lstrip("0")
        parts[i] = (len(digits), digits)  # as a number, which may have thousands of digits
    return parts, text  # the text decides between 1.png and 01.png
