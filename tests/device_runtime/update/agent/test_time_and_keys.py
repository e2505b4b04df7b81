"""Clocks, replays and changes of keys, on the publisher as on the monitor."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path
from typing import Any

import pytest

from device_runtime.update.agent.repository import Repository as ClientRepository
from device_runtime.update.start import start
from edge_tsfm.deploy import rings
from edge_tsfm.deploy.repository import Repository
from edge_tsfm.errors import DeployError
from tests.simulators.monitor import Killed, Monitor, second_version
from tests.simulators.publisher import (
    NOW,
)


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
