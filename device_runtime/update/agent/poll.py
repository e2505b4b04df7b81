"""One poll of the update agent: read, decide, fetch, test, stage, perhaps begin the trial, report.

Invariants: nothing is installed unless the roll-out document and the approved role name the same bytes; the floor is
raised before anything that depends on it; an error does not change what runs, and is in the outcome with its code; a
revocation is obeyed before anything else in the repository. The device's lock is never held while waiting for the
network or a self-test; what was decided before is checked again afterwards.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from device_runtime.adapt.envelope import MAX_SIZE as MAX_ENVELOPE
from device_runtime.adapt.modes import Mode
from device_runtime.errors import (
    DeviceRuntimeError,
    FormatError,
    OfflineError,
    RollbackError,
    SettingsError,
    SignatureError,
    StorageError,
)
from device_runtime.faults import Fault, fault_of
from device_runtime.files import read_bounded
from device_runtime.update import envelope_store
from device_runtime.update.agent.fetch import Fetcher, fetcher_for
from device_runtime.update.agent.repository import Repository, StaleError
from device_runtime.update.cohort import takes_part
from device_runtime.update.floor import Floor
from device_runtime.update.install import Installer
from device_runtime.update.lifecycle import State, barred
from device_runtime.update.lock import LOCK_WAIT, locked
from device_runtime.update.notes import POLL, Polled, leave, polled
from device_runtime.update.report import report_on
from device_runtime.update.rollout import MAX_SIZE, Rollout, decode, nothing_target, rollout_target
from device_runtime.update.settings import DeviceConfig
from device_runtime.update.slots import MAX_FILE_SIZE, Slots, slots_of

ROOT_LIMIT = 16_384  # bytes
DEADLINE = 300.0  # seconds that the network may take in one poll
POLL_LOCK = "poll.lock"  # one agent at a time; the state's own lock is for changes


RUNNING, UP_TO_DATE = "a trial is running", "up to date"
HAS_IT = (RUNNING, UP_TO_DATE)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one poll did."""

    action: str  # nothing, staged, trial, rolled back, refused, failed
    reason: str = ""
    code: int = 0  # of the error, FORMAT.md §10
    sequence: int | None = None
    received: int = 0  # bytes of bodies
    report_failed: str = ""
    envelope: str = ""  # what became of the envelope of adaptation; empty: nothing


def next_poll(interval: float, failures: int, draw: Callable[[], float] = random.random) -> float:
    """Return seconds until the next poll: the interval with ±20 % jitter, doubled for each failure up to a day.

    Jitter keeps a thousand monitors that got power together from asking together.
    """
    return min(interval * float(1 << min(failures, 16)), 86_400.0) * (0.8 + 0.4 * draw())


