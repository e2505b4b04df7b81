"""What a sceptical operator, a firmware engineer and a security reviewer tried: each thing found has its test here."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tuf.api.exceptions import DownloadError

from device_runtime.cli import cli as device_cli
from device_runtime.errors import ChecksumError, FormatError, OfflineError, SettingsError, StorageError
from device_runtime.monitor import installer_of
from device_runtime.update.agent.fetch import FolderFetcher, HttpFetcher
from device_runtime.update.agent.poll import Agent, Outcome
from device_runtime.update.audit import LOG, read_lines
from device_runtime.update.disk import PosixDisk
from device_runtime.update.health import HealthRules
from device_runtime.update.host import Host
from device_runtime.update.lifecycle import State
from device_runtime.update.report import report_of, send
from device_runtime.update.rollout import decode
from device_runtime.update.settings import DeviceConfig, read_config
from device_runtime.update.slots import Slots, locked
from device_runtime.update.start import start
from edge_tsfm.deploy import ledger, rings
from edge_tsfm.deploy.acceptance import read_gate
from edge_tsfm.deploy.repository import Repository
from edge_tsfm.deploy.setup import device_settings, init, keygen, rotate_key
from edge_tsfm.deploy.signers import make_file_key
from edge_tsfm.errors import ConfigError, DeployError, GateRefusedError
from tests.simulators.publisher import (
    EVERYBODY,
    NOW,
    RUN,
    approve_version,
    evaluation,
    make_device,
    make_repository,
    write_json,
)

CONTEXT = [70.0 + i % 5 for i in range(16)]


class Bed:
    """One monitor and its publisher, with a clock for both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = NOW
        self.repository = make_repository(folder)
        self.config: DeviceConfig = make_device(folder / "bed", self.repository, "bed")
        self.installer = installer_of(self.config)

    @property
    def publisher(self) -> Repository:
        return Repository(self.folder / "repository", self.folder / "keys", now=self.now)

    def offer(self, version: int) -> str:
        file = approve_version(self.publisher, version).file
        rings.start(self.publisher, "icu", file, EVERYBODY, who="ops")
        return file

    def poll(self, fetcher: Any = None) -> Outcome:
        clock = self.now.timestamp() + 60
        return Agent(self.config, self.installer, fetcher=fetcher, clock=lambda: clock).poll(activate_now=True)

    @property
    def slots(self) -> Slots:
        return Slots(PosixDisk(self.config.state), device_id="bed")

    def confirm(self) -> None:
        slots = self.slots
        start(slots, self.installer.open, ring="icu")
        slots.confirm("healthy", who="test")


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed(tmp_path)


@contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """An HTTP server whose one answer to everything is the test's."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def do_POST(self) -> None:
            answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


# --- the lock, the network and the clock ----------------------------------------------------------------------------


def test_the_lock_is_free_while_the_network_is_waited_for(bed: Bed) -> None:
    """A server that hangs must not keep a failing trial from being taken back, nor an operator from anything."""
    bed.offer(1)
    taken = []

    class Watched(FolderFetcher):
        def _fetch(self, url: str) -> Iterator[bytes]:
            with locked(bed.config.state):
                taken.append(url)
            return super()._fetch(url)

    assert bed.poll(Watched(bed.folder / "repository" / "public")).action == "trial"
    assert len(taken) > 5


def test_the_self_test_holds_no_lock(bed: Bed) -> None:
    bed.offer(1)
    proven = []

    def self_test(blob: bytes | None) -> Any:
        with locked(bed.config.state):
            proven.append(blob)

    bed.installer = dataclasses.replace(bed.installer, self_test=self_test)
    assert bed.poll().action == "trial"
    assert proven


def test_install_holds_no_lock_while_it_proves(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from device_runtime.cli import cli as device_cli

    file = approve_version(bed.publisher, 1).file
    proven = []

    def self_test(blob: bytes | None) -> Any:
        with locked(bed.config.state):
            proven.append(blob)

    installer = dataclasses.replace(bed.installer, self_test=self_test)
    monkeypatch.setattr("device_runtime.monitor.installer_of", lambda _: installer)
    adapter = next((bed.folder / "repository" / "public" / "targets" / "approved" / "icu").glob(f"{file}*"))
    command = ["install", str(adapter), "--config", str(bed.folder / "bed" / "device.toml"), "--activate"]
    result = CliRunner().invoke(device_cli, command)
    assert result.exit_code == 0, result.output
    assert proven
    runs = bed.slots.record.runs
    assert runs is not None
    assert runs.file == file


def test_what_an_operator_changes_during_a_download_stands(bed: Bed) -> None:
    bed.offer(1)

    class Meddling(FolderFetcher):
        def _fetch(self, url: str) -> Iterator[bytes]:
            if "approved/icu" in url and url.endswith(".etsa"):
                bed.slots.refuse(1, "not on this bed", who="operator")
            return super()._fetch(url)

    bed.poll(Meddling(bed.folder / "repository" / "public"))
    assert bed.slots.record.failed_sequence == 1
    assert bed.poll().action in ("nothing", "trial")


def test_two_agents_poll_one_after_the_other(bed: Bed) -> None:
    with locked(bed.config.state, "poll.lock"):
        outcome = bed.poll()
    assert (outcome.action, outcome.code) == ("failed", 401)


def test_reading_the_state_needs_no_lock(bed: Bed) -> None:
    """Mender's commit reads the status: a poll at that moment must not undo a good update."""
    bed.offer(1)
    bed.poll()
    config = str(bed.folder / "bed" / "device.toml")
    with locked(bed.config.state):
        for command in (["status", "--json"], ["audit", "export"]):
            assert CliRunner().invoke(device_cli, [*command, "--config", config]).exit_code == 0


