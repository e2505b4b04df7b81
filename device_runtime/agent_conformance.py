"""The agent's TUF client behind the three commands of the public conformance suite. Exit status 0 or 1.

The suite has delegation graphs of 32 roles and its own root for every case, so the limits are python-tuf's and not
those of `Repository`. The fetcher is the agent's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.updater import Updater

from device_runtime.update.agent.fetch import HttpFetcher


def _run(step: Callable[[], None]) -> int:
    """Turn the client's errors into an exit status."""
    try:
        step()
    except (DownloadError, OSError, RepositoryError, ValueError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0


def init(metadata_dir: Path, root: bytes) -> int:
    """Trust ``root``."""

    def step() -> None:
        metadata_dir.mkdir(parents=True, exist_ok=True)
        Updater(str(metadata_dir), "http://127.0.0.1/", fetcher=HttpFetcher(), bootstrap=root)

    return _run(step)


def refresh(metadata_dir: Path, url: str) -> int:
    """Read the top-level roles."""
    return _run(lambda: _updater(metadata_dir, url).refresh())


def download(metadata_dir: Path, url: str, names: tuple[str, ...], base_url: str, target_dir: Path) -> int:
    """Fetch targets, or find them in the cache."""

    def step() -> None:
        updater = _updater(metadata_dir, url, base_url, target_dir)
        updater.refresh()
        for name in names:
            info = updater.get_targetinfo(name)
            if info is None:
                raise RepositoryError(f"target {name} not found")
            if updater.find_cached_target(info) is None:
                updater.download_target(info)

    return _run(step)


def _updater(metadata_dir: Path, url: str, base_url: str = "", target_dir: Path | None = None) -> Updater:
    """Make the client; the suite's trust anchor is what `init` left in the cache."""
    if target_dir is not None:
        target_dir.mkdir(parents=True, exist_ok=True)
    return Updater(
        str(metadata_dir),
        url,
        target_dir=str(target_dir) if target_dir else None,
        target_base_url=base_url or None,
        fetcher=HttpFetcher(),
        config=UpdaterConfig(),
        bootstrap=None,
    )
