"""Reader of the C service's health file: what the service runs, and how its forecasts went.

`firmware_examples/service/health_file.c` replaces the whole file without a flush, since it describes a running process.
It names that process, and is ignored here once the process has ended. The file only holds counts. What they mean for a
trial is decided here, by the rules of the Python host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from device_runtime.binder import bind
from device_runtime.documents import read_json
from device_runtime.errors import FormatError, StorageError
from device_runtime.faults import Fault, installed_fault
from device_runtime.files import read_bounded
from device_runtime.update.adapt_facts import evidence
from device_runtime.update.health import HealthRules, HealthWindow

VERSION = 2  # 1: it did not say which process wrote it
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
STARTED = 22  # field of /proc/PID/stat, from 1
MAX_SIZE = 65_536  # bytes
LISTS = ("lost", "values")
MAX_VALUE = 32  # characters of one value: it goes into the log


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


@dataclass(frozen=True, kw_only=True)
class ServiceLearning:
    """What the service says of its learner: counts and evidence."""

    decisions: int  # promotions and demotions that wait for the hand-over
    generation: int  # of the last blob that was made
    learnt: dict[str, Any] | None  # None: it does not learn
    mode: str  # in which it learns
    own: bool  # whether something that it learnt runs
    problem: str  # why it does not learn as it is set to


def read_health(path: Path, channel: int = 0) -> ServiceHealth | None:
    """Read the health of a channel; None if no service that runs now has written the file.

    Raises `FormatError` for a file that the service did not write, `StorageError` if it cannot be read.
    """
    value = _read(path)
    if value is None:
        return None
    try:
        said = value["channels"][channel]
    except (TypeError, KeyError, IndexError) as error:
        raise FormatError(f"{path}: not what the service writes: {error!r}") from error
    return bind(ServiceHealth, said, str(path), complete=True)


def read_learning(path: Path) -> ServiceLearning | None:
    """Read what the service says of its learner; None if no service that learns and runs now has written the file.

    Raises as `read_health`.
    """
    value = _read(path)
    if value is None or value.get("adaptation") is None:
        return None
    said = bind(ServiceLearning, value["adaptation"], str(path), complete=True)
    return said if said.learnt is None else replace(said, learnt=service_facts(said.learnt))


def service_facts(learnt: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the service says of its learner as the Python host logs it. Raises `FormatError`."""
    try:
        _check_plain(learnt)
        frozen, *others = (float(one) for one in learnt["lost"])
        more = {
            f"{name}_percent": round(100 * (lost / frozen - 1), 4) if frozen > 0 else None
            for name, lost in zip(("running", "candidate"), others, strict=True)
        }
        kept = ("state", "verdict", "stays", "stays_judged", "steps", "windows", "demotions", "refused", "spoilt")
        return {
            **{name: learnt[name] for name in kept},
            "evidence": evidence(float(learnt["log_evidence"])),
            "evidence_wanted": float(learnt["evidence_wanted"]),
            "reverse_evidence": evidence(float(learnt["log_reverse_evidence"])),
            "left_out": 0,
            "values": dict(zip(("values", "out_of_range", "jumps", "flat"), learnt["values"], strict=True)),
            "shift_rms": round(float(learnt["shift_rms"]), 9),
            "loss": {
                name: float(f"{lost:.6g}")
                for name, lost in zip(("frozen", "running", "candidate"), (frozen, *others), strict=True)
            },
            **more,
            "missed": learnt["missed"],
        }
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FormatError("what the service says of its learner is not as this release reads it") from error


def _check_plain(learnt: Mapping[str, Any]) -> None:
    """Raise `TypeError` for anything but numbers and short texts, and two lists of them."""
    for name, value in learnt.items():
        for one in value if name in LISTS and isinstance(value, list) else [value]:
            if not isinstance(one, str | int | float) or len(str(one)) > MAX_VALUE:
                raise TypeError(f"{name}: want a number or a short text")


def _read(path: Path) -> dict[str, Any] | None:
    """Read the file; None if no service that runs now has written it."""
    if not path.exists():
        return None
    value = read_json(path, limit=MAX_SIZE, unreadable=StorageError)
    if not isinstance(value, dict) or "version" not in value:
        raise FormatError(f"{path}: not what the service writes: no version")
    if value["version"] != VERSION:
        raise FormatError(f"{path}: version {value['version']!r}, this release reads {VERSION}")
    process = bind(Process, {name: value.get(name) for name in ("boot", "pid", "started")}, str(path), complete=True)
    return value if process.runs() else None
