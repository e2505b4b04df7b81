"""A bed with its publisher on one clock, and an HTTP server whose answers are the test's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from device_runtime.monitor import installer_of
from device_runtime.update.agent.poll import Agent, Outcome
from device_runtime.update.disk import PosixDisk
from device_runtime.update.settings import DeviceConfig
from device_runtime.update.slots import Slots
from device_runtime.update.start import start
from edge_tsfm.deploy import rings
from edge_tsfm.deploy.repository import Repository
from tests.simulators.publisher import (
    EVERYBODY,
    NOW,
    approve_version,
    make_device,
    make_repository,
)

CONTEXT = [70.0 + i % 5 for i in range(16)]


class Bed:
    """One monitor and its publisher, with a clock for both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = NOW
        self.repository = make_repository(folder)
        self.config: DeviceConfig = make_device(folder / "bed", self.repository, "bed")
        self.installer = installer_of(self.config)

    @property
    def publisher(self) -> Repository:
        return Repository(self.folder / "repository", self.folder / "keys", now=self.now)

    def offer(self, version: int) -> str:
        file = approve_version(self.publisher, version).file
        rings.start(self.publisher, "icu", file, EVERYBODY, who="ops")
        return file

    def poll(self, fetcher: Any = None) -> Outcome:
        clock = self.now.timestamp() + 60
        return Agent(self.config, self.installer, fetcher=fetcher, clock=lambda: clock).poll(activate_now=True)

    @property
    def slots(self) -> Slots:
        return Slots(PosixDisk(self.config.state), device_id="bed")

    def confirm(self) -> None:
        slots = self.slots
        start(slots, self.installer.open, ring="icu")
        slots.confirm("healthy", who="test")


@contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """An HTTP server whose one answer to everything is the test's."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def do_POST(self) -> None:
            answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