def test_a_server_that_drips_is_not_waited_for(bed: Bed) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(200):
            handler.wfile.write(b" ")
            time.sleep(0.02)

    with answering(drip) as url:
        began = time.monotonic()
        with pytest.raises(DownloadError, match="not whole after"):
            b"".join(HttpFetcher(file_time=0.2).fetch(url))
        assert time.monotonic() - began < 2


def test_a_body_that_is_cut_short_is_an_error(bed: Bed) -> None:
    def cut(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"x" * 10)

    with answering(cut) as url, pytest.raises(DownloadError, match="missing at the end"):
        b"".join(HttpFetcher().fetch(url))


def test_a_redirect_leads_to_no_other_protocol(bed: Bed, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")

    def lead(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", f"file://{tmp_path / 'secret'}")
        handler.end_headers()

    with answering(lead) as url, pytest.raises(DownloadError):
        b"".join(HttpFetcher().fetch(url))


def test_a_date_beyond_what_offline_keys_signed_is_not_believed(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publisher's clock, or a thief of the online key, says 2099: monitors would call everything stale for ever."""
    from tuf.api.metadata import Metadata, MetaFile, Timestamp

    publisher = bed.publisher
    far = int(datetime(2099, 1, 1, tzinfo=UTC).timestamp())
    signed = Timestamp(snapshot_meta=MetaFile(publisher.version("snapshot")), unrecognized_fields={"x-signed-at": far})
    publisher.store("timestamp", Metadata(signed))
    assert bed.poll().action == "nothing"
    assert bed.slots.floor().time == 0.0
    bed.publisher.publish()
    assert bed.poll().action == "nothing"
    assert bed.slots.floor().time == NOW.timestamp()


def test_a_date_that_a_thief_signed_is_mended_by_new_keys(bed: Bed) -> None:
    from tuf.api.metadata import Metadata, MetaFile, Timestamp

    publisher = bed.publisher
    ahead = int((NOW + timedelta(days=300)).timestamp())
    signed = Timestamp(
        snapshot_meta=MetaFile(publisher.version("snapshot")), unrecognized_fields={"x-signed-at": ahead}
    )
    publisher.store("timestamp", Metadata(signed))
    bed.poll()
    assert bed.slots.floor().time == ahead
    bed.offer(1)
    assert "stale" in bed.poll().reason
    publisher = bed.publisher
    rotate_key(publisher, "online", publisher.refs("online")[0].keyid, make_file_key(publisher.keys, "online-2"))
    assert bed.poll().action == "trial"
    assert bed.slots.floor().time == NOW.timestamp()


def test_the_same_key_twice_does_not_make_two(bed: Bed) -> None:
    """python-tuf counts ids; a root that lists one key under two of them would have a threshold of one."""
    from securesystemslib.signer import Key

    bed.offer(1)
    publisher = bed.publisher
    metadata = publisher.load("root")
    key = publisher.refs("online")[0].key.to_dict()
    twin = Key.from_dict("ab" * 32, key)
    metadata.signed.add_key(twin, "timestamp")
    publisher.store("root", metadata)
    publisher.publish()
    outcome = bed.poll()
    assert (outcome.action, outcome.code) == ("refused", 200)
    assert "same key twice" in outcome.reason


# --- revocations ----------------------------------------------------------------------------------------------------


def test_a_revocation_reaches_monitors_by_what_was_approved_before_it(bed: Bed) -> None:
    """Version 3 was approved before 2 was revoked; a monitor that slept through it must not fall back to 2 later."""
    bed.offer(1)
    bed.poll()
    bed.confirm()
    second = bed.offer(2)
    third = approve_version(bed.publisher, 3).file
    bed.poll()
    bed.confirm()
    rings.take_back(bed.publisher, "icu", second, older=False, who="ops", why="test")
    rings.start(bed.publisher, "icu", third, EVERYBODY, who="ops")
    assert bed.poll().action == "rolled back"
    assert bed.poll().action == "trial"
    slots = bed.slots
    slots.fall_back("test", who="test")
    runs = slots.record.runs
    assert runs is not None
    assert runs.sequence == 1


def test_revoked_before_anything_is_offered(bed: Bed) -> None:
    file = approve_version(bed.publisher, 1).file
    rings.take_back(bed.publisher, "icu", file, older=False, who="ops", why="test")
    with pytest.raises(DeployError, match="is revoked"):
        rings.start(bed.publisher, "icu", file, EVERYBODY, who="ops")
    assert bed.poll().reason == "nothing is rolled out on ring icu"
    assert file in bed.slots.floor().revoked


def test_a_revocation_is_obeyed_when_the_roll_out_role_has_expired(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    file = bed.offer(1)
    bed.poll()
    bed.confirm()
    rings.take_back(bed.publisher, "icu", file, older=False, who="ops", why="test")
    bed.now += timedelta(days=20)
    keys = bed.folder / "keys"
    (keys / "rollout-1.pem").rename(bed.folder / "away.pem")
    with pytest.raises(DeployError, match="rollout"):
        bed.publisher.publish()  # would leave every monitor with a stale roll-out
    monkeypatch.setattr(Repository, "_verifies", lambda *_: True)
    store = Repository.store
    monkeypatch.setattr(
        Repository, "store", lambda self, role, *a, **k: 0 if role == "rollout" else store(self, role, *a, **k)
    )
    bed.publisher.publish()
    assert bed.poll().action == "rolled back"
    assert bed.slots.record.state is State.BASE
    assert "stale" in bed.poll().reason


def test_after_a_revocation_polls_are_quiet(bed: Bed) -> None:
    """Else a whole fleet's timers would fail until something else is offered."""
    file = bed.offer(1)
    bed.poll()
    bed.confirm()
    rings.take_back(bed.publisher, "icu", file, older=False, who="ops", why="test")
    assert bed.poll().action == "rolled back"
    quiet = bed.poll()
    assert (quiet.action, quiet.reason, quiet.code) == ("nothing", "what is rolled out was revoked", 0)


def test_many_revocations_do_not_outgrow_a_monitor(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_tsfm.deploy.approve.MAX_REVOKED", 4)
    files = [approve_version(bed.publisher, version).file for version in range(1, 8)]
    rings.start(bed.publisher, "icu", files[-1], EVERYBODY, who="ops")
    for file in files[:4]:
        rings.take_back(bed.publisher, "icu", file, older=False, who="ops", why="test")
    with pytest.raises(DeployError, match="5 revoked files"):
        rings.take_back(bed.publisher, "icu", files[4], older=False, who="ops", why="test")
    rings.take_back(bed.publisher, "icu", files[5], older=True, who="ops", why="test")
    assert bed.poll().action == "trial"
    assert bed.slots.floor().security_minimum == {"icu": 7}


# --- the publisher --------------------------------------------------------------------------------------------------


def test_a_halt_that_died_before_it_was_published_is_carried_out(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    bed.offer(1)
    with monkeypatch.context() as patch:
        patch.setattr(Repository, "publish", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            rings.halt(bed.publisher, "icu", who="ops", why="test")
    rings.publish(bed.publisher)
    assert bed.poll().reason == "the roll-out is halted"


def test_a_finished_roll_out_can_be_halted(bed: Bed) -> None:
    file = bed.offer(1)
    reports = bed.folder / "reports"
    bed.poll()
    bed.confirm()
    bed.poll()
    assert rings.step(bed.publisher, "icu", reports, who="ops").action.value == "finish"
    rings.halt(bed.publisher, "icu", who="ops", why="no new beds")
    late = make_device(bed.folder / "late", bed.repository, "late")
    agent = Agent(late, bed.installer, clock=lambda: NOW.timestamp() + 60)
    assert agent.poll(activate_now=True).reason == "the roll-out is halted"
    assert file


@pytest.mark.parametrize("at", [0, 1, 16, 32])
def test_bins_that_were_half_made_lose_nothing(bed: Bed, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    from edge_tsfm.deploy import repository as module

    bed.offer(1)
    monkeypatch.setattr(module, "BINS_FROM", 1)
    left = at

    store = Repository.store

    def dying(self: Repository, *arguments: Any, **options: Any) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return store(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Repository, "store", dying)
        with pytest.raises(KeyboardInterrupt):
            approve_version(bed.publisher, 2)
    assert len(bed.publisher.approved()) >= 1
    rings.publish(bed.publisher)
    assert bed.poll().action == "trial"
    bed.confirm()
    bed.offer(2)
    assert len(bed.publisher.approved_roles()) == 32
    assert bed.poll().action == "trial"


@pytest.mark.parametrize("every", [1, 6])
def test_publishing_by_online_keys_alone_is_never_stale(bed: Bed, every: int) -> None:
    """Weekly publishing let the roll-out role lie expired for a week at a time."""
    bed.offer(1)
    bed.poll()
    bed.confirm()
    for group in ("root", "targets", "quality"):
        for path in (bed.folder / "keys").glob(f"{group}-*.pem"):
            path.unlink()
    for _ in range(21):
        bed.now += timedelta(days=every)
        rings.publish(bed.publisher)
        assert bed.poll().reason == "up to date"


def test_what_offline_keys_must_sign_soon_is_said_in_time(bed: Bed) -> None:
    from edge_tsfm.deploy.status import ageing

    bed.now += timedelta(days=340)
    rings.publish(bed.publisher)
    assert ageing(bed.publisher) == {"root": 25, "targets": 25, "approved": 25}


def test_a_command_uses_the_keys_that_are_current_when_it_has_the_lock(bed: Bed) -> None:
    stale = bed.publisher
    publisher = bed.publisher
    rotate_key(publisher, "online", publisher.refs("online")[0].keyid, make_file_key(publisher.keys, "online-2"))
    with stale.locked():
        stale.publish()
    with stale.locked(), pytest.raises(DeployError, match="in use"), bed.publisher.locked():
        pass


def test_a_key_that_others_may_read_is_not_used(bed: Bed) -> None:
    (bed.folder / "keys" / "online-1.pem").chmod(0o644)
    with pytest.raises(DeployError, match="can be read by others"):
        bed.publisher.publish()


def test_two_people_bring_a_stick_each(bed: Bed) -> None:
    stick = bed.folder / "stick"
    stick.mkdir()
    (bed.folder / "keys" / "quality-2.pem").rename(stick / "quality-2.pem")
    with pytest.raises(DeployError, match="signed by 1/2"):
        approve_version(bed.publisher, 1)
    both = Repository(bed.folder / "repository", bed.folder / "keys", more_keys=[stick], now=NOW)
    assert approve_version(both, 1).sequence == 1


def test_an_init_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    keygen(tmp_path / "keys")
    (tmp_path / "gate.toml").write_text(
        '[[bound]]\nmetric="wql"\nvs_base_percent=0\nvs_field_percent=0\nsubgroup_percent=0\n'
    )
    away = list((tmp_path / "keys").glob("root-*.pem"))[:2]
    for path in away:
        path.rename(tmp_path / path.name)
    with pytest.raises(DeployError, match="role root"):
        init(tmp_path / "r", tmp_path / "keys", tmp_path / "gate.toml")
    for path in away:
        (tmp_path / path.name).rename(path)
    assert init(tmp_path / "r", tmp_path / "keys", tmp_path / "gate.toml").version("root") == 1


@pytest.mark.parametrize("ring", ["../../etc", "a/b", "", "A", "x" * 64, "a\nb"])
def test_a_ring_leads_nowhere_else(bed: Bed, ring: str) -> None:
    publisher = bed.publisher
    for call in (
        lambda: rings.halt(publisher, ring, who="x", why="x"),
        lambda: rings.step(publisher, ring, bed.folder, who="x"),
        lambda: rings.take_back(publisher, ring, "abcd", older=False, who="x", why="x"),
        lambda: rings.downgrade(publisher, ring, "abcd", EVERYBODY, who="x", why="x"),
        lambda: ledger.read_ring(publisher, ring),
    ):
        with pytest.raises(DeployError, match="ring"):
            call()
    with pytest.raises(SettingsError):
        device_settings(publisher, ring=ring, device_id="bed", url="x")


def test_a_device_id_cannot_write_settings(bed: Bed) -> None:
    evil = 'bed"\nthreshold = 0\n#'
    with pytest.raises(SettingsError):
        device_settings(bed.publisher, ring="icu", device_id=evil, url="x")
    text = device_settings(bed.publisher, ring="icu", device_id='a"b\\c', url="x")
    (bed.folder / "d.toml").write_text(text)
    assert read_config(bed.folder / "d.toml").device_id == 'a"b\\c'


def test_a_key_name_leads_nowhere_else(bed: Bed) -> None:
    with pytest.raises(DeployError, match="key name"):
        make_file_key(bed.folder / "keys", "../x")


def test_a_role_that_monitors_would_find_too_large_is_refused(bed: Bed) -> None:
    publisher = bed.publisher
    metadata = publisher.load("approved")
    metadata.signed.unrecognized_fields["x"] = "x" * 70_000
    with pytest.raises(DeployError, match="a monitor reads 65536"):
        publisher.store("approved", metadata)


def test_a_role_that_is_not_there_is_named(bed: Bed) -> None:
    with pytest.raises(DeployError, match="there is no role nonesuch"):
        bed.publisher.load("nonesuch")


# --- reports --------------------------------------------------------------------------------------------------------


def test_reports_of_broken_or_hostile_machines_are_passed_over(bed: Bed) -> None:
    bed.offer(1)
    reports = bed.folder / "reports"
    reports.mkdir(exist_ok=True)
    good = {"device": "a", "channel": "icu", "sequence": 1, "candidate_sequence": None, "failed_sequence": -1}
    write_json(reports / "0.json", {**good, "generation": 2})
    write_json(reports / "1.json", {**good, "generation": 1, "failed_sequence": 1})  # the same device, earlier
    (reports / "2.json").write_bytes(b"[" * 16_000)
    (reports / "3.json").write_bytes(b" " * 1_000_000)
    (reports / "4.json").write_bytes(b"\xff\xfe")
    (reports / "5.json").write_bytes(b'"text"')
    (reports / "6.json").symlink_to(reports / "nowhere")
    os.mkfifo(reports / "7.json")
    (reports / "8.json").mkdir()
    write_json(reports / "9.json", {"device": 5})
    assert [report["device"] for report in rings.read_reports(reports)] == ["a"]
    decision = rings.step(bed.publisher, "icu", reports, who="ops")
    assert (decision.confirmed, decision.failed) == (1, 0)


def test_a_report_folder_that_is_not_there_is_an_error(bed: Bed) -> None:
    bed.offer(1)
    with pytest.raises(DeployError, match="no folder of reports"):
        rings.step(bed.publisher, "icu", bed.folder / "nowhere", who="ops")


def test_a_report_endpoint_that_talks_nonsense_does_not_end_a_poll(bed: Bed) -> None:
    bed.offer(1)
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = server.accept()
        connection.recv(65_536)
        connection.sendall(b"\x00\x01 garbage\r\n\r\n")
        connection.close()

    threading.Thread(target=serve, daemon=True).start()
    bed.config = dataclasses.replace(bed.config, report_to=f"http://127.0.0.1:{server.getsockname()[1]}/r")
    outcome = bed.poll()
    server.close()
    assert outcome.action == "trial"
    assert "report to" in outcome.report_failed


def test_a_token_is_for_one_address(bed: Bed) -> None:
    seen = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.append((handler.path, handler.headers.get("Authorization")))
        handler.send_response(302)
        handler.send_header("Location", "/elsewhere")
        handler.end_headers()

    report = report_of(bed.slots, ring="icu", base="0")
    with answering(answer) as url, pytest.raises(OfflineError, match="302"):
        send(report, f"{url}/r", token="secret")  # noqa: S106 - not one
    assert seen == [("/r", "Bearer secret")]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ('report_to = "http://reports.example/x"\nreport_token = "t"', "https only"),
        ('report_to = "https://me:pw@reports.example/x"', "written to logs"),
        ('report_to = "ftp://reports.example/x"', "http"),
        ('groups = "canary"', "want a list"),
        ("state = 5", "state: want a path, got 5"),
    ],
)
def test_settings_that_would_leak_or_mislead_are_refused(bed: Bed, settings: str, why: str) -> None:
    path = bed.folder / "bed" / "device.toml"
    gone = (settings.split(" ", maxsplit=1)[0], "report_to")
    kept = [line for line in path.read_text().splitlines() if not line.startswith(gone)]
    path.write_text("\n".join([*kept, settings]))
    with pytest.raises(SettingsError, match=why):
        read_config(path)


def test_a_roll_out_document_of_endless_brackets_is_a_format_error() -> None:
    with pytest.raises(FormatError):
        decode(b"[" * 4_096)


# --- the device's own disk ------------------------------------------------------------------------------------------


def read_only(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Answer every write below ``folder`` as a disk that was remounted read-only does."""
    real = os.open

    def refusing(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if str(path).startswith(str(folder)) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, flags, *rest, **options)

    patch.setattr(os, "open", refusing)


def test_a_read_only_disk_forecasts_with_what_was_confirmed(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    bed.offer(1)
    bed.poll()
    bed.confirm()
    read_only(monkeypatch, bed.config.state)
    host = Host(bed.config, bed.installer.open)
    assert host.forecast(CONTEXT).adapter_version == 1
    assert bed.poll().action == "failed"


def test_a_disk_that_turns_read_only_during_a_trial_keeps_nothing_bad(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed.offer(1)
    bed.poll()
    rules = HealthRules(seconds=0.0, min_forecasts=1, latency_budget=1e-9)  # every forecast is too late
    host = Host(dataclasses.replace(bed.config, health=rules), bed.installer.open)
    read_only(monkeypatch, bed.config.state)
    assert host.forecast(CONTEXT).adapter_version == 1  # judged when it is there, not before
    assert host.forecast(CONTEXT).adapter is None
    assert bed.slots.record.state is State.TRIAL  # nothing could be written


def test_a_trial_on_a_read_only_disk_is_confirmed_when_it_can_be(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    bed.offer(1)
    bed.poll()
    rules = HealthRules(seconds=0.0, min_forecasts=1, latency_budget=60.0)
    host = Host(dataclasses.replace(bed.config, health=rules), bed.installer.open)
    with monkeypatch.context() as patch:
        read_only(patch, bed.config.state)
        assert host.forecast(CONTEXT).adapter_version == 1
    assert host.forecast(CONTEXT).adapter_version == 1
    assert bed.slots.record.state is State.CONFIRMED


def test_a_lock_that_is_a_link_is_not_followed(bed: Bed) -> None:
    bed.config.state.mkdir()
    (bed.config.state / "lock").symlink_to(bed.folder / "elsewhere")
    with locked(bed.config.state):
        pass
    assert not (bed.config.state / "lock").is_symlink()
    assert not (bed.folder / "elsewhere").exists()


@pytest.mark.parametrize("letter", ["a", "ä", "😀", "\x00"])
def test_long_reasons_are_cut_and_break_nothing(bed: Bed, letter: str) -> None:
    bed.offer(1)
    bed.poll()
    slots = bed.slots
    slots.fall_back(letter * 5_000, who=letter * 5_000)
    lines = list(read_lines(slots.audit.export()))
    assert lines[-1].body["reason"].startswith(letter)


def test_a_log_of_endless_brackets_is_a_broken_chain() -> None:
    with pytest.raises(ChecksumError):
        list(read_lines(b"0" * 64 + b" " + b"[" * 100_000 + b"\n"))


def test_a_line_torn_by_a_full_disk_is_not_continued(bed: Bed) -> None:
    bed.config.state.mkdir()

    class Filling(PosixDisk):
        full = False

        def append(self, name: str, data: bytes) -> None:
            if self.full:
                super().append(name, data[:20])
                raise StorageError("No space left on device")
            super().append(name, data)

    disk = Filling(bed.config.state)
    slots = Slots(disk, device_id="bed")
    slots.refuse(1, "one", who="test")
    disk.full = True
    slots.refuse(2, "two", who="test")
    assert [line.body["reason"] for line in read_lines(slots.audit.export())] == ["one", "two"]
    disk.full = False
    slots.refuse(3, "three", who="test")
    assert [line.body["reason"] for line in read_lines((bed.config.state / LOG).read_bytes())] == [
        "one",
        "two",
        "three",
    ]


def test_a_log_without_its_beginning_says_so(bed: Bed) -> None:
    bed.offer(1)
    bed.poll()
    bed.confirm()
    log = bed.folder / "log"
    whole = bed.slots.audit.export()
    for data, words in ((whole, "unbroken"), (whole.split(b"\n", 1)[1], "older entries are not in this log")):
        log.write_bytes(data)
        result = CliRunner().invoke(device_cli, ["audit", "verify", str(log)])
        assert words in result.output
    log.write_bytes(whole[: whole[:-1].rindex(b"\n") + 1])
    result = CliRunner().invoke(device_cli, ["audit", "verify", str(log), "--head", bed.slots.audit.head])
    assert isinstance(result.exception, ChecksumError)


# --- the gate -------------------------------------------------------------------------------------------------------


def test_an_evaluation_of_another_run_is_refused(bed: Bed) -> None:
    other = evaluation(run={"numbers": "6" * 64})
    with pytest.raises(DeployError, match="is of run 6666"):
        approve_version(bed.publisher, 1, figures=other)
    other = evaluation(run={"numbers": RUN, "base": {"digest": "7" * 64}})
    with pytest.raises(DeployError, match="is on base weights 7777"):
        approve_version(bed.publisher, 1, figures=other)


def test_the_adapter_in_the_field_is_compared_on_the_same_windows(bed: Bed) -> None:
    bed.offer(1)
    with pytest.raises(GateRefusedError, match="patients differ"):
        approve_version(bed.publisher, 2, figures=evaluation(patients=41))
    with pytest.raises(GateRefusedError, match="figures of the base differ"):
        approve_version(bed.publisher, 2, figures=evaluation(1.7, base=2.0, high=-0.1))
    with pytest.raises(GateRefusedError, match=r"against the adapter in the field: 5\.55556, at most 2"):
        approve_version(bed.publisher, 2, figures=evaluation(0.95))


def group(adapter: float, *, patients: int = 30) -> dict[str, Any]:
    figures = {"adapter": {"wql": {"value": adapter}}, "base": {"wql": {"value": 1.0}}}
    return {"patients": patients, "windows": 2 * patients, "models": figures}


def test_subgroups_are_judged_against_the_field_too(tmp_path: Path) -> None:
    from edge_tsfm.deploy.acceptance import judge

    gate = read_gate(
        b'subgroups = ["Gender"]\n[[bound]]\nmetric = "wql"\nvs_base_percent = -1.0\nvs_field_percent = 2.0\n'
        b"subgroup_percent = 5.0\n",
        tmp_path,
    )
    field = evaluation(subgroups={"Gender": {"f": group(0.8), "m": group(0.9), "x": group(0.9, patients=3)}})
    good = evaluation(subgroups={"Gender": {"f": group(0.82), "m": group(0.9), "x": group(3.0, patients=3)}})
    assert judge(gate, good, field, first=False).passed
    notes = [check.note for check in judge(gate, good, field, first=False).checks]
    assert "3 patients, want 20" in notes
    bad = evaluation(subgroups={"Gender": {"f": group(0.95), "m": group(0.9)}})
    failed = [check for check in judge(gate, bad, field, first=False).checks if not check.passed]
    assert [check.what for check in failed] == ["wql where Gender is f, against the adapter in the field"]
    assert judge(gate, bad, None, first=True).passed  # better than the base, and nothing in the field
    missing = judge(gate, evaluation(), None, first=True)
    assert [check.sentence for check in missing.checks if not check.passed] == [
        "figures by Gender: none: edge-tsfm evaluate --subgroup Gender"
    ]


@pytest.mark.parametrize("text", ["subgroups = 5", 'subgroups = "Gender"', "unknown = 1", "[[bound]]\nmetric = 5", "["])
def test_a_gate_that_cannot_be_meant_is_refused(tmp_path: Path, text: str) -> None:
    bound = '[[bound]]\nmetric="wql"\nvs_base_percent=0\nvs_field_percent=0\nsubgroup_percent=nan\n'
    for whole in (f"{text}\n", f"{text}\n{bound}"):
        with pytest.raises(ConfigError):
            read_gate(whole.encode(), tmp_path)


# --- records --------------------------------------------------------------------------------------------------------


def test_the_record_says_what_was_decided_on_what_and_by_whom(bed: Bed) -> None:
    first = bed.offer(1)
    approval = approve_version(bed.publisher, 2)
    record = json.loads(Path(approval.record).read_bytes())
    predicate = record["predicate"]
    assert record["_type"] == "https://in-toto.io/Statement/v1"
    assert [one["digest"]["sha256"] for one in record["subject"]] == [approval.adapter, approval.file]
    assert predicate["in_the_field"]["signed_file"] == first
    assert len(predicate["in_the_field"]["sha256"]) == len(predicate["gate"]["sha256"]) == 64
    assert predicate["training_data"] == {"sha256": "d" * 64}
    assert {"numpy", "onnxruntime", "tuf"} <= predicate["tools"].keys()
    keys = {ref.keyid for group in ("quality", "adapter") for ref in bed.publisher.refs(group)}
    assert len(predicate["approvals"]["approved"]) == 2
    assert {keyid for ids in predicate["approvals"].values() for keyid in ids} <= keys
    frozen, touched = predicate["frozen"], predicate["tensors"]
    assert all(one["sha256_before"] != one["sha256_after"] and one["weights_changed"] for one in touched)
    assert len(touched) + len(frozen["tensors_untouched"]) == frozen["tensors_in_table"]
    assert frozen["base_files"]
    page = Path(approval.record).with_suffix(".html").read_text()
    for words in ("Gate", "Figures", "What changes", "What does not", "Signed by", approval.file, first):
        assert words in page


def test_a_record_cannot_carry_a_script(bed: Bed) -> None:
    from edge_tsfm.report.change_record import page

    approval = approve_version(bed.publisher, 1)
    record = json.loads(Path(approval.record).read_bytes())
    text = json.dumps(record).replace('"quality"', '"<script>alert(1)</script>"').replace("wql against", "<b>x</b>")
    assert "<script>" not in page(json.loads(text))
    assert "<b>x</b>" not in page(json.loads(text))


def test_the_bill_of_materials_is_valid(bed: Bed) -> None:
    pytest.importorskip("jsonschema", reason="cyclonedx-python-lib[json-validation] is not installed")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    from edge_tsfm.deploy.sbom import sbom_of

    bed.offer(1)
    bed.offer(2)
    text = sbom_of(bed.publisher)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    value = json.loads(text)
    models = [one for one in value["components"] if one["type"] == "machine-learning-model"]
    assert len(models) == 3  # the base and two adapters
    cards = [one["modelCard"] for one in models if "modelCard" in one]
    assert len(cards) == 2
    metrics = cards[0]["quantitativeAnalysis"]["performanceMetrics"]
    assert {metric["slice"] for metric in metrics} == {"adapter", "base"}
    assert any(one["name"] == "onnxruntime" and one["purl"].startswith("pkg:pypi/") for one in value["components"])
