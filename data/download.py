"""Archives from the network: resumed where they stopped, verified, and only then unpacked."""

import bz2
import gzip
import hashlib
import http.client
import io
import re
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from data.folders import whole_folder
from data.pickles import LIMIT, DataError
from support.cli import clean, shorter

from tqdm import tqdm

TIMEOUT = 5  # seconds without a byte before the connection counts as dead
WAITS = (0.5, 1, 2)  # seconds between attempts that bring nothing new
MINUTE = 60  # seconds in which at least SLOW bytes have to come
SLOW = 10_000
MAX_HEAD = 1 << 18  # bytes of a server's answer before its content begins


class Unreachable(DataError):
    """The archive cannot be fetched: the one fault that `load("auto")` answers with synthetic images."""


class TooSlow(TimeoutError):
    """A minute has brought next to nothing."""


def download(
    folder: Path, url: str, md5: str, files: Collection[str], check: Callable[[Path], object]
) -> None:
    """Fetch the archive at `url`, verify its MD5 sum, and unpack `files` of it into the new folder `folder`.

    check: called with the folder before it appears; raises DataError if its content won't do. An interrupted download
    stays beside `folder` (*.part) and is resumed by the next call. Does nothing if the folder is there, or another
    process makes it meanwhile. Unreachable if the archive can't be fetched, DataError if it isn't the expected one or
    the disk refuses.
    """
    md5 = md5.lower()
    if not re.fullmatch("[0-9a-f]{32}", md5):
        raise DataError(
            f"--data-md5 {md5}: is no MD5 sum; give 32 hexadecimal digits, as md5sum prints them"
        )
    if not re.match("(https?|file)://", url):
        raise DataError(f"--data-url {url}: is no URL; give https://, http:// or file:///")
    with whole_folder(folder) as new:
        if new is None:
            return
        # The sum in the name keeps the parts of different archives apart.
        part = folder.with_name(f"{folder.name}.{md5[:8]}.part")
        print(clean(f"downloading {url} into {shorter(folder)}"), file=sys.stderr)
        resumed = part.exists()
        try:
            found = _fetch(url, part)
            if found != md5 and resumed:  # what was there may have been damaged
                part.unlink()
                found = _fetch(url, part)
            if found != md5:
                raise DataError(
                    f"--data-url {url}: has MD5 {found}, not {md5}; try again or another URL, and give --data-md5 if "
                    "this archive is the one that you want"
                )
            _unpack(part, new, files)
            check(new)
        except Unreachable:
            raise
        except DataError:
            part.unlink(missing_ok=True)
            raise
        part.unlink()


# ---- Fetching -------------------------------------------------------------------------------------------------------


class _Pace:
    """Sees that bytes keep coming, whatever the server says or leaves unsaid meanwhile."""

    def __init__(self) -> None:
        self.since, self.size = time.monotonic(), 0

    def add(self, size: int) -> None:
        """Count bytes of content. TooSlow if the last minute has brought less than SLOW of them."""
        self.size += size
        now = time.monotonic()
        if now - self.since > MINUTE:
            if self.size < SLOW:
                raise TooSlow(f"{self.size:,} bytes in {now - self.since:.0f} s")
            self.since, self.size = now, 0


class _Head(io.RawIOBase):
    """What a server sends, with a limit on all that comes before the content."""

    def __init__(self, raw: io.RawIOBase, pace: _Pace) -> None:
        self.raw, self.pace, self.room = raw, pace, MAX_HEAD

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int | None:
        count = self.raw.readinto(buffer)
        self.pace.add(0)
        if self.room is not None:
            self.room -= count or 0
            if self.room < 0:
                raise http.client.HTTPException("its answer never begins")
        return count

    def close(self) -> None:
        self.raw.close()
        super().close()


def _connection(
    base: type[http.client.HTTPConnection], pace: _Pace
) -> type[http.client.HTTPConnection]:
    """A kind of connection whose answers keep to `pace`, from their first byte on."""

    class Response(http.client.HTTPResponse):
        def __init__(self, sock, *args, **kwargs) -> None:
            super().__init__(sock, *args, **kwargs)
            self.head = _Head(self.fp.detach(), pace)
            self.fp = io.BufferedReader(self.head)

        def begin(self) -> None:
            super().begin()
            self.head.room = None

    return type(base.__name__, (base,), {"response_class": Response})


def _opener(pace: _Pace) -> urllib.request.OpenerDirector:
    """urllib's, for http, https and file, with answers that keep to `pace`."""

    class HTTP(urllib.request.HTTPHandler):
        def http_open(self, request):
            return self.do_open(_connection(http.client.HTTPConnection, pace), request)

    handlers: list = [HTTP]
    if hasattr(http.client, "HTTPSConnection"):

        class HTTPS(urllib.request.HTTPSHandler):
            def https_open(self, request):
                return self.do_open(_connection(http.client.HTTPSConnection, pace), request)

        handlers.append(HTTPS)
    return urllib.request.build_opener(*handlers)


