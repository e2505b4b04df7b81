"""The only writer of device state: slots named by content, one state record, the floor, the audit log.

The record alone says what runs, and replacing it is the only commit point. Order within a change: slot, floor, audit,
record. A slot is never overwritten; the bytes that will be used are the bytes that are hashed. A record that cannot be
read means the base alone, never a guess.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from device_runtime import disk as files
from device_runtime import floor as floors
from device_runtime import lifecycle
from device_runtime.audit import Audit
from device_runtime.disk import Disk
from device_runtime.errors import (
    ChecksumError,
    DeviceRuntimeError,
    FormatError,
    LockedError,
    StorageError,
)
from device_runtime.floor import Floor
from device_runtime.forecaster import MAX_SIGNATURES_SIZE
from device_runtime.layout import MAX_BLOB_SIZE
from device_runtime.lifecycle import Entry, Event, Record
from device_runtime.sealed import seal, unseal

STATE = "state"
SLOTS = "slots"
MAX_STATE_SIZE = 16_384  # bytes
MAX_FILE_SIZE = MAX_BLOB_SIZE + MAX_SIGNATURES_SIZE
TRIES = 3
STATE_LOCK = "lock"
LOCK_WAIT = 10.0  # seconds a command waits for another one to finish its change


@contextlib.contextmanager
def locked(root: Path, name: str = STATE_LOCK, *, wait: float = 0.0) -> Iterator[None]:
    """Hold the device's one lock, for as long as a change takes and never while a network is waited for.

    ``name`` is another one for polls, so that two agents do not fetch the same. Raises `LockedError` when another
    process holds it for more than ``wait`` seconds.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = os.open(root / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    except OSError as error:
        raise StorageError(f"cannot open {root / name}: {error.strerror or error}") from error
    try:
        _take(handle, root, time.monotonic() + wait)
        yield
    finally:
        os.close(handle)


def _take(handle: int, root: Path, until: float) -> None:
    """Lock an open file, trying until the monotonic time ``until``. Raises `LockedError`."""
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if time.monotonic() >= until:
                raise LockedError(
                    f"{root} is in use by another process", hint="try again when it has finished"
                ) from error
            time.sleep(0.02)
        else:
            return


class Slots:
    """Device state on one disk. Not safe to share between processes without `locked`."""

    def __init__(
        self, disk: Disk, *, device_id: str, tries: int = TRIES, clock: Callable[[], float] = time.time
    ) -> None:
        self.disk, self.device_id, self.tries, self.clock = disk, device_id, tries, clock
        self.damaged = ""  # why the record could not be read
        try:
            data = disk.read(STATE, MAX_STATE_SIZE)
            self.record = lifecycle.from_value(unseal(data, STATE)) if data is not None else Record()
        except DeviceRuntimeError as error:
            self.damaged = str(error)
            self.record = Record(reason="the state record was damaged")
            data = b""
        self.fresh = data is None  # no change was ever committed here
        self.audit = Audit(disk)

    # --- reading -------------------------------------------------------------------------------------------------

    def floor(self) -> Floor:
        """Read the floor. Raises `StorageError` when it is lost: then nothing may be installed."""
        return floors.read(self.disk, fresh=self.fresh)

    def load(self, entry: Entry) -> bytes:
        """Read a slot whole and check that it is what its name says. Raises `StorageError`, `ChecksumError`."""
        data = self.disk.read(f"{SLOTS}/{entry.file}", MAX_FILE_SIZE)
        if data is None:
            raise StorageError(f"adapter {entry.adapter[:16]}: its signed file {entry.file[:16]} is not in its slot")
        if hashlib.sha256(data).hexdigest() != entry.file:
            raise ChecksumError(f"adapter {entry.adapter[:16]}: its signed file {entry.file[:16]} is damaged")
        return data

    # --- changes -------------------------------------------------------------------------------------------------

    def raise_floor(self, floor: Floor) -> None:
        """Make a floor durable, joined with the one that is there: nothing another process raised is lost."""
        known = self.floor()
        joined = known.joined(floor)
        if self.fresh or joined != known:
            floors.write(self.disk, joined)

    def stage(self, data: bytes, entry: Entry, channel: str, *, who: str) -> None:
        """Put a verified and proven adapter into its slot; what runs goes on.

        Raises `RollbackError` below the floor, `StorageError` when it cannot be written.
        """
        if hashlib.sha256(data).hexdigest() != entry.file:
            raise FormatError(f"adapter {entry.adapter[:16]}: the bytes are not those of signed file {entry.file[:16]}")
        floor = self.floor().accept_sequence(channel, entry.sequence, entry.file)
        record = lifecycle.step(self.record, Event.STAGE, candidate=entry)
        name = f"{SLOTS}/{entry.file}"
        if self.disk.read(name, MAX_FILE_SIZE) != data:
            files.replace(self.disk, name, data)
            self.disk.sync_folder("")  # the slots' folder may be new
        self.raise_floor(floor)
        self._commit(record, "stage", who)

    def discard(self, reason: str, *, failed: bool = False, who: str) -> None:
        """Drop a staged candidate."""
        self._commit(lifecycle.give_up_candidate(self.record, failed=failed, reason=reason), "discard", who)

    def activate(self, *, who: str) -> None:
        """Try the staged candidate from the next start on."""
        self._commit(lifecycle.step(self.record, Event.ACTIVATE, tries=self.tries), "activate", who)

    def count_start(self) -> None:
        """Take one try from the trial, durably, before the adapter is loaded."""
        self._commit(lifecycle.step(self.record, Event.START, reason=self.record.reason), "start", "device")

    def confirm(self, reason: str, *, who: str) -> None:
        """Trust the adapter on trial."""
        self._commit(lifecycle.step(self.record, Event.CONFIRM, reason=reason), "confirm", who)

    def fall_back(self, reason: str, *, who: str) -> None:
        """Take back what runs: to the confirmed adapter, the previous one, or the base."""
        self._commit(lifecycle.fall_back(self.record, reason=reason), "roll back", who)

    def refuse(self, sequence: int, reason: str, *, who: str) -> None:
        """Remember that a sequence failed its checks here, so that it is not fetched again at every poll."""
        value = {**lifecycle.to_value(self.record), "failed_sequence": max(sequence, self.record.failed_sequence)}
        record = lifecycle.from_value({**value, "generation": self.record.generation + 1, "reason": reason})
        self._commit(record, "refuse", who, sequence=sequence)

    def revoke(self, channel: str, revoked: Collection[str], minimum: int, *, who: str) -> bool:
        """Raise the floor by revocations and drop what they hit; return whether what runs has changed.

        A floor that has no room for them, or cannot be written, does not keep what they hit: the record is changed all
        the same, then `StorageError` is raised.
        """
        floor = self.floor()
        problem: StorageError | None = None
        try:
            self.raise_floor(floor.accept_revocations(channel, revoked, minimum))
        except StorageError as error:
            problem = error
        before = self.record
        after = lifecycle.revoke(before, revoked, below=minimum)
        if after != before:
            self._commit(after, "revoke", who)
        if problem is not None:
            raise problem
        return after.runs != before.runs

    def _commit(self, record: Record, event: str, who: str, **facts: object) -> None:
        """Announce a change in the log, then make it; then remove what it no longer needs."""
        touched = self.record.candidate or record.candidate or self.record.current
        if touched:
            facts = {"adapter": touched.adapter, "version": touched.version, "sequence": touched.sequence, **facts}
        self.audit.append(
            event,
            device=self.device_id,
            at=round(self.clock(), 3),
            uptime=round(time.monotonic(), 3),
            who=who,
            reason=record.reason,
            generation=record.generation,
            state=record.state.value,
            runs=record.runs.adapter if record.runs else None,
            **facts,
        )
        files.replace(self.disk, STATE, seal(lifecycle.to_value(record)))
        self.record, self.damaged, self.fresh = record, "", False
        # What the record no longer names is garbage; a cut here only leaves some for the next time.
        for name in self.disk.names(SLOTS):
            if name not in record.slots:
                self.disk.unlink(f"{SLOTS}/{name}")
