"""``edge-tsfm deploy publish``."""

from __future__ import annotations

from pathlib import Path

import click

from edge_tsfm.cli.deploy.options import json_option, keys_option, open_repository, repository_argument, say


@click.command()
@repository_argument
@keys_option
@json_option
def command(repository: Path, keys: tuple[Path, ...], as_json: bool) -> None:
    """Sign a new snapshot and timestamp. Run it daily from a timer: a timestamp lives seven days.

    Needs only the online and rollout keys. Renews what they signed, completes what an interrupted command left undone,
    and warns if metadata signed by offline keys expire within 30 days.
    """
    from edge_tsfm.deploy.rings import publish as run
    from edge_tsfm.deploy.status import ageing

    opened = open_repository(repository, keys)
    with opened.locked():
        version = run(opened)
        old = ageing(opened)
    say(as_json, {"timestamp": version, "days_left": old}, f"published: timestamp {version}")
    for role, days in old.items():
        click.echo(f"warning: {role} expires in {days} days: edge-tsfm deploy refresh {repository} {role}", err=True)
