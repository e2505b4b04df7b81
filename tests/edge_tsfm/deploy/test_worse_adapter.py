"""A whole, proven, punctual adapter that is worse than its base: monitors take it back and its roll-out halts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from device_runtime.forecast.stream import Stream, StreamSignal
from device_runtime.format.binding import Binding
from device_runtime.format.blob import decode, encode
from device_runtime.monitor import installer_of
from device_runtime.quality.rules import QualityRules
from device_runtime.update.agent.poll import Agent
from device_runtime.update.audit import read_lines
from device_runtime.update.health import HealthRules
from device_runtime.update.host import Host
from device_runtime.update.lifecycle import State
from device_runtime.update.report import report_on
from device_runtime.update.settings import DeviceConfig, read_config
from device_runtime.update.slots import Slots, slots_of
from edge_tsfm.deploy import rings
from edge_tsfm.deploy.controller import Action, Stage
from edge_tsfm.deploy.ledger import read_rollout
from edge_tsfm.deploy.repository import Repository
from tests.simulators.publisher import (
    BUNDLE,
    NOW,
    adapter_blob,
    approve_version,
    make_device,
    make_repository,
    scaled_blob,
)
from tests.simulators.ward_feed import feed
from tests.support import streamed

HOUR = 3_600_000
LAST_TENSOR = 48  # of the dummy base: the one whose delta moves forecasts most
TRIAL = HealthRules(seconds=0.0, min_forecasts=3, latency_budget=60.0, max_wql_vs_base_percent=5.0, min_scored=60)
STRICT = Stage(permille=1000, min_reports=2, soak_hours=0.0)
LENIENT = replace(STRICT, max_failures=100, max_failure_percent=100.0, max_wql_vs_base_percent=5.0)


class Monitor:
    """A monitor with its base, its models and a feed of its own."""

    def __init__(self, folder: Path, repository: Repository, number: int) -> None:
        quality = QualityRules(shadow_every=1, min_reported=20)
        config = make_device(folder / f"bed-{number}", repository, f"bed-{number}")
        self.number = number
        self.config: DeviceConfig = replace(config, health=TRIAL, quality=quality)
        self.installer = installer_of(self.config)

    def try_out(self, steps: int = 3_000) -> None:
        """Take what is rolled out, forecast until its trial has ended, and report."""
        assert Agent(self.config, self.installer, clock=NOW.timestamp).poll(activate_now=True).action == "trial"
        host = Host(self.config, self.installer.open)
        stream = Stream(host, (StreamSignal(name="MAP", interval_ms=HOUR),), context_length=16, min_observed=4)
        for t_ms, value in feed(steps, self.number):
            if stream.push("MAP", t_ms, value) and t_ms > 4 * HOUR:
                stream.forecast("MAP", 6)
                if host.started.state is not State.TRIAL:
                    break
        host.close()
        assert report_on(self.config, slots_of(self.config), "") == ""

    def events(self) -> list[tuple[str, str]]:
        return events_of(slots_of(self.config))


def events_of(slots: Slots) -> list[tuple[str, str]]:
    return [(line.body["event"], line.body["reason"]) for line in read_lines(slots.audit.export())]


def roll_out(folder: Path, blob: bytes, stage: Stage) -> tuple[Repository, list[Monitor]]:
    repository = make_repository(folder)
    approval = approve_version(repository, 1, blob=blob)
    rings.start(repository, "icu", approval.file, (stage,), who="ops")
    return repository, [Monitor(folder, repository, number) for number in range(2)]


@pytest.fixture(scope="module")
def worse() -> bytes:
    return scaled_blob(adapter_blob(1), 20.0, BUNDLE, tensor=LAST_TENSOR)


@pytest.mark.parametrize(("stage", "figure"), [(STRICT, "max_failures"), (LENIENT, "max_wql_vs_base_percent")])
def test_one_scaled_coefficient_is_taken_back_and_its_rollout_halts(
    tmp_path: Path, worse: bytes, stage: Stage, figure: str
) -> None:
    repository, monitors = roll_out(tmp_path, worse, stage)
    for monitor in monitors:
        monitor.try_out()
        record = slots_of(monitor.config).record
        assert (record.state, record.failed_sequence) == (State.BASE, 1)
        event, reason = monitor.events()[-1]
        assert event == "roll back"
        assert "health window: MAP WQL" in reason
        assert "against the base's" in reason
    decision = rings.step(repository, "icu", tmp_path / "reports", who="timer")
    assert (decision.action, decision.figure) == (Action.STOP, figure)
    state = read_rollout(repository, "icu")
    assert state is not None
    assert (state["halt"], state["because"]) == (True, decision.why)
    if stage is STRICT:
        assert decision.why.startswith("2 failures, at most 0: bed-0: health window: MAP WQL")
    else:
        assert "over 2 monitors" in decision.why
    assert "%" in decision.why


def test_a_good_one_passes_and_its_rollout_goes_on(tmp_path: Path) -> None:
    repository, monitors = roll_out(tmp_path, adapter_blob(1), LENIENT)
    for monitor in monitors:
        monitor.try_out()
        event, reason = monitor.events()[-1]
        assert event == "confirm"
        assert "health window passed" in reason
        assert "against the base's" in reason
    decision = rings.step(repository, "icu", tmp_path / "reports", who="timer")
    assert decision.action is Action.FINISH, decision


JUDGED = """accept_differences = ["signal"]
[health]
seconds = 0
min_forecasts = 1
latency_budget = 60
max_wql_vs_base_percent = 5
min_scored = 60
[quality]
shadow_every = 1
"""


@pytest.mark.slow
def test_another_signals_adapter_that_was_accepted_by_name_is_taken_back_by_the_command(
    tmp_path: Path, worse: bytes
) -> None:
    hr = Binding.of("HR", interval_us=3_600_000_000, context_length=48, prediction_length=6)
    config = streamed.install(tmp_path / "bed", BUNDLE, encode(replace(decode(worse), binding=hr)), JUDGED)
    answers = streamed.stream(config, "".join(f"MAP,{t_ms},{value}\n" for t_ms, value in feed(400, 0)))
    made = [one for one in answers if "quantiles" in one]
    assert made[0]["adapter"] is not None
    assert made[-1]["adapter"] is None  # the base, from the next forecast on
    (_, last) = events_of(slots_of(read_config(config)))[-1]
    assert "health window: MAP WQL" in last
    (base, tried) = streamed.quality(config)["signals"]["MAP"]
    assert (base["adapter"], tried["against"]["base"]["verdict"]) == (None, "worse")
    assert tried["against"]["base"]["wql_percent"] > 5
