"""The publisher: commands that were cut, keys, names, and what must be signed soon."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from device_runtime.errors import SettingsError
from device_runtime.update.agent.poll import Agent
from device_runtime.update.settings import read_config
from edge_tsfm.deploy import ledger, rings
from edge_tsfm.deploy.repository import Repository
from edge_tsfm.deploy.setup import device_settings, init, keygen, rotate_key
from edge_tsfm.deploy.signers import make_file_key
from edge_tsfm.errors import DeployError
from tests.simulators.publisher import (
    EVERYBODY,
    NOW,
    approve_version,
    make_device,
)
from tests.simulators.server import Bed


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
