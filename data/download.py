"""Fetch an archive from the first of several addresses that works, and unpack it.

What has arrived is kept and resumed, also at another address. Only an archive with the expected
MD5 sum is unpacked.
"""

import contextlib
import http.client
import re
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from data.archives import CHUNK, md5_of, other_kind, unpack
from data.connection import Broken, Failed, NoNetwork, open_url, reason_of
from data.folders import whole_folder
from data.layouts import Archive
from data.pickles import LIMIT, DataError
from support.cli import UserError, clean, shorter, user_path

from tqdm import tqdm

WAITS = (0.5, 1, 2)  # seconds between attempts at one address that bring nothing new


@dataclass(frozen=True)
class Pace:
    """The slowest acceptable pace: so many bytes in so many seconds."""

    size: int
    seconds: float


BRISK = Pace(1_000_000, 10)  # as long as there is another address
PATIENT = Pace(10_000, 60)  # if there is none


class Unreachable(DataError):
    """No address delivers the archive. `load("auto")` then takes drawn images."""


class TooSlow(Failed):
    """An address is too slow; speed: bytes a second."""

    def __init__(self, size: int, seconds: float) -> None:
        super().__init__(f"too slow, {size:,} bytes in {seconds:.0f} s")
        self.speed = size / seconds


class WrongSum(Failed):
    """The archive is complete and isn't the expected one."""


class Meter:
    """Count bytes as they arrive."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.since = time.monotonic()
        self.size = 0

    def add(self, size: int) -> None:
        """Count bytes. Raises TooSlow if fewer than the pace's have arrived in its seconds."""
        self.size += size
        seconds = time.monotonic() - self.since
        if seconds > self.pace.seconds:
            if self.size < self.pace.size:
                raise TooSlow(self.size, seconds)
            self.since = time.monotonic()
            self.size = 0


def download(
    folder: Path,
    archive: Archive,
    files: Collection[str],
    check: Callable[[Path], object],
    look_in: Sequence[Path] = (),
) -> None:
    """Unpack `files` of the archive into the new folder `folder`.

    look_in: folders in which a person may have put the archive, before any address is tried.
    check: called with the folder before it appears; raises DataError if its content is wrong.
    An interrupted download stays next to `folder` (*.part), and the next call resumes it. Does
    nothing if the folder exists, or another process makes it meanwhile.
    Raises Unreachable if no address works, DataError if the archive isn't the expected one or the
    disk refuses.
    """
    if not re.fullmatch("[0-9a-f]{32}", archive.md5):
        raise DataError(
            f"--data-md5 {archive.md5}: is not an MD5 sum; "
            "give 32 hexadecimal digits, as md5sum prints them"
        )
    given = _local_path(archive.urls[0])
    with whole_folder(folder) as new:
        if new is None:
            return
        if given is not None:
            _check_given(given, archive)
            unpack(given, new, files)
            _check_unpacked(new, check, given)
            return
        for path in _found_by_hand(archive, look_in):
            if _use_found(path, archive, new, files):
                _check_unpacked(new, check, path)
                return
        # The sum in the name keeps the parts of different archives apart.
        part = folder.with_name(f"{folder.name}.{archive.md5[:8]}.part")
        try:
            _fetch(archive, part)
        except KeyboardInterrupt:
            text = f"interrupted; the same command resumes after {_size(part):,} bytes"
            raise KeyboardInterrupt(text) from None
        try:
            unpack(part, new, files)
            _check_unpacked(new, check, archive.urls[0])
        except DataError:
            part.unlink()
            raise
        part.unlink()


def _check_unpacked(new: Path, check: Callable[[Path], object], archive: str | Path) -> None:
    """Call `check`. Its errors name the archive, not the folder `new`, which is about to go."""
    try:
        check(new)
    except DataError as error:
        fault = str(error).partition("; ")[0]
        for name in (f"{shorter(new)}/", f"{shorter(new)}: "):
            fault = fault.replace(name, "")
        raise DataError(
            f"{clean(archive, 120)}: {fault}; give the --data-url and --data-md5 of another archive"
        ) from None


# ---- Archives on this machine --------------------------------------------------------------------


_KINDS = "give https://, http:// or a file's path"


