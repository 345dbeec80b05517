"""data/download.py: what is fetched, resumed, refused or given up, from a server in a thread."""

import contextlib
import gzip
import hashlib
import http.server
import io
import os
import socket
import subprocess
import sys
import tarfile
import threading
import time

from data import cifar10, download, synthetic

import pytest
from batches import write_cifar10, write_cifar100
from helpers import ROOT, in_little_memory, line_of


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # short names in the errors
    write_cifar10(tmp_path / "cifar-10-batches-py")
    return tmp_path / "cifar-10-batches-py"


def message(call, *args, **options):
    """The one line of the DataError that the call raises."""
    with pytest.raises(cifar10.DataError) as caught:
        call(*args, **options)
    return line_of(caught, ";")


class Server(http.server.ThreadingHTTPServer):
    """Serves `body` and keeps the Range headers that it has `seen`.

    ranges: whether it knows Range; shift: by how much it begins elsewhere; cuts: after how many
    bytes the next answers break off; codes: the next answers' errors.
    """

    def __init__(self, body):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.ranges, self.shift, self.cuts, self.codes, self.seen = (
            body,
            True,
            0,
            [],
            [],
            [],
        )
        self.url = f"http://127.0.0.1:{self.server_port}/cifar.tar.gz"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.seen.append(asked)
        begin = int(asked[6:-1]) if asked and server.ranges else 0
        if server.codes or begin >= len(server.body):
            return self.send_error(server.codes.pop(0) if server.codes else 416)
        body = server.body[begin:]
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header(
                "Content-Range",
                f"bytes {begin + server.shift}-{len(server.body) - 1}/{len(server.body)}",
            )
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cuts.pop(0) if server.cuts else None])

    def log_message(self, *args):
        pass


