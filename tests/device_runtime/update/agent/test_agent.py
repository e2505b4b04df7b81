"""The fault matrix of an update: every step × {error, killed}, damage, wrong keys, clocks, replays, full disks."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import shutil
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from device_runtime.errors import DeviceRuntimeError, LockedError, SelfTestError, StorageError
from device_runtime.monitor import installer_of
from device_runtime.update.agent.poll import Agent, Outcome, next_poll
from device_runtime.update.agent.repository import Repository as ClientRepository
from device_runtime.update.disk import PosixDisk
from device_runtime.update.install import Installer
from device_runtime.update.lifecycle import State
from device_runtime.update.policy import Policy
from device_runtime.update.settings import DeviceConfig
from device_runtime.update.slots import Slots, locked
from device_runtime.update.start import start
from edge_tsfm.deploy import rings
from edge_tsfm.deploy.repository import Repository
from edge_tsfm.errors import DataError, DeployError, GateRefusedError
from tests.simulators.publisher import (
    BUNDLE,
    EVERYBODY,
    NOW,
    adapter_blob,
    approve_version,
    evaluation,
    make_device,
    make_repository,
    write_json,
)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that offers version 1 to everybody; each test works on a copy."""
    folder = tmp_path_factory.mktemp("published")
    repository = make_repository(folder)
    approval = approve_version(repository, 1)
    rings.start(repository, "icu", approval.file, EVERYBODY, who="ops")
    return folder


