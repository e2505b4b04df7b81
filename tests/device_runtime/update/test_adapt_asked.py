"""A wish to promote holds for a day, on the record that it was asked on, and where the service has proven it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from device_runtime.errors import StateError
from device_runtime.update.adapt_asked import ASKED, ask, asked_now
from device_runtime.update.service_health import ServiceLearning
from tests.simulators.learning_bed import LearningBed

PROVEN = ServiceLearning(
    decisions=0, generation=0, mode="active", own=False, problem="",
    learnt={"verdict": "promote", "evidence": 25.0, "evidence_wanted": 20.0, "stays_judged": 30},
)  # fmt: skip


def learning(**changes: Any) -> ServiceLearning:
    return ServiceLearning(**{**vars(PROVEN), **changes})


def test_a_wish_ends_with_its_day_and_with_its_record(tmp_path: Path) -> None:
    bed = LearningBed(tmp_path, promote="hand")
    slots, now = bed.slots, 1_000_000.0
    slots.clock = lambda: now
    assert asked_now(slots) is None
    ask(bed.config, slots, PROVEN, "looks right", who="nurse")
    asked = asked_now(slots)
    assert asked is not None
    assert (asked.who, asked.reason) == ("nurse", "looks right")
    for after, holds in ((86_400.0, True), (86_401.0, False), (-1.0, False)):
        now = 1_000_000.0 + after
        assert (asked_now(slots) is not None) == holds, after
    now = 1_000_000.0
    slots.forget_learnt("something else", who="nurse")
    assert asked_now(slots) is None


def test_what_would_not_be_promoted_is_refused(tmp_path: Path) -> None:
    bed = LearningBed(tmp_path / "hand", promote="hand")
    for said in (learning(learnt=None), learning(learnt={**(PROVEN.learnt or {}), "verdict": "none"})):
        with pytest.raises(StateError, match=r"the evidence is not enough: evidence .* over"):
            ask(bed.config, bed.slots, said, "now", who="nurse")
    other = LearningBed(tmp_path / "device")
    with pytest.raises(StateError, match='promote is "device"'):
        ask(other.config, other.slots, PROVEN, "now", who="nurse")
    alone = LearningBed(tmp_path / "alone", envelope=False, promote="hand")
    with pytest.raises(StateError, match="the mode is shadow"):
        ask(alone.config, alone.slots, PROVEN, "now", who="nurse")
    for one in (bed, other, alone):
        assert not (one.config.state / ASKED).exists()
