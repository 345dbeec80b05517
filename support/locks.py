"""Locks on files and folders, held by the operating system: a killed process holds nothing."""

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from support.cli import clean, shorter
from support.files import HOST, FileError, beside, make_folder

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
        return True  # file systems without locks as well: no reason to refuse all work there

    def _wait_for_lock(number: int) -> None:
        fcntl.flock(number, fcntl.LOCK_EX)


def _is_open_at(number: int, path: Path) -> bool:
    """Whether the open file is still the one that `path` names."""
    try:
        return os.path.samestat(os.fstat(number), os.stat(path))
    except FileNotFoundError:
        return False


def _holder(number: int) -> str:
    """Who holds a lock, as its file says."""
    return clean(os.read(number, 300).decode("utf-8", "replace"), 120) or "another process"


def holder(path: str | os.PathLike) -> str | None:
    """Who holds the lock on `path`: what it does, process, host, since when. None if nobody does."""
    try:
        number = os.open(beside(Path(os.path.realpath(path)), ".lock"), os.O_RDWR)
    except OSError:  # there is none
        return None
    try:
        return None if _try_lock(number) else _holder(number)
    finally:
        os.close(number)


@contextlib.contextmanager
def locked(path: str | os.PathLike, what: str, wait: bool = False) -> Iterator[None]:
    """Hold the lock on `path`, a file or folder that need not be there, by the file PATH.lock beside it.

    what: what this process does there, for who finds it locked ("a training"). Where another process holds the lock,
    this is a FileError that says which one, or with `wait` a line on stderr and a pause. Killed processes hold nothing.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file() and not path.is_dir():
        yield  # a device or FIFO belongs to nobody
        return
    make_folder(path.parent)
    lock = beside(path, ".lock")
    while True:
        number = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _try_lock(number):
                holder = _holder(number)
                if wait:
                    print(
                        clean(f"waiting for {holder}, which holds {shorter(lock)}"), file=sys.stderr
                    )
                    _wait_for_lock(number)
                elif _is_open_at(number, lock):
                    raise FileError(
                        f"{clean(shorter(path), 90)}: in use by {holder}; wait for its end, or stop it, "
                        "or choose another place"
                    )
            # Who held it before has deleted it, and others may lock a new file of that name by now.
            if not _is_open_at(number, lock):
                continue
            os.ftruncate(number, 0)
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            os.lseek(number, 0, os.SEEK_SET)
            os.write(number, f"{what}, process {os.getpid()} on {HOST} since {since}".encode())
            try:
                yield
            finally:
                with contextlib.suppress(
                    OSError
                ):  # Windows deletes no open file; the folder may be gone
                    lock.unlink()
            return
        finally:
            os.close(number)
