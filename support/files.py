"""Atomic writes, and reads that trust nothing: regular files only, of bounded size, with one-line errors."""

import contextlib
import errno
import io
import itertools
import json
import math
import os
import platform
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from support.cli import UserError, clean, shorter

MAX_FILE = 5 << 30  # bytes of a file that is opened without a smaller limit
HOST = re.sub(r"[^A-Za-z0-9_-]", "_", platform.node())[:40] or "localhost"


class FileError(UserError):
    """A file that can't be used: the file, the fault, the remedy."""


class Fault(ValueError):
    """What is wrong with a file, without its name and the remedy, which `error_context` adds."""


# ---- Reading ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def error_context(
    path: str | os.PathLike, remedy: str, raises: type[UserError] = FileError
) -> Iterator[None]:
    """Turn whatever goes wrong while `path` is read into one line: path, fault, remedy."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except (
        Exception
    ) as error:  # zipfile, zlib, json and numpy raise a dozen kinds for damaged files
        if isinstance(error, Fault):
            fault = str(error)
        elif isinstance(error, FileNotFoundError):
            fault = "is missing"
        elif isinstance(error, OSError) and error.strerror:
            fault = f"cannot be read ({error.strerror})"
        else:
            fault = f"is damaged ({type(error).__name__}: {clean(error, 80)})"
        raise raises(f"{clean(shorter(path), 120)}: {fault}; {remedy}") from None


def open_regular(path: str | os.PathLike, limit: int = MAX_FILE) -> io.FileIO:
    """Open a regular file for reading, unbuffered. Fault or OSError for anything else: a FIFO would block, a device
    never end; and Fault for more than `limit` bytes."""
    _check_regular(os.stat(path), limit)  # before, as to open a device may already do something
    file = io.FileIO(
        path, "r", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
    )
    try:
        _check_regular(os.fstat(file.fileno()), limit)  # again, as the name may have changed hands
    except Fault:
        file.close()
        raise
    return file


def _check_regular(status: os.stat_result, limit: int) -> None:
    """Fault unless it is a regular file of at most `limit` bytes."""
    kind = {stat.S_IFDIR: "is a folder", stat.S_IFIFO: "is a FIFO"}.get(
        stat.S_IFMT(status.st_mode), "is a device"
    )
    if not stat.S_ISREG(status.st_mode):
        raise Fault(f"{kind}, not a regular file")
    if status.st_size > limit:
        raise Fault(f"is larger than {limit:,} bytes")


def read_file(path: str | os.PathLike, limit: int) -> bytes:
    """The content of a regular file. Fault or OSError for anything else, and for more than `limit` (< 2 GB) bytes."""
    with open_regular(path, limit) as file:
        return file.read(os.fstat(file.fileno()).st_size)


def parse_object(text: str, what: str = "it") -> dict:
    """The JSON object in `text`, all of its numbers finite and below 100 digits. Fault if it is none."""

    def number(digits: str) -> int:
        if len(digits) > 100:
            raise ValueError("a number of over 100 digits")
        return int(digits)

    def fraction(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise ValueError("a number beyond 1e308")
        return value

    def constant(name: str) -> None:
        raise ValueError(f"the number {name}")

    try:
        value = json.loads(text, parse_int=number, parse_float=fraction, parse_constant=constant)
    except RecursionError:
        raise Fault(f"has too deep a nesting in {what}") from None
    except ValueError as error:
        raise Fault(f"has no JSON in {what} ({clean(error, 60)})") from None
    if not isinstance(value, dict):
        raise Fault(f"has no JSON object in {what}")
    return value


# ---- Writing ---------------------------------------------------------------------------------------

_TEMPORARY = re.compile(
    r"\.(?P<name>.+)\.(?P<host>[A-Za-z0-9_-]+)\.(?P<pid>[0-9]{1,10})\.[0-9]{1,10}\.tmp", re.DOTALL
)
_counter = itertools.count()
_writing: set[Path] = set()  # this process's own temporary files


@contextlib.contextmanager
def write_whole(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a binary file that appears at `path` complete, or not at all: written beside it, synced, then renamed.

    A symbolic link stays, and the file that it names is replaced; what is no regular file (a device, a FIFO) is written
    into as it is. Folders are made. OSError, with the path, if the system refuses.
    """
    path = Path(path)
    try:
        target, special = _target(path)
        if special:
            with open(path, "wb", buffering=0) as file:
                yield _Stream(file)
            return
        make_folder(target.parent)
        remove_leftovers(target)
        temporary = beside(target, f".{HOST}.{os.getpid()}.{next(_counter)}.tmp", hidden=True)
        _writing.add(temporary)
        try:
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        finally:
            _writing.discard(temporary)
    except OSError as error:
        error.filename, error.filename2 = (
            str(path),
            None,
        )  # a full disk's error has none, others the temporary name
        raise error from None


class _Stream(io.RawIOBase):
    """A device or pipe to write into, which can't go back: /dev/null says that it can, and zipfile believes it."""

    def __init__(self, file: io.FileIO) -> None:
        self.file = file

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        view = memoryview(data).cast("B")
        total = len(view)
        while len(view):
            view = view[self.file.write(view) or 0 :]
        return total


def _target(path: Path) -> tuple[Path, bool]:
    """The path behind all links, and whether what is there is to be written as it is."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return Path(os.path.realpath(path)), False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    # /dev/stdout may be a regular file, which other output goes into as well.
    return Path(os.path.realpath(path)), not stat.S_ISREG(mode) or Path("/dev") in Path(
        os.path.abspath(path)
    ).parents


def make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # mkdir's word for a file where a folder belongs
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None


def beside(path: Path, ending: str, hidden: bool = False) -> Path:
    """`path` with an ending, its own name cut where the whole would be too long for a file system."""
    start = "." if hidden else ""
    room = 255 - len(os.fsencode(start + ending))
    return path.with_name(start + os.fsdecode(os.fsencode(path.name)[:room]) + ending)


def remove_leftovers(path: str | os.PathLike) -> None:
    """Delete the temporary files of `path` (all in it, if it is a folder) whose process on this machine has ended."""
    path = Path(os.path.realpath(path))
    folder = path if path.is_dir() else path.parent
    with contextlib.suppress(OSError):  # what can't be listed or deleted stays
        for entry in os.scandir(folder):
            found = _TEMPORARY.fullmatch(entry.name)
            if not found or found["host"] != HOST or folder / entry.name in _writing:
                continue
            # A long name was cut, see beside.
            if (folder == path or path.name.startswith(found["name"])) and not _is_alive(
                int(found["pid"])
            ):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(entry.path)


def _is_alive(pid: int) -> bool:
    if pid == os.getpid():
        return False  # what this process writes is in _writing; the rest is from one that had its number before
    if os.name == "nt":
        return True  # os.kill would end it
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    try:  # one that was killed, and whose parent hasn't asked for it yet, is dead all the same
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return True
