"""The table of transitions, as a table: nothing else changes what runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from device_runtime.update import lifecycle
from device_runtime.update.lifecycle import Event, Record, State
from tests.device_runtime.update.test_slots_power_cut import entry


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("event", list(Event))
def test_the_table_is_the_only_way(state: State, event: Event) -> None:
    records = {
        State.BASE: Record(),
        State.CONFIRMED: Record(state=State.CONFIRMED, current=entry(0), previous=entry(1)),
        State.STAGED: Record(state=State.STAGED, candidate=entry(2), current=entry(0), previous=entry(1)),
        State.TRIAL: Record(state=State.TRIAL, candidate=entry(2), current=entry(0), tries=2),
    }
    if event is Event.DEMOTE:
        records = {one: replace(record, own=entry(3)) for one, record in records.items()}
    target = lifecycle.TRANSITIONS.get((state, event))
    if target is None:
        with pytest.raises(Exception, match="not possible"):
            lifecycle.step(records[state], event)
    elif not event.value.endswith("to_base"):
        own = entry(3) if event is Event.PROMOTE else None
        after = lifecycle.step(records[state], event, candidate=entry(2), tries=3, own=own)
        assert after.state is target
        assert after.generation == 1
        assert lifecycle.from_value(lifecycle.to_value(after)) == after