def _local_path(url: str) -> Path | None:
    """Return the path if --data-url names a file, None for http:// and https://."""
    if re.match("https?://", url):
        return None
    if "://" in url and not url.startswith("file://"):
        raise DataError(f"--data-url {url}: is of no known kind; {_KINDS}")
    name = url
    if url.startswith("file:"):
        name = re.sub("^file:(//(localhost(?=/))?)?", "", url)
        name = urllib.request.url2pathname(name)
    try:
        path = user_path(name)
    except UserError as error:
        raise DataError(f"--data-url {error}") from None
    if not path.is_file():
        fault = "is a folder, not an archive" if path.is_dir() else "not found"
        raise DataError(f"--data-url {url}: {fault}; {_KINDS}")
    return path


def _check_given(path: Path, archive: Archive) -> None:
    """Check that the file of --data-url has the expected sum. Raises DataError if not."""
    md5 = md5_of(path)
    kind = other_kind(path)
    if kind:
        raise DataError(f"--data-url {path}: {kind}; give another file")
    if md5 != archive.md5:
        raise DataError(
            f"--data-url {path}: has MD5 {md5}, not {archive.md5}; give another file, "
            f"or --data-md5 {md5} if this is the one that you want"
        )


def _found_by_hand(archive: Archive, folders: Sequence[Path]) -> list[Path]:
    """Return the files in `folders` that are called like the archive, as browsers vary it."""
    unfinished = (".part", ".crdownload", ".download", ".tmp")
    paths = []
    for folder in dict.fromkeys(folder.absolute() for folder in folders):
        for path in sorted(folder.glob(f"{archive.name}*")):
            is_archive = ".tar" in path.name or ".tgz" in path.name
            if is_archive and path.is_file() and not path.name.endswith(unfinished):
                paths.append(path)
    return paths


def _use_found(path: Path, archive: Archive, new: Path, files: Collection[str]) -> bool:
    """Unpack an archive that a person put there; return whether it is the expected one."""
    size = path.stat().st_size
    md5 = md5_of(path)
    if md5 == archive.md5:
        _say(f"using {shorter(path)}")
        unpack(path, new, files)
        return True
    if path.suffix == ".tar" and _unpack_known(path, archive, new):
        _say(f"using {shorter(path)}")
        return True
    fault = f"has another MD5 sum; passed over without --data-md5 {md5}"
    if archive.size and size < archive.size:
        fault = f"is incomplete, {size:,} of {archive.size:,} bytes; passed over"
    kind = other_kind(path)
    if kind:
        fault = f"{kind}; passed over"
    _say(f"{shorter(path)}: {fault}")
    return False


def _unpack_known(path: Path, archive: Archive, new: Path) -> bool:
    """Unpack an archive that a browser has decompressed, if its files have the known sums."""
    if not archive.sums:
        return False
    with contextlib.suppress(DataError):  # damaged
        unpack(path, new, archive.sums)
    if all(md5_of(new / file) == known for file, known in archive.sums.items()):
        return True
    for file in new.iterdir():
        file.unlink()
    return False


def _say(text: str) -> None:
    print(clean(text), file=sys.stderr)


# ---- Addresses, one after the other --------------------------------------------------------------


def _fetch(archive: Archive, part: Path) -> None:
    """Bring the archive to the file `part`, from the first address that works."""
    slow: list[tuple[float, str]] = []
    urls = list(archive.urls)
    have = _size(part)
    resumed = f", after the {have:,} bytes that are there" if have else ""
    _say(f"fetching {archive.name}.tar.gz from {_host(urls[0])}{resumed}")
    while urls:
        url = urls.pop(0)
        pace = BRISK if urls or slow else PATIENT
        try:
            _fetch_from(url, archive, part, pace)
            return
        except Failed as error:
            failure = error
        fault = f"{_host(url)}: {failure}"
        if isinstance(failure, NoNetwork):
            break
        if isinstance(failure, TooSlow) and pace is BRISK:
            slow.append((failure.speed, url))
        if urls:
            _say(f"{fault}; trying {_host(urls[0])}")
    # A slow network makes every address slow: take what there is, the fastest first.
    for _, url in sorted(slow, reverse=True):
        _say(f"{fault}; back to {_host(url)}")
        try:
            _fetch_from(url, archive, part, PATIENT)
            return
        except Failed as error:
            failure = error
        fault = f"{_host(url)}: {failure}"
    _give_up(archive, failure, fault, _size(part))


