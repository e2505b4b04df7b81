"""Notes of a monitor's processes for `status` and reports: the last poll, and what actually runs.

Notes decide nothing and are not flushed: one that is lost or cannot be written is only missing from the reports.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from device_runtime.binder import bind
from device_runtime.errors import DeviceRuntimeError, FormatError
from device_runtime.update.disk import PosixDisk
from device_runtime.update.sealed import seal, unseal

POLL, RUNNING, LEARNING = "poll", "running", "learning"
MAX_NOTE = 8_192  # bytes
MAX_PROBLEM = 1_000  # characters
N = TypeVar("N", "Polled", "Running", "Learning")


@dataclass(frozen=True, kw_only=True)
class Polled:
    """The last polls. Times are seconds since 1970 by the monitor's clock; 0: never."""

    tried: float = 0.0
    good: float = 0.0  # the last one that read the repository and refused nothing
    problem: str = ""  # of the last one
    revocations_signed: float = 0.0  # when the publisher signed what the newest list of revocations came with
    expires: Mapping[str, float] = field(default_factory=dict)  # role -> when its signatures end

    def __post_init__(self) -> None:
        """Check the times."""
        _check_times(self.tried, self.good, self.revocations_signed, *self.expires.values())


@dataclass(frozen=True, kw_only=True)
class Running:
    """What the process that forecasts has brought up."""

    adapter: str | None = None  # SHA-256 of the blob, hex; None: the base alone
    generation: int = -1  # of the record it followed; -1: it could not be read
    problem: str = ""  # why something else than the record names
    at: float = 0.0

    def __post_init__(self) -> None:
        """Check the time."""
        _check_times(self.at)


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How far the process that forecasts lets learning go, and what keeps it from it."""

    mode: str = "off"
    why: str = ""  # it is not the settings' mode
    problem: str = ""  # why it does not learn as it is set to
    at: float = 0.0

    def __post_init__(self) -> None:
        """Check the time."""
        _check_times(self.at)


def leave(state: Path, name: str, note: Polled | Running | Learning) -> None:
    """Write a note, if the disk takes it."""
    value = asdict(note)
    value["problem"] = note.problem[:MAX_PROBLEM]
    disk = PosixDisk(state)
    with contextlib.suppress(DeviceRuntimeError):
        disk.write(f".tmp-{name}", seal(value))
        disk.rename(f".tmp-{name}", name)


def polled(state: Path) -> Polled:
    """Read the note of the last polls; an empty one where there is none."""
    return _read(state, POLL, Polled)


def running(state: Path) -> Running:
    """Read the note of what runs; an empty one where there is none."""
    return _read(state, RUNNING, Running)


def learning(state: Path) -> Learning:
    """Read the note of what is learnt; an empty one where there is none."""
    return _read(state, LEARNING, Learning)


def _read(state: Path, name: str, kind: type[N]) -> N:
    """Read a note of a kind; what is not one counts as none."""
    try:
        data = PosixDisk(state).read(name, MAX_NOTE)
        return kind() if data is None else from_value(kind, unseal(data, name))
    except DeviceRuntimeError:
        return kind()


def from_value(kind: type[N], value: Any) -> N:
    """Decode a note. Raises `FormatError` for anything that `leave` does not write."""
    return bind(kind, value, "note", complete=True)


def _check_times(*times: float) -> None:
    """Refuse moments that no clock shows. Raises `FormatError`."""
    if wrong := [moment for moment in times if not abs(moment) < 1e11]:
        raise FormatError(f"{wrong[0]:g}: want seconds since 1970")
