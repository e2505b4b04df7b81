"""Hostile servers, thieves of keys, and what the lock is held for."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tuf.api.exceptions import DownloadError

from device_runtime.cli import cli as device_cli
from device_runtime.update.agent.fetch import FolderFetcher, HttpFetcher
from device_runtime.update.lock import locked
from edge_tsfm.deploy.setup import rotate_key
from edge_tsfm.deploy.signers import make_file_key
from tests.simulators.publisher import (
    NOW,
    approve_version,
)
from tests.simulators.server import Bed, answering


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
