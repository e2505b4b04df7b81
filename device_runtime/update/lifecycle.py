"""The states of an adapter on a device: a pure table.

Rule 1: everything that decides a transition lives in this file. Rule 2: this file reads no clock, disk or network.
`docs/guides/deploy.md` holds the diagram that `diagram` prints from the table, and a test compares them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from device_runtime.binder import bind
from device_runtime.errors import FormatError, StateError


class State(StrEnum):
    """What runs, and what waits."""

    BASE = "base"  # the frozen base alone: the last safe state
    CONFIRMED = "confirmed"  # an adapter that passed its health window
    STAGED = "staged"  # what ran goes on; a proven candidate waits for a moment when it may be tried
    TRIAL = "trial"  # the candidate runs; unconfirmed, it is gone after `tries` starts


class Event(StrEnum):
    """What can happen. Where the outcome depends on whether an adapter was confirmed before, there are two."""

    STAGE = "stage"
    DISCARD = "discard"
    DISCARD_TO_BASE = "discard_to_base"
    ACTIVATE = "activate"
    START = "start"
    SPARE = "spare"
    EXPIRE = "expire"
    EXPIRE_TO_BASE = "expire_to_base"
    CONFIRM = "confirm"
    FAIL = "fail"
    FAIL_TO_BASE = "fail_to_base"
    ROLL_BACK = "roll_back"
    ROLL_BACK_TO_BASE = "roll_back_to_base"
    PROMOTE = "promote"
    DEMOTE = "demote"


TRANSITIONS: Mapping[tuple[State, Event], State] = {
    (State.BASE, Event.STAGE): State.STAGED,
    (State.CONFIRMED, Event.STAGE): State.STAGED,
    (State.STAGED, Event.STAGE): State.STAGED,
    (State.STAGED, Event.DISCARD): State.CONFIRMED,
    (State.STAGED, Event.DISCARD_TO_BASE): State.BASE,
    (State.STAGED, Event.ACTIVATE): State.TRIAL,
    (State.TRIAL, Event.STAGE): State.STAGED,
    (State.TRIAL, Event.START): State.TRIAL,
    (State.TRIAL, Event.SPARE): State.TRIAL,
    (State.TRIAL, Event.EXPIRE): State.CONFIRMED,
    (State.TRIAL, Event.EXPIRE_TO_BASE): State.BASE,
    (State.TRIAL, Event.CONFIRM): State.CONFIRMED,
    (State.TRIAL, Event.FAIL): State.CONFIRMED,
    (State.TRIAL, Event.FAIL_TO_BASE): State.BASE,
    (State.CONFIRMED, Event.ROLL_BACK): State.CONFIRMED,
    (State.CONFIRMED, Event.ROLL_BACK_TO_BASE): State.BASE,
    (State.STAGED, Event.ROLL_BACK): State.CONFIRMED,
    (State.STAGED, Event.ROLL_BACK_TO_BASE): State.BASE,
    # What the monitor learnt itself goes over what was installed, or over the base, and never decides what that is.
    (State.BASE, Event.PROMOTE): State.BASE,
    (State.CONFIRMED, Event.PROMOTE): State.CONFIRMED,
    (State.STAGED, Event.PROMOTE): State.STAGED,
    (State.BASE, Event.DEMOTE): State.BASE,
    (State.CONFIRMED, Event.DEMOTE): State.CONFIRMED,
    (State.STAGED, Event.DEMOTE): State.STAGED,
    (State.TRIAL, Event.DEMOTE): State.TRIAL,
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One adapter in a slot: signed, or what the monitor learnt itself."""

    file: str  # SHA-256 of the signed file, hex; the slot's name
    adapter: str  # SHA-256 of the blob without signatures, hex; what a forecast names
    version: int  # the blob's adapter_version
    sequence: int  # of the approval that brought it; rises even when an old blob is approved again. Own: generation

    def __post_init__(self) -> None:
        """Check digests and numbers: the slot's name becomes a file's name."""
        for digest in (self.file, self.adapter):
            if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
                raise FormatError(f"entry: want a SHA-256 in hexadecimal, got {digest[:80]!r}")
        if self.version < 0 or self.sequence < 0:
            raise FormatError(f"entry: want version and sequence of at least 0, got {self.version}, {self.sequence}")


