"""What the publisher decides, and monitors follow: halts, revocations, downgrades."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from device_runtime.update.lifecycle import State
from edge_tsfm.deploy import rings
from edge_tsfm.deploy.repository import Repository
from edge_tsfm.errors import DeployError
from tests.simulators.monitor import Killed, Monitor, second_version
from tests.simulators.publisher import (
    EVERYBODY,
    approve_version,
    make_device,
)


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
