"""Servers that never end: a clock runs around each whole exchange, and around a poll."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadError

from device_runtime.errors import OfflineError
from device_runtime.update.agent.fetch import HttpFetcher
from device_runtime.update.agent.poll import Agent
from device_runtime.update.report import report_of, send
from tests.simulators.bed import Bed


@contextlib.contextmanager
def endless(say: Callable[[socket.socket], None], *, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server that takes every connection and says what the test wants, until the test is over."""
    over = threading.Event()

    def answer(taken: socket.socket) -> None:
        with contextlib.suppress(OSError), tls.wrap_socket(taken, server_side=True) if tls else taken as made:
            while not over.is_set():
                say(made)
                time.sleep(0.02)

    def serve(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not over.is_set():
                taken, _ = listening.accept()
                threading.Thread(target=answer, args=(taken,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        try:
            yield f"http{'s' if tls else ''}://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            over.set()


class Dripping:
    """Says a beginning at once, then a byte at a time."""

    def __init__(self, beginning: bytes) -> None:
        self.beginning = beginning

    def __call__(self, taken: socket.socket) -> None:
        taken.sendall(self.beginning + b"x")
        self.beginning = b""


SERVERS: dict[str, Callable[[], Callable[[socket.socket], None]]] = {
    "says nothing": lambda: lambda taken: None,
    "drips a status line": lambda: lambda taken: taken.sendall(b"H"),
    "drips one header": lambda: Dripping(b"HTTP/1.1 200 OK\r\nX-Header: "),
    "100 Continue for ever": lambda: lambda taken: taken.sendall(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "102 Processing for ever": lambda: lambda taken: taken.sendall(b"HTTP/1.1 102 Processing\r\n\r\n"),
    "drips a body": lambda: Dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"),
    "drips a body without a length": lambda: Dripping(b"HTTP/1.1 200 OK\r\n\r\n"),
    "drips a chunk": lambda: Dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n"),
}


@pytest.mark.parametrize("server", SERVERS)
def test_each_file_has_its_time(server: str) -> None:
    with endless(SERVERS[server]()) as url:
        began = time.monotonic()
        with pytest.raises(DownloadError):
            b"".join(HttpFetcher(file_time=0.5).fetch(f"{url}/x"))
        assert time.monotonic() - began < 5


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's context, whose certificate this process believes."""
    from tests.simulators.certificates import certificate

    cert, key = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


@pytest.mark.parametrize("server", ["says nothing", "drips one header", "100 Continue for ever", "drips a body"])
def test_each_file_has_its_time_over_tls(tls: ssl.SSLContext, server: str) -> None:
    with endless(SERVERS[server](), tls=tls) as url:
        began = time.monotonic()
        with pytest.raises(DownloadError, match="not whole after"):
            b"".join(HttpFetcher(file_time=1.0).fetch(f"{url}/x"))
        assert time.monotonic() - began < 6


def test_a_handshake_that_never_ends_has_its_time() -> None:
    with endless(SERVERS["says nothing"]()) as url:
        began = time.monotonic()
        with pytest.raises(DownloadError):
            b"".join(HttpFetcher(file_time=0.5).fetch(url.replace("http", "https")))
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("server", ["says nothing", "drips one header", "100 Continue for ever", "drips a body"])
def test_a_poll_in_python_has_a_deadline_of_its_own(bed: Bed, server: str) -> None:
    with endless(SERVERS[server]()) as url:
        began = time.monotonic()
        agent = Agent(bed.config_with(repository=url), bed.installer, clock=lambda: bed.now, deadline=1.0)
        outcome = agent.poll()
        assert time.monotonic() - began < 10
    assert (outcome.action, outcome.code) == ("failed", 420)
    assert bed.poll().reason == "up to date"


def test_a_report_has_a_deadline(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("device_runtime.update.report.DEADLINE", 0.5)
    report = report_of(bed.slots, ring="icu", base="")
    with endless(SERVERS["drips one header"]()) as url:
        began = time.monotonic()
        with pytest.raises(OfflineError, match="not whole after"):
            send(report, url)
        assert time.monotonic() - began < 5


def test_a_name_that_is_not_looked_up_in_time_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object) -> list[object]:
        time.sleep(3)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    began = time.monotonic()
    with pytest.raises(DownloadError, match=r"resolved|not whole"):
        b"".join(HttpFetcher(file_time=0.3).fetch("http://updates.example/x"))
    assert time.monotonic() - began < 2