@dataclass(frozen=True, kw_only=True)
class Record:
    """The device's one durable decision: what runs. Valid once built."""

    state: State = State.BASE
    generation: int = 0  # rises with every change
    current: Entry | None = None  # confirmed
    previous: Entry | None = None  # confirmed before it
    candidate: Entry | None = None  # staged or on trial
    own: Entry | None = None  # learnt here and promoted: runs in place of current, or of the base; goes when that does
    tries: int = 0  # starts the trial has left
    failed_sequence: int = -1  # highest sequence that failed or was taken back here; not tried again
    failed_on: str = ""  # with what it failed (base, keys or runtime): with another it may be tried; "": for good
    since: float = 0.0  # when the trial began, seconds since 1970 by the monitor's clock; 0: not known
    reason: str = ""  # of the last change, for people

    def __post_init__(self) -> None:
        """Check that state and entries agree."""
        waits = self.state in (State.STAGED, State.TRIAL)
        if waits != (self.candidate is not None):
            raise FormatError(f"record: state {self.state} {'without' if waits else 'with'} a candidate")
        if (self.state is State.CONFIRMED and self.current is None) or (self.state is State.BASE and self.current):
            raise FormatError(f"record: state {self.state} does not fit its current adapter")
        if self.tries < 0 or (self.state is not State.TRIAL and self.tries):
            raise FormatError(f"record: {self.tries} tries in state {self.state}")
        if self.generation < 0 or self.failed_sequence < -1 or not 0 <= self.since < 1e11:
            raise FormatError(
                f"record: generation {self.generation}, failed_sequence {self.failed_sequence}, since {self.since:g}: "
                "want at least 0, -1 and seconds since 1970"
            )

    @property
    def installed(self) -> Entry | None:
        """The publisher's adapter that a start loads, or the parent of what was learnt here; None is the base alone."""
        return self.candidate if self.state is State.TRIAL else self.current

    @property
    def runs(self) -> Entry | None:
        """The adapter that a start loads; None is the base alone."""
        return self.own if self.runs_own else self.installed

    @property
    def runs_own(self) -> bool:
        """Whether a start loads what was learnt here: a trial is the publisher's candidate's alone."""
        return self.own is not None and self.state is not State.TRIAL

    @property
    def slots(self) -> frozenset[str]:
        """Every slot the record still needs."""
        return frozenset(entry.file for entry in (self.current, self.previous, self.candidate, self.own) if entry)


def to_value(record: Record) -> dict[str, Any]:
    """Encode a record as plain values; without an own adapter as releases before there was one wrote it."""
    value = {**asdict(record), "state": record.state.value}
    return value if record.own else {name: one for name, one in value.items() if name != "own"}


def from_value(value: Any) -> Record:
    """Decode a record. Raises `FormatError` for anything `to_value` does not write."""
    return bind(Record, value, "state record")


def step(
    record: Record,
    event: Event,
    *,
    candidate: Entry | None = None,
    own: Entry | None = None,
    tries: int = 0,
    since: float = 0.0,
    reason: str = "",
) -> Record:
    """Return the record after ``event``. Raises `StateError` when the state does not allow it.

    Whatever removes the parent of an own adapter removes the own adapter too.
    """
    target = TRANSITIONS.get((record.state, event))
    if target is None:
        raise StateError(
            f"{event.value} is not possible in state {record.state.value}",
            hint="edge-tsfm-device status shows what runs",
        )
    if event is Event.DEMOTE and record.own is None:
        raise StateError("no adapter that was learnt here runs", hint="edge-tsfm-device adapt status shows what runs")
    base = replace(record, generation=record.generation + 1, reason=reason)
    match event:
        case Event.PROMOTE | Event.DEMOTE:
            return replace(base, own=own)
        case Event.STAGE:  # what was on trial gives way: a newer one was approved
            return replace(base, state=target, candidate=candidate, tries=0, since=0.0)
        case Event.ACTIVATE:
            return replace(base, state=target, tries=tries, since=since)
        case Event.START:
            return replace(base, tries=record.tries - 1)
        case Event.SPARE:  # the machine's fault: the start does not count
            return replace(base, tries=record.tries + 1)
        case Event.CONFIRM:
            return replace(
                base,
                state=target,
                current=record.candidate,
                previous=record.current,
                candidate=None,
                own=None,
                tries=0,
                since=0.0,
            )
        case Event.DISCARD | Event.DISCARD_TO_BASE | Event.EXPIRE | Event.EXPIRE_TO_BASE:
            return replace(base, state=target, candidate=None, tries=0, since=0.0)
        case Event.FAIL | Event.FAIL_TO_BASE:
            gone = record.candidate.sequence if record.candidate else -1
            return bar(replace(base, state=target, candidate=None, tries=0, since=0.0), gone)
        case Event.ROLL_BACK | Event.ROLL_BACK_TO_BASE:
            fallback = record.previous if event is Event.ROLL_BACK else None
            gone = record.current.sequence if record.current else -1
            return bar(replace(base, state=target, current=fallback, previous=None, candidate=None, own=None), gone)


