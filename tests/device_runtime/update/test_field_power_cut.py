"""Cut the power at every write of the quality file: the figures are those of a write, whole, or of the one before."""

from __future__ import annotations

import numpy as np
import pytest

from device_runtime.quality.field import BASE, KEPT, MAX_SIGNALS, PREVIOUS, FieldQuality
from device_runtime.quality.pending import Made
from device_runtime.quality.rules import QualityRules
from device_runtime.quality.scored import DAY_MS, DAYS, MAX_LEVELS, Scored
from device_runtime.quality.scores import PLACES, STEPS
from device_runtime.update.field_store import MAX_SIZE, QUALITY, load, published, save
from device_runtime.update.sealed import to_json
from tests.device_runtime.quality.test_field import HOUR, LEVELS, H, context_of, made
from tests.simulators.disk import MemoryDisk, crash_states

RULES = QualityRules(shadow_every=1, min_reported=20)
WRITES = 3


def scored(upto: int) -> FieldQuality:
    field = FieldQuality(RULES, ratio=1.02)
    for step in range(upto):
        field.observe("MAP", step * HOUR, 80.0 + step % 3, interval_ms=HOUR)
        field.wants("MAP", H, 9)
        base = Made(adapter=None, quantiles=made(step, None).quantiles)
        field.remember("MAP", made(step, "a"), LEVELS, context_of({step: 80.0}, step), {"base": base})
    field.end_stay("MAP")
    return field


def written(broken: frozenset[int] = frozenset()) -> tuple[MemoryDisk, list[dict[str, object]]]:
    disk = MemoryDisk(broken_syncs=broken)
    values: list[dict[str, object]] = [FieldQuality(RULES, ratio=1.02).to_value()]
    for number in range(1, WRITES + 1):
        field = scored(40 * number)
        save(disk, field)
        disk.done(str(number))
        values.append(field.to_value())
    return disk, values


def bad(broken: frozenset[int] = frozenset()) -> tuple[int, list[str]]:
    disk, values = written(broken)
    count, found = 0, []
    for state in crash_states({}, disk.log):
        count += 1
        left, field = MemoryDisk(files=dict(state.files)), FieldQuality(RULES, ratio=1.02)
        problem = load(left, field)
        acknowledged = len(state.done)
        if problem:
            found.append(f"after {state.after}: {problem}")
        elif field.to_value() not in values[acknowledged : acknowledged + 2]:
            found.append(f"after {state.after}: figures of no write, or older than write {acknowledged}")
        elif published(left) != field.published():
            found.append(f"after {state.after}: a report of another write")
    return count, found


def test_no_power_cut_leaves_figures_that_nobody_wrote() -> None:
    count, found = bad()
    print(f"{count} crash states, {len(found)} bad")  # noqa: T201 - docs/reference/field-quality.md quotes it
    assert not found
    assert count > 5 * WRITES


@pytest.mark.parametrize("sync", [0, 1], ids=["data", "name"])
def test_the_harness_finds_a_removed_sync(sync: int) -> None:
    assert bad(frozenset([sync]))[1]


def test_a_full_disk_keeps_the_figures_that_are_there() -> None:
    disk, values = written()
    for fail_at in range(4):
        full = MemoryDisk(files=dict(disk.files), fail_at=fail_at)
        with pytest.raises(Exception, match="No space left"):
            save(full, scored(200))
        field = FieldQuality(RULES, ratio=1.02)
        assert load(MemoryDisk(files=dict(full.files)), field) == ""
        assert field.to_value() in (values[-1], scored(200).to_value())


def test_a_state_folder_of_an_older_release_has_no_figures() -> None:
    assert load(MemoryDisk(), FieldQuality(RULES)) == ""
    assert published(MemoryDisk()) == {}


@pytest.mark.parametrize("data", [b"", b"{}", b"\0" * 100, b"0" * 64 + b" {}\n"])
def test_a_file_that_is_none_is_said_and_never_believed(data: bytes) -> None:
    field = FieldQuality(RULES)
    assert "begin anew" in load(MemoryDisk(files={QUALITY: data}), field)
    assert field.figures() == {}
    assert published(MemoryDisk(files={QUALITY: data})) == {}


def test_the_largest_file_that_can_be_written_can_be_read() -> None:
    levels = tuple((n + 1) / 65 for n in range(MAX_LEVELS))
    field = FieldQuality(RULES, ratio=1.02)
    rng = np.random.default_rng(0)
    for signal in range(MAX_SIGNALS):
        for adapter in range(KEPT):
            scored = Scored.begin(f"{adapter:064d}", levels, 0)
            for day in range(DAYS):
                scored.add(np.full(PLACES + MAX_LEVELS, 1 / 3) * rng.random() * 1e-5, day * DAY_MS, 1.0)
            for name in (BASE, PREVIOUS):
                scored.beside(name, "b" * 64, 1.02).score(*rng.random((2, PLACES + MAX_LEVELS)) * 1e-5)
            scored.total.values[STEPS] = scored.against[BASE].own.values[STEPS] = 1e9
            scored.publish(20)
            field._signals.setdefault(f"signal {signal} " + "x" * 50, []).append(scored)
    disk = MemoryDisk()
    save(disk, field)
    again = FieldQuality(RULES, ratio=1.02)
    assert load(disk, again) == ""
    assert again.to_value() == field.to_value()
    assert 1_000_000 < len(disk.files[QUALITY]) < MAX_SIZE / 2
    assert published(disk) == field.published() != {}
    print(f"{len(disk.files[QUALITY])} bytes, {len(to_json(published(disk)))} of them in a report")  # noqa: T201
