"""data/download.py: archives fetched from servers on this machine, resumed, verified, unpacked."""

import contextlib
import gzip
import hashlib
import http.server
import io
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import replace
from pathlib import Path

from data import archives, cifar10, connection, download, synthetic
from data.layouts import CIFAR10, CIFAR100

import pytest
from batches import FILES, write_cifar100
from helpers import ROOT, in_little_memory, message

REFUSED = "http://127.0.0.1:1/cifar.tar.gz"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Wait less than users do."""
    monkeypatch.setattr(download, "WAITS", (0.01, 0.01))
    monkeypatch.setattr(download, "BRISK", download.Pace(0, 60))


def md5(content):
    return hashlib.md5(content).hexdigest()


def archive(folder, *extra, mode="w:gz"):
    """Return the folder as a .tar.gz, under another name than its own, with further members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for member in extra:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
        tar.add(folder, "official")
    return buffer.getvalue()


@pytest.fixture
def body(folder):
    return archive(folder)


# ---- Servers -------------------------------------------------------------------------------------


class Server(http.server.ThreadingHTTPServer):
    """Serve `body`, and keep the Range headers of all requests in `seen`."""

    daemon_threads = True

    def __init__(self, body, **behaviour):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = body
        self.seen = []
        self.url = f"http://127.0.0.1:{self.server_port}/cifar.tar.gz"
        self.stop = threading.Event()
        self.behaviour = behaviour

    def next(self, name):
        """Return the next of a list of behaviours, None at its end."""
        values = self.behaviour.get(name, [])
        return values.pop(0) if values else None


class Handler(http.server.BaseHTTPRequestHandler):
    """Behaviours: ranges=False (Range is ignored), shift=n (another range is sent), codes=[...]
    (errors of the next answers), cuts=[...] (sizes at which the next answers break off),
    pause=seconds between bytes, silent=True, location=URL (a redirect)."""

    def do_GET(self):
        server = self.server
        behaviour = server.behaviour
        asked = self.headers.get("Range")
        server.seen.append(asked)
        begin = 0
        if asked and behaviour.get("ranges", True):
            begin = int(asked.removeprefix("bytes=").removesuffix("-"))
        code = server.next("codes")
        if begin >= len(server.body):
            code = 416
        if behaviour.get("silent"):
            server.stop.wait()
        elif "location" in behaviour:
            self.send_response(302)
            self.send_header("Location", behaviour["location"] or server.url)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif code:
            self.send_error(code)
        else:
            self.send_content(begin)

    def send_content(self, begin):
        server = self.server
        body = server.body[begin:]
        self.send_response(206 if begin else 200)
        if begin:
            start = begin + server.behaviour.get("shift", 0)
            end = len(server.body)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        body = body[: server.next("cuts")]
        pause = server.behaviour.get("pause")
        if pause is None:
            self.wfile.write(body)
            return
        for i in range(0, len(body), 1000):
            self.wfile.write(body[i : i + 1000])
            if server.stop.wait(pause):
                return

    def log_message(self, *args):
        pass


@pytest.fixture
def serve():
    """serve(body, behaviour=...): a server in a thread, until the test ends."""
    with contextlib.ExitStack() as stack:

        def serve(body, **behaviour):
            server = Server(body, **behaviour)
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            stack.callback(server.server_close)
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            stack.callback(server.stop.set)
            return server

        yield serve


@pytest.fixture
def fetch(tmp_path, body):
    """fetch(url): the data set, fetched from --data-url into tmp_path/new/images."""

    def fetch(url, **options):
        defaults = {
            "dataset": "cifar10",
            "data_dir": tmp_path / "new" / "images",
            "md5": md5(body),
            "make": True,
        }
        return cifar10.load(url=url, **(defaults | options))

    return fetch


def left(tmp_path):
    return sorted(os.listdir(tmp_path / "new"))


@contextlib.contextmanager
def raw_server(start, again):
    """Answer each connection with the bytes `start`, then with `again` for ever; yield the URL."""

    def answer(connection):
        with connection, contextlib.suppress(OSError):
            connection.recv(1 << 16)
            connection.sendall(start)
            while not stop.wait(0.05):
                connection.sendall(again)

    def accept():
        while not stop.is_set():
            with contextlib.suppress(OSError):
                answer(server.accept()[0])

    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        thread = threading.Thread(target=accept)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/cifar.tar.gz"
        stop.set()
        thread.join()


# ---- One address ---------------------------------------------------------------------------------


