"""Cut the power at every write of what is learnt and of the envelope: each is the last one or the next, whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from device_runtime.errors import FormatError, StorageError
from device_runtime.update import envelope_store
from device_runtime.update.learner_store import LEARNER, MAX_SIZE, LearnerStore, Subject, forget, read_kept
from device_runtime.update.lifecycle import State
from device_runtime.update.slots import Slots
from tests.simulators.disk import MemoryDisk, crash_states

SUBJECT = Subject(base="b" * 64, learning="c" * 64, parent="", signal="RESP", interval="1h")
DAY = 86_400.0
MOST = 1 << 30


def body(number: int) -> dict[str, Any]:
    return {"learnt": {"steps": number, "iterate": "A" * (30_000 * (1 + number % 2))}, "own": ""}


def store_on(disk: MemoryDisk, *, most: int = MOST, now: float = 0.0, subject: Subject = SUBJECT) -> LearnerStore:
    return LearnerStore(disk, subject=subject, most=most, clock=lambda: now)


def written(broken: frozenset[int] = frozenset()) -> tuple[MemoryDisk, list[Mapping[str, Any] | None]]:
    disk = MemoryDisk(broken_syncs=broken)
    store = store_on(disk)
    store.load()
    bodies: list[Mapping[str, Any] | None] = [None]
    for number in (1, 2, 3):
        store.save(body(number))
        disk.done(str(number))
        bodies.append(body(number))
    forget(disk, 7.0)
    disk.done("forgotten")
    bodies.append(None)
    return disk, bodies


def bad(broken: frozenset[int] = frozenset()) -> tuple[int, list[str]]:
    disk, bodies = written(broken)
    count, found = 0, []
    for state in crash_states({}, disk.log):
        count += 1
        left = MemoryDisk(files=dict(state.files))
        got, problem = store_on(left).load()
        done = len(state.done)
        if problem:
            found.append(f"after {state.after}: {problem}")
        elif done == 3 and got is None:
            continue  # between forgetting and its word
        elif got not in bodies[done : done + 2]:
            found.append(f"after {state.after}: of no write, or older than write {done}")
        elif "forgotten" in state.done and any(b"AAAA" in data for data in left.files.values()):
            found.append(f"after {state.after}: something is left of what was forgotten")
    return count, found


def test_no_power_cut_leaves_what_nobody_learnt() -> None:
    count, found = bad()
    print(f"{count} crash states, {len(found)} bad")  # noqa: T201 - docs/guides/adaptation-quality.md quotes it
    assert not found
    assert count >= 20


def test_the_harness_finds_a_removed_sync() -> None:
    syncs = sum(operation.what.startswith("sync") for operation in written()[0].log)
    missed = [number for number in range(syncs) if bad(frozenset([number]))[1]]
    assert len(missed) >= 4


def test_a_full_disk_keeps_what_was_learnt_last_and_later_writes_need_no_new_room() -> None:
    disk = MemoryDisk()
    store = store_on(disk)
    store.save(body(0))
    sizes = {len(disk.files[LEARNER]), len(disk.files[f".tmp-{LEARNER}"])}
    assert len(sizes) == 1
    refused = 0
    for fail_at in range(6):
        full = MemoryDisk(files=dict(disk.files), fail_at=fail_at)
        try:
            store_on(full).save(body(2))
        except StorageError:
            refused += 1
        assert store_on(MemoryDisk(files=dict(full.files))).load()[0] in (body(0), body(2))
    assert refused >= 3


def test_a_day_has_its_bytes_and_tomorrow_others() -> None:
    disk = MemoryDisk()
    size = len(seal_of(disk))
    assert store_on(disk, most=2 * size, now=DAY).save(body(0))
    assert store_on(disk, most=2 * size, now=DAY).load()[0] == body(0)
    later = store_on(disk, most=2 * size, now=DAY + 5)
    later.load()
    assert later.save(body(0))
    assert not later.save(body(0))
    assert later.save(body(0), now=True)
    tomorrow = store_on(disk, most=2 * size, now=2 * DAY)
    tomorrow.load()
    assert tomorrow.save(body(0))


def seal_of(_: MemoryDisk) -> bytes:
    scratch = MemoryDisk()
    store_on(scratch).save(body(0))
    return scratch.files[LEARNER]


@pytest.mark.parametrize("data", [b"", b"{}", b"\0" * 100, b"0" * 64 + b" {}\n", b"x" * (MAX_SIZE + 1)])
def test_a_file_that_is_none_is_said_and_learning_begins_anew(data: bytes) -> None:
    disk = MemoryDisk(files={LEARNER: data})
    got, problem = store_on(disk).load()
    assert got is None
    assert "starts afresh from the frozen model" in problem
    store_on(disk).save(body(1))
    assert store_on(disk).load() == (body(1), "")


def test_what_was_learnt_on_something_else_is_no_state() -> None:
    disk = MemoryDisk()
    store_on(disk).save(body(1))
    other = Subject(base="b" * 64, learning="c" * 64, parent="d" * 64, signal="RESP", interval="1h")
    got, problem = store_on(disk, subject=other).load()
    assert got is None
    assert problem == "learning starts afresh: another parent"


def test_who_wrote_last_is_known() -> None:
    disk = MemoryDisk()
    ours = store_on(disk)
    ours.save(body(1))
    assert not ours.changed()
    forget(disk, 5.0)
    assert ours.changed()
    kept = read_kept(disk)
    assert kept is not None
    assert (dict(kept.body), kept.forgotten) == ({}, 5.0)
    assert store_on(disk).load() == (None, "")


def test_what_is_too_large_is_not_written() -> None:
    disk = MemoryDisk()
    with pytest.raises(StorageError, match="want at most"):
        store_on(disk).save({"learnt": "A" * MAX_SIZE})
    assert LEARNER not in disk.files


def envelope_states() -> tuple[int, list[str]]:
    """Give one envelope, then a newer one, then withdraw it."""
    cryptography = pytest.importorskip("cryptography", reason="envelopes are signed")
    assert cryptography
    from tests.simulators.learning_bed import BUNDLE, plain_envelope, signed

    disk = MemoryDisk()
    slots = Slots(disk, device_id="bed-1", clock=lambda: 1e9)
    files: list[bytes | None] = [None]
    for sequence in (1, 2):
        envelope = plain_envelope(sequence)
        slots.permit(signed(envelope), envelope, who="test")
        disk.done(str(sequence))
        files.append(signed(envelope))
    slots.withdraw("enough", who="test")
    disk.done("withdrawn")
    files.append(None)
    assert BUNDLE.is_dir()
    count, found = 0, []
    for state in crash_states({}, disk.log):
        count += 1
        left = MemoryDisk(files=dict(state.files))
        here, done = left.read(envelope_store.ENVELOPE, 65_536), len(state.done)
        again = Slots(left, device_id="bed-1", clock=lambda: 1e9)
        if here not in files[done : done + 2]:
            found.append(f"after {state.after}: an envelope of no write")
        elif again.damaged or again.record.state is not State.BASE:
            found.append(f"after {state.after}: {again.damaged}")
        elif here is not None:
            number = json.loads(here.partition(b"\n")[0])["sequence"]
            if again.floor().sequences.get("icu/adapt", (-1, ""))[0] < number:
                found.append(f"after {state.after}: the floor is below what holds")
    return count, found


def test_no_power_cut_leaves_half_an_envelope_or_one_that_the_floor_forgot() -> None:
    count, found = envelope_states()
    print(f"{count} crash states, {len(found)} bad")  # noqa: T201 - docs/guides/adaptation-quality.md quotes it
    assert not found
    assert count >= 30


def test_only_whole_counts_are_read() -> None:
    disk = MemoryDisk()
    store_on(disk).save(body(1))
    from device_runtime.update.sealed import seal, unseal

    value = unseal(disk.files[LEARNER], LEARNER)
    disk.files[LEARNER] = seal({**value, "written": -1})
    with pytest.raises(FormatError, match="written -1"):
        read_kept(disk)
