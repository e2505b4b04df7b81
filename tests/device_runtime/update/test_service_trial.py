"""A trial that another program runs: what its counts mean, and a power cut at every write of a hand-over or a look."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from device_runtime.errors import BaseMismatchError, FormatError, SelfTestError, StorageError
from device_runtime.quality.field import FieldQuality
from device_runtime.quality.rules import QualityRules
from device_runtime.update import service_trial
from device_runtime.update.health import Health, HealthRules
from device_runtime.update.lifecycle import State
from device_runtime.update.service_health import ServiceHealth, read_health
from device_runtime.update.service_trial import hand_over, judge
from device_runtime.update.settings import DeviceConfig
from device_runtime.update.slots import SLOTS, TRIES, Slots
from tests.device_runtime.update.test_slots_power_cut import FILES, confirmed, entry, slots_on
from tests.simulators.disk import MemoryDisk, crash_states

RULES = HealthRules(seconds=0.0, min_forecasts=3, latency_budget=1.0)
WELL = ServiceHealth(
    adapter=entry(2).adapter, offered=entry(2).file, refused=0, why="", since_ms=1_000.0, forecasts=9, slow=0,
    slowest_ms=12.5, errors={}, last_error="",
)  # fmt: skip
BADLY = replace(WELL, slow=1, slowest_ms=2_500.0)


@pytest.fixture
def config(tmp_path: Path) -> DeviceConfig:
    return DeviceConfig(
        device_id="bed-1", ring="icu", bundle=tmp_path / "bundle", state=tmp_path / "state", trusted_keys=(bytes(32),),
        health=RULES, signal="MAP", interval="1h",
    )  # fmt: skip


def on_trial(files: dict[str, bytes]) -> Slots:
    slots = slots_on(MemoryDisk(files=files))
    slots.stage(FILES[2], entry(2), "icu", who="test")
    slots.activate(who="test")
    return slots


@pytest.mark.parametrize(
    ("health", "found", "reason"),
    [
        (WELL, Health.PASSED, ""),
        (replace(WELL, forecasts=2), Health.WAIT, ""),
        (BADLY, Health.FAILED, "2.500 s for a forecast"),
        (replace(BADLY, slow=0), Health.FAILED, "2.500 s for a forecast"),
        (replace(WELL, errors={str(SelfTestError.code): 1}, last_error="off"), Health.FAILED, "off"),
        (replace(WELL, errors={str(StorageError.code): 7}, last_error="full"), Health.PASSED, ""),
        (replace(WELL, errors={str(BaseMismatchError.code): 7}, last_error="other"), Health.PASSED, ""),
        (replace(WELL, errors={"999999": 7}, last_error="news"), Health.PASSED, ""),
    ],
    ids=["well", "few", "slow", "slow and told no budget", "its fault", "disk", "base", "unknown code"],
)
def test_only_what_is_the_adapter_s_fault_counts_against_it(health: ServiceHealth, found: Health, reason: str) -> None:
    window = health.window(RULES)
    field = FieldQuality(QualityRules()).judge(None, 1)
    assert window.health(2.0, field) is found
    assert window.reason == reason


def test_a_window_begins_where_the_service_began(config: DeviceConfig, tmp_path: Path) -> None:
    config = replace(config, health=replace(RULES, seconds=600.0))
    slots, target = on_trial(confirmed(1)), tmp_path / "map.etsa"
    hand_over(slots, config, target)
    assert "on trial: 9 forecasts" in judge(slots, config, target, WELL, now=600.0)
    assert slots.record.state is State.TRIAL
    assert "confirmed: health window passed, 9 forecasts" in judge(slots, config, target, WELL, now=601.0)
    assert slots.record.current == entry(2)


def test_without_figures_a_limit_confirms_nothing(config: DeviceConfig, tmp_path: Path) -> None:
    config = replace(config, health=replace(RULES, max_wql_vs_base_percent=2.0))
    slots, target = on_trial(confirmed(1)), tmp_path / "map.etsa"
    hand_over(slots, config, target)
    assert "nothing was scored beside the base yet" in judge(slots, config, target, WELL, now=1e6)
    assert slots.record.state is State.TRIAL


def test_a_trial_that_nobody_can_end_expires(config: DeviceConfig, tmp_path: Path) -> None:
    slots, target = on_trial(confirmed(1)), tmp_path / "map.etsa"
    hand_over(slots, config, target)
    slots.clock = lambda: 1e9 + (config.trial_days + 1) * 86_400
    assert "nobody ended the trial" in judge(slots, config, target, None)
    assert (slots.record.state, target.read_bytes()) == (State.CONFIRMED, FILES[0])


def test_a_hand_over_that_is_repeated_costs_one_start(config: DeviceConfig, tmp_path: Path) -> None:
    slots, target = on_trial(confirmed(1)), tmp_path / "map.etsa"
    for _ in range(5):
        hand_over(slots, config, target)
        assert (slots.record.tries, target.read_bytes()) == (TRIES - 1, FILES[2])
    for left in (1, 0):
        hand_over(slots, config, target, starting=True)
        assert slots.record.tries == left
    assert "no starts left" in hand_over(slots, config, target, starting=True)
    assert (slots.record.state, target.read_bytes()) == (State.CONFIRMED, FILES[0])


def test_a_refusal_that_cannot_be_answered_gives_no_start_back(
    config: DeviceConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a look a minute, on a disk that refuses, would give a trial more starts than it ever had."""
    slots, target = on_trial(confirmed(1)), tmp_path / "map.etsa"
    hand_over(slots, config, target)
    full = replace(WELL, refused=StorageError.code, why="no memory")
    with monkeypatch.context() as patch:
        patch.setattr(service_trial, "write_atomic", refuse)
        for _ in range(3):
            with pytest.raises(StorageError, match="disk is full"):
                judge(slots, config, target, full)
            assert slots.record.tries == TRIES - 1
    for _ in range(3):
        judge(slots, config, target, full)
        assert (slots.record.tries, target.read_bytes()) == (TRIES, FILES[0])


