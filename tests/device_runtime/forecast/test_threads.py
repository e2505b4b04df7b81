"""How the number of threads is chosen where nobody says one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from device_runtime.cli import cli
from device_runtime.errors import SettingsError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.session import AUTO, SessionSettings
from device_runtime.forecast.threads import best, measure, settled

BUNDLE = Path(__file__).resolve().parents[2] / "dummy_bases" / "chronos-bolt-bundle"


@pytest.mark.parametrize(
    ("times", "threads"),
    [
        ({1: 0.0}, 1),
        ({1: 2.0, 2: 1.9}, 1),  # not worth a core
        ({1: 2.0, 2: 1.7}, 2),
        ({1: 2.0, 2: 1.9, 4: 1.7}, 4),
        ({1: 2.0, 2: 1.2, 4: 1.15}, 2),
        ({1: 2.0, 2: 3.0, 4: 4.0}, 1),
    ],
)
def test_more_threads_are_taken_where_they_are_worth_their_cores(times: dict[int, float], threads: int) -> None:
    assert best(times) == threads


class Scripted:
    """A clock on which every second reading, the end of a forecast, lies later by the next of ``durations``."""

    def __init__(self, durations: list[float]) -> None:
        self.durations, self.now, self.read = durations, 0.0, 0

    def __call__(self) -> float:
        if self.read % 2:
            self.now += self.durations[self.read // 2 % len(self.durations)]
        self.read += 1
        return self.now


def test_every_number_is_timed_in_turn_and_no_more_than_there_are_cores() -> None:
    bundle = Bundle.open(BUNDLE)
    settings = SessionSettings(threads=AUTO)
    assert measure(bundle, settings, cores=3, clock=Scripted([0.002, 0.001])) == pytest.approx({1: 2.0, 2: 1.0})
    clock = Scripted([0.003, 0.002, 0.001])
    assert measure(bundle, settings, cores=8, clock=clock) == pytest.approx({1: 3.0, 2: 2.0, 4: 1.0})
    assert clock.read == 2 * 3 * 8  # once to warm up, then seven times


def test_one_core_needs_no_measurement() -> None:
    def clock() -> float:
        raise AssertionError("nothing to measure")

    assert measure(Bundle.open(BUNDLE), SessionSettings(threads=AUTO), cores=1, clock=clock) == {1: 0.0}


def test_a_number_that_is_said_is_taken_unmeasured(monkeypatch) -> None:
    monkeypatch.setattr("device_runtime.forecast.threads.measure", lambda *_: pytest.fail("measured"))
    said = SessionSettings(threads=3)
    assert settled(Bundle.open(BUNDLE), said) is said


def test_auto_forecasts_what_a_number_forecasts() -> None:
    context = [80.0 + i % 5 for i in range(40)]
    auto = Forecaster.open(BUNDLE, settings=SessionSettings(threads=AUTO)).forecast(context)
    said = Forecaster.open(BUNDLE, settings=SessionSettings(threads=1)).forecast(context)
    assert auto.quantiles == pytest.approx(said.quantiles, rel=1e-5)


def test_the_command_says_what_it_measured_and_reports_the_number(monkeypatch) -> None:
    monkeypatch.setattr("device_runtime.forecast.threads.measure", lambda *_: {1: 3.0, 2: 1.0})
    arguments = ["bench", str(BUNDLE), "--runs", "3", "--context-length", "16", "--json"]
    result = CliRunner().invoke(cli, [*arguments, "--threads", "auto"])
    assert result.exit_code == 0, result.output
    assert result.stderr == "threads 2 (measured with 1: 3.00 ms, 2: 1.00 ms)\n"
    assert json.loads(result.stdout)["threads"] == 2
    said = CliRunner().invoke(cli, [*arguments, "--threads", "1"])
    assert said.stderr == ""
    assert json.loads(said.stdout)["threads"] == 1


@pytest.mark.parametrize("count", ["0", "65", "many"])
def test_what_is_no_number_of_threads_is_a_usage_error(count: str) -> None:
    result = CliRunner().invoke(cli, ["bench", str(BUNDLE), "--threads", count])
    assert result.exit_code == 2
    assert "--threads" in result.output


def test_the_threads_of_another_provider_are_not_measured() -> None:
    with pytest.raises(SettingsError, match="openvino was asked for") as refused:
        measure(Bundle.open(BUNDLE), SessionSettings(threads=AUTO, provider="openvino"))
    assert "--threads 2" in str(refused.value.hint)