def test_an_archive_is_fetched_and_unpacked(fetch, folder, serve, body, tmp_path):
    data = fetch(serve(body).url)
    assert data.fingerprint == cifar10.load(data_dir=folder).fingerprint
    assert sorted(os.listdir(data.folder)) == sorted(FILES)
    assert left(tmp_path) == ["images"]


@pytest.mark.parametrize(
    ("start", "again"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        (b"", b"H"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
    ],
    ids=["a header", "a status", "interim answers", "a chunk's size"],
)
def test_an_answer_that_never_comes_to_its_content_ends(fetch, monkeypatch, start, again):
    monkeypatch.setattr(connection, "SILENCE", 0.5)
    with raw_server(start, again) as url:
        assert f"--data-url {url}" in message(fetch, url)


def test_trailers_that_never_end_are_cut_off(fetch, body, folder, monkeypatch):
    monkeypatch.setattr(connection, "SILENCE", 1)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%b\r\n0\r\n" % (len(body), body)
    with raw_server(head + chunk, b"X: y\r\n") as url:
        assert fetch(url).fingerprint == cifar10.load(data_dir=folder).fingerprint


def test_an_archive_is_fetched_once(fetch, serve, body):
    server = serve(body)
    fetch(server.url)
    fetch(server.url)
    assert server.seen == [None]


def test_a_download_that_breaks_off_is_resumed(fetch, serve, body):
    server = serve(body, cuts=[100, 1000, 1])
    fetch(server.url)
    assert server.seen == [None, "bytes=100-", "bytes=1100-", "bytes=1101-"]


def test_the_next_run_resumes(fetch, serve, body, tmp_path):
    server = serve(body, cuts=[500, 0, 0])
    text = message(fetch, server.url)
    assert "the connection broke off" in text
    assert "resumes after 500 bytes" in text
    assert left(tmp_path) == [f"images.{md5(body)[:8]}.part"]
    server.seen.clear()
    fetch(server.url)
    assert server.seen == ["bytes=500-"]


def test_an_interrupt_says_where_the_next_run_resumes(fetch, serve, body, monkeypatch):
    server = serve(body, cuts=[500])

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(download.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt, match="resumes after 500 bytes"):
        fetch(server.url)


def test_a_server_without_ranges_begins_again(fetch, serve, body):
    server = serve(body, ranges=False, cuts=[3000])
    fetch(server.url)
    assert server.seen == [None, "bytes=3000-"]


def test_a_server_that_sends_another_range_begins_again(fetch, serve, body):
    server = serve(body, shift=7, cuts=[3000])
    fetch(server.url)
    assert server.seen == [None, "bytes=3000-", None]


def test_a_server_that_always_breaks_off_is_given_up(fetch, serve, body):
    server = serve(body, ranges=False, cuts=[3000] * 100)
    assert "cannot be fetched" in message(fetch, server.url)
    assert len(server.seen) < 10


@pytest.mark.parametrize("content", ["whole", "damaged", "too long"])
def test_the_part_of_a_killed_run_is_not_trusted(fetch, serve, body, tmp_path, content):
    part = {"whole": body, "damaged": b"x" * 100, "too long": body + b"x"}[content]
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / f"images.{md5(body)[:8]}.part").write_bytes(part)
    assert fetch(serve(body).url).name == "cifar10"
    assert left(tmp_path) == ["images"]


def test_a_wrong_sum_is_refused(fetch, serve, body, tmp_path):
    server = serve(body)
    text = message(fetch, server.url, md5="0" * 32)
    assert f"has MD5 {md5(body)}, not 000" in text
    assert "--data-md5" in text
    assert left(tmp_path) == []


@pytest.mark.parametrize(("code", "requests"), [(404, 1), (403, 1), (500, 3), (429, 3)])
def test_errors_of_the_server_are_named(fetch, serve, body, tmp_path, code, requests):
    server = serve(body, codes=[code] * 9)
    assert f"the server answers {code}" in message(fetch, server.url)
    assert len(server.seen) == requests
    assert left(tmp_path) == []


def test_errors_that_pass_are_waited_for(fetch, serve, body):
    assert fetch(serve(body, codes=[503, 429]).url).name == "cifar10"


@pytest.mark.parametrize(
    "url", ["ftp://x/y", "http://[", REFUSED, "/x/cifar.tar.gz", "file:///no/file", "a\0b", ""]
)
def test_a_wrong_address_is_named(fetch, url, tmp_path):
    assert message(fetch, url).startswith("--data-url ")


