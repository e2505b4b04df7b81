"""HTTP(S) by the standard library, without the other schemes of its openers: no files, no FTP, no downgrade.

Every exchange has a deadline that covers name resolution, connecting, headers and body, however slowly they arrive and
however many interim responses a server sends.
"""

from __future__ import annotations

import contextlib
import http.client
import queue
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from device_runtime.errors import SettingsError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class _SaferRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a moved file, but never from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: object, code: int, msg: str, headers: object, newurl: str
    ) -> urllib.request.Request | None:
        """Return the redirect to follow, or None to treat the answer as an error."""
        if urlsplit(req.full_url).scheme == "https" and urlsplit(newurl).scheme != "https":
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]  # as given to us


class Deadline:
    """Ends every connection that was made under it, at a moment of the monotonic clock."""

    def __init__(self, until: float) -> None:
        self.until = until
        self.seconds = max(until - time.monotonic(), 0.0)
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(self.seconds, self.end)
        self._timer.daemon = True
        _start(self._timer)

    @property
    def over(self) -> bool:
        """Whether it is time."""
        return time.monotonic() >= self.until

    def connect(self, address: tuple[str, int], timeout: float, source: Any = None) -> socket.socket:
        """Connect as `socket.create_connection` does. Raises `OSError`, also when the moment comes first."""
        for family, kind, protocol, _, where in self._look_up(*address):
            left = min(timeout, self.until - time.monotonic())
            if left <= 0:
                break
            made = socket.socket(family, kind, protocol)
            try:
                made.settimeout(left)
                if source:
                    made.bind(source)
                made.connect(where)
            except OSError:
                made.close()
                continue
            made.settimeout(max(min(timeout, self.until - time.monotonic()), 0.001))  # also of a handshake over TLS
            return made
        raise OSError(f"cannot connect to {address[0]}, port {address[1]}")

    def watch(self, made: socket.socket) -> None:
        """End this connection too when the moment comes."""
        self._sockets.append(made)
        if self.over:
            self.end()

    def _look_up(self, host: str, port: int) -> list[Any]:
        """Look a name up in a thread of its own: a resolver cannot be interrupted, only left alone."""
        answers: queue.SimpleQueue[list[Any] | OSError] = queue.SimpleQueue()

        def ask() -> None:
            try:
                answers.put(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM))
            except OSError as error:
                answers.put(error)
            except UnicodeError as error:  # a name that no resolver is asked for
                answers.put(OSError(f"{host[:80]!r} is no name of a host: {error}"))

        _start(threading.Thread(target=ask, daemon=True))
        try:
            found = answers.get(timeout=max(self.until - time.monotonic(), 0.0))
        except queue.Empty:
            raise OSError(f"{host} could not be resolved in time") from None
        if isinstance(found, OSError):
            raise found
        return found

    def end(self) -> None:
        """Shut every connection down: a reader of one gets an end of file or an error."""
        for made in self._sockets:
            with contextlib.suppress(OSError):
                # Of the connection below TLS: an `SSLSocket`'s own shutdown is not for other threads.
                socket.socket.shutdown(made, socket.SHUT_RDWR)

    def stop(self) -> None:
        """Forget the moment: the exchange is over."""
        self._timer.cancel()


def _opener(deadline: Deadline, *, redirects: bool) -> urllib.request.OpenerDirector:
    """Make an opener of the handlers for HTTP(S) alone, whose connections are made under ``deadline``."""

    def under(kind: type[http.client.HTTPConnection]) -> Callable[..., http.client.HTTPConnection]:
        class Watched(kind):  # type: ignore[misc, valid-type]  # either of the two
            def connect(self) -> None:
                super().connect()
                deadline.watch(self.sock)

        def make(host: str, **options: Any) -> http.client.HTTPConnection:
            connection: http.client.HTTPConnection = Watched(host, **options)
            connection._create_connection = deadline.connect  # type: ignore[attr-defined]  # set by its constructor
            return connection

        return make

    class Plain(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(under(http.client.HTTPConnection), req)

    class Secure(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(under(http.client.HTTPSConnection), req)

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        Plain(),
        Secure(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    if redirects:
        opener.add_handler(_SaferRedirects())
    return opener


@contextlib.contextmanager
def open_url(request: urllib.request.Request, timeout: float, *, until: float, redirects: bool = True) -> Any:
    """Send a request; ``timeout`` is in seconds without a byte, ``until`` when all of it must be over.

    ``until`` is of `time.monotonic`. Yields the response. Raises `OSError` (`TimeoutError` when the time is over) and
    `http.client.HTTPException`.
    """
    deadline = Deadline(until)
    try:
        with _opened(_opener(deadline, redirects=redirects), request, timeout) as response:
            yield response
        if deadline.over:  # what looks like an end may be the clock's
            raise TimeoutError
    except (OSError, http.client.HTTPException) as error:
        if deadline.over:
            raise TimeoutError(f"not whole after {deadline.seconds:.3g} s") from error
        raise
    finally:
        deadline.stop()


def _opened(
    opener: urllib.request.OpenerDirector, request: urllib.request.Request, timeout: float
) -> http.client.HTTPResponse:
    """Send a request; a redirect to what is no address is this server's fault. Raises `OSError`, `HTTPException`."""
    try:
        response = opener.open(request, timeout=timeout)
    except ValueError as error:
        raise http.client.InvalidURL(f"no address: {error}") from error
    assert isinstance(response, http.client.HTTPResponse)
    return response


def _start(thread: threading.Thread) -> None:
    """Start a thread. Raises `OSError` where this machine has none to spare."""
    try:
        thread.start()
    except RuntimeError as error:
        raise OSError(f"no thread to watch the time: {error}") from error


def check_address(what: str, address: str, *, secret: bool = False) -> None:
    """Refuse an address that the agent could not or should not use. ``secret``: something secret is sent there.

    Raises `SettingsError`.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"{what}: want a folder, or an address of http or https")
    if parts.username is not None or parts.password is not None:
        raise SettingsError(f"{what}: an address must have no name or password: addresses are written to logs")
    if secret and parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise SettingsError(
            f"{what}: a token is sent over https only", hint="otherwise anybody on the way could read it"
        )
