"""A fault of the machine costs no adapter: it is said, and tried again; the adapter's own fault is written down."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from device_runtime import faults
from device_runtime.errors import (
    DeviceRuntimeError,
    SelfTestError,
    SignalMismatchError,
    StorageError,
    UnsupportedError,
)
from device_runtime.faults import Fault, fault_of
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.format.binding import Use
from device_runtime.monitor import installer_of
from device_runtime.update.host import Host
from device_runtime.update.lifecycle import State
from device_runtime.update.lock import locked
from device_runtime.update.settings import read_config
from device_runtime.update.slots import Slots
from edge_tsfm.deploy import rings
from tests.simulators.bed import CONTEXT, Bed, swap_tunables

# --- a transient fault costs no adapter ------------------------------------------------------------------


def refusing(patch: pytest.MonkeyPatch, where: Path, number: int) -> None:
    """Every file below ``where`` refuses to be opened."""
    real = os.open

    def refuse(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if str(path).startswith(str(where)):
            raise OSError(number, os.strerror(number))
        return real(path, flags, *rest, **options)

    patch.setattr(os, "open", refuse)


def raising(patch: pytest.MonkeyPatch, error: BaseException) -> None:
    """ONNX Runtime raises while a session with merged tensors is opened."""
    import onnxruntime

    real = onnxruntime.InferenceSession

    def fail(*arguments: Any, **options: Any) -> Any:
        if os.environ.get("FAIL_ALL") or state["merged"]:
            state["merged"] = False
            raise error
        return real(*arguments, **options)

    state = {"merged": False}
    add = onnxruntime.SessionOptions.add_external_initializers

    def noting(options: Any, names: list[str], values: list[Any]) -> None:
        state["merged"] = True
        add(options, names, values)

    patch.setattr(onnxruntime.SessionOptions, "add_external_initializers", noting)
    patch.setattr(onnxruntime, "InferenceSession", fail)


def no_library(patch: pytest.MonkeyPatch) -> None:
    for name in ("cryptography.exceptions", "cryptography.hazmat.primitives.asymmetric.ed25519"):
        patch.setitem(sys.modules, name, None)


FAULTS: dict[str, Callable[[pytest.MonkeyPatch, Bed], None]] = {
    **{
        f"slots {errno.errorcode[number]}": lambda patch, bed, number=number: refusing(  # type: ignore[misc]
            patch, bed.config.state / "slots", number
        )
        for number in (errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EIO, errno.ENOMEM, errno.ESTALE)
    },
    **{
        f"state {errno.errorcode[number]}": lambda patch, bed, number=number: refusing(  # type: ignore[misc]
            patch, bed.config.state / "state", number
        )
        for number in (errno.EMFILE, errno.EACCES, errno.EIO)
    },
    "all of the state": lambda patch, bed: refusing(patch, bed.config.state, errno.EIO),
    "memory in numpy": lambda patch, bed: raising(patch, MemoryError()),
    "memory in ONNX Runtime": lambda patch, bed: raising(
        patch, RuntimeError("bad allocation: Failed to allocate memory")
    ),
    "bad_alloc": lambda patch, bed: raising(patch, RuntimeError("[ONNXRuntimeError] : 1 : FAIL : std::bad_alloc")),
    "no cryptography": lambda patch, bed: no_library(patch),
    "an error of no kind": lambda patch, bed: raising(patch, ZeroDivisionError()),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_machine_at_a_start_costs_no_adapter(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    slots = sorted(path.name for path in (bed.config.state / "slots").iterdir())
    before = bed.record
    with monkeypatch.context() as patch:
        FAULTS[fault](patch, bed)
        host = bed.host()
        assert host.forecast(CONTEXT).adapter is None
        assert host.problem, "and it is said"
    assert (bed.record, bed.versions) == (before, [2, 1])
    assert sorted(path.name for path in (bed.config.state / "slots").iterdir()) == slots
    assert bed.host().forecast(CONTEXT).adapter_version == 2
    if fault == "an error of no kind":  # nothing says that another attempt in the same process may help
        return
    for bed.seconds in (0.5, 3.0, 10.0):  # the same process tries again by itself
        forecast = host.forecast(CONTEXT)
    assert (forecast.adapter_version, host.problem) == (2, "")


@pytest.mark.parametrize("fault", ["slots EMFILE", "slots EIO", "memory in numpy", "bad_alloc", "no cryptography"])
def test_a_fault_of_the_machine_costs_a_trial_no_try(bed: Bed, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    bed.offer(3)
    assert bed.poll().action == "trial"
    for _ in range(5):  # more often than a trial has tries
        with monkeypatch.context() as patch:
            FAULTS[fault](patch, bed)
            assert bed.host().started.state is not State.TRIAL
    assert (bed.record.state, bed.record.tries, bed.record.failed_sequence) == (State.TRIAL, 3, -1)
    bed.host().forecast(CONTEXT)
    assert (bed.record.state, bed.versions) == (State.CONFIRMED, [3, 2])


def test_attempts_grow_rarer_while_a_fault_lasts(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        FAULTS["slots EIO"](patch, bed)
        host = bed.host()
        opened = []
        inner = host._open
        host._open = lambda data: opened.append(bed.seconds) or inner(data)  # type: ignore[func-returns-value]
        loads: list[float] = []
        real = Slots.load
        patch.setattr(Slots, "load", lambda self, entry: (loads.append(bed.seconds), real(self, entry))[1])
        for bed.seconds in range(0, 4_000, 4):
            host.forecast(CONTEXT)
    moments = sorted(set(loads))
    assert 5 <= len(moments) <= 20
    assert not opened, "the base that runs already is not opened again"
    host.forecast(CONTEXT)
    for bed.seconds in range(4_000, 5_000, 50):
        forecast = host.forecast(CONTEXT)
    assert forecast.adapter_version == 2


def test_few_file_handles_cost_no_adapter(bed: Bed) -> None:
    """The process itself, as few handles as it comes up with at all."""
    for limit in (5, 8, 11):
        done = bed.stream(preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
        assert bed.versions == [2, 1], (limit, done.stderr)
        assert "Traceback" not in done.stderr or not done.stdout
    assert bed.stream().returncode == 0


def test_what_is_the_adapters_fault_is_written_down(bed: Bed) -> None:
    def off(data: bytes | None) -> Forecaster:
        if data is not None:
            raise SelfTestError("known-answer test: off by 3")
        return bed.installer.open(None)

    host = Host(bed.config, off)
    assert host.started.entry is None
    assert (bed.record.state, bed.record.failed_sequence) == (State.BASE, 2)


def test_a_base_that_does_not_come_up_is_no_fault_of_the_adapter(bed: Bed) -> None:
    def off(_: bytes | None) -> Forecaster:
        raise SelfTestError("known-answer test: off by 3")

    with pytest.raises(SelfTestError):
        Host(bed.config, off)
    assert bed.versions == [2, 1]


@pytest.mark.parametrize("how", ["removed", "cut", "other bytes", "a folder"])
def test_a_slot_that_is_lost_is_fetched_again_and_costs_nothing(bed: Bed, how: str) -> None:
    entry = bed.record.current
    assert entry is not None
    slot = bed.config.state / "slots" / entry.file
    data = slot.read_bytes()
    slot.unlink()
    if how == "a folder":
        slot.mkdir()
    elif how != "removed":
        slot.write_bytes(data[:100] if how == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    host = bed.host()
    assert host.forecast(CONTEXT).adapter_version == 1
    assert bed.versions == [2, 1]
    assert bed.poll().reason == "up to date"
    assert slot.read_bytes() == data
    bed.seconds = 5.0
    assert host.forecast(CONTEXT).adapter_version == 2


def test_another_base_costs_no_adapter_and_the_old_one_brings_it_back(bed: Bed) -> None:
    """An image with a new base, taken back by its updater: the adapter of the old one is still there."""
    other = dataclasses.replace(bed.installer, base_digest=bytes(32))
    host = Host(bed.config, other.open)
    assert host.forecast(CONTEXT).adapter is None
    assert "for base" in host.problem
    assert bed.versions == [2, 1]
    assert bed.host().forecast(CONTEXT).adapter_version == 2


@pytest.mark.parametrize("what", ["base", "keys", "cryptography", "base on disk"])
def test_what_a_monitor_lacks_today_bars_no_sequence(bed: Bed, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    bed.offer(3)
    good = bed.installer
    with monkeypatch.context() as patch:
        if what == "base":
            bed.installer = dataclasses.replace(good, base_digest=bytes(32))
        elif what == "keys":
            bed.installer = dataclasses.replace(good, trusted_keys=(bytes(32),))
        elif what == "cryptography":
            no_library(patch)
        else:
            swap_tunables(bed.config.bundle)

            def damaged(data: bytes | None) -> Forecaster:
                raise SelfTestError("off by 3") if data else StorageError("base damaged")

            bed.installer = dataclasses.replace(good, self_test=damaged, base_test=lambda: damaged(None))
        first = bed.poll()
        assert first.action in ("refused", "failed")
        if what in ("base", "keys"):  # said once, not fetched at every poll
            assert "failed here before" in bed.poll().reason
    bed.installer = good
    assert bed.poll().action == "trial", bed.record


def test_what_is_really_wrong_bars_its_sequence(bed: Bed) -> None:
    assert bed.installer.failed_on(SelfTestError("off")) == ""
    assert bed.installer.failed_on(StorageError("full")) is None


# --- files that may not be read are said -----------------------------------------------------------------


@pytest.mark.parametrize("what", ["", "slots", "state"])
def test_what_may_not_be_read_is_said_everywhere(bed: Bed, what: str) -> None:
    # Root may read everything: then without the capabilities that say so.
    without = "-dac_override,-dac_read_search"
    setpriv = ["setpriv", f"--bounding-set={without}", f"--inh-caps={without}"] if os.geteuid() == 0 else []
    if setpriv and shutil.which("setpriv") is None:
        pytest.skip("as root this needs setpriv")
    target = bed.config.state / what
    mode = target.stat().st_mode
    target.chmod(0)
    try:
        done = bed.stream(before=setpriv)
        command = [*setpriv, sys.executable, "-m", "device_runtime.cli", "status", "--json"]
        command += ["--config", str(bed.folder / "bed/device.toml")]
        status = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        target.chmod(mode)
    forecasts = [json.loads(line) for line in done.stdout.splitlines() if "quantiles" in line]
    assert len(forecasts) == 4, done.stderr
    assert all(one["adapter"] is None and "ermission denied" in one["fallback"] for one in forecasts)
    assert "fallback:" in done.stderr
    assert "Traceback" not in done.stderr + status.stderr
    assert "ermission denied" in json.loads(status.stdout)["problem"]
    assert "problem:" in status.stderr
    assert bed.versions == [2, 1]


def test_a_lost_floor_does_not_keep_a_revoked_adapter_running(bed: Bed) -> None:
    """Nothing is installed without a floor; what is taken back is taken back."""
    current = bed.record.current
    assert current is not None
    for name in ("floor.a", "floor.b"):
        (bed.config.state / name).unlink()
    rings.take_back(bed.publisher, "icu", current.file, older=False, who="ops", why="complaint")
    outcome = bed.poll()
    assert (outcome.action, outcome.code) == ("failed", 400)
    assert "no copy of the floor" in outcome.reason
    assert bed.versions == [1]


def test_an_adapter_of_a_runtime_that_was_taken_back_is_kept(bed: Bed) -> None:
    def older(data: bytes | None) -> Forecaster:
        if data is not None:
            raise UnsupportedError("record kind 9; this runtime reads 1 to 5")
        return bed.installer.open(None)

    host = Host(bed.config, older)
    assert host.started.entry is None
    assert bed.versions == [2, 1]


def test_no_memory_for_the_base_is_a_typed_error_and_what_was_taken_back_does_not_go_on(bed: Bed) -> None:
    host = bed.host()
    assert host.forecast(CONTEXT).adapter_version == 2

    def none(_: bytes | None) -> Forecaster:
        raise MemoryError

    good, host._open = host._open, none
    with locked(bed.config.state):
        bed.slots.fall_back("by hand", who="operator")
        bed.slots.fall_back("by hand", who="operator")
    for _ in range(2):
        with pytest.raises(StorageError, match="nothing opens"):
            host.forecast(CONTEXT)
    host._open = good
    assert host.forecast(CONTEXT).adapter is None


# --- settings that say another use --------------------------------------------------------------------------


def set_for(bed: Bed, signal: str) -> None:
    """Change what the settings say that this monitor forecasts, as a person does, and start everything anew."""
    path = bed.folder / "bed" / "device.toml"
    lines = [line for line in path.read_text().splitlines() if line.split(" ")[0] not in ("signal", "unit")]
    path.write_text("\n".join([f'signal = "{signal}"', *lines]) + "\n")
    bed.config = dataclasses.replace(read_config(path), health=bed.config.health)
    bed.installer = installer_of(bed.config)


def test_every_error_has_an_owner() -> None:
    family = {DeviceRuntimeError}
    while more := {child for kind in family for child in kind.__subclasses__()} - family:
        family |= more
    assert {kind.code for kind in family - {DeviceRuntimeError}} == set(faults.FAULTS)
    assert fault_of(SignalMismatchError("for MAP")) is Fault.SETTINGS


def test_settings_for_another_signal_cost_no_confirmed_adapter(bed: Bed) -> None:
    before = bed.record
    set_for(bed, "HR")
    host = bed.host()
    assert host.forecast(CONTEXT).adapter is None
    assert "signal HR, want MAP" in host.problem
    for bed.seconds in (2.0, 5_000.0, 10_000.0):  # other settings come with another start, not with time
        assert host.forecast(CONTEXT).adapter is None
    assert (bed.record, bed.versions) == (before, [2, 1])
    done = bed.stream()
    assert '"fallback"' in done.stdout
    assert "signal HR, want MAP" in done.stdout
    assert "fallback:" in done.stderr
    command = [sys.executable, "-m", "device_runtime.cli", "status", "--config", str(bed.folder / "bed/device.toml")]
    status = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "signal HR, want MAP" in status.stdout + status.stderr
    assert (bed.record, bed.versions) == (before, [2, 1])
    set_for(bed, "MAP")
    assert bed.host().forecast(CONTEXT).adapter_version == 2


def test_settings_for_another_signal_cost_a_trial_no_try(bed: Bed) -> None:
    bed.offer(3)
    assert bed.poll().action == "trial"
    tries = bed.record.tries
    set_for(bed, "HR")
    for _ in range(tries + 2):
        assert bed.host().forecast(CONTEXT).adapter is None
    assert (bed.record.state, bed.record.tries, bed.record.failed_sequence) == (State.TRIAL, tries, -1)
    set_for(bed, "MAP")
    assert bed.host().forecast(CONTEXT).adapter_version == 3


def test_settings_for_another_signal_bar_no_sequence(bed: Bed) -> None:
    bed.offer(3)
    set_for(bed, "HR")
    for _ in range(2):  # asked again at every poll, until the settings fit
        outcome = bed.poll()
        assert (outcome.action, outcome.code) == ("refused", 330)
    assert (bed.record.failed_sequence, bed.versions) == (-1, [2, 1])
    set_for(bed, "MAP")
    assert bed.poll().action == "trial"


def test_a_forecast_of_another_signal_ends_no_trial(bed: Bed) -> None:
    bed.offer(3)
    bed.poll()
    host = bed.host()
    for _ in range(5):
        with pytest.raises(SignalMismatchError):
            host.forecast(CONTEXT, use=Use.of("HR"))
    assert bed.record.state is State.TRIAL
    host.forecast(CONTEXT)
    assert bed.versions == [3, 2]