class Monitor:
    """One device with its repository, and a clock that the test sets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = NOW.timestamp() + 3600
        self.repository = Repository(folder / "repository", folder / "keys", now=NOW)
        self.config: DeviceConfig = make_device(folder / "device", self.repository, "bed-1")
        self.installer = installer_of(self.config)

    @property
    def slots(self) -> Slots:
        return Slots(PosixDisk(self.config.state), device_id="bed-1", clock=lambda: self.now)

    def publisher(self, *, days: float = 0) -> Repository:
        return Repository(self.folder / "repository", self.folder / "keys", now=NOW + timedelta(days=days))

    def poll(self, **options: Any) -> Outcome:
        agent = Agent(self.config, self.installer, clock=lambda: self.now)
        return agent.poll(**{"activate_now": True, **options})

    def confirm(self) -> None:
        slots = self.slots
        start(slots, self.installer.open, ring="icu")
        slots.confirm("healthy", who="test")


@pytest.fixture
def monitor(published: Path, tmp_path: Path) -> Monitor:
    shutil.copytree(published, tmp_path / "copy")
    return Monitor(tmp_path / "copy")


def target_file(monitor: Monitor) -> Path:
    return next((monitor.repository.targets / "approved" / "icu").iterdir())


def test_update_then_idle(monitor: Monitor) -> None:
    outcome = monitor.poll()
    assert (outcome.action, outcome.sequence) == ("trial", 1)
    assert monitor.poll().reason == "a trial is running"
    monitor.confirm()
    idle = monitor.poll()
    assert (idle.action, idle.reason) == ("nothing", "up to date")
    assert idle.received < 1000  # the roll-out document and the timestamp


# --- the matrix: step × {error, killed}; a hang is a kill by the watchdog -------------------------------------------


class Killed(BaseException):
    """The process died here."""


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


# --- bytes ----------------------------------------------------------------------------------------------------------


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


# --- time and replay ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clock", [0.0, 86_400.0], ids=["1970-01-01", "1970-01-02"])
def test_a_clock_at_1970_installs_and_later_sees_staleness_by_the_floor(monitor: Monitor, clock: float) -> None:
    monitor.now = clock
    assert monitor.poll().action == "trial"
    assert monitor.slots.floor().time == NOW.timestamp()


def test_thirty_days_without_publication_is_stale_but_runs(monitor: Monitor) -> None:
    monitor.poll()
    monitor.confirm()
    monitor.now += 30 * 86_400
    outcome = monitor.poll()
    assert (outcome.action, outcome.code) == ("refused", 210)
    assert "stale" in outcome.reason
    assert start(monitor.slots, monitor.installer.open, ring="icu").entry is not None
    monitor.publisher(days=30).publish()
    assert monitor.poll().reason == "up to date"


def test_a_clock_in_2099_blocks_installs_and_not_forecasts(monitor: Monitor) -> None:
    monitor.poll()
    monitor.confirm()
    monitor.now = dt.datetime(2099, 1, 1, tzinfo=dt.UTC).timestamp()
    assert "stale" in monitor.poll().reason
    assert start(monitor.slots, monitor.installer.open, ring="icu").entry is not None


def second_version(monitor: Monitor, *, days: float = 0) -> None:
    publisher = monitor.publisher(days=days)
    approval = approve_version(publisher, 2)
    rings.start(publisher, "icu", approval.file, EVERYBODY, who="ops")


@pytest.mark.parametrize("wipe", ["deleted", "emptied", "kept"])
def test_a_replayed_repository_is_refused_also_with_a_wiped_cache(monitor: Monitor, tmp_path: Path, wipe: str) -> None:
    """python-tuf alone accepts the first two: what it knew is in the cache only."""
    shutil.copytree(monitor.folder / "repository", tmp_path / "old")
    monitor.poll()
    monitor.confirm()
    second_version(monitor)
    assert monitor.poll().action == "trial"
    monitor.confirm()
    shutil.rmtree(monitor.folder / "repository")
    shutil.copytree(tmp_path / "old", monitor.folder / "repository")
    if wipe == "deleted":
        shutil.rmtree(monitor.config.state / "tuf")
    elif wipe == "emptied":
        for path in (monitor.config.state / "tuf").glob("*.json"):
            if path.name != "root.json":
                path.write_bytes(b"")
    outcome = monitor.poll()
    assert outcome.action == "refused"
    assert outcome.code in (200, 210)
    runs = monitor.slots.record.runs
    assert runs is not None
    assert runs.sequence == 2
    # Not python-tuf's own refusal, which the next test shows it does not make: the device's floor.
    assert wipe == "kept" or "accepted before" in outcome.reason


def test_python_tuf_alone_accepts_the_wiped_cache_replay(monitor: Monitor, tmp_path: Path) -> None:
    """The gap itself: should this fail one day, python-tuf closed it."""
    from device_runtime.update.agent.fetch import FOLDER, FolderFetcher
    from device_runtime.update.floor import Floor

    root = monitor.config.root
    assert root is not None
    shutil.copytree(monitor.folder / "repository" / "public", tmp_path / "old")
    second_version(monitor)

    def refresh(public: Path) -> int:
        client = ClientRepository(
            tmp_path / "cache", FOLDER, FolderFetcher(public), root.read_bytes(), Floor(), now=monitor.now
        )
        return client.refresh().roles["timestamp"].version

    newer = refresh(monitor.folder / "repository" / "public")
    shutil.rmtree(tmp_path / "cache")
    assert refresh(tmp_path / "old") < newer


def test_five_root_rotations_while_offline(monitor: Monitor) -> None:
    from edge_tsfm.deploy.setup import rotate_key
    from edge_tsfm.deploy.signers import make_file_key

    monitor.poll()
    monitor.confirm()
    for number in range(5):
        publisher = monitor.publisher()
        group = ("root", "online", "root", "rollout", "quality")[number]
        new = make_file_key(publisher.keys, f"new-{number}")
        rotate_key(publisher, group, publisher.refs(group)[0].keyid, new)
    assert monitor.publisher().version("root") == 4
    assert monitor.poll().reason == "up to date"
    second_version(monitor)
    assert monitor.poll().action == "trial"


def test_fast_forwarded_online_metadata_can_be_mended_by_new_keys(monitor: Monitor) -> None:
    """A thief of the online key publishes version 10,000; after rotation the device follows again."""
    from edge_tsfm.deploy.setup import rotate_key
    from edge_tsfm.deploy.signers import make_file_key

    publisher = monitor.publisher()
    good = publisher.metadata / "timestamp.json"
    kept = good.read_bytes()
    timestamp = publisher.load("timestamp")
    publisher_version = Repository.version
    try:
        Repository.version = lambda self, role: 9_999 if role == "timestamp" else publisher_version(self, role)  # type: ignore[method-assign]
        publisher.store("timestamp", timestamp)
    finally:
        Repository.version = publisher_version  # type: ignore[method-assign]
    monitor.poll()
    monitor.confirm()
    assert monitor.slots.floor().roles["timestamp"].version == 10_000
    good.write_bytes(kept)
    assert monitor.poll().action == "refused"
    publisher = monitor.publisher()
    rotate_key(publisher, "online", publisher.refs("online")[0].keyid, make_file_key(publisher.keys, "online-new"))
    assert monitor.poll().reason == "up to date"


@pytest.mark.parametrize("group", ["online", "root", "rollout", "quality"])
@pytest.mark.parametrize("cut", ["before", "after"])
def test_a_change_of_keys_that_is_cut_is_carried_out_by_the_next_publication(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch, group: str, cut: str
) -> None:
    from edge_tsfm.deploy.setup import rotate_key
    from edge_tsfm.deploy.signers import make_file_key

    def store(self: Repository, role: str, *arguments: Any, **options: Any) -> int:
        if cut == "after":
            kept(self, role, *arguments, **options)
        raise Killed

    monitor.poll()
    monitor.confirm()
    publisher, kept = monitor.publisher(), Repository.store
    new = make_file_key(publisher.keys, "new")
    with monkeypatch.context() as patch:
        patch.setattr(Repository, "store", store)
        with pytest.raises(Killed):
            rotate_key(publisher, group, publisher.refs(group)[0].keyid, new)
    rings.publish(monitor.publisher())
    assert monitor.poll().reason == "up to date"
    delegator = publisher.load("root" if group in ("online", "root") else "targets").signed
    roles = delegator.roles if group in ("online", "root") else delegator.delegations.roles
    assert new.keyid in roles[{"online": "timestamp", "quality": "approved"}.get(group, group)].keyids


def test_a_change_of_keys_that_nobody_can_sign_changes_nothing(monitor: Monitor) -> None:
    from edge_tsfm.deploy.setup import rotate_key
    from edge_tsfm.deploy.signers import make_file_key

    publisher = monitor.publisher()
    before = (publisher.folder / "deploy.json").read_bytes()
    for number in (1, 2):
        (publisher.keys / f"root-{number}.pem").rename(monitor.folder / f"root-{number}.pem")
    with pytest.raises(DeployError, match=r"role root: .*signed by 1"):
        rotate_key(publisher, "online", publisher.refs("online")[0].keyid, make_file_key(publisher.keys, "new"))
    assert (publisher.folder / "deploy.json").read_bytes() == before
    monitor.publisher().publish()
    assert monitor.poll().action == "trial"


# --- what the publisher decides -------------------------------------------------------------------------------------


def test_roll_out_without_approval_is_refused(monitor: Monitor) -> None:
    """A stolen roll-out key can only choose among approved adapters."""
    publisher = monitor.publisher()
    metadata = publisher.load("approved")
    metadata.signed.targets.clear()
    publisher.store("approved", metadata)
    publisher.publish()
    outcome = monitor.poll()
    assert (outcome.action, outcome.code) == ("refused", 200)
    assert "not approved" in outcome.reason


def test_halt_keeps_those_who_have_it_and_starts_nobody(monitor: Monitor) -> None:
    second = Monitor(monitor.folder)
    second.config = make_device(monitor.folder / "other", monitor.repository, "bed-2")
    monitor.poll()
    monitor.confirm()
    rings.halt(monitor.publisher(), "icu", who="ops", why="test")
    assert monitor.poll().reason == "up to date"
    assert second.poll().reason == "the roll-out is halted"
    assert second.slots.record.state is State.BASE


def test_halt_discards_what_is_only_staged(monitor: Monitor) -> None:
    assert monitor.poll(activate_now=False).action == "staged"
    rings.halt(monitor.publisher(), "icu", who="ops", why="test")
    monitor.poll(activate_now=False)
    assert monitor.slots.record.state is State.BASE


def test_revoke_goes_back_to_the_previous_one_and_a_downgrade_is_followed(monitor: Monitor) -> None:
    monitor.poll()
    monitor.confirm()
    first = monitor.slots.record.current
    assert first is not None
    second_version(monitor)
    monitor.poll()
    monitor.confirm()
    second = monitor.slots.record.current
    assert second is not None
    rings.take_back(monitor.publisher(), "icu", second.file, older=False, who="ops", why="test")
    assert monitor.poll().action == "rolled back"
    assert monitor.slots.record.current == first
    with pytest.raises(DeployError, match="devices would refuse"):
        rings.start(monitor.publisher(), "icu", first.file, EVERYBODY, who="ops")
    rings.downgrade(monitor.publisher(), "icu", first.file, EVERYBODY, who="ops", why="the old one was better")
    assert monitor.poll().action == "trial"
    monitor.confirm()
    again = monitor.slots.record.current
    assert again is not None
    assert (again.file, again.sequence, again.version) == (first.file, 3, 1)
    with pytest.raises(DeployError, match="is revoked"):
        rings.downgrade(monitor.publisher(), "icu", second.file, EVERYBODY, who="ops", why="x")


def test_revoke_with_everything_older_ends_at_the_base(monitor: Monitor) -> None:
    monitor.poll()
    monitor.confirm()
    second_version(monitor)
    monitor.poll()
    monitor.confirm()
    current = monitor.slots.record.current
    assert current is not None
    rings.take_back(monitor.publisher(), "icu", current.file, older=True, who="ops", why="test")
    assert monitor.poll().action == "rolled back"
    assert monitor.slots.record.state is State.BASE


def break_rollout_document(repository: Repository) -> None:
    for path in (repository.targets / "rollout").rglob("*"):
        path.unlink()


def break_rollout_role(repository: Repository) -> None:
    (repository.metadata / f"{repository.version('rollout')}.rollout.json").unlink()


def break_bins(repository: Repository) -> None:
    for path in repository.metadata.glob("*.approved-bin-*.json"):
        path.unlink()


@pytest.mark.parametrize("broken", [break_rollout_document, break_rollout_role, break_bins])
def test_a_revocation_is_obeyed_though_the_rest_cannot_be_fetched(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch, broken: Callable[[Repository], None]
) -> None:
    from edge_tsfm.deploy import repository as module

    if broken is break_bins:
        monkeypatch.setattr(module, "BINS_FROM", 2)
    monitor.poll()
    monitor.confirm()
    publisher = monitor.publisher()
    approve_version(publisher, 2)
    runs = monitor.slots.record.runs
    assert runs is not None
    rings.take_back(publisher, "icu", runs.file, older=False, who="ops", why="test")
    broken(publisher)
    if broken is break_bins:
        assert len(publisher.approved_roles()) == 32
    assert monitor.poll().action == "rolled back"
    assert runs.file in monitor.slots.floor().revoked
    again = monitor.poll()  # and what is broken is still said
    assert (again.action, again.code) == ("failed", 420)


@pytest.mark.parametrize("older", [False, True])
def test_a_revocation_cut_before_the_ledger_is_not_lost(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch, older: bool
) -> None:
    from edge_tsfm.deploy import approve as module
    from edge_tsfm.deploy.ledger import read_ring

    publisher = monitor.publisher()
    first, second = next(iter(read_ring(publisher, "icu").sequences)), approve_version(publisher, 2).file
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_ring", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            rings.take_back(publisher, "icu", first, older=older, who="ops", why="test")
    rings.publish(monitor.publisher())
    publisher = monitor.publisher()
    assert not read_ring(publisher, "icu").live(first)
    rings.take_back(publisher, "icu", second, older=False, who="ops", why="test")
    said = publisher.revocations()["icu"]
    assert second in said["files"]
    assert said["minimum"] == 2 if older else first in said["files"]


def test_a_halted_roll_out_is_not_the_field_but_the_last_finished_one_is(monitor: Monitor) -> None:
    from edge_tsfm.deploy.ledger import in_the_field, read_ring, read_rollout, write_rollout

    publisher = monitor.publisher()
    state = read_rollout(publisher, "icu")
    assert state is not None
    write_rollout(publisher, {**state, "finished": True})
    for version in (2, 3):  # the second attempt remembers what the first did
        file = approve_version(publisher, version).file
        rings.start(publisher, "icu", file, EVERYBODY, who="ops")
        assert in_the_field(publisher, read_ring(publisher, "icu")) == file
        rings.halt(publisher, "icu", who="ops", why="test")
        assert in_the_field(publisher, read_ring(publisher, "icu")) == state["file"]


# --- the device itself ----------------------------------------------------------------------------------------------


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


# --- the gate -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("figures", "why"),
    [
        (evaluation(1.0), "against the base"),
        (evaluation(0.9, high=0.02), "interval"),
        (evaluation(models={name: {"wql": {"value": None}} for name in ("adapter", "base")}), "against the base"),
        (evaluation(0.9, subgroups={"sex": {"f": {"patients": 30, "models": evaluation(1.2)["models"]}}}), "sex is f"),
    ],
)
def test_the_gate_refuses_and_records(monitor: Monitor, figures: dict[str, Any], why: str) -> None:
    with pytest.raises(GateRefusedError, match=why):
        approve_version(monitor.publisher(), 5, figures=figures)
    assert list((monitor.repository.folder / "records").glob("*-refused.html"))


@pytest.mark.parametrize("made", ["5", "5" * 15, "5" * 16 + "g", "", 5555555555555555, None])
def test_evidence_is_bound_by_no_fewer_digits_than_export_writes(
    monitor: Monitor, tmp_path: Path, made: object
) -> None:
    from device_runtime.format import blob as blobs
    from edge_tsfm.deploy.approve import approve

    adapter = blobs.decode(adapter_blob(5))
    path = tmp_path / "five.etsa"
    path.write_bytes(blobs.encode(dataclasses.replace(adapter, metadata={**adapter.metadata, "run": made})))
    judged = write_json(tmp_path / "e.json", evaluation())
    with pytest.raises(DeployError, match="exported from run"):
        approve(monitor.publisher(), path, bundle=BUNDLE, ring="icu", evaluation=judged, who="q")


def on_device(wql: float, **changes: str) -> dict[str, Any]:
    """An evaluation with what the device forecasts."""
    from device_runtime.forecast.bundle import Bundle

    facts = {"bundle": Bundle.open(BUNDLE).digest.hex(), "adapter": hashlib.sha256(adapter_blob(5)).hexdigest()}
    judged = evaluation(device=facts | changes)
    judged["models"]["device"] = {"wql": {"value": wql}}
    judged["adapter_minus_device"] = {"wql": {"value": 0.9 - wql, "low": 0.9 - wql - 0.005, "high": 0.9 - wql + 0.005}}
    return judged


def test_the_gate_judges_what_the_device_forecasts_where_it_was_scored(monitor: Monitor) -> None:
    with pytest.raises(GateRefusedError, match="against the base"):
        approve_version(monitor.publisher(), 5, figures=on_device(1.2))
    assert approve_version(monitor.publisher(), 5, figures=on_device(0.9)).version == 5


def test_a_gain_that_the_device_loses_is_none(monitor: Monitor) -> None:
    """Torch's interval lies below zero, the device's does not: its gain is a tenth of torch's."""
    figures = on_device(0.99)
    with pytest.raises(GateRefusedError, match="interval"):
        approve_version(monitor.publisher(), 5, figures=figures)
    (page,) = (monitor.repository.folder / "records").glob("*-refused.html")
    assert "what the device forecasts" in page.read_text()
    del figures["adapter_minus_device"]
    with pytest.raises(GateRefusedError, match="interval"):
        approve_version(monitor.publisher(), 5, figures=figures)