def archive(folder, *extra):
    """The folder as a .tar.gz under another name than its own, with further members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for member in extra:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
        tar.add(folder, "official")
    return buffer.getvalue()


def member(name, kind=tarfile.REGTYPE, target="", size=1):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size if kind == tarfile.REGTYPE else 0
    return info


@pytest.fixture
def server(folder):
    server = Server(archive(folder))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    monkeypatch.setattr(download, "WAITS", (0.01, 0.01))


def md5(content):
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def fetch(server, tmp_path):
    """Download into tmp_path/new/images; options as of `load`."""

    def fetch(**options):
        return cifar10.load(
            **{
                "dataset": "cifar10",
                "data_dir": tmp_path / "new" / "images",
                "url": server.url,
                "md5": md5(server.body),
                "make": True,
            }
            | options
        )

    return fetch


def left(tmp_path):
    return sorted(os.listdir(tmp_path / "new"))


def test_download(fetch, folder, server, tmp_path):
    data = fetch()
    assert data.fingerprint == cifar10.load(data_dir=folder).fingerprint
    assert data.folder == tmp_path / "new" / "images"
    assert left(tmp_path) == ["images"]
    assert sorted(os.listdir(data.folder)) == sorted(cifar10.CIFAR10.files)
    fetch()
    assert server.seen == [None], "what is there was fetched again"


def test_interrupted_download_is_resumed(fetch, server, tmp_path):
    server.cuts = [100, 1000, 1]
    assert fetch().name == "cifar10"
    assert server.seen == [None, "bytes=100-", "bytes=1100-", "bytes=1101-"]
    assert left(tmp_path) == ["images"]


def test_next_run_resumes(fetch, server, tmp_path):
    server.cuts = [500, 0, 0, 0]
    assert "cannot be fetched (the connection broke off)" in message(fetch)
    assert left(tmp_path) == [f"images.{md5(server.body)[:8]}.part"]
    server.seen.clear()
    assert fetch().name == "cifar10"
    assert server.seen == ["bytes=500-"]


def test_server_without_range(fetch, server):
    server.ranges, server.cuts = False, [3000]
    assert fetch().name == "cifar10"
    assert server.seen == [None, "bytes=3000-"]


def test_server_that_sends_another_range(fetch, server):
    server.shift, server.cuts = 7, [3000]
    assert fetch().name == "cifar10"
    assert server.seen == [None, "bytes=3000-", None]


def test_server_that_always_breaks_off_is_given_up(fetch, server):
    server.ranges, server.cuts = False, [3000] * 100
    assert "cannot be fetched" in message(fetch)
    assert len(server.seen) < 10


@pytest.mark.parametrize("content", ["whole", "damaged", "too long"])
def test_part_left_by_a_killed_run(fetch, server, tmp_path, content):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "images.partial").mkdir()
    (tmp_path / "new" / "images.lock").touch()
    part = {"whole": server.body, "damaged": b"x" * 100, "too long": server.body + b"x"}[content]
    (tmp_path / "new" / f"images.{md5(server.body)[:8]}.part").write_bytes(part)
    assert fetch().name == "cifar10"
    assert left(tmp_path) == ["images"]


def test_wrong_checksum_is_refused(fetch, server, tmp_path):
    text = message(fetch, md5=cifar10.CIFAR10.archive.md5)
    assert f"has MD5 {md5(server.body)}, not {cifar10.CIFAR10.archive.md5}" in text
    assert "--data-md5" in text
    assert left(tmp_path) == []


def test_wrong_checksum_never_falls_back(server, home):
    assert "has MD5" in message(cifar10.load, "auto", url=server.url)


@pytest.mark.parametrize(("code", "requests"), [(404, 1), (403, 1), (500, 3)])
def test_http_errors(fetch, server, tmp_path, code, requests):
    server.codes = [code] * 9
    assert f"--data-url {server.url}: cannot be fetched (the server answers {code}" in message(
        fetch
    )
    assert len(server.seen) == requests
    assert left(tmp_path) == []


def test_passing_errors_are_passed_over(fetch, server):
    server.codes = [503, 429]
    assert fetch().name == "cifar10"


def test_silent_server_is_given_up(fetch, server, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    monkeypatch.setattr(Handler, "do_GET", lambda self: threading.Event().wait(0.3))
    assert "cannot be fetched (timed out)" in message(fetch)


def test_file_url(fetch, server, tmp_path):
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(server.body)
    assert fetch(url=path.as_uri()).name == "cifar10"
    assert path.read_bytes() == server.body
    assert server.seen == []


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("file:///no/such/file", "No such file"),
        ("http://[", "cannot be fetched"),
        ("/x/cifar.tar.gz", "is no URL"),
        ("ftp://x/y", "is no URL"),
        ("http://127.0.0.1:1/", "refused"),
    ],
)
def test_wrong_urls(fetch, url, fault):
    text = message(fetch, url=url)
    assert text.startswith(f"--data-url {url}: ")
    assert fault in text


def test_wrong_md5_flag(fetch):
    assert message(fetch, md5="abc").startswith("--data-md5 abc: is no MD5 sum")


@pytest.mark.parametrize(
    "extra",
    [
        member("official/../../../evil"),
        member("/tmp/evil"),
        member("official/link", tarfile.SYMTYPE, "/etc/passwd"),
        member("official/data_batch_1", tarfile.LNKTYPE, "../../x"),
        member("official/pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda extra: extra.name,
)
def test_archive_that_leads_out_is_refused(fetch, folder, server, tmp_path, extra):
    server.body = archive(folder, extra)
    assert f"holds {extra.name!r}, a link or a way out" in message(fetch)
    assert left(tmp_path) == []


def test_archive_that_is_no_cifar10_is_refused(fetch, folder, server, tmp_path):
    (folder / "test_batch").unlink()
    half = server.body[: len(server.body) // 2]
    for body, fault in (
        (archive(folder), "test_batch: is missing"),
        (b"<html>", "is no sound archive"),
        (half, "is no sound archive"),
        (archive(ROOT / "tests"), "is no folder of"),
    ):
        server.body = body
        assert fault in message(fetch)
        assert left(tmp_path) == []


def test_too_large_an_archive_is_refused(fetch, server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "LIMIT", len(server.body))
    assert "unpacks to more than" in message(fetch)
    monkeypatch.setattr(download, "LIMIT", 1000)
    assert "is larger than 1,000 bytes" in message(fetch)
    assert left(tmp_path) == []


def test_processes_that_start_at_once(server, tmp_path):
    command = [
        sys.executable,
        ROOT / "data" / "cifar10.py",
        "--data-dir",
        tmp_path / "new" / "images",
        "--data-url",
        server.url,
        "--data-md5",
        md5(server.body),
    ]
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            for _ in range(3)
        ]
        printed = {process.communicate(timeout=60)[0] for process in processes}
        assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(printed) == 1
    assert server.seen == [None], "was fetched more than once"
    assert left(tmp_path) == ["images"]


# ---- Servers and archives that mean harm ---------------------------------------------------------


@pytest.fixture
def raw_server():
    """serve(talk): the URL of a server that calls talk(connection) for each request."""
    stop = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    threads = []

    def answer(connection, talk):
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            talk(connection, stop)

    def listen(talk):
        while not stop.is_set():
            with contextlib.suppress(OSError):
                thread = threading.Thread(target=answer, args=(listener.accept()[0], talk))
                thread.start()
                threads.append(thread)

    def serve(talk):
        thread = threading.Thread(target=listen, args=(talk,))
        thread.start()
        threads.append(thread)
        return f"http://127.0.0.1:{listener.getsockname()[1]}/x.tar.gz"

    yield serve
    stop.set()
    for thread in threads:
        thread.join()
    listener.close()


def endless_continue(connection, stop):
    while not stop.is_set():
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


def endless_headers(connection, stop):
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not stop.is_set():
        connection.sendall(b"X: y\r\n" * 100)


def slow_head(connection, stop):
    while not stop.wait(0.02):
        connection.sendall(b"H")


def slow_body(connection, stop):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not stop.wait(0.02):
        connection.sendall(b"x")


def slow_chunks(connection, stop):
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not stop.wait(0.02):
        connection.sendall(b"1\r\nx\r\n")


def a_byte_a_connection(connection, stop):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx")


def long_status(connection, stop):
    connection.sendall(b"HTTP/1.1 404 " + b"\x1b[31m" + b"n" * 30_000 + b"\r\n\r\n")


def nonsense(connection, stop):
    connection.sendall(b"\x1b]0;" + b"z" * 30_000 + b"\r\n\r\n")


def huge_length(connection, stop):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 25 + b"\r\n\r\nx")


def longer_length(connection, stop):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nx")


def redirect_in_circles(connection, stop):
    connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /x.tar.gz\r\nContent-Length: 0\r\n\r\n")


def redirect_to_a_file(connection, stop):
    connection.sendall(
        b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("talk", "fault"),
    [
        (endless_continue, "cannot be fetched"),
        (endless_headers, "cannot be fetched"),
        (slow_head, "is too slow (0 bytes in"),
        (slow_body, "is too slow ("),
        (slow_chunks, "is too slow ("),
        (a_byte_a_connection, "is too slow|cannot be fetched"),
        (long_status, "the server answers 404"),
        (nonsense, "cannot be fetched"),
        (huge_length, "is larger than 1,073,741,824 bytes"),
        (longer_length, "is larger|has MD5|cannot be fetched|is too slow"),
        (redirect_in_circles, "cannot be fetched (the server answers 302"),
        (redirect_to_a_file, "cannot be fetched (the server answers 302"),
    ],
)
def test_servers_that_are_slow_or_endless_are_given_up(
    raw_server, tmp_path, monkeypatch, talk, fault
):
    monkeypatch.setattr(download, "MINUTE", 0.5)
    start = time.monotonic()
    url = raw_server(talk)
    text = message(
        cifar10.load, "cifar10", tmp_path / "new" / "images", url=url, md5="0" * 32, make=True
    )
    assert any(part in text for part in fault.split("|")), text
    assert time.monotonic() - start < 15
    left = os.listdir(tmp_path / "new")
    assert left in ([], ["images.00000000.part"])
    if "goes on after" in text:
        assert left


def test_a_slow_download_is_resumed(fetch, server, monkeypatch, tmp_path):
    monkeypatch.setattr(download, "MINUTE", 0.2)
    monkeypatch.setattr(download, "SLOW", 10**9)
    whole, server.cuts = server.body, [5000]
    slow = Handler.do_GET

    def pause(self):
        time.sleep(0.3)
        slow(self)

    monkeypatch.setattr(Handler, "do_GET", pause)
    assert "run the same command again" in message(fetch)
    monkeypatch.setattr(Handler, "do_GET", slow)
    server.body = whole
    assert fetch().name == "cifar10"


def header(name, size, kind=b"0"):
    """A tar header whose size is written in base 256, as GNU tar writes large ones."""
    fields = name.encode().ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2
    fields += (
        b"\x80"
        + size.to_bytes(11, "big")
        + b"00000000000\0"
        + b" " * 8
        + kind
        + bytes(100)
        + b"ustar  \0"
    )
    fields = fields.ljust(512, b"\0")
    return fields[:148] + b"%06o\0 " % sum(fields) + fields[156:]


@pytest.mark.parametrize("size", [2**80, 2**40, 3 * 2**30])
@pytest.mark.parametrize("kind", [b"0", b"L", b"x", b"g", b"S", b"5"])
def test_enormous_members_are_one_line(fetch, server, tmp_path, size, kind):
    server.body = gzip.compress(header("official/data_batch_1", size, kind) + bytes(10_000))
    text = message(fetch)
    assert "is no sound archive" in text or "unpacks to more than" in text
    assert left(tmp_path) == []


def test_archive_bombs_take_little_memory(tmp_path):
    for name, kind in (("long name", b"L"), ("attributes", b"x"), ("batch", b"0")):
        content = header("official/data_batch_1", 2**30 - 2**20, kind)
        with gzip.open(tmp_path / f"{name}.tar.gz", "wb", compresslevel=1) as file:
            file.write(content)
            for _ in range(100):
                file.write(bytes(2**20))
    done = in_little_memory(
        f"""
