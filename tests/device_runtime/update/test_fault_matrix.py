"""Every state of an update × {error, killed, hang}: what runs goes on, nothing is half done, the next attempt succeeds.

The rest of the matrix has tests of its own; `ELSEWHERE` says where, and a test looks that they are there.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import os
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from device_runtime.errors import DeviceRuntimeError, StorageError
from device_runtime.format import blob as blobs
from device_runtime.format.layout import CRC_OFFSET
from device_runtime.monitor import installer_of
from device_runtime.update import report as reports
from device_runtime.update.agent.poll import Agent, Outcome
from device_runtime.update.agent.repository import Repository as ClientRepository
from device_runtime.update.disk import PosixDisk
from device_runtime.update.health import HealthRules
from device_runtime.update.host import Host
from device_runtime.update.install import Installer
from device_runtime.update.lifecycle import State
from device_runtime.update.settings import DeviceConfig
from device_runtime.update.slots import Slots
from edge_tsfm.deploy import rings
from edge_tsfm.deploy.signers import sign_blob
from edge_tsfm.errors import DeployError
from tests.simulators.publisher import EVERYBODY, NOW, adapter_blob, approve_version, make_device, make_repository
from tests.simulators.tuf_repository import TufRepository

CONTEXT = [70.0 + i % 5 for i in range(16)]
QUICK = HealthRules(seconds=0.0, min_forecasts=1, latency_budget=60.0)


class Killed(BaseException):
    """The process died here."""


class Monitor:
    """A device on which version 1 is confirmed and version 2 is offered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = make_repository(folder)
        self.config: DeviceConfig = dataclasses.replace(
            make_device(folder / "bed", self.repository, "bed"), health=QUICK
        )
        self.installer = installer_of(self.config)
        self.offer(1)
        assert self.poll().action == "trial"
        self.host = Host(self.config, self.installer.open)
        self.host.forecast(CONTEXT)
        assert self.slots.record.state is State.CONFIRMED
        self.offer(2)

    def offer(self, version: int) -> None:
        rings.start(self.repository, "icu", approve_version(self.repository, version).file, EVERYBODY, who="ops")

    def poll(self) -> Outcome:
        return Agent(self.config, self.installer, clock=lambda: NOW.timestamp() + 60).poll(activate_now=True)

    @property
    def slots(self) -> Slots:
        return Slots(PosixDisk(self.config.state), device_id="bed")

    def judge(self) -> None:
        """Forecast until the trial is confirmed, in a host of its own, as after a restart."""
        Host(self.config, self.installer.open).forecast(CONTEXT)

    def take_back(self) -> None:
        """A trial that is too slow is taken back by the host."""
        slow = dataclasses.replace(self.config, health=dataclasses.replace(QUICK, latency_budget=1e-9))
        Host(slow, self.installer.open).forecast(CONTEXT)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("matrix")
    Monitor(folder)
    return folder


@pytest.fixture
def monitor(made: Path, tmp_path: Path) -> Monitor:
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    monitor = object.__new__(Monitor)
    from device_runtime.update.settings import read_config
    from edge_tsfm.deploy.repository import Repository

    path = copy / "bed" / "device.toml"
    path.write_text(path.read_text().replace(str(made), str(copy)))
    monitor.folder = copy
    monitor.repository = Repository(copy / "repository", copy / "keys", now=NOW)
    monitor.config = dataclasses.replace(read_config(path), health=QUICK)
    monitor.installer = installer_of(monitor.config)
    monitor.host = Host(monitor.config, monitor.installer.open)
    assert monitor.host.forecast(CONTEXT).adapter_version == 1
    return monitor


# State: what is planted where, and what the device is doing then.
Doing = Callable[[Monitor], object]
POLL: Doing = Monitor.poll


def trial_then(next_: Doing) -> Doing:
    def do(monitor: Monitor) -> None:
        if monitor.slots.record.state is not State.TRIAL:
            monitor.poll()
        next_(monitor)

    return do


STATES: dict[str, tuple[object, str, Doing]] = {
    "poll": (ClientRepository, "refresh", POLL),
    "verify": (ClientRepository, "target", POLL),
    "download": (ClientRepository, "download", POLL),
    "check": (Installer, "check", POLL),
    "self-test": (Installer, "prove", POLL),
    "stage": (Slots, "stage", POLL),
    "activate": (Slots, "activate", POLL),
    "report": (reports, "send", POLL),
    "trial": (Slots, "count_start", trial_then(Monitor.judge)),
    "confirm": (Slots, "confirm", trial_then(Monitor.judge)),
    "roll back": (Slots, "fall_back", trial_then(Monitor.take_back)),
}


