"""``edge-tsfm deploy status``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge_tsfm.cli.deploy.options import json_option, keys_option, open_repository, repository_argument


@click.command()
@repository_argument
@keys_option
@json_option
def command(repository: Path, keys: tuple[Path, ...], as_json: bool) -> None:
    """Show what each ring is offered, what is approved, and when signatures expire."""
    from edge_tsfm.deploy.status import lines, status_of

    value = status_of(open_repository(repository, keys))
    click.echo(json.dumps(value) if as_json else "\n".join(lines(value)))