def _give_up(archive: Archive, failure: Failed, fault: str, have: int) -> NoReturn:
    """Report the last failure. Raises DataError for a wrong sum of --data-url, else Unreachable."""
    from_flag = len(archive.urls) == 1
    if from_flag and isinstance(failure, WrongSum):
        raise DataError(
            f"--data-url {archive.urls[0]}: {failure}; try again or another URL, or give "
            "--data-md5 if this is the archive that you want"
        )
    what = f"--data-url {clean(archive.urls[0], 80)}" if from_flag else f"{archive.name}.tar.gz"
    if isinstance(failure, NoNetwork):
        fault = f"no network, {failure}"
    again = f"run the command again, which resumes after {have:,} bytes, or " if have else ""
    raise Unreachable(
        f"{what}: cannot be fetched ({clean(fault, 90)}); {again}check the network, "
        "put the file into data/, or give --dataset synthetic"
    )


def _host(url: str) -> str:
    try:
        host = urllib.parse.urlsplit(url).hostname
    except ValueError:
        host = None
    return clean(host or url, 60)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _fetch_from(url: str, archive: Archive, part: Path, pace: Pace) -> None:
    """Complete `part` from one address and verify it. Raises Failed if that doesn't work."""
    resumed = _size(part) > 0
    _complete(url, archive, part, pace)
    md5 = md5_of(part)
    if md5 != archive.md5 and resumed:
        # What was there before may have been wrong, not what this address sends.
        part.unlink()
        _complete(url, archive, part, pace)
        md5 = md5_of(part)
    if md5 != archive.md5:
        kind = other_kind(part)
        part.unlink()
        raise WrongSum(kind or f"has MD5 {md5}, not {archive.md5}")


def _complete(url: str, archive: Archive, part: Path, pace: Pace) -> None:
    """Append to `part` until it is complete, in as many attempts as bring something new."""
    waits = list(WAITS)
    most = _size(part)
    meter = Meter(pace)
    while True:
        try:
            _receive(url, archive, part, meter)
            return
        except Broken:
            if _size(part) > most:
                most = _size(part)
                waits = list(WAITS)
            if not waits:
                raise
            time.sleep(waits.pop(0))


def _receive(url: str, archive: Archive, part: Path, meter: Meter) -> None:
    """Append to `part` what the server sends. Raises Broken if it ends too early."""
    have = _size(part)
    if archive.size and have >= archive.size:
        return  # the sum decides
    response = open_url(url, have)
    if response is None:
        return
    with response:
        if response.status != 206:
            have = 0  # the server begins at the start
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            raise Broken("the server sends another range than it was asked for")
        total = _total(response, have)
        if archive.size and total and total != archive.size:
            raise Failed(f"sends another file, {total:,} bytes, not {archive.size:,}")
        limit = archive.size or LIMIT
        with (
            open(part, "ab" if have else "wb") as file,
            tqdm(
                desc=_host(url),
                total=total or archive.size,
                initial=have,
                unit="B",
                unit_scale=True,
                disable=None,
            ) as bar,
        ):
            for chunk in _chunks(response):
                have += len(chunk)
                if have > limit:
                    raise Failed(f"sends more than {limit:,} bytes")
                file.write(chunk)
                bar.update(len(chunk))
                meter.add(len(chunk))
    if total and have < total:
        raise Broken("the connection broke off")


def _total(response: http.client.HTTPResponse, have: int) -> int | None:
    """Return the size of the whole archive, if the server tells it."""
    length = response.headers.get("Content-Length", "")
    if not re.fullmatch("[0-9]{1,12}", length):
        return None
    return have + int(length)


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield the content as it arrives. Raises Broken if the connection breaks off."""
    while True:
        try:
            chunk = response.read1(CHUNK)  # read would wait for a whole chunk
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Broken(reason_of(error)) from error
        if not chunk:
            return
        if hasattr(response, "watch"):  # not that of a file
            response.watch.content_came()
        yield chunk
