"""Reader of the C service's health file: what the service runs, and how its forecasts went.

`firmware_examples/service/health_file.c` replaces the whole file without a flush, since it describes a running process.
It names that process, and is ignored here once the process has ended. The file only holds counts. What they mean for a
trial is decided here, by the rules of the Python host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from device_runtime.binder import bind
from device_runtime.documents import read_json
from device_runtime.errors import FormatError, StorageError
from device_runtime.faults import Fault, installed_fault
from device_runtime.files import read_bounded
from device_runtime.update.health import HealthRules, HealthWindow

VERSION = 2  # 1: it did not say which process wrote it
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
STARTED = 22  # field of /proc/PID/stat, from 1
MAX_SIZE = 65_536  # bytes


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process of this machine: no other one has the same three."""

    boot: str  # of the machine's start, 32 hexadecimal digits
    pid: int
    started: int  # clock ticks since that start

    def runs(self) -> bool:
        """Whether it still runs. Raises `StorageError` where this cannot be found out."""
        boot = read_bounded(BOOT_ID, 64).decode("ascii", "replace")
        if boot.strip().replace("-", "") != self.boot:
            return False
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return False
        except OSError as error:
            raise StorageError(f"cannot see whether process {self.pid} runs: {error.strerror or error}") from error
        fields = stat.rpartition(")")[2].split()  # behind the name, which may have blanks; the first is field 3
        return len(fields) > STARTED - 3 and fields[STARTED - 3] == str(self.started)


@dataclass(frozen=True, kw_only=True)
class ServiceHealth:
    """One channel. Counts begin when the running adapter took over."""

    adapter: str | None  # the running one: SHA-256 of the blob, hex; None: the base alone
    offered: str | None  # the file read last: SHA-256 of the signed file, hex; None: an empty file, or no file
    refused: int  # code with which that file was refused; 0: it runs
    why: str  # reason of the refusal
    since_ms: float  # when the running adapter took over, by the monotonic clock
    forecasts: int  # number of forecasts
    slow: int  # number of them that exceeded the latency budget
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
    """Read the health of a channel; None if no service that runs now has written the file.

    Raises `FormatError` for a file that the service did not write, `StorageError` if it cannot be read.
    """
    if not path.exists():
        return None
    try:
        value = read_json(path, limit=MAX_SIZE, unreadable=StorageError)
        channels, version = value["channels"], value["version"]
        said = channels[channel]
    except (TypeError, KeyError, IndexError) as error:
        raise FormatError(f"{path}: not what the service writes: {error!r}") from error
    if version != VERSION:
        raise FormatError(f"{path}: version {version!r}, this release reads {VERSION}")
    process = bind(Process, {name: value.get(name) for name in ("boot", "pid", "started")}, str(path), complete=True)
    if not process.runs():
        return None
    return bind(ServiceHealth, said, str(path), complete=True)