def bar(record: Record, sequence: int, *, failed_on: str = "") -> Record:
    """Remember that a sequence is not to be tried again; where it says with what it failed, only while that is so."""
    if sequence < max(record.failed_sequence, 0):
        return record
    return replace(record, failed_sequence=sequence, failed_on=failed_on)


def barred(record: Record, sequence: int, known: Collection[str]) -> bool:
    """Whether a sequence failed here before, and would fail again with the monitor's current ``known`` state."""
    return sequence <= record.failed_sequence and (not record.failed_on or record.failed_on in known)


def expire(record: Record, *, reason: str) -> Record:
    """End a trial that expired without a decision: the previous adapter runs again, and this one may be tried again."""
    return step(record, Event.EXPIRE if record.current else Event.EXPIRE_TO_BASE, reason=reason)


def give_up_candidate(record: Record, *, failed: bool, reason: str) -> Record:
    """Drop the candidate: on trial it failed; staged it is discarded, and marked failed if it ``failed`` a check."""
    to_base = record.current is None
    if record.state is State.TRIAL:
        return step(record, Event.FAIL_TO_BASE if to_base else Event.FAIL, reason=reason)
    out = step(record, Event.DISCARD_TO_BASE if to_base else Event.DISCARD, reason=reason)
    return bar(out, record.candidate.sequence) if failed and record.candidate else out


def fall_back(record: Record, *, reason: str) -> Record:
    """Roll back: a trial ends, an own adapter is replaced by its parent.

    A confirmed adapter gives way to the previous one, and that to the base.
    """
    if record.state is State.TRIAL:
        return give_up_candidate(record, failed=True, reason=reason)
    if record.own is not None:
        return step(record, Event.DEMOTE, reason=reason)
    event = Event.ROLL_BACK if record.previous else Event.ROLL_BACK_TO_BASE
    return step(record, event, reason=reason)


def revoke(record: Record, revoked: Collection[str], *, below: int = 0, reason: str = "revoked") -> Record:
    """Drop every adapter whose file is ``revoked`` or whose sequence is below ``below``; unchanged when none is.

    An own adapter has no sequence of the publisher's: it is removed with its file, or with its parent.
    """

    def gone(entry: Entry | None) -> bool:
        return entry is not None and (entry.file in revoked or entry.sequence < below)

    out = record
    if gone(out.previous):
        out = replace(out, previous=None, generation=out.generation + 1, reason=reason)
    if gone(out.candidate):
        out = give_up_candidate(out, failed=True, reason=reason)
    if gone(out.current):
        if out.state is State.TRIAL:  # the candidate goes on; what it would fall back to changes
            out = replace(out, current=out.previous, previous=None, own=None)
            out = replace(out, generation=out.generation + 1, reason=reason)
        else:
            out = fall_back(replace(out, own=None), reason=reason)
    if out.own is not None and out.own.file in revoked:
        out = step(out, Event.DEMOTE, reason=reason)
    return out


def diagram() -> str:
    """Draw the table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> base"]
    lines += [
        f"    {source.value} --> {target.value}: {event.value}" for (source, event), target in TRANSITIONS.items()
    ]
    return "\n".join(lines)
