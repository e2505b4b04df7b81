"""Manual promotion: under the same conditions as by the device, but at a person's decision."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from device_runtime.adapt.bets import Proposal
from device_runtime.adapt.learner import Learner
from device_runtime.errors import StateError
from device_runtime.update import envelope_store
from device_runtime.update.adapt_facts import facts_of
from device_runtime.update.adapt_mode import allowed
from device_runtime.update.adapting import FACTS, LEARNT
from device_runtime.update.disk import PosixDisk
from device_runtime.update.learner_store import read_kept
from device_runtime.update.lifecycle import Entry
from device_runtime.update.settings import DeviceConfig
from device_runtime.update.slots import Slots
from device_runtime.update.workshop import Workshop

HINT = "edge-tsfm-device adapt status says what is missing"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A proven blob of what was learnt, and what it is promoted by."""

    blob: bytes
    entry: Entry
    over: str | None  # SHA-256 of the parent adapter, hex; None: the base
    facts: dict[str, Any]

    def promote(self, slots: Slots, reason: str, *, who: str) -> None:
        """Let it forecast. Raises `StateError` if something else has been installed meanwhile."""
        slots.promote(self.blob, self.entry, over=self.over, reason=reason, who=who, learnt=self.facts)


def prepare(config: DeviceConfig, slots: Slots, workshop: Workshop[object] | None) -> Prepared:
    """Make a proven blob of what the learner's file holds. Raises `StateError` where the conditions are not met."""
    envelope, why, _ = envelope_store.read(PosixDisk(config.state), config)
    may = allowed(config.adapt, envelope, why)
    if workshop is None or envelope is None or not may.may.promote:
        raise StateError(
            f"nothing may be promoted: the mode is {may.mode}{f': {may.why}' if may.why else ''}", hint=HINT
        )
    kept = read_kept(PosixDisk(config.state))
    current = slots.record.current
    over = current.adapter if current else None
    if kept is None or not kept.body or kept.subject.parent != (over or ""):
        raise StateError(
            "nothing was learnt on the installed adapter", hint=f"{HINT}; where etsa-service learns: --health"
        )
    parent = slots.load(current) if current else None
    learner: Learner = workshop.learner(parent, may.rules, envelope.tensors)
    learner.restore(kept.body.get(LEARNT))
    facts = kept.body.get(FACTS)
    if learner.proposal is not Proposal.PROMOTE:
        said = facts_of(learner)
        raise StateError(
            f"the evidence is not enough: evidence {said['evidence']:g} of {said['evidence_wanted']:g} over "
            f"{said['stays_judged']} stays",
            hint=HINT,
        )
    generation = slots.record.generation + 1
    made = workshop.make(parent, learner.shift, generation=generation, envelope=envelope)
    digest = hashlib.sha256(made.blob).hexdigest()
    return Prepared(
        blob=made.blob,
        entry=Entry(file=digest, adapter=digest, version=made.version, sequence=generation),
        over=over,
        facts=dict(facts) if isinstance(facts, dict) else facts_of(learner),
    )