class Agent:
    """Polls one repository for one device."""

    def __init__(
        self,
        config: DeviceConfig,
        installer: Installer[Any],
        *,
        fetcher: Fetcher | None = None,
        clock: Callable[[], float] = time.time,
        deadline: float = DEADLINE,
    ) -> None:
        self.config, self.installer, self.clock, self.deadline = config, installer, clock, deadline
        self._view_of_poll: Repository | None = None
        self._envelope = ""
        made, self.url = fetcher_for(config.repository)
        self.fetcher = fetcher or made

    def poll(self, *, activate_now: bool = False, who: str = "agent") -> Outcome:
        """Poll once; every `DeviceRuntimeError` becomes an outcome. ``activate_now`` overrides a manual policy.

        Whatever a server does, what is read of it takes at most ``deadline`` seconds, and the report a few more.
        """
        before = self.fetcher.received
        self.fetcher.begin(self.deadline)
        try:
            with locked(self.config.state, POLL_LOCK):
                action, reason, sequence = self._poll(activate_now, who)
            outcome: dict[str, Any] = {"action": action, "reason": reason, "sequence": sequence}
        except DeviceRuntimeError as error:
            refused = fault_of(error) in (Fault.SENDER, Fault.SETTINGS) and not isinstance(error, SettingsError)
            outcome = {"action": "refused" if refused else "failed", "reason": str(error), "code": error.code}
        except (OSError, MemoryError) as error:  # wherever a full or broken machine shows first
            problem = StorageError(f"this machine kept it from being read: {type(error).__name__}: {error}")
            outcome = {"action": "failed", "reason": str(problem), "code": problem.code}
        self._leave_note(outcome)
        outcome["envelope"] = self._envelope
        outcome["report_failed"] = self._report(int(outcome.get("code", 0)))
        return Outcome(received=self.fetcher.received - before, **outcome)

    def _leave_note(self, outcome: dict[str, Any]) -> None:
        """Record the time of this poll and what it read, for `status`."""
        before, now = polled(self.config.state), round(self.clock(), 3)
        problem = outcome["reason"] if "code" in outcome else ""
        view = self._view_of_poll
        read = view is not None and view.knows_revocations
        note = Polled(
            tried=now,
            good=before.good if problem else now,
            problem=problem,
            revocations_signed=view.floor.time if view and read else before.revocations_signed,
            expires=view.expires() if view and read else before.expires,
        )
        leave(self.config.state, POLL, note)

    @contextlib.contextmanager
    def _slots(self) -> Iterator[Slots]:
        """Open the device's state for a change."""
        with locked(self.config.state, wait=LOCK_WAIT):
            yield self._read()

    def _read(self) -> Slots:
        """Read the device's state: every file of it is replaced whole, so no lock is needed for that."""
        return slots_of(self.config, clock=self.clock)

    def _poll(self, activate_now: bool, who: str) -> tuple[str, str, int | None]:
        ring = self.config.ring
        floor, lost = self._floor()
        view = self._view_of_poll = self._view(floor)
        view.refresh()
        self._keep(view, lost)
        rollout, problem = self._rollout(view)
        found = None
        try:
            found = view.target(rollout.target if rollout else nothing_target(ring))
        except (OfflineError, SignatureError, StaleError) as error:  # not the floor's own refusal: an old copy
            if not view.knows_revocations:
                raise
            problem = problem or error  # a hash bin below the approved role
        self._keep(view, lost)
        revoked, minimum = view.revocations(ring)
        with self._slots() as slots:
            if slots.revoke(ring, revoked, minimum, who="publisher"):
                return "rolled back", "revoked by the publisher", rollout.sequence if rollout else None
            slots.expire(self.config.trial_days)
        if lost is None:
            self._envelope = self._look_for_envelope(view, who)
        if (first := lost or problem) is not None:
            raise first
        if rollout is None:
            return "nothing", f"nothing is rolled out on ring {ring}", None
        if rollout.signed_file in revoked or rollout.sequence < minimum:
            return "nothing", "what is rolled out was revoked", rollout.sequence
        target = _approved(rollout, found)
        with self._slots() as slots:
            slots.floor().check_sequence(ring, rollout.sequence, rollout.signed_file)
            with contextlib.suppress(StorageError):
                slots.reserve()
            answer = self._answer(slots, rollout)
        if answer:
            if answer in HAS_IT:
                self._mend(view, target)
            return "nothing", answer, rollout.sequence
        if not self._waits(rollout):
            self._stage(view.download(target, MAX_FILE_SIZE), rollout.sequence, who)
        return self._activate(rollout, activate_now, who)

    def _floor(self) -> tuple[Floor, StorageError | None]:
        """Read the floor; without one nothing is installed, and what is revoked is still taken back."""
        try:
            return self._read().floor(), None
        except StorageError as error:
            return Floor(), error

    def _view(self, floor: Floor) -> Repository:
        """Open the repository."""
        if self.config.root is None or not self.config.repository:
            raise SettingsError("update needs repository and root, the root.json installed at the factory")
        root = read_bounded(self.config.root, ROOT_LIMIT)
        return Repository(self.config.state / "tuf", self.url, self.fetcher, root, floor, now=self.clock())

    def _keep(self, view: Repository, lost: StorageError | None) -> None:
        """Make durable what was read, before anything depends on it."""
        if lost is not None:
            return
        with self._slots() as slots:
            slots.raise_floor(view.floor)

    def _look_for_envelope(self, view: Repository, who: str) -> str:
        """Take over the ring's envelope, or that there is none any more; return what was done, or what kept it.

        What is wrong with it keeps no adapter from being installed: the envelope that is here holds.
        """
        if self.config.adapt.mode is Mode.OFF:
            return ""
        try:
            target = view.target(envelope_store.envelope_target(self.config.ring))
            with self._slots() as slots:
                here = envelope_store.digest(slots.disk)
                if target is None:
                    if here is None:
                        return ""
                    slots.withdraw("the publisher withdrew the envelope", who="publisher")
                    return "withdrawn"
            if target.hashes.get("sha256") == here:
                return ""
            data = view.download(target, MAX_ENVELOPE)
            envelope = envelope_store.check(data, self.config, verifier=self.installer.verifier)
            with self._slots() as slots:
                slots.permit(data, envelope, who=who)
        except DeviceRuntimeError as error:
            return f"not taken: {error}"
        return f"accepted {envelope.sequence}, {envelope.most} at most"

    def _rollout(self, view: Repository) -> tuple[Rollout | None, DeviceRuntimeError | None]:
        """Read the ring's roll-out document; what is wrong with it must not keep a revocation from being read."""
        ring = self.config.ring
        try:
            found = view.target(rollout_target(ring))
            if found is None:
                return None, None
            rollout = decode(view.download(found, MAX_SIZE, keep="rollout.kept"))
            if rollout.channel != ring:
                return None, FormatError(f"roll-out of ring {rollout.channel}, want {ring}")
        except (FormatError, SignatureError, RollbackError, OfflineError) as error:
            return None, error
        return rollout, None

    def _answer(self, slots: Slots, rollout: Rollout) -> str:
        """Return why this device should not install what an acceptable roll-out offers; empty when it should."""
        sequence, record = rollout.sequence, slots.record
        if record.state is State.TRIAL and record.candidate and record.candidate.sequence >= sequence:
            return RUNNING
        if record.current and record.current.file == rollout.signed_file and record.current.sequence == sequence:
            return UP_TO_DATE
        if barred(record, sequence, self.installer.has):
            return f"sequence {sequence} failed here before"
        if rollout.halt:
            if record.state is State.STAGED and record.candidate and record.candidate.file == rollout.signed_file:
                slots.discard("the roll-out was halted", who="publisher")
            return "the roll-out is halted"
        groups = {"groups": rollout.groups, "own_groups": self.config.groups}
        if not takes_part(rollout.salt, slots.device_id, rollout.permille, **groups):
            return f"not among the first {rollout.permille} of 1000"
        return ""

    def _mend(self, view: Repository, target: Any) -> None:
        """Fetch again what is installed, where its slot has lost it."""
        slots = self._read()
        entry = slots.record.runs
        if entry is None or entry.file != target.hashes.get("sha256") or not slots.lacks(entry):
            return
        data = view.download(target, MAX_FILE_SIZE)
        with self._slots() as slots:
            if slots.record.runs == entry:
                slots.mend(data, entry)

    def _waits(self, rollout: Rollout, slots: Slots | None = None) -> bool:
        """Whether what is rolled out is staged."""
        record = (slots or self._read()).record
        candidate = record.candidate
        return (
            record.state is State.STAGED
            and candidate is not None
            and (candidate.file, candidate.sequence) == (rollout.signed_file, rollout.sequence)
        )

    def _stage(self, data: bytes, sequence: int, who: str) -> None:
        """Prove and stage; what fails by its own fault is not fetched again, what the machine kept from it is."""
        try:
            entry = self.installer.prove(self._read(), data, self.config.ring, sequence=sequence)
        except DeviceRuntimeError as error:
            failed_on = self.installer.failed_on(error)
            if failed_on is not None:
                with self._slots() as slots:
                    slots.refuse(sequence, str(error), failed_on=failed_on, who=who)
            raise
        with self._slots() as slots:
            slots.stage(data, entry, self.config.ring, who=who)

    def _activate(self, rollout: Rollout, activate_now: bool, who: str) -> tuple[str, str, int | None]:
        """Begin the trial, if the monitor's policy allows it now."""
        now = dt.datetime.fromtimestamp(self.clock()).astimezone()
        allowed, why = self.config.policy.allows(now)
        if not allowed and (self.config.policy.inhibited() or not activate_now):
            return "staged", why, rollout.sequence
        with self._slots() as slots:
            if not self._waits(rollout, slots):
                return "nothing", "somebody else changed what is staged", rollout.sequence
            slots.activate(who=who)
        return "trial", "", rollout.sequence

    def _report(self, code: int) -> str:
        """Send the status; a report that cannot be sent never changes an update."""
        return report_on(self.config, self._read(), self.installer.base_digest.hex(), code=code)


def _approved(rollout: Rollout, target: Any) -> Any:
    """Check that the approved role names the bytes and the sequence that are rolled out; return its target."""
    if target is None:
        raise SignatureError(f"{rollout.target} is rolled out but not approved")
    if target.hashes.get("sha256") != rollout.signed_file:
        raise SignatureError(f"{rollout.target}: roll-out and approval name different bytes")
    sequence = target.custom.get("sequence") if isinstance(target.custom, dict) else None
    if type(sequence) is not int or sequence != rollout.sequence:
        raise SignatureError(f"{rollout.target}: rolled out as {rollout.sequence}, approved as {sequence}")
    return target
