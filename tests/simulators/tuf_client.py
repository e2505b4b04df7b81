"""The agent's TUF client behind the protocol of the public conformance suite (its CLIENT-CLI.md).

``python -m tests.simulators.tuf_client --metadata-dir DIR … init | refresh | download`` exits with 0 or 1. The fetcher
is the agent's. The suite has delegation graphs of 32 roles and its own root for every case, so the limits are
python-tuf's and not those of `device_runtime.update.agent.repository`, which has tests of its own.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.updater import Updater

from device_runtime.update.agent.fetch import HttpFetcher


def init(options: argparse.Namespace) -> None:
    """Trust ``root`` from now on; asks nothing of a server."""
    options.metadata_dir.mkdir(parents=True, exist_ok=True)
    Updater(str(options.metadata_dir), "http://127.0.0.1/", fetcher=HttpFetcher(), bootstrap=options.root.read_bytes())


def refresh(options: argparse.Namespace) -> Updater:
    """Read the top-level roles; the trust anchor is what `init` left in the cache."""
    updater = Updater(
        str(options.metadata_dir),
        options.metadata_url,
        target_dir=str(options.target_dir) if options.target_dir else None,
        target_base_url=options.target_base_url,
        fetcher=HttpFetcher(),
        config=UpdaterConfig(),
        bootstrap=None,
    )
    updater.refresh()
    return updater


def download(options: argparse.Namespace) -> None:
    """Fetch every target in the order given, or find it in the cache."""
    options.target_dir.mkdir(parents=True, exist_ok=True)
    updater = refresh(options)
    for name in options.target_name:
        info = updater.get_targetinfo(name)
        if info is None:
            raise RepositoryError(f"target {name} not found")
        if updater.find_cached_target(info) is None:
            updater.download_target(info)


def parser() -> argparse.ArgumentParser:
    """Read the suite's options and its three commands."""
    read = argparse.ArgumentParser(prog="tuf_client")
    read.add_argument("--metadata-dir", type=Path, required=True)
    read.add_argument("--metadata-url")
    read.add_argument("--target-name", action="append", default=[])
    read.add_argument("--target-base-url")
    read.add_argument("--target-dir", type=Path)
    commands = read.add_subparsers(required=True)
    first = commands.add_parser("init")
    first.add_argument("root", type=Path)
    first.set_defaults(run=init)
    commands.add_parser("refresh").set_defaults(run=refresh)
    commands.add_parser("download").set_defaults(run=download)
    return read


def main(arguments: list[str] | None = None) -> int:
    """Turn the client's errors into an exit status."""
    options = parser().parse_args(arguments)
    try:
        options.run(options)
    except (DownloadError, OSError, RepositoryError, ValueError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
