"""A monitor learns in shadow, promotes what it has proven, names it in every forecast, and takes it back."""

from __future__ import annotations

from pathlib import Path

from device_runtime.adapt.modes import Mode
from device_runtime.update.audit import read_lines
from tests.simulators.learning_bed import LearningBed


def test_from_shadow_to_a_promotion_and_back(tmp_path: Path) -> None:
    bed = LearningBed(tmp_path)
    assert bed.forecast().adapter is None
    stays = bed.until_own()
    assert 12 <= stays <= 60
    own = bed.record.own
    assert own is not None
    forecast = bed.forecast()
    assert (forecast.adapter, forecast.generation) == (own.adapter, own.sequence)
    promoted = list(read_lines(bed.slots.audit.export()))[-1].body
    assert promoted["event"] == "promote"
    assert promoted["learnt"]["evidence"] >= 20
    assert promoted["learnt"]["candidate_percent"] < 0
    again = bed.start()
    assert again.forecast([14.0] * 23 + [15.0]).adapter == own.adapter
    bed.slots.demote("by hand", who="operator")
    assert bed.forecast().adapter is None
    assert bed.forecast().generation is None


def test_in_shadow_nothing_is_ever_promoted(tmp_path: Path) -> None:
    bed = LearningBed(tmp_path, mode=Mode.SHADOW)
    assert bed.until_own(60) > 60
    assert bed.forecast().adapter is None
    assert bed.host._adapting.facts()["verdict"] == "promote"
