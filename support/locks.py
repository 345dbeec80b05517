"""Locks on files and folders, held by the operating system: a killed process holds nothing.

The lock on PATH is a lock on the file PATH.lock. Only a file that begins with our first line is
used as such: a link, or a file of the user's own, is left alone and reported.
"""

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from support.cli import clean, shorter
from support.files import (
    HOST,
    Fault,
    FileError,
    check_regular,
    error_context,
    make_folder,
    named,
    sibling,
)

FIRST_LINE = b"This file is a lock. It is deleted when the process below ends.\n"

# Windows has neither O_NOFOLLOW nor O_NONBLOCK, and needs O_BINARY to leave line ends alone.
_FLAGS = os.O_RDWR
for _name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):
    _FLAGS |= getattr(os, _name, 0)

if os.name == "nt":
    import msvcrt

    def _try_lock(number: int) -> bool:
        os.lseek(number, 1 << 30, os.SEEK_SET)  # beyond the text, which others may read
        try:
            msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _wait_for_lock(number: int) -> None:
        while not _try_lock(number):
            time.sleep(0.2)

else:
    import fcntl

    def _try_lock(number: int) -> bool:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
        return True  # also on file systems without locks: no reason to refuse all work there

    def _wait_for_lock(number: int) -> None:
        fcntl.flock(number, fcntl.LOCK_EX)


def holder(path: str | os.PathLike) -> str | None:
    """Return who holds the lock on `path` (task, process, host, since when), None if nobody."""
    try:
        number = _open(sibling(Path(os.path.realpath(path)), ".lock"), create=False)
    except (OSError, FileError):  # there is no lock
        return None
    try:
        if _try_lock(number):
            return None
        return _holder(number)
    finally:
        os.close(number)


@contextlib.contextmanager
def locked(path: str | os.PathLike, what: str, wait: bool = False) -> Iterator[None]:
    """Hold the lock on `path`, a file or folder that may be missing.

    what: the task, for whoever finds `path` locked ("a training"). If another process holds the
    lock: with `wait`, a line on stderr says so and this waits.

    Raises FileError if another process holds the lock, or if PATH.lock is no lock of ours. Raises
    OSError, with the path, if the system refuses.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file() and not path.is_dir():
        yield  # a device or FIFO belongs to nobody
        return
    make_folder(path.parent)
    lock = sibling(path, ".lock")
    number = _acquire(path, lock, wait)
    try:
        try:
            _write_holder(number, lock, what)
            yield
        finally:
            _delete(number, lock)
    finally:
        os.close(number)


def _acquire(path: Path, lock: Path, wait: bool) -> int:
    """Return the number of the open lock file, locked."""
    while True:
        number = _open(lock)
        try:
            if not _try_lock(number):
                if wait:
                    text = f"waiting for {_holder(number)}, which holds {shorter(lock)}"
                    print(clean(text), file=sys.stderr)
                    _wait_for_lock(number)
                elif _is_open_at(number, lock):
                    raise FileError(
                        f"{clean(shorter(path), 90)}: in use by {_holder(number)}; wait for its "
                        "end, or stop it, or choose another name"
                    )
            # The previous holder has deleted the file, and others may have made a new one.
            if _is_open_at(number, lock):
                return number
        except BaseException:
            os.close(number)
            raise
        os.close(number)


def _open(lock: Path, create: bool = True) -> int:
    """Open a lock file, which is made if it is missing.

    Raises FileError unless it is a regular file that is empty or begins with our first line.
    """
    while True:
        if create:
            with contextlib.suppress(FileExistsError):
                return os.open(lock, _FLAGS | os.O_CREAT | os.O_EXCL, 0o666)
        with error_context(lock, "rename it, or choose another name for the output"):
            try:
                if os.path.islink(lock):  # for systems without O_NOFOLLOW
                    raise Fault("is a link, not a lock of this program")
                number = os.open(lock, _FLAGS)
            except FileNotFoundError:
                if create:
                    continue  # its holder has just deleted it
                raise
            try:
                _check_ours(number)
            except BaseException:
                os.close(number)
                raise
            return number


def _check_ours(number: int) -> None:
    """Raise Fault unless an open file may be taken as a lock. An empty one is about to be."""
    check_regular(os.fstat(number))
    os.lseek(number, 0, os.SEEK_SET)
    start = os.read(number, len(FIRST_LINE))
    if start not in (b"", FIRST_LINE):
        raise Fault("is a file of your own, not a lock of this program")


def _write_holder(number: int, lock: Path, what: str) -> None:
    """Write who holds the lock into its file."""
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    text = f"{what}, process {os.getpid()} on {HOST} since {since}\n"
    try:
        os.ftruncate(number, 0)
        os.lseek(number, 0, os.SEEK_SET)
        os.write(number, FIRST_LINE + text.encode())
    except OSError as error:
        raise named(error, lock) from None


def _holder(number: int) -> str:
    """Return who holds a lock, by its file's second line."""
    os.lseek(number, len(FIRST_LINE), os.SEEK_SET)
    text = os.read(number, 300).decode("utf-8", "replace")
    return clean(text, 120) or "another process"


def _is_open_at(number: int, path: Path) -> bool:
    """Return whether the open file is still the one that `path` names."""
    try:
        return os.path.samestat(os.fstat(number), os.lstat(path))
    except FileNotFoundError:
        return False


def _delete(number: int, lock: Path) -> None:
    """Delete the lock file, if it is still ours and the system allows it."""
    with contextlib.suppress(OSError):  # Windows deletes no open file; the folder may be gone
        if _is_open_at(number, lock):
            lock.unlink()