def test_a_damaged_slot_costs_no_look(config: DeviceConfig, tmp_path: Path) -> None:
    """What ran before cannot be read: the base alone takes its place, as at a start, and the look says why."""
    files = confirmed(1)
    slots, target = on_trial(files), tmp_path / "map.etsa"
    hand_over(slots, config, target)
    slots.disk.files[f"{SLOTS}/{entry(0).file}"] = b"damaged"  # type: ignore[attr-defined]
    refused = replace(WELL, refused=StorageError.code, why="no memory")
    said = judge(slots, config, target, refused)
    assert "[400] no memory; the base alone: adapter" in said
    assert "is damaged" in said
    assert (slots.record.tries, target.read_bytes()) == (TRIES, b"")
    assert "not handed over yet" in judge(slots, config, target, refused)


def test_what_power_cuts_left_of_hand_overs_goes_at_the_next_start(config: DeviceConfig, tmp_path: Path) -> None:
    slots, target = on_trial(confirmed(1)), tmp_path / "map.etsa"
    left = [tmp_path / ".map.etsa.abcd_123.tmp", tmp_path / ".map.etsa.00000000.tmp"]
    others = [tmp_path / ".hr.etsa.abcd_123.tmp", tmp_path / ".map.etsa.tmp", tmp_path / "map.etsa.abcd_123.tmp"]
    for path in (*left, *others):
        path.write_bytes(b"half")
    hand_over(slots, config, target, starting=True)
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"map.etsa", *(path.name for path in others)}


def refuse(path: Path, data: bytes) -> None:
    raise StorageError(f"cannot write {len(data)} bytes to {path}: the disk is full")


Change = Callable[[Slots, DeviceConfig, Path], object]
CHANGES: dict[str, tuple[Change, bytes]] = {  # what is done, and what the file held before
    "first hand-over": (hand_over, FILES[0]),
    "start after a crash": (lambda slots, config, target: hand_over(slots, config, target, starting=True), FILES[2]),
    "taken back": (lambda slots, config, target: judge(slots, config, target, BADLY, now=9.0), FILES[2]),
    "confirmed": (lambda slots, config, target: judge(slots, config, target, WELL, now=9.0), FILES[2]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_after_a_power_cut_the_next_start_has_what_the_record_says(
    name: str, config: DeviceConfig, tmp_path: Path
) -> None:
    """The file is written after the record: at every cut before that it still holds what it held."""
    change, held = CHANGES[name]
    before = dict(on_trial(confirmed(1)).disk.files)  # type: ignore[attr-defined]
    disk, target = MemoryDisk(files=dict(before)), tmp_path / "map.etsa"
    target.write_bytes(held)
    slots = slots_on(disk)
    change(slots, config, target)
    disk.done("changed")
    states = 0
    for state in crash_states(before, disk.log):
        states += 1
        for there in {held, target.read_bytes(), b""}:
            left, other = slots_on(MemoryDisk(files=dict(state.files))), tmp_path / "after"
            other.write_bytes(there)
            cut = left.record
            assert cut.generation <= slots.record.generation
            if state.done:
                assert cut == slots.record
            hand_over(left, config, other, starting=True)
            runs = left.record.runs
            assert other.read_bytes() == (FILES[runs.version - 1] if runs else b"")
            if left.record.state is State.TRIAL:
                assert left.record.tries == cut.tries - 1  # this start was counted, beside those that had been
    assert states >= 5


def ours() -> dict[str, object]:
    """This process, as the service names itself."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return {"boot": boot, "pid": os.getpid(), "started": int(fields[22 - 3])}


def test_what_the_service_writes_is_read_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "health"
    assert read_health(path) is None
    said = {
        "adapter": None, "offered": None, "refused": 0, "why": "", "since_ms": 5, "forecasts": 1, "slow": 0,
        "slowest_ms": 0.5, "errors": {"400": 2}, "last_error": "x",
    }  # fmt: skip
    whole = {"channels": [said], "version": 2, **ours()}
    path.write_text(json.dumps(whole))
    health = read_health(path)
    assert health is not None
    assert (health.forecasts, health.errors) == (1, {"400": 2})
    less = {name: value for name, value in said.items() if name != "slow"}
    wrongs: list[object] = [{}, [], "", {**whole, "channels": []}, {**whole, "version": 1}, {**whole, "pid": "1"}]
    wrongs += [{**whole, "channels": [one]} for one in ({**said, "forecasts": "many"}, less)]
    wrongs += [{name: value for name, value in whole.items() if name != gone} for gone in ("boot", "pid", "started")]
    for wrong in wrongs:
        path.write_text(json.dumps(wrong))
        with pytest.raises(FormatError):
            read_health(path)
    path.write_bytes(b"\xff")
    with pytest.raises(FormatError):
        read_health(path)
