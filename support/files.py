"""Atomic writes, and checked reads of files that others may have made.

A write appears complete or not at all. A read accepts regular files of bounded size, and reports
whatever is wrong with them in one line.
"""

import contextlib
import errno
import io
import itertools
import json
import math
import os
import platform
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from support.cli import UserError, clean, shorter

MAX_FILE = 5 << 30  # bytes of a file that is opened without a smaller limit
MAX_NAME = 255  # bytes of a file name, on every usual file system
HOST = re.sub(r"[^A-Za-z0-9_-]", "_", platform.node())[:40] or "localhost"

# Windows has no O_NONBLOCK. Only Windows has O_BINARY, without which it changes line ends.
_NONBLOCKING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class FileError(UserError):
    """An unusable file, in one line: the file, the fault, the remedy."""


class Fault(ValueError):
    """A file's fault, without its name and the remedy, which `error_context` adds."""


# ---- Reading -------------------------------------------------------------------------------


@contextlib.contextmanager
def error_context(
    path: str | os.PathLike, remedy: str, raises: type[UserError] = FileError
) -> Iterator[None]:
    """Turn any error of the block, which reads `path`, into one line: path, fault, remedy."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # zipfile, zlib, json and NumPy raise many kinds for damaged files
        raise raises(f"{clean(shorter(path), 120)}: {_fault(error)}; {remedy}") from None


def _fault(error: Exception) -> str:
    """Return an error's fault in words."""
    if isinstance(error, Fault):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return "is missing"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    return f"is damaged ({type(error).__name__}: {clean(error, 80)})"


def open_regular(path: str | os.PathLike, limit: int = MAX_FILE) -> io.FileIO:
    """Open a regular file for reading, unbuffered.

    Raises Fault if it is anything else (a FIFO would block, a device might never end) or has more
    than `limit` bytes. Raises OSError if the system refuses.
    """
    check_regular(os.stat(path), limit)  # opening a device may already do something
    file = io.FileIO(path, "r", opener=lambda name, flags: os.open(name, flags | _NONBLOCKING))
    try:
        check_regular(os.fstat(file.fileno()), limit)  # the name may have changed hands
    except Fault:
        file.close()
        raise
    return file


def check_regular(status: os.stat_result, limit: int = MAX_FILE) -> None:
    """Raise Fault unless `status` is that of a regular file of at most `limit` bytes."""
    if stat.S_ISDIR(status.st_mode):
        raise Fault("is a folder, not a regular file")
    if stat.S_ISFIFO(status.st_mode):
        raise Fault("is a FIFO, not a regular file")
    if not stat.S_ISREG(status.st_mode):
        raise Fault("is a device, not a regular file")
    if status.st_size > limit:
        raise Fault(f"is larger than {limit:,} bytes")


def read_file(path: str | os.PathLike, limit: int) -> bytes:
    """Return the content of a regular file.

    Raises Fault or OSError if it is anything else, or has more than `limit` (< 2 GB) bytes.
    """
    with open_regular(path, limit) as file:
        return file.read(os.fstat(file.fileno()).st_size)


def parse_object(text: str, what: str = "it") -> dict:
    """Return the JSON object in `text`. `what` names the text in errors.

    Raises Fault unless it is an object whose numbers are finite and below 100 digits.
    """
    try:
        value = json.loads(
            text, parse_int=_integer, parse_float=_finite, parse_constant=_no_constant
        )
    except RecursionError:
        raise Fault(f"has too deep a nesting in {what}") from None
    except ValueError as error:
        raise Fault(f"has no JSON in {what} ({clean(error, 60)})") from None
    if not isinstance(value, dict):
        raise Fault(f"has no JSON object in {what}")
    return value


