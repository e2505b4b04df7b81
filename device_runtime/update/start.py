"""Starting on a device: load the adapter that the record names, or a safer one, down to the base alone.

Invariants: an attempt to start a trial is counted durably before its bytes are loaded, so a crash, a hang or a watchdog
reset during the load uses up an attempt; without counting there is no attempt. Signature and hash are checked at every
start, on the bytes that are then used. Only a fault of the adapter itself is recorded, and only once something safer
runs on the same machine. A full disk, no memory, no file handles, a damaged base, or settings for another signal affect
only this start and remove no adapter.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from device_runtime.errors import DeviceRuntimeError, RollbackError, SettingsError, StorageError
from device_runtime.faults import Fault, fault_of, installed_fault
from device_runtime.update import lifecycle
from device_runtime.update.lifecycle import Entry, Record, State
from device_runtime.update.slots import Slots

T = TypeVar("T")
# Verifies signatures, merges and proves: blob with signatures, or None for the base alone. Raises when it must not run.
Opener = Callable[[bytes | None], T]
# The same for a blob that was learnt here, which is unsigned; second, its parent's signed file, None: the base.
OwnOpener = Callable[[bytes, bytes | None], T]


@dataclass(frozen=True, kw_only=True)
class Started(Generic[T]):
    """What runs now, and what failed to open before it."""

    running: T
    entry: Entry | None  # None: the base alone
    state: State
    failures: tuple[str, ...]
    retry: bool = False  # the machine kept something from coming up: worth another attempt


class _SpentError(Exception):
    """The trial has no starts left."""


@dataclass(frozen=True)
class _Failure:
    """One rung of the ladder that did not hold."""

    entry: Entry
    fault: Fault
    reason: str


def start(
    slots: Slots,
    open_adapter: Opener[T],
    *,
    ring: str,
    failed: str = "",
    keep: Started[T] | None = None,
    open_own: OwnOpener[T] | None = None,
) -> Started[T]:
    """Open the adapter that the record names, or fall back. Raises only if the base alone does not open.

    ``ring`` is the device's: its security minimum holds for whatever runs, as at a poll. ``failed`` says why the
    adapter in the record must not run any more: then start with the fallback. ``keep`` is what runs already: it
    continues if the fallback ends at the same adapter. ``open_own`` opens what was learnt here; without it the parent
    of that runs.
    """
    rung = _fall_back(slots, slots.record, failed) if failed else slots.record
    tries = slots.record.tries
    failures: list[_Failure] = []
    running: T
    while True:
        entry = rung.runs
        try:
            if entry is None:
                running = keep.running if keep and keep.entry is None else open_adapter(None)
            elif keep and keep.entry == entry and (failures or failed):
                running = keep.running
            else:
                rung = _count(slots, entry, rung, ring)
                running = _open(slots, entry, rung, open_adapter, open_own)
        except Exception as error:
            if entry is None:
                raise
            failures.append(_Failure(entry, _fault(error), _text(error)))
            rung = lifecycle.fall_back(rung, reason=failures[-1].reason)
            continue
        break
    proven = keep is None or running is not keep.running or _comes_up(open_adapter, failures)
    _write_down(slots, failures if proven else [], tries)
    said = [slots.problem] if slots.problem else []
    return Started(
        running=running,
        entry=entry,
        state=rung.state,
        failures=(*said, *(f"adapter {failure.entry.adapter[:16]}: {failure.reason}" for failure in failures)),
        retry=bool(slots.unreadable) or any(failure.fault is Fault.MACHINE for failure in failures),
    )


def _count(slots: Slots, entry: Entry, rung: Record, ring: str) -> Record:
    """Check that an adapter may run at all, and take a try from a trial, durably. Returns the record then."""
    for one in (rung.own, rung.current) if rung.runs_own else (entry,):
        if one is not None:
            _check_floor(slots, one, ring, own=one is rung.own)
    slots.check_counter()
    if rung.state is not State.TRIAL:
        return rung
    if rung.tries == 0:
        raise _SpentError("the trial has no starts left")
    slots.count_start()
    return slots.record


def _open(slots: Slots, entry: Entry, rung: Record, open_adapter: Opener[T], open_own: OwnOpener[T] | None) -> T:
    """Open a slot: a signed adapter, or one that was learnt here with its parent."""
    if not rung.runs_own:
        return open_adapter(slots.load(entry))
    if open_own is None:
        raise SettingsError("this process does not run what the monitor learnt")
    return open_own(slots.load(entry), slots.load(rung.current) if rung.current else None)


def _check_floor(slots: Slots, entry: Entry, ring: str, *, own: bool) -> None:
    """Refuse what was revoked, even when the cut came between floor and record.

    An ``own`` adapter has no sequence of the publisher's.
    """
    try:
        floor = slots.floor()
    except StorageError:
        return  # a lost floor blocks installs, not what was installed while it was there
    if entry.file in floor.revoked:
        raise RollbackError(f"adapter {entry.adapter[:16]} is revoked")
    minimum = floor.security_minimum.get(ring, 0)
    if entry.sequence < minimum and not own:
        raise RollbackError(
            f"adapter {entry.adapter[:16]} has sequence {entry.sequence}, the security minimum is {minimum}"
        )


def _fault(error: Exception) -> Fault:
    """Decide whose fault it is that an installed adapter did not open.

    It was proven on this monitor, with its base and its runtime: should these be others now, the monitor has changed.
    """
    if isinstance(error, _SpentError):
        return Fault.SENDER
    return installed_fault(error.code) if isinstance(error, DeviceRuntimeError) else fault_of(error)


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, DeviceRuntimeError | _SpentError) else f"{type(error).__name__}: {error}"


def _comes_up(open_adapter: Opener[T], failures: list[_Failure]) -> bool:
    """Whether the base alone opens now: if it does not, the failure of an adapter is the machine's fault."""
    if not any(failure.fault is Fault.SENDER for failure in failures):
        return True
    try:
        open_adapter(None)
    except Exception:  # noqa: BLE001 - whatever it is, nothing is proven against an adapter
        return False
    return True


def _write_down(slots: Slots, failures: list[_Failure], tries: int) -> None:
    """Commit what is proven against the adapters that failed, up to the first that is not to blame itself.

    ``tries`` is how many a trial had before this start. On a disk that refuses, the fall-back holds for this start.
    """
    with contextlib.suppress(StorageError):
        for failure in failures:
            if failure.entry != slots.record.runs:
                return
            if failure.fault is Fault.SENDER:
                slots.fall_back(failure.reason, who="device")
                continue
            if failure.fault in (Fault.MACHINE, Fault.SETTINGS) and slots.record.tries < tries:
                slots.spare_start(failure.reason)
            return


def _fall_back(slots: Slots, record: Record, reason: str) -> Record:
    """Commit the fall-back; on a disk that refuses, fall back for this start alone."""
    try:
        slots.fall_back(reason, who="device")
    except StorageError:
        return lifecycle.fall_back(record, reason=reason)
    return slots.record