@pytest.mark.parametrize("sum", ["abc", "", "g" * 32])
def test_a_wrong_md5_flag_is_named(fetch, sum):
    assert message(fetch, REFUSED, md5=sum).startswith(f"--data-md5 {sum}")


def test_capital_letters_in_the_sum_are_the_same(fetch, serve, body):
    assert fetch(serve(body).url, md5=md5(body).upper()).name == "cifar10"


def test_processes_that_start_at_once_fetch_once(serve, body, tmp_path):
    server = serve(body)
    command = [sys.executable, ROOT / "data" / "cifar10.py", "--data-url", server.url]
    command += ["--data-dir", tmp_path / "new" / "images", "--data-md5", md5(body)]
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            for _ in range(3)
        ]
        printed = {process.communicate(timeout=120)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(printed) == 1
    assert server.seen == [None]
    assert left(tmp_path) == ["images"]


# ---- Several addresses ---------------------------------------------------------------------------


@pytest.fixture
def mirrors(monkeypatch, body, tmp_path):
    """mirrors(url, ...): the data set, fetched from the first of these addresses that works."""

    def mirrors(*urls, dataset="cifar10", **options):
        archive = replace(CIFAR10.archive, md5=md5(body), urls=urls, size=len(body), sums={})
        monkeypatch.setitem(cifar10.LAYOUTS, "cifar10", replace(CIFAR10, archive=archive))
        defaults = {"data_dir": tmp_path / "new" / "images", "make": True}
        return cifar10.load(dataset, **(defaults | options))

    return mirrors


BAD = {
    "404": {"codes": [404] * 9},
    "500": {"codes": [500] * 9},
    "redirect in circles": {"location": ""},
    "redirect to a host that refuses": {"location": REFUSED},
    "redirect to a file": {"location": "file:///etc/passwd"},
    "silent": {"silent": True},
    "cut at once": {"cuts": [0] * 9},
    "cut for ever": {"cuts": [9000] + [0] * 9},
    "another range": {"cuts": [9000] + [0] * 9, "shift": 7},
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_address_is_left_for_the_next_in_one_line(
    mirrors, serve, body, capsys, kind, monkeypatch
):
    if kind == "silent":
        monkeypatch.setattr(connection, "TIMEOUT", 2)
    good = serve(body)
    bad = serve(
        body, **{name: list(v) if isinstance(v, list) else v for name, v in BAD[kind].items()}
    )
    assert mirrors(bad.url, good.url).name == "cifar10"
    assert good.seen, "the next address was not asked"
    assert capsys.readouterr().err.count("; trying 127.0.0.1\n") == 1


def test_a_host_that_refuses_is_left_for_the_next(mirrors, serve, body, capsys):
    assert mirrors(REFUSED, "http://no-such-host.invalid/", serve(body).url).name == "cifar10"
    assert capsys.readouterr().err.count("; trying") == 2


@pytest.mark.parametrize("content", [b"x" * 20_000, b"<html>not found</html>", b""])
def test_another_file_is_left_for_the_next(mirrors, serve, body, content, tmp_path):
    good = serve(body)
    assert mirrors(serve(content).url, good.url).name == "cifar10"
    assert left(tmp_path) == ["images"]


def test_a_wrong_sum_begins_again_at_the_next(mirrors, serve, body):
    wrong, good = serve(b"x" * len(body)), serve(body)
    assert mirrors(wrong.url, good.url).name == "cifar10"
    assert wrong.seen == good.seen == [None]


def test_what_has_arrived_is_continued_at_the_next(mirrors, serve, body):
    first, second = serve(body, cuts=[3000, 0, 0, 0]), serve(body)
    assert mirrors(first.url, second.url).name == "cifar10"
    assert second.seen == ["bytes=3000-"]


def test_a_start_that_was_wrong_is_fetched_again(mirrors, serve, body):
    first, second = serve(b"x" * len(body), cuts=[3000, 0, 0, 0]), serve(body)
    assert mirrors(first.url, second.url).name == "cifar10"
    assert second.seen == ["bytes=3000-", None]


def test_a_slow_address_is_left_for_the_next(mirrors, serve, body, capsys, monkeypatch):
    monkeypatch.setattr(download, "BRISK", download.Pace(10**9, 0.05))
    monkeypatch.setattr(download, "PATIENT", download.Pace(0, 600))
    slow, good = serve(body, pause=0.06), serve(body)
    assert mirrors(slow.url, good.url).name == "cifar10"
    assert "too slow" in capsys.readouterr().err
    assert good.seen[0].startswith("bytes=")


def test_a_slow_network_goes_back_to_the_fastest_address(mirrors, serve, body, monkeypatch):
    monkeypatch.setattr(download, "BRISK", download.Pace(10**9, 0.2))
    monkeypatch.setattr(download, "PATIENT", download.Pace(0, 600))
    slower, faster = serve(body, pause=0.5), serve(body, pause=0.01)
    assert mirrors(slower.url, faster.url).name == "cifar10"
    assert len(slower.seen) == 1
    assert len(faster.seen) == 2


def test_an_address_that_brings_a_little_in_each_connection_is_left(
    mirrors, serve, body, capsys, monkeypatch
):
    monkeypatch.setattr(download, "BRISK", download.Pace(10**9, 0.2))
    drip, good = serve(body, cuts=[10] * 10**4), serve(body)
    assert mirrors(drip.url, good.url).name == "cifar10"
    assert "too slow" in capsys.readouterr().err


@pytest.mark.parametrize("count", [1, 2])
def test_addresses_that_stall_are_given_up(mirrors, serve, body, monkeypatch, count):
    monkeypatch.setattr(download, "BRISK", download.Pace(10**9, 0.1))
    monkeypatch.setattr(download, "PATIENT", download.Pace(10**9, 0.1))
    urls = [serve(body, pause=0.11).url for _ in range(count)]
    assert "too slow" in message(mirrors, *urls)


def test_without_a_network_one_name_is_looked_up(mirrors, monkeypatch):
    looked_up = []

    def unknown(host, *args, **options):
        looked_up.append(host)
        time.sleep(0.05)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(connection, "NO_NETWORK", 0.01)
    assert "no network" in message(mirrors, "http://a.example/", "http://b.example/")
    assert looked_up == ["a.example"]


def test_all_numbers_of_a_host_share_the_time_to_connect(monkeypatch):
    timeouts = []

    class Dead:
        def __init__(self, *args):
            pass

        def settimeout(self, seconds):
            timeouts.append(seconds)

        def connect(self, number):
            raise TimeoutError("timed out")

        def close(self):
            pass

    numbers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{i}", 80)) for i in range(9)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: numbers)
    monkeypatch.setattr(socket, "socket", Dead)
    with pytest.raises(TimeoutError):
        connection._connect(("dead.example", 80), 10)
    assert sum(timeouts) == 10


def test_the_addresses_of_cifar10_and_cifar100():
    for layout in (CIFAR10, CIFAR100):
        for url in layout.archive.urls:
            assert url.startswith("https://")
            assert f"{layout.archive.name}.tar.gz" in url
        assert "cs.toronto.edu" in layout.archive.urls[-1]
        assert set(layout.archive.sums) == set(layout.files)


# ---- Archives on this machine --------------------------------------------------------------------


@pytest.mark.parametrize(
    "form", ["{}/a b.tar.gz", "a b.tar.gz", "file://{}/a%20b.tar.gz", "~/a b.tar.gz"]
)
def test_data_url_takes_the_path_of_a_file(fetch, body, tmp_path, monkeypatch, form):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "a b.tar.gz").write_bytes(body)
    assert fetch(form.format(tmp_path)).name == "cifar10"
    assert (tmp_path / "a b.tar.gz").read_bytes() == body
    assert left(tmp_path) == ["images"]


def test_a_file_with_another_sum_is_refused_with_its_sum(fetch, body, tmp_path):
    (tmp_path / "mine.tar.gz").write_bytes(body)
    text = message(fetch, "mine.tar.gz", md5=None)
    assert f"--data-md5 {md5(body)}" in text
    assert left(tmp_path) == []


@pytest.mark.parametrize("source", ["file", "server"])
def test_a_web_page_instead_of_an_archive_is_named(fetch, serve, source):
    page = b"<html>Sign in</html>"
    Path("page.tar.gz").write_bytes(page)
    url = "page.tar.gz" if source == "file" else serve(page).url
    assert "is a web page" in message(fetch, url)


def test_a_folder_is_no_archive(fetch, tmp_path):
    assert "is a folder" in message(fetch, str(tmp_path))


@pytest.mark.parametrize(
    "name",
    [
        "cifar-10-python.tar.gz",
        "cifar-10-python(1).tar.gz",
        "cifar-10-python.tar (2).gz",
        "cifar-10-python.tgz",
        "cifar-10-python.tar.gz?download=1",
    ],
)
@pytest.mark.parametrize("where", ["data", "current"])
def test_an_archive_fetched_by_hand_is_used(mirrors, body, tmp_path, monkeypatch, name, where):
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(cifar10, "HERE", tmp_path / "data")
    path = tmp_path / name if where == "current" else tmp_path / "data" / name
    path.write_bytes(body)
    assert mirrors(REFUSED, REFUSED).name == "cifar10"
    assert path.read_bytes() == body


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"x", "is incomplete, 1 of"),
        (b"<!DOCTYPE html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer"),
        (b"x" * 10**5, "has another MD5 sum; passed over without --data-md5 "),
    ],
)
def test_a_wrong_archive_by_hand_is_passed_over(mirrors, serve, body, capsys, content, fault):
    path = Path("cifar-10-python.tar.gz")
    path.write_bytes(content)
    assert mirrors(serve(body).url, REFUSED).name == "cifar10"
    assert f"cifar-10-python.tar.gz: {fault}" in capsys.readouterr().err
    assert path.read_bytes() == content