from pathlib import Path
for path in sorted(Path({str(tmp_path)!r}).glob("*.gz")):
    new = path.with_suffix(".new")
    new.mkdir()
    try:
        download._unpack(path, new, cifar10.CIFAR10.files)
    except cifar10.DataError as error:
        assert len(str(error)) <= 300, error
print("refused")
""",
        megabytes=50,
    )
    assert done == "refused"


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2"])
def test_kinds_of_archives(fetch, folder, server, mode):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        tar.add(folder, "official")
    server.body = buffer.getvalue()
    assert fetch().name == "cifar10"


def test_cifar100_is_fetched_alike(server, tmp_path):
    write_cifar100(tmp_path / "cifar-100-python")
    server.body, server.cuts = archive(tmp_path / "cifar-100-python"), [100]
    new = tmp_path / "new" / "images"
    data = cifar10.load("cifar100", new, url=server.url, md5=md5(server.body), make=True)
    assert (data.name, len(data.class_names)) == ("cifar100", 100)
    assert server.seen == [None, "bytes=100-"]
    assert sorted(os.listdir(new)) == ["meta", "test", "train"]
    assert cifar10.CIFAR100.archive.md5 == "eb9058c3a382ffc7106e4002c42a8d85"


# ---- What auto does ------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The default folders, moved to tmp_path/home, and small."""
    monkeypatch.setattr(cifar10, "HERE", tmp_path / "home")
    monkeypatch.setattr(synthetic.write_synthetic, "__defaults__", (10, 2, 0))
    return tmp_path / "home"


def test_auto_fetches(home, server, capsys):
    data = cifar10.load(url=server.url, md5=md5(server.body))
    assert (data.name, data.folder) == ("cifar10", home / "cifar-10-batches-py")
    assert "WARNING" not in capsys.readouterr().err


def test_auto_falls_back_with_a_warning(home, capsys):
    data = cifar10.load(url="http://127.0.0.1:1/x")
    assert (data.name, data.folder) == ("synthetic", home / "synthetic-batches-py")
    captured = capsys.readouterr()
    assert "ten kinds of shapes" in captured.err
    assert "Connection refused" in captured.err
    assert captured.out == ""


def test_auto_never_falls_back_from_a_named_or_broken_folder(home, tmp_path):
    options = {"data_dir": tmp_path / "typo", "url": "http://127.0.0.1:1/x"}
    assert "cannot be fetched" in message(cifar10.load, make=True, **options)
    assert "there is no such folder" in message(cifar10.load, **options)
    assert "cannot be fetched" in message(cifar10.load, "cifar10", url="http://127.0.0.1:1/x")
    (home / "cifar-10-batches-py").mkdir(parents=True)
    assert "is no folder of CIFAR-10 batches" in message(cifar10.load)
