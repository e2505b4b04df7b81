"""Hash bins for real: adapters approved one after another, across the change at 50, with monitors that follow."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_runtime.monitor import installer_of
from device_runtime.update.agent.poll import Agent, Outcome
from device_runtime.update.disk import PosixDisk
from device_runtime.update.slots import Slots
from device_runtime.update.start import start
from edge_tsfm.deploy import rings
from edge_tsfm.deploy.repository import Repository
from edge_tsfm.deploy.setup import rotate_key
from edge_tsfm.deploy.signers import make_file_key
from tests.simulators.publisher import EVERYBODY, NOW, approve_version, make_device, make_repository


class Fleet:
    """A publisher with a growing list, one monitor that follows every step, and new ones made on request."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository: Repository = make_repository(folder)
        self.files: list[str] = []
        self.sizes: dict[int, int] = {}  # adapters -> bytes of metadata and blob for one update
        self.devices = {"old": make_device(folder / "old", self.repository, "old")}
        self.installer = installer_of(self.devices["old"])

    def grow(self, to: int) -> None:
        """Approve adapters, each for the same ring, until there are ``to``."""
        while len(self.files) < to:
            self.files.append(approve_version(self.repository, len(self.files) + 1).file)

    def poll(self, name: str) -> Outcome:
        if name not in self.devices:
            self.devices[name] = make_device(self.folder / name, self.repository, name)
        config = self.devices[name]
        outcome = Agent(config, self.installer, clock=lambda: NOW.timestamp() + 60).poll(activate_now=True)
        if outcome.action == "trial":
            slots = Slots(PosixDisk(config.state), device_id=name)
            start(slots, self.installer.open, ring="icu")
            slots.confirm("healthy", who="test")
        return outcome

    def update(self, name: str) -> None:
        """Offer the newest to everybody; the monitor takes it."""
        rings.start(self.repository, "icu", self.files[-1], EVERYBODY, who="ops")
        outcome = self.poll(name)
        assert (outcome.action, outcome.sequence) == ("trial", len(self.files)), outcome
        self.sizes[len(self.files)] = outcome.received
        assert self.poll(name).reason == "up to date"

    @property
    def bins(self) -> int:
        return len(self.repository.approved_roles())


@pytest.mark.slow
def test_monitors_follow_across_the_change_at_fifty(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    for count, bins in ((1, 1), (49, 1), (50, 32), (51, 32), (53, 32)):
        fleet.grow(count)
        assert fleet.bins == bins, count
        fleet.update("old")
        fleet.update(f"new at {count}".replace(" ", "-"))
    assert len(fleet.repository.approved()) == 53
    assert all(
        version.name.startswith("approved-bin") for version in fleet.repository.metadata.glob("approved-bin-*.json")
    )
    # Quality's keys change: every bin is signed again, and all follow; so they do a revocation.
    publisher = fleet.repository
    rotate_key(publisher, "quality", publisher.refs("quality")[0].keyid, make_file_key(publisher.keys, "quality-3"))
    fleet.grow(54)
    fleet.update("old")
    rings.take_back(publisher, "icu", fleet.files[-1], older=False, who="ops", why="test")
    assert fleet.poll("old").action == "rolled back"
    rings.downgrade(publisher, "icu", fleet.files[10], EVERYBODY, who="ops", why="test")
    assert fleet.poll("old").sequence == 55
    print({count: f"{size:,}" for count, size in fleet.sizes.items()})  # noqa: T201 - docs/results/fleet.md quotes it


@pytest.mark.slow
def test_two_hundred_and_ten_adapters(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    for count in (1, 10, 25, 48, 50, 100, 210):
        fleet.grow(count)
        if count > 1:  # one small step before the measured one, so that a single change is what is fetched
            fleet.update("old")
        fleet.grow(count + 1)
        fleet.update("old")
        first = fleet.poll(f"new-{count}")
        assert first.action == "trial"
        print(f"{count + 1:>4} adapters: an update {fleet.sizes[count + 1]:>6,} bytes of bodies, "  # noqa: T201
              f"first contact {first.received:>6,}")  # fmt: skip
    assert max(fleet.sizes[count] for count in (51, 101, 211)) < 10_000
