"""What a monitor learnt itself, in the record and at a start: it stands on what is installed, and goes with it."""

from __future__ import annotations

import pytest

from device_runtime.errors import SelfTestError, StateError, StorageError
from device_runtime.update import lifecycle
from device_runtime.update.lifecycle import Event, Record, State
from device_runtime.update.start import start
from tests.device_runtime.update.test_slots_power_cut import (
    FILES,
    confirmed,
    entry,
    open_adapter,
    open_own,
    promote,
    slots_on,
)
from tests.simulators.disk import MemoryDisk


def test_a_record_without_what_was_learnt_is_written_as_before_there_was_any() -> None:
    record = Record(state=State.CONFIRMED, current=entry(0), previous=entry(1), generation=7)
    assert "own" not in lifecycle.to_value(record)
    assert lifecycle.from_value(lifecycle.to_value(record)) == record
    learnt = lifecycle.step(record, Event.PROMOTE, own=entry(3))
    assert lifecycle.from_value(lifecycle.to_value(learnt)) == learnt
    assert "own" not in lifecycle.to_value(lifecycle.step(learnt, Event.DEMOTE))


def test_whatever_changes_what_it_stands_on_drops_what_was_learnt() -> None:
    learnt = Record(state=State.CONFIRMED, current=entry(0), previous=entry(1), own=entry(3))
    assert learnt.runs == entry(3)
    assert learnt.installed == entry(0)
    trial = Record(state=State.TRIAL, current=entry(0), candidate=entry(2), own=entry(3), tries=2)
    assert trial.runs == entry(2)
    assert lifecycle.step(trial, Event.CONFIRM).own is None
    assert lifecycle.step(trial, Event.FAIL).runs == entry(3)
    assert lifecycle.expire(trial, reason="").runs == entry(3)
    down = lifecycle.fall_back(learnt, reason="x")
    assert (down.runs, down.previous) == (entry(0), entry(1))
    assert lifecycle.revoke(learnt, [entry(0).file]).runs == entry(1)
    assert lifecycle.revoke(learnt, [entry(3).file]).runs == entry(0)
    assert lifecycle.revoke(trial, [entry(0).file]).own is None
    assert lifecycle.revoke(learnt, [], below=1) == learnt


@pytest.mark.parametrize(
    ("error", "kept"),
    [(SelfTestError("off"), False), (StorageError("full"), True), (MemoryError(), True), (ValueError("what"), True)],
    ids=["proven", "disk", "memory", "unknown"],
)
def test_what_was_learnt_and_does_not_come_up_gives_way_and_is_dropped_only_when_that_is_proven(
    error: Exception, kept: bool
) -> None:
    disk = MemoryDisk(files=confirmed(1))
    promote(3, 0)(slots_on(disk))

    def refuse(own: bytes, parent: bytes | None) -> bytes | None:
        raise error

    started = start(slots_on(disk), open_adapter, ring="icu", open_own=refuse)
    assert started.entry == entry(0)
    assert started.failures
    assert (slots_on(disk).record.own == entry(3)) is kept
    without = start(slots_on(disk), open_adapter, ring="icu")
    assert without.entry == entry(0)


def test_what_was_learnt_on_something_else_is_not_promoted() -> None:
    slots = slots_on(MemoryDisk(files=confirmed(1)))
    with pytest.raises(StateError, match="meanwhile"):
        promote(3, None)(slots)
    assert slots.record.own is None


def test_after_a_first_promotion_on_the_base_alone_adapters_can_be_installed() -> None:
    disk = MemoryDisk()
    promote(3, None)(slots_on(disk))
    slots_on(disk).stage(FILES[0], entry(0), "icu", who="test")
    assert slots_on(disk).record.runs == entry(3)


def test_a_revoked_parent_keeps_what_was_learnt_on_it_from_coming_up() -> None:
    disk = MemoryDisk(files=confirmed(2))
    promote(3, 1)(slots_on(disk))
    slots = slots_on(disk)
    slots.raise_floor(slots.floor().accept_revocations("icu", [entry(1).file], 0))
    assert start(slots_on(disk), open_adapter, ring="icu", open_own=open_own).entry == entry(0)
