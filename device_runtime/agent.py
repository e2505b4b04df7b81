"""One poll of the update agent: read, decide, fetch, prove, stage, perhaps begin the trial, report.

Invariants: the roll-out document and the approved role name the same bytes, or nothing is installed; the floor is
raised before anything that depends on it; an error leaves what runs untouched and is in the outcome with its code; a
revocation is obeyed before anything else the repository says.
"""

from __future__ import annotations

import datetime as dt
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from device_runtime.agent_fetch import Fetcher, fetcher_for
from device_runtime.agent_repository import Repository
from device_runtime.cohort import takes_part
from device_runtime.device_config import DeviceConfig
from device_runtime.errors import DeviceRuntimeError, FormatError, SignatureError, StorageError
from device_runtime.files import read_bounded
from device_runtime.install import Installer
from device_runtime.lifecycle import State
from device_runtime.report import report_of, send
from device_runtime.rollout import MAX_SIZE, Rollout, decode, rollout_target
from device_runtime.slots import MAX_FILE_SIZE, Slots

ROOT_LIMIT = 16_384  # bytes


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one poll did."""

    action: str  # nothing, staged, trial, rolled back, refused, failed
    reason: str = ""
    code: int = 0  # of the error, FORMAT.md §10
    sequence: int | None = None
    received: int = 0  # bytes of bodies
    report_failed: str = ""


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
        slots: Slots,
        installer: Installer,
        *,
        fetcher: Fetcher | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.config, self.slots, self.installer, self.clock = config, slots, installer, clock
        made, self.url = fetcher_for(config.repository)
        self.fetcher = fetcher or made

    def poll(self, *, activate_now: bool = False, who: str = "agent") -> Outcome:
        """Poll once; every `DeviceRuntimeError` becomes an outcome. ``activate_now`` overrides a manual policy."""
        before = self.fetcher.received
        try:
            action, reason, sequence = self._poll(activate_now, who)
            outcome: dict[str, Any] = {"action": action, "reason": reason, "sequence": sequence}
        except DeviceRuntimeError as error:
            refused = 100 <= error.code < 400
            outcome = {"action": "refused" if refused else "failed", "reason": str(error), "code": error.code}
        outcome["report_failed"] = self._report(int(outcome.get("code", 0)))
        return Outcome(received=self.fetcher.received - before, **outcome)

    def _poll(self, activate_now: bool, who: str) -> tuple[str, str, int | None]:
        channel, slots = self.config.channel, self.slots
        if self.config.root is None:
            raise FormatError("no root: a device needs the factory's root.json to trust a repository")
        root = read_bounded(self.config.root, ROOT_LIMIT)
        floor = slots.floor()
        repository = Repository(self.config.state / "tuf", self.url, self.fetcher, root, floor, now=self.clock())
        slots.raise_floor(repository.refresh())
        rollout = self._rollout(repository)
        if rollout is None:
            return "nothing", f"nothing is rolled out on channel {channel}", None
        found = repository.target(rollout.target)
        if found is None:
            raise SignatureError(f"{rollout.target} is rolled out but not approved")
        target, floor = found
        slots.raise_floor(floor)
        custom = _custom(target.custom, rollout)
        if target.hashes.get("sha256") != rollout.adapter:
            raise SignatureError(f"{rollout.target}: roll-out and approval name different bytes")
        if slots.revoke(channel, custom["revoked"], custom["security_minimum"], who="publisher"):
            return "rolled back", "revoked by the publisher", rollout.sequence
        slots.floor().check_sequence(channel, rollout.sequence, rollout.adapter)
        return self._follow(repository, rollout, target, activate_now, who)

    def _rollout(self, repository: Repository) -> Rollout | None:
        """Read the channel's roll-out document."""
        found = repository.target(rollout_target(self.config.channel))
        if found is None:
            return None
        self.slots.raise_floor(found[1])
        rollout = decode(repository.download(found[0], MAX_SIZE, keep="rollout.kept"))
        if rollout.channel != self.config.channel:
            raise FormatError(f"roll-out of channel {rollout.channel}, want {self.config.channel}")
        return rollout

    def _follow(
        self, repository: Repository, rollout: Rollout, target: Any, activate_now: bool, who: str
    ) -> tuple[str, str, int | None]:
        """Do what an acceptable roll-out asks of this device."""
        slots, sequence = self.slots, rollout.sequence
        record = slots.record
        if record.state is State.TRIAL:
            return "nothing", "a trial is running", sequence
        if record.current and record.current.file == rollout.adapter and record.current.sequence == sequence:
            return "nothing", "up to date", sequence
        if sequence <= record.failed_sequence:
            return "nothing", f"sequence {sequence} failed here before", sequence
        if rollout.halt:
            if record.candidate and record.candidate.file == rollout.adapter:
                slots.discard("the roll-out was halted", who="publisher")
            return "nothing", "the roll-out is halted", sequence
        groups = {"groups": rollout.groups, "own_groups": self.config.groups}
        if not takes_part(rollout.salt, slots.device_id, rollout.permille, **groups):
            return "nothing", f"not among the first {rollout.permille} of 1000", sequence
        if not (record.candidate and record.candidate.file == rollout.adapter):
            self._stage(repository.download(target, MAX_FILE_SIZE), sequence, who)
        now = dt.datetime.fromtimestamp(self.clock()).astimezone()
        allowed, why = self.config.policy.allows(now)
        inhibited = self.config.policy.inhibit_file is not None and self.config.policy.inhibit_file.exists()
        if not allowed and (inhibited or not activate_now):
            return "staged", why, sequence
        slots.activate(who=who)
        return "trial", "", sequence

    def _stage(self, data: bytes, sequence: int, who: str) -> None:
        """Prove and stage; what fails for good is not fetched again."""
        try:
            self.installer.install(self.slots, data, self.config.channel, sequence=sequence, who=who)
        except StorageError:
            raise  # a full disk mends itself
        except DeviceRuntimeError as error:
            self.slots.refuse(sequence, str(error), who=who)
            raise

    def _report(self, code: int) -> str:
        """Send the status; a report that cannot be sent never changes an update."""
        if not self.config.report_to:
            return ""
        try:
            token = read_bounded(self.config.report_token, 4_096).decode().strip() if self.config.report_token else ""
            base = self.installer.base_digest.hex()
            send(
                report_of(self.slots, channel=self.config.channel, base=base, code=code),
                self.config.report_to,
                token=token,
            )
        except DeviceRuntimeError as error:
            return str(error)
        return ""


def _custom(custom: Any, rollout: Rollout) -> dict[str, Any]:
    """Check what the approval says about its target against the roll-out."""
    fields = {"sequence": int, "revoked": list, "security_minimum": int}
    if not isinstance(custom, dict) or any(type(custom.get(name)) is not kind for name, kind in fields.items()):
        raise SignatureError(f"{rollout.target}: the approval's custom fields are not {', '.join(fields)}")
    if custom["sequence"] != rollout.sequence:
        raise SignatureError(f"{rollout.target}: rolled out as {rollout.sequence}, approved as {custom['sequence']}")
    return custom
