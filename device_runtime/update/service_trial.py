"""Trials on a monitor where another program, such as the C service, makes the forecasts.

That program reads an adapter file and does not know the state record. So this module does from outside what the host
does in its own process, by the same rules: it counts a start durably before it writes the adapter to the file, judges
the trial by what the program counted and scored, and confirms the adapter or takes it back, with the figures in the
log. The record is always written before the file. After a power cut between the two, the file is out of date, and the
next start of the program replaces it with what the record says.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from pathlib import Path

from device_runtime.errors import RollbackError, SignatureError, StorageError
from device_runtime.faults import Fault, installed_fault
from device_runtime.files import read_bounded, remove_temporaries, write_atomic
from device_runtime.quality.evidence import Verdict
from device_runtime.quality.field import FieldQuality, Judgement
from device_runtime.update import field_store
from device_runtime.update.health import Health
from device_runtime.update.lifecycle import Entry, State
from device_runtime.update.service_health import ServiceHealth
from device_runtime.update.settings import DeviceConfig
from device_runtime.update.slots import MAX_FILE_SIZE, Slots
from device_runtime.update.start import start

# This monitor verified both when it staged the adapter. If the service refuses it for one, its settings are different.
_SETTINGS = (SignatureError.code, RollbackError.code)


def hand_over(slots: Slots, config: DeviceConfig, target: Path, *, starting: bool = False) -> str:
    """Write the adapter that should run to ``target``, or an empty file for the base alone; return a message.

    A trial's start is counted first: always if the program is ``starting``, else if the file did not yet hold the
    adapter. An adapter without starts left is taken back. Call it with the state locked. Raises `StorageError` if the
    file cannot be written.
    """
    if starting:
        remove_temporaries(target)
    with contextlib.suppress(StorageError):  # if the disk fails, the next call tries again
        slots.expire(config.trial_days)
    entry = slots.record.runs
    if entry is not None and slots.record.state is State.TRIAL and not starting and _holds(target, entry):
        return f"{_named(entry)}, on trial as before"
    begun = start(slots, _as_it_is, ring=config.ring)
    _replace(target, begun.running)
    said = _named(begun.entry) if begun.entry else "the base alone"
    return ": ".join((said, *begun.failures))


def judge(
    slots: Slots, config: DeviceConfig, target: Path, health: ServiceHealth | None, *, now: float | None = None
) -> str:
    """Confirm the adapter on trial or take it back, if that can be decided; return a message.

    ``health`` is what the program reports, ``now`` the monotonic time in seconds. Call it with the state locked. Raises
    `StorageError` if the state cannot be read, or a change cannot be written: then nothing has changed.
    """
    if slots.unreadable:
        raise StorageError(slots.unreadable)
    if slots.expire(config.trial_days):
        return f"{slots.record.reason}; {hand_over(slots, config, target)}"
    entry = slots.record.candidate
    if slots.record.state is not State.TRIAL or entry is None:  # the file may still hold the adapter of an ended trial
        return f"nothing is on trial; {hand_over(slots, config, target)}"
    if not _holds(target, entry):
        return f"{_named(entry)} is on trial and was not handed over yet"
    if health is None or health.offered != entry.file:
        return f"{_named(entry)} is on trial and the service has not read it yet"
    if health.refused:
        return _refused(slots, config, target, health)
    if health.adapter != entry.adapter:
        return f"{_named(entry)} is on trial and the service runs something else"
    window, field = health.window(config.health), _field(slots, config, entry)
    found = window.health(time.monotonic() if now is None else now, field)
    if found is Health.PASSED:
        slots.confirm(window.passed(field), who="device")
        return f"confirmed: {slots.record.reason}"
    if found is Health.FAILED:
        slots.fall_back(f"health window: {window.reason}", who="device")
        return f"taken back: {slots.record.reason}; {hand_over(slots, config, target)}"
    return f"on trial: {window.forecasts} forecasts, {window.failures} failures; {field.why}"


def _refused(slots: Slots, config: DeviceConfig, target: Path, health: ServiceHealth) -> str:
    """End a trial that the service refused, or give its start back if the refusal is not the adapter's fault."""
    why = f"the service refused it: [{health.refused}] {health.why}"
    if health.refused not in _SETTINGS and installed_fault(health.refused) is Fault.SENDER:
        slots.fall_back(why, who="device")
        return f"taken back: {why}; {hand_over(slots, config, target)}"
    # The file first: while it holds the adapter, every look gives a start back. The next hand-over tries again.
    data, problem = _installed(slots)
    _replace(target, data)
    slots.spare_start(why)
    return "; ".join(filter(None, (why, problem)))


def _installed(slots: Slots) -> tuple[bytes, str]:
    """Return the confirmed adapter's signed file; if its slot is damaged, nothing, for the base alone, and why."""
    current = slots.record.current
    try:
        return (slots.load(current) if current else b""), ""
    except StorageError as error:
        return b"", f"the base alone: {error.args[0]}"


def _field(slots: Slots, config: DeviceConfig, entry: Entry) -> Judgement:
    """Judge an adapter by the field quality that the service keeps."""
    field = FieldQuality(config.quality, ratio=config.health.ratio)
    if problem := field_store.load(slots.disk, field):
        return Judgement(verdict=Verdict.OPEN, why=problem)
    return field.judge(entry.adapter, config.health.min_scored)


def _as_it_is(data: bytes | None) -> bytes:
    """Return the adapter's bytes unchanged: the program that reads the file verifies, merges and tests it."""
    return data or b""


def _holds(target: Path, entry: Entry) -> bool:
    """Return whether the file holds the entry's adapter."""
    return target.exists() and hashlib.sha256(read_bounded(target, MAX_FILE_SIZE)).hexdigest() == entry.file


def _replace(target: Path, data: bytes) -> None:
    """Write the file if its content differs."""
    if not target.exists() or read_bounded(target, MAX_FILE_SIZE) != data:
        write_atomic(target, data)


def _named(entry: Entry) -> str:
    return f"adapter {entry.adapter[:16]}, version {entry.version}"