@pytest.mark.parametrize(
    "data",
    [
        {"split": "train", "trained_items": 0}, {"split": "validation", "trained_items": 0},
        {"split": "all", "trained_items": 3}, {"split": "test"}, {"trained_items": 0}, {},
    ],
)  # fmt: skip
def test_patients_that_training_saw_are_no_evidence(monitor: Monitor, data: Any) -> None:
    with pytest.raises(DeployError, match="says nothing about new ones") as error:
        approve_version(monitor.publisher(), 5, figures=evaluation(data=data))
    assert "test patients" in str(error.value.hint)


@pytest.mark.parametrize("figures", [{"device": {"adapter": 5}}, {"run": {"numbers": "5" * 64, "base": "x"}}])
def test_an_evaluation_of_other_things_is_refused_in_words(monitor: Monitor, figures: dict[str, Any]) -> None:
    with pytest.raises(DeployError):
        approve_version(monitor.publisher(), 5, figures=evaluation(**figures))


@pytest.mark.parametrize(
    ("figures", "says"),
    [
        ({"device": None}, "device: want a table, got null"), ({"device": []}, "device: want a table"),
        ({"device": "x"}, "device: want a table, got 'x'"), ({"run": None}, "run: want a table"),
        ({"data": "test"}, "data: want a table, got 'test'"), ({"data": None}, "data: want a table, got null"),
        ({"models": None}, "models: want a table, got null"), ({"models": 5}, "models: want a table, got 5"),
        ({"models": []}, "models: want a table"), ({"models": {"adapter": {}}}, "models: base is missing"),
        ({"models": {"adapter": {"wql": {"value": float("nan")}}, "base": {}}}, r"\[models.adapter.wql\] value: want"),
    ],
)  # fmt: skip
def test_an_evaluation_of_other_types_is_refused_with_its_place(
    monitor: Monitor, figures: dict[str, Any], says: str
) -> None:
    with pytest.raises(DataError, match=rf"evaluation\.json: {says}"):
        approve_version(monitor.publisher(), 5, figures=evaluation(**figures))