def _integer(digits: str) -> int:
    if len(digits) > 100:
        raise ValueError("a number of over 100 digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("a number beyond 1e308")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"the number {name}")  # NaN, Infinity, -Infinity


# ---- Writing -------------------------------------------------------------------------------

# A temporary file or folder is called .NAME.HOST.PROCESS.NUMBER.tmp.
_TEMPORARY = re.compile(
    r"\.(?P<name>.+)\.(?P<host>[A-Za-z0-9_-]+)\.(?P<pid>[0-9]{1,10})\.[0-9]{1,10}\.tmp", re.DOTALL
)
_counter = itertools.count()
_writing: set[Path] = set()  # this process's own temporary files and folders


@contextlib.contextmanager
def write_whole(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a binary file that appears at `path` complete, or not at all.

    It is written under a temporary name in the same folder, synced, then renamed. Missing folders
    are made. A symbolic link stays, and the file that it names is replaced. A device or a FIFO is
    written into directly. Raises OSError, with the path, if the system refuses.
    """
    path = Path(path)
    try:
        target, special = _target(path)
        if special:
            with _open_special(path) as file:
                yield _Stream(file)
            return
        make_folder(target.parent)
        remove_leftovers(target)
        with _temporary(target, _make_file) as temporary:
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
    except OSError as error:
        raise named(error, path) from None


@contextlib.contextmanager
def write_whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder that becomes `folder`, which is missing, if the block has no error.

    Raises OSError if the system refuses.
    """
    make_folder(folder.parent)
    folder = Path(os.path.realpath(folder))  # as in _writing
    remove_leftovers(folder)
    with _temporary(folder, Path.mkdir) as temporary:
        try:
            yield temporary
            temporary.rename(folder)
        except OSError as error:
            if str(error.filename).startswith(str(temporary)):
                raise named(error, folder) from None
            raise


@contextlib.contextmanager
def _temporary(target: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Yield a new file or folder next to `target`, which is deleted after an error."""
    temporary = _make_temporary(target, make)
    try:
        yield temporary
    except BaseException:
        _remove(temporary)
        raise
    finally:
        _writing.discard(temporary)


def _make_temporary(target: Path, make: Callable[[Path], None]) -> Path:
    """Return the path of a new file or folder. Nothing that is there is touched."""
    while True:
        temporary = _temporary_name(target)
        _writing.add(temporary)  # before it is made: nobody may take it for a leftover
        try:
            make(temporary)
            return temporary
        except FileExistsError:
            _writing.discard(temporary)  # another's: try the next name
        except BaseException:  # Ctrl-C may come when it is made and `make` hasn't returned
            _remove(temporary)
            _writing.discard(temporary)
            raise


def _make_file(path: Path) -> None:
    path.touch(exist_ok=False)


def _temporary_name(target: Path) -> Path:
    return sibling(target, f".{HOST}.{os.getpid()}.{next(_counter)}.tmp", hidden=True)


def named(error: OSError, path: str | os.PathLike) -> OSError:
    """Return the error with `path` as the file's name.

    The error of a full disk names no file, and others name a temporary one.
    """
    error.filename, error.filename2 = str(path), None
    return error


def _target(path: Path) -> tuple[Path, bool]:
    """Return the path behind all links, and whether it is to be written into directly."""
    target = Path(os.path.realpath(path))
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return target, False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    # /dev/stdout may be a regular file, which other output goes into as well.
    in_dev = Path("/dev") in Path(os.path.abspath(path)).parents
    return target, in_dev or not stat.S_ISREG(mode)


def _open_special(path: Path) -> io.FileIO:
    """Open a device or FIFO for writing. Raises OSError for a FIFO without a reader."""
    try:
        # Without O_NONBLOCK, a FIFO that nobody reads would hold us for ever.
        number = os.open(path, os.O_WRONLY | _NONBLOCKING)
    except OSError as error:
        if error.errno == errno.ENXIO:
            error.strerror = "is a FIFO that nobody reads"
        raise
    if _NONBLOCKING and os.name != "nt":
        os.set_blocking(number, True)  # the reader sets the pace
    return io.FileIO(number, "w")


class _Stream(io.RawIOBase):
    """A device or FIFO to write into, which can't seek.

    /dev/null claims that it can, and zipfile would believe it.
    """

    def __init__(self, file: io.FileIO) -> None:
        self.file = file

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        view = memoryview(data).cast("B")
        total = len(view)
        while len(view):
            written = self.file.write(view) or 0
            view = view[written:]
        return total


def make_folder(path: Path) -> None:
    """Make a folder and those above it. Raises NotADirectoryError if a file is in the way."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # mkdir's word for a file where a folder belongs
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None


def sibling(path: Path, ending: str, hidden: bool = False) -> Path:
    """Return `path` with an ending, its own name cut to what a file system allows."""
    start = "." if hidden else ""
    room = MAX_NAME - len(start + ending)
    name = path.name
    while len(os.fsencode(name)) > room:
        name = name[:-1]
    return path.with_name(start + name + ending)


def remove_leftovers(path: str | os.PathLike) -> None:
    """Delete the temporary files of `path` whose process, on this machine, has ended.

    For a folder: also those of all files in it. What the system refuses to delete stays.
    """
    path = Path(os.path.realpath(path))
    _remove_leftovers_in(path.parent, path.name)
    if path.is_dir():
        _remove_leftovers_in(path, None)


def _remove_leftovers_in(folder: Path, target: str | None) -> None:
    """Delete the leftovers in `folder`: those of one target, or of all."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        found = _TEMPORARY.fullmatch(name)
        if not found or found["host"] != HOST or folder / name in _writing:
            continue
        ending = name[len("." + found["name"]) :]
        if target is not None and name != sibling(folder / target, ending, hidden=True).name:
            continue  # of another target
        if not _is_alive(int(found["pid"])):
            _remove(folder / name)


def _remove(path: Path) -> None:
    """Delete a temporary file or folder, if the system allows it."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    """Return whether another process has this number."""
    if pid == os.getpid():
        return False  # our own files are in _writing: this one is of an earlier process
    if os.name == "nt":
        return True  # os.kill would end it
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    try:  # a killed process whose parent has not noticed yet is dead all the same
        status = Path(f"/proc/{pid}/stat").read_text()
        return status.rpartition(")")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return True
