"""What another program that forecasts says of what it runs: the health file of the C service, read.

`firmware_examples/service/health_file.c` writes it, whole and without a flush: it speaks of a running process, and goes
with it. It says what was counted. What a count means for a trial is decided here, by the rules of the Python host.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from device_runtime.binder import bind
from device_runtime.errors import FormatError
from device_runtime.faults import Fault, installed_fault
from device_runtime.files import read_bounded
from device_runtime.update.health import HealthRules, HealthWindow

VERSION = 1
MAX_SIZE = 65_536  # bytes


@dataclass(frozen=True, kw_only=True)
class ServiceHealth:
    """One channel. Counts begin where what runs took over."""

    adapter: str | None  # what runs: SHA-256 of the blob, hex; None: the base alone
    offered: str | None  # what was read last: SHA-256 of the signed file, hex; None: an empty one, or none
    refused: int  # the code with which that was refused; 0: it runs
    why: str  # it was refused
    since_ms: float  # when what runs took over, by the clock that never goes back
    forecasts: int  # made
    slow: int  # of them, over the latency budget
    slowest_ms: float
    errors: Mapping[str, int]  # steps without a forecast, by code
    last_error: str

    @property
    def _faulty(self) -> int:
        return sum(
            count
            for code, count in self.errors.items()
            if code.isdecimal() and installed_fault(int(code)) is Fault.SENDER
        )

    def window(self, rules: HealthRules) -> HealthWindow:
        """Return the health window with what was counted: failures are slow forecasts, and none by the adapter's fault.

        A service that was started without these rules' latency budget counts none, or fewer, as slow. Its slowest
        forecast is judged here all the same.
        """
        window = HealthWindow(rules, at=self.since_ms / 1_000)
        slow = max(self.slow, int(self.slowest_ms > 1_000 * rules.latency_budget))
        window.forecasts, window.failures = self.forecasts + self._faulty, slow + self._faulty
        if self._faulty:
            window.reason = self.last_error or "no forecast"
        elif slow:
            window.reason = f"{self.slowest_ms / 1_000:.3f} s for a forecast"
        return window


def read_health(path: Path, channel: int = 0) -> ServiceHealth | None:
    """Read what a service says of a channel; None where it has said nothing yet.

    Raises `FormatError` for anything else than what it writes, `StorageError` when it cannot be read.
    """
    if not path.exists():
        return None
    try:
        value = json.loads(read_bounded(path, MAX_SIZE))
        channels, version = value["channels"], value["version"]
        said = channels[channel]
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise FormatError(f"{path}: not what the service writes: {error!r}") from error
    if version != VERSION:
        raise FormatError(f"{path}: version {version!r}, this release reads {VERSION}")
    return bind(ServiceHealth, said, str(path), complete=True)
