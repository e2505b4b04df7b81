"""A monitor with two confirmed adapters, and its publisher: what the tests of a device that survives share."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from device_runtime.monitor import installer_of
from device_runtime.update.agent.poll import Agent, Outcome
from device_runtime.update.health import HealthRules
from device_runtime.update.host import Host
from device_runtime.update.lifecycle import Record
from device_runtime.update.settings import DeviceConfig, read_config
from device_runtime.update.slots import Slots, slots_of
from edge_tsfm.deploy import rings
from edge_tsfm.deploy.repository import Repository
from tests.simulators.publisher import EVERYBODY, NOW, approve_version

CONTEXT = [70.0 + i % 5 for i in range(16)]
QUICK = HealthRules(seconds=0.0, min_forecasts=1, latency_budget=600.0)


class Bed:
    """A monitor on which versions 1 and 2 are confirmed, and a clock that the test sets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = NOW.timestamp() + 60
        self.seconds = 0.0
        self.publisher = Repository(folder / "repository", folder / "keys", now=NOW)
        path = folder / "bed" / "device.toml"
        self.config: DeviceConfig = dataclasses.replace(read_config(path), health=QUICK)
        self.installer = installer_of(self.config)

    def offer(self, version: int) -> str:
        file = approve_version(self.publisher, version).file
        rings.start(self.publisher, "icu", file, EVERYBODY, who="ops")
        return file

    def poll(self, **options: Any) -> Outcome:
        agent = Agent(self.config, self.installer, clock=lambda: self.now)
        return agent.poll(**{"activate_now": True, **options})

    def config_with(self, **changes: Any) -> DeviceConfig:
        return dataclasses.replace(self.config, **changes)

    def host(self) -> Host:
        return Host(self.config, self.installer.open, clock=lambda: self.seconds)

    @property
    def slots(self) -> Slots:
        return slots_of(self.config, clock=lambda: self.now)

    @property
    def record(self) -> Record:
        return self.slots.record

    @property
    def versions(self) -> list[int]:
        record = self.record
        return [one.version for one in (record.candidate, record.current, record.previous) if one]

    def stream(self, before: Sequence[str] = (), **options: Any) -> subprocess.CompletedProcess[str]:
        command = [
            *before,
            sys.executable,
            "-m",
            "device_runtime.cli",
            "stream",
            "--signal",
            "MAP",
            "--interval",
            "1h",
        ]
        command += ["--context-length", "8", "--min-observed", "3", "--config", str(self.folder / "bed/device.toml")]
        samples = "".join(f"MAP,{step * 3_600_000},{70 + step % 5}\n" for step in range(6))
        return subprocess.run(command, input=samples, capture_output=True, text=True, check=False, **options)


def swap_tunables(bundle: Path, *, in_place: bool = False) -> None:
    """Put other weights where the base's are: another file under the name, or other bytes in the same file."""
    path = bundle / "tunable.safetensors"
    data = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    for at in range(start, len(data) - 3, 4):
        data[at : at + 4] = b"\x00\x00\x80\x3f"
    if in_place:
        with path.open("r+b") as file:
            file.write(data)
        return
    other = path.with_name("other")
    other.write_bytes(data)
    other.replace(path)