@pytest.mark.parametrize("how", ["error", "killed", "hang"])
@pytest.mark.parametrize("state", STATES)
def test_matrix(monitor: Monitor, monkeypatch: pytest.MonkeyPatch, state: str, how: str) -> None:
    owner, name, doing = STATES[state]
    reached, release = threading.Event(), threading.Event()

    def fault(*_: object, **__: object) -> None:
        reached.set()
        if how == "error":
            raise StorageError("planted")
        if how == "hang":
            assert release.wait(30)
        raise Killed

    def run() -> None:
        with contextlib.suppress(Killed, StorageError):
            doing(monitor)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fault)
        worker = threading.Thread(target=run)
        worker.start()
        assert reached.wait(30)
        if how == "hang":  # meanwhile the monitor forecasts, with what it had or, once it has begun, with the trial
            assert monitor.host.forecast(CONTEXT).adapter_version in (1, 2)
            release.set()
        worker.join(30)
        assert not worker.is_alive()

    record = monitor.slots.record
    assert record.current is not None
    assert record.current.version in (1, 2)
    assert record.runs is not None  # never past what was confirmed
    after = Host(monitor.config, monitor.installer.open)
    assert after.forecast(CONTEXT).adapter_version in (1, 2)
    if monitor.slots.record.failed_sequence == 2:  # taken back for good: the error in `trial` counts against it
        assert monitor.slots.record.current == record.current
        return
    for _ in range(3):  # the next attempts go through to the end
        monitor.poll()
        monitor.judge()
    current = monitor.slots.record.current
    assert current is not None
    assert (monitor.slots.record.state, current.version) == (State.CONFIRMED, 2)


