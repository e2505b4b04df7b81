"""One monitor that polls one repository, and a clock that the test sets."""

from __future__ import annotations

from datetime import timedelta
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
)


class Monitor:
    """One device with its repository, and a clock that the test sets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = NOW.timestamp() + 3600
        self.repository = Repository(folder / "repository", folder / "keys", now=NOW)
        self.config: DeviceConfig = make_device(folder / "device", self.repository, "bed-1")
        self.installer = installer_of(self.config)

    @property
    def slots(self) -> Slots:
        return Slots(PosixDisk(self.config.state), device_id="bed-1", clock=lambda: self.now)

    def publisher(self, *, days: float = 0) -> Repository:
        return Repository(self.folder / "repository", self.folder / "keys", now=NOW + timedelta(days=days))

    def poll(self, **options: Any) -> Outcome:
        agent = Agent(self.config, self.installer, clock=lambda: self.now)
        return agent.poll(**{"activate_now": True, **options})

    def confirm(self) -> None:
        slots = self.slots
        start(slots, self.installer.open, ring="icu")
        slots.confirm("healthy", who="test")


def target_file(monitor: Monitor) -> Path:
    return next((monitor.repository.targets / "approved" / "icu").iterdir())


def second_version(monitor: Monitor, *, days: float = 0) -> None:
    publisher = monitor.publisher(days=days)
    approval = approve_version(publisher, 2)
    rings.start(publisher, "icu", approval.file, EVERYBODY, who="ops")


class Killed(BaseException):
    """The process died here."""