def test_an_archive_that_the_browser_has_decompressed_is_used(
    mirrors, folder, body, tmp_path, monkeypatch
):
    sums = {file: md5((folder / file).read_bytes()) for file in FILES}
    known = replace(CIFAR10.archive, md5=md5(body), urls=(REFUSED, REFUSED), sums=sums)
    monkeypatch.setitem(cifar10.LAYOUTS, "cifar10", replace(CIFAR10, archive=known))
    Path("cifar-10-python.tar").write_bytes(archive(folder, mode="w"))
    new = tmp_path / "new" / "images"
    assert cifar10.load("cifar10", new, make=True).name == "cifar10"
    shutil.rmtree(new)
    shutil.copy(folder / "data_batch_1", folder / "data_batch_2")
    Path("cifar-10-python.tar").write_bytes(archive(folder, mode="w"))
    assert "cannot be fetched" in message(cifar10.load, "cifar10", new, make=True)


def test_unfinished_downloads_of_a_browser_are_not_looked_at(mirrors, serve, body, capsys):
    Path("cifar-10-python.tar.gz.crdownload").write_bytes(b"x")
    assert mirrors(serve(body).url, REFUSED).name == "cifar10"
    assert "crdownload" not in capsys.readouterr().err


# ---- Unpacking -----------------------------------------------------------------------------------