def test_a_poll_that_hangs_is_ended_by_its_deadline(tmp_path: Path) -> None:
    """The process itself: a server that takes the connection and never answers."""
    import socket

    repository = make_repository(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        make_device(tmp_path / "bed", repository, "bed", url=f"http://127.0.0.1:{silent.getsockname()[1]}")
        command = [sys.executable, "-m", "device_runtime.cli", "update", "--config", str(tmp_path / "bed/device.toml")]
        done = subprocess.run([*command, "--deadline", "3"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "Timeout" in done.stderr


def test_polling_for_ever_survives_a_poll_that_hangs_and_settings_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each poll is a process: what ends it ends only itself, and the next one finds everything mended."""
    import socket

    from click.testing import CliRunner

    from device_runtime.cli import cli as device_cli
    from device_runtime.cli import update

    repository = make_repository(tmp_path)
    path = tmp_path / "bed" / "device.toml"
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 1:
            path.write_text("nonsense")
        elif len(slept) == 2:
            make_device(tmp_path / "bed", repository, "bed")
        else:
            raise KeyboardInterrupt

    monkeypatch.setattr(update.time, "sleep", sleep)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        make_device(tmp_path / "bed", repository, "bed", url=f"http://127.0.0.1:{silent.getsockname()[1]}")
        CliRunner().invoke(
            device_cli, ["update", "--every", "600", "--deadline", "8", "--who", "test", "--config", str(path)]
        )
    for seconds, expected in zip(slept, (1200, 2400, 600), strict=True):
        assert 0.8 * expected <= seconds <= 1.2 * expected


# --- the list of single faults --------------------------------------------------------------------------------------


def signed_again(monitor: Monitor, blob: bytes) -> bytes:
    return sign_blob(blob, monitor.repository.signers("adapter"), 1)[0]


def test_every_truncation_and_every_flipped_bit_is_refused(monitor: Monitor) -> None:
    data = signed_again(monitor, adapter_blob(9))
    slots = monitor.slots
    before = slots.record
    installer = dataclasses.replace(monitor.installer, self_test=lambda _: pytest.fail("unverified bytes were opened"))
    damaged = [data[:length] for length in range(len(data))]
    for at in range(len(data)):
        damaged += [data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :] for bit in range(8)]
    assert len(damaged) == 9 * len(data)
    for bytes_ in damaged:
        with pytest.raises(DeviceRuntimeError) as caught:
            installer.prove(slots, bytes_, "icu")
        assert 100 <= caught.value.code < 300, caught.value
    assert slots.record == before


def test_a_runtime_that_is_too_old_says_so(monitor: Monitor) -> None:
    blob = bytearray(adapter_blob(9))
    struct.pack_into("<H", blob, 4, 3)  # format version
    struct.pack_into("<I", blob, CRC_OFFSET, blobs.checksum(bytes(blob)))
    with pytest.raises(DeviceRuntimeError) as caught:
        monitor.installer.prove(monitor.slots, signed_again(monitor, bytes(blob)), "icu")
    assert caught.value.code == 110, caught.value


def test_the_server_is_gone_for_weeks(monitor: Monitor) -> None:
    (monitor.folder / "repository").rename(monitor.folder / "away")
    for _ in range(3):
        outcome = monitor.poll()
        assert (outcome.action, outcome.code) == ("failed", 420)
        assert monitor.host.forecast(CONTEXT).adapter_version == 1
    (monitor.folder / "away").rename(monitor.folder / "repository")
    assert monitor.poll().action == "trial"


def test_an_older_one_is_offered(monitor: Monitor) -> None:
    monitor.poll()
    monitor.judge()
    first = next(f for f, s in rings.read_ring(monitor.repository, "icu").sequences.items() if s == 1)
    with pytest.raises(DeployError, match="devices would refuse"):
        rings.start(monitor.repository, "icu", first, EVERYBODY, who="ops")


@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_a_disk_that_refuses(monitor: Monitor, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    import errno

    real = os.open
    number = errno.ENOSPC if kind == "full" else errno.EROFS

    def refusing(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if str(path).startswith(str(monitor.config.state)) and flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(number, os.strerror(number))
        return real(path, flags, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refusing)
        outcome = monitor.poll()
        assert (outcome.action, outcome.code) == ("failed", 400)
        assert monitor.host.forecast(CONTEXT).adapter_version == 1
    assert monitor.poll().action == "trial"


POWER, AGENT, HOSTILE = "test_slots_power_cut.py", "agent/test_agent.py", "agent/test_hostile.py"
KEYS, DECISIONS = "agent/test_time_and_keys.py", "agent/test_decisions.py"
ELSEWHERE = {
    "clock back to 1970": (KEYS, "test_a_clock_at_1970_installs_and_later_sees_staleness_by_the_floor"),
    "30 days without publication": (KEYS, "test_thirty_days_without_publication_is_stale_but_runs"),
    "last month replayed": (KEYS, "test_a_replayed_repository_is_refused_also_with_a_wiped_cache"),
    "base differs, wrong key": (AGENT, "test_wrong_base_wrong_key_too_few_keys"),
    "known answer off": (AGENT, "test_a_wrong_known_answer_is_refused_once_and_not_fetched_again"),
    "NaN output": ("test_host.py", "test_a_trial_that_fails_gives_way_to_what_ran_before"),
    "latency over budget": ("test_host.py", "test_a_slow_forecast_is_a_failure"),
    "watchdog kill ×3": (POWER, "test_a_hang_or_kill_costs_a_try_and_three_end_the_trial"),
    "report endpoint down": (AGENT, "test_a_report_that_cannot_be_sent_changes_nothing"),
    "two agents at once": (HOSTILE, "test_two_agents_poll_one_after_the_other"),
    "downgrade authorised": (DECISIONS, "test_revoke_goes_back_to_the_previous_one_and_a_downgrade_is_followed"),
    "root rotated 5×": (KEYS, "test_five_root_rotations_while_offline"),
    "every write of a full disk": (POWER, "test_a_disk_that_fills_up_at_any_write_keeps_what_runs"),
}  # fmt: skip


@pytest.mark.parametrize("fault", ELSEWHERE)
def test_the_rest_of_the_matrix_is_tested(fault: str) -> None:
    file, name = ELSEWHERE[fault]
    tree = ast.parse((Path(__file__).parent / file).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_a_repository_of_another_maker_is_refused(monitor: Monitor) -> None:
    """Another root, everything else in order: the factory's root decides."""
    other = TufRepository()
    folder = monitor.folder / "other" / "metadata"
    folder.mkdir(parents=True)
    for path, data in other.files.items():
        assert isinstance(data, bytes)
        (folder / Path(path).name).write_bytes(data)
    monitor.config = dataclasses.replace(monitor.config, repository=str(monitor.folder / "other"))
    outcome = monitor.poll()
    assert (outcome.action, outcome.code) == ("refused", 200)
