"""The only writer of device state: slots named by content, one state record, the floor, the audit log.

The record alone says what runs, and replacing it is the only commit point: it carries its own log entry. Order within
a change: slot, floor, record, then the log's file. A slot is never overwritten except to repair it; the bytes that will
be used are the bytes that are hashed. With a damaged record the base runs alone; nothing is guessed. A record that
cannot be read at the moment is left as it is. Space for record and floor is reserved before anything is installed, so
that rollback and revocation work on a full disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from device_runtime.adapt.envelope import Envelope
from device_runtime.errors import FormatError, LockedError, StateError, StorageError
from device_runtime.files import IrregularError
from device_runtime.format.envelope import MAX_SIGNATURES_SIZE
from device_runtime.format.layout import MAX_BLOB_SIZE
from device_runtime.update import audit as logs
from device_runtime.update import counter as counters
from device_runtime.update import disk as files
from device_runtime.update import envelope_store as envelopes
from device_runtime.update import floor as floors
from device_runtime.update import learner_store as learners
from device_runtime.update import lifecycle
from device_runtime.update.audit import Audit
from device_runtime.update.counter import Counter, NoCounter
from device_runtime.update.disk import Disk, PosixDisk
from device_runtime.update.floor import Floor
from device_runtime.update.lifecycle import Entry, Event, Record
from device_runtime.update.lock import locked
from device_runtime.update.sealed import seal, unseal
from device_runtime.update.settings import DeviceConfig

STATE = "state"
SLOTS = "slots"
MAX_STATE_SIZE = 16_384  # bytes
STATE_ROOM = 12_288  # bytes of the record's file, with the log entries that it carries: a size it keeps
MAX_FILE_SIZE = MAX_BLOB_SIZE + MAX_SIGNATURES_SIZE
TRIES = 3
CARRIED = "log"  # the record's file: the log entries behind the record's own fields


class Slots:
    """Device state on one disk. Not safe to share between processes without `locked`."""

    def __init__(
        self,
        disk: Disk,
        *,
        device_id: str,
        tries: int = TRIES,
        clock: Callable[[], float] = time.time,
        counter: Counter | None = None,
    ) -> None:
        self.disk, self.device_id, self.tries, self.clock = disk, device_id, tries, clock
        self.counter = counter or NoCounter()
        self.damaged = ""  # why the record is not what was written: then the base alone runs
        self.unreadable = ""  # why the record cannot be read now: then nothing may be changed either
        self.unlocked = ""  # why the lock cannot be had: then nothing may be changed
        self.fresh = False  # no change was ever committed here
        self.record, self.audit = Record(), Audit(disk)
        try:
            data = disk.read(STATE, MAX_STATE_SIZE)
            self.fresh = data is None
            if data is not None:
                self.record, self.audit = _decode(disk, data)
        except (FormatError, IrregularError) as error:
            self.damaged = str(error)
            generation = max(self.audit.last_generation() + 1, 0)
            self.record = Record(generation=generation, reason="the state record was damaged")
        except StorageError as error:
            self.unreadable = str(error)
            self.record = Record(reason="the state record cannot be read now")
        self._highest = self.record.generation  # ever tried: a number is never given to two changes

    @property
    def problem(self) -> str:
        """Why the record is not what was last written; empty if it is."""
        return self.damaged or self.unreadable

    # --- reading -------------------------------------------------------------------------------------------------

    def floor(self) -> Floor:
        """Read the floor. Raises `StorageError` when it is lost: then nothing may be installed."""
        return floors.read(self.disk, fresh=self.fresh)

    def check_counter(self) -> None:
        """Refuse a state folder that is an old copy. Raises `StorageError`."""
        if isinstance(self.counter, NoCounter):
            return
        counters.check(self.counter, self.floor().number)

    def load(self, entry: Entry) -> bytes:
        """Read a slot whole and check that it is what its name says. Raises `StorageError`.

        Bytes that changed on this disk are this machine's fault, not the signer's.
        """
        try:
            data = self.disk.read(f"{SLOTS}/{entry.file}", MAX_FILE_SIZE)
        except FormatError as error:
            raise StorageError(
                f"adapter {entry.adapter[:16]}: its signed file {entry.file[:16]} is damaged: {error}"
            ) from error
        if data is None:
            raise StorageError(f"adapter {entry.adapter[:16]}: its signed file {entry.file[:16]} is not in its slot")
        if hashlib.sha256(data).hexdigest() != entry.file:
            raise StorageError(f"adapter {entry.adapter[:16]}: its signed file {entry.file[:16]} is damaged")
        return data

    def lacks(self, entry: Entry) -> bool:
        """Whether a slot must be filled again: it is missing, or has other bytes."""
        try:
            data = self.disk.read(f"{SLOTS}/{entry.file}", MAX_FILE_SIZE)
        except (FormatError, IrregularError):
            return True
        return data is None or hashlib.sha256(data).hexdigest() != entry.file

    # --- changes -------------------------------------------------------------------------------------------------

    def reserve(self) -> None:
        """Hold the room that taking an adapter back needs on a full disk. Raises `StorageError` when there is none."""
        files.reserve(self.disk, STATE, STATE_ROOM)
        floors.reserve(self.disk, self.floor())

    def raise_floor(self, floor: Floor, *, past: int = 0) -> None:
        """Make a floor durable, joined with the one that is there: nothing another process raised is lost.

        ``past`` is the counter's number, where what it missed has been read again. Raises `StorageError`.
        """
        known = self.floor()
        joined = known.joined(floor)
        if self.fresh or joined != known or past > known.number:
            joined = replace(joined, number=max(known.number, past) + 1)
            floors.write(self.disk, joined)
        with contextlib.suppress(StorageError):  # the floor is there; the counter follows at the next write
            if joined.number > self.counter.read():
                self.counter.raise_to(joined.number)

    def mend(self, data: bytes, entry: Entry) -> None:
        """Put the right bytes back into a slot that lost them. Raises `StorageError`."""
        self._fill(data, entry)

    def _fill(self, data: bytes, entry: Entry) -> None:
        """Write a slot durably, unless it holds these bytes."""
        if hashlib.sha256(data).hexdigest() != entry.file:
            raise FormatError(f"adapter {entry.adapter[:16]}: the bytes are not those of signed file {entry.file[:16]}")
        if self.lacks(entry):
            files.replace(self.disk, f"{SLOTS}/{entry.file}", data)
            self.disk.sync_folder("")  # the slots' folder may be new

    def stage(self, data: bytes, entry: Entry, ring: str, *, who: str) -> None:
        """Put a verified and tested adapter into its slot; the running one continues.

        Raises `RollbackError` below the floor, `StorageError` when it cannot be written.
        """
        floor = self.floor().accept_sequence(ring, entry.sequence, entry.file)
        record = lifecycle.step(self.record, Event.STAGE, candidate=entry)
        self._check_writable()
        self.reserve()
        self._fill(data, entry)
        self.raise_floor(floor)
        self._commit(record, "stage", who)

    def discard(self, reason: str, *, failed: bool = False, who: str) -> None:
        """Drop a staged candidate."""
        self._commit(lifecycle.give_up_candidate(self.record, failed=failed, reason=reason), "discard", who)

    def activate(self, *, who: str) -> None:
        """Try the staged candidate from the next start on."""
        record = lifecycle.step(self.record, Event.ACTIVATE, tries=self.tries, since=max(self.clock(), 1.0))
        self._commit(record, "activate", who)

    def count_start(self) -> None:
        """Take one try from the trial, durably, before the adapter is loaded."""
        self._commit(lifecycle.step(self.record, Event.START, reason=self.record.reason), "start", "device")

    def spare_start(self, reason: str) -> None:
        """Give a try back: the machine kept the adapter from being tried."""
        self._commit(lifecycle.step(self.record, Event.SPARE, reason=reason), "spare", "device")

    def expire(self, days: float) -> bool:
        """End a trial that began more than ``days`` ago by the monitor's clock; return whether there was one.

        The adapter is not barred: nothing was found against it. A trial without a date (of an older release) gets none.
        """
        record = self.record
        if record.state is not lifecycle.State.TRIAL or not record.since:
            return False
        if self.clock() - record.since <= days * 86_400:
            return False
        self._commit(lifecycle.expire(record, reason=f"nobody ended the trial in {days:g} days"), "expire", "device")
        return True

    def confirm(self, reason: str, *, who: str) -> None:
        """Trust the adapter on trial."""
        self._commit(lifecycle.step(self.record, Event.CONFIRM, reason=reason), "confirm", who)

    def fall_back(self, reason: str, *, who: str) -> None:
        """Roll back: to the parent of an own adapter, the confirmed one, the previous one, or the base."""
        if self.record.runs_own:
            self.demote(reason, who=who)
            return
        self._commit(lifecycle.fall_back(self.record, reason=reason), "roll back", who)

    def promote(self, data: bytes, entry: Entry, *, over: str | None, reason: str, who: str, **facts: object) -> None:
        """Let a tested adapter that was learnt here run instead of its parent.

        ``over`` is that adapter's SHA-256, hex, None for the base; ``facts`` go into the log. Raises `StateError` where
        something else is installed by now, `StorageError` when it cannot be written.
        """
        current = self.record.current
        if (current.adapter if current else None) != over:
            raise StateError("another adapter was installed meanwhile: what was learnt is not based on it")
        record = lifecycle.step(self.record, Event.PROMOTE, own=entry, reason=reason)
        self._check_writable()
        self.reserve()
        self._fill(data, entry)
        if self.fresh:
            self.raise_floor(self.floor())  # a record without a floor would block every install
        self._commit(record, "promote", who, adapter=entry.adapter, version=entry.version, sequence=entry.sequence,
                     over=over, **facts)  # fmt: skip

    def demote(self, reason: str, *, who: str, **facts: object) -> None:
        """Demote what was learnt here; its parent runs again. Raises `StateError` if there is nothing."""
        record, own = lifecycle.step(self.record, Event.DEMOTE, reason=reason), self.record.own
        assert own is not None
        named = {"adapter": own.adapter, "version": own.version, "sequence": own.sequence}
        self._commit(record, "demote", who, **named, **facts)

    def permit(self, data: bytes, envelope: Envelope, *, who: str) -> None:
        """Take an envelope that was checked: what this monitor may learn from now on.

        Raises `RollbackError` for one that is older than what was accepted, or revoked, `StorageError`.
        """
        floor = envelopes.accepted(self.floor(), envelope, data)
        self._check_writable()
        self.reserve()
        self.raise_floor(floor)
        envelopes.write(self.disk, data)
        self._noted("envelope", f"envelope {envelope.sequence} allows {envelope.most}", who, sequence=envelope.sequence)

    def withdraw(self, reason: str, *, who: str) -> None:
        """Remove the envelope: without one nothing that was learnt forecasts. Raises `StorageError`."""
        self._check_writable()
        envelopes.withdraw(self.disk)
        self._noted("withdraw", reason, who)

    def forget_learnt(self, reason: str, *, who: str) -> None:
        """Take back what was learnt, where it runs, and forget it. Raises `StorageError`."""
        self._check_writable()
        if self.record.own is not None:
            self.demote(reason, who=who)
        learners.forget(self.disk, self.clock())
        self._noted("forget", reason, who)

    def _noted(self, event: str, reason: str, who: str, **facts: object) -> None:
        """Commit a change beside the record, so that it is in the log and the process that forecasts takes it over."""
        record = replace(self.record, generation=self.record.generation + 1, reason=reason)
        self._commit(record, event, who, **facts)

    def refuse(self, sequence: int, reason: str, *, failed_on: str = "", who: str) -> None:
        """Remember that a sequence failed its checks here, so that it is not fetched again at every poll.

        ``failed_on`` says with what it failed, where it may be tried again with another (`Installer.failed_on`).
        """
        record = lifecycle.bar(self.record, sequence, failed_on=failed_on)
        record = replace(record, generation=record.generation + 1, reason=reason)
        self._commit(record, "refuse", who, sequence=sequence)

    def note_drift(self, adapter: str | None, figures: str) -> None:
        """Log that a forecaster's drift flag has risen: nothing else follows from it."""
        record = replace(self.record, generation=self.record.generation + 1)
        self._commit(record, "drift", "device", drifts=adapter, figures=figures)

    def revoke(self, ring: str, revoked: Collection[str], minimum: int, *, who: str) -> bool:
        """Raise the floor by revocations and drop what they hit; return whether what runs has changed.

        A floor that is lost, has no room for them or cannot be written, does not keep what they hit: the record is
        changed all the same, then `StorageError` is raised.
        """
        problem: StorageError | None = None
        try:
            floor = self.floor().accept_revocations(ring, revoked, minimum)
            with contextlib.suppress(StorageError):
                floors.reserve(self.disk, floor)
            self.raise_floor(floor, past=self._counted())
        except StorageError as error:
            problem = error
        before = self.record
        after = lifecycle.revoke(before, revoked, below=minimum)
        if after != before:
            self._commit(after, "revoke", who)
        if problem is not None:
            raise problem
        return after.runs != before.runs

    def _counted(self) -> int:
        """Return the counter's number; 0 where it cannot be read, which `check_counter` says."""
        with contextlib.suppress(StorageError):
            return self.counter.read()
        return 0

    def _check_writable(self) -> None:
        """Refuse to write over what cannot be read or locked now. Raises `StorageError`."""
        if why := self.unreadable or self.unlocked:
            raise StorageError(f"nothing is changed while the state cannot be read or locked: {why}")

    def _commit(self, record: Record, event: str, who: str, **facts: object) -> None:
        """Make a change, with its entry in the log; then write the log's file and remove what is not needed any more.

        Raises `StorageError`; then nothing was changed, and nothing logged.
        """
        self._check_writable()
        with contextlib.suppress(StorageError):  # what was owed to the log, where there is room again
            self.audit.flush()
        generation = max(record.generation, self._highest + 1)
        record = replace(record, generation=generation, reason=logs.short(record.reason))
        touched = self.record.candidate or record.candidate or self.record.current
        if touched:
            facts = {"adapter": touched.adapter, "version": touched.version, "sequence": touched.sequence, **facts}
        line = self.audit.entry(
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
        carried = self.audit.with_entry(line)
        value = {**lifecycle.to_value(record), CARRIED: logs.to_value(carried)}
        self._highest = generation
        files.replace_in_reserve(self.disk, STATE, seal(value, room=STATE_ROOM))
        self.record, self.damaged, self.fresh = record, "", False
        self.audit.carried = carried
        with contextlib.suppress(StorageError):  # the change is made: the entry is owed
            self.audit.flush()
        # What the record no longer names is garbage; a cut here only leaves some for the next time.
        with contextlib.suppress(StorageError):
            for name in self.disk.names(SLOTS):
                if name not in record.slots:
                    self.disk.unlink(f"{SLOTS}/{name}")


def slots_of(config: DeviceConfig, *, clock: Callable[[], float] = time.time) -> Slots:
    """Read a device's record, with its settings' counter."""
    return Slots(
        PosixDisk(config.state),
        device_id=config.device_id,
        clock=clock,
        counter=counters.counter_for(config.counter, config.state),
    )


@contextlib.contextmanager
def locked_slots(config: DeviceConfig, *, wait: float = 0.0) -> Iterator[Slots]:
    """Open a device's state, locked; without a lock, as on a read-only disk, it is only read.

    Raises `LockedError` when another process holds it for more than ``wait`` seconds.
    """
    with contextlib.ExitStack() as stack:
        unlocked = ""
        try:
            stack.enter_context(locked(config.state, wait=wait))
        except LockedError:
            raise
        except StorageError as error:
            unlocked = str(error)
        slots = slots_of(config)
        slots.unlocked = unlocked
        yield slots


def _decode(disk: Disk, data: bytes) -> tuple[Record, Audit]:
    """Decode the record's file. Raises `FormatError`."""
    value = unseal(data, STATE)
    if not isinstance(value, dict):
        raise FormatError(f"state record: want an object, got {type(value).__name__}")
    carried = logs.from_value(value.pop(CARRIED, []))
    return lifecycle.from_value(value), Audit(disk, carried)
