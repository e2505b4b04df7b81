"""The lifecycle table by itself: what each event leaves of a record, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from device_runtime.errors import StateError
from device_runtime.update.lifecycle import TRANSITIONS, Entry, Event, Record, State, bar, barred, revoke, step


def entry(number: int) -> Entry:
    return Entry(file=f"{number:064x}", adapter=f"{number + 100:064x}", version=number, sequence=number)


TRIAL = Record(state=State.TRIAL, current=entry(1), candidate=entry(2), tries=3, since=5.0)
RECORDS = {
    State.BASE: Record(own=entry(9)),
    State.CONFIRMED: Record(state=State.CONFIRMED, current=entry(1), previous=entry(0), own=entry(9)),
    State.STAGED: Record(state=State.STAGED, candidate=entry(2), current=entry(1), previous=entry(0), own=entry(9)),
    State.TRIAL: replace(TRIAL, own=entry(9)),
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_an_event_leads_where_the_table_says_or_nowhere(state: State, event: Event) -> None:
    record = RECORDS[state]
    if event.value.endswith("_to_base"):  # only where nothing was confirmed, or nothing before it
        record = replace(record, current=None, previous=None) if state is not State.CONFIRMED else record
    candidate = entry(3) if event is Event.STAGE else None
    if (state, event) not in TRANSITIONS:
        with pytest.raises(StateError, match=f"{event.value} is not possible in state {state.value}"):
            step(record, event, candidate=candidate)
        return
    after = step(record, event, candidate=candidate, tries=3 if event is Event.ACTIVATE else 0)
    assert after.state is TRANSITIONS[state, event]
    assert after.generation == record.generation + 1


def test_each_start_takes_a_try_and_the_machines_fault_gives_it_back() -> None:
    started = step(TRIAL, Event.START)
    assert (started.tries, step(started, Event.START).tries) == (2, 1)
    assert step(started, Event.SPARE).tries == 3


def test_what_is_confirmed_replaces_what_ran_and_what_was_learnt_over_it() -> None:
    after = step(RECORDS[State.TRIAL], Event.CONFIRM)
    assert (after.current, after.previous, after.candidate, after.own) == (entry(2), entry(1), None, None)
    assert (after.tries, after.since, after.failed_sequence) == (0, 0.0, -1)


def test_what_failed_is_not_tried_again_and_what_expired_may_be() -> None:
    assert step(TRIAL, Event.FAIL).failed_sequence == 2
    assert step(TRIAL, Event.EXPIRE).failed_sequence == -1
    assert (step(TRIAL, Event.FAIL).runs, step(TRIAL, Event.EXPIRE).runs) == (entry(1), entry(1))


def test_a_roll_back_goes_to_the_previous_adapter_and_then_to_the_base() -> None:
    once = step(RECORDS[State.CONFIRMED], Event.ROLL_BACK)
    assert (once.current, once.previous, once.own, once.failed_sequence) == (entry(0), None, None, 1)
    assert step(once, Event.ROLL_BACK_TO_BASE).runs is None


def test_a_sequence_is_barred_with_what_it_failed_with_last() -> None:
    once = bar(Record(), 7, failed_on="old base")
    assert barred(once, 7, {"old base"})
    assert not barred(once, 7, {"new base"})
    again = bar(once, 7, failed_on="new base")
    assert barred(again, 7, {"new base"})
    for_good = bar(again, 7)
    assert barred(for_good, 7, ())
    assert barred(for_good, 6, ())
    assert not barred(for_good, 8, ())
    assert bar(for_good, 6, failed_on="anything") == for_good


def test_what_is_revoked_goes_and_what_is_below_the_minimum() -> None:
    whole = RECORDS[State.CONFIRMED]
    assert revoke(whole, ()) == whole
    assert revoke(whole, {entry(0).file}).previous is None
    assert revoke(whole, {entry(1).file}).runs == entry(0)
    assert revoke(whole, (), below=1).previous is None
    assert revoke(whole, (), below=2).runs is None
    assert revoke(whole, {entry(9).file}).runs == entry(1)
    other = revoke(TRIAL, {entry(1).file})  # what a trial would fall back to
    assert (other.runs, other.current) == (entry(2), None)
