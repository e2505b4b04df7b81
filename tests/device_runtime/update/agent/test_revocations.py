"""Revocations reach every monitor, whatever else is wrong, and do not outgrow one."""

from __future__ import annotations

from datetime import timedelta

import pytest

from device_runtime.update.lifecycle import State
from edge_tsfm.deploy import rings
from edge_tsfm.deploy.repository import Repository
from edge_tsfm.errors import DeployError
from tests.simulators.publisher import (
    EVERYBODY,
    approve_version,
)
from tests.simulators.server import Bed


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
