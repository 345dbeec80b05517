"""Files that are whole or not there, locks, and .npz archives of which nothing is believed before it is checked."""

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
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from support.cli import UserError, clean, shorter

import numpy as np

MAX_BYTES = 4 << 30  # of all arrays of a file
MAX_META = 16 << 20  # bytes of the array `meta`, four for each character
MAX_MEMBERS = 1000
MAX_HEADER = 4096  # bytes
MAX_RATIO = 1100  # deflate's best is 1032:1
MAX_GAIN = 200  # of what unpacks to over 64 MB; weights hardly gain anything
CHUNK = 1 << 20  # bytes read at a time


class FileError(UserError):
    """A file that can't be used: the file, the fault, the remedy."""


class Fault(ValueError):
    """What is wrong with a file, without its name and the remedy, which `error_context` adds."""


# ---- Reading what is there ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def error_context(path: str | os.PathLike, remedy: str, raises: type[UserError] = FileError) -> Iterator[None]:
    """Turn whatever goes wrong while `path` is read into one line: path, fault, remedy."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # zipfile, zlib, json and numpy raise a dozen kinds for damaged files
        if isinstance(error, Fault):
            fault = str(error)
        elif isinstance(error, FileNotFoundError):
            fault = "is missing"
        elif isinstance(error, OSError) and error.strerror:
            fault = f"cannot be read ({error.strerror})"
        else:
            fault = f"is damaged ({type(error).__name__}: {clean(error, 80)})"
        raise raises(f"{clean(shorter(path), 120)}: {fault}; {remedy}") from None


def open_regular(path: str | os.PathLike, limit: int = MAX_BYTES + MAX_META) -> io.FileIO:
    """Open a regular file for reading, unbuffered. Fault or OSError for anything else: a FIFO would block, a device
    never end; and Fault for more than `limit` bytes."""
    _check_regular(os.stat(path), limit)  # before, as to open a device may already do something
    file = io.FileIO(path, "r", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))
    try:
        _check_regular(os.fstat(file.fileno()), limit)  # again, as the name may have changed hands
    except Fault:
        file.close()
        raise
    return file


def _check_regular(status: os.stat_result, limit: int) -> None:
    """Fault unless it is a regular file of at most `limit` bytes."""
    kind = {stat.S_IFDIR: "is a folder", stat.S_IFIFO: "is a FIFO"}.get(stat.S_IFMT(status.st_mode), "is a device")
    if not stat.S_ISREG(status.st_mode):
        raise Fault(f"{kind}, not a regular file")
    if status.st_size > limit:
        raise Fault(f"is larger than {limit:,} bytes")


def read_file(path: str | os.PathLike, limit: int) -> bytes:
    """The content of a regular file. Fault or OSError for anything else, and for more than `limit` (< 2 GB) bytes."""
    with open_regular(path, limit) as file:
        return file.read(os.fstat(file.fileno()).st_size)


# ---- Writing whole files --------------------------------------------------------------------------------------------

_HOST = re.sub(r"[^A-Za-z0-9_-]", "_", platform.node())[:40] or "localhost"
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<host>[A-Za-z0-9_-]+)\.(?P<pid>[0-9]{1,10})\.[0-9]{1,10}\.tmp", re.DOTALL)
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
        _make_folder(target.parent)
        remove_leftovers(target)
        temporary = _beside(target, f".{_HOST}.{os.getpid()}.{next(_counter)}.tmp", hidden=True)
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
        error.filename, error.filename2 = str(path), None  # a full disk's error has none, others the temporary name
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
    return Path(os.path.realpath(path)), not stat.S_ISREG(mode) or Path("/dev") in Path(os.path.abspath(path)).parents


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # mkdir's word for a file where a folder belongs
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None


def _beside(path: Path, ending: str, hidden: bool = False) -> Path:
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
            if not found or found["host"] != _HOST or folder / entry.name in _writing:
                continue
            # A long name was cut, see _beside.
            if (folder == path or path.name.startswith(found["name"])) and not _is_alive(int(found["pid"])):
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


# ---- Locks, held by the operating system ----------------------------------------------------------------------------

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
        number = os.open(_beside(Path(os.path.realpath(path)), ".lock"), os.O_RDWR)
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
    _make_folder(path.parent)
    lock = _beside(path, ".lock")
    while True:
        number = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _try_lock(number):
                holder = _holder(number)
                if wait:
                    print(clean(f"waiting for {holder}, which holds {shorter(lock)}"), file=sys.stderr)
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
            os.write(number, f"{what}, process {os.getpid()} on {_HOST} since {since}".encode())
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # Windows deletes no open file; the folder may be gone
                    lock.unlink()
            return
        finally:
            os.close(number)


# ---- Arrays: writing ------------------------------------------------------------------------------------------------


def write_npz(path: str | os.PathLike, arrays: dict[str, np.ndarray], meta: dict | None = None) -> None:
    """Write arrays and, as JSON in the array `meta`, a dict to one .npz, whole or not at all.

    OSError if the system refuses, FileError for what `read_npz` would not read: too much, or NaN in the dict.
    """
    size = sum(array.nbytes for array in arrays.values())
    if size > MAX_BYTES:
        raise FileError(
            f"{shorter(path)}: would have {size / 2**30:,.1f} GB of arrays, and {MAX_BYTES >> 30} GB is the limit; "
            "choose fewer hidden units"
        )
    if meta is not None:
        try:
            text = json.dumps(meta, allow_nan=False)
        except ValueError as error:
            raise FileError(f"{shorter(path)}: its description can't be written ({error}); report this") from None
        if 4 * len(text) > MAX_META:
            raise FileError(f"{shorter(path)}: its description has {len(text):,} characters; choose fewer epochs")
        arrays = arrays | {"meta": np.array(text)}
    # Not np.savez: where the disk is full, some versions leave a half-open archive that complains when it is collected.
    with write_whole(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


# ---- Arrays: reading ------------------------------------------------------------------------------------------------

# A header is a Python dict in the order in which NumPy writes it. Nothing but this is parsed, so nothing can nest.
_HEADER = re.compile(
    r"\s*\{\s*'descr'\s*:\s*'(?P<dtype>[<>|=]?(?:f[248]|[iu][1248]|U[0-9]{1,8}))'\s*,\s*"
    r"'fortran_order'\s*:\s*(?P<order>True|False)\s*,\s*"
    r"'shape'\s*:\s*\((?P<shape>\s*|\s*[0-9]{1,12}L?\s*,\s*|\s*[0-9]{1,12}L?(?:\s*,\s*[0-9]{1,12}L?){1,7}\s*,?\s*)\)"
    r"\s*,?\s*\}\s*",
    re.ASCII,
)


class _Member:
    """An array in an archive: its header, read and judged, and how to get at its data."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        self.archive, self.info = archive, info
        self.label = clean(info.filename, 60)
        with archive.open(info) as file:
            self.dtype, self.shape, self.fortran, self.start = self._header(file)
        self.nbytes = math.prod(self.shape) * self.dtype.itemsize
        if math.prod(max(n, 1) for n in self.shape) * self.dtype.itemsize > MAX_BYTES:
            raise Fault(f"says that {self.label} has shape {clean(self.shape, 60)}, over {MAX_BYTES >> 30} GB")
        if info.file_size != self.start + self.nbytes:
            raise Fault(
                f"has {info.file_size:,} bytes of {self.label}, not the {self.start + self.nbytes:,} of its header"
            )

    def _header(self, file: zipfile.ZipExtFile) -> tuple[np.dtype, tuple[int, ...], bool, int]:
        """(dtype, shape, whether in Fortran order, bytes before the data)"""
        magic = file.read(8)
        if magic[:6] != b"\x93NUMPY" or magic[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
            raise Fault(f"holds {self.label}, which is no NumPy array")
        width = 2 if magic[6] == 1 else 4
        size = int.from_bytes(file.read(width), "little")
        if size > MAX_HEADER:
            raise Fault(f"has a header of {size:,} bytes in {self.label}")
        text = file.read(size).decode("latin1")
        found = _HEADER.fullmatch(text)
        if len(text) < size or not found:
            raise Fault(f"has a header in {self.label} that describes no array of numbers: {clean(text, 60)}")
        shape = tuple(int(n) for n in re.findall("[0-9]+", found["shape"]))
        return np.dtype(found["dtype"]), shape, found["order"] == "True", 8 + width + size

    def fill(self, view: memoryview) -> None:
        """Read the data into `view`, which has room for it and no more."""
        with self.archive.open(self.info) as file:
            file.read(self.start)
            position = 0
            while count := file.readinto(view[position : position + CHUNK]):
                position += count
            # The last read compares the checksum, too.
            if position < len(view) or file.read(1):
                raise Fault(f"is truncated in {self.label}")

    def array(self) -> np.ndarray:
        """The array, native byte order. Fault unless it is finite."""
        array = np.empty(self.shape[::-1] if self.fortran else self.shape, self.dtype)
        self.fill(memoryview(array.reshape(-1).view(np.uint8)))
        if not self.dtype.isnative:
            array = array.byteswap(inplace=True).view(self.dtype.newbyteorder("="))
        if array.size and self.dtype.kind == "f" and not np.isfinite([array.min(), array.max()]).all():
            raise Fault(f"has entries in {self.label} that are not finite")
        return array.T if self.fortran else array

    def meta(self) -> dict:
        """The JSON object in the text that this array is."""
        if self.dtype.kind != "U" or self.shape != ():
            raise Fault("has an array 'meta' that is no text")
        if self.nbytes > MAX_META:
            raise Fault(f"has {self.nbytes:,} bytes in its array 'meta'")
        content = bytearray(self.nbytes)
        self.fill(memoryview(content))
        order = "be" if self.dtype.str[0] == ">" else "le"  # NumPy itself fails for code points beyond Unicode
        try:
            text = content.decode(f"utf-32-{order}").rstrip("\0")
        except UnicodeDecodeError:
            raise Fault("has an array 'meta' that is no Unicode text") from None
        return parse_object(text, "its array 'meta'")


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


class _File(io.FileIO):
    """An archive's file: zipfile reads its whole directory at once, which is small in what we write."""

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            size = max(os.fstat(self.fileno()).st_size - self.tell(), 0)
        if size > CHUNK:
            raise Fault("has an enormous directory of members")
        return super().read(size)


def _members(file: io.FileIO) -> dict[str, _Member]:
    """The arrays of an archive by name, judged by the archive's directory and their headers; no data is read."""
    size = os.fstat(file.fileno()).st_size
    try:
        archive = zipfile.ZipFile(_File(file.fileno(), closefd=False))
    except zipfile.BadZipFile:
        raise Fault("is not a readable .npz") from None
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        raise Fault(f"has {len(infos):,} members")
    if sum(info.compress_size for info in infos) > size:
        raise Fault("has members that overlap")
    unpacked = sum(info.file_size for info in infos)
    if unpacked > MAX_BYTES + MAX_META:
        raise Fault(f"unpacks to more than {MAX_BYTES >> 30} GB")
    if unpacked > max(64 << 20, MAX_GAIN * size):
        raise Fault(f"unpacks to {unpacked:,} bytes from {size:,}, as no network does")
    members = {}
    for info in infos:
        label = clean(info.filename, 60)
        name = info.filename.removesuffix(".npy")
        if name == info.filename or not name.isprintable() or len(name) > 100 or "/" in name or name in members:
            raise Fault(f"holds {label!r}, which is no array, or twice there")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Fault(f"has {label} compressed by other than deflate")
        if info.file_size > MAX_RATIO * info.compress_size:
            raise Fault(f"says that {label} unpacks to {info.file_size:,} bytes, which can't be")
        members[name] = _Member(archive, info)
        if name != "meta" and members[name].dtype.kind == "U":
            raise Fault(f"holds text in {label}, not numbers")
    return members


def read_npz(path: str | os.PathLike, kind: str = "checkpoint") -> tuple[dict[str, np.ndarray], dict]:
    """The arrays and the meta dict ({} where there is none) of an .npz, stored or deflated.

    kind: what the file is, for errors. FileError for anything but a regular file with finite numeric arrays, which
    together have at most MAX_BYTES. Headers are judged before any data is read, and each array is read straight into
    its place. Nothing in the file is executed.
    """
    try:
        with error_context(path, f"restore the {kind}, or make it anew"), open_regular(path) as file:
            members = _members(file)
            meta = members.pop("meta").meta() if "meta" in members else {}
            return {name: member.array() for name, member in members.items()}, meta
    except FileError as error:
        if not os.path.lexists(path):
            hint = "; 'python train.py' writes one" if kind == "checkpoint" else "; check the path"
            raise FileError(f"{clean(shorter(path), 120)}: no such {kind}{hint}") from error
        raise


def check_arrays(arrays: dict[str, np.ndarray], like: dict[str, np.ndarray]) -> None:
    """Fault unless the arrays have just the names and shapes of `like`, and fit into its dtypes."""
    if missing := [name for name in like if name not in arrays]:
        raise Fault(f"array {missing[0]} is missing")
    if extra := [name for name in arrays if name not in like]:
        raise Fault(f"array {extra[0]} doesn't belong to this network")
    for name, array in arrays.items():
        if array.shape != like[name].shape:
            raise Fault(f"array {name} has shape {array.shape} instead of {like[name].shape}")
        if np.abs(array).max(initial=0) > np.finfo(like[name].dtype).max:
            raise Fault(f"array {name} has entries too large for {like[name].dtype}")


def cast(arrays: dict[str, np.ndarray], dtype) -> dict[str, np.ndarray]:
    """The arrays in another floating dtype. ValueError where an entry would not be finite in it."""
    with np.errstate(over="ignore"):
        arrays = {name: array.astype(dtype, copy=False) for name, array in arrays.items()}
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError(f"a weight is too large for {np.dtype(dtype)}")
    return arrays
