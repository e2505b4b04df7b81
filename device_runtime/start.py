"""Starting on a device: load what the record names, or the next safer thing, down to the base alone.

Invariants: a trial's try is counted durably before its bytes are loaded, so a crash, a hang or a watchdog during the
load costs a try; what cannot be counted is not tried. Signature and hash are checked at every start, over the bytes
that are then used. A disk that cannot be written never stops a forecast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from device_runtime import lifecycle
from device_runtime.errors import DeviceRuntimeError, RollbackError, StorageError
from device_runtime.lifecycle import Entry, Record, State
from device_runtime.slots import Slots

T = TypeVar("T")
# Verifies signatures, merges and proves: blob with signatures, or None for the base alone. Raises when it must not run.
Opener = Callable[[bytes | None], T]


@dataclass(frozen=True, kw_only=True)
class Started(Generic[T]):
    """What runs now, and what did not come up on the way to it."""

    running: T
    entry: Entry | None  # None: the base alone
    state: State
    failures: tuple[str, ...]


def start(slots: Slots, open_adapter: Opener[T], *, channel: str, failed: str = "") -> Started[T]:
    """Bring up the adapter the record names, or fall back. Raises only when the base alone does not come up.

    ``channel`` is the device's: its security minimum holds for whatever runs, as at a poll. ``failed`` says why what
    the record names must not run any more: then begin with the fall-back.
    """
    failures: list[str] = [slots.damaged] if slots.damaged else []
    record = _fall_back(slots, slots.record, failed) if failed else slots.record
    while record.runs is not None:
        entry = record.runs
        try:
            _check_floor(slots, entry, channel)
            if record.state is State.TRIAL:
                record = _count_start(slots)
            running = open_adapter(slots.load(entry))
        except Exception as error:  # noqa: BLE001 - whatever an adapter does, something safer must come up
            reason = str(error) if isinstance(error, DeviceRuntimeError) else f"{type(error).__name__}: {error}"
            failures.append(f"adapter {entry.adapter[:16]}: {reason}")
            record = _fall_back(slots, record, reason)
            continue
        return Started(running=running, entry=entry, state=record.state, failures=tuple(failures))
    return Started(running=open_adapter(None), entry=None, state=record.state, failures=tuple(failures))


def _count_start(slots: Slots) -> Record:
    """Take one try from the trial, durably."""
    if slots.record.tries == 0:
        raise StorageError("the trial has no starts left")
    slots.count_start()
    return slots.record


def _check_floor(slots: Slots, entry: Entry, channel: str) -> None:
    """Refuse what was revoked, even when the cut came between floor and record."""
    try:
        floor = slots.floor()
    except StorageError:
        return  # a lost floor blocks installs, not what was installed while it was there
    if entry.file in floor.revoked:
        raise RollbackError(f"adapter {entry.adapter[:16]} is revoked")
    minimum = floor.security_minimum.get(channel, 0)
    if entry.sequence < minimum:
        raise RollbackError(
            f"adapter {entry.adapter[:16]} has sequence {entry.sequence}, the security minimum is {minimum}"
        )


def _fall_back(slots: Slots, record: Record, reason: str) -> Record:
    """Commit the fall-back; on a disk that refuses, fall back for this start alone."""
    try:
        if slots.record == record:
            slots.fall_back(reason, who="device")
            return slots.record
    except StorageError:
        pass
    return lifecycle.fall_back(record, reason=reason)
