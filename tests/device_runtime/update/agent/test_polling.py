"""Policies, locks, damaged records and polling for ever, on the device itself."""

from __future__ import annotations

import dataclasses
import datetime as dt
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from device_runtime.errors import LockedError
from device_runtime.update.agent.poll import next_poll
from device_runtime.update.lock import locked
from device_runtime.update.settings import Policy
from device_runtime.update.start import start
from tests.simulators.monitor import Monitor, second_version


def test_policies(monitor: Monitor, tmp_path: Path) -> None:
    idle, inhibit = tmp_path / "idle", tmp_path / "inhibit"
    policy = Policy(activation="idle", idle_file=idle, inhibit_file=inhibit)
    monitor.config = dataclasses.replace(monitor.config, policy=policy)
    assert monitor.poll(activate_now=False).reason == "the monitor is in use"
    idle.touch()
    inhibit.touch()
    assert "inhibited" in monitor.poll(activate_now=True).reason
    inhibit.unlink()
    assert monitor.poll(activate_now=False).action == "trial"


def test_an_idle_file_that_cannot_be_looked_for_means_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: Path) -> bool:
        raise PermissionError("denied")

    policy = Policy(activation="idle", idle_file=tmp_path / "idle")
    monkeypatch.setattr(Path, "exists", denied)
    assert policy.allows(dt.datetime(2026, 1, 1, tzinfo=dt.UTC)) == (False, "the monitor is in use")


@pytest.mark.parametrize(
    ("window", "hour", "allowed"),
    [("02:00-04:00", 3, True), ("02:00-04:00", 4, False), ("23:00-01:00", 0, True), ("23:00-01:00", 12, False)],
)
def test_window(window: str, hour: int, allowed: bool) -> None:
    policy = Policy(activation="window", window=window)
    assert policy.allows(dt.datetime(2026, 1, 1, hour, 0))[0] is allowed


def test_two_agents_at_once(monitor: Monitor) -> None:
    with locked(monitor.config.state), pytest.raises(LockedError), locked(monitor.config.state):
        pass


def test_a_damaged_state_record_means_the_base(monitor: Monitor) -> None:
    monitor.poll()
    monitor.confirm()
    path = monitor.config.state / "state"
    path.write_bytes(path.read_bytes().replace(b"confirmed", b"cOnfirmed"))
    started = start(monitor.slots, monitor.installer.open, ring="icu")
    assert started.entry is None
    assert "damaged" in started.failures[0]


def test_a_lost_floor_blocks_installs_and_not_what_runs(monitor: Monitor) -> None:
    monitor.poll()
    monitor.confirm()
    second_version(monitor)
    for name in ("floor.a", "floor.b"):
        (monitor.config.state / name).unlink()
    outcome = monitor.poll()
    assert (outcome.action, outcome.code) == ("failed", 400)
    assert start(monitor.slots, monitor.installer.open, ring="icu").entry is not None


def test_a_missing_root_link_heals(monitor: Monitor) -> None:
    monitor.poll()
    monitor.confirm()
    (monitor.config.state / "tuf" / "root.json").unlink()
    assert monitor.poll().reason == "up to date"


def test_backoff_doubles_and_is_bounded() -> None:
    assert next_poll(600, 0, lambda: 0.5) == 600
    assert next_poll(600, 1, lambda: 0.5) == 1200
    assert next_poll(600, 40, lambda: 1.0) == pytest.approx(1.2 * 86_400)
    assert next_poll(600, 0, lambda: 0.0) == 480


def test_polling_for_ever_backs_off_and_recovers(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    from device_runtime.cli import cli as device_cli
    from device_runtime.cli import update

    codes = iter([1, 2, 0, -9])
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(
        update.subprocess, "run", lambda command, check: subprocess.CompletedProcess(command, next(codes))
    )
    monkeypatch.setattr(update.time, "sleep", sleep)
    CliRunner().invoke(device_cli, ["update", "--every", "600", "--config", str(monitor.folder / "device/device.toml")])
    for seconds, expected in zip(slept, (1200, 2400, 600, 1200), strict=True):
        assert 0.8 * expected <= seconds <= 1.2 * expected
