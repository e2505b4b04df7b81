"""A person's wish to promote, where another program, the C service, learns and makes the blob.

It holds for one promotion: until the record changes, at most a day. The next hand-over lets the service promote, and
takes its decision into the record in the person's name; the conditions are those of the device.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from device_runtime.binder import bind
from device_runtime.errors import DeviceRuntimeError, StateError
from device_runtime.update import envelope_store
from device_runtime.update.adapt_hand import HINT
from device_runtime.update.adapt_mode import allowed
from device_runtime.update.disk import PosixDisk
from device_runtime.update.lifecycle import State
from device_runtime.update.sealed import seal, unseal
from device_runtime.update.service_health import ServiceLearning
from device_runtime.update.settings import DeviceConfig
from device_runtime.update.slots import Slots

ASKED = "asked"  # file in the state
MAX_SIZE = 8_192  # bytes
MAX_REASON = 1_000  # characters
MOST_SECONDS = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Who asked, why, when, and on which record."""

    who: str
    reason: str
    at: float  # seconds since 1970
    generation: int


def ask(config: DeviceConfig, slots: Slots, said: ServiceLearning, reason: str, *, who: str) -> None:
    """Leave word that what the service has proven may be promoted. Raises `StateError` where it would not be.

    Call it with the state locked.
    """
    envelope, why, _ = envelope_store.read(PosixDisk(config.state), config)
    may = allowed(config.adapt, envelope, why)
    if not may.may.promote:
        raise StateError(
            f"nothing may be promoted: the mode is {may.mode}{f': {may.why}' if may.why else ''}", hint=HINT
        )
    if config.adapt.promote != "hand":
        raise StateError('the service promotes by itself: promote is "device"', hint=HINT)
    if slots.record.state is State.TRIAL:
        raise StateError("an adapter is on trial", hint="ask again once it is confirmed or taken back")
    if said.learnt is None or said.learnt["verdict"] != "promote":
        found = said.learnt or {"evidence": 1.0, "evidence_wanted": may.rules.promote_evidence, "stays_judged": 0}
        raise StateError(
            f"the evidence is not enough: evidence {found['evidence']:g} of {found['evidence_wanted']:g} over "
            f"{found['stays_judged']} stays",
            hint=HINT,
        )
    asked = Asked(who=who, reason=reason[:MAX_REASON], at=slots.clock(), generation=slots.record.generation)
    disk = PosixDisk(config.state)
    disk.write(f".tmp-{ASKED}", seal(asdict(asked)))
    disk.rename(f".tmp-{ASKED}", ASKED)


def asked_now(slots: Slots) -> Asked | None:
    """Return the wish that holds now; None where there is none: a damaged one counts as none."""
    try:
        data = slots.disk.read(ASKED, MAX_SIZE)
        asked = None if data is None else bind(Asked, unseal(data, ASKED), "what was asked for", complete=True)
    except DeviceRuntimeError:
        return None
    if asked is None or asked.generation != slots.record.generation:
        return None
    return asked if 0 <= slots.clock() - asked.at <= MOST_SECONDS else None