def _fetch(url: str, part: Path) -> str:
    """Bring `part` to its full length, in as many attempts as go forward; return its MD5 sum."""
    waits, most, connected, pace = list(WAITS), 0, False, _Pace()
    while True:
        before = part.stat().st_size if part.exists() else 0
        most = max(most, before)
        try:
            pace.add(0)
            if _receive(url, part, before, pace):
                break
            fault = "the connection broke off"
        except urllib.error.HTTPError as error:
            if error.code == 416 and before:  # nothing beyond what is there: the checksum will tell
                break
            fault = f"the server answers {error.code} {error.reason}"
            if error.code < 500 and error.code != 429:
                waits = []
        except (OSError, ValueError, OverflowError, http.client.HTTPException) as error:
            if getattr(error, "filename", None) == str(part):
                raise  # the disk's fault
            reason = getattr(error, "reason", error)
            if isinstance(reason, TooSlow):
                have = part.stat().st_size if part.exists() else 0
                going_on = f", which goes on after {have:,} bytes" if have else ""
                raise Unreachable(
                    f"--data-url {clean(url, 80)}: is too slow ({reason}); run the same command again{going_on}, give "
                    "the URL of a mirror, or --dataset synthetic"
                ) from error
            fault = str(reason) or type(error).__name__
            if (
                isinstance(error, (urllib.error.URLError, ValueError, OverflowError))
                and not connected
            ):
                waits = []  # no network, or no such address: waiting does not help
        after = part.stat().st_size if part.exists() else 0
        if after > most:
            waits, connected = list(WAITS), True
        elif not waits:
            raise Unreachable(
                f"--data-url {clean(url, 80)}: cannot be fetched ({clean(fault, 80)}); check the network, give the URL "
                "of a mirror, or give --dataset synthetic"
            )
        else:
            time.sleep(waits.pop(0))
    digest = hashlib.md5(usedforsecurity=False)
    with open(part, "rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def _receive(url: str, part: Path, have: int, pace: _Pace) -> bool:
    """Append to `part`, which has `have` bytes, what the server sends; return whether that was all."""
    headers = {"User-Agent": "cifar10.py"} | ({"Range": f"bytes={have}-"} if have else {})
    with _opener(pace).open(
        urllib.request.Request(url, headers=headers), timeout=TIMEOUT
    ) as response:
        if getattr(response, "status", None) == 206:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                part.unlink()
                return False
        else:
            have = 0  # the server ignores Range
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if re.fullmatch("[0-9]{1,30}", length) else None
        with (
            open(part, "ab" if have else "wb") as file,
            tqdm(
                total=total, initial=have, desc="download", unit="B", unit_scale=True, disable=None
            ) as bar,
        ):
            # read1 returns what has come, where read would wait, unpaced, for all of it.
            while have != total and (chunk := response.read1(2**18)):
                have += len(chunk)
                if max(have, total or 0) > LIMIT:
                    raise DataError(
                        f"--data-url {url}: is larger than {LIMIT:,} bytes; give another URL"
                    )
                try:
                    file.write(chunk)
                    file.flush()
                except OSError as error:
                    error.filename = str(part)  # tells the disk's faults from the network's
                    raise
                bar.update(len(chunk))
                pace.add(len(chunk))
    return total is None or have == total


# ---- Unpacking ------------------------------------------------------------------------------------------------------


class _Unpacked:
    """The content of a compressed file, for tarfile, which would believe a header that asks for gigabytes."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.close, self.tell = file, file.close, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= 2**20:
            raise tarfile.ReadError(f"a header of {clean(f'{size:,}', 30)} bytes")
        return self.file.read(size)

    def seek(self, position: int) -> int:
        if position > 2 * LIMIT:
            raise tarfile.ReadError("a member beyond its end")
        return self.file.seek(position)


def _unpack(archive: Path, folder: Path, names: Collection[str]) -> None:
    """Unpack the files called `names` in the .tar, .tar.gz or .tar.bz2 `archive`, whatever folder they are in there,
    into `folder`. DataError, for a name that leads out of the archive too."""
    remedy = "give the --data-url and --data-md5 of another archive"
    size = 0
    try:
        with open(archive, "rb") as file:
            start = file.read(3)
            file.seek(0)
            decompress = {b"\x1f\x8b\x08": gzip.open, b"BZh": bz2.open}.get(
                start, lambda plain: plain
            )
            stream = _Unpacked(decompress(file))
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                for member in tqdm(tar, "unpack", unit=" files", disable=None):
                    path = PurePosixPath(member.name)
                    if (
                        path.is_absolute()
                        or ".." in path.parts
                        or not (member.isfile() or member.isdir())
                    ):
                        raise DataError(
                            f"{archive}: holds {clean(member.name, 60)!r}, a link or a way out of its folder; {remedy}"
                        )
                    size += member.size
                    if member.size < 0 or size > LIMIT:
                        raise DataError(
                            f"{archive}: unpacks to more than {LIMIT:,} bytes; {remedy}"
                        )
                    if member.isfile() and path.name in names:
                        with (
                            tar.extractfile(member) as source,
                            open(folder / path.name, "wb") as target,
                        ):
                            shutil.copyfileobj(source, target, 2**18)
    except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError, zlib.error) as error:
        if getattr(
            error, "errno", None
        ):  # the disk's fault; a damaged archive's OSError has no number
            raise
        raise DataError(f"{archive}: is no sound archive ({clean(error, 60)}); {remedy}") from error
