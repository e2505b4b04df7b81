"""Learning again from a recorded feed, to check that a monitor did what its log says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from device_runtime.adapt.learner import Learner, Stay
from device_runtime.errors import StateError
from device_runtime.update import envelope_store
from device_runtime.update.adapt_mode import allowed
from device_runtime.update.adapt_report import steps_of
from device_runtime.update.disk import PosixDisk
from device_runtime.update.settings import DeviceConfig
from device_runtime.update.slots import Slots
from device_runtime.update.workshop import Workshop

# What of a step depends on what was promoted meanwhile, which a replay does not know.
DEPENDS = ("losses", "evidence")


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What a replay found."""

    stays: int
    steps: int  # that the replay took
    compared: int  # of them, those that the monitor has kept
    first_difference: int | None  # number of the first step that differs

    @property
    def said(self) -> str:
        """Format it for people."""
        if not self.compared:
            return f"{self.steps} steps from {self.stays} stays; the monitor has kept none of them to compare with"
        if self.first_difference is not None:
            return f"step {self.first_difference} differs, of {self.compared} compared"
        return f"{self.compared} steps are the same, of {self.steps} from {self.stays} stays"


def replay(config: DeviceConfig, slots: Slots, workshop: Workshop[object] | None, stays: Iterable[Stay]) -> Replayed:
    """Learn from ``stays`` by this monitor's rules and compare with its kept steps. Raises `StateError`."""
    envelope, why, _ = envelope_store.read(PosixDisk(config.state), config)
    may = allowed(config.adapt, envelope, why)
    if workshop is None or not may.may.learn:
        raise StateError(f"this monitor does not learn: the mode is {may.mode}", hint='set mode = "shadow" in [adapt]')
    current = slots.record.current
    learner = workshop.learner(
        slots.load(current) if current else None, may.rules, envelope.tensors if envelope else None
    )
    kept = {int(step["number"]): step for step in steps_of(config)}
    count, compared, first = 0, 0, None
    for stay in stays:
        count += 1
        for entry in _learnt(learner, stay):
            known = kept.get(entry["number"])
            if known is None or first is not None:
                continue
            compared += 1
            if any(known[name] != value for name, value in entry.items() if name not in DEPENDS):
                first = int(entry["number"])
    return Replayed(stays=count, steps=learner.numbered, compared=compared, first_difference=first)


def _learnt(learner: Learner, stay: Stay) -> list[dict[str, Any]]:
    """Learn from one stay; return the steps."""
    learner.finish(stay)
    learner.work()
    return [entry.to_value() for entry in learner.drain()]
