"""`etsa-service --adapt` where its decisions cannot be written, wait too long, or come back."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from device_runtime.format.blob import decode, encode
from device_runtime.update import service_adapt
from tests.simulators.service_bed import ServiceBed, stays_of

DEVICE = [sys.executable, "-W", "ignore", "-m", "device_runtime.cli"]


@pytest.fixture
def promoted(tmp_path: Path, built: Path, library: Path) -> Iterator[ServiceBed]:
    """A service that has just promoted; the decision waits for the hand-over."""
    made = ServiceBed(tmp_path / "bed", built / "service" / "etsa-service", library)
    made.start()
    assert made.learn(iter(stays_of(80)))
    yield made
    if made.process is not None:
        made.process.kill()
        made.process.communicate()


def spoil(bed: ServiceBed) -> None:
    """Three stays that are no readings: what was learnt is to be taken back."""
    steps = np.arange(60)
    for _ in range(4):
        bed.stay((np.where(steps % 17 < 5, 100.0, 20.0) + steps % 3).astype(np.float32))


def forecasts_with(bed: ServiceBed) -> set[str | None]:
    """Which own adapters the forecasts of one stay name."""
    bed.made.clear()
    bed.stay(stays_of(1, seed=10)[0])
    return {one.get("own") for one in bed.made}


def test_what_harms_stops_where_the_decision_cannot_be_written(promoted: ServiceBed) -> None:
    promoted.hand_over()
    blocking = promoted.adapt / ".tmp-decision-1"
    blocking.mkdir()  # as a full disk: no decision can be written
    spoil(promoted)
    said = promoted.wait(lambda one: not one["own"])
    assert "demoted, but the record does not know it" in said["problem"]
    assert forecasts_with(promoted) == {None}
    blocking.rmdir()
    promoted.reload()  # tries again at once: the record learns what has long been so
    promoted.wait(lambda one: one["decisions"] == 1)
    assert "demoted: " in promoted.hand_over()
    assert promoted.slots.record.own is None
    assert forecasts_with(promoted) == {None}


def test_what_harms_stops_where_too_many_decisions_wait(promoted: ServiceBed) -> None:
    data = (promoted.adapt / "decision-1").read_bytes()
    for number in range(2, 9):
        (promoted.adapt / f"decision-{number}").write_bytes(data)
    spoil(promoted)
    said = promoted.wait(lambda one: not one["own"])
    assert "too many decisions wait" in said["problem"]
    assert forecasts_with(promoted) == {None}


def test_what_a_person_took_back_is_not_promoted_again_by_a_file_that_comes_back(promoted: ServiceBed) -> None:
    path = promoted.adapt / "decision-1"
    data = path.read_bytes()
    assert "promoted: " in promoted.hand_over()
    demote = [*DEVICE, "adapt", "demote", "--config", promoted.settings, "--who", "nurse", "--reason", "tried"]
    subprocess.run([*map(str, demote)], check=True, capture_output=True)
    path.write_bytes(data)
    assert "its generation 2 is not later than the record's 3" in promoted.hand_over()
    assert promoted.slots.record.own is None
    assert not path.exists()


@pytest.mark.parametrize("generation", [None, "x", "-1", "9" * 30])
def test_a_promotion_without_a_generation_is_refused(promoted: ServiceBed, generation: str | None) -> None:
    path = promoted.adapt / "decision-1"
    head, _, blob = path.read_bytes().partition(b" ")[2].partition(b"\n")
    adapter = decode(blob)
    metadata = {key: value for key, value in adapter.metadata.items() if key != "generation"}
    if generation is not None:
        metadata["generation"] = generation
    other = encode(replace(adapter, metadata=metadata))
    said = json.loads(head) | {"adapter": hashlib.sha256(other).hexdigest(), "blob": len(other)}
    path.write_bytes(service_adapt._sealed(json.dumps(said).encode() + b"\n" + other))
    assert "decision-1 is not taken: " in promoted.hand_over()
    assert promoted.slots.record.own is None
