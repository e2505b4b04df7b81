"""The agent's view of a repository that may say anything: a cache, a floor and a clock."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from device_runtime.update.agent.fetch import HttpFetcher
from device_runtime.update.agent.repository import Repository
from device_runtime.update.floor import Floor
from tests.simulators.tuf_repository import TufRepository

NAMES = ["root.json", "root_history", "snapshot.json", "targets.json", "timestamp.json"]  # of a cache, sorted


class Viewer:
    """A cache, a floor and a clock; every poll has a view of its own."""

    def __init__(self, folder: Path, url: str, made: TufRepository) -> None:
        self.cache, self.url, self.made = folder / "tuf", f"{url}/", made
        root = made.files["/metadata/1.root.json"]
        assert isinstance(root, bytes)
        self.root = root
        self.floor = Floor()
        self.now = dt.datetime.now(dt.UTC).timestamp()

    def view(self) -> Repository:
        """Begin a poll; the server's log of requests begins anew."""
        self.made.asked.clear()
        return Repository(self.cache, self.url, HttpFetcher(), self.root, self.floor, now=self.now)

    def poll(self) -> Repository:
        """Read the top-level roles and keep the floor."""
        view = self.view()
        self.floor = view.refresh()
        return view

    def versions(self) -> dict[str, int]:
        return {name: role.version for name, role in self.floor.roles.items()}

    def kept(self) -> list[str]:
        return sorted(path.name for path in self.cache.iterdir())
