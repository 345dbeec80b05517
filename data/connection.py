"""Open an address, within a time limit, and say why it fails."""

import contextlib
import errno
import http.client
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from support.cli import clean

TIMEOUT = 10  # seconds to connect, and then between two pieces of the content
SILENCE = 20  # seconds without a piece of the content, nor the end of the header
NO_NETWORK = 3  # seconds; a name server that takes longer to fail is out of reach


class Failed(Exception):
    """An address failed; another one may work."""


class Broken(Failed):
    """An address failed in a way that may pass."""


class NoNetwork(Failed):
    """Nothing can be reached."""


def reason_of(error: object) -> str:
    """Return an error's reason in a few words."""
    return clean(getattr(error, "strerror", None) or error, 60) or type(error).__name__


class Watch:
    """Ends a connection that brings no content, in a thread of its own.

    The timeout of a socket begins anew with every byte, and some headers never end.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.ended = threading.Event()
        self.content_came()
        threading.Thread(target=self._run, daemon=True).start()

    def content_came(self) -> None:
        """Start the time anew."""
        self._until = time.monotonic() + SILENCE

    def _run(self) -> None:
        while (left := self._until - time.monotonic()) > 0:
            self.ended.wait(left)
        self.ended.set()
        with contextlib.suppress(OSError):  # it ended long ago
            # That of the socket itself: an encrypted one's would take the reader's state away.
            socket.socket.shutdown(self._connection, socket.SHUT_RDWR)


def open_url(url: str, have: int) -> http.client.HTTPResponse | None:
    """Open the address, with the content after `have` bytes; return None if there is no more.

    Raises Failed, or Broken if to try again may help, or NoNetwork if nothing can be reached.
    """
    headers = {"User-Agent": "cifar10.py"}
    if have:
        headers["Range"] = f"bytes={have}-"
    opener = urllib.request.build_opener(_HTTPHandler, _HTTPSHandler)
    start = time.monotonic()
    try:
        return opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            return None  # the sum decides
        if 300 <= error.code < 400:
            raise Failed("redirects in circles, or to no web address") from None
        fault = f"the server answers {error.code} {clean(error.reason, 60)}"
        if error.code >= 500 or error.code == 429:
            raise Broken(fault) from None
        raise Failed(fault) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        no_name = isinstance(reason, socket.gaierror)
        no_name_server = no_name and time.monotonic() - start > NO_NETWORK
        no_route = getattr(reason, "errno", None) == errno.ENETUNREACH
        if no_name_server or no_route:
            raise NoNetwork(reason_of(reason)) from None
        raise Failed(reason_of(reason)) from None


def _connect(address: tuple[str, int], timeout: float, source: object = None) -> socket.socket:
    """Connect to one of a host's numbers within `timeout` seconds in total.

    socket.create_connection would wait so long for each of them.
    """
    numbers = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[:5]
    failures = []
    for family, kind, protocol, _, number in numbers:
        connection = None
        try:
            connection = socket.socket(family, kind, protocol)
            connection.settimeout(timeout / len(numbers))
            connection.connect(number)
        except OSError as error:
            failures.append(error)
            if connection is not None:
                connection.close()
        else:
            connection.settimeout(timeout)
            return connection
    # An IPv6 number is out of reach on many machines: not the reason why the others failed.
    failures.sort(key=lambda error: error.errno == errno.ENETUNREACH)
    raise failures[0]


# urllib's own classes with the function above.


class _HTTPConnection(http.client.HTTPConnection):
    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._create_connection = _connect

    def getresponse(self):
        return _watched(self, super().getresponse)


class _HTTPSConnection(http.client.HTTPSConnection):
    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._create_connection = _connect

    def getresponse(self):
        return _watched(self, super().getresponse)


def _watched(
    connection: http.client.HTTPConnection, getresponse: Callable[[], http.client.HTTPResponse]
) -> http.client.HTTPResponse:
    """Return the response of a connection, with its Watch as the attribute `watch`."""
    watch = Watch(connection.sock)
    response = getresponse()
    if watch.ended.is_set():  # http.client takes the end of the connection for that of the header
        raise TimeoutError("timed out")
    response.watch = watch
    return response


class _HTTPHandler(urllib.request.HTTPHandler):
    def http_open(self, request):
        return self.do_open(_HTTPConnection, request)


class _HTTPSHandler(urllib.request.HTTPSHandler):
    def https_open(self, request):
        return self.do_open(_HTTPSConnection, request)
