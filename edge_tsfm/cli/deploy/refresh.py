"""``edge-tsfm deploy refresh``."""

from __future__ import annotations

from pathlib import Path

import click

from edge_tsfm.cli.deploy.options import json_option, keys_option, open_repository, repository_argument, say


@click.command()
@repository_argument
@click.argument("role")
@keys_option
@json_option
def command(repository: Path, role: str, keys: tuple[Path, ...], as_json: bool) -> None:
    """Sign a ROLE again, unchanged, for another lifetime: root, targets, approved, rollout or a bin; then publish."""
    opened = open_repository(repository, keys)
    with opened.locked():
        version = opened.store(role, opened.load(role))
        timestamp = opened.publish()
    say(
        as_json,
        {"role": role, "version": version, "timestamp": timestamp},
        f"{role}: version {version}; timestamp {timestamp}",
    )