@pytest.mark.parametrize("what", ["bundle", "adapter"])
def test_another_files_forecasts_on_the_device_are_no_evidence(monitor: Monitor, what: str) -> None:
    with pytest.raises(DeployError, match=f"scored {what} 0000"):
        approve_version(monitor.publisher(), 5, figures=on_device(0.9, **{what: "0" * 64}))


def test_the_gate_wants_the_adapter_in_the_field(monitor: Monitor) -> None:
    from edge_tsfm.deploy.approve import approve

    path = monitor.folder / "five.etsa"
    path.write_bytes(adapter_blob(5))
    judged = write_json(monitor.folder / "e.json", evaluation())
    with pytest.raises(GateRefusedError, match="in the field"):
        approve(monitor.publisher(), path, bundle=BUNDLE, ring="icu", evaluation=judged, who="q")


def test_a_changed_gate_is_not_the_pinned_one(monitor: Monitor) -> None:
    gate = next((monitor.repository.folder / "gates").iterdir())
    gate.write_text(gate.read_text().replace("-1.0", "50.0"))
    with pytest.raises(DeployError, match="pins"):
        approve_version(monitor.publisher(), 5)


def test_what_devices_would_refuse_is_refused_here(monitor: Monitor) -> None:
    with pytest.raises(DeployError, match="version 1"):
        approve_version(monitor.publisher(), 1)
    (monitor.folder / "keys" / "quality-1.pem").rename(monitor.folder / "away.pem")
    with pytest.raises(DeployError, match="signed by 1/2 keys"):
        approve_version(monitor.publisher(), 6)


def test_fifty_adapters_go_into_bins_and_devices_follow(monitor: Monitor) -> None:
    from edge_tsfm.deploy import repository as module

    publisher = monitor.publisher()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BINS_FROM", 4)
        approval = None
        for version in range(2, 6):
            approval = approve_version(publisher, version)
    assert approval is not None
    assert len(publisher.approved_roles()) == 32
    assert len(publisher.approved()) == 5
    rings.start(publisher, "icu", approval.file, EVERYBODY, who="ops")
    assert monitor.poll().sequence == 5
    assert monitor.slots.record.state is State.TRIAL
