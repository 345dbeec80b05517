"""Verify archives and unpack them. No archive is trusted to be small, or to stay in its folder."""

import bz2
import gzip
import hashlib
import shutil
import tarfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from data.formats import file_fault
from data.pickles import LIMIT, DataError
from support.cli import clean

from tqdm import tqdm

CHUNK = 1 << 18  # bytes


def md5_of(path: Path) -> str:
    """Return the MD5 sum of a file, or "none" if it is missing."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except FileNotFoundError:
        return "none"
    return digest.hexdigest()


def other_kind(path: Path) -> str | None:
    """Return what a file is if it is recognised, and isn't an archive."""
    with open(path, "rb") as file:
        fault = file_fault(file.read(CHUNK))
    if fault is None or fault.endswith("unpack it"):
        return None
    return fault


class _Unpacked:
    """The content of a compressed file. tarfile would believe a header that asks for gigabytes."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.close = file.close
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= CHUNK:
            raise tarfile.ReadError(f"a header of {clean(f'{size:,}', 30)} bytes")
        return self.file.read(size)

    def seek(self, position: int) -> int:
        if position > 2 * LIMIT:
            raise tarfile.ReadError("a member beyond its end")
        return self.file.seek(position)


def unpack(archive: Path, folder: Path, names: Collection[str]) -> None:
    """Unpack the files called `names` from the archive into `folder`.

    The archive is a .tar, .tar.gz or .tar.bz2. Its folders don't matter, and its links are
    ignored, so nothing outside of `folder` is written. Raises DataError if it is damaged or huge.
    """
    remedy = "give the --data-url and --data-md5 of another archive"
    size = 0
    try:
        with (
            open(archive, "rb") as file,
            tarfile.open(fileobj=_Unpacked(_decompressed(file)), mode="r:") as tar,
        ):
            for member in tqdm(tar, "unpack", unit=" files", disable=None):
                size += abs(member.size)
                if size > LIMIT:
                    raise DataError(f"{archive}: unpacks to over {LIMIT:,} bytes; {remedy}")
                name = PurePosixPath(member.name).name
                if member.isfile() and name in names:
                    with tar.extractfile(member) as source, open(folder / name, "wb") as target:
                        shutil.copyfileobj(source, target, CHUNK)
    except RecursionError:  # by a chain of headers, each for the one after it
        raise DataError(f"{archive}: is damaged (headers without end); {remedy}") from None
    except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError, zlib.error) as error:
        if getattr(error, "errno", None):
            raise  # from the disk; the OSError of a damaged archive has no number
        raise DataError(f"{archive}: is damaged ({clean(error, 60)}); {remedy}") from error


def _decompressed(file: BinaryIO) -> BinaryIO:
    start = file.read(3)
    file.seek(0)
    if start == b"\x1f\x8b\x08":
        return gzip.open(file)
    if start == b"BZh":
        return bz2.open(file)
    return file
