"""A trial that is finite, punctual and worse than the base is taken back by what its forecasts turned out to be."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from device_runtime.errors import InputError, SettingsError
from device_runtime.format.binding import Use
from device_runtime.quality.rules import QualityRules
from device_runtime.update.audit import read_lines
from device_runtime.update.disk import PosixDisk
from device_runtime.update.field_store import QUALITY, published
from device_runtime.update.health import HealthRules
from device_runtime.update.host import Host
from device_runtime.update.lifecycle import Entry, Record, State
from device_runtime.update.report import report_of, to_value
from device_runtime.update.settings import DeviceConfig
from device_runtime.update.slots import Slots, slots_of
from tests.simulators.ward_feed import LEVELS, Made, Oracle, feed

USE = Use(signal="MAP", interval_us=3_600_000_000)
FILES = {name: name.encode() * 30 for name in ("good", "worse", "first")}


class Bed:
    """A monitor whose slots hold oracles."""

    def __init__(self, folder: Path, *, percent: float | None = 2.0, **rules: object) -> None:
        health = HealthRules(seconds=0.0, min_forecasts=3, latency_budget=60.0, max_wql_vs_base_percent=percent)
        self.config = DeviceConfig(
            device_id="bed", ring="icu", bundle=folder / "bundle", state=folder / "state",
            trusted_keys=(bytes(32),), health=health, signal="MAP", interval="1h",
            quality=QualityRules(shadow_every=1, min_reported=20, **rules),  # type: ignore[arg-type]
        )  # fmt: skip
        self.seconds = 0.0
        self.base = Oracle()
        self.opened: list[bytes | None] = []
        self.t_ms = -1
        self.host = self.start()

    def start(self) -> Host[Made]:
        return Host(self.config, self.open, clock=lambda: self.seconds)

    def open(self, data: bytes | None) -> Oracle:
        self.opened.append(data)
        if data is None:
            return self.base
        shift = 0.6 if data == FILES["worse"] else 0.0
        return Oracle(hashlib.sha256(data).hexdigest(), shift)

    def try_out(self, name: str, sequence: int = 1) -> None:
        slots, data = self.slots, FILES[name]
        digest = hashlib.sha256(data).hexdigest()
        slots.stage(data, Entry(file=digest, adapter=digest, version=1, sequence=sequence), "icu", who="test")
        slots.activate(who="test")

    def run(self, steps: int, *, seed: int = 0) -> int:
        """Feed steps behind what was fed; return after how many the trial had ended, or how many there were."""
        begun = self.t_ms + 1
        for step, (t_ms, value) in enumerate(feed(steps, seed)):
            self.t_ms = begun + t_ms
            self.seconds += 1.0
            self.host.observe("MAP", self.t_ms, value)
            if step >= 3:
                self.host.forecast([80.0, value], 6, LEVELS, use=USE)
                if self.host.started.state is not State.TRIAL:
                    return step
        return steps

    def watch(self, steps: int, *, seed: int = 0) -> None:
        """Feed steps behind what was fed, and forecast each."""
        begun = self.t_ms + 1
        for t_ms, value in feed(steps, seed):
            self.t_ms = begun + t_ms
            self.seconds += 1.0
            self.host.observe("MAP", self.t_ms, value)
            self.host.forecast([80.0, value], 6, LEVELS, use=USE)

    @property
    def slots(self) -> Slots:
        return slots_of(self.config)

    @property
    def record(self) -> Record:
        return self.slots.record


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


def test_a_worse_adapter_is_taken_back_with_its_figures_in_the_log(bed: Bed) -> None:
    bed.try_out("worse")
    assert bed.run(3_000) < 2_000
    assert (bed.record.state, bed.record.failed_sequence) == (State.BASE, 1)
    assert "MAP WQL" in bed.record.reason
    assert "at most +2 %" in bed.record.reason
    last = list(read_lines(bed.slots.audit.export()))[-1].body
    assert (last["event"], last["reason"]) == ("roll back", bed.record.reason)
    figures = bed.host.quality()["signals"]["MAP"][0]["against"]["base"]
    assert figures["wql_percent"] > 2
    assert bed.host.forecast([80.0, 80.0], 6, LEVELS, use=USE).adapter is None


def test_a_good_adapter_passes_with_its_figures_in_the_log(bed: Bed) -> None:
    bed.try_out("good")
    assert bed.run(6_000) < 6_000
    assert bed.record.state is State.CONFIRMED
    assert "health window passed" in bed.record.reason
    assert "+0.00 % against the base's" in bed.record.reason


def test_without_a_limit_a_worse_adapter_passes_as_it_did(tmp_path: Path) -> None:
    bed = Bed(tmp_path, percent=None)
    bed.try_out("worse")
    assert bed.run(100) < 10
    assert (bed.record.state, bed.record.reason) == (State.CONFIRMED, "health window passed, 3 forecasts")


def test_a_trial_without_targets_waits(bed: Bed) -> None:
    bed.try_out("good")
    for _ in range(50):
        bed.seconds += 1e6
        bed.host.forecast([80.0, 81.0], 6, LEVELS, use=USE)
    assert bed.record.state is State.TRIAL


def test_nothing_is_judged_before_enough_was_scored(tmp_path: Path) -> None:
    bed = Bed(tmp_path)
    bed.config = replace(bed.config, health=replace(bed.config.health, min_scored=10**9))
    bed.host = bed.start()
    bed.try_out("worse")
    assert bed.run(1_500) == 1_500
    assert bed.record.state is State.TRIAL


def test_the_previous_adapter_forecasts_beside_a_trial(bed: Bed) -> None:
    bed.try_out("first")
    bed.run(6_000)
    bed.try_out("worse", 2)
    bed.run(3_000, seed=1)
    assert bed.record.state is State.CONFIRMED  # the first one, again
    held = {one["adapter"]: one for one in bed.host.quality()["signals"]["MAP"]}
    beside = held[hashlib.sha256(FILES["worse"]).hexdigest()]["against"]["previous"]
    assert beside["adapter"] == hashlib.sha256(FILES["first"]).hexdigest()
    assert beside["wql_percent"] > 2


def drift_lines(bed: Bed) -> list[dict[str, object]]:
    return [line.body for line in read_lines(bed.slots.audit.export()) if line.body["event"] == "drift"]


def drifting(folder: Path) -> Bed:
    """A monitor whose confirmed adapter is about to be worse than its base."""
    bed = Bed(folder, percent=None)
    bed.try_out("worse")
    bed.run(10)
    assert bed.record.state is State.CONFIRMED
    return bed


def test_the_drift_flag_is_in_the_log_once_with_its_figures(tmp_path: Path) -> None:
    bed = drifting(tmp_path)
    bed.watch(1_500)
    (line,) = drift_lines(bed)
    assert line["drifts"] == hashlib.sha256(FILES["worse"]).hexdigest()
    assert "MAP WQL" in str(line["figures"])
    assert "% against the base's" in str(line["figures"])
    assert (line["state"], line["reason"]) == ("confirmed", "health window passed, 3 forecasts")
    assert bed.host.quality()["signals"]["MAP"][0]["against"]["base"]["drift_since_ms"]
    bed.host.close()
    bed.host = bed.start()
    bed.watch(300, seed=1)
    assert len(drift_lines(bed)) == 1
    assert bed.host.started.state is State.CONFIRMED  # nothing else follows from it


def test_a_drift_flag_that_the_disk_did_not_take_is_logged_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed = drifting(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("device_runtime.update.disk.os.write", full)
        bed.watch(1_500)
        assert drift_lines(bed) == []
    bed.watch(20, seed=1)
    assert len(drift_lines(bed)) == 1


def test_evidence_goes_on_over_restarts(tmp_path: Path) -> None:
    whole, cut = Bed(tmp_path / "whole"), Bed(tmp_path / "cut")
    ends = []
    for bed in (whole, cut):
        bed.try_out("worse")
        total = 0
        for part in range(40):
            ran = bed.run(100, seed=part)
            total += ran
            bed.host.end_stay("MAP")
            if bed.record.state is not State.TRIAL:
                break
            if bed is cut and part < 2:  # a trial has three starts
                bed.host.close()
                bed.host = bed.start()
        ends.append(total)
    assert ends[0] == ends[1] < 4_000
    assert whole.record.reason == cut.record.reason


def test_a_power_cut_costs_what_was_scored_since_the_last_write_and_no_more(bed: Bed) -> None:
    bed.try_out("good")
    bed.run(700)
    before = bed.host.quality()["signals"]["MAP"][0]["steps"]
    after = bed.start().quality()["signals"]["MAP"][0]["steps"]
    assert before - 6 * bed.config.quality.save_seconds <= after <= before
    assert after > 0


def test_a_damaged_file_begins_anew_and_is_said(bed: Bed) -> None:
    bed.try_out("good")
    bed.run(400)
    bed.host.close()
    path = bed.config.state / QUALITY
    path.write_bytes(path.read_bytes()[:-40])
    host = bed.start()
    assert "damaged" in host.quality()["problem"]
    assert host.quality()["signals"] == {}
    assert published(PosixDisk(bed.config.state)) == {}


def test_a_disk_that_takes_nothing_keeps_no_forecast(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    bed.try_out("worse")
    bed.run(400)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("device_runtime.update.disk.os.write", full)
        bed.host.close()
        assert "No space left" in bed.host.quality()["problem"]
    bed.host.close()
    assert bed.host.quality()["problem"] == ""


def test_a_base_that_does_not_come_up_in_shadow_costs_no_forecast(bed: Bed) -> None:
    bed.try_out("good")
    bed.host.refresh()
    bed.base.broken = True
    bed.run(50)
    assert "base in shadow: ForecastError" in bed.host.quality()["problem"]
    assert bed.host.quality()["signals"]["MAP"][0]["against"] == {}
    bed.base.broken = False
    bed.seconds += 4_000.0
    bed.run(50, seed=1)
    assert bed.host.quality()["signals"]["MAP"][0]["against"]["base"]["other"]["steps"] > 100


@pytest.mark.parametrize("every", [0, 3, 4])
def test_the_base_makes_one_forecast_in_n(tmp_path: Path, every: int) -> None:
    bed = Bed(tmp_path, percent=None)
    health = replace(bed.config.health, seconds=1e9)  # the trial goes on
    bed.config = replace(bed.config, health=health, quality=replace(bed.config.quality, shadow_every=every))
    bed.try_out("good")
    bed.host = bed.start()
    bed.run(103)
    assert bed.base.calls == (-(-100 // every) if every else 0)


def test_the_base_alone_has_nobody_beside_it(bed: Bed) -> None:
    opened = len(bed.opened)
    for t_ms, value in feed(60, 0):
        bed.host.observe("MAP", t_ms, value)
        bed.host.forecast([80.0, value], 6, LEVELS, use=USE)
    assert len(bed.opened) == opened
    (one,) = bed.host.quality()["signals"]["MAP"]
    assert (one["adapter"], one["against"]) == (None, {})


def test_a_report_carries_sums_and_nothing_of_a_patient(bed: Bed) -> None:
    bed.try_out("worse")
    bed.run(1_500)
    bed.host.close()
    report = report_of(bed.slots, ring="icu", base="", quality=published(PosixDisk(bed.config.state)))
    text = json.dumps(to_value(report))
    assert len(text) < 8_192
    said = report.quality["MAP"][-1]
    assert set(said) == {"adapter", "levels", "total", "base"}


def test_an_interval_must_be_said_by_somebody(tmp_path: Path) -> None:
    bed = Bed(tmp_path)
    bed.config = replace(bed.config, interval="")
    host = bed.start()
    with pytest.raises(InputError, match="length of a step"):
        host.observe("MAP", 0, 80.0)
    host.observe("MAP", 0, 80.0, interval_ms=1_000)


def test_every_name_of_a_signal_is_the_same_one(bed: Bed) -> None:
    for t_ms, value in feed(30, 0):
        bed.host.observe("mean arterial pressure", t_ms, value)
        bed.host.forecast([80.0, value], 6, LEVELS, use=USE)
    assert list(bed.host.quality()["signals"]) == ["MAP"]


def test_a_limit_without_a_base_to_judge_by_is_refused(tmp_path: Path) -> None:
    bed = Bed(tmp_path)
    with pytest.raises(SettingsError, match="shadow_every 0"):
        replace(bed.config, quality=replace(bed.config.quality, shadow_every=0))


def test_batches_and_forecasts_of_something_unsaid_are_not_scored(bed: Bed) -> None:
    for t_ms, value in feed(30, 0):
        bed.host.observe("MAP", t_ms, value)
        bed.host.forecast([80.0, value], 6, LEVELS, use=Use(signal="HR"))
    assert bed.host.quality()["signals"] == {}


@pytest.mark.parametrize("wrong", [{"max_wql_vs_base_percent": -100.0}, {"min_scored": 0}])
def test_limits_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        HealthRules(**wrong)  # type: ignore[arg-type]
