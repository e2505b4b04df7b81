"""The report on a monitor's learning: from its settings, its envelope, its record and the learner's file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from device_runtime.adapt.modes import Mode
from device_runtime.errors import DeviceRuntimeError
from device_runtime.update import envelope_store
from device_runtime.update.adapt_asked import asked_now
from device_runtime.update.adapt_mode import allowed
from device_runtime.update.adapting import FACTS, STEPS
from device_runtime.update.audit import read_lines
from device_runtime.update.disk import PosixDisk
from device_runtime.update.learner_store import Kept, read_kept
from device_runtime.update.notes import learning
from device_runtime.update.service_health import ServiceLearning, read_learning
from device_runtime.update.settings import DeviceConfig
from device_runtime.update.slots import Slots

DECISIONS = ("promote", "demote", "envelope", "withdraw", "forget")


def status_of(config: DeviceConfig, slots: Slots, health: Path | None = None) -> dict[str, Any]:
    """Return how far learning may go, what was learnt, and what runs of it.

    ``health`` is the health file of the C service, where that one learns. Raises what reading it raises.
    """
    disk = PosixDisk(config.state)
    envelope, problem, _ = envelope_store.read(disk, config)
    may = allowed(config.adapt, envelope, problem)
    kept, why = (None, "") if health else _kept(config)
    service = read_learning(health) if health else None
    asked = asked_now(slots)
    learnt = kept.body.get(FACTS) if kept else service.learnt if service else None
    note = learning(config.state)
    own = slots.record.own
    return {
        "device": config.device_id,
        "signal": config.signal,
        "set_to": config.adapt.mode.value,
        "mode": may.mode.value,
        "why": may.why,
        "envelope": None
        if envelope is None
        else {
            "sequence": envelope.sequence,
            "most": envelope.most.value,
            "enabled_by": list(envelope.enabled_by),
            "tensors": list(envelope.tensors),
            "evidence": envelope.evidence,
        },
        "own": None if own is None else {"adapter": own.adapter, "generation": own.sequence},
        "over": slots.record.current.adapter if slots.record.current else None,
        "asked": None if asked is None else {"who": asked.who, "reason": asked.reason},
        "learnt": dict(learnt) if isinstance(learnt, dict) else None,
        "written_today": kept.written if kept else 0,
        "problem": "; ".join(filter(None, (slots.problem, why, note.problem, *_problems(service, health, may.mode)))),
    }


def _problems(service: ServiceLearning | None, health: Path | None, mode: Mode) -> Iterator[str]:
    """Say what keeps the C service from learning as it should."""
    if health is None:
        return
    if service is None:
        yield f"no etsa-service that learns and runs now has written {health}"
        return
    yield service.problem
    if service.mode != mode:
        yield f"the service learns in mode {service.mode}: hand over, and let it read again"
    if service.decisions:
        yield f"decisions of the service that wait for the hand-over: {service.decisions}"


def _kept(config: DeviceConfig) -> tuple[Kept | None, str]:
    """Read what was learnt; None, and why, where it cannot be read."""
    try:
        return read_kept(PosixDisk(config.state)), ""
    except DeviceRuntimeError as error:
        return None, f"what was learnt cannot be used: {error}"


def decisions(slots: Slots) -> list[dict[str, Any]]:
    """Return the log's entries on learning, oldest first. Raises `ChecksumError` where the log's chain is broken."""
    return [line.body for line in read_lines(slots.audit.export()) if line.body.get("event") in DECISIONS]


def steps_of(config: DeviceConfig) -> list[dict[str, Any]]:
    """Return the last steps of learning, oldest first. Raises what reading the learner's file raises."""
    kept = read_kept(PosixDisk(config.state))
    steps = kept.body.get(STEPS) if kept else None
    wanted = {"number", "stay", "what", "windows", "losses", "evidence", "digest"}
    return (
        [step for step in steps if isinstance(step, dict) and step.keys() == wanted] if isinstance(steps, list) else []
    )
