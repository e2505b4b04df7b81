"""What a monitor has learnt, in its state folder: complete after a power cut, or started afresh from the frozen model.

It decides nothing: forecasts use a blob in a slot. The file belongs to the base, the learning graph, the adapter and
the signal that it names, and is ignored for others. It has a constant size, and space for its next write is reserved,
so that a full disk keeps the last state. On one day of the monitor's clock no more is written than the settings allow.
It has measured values only if the settings say that windows are kept on the disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from device_runtime.binder import bind
from device_runtime.errors import FormatError, StorageError
from device_runtime.files import IrregularError
from device_runtime.update import disk as files
from device_runtime.update.disk import Disk
from device_runtime.update.sealed import seal, unseal

LEARNER = "learner"
MAX_SIZE = 4_194_304  # bytes
BLOCK = 16_384  # bytes; a file's size is a multiple of it
DAY = 86_400.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What was learnt on; the state is only valid for that."""

    base: str  # SHA-256 of bundle.json, hex
    learning: str  # SHA-256 of learning.json, hex
    parent: str  # SHA-256 of the parent adapter, hex; empty: the base alone
    signal: str
    interval: str


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The file."""

    subject: Subject
    day: int  # days since 1970 by the monitor's clock
    written: int  # bytes on that day, by then
    body: Mapping[str, Any]  # the learner's own; nothing in it: it was forgotten
    forgotten: float = 0.0  # when, seconds since 1970

    def __post_init__(self) -> None:
        """Refuse counts that no write ever had."""
        if min(self.day, self.written) < 0:
            raise FormatError(f"day {self.day}, written {self.written}: want at least 0")


class LearnerStore:
    """Reads and writes the file. A fault of the disk costs what was learnt since the last write."""

    def __init__(self, disk: Disk, *, subject: Subject, most: int, clock: Callable[[], float]) -> None:
        """``most`` is how many bytes may be written on one day of ``clock``, in seconds since 1970."""
        self._disk, self._subject, self._most, self._clock = disk, subject, most, clock
        self._day, self._written = self._today(), 0
        self._last = _digest(disk)  # of the file as it was read or written here

    def changed(self) -> bool:
        """Whether another process has written the file since; a file that cannot be read now counts as unchanged."""
        try:
            return _digest(self._disk) != self._last
        except StorageError:
            return False

    def load(self) -> tuple[Mapping[str, Any] | None, str]:
        """Return what was learnt, None if there is nothing, and why learning starts afresh.

        Raises `StorageError` where it cannot be read now: that says nothing of what is in it.
        """
        try:
            kept = read_kept(self._disk)
        except (FormatError, IrregularError) as error:
            return None, f"what was learnt cannot be used, learning starts afresh from the frozen model: {error}"
        self._last = _digest(self._disk)
        if kept is None or not kept.body:
            return None, ""
        if kept.day == self._day:
            self._written = kept.written
        if kept.subject != self._subject:
            changed = [name for name, value in asdict(kept.subject).items() if value != getattr(self._subject, name)]
            return None, f"learning starts afresh: another {' and '.join(changed)}"
        return kept.body, ""

    def save(self, body: Mapping[str, Any], *, now: bool = False) -> bool:
        """Write; return whether the day's bytes allowed it. ``now`` is for what must not wait for tomorrow.

        Raises `StorageError`; then the last write is still there.
        """
        if self._today() != self._day:
            self._day, self._written = self._today(), 0
        size = -(-len(self._sealed(body, 0)) // BLOCK) * BLOCK
        if size > MAX_SIZE:
            raise StorageError(f"what was learnt has {size} bytes, want at most {MAX_SIZE}")
        if not now and self._written + size > self._most:
            return False
        data = self._sealed(body, size)
        files.replace_in_reserve(self._disk, LEARNER, data)
        self._last = hashlib.sha256(data).hexdigest()
        self._written += size
        return True

    def _sealed(self, body: Mapping[str, Any], size: int) -> bytes:
        """Encode the file, filled up to ``size``."""
        value = {"subject": asdict(self._subject), "day": self._day, "written": self._written + size, "body": body}
        return seal(value, room=size)

    def _today(self) -> int:
        return max(int(self._clock() // DAY), 0)


def read_kept(disk: Disk) -> Kept | None:
    """Read what was learnt, on whatever; None where there is nothing.

    Raises `FormatError` for anything that `LearnerStore.save` does not write, `StorageError` where it cannot be read.
    """
    data = disk.read(LEARNER, MAX_SIZE)
    return None if data is None else from_value(unseal(data, LEARNER))


def from_value(value: Any) -> Kept:
    """Decode the file's body. Raises `FormatError`."""
    return bind(Kept, value, "what was learnt")


def forget(disk: Disk, at: float) -> None:
    """Forget what was learnt, with its spares, durably: an empty file of the time ``at`` takes its place.

    Its place is what tells the process that hosts the forecasts. Raises `StorageError`.
    """
    there = disk.names("")
    for name in (LEARNER, f".tmp-{LEARNER}", f".old-{LEARNER}"):
        if name in there:
            disk.unlink(name)
    nothing = Subject(base="", learning="", parent="", signal="", interval="")
    value = {"subject": asdict(nothing), "day": max(int(at // DAY), 0), "written": 0, "body": {}, "forgotten": at}
    files.replace(disk, LEARNER, seal(value))


def _digest(disk: Disk) -> str:
    """Return the SHA-256 of the file, hex; empty where there is none that can be read whole."""
    try:
        data = disk.read(LEARNER, MAX_SIZE)
    except (FormatError, IrregularError):
        return ""
    return "" if data is None else hashlib.sha256(data).hexdigest()