def member(name, kind=tarfile.REGTYPE, target=""):
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    info.size = 1 if kind == tarfile.REGTYPE else 0
    return info


@pytest.fixture
def unpack(tmp_path):
    """unpack(content): the data set in an archive with this content."""

    def unpack(content):
        (tmp_path / "x.tar.gz").write_bytes(content)
        url = str(tmp_path / "x.tar.gz")
        return cifar10.load(
            "cifar10", tmp_path / "new" / "images", url=url, md5=md5(content), make=True
        )

    return unpack


@pytest.mark.parametrize(
    "extra",
    [
        member("official/../../../evil"),
        member("/evil"),
        member("../test_batch/evil"),
        member("official/link", tarfile.SYMTYPE, "/etc/passwd"),
        member("official/data_batch_1", tarfile.SYMTYPE, "../../../evil"),
        member("official/data_batch_1", tarfile.LNKTYPE, "../../x"),
        member("official/pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda extra: extra.name,
)
def test_nothing_is_unpacked_outside_of_the_folder(unpack, folder, tmp_path, extra):
    data = unpack(archive(folder, extra))
    assert sorted(os.listdir(data.folder)) == sorted(FILES)
    assert all(path.is_file() and not path.is_symlink() for path in data.folder.iterdir())
    assert not list(tmp_path.rglob("evil"))


def test_archives_without_the_images_are_refused(unpack, folder, body, tmp_path):
    (folder / "test_batch").unlink()
    for content, fault in (
        (archive(folder), "test_batch: is missing"),
        (b"hello", "is damaged"),
        (b"", "is empty"),
        (body[: len(body) // 2], "is damaged"),
        (archive(ROOT / "tests"), "is not a folder of"),
    ):
        assert fault in message(unpack, content)
        assert left(tmp_path) == []


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2"])
def test_kinds_of_archives(unpack, folder, mode):
    assert unpack(archive(folder, mode=mode)).name == "cifar10"


def test_a_huge_archive_is_refused(unpack, body, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "LIMIT", len(body))
    assert "unpacks to over" in message(unpack, body)
    assert left(tmp_path) == []


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_chain_of_headers_is_damage(unpack, kind, tmp_path):
    block = tarfile.TarInfo("x")
    block.type = kind
    block.size = 5
    chain = (block.tobuf() + b"name".ljust(512, b"\0")) * 2000
    assert "is damaged" in message(unpack, gzip.compress(chain))
    assert left(tmp_path) == []


def test_wrong_content_is_reported_of_the_archive(unpack, folder):
    (folder / "data_batch_2").write_bytes(b"hello")
    text = message(unpack, archive(folder))
    assert "data_batch_2: is not a CIFAR-10 pickle" in text
    assert ".tmp" not in text


def test_a_huge_download_is_refused(fetch, serve, body, monkeypatch):
    monkeypatch.setattr(download, "LIMIT", 1000)
    assert "sends more than 1,000 bytes" in message(fetch, serve(body).url)


def header(name, size, kind=b"0"):
    """Return a tar header with its size in base 256, as GNU tar writes large ones."""
    fields = name.encode().ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2
    fields += b"\x80" + size.to_bytes(11, "big") + b"00000000000\0" + b" " * 8
    fields += kind + bytes(100) + b"ustar  \0"
    fields = fields.ljust(512, b"\0")
    return fields[:148] + b"%06o\0 " % sum(fields) + fields[156:]


@pytest.mark.parametrize("size", [2**80, 2**40, 3 * 2**30])
@pytest.mark.parametrize("kind", [b"0", b"L", b"x", b"g", b"S", b"5"])
def test_enormous_members_are_one_line(unpack, tmp_path, size, kind):
    text = message(unpack, gzip.compress(header("official/data_batch_1", size, kind) + bytes(9999)))
    assert "is damaged" in text or "unpacks to over" in text
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
from data import archives
for path in sorted(Path({str(tmp_path)!r}).glob("*.gz")):
    new = path.with_suffix(".new")
    new.mkdir()
    try:
        archives.unpack(path, new, {FILES!r})
    except cifar10.DataError as error:
        assert len(str(error)) <= 300, error
print("refused")
""",
        megabytes=50,
    )
    assert done == "refused"


def test_cifar100_is_fetched_alike(serve, folder, tmp_path):
    write_cifar100(tmp_path / "cifar-100-python")
    content = archive(tmp_path / "cifar-100-python")
    server = serve(content, cuts=[100])
    new = tmp_path / "new" / "images"
    data = cifar10.load("cifar100", new, url=server.url, md5=md5(content), make=True)
    assert data.name == "cifar100"
    assert sorted(os.listdir(new)) == ["meta", "test", "train"]


# ---- What auto does ------------------------------------------------------------------------------


@pytest.fixture
def home(folder, tmp_path, monkeypatch):
    """The default folder of data sets, moved to tmp_path/home; 12 drawn images, not 60,000."""
    monkeypatch.setattr(cifar10, "HERE", tmp_path / "home")
    monkeypatch.setattr(synthetic.write_synthetic, "__defaults__", (10, 2, 0))
    return tmp_path / "home"


def test_auto_fetches_cifar10(home, mirrors, serve, body, capsys):
    data = mirrors(serve(body).url, REFUSED, dataset="auto", data_dir=None)
    assert (data.name, data.folder) == ("cifar10", home / "cifar-10-batches-py")
    assert "drawn" not in capsys.readouterr().err


def test_auto_falls_back_to_drawn_images_and_says_what_they_are(home, mirrors, capsys):
    data = mirrors(REFUSED, REFUSED, dataset="auto", data_dir=None)
    assert (data.name, data.folder) == ("synthetic", home / "synthetic-batches-py")
    err = capsys.readouterr().err
    assert "Connection refused" in err
    assert "ten kinds of drawn shapes" in err
    assert "say nothing about CIFAR-10" in err


def test_drawn_images_need_no_attempt_to_connect(home, monkeypatch):
    monkeypatch.setattr(download, "open_url", None)
    assert cifar10.load("synthetic").name == "synthetic"


@pytest.mark.parametrize("options", [{"dataset": "cifar10", "data_dir": None}, {"dataset": "auto"}])
def test_images_asked_for_by_name_are_never_replaced(home, mirrors, options):
    assert "cannot be fetched" in message(mirrors, REFUSED, REFUSED, **options)


def test_a_wrong_archive_is_never_replaced_by_drawn_images(home, serve, body):
    assert "has MD5" in message(cifar10.load, "auto", url=serve(body).url)


def test_a_broken_folder_is_never_replaced(home):
    (home / "cifar-10-batches-py").mkdir(parents=True)
    assert "is not a folder of CIFAR-10 batches" in message(cifar10.load)
