"""What a monitor may do with what it learns, and the states of a candidate: two pure tables.

Rule 1: everything that decides a transition lives in this file. Rule 2: this file reads no clock, disk or network.
`docs/guides/adaptation.md` holds the diagram that `diagram` prints, and a test compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from device_runtime.errors import StateError


class Mode(StrEnum):
    """What a person set, for each signal."""

    OFF = "off"
    SHADOW = "shadow"
    BOUNDED = "bounded"
    ACTIVE = "active"


@dataclass(frozen=True, kw_only=True)
class May:
    """What a mode allows."""

    learn: bool  # keep windows of finished stays, learn from them, forecast unseen beside what runs
    track: bool  # move forecasts by the offsets and the width factor of the one stream
    promote: bool  # forecast with what was learnt, once the evidence is there


MODES: Mapping[Mode, May] = {
    Mode.OFF: May(learn=False, track=False, promote=False),
    Mode.SHADOW: May(learn=True, track=False, promote=False),
    Mode.BOUNDED: May(learn=True, track=True, promote=False),
    Mode.ACTIVE: May(learn=True, track=True, promote=True),
}


class State(StrEnum):
    """What a learner has."""

    GATHERING = "gathering"  # too few windows: the candidate is what runs
    SHADOW = "shadow"  # a candidate forecasts unseen, beside what runs
    PROMOTED = "promoted"  # an earlier candidate forecasts; a newer one goes on unseen


class Event(StrEnum):
    """What can happen to it."""

    FIRST_STEP = "first_step"
    PROMOTE = "promote"
    DEMOTE = "demote"  # the reverse evidence, a number that is not finite, the input guard, or a person
    RESET = "reset"  # a person, or another base or adapter under it: everything learnt is forgotten


TRANSITIONS: Mapping[tuple[State, Event], State] = {
    (State.GATHERING, Event.FIRST_STEP): State.SHADOW,
    (State.SHADOW, Event.PROMOTE): State.PROMOTED,
    (State.SHADOW, Event.DEMOTE): State.GATHERING,
    (State.PROMOTED, Event.PROMOTE): State.PROMOTED,
    (State.PROMOTED, Event.DEMOTE): State.GATHERING,
    (State.GATHERING, Event.RESET): State.GATHERING,
    (State.SHADOW, Event.RESET): State.GATHERING,
    (State.PROMOTED, Event.RESET): State.GATHERING,
}


def step(state: State, event: Event) -> State:
    """Return the state after ``event``. Raises `StateError` where the state does not allow it."""
    target = TRANSITIONS.get((state, event))
    if target is None:
        raise StateError(f"adaptation: {event.value} is not possible while {state.value}")
    return target


def diagram() -> str:
    """Draw the table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> gathering"]
    lines += [f"    {source} --> {target}: {event}" for (source, event), target in TRANSITIONS.items()]
    return "\n".join(lines)


def table() -> str:
    """Draw the modes as a Markdown table."""
    said = {True: "yes", False: "no"}
    lines = ["| Mode | Learns, in shadow | Tracks the stream | Forecasts with what it learnt |", "|---|---|---|---|"]
    lines += [
        f"| `{mode}` | {said[may.learn]} | {said[may.track]} | {said[may.promote]} |" for mode, may in MODES.items()
    ]
    return "\n".join(lines)
