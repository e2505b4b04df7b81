"""The fault matrix of an update: every step × {error, killed}, damage, wrong keys."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable

import pytest

from device_runtime.errors import DeviceRuntimeError, SelfTestError, StorageError
from device_runtime.update.agent.repository import Repository as ClientRepository
from device_runtime.update.install import Installer
from device_runtime.update.lifecycle import State
from device_runtime.update.slots import Slots
from device_runtime.update.start import start
from tests.simulators.monitor import Killed, Monitor, target_file


def test_update_then_idle(monitor: Monitor) -> None:
    outcome = monitor.poll()
    assert (outcome.action, outcome.sequence) == ("trial", 1)
    assert monitor.poll().reason == "a trial is running"
    monitor.confirm()
    idle = monitor.poll()
    assert (idle.action, idle.reason) == ("nothing", "up to date")
    assert idle.received < 1000  # the roll-out document and the timestamp


def _in(owner: type, name: str) -> Callable[[pytest.MonkeyPatch, BaseException], None]:
    def plant(patch: pytest.MonkeyPatch, error: BaseException) -> None:
        def fail(*_: object, **__: object) -> None:
            raise error

        patch.setattr(owner, name, fail)

    return plant


STEPS = {
    "poll": _in(ClientRepository, "refresh"),
    "verify": _in(ClientRepository, "target"),
    "download": _in(ClientRepository, "download"),
    "check": _in(Installer, "check"),
    "stage": _in(Slots, "stage"),
    "activate": _in(Slots, "activate"),
}


@pytest.mark.parametrize("how", [StorageError("planted"), Killed()], ids=["error", "killed"])
@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_fails_keeps_what_runs_and_the_next_poll_succeeds(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch, step: str, how: BaseException
) -> None:
    with monkeypatch.context() as patch:
        STEPS[step](patch, how)
        if isinstance(how, Killed):
            with pytest.raises(Killed):
                monitor.poll()
        else:
            assert monitor.poll().action == "failed"
    assert monitor.slots.record.runs is None
    assert start(monitor.slots, monitor.installer.open, ring="icu").entry is None
    assert monitor.poll().action == "trial"


@pytest.mark.parametrize("how", [SelfTestError("off"), ValueError("NaN"), Killed()], ids=repr)
def test_a_trial_that_fails_or_dies_ends_at_the_base(monitor: Monitor, how: BaseException) -> None:
    assert monitor.poll().action == "trial"

    def open_adapter(data: bytes | None) -> object:
        if data is not None:
            raise how
        return "base"

    for _ in range(3):
        try:
            start(monitor.slots, open_adapter, ring="icu")
        except Killed:
            continue
    assert start(monitor.slots, open_adapter, ring="icu").running == "base"
    assert monitor.slots.record.state is State.BASE
    again = monitor.poll()
    assert "failed here before" in again.reason  # out of the loop: not fetched for ever
    assert monitor.slots.record.state is State.BASE


@pytest.mark.parametrize("step", ["confirm", "fall_back"])
def test_killed_while_confirming_or_rolling_back(monitor: Monitor, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    monitor.poll()
    slots = monitor.slots
    start(slots, monitor.installer.open, ring="icu")
    with monkeypatch.context() as patch:
        _in(Slots, "_commit")(patch, Killed())
        with pytest.raises(Killed):
            getattr(slots, step)("x", who="test")
    assert monitor.slots.record.state is State.TRIAL
    assert start(monitor.slots, monitor.installer.open, ring="icu").entry is not None


def test_a_report_that_cannot_be_sent_changes_nothing(monitor: Monitor) -> None:
    monitor.config = dataclasses.replace(monitor.config, report_to="http://127.0.0.1:9/report")
    outcome = monitor.poll()
    assert outcome.action == "trial"
    assert "report" in outcome.report_failed


def test_no_truncation_and_no_flipped_bit_is_installed(monitor: Monitor) -> None:
    data = target_file(monitor).read_bytes()
    slots = monitor.slots
    proven: list[bytes | None] = []
    installer = dataclasses.replace(monitor.installer, self_test=proven.append)
    damaged = [data[:length] for length in range(0, len(data), 7)]
    damaged += [data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :] for at in range(0, len(data), 3)]
    for bytes_ in damaged:
        with pytest.raises(DeviceRuntimeError) as caught:
            installer.prove(slots, bytes_, "icu")
        assert 100 <= caught.value.code < 300, caught.value
    assert not proven
    assert slots.record.state is State.BASE


def test_a_damaged_target_is_refused_by_its_hash(monitor: Monitor) -> None:
    path = target_file(monitor)
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    outcome = monitor.poll()
    assert (outcome.action, outcome.code) == ("refused", 200)


def test_wrong_base_wrong_key_too_few_keys(monitor: Monitor) -> None:
    installer = monitor.installer
    for changed, code in (
        (dataclasses.replace(installer, base_digest=bytes(32)), 300),
        (dataclasses.replace(installer, trusted_keys=(bytes(32),)), 200),
        (dataclasses.replace(installer, threshold=2), 200),
    ):
        monitor.installer = changed
        shutil.rmtree(monitor.config.state, ignore_errors=True)
        outcome = monitor.poll()
        assert (outcome.action, outcome.code) == ("refused", code)
        assert monitor.slots.record.runs is None


def test_a_wrong_known_answer_is_refused_once_and_not_fetched_again(monitor: Monitor) -> None:
    def off(_: bytes | None) -> object:
        raise SelfTestError("off by 1")

    monitor.installer = dataclasses.replace(monitor.installer, self_test=off)
    first, second = monitor.poll(), monitor.poll()
    assert (first.action, first.code) == ("refused", 320)
    assert "failed here before" in second.reason
    assert second.received < first.received
