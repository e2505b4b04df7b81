"""The host: what is installed forecasts, and a trial is judged by the forecasts it makes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from device_runtime.errors import ForecastError, InputError
from device_runtime.forecast.forecaster import Forecast, Forecaster
from device_runtime.monitor import installer_of
from device_runtime.update.agent.poll import Agent
from device_runtime.update.disk import PosixDisk
from device_runtime.update.health import HealthRules
from device_runtime.update.host import Host
from device_runtime.update.lifecycle import Record, State
from device_runtime.update.lock import locked
from device_runtime.update.settings import DeviceConfig
from device_runtime.update.slots import Slots
from edge_tsfm.deploy import rings
from tests.simulators.publisher import EVERYBODY, NOW, approve_version, make_device, make_repository

CONTEXT = [70.0 + i % 5 for i in range(16)]


class Monitor:
    """A device with a repository that offers version 1, and a host whose clock the test sets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        repository = make_repository(folder)
        approval = approve_version(repository, 1)
        rings.start(repository, "icu", approval.file, EVERYBODY, who="ops")
        rules = HealthRules(seconds=60.0, min_forecasts=3, max_failures=0, latency_budget=5.0)
        self.config: DeviceConfig = replace(make_device(folder / "bed", repository, "bed"), health=rules)
        self.installer = installer_of(self.config)
        self.seconds = 0.0
        self.host = Host(self.config, self.installer.open, clock=lambda: self.seconds)

    def update(self) -> None:
        outcome = Agent(self.config, self.installer, clock=NOW.timestamp).poll(activate_now=True)
        assert outcome.action == "trial"

    @property
    def record(self) -> Record:
        return Slots(PosixDisk(self.config.state), device_id="bed").record


@pytest.fixture
def monitor(tmp_path: Path) -> Monitor:
    return Monitor(tmp_path)


def test_a_trial_begins_with_the_next_forecast_and_is_confirmed_after_its_window(monitor: Monitor) -> None:
    assert monitor.host.forecast(CONTEXT).adapter is None
    monitor.update()
    for monitor.seconds in (1.0, 2.0, 59.0):
        assert monitor.host.forecast(CONTEXT).adapter_version == 1
        assert monitor.record.state is State.TRIAL
    monitor.seconds = 61.1
    monitor.host.forecast(CONTEXT)
    assert (monitor.record.state, monitor.record.reason) == (State.CONFIRMED, "health window passed, 4 forecasts")
    assert monitor.host.forecast(CONTEXT).adapter_version == 1


def test_forecasts_must_be_many_enough_too(monitor: Monitor) -> None:
    monitor.update()
    monitor.host.forecast(CONTEXT)
    monitor.seconds = 1_000.0
    monitor.host.forecast(CONTEXT)
    assert monitor.record.state is State.TRIAL


def test_a_trial_that_fails_gives_way_to_what_ran_before(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monitor.update()
    monitor.host.forecast(CONTEXT)

    def fail(*_: object, **__: object) -> Forecast:
        raise ForecastError("the model's quantiles are not finite")

    with monkeypatch.context() as patch:
        patch.setattr(Forecaster, "forecast", fail)
        with pytest.raises(ForecastError):
            monitor.host.forecast(CONTEXT)
    assert (monitor.record.state, monitor.record.failed_sequence) == (State.BASE, 1)
    assert "not finite" in monitor.record.reason
    assert monitor.host.forecast(CONTEXT).adapter is None


def test_a_slow_forecast_is_a_failure(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monitor.update()
    monitor.host.refresh()
    quick = Forecaster.forecast

    def slow(forecaster: Forecaster, *arguments: object, **named: object) -> Forecast:
        monitor.seconds += 5.1
        return quick(forecaster, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Forecaster, "forecast", slow)
    monitor.host.forecast(CONTEXT)
    assert (monitor.record.state, monitor.record.reason) == (State.BASE, "health window: 5.100 s for a forecast")


def test_a_bad_context_is_no_fault_of_the_adapter(monitor: Monitor) -> None:
    monitor.update()
    for _ in range(5):
        with pytest.raises(InputError):
            monitor.host.forecast([float("nan")])
    assert monitor.record.state is State.TRIAL


def test_while_the_state_is_locked_forecasts_go_on_and_judgement_waits(monitor: Monitor) -> None:
    monitor.update()
    monitor.host.refresh()
    with locked(monitor.config.state):
        for monitor.seconds in (10.0, 61.0, 62.0):
            assert monitor.host.forecast(CONTEXT).adapter_version == 1
    assert monitor.record.state is State.TRIAL
    monitor.host.forecast(CONTEXT)
    assert monitor.record.state is State.CONFIRMED


def test_a_rollback_by_hand_is_taken_over(monitor: Monitor) -> None:
    monitor.update()
    assert monitor.host.forecast(CONTEXT).adapter_version == 1
    with locked(monitor.config.state):
        Slots(PosixDisk(monitor.config.state), device_id="bed").fall_back("by hand", who="operator")
    assert monitor.host.forecast(CONTEXT).adapter is None


def test_the_stream_command_runs_what_is_installed(monitor: Monitor) -> None:
    monitor.update()
    command = [sys.executable, "-m", "device_runtime.cli", "stream", "--signal", "MAP", "--interval", "1h"]
    command += ["--context-length", "8", "--min-observed", "3", "--config", str(monitor.folder / "bed" / "device.toml")]
    samples = "".join(f"MAP,{step * 3_600_000},{70 + step % 5}\n" for step in range(6))
    done = subprocess.run(command, input=samples, capture_output=True, text=True, check=True)
    forecasts = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line.get("adapter_version") for line in forecasts[2:]] == [1, 1, 1, 1]
    both = subprocess.run([*command, "bundle"], input="", capture_output=True, text=True, check=False)
    assert (both.returncode, "either BUNDLE" in both.stderr) == (2, True)
